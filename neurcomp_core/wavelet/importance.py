"""Steps that are finer where samples matter more: a coarse map of weights, and what it makes of coefficients' steps.

A coefficient whose synthesis function lies where an error counts w times is multiplied by w before it is rounded, and
divided by w after: its step is w times finer. The rule that makes a weighted squared error least for its bits is to
take for w the root mean square of the weights under the function. As region-of-interest scaling does (JPEG 2000,
ISO/IEC 15444-2, annex H), but by any factor, and from a map instead of coefficients' shapes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neurcomp_core import masks
from neurcomp_core.errors import FormatError
from neurcomp_core.wavelet.layout import Band, Layout, Shape

#: Edges that blocks of a map may have, in samples.
EDGES = (2, 4, 8, 16, 32, 64)
#: Labels to an octave of weights, and their number.
_OCTAVE, _LABELS = 2, 32
#: Of the inner triangle of `windows`: 98 % of the sum.
_TRIANGLE = 784
#: Share of the bytes that a map may take.
_SHARE = 0.01


@dataclass(frozen=True, eq=False)
class ScaleMap:
    """Weights of blocks of samples.

    Attributes
    ----------
    labels : ndarray of uint8, ``(z, y, x)``
        Twice the binary logarithm of each block's weight.
    edge : int
        Of the blocks, in samples; those at the ends may be cut off.
    whole : Layout
        Of the array.
    """

    labels: np.ndarray
    edge: int
    whole: Layout

    @cached_property
    def _squares(self) -> np.ndarray:
        return np.exp2(self.labels.astype(np.float64) * (2 / _OCTAVE))

    @property
    def largest(self) -> float:
        """The largest factor."""
        return math.sqrt(float(self._squares.max()))

    def factors(self, band: Band, place: Sequence[slice] | None = None) -> np.ndarray:
        """Weights ``(z, y, x)`` of the coefficients of a subband of the whole array, or of a part of it."""
        place = place or [slice(0, n) for n in band.shape]
        found = self._squares
        for axis in range(3):
            found = self._averaged(found, axis, band, place[axis])
        return np.sqrt(found)

    def multiply(self, values: np.ndarray, band: Band, place: Sequence[slice] | None = None) -> None:
        """Scale coefficients, in place."""
        values *= self.factors(band, place).astype(values.dtype)

    def divide(self, values: np.ndarray, band: Band, place: Sequence[slice] | None = None) -> None:
        """Inverse of `multiply`."""
        values /= self.factors(band, place).astype(values.dtype)

    def _averaged(self, squares: np.ndarray, axis: int, band: Band, part: slice) -> np.ndarray:
        """Averages along one axis under each coefficient of a part of a subband."""
        splits = self.whole.splits[: band.level + 1]
        halvings = sum(axis in split.axes for split in splits)
        high = bool(band.orient >> axis & 1)
        index, weight = windows(
            self.whole.shape[axis], self.edge, halvings, high, np.arange(part.start, part.stop, dtype=np.int64)
        )
        shape = [-1 if i == axis else 1 for i in range(3)]
        total = 0.0
        for t in range(index.shape[1]):
            total = total + squares.take(index[:, t], axis) * weight[:, t].reshape(shape)
        return np.asarray(total)


def windows(length: int, edge: int, halvings: int, high: bool, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Blocks under the coefficients at `places` along an axis, and their shares, ``(places, blocks)`` each.

    A synthesis function's square is taken for ``784 max(0, 2**h - |x - c|) + max(0, 4 * 2**h - |x - c|)`` at sample x:
    h halvings, c the sample that the coefficient belongs to; a triangle, and 2 % of the sum for the tails, through
    which errors would else come into a region of a large weight. Shares add up to 1.
    """
    if halvings == 0:
        return (places // edge)[:, None], np.ones((len(places), 1))
    centre = places << halvings
    if high:
        centre = centre + (1 << (halvings - 1))
    reach = 4 << halvings
    off = np.abs(np.arange(-reach, reach + 1))
    sums = np.concatenate([[0], np.cumsum(_TRIANGLE * np.maximum((1 << halvings) - off, 0) + reach - off)])
    first = np.maximum(centre - reach, 0) // edge
    count = (2 * reach) // edge + 2
    index = first[:, None] + np.arange(count)
    low, end = index * edge, np.minimum((index + 1) * edge, length)
    # `sums[d + reach]` is the sum over all samples that lie before ``centre + d``.
    before = np.clip(low - centre[:, None] + reach, 0, len(sums) - 1)
    until = np.clip(end - centre[:, None] + reach, 0, len(sums) - 1)
    share = np.where(end > low, sums[until] - sums[before], 0).astype(np.float64)
    used = share.any(axis=0)
    share, index = share[:, used], np.minimum(index[:, used], (length - 1) // edge)
    return index, share / share.sum(axis=1, keepdims=True)


def blocks_of(shape: Shape, edge: int) -> tuple[int, ...]:
    """Blocks along each axis."""
    return tuple(-(-n // edge) for n in shape)


def build(weights: np.ndarray, whole: Layout, nbytes: float) -> tuple[ScaleMap, bytes] | None:
    """The finest map of weights ``(z, y, x)`` that is small beside `nbytes`, and its section; None if all are alike."""
    for edge in EDGES:
        labels = _labels(weights, edge)
        if labels is None:
            return None
        section = masks.encode_labels(labels)
        if len(section) <= _SHARE * nbytes or edge == EDGES[-1]:
            return ScaleMap(labels, edge, whole), section
    raise AssertionError


def _labels(weights: np.ndarray, edge: int) -> np.ndarray | None:
    squares = weights.astype(np.float64) ** 2
    for axis, n in enumerate(weights.shape):
        starts = np.arange(0, n, edge)
        counts = np.minimum(edge, n - starts)
        shape = [-1 if i == axis else 1 for i in range(3)]
        squares = np.add.reduceat(squares, starts, axis) / counts.reshape(shape)
    most = squares.max()
    if not most > 0:
        return None
    logs = np.rint(_OCTAVE / 2 * np.log2(np.maximum(squares / most, 1e-30)))
    logs = np.maximum(logs, 1 - _LABELS)
    found = (logs - logs.min()).astype(np.uint8)
    return found if found.any() else None


def read(section: bytes, edge: int, whole: Layout) -> ScaleMap:
    """The map of a section.

    Raises
    ------
    FormatError
        If it holds none.
    """
    labels = masks.decode_labels(section, blocks_of(whole.shape, edge))
    if int(labels.max()) >= _LABELS:
        raise FormatError(f"wavelet: a weight of {int(labels.max())} in the map; below {_LABELS} was expected")
    return ScaleMap(labels, edge, whole)
