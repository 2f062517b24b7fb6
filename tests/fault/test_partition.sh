#!/usr/bin/env bash
# label: fault
# timeout: 300
# also: fault 20
# also: nightly 120
# Partitions between a producer and its trainers, of both directions and of one, shorter and longer than the lease, where
# nothing is lost and where everything is; a link so slow that a batch takes longer than a lease. Training goes on within seconds,
# no batch comes twice or not at all, and a slow link is never taken for a dead one. With a number of seconds: each kind of
# partition for so long, all at the same time, each between a trainer of its own and the producer, who has given it up meanwhile.
# Invariants: P1 P2 P5 P6 L1
. "$(dirname "${BASH_SOURCE[0]}")/chaos.bash"
mkdir -m 700 "$XDG_RUNTIME_DIR/chaos"
near=ipc://$XDG_RUNTIME_DIR/chaos/data far=tcp://127.0.0.1:$port
(producer farm pace.dead_after_s=5) & source=$!
check "undisturbed" persist calm orth || last calm

# ---- long: every kind at once
if [ $# -gt 1 ]; then
  seconds=$2
  kinds=(hold "up hold" "down hold" swallow "up swallow" "down swallow" hold swallow)
  ways=(inline inline inline inline inline inline shm shm)
  declare -A lane before
  for n in "${!kinds[@]}"; do
    at=ipc://$XDG_RUNTIME_DIR/chaos/$n
    proxy "p$n" "$at" "$(data_of farm)"
    [ "${ways[n]}" = shm ] && rate=2000 || rate=100000 # ten batches a second: they last
    chaos "p$n" down rate $rate
    persist "long-$n" orth data.xf="${ways[n]}" "trainer.producers=[$at]" & lane[$n]=$!
  done
  for n in "${!kinds[@]}"; do wait_step "long-$n" 10 40 || { bad "long-$n makes no progress"; last "long-$n"; }; done
  for n in "${!kinds[@]}"; do chaos "p$n" "${kinds[n]} $((seconds * 1000))"; done
  began=$SECONDS
  sleep 2
  for n in "${!kinds[@]}"; do before[$n]=$(step_of "long-$n"); done
  sleep $((seconds - 3 - SECONDS + began))
  for n in "${!kinds[@]}"; do # the credit that was out may still have been used, no more
    is_done "long-$n" && bad "long-$n was over before"
    [ "$(step_of "long-$n")" -le $((before[$n] + 20)) ] || bad "${kinds[n]}, ${ways[n]}: nothing was held"
  done
  sleep $((seconds - SECONDS + began))
  began=${EPOCHREALTIME/[.,]/}
  for n in "${!kinds[@]}"; do
    wait_step "long-$n" $((before[$n] + 30)) 8 || is_done "long-$n" || { bad "long-$n does not go on after ${kinds[n]} for $seconds s"; last "long-$n"; }
    ok "${kinds[n]}, ${ways[n]}, for $seconds s: on again within $(((${EPOCHREALTIME/[.,]/} - began) / 1000)) ms"
    chaos "p$n" down rate 0
  done
  for n in "${!kinds[@]}"; do
    check "${kinds[n]}, ${ways[n]}: to its end" wait "${lane[$n]}" || last "long-$n"
    check "${kinds[n]}, ${ways[n]}: the same bits" same "long-$n" calm
    check "${kinds[n]}, ${ways[n]}: the link was lost, and found" grep -q link_lost "$work/long-$n.log"
  done
  check "the producer had given all of them up" [ "$(grep -c member.dropped "$work/farm.log")" = ${#kinds[@]} ]
  stop $source
  finish
  exit
fi

# ---- short: one after the other
proxy chaos "$near" "$(data_of farm)" "$far" "$(data_of farm)"
chaos chaos down rate 100000 # twelve batches a second: they last
persist sockets orth data.xf=inline "trainer.producers=[$far]" & a=$!
persist shared orth data.xf=shm "trainer.producers=[$near]" & b=$!
wait_step sockets 10 30 && wait_step shared 10 30 || bad "no progress"

partition() { # MS COMMAND...: then both must have gone on within five seconds
  local ms=$1 name before began; shift
  chaos chaos "$*" "$ms"
  sleep "$((ms / 1000)).$((ms % 1000))"
  declare -A before
  for name in sockets shared; do before[$name]=$(step_of $name); done
  began=${EPOCHREALTIME/[.,]/}
  for name in sockets shared; do
    wait_step $name $((before[$name] + 10)) 8 || is_done $name || { bad "$name does not go on after $* for $ms ms"; last $name; }
  done
  ok "$* for $ms ms: on again within $(((${EPOCHREALTIME/[.,]/} - began) / 1000)) ms"
}
partition 1000 hold
partition 2500 hold
partition 2500 up hold
partition 2500 down hold
partition 1000 swallow
partition 2500 up swallow
partition 2500 down swallow
check "the runs are not over" [ ! -d "$work/runs/sockets/checkpoints/step-$(printf %012d $steps)" ]
chaos chaos pass
check "over sockets it comes to its end" wait $a || last sockets
check "with shared memory too" wait $b || last shared
check "the same bits over sockets" same sockets calm
check "the same bits with shared memory" same shared calm
check "links were lost, and found" [ "$(cat "$work"/{sockets,shared}.log | grep -c link_lost)" -ge 4 ]
stop $source

# Slow: a batch of 8 KiB takes two seconds, the lease is one and a half. min_rate gives it time.
steps=8
(producer farm net.min_rate=2KiB) & source=$!
persist short orth
proxy slow -b 4096 "tcp://127.0.0.1:$((port + 1))" "$(data_of farm)"
chaos slow down rate 4096
began=$SECONDS
check "a slow link comes to its end" persist slow orth data.xf=inline "trainer.producers=[tcp://127.0.0.1:$((port + 1))]" || last slow
check "it was slow: $((SECONDS - began)) s for 8 batches" [ $((SECONDS - began)) -ge 12 ]
check "the same bits over a slow link" same slow short
check "in one connection" [ "$(counter slow accepted)" = 1 ]
check "which was never taken for lost" bash -c "! grep link_lost $work/slow.log"
stop $source
finish
