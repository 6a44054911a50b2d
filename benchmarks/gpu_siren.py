"""Sine networks on a GPU: seconds to the published recipe's PSNR, speed of the kernels, speed of decoding.

    python benchmarks/gpu_siren.py [--size 256 | --data FILE.npy] [--ratio 50] [--runs 5] [--keep FILE] [-o FILE.json]
    TRITON_INTERPRET=1 python benchmarks/gpu_siren.py --device cpu --toy    # says that it runs, and nothing of speed

Needs torch with CUDA, and Triton, which it brings. With numba, as neurcomp is installed, files are written, and their
bytes and PSNR are those of the decoded file; where numba is missing, bytes are the entropy of the rounded weights
(marked ~; the coder takes fewer) and PSNR is that of the rounded network as the GPU computes it.

Recipe: `neurcomp_recipe`, 75 passes in plain torch on the same device; with --keep it goes on after --limit seconds in
the next run. Ours: the codec's training, from a field in memory to weights rounded for their bytes, at growing effort
until it has the recipe's PSNR; the seconds are the median of --runs of that effort, and each has the same once more
with plain torch (its step as a CUDA graph, too). Kernels are compiled before. A network gets at most a byte per
parameter, which is less than the ratio allows.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from neurcomp_recipe import BATCH, PASSES, Recipe
from no_numba import stand_in

CODED = not stand_in()

from neurcomp_core.codec import Context  # noqa: E402
from neurcomp_core.codecs.siren import Siren, SirenRecord  # noqa: E402
from neurcomp_core.field import Field  # noqa: E402
from neurcomp_core.fit.siren_trainer import Trainer  # noqa: E402
from neurcomp_core.nets.siren import Siren as Net  # noqa: E402
from neurcomp_core.nets.siren import axis_coordinates  # noqa: E402
from neurcomp_core.nets.siren_engines import Engine, TorchEngine  # noqa: E402
from neurcomp_core.nets.siren_flat import Places  # noqa: E402
from neurcomp_core.nets.siren_triton import TritonEngine  # noqa: E402

WANTED = 5.0
#: Width, layers and passes that are tried, the cheapest first.
EFFORTS = ((32, 4, 0.5), (64, 4, 0.25), (64, 4, 0.5), (64, 4, 1.0), (128, 4, 0.5), (128, 4, 1.0), (128, 4, 2.0),
           (128, 5, 4.0), (154, 8, 4.0))  # fmt: skip
TOY_EFFORTS = ((8, 2, 0.3),)
PRECISIONS = ("ieee", "tf32x3", "tf32")
#: Seconds between two states of the recipe in a file.
KEEP_EVERY = 30.0


class Measured(Trainer):
    """A trainer that does without the coder where numba is missing."""

    def coder_share(self) -> float:
        """Bytes of the coder over those of the entropy."""
        return super().coder_share() if CODED else 1.0


@dataclass(frozen=True)
class Result:
    """A training of ours."""

    seconds: float
    psnr: float
    nbytes: int


def wait(device: str) -> None:
    """Until the device has done what it was asked to."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds_of(work: Callable[[], object], device: str, runs: int) -> float:
    """Median of `runs`, after one that compiles."""
    work()
    found = []
    for _ in range(runs):
        wait(device)
        if device == "cuda":
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            work()
            end.record()
            end.synchronize()
            found.append(start.elapsed_time(end) / 1e3)
        else:
            begun = time.perf_counter()
            work()
            found.append(time.perf_counter() - begun)
    return statistics.median(found)


# -------------------------------------------------------------------------------------------------------------- recipe


def recipe(values: np.ndarray, options: argparse.Namespace) -> tuple[float, float, bool]:
    """Seconds and PSNR of the published training, and whether it is finished."""
    training = Recipe(values, options.ratio, options.device, 512 if options.toy else BATCH)
    if options.keep and options.keep.exists():
        training.load(options.keep)
    else:
        # Loading of kernels and the like is not training.
        Recipe(values[:8], options.ratio, options.device, 512 if options.toy else BATCH).run(3)
    print(f"Recipe: {training.net.parameters:,} parameters, {training.steps:,} steps", flush=True)
    chunk = max(training.steps // 200, 1)
    written = begun = time.perf_counter()
    while training.at < training.steps and time.perf_counter() - begun < options.limit:
        training.run(min(chunk, training.steps - training.at))
        if options.keep and (time.perf_counter() - written > KEEP_EVERY or training.at == training.steps):
            training.save(options.keep)
            written = time.perf_counter()
    done = training.at == training.steps
    psnr = training.psnr()
    if not done:
        if options.keep:
            training.save(options.keep)
        advice = "run again to go on" if options.keep else "give it --keep FILE or more --limit"
        print(f"The recipe has done {training.at:,} of {training.steps:,} steps in {training.seconds:.1f} s; {advice}")
    return training.seconds, psnr, done


# ---------------------------------------------------------------------------------------------------------------- ours


def ours(field: Field, backend: str, effort: tuple[int, int, float], options: argparse.Namespace, seed: int) -> Result:
    """A training of the codec, and what it comes to."""
    width, layers, passes = effort
    net = Net(width, layers)
    steps = max(round(passes * field.voxels / options.batch), 10)
    budget = min(int(field.nbytes / options.ratio), net.parameters)
    context = Context(device=options.device, backend=backend, threads=options.threads, seed=seed)
    settings = Siren(width=width, layers=layers, steps=steps, batch=options.batch)
    wait(options.device)
    start = time.perf_counter()
    trainer = Measured(field, SirenRecord(width, layers, 20.0), settings, context)
    trainer.run(steps, budget, lambda share: share)
    wait(options.device)
    seconds = time.perf_counter() - start
    if CODED:
        found = trainer.at_budget(budget)
        return Result(seconds, found.quality.psnr, found.encoded.nbytes)
    return Result(seconds, psnr_here(trainer), round(trainer.entropy_bytes(trainer.step)))


def psnr_here(trainer: Trainer) -> float:
    """PSNR of the rounded network as its engine computes it."""
    engine = trainer.engine
    assert engine is not None
    values = trainer.batches.values[:, 0]
    found = engine.lattice(engine.tensor(trainer.rounded()), axis_coordinates(trainer.spec.shape[:3])).reshape(-1)
    error = float(np.square(found.astype(np.float64) - values).mean())
    return 20 * math.log10(float(np.ptp(values.astype(np.float64)))) - 10 * math.log10(error)


def race(field: Field, goal: float, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of the cheapest effort that has the goal, with each backend."""
    rows: list[dict[str, Any]] = []
    backends = ["triton", "torch"] if options.backend == "auto" else [options.backend]
    for effort in options.efforts:
        width = effort[0]
        backend = "torch" if width > 128 else backends[0]
        found = ours(field, backend, effort, options, 0)
        print(f"  tried {width} wide, {effort[1]} layers, {effort[2]:g} passes with {backend}: {found.psnr:.2f} dB, "
              f"{found.nbytes:,} bytes, {found.seconds:.2f} s", flush=True)  # fmt: skip
        if found.psnr < goal and effort != options.efforts[-1]:
            continue
        for name in [backend, *(b for b in backends if b != backend and width <= 128)]:
            runs = [ours(field, name, effort, options, 0) for _ in range(options.runs)]
            rows.append({"backend": name, "effort": effort, "reached": found.psnr >= goal,
                         "seconds": statistics.median(r.seconds for r in runs), "psnr": runs[0].psnr,
                         "bytes": runs[0].nbytes})  # fmt: skip
        break
    return rows


# ------------------------------------------------------------------------------------------------------------- kernels


def engines(net: Net, device: str) -> dict[str, Engine]:
    """Plain torch and the fused kernels, by name."""
    there = torch.device(device)
    found: dict[str, Engine] = {"torch": TorchEngine(net, there)}
    return found | {f"triton {p}": TritonEngine(net, there, p) for p in PRECISIONS}


def kernels(shape: tuple[int, ...], width: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Samples a second, forward and backward, and voxels a second, decoded; errors against float64."""
    net = Net(width, 4)
    rng = np.random.default_rng(0)
    axes = axis_coordinates(shape)
    from neurcomp_core.fit.siren_trainer import initial_parameters

    parameters = initial_parameters(net, rng)
    index = torch.from_numpy(rng.integers(0, math.prod(shape), options.samples)).to(options.device)
    values = torch.from_numpy(rng.random((options.samples, 1), np.float32)).to(options.device)
    rows = []
    exact: torch.Tensor | None = None
    for name, engine in engines(net, options.device).items():
        places = Places.of(axes, engine.device)
        flat = engine.tensor(parameters)
        if exact is None:
            double = TorchEngine(net, engine.device)
            doubled = Places(places.counts, places.table.double())
            exact = double.gradients(flat.double(), doubled, index, values.double())[1]

        def train(engine: Engine = engine, places: Places = places, flat: torch.Tensor = flat) -> object:
            return engine.gradients(flat, places, index, values)

        def decode(engine: Engine = engine, places: Places = places, flat: torch.Tensor = flat) -> object:
            step = engine.part()
            total = math.prod(shape)
            return [engine.box(flat, places, first, min(step, total - first)) for first in range(0, total, step)][-1]

        missed = float((engine.gradients(flat, places, index, values)[1].double() - exact).norm() / exact.norm())
        rows.append({"engine": name, "width": width, "error": missed,
                     "samples": options.samples / seconds_of(train, options.device, options.runs),
                     "voxels": math.prod(shape) / seconds_of(decode, options.device, options.runs)})  # fmt: skip
    return rows


# ---------------------------------------------------------------------------------------------------------------- main


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a .npy volume instead of a generated field")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--ratio", type=float, default=50.0)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--backend", default="auto", choices=("auto", "triton", "torch"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=4096, help="samples of a step of ours")
    parser.add_argument("--samples", type=int, help="of a launch where kernels are timed; 2^17 by default")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--limit", type=float, default=270.0, help="seconds of the recipe in this run")
    parser.add_argument("--keep", type=Path, help="file of the recipe's state, to go on with")
    parser.add_argument("--widths", type=int, nargs="*", default=[16, 32, 64, 128], help="whose kernels are timed")
    parser.add_argument("-o", "--output", type=Path, help="a JSON file of all figures")
    parser.add_argument("--toy", action="store_true", help="24^3, one run, one effort, a shortened recipe")
    options = parser.parse_args()
    toy = options.toy
    if toy:
        options.size, options.runs, options.batch, options.widths = 24, 1, 256, [16]
        options.samples, options.limit = 256, 5.0
    options.efforts = TOY_EFFORTS if toy else EFFORTS
    options.samples = options.samples or 1 << 17
    card = torch.cuda.get_device_name() if options.device == "cuda" else "CPU: figures mean nothing"
    print(f"{date.today()}, {card}, torch {torch.__version__}, " + ("bytes coded" if CODED else "no numba: bytes ~"))
    values = np.load(options.data) if options.data else field_of(options.size)
    values = np.ascontiguousarray(values, np.float32)
    field = Field(values, name="volume")

    figures: dict[str, Any] = {"card": card, "date": str(date.today()), "shape": values.shape, "kernels": []}
    print("\n| width | computed by | error of gradients | samples/s, forward + backward | voxels/s, decoded |")
    print("| --- | --- | --- | --- | --- |")
    for width in options.widths:
        rows = kernels(values.shape if not toy else (8, 8, 8), width, options)
        for row in rows:
            against = row["samples"] / rows[0]["samples"], row["voxels"] / rows[0]["voxels"]
            speeds = f"{row['samples'] / 1e6:,.2f} M ({against[0]:.1f} x) | {row['voxels'] / 1e6:,.1f} M"
            print(f"| {width} | {row['engine']} | {row['error']:.1e} | {speeds} ({against[1]:.1f} x) |", flush=True)
        figures["kernels"] += rows

    print()
    # Compiles all kernels that a training takes.
    for effort in {e[:2] for e in options.efforts}:
        ours(Field(values[:16, :16, :16].copy()), options.backend, (*effort, 0.01), options, 0)
    seconds, goal, finished = recipe(values, options)
    figures["recipe"] = {"seconds": seconds, "psnr": goal, "finished": finished}
    print(f"Recipe: {seconds:.1f} s, {goal:.2f} dB" + ("" if finished else ", not finished"))
    figures["ours"] = race(field, goal, options)
    mark = "" if CODED else "~"
    print("\n| | passes | parameters | bytes | ratio | PSNR (dB) | seconds | times faster (wanted 5) |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print(f"| recipe, plain torch | {PASSES} | {Recipe(values[:4], options.ratio).net.parameters:,} | | | {goal:.2f} | "
          f"{seconds:.1f} | 1 |")  # fmt: skip
    for row in figures["ours"]:
        width, layers, passes = row["effort"]
        times = seconds / row["seconds"]
        verdict = f"{times:.1f}" if row["reached"] and finished else f"{times:.1f}, but not at its PSNR"
        ratio = values.nbytes / row["bytes"]
        print(f"| siren, {row['backend']}, {layers} layers of {width} | {passes:g} | "
              f"{Net(width, layers).parameters:,} | {mark}{row['bytes']:,} | {ratio:.0f} | {row['psnr']:.2f} | "
              f"{row['seconds']:.2f} | {verdict} |")  # fmt: skip
    if options.output:
        options.output.write_text(json.dumps(figures, indent=1) + "\n")
    if not finished:
        sys.exit(3)


def field_of(size: int) -> np.ndarray:
    """A smooth random field with the spectrum of turbulence, ``k**(-11/3)`` in power, down to waves of 8 samples."""
    frequencies = [np.fft.fftfreq(size) * size, np.fft.fftfreq(size) * size, np.fft.rfftfreq(size) * size]
    k = np.sqrt(sum(f**2 for f in np.meshgrid(*frequencies, indexing="ij", sparse=True)))
    noise = np.fft.rfftn(np.random.default_rng(0).normal(size=(size,) * 3))
    noise *= np.where((k > 0) & (k < max(size / 8, 3)), np.maximum(k, 1.0) ** (-11 / 6), 0.0)
    return np.fft.irfftn(noise, (size,) * 3, axes=(0, 1, 2)).astype(np.float32)


if __name__ == "__main__":
    main()
