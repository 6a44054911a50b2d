"""Trilinear sampling of dense and sparse grids at points, and shading by spherical harmonics, with their gradients.

A grid is a table ``(rows, channels)``; `links` ``(z, y, x)`` says which row a voxel has. A dense grid's links are not
stored: with `dense` the row is the voxel's number. Kernels take a range of points, or, where they scatter, a range of
the voxels' layers along z: each row is then written by one thread, in the order of the points, so sums do not depend on
the number of threads.
"""

from __future__ import annotations

from numba import njit

from neurcomp_core.radiance.rendering.ray_kernels import MATH, cell, corners, empty_corner_arrays


@njit(cache=True, nogil=True)
def _row(links, dense, shape, k, j, i):
    return (k * shape[1] + j) * shape[2] + i if dense else links[k, j, i]


@njit(cache=True, nogil=True)
def _dense_corners(x, y, z, shape, rows, weights):
    """`corners` of a grid whose rows are the voxels' numbers."""
    i0, i1, u = cell(x, shape[2])
    j0, j1, v = cell(y, shape[1])
    k0, k1, w = cell(z, shape[0])
    for q in range(8):
        up_x, up_y, up_z = q & 1, q & 2, q & 4
        rows[q] = ((k1 if up_z else k0) * shape[1] + (j1 if up_y else j0)) * shape[2] + (i1 if up_x else i0)
        weights[q] = (u if up_x else 1.0 - u) * (v if up_y else 1.0 - v) * (w if up_z else 1.0 - w)
    return True


@njit(cache=True, nogil=True)
def _inside(point, box):
    inside = True
    for i in range(3):
        inside = inside and box[0, i] <= point[i] <= box[1, i]
    return inside


@njit(cache=True, nogil=True, fastmath=MATH)
def sample(first, last, points, links, dense, shape, box, scale, offset, table, out):
    """Interpolate `table` at `points` ``(n, 3)`` into `out` ``(n, channels)``; zero outside the box."""
    rows, weights = empty_corner_arrays()
    channels, kind = table.shape[1], table.dtype.type
    for n in range(first, last):
        used = False
        if _inside(points[n], box):
            x, y, z = (
                points[n, 0] * scale[0] + offset[0],
                points[n, 1] * scale[1] + offset[1],
                points[n, 2] * scale[2] + offset[2],
            )
            if dense:
                used = _dense_corners(x, y, z, shape, rows, weights)
            else:
                used = corners(x, y, z, links, rows, weights)
        if not used:
            for m in range(channels):
                out[n, m] = 0
            continue
        r0, r1, r2, r3, r4, r5, r6, r7 = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5], rows[6], rows[7]
        a, b, c, d = kind(weights[0]), kind(weights[1]), kind(weights[2]), kind(weights[3])
        e, f, g, h = kind(weights[4]), kind(weights[5]), kind(weights[6]), kind(weights[7])
        for m in range(channels):
            out[n, m] = (
                a * table[r0, m] + b * table[r1, m] + c * table[r2, m] + d * table[r3, m]
                + e * table[r4, m] + f * table[r5, m] + g * table[r6, m] + h * table[r7, m]
            )  # fmt: skip


@njit(cache=True, nogil=True)
def layers(points, shape, box, scale, offset, counts):
    """How many points have their lower corner in each layer along z; those outside the box are left out."""
    for n in range(points.shape[0]):
        if _inside(points[n], box):
            counts[cell(points[n, 2] * scale[2] + offset[2], shape[0])[0]] += 1


@njit(cache=True, nogil=True, fastmath=MATH)
def scatter(bottom, top, points, links, dense, shape, box, scale, offset, upstream, gradient):
    """Add `upstream` ``(n, channels)`` to the rows of `gradient` whose voxels lie in layers `bottom` to `top` - 1."""
    channels = upstream.shape[1]
    for n in range(points.shape[0]):
        k0, k1, w = cell(points[n, 2] * scale[2] + offset[2], shape[0])
        if k1 < bottom or k0 >= top or not _inside(points[n], box):
            continue
        i0, i1, u = cell(points[n, 0] * scale[0] + offset[0], shape[2])
        j0, j1, v = cell(points[n, 1] * scale[1] + offset[1], shape[1])
        for q in range(8):
            x, y, z = q & 1, q & 2, q & 4
            k = k1 if z else k0
            if k < bottom or k >= top:
                continue
            row = _row(links, dense, shape, k, j1 if y else j0, i1 if x else i0)
            if row >= 0:
                share = (u if x else 1.0 - u) * (v if y else 1.0 - v) * (w if z else 1.0 - w)
                weight = upstream.dtype.type(share)
                for c in range(channels):
                    gradient[row, c] += weight * upstream[n, c]


@njit(cache=True, nogil=True, fastmath=MATH)
def shade(first, last, sh, basis, index, out):
    """Colours ``(n, 3)`` = max(0, 0.5 + sum_k sh[n, :, k] basis[index[n], k])."""
    for n in range(first, last):
        r = index[n]
        for i in range(3):
            total = 0.5
            for k in range(sh.shape[2]):
                total += sh[n, i, k] * basis[r, k]
            out[n, i] = max(total, 0.0)


@njit(cache=True, nogil=True, fastmath=MATH)
def shade_backward(first, last, colors, basis, index, upstream, gradient):
    """Gradient of `shade` with respect to `sh`; `colors` is what it gave."""
    for n in range(first, last):
        r = index[n]
        for i in range(3):
            g = upstream[n, i] if colors[n, i] > 0 else upstream.dtype.type(0)
            for k in range(gradient.shape[2]):
                gradient[n, i, k] = g * basis[r, k]
