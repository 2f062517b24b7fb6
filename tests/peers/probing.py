"""make check-peers: sparse probing, ours beside SAEBench's, on the same model, SAE and labelled texts.

    probing.py OSAE WORK NAME MODEL BOS LAYER ROOT

The texts are pieces of this repository's files under ROOT, labelled by their kind. With more than two classes each side
draws the texts of the other classes with its own generator; so the sets are pairs of classes, where nothing is drawn and
the accuracies on the best K must be the same but for a text or two on the border. Ends with a line `N passed, N failed`.
"""
import json
import os
import random
import shutil
import subprocess
import sys
import time

import saebench  # first: it sets the environment
from core import make_rows, random_sae

KINDS = {"c": (".c",), "header": (".h",), "prose": (".md",)}
TRAIN, TEST = 300, 180  # texts of a class: a task has twice as many
# Two texts of 360 on the border; the probe on all columns starts and shuffles by other random numbers.
TOP, ALL = 2.5 / (2 * TEST), 0.05


def pieces(root):
    """Rows of {"text", "label", "split"}; a file is on one side."""
    rows = []
    for label, endings in KINDS.items():
        found = []
        for folder, below, files in os.walk(root):
            below[:] = sorted(b for b in below if b not in ("build", "cache", "runs", ".git", "golden"))
            for name in sorted(files):
                if name.endswith(endings):
                    text = open(os.path.join(folder, name), encoding="utf-8", errors="ignore").read()
                    side = "test" if random.Random(name).random() < 0.4 else "train"
                    found += [(text[i:i + 200], side) for i in range(0, len(text) - 200, 200)]
        random.Random(label).shuffle(found)
        for side, most in (("train", TRAIN), ("test", TEST)):
            some = [text for text, s in found if s == side][:most]
            assert len(some) == most, f"{label}: {len(some)} pieces to {side}, wanted {most}"
            rows += [{"text": text, "label": label, "split": side} for text in some]
    return rows


def main():
    osae, work, name, path, bos, layer, root = sys.argv[1:8]
    bos, layer = int(bos), int(layer)
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(os.path.join(work, "theirs"))
    hf, tokenizer = saebench.open_hf(path, bos)
    sae_folder = os.path.join(work, "sae")
    random_sae(sae_folder, hf, layer, 96, make_rows(os.path.join(work, "rows.jsonl"), tokenizer, None,
                                                    hf.config.vocab_size, bos))
    rows = pieces(root)
    sets, probe = {}, []
    for a, b in (("c", "header"), ("c", "prose"), ("header", "prose")):
        sets[f"{a}-{b}"] = [row for row in rows if row["label"] in (a, b)]
        rows_path = os.path.join(work, f"{a}-{b}.jsonl")
        probe += ["--probe", rows_path]
        with open(rows_path, "w") as out:
            out.writelines(json.dumps(row) + "\n" for row in sets[f"{a}-{b}"])
    model = saebench.hooked(hf, tokenizer, f"peer-{name}")
    sae = saebench.FolderSAE(sae_folder, f"peer-{name}", layer)
    import sae_bench.evals.sparse_probing.main  # not to be counted as its time
    began = time.time()
    theirs = saebench.probing(model, sae, sets, os.path.join(work, "theirs"), 2 * TRAIN, 2 * TEST)
    their_seconds = time.time() - began
    began = time.time()
    subprocess.run([osae, "eval", sae_folder, "--model", path, "--layer", str(layer), "--only", "probing", *probe, "--out", os.path.join(work, "ours"), "--set", f"model.bos={bos}", "--set",
                    f"eval.probing_train={2 * TRAIN}", "--set", f"eval.probing_test={2 * TEST}"], check=True,
                   stdout=subprocess.DEVNULL)
    our_seconds = time.time() - began
    folder = os.path.join(work, "ours", "sparse_probing")
    ours = json.load(open(os.path.join(folder, os.listdir(folder)[0])))

    passed = failed = 0
    print(f"sparse probing on {name}: block {layer}, {sae.cfg.d_sae} latents, {len(sets)} sets of {2 * TRAIN} + "
          f"{2 * TEST} texts")
    print(f"{'':38} {'osae':>9} {'SAEBench':>9} {'difference':>11} {'allowed':>9}")

    def compare(what, got, want, allowed):
        nonlocal passed, failed
        fine = abs(got - want) <= allowed
        passed, failed = passed + fine, failed + (not fine)
        print(f"{what:38} {got:9.4f} {want:9.4f} {got - want:11.4f} {allowed:9.3f}{'' if fine else '  FAILED'}")

    for side in ("llm", "sae"):
        for key, want in theirs["eval_result_metrics"][side].items():
            if want is not None:
                compare(key, ours["eval_result_metrics"][side][key], want, TOP if "top" in key else ALL)
    for name in sets:
        for key, by_class in theirs["eval_result_unstructured"][f"{name}_results"].items():
            for label, want in by_class.items():
                if "top" in key:
                    got = ours["eval_result_unstructured"][f"{name}_results"][key][label]
                    compare(f"{name}, {label}: {key.replace('_test_accuracy', '')}", got, want, TOP)
    passed += saebench.accepts(ours)
    print(f"{'seconds':38} {our_seconds:9.1f} {their_seconds:9.1f}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
