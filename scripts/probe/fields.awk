# fields: WordNet's nouns (data.noun), "word: gloss", labelled by the lexicographer's file they are in.
BEGIN {
    n = split("04 act 05 animal 06 artifact 07 attribute 10 communication 13 food 14 group 15 location 18 person " \
        "20 plant 26 state 27 substance", c, " ")
    for (i = 1; i < n; i += 2) field[c[i]] = c[i + 1]
}
/^\001/ || /^  / { next }
{
    at = index($0, " | ")
    split(substr($0, 1, at - 1), column, " ")
    if (!(column[2] in field)) next
    word = column[5]
    gsub(/_/, " ", word)
    print "\001" column[1] "\t" field[column[2]]
    print word ": " substr($0, at + 3)
}
