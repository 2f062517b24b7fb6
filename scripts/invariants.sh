#!/usr/bin/env bash
# The page docs/invariants.md on stdout: each sentence of tests/invariants.tsv with the tests that name it in their head
# (`Invariants: P1 D3`). Complaints go to stderr, and make the exit code 1: an invariant without a test, a test that
# names none there is.
#     scripts/invariants.sh [ROOT] >docs/invariants.md
set -euo pipefail
export LC_ALL=C
cd -- "${1:-$(dirname -- "${BASH_SOURCE[0]}")/..}"
cat <<'PAGE'
# What holds, whatever happens

Made by `scripts/invariants.sh` from `tests/invariants.tsv` and the heads of the tests; `tests/house` fails when it is
stale, or when one of these has no test. P: exactly once; D: durability; L: liveness; C: commands; M: metrics;
E: evaluation; S: security; R: resources. How the suites are run: `tests/README.md`.

| | holds | shown by |
|---|---|---|
PAGE
find tests -mindepth 2 -maxdepth 2 \( -name 'test_*.c' -o -name 'test_*.sh' \) | sort | while IFS= read -r file; do
    name=${file#tests/} name=${name%.*}
    head -n 20 "$file" | sed -nE 's/^(\/\/|#) Invariants: //p' | tr -s ' ' '\n' | sed "s|\$|\t${name/test_/}|"
done | awk -F '\t' '
    FILENAME == "-" { tests[$1] = tests[$1] (tests[$1] ? ", " : "") "`" $2 "`"; next }
    {
        known[$1] = 1
        if (!tests[$1] && !$3) { print "tests/invariants.tsv: " $1 " has no test" >"/dev/stderr"; bad = 1 }
        print "| " $1 " | " $2 " | " tests[$1] (tests[$1] && $3 ? "; " : "") $3 " |"
    }
    END {
        for (id in tests)
            if (!known[id]) { print "tests: " tests[id] " names " id ", which is no invariant" >"/dev/stderr"; bad = 1 }
        exit bad
    }' - tests/invariants.tsv
