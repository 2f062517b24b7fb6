#!/usr/bin/env bash
# A farm for a while: one producer, four trainers (two kinds, shared memory and frames) and an evaluator, killed (SIGKILL),
# stopped (SIGSTOP, SIGCONT) and asked to leave (SIGTERM) at random, and started again; anonymous memory and descriptors of
# every process written down every second. In the first half the trainers are killed around a producer and an evaluator that
# live on; in the second those two are killed around trainers that live on. It fails when
#   - a process that lived on grows: after the first third of that half, in which heaps reach their size, from the first to
#     the last third of what remains its anonymous memory by more than 1 MiB in 10 minutes (0.5 MiB in all where that is less:
#     a heap grows by steps of 0.1 to 0.3; 1 MiB in all when less than 150 s remain), or its descriptors by more than 2.
#     Evaluations, files and peers come and go, what is lost is there at every moment: it raises the least of a third. Peers may
#     by chance never be all away, so of descriptors the most has to rise, too;
#   - any process ever holds more than the memory it stated at its start, and what every process has besides;
#   - a process ends by itself, or the trainers of a kind do not have the same bits, or `osae fsck` has something to say.
#
#     tests/soak.sh [MINUTES [SEED [BIN [KEEP]]]]   10 minutes, build/release/bin; KEEP: a file for the samples
minutes=${1:-10}
seed=${2:-}
[ -n "$seed" ] || seed=$(od -An -N8 -tu8 /dev/urandom | tr -d ' ')
. "$(dirname "${BASH_SOURCE[0]}")/e2e/farm.bash" "${3:-$(dirname "${BASH_SOURCE[0]}")/../build/release/bin}"
. tests/e2e/fire.bash
keep=${4:-$work/samples.tsv}
echo "soak: $minutes minutes, seed $seed"
: >"$keep"

# Heaps of the libraries, stacks of threads, sockets and queues: what a process has besides what it states, MiB.
besides=40
trainers=(orth orth-too topk topk-too)
others=(producer evaluator)
everybody=("${others[@]}" "${trainers[@]}")
declare -A pid=() born=() again=() frozen=()
cat >>"$work/run.yaml" <<YAML
pace: {lag: 8, dead_after_s: 5}
net: {hb_ms: 200, lease_ms: 2000, backoff_cap_ms: 300}
stop: {deadline_s: 20}
YAML
mkdir "$work/text" # its text is a copy: who edits a page meanwhile changes the stream
cp -r docs README.md lib proto "$work/text"
sed -i -e "s|files: \\[docs, README.md, lib, proto\\]|files: [$work/text]|" -e "s|text: \\[docs\\]|text: [$work/text/docs]|" \
  -e 's/stream: {rows: 256/stream: {epochs: 8000, rows: 512/' -e 's/core_batches: 1,/core_batches: 1, poll_s: 1,/' \
  -e 's/every_s: 0, keep_last: 3/every_s: 0, keep_last: 5/' "$work/run.yaml"

ctl_of() { echo "ipc://$XDG_RUNTIME_DIR/osae/$1.trainer.ctl"; }
launch() { # NAME
  local forever=(trainer.steps=1000000 ckpt.every_steps=25)
  case $1 in
  producer) (producer farm) & ;;
  evaluator) (with_sets "$bin/osae-evaluator" "$work/run.yaml" -- run.name=farm \
    "evaluator.trainers=[$(ctl_of orth), $(ctl_of orth-too), $(ctl_of topk), $(ctl_of topk-too)]" >>"$work/evaluator.log" 2>&1) & ;;
  *-too) (trainer "$1" "${1%-too}" "${forever[@]}" data.xf=inline sae.latents=1024) & ;;
  *) (trainer "$1" "$1" "${forever[@]}" data.xf=shm sae.latents=1024) & ;;
  esac
  pid[$1]=$! born[$1]=$now
}
log_of() { case $1 in producer) echo "$work/farm.log" ;; *) echo "$work/$1.log" ;; esac; }

# Samples: half, name, pid, seconds, KiB anonymous, KiB of those and shared ones, descriptors.
sample() { # HALF
  local name p
  for name in "${everybody[@]}"; do
    p=${pid[$name]}
    [ "${again[$name]}" = 0 ] && [ -r "/proc/$p/status" ] || continue
    awk -v OFS='\t' -v half="$1" -v name="$name" -v pid="$p" -v t="$((now / 1000))" -v fds="$(ls "/proc/$p/fd" 2>/dev/null | wc -l)" '
      /^RssAnon/ { anon = $2 } /^RssAnon|^RssShmem/ { own += $2 }
      END { if (anon) print half, name, pid, t, anon, own, fds }' "/proc/$p/status" 2>/dev/null >>"$keep"
  done
}

live() { # HALF NAME...: half the time; these are killed, the others only stopped for a moment
  local half=$1 until=$((SECONDS + minutes * 30)) sampled=0 next=0 name
  shift
  for name in "${everybody[@]}"; do spared[$name]=yes; done
  for name; do unset "spared[$name]"; done
  where="half $half"
  while [ $SECONDS -lt $until ]; do
    sleep 0.1; now_ms
    look_after || return
    [ $now -lt $((sampled + 1000)) ] || { sample "$half"; sampled=$now; }
    [ $now -ge $next ] || continue
    draw $gap; next=$((now + gap / 2 + drawn))
    hit "${everybody[@]}"
  done
}

common() { # the newest step of which all have a checkpoint
  local name
  for name in "${trainers[@]}"; do ls "$work/runs/$name/checkpoints" | sed -n 's/^step-0*\([0-9][0-9]*\)$/\1/p'; done |
    sort -n | uniq -c | awk -v all=${#trainers[@]} '$1 == all { step = $2 } END { print step + 0 }'
}
stated() { # NAME: the MiB its last start said it would hold
  awk 'match($0, /memory:?[a-z ]* [0-9.]+ [GM]iB = /) {
         n = split(substr($0, RSTART, RLENGTH), word, " "); key = word[2] ~ /[0-9]/ ? "all" : word[2]
         held[key] = word[n - 2] * (word[n - 1] == "GiB" ? 1024 : 1)
       } END { for (key in held) sum += held[key]; print sum + 0 }' "$(log_of "$1")"
}

gap=$((minutes > 2 ? 4000 : 1500)) # ms between two faults, at most one and a half of it, at least half
began=$SECONDS
now_ms
for name in "${everybody[@]}"; do again[$name]=0 frozen[$name]=0; launch "$name"; done
for name in "${trainers[@]}"; do wait_step "$name" 25 60 || bad "$name made no progress: $(tail -1 "$(log_of "$name")")"; done
[ $failed = 0 ] && live first "${trainers[@]}"
[ $failed = 0 ] && live second "${others[@]}"
[ $failed = 0 ] || { echo "soak: failed after $killed kills, seed $seed"; finish; exit 1; }

# Quiet again: everybody is up, and the four come to a step that all of them keep.
now_ms; reached=$(for name in "${trainers[@]}"; do step_of "$name"; done | sort -n | tail -1)
limit=$((SECONDS + 120)) where="the end"
while [ $SECONDS -lt $limit ] && [ $failed = 0 ]; do
  sleep 0.1; now_ms
  look_after || break
  [ "$(common)" -lt "$reached" ] || break
done
step=$(common)
check "all four trainers keep a checkpoint of a step they all reached after the last fault" [ "$step" -ge "$reached" ]
for name in "${trainers[@]}" evaluator producer; do
  kill -CONT "${pid[$name]}" 2>/dev/null; kill -TERM "${pid[$name]}" 2>/dev/null
done
for name in "${everybody[@]}"; do
  code=0; wait "${pid[$name]}" || code=$?
  check "$name leaves when it is asked to" [ $code = 0 -o $code = 75 ] || tail -5 "$(log_of "$name")"
done
step=$(common) # they went on for a moment
for kind in orth topk; do
  check "the two $kind have the same bits after $step steps" [ -n "$(digest $kind "$step")" -a "$(digest $kind "$step")" = "$(digest $kind-too "$step")" ]
done
check "the kinds differ" [ "$(digest orth "$step")" != "$(digest topk "$step")" ]
for name in "${trainers[@]}"; do "$bin/osae" fsck "$work/runs/$name" >"$work/fsck" 2>&1 && ok "osae fsck of $name" || { bad "osae fsck of $name"; cat "$work/fsck"; }; done
check "the evaluator scored the newest of each" [ "$(ls -d "$work"/runs/*/eval/core 2>/dev/null | wc -l)" = 4 ]

# Who lived through a half: its growth. A line for each, with the thirds of what is judged; words when it is too much.
judge() { # HALF NAME
  awk -v half="$1" -v name="$2" '
    $1 == half && $2 == name { if (pid != $3) { n = 0; pid = $3 } t[n] = $4; anon[n] = $5 / 1024; fds[n++] = $7 }
    function thirds(value,   k, i) { # sets least[0 .. 2] and most[0 .. 2]
      delete least; delete most
      for (i = first; i < n; i++) {
        k = int((i - first) * 3 / (n - first))
        if (!(k in least) || value[i] < least[k]) least[k] = value[i]
        if (!(k in most) || value[i] > most[k]) most[k] = value[i]
      }
    }
    END {
      if (n < 9) { print "too few samples"; exit 1 }
      first = int(n / 3); span = t[n - 1] - t[first]
      limit = span < 150 ? 1 : span * 2 / 3 / 600 # the thirds are two thirds of it apart
      limit = limit < 0.5 ? 0.5 : limit
      thirds(anon); grown = least[2] - least[0]
      printf "%s, %d s: by thirds %.2f to %.2f, %.2f to %.2f, %.2f to %.2f MiB, %+.2f of %.2f allowed;", name, span,
        least[0], most[0], least[1], most[1], least[2], most[2], grown, limit
      thirds(fds); low = least[2] - least[0]; high = most[2] - most[0]; more = low < high ? low : high
      printf " %d to %d, %d to %d, %d to %d descriptors, %+d\n", least[0], most[0], least[1], most[1], least[2], most[2], more
      exit !(grown <= limit && more <= 2)
    }' "$keep"
}
for name in "${others[@]}"; do line=$(judge first "$name") && ok "$line" || bad "grows: $line"; done
for name in "${trainers[@]}"; do line=$(judge second "$name") && ok "$line" || bad "grows: $line"; done
for name in "${everybody[@]}"; do
  most=$(awk -v name="$name" '$2 == name && $6 > most { most = $6 } END { printf "%.1f", most / 1024 }' "$keep") said=$(stated "$name")
  check "$name held at most $most MiB of its own; it stated $said" awk -v most="$most" -v said="$said" -v besides=$besides \
    'BEGIN { exit !(said > 0 && most > 0 && most <= said + besides) }'
done
echo "soak: $killed kills, $stops stops, $terms polite ends, $step steps, $((SECONDS - began)) s, seed $seed"
finish
