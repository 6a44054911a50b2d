"""Whether the codec `wavelet` ever exceeds a bound on the largest error: random fields and, if given, real volumes.

Each field is coded with five bounds, decoded from the file and compared in its own type. Half of the random fields are
cut into small tiles. A bound below what the type of floats can express may be refused, which is counted apart.

    python benchmarks/wavelet_guarantee.py [--fields 200] [--seed 0] [--data FOLDER]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from machine import describe

from neurcomp_core import metrics
from neurcomp_core.codec import Context
from neurcomp_core.codecs.wavelet import Wavelet
from neurcomp_core.errors import TargetError
from neurcomp_core.field import Field
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.target import MaxError

TYPES = ("float32", "float64", "uint8", "uint16", "int32")
#: Of the range.
BOUNDS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6)


def random_field(rng: np.random.Generator) -> np.ndarray:
    """A small field of any shape, type and kind."""
    shape = tuple(int(n) for n in rng.integers(1, 28, 3))
    if rng.random() < 0.2:
        shape = (*shape, int(rng.integers(1, 4)))
    kind = rng.integers(5)
    values = rng.standard_normal(shape)
    if kind == 1:
        for axis in range(3):
            values = np.cumsum(values, axis=axis)
    elif kind == 2:
        values = np.where(values > 2.5, 1e3 * values, np.round(values))
    elif kind == 3:
        values = np.exp(4 * values)
    elif kind == 4:
        grid = np.indices(shape[:3]).sum(axis=0)
        wave = np.sin(grid / 3)
        values = (wave if len(shape) == 3 else wave[..., None]) + 0.01 * values
    dtype = np.dtype(rng.choice(TYPES))
    if dtype.kind == "f":
        return (values * 10.0 ** rng.integers(-12, 13) + rng.choice([0.0, 1e3])).astype(dtype)
    limits = np.iinfo(dtype)
    low, high = values.min(), values.max()
    used = rng.choice([1.0, 0.1, 1e-3])
    unit = (values - low) / max(high - low, 1e-300)
    whole = np.rint(unit * used * (float(limits.max) - limits.min) + limits.min)
    return whole.clip(limits.min, limits.max).astype(dtype)


def check(values: np.ndarray, codec: Wavelet) -> tuple[int, int, int]:
    """Bounds kept, violated and refused."""
    low, high = float(values.min()), float(values.max())
    kept = violated = refused = 0
    for share in BOUNDS:
        bound = share * (high - low) or 1.0
        try:
            data = compress(Field(values), MaxError(bound), codec, Context(device="cpu")).data
        except TargetError as error:
            refused += "resolve" in str(error)
            violated += "resolve" not in str(error)
            continue
        (decoded,) = decompress(data)
        ok = metrics.measure(values, decoded.values).max_error <= bound
        kept, violated = kept + ok, violated + (not ok)
        if not ok:
            print(f"violated: {values.dtype} {values.shape}, bound {bound:g}")
    return kept, violated, refused


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    print(describe())
    rng = np.random.default_rng(options.seed)
    total = np.zeros(3, int)
    start = time.perf_counter()
    for i in range(options.fields):
        total += check(random_field(rng), Wavelet(brick=16 if i % 2 else 0))
    print(f"{options.fields} random fields, 5 bounds each: {total[0]} kept, {total[1]} violated, {total[2]} refused")
    for path in sorted(options.data.glob("*.npy")) if options.data else []:
        values = np.load(path)
        if values.ndim < 5 and values.dtype.kind in "iuf":
            values = values.reshape((1,) * (3 - values.ndim) + values.shape)
            found = check(values, Wavelet())
            total += found
            print(f"{path.stem}: {found[0]} kept, {found[1]} violated, {found[2]} refused", flush=True)
    print(f"all: {total[0]} kept, {total[1]} violated, {total[2]} refused; {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
