"""make check-peers: every number of the core evaluation, ours beside SAEBench's, on the same model, SAE and rows.

    core.py OSAE WORK NAME MODEL BOS LAYER [SAE]

Without SAE a random one is made. Ends with a line `N passed, N failed`; the exit code is 1 if any failed.
"""
import json
import os
import shutil
import subprocess
import sys
import time

import saebench  # first: it sets the environment
import numpy as np
import safetensors.numpy
import torch

CONTEXT, BATCH, CORE, VARIANCE = 128, 4, 2, 3


def random_sae(folder, hf, layer, latents, rows):
    """Directions at random, biases so that about one latent in ten fires on real activations."""
    rng = np.random.default_rng(7)
    with torch.no_grad():
        x = hf(torch.tensor(rows[:4]), output_hidden_states=True).hidden_states[layer + 1][:, 1:].numpy()
    x = x.reshape(-1, x.shape[-1])
    d = x.shape[1]
    w = rng.standard_normal((latents, d)).astype(np.float32)
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    b = -np.quantile(x @ w.T, 0.9, axis=0).astype(np.float32)
    os.makedirs(folder, exist_ok=True)
    safetensors.numpy.save_file({"W_enc": np.ascontiguousarray(w.T), "b_enc": b, "W_dec": w,
                                 "b_dec": x.mean(0).astype(np.float32)},
                                os.path.join(folder, "sae_weights.safetensors"))
    json.dump({"architecture": "standard", "d_in": d, "d_sae": latents, "dtype": "float32",
               "apply_b_dec_to_input": False, "normalize_activations": "none", "reshape_activations": "none",
               "metadata": {"sae_lens_version": "6.0.0", "hook_name": f"blocks.{layer}.hook_resid_post"}},
              open(os.path.join(folder, "cfg.json"), "w"))


def make_rows(path, tokenizer, text, vocab, bos):
    """Windows as SAELens packs them (BOS first and between documents); without text random ids."""
    need = BATCH * (CORE + VARIANCE)
    rows, special = [], {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    if text:
        row = [bos]
        for line in open(text, encoding="utf-8"):
            row += ([bos] if len(row) > 1 else []) + tokenizer(json.loads(line)["text"],
                                                               add_special_tokens=False)["input_ids"]
            while len(row) >= CONTEXT and len(rows) < need:
                rows.append(row[:CONTEXT])
                row = [bos] + row[CONTEXT:]
            if len(rows) == need:
                break
    else:
        rng = np.random.default_rng(3)
        plain = [i for i in range(vocab) if i not in special]
        rows = [[bos] + rng.choice(plain, CONTEXT - 1).tolist() for _ in range(need)]
        rows[1][40] = bos
    with open(path, "w") as out:
        for row in rows:
            out.write(json.dumps({"input_ids": row}) + "\n")
    return rows


def tolerance(key, want, latents):
    """1e-4 of the value; counts may differ where an activation is within rounding of 0."""
    if key == "l0":
        return 0.02
    if key.startswith("freq_") or key == "frac_alive":
        return 2 / latents
    return 1e-4 * abs(want)


def main():
    osae, work, name, path, bos, layer = sys.argv[1:7]
    bos, layer = int(bos), int(layer)
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("rows", "ours", "theirs"):
        os.makedirs(os.path.join(work, folder))
    began = time.time()
    hf, tokenizer = saebench.open_hf(path, bos)
    opening = time.time() - began
    text = os.environ.get("OSAE_PEER_TEXT") if path.endswith(".gguf") else None
    rows_path = os.path.join(work, "rows", "rows.jsonl")
    rows = make_rows(rows_path, tokenizer, text, hf.config.vocab_size, bos)
    sae_folder = sys.argv[7] if len(sys.argv) > 7 else os.path.join(work, "sae")
    if len(sys.argv) <= 7:
        random_sae(sae_folder, hf, layer, 96, rows)
    began = time.time()
    model = saebench.hooked(hf, tokenizer, f"peer-{name}")
    sae = saebench.FolderSAE(sae_folder, f"peer-{name}", layer)
    opening += time.time() - began

    import sae_bench.evals.core.main  # not to be counted as its time
    began = time.time()
    theirs = saebench.core(model, sae, os.path.join(work, "rows"), os.path.join(work, "theirs"), BATCH, CORE, VARIANCE)
    their_seconds = time.time() - began
    began = time.time()
    subprocess.run([osae, "eval", sae_folder, "--model", path, "--layer", str(layer), "--tokens", rows_path, "--only",
                    "core", "--out", os.path.join(work, "ours"), "--set", f"model.bos={bos}", "--set",
                    f"eval.core_batches={CORE}", "--set", f"eval.core_variance_batches={VARIANCE}", "--set",
                    f"eval.batch_contexts={BATCH}"], check=True, stdout=subprocess.DEVNULL)
    our_seconds = time.time() - began
    folder = os.path.join(work, "ours", "core")
    ours = json.load(open(os.path.join(folder, os.listdir(folder)[0])))

    passed = failed = 0
    print(f"core on {name}: block {layer}, {sae.cfg.d_sae} latents, {CORE} + {VARIANCE} batches of {BATCH} x {CONTEXT}")
    print(f"{'':38} {'osae':>14} {'SAEBench':>14} {'difference':>11} {'allowed':>9}")
    for category, numbers in theirs["eval_result_metrics"].items():
        for key, want in numbers.items():
            got = ours["eval_result_metrics"][category][key]
            allowed = tolerance(key, want, sae.cfg.d_sae)
            fine = abs(got - want) <= allowed
            passed, failed = passed + fine, failed + (not fine)
            print(f"{key:38} {got:14.7g} {want:14.7g} {got - want:11.2g} {allowed:9.1g}{'' if fine else '  FAILED'}")
    tokens = BATCH * VARIANCE * CONTEXT
    for key, allowed in (("feature_density", 2 / tokens), ("consistent_activation_heuristic", 0.02), ("encoder_bias", 1e-5),
                         ("encoder_norm", 1e-4), ("encoder_decoder_cosine_sim", 1e-4), ("max_decoder_cosine_sim", 1e-4),
                         ("max_encoder_cosine_sim", 1e-4)):
        apart = sorted(abs(a[key] - b[key]) for a, b in zip(ours["eval_result_details"], theirs["eval_result_details"],
                                                            strict=True))
        # A latent within rounding of 0 may fire once more on one side: half a percent of them may.
        fires = key in ("feature_density", "consistent_activation_heuristic")
        worst = apart[-1 - (len(apart) // 200 if fires else 0)]
        fine = worst <= allowed
        passed, failed = passed + fine, failed + (not fine)
        print(f"{'each latent: ' + key:38} {'':14} {'':14} {worst:11.2g} {allowed:9.1g}{'' if fine else '  FAILED'}")
    passed += saebench.accepts(ours)
    print(f"{'seconds, from the files to the numbers':38} {our_seconds:14.1f} {their_seconds + opening:14.1f}")
    print(f"{'of them opening model and SAE':38} {'':14} {opening:14.1f}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
