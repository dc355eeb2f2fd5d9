#!/usr/bin/env python3
"""Compares dynamoe with PyTorch on networks for text.

The sizes tiny, small and medium are per-token networks: an embedding of GPT-2's 50,257 tokens, layers of
experts with a residual each, a layer normalization, a linear head; 32 sequences of 128 tokens. The size
transformer is a decoder of 8 layers of width 256 with 8 heads, rotary positions, RMS norms and gated experts
without biases, 8 experts in the first layer to 1 in the last, on bytes; 16 sequences of 256. Experts are
chosen by the 70th percentile of a token's own gates, with weights from a softmax at temperature 0.5 over them;
in training the gates have noise of 0.1. Cross-entropy, AdamW (1e-3, weight decay 0.01), float32.

The programs run in turn, several times, each in a process of its own. The table shows medians over the turns: a
step's time, the peak memory of the process, and for the transformer the tokens generated per second, one by one
with a cache of keys and values, for the first 200 of a sequence.
"""

import argparse
import importlib.util
import json
import math
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

from peers import DECAY, NOISE, RATE, TAU, TEMPERATURE, digits, expert_counts, median_ms, whole

# Layers, width, vocabulary, sequences, tokens of a sequence.
SIZES = {
    "tiny": (2, 64, 50257, 32, 128),
    "small": (4, 128, 50257, 32, 128),
    "medium": (6, 256, 50257, 32, 128),
    "transformer": (8, 256, 256, 16, 256),
}
HEADS, TRANSFORMER_HIDDEN, GENERATED = 8, 280, 200
OURS, PEER = "dynamoe", "torch"


def torch_figures(size, threads):
    import torch
    from torch import nn
    from torch.nn import functional

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    layers, width, vocabulary, batch, sequence = SIZES[size]
    is_transformer = size == "transformer"
    hidden = TRANSFORMER_HIDDEN if is_transformer else width // 2

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
            self.down = nn.Linear(hidden, width, bias=False)

        def forward(self, x):
            return self.down(functional.silu(self.gate(x)) * self.up(x))

    def expert():
        if is_transformer:
            return Gated()
        return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))

    class Experts(nn.Module):
        """Each expert gathers its tokens and adds its weighted outputs."""

        def __init__(self, count):
            super().__init__()
            self.router = nn.Linear(width, count)
            self.experts = nn.ModuleList(expert() for _ in range(count))

        def forward(self, x):
            gates = self.router(x).softmax(dim=-1)
            if self.training:
                gates = gates + NOISE * torch.randn_like(gates)
            if len(self.experts) == 1:
                chosen = torch.ones_like(gates, dtype=torch.bool)
            else:
                chosen = gates > torch.quantile(gates, TAU, dim=-1, keepdim=True)
            weights = (gates / TEMPERATURE).masked_fill(~chosen, -math.inf).softmax(dim=-1)
            y = torch.zeros_like(x)
            for number, one in enumerate(self.experts):
                rows = chosen[:, number].nonzero(as_tuple=True)[0]
                if len(rows):
                    y.index_add_(0, rows, one(x[rows]) * weights[rows, number, None])
            return y

    class Rms(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(width))

        def forward(self, x):
            return x * torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + 1e-5) * self.gain

    head_width = width // HEADS
    angles = torch.outer(torch.arange(1024.0), 10000.0 ** (-torch.arange(0, head_width, 2) / head_width))
    cos, sin = (torch.cat([f(angles), f(angles)], dim=-1) for f in (torch.cos, torch.sin))

    def rotate(x, first):
        """Rotary positions on (sequences, heads, tokens, head width)."""
        a, b = x.chunk(2, dim=-1)
        positions = slice(first, first + x.shape[2])
        return x * cos[positions] + torch.cat([-b, a], dim=-1) * sin[positions]

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))

        def forward(self, x, cache):
            split = lambda y: y.view(x.shape[0], x.shape[1], HEADS, head_width).transpose(1, 2)
            first = cache[0].shape[2] if cache else 0
            q, k, v = rotate(split(self.q(x)), first), rotate(split(self.k(x)), first), split(self.v(x))
            if cache is not None:
                if cache:
                    k, v = torch.cat([cache[0], k], dim=2), torch.cat([cache[1], v], dim=2)
                cache[:] = [k, v]
            y = functional.scaled_dot_product_attention(q, k, v, is_causal=x.shape[1] > 1)
            return self.o(y.transpose(1, 2).reshape(x.shape))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(vocabulary, width)
            self.layers = nn.ModuleList(Experts(count) for count in expert_counts(layers))
            norms = 2 * layers + 1 if is_transformer else 0
            self.attention = nn.ModuleList(Attention() for _ in range(layers if is_transformer else 0))
            self.norms = nn.ModuleList(Rms() for _ in range(norms))
            self.final = self.norms[-1] if is_transformer else nn.LayerNorm(width)
            self.head = nn.Linear(width, vocabulary, bias=not is_transformer)

        def forward(self, ids, caches=None):
            h = self.table(ids)
            for l, experts in enumerate(self.layers):
                if is_transformer:
                    h = h + self.attention[l](self.norms[2 * l](h), caches[l] if caches else None)
                    x = self.norms[2 * l + 1](h)
                else:
                    x = h
                h = h + experts(x.reshape(-1, width)).view(h.shape)
            return self.head(self.final(h))

    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY, foreach=True)
    ids, targets = (torch.randint(0, vocabulary, (batch, sequence)) for _ in range(2))

    def train():
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(network(ids).view(-1, vocabulary), targets.view(-1)).backward()
        optimizer.step()

    found = {"step_ms": median_ms(train, 7, warm_up=2)}
    # Kibibytes.
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    if is_transformer:
        network.eval()
        rates = []
        for _ in range(5):
            with torch.inference_mode():
                caches, token = [[] for _ in range(layers)], ids[:1, :1]
                begin = time.perf_counter()
                for _ in range(GENERATED):
                    probabilities = network(token, caches)[:, -1].softmax(dim=-1)
                    token = torch.multinomial(probabilities, 1)
                rates.append(GENERATED / (time.perf_counter() - begin))
        found["tokens_per_second"] = statistics.median(rates)
    return found


def our_figures(program, size, threads):
    """The figures of `dynamoe bench text`."""
    _, _, vocabulary, batch, sequence = SIZES[size]
    preset = "transformer-10m" if size == "transformer" else size
    tokenizer = {50257: "gpt2", 256: "bytes"}[vocabulary]
    settings = [f"batch={batch}", f"sequence={sequence}", f"tokenizer={tokenizer}", "clip_norm=0"]
    command = [program, "bench", "text", "--preset", preset, "--dataset", "tinyshakespeare", "--threads", str(threads), "--json"]
    command += [part for setting in settings for part in ("--set", setting)]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return {
        "step_ms": report["train_step_ms"]["median"],
        "peak_mb": report["train_peak_rss_mb"],
        "tokens_per_second": report["generated_tokens_per_second"],
    }


def in_own_process(size, threads):
    """Runs this script for PyTorch and one size."""
    command = [sys.executable, __file__, "--measure", "--sizes", size, "--threads", str(threads)]
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads))
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout)


# Key, what to call it, and whether less is better.
FIGURES = [("step_ms", "training step [ms]", True), ("peak_mb", "peak memory [MB]", True), ("tokens_per_second", "generated tokens/s", False)]


def table(results):
    """Markdown: a row for each size and figure; the ratio says how many times better dynamoe is."""
    rows = [["size", "", OURS, PEER, "ratio"], ["---"] * 5]
    for size, measured in results.items():
        for key, what, less in FIGURES:
            if not all(key in turn for turn in measured[PEER]):
                continue
            ours, theirs = (statistics.median(turn[key] for turn in measured[who]) for who in (OURS, PEER))
            ratio = theirs / ours if less else ours / theirs
            rows.append([size, what, digits(ours), digits(theirs), digits(ratio)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description="Compares dynamoe with PyTorch on networks for text.")
    parser.add_argument("--sizes", default=",".join(SIZES), help="of tiny, small, medium, transformer [default: all]")
    parser.add_argument("--turns", type=whole, default=3, help="how often each is measured [default: 3]")
    parser.add_argument("--threads", type=whole, default=2, help="for each [default: 2]")
    parser.add_argument("--program", default=str(root / "target/release/dynamoe"), help="our program [default: the release build]")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = options.sizes.split(",")
    for size in sizes:
        if size not in SIZES:
            parser.error(f"no size `{size}`; there are {', '.join(SIZES)}")
    if options.measure:
        print(json.dumps(torch_figures(sizes[0], options.threads)))
        return
    if not pathlib.Path(options.program).is_file():
        sys.exit(f"no program at {options.program}; run `cargo build --release`, or give --program")
    if not importlib.util.find_spec("torch"):
        sys.exit("torch is not installed: pip install torch")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    results = {size: {OURS: [], PEER: []} for size in sizes}
    for size, measured in results.items():
        for turn in range(options.turns):
            print(f"{size}, turn {turn + 1} of {options.turns}", file=sys.stderr)
            measured[OURS].append(our_figures(options.program, size, options.threads))
            measured[PEER].append(in_own_process(size, options.threads))
    from importlib.metadata import version

    print(f"{options.threads} threads, medians of {options.turns} turns; torch {version('torch')}\n")
    print(table(results))


if __name__ == "__main__":
    main()
