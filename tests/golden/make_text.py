#!/usr/bin/env python3
"""Losses and all gradients of two tiny networks for text, computed by PyTorch in float64.

    pip install torch && python tests/golden/make_text.py

One network without attention, one Transformer with grouped-query attention; both route by the percentile of a
token's own gates, without noise. Parameters have the names and shapes that dynamoe gives them.
"""

import json
import math
import pathlib

import torch
from torch.nn import functional

torch.manual_seed(5)
torch.set_default_dtype(torch.float64)
WIDTH, HIDDEN, VOCABULARY, EXPERTS = 8, 6, 11, [4, 1]
HEADS, GROUPS, HEAD = 4, 2, 2
TAU, TEMPERATURE, EPSILON = 0.4, 0.5, 1e-5
IDS, STARTS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 10], [0, 1, 4, 10]
TARGETS = [1, 4, 1, 5, 9, 2, 6, 5, 10, 0]


def parameters(transformer):
    shapes = {"embedding.table": (VOCABULARY, WIDTH)}
    for l, count in enumerate(EXPERTS):
        if transformer:
            shapes |= {f"attention.{l}.norm.gain": (WIDTH,), f"attention.{l}.q": (WIDTH, HEADS * HEAD), f"attention.{l}.o": (HEADS * HEAD, WIDTH)}
            shapes |= {f"attention.{l}.{part}": (WIDTH, GROUPS * HEAD) for part in "kv"}
        shapes |= {f"layers.{l}.router.gate.w": (WIDTH, count), f"layers.{l}.router.gate.b": (count,)}
        if transformer:
            shapes |= {f"layers.{l}.experts.w1": (count, WIDTH, 2 * HIDDEN), f"layers.{l}.experts.w2": (count, HIDDEN, WIDTH)}
        else:
            shapes |= {f"layers.{l}.experts.w1": (count, WIDTH, HIDDEN), f"layers.{l}.experts.b1": (count, HIDDEN)}
            shapes |= {f"layers.{l}.experts.w2": (count, HIDDEN, WIDTH), f"layers.{l}.experts.b2": (count, WIDTH)}
    if transformer:
        shapes |= {f"norms.{l}.gain": (WIDTH,) for l in range(len(EXPERTS) + 1)}
        shapes |= {"head.w": (VOCABULARY, WIDTH)}
    else:
        shapes |= {"norms.0.gain": (WIDTH,), "norms.0.bias": (WIDTH,), "head.w": (VOCABULARY, WIDTH), "head.b": (VOCABULARY,)}
    # Numbers of few digits, so that they are the same in float32.
    around = lambda name: 1.0 if name.endswith("gain") else 0.0
    random = lambda name, shape: (around(name) + 0.6 * torch.randn(shape)).mul(1024).round().div(1024)
    return {name: random(name, shape).requires_grad_() for name, shape in shapes.items()}


def rms(x, gain):
    return x / (x.pow(2).mean(-1, keepdim=True) + EPSILON).sqrt() * gain


def turned(x):
    """Rotary positions on (heads, tokens, head width)."""
    angles = torch.outer(torch.arange(float(x.shape[1])), 10000.0 ** (-2.0 * torch.arange(HEAD // 2) / HEAD))
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], dim=-1)


def attention(x, p, l):
    out = []
    for first, end in zip(STARTS, STARTS[1:]):
        part = x[first:end]
        split = lambda y, heads: y.view(end - first, heads, HEAD).transpose(0, 1)
        q = turned(split(part @ p[f"attention.{l}.q"], HEADS))
        k = turned(split(part @ p[f"attention.{l}.k"], GROUPS)).repeat_interleave(HEADS // GROUPS, 0)
        v = split(part @ p[f"attention.{l}.v"], GROUPS).repeat_interleave(HEADS // GROUPS, 0)
        scores = (q @ k.transpose(1, 2) / math.sqrt(HEAD)).masked_fill(torch.ones(end - first, end - first).triu(1).bool(), -math.inf)
        out.append((scores.softmax(-1) @ v).transpose(0, 1).reshape(end - first, -1))
    return torch.cat(out) @ p[f"attention.{l}.o"]


def experts(x, p, l, transformer):
    gates = (x @ p[f"layers.{l}.router.gate.w"] + p[f"layers.{l}.router.gate.b"]).softmax(-1)
    count = gates.shape[1]
    k = max(1, count - 1 - math.floor(TAU * (count - 1)))
    chosen = torch.zeros_like(gates, dtype=torch.bool).scatter(1, gates.topk(k, dim=1).indices, True)
    weights = (gates / TEMPERATURE).masked_fill(~chosen, -math.inf).softmax(-1)
    w1, w2 = p[f"layers.{l}.experts.w1"], p[f"layers.{l}.experts.w2"]
    y = 0
    for e in range(count):
        if transformer:
            gate, up = (x @ w1[e]).chunk(2, dim=-1)
            out = (functional.silu(gate) * up) @ w2[e]
        else:
            out = (x @ w1[e] + p[f"layers.{l}.experts.b1"][e]).relu() @ w2[e] + p[f"layers.{l}.experts.b2"][e]
        y = y + weights[:, e, None] * out
    return y


def loss(p, transformer):
    h = p["embedding.table"][IDS]
    for l in range(len(EXPERTS)):
        if transformer:
            h = h + attention(rms(h, p[f"attention.{l}.norm.gain"]), p, l)
            h = h + experts(rms(h, p[f"norms.{l}.gain"]), p, l, True)
        else:
            h = h + experts(h, p, l, False)
    if transformer:
        logits = rms(h, p[f"norms.{len(EXPERTS)}.gain"]) @ p["head.w"].T
    else:
        h = functional.layer_norm(h, (WIDTH,), p["norms.0.gain"], p["norms.0.bias"], EPSILON)
        logits = h @ p["head.w"].T + p["head.b"]
    return functional.cross_entropy(logits, torch.tensor(TARGETS))


cases = {}
for name, transformer in (("per-token", False), ("transformer", True)):
    p = parameters(transformer)
    value = loss(p, transformer)
    value.backward()
    flat = lambda tensor: [round(v, 10) for v in tensor.flatten().tolist()]
    numbers = {key: {"value": flat(tensor.detach()), "gradient": flat(tensor.grad)} for key, tensor in p.items()}
    cases[name] = {"loss": value.item(), "parameters": numbers}
out = {"ids": IDS, "starts": STARTS, "targets": TARGETS, "cases": cases}
path = pathlib.Path(__file__).resolve().parent / "text.json"
path.write_text(json.dumps(out, separators=(",", ":")).replace('"parameters"', '\n"parameters"').replace("},", "},\n") + "\n")
