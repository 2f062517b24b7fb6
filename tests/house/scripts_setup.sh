#!/usr/bin/env bash
# scripts/setup.sh on machines made up by fake commands: nothing here asks the real package manager.
. "$(dirname -- "${BASH_SOURCE[0]}")/house.bash"

cp -r "$root/scripts" "$scratch/scripts"
cat >"$scratch/scripts/packages.txt" <<'END'
# a comment
alpha            # why
beta
gamma unless have-gamma --version # only without it

[extra] # asked for by name
epsilon # why
[other]
zeta
END
# A path with nothing but what the script needs, so that this machine's sudo, apt-get and dpkg do not show.
mkdir "$scratch/bin" "$scratch/empty"
for tool in bash cat cut dirname env grep id mktemp rm sed tail; do ln -s "$(command -v $tool)" "$scratch/bin/$tool"; done
fake() { # NAME BODY
    printf '#!/usr/bin/env bash\n%s\n' "$2" >"$scratch/bin/$1"
    chmod +x "$scratch/bin/$1"
}
# The machine: which packages it has, who asks. Calls of apt-get go to $scratch/calls; an install works.
machine() { # USER-ID INSTALLED...
    fake id "echo $1"
    shift
    printf '%s\n' "$@" >"$scratch/installed"
    rm -f "$scratch/calls" "$scratch/bin/sudo" "$scratch/bin/have-gamma"
    touch "$scratch/calls"
    fake apt-get "echo \"\$*\" >>$scratch/calls; case \$* in *broken*) echo 'E: Unable to locate package x' >&2; exit 100 ;; esac"
}
fake dpkg-query "for p in \"\$@\"; do grep -qxF -- \"\$p\" $scratch/installed && printf 'installed=%s ' \"\$p\"; done; exit 1"
setup() { # [ARGUMENT] -> code, out, err
    code=0
    PATH=$scratch/bin bash "$scratch/scripts/setup.sh" "$@" >"$scratch/out" 2>"$scratch/err" </dev/null || code=$?
    out=$(cat "$scratch/out") err=$(cat "$scratch/err")
}

machine 1000 alpha beta gamma
setup
expect 'all there: code' "$code" 0
expect 'all there: says nothing' "$out$err" ''
expect 'all there: apt-get is not asked' "$(cat "$scratch/calls")" ''

machine 1000 alpha beta
fake have-gamma 'exit 0'
setup
expect 'gamma by other means: says nothing' "$code$out$err" 0

machine 0 alpha
setup
expect 'root: code' "$code" 0
expect 'root: names what it installs' "$err" '*installing beta gamma*installed 2 packages*'
expect 'root: lists first, then only what is missing' "$(cat "$scratch/calls")" '*update
*install -y --no-install-recommends beta gamma'

machine 1000 beta gamma
setup
expect 'neither root nor sudo: code' "$code" 77
expect 'neither root nor sudo: one line that says what to do' "$err" 'setup: missing alpha: not root and no sudo*apt-get install alpha'

machine 1000 beta gamma
fake sudo "echo sudo >>$scratch/calls; exec \"\$@\""
setup
expect 'sudo: code' "$code" 0
expect 'sudo: asked for both steps' "$(cat "$scratch/calls")" 'sudo
*update
sudo
*install*alpha'

machine 0 beta gamma
sed -i 's/^alpha/broken/' "$scratch/scripts/packages.txt"
setup
expect 'no such package: code' "$code" 69
expect 'no such package: the last line gives the reason' "${err##*$'\n'}" 'setup: cannot install broken: E: Unable to locate package x'
setup --list
expect 'list: what is missing' "$out" broken
setup --lots
expect 'unknown argument' "$code$err" "64setup: unknown argument '--lots'*"

setup --list extra
expect 'a section: its own packages, no others' "$code$out" 0epsilon
setup none
expect 'no such section' "$code$err" '64setup: packages.txt has no section \[none\]*'

sed -i '1a delta if foo' "$scratch/scripts/packages.txt"
setup
expect 'bad line' "$code$err" "65setup: packages.txt: 'delta if foo'*"

# The real list: every name is well formed, and what cmake/packages.cmake finds is in it.
sed 's/#.*//; s/[[:space:]]*$//; /^$/d' "$root/scripts/packages.txt" | grep -vE '^(\[[a-z]+\]|[a-z0-9][a-z0-9.+-]+( unless .+)?)$' >"$scratch/bad" || true
expect 'packages.txt: forms' "$(cat "$scratch/bad")" ''
for name in cmake ninja-build pkg-config libzmq3-dev libmsgpack-dev libyaml-dev libdnnl-dev libcmocka-dev libxxhash-dev libzstd-dev libjansson-dev ocl-icd-opencl-dev; do
    grep -qE "^$name( |\$)" "$root/scripts/packages.txt" || fail "packages.txt lacks $name"
done
echo 'scripts_setup: pass'
