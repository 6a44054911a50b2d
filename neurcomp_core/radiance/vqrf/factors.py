"""A pruned field in the form it is stored in: some rows with features of their own, the others with a code's.

Features are held as coefficients of a basis, in which they are least correlated; it is part of the file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from neurcomp_core.radiance.grids import EMPTY
from neurcomp_core.radiance.vqrf.codebook import agreeing, ordered
from neurcomp_core.radiance.vqrf.rows import Rows, Shell, VoxelModel, links_of

#: Numbers of a basis are multiples of 1 / this.
UNIT = 128
# Most that a basis stretches one direction against another.
_UNEVEN = 8


@dataclass(frozen=True, eq=False)
class Basis:
    """Features are ``mean + coefficients @ vectors / UNIT``.

    Attributes
    ----------
    vectors : ndarray ``(channels, channels)`` integers
        One per row, nearly orthonormal unless there was a metric; that of the largest variance first.
    mean : ndarray ``(channels,)`` integers
        In `unit`.
    unit : float
        A float32.
    """

    vectors: np.ndarray
    mean: np.ndarray
    unit: float = 1.0

    @classmethod
    def of(cls, features: np.ndarray, importance: np.ndarray, metric: np.ndarray | None = None) -> Basis:
        """Principal axes (Karhunen-Loeve) of rows ``(n, channels)`` with importance ``(n,)``.

        With a `metric` ``(channels, channels)`` of errors, those of a space where all errors count alike: one step is
        right for all coefficients then.
        """
        channels = features.shape[1]
        total = float(importance.sum())
        if total <= 0:
            return cls(UNIT * np.eye(channels, dtype=np.int64), np.zeros(channels, np.int64))
        mean = importance @ features / total
        apart = features.astype(np.float64) - mean
        spread = (importance[:, None] * apart).T @ apart / total
        root = np.eye(channels) if metric is None else _root(metric)
        _, axes = np.linalg.eigh(root.T @ spread @ root)
        axes = np.linalg.solve(root.T, axes[:, ::-1]).T
        axes /= np.linalg.norm(axes, axis=1).mean()
        # A sign for each, whatever the linear algebra's library returns.
        axes *= np.where(axes[np.arange(channels), np.abs(axes).argmax(1)] < 0, -1, 1)[:, None]
        vectors = np.rint(UNIT * axes).astype(np.int64)
        # Rounding a few numbers of unit vectors leaves them independent; should it not, the identity does.
        if np.linalg.cond(vectors) > (2 if metric is None else 4 * _UNEVEN):
            vectors = UNIT * np.eye(channels, dtype=np.int64)
        unit = float(np.float32(max(np.abs(mean).max(), 1e-30) / 1000))
        return cls(vectors, np.rint(mean / unit).astype(np.int64), unit)

    @property
    def offset(self) -> np.ndarray:
        """The mean ``(channels,)`` float64."""
        return self.mean * np.float64(self.unit)

    def coefficients(self, features: np.ndarray) -> np.ndarray:
        """Of features ``(n, channels)``; float32."""
        apart = features.astype(np.float64) - self.offset
        return np.linalg.solve(self.vectors.T / UNIT, apart.T).T.astype(np.float32)

    def features(self, coefficients: np.ndarray) -> np.ndarray:
        """Inverse of `coefficients`; float32."""
        vectors = (self.vectors / UNIT).astype(np.float32)
        return coefficients.astype(np.float32, copy=False) @ vectors + self.offset.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Factors:
    """A field's rows, their features in two parts.

    Attributes
    ----------
    shell : Shell
    occupied : ndarray ``(z, y, x)`` bool
    density : ndarray ``(rows,)`` float32
    basis : Basis
    own : ndarray ``(rows,)`` bool
        Which rows have coefficients of their own.
    kept : ndarray ``(own rows, channels)`` float32
        These coefficients.
    codes : ndarray ``(codes, channels)`` float32
        Coefficients that other rows share.
    index : ndarray ``(other rows,)`` int64
        Code of each.
    network : tuple of ndarray
        See `Rows`.
    """

    shell: Shell
    occupied: np.ndarray
    density: np.ndarray
    basis: Basis
    own: np.ndarray
    kept: np.ndarray
    codes: np.ndarray
    index: np.ndarray
    network: tuple[np.ndarray, ...] = ()

    @property
    def links(self) -> np.ndarray:
        """See `Rows.links`."""
        return links_of(self.occupied)

    def coefficients(self) -> np.ndarray:
        """Of all rows ``(rows, channels)`` float32."""
        out = np.empty((len(self.density), self.kept.shape[1]), np.float32)
        out[self.own] = self.kept
        out[~self.own] = self.codes[self.index]
        return out

    def rows(self) -> Rows:
        return Rows(self.occupied, self.density, self.basis.features(self.coefficients()), self.network)

    def model(self) -> VoxelModel:
        return self.shell.model(self.rows())

    def turned(self, basis: Basis) -> Factors:
        """The same field in another basis."""
        kept, codes = (basis.coefficients(self.basis.features(a)) for a in (self.kept, self.codes))
        return replace(self, basis=basis, kept=kept, codes=codes)

    def shared(self, own: np.ndarray, codes: np.ndarray, importance: np.ndarray, price: float = 0.0) -> Factors:
        """With only the rows `own` ``(rows,)`` bool left their own coefficients.

        Others have the nearest code, or, at a price, a neighbour's that is nearly as near; see `codebook.agreeing`.
        """
        coefficients = self.coefficients()
        links = links_of(_voxels(self.occupied, ~own))
        before = np.stack([_shifted(links, axis)[links != EMPTY] for axis in (2, 1, 0)], 1)
        index = agreeing(coefficients[~own], importance[~own], codes, before, price)
        # Codes that no row has are not stored, and codes that follow each other are alike.
        used, index = np.unique(index, return_inverse=True)
        codes = codes[used]
        order = ordered(codes)
        place = np.empty(len(codes), np.int64)
        place[order] = np.arange(len(codes))
        return replace(self, own=own, kept=coefficients[own], codes=codes[order], index=place[index.ravel()])

    @classmethod
    def of(cls, shell: Shell, rows: Rows, importance: np.ndarray) -> Factors:
        """All rows with features of their own."""
        basis = Basis.of(rows.features, importance)
        kept = basis.coefficients(rows.features)
        none = np.zeros((0, kept.shape[1]), np.float32)
        own, index = np.ones(len(rows), bool), np.zeros(0, np.int64)
        return cls(shell, rows.occupied, rows.density, basis, own, kept, none, index, rows.network)


def _root(metric: np.ndarray) -> np.ndarray:
    """A root R, lower triangular, of a metric R R'; what hardly counts counts a little."""
    values, axes = np.linalg.eigh(metric)
    most = float(values[-1]) or 1.0
    return np.linalg.cholesky((axes * np.maximum(values / most, _UNEVEN**-2)) @ axes.T)


def _voxels(occupied: np.ndarray, some: np.ndarray) -> np.ndarray:
    """Voxels ``(z, y, x)`` of some of the rows ``(rows,)`` bool."""
    chosen = np.zeros_like(occupied)
    chosen[occupied] = some
    return chosen


def _shifted(links: np.ndarray, axis: int) -> np.ndarray:
    """Row of the voxel before each one along an axis."""
    line = np.moveaxis(links, axis, 0)
    before = np.full_like(line, EMPTY)
    before[1:] = line[:-1]
    return np.moveaxis(before, 0, axis)
