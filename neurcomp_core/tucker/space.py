"""A decomposed array, and its rounded core and bases at any step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from neurcomp_core.tthresh.tucker import hosvd, multiply
from neurcomp_core.tucker.basis import LEAST_OWN, cosines, orthonormal
from neurcomp_core.tucker.coded import Coded, columns_of, quantised, values_of
from neurcomp_core.wavelet.lanes import Lanes
from neurcomp_core.wavelet.stream import Box

#: Step of the bases' columns, each as long as its slice of the core, in steps of the core.
RATIO = 1.4
#: Squared steps that a bit is worth when rounding, and when columns are left out.
WEIGHT, WORTH = 0.15, 0.6
#: Smallest magnitude that may not be rounded to 0.
_LEAST = 0.5
#: Largest magnitude in steps.
_MOST = 2.0**31 - 2.0**10
#: Times that columns are left out, each of which makes others worth less.
_ROUNDS = 4


@dataclass(frozen=True)
class Candidate:
    """A core and bases at a step.

    Attributes
    ----------
    step : float
    coded : Coded or None
        None where nothing is left but the mean.
    core : ndarray ``(r1, r2, r3, r4)``
        Of rounded values.
    bases : list of ndarray
        See `coded.bases`.
    error : float
        Sum of squared errors of the samples.
    """

    step: float
    coded: Coded | None
    core: np.ndarray
    bases: list[np.ndarray]
    error: float

    @property
    def numbers(self) -> int:
        """In core and columns."""
        return self.core.size + sum(basis.size for basis in self.bases)


class Space:
    """The higher-order singular value decomposition of an array.

    Parameters
    ----------
    values : ndarray of float64 ``(z, y, x, c)``
        Contiguous; overwritten.
    lanes : Lanes
    report : callable, optional
        See `hosvd`.
    """

    def __init__(self, values: np.ndarray, lanes: Lanes, report: Callable[[float], None] = lambda share: None) -> None:
        self.lanes, self.sizes = lanes, values.shape
        core, factors = hosvd(values, report)
        # Slices beyond a factor's columns are zero.
        self.core = np.ascontiguousarray(core[tuple(slice(f.shape[1]) for f in factors)])
        self.factors = [f if len(f) == 1 else cosines(len(f)).T @ f for f in factors]
        self.energy = _squares(self.core)
        self.peaks = [_peaks(self.core, axis) for axis in range(4)]
        self.largest = max(float(self.peaks[3].max()), 1e-300)

    @property
    def least_step(self) -> float:
        """Below it, numbers are too large."""
        return self.largest / _MOST

    def _large(self, step: float, most: tuple[int, ...] = ()) -> np.ndarray:
        """The part of the core beyond which everything is rounded to 0, with as many slices as `most` at most."""
        ranks = (int(np.flatnonzero(p >= _LEAST * step)[-1]) + 1 if p.max() >= _LEAST * step else 0 for p in self.peaks)
        return self.core[tuple(map(slice, map(min, ranks, most or self.sizes)))]

    def guess(self, step: float) -> float:
        """Sum of squared errors with bases that are not rounded."""
        part = self._large(step)
        if not part.size:
            return self.energy
        rounded = values_of(quantised(part, step, WEIGHT, self.lanes), step, self.lanes)
        return max(self.energy - _squares(part), 0.0) + _squares(part - rounded)

    def candidate(self, step: float, ratio: float = RATIO, most: tuple[int, ...] = ()) -> Candidate:
        """Core and bases rounded at a step: columns that are worth their bits, and the core that suits them.

        Parameters
        ----------
        step : float
        ratio : float
            Step of the columns in steps of the core.
        most : tuple of int, optional
            Columns of each axis at most.
        """
        part = self._large(step, most)
        if not part.size:
            return self._nothing(step)
        rounded = values_of(quantised(part, step, WEIGHT, self.lanes), step, self.lanes)
        kept = [np.arange(n) for n in part.shape]
        for _ in range(_ROUNDS):
            good = [self._worthy(axis, kept[axis], rounded, step, ratio) for axis in range(4)]
            if all(g.all() for g in good):
                break
            rounded = rounded[np.ix_(*good)]
            kept = [k[g] for k, g in zip(kept, good, strict=True)]
            if not rounded.size:
                return self._nothing(step)
        norms = [_norms(rounded, axis) for axis in range(4)]
        for _ in range(_ROUNDS):
            factors = [self._factor(axis, kept[axis], norms[axis], step * ratio) for axis in range(4)]
            bases, owns = zip(*(self._basis(factor) for factor in factors), strict=True)
            core = self._projected(bases)
            box = quantised(core, step, WEIGHT, self.lanes)
            rounded = values_of(box, step, self.lanes)
            good = [(_norms(rounded, axis) > 0) & (own > LEAST_OWN) for axis, own in enumerate(owns)]
            if all(g.all() for g in good):
                error = max(self.energy - _squares(core), 0.0) + _squares(core - rounded)
                return Candidate(step, Coded(box, tuple(factors)), rounded, list(bases), error)
            kept = [k[g] for k, g in zip(kept, good, strict=True)]
            norms = [n[g] for n, g in zip(norms, good, strict=True)]
            if not all(map(len, kept)):
                break
        return self._nothing(step)

    def _nothing(self, step: float) -> Candidate:
        return Candidate(step, None, np.zeros((0, 0, 0, 0)), [], self.energy)

    def _worthy(self, axis: int, kept: np.ndarray, rounded: np.ndarray, step: float, ratio: float) -> np.ndarray:
        """Which columns of an axis make the error smaller by more than their bits are worth."""
        norms = _norms(rounded, axis)
        factor = self._factor(axis, kept, norms, step * ratio)
        if factor is None:
            return norms > 0
        spacing = _spacing(norms, step * ratio)
        wanted = self.factors[axis][:, kept] * norms
        coded = columns_of(factor, self.lanes)
        gain = norms**2 - np.sum((wanted - coded * spacing) ** 2, axis=0)
        sizes = np.abs(np.rint(coded))
        bits = np.sum(2 * np.log2(1 + sizes) + 1.5 * (sizes > 0), axis=0)
        return (gain > WORTH * step * step * bits) & (sizes.max(axis=0) > 0)

    def _factor(self, axis: int, kept: np.ndarray, norms: np.ndarray, step: float) -> Box | None:
        if self.sizes[axis] == 1:
            return None
        columns = (self.factors[axis][:, kept] * norms).T
        return quantised(columns[None, :, :, None], _spacing(norms, step), WEIGHT, self.lanes)

    def _basis(self, factor: Box | None) -> tuple[np.ndarray, np.ndarray]:
        return (np.ones((1, 1)), np.ones(1)) if factor is None else orthonormal(columns_of(factor, self.lanes))

    def _projected(self, bases: tuple[np.ndarray, ...]) -> np.ndarray:
        """The core of the array that belongs to rounded bases."""
        core = self.core
        turns = [basis.T @ factor for basis, factor in zip(bases, self.factors, strict=True)]
        # What makes it smallest comes first.
        for axis in sorted(range(4), key=lambda a: turns[a].shape[0] / turns[a].shape[1]):
            core = multiply(core, turns[axis], axis)
        return core


def _spacing(norms: np.ndarray, step: float) -> float:
    """Step of columns of such lengths; not so small that they need too large numbers."""
    return max(step, float(norms.max()) / _MOST)


def _squares(values: np.ndarray) -> float:
    flat = values.reshape(-1)
    return float(flat @ flat)


def _norms(core: np.ndarray, axis: int) -> np.ndarray:
    others = tuple(a for a in range(4) if a != axis)
    return np.sqrt(np.sum(core**2, axis=others))


def _peaks(core: np.ndarray, axis: int) -> np.ndarray:
    others = tuple(a for a in range(4) if a != axis)
    return np.maximum(core.max(axis=others), -core.min(axis=others))
