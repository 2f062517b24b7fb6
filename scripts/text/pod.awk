# pod: Perl's documentation: paragraphs, indented code, =commands, X<codes> that nest.
function plain(s, at, inner, code, end) {
    gsub(/E<lt>/, "\002", s); gsub(/E<gt>/, "\003", s)
    gsub(/E<verbar>/, "|", s); gsub(/E<sol>/, "/", s); gsub(/E<[^<>]*>/, "", s)
    gsub(/->/, "-\003", s); gsub(/=>/, "=\003", s) # arrows are no ends of codes
    while (match(s, /[A-Z]<<+ /)) { # C<< a < b >>
        code = substr(s, RSTART + 1, RLENGTH - 2)
        end = code
        gsub(/</, ">", end)
        at = index(substr(s, RSTART + RLENGTH), " " end)
        if (!at) break
        inner = substr(s, RSTART + RLENGTH, at - 1)
        gsub(/</, "\002", inner); gsub(/>/, "\003", inner)
        s = substr(s, 1, RSTART - 1) inner substr(s, RSTART + RLENGTH + at + length(end))
    }
    while (match(s, /[BCFILSXZ]<[^<>]*>/)) { # innermost first
        code = substr(s, RSTART, 1)
        inner = substr(s, RSTART + 2, RLENGTH - 3)
        if (code == "X" || code == "Z") inner = ""
        if (code == "L") {
            if ((at = index(inner, "|")) > 0) inner = substr(inner, 1, at - 1)
            else { sub(/^[^\/]*\//, "", inner); gsub(/"/, "", inner) }
        }
        s = substr(s, 1, RSTART - 1) inner substr(s, RSTART + RLENGTH)
    }
    gsub(/\002/, "<", s); gsub(/\003/, ">", s)
    return s
}
function end_paragraph() { if (held != "") print plain(held); held = "" }
/^\001/ { end_paragraph(); print; skip = 0; next }
/^=(begin|for)/ { end_paragraph(); skip = /^=begin/ ? "^=end" : "^$"; next }
skip != "" && skip != 0 { if ($0 ~ skip) skip = 0; next }
/^=(head[1-6]|item)/ { end_paragraph(); sub(/^=[a-z0-9]+[ \t]*/, ""); print plain($0); next }
/^=[a-z]/ { end_paragraph(); next }
/^[ \t]*$/ { end_paragraph(); print ""; next }
held == "" && /^[ \t]/ { print; next }
{ held = held == "" ? $0 : held " " $0 }
END { end_paragraph() }
