"""Factorised grids: planes and lines instead of a cube.

Tri-plane: Chan et al., "Efficient Geometry-aware 3D Generative Adversarial Networks" (EG3D), CVPR 2022, section 3.2. CP
and VM: Chen, Xu, Geiger, Yu, Su: "TensoRF: Tensorial Radiance Fields", ECCV 2022, sections 3 and 4. In fewer than three
dimensions a plane is what is left of it, down to a line.
"""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from neurcomp_core.coding.weights import Group
from neurcomp_core.nets.encodings.base import Encoding

Axes = tuple[int, ...]


class _Factors(Encoding):
    """Tables over some of the axes each, D-linearly interpolated; vertex 0 lies at coordinate 0.

    `resolution` counts vertices along [0, 1]; an axis has those that its samples read.
    """

    uses: ClassVar[tuple[str, ...]] = ("features", "resolution")

    @property
    @abstractmethod
    def factors(self) -> list[Axes]:
        """Axes of every table, fastest first."""

    @property
    def _vertices(self) -> list[int]:
        cells, shape = self.sizes.resolution - 1, self.lattice.shape
        # The last sample lies at (n - 1/2) / longest; in integers, which every machine divides alike.
        return [(2 * shape[a] - 1) * cells // (2 * max(shape)) + 2 for a in self.lattice.axes]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """A row per vertex; see `Encoding.shapes`."""
        counts = self._vertices
        return [(math.prod(counts[a] for a in axes), self.sizes.features) for axes in self.factors]

    def groups(self) -> list[Group]:
        """See `Encoding.groups`."""
        counts, found = self._vertices, []
        for axes, (rows, features) in zip(self.factors, self.shapes, strict=True):
            strides = (1, counts[axes[0]] if len(axes) > 1 else 0, 0)
            found.append(Group(rows, features, strides))
        return found

    def initial(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Normal, of a size that leaves products of as many factors as are multiplied at about 0.1."""
        spread = 0.1 ** (1 / self._multiplied)
        return [(spread * rng.standard_normal(shape)).astype(np.float32) for shape in self.shapes]

    @property
    def _multiplied(self) -> int:
        return 1

    def _interpolated(self, points: Any, tables: Sequence[Any], xp: Any) -> list[Any]:
        """Value ``(features, n)`` of every table."""
        counts = self._vertices
        positions = [points[:, a] * float(self.sizes.resolution - 1) for a in range(self.dims)]
        # Rounding must not carry the last sample past the last vertex.
        lower = [xp.clip(xp.floor(p), 0, count - 2) for p, count in zip(positions, counts, strict=True)]
        index = [xp.asarray(low, dtype=xp.int64) for low in lower]
        upper = [p - low for p, low in zip(positions, lower, strict=True)]
        found = []
        for axes, table in zip(self.factors, tables, strict=True):
            total = 0.0
            for corner in itertools.product((0, 1), repeat=len(axes)):
                row, stride, weight = 0, 1, 1.0
                for a, bit in zip(axes, corner, strict=True):
                    row = row + (index[a] + bit) * stride
                    stride *= counts[a]
                    weight = weight * (upper[a] if bit else 1 - upper[a])
                total = total + weight[:, None] * _rows(table, row, xp)  # type: ignore[index]
            found.append(total.T)  # type: ignore[union-attr]
        return found


def _rows(table: Any, index: Any, xp: Any) -> Any:
    """Rows of a table; in torch by the function whose gradient is summed fastest."""
    return table[index] if xp is np else xp.embedding(table, index)


class TriPlane(_Factors):
    """The sum of a plane for each pair of axes."""

    number: ClassVar[int] = 6
    name: ClassVar[str] = "triplane"

    @property
    def factors(self) -> list[Axes]:
        """Pairs of axes."""
        return list(itertools.combinations(range(self.dims), min(self.dims, 2)))

    @property
    def width(self) -> int:
        """See `Encoding.width`."""
        return self.sizes.features

    def features(self, points: Any, tables: Sequence[Any], xp: Any) -> Any:
        """See `Encoding.features`."""
        return sum(self._interpolated(points, tables, xp))


class CP(_Factors):
    """Products of a line along each axis, `features` of them (TensoRF, equation 1)."""

    number: ClassVar[int] = 7
    name: ClassVar[str] = "cp"

    @property
    def factors(self) -> list[Axes]:
        """Single axes."""
        return [(a,) for a in range(self.dims)]

    @property
    def _multiplied(self) -> int:
        return self.dims

    @property
    def width(self) -> int:
        """See `Encoding.width`."""
        return self.sizes.features

    def features(self, points: Any, tables: Sequence[Any], xp: Any) -> Any:
        """See `Encoding.features`."""
        return math.prod(self._interpolated(points, tables, xp))


class VM(_Factors):
    """For each axis, `features` products of a line along it and a plane across it (TensoRF, equation 3)."""

    number: ClassVar[int] = 8
    name: ClassVar[str] = "vm"

    @property
    def factors(self) -> list[Axes]:
        """An axis and the others, in turn."""
        found: list[Axes] = []
        for a in range(self.dims):
            across = tuple(b for b in range(self.dims) if b != a)
            found += [(a,), across] if across else [(a,)]
        return found

    @property
    def _multiplied(self) -> int:
        return min(self.dims, 2)

    @property
    def width(self) -> int:
        """See `Encoding.width`."""
        return self.dims * self.sizes.features

    def features(self, points: Any, tables: Sequence[Any], xp: Any) -> Any:
        """Axis by axis; see `Encoding.features`."""
        found = self._interpolated(points, tables, xp)
        if self.dims == 1:
            return found[0]
        return xp.concatenate([line * plane for line, plane in zip(found[::2], found[1::2], strict=True)])
