"""MetaImage files (.mha, .mhd).

VTK reads the samples. The direction is taken from the header here: VTK before 9.4 leaves it out, later ones take the
rows of TransformMatrix for its columns; ITK, whose format it is, lists one index axis after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from vtkmodules.vtkIOImage import vtkMetaImageReader

from neurcomp_core.errors import InputError
from neurcomp_core.field import Field, UniformGrid
from neurcomp_filters.bridge import fields_from_vtk
from neurcomp_filters.io._grids import affine_grid
from neurcomp_filters.io._vtk import updated

_HEADER_LIMIT = 1 << 16
_BYTES = {
    "MET_CHAR": 1,
    "MET_UCHAR": 1,
    "MET_SHORT": 2,
    "MET_USHORT": 2,
    "MET_INT": 4,
    "MET_UINT": 4,
    "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}


def read_meta(path: Path, arrays: Sequence[str] | None) -> list[Field]:
    """Fields of a MetaImage, placed by its offset, spacing and transform matrix."""
    header, data_start = _header(path)
    _check_size(header, path, data_start)
    axes = _axes(header)
    reader = vtkMetaImageReader()
    reader.SetFileName(str(path))
    fields = fields_from_vtk(updated(reader), arrays)
    return [replace(field, geometry=_geometry(field, axes)) for field in fields]


def _header(path: Path) -> tuple[dict[str, str], int]:
    with open(path, "rb") as file:
        data = file.read(_HEADER_LIMIT)
    header: dict[str, str] = {}
    position = 0
    for line in data.splitlines(keepends=True):
        key, equals, value = line.decode("latin-1").partition("=")
        if not equals:
            break
        position += len(line)
        header[key.strip()] = value.strip()
        if key.strip() == "ElementDataFile":
            break
    for key in ("NDims", "DimSize", "ElementType", "ElementDataFile"):
        if key not in header:
            raise InputError(f"it is not a MetaImage: the header has no '{key}'")
    if header["NDims"] not in ("2", "3"):
        raise InputError(f"the image has {header['NDims']} dimensions; expected 2 or 3")
    return header, position


def _check_size(header: dict[str, str], path: Path, data_start: int) -> None:
    # Said here, because the library below VTK prints to the terminal and goes on.
    name = header["ElementDataFile"]
    local = name.upper() == "LOCAL"
    data = path if local else path.parent / name
    if not local and name.upper() != "LIST" and "%" not in name and not data.is_file():
        raise InputError(f"its data file '{data}' does not exist")
    size = _BYTES.get(header["ElementType"])
    compressed = header.get("CompressedData", "False").lower().startswith("t")
    binary = header.get("BinaryData", "True").lower().startswith("t")
    if size is None or compressed or not binary or not data.is_file():
        return
    for count in _numbers(header, "DimSize", "") + _numbers(header, "ElementNumberOfChannels", "1"):
        size *= int(count)
    available = data.stat().st_size - (data_start if local else 0)
    if available < size:
        raise InputError(f"the file is cut off: the header announces {size} bytes of samples, there are {available}")


def _axes(header: dict[str, str]) -> np.ndarray | None:
    # One row per index axis.
    for key in ("TransformMatrix", "Rotation", "Orientation"):
        if key in header:
            size = int(header["NDims"])
            numbers = _numbers(header, key, "")
            if len(numbers) != size * size:
                raise InputError(f"the header's '{key}' has {len(numbers)} numbers; expected {size * size}")
            axes = np.eye(3)
            axes[:size, :size] = np.reshape(numbers, (size, size))
            return axes
    return None


def _geometry(field: Field, axes: np.ndarray | None) -> UniformGrid:
    grid = field.geometry
    assert isinstance(grid, UniformGrid)
    return grid if axes is None else affine_grid(axes.T * grid.spacing, grid.origin, grid.dimensions)


def _numbers(header: dict[str, str], key: str, default: str) -> list[float]:
    try:
        return [float(word) for word in header.get(key, default).split()]
    except ValueError:
        raise InputError(f"the header's '{key}' is not a list of numbers: '{header[key]}'") from None
