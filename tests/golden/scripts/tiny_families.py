"""Tiny random models of qwen2, qwen3, gpt2 and gpt_neox with their activations, in numpy alone.

usage: tiny_families.py OUT        (writes OUT/tiny-FAMILY/{config.json,model.safetensors,golden.safetensors})

Every switch that the families of Llama and Gemma leave alone is on here: biases, norms of q and k,
learned positions, LayerNorm, Conv1D and fused weights, partial rope, the parallel residual, exact
GELU, an untied head. One head of another width than d / H (qwen3). The sums are in float64.
"""
import json
import math
import os
import struct
import sys

import numpy as np

F = np.float64
T, ROWS, HOOK = 24, 2, 1
D_MODEL, HEADS, LAYERS, VOCAB, FFN = 48, 4, 3, 97, 80


def save(path, tensors, metadata=None):
    """The safetensors container."""
    names = sorted(tensors, key=lambda n: (-tensors[n].dtype.itemsize, n))
    header, at = ({"__metadata__": metadata} if metadata else {}), 0
    for n in names:
        t = tensors[n]
        kind = {"float32": "F32", "int32": "I32"}[str(t.dtype)]
        header[n] = {"dtype": kind, "shape": list(t.shape), "data_offsets": [at, at + t.nbytes]}
        at += t.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for n in names:
            f.write(np.ascontiguousarray(tensors[n]).tobytes())


def erf(x):
    return np.vectorize(math.erf, otypes=[F])(x)


def silu(x):
    return x / (1 + np.exp(-x))


def gelu(x):
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def gelu_new(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def rms(x, w, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w


def layer_norm(x, w, b, eps):
    m = x.mean(-1, keepdims=True)
    return (x - m) / np.sqrt(((x - m) ** 2).mean(-1, keepdims=True) + eps) * w + b


def rope(x, rotary, theta):
    """x [T, heads, D]; dimension i of the first `rotary` pairs with i + rotary / 2."""
    h = rotary // 2
    angle = np.arange(len(x))[:, None] * theta ** (-np.arange(h) * 2.0 / rotary)[None]
    c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
    a, b = x[..., :h], x[..., h:rotary]
    return np.concatenate([a * c - b * s, b * c + a * s, x[..., rotary:]], -1)


def attend(q, k, v):
    """q [T, H, D], k and v [T, K, D]; causal."""
    n, heads, dim = q.shape
    out = np.empty_like(q)
    mask = np.tril(np.ones((n, n), bool))
    for h in range(heads):
        g = h // (heads // k.shape[1])
        s = np.where(mask, q[:, h] @ k[:, g].T / math.sqrt(dim), -np.inf)
        p = np.exp(s - s.max(-1, keepdims=True))
        out[:, h] = p / p.sum(-1, keepdims=True) @ v[:, g]
    return out.reshape(n, heads * dim)


class Qwen:
    """qwen2 (biases on q, k, v; tied) and qwen3 (norms of q and k; D of its own; a head of its own)."""

    def __init__(self, three):
        self.three, self.name = three, "qwen3" if three else "qwen2"
        self.kv, self.dim = 2, 24 if three else D_MODEL // HEADS
        self.config = dict(model_type=self.name, hidden_size=D_MODEL, num_hidden_layers=LAYERS,
                           num_attention_heads=HEADS, num_key_value_heads=self.kv, vocab_size=VOCAB,
                           intermediate_size=FFN, max_position_embeddings=64, rms_norm_eps=1e-6,
                           hidden_act="silu", use_sliding_window=False, sliding_window=4,
                           tie_word_embeddings=not three)
        if three:
            self.config |= dict(head_dim=24, attention_bias=False, rope_theta=1e6)
        else:
            self.config |= dict(rope_parameters=dict(rope_theta=5e5, rope_type="default"))

    def shapes(self):
        s = {"model.embed_tokens.weight": (VOCAB, D_MODEL), "model.norm.weight": (D_MODEL,)}
        if self.three:
            s["lm_head.weight"] = (VOCAB, D_MODEL)
        for i in range(LAYERS):
            p = f"model.layers.{i}."
            for n, heads in (("q", HEADS), ("k", self.kv), ("v", self.kv)):
                s[p + f"self_attn.{n}_proj.weight"] = (heads * self.dim, D_MODEL)
                if not self.three:
                    s[p + f"self_attn.{n}_proj.bias"] = (heads * self.dim,)
            if self.three:
                s[p + "self_attn.q_norm.weight"] = s[p + "self_attn.k_norm.weight"] = (self.dim,)
            s[p + "self_attn.o_proj.weight"] = (D_MODEL, HEADS * self.dim)
            s[p + "mlp.gate_proj.weight"] = s[p + "mlp.up_proj.weight"] = (FFN, D_MODEL)
            s[p + "mlp.down_proj.weight"] = (D_MODEL, FFN)
            s[p + "input_layernorm.weight"] = s[p + "post_attention_layernorm.weight"] = (D_MODEL,)
        return s

    def embed(self, w, ids):
        return w["model.embed_tokens.weight"][ids]

    def block(self, w, i, x):
        g = lambda n: w[f"model.layers.{i}." + n]
        h = rms(x, g("input_layernorm.weight"), 1e-6)
        q, k, v = (h @ g(f"self_attn.{n}_proj.weight").T for n in "qkv")
        if not self.three:
            q, k, v = (y + g(f"self_attn.{n}_proj.bias") for n, y in zip("qkv", (q, k, v)))
        q, k, v = q.reshape(-1, HEADS, self.dim), *(y.reshape(-1, self.kv, self.dim) for y in (k, v))
        if self.three:
            q, k = rms(q, g("self_attn.q_norm.weight"), 1e-6), rms(k, g("self_attn.k_norm.weight"), 1e-6)
        theta = 1e6 if self.three else 5e5
        x = x + attend(rope(q, self.dim, theta), rope(k, self.dim, theta), v) @ g("self_attn.o_proj.weight").T
        m = rms(x, g("post_attention_layernorm.weight"), 1e-6)
        return x + (silu(m @ g("mlp.gate_proj.weight").T) * (m @ g("mlp.up_proj.weight").T)) @ g(
            "mlp.down_proj.weight").T

    def head(self, w, x):
        y = rms(x, w["model.norm.weight"], 1e-6)
        return y, y @ w["lm_head.weight" if self.three else "model.embed_tokens.weight"].T


class Gpt2:
    name, dim = "gpt2", D_MODEL // HEADS
    config = dict(model_type="gpt2", n_embd=D_MODEL, n_layer=LAYERS, n_head=HEADS, n_positions=64, n_inner=None,
                  vocab_size=VOCAB, layer_norm_epsilon=1e-5, activation_function="gelu_new")

    def shapes(self):  # Conv1D: [in, out]
        s = {"transformer.wte.weight": (VOCAB, D_MODEL), "transformer.wpe.weight": (64, D_MODEL)}
        norms = ["transformer.ln_f"]
        for i in range(LAYERS):
            p = f"transformer.h.{i}."
            norms += [p + "ln_1", p + "ln_2"]
            for n, a, b in (("attn.c_attn", D_MODEL, 3 * D_MODEL), ("attn.c_proj", D_MODEL, D_MODEL),
                            ("mlp.c_fc", D_MODEL, 4 * D_MODEL), ("mlp.c_proj", 4 * D_MODEL, D_MODEL)):
                s[p + n + ".weight"], s[p + n + ".bias"] = (a, b), (b,)
            s[p + "attn.bias"] = (1, 1, 8, 8)  # the mask that old files carry
        for n in norms:
            s[n + ".weight"] = s[n + ".bias"] = (D_MODEL,)
        return s

    def embed(self, w, ids):
        return w["transformer.wte.weight"][ids] + w["transformer.wpe.weight"][: len(ids)]

    def block(self, w, i, x):
        g = lambda n: w[f"transformer.h.{i}." + n]
        lin = lambda y, n: y @ g(n + ".weight") + g(n + ".bias")
        h = layer_norm(x, g("ln_1.weight"), g("ln_1.bias"), 1e-5)
        q, k, v = lin(h, "attn.c_attn").reshape(len(x), 3, HEADS, self.dim).transpose(1, 0, 2, 3)
        x = x + lin(attend(q, k, v), "attn.c_proj")
        m = layer_norm(x, g("ln_2.weight"), g("ln_2.bias"), 1e-5)
        return x + lin(gelu_new(lin(m, "mlp.c_fc")), "mlp.c_proj")

    def head(self, w, x):
        y = layer_norm(x, w["transformer.ln_f.weight"], w["transformer.ln_f.bias"], 1e-5)
        return y, y @ w["transformer.wte.weight"].T


class Neox:
    """`parallel` false is the sequential form of the same family."""

    def __init__(self, parallel):
        self.parallel, self.dim = parallel, D_MODEL // HEADS
        self.name = "gpt_neox" if parallel else "gpt_neox-sequential"
        self.config = dict(model_type="gpt_neox", hidden_size=D_MODEL, num_hidden_layers=LAYERS,
                           num_attention_heads=HEADS, intermediate_size=FFN, vocab_size=VOCAB,
                           max_position_embeddings=64, layer_norm_eps=1e-5, hidden_act="gelu", rotary_pct=0.5,
                           rotary_emb_base=10000, tie_word_embeddings=False, use_parallel_residual=parallel)

    def shapes(self):
        s = {"gpt_neox.embed_in.weight": (VOCAB, D_MODEL), "embed_out.weight": (VOCAB, D_MODEL)}
        norms = ["gpt_neox.final_layer_norm"]
        for i in range(LAYERS):
            p = f"gpt_neox.layers.{i}."
            norms += [p + "input_layernorm", p + "post_attention_layernorm"]
            for n, a, b in (("attention.query_key_value", D_MODEL, 3 * D_MODEL), ("attention.dense", D_MODEL, D_MODEL),
                            ("mlp.dense_h_to_4h", D_MODEL, FFN), ("mlp.dense_4h_to_h", FFN, D_MODEL)):
                s[p + n + ".weight"], s[p + n + ".bias"] = (b, a), (b,)
        for n in norms:
            s[n + ".weight"] = s[n + ".bias"] = (D_MODEL,)
        return s

    def embed(self, w, ids):
        return w["gpt_neox.embed_in.weight"][ids]

    def block(self, w, i, x):
        g = lambda n: w[f"gpt_neox.layers.{i}." + n]
        lin = lambda y, n: y @ g(n + ".weight").T + g(n + ".bias")
        norm = lambda y, n: layer_norm(y, g(n + ".weight"), g(n + ".bias"), 1e-5)
        y = lin(norm(x, "input_layernorm"), "attention.query_key_value").reshape(len(x), HEADS, 3, self.dim)
        half = self.dim // 2
        q, k, v = rope(y[:, :, 0], half, 1e4), rope(y[:, :, 1], half, 1e4), y[:, :, 2]
        a = lin(attend(q, k, v), "attention.dense")
        m = norm(x if self.parallel else x + a, "post_attention_layernorm")
        return x + a + lin(gelu(lin(m, "mlp.dense_h_to_4h")), "mlp.dense_4h_to_h")

    def head(self, w, x):
        w_f, b_f = (w["gpt_neox.final_layer_norm." + p] for p in ("weight", "bias"))
        y = layer_norm(x, w_f, b_f, 1e-5)
        return y, y @ w["embed_out.weight"].T


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def make(family, seed, out):
    r = np.random.default_rng(seed)
    w = {}
    for n, shape in family.shapes().items():
        if "norm" in n.split(".")[-2] or n.split(".")[-2].startswith("ln_"):
            t = (1.0 if n.endswith("weight") else 0.0) + 0.3 * r.standard_normal(shape)
        elif len(shape) == 2:
            fan = shape[0] if "c_" in n else shape[1]
            t = r.standard_normal(shape) * (0.7 if "embed" in n or ".wte" in n or ".wpe" in n else 1.3 / math.sqrt(fan))
        else:
            t = 0.3 * r.standard_normal(shape)
        w[n] = t.astype(np.float32)
    ids = r.integers(0, VOCAB, (ROWS, T))
    w64 = {n: t.astype(F) for n, t in w.items()}
    g = {"input_ids": ids.astype(np.int32)}

    def run(row, splice=None):
        x = family.embed(w64, row)
        hidden = [x]
        for i in range(LAYERS):
            x = family.block(w64, i, x)
            if splice is not None and i == HOOK:
                x = x * splice
            hidden.append(x)
        return hidden, *family.head(w64, x)

    runs = [run(row) for row in ids]
    for i in range(LAYERS + 1):
        g[f"hidden.{i}"] = np.stack([h[i] for h, _, _ in runs])
    g["final_norm"] = np.stack([y for _, y, _ in runs])
    g["logits"] = np.stack([l for _, _, l in runs])
    lp = log_softmax(g["logits"])
    ce = lambda l: -np.take_along_axis(l[:, :-1], ids[:, 1:, None], -1)[..., 0]
    g["ce"] = ce(lp)
    for name, by in (("zero", 0.0), ("x0.9", 0.9)):
        q = log_softmax(np.stack([run(row, by)[2] for row in ids]))
        g[f"splice.{name}.ce"], g[f"splice.{name}.kl"] = ce(q), (np.exp(lp) * (lp - q)).sum(-1)
    folder = os.path.join(out, "tiny-" + family.name)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(family.config, f, indent=1)
    save(os.path.join(folder, "model.safetensors"), w)
    save(os.path.join(folder, "golden.safetensors"),
         {n: t if n == "input_ids" else t.astype(np.float32) for n, t in g.items()}, {"hook_block": str(HOOK)})
    print(family.name, "largest hidden", np.abs(g[f"hidden.{LAYERS}"]).max(), "logit", np.abs(g["logits"]).max(),
          "ce", g["ce"].mean(), "kl", g["splice.x0.9.kl"].mean())


if __name__ == "__main__":
    for n, f in enumerate((Qwen(False), Qwen(True), Gpt2(), Neox(True), Neox(False))):
        make(f, 100 + n, sys.argv[1])
