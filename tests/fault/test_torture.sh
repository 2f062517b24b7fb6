#!/usr/bin/env bash
# The farm under fire of tests/torture.sh, 300 kills.
# label: fault
# timeout: 1500
# alone
# also: nightly 1000
# Invariants: P1 P2 P6 D1 D3 D5 D7 D9 L1 L2 L4 E1 E2 R1
exec bash "$(dirname "${BASH_SOURCE[0]}")/../torture.sh" "${2:-300}" "" "$1"
