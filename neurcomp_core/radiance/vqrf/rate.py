"""What coefficients would cost to code, as a term of a loss: they are coded as their distance from their neighbours'.

The bits of a number that is distributed as Laplace's around its prediction, with mean distance b, grow by 1 / (b ln 2)
per unit of distance. Training against such an estimate is that of Ballé et al., End-to-end optimized image compression
(ICLR 2017), section 2; the prediction here is the mean of the six neighbours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from neurcomp_core.radiance.vqrf.rows import links_of


@dataclass(frozen=True, eq=False)
class Rate:
    """The estimate for the rows of some voxels.

    Attributes
    ----------
    neighbours : ndarray ``(rows, 6)`` int32
        Row of each neighbour by face, negative where there is none.
    """

    neighbours: np.ndarray

    @classmethod
    def of(cls, voxels: np.ndarray) -> Rate:
        """Of voxels ``(z, y, x)`` bool."""
        links = np.pad(links_of(voxels), 1, constant_values=-1)
        core = (slice(1, -1),) * 3
        found = []
        for axis in range(3):
            for shift in (-1, 1):
                found.append(np.roll(links, shift, axis)[core][voxels])
        return cls(np.ascontiguousarray(np.stack(found, 1)))

    def bits(self, values: np.ndarray, step: float) -> float:
        """Estimated bits of rows ``(rows, channels)`` in multiples of a step."""
        apart = _apart(values.astype(np.float64), self.neighbours)
        spread = self._spread(apart, step)
        return float((np.log2(1 + 2 * spread / step) + np.abs(apart) / (spread * math.log(2))).sum())

    def gradient(self, values: np.ndarray, step: float) -> np.ndarray:
        """Of `bits` with the spread and the predictions held, rounded off within half a step: ``(rows, channels)``."""
        apart = _apart(values.astype(np.float64), self.neighbours)
        return apart / (np.abs(apart) + step / 2) / (self._spread(apart, step) * math.log(2))

    @staticmethod
    def _spread(apart: np.ndarray, step: float) -> np.ndarray:
        """Mean distance per channel, a quarter of a step at least."""
        return np.maximum(np.abs(apart).mean(0), step / 4)


@njit(cache=True, nogil=True)
def _apart(values, neighbours):
    """Rows less the mean of their neighbours, or less zero where there are none."""
    out = values.copy()
    for r in range(len(values)):
        count = 0
        for n in range(6):
            if neighbours[r, n] >= 0:
                count += 1
        for n in range(6):
            if neighbours[r, n] >= 0:
                for c in range(values.shape[1]):
                    out[r, c] -= values[neighbours[r, n], c] / count
    return out
