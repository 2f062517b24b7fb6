# rated: sentences that people rated, ID<TAB>MEAN<TAB>SENTENCE a line; each is a document. The number behind the last
# _ of an ID counts the sentences of one review: they go to the same side together.
/^\001/ { file = substr($0, 2); next }
{
    n = split($0, column, "\t")
    if (n < 3) next
    name = column[1]
    sub(/_[0-9]+$/, "", name)
    gsub(/''/, "\"", column[3])
    print "\001" file "/" name
    print column[3]
}
