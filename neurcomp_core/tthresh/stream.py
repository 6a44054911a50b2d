"""A whole ``.tthresh`` stream: header, core, ranks, slice norms and factors, read and written.

The first size listed varies fastest, so a ``(z, y, x)`` array is listed as x, y, z.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from neurcomp_core.codec import as_dtype
from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.tthresh import tucker
from neurcomp_core.tthresh.bits import Reader, Writer
from neurcomp_core.tthresh.blocks import BLOCK, BOTTOM, TOP, BlockWriter, is_known, quantise, read_block

#: Types of samples by the number a header has for them.
TYPES = tuple(np.dtype(t) for t in ("uint8", "uint16", "int32", "float32", "float64"))
_LARGEST_EXPONENT = 900
#: Most of the squared error that may come from the factors.
_FACTORS_SHARE = 0.35
#: Steps of the factors to try, as powers of two of the core's.
_OFFSETS = (0.5, 0.0, -0.5, -1.0)


def type_for(dtype: np.dtype) -> np.dtype:
    """The smallest of `TYPES` that holds the values of `dtype` (of 64-bit integers, their float64)."""
    return next(t for t in TYPES if np.can_cast(dtype, t) or t == np.float64)


# -------------------------------------------------------------------------------------------------------------- header


@dataclass(frozen=True)
class Header:
    """Shape (slowest axis first) and type of the samples."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the header itself."""
        return 2 + 4 * len(self.shape)

    def tobytes(self) -> bytes:
        """As it stands in a file."""
        n = len(self.shape)
        if not 1 <= n < 256 or max(self.shape) >= 1 << 32:
            raise InputError(f"tthresh: expected 1 to 255 axes shorter than 2^32, got shape {self.shape}")
        return struct.pack(f"<B{n}IB", n, *reversed(self.shape), TYPES.index(self.dtype))


def read_header(data: bytes | memoryview) -> Header:
    """The header at the start of `data`.

    Raises
    ------
    FormatError
        If there is none.
    """
    n = data[0] if len(data) else 0
    if n == 0 or len(data) < 2 + 4 * n:
        raise FormatError(f"a TTHRESH file begins with a number of axes and their sizes; {len(data)} bytes are too few")
    sizes = struct.unpack_from(f"<{n}I", data, 1)
    kind = data[1 + 4 * n]
    if kind >= len(TYPES) or min(sizes) == 0:
        raise FormatError(f"not a TTHRESH header: sizes {sizes}, type {kind} (0 to {len(TYPES) - 1} are known)")
    return Header(sizes[::-1], TYPES[kind])


# ------------------------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True, eq=False)
class Tucker:
    """What a stream holds: a core cut to its ranks, and one factor per axis.

    Attributes
    ----------
    header : Header
    core : ndarray of float64
        ``(r1, r2, ...)``, slowest axis first.
    factors : tuple of ndarray
        ``(n, r)`` per axis.
    """

    header: Header
    core: np.ndarray
    factors: tuple[np.ndarray, ...]

    def values(self, parts: Sequence[slice | np.ndarray] | None = None, dtype: np.dtype | None = None) -> np.ndarray:
        """Reconstruct all samples, or some along each axis; only their rows of the factors are used.

        Parameters
        ----------
        parts : sequence, optional
            Per axis a slice, or weights ``(m, n)`` of its n samples (`tucker.box`, `tucker.lanczos`).
        dtype : dtype, optional
            The header's if left out; integers are rounded and clipped.
        """
        rows = self.factors
        if parts is not None:
            pairs = zip(parts, rows, strict=True)
            rows = [f[p] if isinstance(p, slice) else np.asarray(p) @ f for p, f in pairs]
        out = np.empty([len(r) for r in rows], self.header.dtype if dtype is None else dtype)
        flat = out.reshape(len(out), -1)
        for part, values in tucker.reconstruct(self.core, rows):
            flat[:, part] = as_dtype(values, out.dtype)
        return out


def decimate(stream: Tucker, factor: int, kernel: str = "box", dtype: np.dtype | None = None) -> np.ndarray:
    """A tensor smaller by `factor` along every axis, from the factors: no sample of the full one is computed.

    Parameters
    ----------
    stream : Tucker
    factor : int
    kernel : {'box', 'lanczos', 'skip'}
        Means of `factor` neighbours, a Lanczos filter of two lobes, or every `factor`-th sample.
    dtype : dtype, optional
        The stream's if left out.

    Raises
    ------
    InputError
        If the factor is not positive or the kernel unknown.
    """
    if kernel not in ("box", "lanczos", "skip") or factor < 1:
        raise InputError(
            f"decimation: expected box, lanczos or skip by a factor of 1 or more, got {kernel} by {factor}"
        )
    if kernel == "skip":
        return stream.values([slice(None, None, factor)] * stream.core.ndim, dtype)
    weights = tucker.box if kernel == "box" else tucker.lanczos
    return stream.values([weights(n, factor) for n in stream.header.shape], dtype)


def read(data: bytes | memoryview) -> Tucker:
    """Decode everything but the samples themselves.

    Raises
    ------
    FormatError
        If the stream is damaged, cut, or no TTHRESH stream.
    InputError
        If what it holds would not fit into memory.
    """
    data = memoryview(data)
    header = read_header(data)
    shape, n = header.shape, len(header.shape)
    size = _product(shape)
    if size >= 1 << 62:
        raise FormatError(f"a TTHRESH file is said to hold {size} samples")
    source = Reader(data[header.nbytes :])
    sparse = read_block(source, size)
    at = header.nbytes + source.close()
    if len(data) < at + 4 * n:
        raise FormatError("a TTHRESH file ends before its ranks")
    ranks = struct.unpack_from(f"<{n}I", data, at)[::-1]
    at += 4 * n
    if any(not 0 < r <= m for r, m in zip(ranks, shape, strict=True)) or len(data) < at + 8 * sum(ranks):
        raise FormatError(f"a TTHRESH file of {len(data)} bytes has ranks {ranks} for the shape {shape}")
    norms = np.split(np.frombuffer(data, "<f8", sum(ranks), at), np.cumsum(ranks[::-1])[:-1])[::-1]
    at += 8 * sum(ranks)
    _check_memory(8 * (_product(ranks) + sum(r * m for r, m in zip(ranks, shape, strict=True))))
    core = np.zeros(ranks)
    _scatter(sparse.positions, sparse.values, np.array(shape), np.array(ranks), core.reshape(-1))
    del sparse
    return Tucker(header, core, read_factors(data[at:], shape, norms))


def read_factors(data: bytes | memoryview, shape: Sequence[int], norms: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Factors ``(n, r)`` from the second bit stream and the slice norms, slowest axis first."""
    source = Reader(data)
    factors = []
    for n, norm in zip(shape[::-1], norms[::-1], strict=True):
        sparse = read_block(source, n * len(norm))
        columns = np.zeros((len(norm), n))
        columns.reshape(-1)[sparse.positions] = sparse.values
        # A slice of zeros has a column that does not matter.
        inverse = np.divide(1, norm, out=np.zeros(len(norm)), where=norm != 0)
        if not np.isfinite(inverse).all():
            raise FormatError("the slice norms of a TTHRESH file are not positive numbers")
        columns *= inverse[:, None]
        factors.append(columns.T)
    if source.close() != len(data):
        raise FormatError(f"{len(data) - source.close()} bytes follow the end of a TTHRESH stream")
    return tuple(factors[::-1])


@njit(cache=True)
def _scatter(positions, values, shape, ranks, out):
    for k in range(len(positions)):
        rest, to, stride, inside = positions[k], 0, 1, True
        for axis in range(len(shape) - 1, -1, -1):
            index = rest % shape[axis]
            rest //= shape[axis]
            inside = inside and index < ranks[axis]
            to += index * stride
            stride *= ranks[axis]
        if inside:
            out[to] = values[k]


def _product(numbers: Sequence[int]) -> int:
    # Python's own integers do not overflow.
    total = 1
    for n in numbers:
        total *= n
    return total


def memory_limit() -> float:
    """Bytes this machine has."""
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return float("inf")


def _check_memory(needed: int) -> None:
    if needed > memory_limit():
        raise InputError(
            f"the core and factors of a TTHRESH stream need {needed / 2**30:.1f} GiB, this machine has "
            f"{memory_limit() / 2**30:.1f} GiB"
        )


# ------------------------------------------------------------------------------------------------------------- writing


class Encoder:
    """One decomposition of one tensor, from which streams of any quality are cut.

    Parameters
    ----------
    values : ndarray
        Finite numbers, any shape of one axis or more. One float64 copy is made; the core takes its place.
    report : callable, optional
        Called with the share that is done.

    Raises
    ------
    InputError
        If a magnitude is beyond 2^900 or all are below 2^-900.
    """

    def __init__(self, values: np.ndarray, report: Callable[[float], None] = lambda share: None) -> None:
        self.header = Header(values.shape, type_for(values.dtype))
        self.header.tobytes()
        largest = max(abs(float(values.max())), abs(float(values.min())))
        exponent = int(np.frexp(largest)[1]) if largest > 0 else 0
        if abs(exponent) > _LARGEST_EXPONENT:
            raise InputError(f"tthresh: values of magnitude {largest:g} are out of the format's range; rescale them")
        # Powers of two change no digit, and squares of what is left cannot overflow.
        core = np.empty(values.shape)
        np.multiply(values, 2.0**-exponent, out=core, casting="unsafe")
        core, self._factors = tucker.hosvd(core, report)
        self._core = quantise(core)
        self._scale = self._core.scale * 2.0**-exponent
        self._block = BlockWriter(self._core, self._scale)

    def stream(self, error: float) -> Stream:
        """The smallest stream that misses by about `error`, the root of the mean squared error in the data's units."""
        allowed = (error * self._scale) ** 2 * self._core.size
        plane, stop, level = self._core.cut(allowed)
        factors = self._weighted(self._norms(plane, stop))
        best, tried = None, set()
        for offset in _OFFSETS:
            # About the core's absolute step: an error in either costs the same and saves the same.
            at = level + offset
            missed = sum(f.error(at) for f in factors)
            while missed > _FACTORS_SHARE * allowed and at > -TOP:
                at -= 0.5
                missed = sum(f.error(at) for f in factors)
            if at not in tried:
                tried.add(at)
                made = self._written(*self._core.cut(allowed - missed)[:2], at)
                best = made if best is None or made.nbytes < best.nbytes else best
        assert best is not None, "at least one offset"
        return best

    def finer(self, stream: Stream, planes: float) -> Stream:
        """The same core with factors that have up to `planes` bit planes more."""
        return self._written(stream.plane, stream.stop, stream.level, planes)

    def _written(self, plane: int, stop: int, level: float, finer: float = 0.0) -> Stream:
        norms = self._norms(plane, stop)
        ranks = [len(s) for s in norms]
        head = self.header.tobytes() + self._block.write(plane, stop).tobytes()
        head += struct.pack(f"<{len(ranks)}I", *ranks[::-1]) + np.concatenate(norms[::-1]).astype("<f8").tobytes()
        out = Writer()
        for i, factor in enumerate(reversed(self._weighted(norms))):
            # One after the other, as a plane has a price even if there is little in it.
            more = max(finer - i / len(ranks), 0)
            out.append(factor.written(level - more, more > 0))
        return Stream(self, head, out.tobytes(), plane, stop, level, tuple(norms))

    def _norms(self, plane: int, stop: int) -> list[np.ndarray]:
        """Norms of the core's slices along each axis, up to the last that is not zero."""
        shape = self.header.shape
        squares = np.zeros(sum(shape))
        _slices(self._core.words, self._core.peaks, np.array(shape), plane, stop, squares)
        parts = np.split(np.sqrt(squares), np.cumsum(shape)[:-1])
        return [s[: max(np.flatnonzero(s)[-1:].sum() + 1, 1)] for s in parts]

    def _weighted(self, norms: list[np.ndarray]) -> list[_Factor]:
        return [_Factor(factor, norm) for factor, norm in zip(self._factors, norms, strict=True)]

    def _cut_core(self, ranks: list[int], plane: int, stop: int) -> np.ndarray:
        core = np.zeros(ranks)
        shape = np.array(self.header.shape)
        _cut(self._core.words, shape, np.array(ranks), plane, stop, self._scale, core.reshape(-1))
        return core


@dataclass(frozen=True, eq=False)
class Stream:
    """A stream just written.

    Attributes
    ----------
    encoder : Encoder
    head, factors : bytes
        Everything before the second bit stream, and that.
    plane, stop : int
        Where the core ends.
    level : float
        Where the factors end.
    norms : tuple of ndarray
    """

    encoder: Encoder
    head: bytes
    factors: bytes
    plane: int
    stop: int
    level: float
    norms: tuple[np.ndarray, ...]

    @property
    def nbytes(self) -> int:
        return len(self.head) + len(self.factors)

    def tobytes(self) -> bytes:
        """As a file has it."""
        return self.head + self.factors

    def decoded(self) -> Tucker:
        """What `read` makes of the bytes, without going through the core's."""
        header = self.encoder.header
        core = self.encoder._cut_core([len(s) for s in self.norms], self.plane, self.stop)
        return Tucker(header, core, read_factors(self.factors, header.shape, self.norms))


class _Factor:
    """A factor's columns times the norms of their slices; levels (`Coefficients.cut`) are in units of the core."""

    def __init__(self, factor: np.ndarray, norm: np.ndarray) -> None:
        self._block = quantise((factor[:, : len(norm)] * norm).T.copy())

    def _ending(self, level: float, part: bool = False) -> tuple[int, int]:
        level = min(max(level + float(np.log2(self._block.scale)), BOTTOM), TOP)
        plane = int(level)
        # The reference does not put the rest of a part of a plane of raw bits into the middle of its step.
        share = plane + 1 - level if part or not self._block.dense(plane) else 1.0
        return plane, round(share * self._block.size)

    def error(self, level: float) -> float:
        """What it adds to the core's sum of squared errors, as the core's slices are orthogonal."""
        return self._block.error(*self._ending(level)) / self._block.scale**2

    def written(self, level: float, part: bool) -> Writer:
        return BlockWriter(self._block, self._block.scale).write(*self._ending(level, part))


@njit(cache=True)
def _magnitude(word, plane):
    """A magnitude as a reader takes it."""
    word &= ~np.uint64(1)
    if not is_known(word, plane):
        return 0.0
    return np.float64((word >> np.uint64(plane) << np.uint64(plane)) + (np.uint64(1) << np.uint64(plane - 1)))


@njit(cache=True)
def _slices(words, peaks, shape, plane, stop, squares):
    """Squared norms of the core's slices, axis after axis."""
    for block in range(len(peaks)):
        if not is_known(peaks[block], plane):
            continue
        for i in range(block * BLOCK, min((block + 1) * BLOCK, len(words))):
            value = _magnitude(words[i], plane if i < stop else plane + 1)
            if value:
                rest, start = i, len(squares)
                for axis in range(len(shape) - 1, -1, -1):
                    start -= shape[axis]
                    squares[start + rest % shape[axis]] += value * value
                    rest //= shape[axis]


@njit(cache=True)
def _cut(words, shape, ranks, plane, stop, scale, out):
    """The core within its ranks, as a reader has it."""
    axes, last, kept = len(shape), shape[-1], ranks[-1]
    for line in range(len(out) // kept):
        rest, source, stride = line, 0, 1
        for axis in range(axes - 2, -1, -1):
            source += rest % ranks[axis] * stride
            stride *= shape[axis]
            rest //= ranks[axis]
        for x in range(kept):
            i = source * last + x
            value = _magnitude(words[i], plane if i < stop else plane + 1) / scale
            out[line * kept + x] = -value if words[i] & np.uint64(1) else value
