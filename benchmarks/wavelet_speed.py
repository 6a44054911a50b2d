"""Seconds to code and decode a 128^3 float32 field at 45 dB: ``wavelet`` on one and two threads, TTHRESH and SPERR.

All in turn in one process, medians of several runs after one that compiles. TTHRESH is the native program that
NEURCOMP_TTHRESH names, with its own start and files, else this project's codec; SPERR is called through HDF5. Ours
includes the decoding that proves the target.

    NEURCOMP_TTHRESH=tthresh python benchmarks/wavelet_speed.py [--volume FILE.npy] [--psnr 45] [--runs 5]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
from machine import describe

from neurcomp_core.codec import Context
from neurcomp_core.field import Field
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.samples import taylor_green
from neurcomp_core.target import Psnr

#: TTHRESH takes half the range for the peak.
_HALF = 20 * np.log10(2)

Coders = tuple[Callable[[], object], Callable[[], object]]


def ours(field: Field, psnr: float, codec: str, threads: int) -> Coders:
    context, data = Context(device="cpu", threads=threads), b""

    def encode() -> None:
        nonlocal data
        data = compress(field, Psnr(psnr), codec, context).data

    return encode, lambda: decompress(data, context=context)


def native(field: Field, psnr: float, program: str, folder: Path) -> Coders:
    field.values.tofile(folder / "raw")
    sizes = [str(n) for n in reversed(field.values.shape)]
    encode = [program, "-i", "raw", "-t", "float", "-s", *sizes, "-p", f"{psnr - _HALF:.2f}", "-c", "coded"]
    decode = [program, "-c", "coded", "-o", "decoded"]

    def run(command: list[str]) -> None:
        subprocess.run(command, cwd=folder, capture_output=True, check=True)

    return lambda: run(encode), lambda: run(decode)


def sperr(field: Field, psnr: float, folder: Path) -> Coders:
    path, filters = folder / "coded.h5", hdf5plugin.Sperr(peak_signal_to_noise_ratio=psnr, swap=True)

    def encode() -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("values", data=field.values, chunks=field.values.shape, **filters)

    def decode() -> np.ndarray:
        with h5py.File(path) as file:
            return file["values"][...]  # type: ignore[index]

    return encode, decode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volume", type=Path, help="float32; a simulated flow of 64^3, tiled, by default")
    parser.add_argument("--psnr", type=float, default=45)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    if options.volume:
        values = np.load(options.volume)
    else:
        values = np.tile(taylor_green(64, 300, 8).vorticity_magnitude.values, (2, 2, 2))
    field = Field(np.ascontiguousarray(values, np.float32))
    program = os.environ.get("NEURCOMP_TTHRESH")
    seconds: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        coders = {f"wavelet, {n} thread{'s' * (n > 1)}": ours(field, options.psnr, "wavelet", n) for n in (1, 2)}
        if program:
            coders["tthresh, native"] = native(field, options.psnr, program, folder)
        else:
            coders["tthresh, ours"] = ours(field, options.psnr, "tthresh", 2)
        coders["SPERR"] = sperr(field, options.psnr, folder)
        for run in range(options.runs + 1):
            for name, steps in coders.items():
                times = []
                for step in steps:
                    start = time.perf_counter()
                    step()
                    times.append(time.perf_counter() - start)
                if run:
                    seconds[name].append((times[0], times[1]))
    print(describe())
    print(f"{'x'.join(map(str, field.values.shape))} float32, {options.psnr:g} dB, medians of {options.runs} runs")
    for name, pairs in seconds.items():
        encode, decode = np.median(pairs, axis=0)
        print(f"{name:>20}: coding {encode:6.3f} s, decoding {decode:6.3f} s")


if __name__ == "__main__":
    main()
