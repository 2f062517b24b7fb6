#!/usr/bin/env bash
# How long a trainer waits for batches when its producer is faster than it is: the whole way (text, a tiny model, shuffle,
# batches of 2.25 MiB, transport) through shared memory, ipc and tcp, read from the metrics the trainer publishes.
# usage: bench/wait.sh [BIN=build/release/bin [STEPS=40]]
#   goal: waiting less than 1 % of the time. The first steps, until the ring is full, are left out. Exits 1 when missed.
. "$(dirname "${BASH_SOURCE[0]}")/../tests/e2e/farm.bash" "${1:-build/release/bin}"
steps=${2:-40} begin=10
wide=(stream.rows=18432 stream.shuffle_block=2 stream.epochs=1000 stream.ring_slots=8 model.layer=0 model.batch_contexts=64)

# Of a run, after the first steps: their number, a step and a wait in ms, the share of waiting in percent.
waited() {
  cat "$work/runs/$1"/metrics/m-*.jsonl | jq -rs --argjson begin $begin '
    [.[] | select(.wait_seconds != null and .step > $begin)]
    | (map(.wait_seconds) | add) as $wait | (map(.step_seconds) | add) as $step
    | [length, 1000 * $step / length, 1000 * $wait / length, 100 * $wait / ($wait + $step)] | map(tostring) | join(" ")'
}
row() { # WAY RUN
  local count step wait share
  read -r count step wait share < <(waited "$2")
  printf '%-28s %6s %12.1f %12.3f %11.3f %%\n' "$1" "$count" "$step" "$wait" "$share"
  awk -v share="$share" 'BEGIN { exit !(share < 1) }' || { [ "$2" = hungry ] || failed=$((failed + 1)); }
}
printf '%-28s %6s %12s %12s %13s\n' "way of the batches" steps "step ms" "wait ms" "waiting"
port=$((20000 + RANDOM % 20000))
for way in shm ipc tcp; do
  data=$(data_of farm) xf=inline
  [ $way != shm ] || xf=shm
  [ $way != tcp ] || data=tcp://127.0.0.1:$port
  producers="[$data]"
  (producer farm "${wide[@]}" producer.data="$data") & source=$!
  (trainer $way standard "${wide[@]}" trainer.steps=$steps sae.latents=512 ckpt.every_steps=20 data.xf=$xf) ||
    bad "$way: $(tail -1 "$work/$way.log")"
  row $way $way
  stop $source
done
# The metric does say so when it is the other way round: a trainer that has next to nothing to do.
producers="[$(data_of farm)]"
(producer farm "${wide[@]}") & source=$!
(trainer hungry standard "${wide[@]}" trainer.steps=40 sae.latents=16) || bad "hungry: $(tail -1 "$work/hungry.log")"
row "16 latents: it must wait" hungry
stop $source
[ $failed = 0 ]
