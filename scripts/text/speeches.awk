# speeches: parliament in CSV (after csv.awk), a speech a record, punctuation set apart from words.
# Every second speech is left for the probing sets, which take them with half=1.
function record(s) {
    if (rows % 2 != half + 0 || length(column["text"]) < 80) return
    s = column["text"]
    gsub(/ ,/, ",", s); gsub(/ \./, ".", s); gsub(/ ;/, ";", s)
    gsub(/ :/, ":", s); gsub(/ !/, "!", s); gsub(/ \?/, "?", s)
    print "\001" column["parlspeech_row"]
    print s
}
