"""make check-peers: first-letter absorption, ours beside SAEBench's own functions, on the same stream.

    absorption.py OSAE WORK NAME MODEL BOS LAYER SAE

Ours is run (quick profile); the words, their split and their prompts are told anew here with Python's random and
SAEBench's word list, a few prompts are read by transformers, and SAEBench's probes, regressions and its calculator get
the stream that ours left in its cache. Ends with `N passed, N failed`; the exit code is 1 if any failed.
"""
import glob
import json
import os
import random
import struct
import subprocess
import sys
import time

import saebench  # first: it sets the environment
import numpy as np
import safetensors.numpy
import torch
from sae_bench.evals.absorption import feature_absorption_calculator as calculator
from sae_bench.evals.absorption import k_sparse_probing, probing, vocab

WORDS, EXAMPLES, SEED = 8000, 3, 42
SEEDS = int(os.environ.get("OSAE_PEER_SEEDS", "1"))  # of the probe that chooses main latents, a minute or more each
LETTERS = "abcdefghijklmnopqrstuvwxyz"
lines = []


def check(what, got, want, allowed):
    fine = abs(got - want) <= allowed
    lines.append(fine)
    print(f"{what:46} {got:10.5g} {want:10.5g} {got - want:11.2g} {allowed:9.2g}{'' if fine else '  FAILED'}")


def letter(word):
    return LETTERS.index(word.strip()[0].lower())


def draw(words, word, number):
    """SAEBench's draw of examples: anew until the word is not among them."""
    for _ in range(1000):
        examples = random.sample(words, number)
        if word not in examples:
            return examples
    raise RuntimeError(word)


def prompt(word, examples):
    shown = "".join(f"\n{e} has the first letter: {e.strip()[0].upper()}" for e in examples)
    return f"{shown}\n{word} has the first letter:"


def word_list(tokenizer):
    """SAEBench's list, which is in another order in every process, by ascending id."""
    alpha = set(vocab.get_alpha_tokens(tokenizer))
    texts = {i: vocab.convert_tokens_to_string(t, tokenizer) for t, i in tokenizer.vocab.items()}
    words = [texts[i] for i in sorted(texts) if texts[i] in alpha]
    assert len(words) == len(vocab.get_alpha_tokens(tokenizer))
    print(f"words of the vocabulary: {len(words)}")
    if len(words) > WORDS:
        random.seed(1234)
        kept = sorted(random.sample(range(len(words)), WORDS))
        words = [words[i] for i in kept]
    return words


def tapped(cache, rows):
    """The stream as ours keeps it: head, hashes of the pieces, rows."""
    for path in glob.glob(os.path.join(cache, "tapped-*")):
        data = open(path, "rb").read()
        magic, count, width, piece = struct.unpack_from("<8s3Q", data)
        if magic == b"osaetap2" and count == rows:
            at = (64 + 8 * ((count + piece - 1) // piece) + 4095) // 4096 * 4096
            return torch.tensor(np.frombuffer(data, np.float32, count * width, at).reshape(count, width).copy())
    raise RuntimeError(f"no stream of {rows} rows in {cache}")


def read_some(hf, tokenizer, bos, layer, prompts, x):
    """The largest error of our stream, relative to its norm, on prompts that transformers reads."""
    worst = 0
    for text, row in zip(prompts, x):
        ids = [bos] + tokenizer(text, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            want = hf(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer + 1][0, -6]
        worst = max(worst, ((row - want).norm() / want.norm()).item())
    return worst


def seconds_to_read(hf, tokenizer, bos, prompts):
    """What transformers takes for so many prompts, in SAEBench's batches of 32: told by the first 256 of them."""
    began, some = time.time(), prompts[:256]
    for at in range(0, len(some), 32):
        ids = [[bos] + tokenizer(p, add_special_tokens=False)["input_ids"] for p in some[at:at + 32]]
        with torch.no_grad():
            hf(torch.tensor(ids), output_hidden_states=True)
    return (time.time() - began) / len(some) * len(prompts)


def f1(said, true):
    hit = (said & true).sum()
    return 2 * hit / (said.sum() + true.sum()) if hit else 0.0


class Recorded:
    """Stands for the model in SAEBench's calculator: the stream of the prompts, one batch after the other."""

    def __init__(self, x, layer):
        self.x, self.at, self.hook = x, 0, f"blocks.{layer}.hook_resid_post"

    def run_with_cache(self, prompts, **_):
        rows = self.x[self.at:self.at + len(prompts)]
        self.at += len(prompts)
        return None, {self.hook: rows[:, None, :].expand(-1, 6, -1)}


class Asked:
    def __init__(self, word):
        self.base = self.word = word


def absorb(sae, layer, words, x, direction, mains):
    it = calculator.FeatureAbsorptionCalculator(model=Recorded(x, layer), icl_word_list=[], word_token_pos=-6)
    it._build_prompts = lambda some: [Asked(w) for w in some]
    it._validate_prompts_are_same_length = lambda _: None
    got = it.calculate_absorption(sae, words, direction, mains, layer, show_progress=False).word_results
    return [r.absorption_fraction for r in got], [r.is_full_absorption for r in got]


def mains_of(sae, x_train, y_train, x_test, y_test):
    """SAEBench's k-sparse probes and its choice of main latents."""
    labels = [("", int(y)) for y in y_train]
    probes = k_sparse_probing.train_k_sparse_probes(sae, labels, x_train, list(range(1, 11)), precalc_sae_acts=True)
    with torch.no_grad():
        acts = sae.encode(x_test)
    mains = {}
    for l in range(26):
        best = -100
        for k in range(1, 11):
            probe = probes[k][l]
            with torch.no_grad():
                said = (acts[:, probe.feature_ids] @ probe.weight + probe.bias > 0).numpy()
            score = f1(said, y_test == l)
            if score <= best + 0.03:
                break
            best, mains[l] = score, probe.feature_ids.tolist()
    return mains


def write_state(folder, probe, mains, words):
    """What SAEBench chose and found, as a folder that `osae eval --given` reads."""
    os.makedirs(folder, exist_ok=True)
    weights, bias = probe.weights.detach().float().contiguous().numpy(), probe.biases.detach().float().contiguous().numpy()
    safetensors.numpy.save_file({"probe.weight": weights, "probe.bias": bias}, os.path.join(folder, "probe.safetensors"))
    absorption = {LETTERS[l]: {"main_latents": mains[l], "words": words[l]} for l in words}
    json.dump({"probe_f1": {letter: 1.0 for letter in absorption}, "absorption": absorption},
              open(os.path.join(folder, "state.json"), "w"))


def main():
    osae, work, name, path, bos, layer, folder = sys.argv[1:8]
    bos, layer = int(bos), int(layer)
    cache, out = os.path.join(work, "cache"), os.path.join(work, "ours")
    os.makedirs(cache, exist_ok=True)
    began = time.time()
    state = os.path.join(work, "state")
    subprocess.run([osae, "eval", folder, "--model", path, "--layer", str(layer), "--only", "absorption", "--out", out,
                    "--state", state, "--set", f"model.bos={bos}", "--set", "eval.profile=quick", "--set", f"storage.cache={cache}",
                    "--set", "model.context=128"], check=True, stdout=subprocess.DEVNULL)
    seconds = time.time() - began
    newest = max(glob.glob(os.path.join(out, "absorption", "*_eval_results.json")), key=os.path.getmtime)
    result = json.load(open(newest))
    ours = result["eval_result_unstructured"]["osae"]
    by_letter = {l["first_letter"]: l for l in ours["letters"]}
    means = result["eval_result_metrics"]["mean"]

    hf, tokenizer = saebench.open_hf(path, bos)
    sae = saebench.FolderSAE(folder, f"peer-{name}", layer)
    words = word_list(tokenizer)
    print(f"absorption on {name}: block {layer}, {sae.cfg.d_sae} latents, quick profile")
    print(f"{'':46} {'osae':>10} {'SAEBench':>10} {'difference':>11} {'allowed':>9}")
    check("words", ours["words"], len(words), 0)

    # Words, split and prompts, told anew; a few of them read by transformers.
    random.seed(SEED)
    shuffled = random.sample(words, len(words))
    cut = int(0.8 * len(words))
    train, test = shuffled[:cut], shuffled[cut:]
    prompts = [prompt(w, draw(train, w, EXAMPLES)) for w in train] + [prompt(w, draw(test, w, EXAMPLES)) for w in test]
    told = json.load(open(os.path.join(state, "state.json")))
    check("words apart", sum(a != b for a, b in zip(told["words"]["train"] + told["words"]["test"], shuffled)), 0, 0)
    check("prompts apart", sum(a != b for a, b in zip(told["prompts"]["train"] + told["prompts"]["test"], prompts)), 0, 0)
    x = tapped(cache, len(words))
    some = list(range(0, len(words), len(words) // 8))
    check("stream at the words, relative error", read_some(hf, tokenizer, bos, layer, [prompts[i] for i in some],
                                                          x[some]), 0, 1e-3)
    y = np.array([letter(w) for w in shuffled])
    x_train, x_test, y_train, y_test = x[:cut], x[cut:], y[:cut], y[cut:]

    # Ours: the truth probe, on the same test words.
    probe = safetensors.numpy.load_file(os.path.join(state, "probe.safetensors"))
    w, b = torch.tensor(probe["probe.weight"]), torch.tensor(probe["probe.bias"])
    z = (x_test @ w.T + b).numpy()
    worst = max(abs(f1(z[:, l] > 0, y_test == l) - by_letter[LETTERS[l]]["probe_f1"]) for l in range(26))
    check("F1 of our probe, letter by letter: worst", worst, 0, 1e-9)

    # Words asked again: those it gets right, letter by letter, in new prompts.
    asked, again = {}, []
    for l in range(26):
        asked[l] = [t for t, at in zip(test, range(len(test))) if y_test[at] == l and z[at, l] > 0]
        random.seed(SEED * 1000 + l)
        again += [prompt(t, draw(words, t, EXAMPLES)) for t in asked[l]]
        lines.append(len(asked[l]) == by_letter[LETTERS[l]]["num_probe_true_positives"])
    by_word = [w for l in LETTERS for w in told["absorption"][l]["words"]]
    check("prompts asked again apart", sum(a["prompt"] != b for a, b in zip(by_word, again)) +
          abs(len(by_word) - len(again)), 0, 0)
    x_again = tapped(cache, len(again))
    some = list(range(0, len(again), len(again) // 8))
    check("stream at words asked again, relative error", read_some(hf, tokenizer, bos, layer, [again[i] for i in some],
                                                                  x_again[some]), 0, 1e-3)

    # Word by word: SAEBench's calculator with our probe and our main latents.
    def score(mains, w=w):
        fractions, fulls, at = {}, {}, 0
        for l in range(26):
            rows = x_again[at:at + len(asked[l])]
            at += len(asked[l])
            if asked[l]:
                fractions[l], fulls[l] = absorb(sae, layer, asked[l], rows, w[l], mains[l])
        used = [l for l in range(26) if by_letter[LETTERS[l]]["used"]]
        return (fractions, fulls, np.mean([np.mean(fractions[l]) for l in used]),
                np.mean([np.mean(fulls[l]) for l in used]), np.mean([len(mains[l]) for l in used]))

    fractions, fulls, fraction, full, _ = score({l: told["absorption"][LETTERS[l]]["main_latents"] for l in range(26)})
    theirs = [f for l in sorted(fractions) for f in fractions[l]], [f for l in sorted(fulls) for f in fulls[l]]
    check(f"fraction, word by word ({len(by_word)}): worst", max(abs(w["fraction"] - f) for w, f in zip(by_word, theirs[0])),
          0, 1e-3)
    check("full, word by word: words apart", sum(w["full"] != bool(f) for w, f in zip(by_word, theirs[1])), 0, 0)
    check("full absorption, letter by letter: words apart",
          sum(abs(sum(fulls[l]) - by_letter[LETTERS[l]]["num_full_absorption"]) for l in fulls), 0, 0)
    check("fraction, letter by letter: worst",
          max(abs(np.mean(fractions[l]) - by_letter[LETTERS[l]]["mean_absorption_fraction"]) for l in fractions), 0, 1e-3)
    check("mean_absorption_fraction_score", means["mean_absorption_fraction_score"], fraction, 1e-4)
    check("mean_full_absorption_score", means["mean_full_absorption_score"], full, 1e-6)

    # From end to end: SAEBench's own training of both probes, which starts and shuffles otherwise. Its choice of main
    # latents moves with the start; so several seeds of it, and ours lies among them or within the tolerance of their mean.
    began = time.time()
    torch.manual_seed(SEED)
    theirs = probing.train_multi_probe(x_train, torch.nn.functional.one_hot(torch.tensor(y_train), 26), 26, 64, 50,
                                       weight_decay=1e-4, show_progress=False, device=torch.device("cpu"))
    with torch.no_grad():
        their_z = theirs(x_test).numpy()
    check("mean F1 of the truth probe, all letters",
          np.mean([by_letter[l]["probe_f1"] for l in LETTERS]),
          np.mean([f1(their_z[:, l] > 0, y_test == l) for l in range(26)]), 0.02)
    chosen = []
    for seed in range(SEED, SEED + SEEDS):
        torch.manual_seed(seed)
        mains = mains_of(sae, x_train, y_train, x_test, y_test)
        chosen.append(score(mains)[2:])
        print(f"  SAEBench's choice, seed {seed}: fraction {chosen[-1][0]:.4f}, full {chosen[-1][1]:.4f}, "
              f"split features {chosen[-1][2]:.3f}", flush=True)
    fraction, full, splits = np.mean(chosen, axis=0)
    check("fraction, main latents chosen by SAEBench", means["mean_absorption_fraction_score"], fraction, 0.08)
    check("full, main latents chosen by SAEBench", means["mean_full_absorption_score"], full, 0.015 + 0.3 * full)
    check("split features, chosen by SAEBench", means["mean_num_split_features"], splits, 0.5)
    spent = time.time() - began
    print(f"{'seconds; theirs: reading by what 256 prompts take':46} {seconds:10.1f} "
          f"{spent + seconds_to_read(hf, tokenizer, bos, prompts + again):10.1f}")

    # The other way round: SAEBench's probe, main latents and scores, as a folder; ours scores its words again.
    fractions, fulls, *_ = score(mains, theirs.weights.detach())
    rest = iter(again)
    write_state(os.path.join(work, "theirs"), theirs, mains, {
        l: [{"word": word, "prompt": next(rest), "fraction": float(fraction), "full": bool(full)}
            for word, fraction, full in zip(asked[l], fractions[l], fulls[l])] for l in fractions})
    subprocess.run([osae, "eval", folder, "--model", path, "--layer", str(layer), "--only", "absorption", "--given",
                    os.path.join(work, "theirs"), "--state", os.path.join(work, "scored"), "--set", f"model.bos={bos}",
                    "--set", f"storage.cache={cache}", "--set", "model.context=128"], check=True, stdout=subprocess.DEVNULL)
    told = [json.load(open(os.path.join(work, at, "state.json")))["absorption"] for at in ("scored", "theirs")]
    pairs = [pair for l in told[1] for pair in zip(told[0][l]["words"], told[1][l]["words"])]
    check(f"SAEBench's words ({len(pairs)}) scored by ours: fraction, worst",
          max(abs(a["fraction"] - b["fraction"]) for a, b in pairs), 0, 1e-3)
    check("SAEBench's words scored by ours: full, words apart", sum(a["full"] != b["full"] for a, b in pairs), 0, 0)
    lines.append(saebench.accepts(result))
    failed = lines.count(False)
    print(f"{len(lines) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
