"""Background spheres along rays, forwards and backwards; see `spheres`.

The quadrature is that of `march_kernels`, in the inverse radius instead of the distance: n steps from 1 to 0, each
looked up at its middle, where its opacity is 1 - exp(-density (what the inverse radius fell by) (world length per
radius of the inner sphere)).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from neurcomp_core.radiance.rendering.ray_kernels import MATH

# Spheres that a ray only grazes are left out, as svox2 does.
_GRAZE = 1e-3


@njit(cache=True, nogil=True)
def _set_up(o, d, center, half, line):
    """Fill `line`: position and unit direction where the inner sphere has radius 1, position along the direction,
    closest squared distance, inverse of the innermost radius, world length per unit.
    """
    square, speed, length, along, far = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(3):
        line[i] = (o[i] - center[i]) / half[i]
        line[3 + i] = d[i] / half[i]
        speed += line[3 + i] * line[3 + i]
        length += d[i] * d[i]
    speed = math.sqrt(speed)
    for i in range(3):
        line[3 + i] /= speed
        along += line[i] * line[3 + i]
        far += line[i] * line[i]
    square = max(far - along * along, 0.0)
    line[6], line[7] = along, square
    line[8] = 1.0 / max(math.sqrt(square) + _GRAZE, 1.0)
    line[9] = math.sqrt(length) / speed


@njit(cache=True, nogil=True)
def _look_up(line, inverse, links, layers, entries, weights):
    """Fill entries (row times `layers` plus layer) and weights of the eight texels of a sample; whether it is ahead."""
    t = -line[6] + math.sqrt(max(1.0 / (inverse * inverse) - line[7], 0.0))
    if t <= 0.0:
        return False
    x, y, z = (
        (line[0] + t * line[3]) * inverse,
        (line[1] + t * line[4]) * inverse,
        (line[2] + t * line[5]) * inverse,
    )
    width, height = links.shape
    u = width * (0.5 + math.atan2(x, z) / (2.0 * math.pi))
    v = height * (0.5 - math.asin(min(max(y, -1.0), 1.0)) / math.pi)
    w = min(max((1.0 - inverse) * layers - 0.5, 0.0), layers - 1.0)
    i0, j0, k0 = min(int(u), width - 1), min(int(v), height - 1), min(int(w), max(layers - 2, 0))
    # Longitudes go round, latitudes end at the pole.
    i1, j1, k1 = (i0 + 1) % width, min(j0 + 1, height - 1), min(k0 + 1, layers - 1)
    u, v, w = u - i0, v - j0, w - k0
    for q in range(4):
        right, down = q & 1, q & 2
        row = links[i1 if right else i0, j1 if down else j0]
        share = (u if right else 1.0 - u) * (v if down else 1.0 - v)
        if row < 0:
            row, share = 0, 0.0
        entries[2 * q], entries[2 * q + 1] = row * layers + k0, row * layers + k1
        weights[2 * q], weights[2 * q + 1] = share * (1.0 - w), share * w
    return True


@njit(cache=True, nogil=True, fastmath=MATH)
def _sum(entries, weights, values):
    total = 0.0
    for q in range(8):
        total += weights[q] * values[entries[q]]
    return total


@njit(cache=True, nogil=True, fastmath=MATH)
def _colors(entries, weights, values, rgb):
    for i in range(3):
        rgb[i] = 0.5
    for q in range(8):
        for i in range(3):
            rgb[i] += weights[q] * values[entries[q], i]


@njit(cache=True, nogil=True, fastmath=MATH)
def forward(
    first, last, origins, directions, center, half, links, layers, steps, stop, density, rgb_values, color, opacity
):  # fmt: skip
    """Colour ``(n, 3)``, premultiplied, and opacity of rays `first` to `last` - 1.

    `density` ``(rows layers,)``, `rgb_values` ``(rows layers, 3)``.
    """
    line, rgb = np.empty(10), np.empty(3)
    entries, weights = np.empty(8, np.int64), np.empty(8)
    for r in range(first, last):
        _set_up(origins[r], directions[r], center, half, line)
        before, through = line[8], 1.0
        red, green, blue = 0.0, 0.0, 0.0
        for n in range(steps):
            inverse = (steps - n - 0.5) / steps
            if inverse > line[8]:
                continue
            ahead = _look_up(line, inverse, links, layers, entries, weights)
            size, before = (before - inverse) * line[9], inverse
            if not ahead:
                continue
            sigma = _sum(entries, weights, density)
            if sigma <= 0.0:
                continue
            weight = -through * math.expm1(-sigma * size)
            _colors(entries, weights, rgb_values, rgb)
            red += weight * max(rgb[0], 0.0)
            green += weight * max(rgb[1], 0.0)
            blue += weight * max(rgb[2], 0.0)
            through -= weight
            if through < stop:
                break
        color[r, 0], color[r, 1], color[r, 2], opacity[r] = red, green, blue, 1.0 - through


@njit(cache=True, nogil=True, fastmath=MATH)
def backward(
    first, last, origins, directions, center, half, links, layers, steps, stop, density, rgb_values, color, opacity,
    g_color, g_opacity, g_density, g_rgb, touched
):  # fmt: skip
    """Gradients of `forward` are added to `g_density` and `g_rgb`; `touched` gets the entries that were met."""
    line, rgb, upstream = np.empty(10), np.empty(3), np.empty(3)
    entries, weights = np.empty(8, np.int64), np.empty(8)
    kind = density.dtype.type
    for r in range(first, last):
        if g_color[r, 0] == 0.0 and g_color[r, 1] == 0.0 and g_color[r, 2] == 0.0 and g_opacity[r] == 0.0:
            continue
        _set_up(origins[r], directions[r], center, half, line)
        before, through = line[8], 1.0
        rest = g_opacity[r] * opacity[r]
        for i in range(3):
            rest += g_color[r, i] * color[r, i]
        for n in range(steps):
            inverse = (steps - n - 0.5) / steps
            if inverse > line[8]:
                continue
            ahead = _look_up(line, inverse, links, layers, entries, weights)
            size, before = (before - inverse) * line[9], inverse
            if not ahead:
                continue
            sigma = _sum(entries, weights, density)
            if sigma <= 0.0:
                continue
            weight = -through * math.expm1(-sigma * size)
            _colors(entries, weights, rgb_values, rgb)
            seen = g_opacity[r]
            for i in range(3):
                lit = rgb[i] > 0.0
                seen += g_color[r, i] * rgb[i] if lit else 0.0
                upstream[i] = weight * g_color[r, i] if lit else 0.0
            rest -= weight * seen
            through -= weight
            slope = size * (through * seen - rest)
            for q in range(8):
                if weights[q] != 0.0:
                    entry = entries[q]
                    touched[entry] = True
                    g_density[entry] += kind(weights[q] * slope)
                    for i in range(3):
                        g_rgb[entry, i] += kind(weights[q] * upstream[i])
            if through < stop:
                break
