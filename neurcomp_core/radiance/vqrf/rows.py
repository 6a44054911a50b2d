"""A voxel field taken apart: which samples it has, a row of density and features for each, and everything else.

Sparse grids of spherical harmonics and DVGO's dense grids with their network look alike from here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from neurcomp_core.radiance.grids import EMPTY, SparseGrid, SphereLayers
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.rendering.occupancy import dilated

VoxelModel = SparseGrid | DvgoModel
Kind = Literal["sparse", "dvgo"]

#: Opacity of a voxel where a DVGO field was pruned; what is free altogether is also masked out.
FREE_ALPHA = 1e-5


@dataclass(frozen=True, eq=False)
class Rows:
    """The samples of a field and their values.

    Attributes
    ----------
    occupied : ndarray ``(z, y, x)`` bool
    density : ndarray ``(rows,)`` float32
        As the model has it, before any activation; rows are in the order of `occupied`'s memory, x fastest.
    features : ndarray ``(rows, channels)`` float32
        Of a sparse grid the harmonics' coefficients, all of red, then green, then blue.
    network : tuple of ndarray
        Weights ``(out, in)`` and biases ``(out,)`` in turn.
    """

    occupied: np.ndarray
    density: np.ndarray
    features: np.ndarray
    network: tuple[np.ndarray, ...] = ()

    def __len__(self) -> int:
        return len(self.density)

    @property
    def links(self) -> np.ndarray:
        """See `links_of`."""
        return links_of(self.occupied)

    def take(self, keep: np.ndarray) -> Rows:
        """Some of the rows, ``(rows,)`` bool."""
        occupied = self.occupied.copy()
        occupied[self.occupied] = keep
        return replace(self, occupied=occupied, density=self.density[keep], features=self.features[keep])


@dataclass(frozen=True, eq=False)
class Shell:
    """What a field is besides its rows; fields that one kind does not have keep their defaults.

    Attributes
    ----------
    kind : str
    box : ndarray ``(2, 3)`` float64
    shift, unit, frequencies, direct
        Of a `DvgoModel`.
    rest : float
        Density, before activation, of a DVGO model's samples that have no row.
    background : SphereLayers, optional
        Of a `SparseGrid`.
    """

    kind: Kind
    box: np.ndarray
    shift: float = 0.0
    unit: float = 1.0
    rest: float = 0.0
    frequencies: int = 0
    direct: bool = True
    background: SphereLayers | None = None

    @classmethod
    def of(cls, model: VoxelModel) -> Shell:
        """That of a model."""
        if isinstance(model, SparseGrid):
            return cls("sparse", model.box, background=model.background)
        rest = free_density(model)
        return cls("dvgo", model.box, model.shift, model.unit, rest, model.frequencies, model.direct)

    def model(self, rows: Rows) -> VoxelModel:
        """The field with these rows; a pruned DVGO field has a mask of its free space."""
        if self.kind == "sparse":
            sh = np.ascontiguousarray(rows.features.reshape(len(rows), 3, rows.features.shape[1] // 3))
            return SparseGrid(rows.links, rows.density, sh, self.box, self.background)
        shape = rows.occupied.shape
        density = np.full(shape, self.rest, np.float32)
        features = np.zeros((*shape, rows.features.shape[1]), np.float32)
        density[rows.occupied], features[rows.occupied] = rows.density, rows.features
        layers = tuple(zip(rows.network[::2], rows.network[1::2], strict=True))
        mask = None if rows.occupied.all() else dilated(rows.occupied)
        return DvgoModel(
            density, features, self.box, self.shift, self.unit, layers, self.frequencies, self.direct, mask
        )  # fmt: skip


def free_density(model: DvgoModel) -> float:
    """Density before activation that leaves a voxel the opacity `FREE_ALPHA`; a float32."""
    edges = (model.box[1] - model.box[0]) / (np.array(model.density.shape[::-1]) - 1)
    sigma = -math.log1p(-FREE_ALPHA) * model.unit / float(np.cbrt(np.prod(edges)))
    return float(np.float32(math.log(math.expm1(sigma)) - model.shift))


def links_of(occupied: np.ndarray) -> np.ndarray:
    """Row ``(z, y, x)`` int32 of each occupied sample, in the order of memory; `EMPTY` elsewhere."""
    links = np.full(occupied.shape, EMPTY, np.int32)
    links[occupied] = np.arange(np.count_nonzero(occupied), dtype=np.int32)
    return links


def rows_of(model: VoxelModel) -> Rows:
    """All samples of a field that its links or its arrays have."""
    if isinstance(model, SparseGrid):
        occupied = model.links != EMPTY
        order = model.links[occupied]
        sh = model.sh[order].reshape(len(order), -1)
        return Rows(occupied, model.density[order].astype(np.float32), sh.astype(np.float32))
    occupied = np.ones(model.density.shape, bool)
    channels = model.features.shape[3]
    network = tuple(np.asarray(a, np.float32) for layer in model.layers for a in layer)
    features = np.ascontiguousarray(model.features.reshape(-1, channels), np.float32)
    return Rows(occupied, model.density.ravel().astype(np.float32), features, network)
