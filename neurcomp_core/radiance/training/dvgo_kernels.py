"""Kernels that train a DVGO model: losses along rays with their gradients, scattering, Adam where gradients are, TV.

Sun, Sun & Chen (CVPR 2022), section 4 and its supplement; arXiv 2206.05085, section 3.
With weights w_i = T_i a_i, what the loss sees of a sample, q_i = dL/dC . c_i + dL/dO, and the ray's sum Q of w_i q_i,

    dL/d(density)_i = slope_i (T_(i+1) q_i - (Q - sum_(j <= i) w_j q_j)).
"""

from __future__ import annotations

import math

from numba import njit

from neurcomp_core.radiance.rendering.dvgo_kernels import split
from neurcomp_core.radiance.rendering.ray_kernels import MATH, leap, span

_SURE = 1e-6


@njit(cache=True, nogil=True, fastmath=MATH)
def losses(
    first, last, rays, starts, weight, slope, lit_starts, lit, rgb, target, background, entropy, point, squared,
    g_density, g_logits
):  # fmt: skip
    """Gradients of the loss of rays `first` to `last` - 1, `rays` of which make the batch.

    The loss is the mean over rays and channels of the squared error, plus `entropy` times the mean entropy of what is
    left of a ray's light, plus `point` times the mean over rays of the sum of weight times squared error of each
    sample's own colour, through which no gradient goes to weights.

    Per ray `squared` gets its squared error, averaged over channels. `g_density` ``(n,)`` is the gradient with respect
    to the interpolated density of all samples, `g_logits` ``(m, 3)`` that to colours before the sigmoid of the lit
    ones, whose numbers are `lit`.
    """
    for r in range(first, last):
        red, green, blue, through = 0.0, 0.0, 0.0, 1.0
        for n in range(starts[r], starts[r + 1]):
            through -= weight[n]
        for m in range(lit_starts[r], lit_starts[r + 1]):
            w = weight[lit[m]]
            red += w * rgb[m, 0]
            green += w * rgb[m, 1]
            blue += w * rgb[m, 2]
        error_r = red + through * background[0] - target[r, 0]
        error_g = green + through * background[1] - target[r, 1]
        error_b = blue + through * background[2] - target[r, 2]
        error = (error_r * error_r + error_g * error_g + error_b * error_b) / 3.0
        squared[r] = error
        scale = 2.0 / (3.0 * rays)
        gr, gg, gb = scale * error_r, scale * error_g, scale * error_b
        # Of opacity O = 1 - T, through the background and the entropy of T.
        g_opacity = -(gr * background[0] + gg * background[1] + gb * background[2])
        if _SURE < through < 1.0 - _SURE:
            g_opacity -= entropy / rays * math.log((1.0 - through) / through)
        rest = g_opacity * (1.0 - through) + gr * red + gg * green + gb * blue
        own = 2.0 * point / rays
        left = 1.0
        m = lit_starts[r]
        for n in range(starts[r], starts[r + 1]):
            w = weight[n]
            seen = g_opacity
            if m < lit_starts[r + 1] and lit[m] == n:
                a, b, c = rgb[m, 0], rgb[m, 1], rgb[m, 2]
                seen += gr * a + gg * b + gb * c
                g_logits[m, 0] = w * (gr + own * (a - target[r, 0])) * a * (1.0 - a)
                g_logits[m, 1] = w * (gg + own * (b - target[r, 1])) * b * (1.0 - b)
                g_logits[m, 2] = w * (gb + own * (c - target[r, 2])) * c * (1.0 - c)
                m += 1
            rest -= w * seen
            left -= w
            g_density[n] = slope[n] * (left * seen - rest)


@njit(cache=True, nogil=True, fastmath=MATH)
def scatter(bottom, top, at, upstream, gradient, touched):
    """Add trilinear shares of `upstream` ``(n, channels)`` to layers `bottom` to `top` - 1 of `gradient` ``(z, y, x,
    channels)``; `touched` ``(z, y, x)`` gets the samples of the grid that were met.

    A layer is written by one thread in the order of the positions: sums do not depend on the number of threads.
    """
    nz, ny, nx, channels = gradient.shape
    kind = gradient.dtype.type
    for n in range(len(at)):
        k, w = split(at[n, 2], nz)
        if k + 1 < bottom or k >= top:
            continue
        i, u = split(at[n, 0], nx)
        j, v = split(at[n, 1], ny)
        for q in range(4):
            up_y, up_z = q & 1, q >> 1
            if not bottom <= k + up_z < top:
                continue
            share = (v if up_y else 1.0 - v) * (w if up_z else 1.0 - w)
            low, high = kind(share * (1.0 - u)), kind(share * u)
            row, met = gradient[k + up_z, j + up_y], touched[k + up_z, j + up_y]
            met[i], met[i + 1] = True, True
            for c in range(channels):
                row[i, c] += low * upstream[n, c]
                row[i + 1, c] += high * upstream[n, c]


@njit(cache=True, nogil=True, fastmath=MATH)
def adam(first, last, values, gradient, mean, square, touched, pace, rate, decay_mean, decay_square, tiny):
    """Adam on the rows `first` to `last` - 1 of ``(rows, channels)`` that were `touched`; clears gradients and marks.

    `rate` has the corrections for the moments' start in it; `pace` ``(rows,)`` scales it per row unless it is empty,
    and a row of pace 0 stays as it is. Numbers without a gradient keep their moments, too.
    """
    for n in range(first, last):
        if not touched[n]:
            continue
        touched[n] = False
        speed = rate
        if pace.size > 0:
            speed *= pace[n]
        for c in range(values.shape[1]):
            g = gradient[n, c]
            gradient[n, c] = 0
            if g == 0 or speed == 0.0:
                continue
            m = decay_mean * mean[n, c] + (1.0 - decay_mean) * g
            s = decay_square * square[n, c] + (1.0 - decay_square) * g * g
            mean[n, c], square[n, c] = m, s
            values[n, c] -= speed * m / (math.sqrt(s) + tiny)


@njit(cache=True, nogil=True, fastmath=MATH)
def variation(bottom, top, values, touched, weight, gradient):
    """Add to `gradient` `weight` times that of total variation where a grid ``(z, y, x, channels)`` was touched.

    The variation is the sum over pairs of neighbours of the Huber loss of their difference, with its corner at 1.
    """
    nz, ny, nx, channels = values.shape
    for k in range(bottom, top):
        for j in range(ny):
            for i in range(nx):
                if not touched[k, j, i]:
                    continue
                for c in range(channels):
                    here = values[k, j, i, c]
                    total = 0.0
                    if i > 0:
                        total += min(max(here - values[k, j, i - 1, c], -1.0), 1.0)
                    if i < nx - 1:
                        total += min(max(here - values[k, j, i + 1, c], -1.0), 1.0)
                    if j > 0:
                        total += min(max(here - values[k, j - 1, i, c], -1.0), 1.0)
                    if j < ny - 1:
                        total += min(max(here - values[k, j + 1, i, c], -1.0), 1.0)
                    if k > 0:
                        total += min(max(here - values[k - 1, j, i, c], -1.0), 1.0)
                    if k < nz - 1:
                        total += min(max(here - values[k + 1, j, i, c], -1.0), 1.0)
                    gradient[k, j, i, c] += weight * total


@njit(cache=True, nogil=True)
def visits(first, last, origins, directions, near, far, step, shape, box, scale, offset, view, latest):
    """Set `latest` ``(z, y, x)`` to `view` at all corners of cells that rays `first` to `last` - 1 pass."""
    for r in range(first, last):
        o, d = origins[r], directions[r]
        begin, end = span(o, d, near[r], far[r], box)
        if end <= begin:
            continue
        speed = 0.0
        for i in range(3):
            speed += (d[i] * scale[i]) ** 2
        dt = step / math.sqrt(speed)
        for n in range(math.ceil((end - begin) / dt)):
            t = min(begin + (n + 0.5) * dt, end)
            i, _ = split((o[0] + t * d[0]) * scale[0] + offset[0], shape[2])
            j, _ = split((o[1] + t * d[1]) * scale[1] + offset[1], shape[1])
            k, _ = split((o[2] + t * d[2]) * scale[2] + offset[2], shape[0])
            for q in range(8):
                latest[k + (q >> 2), j + ((q >> 1) & 1), i + (q & 1)] = view


@njit(cache=True, nogil=True)
def meets(first, last, origins, directions, near, far, step, box, mask, scale, offset, distance, block, hit):
    """Whether rays `first` to `last` - 1 pass a point whose nearest sample of `mask` is True: `hit` ``(n,)``."""
    nz, ny, nx = mask.shape
    for r in range(first, last):
        o, d = origins[r], directions[r]
        begin, end = span(o, d, near[r], far[r], box)
        hit[r] = False
        if end <= begin:
            continue
        gx, gy, gz = d[0] * scale[0], d[1] * scale[1], d[2] * scale[2]
        ax, ay, az = o[0] * scale[0] + offset[0], o[1] * scale[1] + offset[1], o[2] * scale[2] + offset[2]
        dt = step / math.sqrt(gx * gx + gy * gy + gz * gz)
        n, count = 0, math.ceil((end - begin) / dt)
        while n < count:
            t = min(begin + (n + 0.5) * dt, end)
            x, y, z = ax + t * gx, ay + t * gy, az + t * gz
            skip = leap(x, y, z, gx, gy, gz, dt, mask.shape, distance, block)
            if skip > 0:
                n += skip
                continue
            i, j, k = int(max(x + 0.5, 0.0)), int(max(y + 0.5, 0.0)), int(max(z + 0.5, 0.0))
            if mask[min(k, nz - 1), min(j, ny - 1), min(i, nx - 1)]:
                hit[r] = True
                break
            n += 1
