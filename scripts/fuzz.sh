#!/usr/bin/env bash
# Runs libFuzzer over every parser of foreign bytes (tests/fuzz), from the build of the preset `fuzz`.
# usage: scripts/fuzz.sh [SECONDS [NAME...]]   seconds for each target (60), names of targets (all)
# What it learns stays in build/fuzz/corpus/NAME and is where the next run goes on. A finding stays in
# build/fuzz/findings: copied into tests/fuzz/corpus/NAME it is replayed by every `make check`.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/common.bash"
part=fuzz
root=$(cd -- "$scripts/.." && pwd)
seconds=${1:-60}
shift $(($# < 1 ? $# : 1))
case $seconds in '' | *[!0-9]*) die 64 "SECONDS is '$seconds', wanted a number" ;; esac
cd -- "$root"
[ $# -gt 0 ] || set -- $(cd tests/fuzz && ls fuzz_*.c | sed 's/^fuzz_//; s/\.c$//')
export LSAN_OPTIONS=suppressions=$root/tests/leaks.txt:print_suppressions=0 OMP_NUM_THREADS=1
findings=build/fuzz/findings
mkdir -p "$findings"
bad=()
for name; do
    [ -x "build/fuzz/bin/fuzz_$name" ] || die 66 "build/fuzz/bin/fuzz_$name is not there (make fuzz builds it)"
    mkdir -p "build/fuzz/corpus/$name"
    log=$findings/$name.log
    if "build/fuzz/bin/fuzz_$name" -max_total_time="$seconds" -timeout=25 -rss_limit_mb=3000 -max_len=65536 \
        -artifact_prefix="$findings/$name-" "build/fuzz/corpus/$name" "tests/fuzz/corpus/$name" >"$log" 2>&1; then
        say "$name: $(grep -o 'Done .*' "$log" | tail -n 1)"
    else
        say "$name: $(grep -E 'SUMMARY|ERROR' "$log" | tail -n 1) ($log)"
        bad+=("$name")
    fi
done
[ ${#bad[@]} = 0 ] || die 65 "findings in: ${bad[*]}"
