# Producers and trainers started one by one, for the tests of farms and of shared streams.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"
steps=240 # enough that nobody ends before it was killed, on a quick machine
# What makes each kind another: the paper's loss, no competition, TopK, JumpReLU.
declare -A kind=(
  [orth]="sae.latents=512"
  [standard]="loss.lambda_o=0 loss.lambda_t=0 loss.lambda_s=1"
  [topk]="sae.arch=topk sae.topk=16 loss.lambda_o=0 loss.lambda_t=0"
  [jump]="sae.arch=jumprelu loss.lambda_o=0 loss.lambda_t=0 sae.seed=3"
)
data_of() { echo "ipc://$XDG_RUNTIME_DIR/osae/$1.producer.data"; } # RUN: where that producer serves
producers="[$(data_of farm)]"

with_sets() { # COMMAND... -- KEY=VALUE...: becomes the command, each of these as its --set
  local args=()
  while [ "$1" != -- ]; do args+=("$1"); shift; done
  shift
  for set in "$@"; do args+=(--set "$set"); done
  exec "${args[@]}"
}
# Both replace the shell they run in: (producer farm) & source=$!
producer() { # NAME [KEY=VALUE...]
  local name=$1; shift
  with_sets "$bin/osae-producer" "$work/run.yaml" -- run.name="$name" "$@" >>"$work/$name.log" 2>&1
}
trainer() { # NAME KIND [KEY=VALUE...]: until it has finished or is stopped
  local name=$1 what=$2; shift 2
  with_sets "$bin/osae-trainer" "$work/run.yaml" -- run.name="$name" trainer.steps=$steps ckpt.every_steps=10 \
    "trainer.producers=$producers" ${kind[$what]} "$@" >>"$work/$name.log" 2>&1
}
same() { [ "$(digest "$1" $steps)" = "$(digest "$2" $steps)" ]; }
is_done() { [ -d "$work/runs/$1/checkpoints/step-$(printf %012d $steps)" ]; }
# A trainer that left (SIGTERM) or was killed is started again until its run is complete.
persist() { # NAME KIND [KEY=VALUE...]
  local tries=0
  until is_done "$1"; do
    tries=$((tries + 1)); [ $tries -le 20 ] || return 1
    (trainer "$@") || true
  done
}
stop() { kill -TERM "$@"; wait "$@"; }
