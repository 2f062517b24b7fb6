#!/usr/bin/env bash
# make check-peers: the numbers of `osae eval` beside those of the peers' own code, on the same inputs.
#
#   check.bash OSAE                 OSAE: the program, build/release/bin/osae
#
# Builds a virtual environment in the cache by package name (SAEBench 0.6, torch on the CPU: about 2 GB) and
# keeps it. Ends with `N passed, N failed`. $OSAE_PEER_PYTHON: an environment that has it all already.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
. "$here/../../scripts/common.bash"
part=check-peers
osae=${1:?check.bash OSAE}
cache=$(cache_root)
work=$cache/peers/work
make_folder "$work"

python=${OSAE_PEER_PYTHON:-$cache/peers/venv/bin/python}
if [ -z "${OSAE_PEER_PYTHON:-}" ] && ! cmp -s "$here/requirements.txt" "$cache/peers/venv/requirements.txt"; then
    log=$cache/peers/install.log
    need_space "$cache" 4000 "the peers' packages"
    say "installing SAEBench and what it needs into $cache/peers/venv (once; log in $log)"
    rm -rf -- "$cache/peers/venv"
    python3 -m venv "$cache/peers/venv" >"$log" 2>&1 || die 69 "python3 -m venv failed: $(tail -n 1 "$log")"
    "$python" -m pip install --quiet -r "$here/requirements.txt" >>"$log" 2>&1 ||
        die 69 "the peers cannot be installed: $(last_words "$log")"
    # SAEBench never imports torchvision, but beside a torch for the CPU alone it keeps transformers from loading.
    "$python" -m pip uninstall --quiet --yes torchvision >>"$log" 2>&1 || true
    cp -- "$here/requirements.txt" "$cache/peers/venv/requirements.txt"
fi

passed=0 failed=0
# compare WHAT SCRIPT ARGUMENTS...: runs it, adds its last line to the sum.
compare() {
    local what=$1 line
    shift
    "$python" "$@" >"$work/out" 2>"$work/log" || true
    printf '\n'
    cat -- "$work/out"
    line=$(tail -n 1 "$work/out")
    if [[ $line =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
        passed=$((passed + BASH_REMATCH[1])) failed=$((failed + BASH_REMATCH[2]))
    else
        failed=$((failed + 1))
        say "$what did not finish: $(tail -n 1 "$work/log")"
    fi
}
golden=$here/../golden
compare "core on a tiny Llama" "$here/core.py" "$osae" "$work/llama" tiny-llama "$golden/tiny-llama" 1 1
compare "core on a tiny Gemma 2" "$here/core.py" "$osae" "$work/gemma2" tiny-gemma2 "$golden/tiny-gemma2" 2 2
compare "sparse probing on a tiny Llama" "$here/probing.py" "$osae" "$work/probing" tiny-llama "$golden/tiny-llama" 1 1 \
    "$here/../.." pairs
# With the two largest sets of `osae data --probe`, if they are there.
if [ -f "$cache/probe/open/kind.jsonl" ] && [ -f "$cache/probe/open/noun-field.jsonl" ]; then
    export OSAE_PEER_PROBE=${OSAE_PEER_PROBE:-$cache/probe/open}
fi
compare "sparse probing of more than two classes" "$here/probing.py" "$osae" "$work/probing-many" tiny-llama \
    "$golden/tiny-llama" 1 1 "$here/../.."
# With the quickstart's model and, if it was run, its SAE.
model=$("$here/../../scripts/fetch-model.sh" 2>/dev/null) || model=
run=${OSAE_PEER_RUN:-$here/../../runs/quickstart}
newest=$(find "$run/checkpoints" -maxdepth 1 -name 'step-????????????' 2>/dev/null | sort | tail -n 1)
text=$(find "$cache/text" -name heldout.jsonl 2>/dev/null | sort | head -n 1)
if [ -n "$model" ] && [ -n "$newest" ] && [ -n "$text" ]; then
    layer=$(sed -n 's/^  layer: \([0-9]*\).*/\1/p' "$run/config.yaml")
    OSAE_PEER_TEXT=$text compare "core on SmolLM2" "$here/core.py" "$osae" "$work/smollm2" SmolLM2-135M "$model" 0 \
        "$layer" "$newest"
    compare "absorption on SmolLM2" "$here/absorption.py" "$osae" "$work/smollm2-absorption" SmolLM2-135M "$model" 0 \
        "$layer" "$newest"
else
    say "SmolLM2 is left out: it needs what \`make quickstart\` leaves (model, text, runs/quickstart)"
fi
printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ]
