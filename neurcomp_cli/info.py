"""``neurcomp info``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from neurcomp_cli import options, report
from neurcomp_cli.volumes import Reading, is_compressed, load, open_compressed
from neurcomp_core import metrics
from neurcomp_core.codec import Encoded, codec_by_id, unpack_tried
from neurcomp_core.container import SCENES, Container
from neurcomp_core.field import Field
from neurcomp_core.radiance.codec import radiance_codec_by_id

_EXAMPLES = (
    "neurcomp info flow.nvc",
    "neurcomp info flow.vti --json",
    "neurcomp info a.raw --dims 256,256,128 --dtype uint8",
)
#: Bytes of a checksum beside each section.
_CHECK = 4


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    options.add(app, info, *_EXAMPLES)


def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .nvc or a volume file.", show_default=False)],
    dims: options.Dims = None,
    dtype: options.Dtype = None,
    dataset: options.Dataset = None,
    fill_value: options.FillValue = None,
    as_json: options.Json = False,
) -> None:
    """Say what a file holds: arrays, grid and value ranges.

    Of a .nvc also codecs and their parameters, measured errors and where the bytes go; its checksums are verified.
    """
    if is_compressed(file):
        found = describe(open_compressed(file))
        if as_json:
            report.print_json(found)
        else:
            _show_compressed(found)
        return
    fields = load(file, None, Reading(dims, dtype, dataset, fill_value))
    if as_json:
        arrays = [{**report.field_json(f), **_values(f), "grid": report.geometry_json(f.geometry)} for f in fields]
        report.print_json({"file": str(file), "file_bytes": file.stat().st_size, "arrays": arrays})
    else:
        _show_volume(file, fields)


def describe(file: Container) -> dict[str, Any]:
    """Everything a ``.nvc`` says about itself, and where its bytes go; all checksums are verified."""
    arrays = []
    stored = 0
    for i, record in enumerate(file.header.arrays):
        spec = file.spec(i)
        sections = file.sections(i)
        own = sections[1:] if record.special else sections
        codec = codec_by_id(record.codec)
        size = sum(len(s) + _CHECK for s in sections)
        stored += size
        parameters = codec.describe(Encoded(record.params, own))
        parameters.pop("sections", None)
        arrays.append(
            {
                "name": record.name,
                "association": file.association(i),
                "time": record.time,
                "dims": report.dims_of(spec.shape),
                "components": record.components or 1,
                "dtype": spec.dtype.name,
                "raw_bytes": spec.nbytes,
                "codec": codec.name,
                "parameters": parameters,
                "psnr": record.psnr,
                "max_error": record.max_error,
                "lossless": record.max_error == 0,
                "tried": [report.tried_json(t) for t in unpack_tried(record.tried)],
                "chosen_over": [str(t) for t in unpack_tried(record.tried)],
                "bytes": {
                    "parameters": len(record.params),
                    "special samples": len(sections[0]) if record.special else 0,
                    "streams": [len(s) for s in own],
                    "checksums": _CHECK * len(sections),
                },
                "grid": report.geometry_json(file.geometry(i)),
                "grid_text": report.geometry_text(file.geometry(i)),
                "voxels": int(np.prod(spec.shape[:3])),
            }
        )
    radiance = [_describe_radiance(file, i) for i in range(len(file.header.radiance))]
    stored += sum(sum(r["bytes"]["streams"]) + r["bytes"]["checksums"] for r in radiance)
    raw, voxels = sum(a["raw_bytes"] for a in [*arrays, *radiance]), sum(a["voxels"] for a in arrays)
    return {
        "file": file.name,
        "format_version": file.version,
        "file_bytes": file.nbytes,
        "header_bytes": file.nbytes - stored,
        "raw_bytes": raw,
        "ratio": metrics.ratio(raw, file.nbytes),
        "bits_per_voxel": metrics.bits_per_voxel(file.nbytes, max(voxels, 1)),
        "arrays": arrays,
        "radiance": radiance,
    }


def _describe_radiance(file: Container, index: int) -> dict[str, Any]:
    """What a ``.nvc`` says about one of its radiance fields."""
    record, sections = file.header.radiance[index], tuple(file.radiance_sections(index))
    codec = radiance_codec_by_id(record.codec)
    encoded = Encoded(record.params, sections)
    parameters = codec.describe(encoded)
    parameters.pop("sections", None)
    return {
        "name": record.name,
        "codec": codec.name,
        "parameters": parameters,
        "scene": SCENES[record.scene],
        "near": record.near,
        "far": record.far if math.isfinite(record.far) else None,
        "background": list(record.background) * (3 if len(record.background) == 1 else 1),
        "raw_bytes": record.raw_bytes,
        "psnr": record.psnr,
        "bytes": {
            "parameters": len(record.params),
            "streams": [len(s) for s in sections],
            "parts": codec.parts(encoded),
            "checksums": _CHECK * len(sections),
        },
    }


def _show_compressed(found: dict[str, Any]) -> None:
    per_voxel = f", {report.number(found['bits_per_voxel'])} bits/voxel" if found["arrays"] else ""
    report.line(
        f"{found['file']}: format {found['format_version']}, {report.whole(found['file_bytes'])} bytes for "
        f"{report.whole(found['raw_bytes'])}, ratio {report.number(found['ratio'])}{per_voxel}"
    )
    if found["radiance"]:
        _show_radiance(found["radiance"], found["header_bytes"])
    if not found["arrays"]:
        return
    for text in dict.fromkeys(a["grid_text"] for a in found["arrays"]):
        report.line(text)
    rows = []
    for a in found["arrays"]:
        shape = " × ".join(map(str, a["dims"])) + (f" ({a['components']})" if a["components"] > 1 else "")
        psnr = "" if a["psnr"] is None else report.decibels(a["psnr"])
        error = "" if a["max_error"] is None else report.number(a["max_error"])
        stream = report.whole(sum(a["bytes"]["streams"]))
        special = report.whole(a["bytes"]["special samples"])
        rows.append((_label(a), a["codec"], a["association"], shape, a["dtype"], stream, special, psnr, error))
    heads = ("array", "codec", "on", "x × y × z", "type", "stream", "no-data", "PSNR dB", "max error")
    report.table(heads, rows, left=3)
    for a in found["arrays"]:
        if a["parameters"]:
            texts = (f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in a["parameters"].items())
            report.line(f"{_label(a)}: {a['codec']}, {', '.join(texts)}")
        if a["chosen_over"]:
            report.line(f"{_label(a)}: {a['codec']} was chosen over {'; '.join(a['chosen_over'])}")
    checks = sum(a["bytes"]["checksums"] for a in found["arrays"])
    params = sum(a["bytes"]["parameters"] for a in found["arrays"])
    report.note(
        f"Bytes: streams, no-data samples, {checks} for their checksums, {found['header_bytes']} for the header, "
        f"codec parameters ({params}) and its checksum included. Errors as measured when the file was written; "
        f"{report.PSNR}."
    )


def _show_radiance(fields: list[dict[str, Any]], header: int) -> None:
    rows = []
    for f in fields:
        bounds = f"{f['near']:g} - {'∞' if f['far'] is None else format(f['far'], 'g')}"
        psnr = "" if f["psnr"] is None else report.decibels(f["psnr"])
        behind = ", ".join(f"{c:g}" for c in f["background"])
        rows.append((f["name"], f["codec"], f["scene"], bounds, behind, report.whole(sum(f["bytes"]["streams"])), psnr))
    report.table(("radiance field", "codec", "scene", "near - far", "background", "streams", "PSNR dB"), rows, left=3)
    for f in fields:
        texts = (f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in f["parameters"].items())
        report.line(f"{f['name']}: {f['codec']}, {', '.join(texts)}")
        report.line(f"{f['name']}: {', '.join(f'{k} {report.whole(n)}' for k, n in f['bytes']['parts'].items())} bytes")
    report.note(
        f"Bytes: streams, {sum(f['bytes']['checksums'] for f in fields)} for their checksums, {header} for the header. "
        "PSNR is the mean over unseen views, of colours from 0 to 1, measured on the decoded field."
    )


def _label(array: dict[str, Any]) -> str:
    return array["name"] if array["time"] is None else f"{array['name']} (t = {array['time']:g})"


def _values(field: Field) -> dict[str, Any]:
    """Range over valid samples, and how many samples are not data."""
    valid = field.valid
    kept = field.values if valid is None else field.values[valid]
    return {
        "min": kept.min().item() if kept.size else None,
        "max": kept.max().item() if kept.size else None,
        "not_data": int(field.values.size - kept.size),
    }


def _show_volume(file: Path, fields: list[Field]) -> None:
    report.line(f"{file}: {report.whole(file.stat().st_size)} bytes")
    for text in dict.fromkeys(report.geometry_text(f.geometry) for f in fields):
        report.line(text)
    rows = []
    for field in fields:
        about = _values(field)
        ends = ["" if about[k] is None else f"{about[k]:.6g}" for k in ("min", "max")]
        rows.append(
            (
                report.label(field),
                field.association,
                report.shape_text(field.values.shape),
                field.values.dtype.name,
                report.whole(field.nbytes),
                *ends,
                report.whole(about["not_data"]),
            )
        )
    report.table(("array", "on", "x × y × z", "type", "raw bytes", "min", "max", "no-data samples"), rows)
