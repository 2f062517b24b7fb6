# people: WordNet's named persons (instances, "@i"), "name: gloss", labelled by the profession they are under when they
# climb the hypernyms; who is under two is left out.
BEGIN {
    n = split("10794014 writer 10560637 scientist 09812338 artist 10339966 musician 09947232 musician 10541229 ruler " \
        "10164747 ruler 10415638 performer 10582746 soldier 10317007 soldier 09505153 cleric 09927451 cleric " \
        "10423589 philosopher 10450303 politician 10650162 politician 09505418 deity", c, " ")
    for (i = 1; i < n; i += 2) class[c[i]] = c[i + 1]
}
/^\001/ || /^  / { next }
{
    at = index($0, " | ")
    split(substr($0, 1, at - 1), column, " ")
    id = column[1]
    gloss[id] = substr($0, at + 3)
    field[id] = column[2]
    word[id] = column[5]
    words = 0 # in hexadecimal
    for (i = 1; i <= length(column[4]); i++) words = words * 16 + index("0123456789abcdef", substr(column[4], i, 1)) - 1
    p = 5 + 2 * words
    for (i = 0; i < column[p] + 0; i++) {
        kind = column[p + 1 + 4 * i]
        if (kind != "@" && kind != "@i") continue
        above[id] = above[id] " " column[p + 2 + 4 * i]
        if (kind == "@i" && !(id in instance)) { instance[id] = 1; order[++count] = id }
    }
}
END {
    for (i = 1; i <= count; i++) {
        id = order[i]
        if (field[id] != "18") continue
        queue[1] = id
        last = 1
        best = ""
        many = 0
        split("", seen)
        for (k = 1; k <= last; k++) {
            if (queue[k] in class) { if (best != "" && best != class[queue[k]]) many = 1; best = class[queue[k]] }
            m = split(above[queue[k]], up, " ")
            for (j = 1; j <= m; j++) if (!(up[j] in seen)) { seen[up[j]] = 1; queue[++last] = up[j] }
        }
        if (best == "" || many) continue
        gsub(/_/, " ", word[id])
        print "\001p" id "\t" best
        print word[id] ": " gloss[id]
    }
}
