#!/usr/bin/env bash
# label: fault
# timeout: 600
# A bit is turned over on the wire between trainers and their producer, in every byte of a greeting, an attachment and the
# head of a batch, and along payloads, in either direction. Nobody ends; what came damaged is
# counted, and comes again; every trainer ends with the bits it has undisturbed.
# Invariants: P1 P2 P3 P4 P6 L1 S4
. "$(dirname "${BASH_SOURCE[0]}")/chaos.bash"
(producer farm) & source=$!
check "undisturbed" persist calm orth || last calm
mkdir -m 700 "$XDG_RUNTIME_DIR/chaos"
here=ipc://$XDG_RUNTIME_DIR/chaos/data
proxy ipc -s "$seed" "$here" "$(data_of farm)"
# Past a greeting a payload may have begun: then the connection lives to bring the batch again. Who gets the same batch
# damaged three times in a row all the same is right to stand still, and goes on when told to.
sweep ipc flip "$here" down 1 1 200 20000
sweep ipc flip "$here" down 201 1 480 150000
sweep ipc flip "$here" up 1 1 620 400
sweep ipc flip "$here" down 481 7 620 150000
sweep ipc flip "$here" down 620 4093 80000 150000
damaged() { cat "$work/$1"-*.log | grep -c 'arrived damaged, asking again'; } # SWEEP
# Of twenty flips along payloads a few hit the heads between them; how many of the others do depends on who connects when.
along=$(damaged ipc-flip-down-620-4093)
check "what was damaged was noticed, and asked for again: $along of 20, and $(damaged ipc-flip-down-201-1), $(damaged ipc-flip-down-481-7)" \
  [ "$along" -ge 12 ]
paused=$(cat "$work"/ipc-flip*.log | grep -c 'data.paused')
check "few stood still for it: $paused" [ "$paused" -le 10 ]
stop $source
finish
