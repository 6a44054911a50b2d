"""What VTK's netCDF reader does not tell: the attributes of variables, and whether the file is whole.

The classic format (CDF-1, CDF-2, CDF-5) is parsed here; netCDF-4 files are HDF5. Layout: "The NetCDF Classic Format
Specification", Unidata.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_filters.io._hdf5 import h5py

Attributes = dict[str, np.ndarray]

_TYPES = {1: "i1", 2: "S1", 3: "i2", 4: "i4", 5: "f4", 6: "f8", 7: "u1", 8: "u2", 9: "u4", 10: "i8", 11: "u8"}
_DIMENSIONS, _VARIABLES, _ATTRIBUTES = 10, 11, 12


def variable_attributes(path: Path) -> dict[str, Attributes]:
    """Numeric attributes of every variable of the root group.

    Raises
    ------
    InputError
        If the file is not netCDF, or a classic one that is cut off.
    MissingExtraError
        If the file is netCDF-4 and h5py is not installed.
    """
    with open(path, "rb") as file:
        magic = file.read(4)
    if magic[:3] == b"CDF" and magic[3:] in (b"\1", b"\2", b"\5"):
        return _classic(path)
    if magic == b"\x89HDF":
        return _netcdf4(path)
    raise InputError("it is not a netCDF file")


def _netcdf4(path: Path) -> dict[str, Attributes]:
    module = h5py("reading the fill values of a netCDF-4 file")
    try:
        with module.File(path, "r") as file:
            return {name: _numeric(item.attrs) for name, item in file.items() if isinstance(item, module.Dataset)}
    except OSError as error:
        raise InputError(f"the file is damaged or cut off ({error})") from None


def _numeric(attributes: Any) -> Attributes:
    wanted = ("_FillValue", "missing_value", "scale_factor", "add_offset")
    values = {name: np.ravel(attributes[name]) for name in wanted if name in attributes}
    return {name: value for name, value in values.items() if value.dtype.kind in "iuf"}


class _Cursor:
    """Big-endian numbers out of the header, padded to four bytes as the format wants them."""

    def __init__(self, data: np.ndarray, version: int) -> None:
        self._data = data
        self._position = 4
        self._count = ">Q" if version == 5 else ">I"
        self._offset = ">I" if version == 1 else ">Q"

    def take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._data):
            raise InputError("the file is cut off within its header")
        piece = self._data[self._position : end].tobytes()
        self._position = end + -size % 4
        return piece

    def number(self, code: str) -> int:
        return struct.unpack(code, self.take(struct.calcsize(code)))[0]

    def tag(self) -> int:
        return self.number(">I")

    def count(self) -> int:
        return self.number(self._count)

    def offset(self) -> int:
        return self.number(self._offset)

    def name(self) -> str:
        return self.take(self.count()).decode("utf-8", "replace")

    def items(self, expected: int) -> int:
        """Length of a list whose tag must be `expected` (or absent)."""
        tag, count = self.tag(), self.count()
        if tag not in (0, expected) or (tag == 0 and count):
            raise InputError("the netCDF header is damaged")
        return count

    def attributes(self) -> Attributes:
        found: Attributes = {}
        for _ in range(self.items(_ATTRIBUTES)):
            name, kind = self.name(), np.dtype(_type(self.tag())).newbyteorder(">")
            values = np.frombuffer(self.take(self.count() * kind.itemsize), kind)
            found[name] = values.astype(kind.newbyteorder("="))
        return found


@dataclass(frozen=True)
class _Variable:
    begin: int
    size: int
    record: bool


def _classic(path: Path) -> dict[str, Attributes]:
    # The header has no length of its own; map the file and read only as far as it goes.
    data = np.memmap(path, np.uint8, "r")
    cursor = _Cursor(data, int(data[3]))
    records = cursor.count()
    lengths = []
    for _ in range(cursor.items(_DIMENSIONS)):
        cursor.name()
        lengths.append(cursor.count())
    cursor.attributes()
    attributes: dict[str, Attributes] = {}
    variables = []
    for _ in range(cursor.items(_VARIABLES)):
        name = cursor.name()
        axes = [cursor.count() for _ in range(cursor.count())]
        attributes[name] = _numeric(cursor.attributes())
        kind = np.dtype(_type(cursor.tag()))
        cursor.count()
        if any(axis >= len(lengths) for axis in axes):
            raise InputError("the netCDF header is damaged")
        record = bool(axes) and lengths[axes[0]] == 0
        size = math.prod(lengths[axis] for axis in axes[record:]) * kind.itemsize
        variables.append(_Variable(cursor.offset(), size, record))
    _check_whole(variables, records, len(data))
    return attributes


def _check_whole(variables: list[_Variable], records: int, available: int) -> None:
    needed = max((v.begin + v.size for v in variables if not v.record), default=0)
    series = [v for v in variables if v.record]
    # All ones in the count mean that it was never filled in.
    if series and 0 < records < 0xFFFFFFFF:
        stride = series[0].size if len(series) == 1 else sum(v.size + -v.size % 4 for v in series)
        needed = max(needed, max(v.begin + (records - 1) * stride + v.size for v in series))
    if needed > available:
        raise InputError(f"the file is cut off: its header announces {needed} bytes, there are {available}")


def _type(code: int) -> str:
    if code not in _TYPES:
        raise InputError(f"the netCDF header is damaged: there is no data type {code}")
    return _TYPES[code]
