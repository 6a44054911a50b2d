"""The gradient of total variation; see `regularisers`."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from neurcomp_core.radiance.rendering.ray_kernels import MATH

_FLAT = 1e-9


@njit(cache=True, nogil=True, fastmath=MATH)
def add_gradient(first, last, ahead, scales, values, edges, weight, gradient, touched):
    """Add `weight` times the gradient of the sum over rows `first` to `last` - 1 and channels to `gradient`."""
    axes, channels = ahead.shape[1], values.shape[1]
    kind = values.dtype.type
    difference = np.empty(axes)
    for row in range(first, last):
        for c in range(channels):
            here = values[row, c]
            square = _FLAT
            for a in range(axes):
                other = ahead[row, a]
                there = values[other, c] if other >= 0 else kind(0)
                counted = other >= 0 or (edges and other == -1)
                difference[a] = scales[a] * (there - here) if counted else 0.0
                square += difference[a] * difference[a]
            slope = weight / math.sqrt(square)
            for a in range(axes):
                change = kind(slope * scales[a] * difference[a])
                gradient[row, c] -= change
                if ahead[row, a] >= 0:
                    gradient[ahead[row, a], c] += change
        touched[row] = True
        for a in range(axes):
            if ahead[row, a] >= 0:
                touched[ahead[row, a]] = True
