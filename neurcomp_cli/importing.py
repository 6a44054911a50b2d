"""``neurcomp import``."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from neurcomp_cli import options, report
from neurcomp_cli.console import working
from neurcomp_cli.volumes import NVC, Reading, check_writable, is_compressed, load
from neurcomp_core.codec import Context, usable_cpus
from neurcomp_core.errors import InputError
from neurcomp_core.field import DTYPES, Field
from neurcomp_core.files import atomic_write
from neurcomp_core.pipeline import decompress

_EXAMPLES = (
    "neurcomp import compressed_out --like volume.npy -o volume.nvc",
    "neurcomp import thenet.pth --dims 256,256,128 --range 0,255 -o volume.nvc",
    "neurcomp import compressed_out --like volume.vti -o decoded.vti",
)
_VOLUME = "The volume it stands for: --like, or --dims and --range"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    options.add(app, import_, *_EXAMPLES, name="import")


def import_(
    source: Annotated[
        Path, typer.Argument(metavar="NETWORK", help="Compressed network or .pth checkpoint.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="OUT",
            help="File to write: .nvc, or decoded .vti .vtr .pvd .vtkhdf .npy; or a folder.",
        ),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="VOLUME", help="Its grid, type and range are taken, its quality measured.", rich_help_panel=_VOLUME
        ),
    ] = None,
    dims: Annotated[
        str | None, typer.Option(metavar="X,Y,Z", help="Samples along x, y, z.", rich_help_panel=_VOLUME)
    ] = None,
    limits: Annotated[
        str | None,
        typer.Option(
            "--range", metavar="MIN,MAX", help="Least and largest value of the volume.", rich_help_panel=_VOLUME
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help="Of the values; without --like float32.", rich_help_panel=_VOLUME),
    ] = None,
    array: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Which array of --like, if it has several.", rich_help_panel=_VOLUME),
    ] = None,
    dataset: options.Dataset = None,
    fill_value: options.FillValue = None,
    threads: options.Threads = None,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Read a network of the 2021 neurcomp reference (`net_compress.py`, `train.py`) into a .nvc file, or decode it.

    Its files know neither the shape nor the range of their volume: give a volume like it, or say both. A .nvc stores
    the weights rounded so finely that the PSNR changes by less than 0.01 dB; where the volume is at hand that is
    measured.
    """
    from neurcomp_core import siren_exchange, siren_file

    start = time.perf_counter()
    target = options.path_for(source, out, NVC)
    check_writable(target, force)
    decoded = not is_compressed(target)
    if like is None and (dims is None or limits is None):
        missing = " and ".join(n for n, v in (("--dims X,Y,Z", dims), ("--range MIN,MAX", limits)) if v is None)
        raise InputError(f"'{source}' does not say what volume it stands for: give {missing}, or --like VOLUME")
    ends = None if limits is None else _range(limits)
    net, parameters = siren_file.read(source)
    volume = _outline(source, dims, dtype, net.outputs) if like is None else _like(
        like, array, Reading(dims, dtype, dataset, fill_value)
    )  # fmt: skip
    with working(f"importing {source.name}", quiet=quiet) as progress:
        context = Context("cpu", threads or usable_cpus(), progress=progress)
        found = siren_exchange.import_network(
            net, parameters, volume, ends or volume.limits, like is not None, decoded, context
        )
        if decoded:
            from neurcomp_filters import io

            io.write(decompress(found.data, context=context), target)
        else:
            atomic_write(target, found.data)
    seconds = time.perf_counter() - start
    if as_json:
        figures = {} if found.quality is None else report.quality_json(found.quality)
        report.print_json(
            {
                "input": str(source),
                "output": str(target),
                "input_bytes": source.stat().st_size,
                "file_bytes": None if decoded else len(found.data),
                "width": net.width,
                "layers": net.layers,
                "residual_blocks": net.residual,
                "precision_db": None if decoded else found.precision,
                "seconds": round(seconds, 3),
                "array": report.field_json(volume),
                **figures,
            }
        )
    elif not quiet:
        kind = "residual" if net.residual else "plain"
        report.line(f"{source}: {net.layers} {kind} sine layers of {net.width}, {net.parameters:,} parameters")
        if found.quality is not None:
            report.line(f"PSNR of {volume.name}: {report.decibels(found.quality.psnr)} dB ({report.PSNR})")
        size = "decoded" if decoded else f"{report.whole(len(found.data))} bytes"
        shape = report.shape_text(volume.values.shape)
        report.line(f"{target}: {size}, {volume.name} {shape} {volume.values.dtype}, written in {seconds:.1f} s")


def _range(text: str) -> tuple[float, float]:
    ends = options.numbers(text, "--range")
    if len(ends) != 2 or not ends[0] < ends[1]:
        raise InputError(f"--range: expected two values like 0,255, the smaller first, got '{text}'")
    return ends[0], ends[1]


def _outline(source: Path, dims: str | None, dtype: str | None, outputs: int) -> Field:
    """A field of zeros that takes no memory."""
    name = dtype or "float32"
    if name not in DTYPES:
        raise InputError(f"--dtype: expected one of {', '.join(DTYPES)}, got '{name}'")
    shape = options.whole_numbers(dims or "", "--dims", range(3, 4))[::-1] + ((outputs,) if outputs > 1 else ())
    return Field(np.broadcast_to(np.zeros((), name), shape), name=source.stem)


def _like(path: Path, array: str | None, reading: Reading) -> Field:
    found = load(path, None if array is None else [array], reading)
    if len(found) != 1:
        names = ", ".join(dict.fromkeys(f"'{f.name}'" for f in found))
        raise InputError(f"'{path}' has {len(found)} arrays ({names}); say with --array which one the network is of")
    return replace(found[0], time=None)
