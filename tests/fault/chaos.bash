# Processes with `chaosproxy` between them, and what it takes to look at them. For the tests of the network.
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/farm.bash"
cat >>"$work/run.yaml" <<'YAML'
net: {hb_ms: 100, lease_ms: 1500, backoff_cap_ms: 100}
YAML
sed -i 's/rows: 256/rows: 64/' "$work/run.yaml" # small batches: what is tested is the way they travel
kind[orth]="sae.latents=128"
# Its text is a copy: who edits a page meanwhile changes the stream.
mkdir "$work/text"
cp -r docs README.md lib proto "$work/text"
sed -i -e "s|files: \\[docs, README.md, lib, proto\\]|files: [$work/text]|" -e "s|text: \\[docs\\]|text: [$work/text/docs]|" "$work/run.yaml"
seed=${OSAE_SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
RANDOM=$seed
echo "seed $seed (OSAE_SEED=$seed repeats it)"
port=$((20000 + RANDOM % 20000))
# Where things stand when a test does not pass: `tail` of a log that may be long.
last() { tail -n "${2:-5}" "$work/$1.log"; }

declare -A proxy_pid
proxy() { # NAME [-s SEED] [-b BUFFER] LISTEN TARGET...: in the background; its log is NAME.proxy
  local name=$1 options=() until=$((SECONDS + 10)); shift
  while [ "${1#-}" != "$1" ]; do options+=("$1" "$2"); shift 2; done
  "$bin/chaosproxy" "${options[@]}" "$work/$name.fifo" "$@" >"$work/$name.proxy" 2>&1 &
  proxy_pid[$name]=$!
  until grep -q '^ready' "$work/$name.proxy" 2>/dev/null; do
    [ $SECONDS -lt $until ] || { bad "proxy $name does not start"; cat "$work/$name.proxy"; return 1; }
    sleep 0.02
  done
}
chaos() { # NAME COMMAND...
  local name=$1; shift
  kill -0 "${proxy_pid[$name]}" || { echo "FAIL the proxy $name is gone" >&2; return 1; } # its fifo would wait for ever
  echo "$*" >"$work/$name.fifo"
}
counters() { # NAME: the proxy's newest counters, asked for now
  local before until=$((SECONDS + 5))
  before=$(grep -c '^stats' "$work/$1.proxy")
  chaos "$1" stats
  until [ "$(grep -c '^stats' "$work/$1.proxy")" -gt "$before" ]; do [ $SECONDS -lt $until ] || return 1; sleep 0.02; done
  grep '^stats' "$work/$1.proxy" | tail -1
}
counter() { counters "$1" | grep -oE "[0-9]+ $2" | head -1 | cut -d" " -f1; } # NAME WORD: the first number before it
await() { # SECONDS COMMAND...
  local until=$((SECONDS + $1)); shift
  until "$@"; do [ $SECONDS -lt $until ] || return 1; sleep 0.05; done
}
# One value of what `osae status` says of a process of a run.
status_of() { # PROCESS RUN KEY
  "$bin/osae" status "$work/run.yaml" --set run.name="$2" 2>/dev/null |
    awk -v process="$1" -v key="$3" '/^[a-z]/ { here = $1 == process } here && $1 == key { print $2; exit }'
}
memory_of() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status"; }      # PID: KiB
descriptors_of() { ls "/proc/$1/fd" | wc -l; }                     # PID

# ---- sweeps: a trainer after the other in each of some lanes, until every byte of the sweep has been hit; all share it
lanes=14
lane() { # SWEEP NUMBER [KEY=VALUE...]
  local n=0 name me=$1 lane=$2; shift 2
  while [ ! -e "$work/over.$me" ]; do
    n=$((n + 1)); name=$me-$lane-$n
    persist "$name" orth "$@" || { echo "FAIL $name does not come to its end"; last "$name"; return 1; }
    same "$name" calm || { echo "FAIL $name has other bits"; return 1; }
    rm -rf "$work/runs/$name"
  done
  echo $n >"$work/lives.$me.$lane"
}
# Who got the same batch damaged three times in a row stands still, as it should, and goes on when told to.
declare -A resumed
tell_the_paused() { # SWEEP
  local log name times
  for log in "$work/$1"-*.log; do
    [ -e "$log" ] || continue
    name=$(basename "$log" .log) times=$(grep -c 'data.paused' "$log")
    [ "$times" -gt "${resumed[$name]:-0}" ] || continue
    resumed[$name]=$times
    "$bin/osae" resume "$work/run.yaml" --set run.name="$name" >>"$work/resumed" 2>&1
  done
}
# The trainers' connection to PROXY's endpoint is cut, or has a bit flipped, at FIRST, FIRST + STEP ... LAST.
sweep() { # PROXY cut|flip ENDPOINT up|down FIRST STEP LAST [REST]
  local proxy=$1 me=$1-$2-$4-$5-$6 way=$4 began=$SECONDS hits lives=0 i pids=() code=0 before
  before=$(counter "$1" "$4")
  hits=$((($7 - $5) / $6 + 1))
  chaos "$1" "$4 $2 $5 $6 $7 ${8:-}"
  for ((i = 1; i <= lanes; i++)); do lane "$me" $i "trainer.producers=[$3]" data.xf=inline & pids+=($!); done
  struck() { tell_the_paused "$me"; [ "$(counter "$proxy" "$way")" -ge $((before + hits)) ]; }
  await 150 struck || bad "$1, $2 $4: the sweep is not over: $(counters "$1")"
  touch "$work/over.$me"
  ended() { tell_the_paused "$me"; for i in "${pids[@]}"; do ! kill -0 "$i" 2>/dev/null || return 1; done; }
  if ! await 200 ended; then
    bad "$1, $2 $4 at byte $5: a run does not come to its end"
    grep -H 'data.paused' "$work/$me"*.log
    finish
    exit 1
  fi
  for i in "${pids[@]}"; do wait "$i" || code=1; done
  for ((i = 1; i <= lanes; i++)); do lives=$((lives + $(cat "$work/lives.$me.$i" 2>/dev/null || echo 0))); done
  check "$1, $2 $4 at byte $5, +$6 ... $7: $hits hits, $lives runs, $((SECONDS - began)) s" [ $code = 0 ]
  chaos "$1" pass
}
