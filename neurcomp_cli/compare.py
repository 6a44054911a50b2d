"""``neurcomp compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from neurcomp_cli import options, regions, report
from neurcomp_cli.console import working
from neurcomp_cli.volumes import Reading, check_writable, is_compressed, load
from neurcomp_core import metrics
from neurcomp_core.errors import InputError
from neurcomp_core.field import Field
from neurcomp_core.metrics import Quality
from neurcomp_core.region_quality import RegionQuality, region_quality

_EXAMPLES = (
    "neurcomp compare flow.vti flow.nvc --picture errors.png",
    "neurcomp compare flow.vti other.vti --array pressure --json",
    "neurcomp compare ct.nrrd ct.nvc --region box:40,90,40,90,0,60 --region band:1000,1400",
    "neurcomp compare a.raw a.nvc --dims 256,256,128 --dtype uint8",
)
_SSIM = "SSIM = mean over windows of 7 samples per axis (Wang et al. 2004)"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    options.add(app, compare, *_EXAMPLES)


def compare(
    original: Annotated[Path, typer.Argument(metavar="A", help="The original.", show_default=False)],
    other: Annotated[Path, typer.Argument(metavar="B", help="What is compared with it.", show_default=False)],
    arrays: options.Arrays = None,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="OUT.png", help="Draw middle slices: original, B and error; .png, .svg or .pdf."),
    ] = None,
    slices: Annotated[int, typer.Option(min=1, max=3, metavar="N", help="Middle slices in the picture.")] = 1,
    region: regions.Region = None,
    dims: options.Dims = None,
    dtype: options.Dtype = None,
    dataset: options.Dataset = None,
    fill_value: options.FillValue = None,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure how far B is from A; each may be a volume file or a .nvc.

    Arrays are matched by name; if each file has only one, the name does not matter. Range, mask and the samples that
    count are those of A. With regions, errors are also given inside and outside of each.
    """
    parts = regions.wanted(region).parts
    if picture is not None:
        check_writable(picture, force)
    reading = Reading(dims, dtype, dataset, fill_value)
    plain = Reading(fill_value=fill_value)
    # What is said about raw files must not keep one from comparing them with others.
    sides = [load(p, None, reading if _takes(p, reading) else plain) for p in (original, other)]
    pairs = match(sides[0], sides[1], arrays, (original, other))
    if picture is not None and len(pairs) > 1:
        names = ", ".join(f"'{report.label(a)}'" for a, _ in pairs)
        raise InputError(f"--picture shows one array, the files share {len(pairs)} ({names}); choose one with --array")
    rows: list[tuple[Field, Quality, float]] = []
    inside: list[tuple[Field, list[RegionQuality]]] = []
    with working("comparing", quiet=quiet) as progress:
        for i, (a, b) in enumerate(pairs):
            progress.update(i / len(pairs), f"array {a.name}")
            rows.append((a, metrics.measure(a.values, b.values, a.mask), metrics.ssim(a.values, b.values, a.mask)))
            inside.append((a, [region_quality(a, b.values, part) for part in parts]))
        if picture is not None:
            progress.update(1.0, "drawing")
            from neurcomp_core.picture import comparison

            comparison(*pairs[0], picture, slices=slices)
    sizes = {
        str(path): _size(path, side) for path, side in zip((original, other), sides, strict=True) if is_compressed(path)
    }
    if as_json:
        found = [{**report.field_json(a), **report.quality_json(q), "ssim": s} for a, q, s in rows]
        if parts:
            found = [f | {"regions": regions.as_json(q)} for f, (_, q) in zip(found, inside, strict=True)]
        drawn = None if picture is None else str(picture)
        report.print_json({"a": str(original), "b": str(other), "arrays": found, "compressed": sizes, "picture": drawn})
    elif not quiet:
        _show(original, other, rows, sizes, picture)
        if parts:
            regions.show(inside)
            report.note("PSNR in and out: peak = range of the whole array.")


def match(
    left: Sequence[Field], right: Sequence[Field], arrays: Sequence[str] | None, paths: tuple[Path, Path]
) -> list[tuple[Field, Field]]:
    """Arrays of two files that belong together: by name, association and order in time, or the only ones.

    Raises
    ------
    InputError
        If an array is missing, nothing matches, or shapes differ.
    """
    for name in arrays or ():
        if name not in [f.name for f in left]:
            raise InputError(f"'{paths[0]}' has no array '{name}'; it has: {_listed(left)}")
    wanted = [f for f in left if not arrays or f.name in arrays]
    if len(wanted) == len(right) == 1:
        pairs = [(wanted[0], right[0])]
    else:
        waiting = list(right)
        pairs = []
        for a in wanted:
            found = next((b for b in waiting if (b.name, b.association) == (a.name, a.association)), None)
            if found is not None:
                waiting = [b for b in waiting if b is not found]
                pairs.append((a, found))
            elif arrays:
                raise InputError(f"'{paths[1]}' has no array '{a.name}'; it has: {_listed(right)}")
    if not pairs:
        raise InputError(f"no array of '{paths[0]}' ({_listed(left)}) has its like in '{paths[1]}' ({_listed(right)})")
    for a, b in pairs:
        if a.values.shape != b.values.shape:
            raise InputError(
                f"array '{a.name}' has {report.shape_text(a.values.shape)} samples in '{paths[0]}' and "
                f"{report.shape_text(b.values.shape)} in '{paths[1]}'; only equal shapes can be compared"
            )
    return pairs


def _listed(fields: Sequence[Field]) -> str:
    return ", ".join(f"'{name}'" for name in dict.fromkeys(f.name for f in fields))


def _takes(path: Path, reading: Reading) -> bool:
    """Whether the options for files without a full header are meant for this one."""
    from neurcomp_filters import io

    given = {"dims": reading.dims, "dtype": reading.dtype, "dataset": reading.dataset}
    return all(value is None or io.takes(path, option) for option, value in given.items())


def _size(path: Path, fields: Sequence[Field]) -> dict[str, Any]:
    """Size figures of a whole ``.nvc``, whichever of its arrays were compared."""
    size = path.stat().st_size
    raw, voxels = sum(f.nbytes for f in fields), sum(f.voxels for f in fields)
    return {
        "file_bytes": size,
        "raw_bytes": raw,
        "ratio": metrics.ratio(raw, size),
        "bits_per_voxel": metrics.bits_per_voxel(size, voxels),
    }


def _show(
    original: Path,
    other: Path,
    rows: Sequence[tuple[Field, Quality, float]],
    sizes: dict[str, dict[str, Any]],
    picture: Path | None,
) -> None:
    report.line(f"A, the original: {original}")
    report.line(f"B:               {other}")
    cells = [
        (
            report.label(a),
            report.shape_text(a.values.shape),
            report.decibels(q.psnr),
            report.number(q.rmse),
            report.number(q.max_error),
            f"{s:.6f}",
            report.number(q.range),
        )
        for a, q, s in rows
    ]
    report.table(("array", "x × y × z", "PSNR dB", "RMSE", "max error", "SSIM", "range of A"), cells)
    for name, s in sizes.items():
        report.line(
            f"{name}: {report.whole(s['file_bytes'])} bytes, ratio {report.number(s['ratio'])}, "
            f"{report.number(s['bits_per_voxel'])} bits/voxel"
        )
    if picture is not None:
        report.line(f"{picture}: picture written")
    report.note(f"{report.PSNR}; {_SSIM}; {report.RATIO}.")
