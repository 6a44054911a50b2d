"""Meta-learned starts of hash-grid networks, and the ``.nvi`` files that hold them; see FORMAT.md, "Starts".

A start is a network of normalised values: ``(value - centre) / scale`` over the volume's own unit cube. It serves any
table length and number of levels (`Init.parameters_for`), and fields of its own axes and components alone.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from neurcomp_core.coding import wire
from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.files import atomic_write
from neurcomp_core.nets.grid import GridLayout
from neurcomp_core.nets.resize import resized

SUFFIX = ".nvi"
MAGIC = b"\x8eNVI"
#: Of starts with linear interpolation, and with smooth.
VERSIONS = (1, 2)
#: Bytes that name a start in a file that needs it: a digest, and at most so many of its name.
DIGEST, NAME = 8, 40
_CHECK = 4  # bytes of a CRC-32


@dataclass(frozen=True)
class InitRecord:
    """Head of a ``.nvi`` file: the network's shape, and a name for messages."""

    log2_table: int
    levels: int = 8
    features: int = 2
    base: int = 4
    growth: float = 1.5
    width: int = 32
    hidden: int = 2
    dims: int = 3
    outputs: int = 1
    name: str = ""
    smooth: bool = False

    @property
    def layout(self) -> GridLayout:
        """Of the network's grid."""
        return GridLayout(self.dims, self.levels, self.features, self.log2_table, self.base, self.growth, self.smooth)

    @property
    def interpolation(self) -> str:
        """As the codec's setting has it."""
        return "smoothstep" if self.smooth else "linear"

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of table, first, inner and last weights; see `nets.model.Network.shapes`."""
        return [
            (self.layout.entries, self.features),
            (self.width, self.layout.width),
            (self.hidden - 1, self.width, self.width),
            (self.outputs, self.width),
        ]


@dataclass(frozen=True, eq=False)
class Init:
    """A start.

    Attributes
    ----------
    record : InitRecord
    parameters : tuple of ndarray
        Float32 in the shapes of ``record.shapes``.
    tentative : bool
        Whether fields that it does not fit do without; not stored.

    Examples
    --------
    >>> context = Context(init=Init.read("family.nvi"))
    >>> data = compress(field, Ratio(100), "hashgrid", context).data
    """

    record: InitRecord
    parameters: tuple[np.ndarray, ...]
    tentative: bool = False

    @staticmethod
    def made(record: InitRecord, parameters: Sequence[np.ndarray]) -> Init:
        """A start of such parameters as a file holds them, that is as float16.

        Raises
        ------
        InputError
            If they are beyond what a float16 holds.
        """
        halves = tuple(p.astype(np.float16).astype(np.float32) for p in parameters)
        if not all(np.isfinite(p).all() for p in halves):
            raise InputError("the start's weights have grown beyond what its file holds; lower the learning rate")
        return Init(record, halves)

    @staticmethod
    def read(path: str | Path) -> Init:
        """The start of a ``.nvi`` file.

        Raises
        ------
        InputError, FormatError
            If it cannot be read, or is damaged.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise InputError(f"cannot read the start '{path}': {error.strerror or error}") from error
        try:
            return Init.from_bytes(data)
        except FormatError as error:
            raise FormatError(f"'{path}': {error}") from error

    @staticmethod
    def from_bytes(data: bytes) -> Init:
        """Inverse of `data`.

        Raises
        ------
        FormatError
            If the bytes are not a start.
        """
        if data[:4] != MAGIC:
            raise FormatError("this is no start of networks (.nvi); make one with `neurcomp meta-train`")
        if len(data) < 6 + _CHECK or zlib.crc32(data[:-_CHECK]) != int.from_bytes(data[-_CHECK:], "little"):
            raise FormatError("the start is damaged or cut: its checksum does not fit")
        if data[4] not in VERSIONS:
            raise FormatError(f"the start has version {data[4]}, this program knows up to 2; update neurcomp")
        body = memoryview(data)[:-_CHECK]
        length, at = wire.read_varint(body, 5)
        if length > len(body) - at:
            raise FormatError("the start's head is longer than its file")
        record = wire.unpack(InitRecord, body[at : at + length])
        if data[4] != VERSIONS[record.smooth]:
            raise FormatError(f"the start has version {data[4]} and {record.interpolation} interpolation")
        _check(record, len(body) - at - length)
        values = np.frombuffer(body, "<f2", offset=at + length).astype(np.float32)
        if not np.isfinite(values).all():
            raise FormatError("the start holds weights that are no numbers")
        sizes = [math.prod(shape) for shape in record.shapes]
        parts = np.split(values, np.cumsum(sizes)[:-1])
        return Init(record, tuple(p.reshape(s) for p, s in zip(parts, record.shapes, strict=True)))

    def write(self, path: str | Path) -> None:
        """Write a ``.nvi`` file, wholly or not at all."""
        atomic_write(path, self.data)

    @cached_property
    def data(self) -> bytes:
        """Bytes of its file."""
        head = wire.pack(self.record)
        out = MAGIC + bytes([VERSIONS[self.record.smooth]]) + wire.write_varint(len(head)) + head
        out += b"".join(p.astype("<f2").tobytes() for p in self.parameters)
        return out + zlib.crc32(out).to_bytes(_CHECK, "little")

    @cached_property
    def reference(self) -> bytes:
        """What a file that needs this start names it by: the first bytes of its file's SHA-256, and its name."""
        return hashlib.sha256(self.data).digest()[:DIGEST] + self.record.name.encode()[:NAME]

    def misfit(
        self,
        dims: int,
        outputs: int,
        features: int,
        base: int,
        growth: float,
        width: int,
        hidden: int,
        smooth: bool,
    ) -> str | None:
        """Why a network of these figures cannot start here; None if it can."""
        own = self.record
        figures = (
            ("axes of more than one sample", own.dims, dims),
            ("components", own.outputs, outputs),
            ("features", own.features, features),
            ("base", own.base, base),
            ("growth", own.growth, growth),
            ("width", own.width, width),
            ("hidden", own.hidden, hidden),
            ("smooth interpolation", own.smooth, smooth),
        )
        wrong = [f"{name} {has} (not {wanted})" for name, has, wanted in figures if has != wanted]
        return f"the start '{own.name}' has {', '.join(wrong)}" if wrong else None

    def parameters_for(self, layout: GridLayout) -> list[np.ndarray]:
        """The start's parameters in a network of other table lengths or levels; alike on every machine.

        Levels that it does not have are 0, and so are their columns in the first matrix.
        """
        old = self.record.layout
        table = np.zeros((layout.entries, layout.features), np.float32)
        first = np.zeros((self.record.width, layout.width), np.float32)
        common = min(old.levels, layout.levels)
        for level in range(common):
            values = self.parameters[0][old.firsts[level] : old.firsts[level] + old.sizes[level]]
            table[layout.firsts[level] : layout.firsts[level] + layout.sizes[level]] = resized(
                values, old, layout, level
            )
        columns = common * layout.features
        first[:, :columns] = self.parameters[1][:, :columns]
        return [table, first, *(p.copy() for p in self.parameters[2:])]


def named(reference: bytes) -> str:
    """A `Init.reference` for messages."""
    name = "".join(c if c.isprintable() else "?" for c in reference[DIGEST : DIGEST + NAME].decode(errors="replace"))
    return f"'{name}' (SHA-256 {reference[:DIGEST].hex()}…)"


def sane_shape(record: Any) -> bool:
    """Whether a record, of a start or of a stream, describes a hash-grid network as encoders write them."""
    return (
        1 <= record.levels <= 32
        and 1 <= record.features <= 16
        and 2 <= record.base <= 1 << 16
        and 1 < record.growth <= 8
        and 4 <= record.log2_table <= 28
        and 1 <= record.width <= 256
        and 1 <= record.hidden <= 8
        and record.base * record.growth ** (record.levels - 1) < 1 << 20
    )


def _check(record: InitRecord, left: int) -> None:
    if not (sane_shape(record) and 1 <= record.dims <= 3 and 1 <= record.outputs <= 1 << 16):
        raise FormatError(f"the network that the start describes makes no sense: {record}")
    wanted = 2 * sum(math.prod(shape) for shape in record.shapes)
    if left != wanted:
        raise FormatError(f"the start has {left} bytes of weights, its head says {wanted}")
