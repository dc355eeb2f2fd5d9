#!/usr/bin/env python3
"""Compares dynamoe with PyTorch and JAX on the same network.

For each size the contestants run in turn, several times over, each time in a process of its own; a
process measures medians over some tens of steps, and the table shows the median over the turns. So a
machine that is slow for a minute is slow for all of them. All are kept on as many processors as they have
threads, where the system can do that: JAX has no setting for it.

The network: a linear input layer (784 to d), layers of experts with a residual and a layer
normalization each, a linear head (10 classes). An expert is d -> d/2 -> d with ReLU; layers have from
8 experts (the first) to 1 (the last). A token goes to the experts whose gate lies above the 70th
percentile of its own gates, with weights from a softmax at temperature 0.5 over the chosen ones; in training
the gates have noise of 0.1. Cross-entropy, AdamW (1e-3, weight decay 0.01), batch 256, float32.
"""

import argparse
import importlib.util
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time

# Layers and width of each size.
SIZES = {"tiny": (2, 64), "small": (4, 128), "medium": (6, 256), "large": (8, 512)}
INPUT, CLASSES, BATCH = 784, 10, 256
TAU, TEMPERATURE, NOISE = 0.7, 0.5, 0.1
RATE, DECAY = 1e-3, 0.01
# What is compared: key, and what to call it.
FIGURES = [("train_step_ms", "training step"), ("eval_batch_ms", "inference, batch"), ("eval_one_ms", "inference, one image")]
OURS = "dynamoe"


def expert_counts(layers):
    """From 8 experts in the first layer to 1 in the last, in equal steps; halves are rounded up."""
    return [math.floor(8 - 7 * layer / (layers - 1) + 0.5) for layer in range(layers)]


def median_ms(work, repetitions, warm_up=8):
    """The median time of `work` in milliseconds."""
    for _ in range(warm_up):
        work()
    times = []
    for _ in range(repetitions):
        begin = time.perf_counter_ns()
        work()
        times.append(time.perf_counter_ns() - begin)
    return statistics.median(times) / 1e6


def figures(train, infer, images, before_inference=lambda: None):
    """All figures of one program. One image takes so little time that it is repeated more often."""
    train_step_ms = median_ms(train, 40)
    before_inference()
    one = images[:1]
    return {
        "train_step_ms": train_step_ms,
        "eval_batch_ms": median_ms(lambda: infer(images), 60),
        "eval_one_ms": median_ms(lambda: infer(one), 300, warm_up=30),
    }


def torch_figures(size, threads, dense):
    """PyTorch. `dense`: every expert runs on every token in one batched product, and the weights of those
    that were not chosen are 0. Otherwise each expert runs on its own tokens: gather, run, add back."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    layers, width = SIZES[size]
    hidden = width // 2

    def uniform(*shape, fan_in):
        return nn.Parameter((2 * torch.rand(*shape) - 1) / math.sqrt(fan_in))

    class Router(nn.Module):
        def __init__(self, experts):
            super().__init__()
            self.gate = nn.Linear(width, experts)

        def forward(self, tokens):
            """The mask of chosen experts, and their weights; 0 for the others."""
            gates = self.gate(tokens).softmax(dim=1)
            if self.training:
                gates = gates + NOISE * torch.randn_like(gates)
            if gates.shape[1] == 1:
                return torch.ones_like(gates, dtype=torch.bool), torch.ones_like(gates)
            chosen = gates > gates.quantile(TAU, dim=1, keepdim=True)
            logits = (gates / TEMPERATURE).masked_fill(~chosen, -math.inf)
            return chosen, logits.softmax(dim=1)

    class Dispatch(nn.Module):
        def __init__(self, experts):
            super().__init__()
            self.router = Router(experts)
            self.first = nn.ModuleList(nn.Linear(width, hidden) for _ in range(experts))
            self.second = nn.ModuleList(nn.Linear(hidden, width) for _ in range(experts))

        def forward(self, tokens):
            chosen, weights = self.router(tokens)
            out = torch.zeros_like(tokens)
            for e, (first, second) in enumerate(zip(self.first, self.second)):
                mine = chosen[:, e].nonzero().squeeze(1)
                if len(mine):
                    result = second(F.relu(first(tokens[mine])))
                    out = out.index_add(0, mine, result * weights[mine, e, None])
            return out

    class Dense(nn.Module):
        def __init__(self, experts):
            super().__init__()
            self.router = Router(experts)
            self.w1, self.b1 = uniform(experts, width, hidden, fan_in=width), nn.Parameter(torch.zeros(experts, 1, hidden))
            self.w2, self.b2 = uniform(experts, hidden, width, fan_in=hidden), nn.Parameter(torch.zeros(experts, 1, width))

        def forward(self, tokens):
            _, weights = self.router(tokens)
            inner = F.relu(torch.baddbmm(self.b1, tokens.expand(len(self.w1), -1, -1), self.w1))
            outer = torch.baddbmm(self.b2, inner, self.w2)
            return torch.einsum("etd,te->td", outer, weights)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.input, self.head = nn.Linear(INPUT, width), nn.Linear(width, CLASSES)
            kind = Dense if dense else Dispatch
            self.layers = nn.ModuleList(kind(experts) for experts in expert_counts(layers))
            self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))

        def forward(self, images):
            tokens = self.input(images)
            for layer, norm in zip(self.layers, self.norms):
                tokens = norm(tokens + layer(tokens))
            return self.head(tokens)

    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY, foreach=True)
    images, targets = torch.randn(BATCH, INPUT), torch.randint(CLASSES, (BATCH,))

    def train():
        optimizer.zero_grad()
        F.cross_entropy(network(images), targets).backward()
        optimizer.step()

    def infer(images):
        with torch.inference_mode():
            return network(images)

    return figures(train, infer, images, before_inference=network.eval)


def jax_figures(size):
    """JAX: dense as above, with the whole step compiled by `jit`; the arrays of a step are reused."""
    import jax
    from jax import numpy as jnp

    layers, width = SIZES[size]
    hidden = width // 2
    seeds = iter(jax.random.split(jax.random.key(1), 200))

    def uniform(*shape, fan_in):
        bound = 1 / math.sqrt(fan_in)
        return jax.random.uniform(next(seeds), shape, minval=-bound, maxval=bound)

    def linear(inputs, outputs):
        return {"w": uniform(inputs, outputs, fan_in=inputs), "b": jnp.zeros(outputs)}

    def layer(experts):
        return {
            "gate": linear(width, experts),
            "w1": uniform(experts, width, hidden, fan_in=width),
            "b1": jnp.zeros((experts, 1, hidden)),
            "w2": uniform(experts, hidden, width, fan_in=hidden),
            "b2": jnp.zeros((experts, 1, width)),
            "gain": jnp.ones(width),
            "bias": jnp.zeros(width),
        }

    parameters = {
        "input": linear(INPUT, width),
        "layers": [layer(experts) for experts in expert_counts(layers)],
        "head": linear(width, CLASSES),
    }

    def affine(p, x):
        return x @ p["w"] + p["b"]

    def mix(p, tokens, noise):
        """The weighted outputs of the chosen experts."""
        gates = jax.nn.softmax(affine(p["gate"], tokens), axis=1)
        if noise is not None:
            gates = gates + NOISE * jax.random.normal(noise, gates.shape)
        if gates.shape[1] == 1:
            weights = jnp.ones_like(gates)
        else:
            chosen = gates > jnp.quantile(gates, TAU, axis=1, keepdims=True)
            weights = jax.nn.softmax(jnp.where(chosen, gates / TEMPERATURE, -jnp.inf), axis=1)
        inner = jax.nn.relu(jnp.einsum("td,edh->eth", tokens, p["w1"]) + p["b1"])
        outer = jnp.einsum("eth,ehd->etd", inner, p["w2"]) + p["b2"]
        return jnp.einsum("etd,te->td", outer, weights)

    def forward(parameters, images, noise=None):
        tokens = affine(parameters["input"], images)
        for number, p in enumerate(parameters["layers"]):
            key = None if noise is None else jax.random.fold_in(noise, number)
            tokens = tokens + mix(p, tokens, key)
            centered = tokens - tokens.mean(axis=1, keepdims=True)
            variance = (centered * centered).mean(axis=1, keepdims=True)
            tokens = centered * jax.lax.rsqrt(variance + 1e-5) * p["gain"] + p["bias"]
        return affine(parameters["head"], tokens)

    def loss(parameters, images, targets, noise):
        logs = jax.nn.log_softmax(forward(parameters, images, noise), axis=1)
        return -jnp.take_along_axis(logs, targets[:, None], axis=1).mean()

    def adamw(p, g, m, v, step):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        scale = jnp.sqrt(v / (1 - 0.999**step)) + 1e-8
        return p * (1 - RATE * DECAY) - RATE * m / (1 - 0.9**step) / scale, m, v

    def update(state, images, targets):
        parameters, first, second, step = state
        noise = jax.random.fold_in(jax.random.key(2), step)
        gradients = jax.grad(loss)(parameters, images, targets, noise)
        step = step + 1
        leaves, tree = jax.tree.flatten(parameters)
        new = [adamw(*numbers, step) for numbers in zip(leaves, *map(jax.tree.leaves, (gradients, first, second)))]
        return *(tree.unflatten(part) for part in zip(*new)), step

    update, infer = jax.jit(update, donate_argnums=0), jax.jit(forward)
    zeros = lambda: jax.tree.map(jnp.zeros_like, parameters)
    state = [(parameters, zeros(), zeros(), jnp.int32(0))]
    images = jax.random.normal(next(seeds), (BATCH, INPUT))
    targets = jax.random.randint(next(seeds), (BATCH,), 0, CLASSES)

    def train():
        state[0] = jax.block_until_ready(update(state[0], images, targets))

    return figures(train, lambda images: jax.block_until_ready(infer(state[0][0], images)), images)


def our_figures(program, size, threads):
    """Of `dynamoe bench step`."""
    command = [program, "bench", "step", "--size", size, "--norm", "post", "--batch", str(BATCH)]
    command += ["--input", str(INPUT), "--classes", str(CLASSES), "--threads", str(threads), "--json"]
    report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return {
        "train_step_ms": report["train_step_ms"]["median"],
        "eval_batch_ms": report["eval_batch_ms"]["median"],
        "eval_one_ms": report["eval_one_us"]["median"] / 1e3,
    }


# Name of each peer, and the package it needs.
PEERS = {"torch dispatch": "torch", "torch dense": "torch", "jax dense": "jax"}


def peer_figures(peer, size, threads):
    """Measured in this process."""
    if peer == "jax dense":
        return jax_figures(size)
    return torch_figures(size, threads, dense=peer == "torch dense")


def in_own_process(peer, size, threads):
    """Runs this script for one contestant and one size."""
    command = [sys.executable, __file__, "--measure", peer, "--sizes", size, "--threads", str(threads)]
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), JAX_PLATFORMS="cpu")
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    return json.loads(done.stdout)


def versions(peers):
    """`torch 2.9.1, jax 0.8.1`."""
    from importlib.metadata import version

    return ", ".join(f"{package} {version(package)}" for package in dict.fromkeys(PEERS[peer] for peer in peers))


def digits(number):
    """With three significant digits."""
    return f"{number:.{max(0, 2 - math.floor(math.log10(number)))}f}"


def table(results, peers):
    """Markdown: a row for each size and figure."""
    head = ["size", "", f"{OURS} [ms]", *(f"{peer} [ms]" for peer in peers), f"fastest peer / {OURS}"]
    rows = [head, ["---"] * len(head)]
    for size, measured in results.items():
        for key, what in FIGURES:
            medians = {who: statistics.median(turn[key] for turn in turns) for who, turns in measured.items()}
            ours = medians[OURS]
            ratio = digits(min(medians[peer] for peer in peers) / ours) if peers else ""
            rows.append([size, what, digits(ours), *(digits(medians[peer]) for peer in peers), ratio])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def whole(text):
    """A number of at least one."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {number}")
    return number


def arguments():
    root = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description="Compares dynamoe with PyTorch and JAX on the same network.")
    parser.add_argument("--sizes", default=",".join(SIZES), help="of tiny, small, medium, large [default: all]")
    parser.add_argument("--turns", type=whole, default=5, help="how often each is measured [default: 5]")
    parser.add_argument("--threads", type=whole, default=2, help="for each [default: 2]")
    parser.add_argument("--program", default=str(root / "target/release/dynamoe"), help="our program [default: the release build]")
    parser.add_argument("--measure", choices=PEERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.sizes = options.sizes.split(",")
    for size in options.sizes:
        if size not in SIZES:
            parser.error(f"no size `{size}`; there are {', '.join(SIZES)}")
    return options


def main():
    options = arguments()
    if options.measure:
        print(json.dumps(peer_figures(options.measure, options.sizes[0], options.threads)))
        return
    if not pathlib.Path(options.program).is_file():
        sys.exit(f"no program at {options.program}; run `cargo build --release`, or give --program")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    peers = [peer for peer, package in PEERS.items() if importlib.util.find_spec(package)]
    for package in sorted({PEERS[peer] for peer in PEERS if peer not in peers}):
        print(f"{package} is not installed: left out; to compare with it: pip install {package}", file=sys.stderr)
    results = {size: {who: [] for who in [OURS, *peers]} for size in options.sizes}
    for size, measured in results.items():
        for turn in range(options.turns):
            for who, turns in measured.items():
                print(f"{size}, turn {turn + 1} of {options.turns}: {who}", file=sys.stderr)
                ours = who == OURS
                turns.append(our_figures(options.program, size, options.threads) if ours else in_own_process(who, size, options.threads))
    with_versions = f"; {versions(peers)}" if peers else ""
    print(f"Batch {BATCH}, {options.threads} threads, medians of {options.turns} turns{with_versions}\n")
    print(table(results, peers))


if __name__ == "__main__":
    main()
