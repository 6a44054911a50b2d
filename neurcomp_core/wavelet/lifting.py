"""The Cohen-Daubechies-Feauveau 9/7 wavelet by lifting, with whole-sample symmetric extension: any size, in place.

Daubechies and Sweldens, "Factoring wavelet transforms into lifting steps" (1998), section 7.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import njit

from neurcomp_core.wavelet.lanes import Lanes
from neurcomp_core.wavelet.layout import Band, Layout

# Two prediction and two update steps, and the scale that makes the basis nearly orthonormal.
_A, _B, _C, _D = -1.586134342059924, -0.052980118572961, 0.882911075530934, 0.443506852043971
_SCALE = 1.149604398860241


@njit(cache=True, nogil=True)
def _lift(x, factor, parity):
    """Add to every other row of `x` ``(n, m)`` a multiple of the sum of its two neighbours."""
    n, m = x.shape
    for i in range(parity, n, 2):
        left = i - 1 if i > 0 else 1
        right = i + 1 if i < n - 1 else n - 2
        for j in range(m):
            x[i, j] += factor * (x[left, j] + x[right, j])


@njit(cache=True, nogil=True)
def _forward_rows(planes, factors):
    """Each plane's rows to low-pass rows followed by high-pass rows."""
    count, n, m = planes.shape
    half = (n + 1) // 2
    work = np.empty((n, m), planes.dtype)
    for k in range(count):
        work[:] = planes[k]
        for s in range(4):
            _lift(work, factors[s], (s + 1) % 2)
        for i in range(n):
            to = half + i // 2 if i % 2 else i // 2
            factor = factors[5] if i % 2 else factors[4]
            for j in range(m):
                planes[k, to, j] = work[i, j] * factor


@njit(cache=True, nogil=True)
def _inverse_rows(planes, factors):
    count, n, m = planes.shape
    half = (n + 1) // 2
    work = np.empty((n, m), planes.dtype)
    for k in range(count):
        for i in range(n):
            source = half + i // 2 if i % 2 else i // 2
            factor = factors[4] if i % 2 else factors[5]
            for j in range(m):
                work[i, j] = planes[k, source, j] * factor
        for s in range(3, -1, -1):
            _lift(work, -factors[s], (s + 1) % 2)
        planes[k] = work


@njit(cache=True, nogil=True)
def _forward_lines(planes, factors):
    """As `_forward_rows` along the contiguous last axis."""
    count, rows, n = planes.shape
    half = (n + 1) // 2
    x = np.empty(n, planes.dtype)
    for k in range(count):
        for r in range(rows):
            x[:] = planes[k, r]
            for s in range(4):
                factor = factors[s]
                parity = (s + 1) % 2
                if parity == 0:
                    x[0] += factor * (x[1] + x[1])
                for i in range(2 - parity, n - 1, 2):
                    x[i] += factor * (x[i - 1] + x[i + 1])
                if (n - 1) % 2 == parity:
                    x[n - 1] += factor * (x[n - 2] + x[n - 2])
            for i in range(half):
                planes[k, r, i] = x[2 * i] * factors[4]
            for i in range(n - half):
                planes[k, r, half + i] = x[2 * i + 1] * factors[5]


@njit(cache=True, nogil=True)
def _inverse_lines(planes, factors):
    count, rows, n = planes.shape
    half = (n + 1) // 2
    x = np.empty(n, planes.dtype)
    for k in range(count):
        for r in range(rows):
            for i in range(half):
                x[2 * i] = planes[k, r, i] * factors[5]
            for i in range(n - half):
                x[2 * i + 1] = planes[k, r, half + i] * factors[4]
            for s in range(3, -1, -1):
                factor = factors[s]
                parity = (s + 1) % 2
                if parity == 0:
                    x[0] -= factor * (x[1] + x[1])
                for i in range(2 - parity, n - 1, 2):
                    x[i] -= factor * (x[i - 1] + x[i + 1])
                if (n - 1) % 2 == parity:
                    x[n - 1] -= factor * (x[n - 2] + x[n - 2])
            planes[k, r] = x


def along(box: np.ndarray, axis: int, inverse: bool, lanes: Lanes) -> None:
    """One level of one axis of ``(z, y, x)`` floats, in place."""
    factors = np.array([_A, _B, _C, _D, _SCALE, 1 / _SCALE], box.dtype)
    if axis == 2:
        kernel, planes = (_inverse_lines if inverse else _forward_lines), box
    else:
        kernel = _inverse_rows if inverse else _forward_rows
        planes = box if axis == 1 else box.swapaxes(0, 1)
    lanes.each(lambda part: kernel(part, factors), lanes.slabs(planes))


def forward(values: np.ndarray, layout: Layout, lanes: Lanes) -> None:
    """Transform ``(z, y, x)`` floats in place; coefficients lie as `Layout.bands` says."""
    for split in layout.heads + layout.splits:
        box = values[tuple(slice(n) for n in split.shape)]
        for axis in split.axes:
            along(box, axis, False, lanes)


def inverse(values: np.ndarray, layout: Layout, lanes: Lanes, level: int = 0) -> None:
    """Undo `forward` in place, down to `level` levels above the finest (low-pass, not normalised)."""
    splits = layout.splits[: level - 1 : -1] if level else (layout.heads + layout.splits)[::-1]
    for split in splits:
        box = values[tuple(slice(n) for n in split.shape)]
        for axis in reversed(split.axes):
            along(box, axis, True, lanes)


@cache
def _norm(high: bool, lows: int) -> float:
    """Euclidean norm of a synthesis function: a high- or low-pass step, then `lows` low-pass steps."""
    n = 24
    signal = np.zeros(n)
    signal[n // 4 + (n // 2 if high else 0)] = 1
    factors = np.array([_A, _B, _C, _D, _SCALE, 1 / _SCALE])
    for k in range(lows + 1):
        if k:
            signal = np.concatenate([signal, np.zeros(len(signal))])
        _inverse_lines(signal.reshape(1, 1, -1), factors)
    return float(np.sqrt(np.sum(signal**2)))


def norm(layout: Layout, band: Band) -> float:
    """Root of the energy in the values that one unit in `band` stands for."""
    product = 1.0
    for axis in range(3):
        finer = sum(axis in s.axes for s in layout.splits[: band.level])
        if band.level == len(layout.splits):
            product *= _norm(False, finer - 1) if finer else 1.0
        elif axis in layout.splits[band.level].axes:
            product *= _norm(bool(band.orient >> axis & 1), finer)
        else:
            product *= _norm(False, finer - 1) if finer else 1.0
    return product
