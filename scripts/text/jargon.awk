# jargon: the Jargon File as text (with fill.awk). An entry begins with "   :headword:" and is a
# document; the table of contents before the first one goes.
/^\001/ { next }
/^   :[^:]+:/ {
    fill_end()
    name = $0
    sub(/^   :/, "", name)
    sub(/:.*/, "", name)
    print "\001" name
    begun = 1
}
begun {
    gsub(/[{}]/, "")
    sub(/^   /, "")
    fill_line($0)
}
END { fill_end() }
