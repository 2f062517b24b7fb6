#!/usr/bin/env bash
# label: fault
# timeout: 300
# Clocks jump under a producer, a trainer and an evaluator: the wall clock by an hour, forth, back and beyond, of which nobody
# takes notice; the clock of timers by an hour, as after a suspend, which ends every lease at once and costs a greeting. Training
# and evaluation go on within seconds, every step is measured once, and the bits are those of the undisturbed run.
# Invariants: P2 L1 M1 E1
. "$(dirname "${BASH_SOURCE[0]}")/chaos.bash"
clock=$bin/libfaultclock.so
[ -f "$clock" ] && ! grep -q __asan_init "$bin/osae-trainer" || { echo "a preloaded library and a sanitizer do not mix"; exit 77; }
steps=1200
jump() { # SECONDS of the wall clock, SECONDS of the timers': both are offsets, not additions
  local n i hex out=
  for n in "$(($1 * 1000000000))" "$(($2 * 1000000000))"; do
    hex=$(printf %016x "$n")
    for i in 14 12 10 8 6 4 2 0; do out+="\\x${hex:i:2}"; done
  done
  printf "$out" | dd of="$work/clock" conv=notrunc status=none
}
jump 0 0
under() { LD_PRELOAD=$clock FAULTCLOCK=$work/clock "$@"; }
(producer farm) & source=$!
check "undisturbed" persist calm orth || last calm
stop $source

(under producer farm) & source=$!
(under trainer jumps orth ckpt.every_steps=100 ckpt.keep_last=100 trainer.when_done=stay) & a=$!
ctl=ipc://$XDG_RUNTIME_DIR/osae/jumps.trainer.ctl
(export LD_PRELOAD=$clock FAULTCLOCK=$work/clock; with_sets "$bin/osae-evaluator" "$work/run.yaml" -- run.name=jumps \
  "evaluator.trainers=[$ctl]" eval.poll_s=1 eval.claim_ttl_s=5 >>"$work/evaluator.log" 2>&1) & judge=$!
goes_on() { # WHAT: another checkpoint within five seconds
  local at; at=$(step_of jumps)
  check "$*: training goes on" wait_step jumps $((at + 100)) 5 || last jumps
}
wait_step jumps 100 30 || bad "no progress"
jump 3600 0; goes_on "an hour forward"
jump 0 0; goes_on "an hour back"
jump -3600 0; goes_on "two hours behind that"
check "no link was lost over that" bash -c "! grep -q link_lost $work/jumps.log"
jump -3600 3600; goes_on "asleep for an hour"
jump 0 7200; goes_on "and again, with the wall clock"
check "it answers" bash -c "'$bin/osae' status '$work/run.yaml' --set run.name=jumps | grep -q 'process *trainer'"
check "it comes to its end" await 60 is_done jumps || last jumps
check "the same bits" same jumps calm
measured=$(jq .step "$work/runs/jumps/metrics"/*.jsonl)
check "every step is measured, once and in order" [ "$(echo "$measured" | tr '\n' ' ')" = "$(seq $steps | tr '\n' ' ')" ]
all_done() { [ "$(jq -r 'select(.type == "result" and .state == "done") | .ck' "$work/runs/jumps/journal.jsonl" | sort -u | wc -l)" = "$(ls "$work/runs/jumps/checkpoints" | grep -c .)" ]; }
check "every checkpoint has its result" await 60 all_done || tail -5 "$work/evaluator.log"
check "one each" [ "$(grep -c '"type":"result"' "$work/runs/jumps/journal.jsonl")" = "$(ls "$work/runs/jumps/checkpoints" | grep -c .)" ]
check "nobody has ended" kill -0 $source $a $judge
stop $judge $a $source
finish
