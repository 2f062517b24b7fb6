#!/usr/bin/env bash
# label: fault
# timeout: 300
# An evaluator fetches checkpoints over a connection that is cut all along the files, in which bits are turned over, that is
# partitioned, and whose trainer is killed and comes back meanwhile: what it has stays, what is missing comes, every checkpoint gets
# its result once. A trainer that is gone for good while its checkpoints wait: its folder is enough.
# Invariants: E1 E2 L1
. "$(dirname "${BASH_SOURCE[0]}")/chaos.bash"
steps=60
sockets=$XDG_RUNTIME_DIR/osae
results() { jq -r 'select(.type == "result") | .ck + " " + .state' "$work/runs/$1/journal.jsonl" 2>/dev/null; }
checkpoints() { ls "$work/runs/$1/checkpoints" | grep -c '^step-[0-9]*$'; }
all_done() { [ "$(results "$1" | grep -c ' done$')" = "$(checkpoints "$1")" ]; }
train() { # RUN [KEY=VALUE...]
  local run=$1; shift
  trainer "$run" orth sae.latents=1024 ckpt.every_steps=15 ckpt.keep_last=100 trainer.when_done=stay "trainer.blob=ipc://$sockets/$run.blob" "$@"
}
judge() { # RUN [KEY=VALUE...]: with nothing of the trainer's disk
  local run=$1; shift
  with_sets "$bin/osae-evaluator" "$work/run.yaml" -- run.name="judge-$run" storage.runs="$work/judge-$run" "storage.cache=$work/cache-$run" \
    "evaluator.trainers=[ipc://$sockets/$run.trainer.ctl]" eval.fetch=always eval.poll_s=1 eval.claim_ttl_s=2 "$@" >>"$work/judge-$run.log" 2>&1
}
# The trainer's socket for files gets another name, and a proxy listens under the one it tells.
between() { # RUN PROXY
  await 20 test -S "$sockets/$1.blob" || bad "no socket for the files of $1"
  mv "$sockets/$1.blob" "$sockets/$2.behind"
  proxy "$2" -s "$seed" "ipc://$sockets/$1.blob" "ipc://$sockets/$2.behind"
}
trained() { # RUN: in the background, its number in `pid`, until it has four checkpoints and a proxy before it
  (train "$1") & pid=$!
  await 60 is_done "$1" || { bad "$1 is not trained"; last "$1"; }
  between "$1" "$1"
}
scored() { # RUN WORDS: each checkpoint once, from what came over the wire
  check "$2: every checkpoint has its result" await 60 all_done "$1" || last "judge-$1"
  check "$2: once" [ "$(results "$1" | sort | uniq -d | wc -l)" = 0 ]
  # Which steps are saved is the disk's choice; the last one always is.
  jq -c .eval_result_metrics "$work/judge-$1/$1/eval/core/$1_step-$(printf %012d $steps)_eval_results.json" >"$work/$1.scores"
  [ "$1" = plain ] || check "$2: the scores of undamaged files" cmp -s "$work/$1.scores" "$work/plain.scores"
}
(producer farm) & source=$!

trained plain; plain=$pid
(judge plain) & judge=$!
scored plain "nothing in the way"
stop $judge $plain
whole=$(counters plain | grep -oE '[0-9]+ down$' | cut -d' ' -f1)
each=$((whole / $(checkpoints plain)))
check "$(checkpoints plain) checkpoints of $each bytes" [ "$each" -gt 500000 ]

# Cut after every so many bytes: the first connections do not get beyond a greeting, the last get most of a checkpoint.
trained cuts; cuts=$pid
chaos cuts down cut 97 19973 300000
(judge cuts) & judge=$!
scored cuts "cut"
check "$(counter cuts down) connections were cut" [ "$(counter cuts down)" -ge 15 ]
stop $judge $cuts

# Bits turned over, in greetings, heads and chunks.
trained flips; flips=$pid
chaos flips down flip 111 59981 600000 300000
(judge flips) & judge=$!
scored flips "bits turned over"
check "$(counter flips down) bits were" [ "$(counter flips down)" -ge 5 ]
stop $judge $flips

# Slow, partitioned for longer than a lease, and the trainer killed in the middle of a file; it comes back elsewhere.
trained moves; moves=$pid
chaos moves down rate 200000
(judge moves) & judge=$!
arrived() { [ "$(counters moves | grep -oE '[0-9]+ down$' | cut -d' ' -f1)" -ge "$1" ]; }
await 30 arrived 200000 || bad "nothing comes"
chaos moves hold 3000
sleep 3 # as long as that
await 30 arrived 400000 || bad "after a partition nothing comes"
kill -9 $moves; wait $moves 2>/dev/null
(train moves) & moves=$!
between moves again
chaos again down rate 400000
scored moves "partitioned, and the trainer killed"
stop $judge $moves

# Deleted by retention while one after the other is fetched, slowly: what is open comes whole, who is gone is passed over
# without a failure, and the last one has its result.
(train fades ckpt.keep_last=1 ckpt.keep_unevaluated=0 trainer.steps=1400) & fades=$!
between fades fades
chaos fades down rate 400000
(judge fades) & judge=$!
chaos fades down cut 100000 20000 500000
await 60 test -d "$work/runs/fades/checkpoints/step-000000001400" || { bad "fades is not trained"; last fades; }
chaos fades pass
check "deleted while they are fetched: the last one has its result" await 40 bash -c "jq -r 'select(.type == \"result\") | .ck + \" \" + .state' '$work/runs/fades/journal.jsonl' | grep -q '1400.* done'" || last judge-fades 20
check "of $((1400 / 15 + 1)) checkpoints $(checkpoints fades) is left" [ "$(checkpoints fades)" -le 2 ]
check "which is nobody's failure" [ "$(results fades | grep -c failed)" = 0 -a -z "$(find "$work" -path '*judge-fades*' -name '*failure*' | head -1)" ]
stop $judge $fades

# A full disk at the evaluator: nothing half written is taken for whole, and with room again every result comes.
shim=$bin/libfaultio.so
if [ -f "$shim" ] && ! grep -q __asan_init "$bin/osae-evaluator"; then
  trained full; full=$pid
  chaos full down rate 400000
  (export LD_PRELOAD=$shim FAULTIO_ROOT=$work/cache-full/fetched FAULTIO_FULL=$work/disk-is-full; judge full eval.max_attempts=9) & judge=$!
  come() { [ "$(counters full | grep -oE '[0-9]+ down$' | cut -d' ' -f1)" -ge 100000 ]; }
  await 30 come || bad "full: nothing is fetched"
  touch "$work/disk-is-full"
  check "a full disk at the evaluator is told" await 20 grep -q "No space left" "$work/judge-full.log" || last judge-full
  before=$(results full | wc -l)
  sleep 2
  check "nothing half written is taken for whole" [ "$(results full | wc -l)" = "$before" ]
  rm "$work/disk-is-full"
  chaos full pass
  scored full "with room again"
  stop $judge $full
else
  echo "skip a full disk at the evaluator: no libfaultio.so, or a sanitizer in the programs"
fi

# Gone for good when one checkpoint is scored and the others wait: from its folder, which is seen here.
(train lost) & lost=$!
(judge lost eval.fetch=auto eval.core_batches=60 eval.core_variance_batches=60) & judge=$!
files() { find "$work" -name 'lost_step-*_eval_results.json' | xargs -rn1 basename | sort -u | wc -l; }
scored_files() { [ "$(files)" -ge "$1" ]; }
await 60 is_done lost && await 30 scored_files 1 || bad "nothing is scored"
kill -9 $lost; wait $lost 2>/dev/null
before=$(files) kept=$(checkpoints lost)
check "when it was lost $before of $kept were scored, the others are from its folder" await 40 scored_files "$kept" || last judge-lost 20
(train lost) & lost=$!
check "told when it is back" await 40 all_done lost || last judge-lost
stop $judge $lost $source
finish
