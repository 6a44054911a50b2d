"""Hash-grid training on a GPU: Triton's kernels, plain torch and, where it is installed, tiny-cuda-nn, in one run.

    python benchmarks/gpu_hashgrid.py [--runs 7] [--json FILE]
    TRITON_INTERPRET=1 python benchmarks/gpu_hashgrid.py --toy --device cpu     # that it runs, not how fast

Needs torch with CUDA, Triton, NumPy and this repository on the path; numba only if it is there. 16 levels x 2 features,
table 2^19, perceptron 64 x 2, float32 volume of 256^3 with a turbulent spectrum (generated). Times are medians of CUDA
events after a warm-up; variants take turns. Printed beside each figure: what was wanted of it, and the bound that the
device's own rates of random reads and atomic additions, measured in the same run, set. About four minutes on an H200.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import no_numba
import numpy as np
import torch
import triton
import triton.language as tl
from machine import describe

no_numba.stand_in()

from neurcomp_core.codec import Context  # noqa: E402
from neurcomp_core.codecs.hashgrid import HashGrid, HashGridRecord  # noqa: E402
from neurcomp_core.field import Field  # noqa: E402
from neurcomp_core.fit.device_step import DeviceStep  # noqa: E402
from neurcomp_core.fit.host_step import HostStep  # noqa: E402
from neurcomp_core.fit.trainer import Trainer  # noqa: E402
from neurcomp_core.nets import network as nn  # noqa: E402
from neurcomp_core.nets import triton_encode  # noqa: E402
from neurcomp_core.nets.backends import backend_class  # noqa: E402
from neurcomp_core.nets.grid import GridLayout  # noqa: E402

# Triton's language is not typed.
# pyright: reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false

WANTED_ENCODE, WANTED_SECONDS, WANTED_NEAR, WANTED_RATIO = 400e6, 5.0, 0.3, 5.0


@dataclass(frozen=True)
class Scale:
    """How large the work is."""

    side: int
    levels: int
    log2_table: int
    width: int
    batch: int
    base: int
    schedules: tuple[int, ...]
    converged: int

    @property
    def growth(self) -> float:
        """Such that the finest level has a vertex per sample."""
        return float(np.float32((self.side / self.base) ** (1 / (self.levels - 1))))

    @property
    def layout(self) -> GridLayout:
        return GridLayout(3, self.levels, 2, self.log2_table, self.base, self.growth)


FULL = Scale(256, 16, 19, 64, 1 << 18, 16, (250, 500, 1000, 2000, 4000), 20_000)
TOY = Scale(16, 2, 9, 16, 512, 4, (4, 8), 12)


def turbulence(side: int) -> Field:
    """Noise of the spectrum k^(-5/3), zero mean and unit deviation."""
    rng = np.random.default_rng(0)
    spectrum = np.fft.rfftn(rng.standard_normal((side,) * 3, np.float32))
    axes = np.fft.fftfreq(side) * side, np.fft.fftfreq(side) * side, np.fft.rfftfreq(side) * side
    k = np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij", sparse=True)))
    # Energy per shell falls as k^(-5/3), amplitude per mode as its root over k; beyond a third of Nyquist faster.
    spectrum *= np.maximum(k, 1) ** (-11 / 6) * np.exp(-((k / (side / 4)) ** 2)) * (k > 0)
    values = np.fft.irfftn(spectrum, (side,) * 3, (0, 1, 2))
    return Field((values / values.std()).astype(np.float32), name="turbulence")


class Clock:
    """Times work on a device."""

    def __init__(self, device: torch.device, runs: int) -> None:
        self.device, self.runs = device, runs

    def once(self, work: Callable[[], object], times: int) -> float:
        """Seconds of one call, from `times` of them."""
        if self.device.type == "cpu":
            start = time.perf_counter()
            for _ in range(times):
                work()
            return (time.perf_counter() - start) / times
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(times):
            work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3 / times

    def compare(self, works: dict[str, Callable[[], object]], times: int) -> dict[str, float]:
        """Median seconds of each, in turns, after one unmeasured."""
        found: dict[str, list[float]] = {name: [] for name in works}
        for run in range(self.runs + 1):
            for name, work in works.items():
                seconds = self.once(work, times)
                if run:
                    found[name].append(seconds)
        return {name: statistics.median(part) for name, part in found.items()}


# ............................................................................................................. ceilings


@triton.jit
def _gather(table, rows, out, n, TILE: tl.constexpr):
    at = tl.program_id(0) * TILE + tl.arange(0, TILE)
    row = tl.load(rows + at, mask=at < n, other=0)
    value = tl.load(table + row.to(tl.int64) * 2, mask=at < n, other=0.0)
    value += tl.load(table + row.to(tl.int64) * 2 + 1, mask=at < n, other=0.0)
    tl.store(out + at, value, mask=at < n)


@triton.jit
def _scatter(table, rows, n, TILE: tl.constexpr):
    at = tl.program_id(0) * TILE + tl.arange(0, TILE)
    row = tl.load(rows + at, mask=at < n, other=0)
    one = tl.full((TILE,), 1.0, tl.float32)
    tl.atomic_add(table + row.to(tl.int64) * 2, one, mask=at < n, sem="relaxed")
    tl.atomic_add(table + row.to(tl.int64) * 2 + 1, one, mask=at < n, sem="relaxed")


def ceilings(scale: Scale, clock: Clock, toy: bool) -> tuple[float, float, float]:
    """Bytes copied, entries read at random and entries added to at random, a second."""
    device = clock.device
    size, count = (1 << 16, 1 << 10) if toy else (1 << 28, 1 << 25)
    a, b = (torch.rand(size, device=device) for _ in range(2))
    table = torch.rand(1 << scale.log2_table, 2, device=device)
    rows = torch.randint(0, len(table), (count,), device=device, dtype=torch.int32)
    out = torch.empty(count, device=device)
    grid = (triton.cdiv(count, 512),)
    seconds = clock.compare(
        {
            "copy": lambda: a.copy_(b),
            "gather": lambda: _gather[grid](table, rows, out, count, 512),
            "scatter": lambda: _scatter[grid](table, rows, count, 512),
        },
        1 if toy else 5,
    )
    return 8 * size / seconds["copy"], count / seconds["gather"], count / seconds["scatter"]


def accesses(scale: Scale, cube: bool) -> float:
    """Table entries that a sample's encoding reads, on average over samples."""
    if not cube:
        return 8.0 * scale.levels
    # Of a cube's 27 vertices, those that a second cell along an axis brings.
    return float(((2 + scale.layout.scales / scale.side) ** 3 / 8).sum())


# ............................................................................................................. encoding


def trainer_of(backend: str, field: Field, scale: Scale, device: torch.device) -> Trainer:
    codec = HashGrid(
        levels=scale.levels, log2_table=scale.log2_table, width=scale.width, base=scale.base, hidden=2,
        batch=scale.batch, rate=1e-2,
    )  # fmt: skip
    record = HashGridRecord(scale.log2_table, scale.levels, 2, scale.base, scale.growth, scale.width, 2)
    return Trainer(field, record, codec, Context(device.type, backend=backend), device)


def encode_variants(trainer: Trainer, scale: Scale) -> dict[str, Callable[[], object]]:
    """Forward and backward of the encoding of one batch, by every variant that runs here."""
    layout, device = scale.layout, trainer.device
    points = trainer.sampler.batch()[0].contiguous()
    scattered = torch.zeros_like(points)
    scattered.copy_(torch.rand(points.shape, device=device))
    table = (torch.rand(layout.entries, 2, device=device) * 2 - 1).requires_grad_()
    half = table.detach().half()
    upstream = torch.randn(layout.width, len(points), device=device)
    out = torch.empty(upstream.shape, device=device, dtype=torch.float16)
    gradient = torch.zeros(table.shape, device=device)

    def kernels(where: torch.Tensor, cube: int) -> Callable[[], object]:
        def both() -> None:
            triton_encode.forward(where, half, layout, cube, out)
            triton_encode.backward(where, upstream, layout, cube, gradient)

        return both

    def plain(where: torch.Tensor) -> Callable[[], object]:
        return lambda: torch.autograd.grad(nn.encode_reference(where, table, layout), table, upstream)

    found = {
        "triton, cubes": kernels(points, trainer.sampler.cube(layout)),
        "triton, random points": kernels(scattered, 1),
        "torch, cubes": plain(points),
        "torch, random points": plain(scattered),
    }
    tiny = backend_class("tinycudann")
    if not tiny.obstacle(device.type):
        other = tiny(device.type)
        for name, where in (("cubes", points), ("random points", scattered)):
            found[f"tinycudann, {name}"] = lambda where=where: torch.autograd.grad(
                other.encode(where, table, layout), table, upstream
            )
    return found


# ............................................................................................................. training


def psnr(trainer: Trainer) -> float:
    """Of the parameters as they are, in float32 on the device."""
    field, lattice = trainer.field, trainer.network.lattice
    shape = field.values.shape
    parameters = [p.detach() for p in trainer.parameters]
    total = 0.0
    layer = shape[1] * shape[2]
    for z in range(shape[0]):
        flat = torch.arange(layer, device=trainer.device)
        index = torch.full_like(flat, z), flat // shape[2], flat % shape[2]
        points = torch.zeros(layer, 3, device=trainer.device)
        for column, axis in enumerate(lattice.axes):
            points[:, column] = lattice.coordinates(axis, index[axis])
        with torch.no_grad():
            values = nn.mlp_reference(
                nn.encode_reference(points, parameters[0], trainer.network.layout), tuple(parameters[1:])
            )[0]
        wanted = torch.from_numpy(field.values[z].reshape(-1)).to(trainer.device)
        error = values * trainer.record.scale + trainer.record.centre - wanted
        total += float(error.double().square().sum())
    low, high = field.limits
    return 20 * math.log10((high - low) / math.sqrt(total / field.values.size))


def fitted(
    field: Field, scale: Scale, device: torch.device, steps: int, backend: str = "triton"
) -> tuple[float, float]:
    """Seconds of a training from random parameters with its own schedule, and its PSNR.

    Everything from the field in host memory on is counted; kernels are compiled before.
    """
    _synchronise(device)
    start = time.perf_counter()
    trainer = trainer_of(backend, field, scale, device)
    step = DeviceStep(trainer) if backend == "triton" else HostStep(trainer)
    for i in range(steps):
        late = max(0.0, (i / steps - 0.4) / 0.6)
        rate = 1e-2 * min(1.0, (i + 1) / 20) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * late)))
        for group in trainer.optimiser.param_groups:
            group["lr"] = rate
        step(False)
    _synchronise(device)
    return time.perf_counter() - start, psnr(trainer)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def eager(trainer: Trainer) -> DeviceStep:
    """Steps that are not recorded."""
    step = DeviceStep(trainer)
    step._recordable = False
    return step


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    options.add_argument("--runs", type=int, default=7, help="timed runs of each figure")
    options.add_argument("--toy", action="store_true", help="sizes that an interpreter can do")
    options.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    arguments = options.parse_args()
    device, scale = torch.device(arguments.device), TOY if arguments.toy else FULL
    clock = Clock(device, arguments.runs)
    found: dict[str, float] = {}

    card = torch.cuda.get_device_name() if device.type == "cuda" else "no GPU: figures say nothing of speed"
    print(f"{describe()}, triton {version('triton')}\n{card}\n{scale}\n")
    copied, gathered, scattered = ceilings(scale, clock, arguments.toy)
    print(f"copy {copied / 1e12:.2f} TB/s; random entries a second: {gathered / 1e9:.2f} G read, "
          f"{scattered / 1e9:.2f} G added to")  # fmt: skip
    found |= {"copy_bytes_s": copied, "gather_entries_s": gathered, "scatter_entries_s": scattered}

    field = turbulence(scale.side)
    trainer = trainer_of("triton", field, scale, device)
    print(f"\nencoding, forward and backward, {trainer.sampler.points} samples a call (wanted "
          f"{WANTED_ENCODE / 1e6:.0f} M samples/s, {WANTED_RATIO:.0f} x torch)")  # fmt: skip
    seconds = clock.compare(encode_variants(trainer, scale), 1 if arguments.toy else 10)
    for name, value in seconds.items():
        rate = trainer.sampler.points / value
        cube = "cubes" in name
        each = accesses(scale, cube)
        bound = 1 / (each / gathered + each / scattered)
        against = seconds["torch, cubes" if cube else "torch, random points"] / value
        print(f"  {name:24} {rate / 1e6:10.1f} M/s   {against:6.1f} x torch   {each:6.1f} entries a sample, "
              f"bound {bound / 1e6:.0f} M/s, {100 * rate / bound:.0f} % of it")  # fmt: skip
        found[f"encode_samples_s: {name}"] = rate

    steps: dict[str, Callable[[], object]] = {}
    for name, backend, kind in (("triton, recorded", "triton", DeviceStep), ("triton, launched", "triton", eager),
                                ("torch", "torch", HostStep)):  # fmt: skip
        step = kind(trainer_of(backend, field, scale, device))
        steps[name] = lambda step=step: step(False)
    print(f"\ntraining steps of {trainer.sampler.points} samples")
    if device.type == "cuda":
        for work in steps.values():
            for _ in range(5):
                work()
    seconds = clock.compare(steps, 1 if arguments.toy else 20)
    for name, value in seconds.items():
        print(f"  {name:24} {1 / value:10.1f} steps/s   {seconds['torch'] / value:6.1f} x torch "
              f"(wanted {WANTED_RATIO:.0f})   {trainer.sampler.points / value / 1e6:.1f} M samples/s")  # fmt: skip
        found[f"steps_s: {name}"] = 1 / value
    del steps, trainer

    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    taken, best = fitted(field, scale, device, scale.converged)
    print(f"\nfit of {scale.side}^3 float32 (wanted: within {WANTED_NEAR} dB of converged in {WANTED_SECONDS} s)")
    print(f"  {scale.converged:6} steps {taken:8.2f} s   {best:.2f} dB, taken as converged")
    found |= {"converged_psnr": best, "converged_s": taken}
    for count in scale.schedules:
        taken, value = fitted(field, scale, device, count)
        near = "within" if value >= best - WANTED_NEAR else "outside"
        print(f"  {count:6} steps {taken:8.2f} s   {value:.2f} dB, {best - value:+.2f} below: {near}")
        found |= {f"fit_{count}_s": taken, f"fit_{count}_psnr": value}
    taken, value = fitted(field, scale, device, scale.schedules[0], "torch")
    print(f"  {scale.schedules[0]:6} steps {taken:8.2f} s   {value:.2f} dB, plain torch")
    found |= {"torch_fit_s": taken, "torch_fit_psnr": value}
    if device.type == "cuda":
        found["peak_bytes"] = torch.cuda.max_memory_allocated()
        print(f"  peak memory {found['peak_bytes'] / 2**30:.2f} GiB")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
