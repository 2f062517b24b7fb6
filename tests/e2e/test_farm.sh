#!/usr/bin/env bash
# label: fault
# timeout: 300
# Several trainers of different kinds on one producer: coming late, leaving, killed, and the producer killed under
# them; each ends with the weights and the chain it has when it trains alone.          (P1 P2 P6 D3 L1 L2)
# Invariants: P1 P2 P6 D3 L1 L2
. "$(dirname "${BASH_SOURCE[0]}")/farm.bash"

# Alone: each kind with a producer of its own.
for name in orth standard topk jump; do
  (producer farm) & source=$!
  check "$name alone" persist "alone-$name" $name || tail -5 "$work/alone-$name.log"
  stop $source
  check "its producer leaves cleanly" [ $? = 0 ]
done
check "the kinds differ" [ "$(for n in orth standard topk jump; do digest alone-$n $steps | head -1; done | sort -u | wc -l)" = 4 ]

# Together: two from the start, one late and free-running, one later still; every process killed or stopped once;
# half of them read the ring in shared memory, half get frames.
(producer farm) & source=$!
persist orth orth data.xf=shm & orth=$!
persist standard standard pace.mode=freerun & standard=$!
wait_step orth 10 60 || bad "orth made no progress"
persist topk topk & topk=$!
wait_step topk 10 60 || bad "topk made no progress"
kill_once osae-trainer run.name=orth
persist jump jump pace.mode=freerun data.xf=shm & jump=$!
pkill -TERM -f "osae-trainer $work/run.yaml.*run.name=topk"
wait_step topk 20 60 || bad "topk did not come back"
check "nobody has finished yet" bash -c "! ls -d $work/runs/{orth,topk}/checkpoints/step-$(printf %012d $steps) 2>/dev/null"
kill -9 $source; wait $source
(producer farm) & source=$!
for name in orth standard topk jump; do
  check "$name comes to its end" wait ${!name} || tail -5 "$work/$name.log"
  check "$name has the bits it has alone" same "$name" "alone-$name"
done
check "one was killed and one was stopped, and they went on" \
  [ "$(grep -l "going on from step" "$work"/{orth,topk}.log | wc -l)" = 2 ]
check "two of them read shared memory" \
  [ "$(cd "$work" && grep -l "through shared memory" {orth,standard,topk,jump}.log | tr '\n' ' ')" = "orth.log jump.log " ]
check "the producer was killed under them" [ "$(grep -c "serving stream" "$work/farm.log")" = 6 ]
stop $source

# In step: nothing is sent before both are there, and neither is more than a batch ahead.
(producer farm) & source=$!
persist step-a orth pace.mode=lockstep pace.group_size=2 pace.group=pair & a=$!
sleep 1
check "nobody starts before the group is whole" [ -z "$(step_of step-a)" ]
persist step-b jump pace.mode=lockstep pace.group_size=2 pace.group=pair & b=$!
wait $a $b
check "in lockstep the same bits (orth)" same step-a alone-orth
check "in lockstep the same bits (jump)" same step-b alone-jump
stop $source

# One that is killed and does not come back holds the others for lease + dead_after, no longer; one that is done and
# stays, and one whose run is shorter, hold nobody.
(producer farm pace.dead_after_s=1 net.hb_ms=200 net.lease_ms=1000 stream.ring_slots=4) & source=$!
(trainer lost topk) & lost=$!
(trainer short standard trainer.steps=10 trainer.when_done=stay) & short=$!
(trainer longer standard trainer.steps=1000000; exit $?) & longer=$!
persist left orth & left=$!
wait_step lost 10 60 || bad "lost made no progress"
kill_once osae-trainer run.name=lost; wait $lost
check "the others go on without the one that is lost" wait $left
check "and end with the same bits" same left alone-orth
check "the finished one is still there" kill -0 $short
wait $longer
check "steps beyond the end of the stream are refused with 78" [ $? = 78 ]
check "and in words" grep -q "the producer's stream ends after" "$work/longer.log"
stop $short $source
finish
