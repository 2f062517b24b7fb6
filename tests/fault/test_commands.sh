#!/usr/bin/env bash
# label: fault
# timeout: 200
# Commands to a trainer over a connection that is cut at every so many bytes of the answer or of the question: whoever asks gets an
# answer, and each command takes effect once. Many at one time as well.
# Invariants: C1 L3
. "$(dirname "${BASH_SOURCE[0]}")/chaos.bash"
steps=1200
mkdir -m 700 "$XDG_RUNTIME_DIR/chaos"
door=ipc://$XDG_RUNTIME_DIR/chaos/ctl
(producer farm) & source=$!
proxy ctl "$door" "ipc://$XDG_RUNTIME_DIR/osae/asked.trainer.ctl"
proxy slow "$door.data" "$(data_of farm)"
chaos slow down rate 100000 # twelve steps a second: it lasts
(trainer asked orth "trainer.producers=[$door.data]" data.xf=inline ckpt.every_steps=0 ckpt.keep_last=1000 trainer.when_done=stay optimiser.lr=1e-4) & one=$!
durable() { grep -c 'is durable' "$work/asked.log"; }
ask() { "$bin/osae" checkpoint "$work/run.yaml" --set run.name=asked --set "trainer.ctl=$door" >"$work/answer" 2>&1; }
await 20 test -S "$XDG_RUNTIME_DIR/osae/asked.trainer.ctl"
await 20 bash -c "'$bin/osae' status '$work/run.yaml' --set run.name=asked | grep -q 'step  *[1-9]'" || bad "it does not train"
asked=0 answered=0
for way in down up; do
  for ((n = 60; n <= 460; n += 40)); do
    chaos ctl "$way cut $n 1 $n"
    before=$(durable)
    asked=$((asked + 1))
    if ask; then answered=$((answered + 1)); else cat "$work/answer"; fi
    chaos ctl pass
    [ "$(($(durable) - before))" = 1 ] || bad "a command whose $way was cut at $n took effect $(($(durable) - before)) times"
  done
done
check "$asked commands, $answered answered" [ $answered = $asked ]
check "$(counter ctl broken) connections were cut" [ "$(counter ctl broken)" -ge 12 ]
before=$(durable) pids=() code=0
for ((n = 1; n <= 12; n++)); do ("$bin/osae" status "$work/run.yaml" --set run.name=asked --set "trainer.ctl=$door" >"$work/answer.$n" 2>&1) & pids+=($!); done
for n in "${pids[@]}"; do wait "$n" || code=1; done
check "a dozen at one time are answered" [ "$(grep -l 'step  *[1-9]' "$work"/answer.* | wc -l)" = 12 ]
check "it went on all the time" bash -c "! [ -d $work/runs/asked/checkpoints/step-$(printf %012d $steps) ]"
stop $one $source
finish
