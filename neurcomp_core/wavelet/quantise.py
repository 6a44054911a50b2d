"""Rate-distortion-optimised dead-zone quantisation, and the values that quantised coefficients are taken for."""

from __future__ import annotations

import numpy as np
from numba import njit

_CELLS = 8
_LENGTH = 256


def thresholds(weight: float) -> np.ndarray:
    """Where to round up, as the fraction of a step above an integer, ``(2, _LENGTH)``.

    Row 0 decides between 0 and 1, row 1 beyond, by the mean magnitude (in steps, `_CELLS` entries each) of the
    neighbours, from which the magnitude's distribution, taken to be exponential, gives what each value costs in bits.
    A bit is worth `weight` squared steps.
    """
    mean = 0.06 + 0.85 * np.arange(_LENGTH) / _CELLS
    some = np.exp(-0.6 / mean)
    one = -np.log2(some * (1 - np.exp(-1 / mean))) + 1
    none = -np.log2(1 - some)
    first = np.clip(0.5 + weight * (one - none) / 2, 0.5, 1.2)
    next_ = np.clip(0.5 + weight / (2 * np.log(2) * mean), 0.5, 0.9)
    return np.stack([first, next_])


@njit(cache=True, nogil=True)
def quantise(values, step, table, first, last, every, out, sums):
    """Quantise planes `first` to `last`, or some, of a subband ``(z, y, x)`` into `out`, which begins at plane `first`.

    ``sums[v]`` for a magnitude v of 0, 1, 2 and 3 or more: how many, the sum of what is above v and of its square.
    """
    scale = 1.0 / step
    depth, rows, columns = values.shape
    none = np.zeros(columns, values.dtype)
    near = np.empty(columns, values.dtype)
    for z in range(first, last, every):
        for y in range(rows):
            line = values[z, y]
            over, under = values[z - 1, y] if z > 0 else none, values[z + 1, y] if z < depth - 1 else none
            north, south = values[z, y - 1] if y > 0 else none, values[z, y + 1] if y < rows - 1 else none
            for x in range(columns):
                near[x] = abs(over[x]) + abs(under[x]) + abs(north[x]) + abs(south[x])
            for x in range(1, columns):
                near[x] += abs(line[x - 1])
            for x in range(columns - 1):
                near[x] += abs(line[x + 1])
            zeros, rest_, square = 0, 0.0, 0.0
            for x in range(columns):
                size = abs(line[x]) * scale
                at = int(min(near[x] * scale * (_CELLS / 6.0), _LENGTH - 1.0))
                if size < table[0, at]:
                    zeros += 1
                    rest_ += size
                    square += size * size
                    out[z - first, y, x] = 0
                    continue
                v = max(int(size), 1)
                if size - v >= table[1, at]:
                    v += 1
                k = min(v, 3)
                rest = size - v
                sums[k, 0] += 1
                sums[k, 1] += rest
                sums[k, 2] += rest * rest
                out[z - first, y, x] = v if line[x] >= 0 else -v
            sums[0, 0] += zeros
            sums[0, 1] += rest_
            sums[0, 2] += square


def distortion(sums: np.ndarray, centers: np.ndarray) -> float:
    """Squared error in steps when each magnitude v stands for ``v + centers[min(v, 3)]``."""
    count, first, second = sums.T
    return float(np.sum(second - 2 * centers * first + centers**2 * count))


def centroids(sums: np.ndarray) -> np.ndarray:
    """Best `centers`, in 1/128 between -0.5 and 0.5, as a file keeps them."""
    best = sums[:, 1] / np.maximum(sums[:, 0], 1)
    best[0] = 0
    return np.clip(np.rint(best * 128), -64, 63) / 128


@njit(cache=True, nogil=True)
def restore(q, step, centers, out):
    """Values of quantised coefficients ``(z, y, x)``."""
    for z in range(q.shape[0]):
        for y in range(q.shape[1]):
            for x in range(q.shape[2]):
                v = q[z, y, x]
                size = abs(v)
                value = (size + centers[min(size, 3)]) * step if size else 0.0
                out[z, y, x] = value if v >= 0 else -value


@njit(cache=True, nogil=True)
def smooth(q, first, last, out, add):
    """Magnitudes of planes `first` to `last`, weighted 1 2 1 along each axis, in sixteenths; added to `out` or set.

    `q` is a subband with a zero border of one sample.
    """
    rows, columns = q.shape[1] - 2, q.shape[2] - 2
    line = np.zeros(columns + 2, np.int64)
    for z in range(first, last):
        for y in range(rows):
            for x in range(columns + 2):
                line[x] = (
                    min(abs(q[z, y, x]), 65535) + min(abs(q[z, y + 2, x]), 65535)
                    + min(abs(q[z + 2, y, x]), 65535) + min(abs(q[z + 2, y + 2, x]), 65535)
                    + 2 * (min(abs(q[z, y + 1, x]), 65535) + min(abs(q[z + 2, y + 1, x]), 65535)
                    + min(abs(q[z + 1, y, x]), 65535) + min(abs(q[z + 1, y + 2, x]), 65535))
                    + 4 * min(abs(q[z + 1, y + 1, x]), 65535)
                )  # fmt: skip
            for x in range(columns):
                value = (line[x] + 2 * line[x + 1] + line[x + 2]) >> 2
                if add:
                    out[z, y, x] += value
                else:
                    out[z, y, x] = value
