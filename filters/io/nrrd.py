"""NRRD files, with the data inside (.nrrd) or beside (.nhdr) the header.

Read here and not through VTK, whose reader takes a short first axis for components, ignores the direction and the
byte order of compressed data, and does not notice a file that is cut off.
"""

from __future__ import annotations

import bz2
import gzip
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.field import Field, UniformGrid
from neurcomp_filters.io._grids import affine_grid

#: Name of the one array, as VTK's image readers call it.
NAME = "ImageFile"

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_TYPE_OF = {alias: kind for kind, aliases in _TYPES.items() for alias in aliases}
_SPATIAL = ("domain", "space")
_HEADER_LIMIT = 1 << 20


@dataclass(frozen=True)
class _Header:
    """The fields of a header, by lower-case name, and where it ends in the file."""

    fields: dict[str, str]
    end: int

    def text(self, *names: str) -> str | None:
        return next((self.fields[name] for name in names if name in self.fields), None)

    def required(self, *names: str) -> str:
        value = self.text(*names)
        if value is None:
            raise InputError(f"the NRRD header has no '{names[0]}'")
        return value

    def integers(self, value: str, name: str) -> list[int]:
        try:
            return [int(word) for word in value.split()]
        except ValueError:
            raise InputError(f"the NRRD header's '{name}' is not a list of whole numbers: '{value}'") from None


def read_nrrd(path: Path, arrays: Sequence[str] | None) -> list[Field]:
    """The array of a NRRD file; an axis that is not spatial gives components, wherever it stands."""
    if arrays is not None and set(arrays) != {NAME}:
        raise InputError(f"the file holds one array, '{NAME}'; asked for {', '.join(repr(a) for a in arrays)}")
    header = _header(path)
    sizes = header.integers(header.required("sizes"), "sizes")
    dimension = header.integers(header.required("dimension"), "dimension")
    if dimension != [len(sizes)] or any(n < 1 for n in sizes):
        raise InputError(f"the NRRD header is contradictory: dimension {dimension}, sizes {sizes}")
    spatial = _spatial_axes(header, sizes)
    # The file's first axis is the fastest, so it is the last one of the array.
    values = _samples(header, path, sizes).reshape(sizes[::-1])
    others = [axis for axis in range(len(sizes)) if axis not in spatial]
    if not 1 <= len(spatial) <= 3 or len(others) > 1:
        raise InputError(
            f"expected 1 to 3 spatial axes and at most one other, got sizes {sizes} of kinds "
            f"'{header.text('kinds') or 'unknown'}'"
        )
    if others:
        values = np.moveaxis(values, len(sizes) - 1 - others[0], -1)
    shape = (1,) * (3 - len(spatial)) + tuple(sizes[axis] for axis in reversed(spatial))
    values = np.ascontiguousarray(values).reshape(*shape, *(sizes[axis] for axis in others))
    return [Field(values, _geometry(header, spatial, shape[::-1]), NAME)]


def _header(path: Path) -> _Header:
    with open(path, "rb") as file:
        start = file.read(_HEADER_LIMIT)
    if not re.match(rb"NRRD000\d\r?\n", start):
        raise InputError("it is not a NRRD file: it does not start with 'NRRD000'")
    blank = re.search(rb"\r?\n\r?\n", start)
    end = blank.end() if blank else len(start)
    fields = {}
    for line in start[:end].decode("latin-1").splitlines()[1:]:
        key, colon, value = line.partition(":")
        # 'key:=value' is free text and '#' starts a comment.
        if colon and not line.startswith("#") and not value.startswith("="):
            fields[key.strip().lower()] = value.strip()
    return _Header(fields, end)


def _samples(header: _Header, path: Path, sizes: list[int]) -> np.ndarray:
    name = header.required("type").lower()
    if name not in _TYPE_OF:
        raise InputError(f"NRRD type '{name}' is not supported; expected one of {', '.join(sorted(_TYPE_OF))}")
    kind = np.dtype(_TYPE_OF[name])
    encoding = header.required("encoding").lower()
    count = math.prod(sizes)
    detached = header.text("data file", "datafile")
    if detached is not None and (detached.upper().startswith("LIST") or "%" in detached):
        raise InputError("NRRD headers that name several data files are not supported; join them into one file")
    source = path if detached is None else path.parent / detached
    if not source.is_file():
        raise InputError(f"its data file '{source}' does not exist")
    with open(source, "rb") as file:
        file.seek(header.end if detached is None else 0)
        for _ in range(header.integers(header.text("line skip", "lineskip") or "0", "line skip")[0]):
            file.readline()
        skip = header.integers(header.text("byte skip", "byteskip") or "0", "byte skip")[0]
        if encoding in ("ascii", "txt", "text"):
            return _ascii(file, kind, count)
        if kind.itemsize > 1:
            kind = kind.newbyteorder("<" if header.required("endian").lower() == "little" else ">")
        return np.frombuffer(_decoded(file, encoding, skip, count * kind.itemsize), kind)


def _decoded(file: IO[bytes], encoding: str, skip: int, size: int) -> bytearray:
    stream: IO[bytes] = file
    if encoding in ("gzip", "gz"):
        stream = gzip.GzipFile(fileobj=file)  # type: ignore[assignment]
    elif encoding in ("bzip2", "bz2"):
        stream = bz2.BZ2File(file)  # type: ignore[assignment]
    elif encoding != "raw":
        raise InputError(f"NRRD encoding '{encoding}' is not supported; expected raw, gzip, bzip2 or ascii")
    data = bytearray()
    try:
        if skip < 0:
            # -1 means that the samples are the file's last bytes.
            file.seek(-size, 2)
        else:
            stream.read(skip)
        # In pieces, so that a header that promises too much does not claim the memory for it.
        while len(data) < size and (piece := stream.read(min(size - len(data), 1 << 24))):
            data += piece
    except (EOFError, OSError) as error:
        raise InputError(f"the file is cut off or damaged ({error})") from None
    if len(data) < size:
        raise InputError(f"the file is cut off: the header announces {size} bytes of samples, there are {len(data)}")
    return data


def _ascii(file: IO[bytes], kind: np.dtype, count: int) -> np.ndarray:
    words = file.read().split()
    if len(words) < count:
        raise InputError(f"the file is cut off: the header announces {count} samples, there are {len(words)}")
    try:
        # Integers by way of Python's, because float64 would round large ones.
        return np.array([int(w) for w in words[:count]] if kind.kind in "iu" else words[:count]).astype(kind)
    except (ValueError, OverflowError) as error:
        raise InputError(f"the samples are not numbers of type {kind.name} ({error})") from None


def _spatial_axes(header: _Header, sizes: list[int]) -> list[int]:
    directions, kinds = header.text("space directions"), header.text("kinds")
    if directions is not None:
        return [axis for axis, vector in enumerate(_vectors(directions)) if vector is not None]
    if kinds is not None:
        return [axis for axis, kind in enumerate(kinds.lower().split()) if kind in _SPATIAL]
    # Nothing said: beyond three axes the first holds the components.
    return list(range(max(0, len(sizes) - 3), len(sizes)))


def _geometry(header: _Header, spatial: list[int], dimensions: Sequence[int]) -> UniformGrid:
    columns, origin = np.eye(3), [0.0, 0.0, 0.0]
    directions, spacings = header.text("space directions"), header.text("spacings")
    if directions is not None:
        vectors = [v for v in _vectors(directions) if v is not None]
        for i, vector in enumerate(vectors[:3]):
            columns[:, i] = [*vector, 0.0, 0.0, 0.0][:3]
        if len(vectors) == 2:
            # An image in space gets a normal of unit length as its third axis.
            normal = np.cross(columns[:, 0], columns[:, 1])
            columns[:, 2] = normal / (np.linalg.norm(normal) or 1.0)
        start = [v for v in _vectors(header.text("space origin") or "") if v is not None]
        if start:
            origin = [*start[0], 0.0, 0.0, 0.0][:3]
    elif spacings is not None:
        try:
            steps = [float(word) for word in spacings.split()]
            chosen = [steps[axis] for axis in spatial]
        except (ValueError, IndexError):
            raise InputError(f"the NRRD header's 'spacings' does not fit its axes: '{spacings}'") from None
        for i, step in enumerate(chosen):
            columns[i, i] = step if math.isfinite(step) else 1.0
    return affine_grid(columns, origin, dimensions)


def _vectors(text: str) -> list[list[float] | None]:
    vectors: list[list[float] | None] = []
    for none, inside in re.findall(r"(none)|\(([^)]*)\)", text):
        try:
            vector = [float(word) for word in inside.split(",")] if not none else None
        except ValueError:
            raise InputError(f"the NRRD header has a vector that is not one: '({inside})'") from None
        # Some writers say (nan,nan,nan) for an axis without direction.
        vectors.append(None if vector is None or any(math.isnan(v) for v in vector) else vector)
    return vectors
