# mallard: GNOME's help pages, the text of <p> and <title> outside <info>, a line each. Paragraphs that were not
# translated stand there in English: with english=FILE (lines of this reader) they are left out.
BEGIN { if (english != "") while ((getline line < english) > 0) known[line] = 1 }
function end_document(n, i, s, part, at) {
    if (name == "") return
    print name
    gsub(/\n[ \t]*/, " ", text)
    while ((at = index(text, "<info")) > 0 && (i = index(substr(text, at), "</info>")) > 0)
        text = substr(text, 1, at - 1) substr(text, at + i + 6)
    n = split(text, part, /<(p|title)( [^>]*)?>/)
    for (i = 2; i <= n; i++) {
        s = part[i]
        sub(/<\/(p|title)>.*/, "", s); gsub(/<[^>]*>/, "", s)
        gsub(/ +/, " ", s); sub(/^ /, "", s); sub(/ $/, "", s)
        gsub(/&lt;/, "<", s); gsub(/&gt;/, ">", s); gsub(/&amp;/, "\\&", s)
        if (s != "" && !(s in known)) print s
    }
}
/^\001/ { end_document(); name = $0; text = ""; next }
{ text = text "\n" $0 }
END { end_document() }
