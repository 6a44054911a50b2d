"""Sharing bits among the arrays of a network by measured rate and distortion.

Errors of separately quantised arrays add, nearly: the best choice for a price of error then is each array's own best
(Shoham, Gersho: "Efficient bit allocation for an arbitrary set of quantizers", IEEE Trans. ASSP 36(9), 1988).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Choice(NamedTuple):
    """One way to quantise an array: what it takes and what it costs."""

    nbytes: float
    error: float


def allocate(curves: Sequence[Sequence[Choice]], most_error: float) -> list[int]:
    """One choice per array: the fewest bytes whose errors sum up to at most `most_error`, among those of one price.

    Parameters
    ----------
    curves : sequence of sequence of Choice
        What was measured of each array, in any order; errors are mean squares of the output's change.
    most_error : float
        If even the least errors exceed it, they are what is chosen.

    Returns
    -------
    list of int
        Index into each array's curve.

    Examples
    --------
    >>> coarse_or_fine = [Choice(10, 4.0), Choice(20, 1.0)]
    >>> allocate([coarse_or_fine, [Choice(10, 0.4), Choice(20, 0.1)]], 1.5)
    [1, 0]
    """
    low, high = 1e-30, 1e30
    best = [min(range(len(c)), key=lambda i: (c[i].error, c[i].nbytes)) for c in curves]
    for _ in range(200):
        # Bytes that are paid for a unit of error.
        price = float(np.sqrt(low * high))
        chosen = [min(range(len(c)), key=lambda i: c[i].nbytes + price * c[i].error) for c in curves]
        if sum(c[i].error for c, i in zip(curves, chosen, strict=True)) <= most_error:
            best, high = chosen, price
        else:
            low = price
        if high / low < 1 + 1e-6:
            break
    return best
