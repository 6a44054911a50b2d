"""Coordinate arrays of rectilinear grids, kept to the bit in few bytes."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from neurcomp_core.errors import FormatError, InputError

_DTYPES = (np.dtype("<f4"), np.dtype("<f8"))


@dataclass(frozen=True)
class AxisRecord:
    """One axis as the header stores it.

    Attributes
    ----------
    double : bool
        float64 coordinates, otherwise float32.
    line : tuple of float
        ``(first, step)`` when ``first + i * step``, computed in float64, gives every coordinate to the bit;
        ``(first, step, last)`` when it gives all but the last, as it is with `numpy.linspace`.
    coded : bytes
        Otherwise: the coordinates' bit patterns, first differences taken twice modulo the word, bytes grouped by
        significance, deflated.
    """

    double: bool = False
    line: tuple[float, ...] = ()
    coded: bytes = b""


def pack_axis(coordinates: np.ndarray) -> AxisRecord:
    """Header form of one axis.

    Raises
    ------
    InputError
        If the coordinates are neither float32 nor float64.
    """
    if coordinates.dtype not in _DTYPES:
        raise InputError(f"coordinates of a rectilinear grid must be float32 or float64, got {coordinates.dtype}")
    double = coordinates.dtype == _DTYPES[1]
    first = float(coordinates[0])
    last = float(coordinates[-1])
    step = (last - first) / max(len(coordinates) - 1, 1)
    for guess in (step, float(np.float32(step)), float(coordinates[1] - coordinates[0]) if len(coordinates) > 1 else 0):
        for line in ((first, guess), (first, guess, last)):
            if _same(_line(line, len(coordinates), double), coordinates):
                return AxisRecord(double, line)
    words = coordinates.astype(_DTYPES[double], copy=False).view(f"<u{4 << double}")
    for _ in range(2):
        words = np.diff(words, prepend=words.dtype.type(0))
    planes = np.ascontiguousarray(words.view(np.uint8).reshape(len(words), -1).T)
    return AxisRecord(double, coded=zlib.compress(planes.tobytes(), 9))


def unpack_axis(record: AxisRecord, count: int) -> np.ndarray:
    """Inverse of `pack_axis` for an axis of `count` points.

    Raises
    ------
    FormatError
        If the record does not hold that many.
    """
    if len(record.line) in (2, 3):
        # An axis the header merely names must not cost memory before anything is decoded.
        if count > 1 << 24:
            raise FormatError(f"a rectilinear axis of {count} points is not plausible; the file is damaged")
        return _line(record.line, count, record.double)
    width = 4 << record.double
    inflate = zlib.decompressobj()
    try:
        data = inflate.decompress(record.coded, count * width + 1)
    except zlib.error as error:
        raise FormatError(f"the coordinates of a rectilinear axis are damaged ({error})") from error
    if len(data) != count * width:
        raise FormatError(f"a rectilinear axis should hold {count} coordinates, it holds {len(data) / width:g}")
    words = np.frombuffer(data, np.uint8).reshape(width, count).T.copy().view(f"<u{width}").reshape(count)
    for _ in range(2):
        words = np.cumsum(words, dtype=words.dtype)
    return words.view(_DTYPES[record.double])


def _line(line: tuple[float, ...], count: int, double: bool) -> np.ndarray:
    points = line[0] + np.arange(count, dtype=np.float64) * line[1]
    points[-1:] = line[2:] or points[-1:]
    with np.errstate(over="ignore"):
        return points.astype(_DTYPES[double])


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.tobytes() == b.astype(a.dtype, copy=False).tobytes()
