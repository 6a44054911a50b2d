"""Speed and memory of the hash-grid kernels on the CPU against the plain-torch reference, in one run.

    python benchmarks/hashgrid_cpu.py [--runs 7] [--threads N]

8 levels x 2 features, table 2^15, perceptron 32 x 2, batch 65,536. Variants take turns, so that a drift of the
machine's speed hits both; figures are medians, ratios are taken pair by pair. Peak memory is the resident set of a
process that runs one variant alone; the last line compresses a generated 256^3 float32 volume.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from machine import describe

from neurcomp_core import threads
from neurcomp_core.codec import Context, usable_cpus
from neurcomp_core.codecs.hashgrid import HashGrid
from neurcomp_core.field import Field, full_region
from neurcomp_core.nets import network as nn
from neurcomp_core.nets.grid import GridLayout, Lattice
from neurcomp_core.nets.model import Network
from neurcomp_core.pipeline import compress
from neurcomp_core.target import Ratio

LAYOUT = GridLayout(dims=3, levels=8, features=2, log2_table=15, base=8, growth=1.5)
WIDTH, HIDDEN, BATCH = 32, 2, 65536
LATTICE = 128
LATTICE_3D = Lattice((LATTICE, LATTICE, LATTICE))


class Step:
    """One variant of the network on one batch of a smooth field."""

    def __init__(self, reference: bool) -> None:
        generator = torch.Generator().manual_seed(0)
        self.encode = nn.encode_reference if reference else nn.encode
        self.mlp = nn.mlp_reference if reference else nn.mlp
        parameters = nn.initial_parameters(LAYOUT, WIDTH, HIDDEN, 1, generator)
        self.parameters = [p.requires_grad_() for p in parameters]
        self.points = torch.rand(BATCH, 3, generator=generator)
        self.targets = torch.sin(9 * self.points.sum(dim=1))[None]
        self.upstream = torch.randn(LAYOUT.width, BATCH, generator=generator)
        self.optimiser = torch.optim.Adam(self.parameters, lr=1e-2, fused=True)

    def encoding(self) -> None:
        """Encode forward and backward."""
        table = self.parameters[0]
        torch.autograd.grad(self.encode(self.points, table, LAYOUT), table, self.upstream)

    def training(self) -> None:
        """Forward, squared error, backward, Adam."""
        self.optimiser.zero_grad()
        output = self.mlp(self.encode(self.points, self.parameters[0], LAYOUT), tuple(self.parameters[1:]))
        ((output - self.targets) ** 2).mean().backward()
        self.optimiser.step()


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(name: str, work: str, runs: int, wanted: float) -> None:
    """Time both variants in turn and print medians and the pairwise ratio."""
    kernels, reference = Step(False), Step(True)
    pairs = []
    for run in range(runs + 1):
        pair = seconds(getattr(kernels, work)), seconds(getattr(reference, work))
        if run:  # the first compiles and warms up
            pairs.append(pair)
    a, b = np.median(pairs, axis=0)
    ratio = np.median([r / k for k, r in pairs])
    print(
        f"{name:26s} kernels {a * 1e3:7.2f} ms   plain torch {b * 1e3:7.2f} ms   {ratio:5.1f} x (wanted: {wanted:g} x)"
        f"   peak memory {peak('kernels', work):.0f} / {peak('reference', work):.0f} MiB"
    )


def lattice(runs: int) -> None:
    """Decoding of a whole lattice, against the same points one by one."""
    network = Network(LAYOUT, WIDTH, HIDDEN, 1, LATTICE_3D)
    parameters = [p.detach().numpy() for p in Step(False).parameters]
    region = full_region(LATTICE_3D.shape)
    times = [seconds(lambda: network.evaluate(parameters, region, 1)) for _ in range(runs + 1)][1:]
    grid = (np.stack(np.meshgrid(*[np.arange(LATTICE)] * 3, indexing="ij")[::-1], -1).reshape(-1, 3) + 0.5) / LATTICE
    points = torch.from_numpy(grid.astype(np.float32)).split(BATCH)
    tensors = [torch.from_numpy(p) for p in parameters]

    def plain() -> None:
        for part in points:
            nn.mlp_reference(nn.encode_reference(part, tensors[0], LAYOUT), tuple(tensors[1:]))

    slow = np.median([seconds(plain) for _ in range(3)])
    voxels = LATTICE**3
    fast = float(np.median(times))
    print(
        f"{f'decode {LATTICE}^3 lattice':26s} kernels {voxels / fast / 1e6:.1f} M voxels/s (wanted: 3)   plain torch "
        f"{voxels / slow / 1e6:.2f} M voxels/s   {slow / fast:.0f} x   "
        f"peak memory {peak('kernels', 'lattice'):.0f} MiB"
    )


def peak(variant: str, work: str) -> float:
    """Peak resident memory in MiB of a fresh process that runs one variant."""
    command = [sys.executable, __file__, "--child", variant, work]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def child(variant: str, work: str) -> None:
    """Run one variant and print this process's peak memory."""
    if work == "volume":
        values = np.random.default_rng(0).standard_normal((256, 256, 256), dtype=np.float32)
        for axis in range(3):
            values = np.cumsum(values, axis=axis, dtype=np.float32)
        compress(Field(values), Ratio(100), HashGrid.from_preset("balanced", steps=120), Context())
    elif work == "lattice":
        network = Network(LAYOUT, WIDTH, HIDDEN, 1, LATTICE_3D)
        network.evaluate([p.detach().numpy() for p in Step(False).parameters], full_region(LATTICE_3D.shape), 1)
    else:
        step = Step(variant == "reference")
        for _ in range(3):
            getattr(step, work)()
    # Not getrusage: its figure starts from the parent's.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(json.dumps(int(status["VmHWM"].split()[0]) / 1024))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=usable_cpus())
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(*args.child)
        return
    print(describe(), f"{args.threads} threads", sep=", ")
    with threads.limit(args.threads):
        compare("encode forward + backward", "encoding", args.runs, 8)
        compare("training step", "training", args.runs, 3)
        lattice(args.runs)
    print(f"compress 256^3 float32 (64 MiB): peak memory {peak('kernels', 'volume'):.0f} MiB (wanted: 2048)")


if __name__ == "__main__":
    main()
