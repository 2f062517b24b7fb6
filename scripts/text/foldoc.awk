# foldoc: the Free On-Line Dictionary of Computing in dictd's form (with fill.awk). An entry begins
# with an unindented headword after a blank line and is a document; {cross references} lose braces.
/^\001/ { fill_end(); next }
/^[^ \t]/ && before == "" { fill_end(); print "\001" $0 }
{
    before = $0
    gsub(/[{}]/, "")
    sub(/^   /, "")
    fill_line($0)
}
END { fill_end() }
