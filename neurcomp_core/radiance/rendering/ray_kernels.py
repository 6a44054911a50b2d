"""Kernels every march shares: a ray's bounds, leaps over free space, and the corners of a trilinear sample.

A ray is cut into equal steps from where it enters the box, the last one shorter; each has one sample, a fraction of
the way along it (0.5: the midpoint rule). Leaps are whole numbers of steps, so they move no sample.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from neurcomp_core.radiance.grids import EMPTY

MATH = {"contract", "nsz", "reassoc"}
_EMPTY = EMPTY


@njit(cache=True, nogil=True)
def span(o, d, near, far, box):
    """Interval of t in which a ray is inside the box and between near and far; the second is lower if it misses."""
    low, high = near, far
    for i in range(3):
        if d[i] == 0.0:
            if o[i] < box[0, i] or o[i] > box[1, i]:
                return 1.0, 0.0
        else:
            a, b = (box[0, i] - o[i]) / d[i], (box[1, i] - o[i]) / d[i]
            low, high = max(low, min(a, b)), min(high, max(a, b))
    return low, high


@njit(cache=True, nogil=True)
def _axis_exit(position, speed, cell, away, block):
    """Time until a position leaves the cells closer than `away` to `cell` along one axis."""
    if speed > 0.0:
        return ((cell + away) * block - position) / speed
    if speed < 0.0:
        return ((cell - away + 1) * block - position) / speed
    return math.inf


@njit(cache=True, nogil=True)
def leap(x, y, z, gx, gy, gz, dt, shape, distance, block):
    """Steps to go on, 0 in an occupied cell. Position in voxels and its speed, step, samples along z, y, x."""
    i = int(min(max(x, 0.0), shape[2] - 1.0)) // block
    j = int(min(max(y, 0.0), shape[1] - 1.0)) // block
    k = int(min(max(z, 0.0), shape[0] - 1.0)) // block
    away = int(distance[k, j, i])
    if away == 0:
        return 0
    rest = min(_axis_exit(x, gx, i, away, block), _axis_exit(y, gy, j, away, block), _axis_exit(z, gz, k, away, block))
    return 1 + int(max(rest, 0.0) / dt)


@njit(cache=True, nogil=True)
def cell(position, count):
    """Lower sample, upper sample and share of the upper one along an axis; beyond the outermost samples theirs."""
    position = min(max(position, 0.0), count - 1.0)
    low = min(int(position), max(count - 2, 0))
    return low, min(low + 1, count - 1), position - low


@njit(cache=True, nogil=True)
def corners(x, y, z, links, rows, weights):
    """Fill rows and weights of the eight corners; an empty one gets row 0 with weight 0. Whether any is not empty."""
    i0, i1, u = cell(x, links.shape[2])
    j0, j1, v = cell(y, links.shape[1])
    k0, k1, w = cell(z, links.shape[0])
    rows[0], rows[1] = links[k0, j0, i0], links[k0, j0, i1]
    rows[2], rows[3] = links[k0, j1, i0], links[k0, j1, i1]
    rows[4], rows[5] = links[k1, j0, i0], links[k1, j0, i1]
    rows[6], rows[7] = links[k1, j1, i0], links[k1, j1, i1]
    a, b, c, d = (1.0 - v) * (1.0 - w), v * (1.0 - w), (1.0 - v) * w, v * w
    weights[0], weights[1] = a * (1.0 - u), a * u
    weights[2], weights[3] = b * (1.0 - u), b * u
    weights[4], weights[5] = c * (1.0 - u), c * u
    weights[6], weights[7] = d * (1.0 - u), d * u
    used = False
    for q in range(8):
        if rows[q] == _EMPTY:
            rows[q], weights[q] = 0, 0.0
        else:
            used = True
    return used


@njit(cache=True, nogil=True)
def walk(
    first, last, origins, directions, near, far, fractions, step, box, scale, offset, shape, distance, block, starts,
    times, sizes
):  # fmt: skip
    """Samples of rays, `scale` voxels per unit: how many per ray into ``starts[ray + 1]`` if `times` is empty, else
    their t and length (in units of the box) from ``starts[ray]`` on.

    `offset`, `shape`, `distance` and `block` are the occupancy's, whose voxels need not be those the step refers to:
    `scale` is ``(2, 3)``, the step's and the occupancy's.
    """
    fill = times.size > 0
    for r in range(first, last):
        o, d = origins[r], directions[r]
        begin, end = span(o, d, near[r], far[r], box)
        found = 0
        if end > begin:
            speed, length = 0.0, 0.0
            for i in range(3):
                speed += (d[i] * scale[0, i]) ** 2
                length += d[i] * d[i]
            dt, length = step / math.sqrt(speed), math.sqrt(length)
            count = math.ceil((end - begin) / dt)
            gx, gy, gz = d[0] * scale[1, 0], d[1] * scale[1, 1], d[2] * scale[1, 2]
            ax, ay, az = (
                o[0] * scale[1, 0] + offset[0],
                o[1] * scale[1, 1] + offset[1],
                o[2] * scale[1, 2] + offset[2],
            )
            n = 0
            while n < count:
                start = begin + n * dt
                size = min(dt, end - start)
                t = start + fractions[r] * size
                skip = leap(ax + t * gx, ay + t * gy, az + t * gz, gx, gy, gz, dt, shape, distance, block)
                if skip > 0:
                    n += skip
                    continue
                if fill:
                    times[starts[r] + found] = t
                    sizes[starts[r] + found] = size * length
                found += 1
                n += 1
        if not fill:
            starts[r + 1] = found


@njit(cache=True, nogil=True)
def empty_corner_arrays():
    """Room for `corners`."""
    return np.empty(8, np.int64), np.empty(8, np.float64)
