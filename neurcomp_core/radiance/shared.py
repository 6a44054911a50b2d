"""Voxel fields as VQRF stores them, without being expanded: samples lead to rows, and rows to features that they share.

Li et al., Compressing Volumetric Radiance Fields to 1 MB (CVPR 2023), section 3.3. The features that rows have for
themselves and the codes of the codebook are one table; a march looks up which of its rows a voxel has. A picture of
such a field is that of the expanded one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.radiance.grids import EMPTY, SparseGrid, SphereLayers
from neurcomp_core.radiance.imports.dvgo import DvgoModel


@dataclass(frozen=True, eq=False)
class SharedGrid:
    """A `SparseGrid` whose rows share coefficients.

    Attributes
    ----------
    links : ndarray ``(z, y, x)`` int32
        Row of `density` and `slots` per voxel.
    density : ndarray ``(rows,)`` float32
    slots : ndarray ``(rows,)`` int32
        Row of `table` that a row has.
    table : ndarray ``(n, 3, functions)`` float32
    box : ndarray ``(2, 3)`` float64
    background : SphereLayers, optional
    """

    links: np.ndarray
    density: np.ndarray
    slots: np.ndarray
    table: np.ndarray
    box: np.ndarray
    background: SphereLayers | None = None

    def __post_init__(self) -> None:
        _check(self.links, self.density, self.slots, self.table)

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays, as they lie in memory while it is rendered."""
        far = self.background
        behind = 0 if far is None else far.links.nbytes + far.data.nbytes
        return self.links.nbytes + self.density.nbytes + self.slots.nbytes + self.table.nbytes + behind

    def expanded(self) -> SparseGrid:
        """The same field with a row of coefficients for each voxel."""
        sh = self.table[self.slots]
        return SparseGrid(self.links, self.density, sh, self.box, self.background)


@dataclass(frozen=True, eq=False)
class SharedDvgo:
    """A `DvgoModel` of which some samples have rows, and these share features.

    Attributes
    ----------
    links : ndarray ``(z, y, x)`` int32
    density : ndarray ``(rows,)`` float32
        Before activation.
    slots : ndarray ``(rows,)`` int32
    table : ndarray ``(n, channels)`` float32
    rest : float
        Density, before activation, of samples without a row; their features are zero.
    box, shift, unit, layers, frequencies, direct, mask
        See `DvgoModel`.
    """

    links: np.ndarray
    density: np.ndarray
    slots: np.ndarray
    table: np.ndarray
    rest: float
    box: np.ndarray
    shift: float
    unit: float
    layers: tuple[tuple[np.ndarray, np.ndarray], ...] = ()
    frequencies: int = 0
    direct: bool = True
    mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        _check(self.links, self.density, self.slots, self.table)

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays, as they lie in memory while it is rendered."""
        arrays = [self.links, self.density, self.slots, self.table, *(a for layer in self.layers for a in layer)]
        return sum(a.nbytes for a in arrays) + (0 if self.mask is None else self.mask.nbytes)

    def expanded(self) -> DvgoModel:
        """The same field as dense grids."""
        density = np.full(self.links.shape, self.rest, np.float32)
        features = np.zeros((*self.links.shape, self.table.shape[1]), np.float32)
        used = self.links != EMPTY
        rows = self.links[used]
        density[used], features[used] = self.density[rows], self.table[self.slots[rows]]
        return DvgoModel(
            density, features, self.box, self.shift, self.unit, self.layers, self.frequencies, self.direct, self.mask
        )  # fmt: skip


SharedModel = SharedGrid | SharedDvgo


def _check(links: np.ndarray, density: np.ndarray, slots: np.ndarray, table: np.ndarray) -> None:
    """InputError unless all that kernels look up is there."""
    rows = len(density)
    good = links.ndim == 3 and links.dtype == slots.dtype == np.int32 and slots.shape == density.shape == (rows,)
    if not good:
        raise InputError(
            f"expected links (z, y, x) and slots (rows,) int32 and density (rows,), got {links.shape} {links.dtype}, "
            f"{slots.shape} {slots.dtype} and {density.shape}"
        )
    if links.size and not EMPTY <= links.min() <= links.max() < rows:
        raise InputError(f"links: expected rows below {rows} or {EMPTY}")
    if rows and not 0 <= slots.min() <= slots.max() < len(table):
        raise InputError(f"slots: expected rows of the table, below {len(table)}")
