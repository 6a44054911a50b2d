"""``neurcomp decompress``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from neurcomp_cli import options, report
from neurcomp_cli.console import working
from neurcomp_cli.volumes import check_writable, open_compressed
from neurcomp_core.codec import Context, usable_cpus
from neurcomp_core.container import Container
from neurcomp_core.errors import InputError
from neurcomp_core.field import Field, RectilinearGrid
from neurcomp_core.pipeline import decode_array

_EXAMPLES = (
    "neurcomp decompress flow.nvc",
    "neurcomp decompress flow.nvc --array pressure -o p.npy",
    "neurcomp decompress flow.nvc --region 0:64,:,10 -o a.vti    # one z layer",
    "neurcomp decompress flow.nvc --level 2 -o coarse.vti        # every 4th",
)


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    options.add(app, decompress, *_EXAMPLES)


def decompress(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A .nvc file.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="OUT", help="File to write: .vti .vtr .pvd .vtkhdf .npy; or a folder."),
    ] = None,
    arrays: options.Arrays = None,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="X0:X1,Y0:Y1,Z0:Z1", help="Only these samples, counted from 0, ends excluded; : is a whole axis."
        ),
    ] = None,
    level: Annotated[int, typer.Option(min=0, max=31, metavar="N", help="Every 2^level-th sample.")] = 0,
    threads: options.Threads = None,
    device: options.Device = "auto",
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Decompress a .nvc file, wholly or a part of it, into a file of another format.

    The result is a .vti by default, a .vtr where the grid is rectilinear and a .pvd where there are several times.
    Decoding needs the file alone, and neither torch nor a GPU.
    """
    start = time.perf_counter()
    file = open_compressed(source)
    indices = _chosen(file, arrays)
    target = options.path_for(source, out, _suffix(file, indices))
    check_writable(target, force)
    fields: list[Field] = []
    with working(f"decompressing {source.name}", quiet=quiet) as progress:
        context = Context(device, threads or usable_cpus(), progress=progress)
        for done, i in enumerate(indices):
            progress.update(done / len(indices), f"array {file.header.arrays[i].name}")
            box = None if region is None else options.region_of(region, file.spec(i).shape)
            fields.append(decode_array(file, i, box, level, context))
        progress.update(1.0, f"writing {target.name}")
        from neurcomp_filters import io

        io.write(fields, target)
    seconds = time.perf_counter() - start
    if as_json:
        found = [report.field_json(f) for f in fields]
        report.print_json({"input": str(source), "output": str(target), "seconds": round(seconds, 3), "arrays": found})
    elif not quiet:
        for field in fields:
            shape = report.shape_text(field.values.shape)
            report.line(f"{report.label(field)}: {shape} {field.values.dtype}, {report.whole(field.nbytes)} bytes")
        report.line(f"{target}: written in {seconds:.1f} s")


def _chosen(file: Container, arrays: Sequence[str] | None) -> list[int]:
    names = [r.name for r in file.header.arrays]
    for name in arrays or ():
        if name not in names:
            listing = ", ".join(f"'{n}'" for n in dict.fromkeys(names))
            raise InputError(f"{file.name} has no array '{name}'; it has: {listing}")
    return [i for i, name in enumerate(names) if not arrays or name in arrays]


def _suffix(file: Container, indices: Sequence[int]) -> str:
    if len({file.header.arrays[i].time for i in indices}) > 1:
        return ".pvd"
    return ".vtr" if any(isinstance(file.geometry(i), RectilinearGrid) for i in indices) else ".vti"
