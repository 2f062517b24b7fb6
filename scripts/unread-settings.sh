#!/usr/bin/env bash
# Lists settings that no program reads: a key that is accepted and then ignored misleads whoever sets it.
# usage: scripts/unread-settings.sh [OSAE [TREE [KEY...]]]   the built command (build/release/bin/osae),
#        the folder of the sources, and keys that may be unread; exit code 1 when any other is
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
osae=$(readlink -f -- "${1:-build/release/bin/osae}")
tree=${2:-.}
shift $(($# < 2 ? $# : 2))
keys=$("$osae" config | cut -d ' ' -f 1)
cd -- "$tree"
sources=$(find producer trainer evaluator front proto lib config/packing.c -name '*.[ch]' -exec cat {} +)
own=$(cat lib/sae/*.c)
count=0
for key in $keys; do
    case " $* " in *" $key "*) continue ;; esac
    # As a member (set->net.hb_ms) or by its name ("eval.text"), outside the room of the settings (but for its packing.c).
    grep -qE "(\.|->)${key//./\\.}\b|\"${key//./\\.}\"" <<<"$sources" && continue
    # The sections lib/sae owns are read as members of its own structs.
    case $key in
    sae.* | loss.* | curriculum.* | competition.* | temporal.* | optimiser.*)
        grep -qE "(\.|->)${key#*.}\b" <<<"$own" && continue
        ;;
    trainer.dead_after) continue ;;      # by settings_recipe
    security.plain_loopback) continue ;; # by rules_check
    pace.lag | pace.mode) grep -qw settings_lag <<<"$sources" && continue ;;
    esac
    printf '%s\n' "$key"
    count=$((count + 1))
done
printf '%s settings are read by nothing\n' "$count" >&2
[ "$count" = 0 ]
