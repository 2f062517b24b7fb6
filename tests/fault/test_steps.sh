#!/usr/bin/env bash
# A run of 60 steps in 60 lives: the trainer process ends after each step and is started again, with one thread and two in
# turn; metrics and chain of every step, and the last checkpoint, are those of the run that never stopped.
# label: fault
# timeout: 600
# Invariants: P1 P2 D1 D3
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/common.bash"
sed -i -e 's/steps: 120/steps: 60/' -e 's/warmup: 5/warmup: 0/' -e 's/latents: 1024/latents: 256/' -e 's/keep_last: 3/keep_last: 100/' -e 's/every_steps: 15/every_steps: 1/' "$work/run.yaml"
"$bin/osae-producer" "$work/run.yaml" --set run.name=farm >"$work/farm.log" 2>&1 & producer=$!
trainer() { # NAME [ARGUMENTS...]
  "$bin/osae-trainer" "$work/run.yaml" --set run.name="$1" --set "trainer.producers=[ipc://$XDG_RUNTIME_DIR/osae/farm.producer.data]" "${@:2}" >>"$work/$1.log" 2>&1
}
# Every number of every step that does not depend on the clock.
numbers() { cat "$work/runs/$1"/metrics/m-*.jsonl | jq -c 'del(.t, .step_seconds, .wait_seconds, .wait_share)'; }

check "an undisturbed run" trainer calm || { tail -3 "$work"/*.log; finish; exit; }
for ((step = 1; step <= 60; step++)); do
  trainer many --set trainer.steps=$step --set trainer.threads=$((step % 2 + 1)) || { bad "life $step"; tail -3 "$work/many.log"; break; }
  # (A checkpoint that falls due while the one before is still being written is left out.)
  [ ! -d "$work/runs/calm/checkpoints/step-$(printf %012d $step)" ] || [ "$(digest calm $step)" = "$(digest many $step)" ] || { bad "after step $step: other bits"; break; }
done
[ $failed = 0 ] && ok "sixty lives of one step each, the bits of one life of sixty"
check "the last checkpoint" [ "$(digest calm 60)" = "$(digest many 60)" ]
check "the same numbers in the metrics" [ "$(numbers calm | sha256sum)" = "$(numbers many | sha256sum)" ]
check "all sixty of them" [ "$(numbers many | wc -l)" = 60 ]
kill -TERM $producer; check "the producer leaves" wait $producer
finish
