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
    n = split("lt < gt > amp & quot \" apos ' ldquo \" rdquo \" lsquo ' rsquo ' mdash -- ndash - hellip ... " \
        "eacute é egrave è agrave à ccedil ç auml ä ouml ö uuml ü aring å Ouml Ö copy ©", names, " ")
    for (i = 1; i < n; i += 2) named[names[i]] = names[i + 1]
    named["nbsp"] = typed[160] = " "
    typed[8216] = typed[8217] = "'" # as typed on a keyboard
    typed[8220] = typed[8221] = "\""
    typed[8211] = "-"; typed[8212] = "--"; typed[8230] = "..."
}
function utf8(n) {
    if (n < 128) return n < 32 ? "" : sprintf("%c", n)
    if (n < 2048) return sprintf("%c%c", 192 + int(n / 64), 128 + n % 64)
    if (n < 65536) return sprintf("%c%c%c", 224 + int(n / 4096), 128 + int(n / 64) % 64, 128 + n % 64)
    return ""
}
function entities(s, done, name, n) {
    done = ""
    while (match(s, /&[a-zA-Z]+;|&#[0-9]+;|&#[xX][0-9a-fA-F]+;/)) {
        name = substr(s, RSTART + 1, RLENGTH - 2)
        done = done substr(s, 1, RSTART - 1)
        s = substr(s, RSTART + RLENGTH)
        if (name in named) { done = done named[name]; continue }
        if (name !~ /^#/) continue # the other names are rare
        n = name ~ /^#[xX]/ ? hexadecimal(tolower(substr(name, 3))) : substr(name, 2) + 0
        done = done (n in typed ? typed[n] : utf8(n))
    }
    return done s
}
function hexadecimal(s, n, i) {
    n = 0
    for (i = 1; i <= length(s) && n < 65536; i++) n = n * 16 + index("0123456789abcdef", substr(s, i, 1)) - 1
    return n
}
function end_line(gaps) {
    sub(/^ +/, "", line); sub(/[ \t]+$/, "", line)
    if (line != "") {
        if (owed > 1) print ""
        print line
        owed = 0
        begun = 1
    }
    line = ""
    if (begun && gaps > owed) owed = gaps
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
    body = pre = nav = div = owed = begun = 0
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
