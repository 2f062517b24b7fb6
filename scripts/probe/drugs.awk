# drugs: reviews of drugs, a line of columns apart by tabs, the review in the fourth.
/^\001/ { next }
{
    n = split($0, column, "\t")
    if (n < 6 || column[4] == "review") next
    s = column[4]
    gsub(/^"+|"+$/, "", s); gsub(/""/, "\"", s)
    gsub(/&#0?39;/, "'", s); gsub(/&quot;/, "\"", s); gsub(/&amp;/, "\\&", s)
    print "\001drug" column[1]
    print s
}
