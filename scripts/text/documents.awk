# documents: files, in the order given, as a stream of documents. A document is a line of \001 and its
# name, then its lines, free of control characters other than tabs. The name is the path below
# `root`, less its first folder (the package) and the folders `fixed`, which all share.
FNR == 1 {
    name = substr(FILENAME, length(root) + 1)
    sub(/^[^\/]*\//, "", name)
    if (fixed != "" && index(name, fixed) == 1) name = substr(name, length(fixed) + 1)
    print "\001" name
}
{ gsub(/[\001-\010\013-\037\177]/, ""); print }
