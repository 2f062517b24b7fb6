#!/usr/bin/env bash
# Every folder of the top level and of lib/ has a README.md.
. "$(dirname -- "${BASH_SOURCE[0]}")/house.bash"

check() {
    local folder
    files_of "$1" | awk -F / 'NF > 1 && $1 !~ /^\./ { print $1 } $1 == "lib" && NF > 2 { print $1 "/" $2 }' | sort -u |
        while IFS= read -r folder; do
            [ "$folder" != lib ] || continue # its rooms speak for themselves
            [ -f "$1/$folder/README.md" ] || printf '%s: no README.md\n' "$folder"
        done
}
clean_tree() {
    plant README.md 'osae\n'
    plant lib/base/README.md '| `a` | does a |\n| `b.sh` | runs |\n'
    plant lib/base/a.c ''
    plant lib/base/a.h ''
    plant lib/base/b.sh ''
    plant trainer/README.md 'x\n'
    plant trainer/main.c ''
    plant .ci/run ''
}
self_test() {
    catches 'deploy: no README.md' deploy/x.service ''
    catches 'lib/kern: no README.md' lib/kern/x.c ''
}
house_main
