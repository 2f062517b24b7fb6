# html: text of HTML pages. Tags are the records' borders, so a page of one line costs no more than
# one of many. Dropped: everything before <body>, scripts, styles, comments and the bars with links
# that DocBook pages carry at both ends (class navheader, navfooter). Line breaks count in <pre> only.
BEGIN {
    RS = "<"
    split("p div h1 h2 h3 h4 h5 h6 ul ol dl table pre blockquote hr", names, " ")
    for (i in names) gap[names[i]] = 2 # ends the paragraph
    split("li dt dd tr br caption", names, " ")
    for (i in names) gap[names[i]] = 1 # ends the line
    split("script style title head", names, " ")
    for (i in names) hush[names[i]] = 1
}
function entities(s) {
    if (index(s, "&") == 0)
        return s
    gsub(/&nbsp;|&#160;|&#xa0;|&#xA0;/, " ", s)
    gsub(/&lt;|&#60;/, "<", s)
    gsub(/&gt;|&#62;/, ">", s)
    gsub(/&quot;|&#34;|&[lr]dquo;|&#822[01];/, "\"", s)
    gsub(/&apos;|&#39;|&[lr]squo;|&#821[67];/, "'", s)
    gsub(/&mdash;|&#8212;/, "--", s)
    gsub(/&ndash;|&#8211;/, "-", s)
    gsub(/&hellip;|&#8230;/, "...", s)
    gsub(/&[a-zA-Z]+;|&#[0-9a-zA-Z]+;/, "", s) # the rest is rare
    gsub(/&amp;/, "\\&", s)
    return s
}
function end_line(gaps) {
    sub(/^ +/, "", line); sub(/[ \t]+$/, "", line)
    if (line != "") {
        if (owed > 1) print ""
        print line
        owed = 0
    }
    line = ""
    if (gaps > owed) owed = gaps
}
function words(s, parts, n, i) {
    if (!body || quiet != "" || nav) return
    s = entities(s)
    if (pre) {
        n = split(s, parts, "\n")
        for (i = 1; i <= n; i++) {
            if (i > 1) { raw_line() }
            line = line parts[i]
        }
    } else {
        gsub(/[ \t\n]+/, " ", s)
        line = line s
    }
}
function raw_line() { # inside <pre>: as it stands
    sub(/[ \t]+$/, "", line)
    if (owed > 1 && line != "") { print ""; owed = 0 }
    print line
    line = ""
}
function start(mark) {
    end_line(0)
    print mark
    body = pre = nav = div = owed = 0
    quiet = ""
    comment = 0
}
function tag(s, name, closing) {
    closing = substr(s, 1, 1) == "/"
    name = tolower(closing ? substr(s, 2) : s)
    sub(/[^a-z0-9].*/, "", name)
    if (name == "body") { body = !closing; return }
    if (name in hush) { quiet = closing ? "" : (s ~ /\/$/ ? quiet : name); return }
    if (name == "div") {
        if (closing) { if (nav && div == nav) nav = 0; div-- }
        else { div++; if (!nav && s ~ /class="nav(header|footer)"/) nav = div }
    }
    if (name == "td" || name == "th") line = line " "
    if (name in gap) {
        if (name == "pre" && closing) { if (line != "") raw_line(); pre = 0; if (owed < 2) owed = 2; return }
        end_line(gap[name])
        if (name == "pre") pre = 1
    }
}
# A record is TAG>TEXT; the text may hold the mark of the next document.
{
    text = $0
    if (NR > 1) {
        if (comment || substr($0, 1, 3) == "!--") {
            at = index($0, "-->")
            comment = at == 0
            text = at ? substr($0, at + 3) : ""
            if (!at && index($0, "\001") == 0) next
        } else {
            at = index($0, ">")
            if (at == 0) { tag($0); text = "" }
            else { tag(substr($0, 1, at - 1)); text = substr($0, at + 1) }
        }
    }
    if (index($0, "\001")) {
        if (index(text, "\001") == 0) text = substr($0, index($0, "\001")) # an unclosed tag or comment ends here
        while ((at = index(text, "\001")) > 0) {
            words(substr(text, 1, at - 1))
            rest = substr(text, at)
            cut = index(rest, "\n")
            start(cut ? substr(rest, 1, cut - 1) : rest)
            text = cut ? substr(rest, cut + 1) : ""
        }
    }
    words(text)
}
END { end_line(0) }
