"""What every encoding is: features of positions, from tables that are trained with the network or from none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from neurcomp_core.coding.weights import Group
from neurcomp_core.nets.grid import Lattice


@dataclass(frozen=True)
class Sizes:
    """Sizes of an encoding; each kind says in `Encoding.uses` which of them it heeds, and what they mean to it.

    Attributes
    ----------
    levels : int
        Octaves, resolutions or bands.
    features : int
        Values per table entry.
    resolution : int
        Vertices or bins along the longest axis; of several levels the coarsest one's.
    growth : float
        Factor between resolutions.
    log2_table : int
        At most ``2**log2_table`` entries a level.
    """

    levels: int = 8
    features: int = 2
    resolution: int = 4
    growth: float = 1.5
    log2_table: int = 12


@dataclass(frozen=True)
class Encoding(ABC):
    """Base of all encodings.

    Positions are ``(n, 3)`` floats in [0, 1], as `grid.Lattice` has them: the longest axis spans all of it, axes of one
    sample are left out, missing ones are 0. Functions of positions take the array module, `numpy` or `torch`, as `xp`,
    so that one definition serves decoding and training.
    """

    lattice: Lattice
    sizes: Sizes

    #: Stored in files; never reused.
    number: ClassVar[int]
    #: As the user types it.
    name: ClassVar[str]
    #: Names of the `Sizes` that it heeds.
    uses: ClassVar[tuple[str, ...]] = ()

    @property
    def dims(self) -> int:
        """Axes with more than one sample, 1 to 3."""
        return self.lattice.dims

    @property
    def extents(self) -> list[float]:
        """Length of each of these axes in the unit cube."""
        shape = self.lattice.shape
        return [shape[a] / max(shape) for a in self.lattice.axes]

    @property
    @abstractmethod
    def width(self) -> int:
        """Features per position."""

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """``(rows, features)`` of every table, without making any."""
        return []

    def groups(self) -> list[Group]:
        """The tables as `coding.weights` codes them."""
        return [Group(rows, features) for rows, features in self.shapes]

    def initial(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Tables to start from, float32."""
        return []

    @abstractmethod
    def features(self, points: Any, tables: Sequence[Any], xp: Any) -> Any:
        """Features ``(width, n)`` of positions ``(n, 3)``.

        Parameters
        ----------
        points : ndarray or Tensor
        tables : sequence of ndarray or Tensor
            In the order of `shapes`.
        xp : module
            `numpy` or `torch`.
        """
