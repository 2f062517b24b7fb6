#!/usr/bin/env python3
"""Writes *.safetensors beside this script: short training runs of every SAE variant of docs/maths.md,
computed in float64 by PyTorch autograd, for parity tests that need no Python.

Each file holds the initial parameters, the batches, every step's loss terms and gradients' norm, the first
competition-phase gradients, and the parameters after the last step. Shapes: W_enc [k,d], W_dec [k,d] (row i is the
decoder direction of latent i), b_enc [k], b_dec [d], x [steps,B,d].

Needs: torch, safetensors, numpy.   Usage: make_sae_goldens.py [OUTDIR]
"""
import json, math, os, sys
import torch
from safetensors.torch import save_file

torch.set_default_dtype(torch.float64)
OUT = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
D, K, B, CTX, STEPS = 24, 96, 64, 16, 40

BASE = dict(arch="relu", lambda_s=0.04, lambda_o=0.01, lambda_t=0.001, recon_end=12, sparsity_end=20, theta_start=0.7,
            theta_end=0.3, theta_steps=8, lr=2e-3, beta1=0.0, beta2=0.999, eps=1e-8, clip=1.0, curriculum=True,
            competition=True, competition_gradient="detached", temporal="step", topk=8, bandwidth=0.05)
RUNS = {
    "orthogonal": {},
    "orthogonal-through": dict(competition_gradient="through"),
    "orthogonal-position": dict(temporal="position"),
    "orthogonal-no-curriculum": dict(curriculum=False),
    "orthogonal-fixed-threshold": dict(theta_end=0.7),
    "orthogonal-no-temporal": dict(temporal="off"),
    "standard": dict(competition=False, temporal="off"),
    "topk": dict(arch="topk", competition=False, temporal="off", lambda_s=0.0),
    "batchtopk": dict(arch="batchtopk", competition=False, temporal="off", lambda_s=0.0),
    "jumprelu": dict(arch="jumprelu", competition=False, temporal="off", lambda_s=0.02),
    "topk-orthogonal": dict(arch="topk", lambda_s=0.0),
}


class Rectangle:
    """K(u) = 1 for |u| < 1/2, else 0: the kernel of the straight-through estimators."""
    @staticmethod
    def at(u):
        return (u.abs() < 0.5).to(u.dtype)


class JumpReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, threshold, bandwidth):
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return z * (z > threshold)

    @staticmethod
    def backward(ctx, g):
        z, threshold = ctx.saved_tensors
        e = ctx.bandwidth
        dz = g * (z > threshold)
        dt = (-(threshold / e) * Rectangle.at((z - threshold) / e) * g).sum(0)
        return dz, dt, None


class Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z, threshold, bandwidth):
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return (z > threshold).to(z.dtype)

    @staticmethod
    def backward(ctx, g):
        z, threshold = ctx.saved_tensors
        e = ctx.bandwidth
        dt = (-(1.0 / e) * Rectangle.at((z - threshold) / e) * g).sum(0)
        return torch.zeros_like(z), dt, None


def batches(gen):
    """A synthetic sparse mixture with hierarchical (parent/child) ground-truth features."""
    truth = torch.randn(40, D, generator=gen)
    truth /= truth.norm(dim=1, keepdim=True)
    out = torch.empty(STEPS, B, D)
    for s in range(STEPS):
        on = (torch.rand(B, 40, generator=gen) < 0.08).double()
        on[:, :10] = torch.maximum(on[:, :10], on[:, 10:20])   # children 10..19 imply parents 0..9
        out[s] = (on * (1 + torch.rand(B, 40, generator=gen))) @ truth * 2.0 + 0.05 * torch.randn(B, D, generator=gen)
    return out


def schedule(c, t):
    if not c["curriculum"]:
        return 1.0, c["theta_end"], True
    alpha = 0.0 if t < c["recon_end"] else min(1.0, (t - c["recon_end"]) / (c["sparsity_end"] - c["recon_end"]))
    theta = c["theta_start"] - (c["theta_start"] - c["theta_end"]) * min(1.0, max(0, t - c["sparsity_end"]) / c["theta_steps"])
    return alpha, theta, t >= c["sparsity_end"]


def run(name, overrides):
    c = {**BASE, **overrides}
    gen = torch.Generator().manual_seed(7)
    x = batches(gen)
    bound = math.sqrt(6.0 / D)
    We = (torch.rand(K, D, generator=gen) * 2 - 1) * bound
    Wd = (torch.rand(K, D, generator=gen) * 2 - 1) * bound
    We /= We.norm(dim=1, keepdim=True)
    Wd /= Wd.norm(dim=1, keepdim=True)
    P = dict(W_enc=We, b_enc=torch.zeros(K), W_dec=Wd, b_dec=torch.zeros(D))
    if c["arch"] == "jumprelu":
        P["log_threshold"] = torch.full((K,), math.log(0.05))
    T = {f"init.{n}": p.clone() for n, p in P.items()}
    for p in P.values():
        p.requires_grad_()
    v = {n: torch.zeros_like(p) for n, p in P.items()}
    m = {n: torch.zeros_like(p) for n, p in P.items()}
    log = {n: [] for n in ("loss", "mse", "l1", "l0", "competition", "temporal", "pairs", "alpha", "theta", "grad_norm")}
    prev = None
    first = True
    for t in range(STEPS):
        alpha, theta, compete = schedule(c, t)
        z = x[t] @ P["W_enc"].T + P["b_enc"]
        l0 = None
        if c["arch"] == "relu":
            f = torch.relu(z)
        elif c["arch"] == "jumprelu":
            th = P["log_threshold"].exp()
            f = JumpReLU.apply(z, th, c["bandwidth"])
            l0 = Step.apply(z, th, c["bandwidth"]).sum(1).mean()
        else:
            r = torch.relu(z)
            if c["arch"] == "topk":
                kth = r.topk(c["topk"], dim=1).values[:, -1:]
            else:
                kth = r.flatten().topk(c["topk"] * B).values[-1]
            f = r * (r >= kth) * (r > 0)
        xh = f @ P["W_dec"] + P["b_dec"]
        mse = (x[t] - xh).pow(2).sum(1).mean()
        l1 = f.sum(1).mean()
        loss = mse + alpha * c["lambda_s"] * (l0 if c["arch"] == "jumprelu" else l1)
        comp = temp = torch.zeros(())
        pairs = 0
        if c["competition"] and compete:
            ff = f if c["competition_gradient"] == "through" else f.detach()
            n = ff.norm(dim=0)
            safe = torch.where(n > 0, n, torch.ones_like(n))
            C = (ff.T @ ff) / (safe[:, None] * safe[None, :])
            C = C * (1 - torch.eye(K))
            mask = (C > theta).double()
            S = P["W_dec"] @ P["W_dec"].T
            comp = c["lambda_o"] * (C * mask * S.pow(2)).sum()
            pairs = int(mask.sum().item()) // 2
            loss = loss + comp
        if c["temporal"] != "off" and compete:
            if c["temporal"] == "step":
                if prev is not None:
                    temp = c["lambda_t"] * (f - prev).pow(2).sum(1).mean()
            else:   # position: rows are whole contexts of CTX tokens; row r-1 precedes row r unless r starts a context
                later = torch.arange(B) % CTX != 0
                temp = c["lambda_t"] * (f[later] - f.detach().roll(1, 0)[later]).pow(2).sum() / B
            loss = loss + temp
        prev = f.detach()
        for p in P.values():
            p.grad = None
        loss.backward()
        norm = torch.sqrt(sum(p.grad.pow(2).sum() for p in P.values()))
        if first and (compete or t == STEPS - 1):
            T["first_competition_step"] = torch.tensor([t], dtype=torch.int64)
            for n_, p in P.items():
                T[f"grad.{n_}"] = p.grad.clone()
                T[f"at.{n_}"] = p.detach().clone()
            T["at.f"] = f.detach().clone()
            first = False
        scale = min(1.0, c["clip"] / norm.item()) if norm > 0 else 1.0
        with torch.no_grad():
            for n_, p in P.items():
                g = p.grad * scale
                m[n_] = c["beta1"] * m[n_] + (1 - c["beta1"]) * g
                v[n_] = c["beta2"] * v[n_] + (1 - c["beta2"]) * g * g
                mh = m[n_] / (1 - c["beta1"] ** (t + 1))
                vh = v[n_] / (1 - c["beta2"] ** (t + 1))
                p -= c["lr"] * mh / (vh.sqrt() + c["eps"])
            for n_ in ("W_enc", "W_dec"):
                P[n_] /= P[n_].norm(dim=1, keepdim=True)
        for key, val in dict(loss=loss, mse=mse, l1=l1, l0=(f > 0).double().sum(1).mean(), competition=comp, temporal=temp,
                             pairs=pairs, alpha=alpha, theta=theta, grad_norm=norm).items():
            log[key].append(float(val))
    for n_, p in P.items():
        T[f"final.{n_}"] = p.detach().clone()
    for key, val in log.items():
        T[f"log.{key}"] = torch.tensor(val)
    T["x"] = x
    meta = {"config": json.dumps({**c, "d": D, "k": K, "batch": B, "context": CTX, "steps": STEPS}), "variant": name}
    save_file({k_: t_.contiguous() for k_, t_ in T.items()}, os.path.join(OUT, name + ".safetensors"), metadata=meta)
    print(f"{name:28s} loss {log['loss'][0]:.4f} -> {log['loss'][-1]:.4f}  mse {log['mse'][-1]:.4f}  l0 {log['l0'][-1]:.2f}"
          f"  pairs {log['pairs'][-1]:.0f}  competition {log['competition'][-1]:.5f}  temporal {log['temporal'][-1]:.5f}")


os.makedirs(OUT, exist_ok=True)
for name, overrides in RUNS.items():
    run(name, overrides)
