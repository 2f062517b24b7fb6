#!/usr/bin/env bash
# label: fault
# timeout: 600
# The connection between trainers and their producer is cut after every byte of a greeting, an attachment and the head
# of a batch, in either direction, and along payloads; over ipc and tcp. Every trainer ends with the bits it has undisturbed.
# More than a thousand connections later the producer holds the memory and the descriptors it held before.
# Invariants: P1 P2 P3 P4 L1 R4
. "$(dirname "${BASH_SOURCE[0]}")/chaos.bash"
(producer farm) & source=$! 
check "undisturbed" persist calm orth || last calm

mkdir -m 700 "$XDG_RUNTIME_DIR/chaos"
here=ipc://$XDG_RUNTIME_DIR/chaos/data
proxy ipc "$here" "$(data_of farm)"
sweep ipc cut "$here" down 1 1 640
files=$(descriptors_of $source) memory=$(memory_of $source)
sweep ipc cut "$here" up 1 1 640
sweep ipc cut "$here" down 640 4093 80000
cuts=$(counter ipc broken)
same_files() { [ "$(descriptors_of $source)" = "$files" ]; }
check "$cuts cuts later the producer holds the same $files descriptors" await 5 same_files
check "and the same memory, $memory KiB (now $(memory_of $source))" [ "$(memory_of $source)" -le $((memory + 2048)) ]
proxy tcp "tcp://127.0.0.1:$port" "$(data_of farm)"
sweep tcp cut "tcp://127.0.0.1:$port" down 1 37 640
stop $source
finish
