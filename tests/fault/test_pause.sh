#!/usr/bin/env bash
# label: fault
# timeout: 300
# also: fault 30
# also: nightly 300
# A trainer is stopped (SIGSTOP) for longer than its lease and dead_after, under each pace policy, reading frames or shared memory.
# The other waits for it as long as its policy says and no longer, the producer holds what its settings say, and the one that
# was stopped wakes, attaches again and ends with the bits it has undisturbed. With a number of seconds: all of them stand still
# for so long.
# Invariants: P1 P2 P4 P6 P7 L1 L2 R1
. "$(dirname "${BASH_SOURCE[0]}")/chaos.bash"
steps=1400
least=${2:-0}
(producer farm) & source=$!
check "undisturbed" persist calm orth || last calm
stop $source

# The longest time between two steps of a run, ms, from the last second before then: the wait begins with a step before it.
longest_pause() { # RUN SINCE
  jq -s --argjson since "$2" '[.[] | .t | select(. >= $since - 1)] | [.[1:], .[:-1]] | transpose | map(.[0] - .[1]) | max * 1000 | floor' "$work/runs/$1/metrics"/*.jsonl
}

policy() { # PACE HANDOVER: its figures into a file, 1 when something is wrong
  local pace=$1 xf=$2 me=$1-$2 a b maker code=0 words
  local more="pace.mode=$pace pace.group=$me pace.group_size=2 data.xf=$xf trainer.producers=[$(data_of "$me")] trainer.when_done=exit"
  [ $pace != freerun ] || more+=" stream.ring_slots=128" # as far as they may be apart
  (producer "$me" pace.dead_after_s=1 stream.ring_slots=128) & maker=$!
  (trainer "$me-stopped" orth $more) & a=$!
  (trainer "$me-awake" orth $more) & b=$!
  wait_step "$me-stopped" 20 60 || { echo "no progress"; code=1; }
  kill -STOP $a
  local stopped=$SECONDS since=${EPOCHREALTIME/,/.} held
  wait $b || { echo "the one that was awake failed"; code=1; }
  same "$me-awake" calm || { echo "other bits (awake)"; code=1; }
  touch "$work/$me.over"
  [ $((SECONDS - stopped)) -ge "$least" ] || sleep $((least - SECONDS + stopped))
  held=$((SECONDS - stopped))
  [ -z "$(is_done "$me-stopped" && echo done)" ] || { echo "the stopped one was done before it was stopped"; code=1; }
  kill -CONT $a
  wait $a || { echo "the one that was stopped failed"; code=1; }
  same "$me-stopped" calm || { echo "other bits (stopped)"; code=1; }
  echo "$(longest_pause "$me-awake" "$since") $held $(awk '/^VmHWM/ { print $2 }' "/proc/$maker/status")"
  kill -TERM $maker; wait $maker
  return $code
}
declare -A of
both_over() { [ -e "$work/$1-inline.over" -a -e "$work/$1-shm.over" ]; }
for pace in lockstep bounded freerun; do # who is awake has the machine to itself
  for xf in inline shm; do policy $pace $xf >"$work/$pace-$xf" & of[$pace-$xf]=$!; done
  await 120 both_over $pace || bad "$pace: the others are not done"
done
for pace in lockstep bounded freerun; do
  for xf in inline shm; do
    wait "${of[$pace-$xf]}" || bad "$pace, $xf: $(cat "$work/$pace-$xf")"
    read -r pause held peak <"$work/$pace-$xf"
    check "$pace, $xf: stopped for $held s, it wakes, attaches again and comes to its end" [ "$held" -ge "$least" ]
    case $pace in
    freerun) check "$pace, $xf: the other never waited ($pause ms at most)" [ "$pause" -lt 1200 ] ;;
    *) check "$pace, $xf: the other waited $pause ms, for a lease (1500 ms) and dead_after (1000 ms) and no longer" [ "$pause" -ge 1500 -a "$pause" -lt 6000 ] ;;
    esac
    check "$pace, $xf: the producer held $peak KiB" [ "$peak" -lt 200000 ]
  done
done
finish
