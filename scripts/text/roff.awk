# roff: text of manual pages in the an macros, without groff. Filled text becomes one line a
# paragraph; .nf and .EX stay as they are; tables, comments and macro definitions go.
function plain(s) {
    if (index(s, "\\") == 0)
        return s
    gsub(/\\f(\[[A-Z]*\]|\([A-Z][A-Z]|[A-Z0-9])/, "", s)
    gsub(/\\s[-+]?[0-9]/, "", s)
    gsub(/\\(\(aq|\[aq\])/, "'", s)
    gsub(/\\(\((lq|rq|dq)|\[(lq|rq|dq)\])/, "\"", s)
    gsub(/\\(\(oq|\[oq\])/, "`", s)
    gsub(/\\(\(cq|\[cq\])/, "'", s)
    gsub(/\\(\(bu|\[bu\])/, "*", s)
    gsub(/\\(\(em|\[em\])/, "--", s)
    gsub(/\\(\(en|\[en\]|\(hy|\[hy\]|\(mi|\[mi\]|-)/, "-", s)
    gsub(/\\(\(ha|\[ha\])/, "^", s)
    gsub(/\\(\(ti|\[ti\])/, "~", s)
    gsub(/\\(\(at|\[at\])/, "@", s)
    gsub(/\\(\(sh|\[sh\])/, "#", s)
    gsub(/\\(\(rs|\[rs\]|e)/, "\002", s) # a backslash that stays
    gsub(/\\[ 0~]/, " ", s)
    gsub(/\\\*(\[[^]]*\]|\(..|.)/, "", s) # strings
    gsub(/\\[hv]'[^']*'/, "", s)
    gsub(/\\(\[[^]]*\]|\(..)/, "", s)     # the other characters are rare
    gsub(/\\"/, "\003", s); sub(/\003.*/, "", s)
    gsub(/\\./, "", s)
    gsub(/\\/, "", s)
    gsub(/\002/, "\\", s)
    return s
}
# The arguments of a macro, quoted or not: word[1..], returns how many.
function arguments(s, n, at) {
    n = 0
    sub(/^[ \t]+/, "", s)
    while (s != "") {
        if (substr(s, 1, 1) == "\"") {
            s = substr(s, 2)
            at = index(s, "\"")
            word[++n] = at ? substr(s, 1, at - 1) : s
            s = at ? substr(s, at + 1) : ""
        } else {
            # "\ " is a space inside the word
            at = match(s, /[^\\][ \t]/)
            word[++n] = at ? substr(s, 1, at) : s
            s = at ? substr(s, at + 1) : ""
        }
        sub(/^[ \t]+/, "", s)
    }
    return n
}
function joined(n, between, i, s) {
    s = ""
    for (i = 1; i <= n; i++) s = s (i > 1 ? between : "") word[i]
    return s
}
function end_paragraph() { if (held != "") print held; held = "" }
function text(s) {
    s = plain(s)
    if (raw) print s
    else if (s != "") held = held == "" ? s : held " " s
    if (tagged && s != "") { end_paragraph(); tagged = 0 }
}
/^\001/ { end_paragraph(); print; raw = tagged = skip = 0; next }
skip != "" && skip != 0 { if ($0 ~ skip) skip = 0; next }
/^[.'][ \t]*\\"/ || /^[.'][ \t]*$/ { next }
!/^[.']/ { if ($0 ~ /^[ \t]*$/) { end_paragraph(); print "" } else text($0); next }
{
    macro = substr($1, 2)
    rest = $0
    sub(/^[.'][ \t]*[^ \t]*[ \t]*/, "", rest)
}
macro == "TS" { end_paragraph(); skip = "^[.]TE"; next }
macro == "de" || macro == "ig" || macro == "am" { skip = "^[.][.]"; next }
macro == "SH" || macro == "SS" {
    end_paragraph(); raw = 0
    n = arguments(rest)
    if (n) print "\n" plain(joined(n, " ")) "\n"
    next
}
macro == "nf" || macro == "EX" { end_paragraph(); raw = 1; next }
macro == "fi" || macro == "EE" { raw = 0; print ""; next }
macro == "TP" || macro == "TQ" { end_paragraph(); print ""; tagged = 1; next }
macro == "IP" {
    end_paragraph(); print ""
    if (arguments(rest)) { held = plain(word[1]); if (held != "*" && held != "-") end_paragraph() }
    next
}
macro == "br" { end_paragraph(); next }
macro == "PP" || macro == "P" || macro == "LP" || macro == "HP" || macro == "sp" || macro == "RS" || macro == "RE" {
    end_paragraph(); print ""; next
}
macro == "B" || macro == "I" || macro == "SM" || macro == "SB" { text(joined(arguments(rest), " ")); next }
macro ~ /^[BIR][BIR]$/ { text(joined(arguments(rest), "")); next }
macro == "UR" || macro == "MT" { n = arguments(rest); if (n) text(word[1]); next }
{ next } # titles, sizes, conditions: no text
END { end_paragraph() }
