"""Fused kernels of a sparse grid with spherical harmonics: sample, shade and composite along rays, forwards, backwards.

Fridovich-Keil, Yu et al., Plenoxels (CVPR 2022), section 3.1, eqs. 1-2; the quadrature is Max, IEEE TVCG 1995, eq. 8.
Nothing is kept per sample: the backward kernel walks each ray again. With weights w_i = T_i (1 - exp(-s_i l_i)), what
the loss sees of a sample, q_i = dL/dC . c_i + dL/dO + dL/dD t_i, and the ray's sum Q of w_i q_i, which its outputs
give,

    dL/ds_i = l_i (T_(i+1) q_i - (Q - sum_(j <= i) w_j q_j)).

What is summed along a ray is float64 whatever the grid's type.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from neurcomp_core.radiance.rendering.ray_kernels import MATH, cell, corners, empty_corner_arrays, leap, span


@njit(cache=True, nogil=True, fastmath=MATH)
def set_up(o, d, near, far, step, box, scale, offset, line):
    """Fill `line`: t at which the ray enters and leaves, step in t, its length, position and speed in voxels.

    The number of steps.
    """
    begin, end = span(o, d, near, far, box)
    if end <= begin:
        return 0
    speed, length = 0.0, 0.0
    for i in range(3):
        line[4 + i], line[7 + i] = o[i] * scale[i] + offset[i], d[i] * scale[i]
        speed += line[7 + i] * line[7 + i]
        length += d[i] * d[i]
    line[0], line[1], line[2], line[3] = begin, end, step / math.sqrt(speed), math.sqrt(length)
    return math.ceil((end - begin) / line[2])


@njit(cache=True, nogil=True, fastmath=MATH)
def density_at(rows, weights, density):
    total = 0.0
    for q in range(8):
        total += weights[q] * density[rows[q]]
    return total


@njit(cache=True, nogil=True, fastmath=MATH)
def color_at(rows, weights, basis, sh, mixed, rgb):
    """Colour before clipping; `mixed` is room for the interpolated coefficients."""
    r0, r1, r2, r3, r4, r5, r6, r7 = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5], rows[6], rows[7]
    kind = mixed.dtype.type
    a, b, c, d = kind(weights[0]), kind(weights[1]), kind(weights[2]), kind(weights[3])
    e, f, g, h = kind(weights[4]), kind(weights[5]), kind(weights[6]), kind(weights[7])
    # All corners at once: one pass over the coefficients, which the compiler turns into vector instructions.
    for k in range(mixed.size):
        mixed[k] = (
            a * sh[r0, k] + b * sh[r1, k] + c * sh[r2, k] + d * sh[r3, k]
            + e * sh[r4, k] + f * sh[r5, k] + g * sh[r6, k] + h * sh[r7, k]
        )  # fmt: skip
    count = basis.size
    for i in range(3):
        total = 0.5
        for k in range(count):
            total += mixed[i * count + k] * basis[k]
        rgb[i] = total


@njit(cache=True, nogil=True, fastmath=MATH)
def _slope(x, y, z, links, density, scale, out):
    """Gradient of the interpolated density with respect to position in the box's coordinates."""
    i0, i1, u = cell(x, links.shape[2])
    j0, j1, v = cell(y, links.shape[1])
    k0, k1, w = cell(z, links.shape[0])
    out[:] = 0.0
    for q in range(8):
        up_x, up_y, up_z = (q & 1) == 1, (q & 2) == 2, (q & 4) == 4
        row = links[k1 if up_z else k0, j1 if up_y else j0, i1 if up_x else i0]
        if row >= 0:
            value = density[row]
            a, b, c = u if up_x else 1.0 - u, v if up_y else 1.0 - v, w if up_z else 1.0 - w
            out[0] += (value if up_x else -value) * b * c
            out[1] += (value if up_y else -value) * a * c
            out[2] += (value if up_z else -value) * a * b
    for i in range(3):
        out[i] *= scale[i]


@njit(cache=True, nogil=True, fastmath=MATH)
def forward(
    first, last, origins, directions, basis, near, far, fractions, step, stop, links, box, scale, offset, distance,
    block, density, sh, slots, color, opacity, depth, penalty, normal, stops
):  # fmt: skip
    """Integrals along rays `first` to `last` - 1.

    A row of densities has the coefficients in its own row of `sh`, or, unless `slots` is empty, in row ``slots[row]``.

    Colour (premultiplied) ``(n, 3)``, opacity, depth (sum of weight times t), and, where these are not empty, penalty
    (sum of log(1 + 2 s^2), Plenoxels, section 3.6) and normal ``(n, 3)`` (sum of weight times unit vector against the
    density's gradient); `stops` gets the step at which a ray's transmittance fell below `stop`, or its number of steps.
    """
    rows, weights = empty_corner_arrays()
    line, rgb, slope = np.empty(10), np.empty(3), np.empty(3)
    mixed = np.empty(sh.shape[1], sh.dtype)
    shape = links.shape
    for r in range(first, last):
        count = set_up(origins[r], directions[r], near[r], far[r], step, box, scale, offset, line)
        begin, end, dt, length = line[0], line[1], line[2], line[3]
        gx, gy, gz = line[7], line[8], line[9]
        through, far_sum, thin = 1.0, 0.0, 0.0
        red, green, blue, nx, ny, nz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        n = 0
        while n < count and through >= stop:
            start = begin + n * dt
            size = min(dt, end - start)
            t = start + fractions[r] * size
            x, y, z = line[4] + t * gx, line[5] + t * gy, line[6] + t * gz
            skip = leap(x, y, z, gx, gy, gz, dt, shape, distance, block)
            if skip > 0:
                n += skip
                continue
            n += 1
            if not corners(x, y, z, links, rows, weights):
                continue
            sigma = density_at(rows, weights, density)
            if sigma <= 0.0:
                continue
            weight = -through * math.expm1(-sigma * size * length)
            if slots.size > 0:
                for q in range(8):
                    rows[q] = slots[rows[q]]
            color_at(rows, weights, basis[r], sh, mixed, rgb)
            red += weight * max(rgb[0], 0.0)
            green += weight * max(rgb[1], 0.0)
            blue += weight * max(rgb[2], 0.0)
            far_sum += weight * t
            through -= weight
            if penalty.size > 0:
                thin += math.log1p(2.0 * sigma * sigma)
            if normal.size > 0:
                _slope(x, y, z, links, density, scale, slope)
                norm = math.sqrt(slope[0] ** 2 + slope[1] ** 2 + slope[2] ** 2)
                if norm > 0.0:
                    nx -= weight * slope[0] / norm
                    ny -= weight * slope[1] / norm
                    nz -= weight * slope[2] / norm
        color[r, 0], color[r, 1], color[r, 2] = red, green, blue
        opacity[r], depth[r], stops[r] = 1.0 - through, far_sum, n
        if penalty.size > 0:
            penalty[r] = thin
        if normal.size > 0:
            normal[r, 0], normal[r, 1], normal[r, 2] = nx, ny, nz


@njit(cache=True, nogil=True, fastmath=MATH)
def backward(
    first, last, origins, directions, basis, near, far, fractions, step, links, box, scale, offset, distance, block,
    density, sh, color, opacity, depth, stops, g_color, g_opacity, g_depth, g_penalty, g_density, g_sh, touched
):  # fmt: skip
    """Gradients of `forward` are added to `g_density` ``(rows,)`` and `g_sh` ``(rows, 3 functions)``; `touched`
    ``(rows,)`` bool gets the rows that a sample with density met.
    """
    rows, weights = empty_corner_arrays()
    line, rgb, upstream = np.empty(10), np.empty(3), np.empty(3)
    mixed = np.empty(sh.shape[1], sh.dtype)
    count_basis = basis.shape[1]
    shape = links.shape
    for r in range(first, last):
        set_up(origins[r], directions[r], near[r], far[r], step, box, scale, offset, line)
        begin, end, dt, length = line[0], line[1], line[2], line[3]
        gx, gy, gz = line[7], line[8], line[9]
        rest = g_opacity[r] * opacity[r] + g_depth[r] * depth[r]
        for i in range(3):
            rest += g_color[r, i] * color[r, i]
        through = 1.0
        n = 0
        while n < stops[r]:
            start = begin + n * dt
            size = min(dt, end - start)
            t = start + fractions[r] * size
            x, y, z = line[4] + t * gx, line[5] + t * gy, line[6] + t * gz
            skip = leap(x, y, z, gx, gy, gz, dt, shape, distance, block)
            if skip > 0:
                n += skip
                continue
            n += 1
            if not corners(x, y, z, links, rows, weights):
                continue
            sigma = density_at(rows, weights, density)
            if sigma <= 0.0:
                continue
            weight = -through * math.expm1(-sigma * size * length)
            color_at(rows, weights, basis[r], sh, mixed, rgb)
            seen = g_opacity[r] + g_depth[r] * t
            for i in range(3):
                lit = rgb[i] > 0.0
                seen += g_color[r, i] * rgb[i] if lit else 0.0
                upstream[i] = weight * g_color[r, i] if lit else 0.0
            rest -= weight * seen
            through -= weight
            slope = size * length * (through * seen - rest)
            slope += g_penalty[r] * 4.0 * sigma / (1.0 + 2.0 * sigma * sigma)
            for i in range(3):
                for k in range(count_basis):
                    mixed[i * count_basis + k] = upstream[i] * basis[r, k]
            for q in range(8):
                if weights[q] != 0.0:
                    row, share = rows[q], mixed.dtype.type(weights[q])
                    touched[row] = True
                    g_density[row] += share * slope
                    for k in range(mixed.size):
                        g_sh[row, k] += share * mixed[k]


@njit(cache=True, nogil=True, fastmath=MATH)
def importance(
    first, last, origins, directions, near, far, fractions, step, stop, links, box, scale, offset, distance, block,
    density, most, total
):  # fmt: skip
    """Rendering weights brought to the voxels: `most` ``(rows,)`` gets the largest weight of any sample that a voxel
    has a share in, to `total` ``(rows,)`` the sum of weight times share is added.
    """
    rows, weights = empty_corner_arrays()
    line = np.empty(10)
    shape = links.shape
    for r in range(first, last):
        count = set_up(origins[r], directions[r], near[r], far[r], step, box, scale, offset, line)
        begin, end, dt, length = line[0], line[1], line[2], line[3]
        gx, gy, gz = line[7], line[8], line[9]
        through = 1.0
        n = 0
        while n < count and through >= stop:
            start = begin + n * dt
            size = min(dt, end - start)
            t = start + fractions[r] * size
            x, y, z = line[4] + t * gx, line[5] + t * gy, line[6] + t * gz
            skip = leap(x, y, z, gx, gy, gz, dt, shape, distance, block)
            if skip > 0:
                n += skip
                continue
            n += 1
            if not corners(x, y, z, links, rows, weights):
                continue
            sigma = density_at(rows, weights, density)
            if sigma <= 0.0:
                continue
            weight = -through * math.expm1(-sigma * size * length)
            through -= weight
            for q in range(8):
                if weights[q] > 0.0:
                    total[rows[q]] += weight * weights[q]
                    most[rows[q]] = max(most[rows[q]], weight)
