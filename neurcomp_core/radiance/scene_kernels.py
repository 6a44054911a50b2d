"""Kernels that evaluate and ray-trace the analytic scenes of `neurcomp_core.radiance.scenes`.

A row of the table is one primitive, its columns: 0 kind, 1-3 centre, 4-6 half widths (a ball's radius in 4), 7
softness, 8 peak density, 9-11 base colour, 12-14 tint, 15-17 axis of the tint, 18-20 wave vector of the texture.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

COLUMNS = 21
BALL, BOX = 0, 1


@njit(cache=True, nogil=True)
def _density(p, x, y, z):
    dx, dy, dz = x - p[1], y - p[2], z - p[3]
    if p[0] == BALL:
        rest = 1.0 - (dx * dx + dy * dy + dz * dz) / (p[4] * p[4])
        return p[8] * rest * rest * rest if rest > 0.0 else 0.0
    value = p[8]
    for i in range(3):
        inside = (p[4 + i] - abs(p[1 + i] - (x if i == 0 else y if i == 1 else z))) / p[7]
        if inside <= 0.0:
            return 0.0
        if inside < 1.0:
            value *= inside * inside * inside * (10.0 + inside * (6.0 * inside - 15.0))
    return value


@njit(cache=True, nogil=True)
def _color(p, x, y, z, d, out):
    texture = 0.75 + 0.25 * math.sin(p[18] * x + p[19] * y + p[20] * z)
    lobe = 0.5 * (1.0 + d[0] * p[15] + d[1] * p[16] + d[2] * p[17])
    for c in range(3):
        out[c] = texture * p[9 + c] + lobe * lobe * p[12 + c]


@njit(cache=True, nogil=True)
def _mixture(table, spans, t, x, y, z, d, one, out):
    """Total density of the primitives whose span holds t; `out` gets the density-weighted mean colour."""
    total = 0.0
    out[:] = 0.0
    for i in range(table.shape[0]):
        if t < spans[i, 0] or t > spans[i, 1]:
            continue
        density = _density(table[i], x, y, z)
        if density > 0.0:
            _color(table[i], x, y, z, d, one)
            total += density
            for c in range(3):
                out[c] += density * one[c]
    if total > 0.0:
        for c in range(3):
            out[c] /= total
    return total


@njit(cache=True, nogil=True)
def evaluate(table, points, directions, density, colors):
    """Density ``(n,)`` and colour ``(n, 3)`` at points seen along directions, all float64."""
    one, spans = np.empty(3), np.zeros((table.shape[0], 2))
    for i in range(points.shape[0]):
        density[i] = _mixture(
            table, spans, 0.0, points[i, 0], points[i, 1], points[i, 2], directions[i], one, colors[i]
        )


@njit(cache=True, nogil=True)
def _span(p, o, d):
    """Distances at which a ray enters and leaves the support of a primitive; the second is lower if it misses."""
    if p[0] == BALL:
        ex, ey, ez = o[0] - p[1], o[1] - p[2], o[2] - p[3]
        b = ex * d[0] + ey * d[1] + ez * d[2]
        square = b * b - (ex * ex + ey * ey + ez * ez - p[4] * p[4])
        if square <= 0.0:
            return 1.0, 0.0
        root = math.sqrt(square)
        return -b - root, -b + root
    low, high = -1e30, 1e30
    for i in range(3):
        e = p[1 + i] - o[i]
        if d[i] == 0.0:
            if abs(e) >= p[4 + i]:
                return 1.0, 0.0
        else:
            a, b = (e - p[4 + i]) / d[i], (e + p[4 + i]) / d[i]
            low, high = max(low, min(a, b)), min(high, max(a, b))
    return low, high


@njit(cache=True, nogil=True)
def _spans(table, o, d, spans, begin, end):
    """Disjoint stretches of a ray in which there is anything, nearest first; their number.

    `spans` gets the stretch of each primitive.
    """
    count = 0
    for i in range(table.shape[0]):
        low, high = _span(table[i], o, d)
        low = max(low, 0.0)
        spans[i, 0], spans[i, 1] = low, high
        if high <= low:
            continue
        k = count
        while k > 0 and begin[k - 1] > low:
            begin[k], end[k] = begin[k - 1], end[k - 1]
            k -= 1
        begin[k], end[k] = low, high
        count += 1
    merged = 0
    for k in range(count):
        if merged > 0 and begin[k] <= end[merged - 1]:
            end[merged - 1] = max(end[merged - 1], end[k])
        else:
            begin[merged], end[merged] = begin[k], end[k]
            merged += 1
    return merged


@njit(cache=True, nogil=True, parallel=True)
def trace(table, origins, directions, step, colors, opacity, depth):
    """Emission-absorption integrals along rays by the midpoint rule with exact absorption within each step.

    Colour (premultiplied) ``(n, 3)``, opacity ``(n,)`` and depth (the weights' mean distance times opacity) ``(n,)``.
    """
    for i in prange(origins.shape[0]):
        o, d = origins[i], directions[i]
        begin, end, spans = np.empty(table.shape[0]), np.empty(table.shape[0]), np.empty((table.shape[0], 2))
        one, mean = np.empty(3), np.empty(3)
        through, far = 1.0, 0.0
        red, green, blue = 0.0, 0.0, 0.0
        for k in range(_spans(table, o, d, spans, begin, end)):
            steps = math.ceil((end[k] - begin[k]) / step)
            size = (end[k] - begin[k]) / steps
            for j in range(steps):
                t = begin[k] + (j + 0.5) * size
                x, y, z = o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2]
                total = _mixture(table, spans, t, x, y, z, d, one, mean)
                weight = -through * math.expm1(-total * size)
                red += weight * mean[0]
                green += weight * mean[1]
                blue += weight * mean[2]
                far += weight * t
                through -= weight
                if through < 1e-7:
                    break
            if through < 1e-7:
                break
        colors[i, 0], colors[i, 1], colors[i, 2] = red, green, blue
        opacity[i], depth[i] = 1.0 - through, far
