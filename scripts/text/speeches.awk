# speeches: parliament in CSV (after csv.awk), a speech a record, punctuation set apart from words.
# Every second speech is left for the probing sets.
function record(s) {
    if (rows % 2 || length(column["text"]) < 80) return
    s = column["text"]
    gsub(/ ,/, ",", s); gsub(/ \./, ".", s); gsub(/ ;/, ";", s)
    gsub(/ :/, ":", s); gsub(/ !/, "!", s); gsub(/ \?/, "?", s)
    print "\001" column["parlspeech_row"]
    print s
}
