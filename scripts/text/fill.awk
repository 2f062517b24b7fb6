# fill: joins the lines of a hand-wrapped paragraph into one, as text is found on the web; used by
# readers, which hand it lines through fill_line() and end a paragraph with fill_end().
# A line is joined to the next if it was long enough to have been wrapped and neither is indented,
# quoted, a list item or an underline.
function fill_end() {
    if (fill_held != "")
        print fill_held
    fill_held = ""
    fill_open = 0
}
function fill_line(s, plain) {
    sub(/[ \t]+$/, "", s)
    if (s == "") {
        fill_end()
        print ""
        return
    }
    plain = s !~ /^([ \t>|#=~]|[-*+][ -]|---|[0-9]+[.)] )/
    if (fill_open && plain) {
        fill_held = fill_held " " s
    } else {
        fill_end()
        fill_held = s
    }
    # A list item may go on in the next line; an indented line never does.
    fill_open = length(s) >= 50 && s !~ /^[ \t|#=~]/
}
