# house.bash: what the checks of the house share. A check defines `check FOLDER`, which prints one line
# per violation; house_main runs it on planted trees first, then on this one.
# shellcheck shell=bash
set -euo pipefail
export LC_ALL=C

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT

# The files of a tree, relative to it: those git knows or would add; all of them where git has no say.
files_of() {
    if [ "$1" = "$root" ] && git -C "$1" rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        (cd "$1" && git ls-files --cached --others --exclude-standard | while IFS= read -r f; do [ ! -f "$f" ] || printf '%s\n' "$f"; done)
    else
        (cd "$1" && find . -name .git -prune -o \( -path ./build -o -path ./cache -o -path ./runs -o -path ./out \) -prune -o -type f -print | sed 's|^\./||')
    fi | sort
}

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# plant FILE [TEXT]: a file of a clean tree of its own, in $scratch/tree.
plant() {
    mkdir -p -- "$(dirname -- "$scratch/tree/$1")"
    printf '%b' "${2:-}" >"$scratch/tree/$1"
}
fresh_tree() {
    rm -rf -- "$scratch/tree"
    mkdir "$scratch/tree"
    clean_tree
}
# catches WORDS FILE TEXT: the check reports WORDS once FILE is added to the clean tree.
catches() {
    fresh_tree
    plant "$2" "$3"
    local out
    out=$(check "$scratch/tree" || true)
    case $out in
    *"$1"*) ;;
    *) fail "self-test: a planted '$2' did not bring '$1', but: ${out:-nothing}" ;;
    esac
}
# allows FILE TEXT: no report.
allows() {
    fresh_tree
    plant "$1" "$2"
    local out
    out=$(check "$scratch/tree" || true)
    [ -z "$out" ] || fail "self-test: '$1' is fine, but: $out"
}
# The planted trees first (self_test, which uses the two above), then this tree.
house_main() {
    fresh_tree
    local out
    out=$(check "$scratch/tree" || true)
    [ -z "$out" ] || fail "self-test: the clean tree does not pass: $out"
    self_test
    out=$(check "$root" || true)
    [ -z "$out" ] || fail "$out"
    printf '%s: %d files pass\n' "$(basename "$0" .sh)" "$(files_of "$root" | wc -l)"
}

# C without comments and the insides of texts, lines kept: for searches that mean code.
code_of() {
    awk '{
        s = $0; out = ""
        while (s != "") {
            if (inside) {
                at = index(s, "*/")
                if (!at) { s = ""; break }
                s = substr(s, at + 2); inside = 0
                continue
            }
            if (!match(s, /\/\/|\/\*|"|\047/)) { out = out s; break }
            out = out substr(s, 1, RSTART - 1)
            t = substr(s, RSTART, RLENGTH)
            s = substr(s, RSTART + RLENGTH)
            if (t == "//") break
            if (t == "/*") { inside = 1; continue }
            out = out t
            while (s != "" && substr(s, 1, 1) != t) s = substr(s, substr(s, 1, 1) == "\\" ? 3 : 2)
            out = out t
            s = substr(s, 2)
        }
        print out
    }' "$1"
}

# For the tests of scripts: expect WHAT GOT WANTED (a pattern).
expect() {
    # shellcheck disable=SC2254
    case $2 in
    $3) ;;
    *) fail "$1: got '$2', wanted '$3'" ;;
    esac
}
