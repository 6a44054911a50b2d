"""``neurcomp decompress``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from neurcomp_cli import options, report
from neurcomp_cli.console import working
from neurcomp_cli.volumes import check_writable, open_compressed
from neurcomp_core.codec import Context, usable_cpus
from neurcomp_core.container import Container
from neurcomp_core.errors import InputError
from neurcomp_core.field import Field, RectilinearGrid
from neurcomp_core.files import atomic_path
from neurcomp_core.init_file import Init
from neurcomp_core.metrics import set_box
from neurcomp_core.pipeline import decode_array, decode_blocks
from neurcomp_core.steps import Steps

_EXAMPLES = (
    "neurcomp decompress flow.nvc",
    "neurcomp decompress flow.nvc --array pressure -o p.npy",
    "neurcomp decompress flow.nvc --region 0:64,:,10 -o a.vti    # one z layer",
    "neurcomp decompress flow.nvc --level 2 -o coarse.vti        # every 4th",
    "neurcomp decompress run.nvc --time 2.5 -o step.vti          # one step of a series",
    "neurcomp decompress flow.tthresh -o flow.vti",
)

#: Arrays of more bytes are written as they are decoded, where the format allows it.
_LARGE = 1 << 28


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    options.add(app, decompress, *_EXAMPLES)


def decompress(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A .nvc or .tthresh file.", show_default=False)],
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
    times: Annotated[
        list[float] | None,
        typer.Option("--time", metavar="T", help="Only the time step nearest to T; repeatable."),
    ] = None,
    init: options.Start = None,
    threads: options.Threads = None,
    device: options.Device = "auto",
    backend: options.Backend = "auto",
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Decompress a .nvc or .tthresh file, wholly or a part of it, into a file of another format.

    The result is a .vti by default, a .vtr where the grid is rectilinear and a .pvd where there are several times.
    Decoding needs the file alone, and neither torch nor a GPU; only what was compressed with --delta-init needs its
    start.
    """
    start = time.perf_counter()
    file = open_compressed(source)
    if not len(file) and file.header.radiance:
        raise InputError(f"'{source}' holds a radiance field and no arrays; use: neurcomp radiance export {source}")
    indices = _chosen(file, arrays, times)
    target = options.path_for(source, out, _suffix(file, indices))
    check_writable(target, force)
    fields: list[Field] = []
    begun = None if init is None else Init.read(init)
    with working(f"decompressing {source.name}", quiet=quiet) as progress:
        context = Context(device, threads or usable_cpus(), progress=progress, init=begun, backend=backend)
        if target.suffix.lower() == ".npy" and region is None and level == 0 and file.spec(indices[0]).nbytes > _LARGE:
            fields.append(_written(file, indices, target, context))
        else:
            steps = Steps(file)
            for done, i in enumerate(indices):
                progress.update(done / len(indices), f"array {file.header.arrays[i].name}")
                box = None if region is None else options.region_of(region, file.spec(i).shape)
                fields.append(decode_array(file, i, box, level, context, steps))
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


def _written(file: Container, indices: Sequence[int], target: Path, context: Context) -> Field:
    """A large array, written box after box as it is decoded, and mapped into memory."""
    if len(indices) != 1:
        raise InputError(f"a .npy file holds one array, got {len(indices)}; choose one or write a .vti file")
    index = indices[0]
    record, spec = file.header.arrays[index], file.spec(index)
    with atomic_path(target) as temporary:
        out = np.lib.format.open_memmap(temporary, "w+", spec.dtype, spec.shape)
        for region, values in decode_blocks(file, index, context):
            set_box(out, region, values)
            context.progress.update(region[0].stop / spec.shape[0], f"writing {target.name}")
        out.flush()
    values = np.load(target, mmap_mode="r")
    return Field(values, file.geometry(index), record.name, file.association(index), record.time)


def _chosen(file: Container, arrays: Sequence[str] | None, times: Sequence[float] | None) -> list[int]:
    names = [r.name for r in file.header.arrays]
    for name in arrays or ():
        if name not in names:
            listing = ", ".join(f"'{n}'" for n in dict.fromkeys(names))
            raise InputError(f"{file.name} has no array '{name}'; it has: {listing}")
    chosen = [i for i, name in enumerate(names) if not arrays or name in arrays]
    if not times:
        return chosen
    known = {t for i in chosen if (t := file.header.arrays[i].time) is not None}
    if not known:
        raise InputError(f"{file.name} has no time steps; leave out --time")
    wanted = {min(known, key=lambda t: abs(t - time)) for time in times}
    return [i for i in chosen if file.header.arrays[i].time in wanted]


def _suffix(file: Container, indices: Sequence[int]) -> str:
    if len({file.header.arrays[i].time for i in indices}) > 1:
        return ".pvd"
    return ".vtr" if any(isinstance(file.geometry(i), RectilinearGrid) for i in indices) else ".vti"
