#!/usr/bin/env bash
# A farm under fire: one producer, three trainers of different kinds on its stream, two evaluators that follow all
# three; killed (SIGKILL), stopped (SIGSTOP, SIGCONT) and asked to leave (SIGTERM) at random, and started again. Each round
# runs to its end; then every trainer must have the weights, the state and the chain of the undisturbed run, every checkpoint
# that is kept a result, and `osae fsck` nothing to say. Rounds go over ipc and over tcp, turn and turn about.
#
#     tests/torture.sh [KILLS [SEED [BIN]]]       300 kills, a seed of its own choice, build/release/bin
#
# One 64-bit number decides who is hit, how and when; it is printed first, and given again it hits the same again (as far as
# processes on a clock ever do the same).
kills=${1:-300}
seed=${2:-$(od -An -N8 -tu8 /dev/urandom | tr -d ' ')}
. "$(dirname "${BASH_SOURCE[0]}")/e2e/common.bash" "${3:-$(dirname "${BASH_SOURCE[0]}")/../build/release/bin}"
echo "torture: $kills kills, seed $seed"

steps=300
kinds=(relu topk jumprelu)
everybody=(producer relu topk jumprelu first second)
cat >>"$work/run.yaml" <<YAML
pace: {lag: 8, dead_after_s: 5}
net: {hb_ms: 200, lease_ms: 2000, backoff_cap_ms: 300}
stop: {deadline_s: 20}
YAML
sed -i -e "s/steps: 120/steps: $steps, when_done: stay/" -e 's/latents: 1024/latents: 256, topk: 16/' \
  -e 's/every_steps: 15/every_steps: 10/' -e 's/core_batches: 1,/core_batches: 1, poll_s: 1, max_attempts: 100,/' "$work/run.yaml"

# Its text is a copy: who edits a page meanwhile changes the stream.
mkdir "$work/text"
cp -r docs README.md lib proto "$work/text"
sed -i -e "s|files: \\[docs, README.md, lib, proto\\]|files: [$work/text]|" -e "s|text: \\[docs\\]|text: [$work/text/docs]|" "$work/run.yaml"

. tests/e2e/fire.bash

# Where the processes of a round meet.
meet() { # ROUND ipc|tcp
  local name n=0
  for name in "${everybody[@]}"; do
    if [ "$2" = tcp ]; then
      for link in data ctl pub; do at[$name.$link]=tcp://127.0.0.1:$((port + n)); n=$((n + 1)); done
    else
      for link in data ctl pub; do at[$name.$link]=ipc://$XDG_RUNTIME_DIR/$1.$name.$link; done
    fi
  done
}

launch() { # NAME: as a process of this round
  local name=$1 program=osae-trainer arguments=()
  case $name in
  producer) program=osae-producer arguments=(--set producer.data="${at[producer.data]}" --set producer.ctl="${at[producer.ctl]}"
    --set producer.pub="${at[producer.pub]}" --set run.name=farm) ;;
  first | second) program=osae-evaluator arguments=(--set run.name="$name" --set evaluator.ctl="${at[$name.ctl]}" --set evaluator.pub="${at[$name.pub]}"
    --set evaluator.trainers="[${at[relu.ctl]}, ${at[topk.ctl]}, ${at[jumprelu.ctl]}]") ;;
  *) arguments=(--set run.name="$name" --set sae.arch="$name" --set trainer.producers="${at[producer.data]}"
    --set trainer.ctl="${at[$name.ctl]}" --set trainer.pub="${at[$name.pub]}") ;;
  esac
  "$bin/$program" "$work/run.yaml" --set storage.runs="$work/runs/$round" "${arguments[@]}" >>"$work/$round.$name.log" 2>&1 &
  pid[$name]=$! born[$name]=$now
  lives=$((lives + 1))
}

is_known() { # KIND step-N: the trainer has the result, and wrote that down
  grep -q "\"type\":\"result\".*\"ck\":\"$1/$((10#${2#step-}))-" "$work/runs/$round/$1/journal.jsonl"
}

# Has the round come to its end: all trained, and every checkpoint that is kept with its result?
last=$(printf %012d $steps)
is_over() {
  local kind step
  for kind in "${kinds[@]}"; do [ -d "$work/runs/$round/$kind/checkpoints/step-$last" ] || return 1; done
  for kind in "${kinds[@]}"; do
    for step in $(ls "$work/runs/$round/$kind/checkpoints"); do
      compgen -G "$work/runs/$round/$kind/eval/core/${kind}_${step}*_eval_results.json" >/dev/null || return 1
      is_known "$kind" "$step" || return 1
    done
  done
}

log_of() { echo "$work/$round.$1.log"; }

live() { # ROUND ipc|tcp KILLS: a whole round, at most so many kills; yields 0 when it came to its end
  declare -gA pid=() again=() frozen=() at=() born=()
  round=$1
  local name most=$((killed + $3)) limit=$((SECONDS + 300)) next=0
  meet "$1" "$2"
  mkdir -p "$work/runs/$round"
  now_ms
  for name in "${everybody[@]}"; do again[$name]=0 frozen[$name]=0; launch "$name"; done
  while ! is_over; do
    sleep 0.02; now_ms
    [ $SECONDS -lt $limit ] || { bad "round $round: no end after 300 s"; for name in "${everybody[@]}"; do echo "-- $name:"; tail -4 "$work/$round.$name.log"; done; break; }
    where="round $round"
    look_after || break
    [ $killed -lt $most ] || continue
    [ $now -ge $next ] || continue
    draw 500; next=$((now + 20 + drawn))
    hit "${everybody[@]}"
  done
  peak=0 # of the producer, KiB
  [ "${again[producer]}" != 0 ] || peak=$(awk '/^VmHWM/ { print $2 }' "/proc/${pid[producer]}/status" 2>/dev/null)
  # Everybody leaves when asked, however things stand.
  for name in "${everybody[@]}"; do
    [ "${again[$name]}" = 0 ] || continue
    kill -CONT "${pid[$name]}" 2>/dev/null; kill -TERM "${pid[$name]}" 2>/dev/null
  done
  for name in "${everybody[@]}"; do
    [ "${again[$name]}" = 0 ] || continue
    local code=0
    wait "${pid[$name]}" || code=$?
    [ $code = 0 ] || [ $code = 75 ] || { [ $code = 143 ] && [ $((now - born[$name])) -lt 2000 ]; } || { bad "round $round: at the end the $name left with exit code $code"; tail -5 "$work/$round.$name.log"; }
  done
}

declare -A calm
lives=0 port=$((20000 + RANDOM % 20000))
farm_digest() { digest "$1" $steps; }

live calm ipc 0
echo "undisturbed: $steps steps of three trainers in $SECONDS s"
for kind in "${kinds[@]}"; do calm[$kind]=$(farm_digest calm/$kind); [ -n "${calm[$kind]}" ] || bad "no digest of the undisturbed $kind"; done
[ "${calm[relu]}" != "${calm[topk]}" ] || bad "two kinds have the same weights"
began=$SECONDS lives=0 calm_peak=${peak:-0}
for ((n = 1; killed < kills && failed == 0; n++)); do
  [ $((n % 2)) = 1 ] && transport=ipc || transport=tcp
  before=$killed
  live "round-$n" $transport $((kills - killed))
  for kind in "${kinds[@]}"; do
    folder=$work/runs/round-$n/$kind
    [ "$(farm_digest "round-$n/$kind")" = "${calm[$kind]}" ] || bad "round $n ($transport): the $kind ends with other bits"
    "$bin/osae" fsck "$folder" >"$work/fsck" 2>&1 || { bad "round $n: osae fsck of $kind"; cat "$work/fsck"; }
    for step in $(ls "$folder/checkpoints"); do
      compgen -G "$folder/eval/core/${kind}_${step}*_eval_results.json" >/dev/null || bad "round $n: $kind has no result of $step"
    done
  done
  # However often its trainers come and go, a producer holds what its settings say.
  [ "${peak:-0}" -le $((calm_peak + 65536)) ] || bad "round $n: the producer held $peak KiB, undisturbed $calm_peak"
  [ "${peak:-0}" = 0 ] && held="gone at the end" || held="$peak KiB at most"
  echo "round $n ($transport): $((killed - before)) kills, producer $held"
  [ $failed = 0 ] && rm -rf "$work/runs/round-$n"
done
figures="$killed kills, $stops stops, $terms polite ends, $lives lives in $n rounds, $((SECONDS - began)) s"
[ $failed = 0 ] && ok "the bits of the undisturbed run after $figures" || echo "torture: failed after $figures, seed $seed"
finish
