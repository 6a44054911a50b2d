"""Weights of a prediction: what makes a step's difference to its prediction cheapest to code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from neurcomp_core.field import Field
from neurcomp_core.target import MaxError, Psnr, Target

#: Weights are whole multiples of one in so many.
UNIT = 64
#: No weight found is larger.
_MOST = 4 * UNIT
#: Samples that weights are found from, about.
_SAMPLES = 1 << 17
#: The dB that weights are found for if the target says none.
_QUALITY = 50.0


@dataclass(frozen=True)
class Weighting:
    """Weights of the steps before, the latest first, in 1/64.

    Attributes
    ----------
    weights : tuple of int
    share : float
        About the bits that what the prediction misses takes, divided by those of the step itself.
    """

    weights: tuple[int, ...]
    share: float


def weighting(field: Field, steps: Sequence[np.ndarray], target: Target) -> Weighting:
    """The weights whose prediction is best.

    Least squares of the values, and of their differences along the axes, for each number of steps; of these the one
    whose missed values look cheapest to code: by the sum of ``log(1 + |difference of neighbours| / step)``.

    Parameters
    ----------
    field : Field
    steps : sequence of ndarray
        In the shape of the field's values; at least one.
    target : Target
    """
    with np.errstate(over="ignore", invalid="ignore"):
        # About the quantisation step that leaves such an error.
        return _cheapest(field, steps, 3.3 * _error(field, target))


def _cheapest(field: Field, steps: Sequence[np.ndarray], scale: float) -> Weighting:
    box = central(field.values.shape, _SAMPLES)
    values = field.values[box].astype(np.float64)
    before = [step[box].astype(np.float64) for step in steps]
    valid = None if field.valid is None else field.valid[box]
    shapes = list(_differences(values, valid))
    shaped = [list(_differences(step, valid)) for step in before]
    level = _level(values, valid)
    levels = [_level(step, valid) for step in before]
    ways: set[tuple[int, ...]] = {(UNIT,)}
    for count in range(1, len(before) + 1):
        ways.add(_least_squares([level], [[part] for part in levels[:count]]))
        ways.add(_least_squares(shapes, shaped[:count]))

    def price(weights: tuple[int, ...]) -> float:
        total = 0.0
        for i, shape in enumerate(shapes):
            rest = shape.copy()
            for weight, parts in zip(weights, shaped, strict=False):
                rest -= weight / UNIT * parts[i]
            np.abs(rest, out=rest)
            rest /= scale
            total += float(np.log1p(rest, out=rest).sum())
        return total

    # Fewer weights win a draw.
    prices = {weights: price(weights) for weights in sorted(ways, key=len)}
    best = min(prices, key=lambda weights: prices[weights])
    alone = price(())
    return Weighting(best, prices[best] / alone if alone else 1.0)


def central(shape: tuple[int, ...], samples: int) -> tuple[slice, ...]:
    """A box in the middle of an array ``(z, y, x[, c])`` of about so many samples at most."""
    sizes = list(shape[:3])
    while np.prod(sizes) * np.prod(shape[3:]) > samples and max(sizes) > 16:
        axis = int(np.argmax(sizes))
        sizes[axis] = max(sizes[axis] // 2, 16)
    return tuple(slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(shape, sizes, strict=False))


def _error(field: Field, target: Target) -> float:
    """About the error that a target allows."""
    low, high = field.limits
    if isinstance(target, MaxError):
        return target.value / 3
    quality = target.value if isinstance(target, Psnr) else _QUALITY
    return (high - low) * 10 ** (-quality / 20)


def _level(values: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """Values less their mean."""
    flat = values.ravel() if valid is None else values[valid]
    return flat - (flat.mean() if flat.size else 0.0)


def _differences(values: np.ndarray, valid: np.ndarray | None) -> Iterator[np.ndarray]:
    """Differences of neighbours along each axis of the grid."""
    for axis in range(3):
        if values.shape[axis] > 1:
            found = np.diff(values, axis=axis)
            if valid is None:
                yield found.ravel()
            else:
                n = values.shape[axis]
                yield found[valid.take(range(1, n), axis) & valid.take(range(n - 1), axis)]


def _least_squares(wanted: Sequence[np.ndarray], given: Sequence[Sequence[np.ndarray]]) -> tuple[int, ...]:
    """Rounded weights of `given` whose sum is closest to `wanted`, each an array in parts."""
    count = len(given)
    normal, right = np.zeros((count, count)), np.zeros(count)
    for i, j in product(range(count), range(count)):
        normal[i, j] = sum(float(np.dot(a, b)) for a, b in zip(given[i], given[j], strict=True))
    for i in range(count):
        right[i] = sum(float(np.dot(a, b)) for a, b in zip(given[i], wanted, strict=True))
    if not (np.isfinite(normal).all() and np.isfinite(right).all()):
        return (UNIT,)
    found = np.linalg.lstsq(normal, right, rcond=1e-12)[0]
    return tuple(int(w) for w in np.clip(np.rint(found * UNIT), -_MOST, _MOST))
