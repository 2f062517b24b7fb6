"""make check-peers: sparse probing, ours beside SAEBench's, on the same model, SAE and labelled texts.

    probing.py OSAE WORK NAME MODEL BOS LAYER ROOT [pairs]

The texts are pieces of files, labelled by their kind: of this repository under ROOT, of Python's library and of torch's
headers; and with $OSAE_PEER_PROBE (a folder that `osae data --probe` made) its two largest sets too. A task has 4000 + 1000
texts, the size of SAEBench's own runs. With more than two classes each side draws the texts of the other classes with its
own generator; so our draws are told anew here, with Python's random, and SAEBench gets them in place of its own: the
accuracies on the best K must be the same but for a few texts on the border, which scikit-learn's stop at a gradient of
1e-4 leaves where it is (with 1e-10 all are the same). With `pairs` the sets are pairs of classes
of 600 + 360 texts, and SAEBench draws for itself: there is nothing to choose. Ends with a line `N passed, N failed`.
"""
import json
import os
import random
import shutil
import subprocess
import sys
import sysconfig
import time

import saebench  # first: it sets the environment
import torch
import xxhash
from core import make_rows, random_sae

SEED = 42
SIDES = ("train", "test")
ALL = 0.05  # the probe on all columns starts and shuffles by other random numbers


def pieces(places, sizes):
    """Rows of {"text", "label", "split"} from {label: (folder, ending)}; a file is on one side."""
    rows = []
    for label, (root, ending) in places.items():
        found = []
        for folder, below, files in os.walk(root):
            below[:] = sorted(b for b in below if b not in ("build", "cache", "runs", ".git", "golden", "site-packages"))
            for name in sorted(files):
                if name.endswith(ending):
                    text = open(os.path.join(folder, name), encoding="utf-8", errors="ignore").read()
                    side = "test" if random.Random(name).random() < 0.4 else "train"
                    found += [(text[i:i + 200], side) for i in range(0, len(text) - 200, 200)]
        random.Random(label).shuffle(found)
        for side, most in zip(SIDES, sizes):
            some = [text for text, s in found if s == side][:most]
            assert len(some) == most, f"{label}: {len(some)} pieces to {side}, wanted {most}"
            rows += [{"text": text, "label": label, "split": side} for text in some]
    return rows


def chosen(rows, sizes):
    """Our choice of a set's texts, by class and side: as many of each as half a task, drawn."""
    draw = random.Random(SEED)
    members = {}
    for label in sorted({row["label"] for row in rows}, key=str.encode):
        for side, most in zip(SIDES, sizes):
            all_of_it = [row for row in rows if row["label"] == label and row["split"] == side]
            draw.shuffle(all_of_it)
            members[label, side] = all_of_it[:most]
            assert len(members[label, side]) == most, f"{label}, {side}: wanted {most} texts"
    return members


def told_anew(members):
    """Our tasks: each class draws for itself, of every other class as many, all shuffled."""
    labels = sorted({label for label, _ in members}, key=str.encode)
    tasks = {}
    for label in labels:
        draw = random.Random(SEED ^ xxhash.xxh3_64_intdigest(label.encode()))
        tasks[label] = {}
        for side in SIDES:
            positives = [(label, i) for i in range(len(members[label, side]))]
            each = -(-len(positives) // (len(labels) - 1))
            others = []
            for other in labels:
                if other != label:
                    some = [(other, i) for i in range(len(members[other, side]))]
                    draw.shuffle(some)
                    others += some[:each]
            draw.shuffle(others)
            both = positives + others[:len(positives)]
            order = list(range(len(both)))
            draw.shuffle(order)
            tasks[label][side] = [(*both[i], i < len(positives)) for i in order]
    return tasks


def main():
    osae, work, name, path, bos, layer, root = sys.argv[1:8]
    pairs = sys.argv[8:] == ["pairs"]
    bos, layer = int(bos), int(layer)
    train, test = (600, 360) if pairs else (4000, 1000)
    top, sizes = (2.5 if pairs else 5.5) / test, (train // 2, test // 2)
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(os.path.join(work, "theirs"))
    hf, tokenizer = saebench.open_hf(path, bos)
    sae_folder = os.path.join(work, "sae")
    random_sae(sae_folder, hf, layer, 96, make_rows(os.path.join(work, "rows.jsonl"), tokenizer, None,
                                                    hf.config.vocab_size, bos))
    sets, tasks, probe = {}, {}, []
    if pairs:
        rows = pieces({"c": (root, ".c"), "header": (root, ".h"), "prose": (root, ".md")}, sizes)
        for a, b in (("c", "header"), ("c", "prose"), ("header", "prose")):
            sets[f"{a}-{b}"] = [row for row in rows if row["label"] in (a, b)]
    else:
        sets["kinds"] = pieces({"c": (root, ".c"), "python": (sysconfig.get_path("stdlib"), ".py"),
                                "torch": (os.path.join(os.path.dirname(torch.__file__), "include"), ".h")}, sizes)
        for more in ("kind", "noun-field") if "OSAE_PEER_PROBE" in os.environ else ():
            sets[more] = [json.loads(line) for line in open(os.path.join(os.environ["OSAE_PEER_PROBE"], f"{more}.jsonl"))]
    for key, rows in sets.items():
        rows_path = os.path.join(work, f"{key}.jsonl")
        probe += ["--probe", rows_path]
        with open(rows_path, "w") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows)
        if not pairs:
            members = chosen(rows, sizes)
            tasks[key] = told_anew(members)
            sets[key] = [row for some in members.values() for row in some]
    model = saebench.hooked(hf, tokenizer, f"peer-{name}")
    sae = saebench.FolderSAE(sae_folder, f"peer-{name}", layer)
    import sae_bench.evals.sparse_probing.main  # not to be counted as its time
    began = time.time()
    theirs = saebench.probing(model, sae, sets, os.path.join(work, "theirs"), train, test, tasks)
    their_seconds = time.time() - began
    began = time.time()
    subprocess.run([osae, "eval", sae_folder, "--model", path, "--layer", str(layer), "--only", "probing", *probe, "--out",
                    os.path.join(work, "ours"), "--set", f"model.bos={bos}", "--set", f"eval.probing_train={train}",
                    "--set", f"eval.probing_test={test}"], check=True, stdout=subprocess.DEVNULL)
    our_seconds = time.time() - began
    folder = os.path.join(work, "ours", "sparse_probing")
    ours = json.load(open(os.path.join(folder, os.listdir(folder)[0])))

    lines = []
    print(f"sparse probing on {name}: block {layer}, {sae.cfg.d_sae} latents, {len(sets)} sets of {train} + {test} texts")
    print(f"{'':38} {'osae':>9} {'SAEBench':>9} {'difference':>11} {'allowed':>9}")

    def compare(what, got, want, allowed):
        lines.append(abs(got - want) <= allowed)
        print(f"{what:38} {got:9.4f} {want:9.4f} {got - want:11.4f} {allowed:9.4f}{'' if lines[-1] else '  FAILED'}")

    for side in ("llm", "sae"):
        for key, want in theirs["eval_result_metrics"][side].items():
            if want is not None:
                compare(key, ours["eval_result_metrics"][side][key], want, top if "top" in key else ALL)
    apart = []
    for name in sets:
        for key, by_class in theirs["eval_result_unstructured"][f"{name}_results"].items():
            for label, want in by_class.items():
                got = ours["eval_result_unstructured"][f"{name}_results"][key][label]
                compare(f"{name}, {label}: {key.replace('_test_accuracy', '')}", got, want, top if "top" in key else ALL)
                if "top" in key:
                    apart.append(round(abs(got - want) * test))
    print(f"accuracies on the best K: {len(apart)}, equal: {apart.count(0)}, texts apart at most: {max(apart)}")
    lines.append(saebench.accepts(ours))
    print(f"{'seconds':38} {our_seconds:9.1f} {their_seconds:9.1f}")
    print(f"{lines.count(True)} passed, {lines.count(False)} failed")
    return 0 if all(lines) else 1


if __name__ == "__main__":
    sys.exit(main())
