#!/usr/bin/env bash
# A setting that is accepted is read by some program; docs/config.md is what the table prints.
. "$(dirname -- "${BASH_SOURCE[0]}")/house.bash"
bin=${1:?the folder of the programs}

got=$("$root/scripts/unread-settings.sh" "$bin/osae" "$root") || fail "read by nothing: $(printf '%s' "$got" | tr '\n' ' ')"

# It sees a key that nothing reads any more: the sources without the file that reads it.
(cd "$root" && cp -r --parents producer trainer evaluator front proto lib config/packing.c "$scratch")
grep -l 'fsync_ms' -r "$scratch" | xargs rm
got=$("$root/scripts/unread-settings.sh" "$bin/osae" "$scratch" || true)
expect "self-test: metrics.fsync_ms without its reader" "$got" '*metrics.fsync_ms*'

"$bin/osae" config --markdown | cmp -s - "$root/docs/config.md" || fail "docs/config.md: is not what the table prints: osae config --markdown > docs/config.md"
echo "settings: all are read"
