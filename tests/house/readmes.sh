#!/usr/bin/env bash
# Every folder of the top level and of lib/ has a README.md, and it names each source of the folder: a page that
# has fallen behind misleads. (name.c and name.h are one name; main.c needs none.)
. "$(dirname -- "${BASH_SOURCE[0]}")/house.bash"

check() {
    local folder file name
    files_of "$1" | awk -F / 'NF > 1 && $1 !~ /^\./ { print $1 } $1 == "lib" && NF > 2 { print $1 "/" $2 }' | sort -u |
        while IFS= read -r folder; do
            [ "$folder" != lib ] || continue # its rooms speak for themselves
            if [ ! -f "$1/$folder/README.md" ]; then
                printf '%s: no README.md\n' "$folder"
                continue
            fi
            case $folder in tests | bench | docs | config) continue ;; esac
            files_of "$1" | awk -F / -v folder="$folder/" 'index($0, folder) == 1 { n = substr($0, length(folder) + 1) } n != "" && n !~ /\// { print n } { n = "" }' |
                grep -E '\.(c|h|sh|bash|py|cmake|service)$' | sed -E 's/\.(c|h)$//' | sort -u |
                while IFS= read -r name; do
                    [ "$name" = main ] || grep -qE "(^|[^A-Za-z0-9_])$(sed 's/[.@]/\\&/g' <<<"${name%.sh}")([^A-Za-z0-9_]|$)" "$1/$folder/README.md" ||
                        printf '%s/README.md: says nothing of %s\n' "$folder" "$name"
                done
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
    catches 'lib/base/README.md: says nothing of c' lib/base/c.h ''
    catches 'trainer/README.md: says nothing of loop' trainer/loop.c ''
}
house_main
