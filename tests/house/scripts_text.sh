#!/usr/bin/env bash
# scripts/fetch-text.sh: each reader on a page of its format, then the whole path on packages made on the spot, with
# an apt-get that hands them out. Under every awk that is here.
. "$(dirname -- "${BASH_SOURCE[0]}")/packages.bash"

text=$root/scripts/text

# --- readers: reads NAME INPUT WANTED ---------------------------------------------------------------------
reads() {
    local a got args=() name
    case $1 in markdown | prose | foldoc | jargon) args+=(-f "$text/fill.awk") ;; esac
    for name in ${1//+/ }; do args+=(-f "$text/$name.awk"); done
    printf '%b' "$3" >"$scratch/wanted"
    for a in "${awks[@]}"; do
        printf '%b' "$2" | $a "${args[@]}" >"$scratch/got"
        cmp -s "$scratch/got" "$scratch/wanted" || fail "reader $1 under $a:
$(diff "$scratch/wanted" "$scratch/got" | cat -A)"
    done
}
long=words-long-enough-for-a-line-that-was-wrapped-by-hand-at-its-end
reads plain '\0001a\nx\n' '\0001a\nx\n'
reads prose "\0001a\n$long\nand on\n\n  $long\n  kept\n- $long\nitem\n" "\0001a\n$long and on\n\n  $long\n  kept\n- $long item\n"
reads markdown '\0001a\n# 1 **Head**\nsee [the page](x.md#y), _"ideal"_ it is\n' '\0001a\n# 1 Head\nsee the page, "ideal" it is\n'
reads html '\0001a\n<html><head><title>T</title></head><body><div class="navheader"><div>up</div></div><p>One\ntwo &lt;b&gt; &amp;amp; caf&eacute; &#231;a &#x2014;.</p><!-- <p>no</p> --><script>if (a<b) c();</script><pre>  x\n    y &gt; z\n</pre><ul><li>i<li>j</ul></body>\n\0001b\n<BODY>text<br>more\n' \
    '\0001a\nOne two <b> &amp; café ça --.\n\n  x\n    y > z\n\ni\nj\n\0001b\ntext\nmore\n'
reads roff '\0001a\n.\\" comment\n.TH A 1\n.SH NAME\na \\- b\\(aqs\n.B bold\n.BR open (2),\n.IR "two words" .\n.PP\nnext\n.TS\nl l.\nx\ty\n.TE\n.nf\nint  x\\e;\n.fi\n.TP\n.B \\-x\nvalue\n' \
    "\0001a\n\nNAME\n\na - b's bold open(2), two words.\n\nnext\nint  x\\\\;\n\n\n-x\nvalue\n"
reads pod '\0001a\n=head1 NAME\n\nC<a> and B<I<b>> C<< x->{y} > 1 >> L<perlfaq|/x> E<lt>\non\n\n  code C<kept>\n\n=begin html\n\nno\n\n=end html\n\n=item * one\n\nX<index>end\n' \
    '\0001a\nNAME\n\na and b x->{y} > 1 perlfaq < on\n\n  code C<kept>\n\n\n* one\n\nend\n'
reads foldoc "\0001f\n00\n\nalpha\n\n   <x> A {word}.\n\nbeta\n\n   B\n" '\000100\n00\n\n\0001alpha\nalpha\n\n<x> A word.\n\n\0001beta\nbeta\n\nB\n'
reads jargon '\0001f\ncontents\n\n   :foo: n.\n\n   A {bar}.\n' '\0001foo\n:foo: n.\n\nA bar.\n'
reads code '\0001a.c\n/* licence\n * more */\n\n#include <x.h>\nint x; /* kept */\n\0001b.py\n#!/usr/bin/python\n# licence\nimport x\n# kept\n' \
    '\0001a.c\n#include <x.h>\nint x; /* kept */\n\0001b.py\nimport x\n# kept\n'
reads brown "\0001a\n\n\n\tThe/at \`\`/\`\` jury/nn ''/'' said/vbd ,/, and/or/cc left/vbd ./.\n\n\tHe/pps went/vbd ?/. ?/.\n\n\n\n\tNew/jj\n" \
    "\0001a\nThe \"jury\" said, and/or left. He went?\n\nNew\n\n"
reads mail '\0001a\nFrom: x\nSubject: Hi\n\nbody\nQUJD\n' '\0001a\nHi\n\nbody\nQUJD\n'
reads fortunes '\0001f\none\n%\ntwo\n' '\0001f\none\n\ntwo\n'
reads csv+news '\0001x\narticle_id,title,subtitle,text\n7,"T, t",,"He said ""no"".\nIt""s"\n' '\00017\nT, t\n\nHe said "no".\nIt'"'"'s\n'

# --- the whole path ---------------------------------------------------------------------------------------
notes=$scratch/pkg/notes/usr/share/doc/notes
manual=$scratch/pkg/manual/usr/share/man/man7
mkdir -p "$notes" "$manual"
sentence='The quick brown fox jumps over the lazy dog, and then it does so once more.'
for i in $(seq 100); do
    { for j in 1 2 3 4 5; do printf '%s %s.%s\n\n' "$sentence" $i $j; done; } >"$notes/n$i.txt"
done
# What a hostile or careless package may hold.
printf 'quote " back \\ tab \t bell \007 escape \033[1m bad \377\376 end; %s %s %s\n' "$sentence" "$sentence" "$sentence" >"$notes/odd.txt"
{ printf 'binary\0'; for j in 1 2 3 4; do echo "$sentence"; done; } >"$notes/binary.txt"
cp "$notes/n1.txt" "$notes/same.txt"
{ printf x; for i in $(seq 6000); do printf 'äöü'; done; } >"$notes/unbroken.txt"
: >"$notes/empty.txt"
for i in $(seq 40); do printf '.SH NAME\nm%s \\- %s\n.PP\n%s\n%s\n%s\n' $i "$sentence" "$sentence" "$sentence" "$sentence $i" | gzip -n >"$manual/m$i.7.gz"; done
make_deb notes 1.0-1
make_deb manual 2:3.1
cat >"$scratch/sources.tsv" <<'END'
notes    30  90  open   deb:notes   plain  usr/share/doc/notes/*.txt  public domain
manual   -   90  open   deb:manual  roff   usr/share/man/*.gz         public domain
gated    -   90  ask-me deb:manual  roff   usr/share/man/*.gz         somebody's
END
pin_debs notes:1.0-1 manual:2:3.1
fetch() { run_fetch fetch-text.sh --sources "$scratch/sources.tsv" "$@"; }

fetch
made=$scratch/cache/text/quickstart
expect 'first time' "$code $calls $out" "0 1 $made"
expect 'first time: a line a source, then the sum' "$err" '*notes * documents, * records*records (* to train on*held out*'
python3 - "$made" <<'END' || fail 'first time: the output is not what it says'
import json, sys
names, texts, size = {}, set(), {}
for side in ('train', 'heldout'):
    for line in open(f'{sys.argv[1]}/{side}.jsonl', 'rb'):
        row = json.loads(line.decode('utf-8'))
        assert list(row) == ['text', 'meta'] and list(row['meta']) == ['source', 'doc'], row
        assert row['meta']['source'] == 'notes'
        assert names.setdefault(row['meta']['doc'], side) == side, 'a document on both sides'
        assert row['text'] not in texts, 'a text twice'
        texts.add(row['text'])
        assert 200 <= len(row['text'].encode()) <= 8000
        size[side] = size.get(side, 0) + len(row['text'].encode())
assert 0 < size['heldout'] <= 30000 / 12 and 25000 < size['train'] <= 30000, size
assert 'binary.txt' not in names and 'empty.txt' not in names
END
(cd "$made" && sha256sum --quiet -c SHA256SUMS) || fail 'first time: SHA256SUMS'
expect 'sources.tsv' "$(cut -f 1-3 "$made/sources.tsv" | tail -n 1)" $'deb:notes\t1.0-1\tnotes_1.0-1_all.deb'
expect 'nothing left over' "$(ls "$scratch/cache")" $'dl\ntext'

fetch
expect 'second time: silent, no network' "$code $calls $out$err" "0 0 $made"
cp -r "$made" "$scratch/before"
printf x >>"$made/train.jsonl"
fetch
expect 'damaged: made again, from the cache' "$code $calls $err" "0 0 *a file is missing or damaged*"
diff -r "$made" "$scratch/before" || fail 'damaged: other bytes the second time'
for a in "${awks[@]}"; do
    ln -sf "$(command -v "$a")" "$scratch/bin/awk"
    fetch --out "$scratch/by-$a"
    diff -r "$scratch/by-$a" "$scratch/before" || fail "other bytes under $a"
done
rm -f "$scratch/bin/awk"

# open: the second package too; every document of the notes, odd ones included, on the side it was on.
touch "$scratch/stale"
fetch --profile open
expect 'stale package lists: own ones are fetched' "$code $(cat "$scratch/calls")" '0 *download manual
*Dir::State::Lists=*update
*Dir::State::Lists=*download manual'
rm "$scratch/stale"
python3 - "$scratch/cache/text" <<'END' || fail 'open: the output is not what it says'
import json, sys
def sides(mix):
    return {(r['meta']['source'], r['meta']['doc']): (s, r['text']) for s in ('train', 'heldout')
            for r in map(json.loads, open(f'{sys.argv[1]}/{mix}/{s}.jsonl'))}
small, large = sides('quickstart'), sides('open')
assert all(large[k][0] == v[0] for k, v in small.items())
assert {k[0] for k in large} == {'notes', 'manual'}
odd = large['notes', 'odd.txt'][1]
assert odd.startswith('quote " back \\ tab \t bell  escape [1m bad  end; The'), odd
assert ('notes', 'same.txt') not in large or ('notes', 'n1.txt') not in large
whole = [r['text'] for s in ('train', 'heldout') for r in map(json.loads, open(f'{sys.argv[1]}/open/{s}.jsonl')) if r['meta']['doc'] == 'unbroken.txt']
assert len(whole) >= 4 and not set(''.join(whole)) - set('xäöü'), whole
END

fetch --profile open --accept ask-me
expect 'accepted terms' "$code $(cut -f 1 "$scratch/cache/text/open+ask-me/stats.tsv" | sort -u | tr '\n' ' ')" '0 gated manual notes source '
fetch --profile open --skip manual
expect 'left out' "$code $(cut -f 1 "$scratch/cache/text/open-manual/stats.tsv" | sort -u | tr '\n' ' ')" '0 notes source '

# Packages that differ from the pins, and damage in the cache.
deb=$scratch/cache/dl/notes_1.0-1_all.deb
printf x >>"$deb"
fetch --out "$scratch/again"
expect 'damaged package: fetched again' "$code $calls $err" '0 1 *notes_1.0-1_all.deb: damaged since it was fetched*'
rm "$deb"
printf '\n' >>"$scratch/pkg/notes/DEBIAN/control"
echo more >"$notes/more.txt"
make_deb notes 1.0-1
fetch --out "$scratch/again2"
expect 'same version, other bytes' "$code ${err##*$'\n'}" '65 text: deb:notes: SHA-256 of notes_1.0-1_all.deb is *, wanted *'
make_deb notes 1.0-2
fetch --out "$scratch/again2"
expect 'another version: said, taken' "$code $err" '0 *deb:notes is 1.0-2 here, 1.0-1 in text/pins.tsv*'
expect 'another version: recorded' "$(cut -f 2 "$scratch/again2/sources.tsv" | tail -n 1)" 1.0-2

# One line each.
rm -rf "$scratch/cache/dl"
rm "$scratch"/repo/notes_*
fetch --out "$scratch/again3"
expect 'no network' "$code ${err##*$'\n'}" '69 text: Debian packages cannot be had (E: Unable to locate package notes)*'
[ ! -e "$scratch/again3" ] || fail 'no network: left something'
mkdir "$scratch/mine"
touch "$scratch/mine/thesis.tex"
fetch --out "$scratch/mine"
expect 'a folder of somebody' "$code $err" '73 text: *is there and is not a text that this script made*'
fetch --profile huge
expect 'unknown profile' "$code $err" "64 text: unknown profile 'huge'*"
fetch --accept anything
expect 'unknown terms' "$code $err" "64 text: no source has the terms 'anything' (known: ask-me)"
fetch --skip nothing
expect 'unknown source' "$code $err" "64 text: no source is named 'nothing'*"
fetch --out
expect 'no value' "$code $err" '64 text: --out wants a value'

# The real table: forms, readers that exist, pins for what is pinned.
awk '!/^#/ && NF' "$text/sources.tsv" | while read -r source quick open terms packages reader files licence; do
    [[ $quick =~ ^(-|[0-9]+)$ && $open =~ ^[0-9]+$ && -n $licence && -n $files && $terms =~ ^[a-z-]+$ ]] || fail "sources.tsv: $source"
    r=${reader%:*}
    for name in ${r//+/ }; do [ -f "$text/$name.awk" ] || fail "sources.tsv: $source: no reader $name"; done
    for package in ${packages//,/ }; do grep -q "^$package	" "$text/pins.tsv" || fail "pins.tsv: no $package"; done
done
printf 'scripts_text: pass (%s)\n' "${awks[*]}"
