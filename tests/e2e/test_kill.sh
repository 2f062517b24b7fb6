#!/usr/bin/env bash
# Three processes on a real (tiny) model: whatever is killed, interrupted or restarted in the middle,
# the finished run has the same bits as the undisturbed one. P1 P2 D1 D3 D5 E1 L1.
# Invariants: P1 P2 D1 D3 D4 D5 E1 L1
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"

check "an undisturbed run ends well" osae_run calm
for step in $(ls "$work/runs/calm/checkpoints"); do
  check "$step has a result" test -s "$work/runs/calm/eval/core/calm_${step}_eval_results.json"
done
check "no temporary folder is left" bash -c "! ls $work/runs/calm/checkpoints | grep -q tmp"

osae_run again
check "a second run of the same settings has the same bits" same_as calm again

port=$((20000 + RANDOM % 20000))
osae_run tcp --set producer.data=tcp://127.0.0.1:$port --set trainer.ctl=tcp://127.0.0.1:$((port + 1)) \
  --set trainer.pub=tcp://127.0.0.1:$((port + 2))
check "over tcp as over ipc" same_as calm tcp

osae_run threads --set trainer.threads=1 --set producer.threads=1 --set stream.ring_slots=5 --set data.win=2
check "one thread, a small ring and a small window as many" same_as calm threads

for victim in trainer producer evaluator; do
  osae_run "kill-$victim" & run=$!
  for step in 15 45 75; do
    wait_step "kill-$victim" $step 60 || bad "kill-$victim made no progress to step $step"
    kill_once "osae-$victim" "kill-$victim" || bad "no $victim to kill"
  done
  check "osae run goes on when the $victim is killed three times" wait $run || tail -20 "$work/kill-$victim.log"
  check "it was killed three times" [ "$(grep -c "the $victim ended (signal 9)" "$work/kill-$victim.log")" = 3 ]
  check "and ends with the same bits ($victim)" same_as calm "kill-$victim"
done

osae_run interrupt & run=$!
wait_step interrupt 30 60 || bad "interrupt made no progress"
kill -INT $(pgrep -f "osae run $work/run.yaml --set run.name=interrupt")
check "Ctrl-C ends osae run with exit code 0" wait $run
check "no process is left behind" bash -c "! pgrep -f 'osae-[a-z]* $work/run.yaml'"
check "the interrupted run goes on" osae_run interrupt
check "and ends with the same bits (interrupt)" same_as calm interrupt

osae_run finished-later --set trainer.steps=60
check "a finished run is lengthened by raising trainer.steps" osae_run finished-later
check "and ends with the same bits (lengthened)" same_as calm finished-later

check "resuming with other settings is refused with 78" bash -c \
  "'$bin/osae' run $work/run.yaml --set run.name=calm --set loss.lambda_s=0.6 2>$work/refusal; [ \$? = 78 ]"
check "and names the setting" grep -q "loss.lambda_s 0.5 -> 0.6" "$work/refusal"
finish
