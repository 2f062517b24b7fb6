#!/usr/bin/env bash
# The transport keeps its promises: four trainers get at least 0.8 of what a plain AF_UNIX socket doing the same gives them,
# and through shared memory four times what ipc gives; by processor time or by the clock, in one of three tries (what
# else the machine does is in all of them).
# label: nightly
# timeout: 1200
# alone
set -uo pipefail
bench=$1/bench_transport
[ -x "$bench" ] || { echo "skipped: $bench is not built"; exit 77; }
case $("$bench" 99 2>&1) in *usage*) ;; *) echo "bench_transport takes what it should refuse"; exit 1 ;; esac
for try in 1 2 3; do
  figures=$("$bench" 3 256 4) || exit 1
  echo "$figures"
  # Rows of four consumers: by the clock, by the processor; of either size. ipc / raw and shared / ipc stand last.
  awk 'function most(a, b) { return a > b + 0 ? a : b + 0 }
       /^ 4 consumers/ { size = int(row * 0.5); row++; raw[size] = most(raw[size], $(NF - 1)); shared[size] = most(shared[size], $NF) }
       END { exit !(row == 4 && raw[0] >= 0.8 && raw[1] >= 0.8 && shared[0] >= 4 && shared[1] >= 4) }' <<<"$figures"
  good=$?
  [ $good = 0 ] && { echo "ok   in try $try"; exit 0; }
done
echo "FAIL in three tries"
exit 1
