"""``python -m neurcomp_cli.demo OUTDIR``: a volume there and back again, with figures and pictures.

Simulates a turbulent flow, compresses its vorticity to a hundredth of its size, by the codec that `auto` chooses and by
a neural one, decompresses from the bytes alone and compares the files as anyone could. Needs neither data nor a GPU, a
display or OpenGL.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from neurcomp_cli import report
from neurcomp_cli.console import reporting, working
from neurcomp_core import metrics
from neurcomp_core.codec import Context
from neurcomp_core.field import Field
from neurcomp_core.files import atomic_write
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.samples import taylor_green
from neurcomp_core.target import Ratio

SIZE, REYNOLDS, TIME, RATIO = 96, 440.0, 8.0, 100.0
CODECS = ("auto", "hashgrid")


@dataclass(frozen=True)
class _Way:
    """What a codec made of the flow, and how long it took."""

    title: str
    packed: Path
    decoded: Path
    picture: Path
    encoding: float
    decoding: float


def demo(
    folder: Annotated[Path, typer.Argument(metavar="OUTDIR", help="Where results go; made if missing.")],
) -> None:
    """Simulate, compress, decompress and compare a turbulent flow; everything is written to OUTDIR."""
    from neurcomp_filters import io

    folder.mkdir(parents=True, exist_ok=True)
    original = folder / "original.vti"
    start = time.perf_counter()
    with working("simulating a turbulent flow") as progress:
        flow = taylor_green(SIZE, REYNOLDS, TIME, progress=progress).vorticity_magnitude
        io.write([flow], original)
    spent = time.perf_counter() - start
    report.line(f"simulated {SIZE}³ samples of a Taylor-Green flow, Re {REYNOLDS:g}, t = {TIME:g} in {spent:.0f} s")
    ways = [_there_and_back(flow, name, folder) for name in CODECS]
    columns = [_figures(original, way) for way in ways]
    rows = [(name, *(column[name] for column in columns)) for name in columns[0]]
    report.table((f"{flow.name}, measured on the .vti files", *(way.title for way in ways)), rows, left=1)
    report.note(f"{report.PSNR}; {report.RATIO}.")
    report.line(f"{original}: what was simulated")
    for way in ways:
        report.line(f"{way.packed}: what `neurcomp info` describes and ParaView opens")
        report.line(f"{way.decoded}: what comes back from it")
        report.line(f"{way.picture}: a slice of both, and their difference")


def _there_and_back(flow: Field, name: str, folder: Path) -> _Way:
    from neurcomp_filters import io

    packed, decoded, picture = (folder / f"{name}.{end}" for end in ("nvc", "vti", "png"))
    clock = [time.perf_counter()]
    with working(f"compressing {RATIO:g} : 1, codec {name}") as progress:
        result = compress(flow, Ratio(RATIO), name, Context(progress=progress))
        atomic_write(packed, result.data)
    clock.append(time.perf_counter())
    io.write(decompress(packed.read_bytes()), decoded)
    clock.append(time.perf_counter())
    chosen = result.reports[0].codec
    title = name if chosen == name else f"{name} ({chosen})"
    return _Way(title, packed, decoded, picture, clock[1] - clock[0], clock[2] - clock[1])


def _figures(original: Path, way: _Way) -> dict[str, str]:
    """Figures from the two files, as a reader of them would get them: nothing that the encoder said is believed."""
    from neurcomp_core.picture import comparison
    from neurcomp_filters import io

    (before,), (after,) = io.read(original), io.read(way.decoded)
    quality = metrics.measure(before.values, after.values, before.mask)
    similarity = metrics.ssim(before.values, after.values, before.mask)
    size = way.packed.stat().st_size
    comparison(before, after, way.picture, f"{before.name}, {way.title}, {size} bytes of {before.nbytes}", slices=1)
    return {
        "raw values": f"{report.whole(before.nbytes)} bytes",
        "compressed file": f"{report.whole(size)} bytes",
        "ratio": report.number(metrics.ratio(before.nbytes, size)),
        "bits per voxel": report.number(metrics.bits_per_voxel(size, before.voxels)),
        "PSNR": f"{report.decibels(quality.psnr)} dB",
        "max error": f"{report.number(quality.max_error)} of a range of {report.number(quality.range)}",
        "SSIM": f"{similarity:.4f}",
        "compressing": f"{way.encoding:.1f} s",
        "decompressing": f"{way.decoding:.1f} s",
    }


if __name__ == "__main__":
    typer.run(reporting(demo))
