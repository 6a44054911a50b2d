"""Kernels of hierarchical sampling and of sparse networks; rows of rays or blocks of points, one thread each."""

from __future__ import annotations

import numpy as np
from numba import njit

from neurcomp_core.radiance.rendering.ray_kernels import MATH

#: Points that a sparse network is evaluated at together: their activations stay in the second cache.
BLOCK = 64


@njit(cache=True, nogil=True)
def refine(first, last, edges, weights, fractions, floor, times):
    """Times ``(rays, count)``, ascending, drawn from the piecewise constant density of `weights` over `edges`.

    weights ``(rays, bins)``, edges ``(rays, bins + 1)``, fractions ``(rays, count)`` from 0 to 1: place within each of
    `count` strata of equal probability. `floor` is added to every weight.
    """
    bins, count = weights.shape[1], times.shape[1]
    for r in range(first, last):
        total = bins * floor
        for b in range(bins):
            total += weights[r, b]
        b, below, here = 0, 0.0, weights[r, 0] + floor
        for k in range(count):
            aim = (k + fractions[r, k]) / count * total
            while b < bins - 1 and below + here <= aim:
                below += here
                b += 1
                here = weights[r, b] + floor
            share = min(max((aim - below) / here, 0.0), 1.0)
            times[r, k] = edges[r, b] + share * (edges[r, b + 1] - edges[r, b])


@njit(cache=True, nogil=True)
def keep(
    first, last, origins, directions, edges, times, whole, scale, offset, shape, distance, block, starts, out, sizes,
    slots,
):  # fmt: skip
    """Count or list the samples that are not in free space.

    Samples of ray r lie at ``times[r]`` and stand for the lengths between ``edges[r]``; those without a length are
    left out. Without room in `out` only ``starts[r + 1]`` is set to the ray's count; with it, samples go to
    ``starts[r]`` on: their t, length, and flat number in `times`. ``whole[r]``: nothing counts as free.
    """
    listing = len(out) > 0
    count = times.shape[1]
    for r in range(first, last):
        n = starts[r] if listing else 0
        d = directions[r]
        length = np.sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2])
        for k in range(count):
            size = edges[r, k + 1] - edges[r, k]
            if size <= 0:
                continue
            t = times[r, k]
            if not whole[r]:
                x = (origins[r, 0] + t * d[0]) * scale[0] + offset[0]
                y = (origins[r, 1] + t * d[1]) * scale[1] + offset[1]
                z = (origins[r, 2] + t * d[2]) * scale[2] + offset[2]
                i = int(min(max(x, 0.0), shape[2] - 1.0)) // block
                j = int(min(max(y, 0.0), shape[1] - 1.0)) // block
                h = int(min(max(z, 0.0), shape[0] - 1.0)) // block
                if distance[h, j, i] > 0:
                    continue
            if listing:
                out[n], sizes[n], slots[n] = t, size * length, r * count + k
            n += 1
        if not listing:
            starts[r + 1] = n


@njit(cache=True, nogil=True, fastmath=MATH)
def sparse_layer(first, last, x, starts, columns, values, bias, relu, out):
    """Blocks `first` to `last` - 1 of ``out = act(weight x + bias)``, the weight in compressed sparse rows.

    x ``(blocks, inputs, BLOCK)``, out ``(blocks, outputs, BLOCK)``, starts ``(outputs + 1,)``, columns and values of
    the weights that are not zero.
    """
    total = np.empty(BLOCK, np.float32)
    for b in range(first, last):
        for o in range(len(bias)):
            for p in range(BLOCK):
                total[p] = bias[o]
            for n in range(starts[o], starts[o + 1]):
                w, c = values[n], columns[n]
                for p in range(BLOCK):
                    total[p] += w * x[b, c, p]
            for p in range(BLOCK):
                out[b, o, p] = max(total[p], np.float32(0)) if relu else total[p]
