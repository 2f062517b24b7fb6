# brown: the Brown corpus, word/tag, a sentence a line, paragraphs after blank lines.
function end_paragraph() { if (held != "") print held "\n"; held = "" }
/^\001/ { end_paragraph(); print; next }
NF == 0 { blank++; next }
{
    if (blank > 1) end_paragraph()
    blank = 0
    s = ""
    for (i = 1; i <= NF; i++) {
        w = $i
        sub(/\/[^\/]*$/, "", w)
        s = s " " w
    }
    gsub(/ `` /, " \"", s); gsub(/ ''/, "\"", s)
    while (s ~ /[;?!] [;?!]/) { gsub(/; ;/, ";", s); gsub(/\? \?/, "?", s); gsub(/! !/, "!", s); if (s ~ /[;?!] [;?!]/) break }
    gsub(/ [,.;:?!)]/, "&\002", s); gsub(/ ,\002/, ",", s); gsub(/ \.\002/, ".", s); gsub(/ ;\002/, ";", s)
    gsub(/ :\002/, ":", s); gsub(/ \?\002/, "?", s); gsub(/ !\002/, "!", s); gsub(/ \)\002/, ")", s)
    gsub(/\( /, "(", s)
    sub(/^ /, "", s)
    held = held == "" ? s : held " " s
}
END { end_paragraph() }
