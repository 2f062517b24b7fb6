# packages.bash: what the tests of the fetching scripts share: a copy of the scripts, packages made on the spot with pins of
# their own, an apt-get that hands them out and writes down its $scratch/calls, and every awk that is here. It stands in for
# a machine whose lists are stale while $scratch/stale is there, and for one without network while $scratch/away is.
# shellcheck shell=bash
. "$(dirname -- "${BASH_SOURCE[0]}")/house.bash"
for tool in unzip iconv dpkg-deb python3; do command -v $tool >/dev/null || exit 77; done

awks=()
for a in mawk gawk original-awk; do ! command -v $a >/dev/null || awks+=("$a"); done
[ ${#awks[@]} -gt 0 ] || awks=(awk)

cp -r "$root/scripts" "$scratch/scripts"
mkdir "$scratch/bin" "$scratch/repo"
make_deb() { # NAME VERSION: from $scratch/pkg/NAME
    mkdir -p "$scratch/pkg/$1/DEBIAN"
    printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: nobody <n@example.org>\nDescription: test\n' "$1" "$2" >"$scratch/pkg/$1/DEBIAN/control"
    rm -f "$scratch/repo/$1"_*
    dpkg-deb --root-owner-group -b "$scratch/pkg/$1" "$scratch/repo/${1}_$2_all.deb" >/dev/null
}
pin_debs() { # NAME:VERSION...: the pins of the copy
    local f n deb
    head -n 1 "$root/scripts/text/pins.tsv" >"$scratch/scripts/text/pins.tsv"
    for f; do
        n=${f%%:*} deb=$scratch/repo/${f%%:*}_${f#*:}_all.deb
        printf 'deb:%s\t%s\t%s\t%s\t%s\n' "$n" "${f#*:}" "${deb##*/}" "$(stat -c %s "$deb")" "$(sha256sum "$deb" | cut -d ' ' -f 1)"
    done >>"$scratch/scripts/text/pins.tsv"
}
cat >"$scratch/bin/apt-get" <<END
#!/usr/bin/env bash
echo "\$*" >>$scratch/calls
[ ! -f $scratch/away ] || { echo 'E: no network' >&2; exit 100; }
case \$* in *' update') exit 0 ;; esac
# stale: the system's lists are of no use, those of the cache are
[ ! -f $scratch/stale ] || case \$* in *Dir::State::Lists=*) ;; *) echo 'E: stale' >&2; exit 100 ;; esac
while [ "\$1" != download ]; do shift; done
shift
for name; do cp $scratch/repo/\${name}_*.deb . 2>/dev/null || { echo "E: Unable to locate package \$name" >&2; exit 100; }; done
END
chmod +x "$scratch/bin/apt-get"
run_fetch() { # SCRIPT ARGUMENT...: its code, out, err, and the number of calls to apt-get
    code=0
    : >"$scratch/calls"
    PATH=$scratch/bin:$PATH OSAE_CACHE=$scratch/cache bash "$scratch/scripts/$1" "${@:2}" >"$scratch/out" 2>"$scratch/err" </dev/null || code=$?
    out=$(cat "$scratch/out") err=$(cat "$scratch/err") calls=$(wc -l <"$scratch/calls")
}
