#!/usr/bin/env bash
# docs/invariants.md is what scripts/invariants.sh makes, and every invariant has a test.
# To renew the page: scripts/invariants.sh >docs/invariants.md
. "$(dirname -- "${BASH_SOURCE[0]}")/house.bash"

check() {
    bash "$root/scripts/invariants.sh" "$1" 2>&1 >"$scratch/page" || true
    cmp -s "$scratch/page" "$1/docs/invariants.md" ||
        printf 'docs/invariants.md:1: is stale: scripts/invariants.sh >docs/invariants.md\n'
}
clean_tree() {
    plant tests/invariants.tsv 'P1\tone\nS1\ttwo\tcomes later\n'
    plant tests/store/test_a.c '// A.\n//\n// Invariants: P1\nint main(void) {}\n'
    mkdir -p "$scratch/tree/docs"
    bash "$root/scripts/invariants.sh" "$scratch/tree" >"$scratch/tree/docs/invariants.md"
}
self_test() {
    catches 'P1 has no test' tests/store/test_a.c '// A.\n'
    catches 'names X9, which is no invariant' tests/store/test_b.sh '# Invariants: X9\n'
    catches 'is stale' tests/store/test_b.sh '# B.\n# Invariants: P1\n'
    catches 'is stale' docs/invariants.md 'other\n'
    allows tests/store/test_b.c '// Says nothing.\n'
}
house_main
