"""Our TTHRESH against the reference's encoder, volume by volume.

    python benchmarks/tthresh_agreement.py --data FOLDER [--table dev_rd.csv] [--psnr 23.98 33.98 ...]

The reference is numcodecs-wasm-tthresh's encoder at its own target (20 log10 of range over twice the RMSE); integers of
16 bits go in as float32. `bytes` are those of its raw stream, `PSNR` ours of what our decoder makes of it in the type
of the volume. `table` is the difference to the native program's figures in a table of volume, codec, psnr_db, bytes,
where that has a row of the same bytes. `ours` is the size of our stream at the same error, before any rounding.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe

from neurcomp_core import metrics
from neurcomp_core.search import search
from neurcomp_core.tthresh.stream import Encoder, read


def wasm_encoder() -> Callable[..., bytes]:
    """The reference's encoder: values and ``eps``, ``rmse`` or ``psnr`` to bytes."""
    version = importlib.metadata.version

    def hidden(name: str) -> str:
        # numcodecs takes every part of zfpy's version for a number.
        if name == "zfpy":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    importlib.metadata.version = hidden
    try:
        module = importlib.import_module("numcodecs_wasm_tthresh")
    finally:
        importlib.metadata.version = version

    def encode(values: np.ndarray, **target: Any) -> bytes:
        (mode,) = target
        # It lists NumPy's sizes as they are, slowest first, which in the format is fastest first.
        values = np.ascontiguousarray(values).reshape(values.shape[::-1])
        return bytes(module.Tthresh(eb_mode=mode, **{f"eb_{mode}": target[mode]}).encode(values))

    return encode


def compare(name: str, volume: np.ndarray, psnr: float, encoder: Encoder, table: dict[tuple[str, int], float]) -> float:
    """Print one line; bytes of ours over the reference's at the same error."""
    cast = volume.astype(np.float32) if volume.dtype in (np.uint16, np.int16) else volume
    theirs = wasm_encoder()(cast, psnr=psnr)
    decoded = read(theirs)
    quality = metrics.measure(volume, decoded.values(dtype=volume.dtype)).psnr
    exact = cast.astype(np.float64)
    error = metrics.measure(exact, decoded.values(dtype=np.dtype(np.float64))).rmse

    def attempt(knob: float) -> tuple[float, tuple[int, float]]:
        made = encoder.stream(knob)
        data = made.tobytes()
        measured = metrics.measure(exact, read(data).values(dtype=np.dtype(np.float64))).rmse
        return measured, (len(data), measured)

    found = search(attempt, error * 1.0001, error, (error / 100, error * 100), slack=0.004).result
    known = table.get((name, len(theirs)))
    difference = "" if known is None else f"{quality - known:+.2f} dB"
    better = 20 * np.log10(error / found[1])
    print(
        f"{name:30s} {psnr:5.1f} {len(theirs):9d} bytes {quality:7.2f} dB   table {difference:9s}"
        f"   ours {found[0]:9d} bytes ({100 * (found[0] / len(theirs) - 1):+6.2f} %, {better:+.2f} dB)"
    )
    return found[0] / len(theirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with NAME.npy")
    parser.add_argument("--table", type=Path, help="figures of the native program")
    parser.add_argument("--psnr", type=float, nargs="+", default=[23.98, 28.98, 33.98, 38.98, 43.98, 53.98])
    parser.add_argument("--volumes", nargs="*", help="names; those of the table, or all of the folder, if left out")
    args = parser.parse_args()
    print(describe())
    rows = list(csv.DictReader(args.table.open())) if args.table else []
    table = {(r["volume"], int(r["bytes"])): float(r["psnr_db"]) for r in rows if r["codec"] == "tthresh"}
    names = args.volumes or sorted({v for v, _ in table}) or sorted(p.stem for p in args.data.glob("*.npy"))
    ratios = []
    for name in names:
        volume = np.load(args.data / f"{name}.npy")
        encoder = Encoder(volume)
        ratios += [compare(name, volume, psnr, encoder, table) for psnr in args.psnr]
    print(f"bytes of ours / of the reference at the same error: mean {np.mean(ratios):.4f}, largest {max(ratios):.4f}")


if __name__ == "__main__":
    main()
