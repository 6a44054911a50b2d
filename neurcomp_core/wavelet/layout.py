"""Where the coefficients of a dyadic transform lie: levels, subbands, and the padded buffer they are coded from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neurcomp_core.wavelet.coder import PAD

Shape = tuple[int, int, int]
#: Subbands smaller than this are not cut into lanes.
_LANE_LEAST = 1 << 15


@dataclass(frozen=True)
class Split:
    """One level: the box ``[0, shape)`` is halved along `axes`."""

    shape: Shape
    axes: tuple[int, ...]

    @property
    def low(self) -> Shape:
        """Shape of the low-pass part."""
        return tuple((n + 1) // 2 if i in self.axes else n for i, n in enumerate(self.shape))  # type: ignore[return-value]


@dataclass(frozen=True)
class Band:
    """A subband within the transformed array.

    Attributes
    ----------
    level : int
        0 is the finest; the low-pass rest has the number of splits.
    orient : int
        Bit i is set where axis i is high-pass.
    origin, shape : tuple of int
    """

    level: int
    orient: int
    origin: Shape
    shape: Shape

    @property
    def box(self) -> tuple[slice, ...]:
        return tuple(slice(o, o + n) for o, n in zip(self.origin, self.shape, strict=True))

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Block:
    """A lane's part of a subband in the flat buffer.

    Attributes
    ----------
    first, shape
        Where it begins along z within the subband; its shape.
    start, padded
        Its padded box in the buffer.
    """

    first: int
    shape: Shape
    start: int
    padded: Shape

    @property
    def strides(self) -> tuple[int, int]:
        return self.padded[1] * self.padded[2], self.padded[2]

    @property
    def base(self) -> int:
        """Place of the first coefficient."""
        return self.start + PAD * (self.strides[0] + self.strides[1] + 1)


@dataclass(frozen=True)
class Layout:
    """All subbands of a box.

    Attributes
    ----------
    shape : tuple of int
        z, y, x.
    depth : int
        At most so many splits; an axis is split while it has at least `least` samples.
    lanes : int
        Large subbands are cut into so many slabs along z, coded side by side.
    along : tuple, optional
        Axes of each split, whatever the size; such a layout leaves the low-pass rest to others.
    first : int
        Finest level that belongs to it.
    lead, ahead : int
        An axis, and how many levels go along it alone before the others, which then leave that axis as it is: a
        wavelet packet, for few layers or for time, along which data is unlike itself in space.
    """

    shape: Shape
    depth: int
    lanes: int
    least: int = 6
    along: tuple[tuple[int, ...], ...] | None = None
    first: int = 0
    lead: int = 0
    ahead: int = 0

    @cached_property
    def heads(self) -> tuple[Split, ...]:
        """Splits that come before `splits`, each of the low-pass part along the axis that leads."""
        found: list[Split] = []
        shape = self.shape
        while len(found) < self.ahead and shape[self.lead] > 2:
            found.append(Split(shape, (self.lead,)))
            shape = found[-1].low
        return tuple(found)

    @cached_property
    def splits(self) -> tuple[Split, ...]:
        found: list[Split] = []
        shape = self.shape
        if self.along is not None:
            for axes in self.along:
                found.append(Split(shape, axes))
                shape = found[-1].low
            return tuple(found)
        while len(found) < self.depth:
            axes = tuple(i for i in range(3) if shape[i] >= self.least and not (self.ahead and i == self.lead))
            if not axes:
                break
            found.append(Split(shape, axes))
            shape = found[-1].low
        return tuple(found)

    @cached_property
    def bands(self) -> tuple[Band, ...]:
        """Coarse to fine; within a level, those with fewer high-pass axes first."""
        low = self.splits[-1].low if self.splits else self.shape
        found = [Band(len(self.splits), 0, (0, 0, 0), low)] if self.along is None else []
        for level in reversed(range(self.first, len(self.splits))):
            split = self.splits[level]
            for orient in sorted(range(1, 8), key=lambda o: (o.bit_count(), o)):
                if any(orient >> i & 1 and i not in split.axes for i in range(3)):
                    continue
                origin = tuple(split.low[i] if orient >> i & 1 else 0 for i in range(3))
                shape = tuple(split.shape[i] - split.low[i] if orient >> i & 1 else split.low[i] for i in range(3))
                found.append(Band(level, orient, origin, shape))  # type: ignore[arg-type]
        return tuple(found)

    @cached_property
    def extents(self) -> dict[int, Shape]:
        """Shape that holds any subband of a level."""
        found: dict[int, Shape] = {}
        for band in self.bands:
            before = found.get(band.level, (0, 0, 0))
            found[band.level] = tuple(map(max, before, band.shape))  # type: ignore[assignment]
        return found

    def cuts(self, level: int) -> int:
        """Lanes that the subbands of a level are cut into."""
        extent = self.extents[level]
        return self.lanes if math.prod(extent) >= _LANE_LEAST and extent[0] >= 4 * self.lanes else 1

    @cached_property
    def blocks(self) -> dict[tuple[int, int], tuple[Block, ...]]:
        """Blocks of the subband ``(level, orient)``, one a lane."""
        found: dict[tuple[int, int], tuple[Block, ...]] = {}
        start = 0
        for band in self.bands:
            extent, count = self.extents[band.level], self.cuts(band.level)
            blocks = []
            for lane in range(count):
                first, last = extent[0] * lane // count, extent[0] * (lane + 1) // count
                padded = (last - first + 2 * PAD, extent[1] + 2 * PAD, extent[2] + 2 * PAD)
                depth = max(min(last, band.shape[0]) - first, 0)
                blocks.append(Block(first, (depth, *band.shape[1:]), start, padded))
                start += math.prod(padded)
            found[band.level, band.orient] = tuple(blocks)
        return found

    @cached_property
    def size(self) -> int:
        """Length of the flat buffer."""
        last = self.blocks[self.bands[-1].level, self.bands[-1].orient][-1]
        return last.start + math.prod(last.padded)

    def views(self, buffer: np.ndarray, band: Band) -> list[np.ndarray]:
        """A band's blocks in the flat buffer, each ``(z, y, x)``."""
        found = []
        for block in self.blocks[band.level, band.orient]:
            box = buffer[block.start : block.start + math.prod(block.padded)].reshape(block.padded)
            found.append(box[tuple(slice(PAD, PAD + n) for n in block.shape)])
        return found
