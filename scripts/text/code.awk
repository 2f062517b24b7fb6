# code: source files without the comment they open with, which is mostly a licence, the same in
# hundreds of files.
/^\001/ { print; head = 1; inside = 0; next }
head {
    if (inside) {
        if (/\*\/|--(>|&gt;)/) inside = 0
        next
    }
    if (/^[ \t]*(\/\*|(<|&lt;)!--)/) {
        inside = !/\*\/|--(>|&gt;)/
        next
    }
    if (/^[ \t]*(#[^a-z]|#$|\/\/|\*|<\?php[ \t]*$|<!|$)/) next
    head = 0
}
{ print }
