"""What parts of a large file cost: a 64^3 box and every fourth sample of a 512^3 field, in CPU time and in bytes read.

Bytes read are those of the sections that a decoder asks the container for, with their checksums. `--stream` instead
codes a memory-mapped field of 512x512x1024 samples and decodes it into a file, and prints the most memory that took.

    python benchmarks/wavelet_access.py [--size 512] [--psnr 50] [--threads 2]
    python benchmarks/wavelet_access.py --stream
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import describe

from neurcomp_core.codec import Context
from neurcomp_core.codecs.wavelet import Wavelet
from neurcomp_core.container import Container
from neurcomp_core.field import Field
from neurcomp_core.pipeline import compress, decode_array
from neurcomp_core.target import Psnr


def turbulence(size: int, seed: int = 0) -> np.ndarray:
    """A periodic field with the spectrum of turbulence, ``k^-11/3`` in energy per mode, of log-normal values."""
    rng = np.random.default_rng(seed)
    axis = np.fft.fftfreq(size, 1 / size).astype(np.float32) ** 2
    wave = axis[:, None, None] + axis[None, :, None] + axis[None, None, : size // 2 + 1]
    wave[0, 0, 0] = 1
    modes = np.fft.rfftn(rng.standard_normal((size,) * 3, dtype=np.float32))
    modes *= wave ** (-11 / 12) * np.exp(-wave / (size / 3) ** 2)
    values = np.fft.irfftn(modes, s=(size,) * 3, axes=(0, 1, 2)).astype(np.float32)
    values *= 0.5 / values.std()
    return np.exp(values, out=values)


class Counting(Container):
    """A container that counts what is read of it."""

    read = 0

    def section(self, index: int, section: int) -> bytes:
        data = super().section(index, section)
        self.read += len(data) + 4
        return data


def access(size: int, psnr: float, threads: int) -> None:
    """Print what a box and a coarser level cost."""
    context = Context(device="cpu", threads=threads)
    values = turbulence(size)
    start = time.perf_counter()
    data = compress(Field(values), Psnr(psnr), Wavelet(), context).data
    print(f"{size}^3 float32, {psnr:g} dB, {threads} threads: {len(data)} bytes, {time.perf_counter() - start:.1f} s")
    middle = size // 2
    boxes = {
        "all": (None, 0),
        "64^3 box in the middle": ((slice(middle, middle + 64),) * 3, 0),
        "64^3 box beside it": ((slice(middle - 64, middle), slice(middle, middle + 64), slice(64, 128)), 0),
        "64^3 box in a corner": ((slice(0, 64),) * 3, 0),
        "every fourth sample": (None, 2),
    }
    full = 0.0
    for name, (region, level) in boxes.items():
        file = Counting(data)
        start = time.process_time()
        decode_array(file, 0, region, level, context)
        seconds = time.process_time() - start
        full = full or seconds
        head = len(data) - sum(file.header.arrays[0].sections) - 4 * len(file.header.arrays[0].sections)
        read = (file.read + head) / len(data)
        print(f"{name:>24}: {seconds:7.2f} CPU s, {seconds / full:6.1%} of them, {read:6.1%} of the bytes")


def stream(folder: Path) -> None:
    """Print how much memory a field larger than that takes, with the command as a user runs it."""
    shape = (512, 512, 1024)
    tile = turbulence(128)
    # A child's peak begins with its parent's, so little may be held here.
    with open(folder / "field.raw", "wb") as raw:
        for z in range(shape[0]):
            np.tile(tile[z % 128], (4, 8)).tofile(raw)
    command = [sys.executable, "-c", "from neurcomp_cli.main import main; main()"]
    dims = ",".join(str(n) for n in reversed(shape))
    runs = [
        ["compress", "field.raw", "--dims", dims, "--dtype", "float32", "--psnr", "45", "--codec", "wavelet"],
        ["decompress", "field.nvc", "-o", "out.npy"],
    ]
    for arguments in runs:
        start = time.perf_counter()
        child = subprocess.Popen([*command, *arguments, "--quiet"], cwd=folder)
        _, status, usage = os.wait4(child.pid, 0)
        megabytes = usage.ru_maxrss / 1024
        print(f"{arguments[0]}: exit {status}, {time.perf_counter() - start:.0f} s, at most {megabytes:.0f} MiB")
    raw_bytes = 4 * shape[0] * shape[1] * shape[2]
    print(f"the field has {raw_bytes / 2**20:.0f} MiB, the file {(folder / 'field.nvc').stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--psnr", type=float, default=60)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--stream", action="store_true")
    options = parser.parse_args()
    print(describe())
    if options.stream:
        with tempfile.TemporaryDirectory() as folder:
            stream(Path(folder))
    else:
        access(options.size, options.psnr, options.threads)


if __name__ == "__main__":
    main()
