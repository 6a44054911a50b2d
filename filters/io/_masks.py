"""Masks from fill values."""

from __future__ import annotations

import numpy as np


def where_equal(values: np.ndarray, fill_value: float) -> np.ndarray | None:
    """Where `values` hold `fill_value`, rounded to their type; None if nowhere (NaN needs no mask)."""
    if values.dtype.kind in "iu":
        limits = np.iinfo(values.dtype)
        if fill_value != fill_value or fill_value != int(fill_value) or not limits.min <= fill_value <= limits.max:
            return None
        fill_value = int(fill_value)
    with np.errstate(over="ignore"):
        mask = values == values.dtype.type(fill_value)
    return mask if mask.any() else None


def merge(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
    """Union of two masks of shape ``(z, y, x)`` or ``(z, y, x, c)``; None is an empty one."""
    if a is None or b is None:
        return b if a is None else a
    if a.ndim < b.ndim:
        a = a[..., None]
    elif b.ndim < a.ndim:
        b = b[..., None]
    return a | b
