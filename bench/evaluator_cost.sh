#!/usr/bin/env bash
# What an evaluator at work costs a trainer on the same machine: one run, the evaluator stopped and continued in turn
# (SIGSTOP, SIGCONT) every few seconds, the seconds a step takes compared between the two kinds of interval. Whatever else
# the machine does falls on both alike.
# usage: bench/evaluator_cost.sh BIN MODEL.gguf TEXT [SECONDS=20 [ROUNDS=6 [apart|shared]]]
#   apart (default): trainer on core 0, evaluator and producer on core 1;  shared: all on core 0
set -euo pipefail
bin=$(cd "$1" && pwd) model=$(readlink -f "$2") text=$(readlink -f "$3")
slice=${4:-20} rounds=${5:-6} place=${6:-apart}
work=$(mktemp -d /tmp/osae-cost-XXXXXX)
export XDG_RUNTIME_DIR=$work/sockets OMP_WAIT_POLICY=passive
mkdir -m 700 "$XDG_RUNTIME_DIR"
pids=()
leave() { kill -CONT "${pids[@]}" 2>/dev/null; kill -9 "${pids[@]}" 2>/dev/null; wait 2>/dev/null; [ -n "${KEEP:-}" ] || rm -rf "$work"; }
trap leave EXIT
other=1; [ "$place" = apart ] || other=0
cat >"$work/run.yaml" <<YAML
run: {name: cost}
storage: {cache: $work/cache, runs: $work/runs}
model: {path: $model, layer: 0}
text: {files: $text}
eval: {text: $text, core_batches: 200, core_variance_batches: 2}
stream: {rows: 512, shuffle_block: 2, ring_slots: 16, epochs: 100000}
sae: {latents: 2304, normalize: mean_norm_sqrt_d, tie_init: true}
loss: {lambda_s: 1.3}
curriculum: {recon_end: 5, sparsity_end: 10, theta_steps: 5}
optimiser: {lr: 1e-3}
trainer: {steps: 20000, threads: 1}
producer: {threads: 1}
evaluator: {threads: 1}
ckpt: {every_steps: 20, every_s: 0}
metrics: {every_steps: 1, fsync_ms: 0}
YAML
start() { # CORE PROGRAM
  taskset -c "$1" "$bin/$2" "$work/run.yaml" >"$work/$2.log" 2>&1 &
  pids+=($!)
}
start $other osae-producer
start 0 osae-trainer
start $other osae-evaluator
evaluator=${pids[2]}
until grep -q "checkpoint of step 20" "$work/osae-trainer.log" && grep -q "scoring" "$work/osae-evaluator.log"; do
  sleep 1
  for pid in "${pids[@]}"; do kill -0 "$pid" || { tail -n 3 "$work"/*.log; exit 1; }; done
done
sleep 5 # the first checkpoint is in work
trainer=${pids[1]}
mark() { # KIND: the time, the trainer's ticks of processor time, its steps
  echo "$1 $(date +%s.%N) $(awk '{ print $14 + $15 }' "/proc/$trainer/stat") $(cat "$work"/runs/cost/metrics/m-*.jsonl | wc -l)"
}
for ((round = 0; round < rounds; round++)); do
  kill -STOP "$evaluator"; sleep 0.5; mark off; sleep "$slice"; mark end
  kill -CONT "$evaluator"; sleep 0.5; mark on; sleep "$slice"; mark end
done >"$work/intervals"
kill -0 "$evaluator" || { echo "the evaluator ended"; tail -n 3 "$work/osae-evaluator.log"; exit 1; }
! grep -q "core: CE score" "$work/osae-evaluator.log" || echo "note: the evaluator finished a checkpoint meanwhile" >&2
cat "$work"/runs/cost/metrics/m-*.jsonl | jq -r '[.t, .step_seconds] | @tsv' |
  awk -v file="$work/intervals" '
    BEGIN { while ((getline line < file) > 0) { split(line, a, " ")
              if (a[1] != "end") { kind[++n] = a[1]; from[n] = a[2]; ticks = a[3]; steps = a[4]; continue }
              to[n] = a[2]; cpu[kind[n]] += (a[3] - ticks) / 100; done[kind[n]] += a[4] - steps } }
    { for (i = 1; i <= n; i++) if ($1 - $2 > from[i] && $1 < to[i]) {
        k = kind[i]; count[k]++; sum[k] += $2; all[k, count[k]] = $2; here[i] += $2; steps_in[i]++ } }
    function median(k,   i, j, v, m) { # by insertion
      m = count[k]
      for (i = 2; i <= m; i++) { v = all[k, i]; for (j = i - 1; j >= 1 && all[k, j] > v; j--) all[k, j + 1] = all[k, j]; all[k, j + 1] = v }
      return m % 2 ? all[k, (m + 1) / 2] : (all[k, m / 2] + all[k, m / 2 + 1]) / 2
    }
    END { if (!count["on"] || !count["off"]) { print "no steps were measured"; exit 1 }
      without = median("off"); with = median("on")
      printf "step: %.4f s without (%d steps), %.4f s with the evaluator at work (%d): %+.1f %% (median), %+.1f %% (mean)\n",
        without, count["off"], with, count["on"], 100 * (with / without - 1),
        100 * (sum["on"] / count["on"] / (sum["off"] / count["off"]) - 1)
      for (i = 1; i < n; i += 2) { # each round by itself: what drifts over minutes is in both of its sides
        if (!steps_in[i] || !steps_in[i + 1]) continue
        r = here[i + 1] / steps_in[i + 1] / (here[i] / steps_in[i]) - 1; rounds++; total += r; squares += r * r }
      if (rounds > 1) { mean = total / rounds; var = (squares - rounds * mean * mean) / (rounds - 1)
        printf "by rounds (%d): %+.2f %%, standard error %.2f %%\n", rounds, 100 * mean, 100 * sqrt(var / rounds) }
      printf "processor time of a step: %.4f s without, %.4f s with: %+.1f %%\n", cpu["off"] / done["off"],
        cpu["on"] / done["on"], 100 * (cpu["on"] / done["on"] / (cpu["off"] / done["off"]) - 1) }'
