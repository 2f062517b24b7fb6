# sentiment: as rated, but labelled by the mean of the ratings (-4 to 4); those near 0 are left out.
/^\001/ { file = substr($0, 2); next }
{
    n = split($0, column, "\t")
    if (n < 3 || (column[2] < 0.5 && column[2] > -0.5)) next
    name = column[1]
    sub(/_[0-9]+$/, "", name)
    gsub(/''/, "\"", column[3])
    print "\001" file "/" name "\t" (column[2] > 0 ? "positive" : "negative")
    print column[3]
}
