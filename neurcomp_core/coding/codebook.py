"""Codebooks: the few values that stand for all weights of a matrix, found by k-means, and their labels in a stream.

K-means of numbers on a line needs no random starts: in sorted order clusters are intervals, and the best ends of the
first k of them follow from the best ends of k - 1 by dynamic programming (Wang, Song: "Ckmeans.1d.dp", The R Journal
3(2), 2011), in ``n log n`` steps per cluster since the ends move one way only. Network weights are quantised so in Han,
Mao, Dally: "Deep Compression", ICLR 2016, section 3, and per matrix in Lu et al., CGF 40(3), 2021, section 4.3.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from neurcomp_core.coding import wire
from neurcomp_core.coding.matrices import decode_matrices, encode_matrices
from neurcomp_core.errors import FormatError

#: Distinct values that k-means looks at; more are gathered into so many groups of neighbours first.
_MOST = 1 << 14


@dataclass(frozen=True, eq=False)
class Codebook:
    """A matrix of weights that share values.

    Attributes
    ----------
    centres : ndarray
        ``(k,)`` float32, ascending.
    labels : ndarray
        Index of every weight's value, in the matrix's shape, integers.
    """

    centres: np.ndarray
    labels: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """The matrix, float32."""
        return self.centres[self.labels]


def kmeans(values: np.ndarray, count: int, importance: np.ndarray | None = None) -> Codebook:
    """The codebook of the least squared error.

    Parameters
    ----------
    values : ndarray
        Any shape, finite.
    count : int
        Most centres; as many as there are distinct values where those are fewer.
    importance : ndarray, optional
        Positive weight of every value's squared error, in the shape of `values`.

    Examples
    --------
    >>> kmeans(np.array([0.0, 0.1, 5.0, 5.2]), 2).centres.tolist()
    [0.05000000074505806, 5.099999904632568]
    """
    flat = np.asarray(values, np.float64).ravel()
    weight = np.ones(flat.size) if importance is None else np.asarray(importance, np.float64).ravel()
    distinct, where = np.unique(flat, return_inverse=True)
    if len(distinct) > _MOST:
        # Neighbours that would share a centre anyway; equally many in each group.
        where = where.ravel() * _MOST // len(distinct)
        total = np.bincount(where, weight, _MOST)
        distinct = np.bincount(where, weight * flat, _MOST) / total
    total = np.bincount(where, weight, len(distinct))
    if len(distinct) <= count:
        cluster = np.arange(len(distinct))
    else:
        cluster = _clusters(distinct - distinct.mean(), total, count)
    centres = np.bincount(cluster, total * distinct) / np.bincount(cluster, total)
    return Codebook(centres.astype(np.float32), cluster[where].reshape(values.shape))


def assign(values: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Label of the nearest of the ascending `centres` for every value, in the shape of `values`."""
    middles = (centres[1:].astype(np.float64) + centres[:-1]) / 2
    return np.searchsorted(middles, values)


def _clusters(values: np.ndarray, weight: np.ndarray, count: int) -> np.ndarray:
    """Cluster of each of the ascending distinct `values`."""
    n = len(values)
    sums = np.zeros((3, n + 1))
    np.cumsum([weight, weight * values, weight * values**2], axis=1, out=sums[:, 1:])
    starts = np.zeros((count, n + 1), np.int32)
    _best_starts(sums, starts)
    cluster, end = np.empty(n, np.int64), n
    for k in range(count - 1, -1, -1):
        start = int(starts[k, end])
        cluster[start:end] = k
        end = start
    return cluster


@njit(cache=True)
def _error(sums, first, end):
    """Squared error of one cluster of the values from `first` to before `end`."""
    total = sums[0, end] - sums[0, first]
    mean = (sums[1, end] - sums[1, first]) / total
    return max(sums[2, end] - sums[2, first] - total * mean * mean, 0.0)


@njit(cache=True)
def _best_starts(sums, starts):
    """``starts[k, end]``: where cluster k begins if the first `end` values are in clusters 0 to k."""
    count, n = starts.shape[0], starts.shape[1] - 1
    before, now = np.empty(n + 1), np.empty(n + 1)
    for end in range(1, n + 1):
        now[end] = _error(sums, 0, end)
    # Ranges (lowest end, highest end, lowest start, highest start) that are still to be halved.
    stack = np.empty((4 * 64, 4), np.int64)
    for k in range(1, count):
        before, now = now, before
        top = 1
        stack[0] = (k + 1, n, k, n - 1)
        while top > 0:
            top -= 1
            low, high, first, last = stack[top]
            if low > high:
                continue
            end = (low + high) // 2
            best, at = np.inf, first
            for start in range(first, min(last, end - 1) + 1):
                error = before[start] + _error(sums, start, end)
                if error < best:
                    best, at = error, start
            now[end], starts[k, end] = best, at
            stack[top] = (low, end - 1, first, at)
            stack[top + 1] = (end + 1, high, at, last)
            top += 2


# -------------------------------------------------------------------------------------------------------------- stream


def encode_codebooks(books: Sequence[Codebook]) -> bytes:
    """One stream of all codebooks: numbers of centres, the centres as they are, and labels, entropy-coded.

    A label is coded as its distance from that of the centre nearest to zero, so that small weights have small symbols.
    """
    head = b"".join(wire.write_varint(len(b.centres)) for b in books)
    centres = b"".join(b.centres.astype("<f4").tobytes() for b in books)
    return head + centres + encode_matrices([b.labels - _middle(b.centres) for b in books])


def decode_codebooks(data: bytes, shapes: Sequence[tuple[int, ...]]) -> list[Codebook]:
    """Inverse of `encode_codebooks`.

    Raises
    ------
    FormatError
        If the stream is not one of codebooks for matrices of `shapes`.
    """
    view, at, counts = memoryview(data), 0, []
    for _ in shapes:
        count, at = wire.read_varint(view, at)
        counts.append(count)
    if 0 in counts or at + 4 * sum(counts) > len(data):
        raise FormatError(f"codebooks of {sum(counts)} centres do not fit into {len(data)} bytes; the file is damaged")
    books = [np.array(struct.unpack_from(f"<{n}f", data, at + 4 * sum(counts[:i])), np.float32)
             for i, n in enumerate(counts)]  # fmt: skip
    if not all(np.isfinite(b).all() and (np.diff(b) >= 0).all() for b in books):
        raise FormatError("the centres of a codebook are not in ascending order; the file is damaged")
    found = []
    for centres, symbols in zip(books, decode_matrices(data[at + 4 * sum(counts) :], shapes), strict=True):
        labels = symbols + _middle(centres)
        if labels.size and not 0 <= labels.min() <= labels.max() < len(centres):
            raise FormatError(f"a label names a centre beyond the {len(centres)} there are; the file is damaged")
        found.append(Codebook(centres, labels))
    return found


def _middle(centres: np.ndarray) -> int:
    return int(np.abs(centres).argmin())
