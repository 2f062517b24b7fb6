#!/usr/bin/env bash
# Arrows point down: a room includes itself and lower floors, never up or sideways. tests/ and bench/ stand
# outside and may include every room; nobody includes them.
. "$(dirname -- "${BASH_SOURCE[0]}")/house.bash"

# floor of each room
declare -A floor=(
    [producer]=6 [trainer]=6 [evaluator]=6 [front]=6
    [config]=5
    [lib/lm]=4 [lib/interop]=4
    [lib/sae]=3 [lib/store]=3 [proto]=3
    [lib/kern]=2 [lib/host]=2
    [lib/base]=1
)
room_of() { # PATH
    case $1 in
    lib/*/*) local rest=${1#lib/} && printf 'lib/%s\n' "${rest%%/*}" ;;
    */*) printf '%s\n' "${1%%/*}" ;;
    esac
}

check() {
    local file line header room other
    while IFS=: read -r file line header; do
        room=$(room_of "$file")
        case $room in
        tests | bench | '') continue ;;
        esac
        case $header in
        '<'*)
            # lib/ knows nothing of messages or YAML.
            case $room:$header in
            lib/*:'<yaml.h>' | lib/*:'<zmq.h>' | lib/*:'<msgpack'*) printf '%s:%s: %s in lib/\n' "$file" "$line" "$header" ;;
            esac
            continue
            ;;
        esac
        header=${header#\"}
        other=$(room_of "$header")
        if [ ! -f "$1/$header" ]; then
            printf '%s:%s: "%s" is no path from the root\n' "$file" "$line" "$header"
        elif [ -z "${floor[$room]:-}" ]; then
            printf '%s:%s: the room %s stands on no floor (tests/house/rooms.sh)\n' "$file" "$line" "$room"
        elif [ "$other" = "$room" ]; then
            :
        elif [ -z "${floor[$other]:-}" ]; then
            printf '%s:%s: %s includes %s, which is no room\n' "$file" "$line" "$room" "$header"
        elif [ "${floor[$other]}" -ge "${floor[$room]}" ]; then
            printf '%s:%s: %s (floor %s) includes %s (floor %s): arrows point down\n' \
                "$file" "$line" "$room" "${floor[$room]}" "$other" "${floor[$other]}"
        else
            case $room:$other in
            lib/*:proto | lib/*:config) printf '%s:%s: %s includes %s: lib/ knows nothing of messages or YAML\n' "$file" "$line" "$room" "$other" ;;
            esac
        fi
    done < <(files_of "$1" | grep -E '\.(c|h|cu)$' | (cd "$1" && xargs -r grep -HnoE '^[[:space:]]*#[[:space:]]*include[[:space:]]*(<[^>]*>|"[^"]*)') |
        sed -E 's/:[[:space:]]*#[[:space:]]*include[[:space:]]*/:/')
}
clean_tree() {
    for f in producer/a.h trainer/a.h front/a.h config/a.h lib/lm/a.h lib/interop/a.h lib/sae/a.h lib/store/a.h proto/a.h lib/kern/a.h lib/host/a.h lib/base/a.h; do plant $f ''; done
    plant trainer/b.c '#include "trainer/a.h"\n#include "config/a.h"\n#include "lib/base/a.h"\n#include <zmq.h>\n'
    plant lib/sae/b.c '#include "lib/sae/a.h"\n#include "lib/kern/a.h"\n#include <math.h>\n'
    plant tests/sae/test_b.c '#include "lib/sae/a.h"\n#include "trainer/a.h"\n'
}
self_test() {
    catches 'lib/sae (floor 3) includes config (floor 5)' lib/sae/c.c '#include "config/a.h"\n'
    catches 'trainer (floor 6) includes producer (floor 6)' trainer/c.c '#include <stdio.h>\n#include "producer/a.h"\n'
    catches 'lib/lm (floor 4) includes lib/interop (floor 4)' lib/lm/c.h '  #  include "lib/interop/a.h"\n'
    catches 'lib/base (floor 1) includes lib/kern (floor 2)' lib/base/c.c '#include "lib/kern/a.h"\n'
    catches 'lib/lm includes proto' lib/lm/c.c '#include "proto/a.h"\n'
    catches '<msgpack.h> in lib/' lib/store/c.c '#include <msgpack.h>\n'
    catches 'is no path from the root' lib/sae/c.c '#include "a.h"\n'
    catches 'stands on no floor' cellar/c.c '#include "lib/base/a.h"\n'
    catches 'which is no room' front/c.c '#include "tests/sae/test_b.c"\n'
}
house_main
