#!/usr/bin/env bash
# Lists settings that no program reads: a key that is accepted and then ignored misleads whoever sets it.
# usage: scripts/unread-settings.sh [OSAE]   (the built command, default build/release/bin/osae)
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
osae=${1:-build/release/bin/osae}
count=0
for key in $("$osae" config | cut -d ' ' -f 1); do
    # As a member (set->net.hb_ms) or by its name ("eval.text"), outside the room of the settings.
    if ! grep -rqE --include='*.c' --include='*.h' "(\.|->)${key//./\\.}\b|\"${key//./\\.}\"" \
        producer trainer evaluator front proto lib; then
        # The sections lib/sae owns are read as members of its own structs.
        case $key in
        sae.* | loss.* | curriculum.* | competition.* | temporal.* | optimiser.*)
            grep -rqE --include='*.c' "(\.|->)${key#*.}\b" lib/sae && continue
            ;;
        trainer.dead_after) continue ;;      # by settings_recipe
        security.plain_loopback) continue ;; # by rules_check
        pace.lag | pace.mode) grep -rqw --include='*.c' settings_lag producer trainer && continue ;;
        esac
        printf '%s\n' "$key"
        count=$((count + 1))
    fi
done
printf '%s\n' "$count settings are read by nothing" >&2
[ "$count" = 0 ]
