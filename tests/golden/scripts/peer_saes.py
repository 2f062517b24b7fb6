"""tests/golden/peer-saes: small SAEs written by the peers' own classes, with what those make of an input.

    peer_saes.py OUT      needs torch, dictionary-learning 0.1.0, eai-sparsify 1.3.3, numpy, safetensors

Each folder holds the peer's files and golden.safetensors: x [B, d], and the peer's own f [B, k] and xhat [B, d].
"""
import json
import os
import sys
import types

os.environ["SPARSIFY_DISABLE_TRITON"] = "1"
import numpy as np
import safetensors.numpy
import torch

# Their packages import what they train on; the classes alone are wanted.
for name in ("nnsight", "nnsight.intervention"):
    sys.modules.setdefault(name, types.ModuleType(name))
sys.modules["nnsight"].LanguageModel = object
import dictionary_learning.dictionary as dl
from dictionary_learning.trainers import batch_top_k, matryoshka_batch_top_k, top_k
from sparsify import SparseCoder, SparseCoderConfig

D, K, B, TOP = 6, 16, 5, 3
out = sys.argv[1]
rng = np.random.default_rng(11)
x = torch.tensor(rng.standard_normal((B, D)), dtype=torch.float32)


def fill(module):
    """Random parameters; decoder directions of norm 1 unless the class leaves that free."""
    torch.manual_seed(5)
    with torch.no_grad():
        for name, value in module.named_parameters():
            value.copy_(torch.randn_like(value) * (1.0 if value.dim() == 2 else 0.3))
        for name, value in module.named_parameters():
            if name == "decoder.weight":
                value /= value.norm(dim=0, keepdim=True)
            if name == "W_dec":
                value /= value.norm(dim=1, keepdim=True)
    return module


def golden(folder, f, xhat):
    safetensors.numpy.save_file({"x": x.numpy(), "f": f.detach().numpy(), "xhat": xhat.detach().numpy()},
                                os.path.join(folder, "golden.safetensors"))


def dictionary(name, module, trainer, **more):
    folder = os.path.join(out, name)
    os.makedirs(folder, exist_ok=True)
    torch.save(module.state_dict(), os.path.join(folder, "ae.pt"))
    config = {"trainer": {"dict_class": type(module).__name__, "trainer_class": trainer, "activation_dim": D,
                          "dict_size": K, "layer": 1, "lm_name": "tiny", "submodule_name": "resid_post_layer_1", **more},
              "buffer": {"d_submodule": D, "io": "out", "ctx_len": 128}}
    json.dump(config, open(os.path.join(folder, "config.json"), "w"))
    f = module.encode(x)
    golden(folder, f, module.decode(f))


with torch.no_grad():
    dictionary("dl-autoencoder", fill(dl.AutoEncoder(D, K)), "StandardTrainer")
    dictionary("dl-topk", fill(top_k.AutoEncoderTopK(D, K, TOP)), "TopKTrainer", k=TOP)
    sae = fill(batch_top_k.BatchTopKSAE(D, K, TOP))
    sae.threshold.fill_(0.8)
    dictionary("dl-batchtopk", sae, "BatchTopKTrainer", k=TOP)
    sae = fill(matryoshka_batch_top_k.MatryoshkaBatchTopKSAE(D, K, TOP, [4, 12]))
    sae.threshold.fill_(0.7)
    dictionary("dl-matryoshka", sae, "MatryoshkaBatchTopKTrainer", k=TOP)
    sae = fill(dl.JumpReluAutoEncoder(D, K))
    sae.threshold.abs_()
    dictionary("dl-jumprelu", sae, "JumpReluTrainer")
    dictionary("dl-gated", fill(dl.GatedAutoEncoder(D, K)), "GatedSAETrainer")

    folder = os.path.join(out, "sparsify", "layers.1")
    sae = fill(SparseCoder(D, SparseCoderConfig(num_latents=K, k=TOP), device="cpu", dtype=torch.float32))
    sae.save_to_disk(folder)
    _, at, _ = sae.encode(x)
    f = torch.zeros(B, K).scatter_(1, at, sae.encode(x)[0])
    golden(folder, f, sae(x).sae_out)

    # Gemma Scope has no library: its files are numpy's, its formula is relu(z) * (z > threshold).
    folder = os.path.join(out, "gemma-scope", "layer_1", "width_16")
    os.makedirs(folder, exist_ok=True)
    p = {k: rng.standard_normal(s).astype(np.float32) for k, s in
         {"W_enc": (D, K), "W_dec": (K, D), "b_enc": (K,), "b_dec": (D,)}.items()}
    p["W_dec"] *= 2  # not of norm 1
    p["threshold"] = np.abs(rng.standard_normal(K)).astype(np.float32)
    np.savez_compressed(os.path.join(folder, "params.npz"), **p)
    z = x.numpy() @ p["W_enc"] + p["b_enc"]
    f = np.maximum(z, 0) * (z > p["threshold"])
    golden(folder, torch.tensor(f), torch.tensor(f @ p["W_dec"] + p["b_dec"]))

    # Views, as a pickle may hold them: W_dec is the other half of one storage, turned.
    folder = os.path.join(out, "dl-views")
    os.makedirs(folder, exist_ok=True)
    sae = fill(dl.AutoEncoder(D, K))
    whole = torch.cat([sae.encoder.weight.reshape(-1), sae.decoder.weight.T.reshape(-1)]).to(torch.bfloat16)
    state = {"encoder.weight": whole[: D * K].view(K, D), "decoder.weight": whole[D * K:].view(K, D).T,
             "encoder.bias": torch.nn.Parameter(sae.encoder.bias.half()), "bias": sae.bias.double()}
    torch.save(state, os.path.join(folder, "ae.pt"))
    json.dump({"trainer": {"dict_class": "AutoEncoder"}}, open(os.path.join(folder, "config.json"), "w"))
    e, d = state["encoder.weight"].float(), state["decoder.weight"].float()
    f = torch.relu((x - sae.bias) @ e.T + state["encoder.bias"].float())
    golden(folder, f, f @ d.T + sae.bias)
print("written")
