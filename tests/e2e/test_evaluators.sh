#!/usr/bin/env bash
# label: fault
# timeout: 300
# Evaluators that share no disk with their trainers, several of them on several, killed while they fetch and while they
# score; a trainer that is gone for good; checkpoints that cannot be scored.
# Invariants: E1 E2 L1
. "$(dirname "${BASH_SOURCE[0]}")/farm.bash"
port=$((20000 + RANDOM % 20000))
address() { echo "tcp://127.0.0.1:$((port + $1))"; }
jq . /dev/null 2>/dev/null || { echo "jq is missing"; exit 77; }

# A host of its own: nothing of it is on the disk of the trainers, everything comes over the wire.
evaluator() { # HOST [KEY=VALUE...]  (whoever is killed here is killed from outside: no fault of a checkpoint's)
  local host=$1; shift
  with_sets "$bin/osae-evaluator" "$work/run.yaml" -- run.name="host-$host" storage.runs="$work/$host/runs" \
    storage.cache="$work/$host/cache" eval.claim_ttl_s=2 eval.poll_s=2 eval.max_attempts=100 "$@" >>"$work/eval-$host.log" 2>&1
}
checkpoints() { ls "$work/runs/$1/checkpoints" | grep -c '^step-[0-9]*$'; }
results() { # RUN [STATE]: records of results in the trainer's journal
  jq -r --arg state "${2:-done}" 'select(.type == "result" and .state == $state) | .ck + " " + .spec' "$work/runs/$1/journal.jsonl"
}
all_done() { [ "$(results "$1" "${2:-done}" | sort -u | wc -l)" = "$(checkpoints "$1")" ]; }
await() { # SECONDS COMMAND...
  local until=$((SECONDS + $1)); shift
  until "$@"; do [ $SECONDS -lt $until ] || return 1; sleep 0.1; done
}
keep="ckpt.every_steps=5 ckpt.keep_last=100 trainer.when_done=stay"

(producer farm) & source=$!
(trainer one standard $keep trainer.ctl=$(address 0) trainer.pub=$(address 1) trainer.blob=$(address 2)) & one=$!
(trainer two topk $keep trainer.ctl=$(address 3) trainer.pub=$(address 4) trainer.blob=$(address 5)) & two=$!
both="evaluator.trainers=[$(address 0),$(address 3)] eval.fetch=always"

# It dies in the middle of its first fetch, and again and again.
(OSAE_FAULT=fetch.write:3:crash evaluator x $both) & x=$!
wait $x; code=$?
check "an evaluator dies while it fetches" [ $code -gt 128 ] || tail -3 "$work/eval-x.log"
check "and leaves a part of a checkpoint" bash -c "ls -d $work/x/cache/fetched/*/*.part >/dev/null"
check "but no result" bash -c "! ls $work/x/runs/*/eval/core/*.json 2>/dev/null"
(evaluator y $both) & y=$!
for round in 1 2 3 4; do
  (evaluator x $both) & x=$!
  sleep 0.8
  kill -9 $x; wait $x 2>/dev/null
done
(evaluator x $both) & x=$!
check "both runs train to their end" await 60 bash -c "[ -d $work/runs/one/checkpoints/step-$(printf %012d $steps) ] && [ -d $work/runs/two/checkpoints/step-$(printf %012d $steps) ]"
for run in one two; do
  check "every checkpoint of $run has a result" await 60 all_done $run || { results $run; tail -5 "$work"/eval-?.log; }
  check "and one only ($run)" [ "$(results $run | wc -l)" = "$(results $run | sort -u | wc -l)" ]
  check "none failed ($run)" [ -z "$(results $run failed)" ]
done
# The results are files at whoever made them; a checkpoint scored twice has the same numbers twice.
files() { ls "$work"/[xy]/runs/"$1"/eval/core/*_eval_results.json; }
for run in one two; do
  check "the files of $run are there" [ "$(files $run | xargs -n1 basename | sort -u | wc -l)" = "$(checkpoints $run)" ]
  check "the work was shared: few were done twice ($run)" [ "$(files $run | wc -l)" -le $(($(checkpoints $run) + 5)) ]
done
for file in "$work"/x/runs/*/eval/core/*.json; do
  other=${file/$work\/x/$work/y}
  [ ! -e "$other" ] || check "$(basename "$file"): the same numbers at both" \
    [ "$(jq -S .eval_result_metrics "$file")" = "$(jq -S .eval_result_metrics "$other")" ]
done
check "nothing is written into the runs of the trainers" bash -c "! ls -d $work/runs/{one,two}/eval 2>/dev/null"
check "what was fetched is gone when it is scored" await 10 bash -c "! ls $work/[xy]/cache/fetched/*/* 2>/dev/null | grep -q ."

# A trainer that comes back asks for nothing again, and an evaluator that comes back does nothing again.
stop $x $y
before=$(cat "$work/runs/one/journal.jsonl" | grep -c '"type":"result"')
kill -9 $one; wait $one 2>/dev/null
(trainer one standard $keep trainer.ctl=$(address 0) trainer.pub=$(address 1) trainer.blob=$(address 2)) & one=$!
(evaluator x $both) & x=$!
sleep 3
check "after a restart nothing is said twice" [ "$(grep -c '"type":"result"' "$work/runs/one/journal.jsonl")" = "$before" ]

# Another specification is scored beside the first, once, whoever does it; a hook that does not fit is a failure with its reason.
stop $x
(evaluator u evaluator.trainers="[$(address 0)]" eval.fetch=always) & u=$!
sleep 3
check "a newcomer does not make again what others made" bash -c "[ $(results one | wc -l) = $before ] && ! ls $work/u/runs 2>/dev/null"
stop $u
twice() { [ "$(results one | sort -u | wc -l)" = $((2 * $(checkpoints one))) ]; }
(evaluator z evaluator.trainers="[$(address 0)]" eval.fetch=always eval.core_batches=2) & z=$!
check "other settings are scored over the wire too" await 60 twice || tail -5 "$work/eval-z.log"
stop $z
(evaluator v evaluator.trainers="[$(address 0)]" eval.fetch=always eval.core_batches=2) & v=$!
sleep 3
check "and by nobody a second time" bash -c "[ $(results one | wc -l) = $(results one | sort -u | wc -l) ] && ! ls $work/v/runs 2>/dev/null"
stop $v $one $two
(trainer three standard $keep trainer.steps=10 trainer.ctl=$(address 6) trainer.pub=$(address 7) trainer.blob=$(address 8)) & three=$!
(evaluator z evaluator.trainers="[$(address 6)]" eval.fetch=always model.layer=0 eval.max_attempts=2) & z=$!
check "an SAE of another hook is recorded as failed" await 60 bash -c "[ \$(jq -r 'select(.type == \"result\" and .state == \"failed\") | .why' $work/runs/three/journal.jsonl | grep -c 'wanted block 0') = 2 ]"
check "with a file that says why" [ "$(jq -r .reason "$work"/z/runs/three/eval/core/three_step-*_failed.json | grep -c 'wanted block 0')" = 2 ]
check "and the evaluator goes on" kill -0 $z
stop $z $three

# A trainer that is gone for good: what it left is scored from its folder, and told when it is back.
(trainer four topk ckpt.every_steps=10 ckpt.keep_last=100 trainer.steps=40); check "a run without an evaluator" [ $? = 0 ]
(evaluator w storage.runs="$work/runs" run.name=four) & w=$!
count=$(checkpoints four) # a quick trainer passes over one that is due while another is being written
check "that leaves several checkpoints" [ "$count" -ge 2 ]
check "its checkpoints are scored without it" await 60 bash -c "[ \$(ls $work/runs/four/eval/core/*_eval_results.json 2>/dev/null | wc -l) = $count ]" || tail -5 "$work/eval-w.log"
(trainer four topk ckpt.every_steps=10 ckpt.keep_last=100 trainer.steps=40 trainer.when_done=stay) & four=$!
check "and told when it is back" await 40 all_done four || tail -5 "$work/eval-w.log"
check "none was scored again" [ "$(grep -c 'core: CE score' "$work/eval-w.log")" = "$count" ]

# Other settings than those it was scored with: what is missing of them is made, once, and the older results stay.
stop $w
before=$(results four | wc -l)
(evaluator w storage.runs="$work/runs" run.name=four eval.core_batches=2) & w=$!
check "a run that has ended is scored by new settings" await 60 bash -c "[ \$(ls $work/runs/four/eval/core/*_eval_results.json | wc -l) = $((2 * count)) ]" || tail -5 "$work/eval-w.log"
fresh() { [ "$(results four | wc -l)" = $((before + count)) ]; }
check "and the trainer is told" await 20 fresh
stop $w
(evaluator w storage.runs="$work/runs" run.name=four eval.core_batches=2) & w=$!
sleep 4
check "and nothing is done or told again" fresh
stop $w $four $source
finish
