#!/usr/bin/env bash
# SIGTERM and SIGINT in every phase: each process leaves in time with a documented code, what was announced is there, and
# the run goes on to the bits of the undisturbed one. A second signal leaves at once.
# label: fault
# timeout: 900
# also: nightly 1000
# Invariants: D1 D3 D5 D7 D9 L4
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/common.bash"
rounds=${2:-100}
steps=300
sed -i -e "s/steps: 120/steps: $steps/" -e 's/latents: 1024/latents: 256/' -e 's/every_steps: 15/every_steps: 20/' "$work/run.yaml"
cat >>"$work/run.yaml" <<'YAML'
stop: {deadline_s: 10}
net: {hb_ms: 200, lease_ms: 2000, backoff_cap_ms: 300}
YAML
data=ipc://$XDG_RUNTIME_DIR/data
RANDOM=${OSAE_SEED:=$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')}
echo "seed $OSAE_SEED (OSAE_SEED=$OSAE_SEED repeats it)"

start() { # PROGRAM NAME [ARGUMENTS...]: in the background, its number in `pid`
  local program=$1 name=$2; shift 2
  "$bin/osae-$program" "$work/run.yaml" --set producer.data="$data" --set run.name="$name" "$@" >>"$work/$name.$program.log" 2>&1 &
  pid=$!
}
leaves() { # NAME SECONDS CODES: the process `pid`, which was signalled, ends within SECONDS with one of the codes
  local until=$((SECONDS + $2 + 1)) code=0
  while kill -0 $pid 2>/dev/null; do
    [ $SECONDS -lt $until ] || { bad "$1: still there after $2 s"; kill -9 $pid; break; }
    sleep 0.01
  done
  wait $pid || code=$?
  case " $3 " in *" $code "*) ;; *) bad "$1: exit code $code, wanted one of: $3"; tail -3 "$work"/*.log ;; esac
  left=$code
}
says() { # FILE WORDS SECONDS: until the words are there
  local until=$((SECONDS + $3))
  until grep -qF -- "$2" "$1" 2>/dev/null; do [ $SECONDS -lt $until ] || { bad "no '$2' in $(basename "$1")"; tail -3 "$1"; return 1; }; sleep 0.02; done
}
sound() { # NAME RUN: nothing damaged, nothing left over
  "$bin/osae" fsck "$work/runs/$2" >"$work/fsck" 2>&1 || { bad "$1: osae fsck"; cat "$work/fsck"; }
}
step_now() { local n; n=$(step_of "$1"); echo "${n:-0}"; }
# The library that slows and fills the disk: not under a sanitizer.
shim=$bin/libfaultio.so
[ -f "$shim" ] && ! grep -q __asan_init "$bin/osae-trainer" || shim=

start producer farm; producer=$pid
start trainer calm; wait $pid && ok "an undisturbed run" || { bad "an undisturbed run"; cat "$work"/*.log; finish; exit; }
calm=$(digest calm $steps)

# A hundred times, at any moment of a life: start-up, waiting for the producer, steps, saving, leaving.
for ((n = 1, lives = 0; n <= rounds; n++, lives++)); do
  name=random-$((lives / 1000))
  before=$(step_now run)
  start trainer run; born=$EPOCHREALTIME
  sleep "0.$(printf %03d $((RANDOM % 700)))"
  if ! kill -0 $pid 2>/dev/null; then # it had finished
    leaves "round $n" 1 "0"
    [ "$(digest run $steps)" = "$calm" ] || bad "round $n: other bits at the end"
    rm -rf "$work/runs/run"
    continue
  fi
  [ $((RANDOM % 2)) = 0 ] && signal=TERM || signal=INT
  kill -$signal $pid
  # Before main has begun, a signal ends a process as it ends any: 143, 130.
  leaves "round $n" 10 "0 143 130"
  [ ! -d "$work/runs/run/checkpoints" ] || sound "round $n" run
  [ "$(step_now run)" -ge "$before" ] || bad "round $n: $before steps were durable, now $(step_now run)"
done
[ $failed = 0 ] && ok "$rounds signals at any moment"
until [ "$(step_now run)" = $steps ]; do start trainer run; wait $pid || { bad "run does not end"; break; }; done
check "and the bits of the undisturbed run" [ "$(digest run $steps)" = "$calm" ]

# What a stop saves is the step it stands at, not the last that was due.
start trainer save --set ckpt.every_steps=0
says "$work/save.trainer.log" "memory" 20; sleep 0.3
kill -TERM $pid; leaves "a stop without a checkpoint due" 10 0
check "a stop saves what was learned" [ "$(step_now save)" -gt 0 ]

start trainer pause --set ckpt.every_steps=0
says "$work/pause.trainer.log" "memory" 20
"$bin/osae" pause "$work/run.yaml" --set run.name=pause --set producer.data="$data" >/dev/null 2>&1 || bad "osae pause"
sleep 0.3
kill -INT $pid; leaves "a stop while paused" 5 0
check "a paused trainer saves too" [ "$(step_now pause)" -gt 0 ]

# Evaluating: it leaves between two pieces of work.
start trainer scored --set trainer.when_done=stay; trainer=$pid
start evaluator scored --set eval.core_batches=200 --set eval.core_variance_batches=200 --set eval.poll_s=1
sleep 1.5; kill -TERM $pid; leaves "an evaluator at work" 10 0 && ok "an evaluator leaves while it evaluates"
pid=$trainer; kill -TERM $pid; leaves "a trainer that waits for results" 5 0

if [ -n "$shim" ]; then
  slow() { # NAME MILLISECONDS
    LD_PRELOAD=$shim FAULTIO_ROOT=$work/runs/$1/checkpoints FAULTIO_SLOW=$2 start trainer "$1" --set ckpt.every_steps=0
  }
  mkdir -p "$work/runs"/{slow,slower,stuck,full}/checkpoints; chmod 700 "$work/runs"/{slow,slower,stuck,full}
  slow slow 300; says "$work/slow.trainer.log" "memory" 20; sleep 0.3
  kill -TERM $pid; leaves "a stop on a slow disk" 10 0
  check "a slow disk is waited for" [ "$(step_now slow)" -gt 0 ]

  slow slower 2000; says "$work/slower.trainer.log" "memory" 20; sleep 0.3
  kill -TERM $pid; sleep 0.5; kill -TERM $pid
  leaves "a second signal while saving" 3 75
  check "a second signal leaves the last checkpoint undone" [ "$(step_now slower)" = 0 ]
  start trainer slower; wait $pid
  check "the next start sweeps up and comes to the same bits" [ "$(digest slower $steps)" = "$calm" ]
  sound "after a second signal" slower

  slow stuck 60000; says "$work/stuck.trainer.log" "memory" 20; sleep 0.3
  kill -TERM $pid
  leaves "a stop on a disk that does not answer" 13 75 && ok "a disk that does not answer holds nobody beyond stop.deadline_s"
  says "$work/stuck.trainer.log" "stop.deadline_s" 1

  touch "$work/disk-is-full"
  LD_PRELOAD=$shim FAULTIO_ROOT=$work/runs/full FAULTIO_FULL=$work/disk-is-now-full start trainer full --set ckpt.every_steps=20
  wait_step full 20 20; mv "$work/disk-is-full" "$work/disk-is-now-full"; before=$(step_now full)
  sleep 0.2; kill -TERM $pid
  leaves "a stop on a full disk" 10 "0 73"
  check "a full disk leaves what was there" [ "$(step_now full)" -ge "$before" ]
  sound "after a full disk" full
  start trainer full; wait $pid
  check "and the run comes to the same bits" [ "$(digest full $steps)" = "$calm" ]
else
  echo "skip slow, stuck and full disks: no libfaultio.so, or a sanitizer in the programs"
fi

# The producer dies, and does not come back: the trainer still saves and leaves; then one that never met it.
start trainer dead; trainer=$pid
wait_step dead 40 20
kill -9 $producer; wait $producer 2>/dev/null
sleep 0.3; pid=$trainer; kill -TERM $pid; leaves "a stop with a dead producer" 10 0
check "a trainer whose producer died saves" [ "$(step_now dead)" -ge 40 ]
start trainer alone; sleep 1
kill -TERM $pid; leaves "a stop while waiting for the producer" 3 0 && ok "a trainer leaves while it waits for its producer"

# The producer itself: at any moment of its start, and while it serves.
for ((n = 0; n < 10; n++)); do
  rm -rf "$work/cache/text"* # so that there is something to prepare
  start producer farm --set storage.cache="$work/cache-$n"
  sleep "0.$(printf %03d $((RANDOM % 400)))"; kill -TERM $pid
  leaves "a producer at start, $n" 10 "0 75 143"
done
ok "a producer leaves at any moment of its start"
start producer farm; producer=$pid
start trainer dead; trainer=$pid; sleep 0.2
pid=$producer; kill -INT $pid; leaves "a producer that serves" 10 0 && ok "a producer leaves while it serves"
start producer farm; producer=$pid
check "the run goes on with the next one" wait $trainer
check "to the same bits" [ "$(digest dead $steps)" = "$calm" ]
pid=$producer; kill -TERM $pid; leaves "the producer" 10 0
finish
