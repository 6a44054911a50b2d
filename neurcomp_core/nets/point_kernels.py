"""CPU kernels of hash-grid networks at arbitrary points, and of their slopes, in numba.

Slopes are carried forward beside the values (one tangent per axis), for a network has one to three axes and any number
of outputs. Positions are float64: a fine level's position in float32 would be off by more than decoders may differ.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from neurcomp_core.nets.kernels import _EXACT, BLOCK, _corner, _layer, _smoothstep

_ONE, _NIL, _U1 = np.float32(1), np.float32(0), np.uint32(1)
_SIX = np.float32(6)


@njit(cache=True, forceinline=True, fastmath=_EXACT)
def _encode(points, at, count, table, scales, resolutions, sizes, firsts, dense, dims, smooth, slopes, states):
    """Features of `count` points from `at` into ``states[0]``, derivatives along axis a into ``states[1 + a]``."""
    up_y, up_z = np.uint32(dims > 1), np.uint32(dims > 2)
    half_y, half_z = 0.5 * (dims > 1), 0.5 * (dims > 2)
    features = table.shape[1]
    for level in range(len(scales)):
        scale, r, size, o, flat = scales[level], resolutions[level], sizes[level], firsts[level], dense[level]
        for p in range(count):
            px, py, pz = (
                points[at + p, 0] * scale + 0.5,
                points[at + p, 1] * scale + half_y,
                points[at + p, 2] * scale + half_z,
            )
            x, y, z = np.uint32(px), np.uint32(py), np.uint32(pz)
            u, v, w = np.float32(px - x), np.float32(py - y), np.float32(pz - z)
            du, dv, dw = np.float32(scale), np.float32(scale), np.float32(scale)
            if smooth:
                du, dv, dw = _SIX * u * (_ONE - u) * du, _SIX * v * (_ONE - v) * dv, _SIX * w * (_ONE - w) * dw
                u, v, w = _smoothstep(u), _smoothstep(v), _smoothstep(w)
            x1, y1, z1 = x + _U1, y + up_y, z + up_z
            j0 = o + _corner(x, y, z, r, size, flat)
            j1 = o + _corner(x1, y, z, r, size, flat)
            j2 = o + _corner(x, y1, z, r, size, flat)
            j3 = o + _corner(x1, y1, z, r, size, flat)
            j4 = o + _corner(x, y, z1, r, size, flat)
            j5 = o + _corner(x1, y, z1, r, size, flat)
            j6 = o + _corner(x, y1, z1, r, size, flat)
            j7 = o + _corner(x1, y1, z1, r, size, flat)
            for f in range(features):
                row = level * features + f
                # Along x, then y, then z.
                d0, d1 = table[j1, f] - table[j0, f], table[j3, f] - table[j2, f]
                d2, d3 = table[j5, f] - table[j4, f], table[j7, f] - table[j6, f]
                e0, e1 = table[j0, f] + u * d0, table[j2, f] + u * d1
                e2, e3 = table[j4, f] + u * d2, table[j6, f] + u * d3
                g0, g1 = e0 + v * (e1 - e0), e2 + v * (e3 - e2)
                states[0, row, p] = g0 + w * (g1 - g0)
                if slopes:
                    low, high = d0 + v * (d1 - d0), d2 + v * (d3 - d2)
                    states[1, row, p] = du * (low + w * (high - low))
                    if dims > 1:
                        states[2, row, p] = dv * ((e1 - e0) + w * ((e3 - e2) - (e1 - e0)))
                    if dims > 2:
                        states[3, row, p] = dw * (g1 - g0)
        for p in range(count, BLOCK):
            for f in range(features):
                for s in range(states.shape[0]):
                    states[s, level * features + f, p] = _NIL


@njit(cache=True, forceinline=True, fastmath=_EXACT)
def _hidden_layer(weight, x, y):
    """A layer's activations into ``y[0]``, and the tangents of those that are not at rest."""
    _layer(weight, x[0], y[0], True)
    for s in range(1, x.shape[0]):
        _layer(weight, x[s], y[s], False)
        for i in range(weight.shape[0]):
            for p in range(BLOCK):
                if not y[0, i, p] > _NIL:
                    y[s, i, p] = _NIL


@njit(cache=True, parallel=True, fastmath=_EXACT)
def at_points(
    points, table, scales, resolutions, sizes, firsts, dense, dims, smooth, w_in, w_hidden, w_out, values, slopes
):  # fmt: skip
    """Outputs at `points` ``(n, 3)`` float64 into `values` ``(n, outputs)``.

    Derivatives go into `slopes` ``(n, outputs, dims)``, unless its last axis has no length.
    """
    n, count = points.shape[0], 1 + slopes.shape[2]
    for b in prange((n + BLOCK - 1) // BLOCK):
        first = b * BLOCK
        last = min(BLOCK, n - first)
        x = np.empty((count, w_in.shape[1], BLOCK), np.float32)
        y = np.empty((count, w_in.shape[0], BLOCK), np.float32)
        other = np.empty((count, w_in.shape[0], BLOCK), np.float32)
        out = np.empty((w_out.shape[0], BLOCK), np.float32)
        _encode(
            points, first, last, table, scales, resolutions, sizes, firsts, dense, dims, smooth, count > 1, x
        )  # fmt: skip
        _hidden_layer(w_in, x, y)
        for k in range(w_hidden.shape[0]):
            _hidden_layer(w_hidden[k], y, other)
            y, other = other, y
        _layer(w_out, y[0], out, False)
        for c in range(out.shape[0]):
            for p in range(last):
                values[first + p, c] = out[c, p]
        for s in range(1, count):
            _layer(w_out, y[s], out, False)
            for c in range(out.shape[0]):
                for p in range(last):
                    slopes[first + p, c, s - 1] = out[c, p]
