"""``python -m neurcomp_cli.demo OUTDIR``: a volume there and back again, with figures and a picture.

Simulates a turbulent flow, compresses its vorticity to a hundredth of its size, decompresses from the bytes alone and
compares the two files as anyone could. Needs neither data nor a GPU, a display or OpenGL.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from neurcomp_cli import report
from neurcomp_cli.console import reporting, working
from neurcomp_core import metrics
from neurcomp_core.codec import Context, codec_by_name
from neurcomp_core.files import atomic_write
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.samples import taylor_green
from neurcomp_core.target import Ratio

SIZE, REYNOLDS, TIME, RATIO = 96, 440.0, 8.0, 100.0


def demo(
    folder: Annotated[Path, typer.Argument(metavar="OUTDIR", help="Where results go; made if missing.")],
) -> None:
    """Simulate, compress, decompress and compare a turbulent flow; everything is written to OUTDIR."""
    from neurcomp_core.picture import comparison
    from neurcomp_filters import io

    folder.mkdir(parents=True, exist_ok=True)
    original, packed, decoded, picture = (
        folder / name for name in ("original.vti", "compressed.nvc", "decompressed.vti", "comparison.png")
    )
    clock = [time.perf_counter()]

    def seconds() -> float:
        clock.append(time.perf_counter())
        return clock[-1] - clock[-2]

    with working("simulating a turbulent flow") as progress:
        flow = taylor_green(SIZE, REYNOLDS, TIME, progress=progress)
        io.write([flow.vorticity_magnitude], original)
    report.line(f"simulated {SIZE}³ samples of a Taylor-Green flow, Re {REYNOLDS:g}, t = {TIME:g} in {seconds():.0f} s")

    with working(f"compressing {RATIO:g} : 1") as progress:
        codec = codec_by_name("hashgrid").from_preset("balanced")
        result = compress(flow.vorticity_magnitude, Ratio(RATIO), codec, Context(progress=progress))
        atomic_write(packed, result.data)
    encoding = seconds()

    io.write(decompress(packed.read_bytes()), decoded)
    decoding = seconds()

    # From the two files, as a reader of them would: nothing that the encoder said is believed.
    (before,), (after,) = io.read(original), io.read(decoded)
    quality = metrics.measure(before.values, after.values, before.mask)
    similarity = metrics.ssim(before.values, after.values, before.mask)
    size = packed.stat().st_size
    comparison(before, after, picture, f"{before.name}, {size} bytes of {before.nbytes}", slices=1)
    rows = [
        ("raw values", f"{report.whole(before.nbytes)} bytes"),
        ("compressed file", f"{report.whole(size)} bytes"),
        ("ratio", report.number(metrics.ratio(before.nbytes, size))),
        ("bits per voxel", report.number(metrics.bits_per_voxel(size, before.voxels))),
        ("PSNR", f"{report.decibels(quality.psnr)} dB"),
        ("max error", f"{report.number(quality.max_error)} of a range of {report.number(quality.range)}"),
        ("SSIM", f"{similarity:.4f}"),
        ("compressing", f"{encoding:.1f} s"),
        ("decompressing", f"{decoding:.1f} s"),
    ]
    report.table((before.name, "measured on the two .vti files"), rows, left=1)
    report.note(f"{report.PSNR}; {report.RATIO}.")
    for path, what in (
        (original, "what was simulated"),
        (packed, "what `neurcomp info` describes and ParaView opens"),
        (decoded, "what comes back from it"),
        (picture, "a slice of both, and their difference"),
    ):
        report.line(f"{path}: {what}")


if __name__ == "__main__":
    typer.run(reporting(demo))
