"""``neurcomp radiance export``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from neurcomp_cli import options, radiance_files, report
from neurcomp_cli.console import working
from neurcomp_cli.radiance_files import opened
from neurcomp_cli.volumes import check_writable
from neurcomp_core.codec import Context, usable_cpus
from neurcomp_core.errors import InputError, require
from neurcomp_core.field import Field
from neurcomp_core.progress import Progress
from neurcomp_core.radiance import evaluation, export
from neurcomp_core.radiance.grids import SparseGrid
from neurcomp_core.radiance.rendering.fields import PointField
from neurcomp_core.threads import limit

_VOLUMES = (".vti", ".vtkhdf", ".hdf")
_MESHES = (".vtp", ".ply", ".obj")
_EXAMPLES = (
    "neurcomp radiance export mic.nvc mic.vti --sh",
    "neurcomp radiance export mic.nvc mic.vti --direction 0 1 0 --resolution 256",
    "neurcomp radiance export mic.nvc mic.ply --isovalue 20",
)


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    options.add(app, export_, *_EXAMPLES, name="export")


def export_(
    source: radiance_files.Volume,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="Volume: .vti, .vtkhdf. Mesh of a surface of density: .vtp, .ply, .obj.",
            show_default=False,
        ),
    ],
    resolution: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help=f"Voxels along the longest side; by default a grid's own, of a network {export.RESOLUTION}.",
        ),
    ] = None,
    direction: Annotated[
        tuple[float, float, float] | None,
        typer.Option(
            metavar="X Y Z",
            help="Colours as seen looking this way; by default means over all, of a mesh as seen from outside.",
        ),
    ] = None,
    sh: Annotated[
        bool, typer.Option("--sh", help="Also spherical harmonics, as array 'sh': red's coefficients first.")
    ] = False,
    signed: Annotated[
        bool, typer.Option("--signed", help="Keep densities below 0, which interpolation needs to be exact.")
    ] = False,
    rgba: Annotated[
        bool,
        typer.Option("--rgba", help="Also colour and opacity in four bytes, which ParaView draws as they are."),
    ] = False,
    isovalue: Annotated[
        float | None,
        typer.Option(metavar="DENSITY", help="Of a mesh; by default where a voxel stops half of the light."),
    ] = None,
    threads: options.Threads = None,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a radiance field as image data with density and colour, or as a coloured mesh, for any program.

    Density is per unit of length, colour runs from 0 to 1. DVGO's fields and networks are sampled, and their colours
    fitted by spherical harmonics of degree 2 where these are asked for.
    """
    kind = out.suffix.lower()
    if kind not in (*_VOLUMES, *_MESHES):
        raise InputError(f"cannot write '{out}': expected a name that ends in {', '.join((*_VOLUMES, *_MESHES))}")
    mesh = kind in _MESHES
    if mesh and (sh or rgba or signed):
        raise InputError("a mesh has colours only: leave out --sh, --rgba and --signed, or export a .vti")
    if isovalue is not None and not mesh:
        raise InputError(f"--isovalue is for meshes ({', '.join(_MESHES)}), got '{out}'")
    check_writable(out, force)
    require("vtkmodules.vtkCommonDataModel", "vtk", f"writing {kind} files")
    count = threads or usable_cpus()
    with working(f"exporting {source.name}", quiet=quiet) as progress, limit(count):
        volume = opened(source, Context("cpu", count))
        field = evaluation.field_of(volume)
        if mesh:
            found = _write_mesh(field, out, resolution, direction, isovalue, progress)
        else:
            arrays = export.fields(field, resolution, direction, sh, progress, signed=signed)
            found = _write_volume(arrays, out, rgba)
    notes = list(_notes(volume.scene, field))
    if as_json:
        report.print_json({"input": str(source), "output": str(out), **found, "notes": notes})
    elif not quiet:
        report.line(f"{out}: {found['text']}")
        for note in notes:
            report.note(note)


def _write_volume(arrays: list[Field], out: Path, with_rgba: bool) -> dict[str, Any]:
    from neurcomp_filters import io
    from neurcomp_filters.radiance_image import rgba

    if with_rgba:
        density, color = arrays[:2]
        arrays = [*arrays, rgba(density, color)]
    io.write(arrays, out)
    names = ", ".join(f"{a.name}{f' ({a.components})' if a.components > 1 else ''}" for a in arrays)
    shape = report.shape_text(arrays[0].values.shape)
    return {"text": f"{shape} points: {names}", "arrays": [report.field_json(a) for a in arrays]}


def _write_mesh(
    field: SparseGrid | PointField,
    out: Path,
    resolution: int | None,
    direction: tuple[float, float, float] | None,
    isovalue: float | None,
    progress: Progress,
) -> dict[str, Any]:
    from neurcomp_filters.colored_surface import colored_surface
    from neurcomp_filters.io.surfaces import write_surface

    if isovalue is not None and not 0 < isovalue < math.inf:
        raise InputError(f"--isovalue: expected a positive density, got {isovalue:g}")
    towards = None if direction is None else export.unit(direction)
    density = export.fields(field, resolution, None, False, progress)[0]
    value = export.isovalue(density) if isovalue is None else isovalue

    def coloring(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
        return export.seen_along(field, points, -normals if towards is None else towards)

    surface = colored_surface(density, value, coloring)
    write_surface(surface, out)
    vertices, triangles = surface.GetNumberOfPoints(), surface.GetNumberOfCells()
    text = f"{report.whole(triangles)} triangles, {report.whole(vertices)} vertices, where density is {value:.4g}"
    return {"text": text, "vertices": vertices, "triangles": triangles, "isovalue": value}


def _notes(scene: str, field: SparseGrid | PointField) -> Iterator[str]:
    """What a user of the file has to know."""
    if scene == "forward-facing":
        yield "coordinates are normalised device coordinates of the scene, which bend what is far"
    if isinstance(field, SparseGrid) and field.background is not None:
        yield "the background beyond the box is not part of it"
