"""Quantised core and bases to bytes and back, and to numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurcomp_core.coding.wire import read_varint, write_varint
from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import FormatError
from neurcomp_core.field import Region
from neurcomp_core.tthresh.tucker import reconstruct
from neurcomp_core.tucker.basis import cosines, orthonormal
from neurcomp_core.tucker.record import TuckerRecord, lengths
from neurcomp_core.wavelet import stream, transform
from neurcomp_core.wavelet.lanes import Lanes
from neurcomp_core.wavelet.layout import Layout
from neurcomp_core.wavelet.stream import Box

#: Columns have less than this of their own length to themselves only in damaged files.
_DEPENDENT = 2.0**-10


@dataclass(frozen=True)
class Coded:
    """What a stream holds.

    Attributes
    ----------
    core : Box
        The last axis is that of the components.
    factors : tuple of Box or None
        Of each axis ``(1, r, n)``: columns along y, their cosines along x; None for an axis of one sample.
    """

    core: Box
    factors: tuple[Box | None, ...]


def quantised(values: np.ndarray, step: float, weight: float, lanes: Lanes) -> Box:
    """A box ``(z, y, x, c)`` rounded to multiples of a step; see `wavelet.transform.quantised`."""
    parts = [np.ascontiguousarray(values[..., c]) for c in range(values.shape[3])]
    return transform.quantised(parts, _layout(values.shape), step, weight, lanes)[0]


def values_of(box: Box, step: float, lanes: Lanes) -> np.ndarray:
    """Inverse of `quantised`: ``(z, y, x, c)`` in float64."""
    return transform.synthesise(box, step, np.float64, lanes)


def columns_of(factor: Box, lanes: Lanes) -> np.ndarray:
    """A factor's columns ``(n, r)`` in steps."""
    return values_of(factor, 1.0, lanes)[0, :, :, 0].T


def _layout(shape: Sequence[int]) -> Layout:
    return Layout(tuple(shape[:3]), 0, 1)  # type: ignore[arg-type]


def pack(coded: Coded, lanes: Lanes) -> bytes:
    """The section of a stream."""
    out, key = bytearray(), None
    for factor in coded.factors:
        if factor is not None:
            # Its coder goes on with what it learned from the one before.
            (data,) = stream.encode(transform.predicted(factor, lanes, key), lanes, key)
            out += write_varint(len(data)) + data
            key = factor
    (data,) = stream.encode(transform.predicted(coded.core, lanes), lanes)
    return bytes(out) + data


def unpack(section: bytes, shape: tuple[int, ...], ranks: tuple[int, ...], lanes: Lanes) -> Coded:
    """Inverse of `pack`.

    Raises
    ------
    FormatError
        If the bytes are not what `pack` writes.
    """
    data, at, key = memoryview(section), 0, None
    factors: list[Box | None] = []
    for size, rank in zip(lengths(shape), ranks, strict=True):
        if size == 1:
            factors.append(None)
            continue
        length, at = read_varint(data, at)
        if length > len(data) - at:
            raise FormatError("tucker: a basis is longer than its section; the file is damaged")
        layout = _layout((1, rank, size))
        key = _decoded(data[at : at + length], layout, 1, lanes, key)
        factors.append(key)
        at += length
    return Coded(_decoded(data[at:], _layout(ranks), ranks[3], lanes), tuple(factors))


def _decoded(data: memoryview, layout: Layout, components: int, lanes: Lanes, key: Box | None = None) -> Box:
    return stream.decode([bytes(data)], layout, components, transform.weight_bits(layout), 0, lanes, key)


def bases(coded: Coded, lanes: Lanes) -> list[np.ndarray]:
    """Orthonormal bases of the axes, over cosines.

    Raises
    ------
    FormatError
        If columns depend on each other.
    """
    found = []
    for factor in coded.factors:
        if factor is None:
            found.append(np.ones((1, 1)))
            continue
        basis, own = orthonormal(columns_of(factor, lanes))
        if not own.min() > _DEPENDENT:
            raise FormatError("tucker: the columns of a basis depend on each other; the file is damaged")
        found.append(basis)
    return found


def sums(
    core: np.ndarray, over: Sequence[np.ndarray], record: TuckerRecord, spec: ArraySpec, region: Region, step: int
) -> np.ndarray:
    """Samples from a core and its bases.

    Parameters
    ----------
    core : ndarray ``(r1, r2, r3, r4)``
    over : sequence of ndarray
        As `bases` gives them.
    record : TuckerRecord
    spec : ArraySpec
    region : tuple of slice
    step : int
        Along z, y and x.

    Returns
    -------
    ndarray
        ``(z, y, x[, c])`` in the type of the sums.
    """
    every = [*(slice(r.start, r.stop, step) for r in region), slice(None)]
    rows = []
    for size, basis, part in zip(lengths(spec.shape), over, every, strict=True):
        rows.append(basis if size == 1 else cosines(size)[part] @ basis)
    counts = [len(r) for r in rows]
    out = np.empty((counts[0], math.prod(counts[1:])), record.dtype)
    limit = np.finfo(record.dtype).max
    for part, values in reconstruct(core, rows):
        with np.errstate(over="ignore"):
            values = np.ldexp(values, record.exponent) + record.centre
        out[:, part] = np.clip(values, -limit, limit)
    return out.reshape(counts if len(spec.shape) == 4 else counts[:3])


def constant(record: TuckerRecord, spec: ArraySpec, region: Region, step: int) -> np.ndarray:
    """Samples of a stream without ranks."""
    counts = [len(range(r.start, r.stop, step)) for r in region]
    return np.full((*counts, *spec.shape[3:]), record.centre, record.dtype)
