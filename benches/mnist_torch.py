#!/usr/bin/env python3
"""The small network on MNIST in plain PyTorch.

    python benches/mnist_torch.py FOLDER [--epochs 20] [--threads 2] [--seed 1]

FOLDER holds MNIST's four IDX files, plain or as .gz. The network and the settings are those of
`dynamoe train --dataset mnist --preset small`: four layers of 8, 6, 3 and 1 experts, one layer
normalization before the head, AdamW with a cosine schedule from 1e-3 to 0, batch 256, an
evaluation after every epoch. Prints the accuracy and the seconds of the whole run, except for reading the files.
"""

import argparse
import gzip
import math
import pathlib
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

WIDTH, HIDDEN, EXPERTS = 128, 64, (8, 6, 3, 1)
TAU, TEMPERATURE, NOISE = 0.7, 0.5, 0.1
BATCH, TEST_BATCH = 256, 500


class Layer(nn.Module):
    """Routes each token to the experts above the percentile of its gates."""

    def __init__(self, count):
        super().__init__()
        self.gate = nn.Linear(WIDTH, count)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, WIDTH)) for _ in range(count)
        )

    def forward(self, x):
        gates = self.gate(x).softmax(dim=1)
        if self.training:
            gates = gates + NOISE * torch.randn_like(gates)
        if len(self.experts) == 1:
            chosen = torch.ones_like(gates, dtype=torch.bool)
        else:
            chosen = gates > gates.quantile(TAU, dim=1, keepdim=True)
        weights = (gates / TEMPERATURE).masked_fill(~chosen, -math.inf).softmax(dim=1)
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            rows = chosen[:, i].nonzero().squeeze(1)
            if len(rows):
                out = out.index_add(0, rows, expert(x[rows]) * weights[rows, i, None])
        return out


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.input = nn.Linear(784, WIDTH)
        self.layers = nn.ModuleList(Layer(count) for count in EXPERTS)
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x):
        x = self.input(x)
        for layer in self.layers:
            x = x + layer(x)
        return self.head(self.norm(x))


def read_idx(folder, name, header):
    """The bytes of an IDX file after its header."""
    plain, packed = folder / name, folder / f"{name}.gz"
    if not plain.is_file() and not packed.is_file():
        sys.exit(f"{plain}: not found, nor as .gz; give the folder with MNIST's IDX files")
    data = plain.read_bytes() if plain.is_file() else gzip.decompress(packed.read_bytes())
    return torch.frombuffer(bytearray(data[header:]), dtype=torch.uint8)


def read(folder, split):
    images = read_idx(folder, f"{split}-images-idx3-ubyte", 16).view(-1, 784).float() / 255
    return images, read_idx(folder, f"{split}-labels-idx1-ubyte", 8).long()


def whole(text):
    """A number of at least one."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {text}")
    return int(text)


def main():
    parser = argparse.ArgumentParser(description="MNIST with the network Small in PyTorch")
    parser.add_argument("folder", type=pathlib.Path, help="with MNIST's four IDX files")
    parser.add_argument("--epochs", type=whole, default=20, metavar="N", help="[default: 20]")
    parser.add_argument("--threads", type=whole, default=2, metavar="N", help="[default: 2]")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="[default: 1]")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)

    images, labels = read(options.folder, "train")
    test_images, test_labels = read(options.folder, "t10k")
    begin = time.perf_counter()
    mean, deviation = images.mean(), images.std(correction=0)
    images, test_images = (images - mean) / deviation, (test_images - mean) / deviation

    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01)
    steps = math.ceil(len(images) / BATCH) * options.epochs
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(steps, 1))
    for epoch in range(options.epochs):
        network.train()
        total = 0.0
        for rows in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            loss = F.cross_entropy(network(images[rows]), labels[rows])
            loss.backward()
            optimizer.step()
            rate.step()
            total += loss.item() * len(rows)
        network.eval()
        with torch.inference_mode():
            parts = zip(test_images.split(TEST_BATCH), test_labels.split(TEST_BATCH))
            right = sum((network(x).argmax(dim=1) == y).sum().item() for x, y in parts)
        accuracy = 100 * right / len(test_labels)
        print(f"epoch {epoch + 1:3}  train loss {total / len(images):.4f}  test accuracy {accuracy:.2f}%", flush=True)
    print(f"{time.perf_counter() - begin:.1f} s on {options.threads} threads, test accuracy {accuracy:.2f}%")


if __name__ == "__main__":
    main()
