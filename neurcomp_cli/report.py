"""Tables for people and JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import Any

from rich import box
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from neurcomp_cli.console import stdout
from neurcomp_core import metrics
from neurcomp_core.codec import Tried, codec_by_id
from neurcomp_core.field import Field, Geometry, RectilinearGrid
from neurcomp_core.pipeline import ArrayReport

PSNR = "PSNR = 20 log10((max - min) / RMSE), over samples of the original that are finite and not masked"
RATIO = "ratio = raw bytes / bytes of the whole file"


def version() -> str:
    """Version of the installed distribution."""
    try:
        return metadata.version("neurcomp")
    except metadata.PackageNotFoundError:
        return "(not installed, running from source)"


def print_json(value: Any) -> None:
    """One JSON object to stdout; what is not finite becomes null, as JSON knows no infinity."""
    print(json.dumps(_plain(value), indent=2, ensure_ascii=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, bytes):
        return value.hex()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return _plain(value.item()) if hasattr(value, "item") else str(value)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str | None = None, left: int = 2) -> None:
    """Print a table whose first `left` columns hold words, the others figures."""
    grid = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left", pad_edge=False)
    for i, name in enumerate(columns):
        # Figures are never broken over lines: a broken number is a wrong number.
        grid.add_column(name, justify="left" if i < left else "right", no_wrap=i >= left, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    console = stdout()
    # A terminal too narrow wraps the lines; rich would rather leave out words.
    needed = Measurement.get(console, console.options.update(max_width=10_000), grid).maximum
    console.width = max(console.width, needed)
    console.print(grid)


def line(text: str) -> None:
    """One line to stdout, words as they are."""
    stdout().print(Text(text), soft_wrap=True)


def note(text: str) -> None:
    """Definitions under a table."""
    stdout().print(Text(text, style="dim"), soft_wrap=not stdout().is_terminal)


# --------------------------------------------------------------------------------------------------------- figures


def whole(n: int) -> str:
    """``1,048,576``."""
    return f"{n:,}"


def number(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}" if math.isfinite(value) else str(value)


def decibels(value: float) -> str:
    """PSNR; infinite means that nothing was lost."""
    return "lossless" if value == math.inf else f"{value:.2f}"


def shape_text(field_shape: Sequence[int]) -> str:
    """``x × y × z`` (and components) of an array's ``(z, y, x[, c])``."""
    text = " × ".join(str(n) for n in field_shape[2::-1])
    return text + (f" ({field_shape[3]})" if len(field_shape) > 3 else "")


def dims_of(shape: Sequence[int]) -> list[int]:
    """Samples along x, y, z."""
    return [int(n) for n in shape[2::-1]]


def quality_json(quality: metrics.Quality) -> dict[str, Any]:
    """Figures of `metrics.Quality`; psnr is null where it is infinite, then max_error is 0."""
    return {
        "psnr": quality.psnr,
        "rmse": quality.rmse,
        "max_error": quality.max_error,
        "range": quality.range,
        "samples": quality.samples,
    }


def field_json(field: Field) -> dict[str, Any]:
    """What an array is."""
    return {
        "name": field.name,
        "association": field.association,
        "time": field.time,
        "dims": dims_of(field.values.shape),
        "components": field.components,
        "dtype": field.values.dtype.name,
        "raw_bytes": field.nbytes,
    }


def array_json(field: Field, report: ArrayReport) -> dict[str, Any]:
    """What became of one array."""
    return {
        **field_json(field),
        "codec": report.codec,
        "file_bytes": report.file_bytes,
        "ratio": metrics.ratio(report.raw_bytes, report.file_bytes),
        "bits_per_voxel": metrics.bits_per_voxel(report.file_bytes, field.voxels),
        **quality_json(report.quality),
        "seconds": round(report.seconds, 3),
        "tried": [tried_json(t) for t in report.tried],
    }


def tried_json(tried: Tried) -> dict[str, Any]:
    """What else was tried; no bytes and no psnr where there was no result."""
    found = {"codec": codec_by_id(tried.codec).name, "residual": tried.residual}
    if not tried.nbytes:
        return found | {"why": tried.why or None}
    return found | {"bytes": tried.nbytes, "psnr": tried.psnr, "met": tried.met}


def chosen(fields: Sequence[Field], reports: Sequence[ArrayReport]) -> None:
    """Which codec the codec auto chose, and over what."""
    for field, report in zip(fields, reports, strict=True):
        if report.codec != "constant":
            line(f"{label(field)}: auto chose {report.codec}" + over(report.tried))


def over(tried: Sequence[Tried]) -> str:
    """The end of a sentence that says what was chosen."""
    return f" over {'; '.join(map(str, tried))}" if tried else "; nothing else was likely to win"


def compressed_table(fields: Sequence[Field], reports: Sequence[ArrayReport]) -> None:
    """The table that `neurcomp compress` ends with."""
    rows = [
        (
            label(field),
            report.codec,
            shape_text(field.values.shape),
            whole(report.raw_bytes),
            whole(report.file_bytes),
            number(metrics.ratio(report.raw_bytes, report.file_bytes)),
            number(metrics.bits_per_voxel(report.file_bytes, field.voxels)),
            decibels(report.quality.psnr),
            number(report.quality.max_error),
            f"{report.seconds:.1f}",
        )
        for field, report in zip(fields, reports, strict=True)
    ]
    heads = ("array", "codec", "x × y × z", "raw bytes", "bytes", "ratio", "bits/voxel", "PSNR dB", "max error", "s")
    table(heads, rows)


def label(field: Field) -> str:
    """Name of an array, and its time where it belongs to a series."""
    return field.name if field.time is None else f"{field.name} (t = {field.time:g})"


def geometry_json(grid: Geometry) -> dict[str, Any]:
    """A grid; a rectilinear one by the ends of its axes."""
    if isinstance(grid, RectilinearGrid):
        ends = [[float(a[0]), float(a[-1])] for a in grid.axes]
        return {"kind": "rectilinear", "points": grid.dimensions, "extent": grid.extent, "bounds": ends}
    return {
        "kind": "uniform",
        "points": grid.dimensions,
        "extent": grid.extent,
        "origin": grid.origin,
        "spacing": grid.spacing,
        "direction": grid.direction,
    }


def geometry_text(grid: Geometry) -> str:
    """One line on a grid."""
    points = " × ".join(map(str, grid.dimensions))
    if isinstance(grid, RectilinearGrid):
        ends = ", ".join(f"{n} {a[0]:.6g} to {a[-1]:.6g}" for n, a in zip("xyz", grid.axes, strict=True))
        return f"rectilinear grid, {points} points, {ends}"

    def listed(values: Sequence[float]) -> str:
        return "(" + ", ".join(f"{v:.6g}" for v in values) + ")"

    text = f"uniform grid, {points} points, origin {listed(grid.origin)}, spacing {listed(grid.spacing)}"
    if grid.extent[::2] != (0, 0, 0):
        text += f", extent {listed(grid.extent)}"
    if grid.direction != (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0):
        text += f", direction {listed(grid.direction)}"
    return text
