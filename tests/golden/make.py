"""Writes tiny.json: what PyTorch computes for tiny networks, for tests/golden.rs to compare with.

Run it with `python tests/golden/make.py` where PyTorch is installed. The committed values were made on a
CPU by torch 2.15.0; other versions differ in the last digits.

The network is written here a second time, from the paper and in plain PyTorch, with nothing taken from the
Rust code but the names and shapes of the parameters. Everything is computed in float64. The initial
parameters and the inputs are whole multiples of 1/256 and 1/8, exact in float32 too, so that both
precisions of the engine start from the same numbers.
"""

import json
import pathlib

import torch
from torch.nn import functional as F

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
random = torch.Generator().manual_seed(1)

INPUTS, CLASSES, WIDTH, HIDDEN, TOKENS, STEPS = 12, 5, 8, 4, 16, 10
ROUTED, DENSE = [8, 3, 1], [1, 1, 1]
TAU, TEMPERATURE = 0.7, 0.5
LR, WEIGHT_DECAY = 1e-2, 0.01
CASES = {
    "final": dict(norm="final", experts=ROUTED, routed=True),
    "post": dict(norm="post", experts=ROUTED, routed=True),
    "pre": dict(norm="pre", experts=ROUTED, routed=True),
    "dense": dict(norm="post", experts=DENSE, routed=False),
}


def shapes(norm, experts, routed):
    """The names of the parameters, in the engine's order, with their shapes."""
    yield "input.w", (INPUTS, WIDTH)
    yield "input.b", (WIDTH,)
    for i, count in enumerate(experts):
        if routed:
            yield f"layers.{i}.router.gate.w", (WIDTH, count)
            yield f"layers.{i}.router.gate.b", (count,)
        yield f"layers.{i}.experts.w1", (count, WIDTH, HIDDEN)
        yield f"layers.{i}.experts.b1", (count, HIDDEN)
        yield f"layers.{i}.experts.w2", (count, HIDDEN, WIDTH)
        yield f"layers.{i}.experts.b2", (count, WIDTH)
    for i in range({"final": 1, "post": len(experts), "pre": len(experts) + 1}[norm]):
        yield f"norms.{i}.gain", (WIDTH,)
        yield f"norms.{i}.bias", (WIDTH,)
    yield "head.w", (WIDTH, CLASSES)
    yield "head.b", (CLASSES,)


def is_weight(name):
    """Whether weight decay applies: not to biases and norms."""
    return name.split(".")[-1] in ("w", "w1", "w2")


def initial(name, shape):
    """Random everywhere, biases and norms too: a zero or a one would hide mistakes."""
    fan_in = shape[-2] if is_weight(name) else 16
    value = (2 * torch.rand(shape, generator=random) - 1) / fan_in**0.5
    return torch.round(256 * (value + name.endswith("gain"))) / 256


def gates(p, layer, x):
    """The weight of each expert for each token: the percentile rule to the letter."""
    g = torch.softmax(x @ p[f"{layer}.router.gate.w"] + p[f"{layer}.router.gate.b"], dim=1)
    chosen = g > torch.quantile(g, TAU, dim=1, keepdim=True)
    largest = F.one_hot(g.argmax(dim=1), g.shape[1]).bool()
    chosen = torch.where(chosen.any(dim=1, keepdim=True), chosen, largest)
    return torch.softmax(torch.where(chosen, g / TEMPERATURE, -torch.inf), dim=1)


def forward(p, x, norm, experts, routed):
    """The logits of a batch."""

    def normalize(i, x):
        return F.layer_norm(x, (WIDTH,), p[f"norms.{i}.gain"], p[f"norms.{i}.bias"], eps=1e-5)

    x = x @ p["input.w"] + p["input.b"]
    for i, count in enumerate(experts):
        layer = f"layers.{i}"
        token = normalize(i, x) if norm == "pre" else x
        weight = gates(p, layer, token) if routed else torch.ones(len(x), count)
        w1, b1, w2, b2 = (p[f"{layer}.experts.{name}"] for name in ("w1", "b1", "w2", "b2"))
        for e in range(count):
            x = x + weight[:, e : e + 1] * (torch.relu(token @ w1[e] + b1[e]) @ w2[e] + b2[e])
        if norm == "post":
            x = normalize(i, x)
    if norm == "final":
        x = normalize(0, x)
    elif norm == "pre":
        x = normalize(len(experts), x)
    return x @ p["head.w"] + p["head.b"]


def train(batches, start, **case):
    """A step of AdamW on each batch, from the parameters `start`."""
    p = {name: value.clone().requires_grad_() for name, value in start.items()}
    groups = [
        {"params": [v for name, v in p.items() if is_weight(name)], "weight_decay": WEIGHT_DECAY},
        {"params": [v for name, v in p.items() if not is_weight(name)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.999), eps=1e-8)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS)
    losses, gradients = [], []
    for x, targets in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(forward(p, x, **case), targets)
        loss.backward()
        losses.append(loss.item())
        gradients.append({name: flat(value.grad) for name, value in p.items()})
        optimizer.step()
        schedule.step()
    return {
        "losses": losses,
        "first_gradients": gradients[0],
        "last_gradients": gradients[-1],
        "parameters": {name: flat(value) for name, value in p.items()},
    }


def flat(value):
    """The numbers in row-major order."""
    return value.detach().flatten().tolist()


def main():
    batches = []
    for _ in range(STEPS):
        x = torch.round(8 * torch.randn(TOKENS, INPUTS, generator=random)) / 8
        batches.append((x, torch.randint(CLASSES, (TOKENS,), generator=random)))
    # One start for the three routed cases, which differ only in how many norms they use.
    starts = {}
    for routed, experts in ((True, ROUTED), (False, DENSE)):
        starts[routed] = {n: initial(n, s) for n, s in shapes("pre", experts, routed)}
    golden = {
        "torch": torch.__version__.split("+")[0],
        "inputs": INPUTS,
        "classes": CLASSES,
        "width": WIDTH,
        "hidden": HIDDEN,
        "tau": TAU,
        "temperature": TEMPERATURE,
        "lr": LR,
        "weight_decay": WEIGHT_DECAY,
        "batches": [{"x": flat(x), "targets": targets.tolist()} for x, targets in batches],
        "initial": {
            "routed" if routed else "dense": {
                name: {"shape": list(v.shape), "data": flat(v)} for name, v in start.items()
            }
            for routed, start in starts.items()
        },
        "cases": {},
    }
    for name, case in CASES.items():
        start = {n: starts[case["routed"]][n] for n, _ in shapes(**case)}
        golden["cases"][name] = case | {"outcome": train(batches, start, **case)}
    path = pathlib.Path(__file__).with_name("tiny.json")
    # json writes the shortest digits, up to 17, that read back as the same number.
    path.write_text(json.dumps(golden, separators=(",", ":")).replace(',"', ',\n"') + "\n")
    for name, case in golden["cases"].items():
        print(name, *(f"{loss:.6f}" for loss in case["outcome"]["losses"]))
    print(path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
