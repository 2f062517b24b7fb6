#!/usr/bin/env bash
# `osae data` finds the scripts, hands its flags on, and has their exit codes. $1 is the folder of the programs.
. "$(dirname -- "${BASH_SOURCE[0]}")/house.bash"
osae=${1:-}/osae
[ -x "$osae" ] || exit 77

mkdir "$scratch/scripts"
for name in fetch-text fetch-probe fetch-model; do
    printf 'printf "%%s|" "%s" "$@"; exit 69\n' $name >"$scratch/scripts/$name.sh"
done
data() {
    code=0
    OSAE_SCRIPTS=${scripts-$scratch/scripts} "$osae" data "$@" >"$scratch/out" 2>"$scratch/err" </dev/null || code=$?
    out=$(cat "$scratch/out") err=$(cat "$scratch/err")
}
data
expect 'no flags' "$code $out$err" '69 fetch-text|'
data --profile open --accept a --out 'a b' --accept c --skip s --sources t
expect 'all flags' "$code $out$err" '69 fetch-text|--profile|open|--out|a b|--sources|t|--accept|a|--accept|c|--skip|s|'
data --list
expect 'list' "$code $out$err" '69 fetch-text|--list|'
data --probe --accept a --skip s --list
expect 'probe' "$code $out$err" '69 fetch-probe|--accept|a|--skip|s|--list|'
data --probe --profile open
expect 'probe and a profile' "$code $out $err" '64  *--probe has no profiles*'
data --model smollm2
expect 'model' "$code $out$err" '69 fetch-model|smollm2|'
data --model smollm2 --profile open
expect 'model and a profile' "$code $out $err" '64  *--model stands alone*'
data --profil open
expect 'unknown flag' "$code $out $err" '64  *--profil*--profile*'
data more
expect 'a stray word' "$code $out $err" "64  *takes no 'more'*"
data --help
expect 'help' "$code $err $out" '0  usage: osae data*--accept TERMS*'
scripts=$scratch/nowhere data
expect 'no scripts' "$code $out $err" "66  *$scratch/nowhere/fetch-text.sh: No such file*"
# Those of this tree, found without help: nothing is fetched for a list.
scripts='' data --list
expect 'the list' "$code $err" '0 '
for word in news-articles-no-licence anarchism GPL-2; do expect 'the list' "$out" "*$word*"; done
# Installed elsewhere.
mkdir -p "$scratch/prefix/bin" "$scratch/prefix/share/osae"
cp "$osae" "$scratch/prefix/bin/"
cp -r "$scratch/scripts" "$scratch/prefix/share/osae/"
osae=$scratch/prefix/bin/osae
scripts='' data
expect 'installed' "$code $out$err" '69 fetch-text|'
rm -r "$scratch/prefix/share"
scripts='' data
expect 'installed without scripts' "$code $out $err" '66  *fetch-text.sh is neither in *'
echo 'command_data: pass'
