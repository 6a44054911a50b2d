"""Time series: bytes with all key steps, with predicted steps, and as one volume; and what it costs to read a step.

The series are the vorticity of a Taylor-Green flow at some spacings in time, computed here, and any ``.npy`` arrays
whose first axis is time (``--data``). The PSNR is that of the whole series, over its range: every step gets the same
RMSE. Times are of the CPU.

    python benchmarks/series.py [--size 64] [--steps 12] [--spacing 0.05 0.4] [--data FILE.npy ...]
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from machine import describe

from neurcomp_core import metrics
from neurcomp_core.codec import Context
from neurcomp_core.container import Container
from neurcomp_core.field import Field
from neurcomp_core.pipeline import compress, decode_array, decompress
from neurcomp_core.samples import taylor_green_series
from neurcomp_core.steps import KEY_EVERY, History, Steps
from neurcomp_core.target import MaxError, Psnr, Rmse, Target

QUALITIES = (35.0, 45.0, 55.0)
#: Bound on the largest error, as a share of the range.
BOUND = 1e-3
#: When the flow is most turbulent.
_START = 8.0


def flow(size: int, steps: int, spacing: float) -> list[Field]:
    """Vorticity magnitude at `steps` times."""
    times = _START + spacing * np.arange(steps)
    return [step.vorticity_magnitude for step in taylor_green_series(size, 300, times)]


def stored(path: Path) -> list[Field]:
    """Steps along the first axis of an array."""
    values = np.load(path)
    slices = values[:, None] if values.ndim == 3 else values
    return [Field(v, name=path.stem, time=float(i)) for i, v in enumerate(slices)]


def series(arguments: argparse.Namespace) -> Iterator[tuple[str, list[Field]]]:
    """Name and steps of each series."""
    for spacing in arguments.spacing:
        title = f"Taylor-Green vorticity {arguments.size}^3, {arguments.steps} steps, spacing {spacing:g}"
        yield title, flow(arguments.size, arguments.steps, spacing)
    for path in arguments.data:
        found = stored(path)
        yield f"{path.stem}, {len(found)} steps of {' x '.join(map(str, found[0].values.shape[::-1]))}", found


def coded(fields: list[Field], target: Target, every: int, context: Context) -> tuple[bytes, float]:
    """A file with a key step every so many, checked, and the CPU seconds it took."""
    start = time.process_time()
    data = compress(fields, target, "wavelet", context, History(every)).data
    seconds = time.process_time() - start
    for field, decoded in zip(fields, decompress(data, context=context), strict=True):
        assert target.met(metrics.measure(field.values, decoded.values)), "a step misses its target"
    return data, seconds


def reading(data: bytes, context: Context) -> tuple[float, float]:
    """CPU seconds to decode a step when playing forward, and when jumping about."""
    file = Container(data)
    order = list(range(len(file)))
    found = []
    for _ in range(2):
        steps = Steps(file)
        start = time.process_time()
        for i in order:
            decode_array(file, i, context=context, steps=steps)
        found.append((time.process_time() - start) / len(file))
        random.Random(0).shuffle(order)
    return found[0], found[1]


def main() -> None:
    """Print a table for each series."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--spacing", type=float, nargs="*", default=[0.05, 0.4])
    parser.add_argument("--data", type=Path, nargs="*", default=[])
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    context = Context(device="cpu", threads=arguments.threads)
    print(describe())
    compress(flow(16, 2, 0.1), Psnr(40), "wavelet", context)  # kernels are compiled or read
    for title, fields in series(arguments):
        low = min(float(f.values.min()) for f in fields)
        spread = max(float(f.values.max()) for f in fields) - low
        print(f"\n{title}, {fields[0].values.dtype}, {sum(f.nbytes for f in fields):,} bytes")
        print(
            f"{'target':>18} {'key steps':>11} {f'every {KEY_EVERY}':>11} {'saving':>7} {'any':>11} {'saving':>7}",
            end="",
        )
        print(f" {'volume':>11} | CPU s to code, ms to read a step forward and at random: key steps, every {KEY_EVERY}")
        targets: list[tuple[str, Target]] = [(f"{q:g} dB", Rmse(spread * 10 ** (-q / 20))) for q in QUALITIES]
        targets.append((f"max error {BOUND:g}", MaxError(spread * BOUND)))
        for name, target in targets:
            files, seconds = zip(*(coded(fields, target, every, context) for every in (1, KEY_EVERY, 0)), strict=True)
            alone, usual, free = map(len, files)
            print(
                f"{name:>18} {alone:>11,} {usual:>11,} {usual / alone - 1:>7.1%} {free:>11,} {free / alone - 1:>7.1%}",
                end="",
            )
            print(f" {volume(fields, target, context):>11} |", end="")
            for data, took in zip(files[:2], seconds[:2], strict=True):
                forward, jumping = reading(data, context)
                print(f" {took:7.2f} {1000 * forward:6.1f} {1000 * jumping:6.1f}", end="")
            print(flush=True)


def volume(fields: list[Field], target: Target, context: Context) -> str:
    """Bytes of two-dimensional steps as one volume whose slowest axis is time."""
    if fields[0].values.shape[0] != 1 or fields[0].values.ndim != 3:
        return ""
    whole = replace(fields[0], values=np.concatenate([f.values for f in fields]), geometry=None, time=None)  # type: ignore[arg-type]
    return f"{len(compress(whole, target, 'wavelet', context).data):,}"


if __name__ == "__main__":
    main()
