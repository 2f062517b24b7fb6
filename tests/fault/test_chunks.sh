#!/usr/bin/env bash
# label: fault
# timeout: 300
# also: nightly 120
# A checkpoint of many chunks of 1 MiB, fetched by an evaluator: cut in every chunk, and around the border of one byte for byte; partitioned
# for longer than it is waited for (20 s, or as many as are said) in the middle of a file; on a disk that is full twice, and on one too
# small. What is there is never fetched again, nothing half written is taken for whole, and the scores are those of a fetch in peace.
# Invariants: E1 E2 L1
. "$(dirname "${BASH_SOURCE[0]}")/chaos.bash"
steps=3
least=${2:-20}
chunk=1048576
sockets=$XDG_RUNTIME_DIR/osae
step=step-$(printf %012d $steps)
declare -A trainer_pid judge_pid
train() { # RUN: in the background
  (trainer "$1" standard sae.latents=32768 ckpt.every_steps=0 optimiser.warmup=0 trainer.when_done=stay "trainer.blob=ipc://$sockets/$1.blob") & trainer_pid[$1]=$!
}
# When it is trained: its socket for files gets another name, and a proxy listens under the one it tells.
trained() { # RUN
  await 90 is_done "$1" || { bad "$1 is not trained"; last "$1"; finish; exit 1; }
  mv "$sockets/$1.blob" "$sockets/$1.behind"
  proxy "$1" -s "$seed" "ipc://$sockets/$1.blob" "ipc://$sockets/$1.behind"
}
judge() { # RUN [KEY=VALUE...]: with nothing of the trainer's disk; in the background
  local run=$1; shift
  (with_sets "$bin/osae-evaluator" "$work/run.yaml" -- run.name="judge-$run" storage.runs="$work/judge-$run" "storage.cache=$work/cache-$run" \
    "evaluator.trainers=[ipc://$sockets/$run.trainer.ctl]" eval.fetch=always eval.poll_s=1 eval.claim_ttl_s=2 eval.max_attempts=100 "$@" \
    >>"$work/judge-$run.log" 2>&1) & judge_pid[$run]=$!
}
scores() { jq -c .eval_result_metrics "$work/judge-$1/$1/eval/core/$1_${step}_eval_results.json" 2>/dev/null; }
scored() { [ -n "$(scores "$1")" ]; }
down() { counters "$1" | grep -oE '[0-9]+ down$' | cut -d' ' -f1; } # RUN: bytes that came
arrived() { [ "$(down "$1")" -ge "$2" ]; }
came() { # RUN WORDS MORE: its scores, and not more than MORE chunks beyond what is needed were sent
  check "$2: scored" await 60 scored "$1" || last "judge-$1" 8
  check "$2: the scores of a fetch in peace" [ "$(scores "$1")" = "$(scores plain)" ]
  check "$2: $((($(down "$1") - whole) / 1024)) KiB came twice" arrived "$1" "$whole" && ! arrived "$1" $((whole + $3 * chunk + chunk / 2)) ||
    bad "$2: $(down "$1") bytes came, where $whole and $3 chunks are enough"
  stop "${judge_pid[$1]}" "${trainer_pid[$1]}"
}
(producer farm) & source=$!
for run in plain cuts borders parted full small; do train $run; done

trained plain
weights=$(stat -c %s "$work/runs/plain/checkpoints/$step/sae_weights.safetensors")
check "a file of $weights bytes, $((weights / chunk + 1)) chunks" [ $weights -gt $((15 * chunk)) ]
judge plain
check "nothing in the way: scored" await 60 scored plain || last judge-plain
whole=$(down plain)
check "$whole bytes came" [ "$whole" -ge "$weights" ]
stop "${judge_pid[plain]}" "${trainer_pid[plain]}"

# Partitioned, while the others go on.
trained parted
chaos parted down rate 3000000
judge parted
await 60 arrived parted $((5 * chunk)) || bad "parted: nothing comes"
chaos parted hold $((least * 1000))
parted_at=$SECONDS before=$(down parted)

# One chunk and some of the next in every connection.
trained cuts
chaos cuts down cut $((chunk + chunk / 8))
judge cuts
await 60 scored cuts || { bad "cut: not scored"; last judge-cuts; }
check "cut in every chunk: $(counter cuts broken) connections" [ "$(counter cuts broken)" -ge $((weights / chunk - 1)) ]
came cuts "cut in every chunk" 3

# The first chunk's end lies within the first KiB behind the first MiB.
trained borders
chaos borders down cut $((chunk + 300)) 61 $((chunk + 300 + 61 * 14))
judge borders
await 60 scored borders || { bad "cut: not scored"; last judge-borders; }
check "cut around the border of a chunk: $(counter borders down) places" [ "$(counter borders down)" -ge 10 ]
came borders "cut around the border of a chunk" 5

shim=$bin/libfaultio.so
if [ -f "$shim" ] && ! grep -q __asan_init "$bin/osae-evaluator"; then
  trained full
  chaos full down rate 6000000
  export FAULTIO_ROOT=$work/cache-full/fetched FAULTIO_FULL=$work/disk-is-full
  LD_PRELOAD=$shim judge full
  unset FAULTIO_ROOT FAULTIO_FULL
  for times in 1 2; do # it waits longer each time
    at=$(down full)
    await 30 arrived full $((at + 2 * chunk)) || bad "full: nothing comes the $times. time"
    touch "$work/disk-is-full"
    told() { [ "$(grep -c "No space left" "$work/judge-full.log")" -ge $times ]; }
    check "full for the $times. time: told" await 20 told || last judge-full
    scored full && bad "something half written was taken for whole"
    rm "$work/disk-is-full"
  done
  came full "full twice" 8
else
  echo "skip a disk that fills up: no libfaultio.so, or a sanitizer in the programs"
fi

trained small
mkdir -p "$work/cache-small"
if mount -t tmpfs -o size=8m tmpfs "$work/cache-small" 2>"$work/why"; then
  trap 'umount -l "$work/cache-small" 2>/dev/null; cleanup' EXIT
  judge small
  check "a disk too small: told before a byte is fetched" await 30 grep -q "bytes free, fetching wants" "$work/judge-small.log" || last judge-small
  check "and none is" [ "$(down small)" -lt $chunk ]
  mount -o remount,size=80m "$work/cache-small"
  chaos small down rate 6000000
  await 30 arrived small $((4 * chunk)) || bad "small: nothing comes"
  dd if=/dev/zero of="$work/cache-small/filler" bs=64k 2>/dev/null
  check "filled by somebody else: told" await 20 grep -q "No space left" "$work/judge-small.log" || last judge-small
  rm "$work/cache-small/filler"
  came small "with room again" 4
else
  echo "skip a mounted disk: $(cat "$work/why")"
  stop "${trainer_pid[small]}"
fi

[ $((SECONDS - parted_at)) -ge "$least" ] || sleep $((least - SECONDS + parted_at)) # as long as that
check "partitioned for $least s, after $before bytes of $whole" [ "$before" -lt "$whole" ]
came parted "partitioned for $least s" 3
stop $source
finish
