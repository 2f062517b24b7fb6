#!/usr/bin/env bash
# What bad input gets: one clear line, a documented exit code, nothing half-written.
# Invariants: D2 D7 S4 R2
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"

# refused NAME CODE WORDS ARGUMENTS...: osae run ends with CODE and says WORDS in one of its lines
refused() {
  local name=$1 code=$2 words=$3 got=0
  shift 3
  timeout 60 "$bin/osae" run "$@" >"$work/out" 2>&1 || got=$?
  if [ $got != "$code" ]; then
    bad "$name: exit code $got, wanted $code"; tail -3 "$work/out"
  elif ! grep -qF -- "$words" "$work/out"; then
    bad "$name: wanted '$words'"; tail -3 "$work/out"
  elif grep -qE 'Sanitizer|runtime error|LeakSanitizer' "$work/out"; then
    bad "$name: a sanitizer spoke"; cat "$work/out"
  else
    ok "$name"
  fi
}
with() { refused "$1" "$2" "$3" "$work/run.yaml" "${@:4}"; }

refused "no config" 64 "wanted one config file"
refused "a config that is not there" 66 "no such file" "$work/none.yaml"
printf 'loss: {lambda_z: 1}\n' >"$work/key.yaml"
refused "an unknown key" 78 "did you mean" "$work/key.yaml"
printf 'loss: {lambda_s: -1}\n' >"$work/range.yaml"
refused "a value out of range" 78 "range.yaml:1" "$work/range.yaml"
printf 'loss: [1, 2\n' >"$work/torn.yaml"
refused "torn YAML" 78 "torn.yaml" "$work/torn.yaml"
with "a model that is not there" 66 "no such file" --set model.path="$work/none"
head -c 5000 tests/golden/tiny-llama/tiny-llama-q4_1.gguf >"$work/cut.gguf"
with "a truncated GGUF" 65 "cut.gguf" --set model.path="$work/cut.gguf"
head -c 4096 /dev/urandom >"$work/noise.gguf"
with "noise for a GGUF" 65 "noise.gguf" --set model.path="$work/noise.gguf"
mkdir -p "$work/broken"; cp tests/golden/tiny-llama/* "$work/broken"
printf '{' >"$work/broken/config.json"
with "a config.json that is no JSON" 65 "config.json" --set model.path="$work/broken"
cp tests/golden/tiny-llama/config.json "$work/broken"; cp tests/golden/tiny-gemma2/tokenizer.json "$work/broken"
with "a tokenizer of another model" 65 "token" --set model.path="$work/broken"
with "a layer the model lacks" 78 "block 40 is hooked" --set model.layer=40
: >"$work/empty.txt"
with "an empty text" 65 "empty.txt: no document" --set "text.files=[$work/empty.txt]"
printf 'short\n' >"$work/short.txt"
with "a text that is too short" 78 "short" --set "text.files=[$work/short.txt]"
printf '{"text": "a"}\n{"text": \n' >"$work/bad.jsonl"
with "broken JSONL" 65 "bad.jsonl:2" --set "text.files=[$work/bad.jsonl]"
with "more steps than the text has" 78 "trainer.steps" --set trainer.steps=100000
with "an endpoint beyond this machine" 78 "producer.data" --set producer.data=tcp://0.0.0.0:1234
with "an SAE larger than the memory" 73 "MiB are available" --set sae.latents=16000000
: >"$work/file"
with "a runs folder that is a file" 73 "" --set storage.runs="$work/file/runs"
python3 - >"$work/port" <<'PY' & listener=$!
import socket, time
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(1); print(s.getsockname()[1], flush=True); time.sleep(120)
PY
until [ -s "$work/port" ]; do sleep 0.05; done
port=$(cat "$work/port")
with "a busy port" 73 "tcp://127.0.0.1:$port" --set trainer.ctl="tcp://127.0.0.1:$port"
kill $listener 2>/dev/null || true

with "a device that is not there" 78 "cuda:99" --set producer.device=cuda:99
got=0; timeout 60 "$bin/osae-trainer" "$work/run.yaml" --set run.name=alone --set ready.give_up_after_s=1 >"$work/out" 2>&1 || got=$?
check "a trainer that may not wait for ever for its producer leaves with 69" [ $got = 69 ]
check "and names where it was awaited" grep -q "no producer for 1 s .*ipc://" "$work/out"

osae_run twice --set data.io_threads=2 & run=$!
wait_step twice 15 60 || bad "twice made no progress"
got=0; timeout 30 "$bin/osae-trainer" "$work/run.yaml" --set run.name=twice >"$work/out" 2>&1 || got=$?
check "a second trainer of one run is refused with 75" [ $got = 75 ]
check "and says so in one line" grep -q "is in use by process" "$work/out"
check "while the first goes on" wait $run

newest=$work/runs/twice/checkpoints/step-000000000120
printf x | dd of="$newest/sae_weights.safetensors" bs=1 seek=5000 conv=notrunc 2>/dev/null
check "a damaged checkpoint does not stop the run" osae_run twice
check "it is put aside" bash -c "ls $work/runs/twice/checkpoints | grep -q 'bad-hash'"
finish
