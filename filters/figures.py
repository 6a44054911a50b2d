"""Measured figures as VTK field data: one value per array of the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkStringArray
from vtkmodules.vtkCommonDataModel import vtkDataObject

from neurcomp_core import metrics
from neurcomp_core.codec import codec_by_id, unpack_tried
from neurcomp_core.container import Container

#: Field data array with the bytes of the file that a reconstruction came from.
FILE = "neurcomp_file"


@dataclass(frozen=True)
class Figures:
    """What is known of one array in a file; NaN where a figure is not.

    Attributes
    ----------
    raw_bytes, file_bytes : int
        Of the values in memory, and of this array's share of the file.
    psnr, max_error : float
        As `neurcomp_core.metrics` defines them.
    seconds : float
        Time it took to encode, check and decode.
    tried : str
        What else was tried, and lost.
    inside, outside : float
        PSNR where quality matters more, and elsewhere, by the range of the whole array.
    """

    name: str
    codec: str
    voxels: int
    raw_bytes: int
    file_bytes: int
    psnr: float = float("nan")
    max_error: float = float("nan")
    seconds: float = float("nan")
    tried: str = ""
    inside: float = float("nan")
    outside: float = float("nan")


def figures_of(file: Container) -> list[Figures]:
    """What a file says of its arrays; what they share of it is shared in proportion to their raw bytes."""
    own = [sum(record.sections) for record in file.header.arrays]
    specs = [file.spec(i) for i in range(len(file))]
    shared = (file.nbytes - sum(own)) / max(sum(s.nbytes for s in specs), 1)
    return [
        Figures(
            record.name,
            codec_by_id(record.codec).name,
            int(np.prod(spec.shape[:3], dtype=np.int64)),
            spec.nbytes,
            bytes_of_it + round(shared * spec.nbytes),
            float("nan") if record.psnr is None else record.psnr,
            float("nan") if record.max_error is None else record.max_error,
            tried="; ".join(map(str, unpack_tried(record.tried))),
        )
        for record, spec, bytes_of_it in zip(file.header.arrays, specs, own, strict=True)
    ]


def add_figures(data: vtkDataObject, figures: Sequence[Figures]) -> None:
    """Put `figures` into the field data, each under a name that begins with ``neurcomp_``."""
    _add_text(data, "array", [f.name for f in figures])
    _add_text(data, "codec", [f.codec for f in figures])
    if any(f.tried for f in figures):
        _add_text(data, "tried", [f.tried for f in figures])
    _add_numbers(data, "bytes", np.array([f.file_bytes for f in figures], np.int64))
    _add_numbers(data, "ratio", np.array([metrics.ratio(f.raw_bytes, f.file_bytes) for f in figures]))
    _add_numbers(data, "bits_per_voxel", np.array([metrics.bits_per_voxel(f.file_bytes, f.voxels) for f in figures]))
    _add_numbers(data, "psnr", np.array([f.psnr for f in figures]))
    _add_numbers(data, "max_error", np.array([f.max_error for f in figures]))
    if not all(np.isnan(f.inside) for f in figures):
        _add_numbers(data, "psnr_inside", np.array([f.inside for f in figures]))
        _add_numbers(data, "psnr_outside", np.array([f.outside for f in figures]))
    if not all(np.isnan(f.seconds) for f in figures):
        _add_numbers(data, "seconds", np.array([f.seconds for f in figures]))


def attach_file(data: vtkDataObject, content: bytes) -> None:
    """Keep the bytes of a file with what was decoded from it."""
    array = numpy_to_vtk(np.frombuffer(content, np.uint8), deep=True)
    array.SetName(FILE)
    data.GetFieldData().AddArray(array)


def attached_file(data: vtkDataObject) -> bytes | None:
    """The bytes that `attach_file` left; None if there are none."""
    array = data.GetFieldData().GetArray(FILE)
    return None if array is None or array.GetNumberOfTuples() == 0 else vtk_to_numpy(array).astype(np.uint8).tobytes()


def _add_numbers(data: vtkDataObject, name: str, values: np.ndarray) -> None:
    array = numpy_to_vtk(values, deep=True)
    array.SetName(f"neurcomp_{name}")
    data.GetFieldData().AddArray(array)


def _add_text(data: vtkDataObject, name: str, texts: Sequence[str]) -> None:
    array = vtkStringArray()
    array.SetName(f"neurcomp_{name}")
    for text in texts:
        array.InsertNextValue(text)
    data.GetFieldData().AddArray(array)
