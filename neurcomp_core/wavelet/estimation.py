"""What a quantised coefficient most likely was, given all its neighbours: a small linear filter per subband.

Once every quantised coefficient is known, neighbours on all sides tell more of a value than its own interval does. The
filter adds to the interval's centre a weighted sum of the neighbours, with one set of weights for zeros and one for
other values, fitted by least squares to the original and stored where it saves more than it costs. Neighbours that a
reflection maps to each other share a weight. (Wiener's filter; per subband, as loop filters of video codecs do per
block class: Tsai et al., "Adaptive Loop Filtering for Video Coding", 2013.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from neurcomp_core.wavelet.layout import Band, Layout

#: Weights are integers in units of 1/128.
UNIT = 128
#: Weights for neighbours in the subband itself.
_OWN = 10
_SAMPLES = 24000
#: Squared steps that a bit is worth, and bits that a weight costs, about.
_WORTH, _PRICE = 0.1, 6


@dataclass(frozen=True)
class Estimator:
    """Weights of a subband's filter in 1/`UNIT`, ``(2, features)``: for zeros, for others; rows of zeros are off."""

    weights: np.ndarray


def relatives(layout: Layout, band: Band, lane: int) -> np.ndarray:
    """Offsets ``(n, 2)`` of the two nearest coefficients in each subband that is the other pass along one axis."""
    block = layout.blocks[band.level, band.orient][lane]
    pairs = []
    for axis, step in enumerate((*block.strides, 1)):
        relative = layout.blocks.get((band.level, band.orient ^ 1 << axis))
        if band.orient and band.orient != 1 << axis and relative:
            there = relative[lane].base - block.base
            # Low-pass samples lie at even places, high-pass samples at odd ones.
            pairs.append((there, there + step) if band.orient >> axis & 1 else (there - step, there))
    return np.array(pairs, np.int64).reshape(-1, 2)


def features(layout: Layout, band: Band) -> int:
    """Number of weights: 7 for the 26 around, 3 for those at distance 2, one for each relative."""
    return _OWN + len(relatives(layout, band, 0))


@njit(cache=True, nogil=True, inline="always")
def _around(q, p, sz, sy):
    """Sums over the neighbours in the plane across the last axis that are alike: corners, beside in z, in y."""
    corners = q[p - sz - sy] + q[p - sz + sy] + q[p + sz - sy] + q[p + sz + sy]
    return corners, q[p - sz] + q[p + sz], q[p - sy] + q[p + sy]


@njit(cache=True, nogil=True)
def _gather(q, values, base, shape, strides, stride, pairs, centers, scale, matrices, vectors):
    """Add the normal equations of a block's samples, apart for zeros and others; every `stride`-th row counts."""
    n = _OWN + len(pairs)
    x = np.zeros(n)
    used = np.zeros(2)
    sz, sy = strides
    for row in range(0, shape[0] * shape[1], stride):
        z, y = row // shape[1], row % shape[1]
        p = base + z * sz + y * sy - 1
        c1, b1, a1 = _around(q, p, sz, sy)
        c2, b2, a2 = _around(q, p + 1, sz, sy)
        for i in range(shape[2]):
            p += 1
            c0, b0, a0 = c1, b1, a1
            c1, b1, a1 = c2, b2, a2
            c2, b2, a2 = _around(q, p + 1, sz, sy)
            v = q[p]
            x[0], x[1], x[2], x[3], x[4], x[5] = c0 + c2, c1, b0 + b2, b1, a0 + a2, a1
            x[6] = q[p - 1] + q[p + 1]
            x[7], x[8], x[9] = q[p - 2 * sz] + q[p + 2 * sz], q[p - 2 * sy] + q[p + 2 * sy], q[p - 2] + q[p + 2]
            some = v != 0
            for k in range(len(pairs)):
                x[_OWN + k] = q[p + pairs[k, 0]] + q[p + pairs[k, 1]]
            for k in range(n):
                some = some or x[k] != 0
            if not some:
                continue
            size = abs(v)
            center = size + centers[min(size, 3)] if size else 0.0
            kind = 1 if v != 0 else 0
            error = values[z, y, i] * scale - (center if v >= 0 else -center)
            for k in range(n):
                vectors[kind, k] += x[k] * error
                for j in range(k + 1):
                    matrices[kind, k, j] += x[k] * x[j]
            used[kind] += 1
    return used


@njit(cache=True, nogil=True)
def _apply(q, base, shape, strides, pairs, weights, centers, step, out):
    sz, sy = strides
    for z in range(shape[0]):
        for y in range(shape[1]):
            p = base + z * sz + y * sy - 1
            c1, b1, a1 = _around(q, p, sz, sy)
            c2, b2, a2 = _around(q, p + 1, sz, sy)
            for x in range(shape[2]):
                p += 1
                c0, b0, a0 = c1, b1, a1
                c1, b1, a1 = c2, b2, a2
                c2, b2, a2 = _around(q, p + 1, sz, sy)
                v = q[p]
                size = abs(v)
                value = size + centers[min(size, 3)] if size else 0.0
                if v < 0:
                    value = -value
                w = weights[1 if v != 0 else 0]
                value += w[0] * (c0 + c2) + w[1] * c1 + w[2] * (b0 + b2) + w[3] * b1 + w[4] * (a0 + a2) + w[5] * a1
                value += w[6] * (q[p - 1] + q[p + 1]) + w[7] * (q[p - 2 * sz] + q[p + 2 * sz])
                value += w[8] * (q[p - 2 * sy] + q[p + 2 * sy]) + w[9] * (q[p - 2] + q[p + 2])
                for k in range(len(pairs)):
                    value += w[_OWN + k] * (q[p + pairs[k, 0]] + q[p + pairs[k, 1]])
                out[z, y, x] = value * step


def fit(
    q: np.ndarray, values: np.ndarray, layout: Layout, band: Band, component: int, centers: np.ndarray, step: float
) -> Estimator | None:
    """The filter that brings quantised coefficients closest to `values` ``(z, y, x)``, or None if none pays.

    Parameters
    ----------
    q : ndarray
        Flat buffers of all components.
    centers : ndarray
        Of the intervals, see `quantise.centroids`.
    step : float
        Of this subband.
    """
    n = features(layout, band)
    matrices, vectors, used = np.zeros((2, n, n)), np.zeros((2, n)), np.zeros(2)
    stride = max(1, band.size // _SAMPLES)
    for lane, block in enumerate(layout.blocks[band.level, band.orient]):
        if block.shape[0]:
            pairs = relatives(layout, band, lane)
            where = component * layout.size + block.base
            part = values[block.first : block.first + block.shape[0]]
            used += _gather(
                q, part, where, block.shape, block.strides, stride, pairs, centers, 1 / step, matrices, vectors
            )
    weights = np.zeros((2, n), np.int64)
    for kind in range(2):
        if used[kind] < 4 * n:
            continue
        matrix = matrices[kind] + np.tril(matrices[kind], -1).T
        solution = np.linalg.solve(matrix + np.eye(n) * (1e-3 * np.trace(matrix) / n + 1e-6), vectors[kind])
        rounded = np.clip(np.rint(solution * UNIT), -UNIT, UNIT)
        w = rounded / UNIT
        gain = (2 * w @ vectors[kind] - w @ matrix @ w) * stride
        if gain > _WORTH * _PRICE * n:
            weights[kind] = rounded
    return Estimator(weights) if weights.any() else None


def apply(
    q: np.ndarray, layout: Layout, band: Band, lane: int, component: int, estimator: Estimator, centers: np.ndarray,
    step: float, out: np.ndarray, corner: tuple[int, ...] = (0, 0, 0),
) -> None:  # fmt: skip
    """Write estimated coefficients of a lane's block, from `corner` on, to `out` ``(z, y, x)``."""
    block = layout.blocks[band.level, band.orient][lane]
    pairs = relatives(layout, band, lane)
    where = component * layout.size + block.base
    where += sum(c * s for c, s in zip(corner, (*block.strides, 1), strict=True))
    weights = estimator.weights / UNIT
    _apply(q, where, out.shape, block.strides, pairs, weights, centers, step, out)
