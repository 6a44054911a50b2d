"""Integers that are worth their bits: rate-distortion-optimised rounding along the coder's own way.

Each number, in the order they are coded, becomes the integer of the least error plus price times bits. The error is
what pictures would have of it (`sensitivity`), the bits are those of its miss of the attribute coder's prediction, by
statistics that are kept on the way for each of the coder's levels of uncertainty: prediction, level and statistics all
follow what has been chosen before. Such a choice with a Lagrangian is that of Sullivan & Wiegand, Rate-distortion
optimization for video compression (IEEE Signal Processing Magazine 15(6), 1998).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from neurcomp_core.radiance.coding.attributes import FEATURES, LIMIT, QUARTERS, expected, learnt, predicted
from neurcomp_core.radiance.coding.streams import causal, voxel_rows

# Misses whose bits are counted one by one, how far from a number its integer may be (errors are no longer squares
# then), and misses that the statistics of a level stand for before any is met.
_TOLD, _REACH, _PRIOR = 24, 3, 20.0
_LEVELS = 64
# The largest magnitude that is coded, less room for rounding.
_MOST = LIMIT - 8


def chosen(
    units: np.ndarray, weight: np.ndarray, price: float, keep: np.ndarray, given: np.ndarray | None = None
) -> np.ndarray:
    """Integers ``(rows, channels)`` int32 for numbers.

    Parameters
    ----------
    units : ndarray ``(rows, channels)``
        Numbers in multiples of their step.
    weight : ndarray ``(rows, channels)``
        Error of one step squared.
    price : float
        Error that a bit has to save.
    keep, given : ndarray
        See `attributes.encode_attributes`.
    """
    links, places, strides = voxel_rows(keep)
    offsets, nearness = causal(strides)
    known = 0 if given is None else given.shape[1]
    values = np.zeros((known + units.shape[1], len(units)), np.int32)
    if given is not None:
        values[:known] = given.T
    wanted = np.clip(units.T, -_MOST, _MOST)
    errors = np.ascontiguousarray(np.broadcast_to(weight, units.shape).T, np.float64)
    numbers = np.ascontiguousarray(wanted, np.float64)
    _choose(numbers, errors, float(price), values, known, links, places, offsets, nearness, _statistics(), QUARTERS)
    return np.ascontiguousarray(values[known:].T)


def _statistics() -> np.ndarray:
    """Counts ``(levels, misses)`` of Laplace's distribution for each level's mean distance, a quarter at least."""
    spread = np.maximum((2.0 ** (np.arange(_LEVELS) / 4 + 2) - 4) / 16, 0.03)[:, None]
    edges = np.exp(-(np.arange(_TOLD + 1) - 0.5) / spread)
    edges[:, 0] = 1
    return _PRIOR * (edges[:, :-1] - edges[:, 1:]) + 0.02


@njit(cache=True, nogil=True)
def _choose(wanted, errors, price, values, known, links, places, offsets, nearness, counts, quarters):
    channels, rows = values.shape
    missed, apart = np.zeros((channels, rows), np.int32), np.zeros((channels, rows), np.int32)
    activity, totals = np.full(rows, 1024, np.int32), counts.sum(1)
    x, w, power = np.zeros(FEATURES, np.int64), np.zeros(FEATURES, np.int64), np.zeros(FEATURES, np.int64)
    for c in range(channels):
        w[:] = 0
        w[0] = 65536
        power[:] = 256
        mean, off = 0, 4096
        for row in range(rows):
            guess, middle, misses, weight, _ = predicted(
                values, missed, apart, c, row, places[row], links, offsets, nearness, mean, w, x
            )
            _, _, both, scale = expected(misses, weight, activity[row], off)
            value = np.int64(values[c, row])
            if c >= known:
                level = min(np.int64(quarters[both]), _LEVELS - 1)
                center, goal = (guess + 8) >> 4, wanted[c - known, row]
                near = np.int64(np.floor(goal + 0.5))
                first, last = max(min(near, center), near - _REACH), min(max(near, center), near + _REACH)
                least = np.inf
                for candidate in range(first, last + 1):
                    miss = abs(candidate - center)
                    told = min(miss, _TOLD - 1)
                    bits = np.log2(totals[level] / counts[level, told]) + (1 if miss > 0 else 0)
                    if told < miss:
                        bits += 2 * np.log2(miss - told + 1.0)
                    cost = errors[c - known, row] * (candidate - goal) ** 2 + price * bits
                    if cost < least:
                        least, value = cost, candidate
                counts[level, min(abs(value - center), _TOLD - 1)] += 1
                totals[level] += 1
                values[c, row] = value
            mean, off = learnt(value, guess, middle, scale, c, row, mean, off, missed, apart, activity, x, w, power)
