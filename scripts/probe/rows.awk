# rows: a stream of documents (\001NAME or \001NAME<TAB>LABEL, then lines) into labelled rows, a line each:
#     label  split  order  record
#   split   test for one document in five, by the hash of its name; so pieces of a document stay together
#   record  {"text", "label", "doc", "split"}
# Give: label ("-": the documents say theirs), size, least, pieces.
BEGIN {
    P = 67108859 # as in text/records.awk
    for (i = 1; i < 256; i++) code[sprintf("%c", i)] = i
}
function hash(s, h, i) {
    h = 11
    for (i = 1; i <= length(s); i++) h = (h * 131 + code[substr(s, i, 1)]) % P
    for (i = 0; i < 3; i++) h = ((h * h % P) * h + 40503) % P
    return h
}
function quoted(s) {
    gsub(/\\/, "&&", s); gsub(/"/, "\\\"", s); gsub(/\t/, "\\t", s); gsub(/\n/, "\\n", s)
    gsub(/[\001-\037\177]/, "", s)
    return "\"" s "\""
}
function row(s, split_) {
    sub(/^[ \n]+/, "", s); sub(/[ \n]+$/, "", s)
    if (length(s) < least || (s in seen) || ++part > pieces) return
    seen[s] = 1
    split_ = hash("side " name) % 5 == 2 ? "test" : "train"
    print own "\t" split_ "\t" hash(part " " name) "\t{\"text\":" quoted(s) ",\"label\":" quoted(own) ",\"doc\":" quoted(name) ",\"split\":\"" split_ "\"}"
}
function end_document(cut) {
    if (name == "") return
    part = 0
    while (length(text) > size * 1.3) { # at a blank, else between two characters
        cut = size
        while (cut > size / 2 && substr(text, cut, 1) !~ /[ \n]/) cut--
        if (cut <= size / 2)
            for (cut = size; code[substr(text, cut + 1, 1)] >= 128 && code[substr(text, cut + 1, 1)] < 192; ) cut--
        row(substr(text, 1, cut))
        text = substr(text, cut + 1)
    }
    row(text)
}
/^\001/ {
    end_document()
    name = substr($0, 2)
    own = label
    if ((tab = index(name, "\t")) > 0) {
        if (label == "-") own = substr(name, tab + 1)
        name = substr(name, 1, tab - 1)
    }
    text = ""
    next
}
{ text = text $0 "\n" }
END { end_document() }
