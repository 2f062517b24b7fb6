#!/usr/bin/env bash
# label: fault
# timeout: 300
# Settings changed while a run goes (`osae set`): a run that is killed before its step, after it, or just before or after the change
# is in the journal, has the bits of the one that was never killed, and each change is said once.
# Invariants: C1 C2 D3 D5
. "$(dirname "${BASH_SOURCE[0]}")/chaos.bash"
steps=200
(producer farm) & source=$!
proxy slow "ipc://$XDG_RUNTIME_DIR/slow" "$(data_of farm)"
chaos slow down rate 250000 # some thirty steps a second: there is time to kill between two of them
train() { trainer "$1" orth "trainer.producers=[ipc://$XDG_RUNTIME_DIR/slow]" data.xf=inline ckpt.every_steps=50 ckpt.keep_last=1000 "${@:2}"; }
set_it() { "$bin/osae" set "$work/run.yaml" "${@:2}" --set run.name="$1" >>"$work/$1.answers" 2>&1; }
beyond() { [ "$(status_of trainer "$1" step)" -ge "$2" ] 2>/dev/null; } # NAME STEP: it has gone so far
stands() { "$bin/osae" pause "$work/run.yaml" --set run.name="$1" >"$work/pause" 2>&1 && [ "$(status_of trainer "$1" state)" = paused ]; }
go_on() { "$bin/osae" resume "$work/run.yaml" --set run.name="$1" >"$work/resume" 2>&1 || bad "$1 does not go on"; }
changed() { grep -c '"type":"set"' "$work/runs/$1/journal.jsonl"; }
value_at() { jq -r --argjson t "$2" 'select(.step == $t) | .lr' "$work"/runs/"$1"/metrics/m-*.jsonl | tail -1; } # NAME STEP
change_all() { set_it "$1" optimiser.lr=3e-4 --at 60 && set_it "$1" loss.lambda_s=0.9 --at 80 && set_it "$1" loss.lambda_o=0.05 --at 120; }
life() { (train "$@") & pid=$!; await 20 stands "$1" || bad "$1 does not stand still"; } # NAME: begun, and paused
killed() { kill -9 $pid; wait $pid 2>/dev/null; }

# Undisturbed: without a change, and with three.
(train plain)
life gold; check "three changes of what is to come" change_all gold; go_on gold; wait $pid
check "they change the bits" bash -c "! [ '$(digest plain $steps | head -1)' = '$(digest gold $steps | head -1)' ]"
check "the chain is of the batches alone" [ "$(digest plain $steps | tail -1)" = "$(digest gold $steps | tail -1)" ]
check "the rate is what it was until step 60, and the new one from it" \
  [ "$(value_at gold 60) $(value_at gold 61)" = "0.001 0.0003" ]
says() { jq -c '.metadata.osae | [.lambda_s, .lambda_o]' "$work/runs/$1/checkpoints/step-$(printf %012d "$2")/cfg.json"; } # NAME STEP
check "a checkpoint says what it was trained with" [ "$(says gold 50) $(says gold 100) $(says gold 200)" = "[0.5,0.01] [0.9,0.01] [0.9,0.05]" ]
check "so does the report" grep -q 'lambda_s 0.5 (then 0.9), lambda_o 0.01 (then 0.05), lambda_t' <("$bin/osae" report "$work/runs/gold")
again() { # NAME WHAT: it comes to its end, with those bits and each change once
  (train "$1")
  check "$2: the same bits" same "$1" gold || { digest "$1" $steps; digest gold $steps; }
  check "$2: each change is said once" [ "$(changed "$1")" = 3 ]
}

# Killed when it was acknowledged and not yet in effect.
life early; change_all early; killed
check "killed before step 60" [ "$(changed early)" = 3 ]
again early "killed before it was in effect"
# Killed after its step, and going on from a checkpoint before it; and from one between two changes.
life late; change_all late; go_on late; await 20 beyond late 70; killed
again late "killed after it was in effect"
life between; change_all between; go_on between; await 20 beyond between 110; killed
again between "killed between two of them"
# The trainer dies at the journal, before the line is there and when it is; whoever asked repeats until the next life answers.
for place in journal.write journal.sync; do
  name=${place#journal.}
  OSAE_FAULT=$place:2:crash life "$name" # the first line is the life's own
  (set_it "$name" optimiser.lr=3e-4 --at 60) & asker=$!
  wait $pid 2>/dev/null; check "$place: the trainer died of it" [ $? = 137 ]
  life "$name"
  check "$place: the one who asked is answered by the next life" wait $asker || cat "$work/$name.answers" "$work/$name.log"
  set_it "$name" loss.lambda_s=0.9 --at 80 && set_it "$name" loss.lambda_o=0.05 --at 120
  go_on "$name"; wait $pid
  check "$place: the same bits" same "$name" gold
  check "$place: each change is said once" [ "$(changed "$name")" = 3 ]
done

# Changed, killed before its first checkpoint, and begun anew.
life young; change_all young; killed
"$bin/osae-trainer" "$work/run.yaml" --from-scratch --set run.name=young --set trainer.steps=$steps --set ckpt.every_steps=50 --set "trainer.producers=$producers" \
  --set ${kind[orth]} >>"$work/young.log" 2>&1
check "a run begun anew before its first checkpoint has no changes" same young plain
# A change that could not be written is none, in the next life too.
OSAE_FAULT=journal.sync:2 life sick
check "a journal that cannot be written refuses a change" bash -c "! '$bin/osae' set '$work/run.yaml' optimiser.lr=3e-4 --at 60 --set run.name=sick >'$work/answer' 2>&1 && grep -q 'cannot sync' '$work/answer'"
killed
(train sick)
check "and the next life does not know it" same sick plain

# What cannot be.
life wrong; go_on wrong
refused() { # WHAT CODE WORDS ARGUMENTS...
  local code what=$1 want=$2 words=$3; shift 3
  "$bin/osae" set "$work/run.yaml" "$@" --set run.name=wrong >"$work/answer" 2>&1; code=$?
  check "$what" grep -q "$words" "$work/answer" || cat "$work/answer"
  [ $code = "$want" ] || bad "$what: exit code $code, wanted $want"
}
await 20 beyond wrong 20
refused "another setting" 78 'sae.latents cannot be changed while training, only optimiser.lr, loss.lambda_s and loss.lambda_o' sae.latents=7
refused "a step that is over" 78 'step 3 is over: the next one is' optimiser.lr=1e-4 --at 3
refused "a step beyond the last" 78 'step 200 is beyond the last one, 199' optimiser.lr=1e-4 --at 200
refused "a value out of range" 78 'optimiser.lr is -1, wanted a number from 0 to 10' optimiser.lr=-1
refused "not a number" 64 'wanted KEY=VALUE' optimiser.lr=fast
refused "no step" 64 'wanted a step' optimiser.lr=1 --at soon
check "nothing of it is in the journal" [ "$(changed wrong)" = 0 ]
wait $pid
check "nor in the bits" same wrong plain
refused "nobody there" 69 'wrong.trainer.ctl' optimiser.lr=1e-4
# Begun anew, the run does not know them.
"$bin/osae-trainer" "$work/run.yaml" --from-scratch --set run.name=gold --set trainer.steps=$steps --set ckpt.every_steps=50 --set "trainer.producers=$producers" \
  --set ${kind[orth]} >>"$work/gold.log" 2>&1
check "a run begun anew has no changes" same gold plain || { tail -5 "$work/gold.log"; digest gold $steps; digest plain $steps; }
stop $source
finish
