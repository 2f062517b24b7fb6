# Shared by the end-to-end tests: a tiny model on the text of this repository, runs in a folder of
# their own, and a digest that says everything about a finished run: its weights and its chain.
set -uo pipefail
bin=$(cd "$1" && pwd)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
work=$(mktemp -d /tmp/osae-e2e-XXXXXX)
export XDG_RUNTIME_DIR=$work/sockets OMP_WAIT_POLICY=passive
unset $(env | sed -n 's/^\(OSAE_[A-Z]*__[A-Z_]*\)=.*/\1/p') 2>/dev/null || true
mkdir -m 700 "$XDG_RUNTIME_DIR"
passed=0 failed=0
cleanup() {
  # A child that a signal meets between its fork and its exec still has this trap: it must not clean up for us all.
  [ "$BASHPID" = $$ ] || return 0
  local pids
  pids=$(jobs -p)
  [ -z "$pids" ] || kill -9 $pids 2>/dev/null || true
  pkill -9 -f "$work/run.yaml" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

ok() { passed=$((passed + 1)); echo "ok   $*"; }
bad() { failed=$((failed + 1)); echo "FAIL $*"; }
check() { # NAME COMMAND...: passes when the command does; yields that
  local name=$1; shift
  if "$@"; then ok "$name"; else bad "$name"; return 1; fi
}
finish() { echo "$passed passed, $failed failed"; [ $failed = 0 ]; }

cat >"$work/run.yaml" <<YAML
storage: {cache: $work/cache, runs: $work/runs, reserve: 1MiB}
model: {path: tests/golden/tiny-llama, layer: 1, context: 32, batch_contexts: 4}
text: {files: [docs, README.md, lib, proto]}
stream: {rows: 256, shuffle_block: 4, seed: 7}
sae: {latents: 1024, normalize: mean_norm_sqrt_d, tie_init: true, b_dec_init: mean}
loss: {lambda_s: 0.5, lambda_o: 0.01, lambda_t: 0.001}
curriculum: {recon_end: 20, sparsity_end: 40, theta_steps: 20}
optimiser: {lr: 1e-3, warmup: 5}
trainer: {steps: 120}
ckpt: {every_steps: 15, every_s: 0, keep_last: 3}
metrics: {every_steps: 1}
eval: {text: [docs], core_batches: 1, core_variance_batches: 1, batch_contexts: 4, absorption: off}
replay: {rejoin_wait_s: 0}
YAML

osae_run() { # NAME [ARGUMENTS...]
  local name=$1; shift
  "$bin/osae" run "$work/run.yaml" --set run.name="$name" "$@" >>"$work/$name.log" 2>&1
}

digest() { # NAME STEP: of the weights and the state after that step, and the chain
  local folder
  folder=$work/runs/$1/checkpoints/step-$(printf %012d "$2")
  sha256sum <"$folder/sae_weights.safetensors" | cut -d' ' -f1
  jq -r '[.step, .next, .chain, .stream, .trajectory] | map(tostring) | join(" ")' "$folder/manifest.json"
}

kill_once() { # PROGRAM NAME: kill -9, as soon as that process of the run is there
  local until=$((SECONDS + 20))
  until pkill -9 -f "$1 $work/run.yaml.*$2"; do
    [ $SECONDS -lt $until ] || return 1
    sleep 0.02
  done
}

same_as() { [ "$(digest "$1" 120)" = "$(digest "$2" 120)" ]; }
step_of() { ls "$work/runs/$1/checkpoints" 2>/dev/null | sed -n 's/^step-0*\([0-9]*\)$/\1/p' | sort -n | tail -1; }
wait_step() { # NAME STEP SECONDS: until a checkpoint of that step or a later one is there
  local until=$((SECONDS + $3)) step
  while [ $SECONDS -lt $until ]; do
    step=$(step_of "$1"); [ "${step:-0}" -ge "$2" ] && return 0
    sleep 0.02
  done
  return 1
}
