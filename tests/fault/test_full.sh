#!/usr/bin/env bash
# A disk that is full: the trainer goes on without checkpoints, then stands still, leaves nothing half written, and when
# there is room again goes on to the bits of the undisturbed run. A real full disk (a small tmpfs filled by somebody
# else) where mounting is allowed, and the errors of one (libfaultio) in any case.
# label: fault
# timeout: 600
# Invariants: D1 D3 D8 D9 L5
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/common.bash"
shim=$bin/libfaultio.so
if ! [ -f "$shim" ] || grep -q __asan_init "$bin/osae-trainer"; then
  echo "skip: no libfaultio.so, or a sanitizer in the programs (see the release build)"; exit 77
fi
steps=300
sed -i -e "s/steps: 120/steps: $steps/" -e 's/latents: 1024/latents: 2048/' -e 's/every_steps: 15,/every_steps: 20, max_unsaved_s: 1,/' "$work/run.yaml"
data=ipc://$XDG_RUNTIME_DIR/data
start() { # PROGRAM NAME [ARGUMENTS...]: in the background, its number in `pid`
  local program=$1 name=$2; shift 2
  "$bin/osae-$program" "$work/run.yaml" --set producer.data="$data" --set run.name="$name" "$@" >>"$work/$name.$program.log" 2>&1 &
  pid=$!
}
says() { # NAME WORDS SECONDS
  local until=$((SECONDS + $3))
  until grep -qF -- "$2" "$work/$1.trainer.log"; do [ $SECONDS -lt $until ] || { bad "$1: no '$2' within $3 s"; tail -5 "$work/$1.trainer.log"; return 1; }; sleep 0.02; done
}
# The story, for a run whose disk `fill` fills and `drain` frees.
tell() { # NAME FOLDER: where its run lies
  local name=$1 run=$2/$1 before
  until [ -d "$run/checkpoints/step-000000000040" ] || ! kill -0 $pid; do sleep 0.02; done
  fill
  says "$name" "checkpoint failed" 60
  check "$name: it goes on for a while, then stands still" says "$name" "training stands still" 60
  before=$(ls "$run/checkpoints" | grep -c '^step-[0-9]*$')
  check "$name: nothing half written is left" bash -c "! ls '$run/checkpoints' | grep -q tmp"
  check "$name: the older checkpoints are there" [ "$before" -ge 1 ]
  check "$name: it lives" kill -0 $pid
  # Waiting costs nothing: a tenth of a second of processor time in one and a half, at most.
  local a b; sleep 0.5; a=$(awk '{ print $14 + $15 }' /proc/$pid/stat); sleep 1.5; b=$(awk '{ print $14 + $15 }' /proc/$pid/stat)
  check "$name: standing still is no work ($((b - a)) ticks)" [ $((b - a)) -le 10 ]
  drain
  check "$name: when there is room again it goes on" says "$name" "training goes on" 60
  check "$name: to its end" wait $pid
  check "$name: osae fsck finds nothing" bash -c "'$bin/osae' fsck '$run' >'$work/fsck' 2>&1 || { cat '$work/fsck'; false; }"
}

start producer farm; producer=$pid
start trainer calm; check "an undisturbed run" wait $pid || { tail -3 "$work"/*.log; finish; exit; }

fill() { touch "$work/full"; }
drain() { rm "$work/full"; }
LD_PRELOAD=$shim FAULTIO_ROOT=$work/runs/errors FAULTIO_FULL=$work/full start trainer errors
tell errors "$work/runs"
check "errors: with the bits of the undisturbed run" [ "$(digest errors $steps)" = "$(digest calm $steps)" ]

mkdir "$work/small"
if mount -t tmpfs -o size=40m tmpfs "$work/small" 2>"$work/why"; then
  trap 'umount -l "$work/small" 2>/dev/null; cleanup' EXIT
  fill() { dd if=/dev/zero of="$work/small/filler" bs=64k 2>/dev/null; }
  drain() { rm "$work/small/filler"; }
  start trainer tmpfs --set storage.runs="$work/small" --set ckpt.keep_last=1
  tell tmpfs "$work/small"
  cp -r "$work/small/tmpfs" "$work/runs/tmpfs"
  check "tmpfs: with the bits of the undisturbed run" [ "$(digest tmpfs $steps)" = "$(digest calm $steps)" ]
else
  echo "skip a mounted full disk: $(cat "$work/why")"
fi
kill -TERM $producer; wait $producer
finish
