"""Compositing of packed samples along rays, and its gradient; what is summed along a ray is float64."""

from __future__ import annotations

import math

from numba import njit

from neurcomp_core.radiance.rendering.ray_kernels import MATH


@njit(cache=True, nogil=True, fastmath=MATH)
def forward(first, last, starts, sigma, rgb, times, sizes, stop, color, opacity, depth, weights):
    """Rays `first` to `last` - 1: colour ``(rays, channels)``, opacity, depth, and weights ``(n,)``.

    Samples behind the point where transmittance has fallen below `stop` weigh nothing.
    """
    for r in range(first, last):
        through, far = 1.0, 0.0
        for c in range(rgb.shape[1]):
            color[r, c] = 0
        for n in range(starts[r], starts[r + 1]):
            weight = 0.0
            if through >= stop:
                weight = -through * math.expm1(-sigma[n] * sizes[n])
                through -= weight
                far += weight * times[n]
                for c in range(rgb.shape[1]):
                    color[r, c] += weight * rgb[n, c]
            weights[n] = weight
        opacity[r], depth[r] = 1.0 - through, far


@njit(cache=True, nogil=True, fastmath=MATH)
def backward(
    first, last, starts, rgb, times, sizes, stop, weights, g_color, g_opacity, g_depth, g_weights, g_sigma, g_rgb
):  # fmt: skip
    """Gradients of `forward` with respect to sigma ``(n,)`` and rgb ``(n, channels)``, which are overwritten."""
    channels = rgb.shape[1]
    for r in range(first, last):
        rest = 0.0
        for n in range(starts[r], starts[r + 1]):
            seen = g_opacity[r] + g_depth[r] * times[n] + g_weights[n]
            for c in range(channels):
                seen += g_color[r, c] * rgb[n, c]
                g_rgb[n, c] = weights[n] * g_color[r, c]
            # Kept for the second pass, which turns it into the gradient.
            g_sigma[n] = seen
            rest += weights[n] * seen
        through = 1.0
        for n in range(starts[r], starts[r + 1]):
            if through >= stop:
                seen = g_sigma[n]
                rest -= weights[n] * seen
                through -= weights[n]
                g_sigma[n] = sizes[n] * (through * seen - rest)
            else:
                g_sigma[n] = 0
