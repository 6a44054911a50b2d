"""RMSProp on the rows of a table that have a gradient (Tieleman & Hinton 2012; Plenoxels, section 4)."""

from __future__ import annotations

import math

from numba import njit

_TINY = 1e-12


@njit(cache=True, nogil=True)
def rmsprop(first, last, values, square, gradient, touched, rate, decay):
    """Move rows `first` to `last` - 1 of `values` ``(rows, channels)`` and set their `gradient` to zero.

    `square` is the running mean of squared gradients, at first the square of the first one. Values without a gradient
    are left as they are, and so is their mean.
    """
    kind = values.dtype.type
    rest = 1 - decay
    for row in range(first, last):
        if touched[row]:
            for c in range(values.shape[1]):
                g = gradient[row, c]
                if g == 0:
                    continue
                gradient[row, c] = 0
                before = square[row, c]
                now = g * g if before == 0 else kind(decay * before + rest * g * g)
                square[row, c] = now
                values[row, c] -= kind(rate * g / (math.sqrt(now) + _TINY))
