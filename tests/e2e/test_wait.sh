#!/usr/bin/env bash
# Waiting for batches is a metric, and it is the clock's: every row of the file has it and `osae status` says it; a producer
# that is stopped for a while is in it; steps and waits add up to what the clock says.
# timeout: 120
. "$(dirname "${BASH_SOURCE[0]}")/farm.bash"
steps=400
rows() { cat "$work/runs/waiting"/metrics/m-*.jsonl 2>/dev/null | jq -cR 'fromjson? | select(.wait_seconds != null)'; }
now() { rows | tail -1 | jq -r '.step // 0'; }

(producer farm stream.ring_slots=4 stream.epochs=10) & source=$!
(trainer waiting standard sae.latents=256 data.win=2 data.xf=inline ckpt.every_steps=100 net.lease_ms=60000) & trainer=$!
until [ "$(now)" -ge 5 ] 2>/dev/null || [ $SECONDS -gt 60 ]; do sleep 0.02; done
kill -STOP $source
# Until it has nothing left: the ring's batches that were on their way are trained.
before=-1
until [ "$(now)" = "$before" ] || [ $SECONDS -gt 60 ]; do before=$(now); sleep 0.7; done
check "a trainer without batches stands still, and not at its end" [ "$before" -ge 5 -a "$before" -lt $steps ]
sleep 1
"$bin/osae" status "$work/run.yaml" --set run.name=waiting >"$work/status" 2>&1
kill -CONT $source
check "osae status says it" grep -qE 'wait_share[": =]+(0\.[0-9]+|1|0|[0-9.]+e-[0-9]+)' "$work/status" || cat "$work/status"
check "it comes to its end" wait $trainer || tail -5 "$work/waiting.log"
stop $source

rows >"$work/rows"
all() { jq -es "$1" "$work/rows" >/dev/null; }
check "every step says how long it waited" all "length == $steps and (map(.step) == [range(1; $steps + 1)])"
check "seconds are not negative, a share is within 0 and 1" \
  all 'all(.[]; .wait_seconds >= 0 and .step_seconds > 0 and .wait_share >= 0 and .wait_share <= 1)'
check "the share is the seconds'" \
  all 'all(.[]; (.wait_share - .wait_seconds / (.wait_seconds + .step_seconds)) | fabs < 1e-6)'
check "the stop is in a step after it" all "any(.[]; .step > $before and .wait_seconds > 1)"
# What lies between two rows is that step and its wait (and the writing of checkpoints, at three of them).
check "steps and waits make up the time between the rows" \
  all '(.[1:] | map(.wait_seconds + .step_seconds) | add) as $told | (.[-1].t - .[0].t) as $clock
       | $told <= $clock + 0.05 and $told >= 0.5 * $clock' || jq -sc '[.[-1].t - .[0].t, (map(.wait_seconds + .step_seconds) | add)]' "$work/rows"
finish
