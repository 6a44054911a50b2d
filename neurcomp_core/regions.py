"""Where errors matter more: boxes, bands of values, arrays and transfer functions, as a weight for every sample.

A weight w says that an error there counts as one w times as large elsewhere: codecs make the sum of ``(w * error)^2``
least for the bytes they may take. Outside of all regions the weight is 1. Only what codecs make of it is in a file.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.field import Field, UniformGrid

#: The weight of a region unless another is given.
WEIGHT = 8.0
#: Weights must be below.
MOST = 4096.0


@dataclass(frozen=True)
class Importance(ABC):
    """How much errors count, for every sample of a field."""

    @abstractmethod
    def over(self, weights: np.ndarray, field: Field) -> np.ndarray:
        """`weights` ``(z, y, x)`` with this laid over them; they may be overwritten.

        Raises
        ------
        InputError
            If it does not fit the field.
        """

    def weights(self, field: Field) -> np.ndarray:
        """Weights ``(z, y, x)``, float32, not below 0; 1 outside of all regions; see `over`."""
        return self.over(np.ones(field.values.shape[:3], np.float32), field)

    def inside(self, field: Field) -> np.ndarray:
        """Samples ``(z, y, x)`` that count as the region in reports, bool: half the largest weight and more."""
        weights = self.weights(field)
        return weights >= weights.max() / 2


@dataclass(frozen=True)
class BoxRegion(Importance):
    """The samples of a box.

    Attributes
    ----------
    bounds : tuple of 6 float
        First and end (not included) sample along x, y and z, counted from 0; or, in the `world`, the lowest and the
        highest coordinate along each axis, both included.
    weight : float
    world : bool
    strict : bool
        Whether a box without samples is an error, or no region.
    """

    bounds: tuple[float, ...]
    weight: float = WEIGHT
    world: bool = False
    strict: bool = True

    def __post_init__(self) -> None:
        check_weight(self.weight)
        if len(self.bounds) != 6 or any(not a <= b for a, b in zip(self.bounds[::2], self.bounds[1::2], strict=True)):
            raise InputError(f"box: expected x0,x1,y0,y1,z0,z1 with x0 <= x1 and so on, got {_listed(self.bounds)}")

    def over(self, weights: np.ndarray, field: Field) -> np.ndarray:
        """See `Importance.over`."""
        weights[self.inside(field)] = self.weight
        return weights

    def inside(self, field: Field) -> np.ndarray:
        """See `Importance.inside`."""
        low, high = np.array(self.bounds[::2]), np.array(self.bounds[1::2])
        shape = field.values.shape[:3]
        found = np.ones(shape, bool)
        if self.world:
            for axis, position in enumerate(_positions(field)):
                found &= (position >= low[axis]) & (position <= high[axis])
        else:
            outside = [slice(math.ceil(a), math.ceil(b)) for a, b in zip(low[::-1], high[::-1], strict=True)]
            found[:] = False
            found[tuple(slice(max(s.start, 0), max(s.stop, 0)) for s in outside)] = True
        if self.strict and not found.any():
            raise InputError(
                f"box: no sample of array '{field.name}' ({_shape(shape)} samples along x, y, z) lies in "
                f"{_listed(self.bounds)}{' (world coordinates)' if self.world else ''}"
            )
        return found

    def __str__(self) -> str:
        return f"{'world box' if self.world else 'box'} {_listed(self.bounds)}"


@dataclass(frozen=True)
class BandRegion(Importance):
    """The samples whose value lies between two others, ends included; of a vector its length counts.

    Attributes
    ----------
    low, high, weight : float
    strict : bool
        Whether a band without samples is an error, or no region.
    """

    low: float
    high: float
    weight: float = WEIGHT
    strict: bool = True

    def __post_init__(self) -> None:
        check_weight(self.weight)
        if not self.low <= self.high:
            raise InputError(f"band: expected low,high with low <= high, got {self.low:g},{self.high:g}")

    def over(self, weights: np.ndarray, field: Field) -> np.ndarray:
        """See `Importance.over`."""
        weights[self.inside(field)] = self.weight
        return weights

    def inside(self, field: Field) -> np.ndarray:
        """See `Importance.inside`."""
        values = scalars(field)
        found = (values >= self.low) & (values <= self.high)
        if self.strict and not found.any():
            low, high = field.limits
            raise InputError(
                f"band: no sample of array '{field.name}' lies between {self.low:g} and {self.high:g}; "
                f"its values go from {low:g} to {high:g}"
            )
        return found

    def __str__(self) -> str:
        return f"band {self.low:g},{self.high:g}"


@dataclass(frozen=True, eq=False)
class ArrayImportance(Importance):
    """Weights from an array ``(z, y, x)`` of the same grid.

    Attributes
    ----------
    values : ndarray
    weight : float, optional
        What the largest value stands for, the least standing for 1; without it the values are the weights.
    name : str
    """

    values: np.ndarray
    weight: float | None = None
    name: str = "weights"

    def __post_init__(self) -> None:
        if self.weight is not None:
            check_weight(self.weight)
        if self.values.ndim != 3 or not np.isfinite(self.values).any():
            raise InputError(f"importance '{self.name}': expected finite numbers, one for each sample")
        if self.weight is None and (np.nanmin(self.values) < 0 or not np.nanmax(self.values) <= MOST):
            raise InputError(f"importance '{self.name}': expected weights from 0 to {MOST:g}")

    def over(self, weights: np.ndarray, field: Field) -> np.ndarray:
        """See `Importance.over`."""
        shape = field.values.shape[:3]
        if self.values.shape != shape:
            raise InputError(
                f"importance '{self.name}' has {_shape(self.values.shape)} samples along x, y, z, array "
                f"'{field.name}' has {_shape(shape)}; expected the same"
            )
        if self.weight is None:
            return np.nan_to_num(self.values.astype(np.float32), nan=0.0)
        values = self.values.astype(np.float64)
        finite = np.isfinite(values)
        low, high = float(values[finite].min()), float(values[finite].max())
        if low == high:
            raise InputError(f"importance '{self.name}': all its values are {low:g}; they say nothing")
        share = np.where(finite, (values - low) / (high - low), 0.0)
        return (1 + (self.weight - 1) * share).astype(np.float32)

    def __str__(self) -> str:
        return f"array {self.name}"


@dataclass(frozen=True)
class Regions(Importance):
    """Several, each laid over those before it."""

    parts: tuple[Importance, ...]

    def over(self, weights: np.ndarray, field: Field) -> np.ndarray:
        """See `Importance.over`."""
        for part in self.parts:
            weights = part.over(weights, field)
        return weights

    def __str__(self) -> str:
        return ", ".join(map(str, self.parts))


def weights_of(field: Field, importance: Importance | None) -> np.ndarray | None:
    """Weights of a field, 0 where it is no data; None if there is no importance, or all is as important.

    Raises
    ------
    InputError
        If the importance does not fit the field, or nothing is important.
    """
    if importance is None:
        return None
    weights = importance.weights(field)
    valid = field.valid
    if valid is not None:
        weights = np.where(valid if valid.ndim == 3 else valid.any(axis=3), weights, np.float32(0))
    if not weights.max() > 0:
        raise InputError(f"array '{field.name}': no sample has a weight above 0; give some a larger one")
    known = weights if valid is None else weights[weights > 0]
    return None if known.min() == known.max() else weights


def scalars(field: Field) -> np.ndarray:
    """Values ``(z, y, x)``; of vectors their lengths."""
    if field.values.ndim == 3:
        return field.values
    return np.sqrt(np.sum(field.values.astype(np.float64) ** 2, axis=3))


def _positions(field: Field) -> list[np.ndarray]:
    """World coordinates x, y, z of all samples, each an array that broadcasts to ``(z, y, x)``."""
    grid = field.geometry
    cells = field.association == "cell"
    shape = field.values.shape[2::-1]
    if not isinstance(grid, UniformGrid):
        axes = [a.astype(np.float64) for a in grid.axes]
        axes = [(a[:-1] + a[1:]) / 2 if cells and len(a) > 1 else a for a in axes]
        return [a.reshape([-1 if 2 - i == k else 1 for k in range(3)]) for i, a in enumerate(axes)]
    # Along an axis of one layer, cells have no thickness.
    half = [0.5 if cells and n > 1 else 0.0 for n in grid.dimensions]
    steps = [
        ((grid.extent[2 * i] + half[i] + np.arange(n)) * grid.spacing[i]).reshape(
            [-1 if 2 - i == k else 1 for k in range(3)]
        )
        for i, n in enumerate(shape)
    ]
    turn = np.array(grid.direction).reshape(3, 3)
    found: list[np.ndarray] = []
    for row, origin in zip(turn, grid.origin, strict=True):
        total = np.full((1, 1, 1), float(origin))
        for factor, step in zip(row, steps, strict=True):
            if factor:
                total = total + factor * step
        found.append(total)
    return found


def check_weight(weight: float) -> None:
    """Raises InputError if `weight` is none."""
    if not 0 <= weight <= MOST:
        raise InputError(f"weight of a region: expected 0 to {MOST:g}, got {weight:g}")


def _listed(values: Sequence[float]) -> str:
    return ",".join(f"{v:g}" for v in values)


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape[2::-1])
