#!/usr/bin/env bash
# label: fault
# timeout: 300
# also: nightly 1000
# Every connection between six trainers and their producer is cut after one batch, until there were a thousand, or as many for each of
# them as is said. Producer and trainers then hold the memory, the descriptors and the links they held when it began, and the
# trainers come to their bits.
# Invariants: P1 P2 L1 R1 R2 R4
. "$(dirname "${BASH_SOURCE[0]}")/chaos.bash"
each=${2:-170}
crowd=6 warm=25 growth=1024 # KiB
steps=1400
(producer farm) & source=$!
check "undisturbed" persist calm orth || last calm
mkdir -m 700 "$XDG_RUNTIME_DIR/chaos"
declare -A pid memory descriptors links
for ((n = 1; n <= crowd; n++)); do
  at=ipc://$XDG_RUNTIME_DIR/chaos/$n
  proxy "p$n" "$at" "$(data_of farm)"
  (trainer "cut-$n" orth data.xf=inline "trainer.producers=[$at]" trainer.when_done=stay ckpt.every_steps=100 metrics.every_steps=10000) & pid[$n]=$!
done
# Greeting and attachment, a batch of 8 KiB and half of the next; nobody is cut, but nobody comes to an end either.
cutting() { for ((n = 1; n <= crowd; n++)); do chaos "p$n" down rate 0; chaos "p$n" down cut 13000; chaos "p$n" drop; done; }
resting() { for ((n = 1; n <= crowd; n++)); do chaos "p$n" pass; chaos "p$n" down rate 20000; chaos "p$n" drop; done; }
were_cut() { # HOW OFTEN: each of them
  for ((n = 1; n <= crowd; n++)); do [ "$(counter "p$n" broken)" -ge "$1" ] || return 1; done
}
attached() { [ "$(status_of producer farm members)" = $crowd ] && [ "$(status_of producer farm stale)" = 0 ]; }
weigh() { # WHEN
  resting
  await 20 attached || bad "$1: not everybody is attached"
  sleep 1 # the connections that were cut are closed
  memory[0.$1]=$(memory_of $source) descriptors[0.$1]=$(descriptors_of $source) links[$1]=$(status_of producer farm links)
  for ((n = 1; n <= crowd; n++)); do
    memory[$n.$1]=$(memory_of "${pid[$n]}") descriptors[$n.$1]=$(descriptors_of "${pid[$n]}")
  done
}
cutting
await 120 were_cut $warm || bad "they are not cut"
weigh before
cutting
await 1200 were_cut $((each + warm)) || bad "they are not cut"
weigh after
total=0
for ((n = 1; n <= crowd; n++)); do total=$((total + $(counter "p$n" broken))); done
check "$total connections were cut" [ $total -ge $((crowd * each)) ]
for ((n = 0; n <= crowd; n++)); do
  [ $n = 0 ] && name=producer || name="trainer $n, $(status_of trainer "cut-$n" links_lost) links lost"
  grew=$((memory[$n.after] - memory[$n.before]))
  check "$name: ${memory[$n.after]} KiB, $grew more than before" [ $grew -le $growth ]
  check "$name: the same descriptors, ${descriptors[$n.after]}" [ "${descriptors[$n.after]}" = "${descriptors[$n.before]}" ]
done
check "the producer has one link for each: ${links[after]}" [ "${links[before]}" = $crowd -a "${links[after]}" = $crowd ]
for ((n = 1; n <= crowd; n++)); do chaos "p$n" down rate 0; done
for ((n = 1; n <= crowd; n++)); do
  await 30 is_done "cut-$n" || { bad "cut-$n does not come to its end"; last "cut-$n"; }
  check "trainer $n has its bits" same "cut-$n" calm
done
stop "${pid[@]}" $source
finish
