# markdown: prose in Markdown (with fill.awk). Emphasis and link targets go, headings and lists stay.
/^\001/ { fill_end(); print; next }
{
    gsub(/\*\*/, "")
    # [words](target) -> words, where both stand on one line
    while (match($0, /\[[^][]*\]\([^()]*\)/)) {
        whole = substr($0, RSTART, RLENGTH)
        words = substr(whole, 2, index(whole, "](") - 2)
        $0 = substr($0, 1, RSTART - 1) words substr($0, RSTART + RLENGTH)
    }
    gsub(/(^|[ (])_"/, "&\002"); gsub(/_"\002/, "\""); gsub(/"_/, "\"") # _"quoted"_ -> "quoted"
    fill_line($0)
}
END { fill_end() }
