"""The step of a training: a sparse grid's squared error over rays and its gradient, in one walk per ray.

What `march_kernels.forward` and `backward` give, with each sample's corners and colours kept from the walk forwards:
the backward pass looks nothing up again, and the rows of a ray are still in the cache.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from neurcomp_core.radiance.rendering.march_kernels import color_at, density_at, set_up
from neurcomp_core.radiance.rendering.ray_kernels import MATH, corners, empty_corner_arrays, leap


@njit(cache=True, nogil=True, fastmath=MATH)
def squared_error(
    first, last, origins, directions, basis, near, far, fractions, step, stop, links, box, scale, offset, distance,
    block, density, sh, targets, behind, share, thin, room, errors, opacity, g_density, g_sh, touched
):  # fmt: skip
    """Errors ``(n, 3)`` of the colours of rays `first` to `last` - 1 over what is `behind` ``(n, 3)``, and opacities.

    The gradient of `share` times the sum of squared errors, plus `thin` times the sum of log(1 + 2 density^2), is added
    to `g_density` ``(rows,)`` and `g_sh` ``(rows, 3 functions)``; `touched` gets the rows that a sample with density
    met. No ray has more than `room` samples.
    """
    rows, weights = empty_corner_arrays()
    line, rgb, upstream = np.empty(10), np.empty(3), np.empty(3)
    mixed = np.empty(sh.shape[1], sh.dtype)
    functions = basis.shape[1]
    shape = links.shape
    # Of each sample: rows and weights of its corners; density, length, rendering weight; colour before clipping.
    met, shares = np.empty((room, 8), np.int64), np.empty((room, 8), sh.dtype)
    numbers, colors = np.empty((room, 3)), np.empty((room, 3))
    for r in range(first, last):
        count = set_up(origins[r], directions[r], near[r], far[r], step, box, scale, offset, line)
        begin, end, dt, length = line[0], line[1], line[2], line[3]
        gx, gy, gz = line[7], line[8], line[9]
        through, red, green, blue = 1.0, 0.0, 0.0, 0.0
        n, found = 0, 0
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
            color_at(rows, weights, basis[r], sh, mixed, rgb)
            red += weight * max(rgb[0], 0.0)
            green += weight * max(rgb[1], 0.0)
            blue += weight * max(rgb[2], 0.0)
            through -= weight
            for q in range(8):
                met[found, q], shares[found, q] = rows[q], weights[q]
            numbers[found, 0], numbers[found, 1], numbers[found, 2] = sigma, size * length, weight
            colors[found, 0], colors[found, 1], colors[found, 2] = rgb[0], rgb[1], rgb[2]
            found += 1
        opacity[r] = 1.0 - through
        errors[r, 0] = red + through * behind[r, 0] - targets[r, 0]
        errors[r, 1] = green + through * behind[r, 1] - targets[r, 1]
        errors[r, 2] = blue + through * behind[r, 2] - targets[r, 2]
        ga, gb, gc = 2.0 * share * errors[r, 0], 2.0 * share * errors[r, 1], 2.0 * share * errors[r, 2]
        of_opacity = -(ga * behind[r, 0] + gb * behind[r, 1] + gc * behind[r, 2])
        rest = ga * red + gb * green + gc * blue + of_opacity * (1.0 - through)
        through = 1.0
        for s in range(found):
            sigma, long, weight = numbers[s, 0], numbers[s, 1], numbers[s, 2]
            seen = of_opacity + ga * max(colors[s, 0], 0.0) + gb * max(colors[s, 1], 0.0) + gc * max(colors[s, 2], 0.0)
            upstream[0] = weight * ga if colors[s, 0] > 0.0 else 0.0
            upstream[1] = weight * gb if colors[s, 1] > 0.0 else 0.0
            upstream[2] = weight * gc if colors[s, 2] > 0.0 else 0.0
            rest -= weight * seen
            through -= weight
            slope = long * (through * seen - rest) + thin * 4.0 * sigma / (1.0 + 2.0 * sigma * sigma)
            for i in range(3):
                for k in range(functions):
                    mixed[i * functions + k] = upstream[i] * basis[r, k]
            for q in range(8):
                part = shares[s, q]
                if part != 0.0:
                    row = met[s, q]
                    touched[row] = True
                    g_density[row] += part * slope
                    for k in range(mixed.size):
                        g_sh[row, k] += part * mixed[k]
