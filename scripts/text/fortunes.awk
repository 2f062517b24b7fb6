# fortunes: short texts with a % between two; ten make a document.
/^\001/ { name = substr($0, 2); count = 0; print; next }
/^%$/ { if (++count % 10 == 0) print "\001" name "." count; else print ""; next }
{ print }
