# news: articles in CSV (after csv.awk). The file has lost its curly apostrophes: "? stands for one
# and a space, a quote between two letters for one.
function record(s) {
    if (column["text"] == "") return
    s = column["title"] "\n\n"
    if (column["subtitle"] != "") s = s column["subtitle"] "\n\n"
    s = s column["text"]
    gsub(/"\?/, "' ", s)
    while (match(s, /[a-zA-Z]"[a-z]/)) s = substr(s, 1, RSTART) "'" substr(s, RSTART + 2)
    print "\001" column["article_id"]
    print s
}
