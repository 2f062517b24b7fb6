#!/usr/bin/env bash
# The paper's two tables, on the quickstart's model: trains Standard, TopK, JumpReLU and Orthogonal, and the
# Orthogonal SAE's three ablations, one after another under one setting, then `osae report --tables`.
#
# usage: scripts/tables.sh [STEPS]        STEPS: fewer (or more) than config/quickstart.yaml's, phases in proportion
#
# A run is config/quickstart.yaml, plus what the config of its row (config/baselines, config/paper-ablations) says
# itself, plus the few lines below: no value stands twice. Runs are called tables-ROW (tables-ROW-STEPS with STEPS), a
# finished one is skipped, and a broken off one goes on. OSAE is the program (build/release/bin/osae).
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/common.bash"
part=tables
cd -- "$scripts/.."
osae=${OSAE:-build/release/bin/osae}
base=config/quickstart.yaml

[ $# -le 1 ] || die 64 "usage: scripts/tables.sh [STEPS]"
steps=${1:-}
[[ $steps =~ ^([1-9][0-9]{0,8})?$ ]] || die 64 "STEPS is '$steps', wanted a whole number from 1"
[ -x "$osae" ] || die 66 "$osae is not there: make build, or name the program in OSAE"

# value KEY: what it comes to in the quickstart's config.
value() { "$osae" config $base 2>/dev/null | awk -v key="$1" '$1 == key { print $2 }'; }
# own FILE: KEY=VALUE of the lines that stand in FILE itself, not in what it includes.
own() {
    "$osae" config "$1" 2>/dev/null |
        awk -v file="$1" 'index($NF, "(" file ":") == 1 { print $1 "=" $2 }'
}

# Every run of a table gets the same length; the curriculum and the rate's slopes keep their share of it.
length=()
all=$(value trainer.steps)
if [ -n "$steps" ]; then
    length+=(--set "trainer.steps=$steps")
    for key in curriculum.recon_end curriculum.sparsity_end curriculum.theta_steps optimiser.warmup optimiser.decay; do
        length+=(--set "$key=$(awk -v at="$(value "$key")" -v n="$steps" -v all="$all" \
            'BEGIN { v = int(at * n / all + 0.5); print v < 1 ? 1 : v }')")
    done
fi
last=${steps:-$all}
runs=$(value storage.runs)
absorption=$(value eval.absorption)

# row NAME [FILE [KEY=VALUE...]]
names=()
row() {
    local name=tables-$1${steps:+-$steps} file=${2:-} sets=() pair began=$SECONDS result
    [ $# -lt 2 ] || shift
    shift
    names+=("$name")
    printf -v result '%s_step-%012d_eval_results.json' "$name" "$last"
    if [ -f "$runs/$name/eval/core/$result" ] &&
        { [ "$absorption" = off ] || [ -f "$runs/$name/eval/absorption/$result" ]; }; then
        say "$name: finished before"
        return
    fi
    if [ -n "$file" ]; then
        while IFS= read -r pair; do sets+=(--set "$pair"); done < <(own "$file")
        [ ${#sets[@]} -gt 0 ] || die 65 "$file: sets nothing"
    fi
    for pair; do sets+=(--set "$pair"); done
    say "$name: ${#names[@]} of 7, $last steps"
    "$osae" run $base --set "run.name=$name" ${length[@]+"${length[@]}"} ${sets[@]+"${sets[@]}"}
    say "$name: done in $((SECONDS - began)) s"
}

row standard config/baselines/standard.yaml
# As sparse as the Orthogonal SAE of the quickstart comes out (its L0 is 56), so that the rows can be compared.
row topk config/baselines/topk.yaml sae.topk=56
# JumpReLU: the L0 term with that target, and a threshold and kernel that a short run can move: inputs are scaled to a
# mean norm of sqrt(d), so pre-activations are about 1 (the paper's kernel of 0.001 leaves nearly every threshold
# without a gradient). Of seven settings tried this one left the fewest dead latents (7 %; a narrow kernel 12 to 30 %).
row jumprelu config/baselines/jumprelu.yaml loss.sparsity=target_l0 loss.target_l0=56 loss.lambda_s=100 \
    sae.threshold_init=0.3 sae.bandwidth=2 optimiser.threshold_lr=3e-3
row orthogonal
row no-curriculum config/paper-ablations/no-curriculum.yaml
row fixed-threshold config/paper-ablations/fixed-threshold.yaml
row no-temporal config/paper-ablations/no-temporal.yaml

"$osae" report --tables "${names[@]/#/$runs/}"
