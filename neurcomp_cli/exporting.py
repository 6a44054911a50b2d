"""``neurcomp export``."""

from __future__ import annotations

import math
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from neurcomp_cli import options, report
from neurcomp_cli.volumes import check_writable, is_compressed, open_compressed
from neurcomp_core.container import Container
from neurcomp_core.errors import InputError
from neurcomp_core.files import atomic_write

_EXAMPLES = (
    "neurcomp export flow.nvc -o compressed_out.bin",
    "neurcomp export flow.nvc --array pressure --bits 8 -o pressure.bin",
    "neurcomp export flow.nvc -o thenet.pth    # a PyTorch checkpoint",
)


class Layout(str, Enum):
    """What can be written."""

    neurcomp = "neurcomp"
    checkpoint = "checkpoint"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    options.add(app, export, *_EXAMPLES)


def export(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A .nvc file of the codec siren.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="OUT", help="File to write, or a folder.", show_default=False)
    ] = None,
    layout: Annotated[
        Layout | None,
        typer.Option(help="checkpoint if OUT ends in .pth or .pt, otherwise neurcomp.", show_default=False),
    ] = None,
    array: Annotated[str | None, typer.Option(metavar="NAME", help="Which array, if there are several.")] = None,
    bits: Annotated[int, typer.Option(metavar="N", help="Bits per weight of the layout neurcomp, 1 to 16.")] = 9,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the network of a .nvc file as the 2021 neurcomp reference does: compressed network, or checkpoint.

    Neither holds the shape and the range of the volume, which the reference takes from the volume itself; both are
    printed. A residual beside the network stays behind.
    """
    from neurcomp_core import siren_exchange, siren_file

    if out is not None and is_compressed(out):
        raise InputError(
            f"-o {out}: export writes the reference's layouts, for which a name that ends in .nvc is wrong"
        )
    if layout is None:
        asked = out is not None and out.suffix.lower() in siren_file.CHECKPOINTS
        layout = Layout.checkpoint if asked else Layout.neurcomp
    target = options.path_for(source, out, ".pth" if layout is Layout.checkpoint else ".bin")
    check_writable(target, force)
    file = open_compressed(source)
    index = _index(file, array)
    net, parameters, (low, high) = siren_exchange.export_network(file, index)
    precision = math.inf
    if layout is Layout.checkpoint:
        data = siren_file.pack_checkpoint(net, parameters)
    else:
        data = siren_file.pack(net, parameters, bits)
        written, stored = siren_file.parse(data)
        scaled = siren_file.in_reference_units(net, parameters)
        precision = siren_exchange.precision_of(written, scaled, stored, file.spec(index).shape[:3])
    atomic_write(target, data)
    shape = file.spec(index).shape
    residual = len(file.header.arrays[index].sections) - file.header.arrays[index].special > 1
    if as_json:
        report.print_json(
            {
                "input": str(source),
                "output": str(target),
                "layout": layout.value,
                "file_bytes": len(data),
                "width": net.width,
                "layers": net.layers,
                "dims": report.dims_of(shape),
                "range": [low, high],
                "precision_db": precision,
                "residual_left_behind": residual,
            }
        )
    elif not quiet:
        report.line(f"{target}: {report.whole(len(data))} bytes, {net.layers} sine layers of {net.width}")
        if layout is Layout.neurcomp:
            change = "hold the weights exactly"
            if math.isfinite(precision):
                change = f"change the values by {precision:.1f} dB below the range"
            report.line(f"{bits}-bit codebooks {change}")
        if residual:
            report.line("the residual beside the network stays behind: what is decoded from this is the network alone")
        report.line(
            f"not in it, but needed to decode it: {report.shape_text(shape)} samples, range {low!r} to {high!r}"
        )


def _index(file: Container, array: str | None) -> int:
    names = [record.name for record in file.header.arrays]
    found = [i for i, name in enumerate(names) if array in (None, name)]
    listing = ", ".join(f"'{n}'" for n in dict.fromkeys(names))
    if not found:
        raise InputError(f"{file.name} has no array '{array}'; it has: {listing}")
    if len(found) > 1:
        raise InputError(f"{file.name} has {len(found)} such arrays ({listing}); export one of one time, see --array")
    return found[0]
