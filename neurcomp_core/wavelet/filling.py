"""Values for samples that are not data, as smooth as what surrounds them: what a transform codes with the fewest bits.

Coarse to fine ("push-pull", after Gortler et al., "The Lumigraph", SIGGRAPH 1996, section 3.3): means of the data over
ever larger blocks fill what has none, and each finer level is smoothed where it was filled.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from neurcomp_core.codec import as_dtype

_SMOOTHINGS = 4


def fill(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """`values` with others in place of those that are not `valid`; a copy, in the same type.

    Parameters
    ----------
    values : ndarray ``(z, y, x[, c])``
        At least one valid in each component, or the component is left as it is.
    valid : ndarray of bool
        In the shape of `values`.
    """
    out = values.copy()
    parts = [(...,)] if values.ndim == 3 else [(..., c) for c in range(values.shape[3])]
    for part in parts:
        if valid[part].any() and not valid[part].all():
            filled = _filled(values[part].astype(np.float64), valid[part])
            gaps = ~valid[part]
            out[part][gaps] = as_dtype(filled[gaps], values.dtype)
    return out


def _filled(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    if valid.all():
        return values
    # An eighth of each, as the sum of eight of the largest floats would be none.
    total, count = _pooled(np.where(valid, values / 8, 0)), _pooled(valid / 8)
    coarse = _filled(total / np.maximum(count, 1 / 8), count > 0)
    for axis in range(3):
        coarse = np.repeat(coarse, 2, axis)
    out = np.where(valid, values, coarse[tuple(slice(0, n) for n in values.shape)])
    gaps = ~valid
    for _ in range(_SMOOTHINGS):
        out[gaps] = _neighbours(out)[gaps]
    return out


def _pooled(values: np.ndarray) -> np.ndarray:
    """Sums over blocks of two samples along each axis."""
    padded = np.pad(values, [(0, n % 2) for n in values.shape])
    return sum(padded[a::2, b::2, c::2] for a, b, c in product((0, 1), repeat=3))  # type: ignore[return-value]


def _neighbours(values: np.ndarray) -> np.ndarray:
    """Mean of the two neighbours along each axis; at the edges a sample is its own neighbour."""
    padded = np.pad(values, 1, mode="edge")
    total = np.zeros_like(values)
    for axis in range(3):
        for shift in (0, 2):
            box = [slice(1, -1)] * 3
            box[axis] = slice(shift, shift + values.shape[axis])
            total += padded[tuple(box)] / 6
    return total
