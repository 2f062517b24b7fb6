#!/usr/bin/env bash
# scripts/fetch-probe.sh: each reader on a page of its format, then the whole path on a package made on the spot, with an
# apt-get that hands it out. Under every awk that is here.
. "$(dirname -- "${BASH_SOURCE[0]}")/packages.bash"

probe=$root/scripts/probe

# --- readers: reads NAME INPUT WANTED [AWK-FLAGS] ---------------------------------------------------------
reads() {
    local a name=$1 input=$2
    printf '%b' "$3" >"$scratch/wanted"
    shift 3
    for a in "${awks[@]}"; do
        printf '%b' "$input" | $a "$@" -f "$probe/$name.awk" >"$scratch/got"
        cmp -s "$scratch/got" "$scratch/wanted" || fail "reader $name under $a:
$(diff "$scratch/wanted" "$scratch/got" | cat -A)"
    done
}
reads rated "\0001f\n12_3\t1.5\tA ''fine'' film.\nbroken\n" '\0001f/12\nA "fine" film.\n'
reads sentiment '\0001f\n1_1\t1.5\tGood.\n2_1\t0.1\tSo so.\n3\t-2\tBad.\n' '\0001f/1\tpositive\nGood.\n\0001f/3\tnegative\nBad.\n'
reads drugs '\0001f\nid\ta\tb\treview\tc\td\n7\ta\tb\t"""It&#039;s ""ok"" &amp; more"""\tc\td\n' "\0001drug7\nIt's \"ok\" & more\n"
reads body '\0001a\n<html>\n<title>x</title><BODY class="y">\n<p>t</p>\n\0001b\n<p>none\n' '\0001a\n<BODY class="y">\n<p>t</p>\n\0001b\n'
printf 'Left in English\n' >"$scratch/english"
reads mallard '\0001a\n<page><info><title>no</title></info><title>Titre</title>\n<p>Un\n  <em>deux</em> &lt;b&gt;</p><p>Left in English</p></page>\n' \
    '\0001a\nTitre\nUn deux <b>\n' -v english="$scratch/english"
reads fields '\0001f\n  1 licence\n00000001 05 n 02 big_cat 0 cat 0 001 @ 00000002 n 0000 | an animal\n00000002 99 n 01 x 0 000 | none\n' '\000100000001\tanimal\nbig cat: an animal\n'
reads people '\0001f\n10794014 18 n 01 writer 0 000 | who writes\n10560637 18 n 01 scientist 0 000 | who knows\n00000007 18 n 02 Ann_Lee 0 Ann 0 001 @i 00000008 n 0000 | a poet\n00000008 18 n 01 poet 0 001 @ 10794014 n 0000 | poet\n00000009 18 n 01 Both 0 002 @i 10794014 n 0000 @i 10560637 n 0000 | two\n' \
    '\0001p00000007\twriter\nAnn Lee: a poet\n'
reads rows '\0001a\tx\nshort\n\0001b\ty\nA line that is "long" enough \\ here.\n' \
    "$(printf '%s' 'y\ttrain\tORDER\t{"text":"A line that is \\"long\\" enough \\\\ here.","label":"y","doc":"b","split":"train"}\n' | sed "s/ORDER/$(printf '\001b\ty\nA line that is "long" enough \\ here.\n' | awk -v label=- -v size=400 -v least=10 -v pieces=1 -f "$probe/rows.awk" | cut -f 3)/")" \
    -v label=- -v size=400 -v least=10 -v pieces=1

# --- the whole path ---------------------------------------------------------------------------------------
words=$scratch/pkg/words/usr/share/words
mkdir -p "$words"
for i in $(seq 60); do
    printf 'Un texte qui parle de la ligne numéro %s, et de rien.\n' $i >"$words/fr$i.txt"
    printf 'A text that speaks of line number %s, "and" of nothing \\ else.\n' $i >"$words/en$i.txt"
done
make_deb words 1
cat >"$scratch/sets.tsv" <<'END'
= tongue 400 20 2 40 0
tongue  fr open   deb:words plain usr/share/words/fr*.txt public domain
tongue  en open   deb:words plain usr/share/words/en*.txt public domain
= gated 400 20 2 40 0
gated   a  open   deb:words plain usr/share/words/fr*.txt public domain
gated   b  ask-me deb:words plain usr/share/words/en*.txt somebody's
END
pin_debs words:1
fetch() { run_fetch fetch-probe.sh --sources "$scratch/sets.tsv" "$@"; }
touch "$scratch/away"
fetch
expect 'no network' "$code $out $err" '69  *Debian packages cannot be had*no network*run again*'
rm "$scratch/away"
fetch
made=$scratch/cache/probe/open
expect 'first time' "$code $calls $out" "0 1 $made"
expect 'a set under terms' "$err" '*gated: left out: fewer than two of its classes*1 tasks in 1 sets*'
expect 'what is there' "$(ls "$made" | tr '\n' ' ')" 'SHA256SUMS recipe sources.tsv tasks.tsv tongue.jsonl '
python3 - "$made/tongue.jsonl" <<'END' || fail 'the rows are not what they say'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1], encoding='utf-8')]
assert all(list(row) == ['text', 'label', 'doc', 'split'] for row in rows)
for label, word in (('fr', 'numéro'), ('en', '"and" of nothing \\ else')):
    train = [row for row in rows if row['label'] == label and row['split'] == 'train']
    test = [row for row in rows if row['label'] == label and row['split'] == 'test']
    assert 30 < len(train) <= 40 and 3 < len(test) <= 10, (len(train), len(test))
    assert all(word in row['text'] for row in train + test)
    assert not {row['doc'] for row in train} & {row['doc'] for row in test}
END
fetch
expect 'second time: silent, no network' "$code $calls $out$err" "0 0 $made"
cp -r "$made" "$scratch/before"
printf x >>"$made/tongue.jsonl"
fetch
expect 'damaged: made again, from the cache' "$code $calls $err" '0 0 *a file is missing or damaged*'
diff -r "$made" "$scratch/before" || fail 'damaged: other bytes the second time'
for a in "${awks[@]}"; do
    ln -sf "$(command -v "$a")" "$scratch/bin/awk"
    fetch --out "$scratch/by-$a" --accept ask-me
    expect "under $a" "$code $(ls "$scratch/by-$a" | tr '\n' ' ')" '0 SHA256SUMS gated.jsonl recipe sources.tsv tasks.tsv tongue.jsonl '
    diff -r "$scratch/by-$a" "$scratch/by-${awks[0]}" || fail "$a makes other bytes than ${awks[0]}"
done
fetch --accept nobody
expect 'unknown terms' "$code $err" "64 probe: no set has the terms 'nobody' (known: ask-me)"
fetch --skip tongues
expect 'unknown set' "$code $err" "64 probe: no set is named 'tongues'*"
fetch --list
expect 'list' "$code $out" '0 set*tongue*fr*open*deb:words*public domain*ask-me*'
