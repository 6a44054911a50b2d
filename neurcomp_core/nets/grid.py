"""Layout of a multi-resolution hash grid: sizes, resolutions and the lattice's place in it.

Conventions are tiny-cuda-nn's, so that tables can be exchanged (Müller, Evans, Schied, Keller: "Instant Neural Graphics
Primitives with a Multiresolution Hash Encoding", ACM TOG 41(4), 2022, section 3): level l has
``scale = base * growth**l - 1`` and ``resolution = ceil(scale) + 1``; a coordinate x in [0, 1] falls at
``x * scale + 0.5``; a level whose ``resolution**dims`` fits its table is indexed densely (x fastest), any other by
``x ^ (y * 2654435761) ^ (z * 805459861) mod 2**log2_table``. Smooth layouts interpolate with the weight
w^2 (3 - 2 w) in place of w, so that slopes, too, are continuous across cells (there, appendix A).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

PRIME_Y, PRIME_Z = 2654435761, 805459861


#: scales, resolutions, sizes, firsts, dense, half, smooth: see `GridLayout.kernel_args`.
KernelArgs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, bool]


def smoothstep(weight: Any) -> Any:
    """``w^2 (3 - 2 w)`` of an array, a Tensor or a number: 0 to 1 like w, with slope 0 at both ends."""
    return weight * weight * (3 - 2 * weight)


@dataclass(frozen=True)
class GridLayout:
    """Shape of a hash grid.

    Attributes
    ----------
    dims : int
        1 to 3 axes with more than one sample.
    levels, features : int
        Resolutions, and values per table entry.
    log2_table : int
        At most ``2**log2_table`` entries a level.
    base : int
        Coarsest resolution, at least 2.
    growth : float
        Factor between resolutions, more than 1.
    smooth : bool
        Whether weights of interpolation go through `smoothstep`.
    """

    dims: int
    levels: int
    features: int
    log2_table: int
    base: int
    growth: float
    smooth: bool = False

    @cached_property
    def scales(self) -> np.ndarray:
        """``(levels,)`` float64; by repeated products, which every machine rounds alike."""
        scales, size = np.empty(self.levels), float(self.base)
        for level in range(self.levels):
            scales[level] = size - 1
            size *= self.growth
        return scales

    @cached_property
    def resolutions(self) -> np.ndarray:
        """``(levels,)`` int64 vertices per axis."""
        return np.ceil(self.scales).astype(np.int64) + 1

    @cached_property
    def sizes(self) -> np.ndarray:
        """``(levels,)`` int64 table entries."""
        vertices = [int(r) ** self.dims for r in self.resolutions]
        return np.array([min((v + 7) // 8 * 8, 1 << self.log2_table) for v in vertices], np.int64)

    @cached_property
    def dense(self) -> np.ndarray:
        """``(levels,)`` bool: indexed without hashing."""
        return np.array([int(r) ** self.dims <= s for r, s in zip(self.resolutions, self.sizes, strict=True)])

    @cached_property
    def firsts(self) -> np.ndarray:
        """``(levels,)`` int64: first entry of each level in the common table."""
        return np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.int64)

    @property
    def entries(self) -> int:
        """Rows of the common table ``(entries, features)``."""
        return int(self.sizes.sum())

    @property
    def width(self) -> int:
        """Values per encoded point."""
        return self.levels * self.features

    @cached_property
    def kernel_args(self) -> KernelArgs:
        """Layout as the numba kernels take it."""
        return (
            self.scales.astype(np.float32),
            self.resolutions.astype(np.uint32),
            self.sizes.astype(np.uint32),
            self.firsts,
            self.dense,
            np.float32(0.5) * (np.arange(3) < self.dims).astype(np.float32),
            self.smooth,
        )

    def axis_cells(self, coordinates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower vertex and weight of the upper one, per level, along one axis.

        Parameters
        ----------
        coordinates : ndarray
            ``(n,)`` float64 in [0, 1].

        Returns
        -------
        lower : ndarray
            ``(levels, n)`` int32.
        weight : ndarray
            ``(levels, n)`` float32 in [0, 1).
        """
        position = coordinates[None, :] * self.scales[:, None] + 0.5
        lower = np.floor(position)
        weight = position - lower
        return lower.astype(np.int32), (smoothstep(weight) if self.smooth else weight).astype(np.float32)


@dataclass(frozen=True)
class Lattice:
    """Where the samples of an array lie in the unit cube of the network.

    The longest axis spans [0, 1] with samples in the middle of equal cells; the others keep their proportion. Axes of
    one sample are left out, the rest keep their order x, y, z. The outermost cells of a densely indexed level share
    their upper vertices with the next row's first ones, as tiny-cuda-nn's index has it; a lattice kept clear of that
    measured slightly worse.

    Attributes
    ----------
    shape : tuple of 3 int
        Samples along z, y, x.
    """

    shape: tuple[int, int, int]

    @cached_property
    def axes(self) -> tuple[int, ...]:
        """Axes of `shape` that carry a coordinate, fastest first."""
        return tuple(a for a in (2, 1, 0) if self.shape[a] > 1) or (2,)

    @property
    def dims(self) -> int:
        """Coordinates per sample."""
        return len(self.axes)

    def coordinates(self, axis: int, index: Any) -> Any:
        """Coordinates of sample indices (ndarray or Tensor) along an axis of `shape`."""
        return (index + 0.5) / max(self.shape)

    def lower_vertices(self, layout: GridLayout, level: int) -> list[np.ndarray]:
        """Distinct lower vertices of all samples along network axes 0, 1, 2; unused ones have vertex 0."""
        found = []
        for axis in self.axes:
            # Samples closer than vertices skip none: the ends tell, however long the axis is.
            sparse = layout.scales[level] > 0.99 * max(self.shape)
            index = np.arange(self.shape[axis]) if sparse else np.array([0, self.shape[axis] - 1])
            lower = np.floor(self.coordinates(axis, index) * layout.scales[level] + 0.5).astype(np.int32)
            found.append(np.unique(lower) if sparse else np.arange(lower[0], lower[1] + 1, dtype=np.int32))
        return found + [np.zeros(1, np.int32)] * (3 - len(found))

    def axis_cells(self, layout: GridLayout, region: tuple[slice, slice, slice], step: int) -> list:
        """``(lower, weight)`` of `GridLayout.axis_cells` for network axes 0, 1, 2; unused ones are one sample at 0."""
        cells = [layout.axis_cells(self.coordinates(a, np.arange(region[a].start, region[a].stop, step)))
                 for a in self.axes]  # fmt: skip
        none = (np.zeros((layout.levels, 1), np.int32), np.zeros((layout.levels, 1), np.float32))
        return cells + [none] * (3 - len(cells))
