"""Linear prediction of coefficients from neighbours that are already coded, fitted by the encoder.

Simulated fields leave strong correlation *with sign* between neighbouring wavelet coefficients of a subband, and with
subbands that differ in one axis, which magnitude contexts cannot use. The weights are fitted by least squares, each
sample weighted by the inverse of its surroundings' magnitude, and stored with the stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numba import njit

from neurcomp_core.wavelet.coder import MU_BITS
from neurcomp_core.wavelet.layout import Band, Layout

#: Samples that a fit looks at, about.
_SAMPLES = 12000
#: Bits that a weight costs, about; a fit that saves less is not stored.
_PRICE = 9


@dataclass(frozen=True)
class Predictor:
    """Weights of a subband in units of ``2**-bits``; empty where prediction does not pay."""

    weights: tuple[int, ...] = ()
    bits: int = 7

    @property
    def factors(self) -> np.ndarray:
        """Weights as the coder takes them."""
        return np.array(self.weights, np.int64) << (MU_BITS - self.bits)


def offsets(steps: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """`near` (3 faces, then 6 diagonals) and `far` offsets of samples before a sample; see `coder.code_block`."""
    z, y = steps
    near = [-1, -y, -z, -1 - y, 1 - y, -1 - z, 1 - z, -y - z, y - z]
    return np.array(near, np.int64), np.array([-2, -2 * y, -2 * z], np.int64)


def taps(layout: Layout, band: Band, lane: int, before: int = 0) -> np.ndarray:
    """Offsets of the coefficients that predict one in lane `lane` of `band`.

    The 13 before it among its 26 neighbours, the 3 at distance 2, the place and its two neighbours in each subband that
    is high-pass in one axis less, and, with `before` (the length of the buffer), the place in the component before.
    """
    block = layout.blocks[band.level, band.orient][lane]
    steps = (*block.strides, 1)
    around = [d for d in product((-1, 0, 1), repeat=3) if d < (0, 0, 0)]
    found = [sum(a * b for a, b in zip(d, steps, strict=True)) for d in around]
    found += [-2 * s for s in steps]
    for axis in range(3):
        relative = layout.blocks.get((band.level, band.orient & ~(1 << axis)))
        if band.orient >> axis & 1 and relative and band.orient != 1 << axis:
            there = relative[lane].base - block.base
            found += [there, there - steps[axis], there + steps[axis]]
    if before:
        found += [-before, -before - 1, -before + 1, -before - steps[1], -before + steps[1]]
    return np.array(found, np.int64)


@njit(cache=True, nogil=True)
def _gather(q, base, shape, strides, stride, offsets, matrix, vector):
    """Add the weighted normal equations of a block's samples; every `stride`-th row counts."""
    n = len(offsets)
    x = np.zeros(n)
    power = 0.0
    used = 0
    seen = 0
    for row in range(0, shape[0] * shape[1], stride):
        p = base + (row // shape[1]) * strides[0] + (row % shape[1]) * strides[1] - 1
        for _ in range(shape[2]):
            p += 1
            seen += 1
            activity = 0
            for i in range(13):
                activity += abs(q[p + offsets[i]])
            if activity == 0:
                continue
            used += 1
            weight = 1.0 / (activity / 13.0 + 0.3) ** 2
            target = float(q[p])
            power += weight * target * target
            for i in range(n):
                x[i] = q[p + offsets[i]]
            for i in range(n):
                scaled = weight * x[i]
                vector[i] += scaled * target
                for j in range(i + 1):
                    matrix[i, j] += scaled * x[j]
    return power, used, seen


def fit(
    q: np.ndarray, layout: Layout, band: Band, bits: int, component: int, known: Predictor | None = None
) -> Predictor:
    """Weights for a subband of a component whose quantised coefficients lie in the flat buffers `q`.

    With `known`, one that costs nothing, own weights must save as much more as they cost.
    """
    blocks = layout.blocks[band.level, band.orient]
    before = layout.size if component else 0
    n = len(taps(layout, band, 0, before))
    if band.size < 8 * n:
        return Predictor()
    matrix, vector = np.zeros((n, n)), np.zeros(n)
    power, used, seen = 0.0, 0, 0
    for lane, block in enumerate(blocks):
        if block.shape[0]:
            stride = max(1, band.size // (_SAMPLES * 2))
            where = component * layout.size + block.base
            around = taps(layout, band, lane, before)
            part = _gather(q, where, block.shape, block.strides, stride, around, matrix, vector)
            power, used, seen = power + part[0], used + part[1], seen + part[2]
    if used < 4 * n:
        return Predictor()
    matrix += np.tril(matrix, -1).T
    loaded = matrix + np.eye(n) * (1e-3 * np.trace(matrix) / n + 1e-6)
    solution = np.linalg.solve(loaded, vector)
    weights = np.clip(np.rint(solution * 2**bits), -(2**15), 2**15 - 1)
    rounded = weights / 2**bits

    def saved(w: np.ndarray) -> float:
        left = power - 2 * w @ vector + w @ matrix @ w
        return 0.5 * np.log2(power / max(left, 1e-9 * power)) * used * band.size / max(seen, 1) if left < power else 0.0

    least = saved(np.array(known.weights) / 2**bits) if known else 0.0
    # In sparse places most of the saving does not come about.
    if saved(rounded) < least + 2 * _PRICE * n:
        return known if known and least > 0 else Predictor()
    return Predictor(tuple(int(w) for w in weights), bits)
