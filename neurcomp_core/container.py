"""The ``.nvc`` file: magic, version, one compact header, checked sections. ``FORMAT.md`` is the definition.

Nothing read from a file is trusted: the header is checked before it is parsed, every length before it is used, every
section before it is handed out. Sections are read lazily, so that opening a large file costs its header alone.
"""

from __future__ import annotations

import math
import mmap
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from neurcomp_core import axes
from neurcomp_core.coding import wire
from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.field import DTYPES, IDENTITY, Association, Geometry, RectilinearGrid, UniformGrid, samples_of

MAGIC = b"\x8eNVC"
#: Of files without radiance fields, and of files with them: readers of version 1 would take those for damaged.
VERSION, RADIANCE_VERSION = 1, 2
_CHECK = 4  # bytes of a CRC-32
_ASSOCIATIONS: tuple[Association, ...] = ("point", "cell")
_MAX_AXIS = 1 << 31


@dataclass(frozen=True)
class GeometryRecord:
    """A grid as the header stores it; one value stands for three equal ones."""

    dimensions: tuple[int, ...]
    start: tuple[int, ...] = (0,)
    spacing: tuple[float, ...] = (1.0,)
    origin: tuple[float, ...] = (0.0,)
    direction: tuple[float, ...] = ()
    axes: tuple[axes.AxisRecord, ...] = ()


@dataclass(frozen=True)
class ArrayRecord:
    """One array of one time step as the header stores it.

    Attributes
    ----------
    dtype : int
        Index into `field.DTYPES`.
    components : int
        0 for a scalar without component axis.
    geometry : int
        Index into the header's geometries.
    codec : int
        Registered id of the codec (`codec.Codec.id`).
    params : bytes
        The codec's own record.
    sections : tuple of int
        Byte lengths of this array's sections, in file order.
    special : bool
        Whether the first section holds the samples that are not data (`masks`).
    psnr, max_error : float, optional
        Measured when the file was written.
    brick : tuple of int
        Brick size x, y, z where the sections are bricks (x fastest); reserved.
    tried : tuple of int
        What else was tried (`codec.pack_tried`).
    """

    sections: tuple[int, ...] = ()
    name: str = "values"
    association: int = 0
    dtype: int = 8
    components: int = 0
    geometry: int = 0
    time: float | None = None
    codec: int = 0
    params: bytes = b""
    special: bool = False
    psnr: float | None = None
    max_error: float | None = None
    brick: tuple[int, ...] = ()
    tried: tuple[int, ...] = ()


@dataclass(frozen=True)
class RadianceRecord:
    """One radiance field as the header stores it.

    Attributes
    ----------
    sections : tuple of int
        Byte lengths of its sections, in file order.
    codec : int
        Registered id of the codec (`radiance.codec.RadianceCodec.id`).
    params : bytes
        The codec's own record.
    scene : int
        Index into `SCENES`.
    near, far : float
        World distances from a camera between which there is anything.
    background : tuple of float
        RGB; one value stands for three equal ones.
    box : tuple of float
        Low and high corner in x, y, z; empty if the codec's stream has it.
    psnr : float, optional
        Mean over unseen views, in dB, measured on the decoded field when the file was written.
    raw_bytes : int
        Of the uncompressed field.
    """

    sections: tuple[int, ...] = ()
    name: str = "radiance"
    codec: int = 0
    params: bytes = b""
    scene: int = 0
    near: float = 0.0
    far: float = float("inf")
    background: tuple[float, ...] = (1.0,)
    box: tuple[float, ...] = ()
    psnr: float | None = None
    raw_bytes: int = 0


#: Kinds of radiance scenes, as `RadianceRecord.scene` numbers them.
SCENES = ("bounded", "forward-facing", "unbounded")


@dataclass(frozen=True)
class Header:
    """What a file holds."""

    geometries: tuple[GeometryRecord, ...] = ()
    arrays: tuple[ArrayRecord, ...] = ()
    radiance: tuple[RadianceRecord, ...] = ()


@dataclass(frozen=True)
class ArraySpec:
    """Shape ``(z, y, x[, c])`` and type of one array."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the raw values."""
        size = self.dtype.itemsize
        for n in self.shape:
            size *= n
        return size


# ---------------------------------------------------------------------------------------------------------- writing


def geometry_record(geometry: Geometry) -> GeometryRecord:
    """Header form of a grid."""
    if isinstance(geometry, RectilinearGrid):
        coded = tuple(axes.pack_axis(a) for a in geometry.axes)
        return GeometryRecord(_fold(geometry.dimensions), start=_fold(geometry.start), axes=coded)
    return GeometryRecord(
        _fold(geometry.dimensions),
        start=_fold(geometry.extent[::2]),
        spacing=_fold(geometry.spacing),
        origin=_fold(geometry.origin),
        direction=() if geometry.direction == IDENTITY else geometry.direction,
    )


def _fold(values: tuple) -> tuple:
    # Their text tells 0.0 from -0.0.
    return tuple(values[:1]) if len(set(map(repr, values))) == 1 else tuple(values)


def dumps(header: Header, sections: Sequence[bytes]) -> bytes:
    """Bytes of a file; `sections` are those of all arrays, then of all radiance fields, in the header's order."""
    packed = wire.pack(header)
    version = RADIANCE_VERSION if header.radiance else VERSION
    head = MAGIC + bytes([version]) + wire.write_varint(len(packed)) + packed
    parts = [head, _crc(head)]
    for section in sections:
        parts += [section, _crc(section)]
    return b"".join(parts)


def _crc(data: bytes | memoryview) -> bytes:
    return struct.pack("<I", zlib.crc32(data))


def section_cost(sections: Sequence[bytes]) -> int:
    """Bytes that sections take in a file, checksums and lengths included."""
    return sum(len(s) + _CHECK + len(wire.write_varint(2 * len(s))) for s in sections)


# ---------------------------------------------------------------------------------------------------------- reading


class Container:
    """An open ``.nvc`` file.

    Parameters
    ----------
    source : bytes-like or path
        The file's bytes, or where they are; a path is memory-mapped.

    Raises
    ------
    FormatError
        If it is not an intact file of a known version; sections are checked when they are read.
    InputError
        If the path cannot be read.
    """

    def __init__(self, source: bytes | bytearray | memoryview | str | Path) -> None:
        self.name = str(source) if isinstance(source, str | Path) else "the data"
        self._view = memoryview(_map(source) if isinstance(source, str | Path) else source).cast("B")
        self.header, first = self._read_header()
        self._offsets = self._check_layout(first)
        for grid in self.header.geometries:
            self._check_grid(grid)
        for record in self.header.arrays:
            self._check_array(record)
        for field in self.header.radiance:
            self._check_radiance(field)

    def __len__(self) -> int:
        return len(self.header.arrays)

    @property
    def nbytes(self) -> int:
        """Size of the file."""
        return len(self._view)

    @property
    def version(self) -> int:
        """Of the format."""
        return self._view[len(MAGIC)]

    def geometry(self, index: int) -> Geometry:
        """Grid of array `index`.

        Raises
        ------
        FormatError
            If its coordinates are damaged.
        """
        record = self.header.geometries[self.header.arrays[index].geometry]
        dimensions, start = _unfold(record.dimensions), _unfold(record.start)
        if record.axes:
            try:
                x, y, z = (axes.unpack_axis(a, n) for a, n in zip(record.axes, dimensions, strict=True))
            except FormatError as error:
                raise FormatError(f"{self.name}: {error}") from error
            return RectilinearGrid(x, y, z, start)
        extent = tuple(v for s, n in zip(start, dimensions, strict=True) for v in (s, s + n - 1))
        return UniformGrid(extent, _unfold(record.origin), _unfold(record.spacing), record.direction or IDENTITY)

    def association(self, index: int) -> Association:
        """Where array `index` lives on its grid."""
        return _ASSOCIATIONS[self.header.arrays[index].association]

    def spec(self, index: int) -> ArraySpec:
        """Shape and type of array `index`."""
        record = self.header.arrays[index]
        shape = samples_of(_unfold(self.header.geometries[record.geometry].dimensions), self.association(index))
        return ArraySpec(shape + ((record.components,) if record.components else ()), np.dtype(DTYPES[record.dtype]))

    def sections(self, index: int) -> tuple[bytes, ...]:
        """All sections of array `index`, verified."""
        return tuple(self.lazy_sections(index))

    def lazy_sections(self, index: int) -> Sequence[bytes]:
        """Sections of array `index`, each read and verified when it is asked for."""
        return _Sections(self, index, range(len(self.header.arrays[index].sections)))

    def radiance_sections(self, index: int) -> Sequence[bytes]:
        """Sections of radiance field `index`, each read and verified when it is asked for."""
        number = len(self.header.arrays) + index
        return _Sections(self, number, range(len(self.header.radiance[index].sections)))

    def section(self, owner: int, section: int) -> bytes:
        """One section, verified, of an array or, numbered after these, a radiance field."""
        label, lengths = self._owners[owner]
        start = self._offsets[owner][section]
        end = start + lengths[section]
        data = self._view[start:end]
        if self._view[end : end + _CHECK] != _crc(data):
            raise FormatError(
                f"{self.name}: section {section + 1} of {label} is damaged "
                f"(checksum mismatch at bytes {start}-{end}); get the file again"
            )
        return bytes(data)

    @cached_property
    def _owners(self) -> list[tuple[str, tuple[int, ...]]]:
        """What has sections, in file order: what to call it, and their lengths."""
        arrays = [(f"array '{r.name}'", r.sections) for r in self.header.arrays]
        return arrays + [(f"radiance field '{r.name}'", r.sections) for r in self.header.radiance]

    def _read_header(self) -> tuple[Header, int]:
        view = self._view
        if bytes(view[: len(MAGIC)]) != MAGIC[: len(view)] or len(view) == 0:
            raise FormatError(f"{self.name} is not a NeurComp file: it does not start with the .nvc signature")
        if len(view) <= len(MAGIC):
            raise FormatError(f"{self.name} is truncated: it has {len(view)} bytes, less than a header")
        if view[len(MAGIC)] not in (VERSION, RADIANCE_VERSION):
            raise FormatError(
                f"{self.name} has format version {view[len(MAGIC)]}, this program reads versions {VERSION} and "
                f"{RADIANCE_VERSION}; update neurcomp to open it"
            )
        try:
            length, at = wire.read_varint(view, len(MAGIC) + 1)
        except FormatError as error:
            raise FormatError(f"{self.name} is truncated or damaged in its header: {error}") from error
        end = at + length
        if end + _CHECK > len(view):
            raise FormatError(
                f"{self.name} is truncated: its header needs {end + _CHECK} bytes, the file has {len(view)}"
            )
        if view[end : end + _CHECK] != _crc(view[:end]):
            raise FormatError(f"{self.name}: the header is damaged (checksum mismatch); get the file again")
        return wire.unpack(Header, view[at:end]), end + _CHECK

    def _check_layout(self, at: int) -> list[list[int]]:
        offsets = []
        if self.header.radiance and self.version < RADIANCE_VERSION:
            raise FormatError(f"{self.name}: a file of version {self.version} holds radiance fields; it is damaged")
        for label, lengths in self._owners:
            starts = []
            for number, length in enumerate(lengths, 1):
                if length < 0 or at + length + _CHECK > len(self._view):
                    raise FormatError(
                        f"{self.name} is truncated in section {number} of {label}: "
                        f"it needs {at + length + _CHECK} bytes, the file has {len(self._view)}"
                    )
                starts.append(at)
                at += length + _CHECK
            offsets.append(starts)
        if at != len(self._view):
            raise FormatError(f"{self.name}: {len(self._view) - at} bytes follow the last section; the file is damaged")
        return offsets

    def _check_array(self, record: ArrayRecord) -> None:
        ok = (
            0 <= record.geometry < len(self.header.geometries)
            and 0 <= record.association < len(_ASSOCIATIONS)
            and 0 <= record.dtype < len(DTYPES)
            and 0 <= record.components < 1 << 16
            and not record.brick
            and len(record.sections) >= record.special
        )
        if not ok:
            raise FormatError(f"{self.name}: the description of array '{record.name}' makes no sense: {record}")

    def _check_radiance(self, record: RadianceRecord) -> None:
        box = record.box
        ok = (
            0 <= record.scene < len(SCENES)
            and 0 <= record.near < record.far
            and len(record.background) in (1, 3)
            and len(record.box) in (0, 6)
            and all(map(math.isfinite, (*record.background, *record.box)))
            and record.raw_bytes >= 0
        )
        if not ok or any(low >= high for low, high in zip(box[:3], box[3:], strict=True)):
            raise FormatError(
                f"{self.name}: the description of radiance field '{record.name}' makes no sense: {record}"
            )

    def _check_grid(self, record: GeometryRecord) -> None:
        sizes_ok = (
            all(0 < n < _MAX_AXIS for n in record.dimensions)
            and all(len(v) in (1, 3) for v in (record.dimensions, record.start, record.spacing, record.origin))
            and all(-_MAX_AXIS < s < _MAX_AXIS for s in record.start)
            and len(record.direction) in (0, 9)
            and len(record.axes) in (0, 3)
        )
        if not sizes_ok:
            raise FormatError(f"{self.name}: a grid in the header makes no sense: {record}")


class _Sections(Sequence):
    """See `Container.lazy_sections`; `owner` is `Container.section`'s."""

    def __init__(self, file: Container, owner: int, numbers: range) -> None:
        self._file, self._owner, self._numbers = file, owner, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, at):
        if isinstance(at, slice):
            return _Sections(self._file, self._owner, self._numbers[at])
        return self._file.section(self._owner, self._numbers[at])


def _unfold(values: tuple) -> tuple:
    return values * 3 if len(values) == 1 else values


def _map(path: str | Path) -> bytes | mmap.mmap:
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
