#!/usr/bin/env bash
# scripts/tables.sh: which runs it makes of which settings, in proportion, and that finished ones are skipped. Only
# `osae run` is played here; `config` and `report` are the program's own. $1 is the folder of the programs.
. "$(dirname -- "${BASH_SOURCE[0]}")/house.bash"
real=$(realpath -- "${1:-}/osae")
[ -x "$real" ] || exit 77

tables=$root/scripts/tables.sh
cat >"$scratch/osae" <<END
#!/usr/bin/env bash
if [ "\$1" = run ]; then
    shift
    printf '%s\n' "\$*" >>"$scratch/runs.log"
    exec "$real" config "\$@" --yaml >"$scratch/last.yaml" 2>/dev/null
fi
exec "$real" "\$@"
END
chmod +x "$scratch/osae"
run_tables() {
    code=0
    OSAE_STORAGE__RUNS=$scratch/runs OSAE=$scratch/osae bash "$tables" "$@" >"$scratch/out" 2>"$scratch/err" || code=$?
    out=$(cat "$scratch/out") err=$(cat "$scratch/err")
}
line_of() { grep -- "run.name=$1 " "$scratch/runs.log"; }

run_tables
# Nobody trained anything, so the report finds no folder: its code is ours.
expect 'no results' "$code" 66
expect 'seven runs' "$(wc -l <"$scratch/runs.log")" 7
expect 'standard' "$(line_of tables-standard)" 'config/quickstart.yaml*--set loss.lambda_o=0 --set loss.lambda_t=0 --set curriculum.enabled=false'
expect 'topk' "$(line_of tables-topk)" '*--set sae.arch=topk --set sae.topk=40*--set loss.lambda_o=0*'
expect 'jumprelu' "$(line_of tables-jumprelu)" '*--set sae.arch=jumprelu*--set loss.sparsity=target_l0*'
expect 'fixed threshold' "$(line_of tables-fixed-threshold)" '*--set curriculum.theta_start=0.7 --set curriculum.theta_end=0.7'
expect 'no temporal' "$(line_of tables-no-temporal)" '*=tables-no-temporal --set loss.lambda_t=0'
expect 'orthogonal' "$(grep -c 'run.name=tables-orthogonal$' "$scratch/runs.log")" 1
grep -q 'lambda_t: 0 ' "$scratch/last.yaml" || fail 'the settings of the last run do not hold'

# Half the length, in names of their own: the phases keep their share of whatever the quickstart says.
value() { (cd "$root" && "$real" config config/quickstart.yaml 2>/dev/null) | awk -v key="$1" '$1 == key { print $2 }'; }
all=$(value trainer.steps)
half=$((all / 2))
: >"$scratch/runs.log"
run_tables $half
want="trainer.steps=$half"
for key in curriculum.recon_end curriculum.sparsity_end curriculum.theta_steps optimiser.warmup optimiser.decay; do
    want+=" --set $key=$((($(value $key) * half * 2 + all) / (2 * all)))"
done
expect 'short' "$(line_of "tables-orthogonal-$half")" "*$want"

# What is finished is not run again; a run that lacks one of its results is.
: >"$scratch/runs.log"
for kind in core absorption; do
    mkdir -p "$scratch/runs/tables-topk/eval/$kind"
    touch "$scratch/runs/tables-topk/eval/$kind/tables-topk_step-$(printf %012d "$all")_eval_results.json"
done
mkdir -p "$scratch/runs/tables-standard/eval/core"
touch "$scratch/runs/tables-standard/eval/core/tables-standard_step-$(printf %012d "$all")_eval_results.json"
run_tables
expect 'six runs' "$(wc -l <"$scratch/runs.log")" 6
expect 'said' "$err" '*tables: tables-topk: finished before*'

run_tables 0
expect 'zero steps' "$code $err" "64 tables: STEPS is '0'*"
run_tables 5 6
expect 'two words' "$code" 64
OSAE=$scratch/nowhere bash "$tables" 2>/dev/null && fail 'no program' || expect 'no program' $? 66
echo 'scripts_tables: pass'
