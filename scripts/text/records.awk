# records: cuts a stream of documents into records, a line each, in seven columns:
#     split  order  part  shuffle  bytes  record
#   split    heldout for one document in 16, by the hash of its name; train otherwise: so a document
#            stays on its side whatever else a mix takes
#   order    the document's place when a source is cut to its cap; part, the piece's in the document
#   shuffle  the record's place in the output
#   record   {"text": ..., "meta": {"source": ..., "doc": ...}}
# A document is cut at blank lines, else at line ends, into pieces of at most `most` bytes; pieces
# under `least` bytes and repeated ones go. Give: source, most, least.
BEGIN {
    P = 67108859 # a prime below 2^26, 2 mod 3: products stay exact in a double, x^3 is one to one
    for (i = 1; i < 256; i++) code[sprintf("%c", i)] = i
}
function hash(s, h, i) {
    h = 7
    for (i = 1; i <= length(s); i++) h = (h * 131 + code[substr(s, i, 1)]) % P
    # A polynomial alone maps names that differ in the last digit to an even sequence.
    for (i = 0; i < 3; i++) h = ((h * h % P) * h + 40503) % P
    return h
}
function quoted(s) {
    gsub(/\\/, "&&", s); gsub(/"/, "\\\"", s); gsub(/\t/, "\\t", s); gsub(/\n/, "\\n", s)
    return "\"" s "\""
}
function piece(s) {
    sub(/^[ \t\n]+\n/, "", s); sub(/^\n+/, "", s); sub(/[ \t\n]+$/, "", s)
    if (length(s) < least || (s in seen)) return
    seen[s] = 1
    part++
    print side "\t" order "\t" part "\t" hash(part " " id) "\t" length(s) "\t{\"text\":" quoted(s) ",\"meta\":{\"source\":" quoted(source) ",\"doc\":" quoted(name) "}}"
}
function take(s, cut) { # adds a paragraph to the piece in hand
    if (held != "" && length(held) + length(s) + 2 > most) { piece(held); held = "" }
    while (length(s) > most) { # a paragraph too long for a piece: cut it after a line or a word
        cut = most
        while (cut > most / 2 && substr(s, cut, 1) != "\n") cut--
        if (substr(s, cut, 1) != "\n")
            for (cut = most; cut > most / 2 && substr(s, cut, 1) != " "; ) cut--
        if (cut <= most / 2) { # no border at all: at least between two characters
            cut = most
            while (code[substr(s, cut + 1, 1)] >= 128 && code[substr(s, cut + 1, 1)] < 192) cut--
        }
        piece(substr(s, 1, cut))
        s = substr(s, cut + 1)
    }
    held = held == "" ? s : held "\n\n" s
}
function end_document() {
    if (name == "") return
    if (paragraph != "") take(paragraph)
    if (held != "") piece(held)
    paragraph = held = ""
}
/^\001/ {
    end_document()
    name = substr($0, 2)
    id = source "/" name
    order = hash(id)
    side = hash("split " id) % 16 == 3 ? "heldout" : "train"
    part = 0
    next
}
/^[ \t]*$/ { if (paragraph != "") take(paragraph); paragraph = ""; next }
{ paragraph = paragraph == "" ? $0 : paragraph "\n" $0 }
END { end_document() }
