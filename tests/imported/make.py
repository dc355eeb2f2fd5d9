#!/usr/bin/env python3
"""Makes a tiny network in the published layout of top-p routing, and its answers, with NumPy alone.

    pip install numpy && python tests/imported/make.py

Layers 0 and 2 have experts, layer 1 has one without a router. All numbers are computed in float64.
"""

import json
import pathlib

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
CONFIG = {
    "vocab_size": 11,
    "hidden_size": 8,
    "intermediate_size": 6,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "num_experts": 4,
    "expert_frequency": 2,
    "top_p_threshold": 0.75,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}
IDS = [3, 1, 4, 1, 5, 9, 2, 6, 5]
V, D, F, L, H, N = (CONFIG[k] for k in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_experts"))

random = np.random.default_rng(7)
tensors = {}


def tensor(name, *shape, around=0.0, scale=0.6):
    tensors[name] = (around + scale * random.standard_normal(shape)).astype(np.float32)


def expert(prefix):
    for part, shape in (("gate", (F, D)), ("up", (F, D)), ("down", (D, F))):
        tensor(f"{prefix}.{part}_proj.weight", *shape)


def is_routed(layer):
    return layer % CONFIG["expert_frequency"] == 0


tensor("model.embed_tokens.weight", V, D)
for l in range(L):
    at = f"model.layers.{l}"
    for part in "qkvo":
        tensor(f"{at}.self_attn.{part}_proj.weight", D, D)
    for norm in ("input_norm", "post_attention_norm"):
        tensor(f"{at}.{norm}.weight", D, around=1.0, scale=0.2)
    if is_routed(l):
        tensor(f"{at}.mlp.router.weight", N, D)
        for e in range(N):
            expert(f"{at}.mlp.experts.{e}")
    else:
        expert(f"{at}.mlp.mlp")
tensor("model.norm.weight", D, around=1.0, scale=0.2)
tensor("lm_head.weight", V, D)

w = {name: values.astype(np.float64) for name, values in tensors.items()}


def rms(x, name):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + CONFIG["rms_norm_eps"]) * w[name]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def turned(x):
    """Rotary positions on (tokens, head width)."""
    half = x.shape[1] // 2
    angles = np.outer(np.arange(len(x)), 10000.0 ** (-2.0 * np.arange(half) / x.shape[1]))
    a, b = x[:, :half], x[:, half:]
    return np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)], axis=1)


def attention(x, at):
    q, k, v = (x @ w[f"{at}.self_attn.{part}_proj.weight"].T for part in "qkv")
    width, heads = D // H, []
    for h in range(H):
        own = slice(h * width, (h + 1) * width)
        scores = turned(q[:, own]) @ turned(k[:, own]).T / np.sqrt(width)
        scores[np.triu_indices(len(x), 1)] = -np.inf
        heads.append(softmax(scores) @ v[:, own])
    return np.concatenate(heads, axis=1) @ w[f"{at}.self_attn.o_proj.weight"].T


def gated(x, prefix):
    gate, up, down = (w[f"{prefix}.{part}_proj.weight"] for part in ("gate", "up", "down"))
    a = gate @ x
    return down @ (a / (1 + np.exp(-a)) * (up @ x))


chosen = []


def experts(x, l):
    at = f"model.layers.{l}.mlp"
    if not is_routed(l):
        return np.stack([gated(row, f"{at}.mlp") for row in x])
    out, counts = np.zeros_like(x), []
    for t, row in enumerate(x):
        p = softmax(w[f"{at}.router.weight"] @ row)
        order = np.argsort(-p)
        count = int(np.argmax(np.cumsum(p[order]) > CONFIG["top_p_threshold"])) + 1
        counts.append(count)
        for e in order[:count]:
            out[t] += p[e] * gated(row, f"{at}.experts.{e}")
    chosen.append(counts)
    return out


h = w["model.embed_tokens.weight"][IDS]
for l in range(L):
    at = f"model.layers.{l}"
    h = h + attention(rms(h, f"{at}.input_norm.weight"), at)
    h = h + experts(rms(h, f"{at}.post_attention_norm.weight"), l)
logits = rms(h, "model.norm.weight") @ w["lm_head.weight"].T

# safetensors: the header's length, the header, the bytes.
header, offset = {}, 0
for name, values in tensors.items():
    header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [offset, offset + values.nbytes]}
    offset += values.nbytes
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
body = b"".join(values.tobytes() for values in tensors.values())
(HERE / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + body)
(HERE / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
expected = {"ids": IDS, "k": chosen, "logits": [[round(float(v), 9) for v in row] for row in logits]}
(HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
