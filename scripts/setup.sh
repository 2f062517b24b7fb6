#!/usr/bin/env bash
# Installs the Debian packages of packages.txt that are missing. Says nothing and needs neither
# root nor network when nothing is missing.
#
#   setup.sh            install what is missing (asks for root through sudo, only then)
#   setup.sh --list     print what is missing, one a line, and install nothing
#   setup.sh SECTION    what a section of the file names besides ([fuzz]: for make fuzz); --list too
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/common.bash"
part=setup

list=0
[ "${1:-}" != --list ] || { list=1; shift; }
section=${1:-}
case $section in
'') lines_of='/^\[/,$d' ;;
*[!a-z]*) die 64 "unknown argument '$section' (setup.sh [--list] [SECTION])" ;;
*)
    grep -q "^\[$section\]" "$scripts/packages.txt" || die 64 "packages.txt has no section [$section]"
    lines_of="1,/^\[$section\]/d; /^\[/,\$d"
    ;;
esac
command -v dpkg-query >/dev/null 2>&1 ||
    die 69 "no dpkg-query: this is not a Debian system; install by hand what scripts/packages.txt names"

# Each line of packages.txt as "NAME" or "NAME unless COMMAND".
mapfile -t lines < <(sed "$lines_of; s/#.*//; s/[[:space:]]*\$//; /^\$/d" "$scripts/packages.txt")
names=("${lines[@]%% *}")
# One query for all. A package unknown to dpkg makes it fail and is simply absent from the answer.
have=" $(dpkg-query -W -f '${db:Status-Status}=${Package} ' "${names[@]}" 2>/dev/null || true)"
missing=()
for line in "${lines[@]}"; do
    name=${line%% *}
    case $have in *" installed=$name "*) continue ;; esac
    case $line in
    "$name") ;;
    "$name unless "*) ${line#"$name unless "} >/dev/null 2>&1 && continue ;;
    *) die 65 "packages.txt: '$line': wanted NAME [unless COMMAND] # why" ;;
    esac
    missing+=("$name")
done

if [ $list = 1 ]; then
    [ ${#missing[@]} = 0 ] || printf '%s\n' "${missing[@]}"
    exit 0
fi
[ ${#missing[@]} -gt 0 ] || exit 0

root=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 ||
        die 77 "missing ${missing[*]}: not root and no sudo here; as root: apt-get install ${missing[*]}"
    say "root is needed to install: ${missing[*]}"
    root=(sudo)
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
say "installing ${missing[*]}"
apt() { "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=2 "$@" >"$log" 2>&1 </dev/null; }
# The lists of a bare machine are empty or old, so they come first; offline, what the machine has may do.
apt update || say "the package lists could not be refreshed ($(last_words "$log")); trying with those at hand"
apt install -y --no-install-recommends "${missing[@]}" ||
    die 69 "cannot install ${missing[*]}: $(last_words "$log")"
say "installed ${#missing[@]} packages"
