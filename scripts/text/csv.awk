# csv: records with quoted fields that may hold commas, doubled quotes and line breaks; the first
# record names the columns. The reader that follows on the command line defines record(), which finds
# a field by its name in column[].
{
    # The text of a record as long as its quotes are not closed.
    record_text = open ? record_text "\n" $0 : $0
    count = $0
    open = (open + gsub(/"/, "", count)) % 2
}
/^\001/ && !open { print_marks = $0; rows = 0; next }
!open {
    fields = csv_split(record_text)
    if (!rows++) {
        split("", column)
        for (i = 1; i <= fields; i++) name_of[i] = field[i]
    } else {
        for (i = 1; i <= fields; i++) column[name_of[i]] = field[i]
        record()
    }
}
# Odd pieces between quotes lie outside them; an empty one of these is an escaped quote.
function csv_split(s, pieces, parts, n, m, i, j, k, now) {
    n = split(s, pieces, "\"")
    k = 1
    now = ""
    for (i = 1; i <= n; i++) {
        if (i % 2 == 0) {
            now = now pieces[i]
        } else if (pieces[i] == "" && i > 1 && i < n) {
            now = now "\""
        } else {
            m = split(pieces[i], parts, ",")
            if (m) now = now parts[1]
            for (j = 2; j <= m; j++) { field[k++] = now; now = parts[j] }
        }
    }
    field[k] = now
    return k
}
