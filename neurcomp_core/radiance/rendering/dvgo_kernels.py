"""Kernels of a DVGO model: what rays meet of its density, features of the few samples that count, colour along rays.

Sun, Sun & Chen, Direct Voxel Grid Optimization (CVPR 2022), sections 3 and 4.1 (post-activated density) and 5 (points
of low opacity and low weight are skipped); the same authors' follow-up report, arXiv 2206.05085, section 3.

A sample's opacity is ``1 - exp(-softplus(d + shift) l / unit)``, d being the interpolated density and l the length of
ray it stands for. Samples keep their position in voxels, from which the corners are found again; what is summed along a
ray is float64 whatever the grids' type.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from neurcomp_core.radiance.rendering.ray_kernels import MATH, leap, span

_FIRST_ROOM = 4096


@njit(cache=True, nogil=True, inline="always")
def split(position, count):
    """Lower sample and share of the upper one along an axis of at least two samples."""
    position = min(max(position, 0.0), count - 1.0)
    low = min(int(position), count - 2)
    return low, position - low


@njit(cache=True, nogil=True, inline="always")
def _known_free(x, y, z, mask):
    """Whether the nearest sample of the mask is False; positions in its voxels, within its box."""
    i = min(max(int(x + 0.5), 0), mask.shape[2] - 1)
    j = min(max(int(y + 0.5), 0), mask.shape[1] - 1)
    k = min(max(int(z + 0.5), 0), mask.shape[0] - 1)
    return not mask[k, j, i]


@njit(cache=True, nogil=True, inline="always")
def _mean(density, links, rest, i, j, k, u, v, w):
    """Trilinear value of a grid ``(z, y, x)``; unless `links` is empty, of the rows ``density[0, 0]`` that it leads to,
    `rest` where it leads to none.
    """
    if links.size > 0:
        total = 0.0
        for q in range(8):
            up_x, up_y, up_z = q & 1, (q >> 1) & 1, q >> 2
            row = links[k + up_z, j + up_y, i + up_x]
            share = (u if up_x else 1.0 - u) * (v if up_y else 1.0 - v) * (w if up_z else 1.0 - w)
            total += share * (density[0, 0, row] if row >= 0 else rest)
        return total
    c00 = density[k, j, i] * (1.0 - u) + density[k, j, i + 1] * u
    c01 = density[k, j + 1, i] * (1.0 - u) + density[k, j + 1, i + 1] * u
    c10 = density[k + 1, j, i] * (1.0 - u) + density[k + 1, j, i + 1] * u
    c11 = density[k + 1, j + 1, i] * (1.0 - u) + density[k + 1, j + 1, i + 1] * u
    return (c00 * (1.0 - v) + c01 * v) * (1.0 - w) + (c10 * (1.0 - v) + c11 * v) * w


@njit(cache=True, nogil=True)
def _grown(array, room):
    out = np.empty((room, *array.shape[1:]), array.dtype)
    out[: len(array)] = array
    return out


@njit(cache=True, nogil=True, fastmath=MATH)
def march(
    first, last, origins, directions, near, far, fractions, step, stop, threshold, shift, unit, density, links,
    rest, shape, box, scale, offset, mask, mask_scale, mask_offset, distance, block, counts, opacity, depth
):  # fmt: skip
    """Samples of rays `first` to `last` - 1 with an opacity above `threshold`; the others are as if they were free.

    `scale` and `offset` lead to voxels of the density grid, `mask_scale` and `mask_offset` to those of `mask`, whose
    free space `distance` knows in cells of `block`; an empty mask leaves nothing out. Per ray `counts` of samples,
    `opacity` and `depth` (sum of weight times t). Densities are those of a grid of `shape`, see `_mean`.

    Returns
    -------
    at : ndarray ``(n, 3)``
        Position in voxels x, y, z.
    slope : ndarray ``(n,)``
        Derivative of optical thickness with respect to the interpolated density.
    weight : ndarray ``(n,)``
        Rendering weight.
    """
    room, found = _FIRST_ROOM, 0
    at = np.empty((room, 3), density.dtype)
    slope, weight = np.empty(room, density.dtype), np.empty(room, density.dtype)
    masked = mask.size > 0
    nz, ny, nx = shape
    faintest = -math.log1p(-threshold)
    for r in range(first, last):
        o, d = origins[r], directions[r]
        begin, end = span(o, d, near[r], far[r], box)
        before, through, far_sum = found, 1.0, 0.0
        if end > begin:
            gx, gy, gz = d[0] * scale[0], d[1] * scale[1], d[2] * scale[2]
            ax, ay, az = o[0] * scale[0] + offset[0], o[1] * scale[1] + offset[1], o[2] * scale[2] + offset[2]
            mx, my, mz = d[0] * mask_scale[0], d[1] * mask_scale[1], d[2] * mask_scale[2]
            bx, by = o[0] * mask_scale[0] + mask_offset[0], o[1] * mask_scale[1] + mask_offset[1]
            bz = o[2] * mask_scale[2] + mask_offset[2]
            dt = step / math.sqrt(gx * gx + gy * gy + gz * gz)
            length = math.sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]) / unit
            # Below this density a whole step is fainter than the threshold: most samples end here.
            lowest = -math.inf
            if faintest > 0.0:
                thin = faintest / (dt * length)
                lowest = (math.log(math.expm1(thin)) if thin < 30.0 else thin) - shift
            count = math.ceil((end - begin) / dt)
            n = 0
            while n < count and through >= stop:
                start = begin + n * dt
                size = min(dt, end - start)
                t = start + fractions[r] * size
                if masked:
                    px, py, pz = bx + t * mx, by + t * my, bz + t * mz
                    skip = leap(px, py, pz, mx, my, mz, dt, mask.shape, distance, block)
                    if skip > 0:
                        n += skip
                        continue
                    if _known_free(px, py, pz, mask):
                        n += 1
                        continue
                n += 1
                x, y, z = ax + t * gx, ay + t * gy, az + t * gz
                i, u = split(x, nx)
                j, v = split(y, ny)
                k, w = split(z, nz)
                raw = _mean(density, links, rest, i, j, k, u, v, w)
                if raw <= lowest:
                    continue
                raw += shift
                if raw < 30.0:
                    rise = math.exp(raw)
                    thick, rate = math.log1p(rise), rise / (1.0 + rise)
                else:
                    thick, rate = raw, 1.0
                alpha = -math.expm1(-thick * size * length)
                if alpha <= threshold:
                    continue
                if found == room:
                    room *= 2
                    at, slope, weight = _grown(at, room), _grown(slope, room), _grown(weight, room)
                at[found, 0], at[found, 1], at[found, 2] = x, y, z
                slope[found] = rate * size * length
                weight[found] = through * alpha
                far_sum += through * alpha * t
                through -= through * alpha
                found += 1
        counts[r] = found - before
        opacity[r], depth[r] = 1.0 - through, far_sum
    return at[:found], slope[:found], weight[:found]


@njit(cache=True, nogil=True, fastmath=MATH)
def gather(first, last, at, features, out):
    """Trilinear features ``(n, channels)`` of a grid ``(z, y, x, channels)`` at positions in voxels ``(n, 3)``."""
    nz, ny, nx, channels = features.shape
    kind = features.dtype.type
    for n in range(first, last):
        i, u = split(at[n, 0], nx)
        j, v = split(at[n, 1], ny)
        k, w = split(at[n, 2], nz)
        a, b, c, d = kind((1.0 - v) * (1.0 - w)), kind(v * (1.0 - w)), kind((1.0 - v) * w), kind(v * w)
        low, high = kind(1.0 - u), kind(u)
        f00, f01, f10, f11 = features[k, j], features[k, j + 1], features[k + 1, j], features[k + 1, j + 1]
        for m in range(channels):
            out[n, m] = low * (a * f00[i, m] + b * f01[i, m] + c * f10[i, m] + d * f11[i, m]) + high * (
                a * f00[i + 1, m] + b * f01[i + 1, m] + c * f10[i + 1, m] + d * f11[i + 1, m]
            )


@njit(cache=True, nogil=True, fastmath=MATH)
def gather_rows(first, last, at, links, slots, table, out):
    """`gather` of the rows ``table[slots[links]]``; zeros where `links` ``(z, y, x)`` leads nowhere."""
    nz, ny, nx = links.shape
    kind = table.dtype.type
    for n in range(first, last):
        i, u = split(at[n, 0], nx)
        j, v = split(at[n, 1], ny)
        k, w = split(at[n, 2], nz)
        out[n] = 0
        for q in range(8):
            up_x, up_y, up_z = q & 1, (q >> 1) & 1, q >> 2
            row = links[k + up_z, j + up_y, i + up_x]
            if row >= 0:
                share = kind((u if up_x else 1.0 - u) * (v if up_y else 1.0 - v) * (w if up_z else 1.0 - w))
                values = table[slots[row]]
                for m in range(values.size):
                    out[n, m] += share * values[m]


@njit(cache=True, nogil=True)
def encodings(first, last, lit_rays, encoding, out):
    """Copy each sample's ray's encoded direction ``(rays, width)`` to `out` ``(n, width)``."""
    for n in range(first, last):
        row = encoding[lit_rays[n]]
        for m in range(row.size):
            out[n, m] = row[m]


@njit(cache=True, nogil=True, fastmath=MATH)
def mix(first, last, starts, weight, rgb, color):
    """Colour ``(rays, 3)`` = sum of weight times rgb over samples ``starts[ray]`` to ``starts[ray + 1] - 1``."""
    for r in range(first, last):
        red, green, blue = 0.0, 0.0, 0.0
        for n in range(starts[r], starts[r + 1]):
            red += weight[n] * rgb[n, 0]
            green += weight[n] * rgb[n, 1]
            blue += weight[n] * rgb[n, 2]
        color[r, 0], color[r, 1], color[r, 2] = red, green, blue


@njit(cache=True, nogil=True, fastmath=MATH)
def normals(first, last, starts, at, weight, density, links, rest, shape, scale, normal):
    """Sum ``(rays, 3)`` of weight times unit vector against the interpolated density's gradient."""
    nz, ny, nx = shape
    for r in range(first, last):
        total_x, total_y, total_z = 0.0, 0.0, 0.0
        for n in range(starts[r], starts[r + 1]):
            i, u = split(at[n, 0], nx)
            j, v = split(at[n, 1], ny)
            k, w = split(at[n, 2], nz)
            x = _mean(density, links, rest, i, j, k, 1.0, v, w) - _mean(density, links, rest, i, j, k, 0.0, v, w)
            y = _mean(density, links, rest, i, j, k, u, 1.0, w) - _mean(density, links, rest, i, j, k, u, 0.0, w)
            z = _mean(density, links, rest, i, j, k, u, v, 1.0) - _mean(density, links, rest, i, j, k, u, v, 0.0)
            x, y, z = x * scale[0], y * scale[1], z * scale[2]
            length = math.sqrt(x * x + y * y + z * z)
            if length > 0.0:
                total_x -= weight[n] * x / length
                total_y -= weight[n] * y / length
                total_z -= weight[n] * z / length
        normal[r, 0], normal[r, 1], normal[r, 2] = total_x, total_y, total_z


@njit(cache=True, nogil=True, fastmath=MATH)
def importance(bottom, top, at, weight, most, total):
    """Weights brought to the voxels of layers `bottom` to `top` - 1: see `dvgo_importance.importance`."""
    nz, ny, nx = total.shape
    for n in range(len(at)):
        k, w = split(at[n, 2], nz)
        if k + 1 < bottom or k >= top:
            continue
        i, u = split(at[n, 0], nx)
        j, v = split(at[n, 1], ny)
        for q in range(8):
            up_x, up_y, up_z = q & 1, (q >> 1) & 1, q >> 2
            if bottom <= k + up_z < top:
                share = (u if up_x else 1.0 - u) * (v if up_y else 1.0 - v) * (w if up_z else 1.0 - w)
                if share > 0.0:
                    total[k + up_z, j + up_y, i + up_x] += weight[n] * share
                    if weight[n] > most[k + up_z, j + up_y, i + up_x]:
                        most[k + up_z, j + up_y, i + up_x] = weight[n]
