#!/usr/bin/env bash
# A minute of tests/soak.sh: memory and descriptors of a farm under fire stay what they were; half an hour at night.
# label: fault
# timeout: 600
# alone
# also: nightly 30
# Invariants: P1 P2 D3 L1 L2 R1 R2 R4
exec bash "$(dirname "${BASH_SOURCE[0]}")/../soak.sh" "${2:-1}" "" "$1"
