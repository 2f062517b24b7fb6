#!/usr/bin/env bash
# label: fault
# timeout: 300
# Producers that share one stream: for any number of them the same batches under the same numbers, so the same chain
# and weights; one of them killed; their number changed between two lives of a run.              (P1 P2 D3 L1)
# Invariants: P1 P2 D3
. "$(dirname "${BASH_SOURCE[0]}")/farm.bash"

share() { # S: starts S producers of one stream; their processes in source[], their addresses in $producers
  local i
  producers= source=()
  for ((i = 0; i < $1; i++)); do
    (producer share$i producer.shards=$1 producer.shard=$i stream.ring_slots=4) & source+=($!)
    producers+="${producers:+, }$(data_of share$i)"
  done
  producers="[$producers]"
}

share 1
check "one producer" persist one orth || tail -5 "$work/one.log"
stop ${source[@]}
for count in 2 3; do
  share $count
  check "$count producers" persist by-$count orth || tail -5 "$work/by-$count.log"
  check "the same bits from $count as from one" same by-$count one
  stop ${source[@]}
done

share 2
persist torn orth & torn=$!
persist other jump & other=$!
wait_step torn 10 60 || bad "no progress"
kill -9 ${source[1]}; wait ${source[1]}
sleep 1
check "without one of the two nobody gets to the end" bash -c "! ls -d $work/runs/{torn,other}/checkpoints/step-*$steps 2>/dev/null"
(producer share1 producer.shards=2 producer.shard=1) & source[1]=$!
check "when it is back the run goes on" wait $torn || tail -5 "$work/torn.log"
check "with the same bits" same torn one
check "and so does the other" wait $other
stop ${source[@]}

share 2
(trainer grown orth) & grown=$!
wait_step grown 10 60 || bad "no progress"
stop $grown ${source[@]}
check "it stopped in mid-run" bash -c "! ls -d $work/runs/grown/checkpoints/step-*$steps 2>/dev/null"
share 3
check "begun with two producers, it goes on with three" persist grown orth
check "with the same bits" same grown one
stop ${source[@]}
finish
