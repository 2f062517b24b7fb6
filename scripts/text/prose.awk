# prose: text wrapped by hand (with fill.awk).
/^\001/ { fill_end(); print; next }
{ fill_line($0) }
END { fill_end() }
