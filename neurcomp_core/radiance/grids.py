"""Sparse voxel grids of density and spherical harmonics: Plenoxels, and what svox2 writes.

Fridovich-Keil, Yu et al., Plenoxels: Radiance Fields without Neural Networks (CVPR 2022), section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.field import UniformGrid
from neurcomp_core.radiance import spherical_harmonics

EMPTY = -1


@dataclass(frozen=True, eq=False)
class SphereLayers:
    """Background of an unbounded scene: concentric spheres of RGB and density (Plenoxels, section 3.5).

    Attributes
    ----------
    links : ndarray ``(2 r, r)`` int32
        Row of `data` per texel of an equirectangular map, `EMPTY` where there is none.
    data : ndarray ``(rows, layers, 4)`` float32
        RGB (before ``+ 0.5`` and clipping) and density, from the inner sphere (radius 1) to the outer one.
    """

    links: np.ndarray
    data: np.ndarray

    def __post_init__(self) -> None:
        _check("background data", self.data, "(rows, layers, 4)", self.data.ndim == 3 and self.data.shape[2] == 4)
        _check("background links", self.links, "(2 r, r)", self.links.ndim == 2)
        _check_links("background links", self.links, len(self.data))


@dataclass(frozen=True, eq=False)
class SparseGrid:
    """A radiance field on the voxels that matter.

    Between samples everything is interpolated trilinearly, empty samples counting as zero (zero density, zero
    coefficients); the density that counts is ``max(0, .)`` of the interpolated one, per unit of world length, and the
    colour seen along unit direction d is ``max(0, 0.5 + sum_k sh[k] Y_k(d))``.

    Attributes
    ----------
    links : ndarray ``(z, y, x)`` int32
        Row of `density` and `sh` per voxel, x fastest; `EMPTY` where there is none. No row is used twice.
    density : ndarray ``(rows,)`` float32
    sh : ndarray ``(rows, 3, functions)`` float32
        Coefficients of red, green, blue; the basis, order and signs are `spherical_harmonics.basis`'s, which are
        svox2's. 1, 4 or 9 (degree 0, 1, 2) are customary.
    box : ndarray ``(2, 3)`` float64
        Outer faces, low and high corner in x, y, z (world coordinates, or normalised device coordinates). It is cut
        into equal voxels, and samples lie at the voxels' *centres*: the first one half a voxel from the face.
        Beyond the outermost centres values are those of the nearest point among them.
    background : SphereLayers, optional

    Raises
    ------
    InputError
        If shapes disagree, a link leads nowhere, or two lead to one row.
    """

    links: np.ndarray
    density: np.ndarray
    sh: np.ndarray
    box: np.ndarray
    background: SphereLayers | None = None

    def __post_init__(self) -> None:
        rows = len(self.density)
        _check("density", self.density, "(rows,)", self.density.ndim == 1)
        _check("sh", self.sh, f"({rows}, 3, functions)", self.sh.ndim == 3 and self.sh.shape[:2] == (rows, 3))
        spherical_harmonics.degree_of(self.sh.shape[2])
        _check("links", self.links, "(z, y, x), at least 1 each", self.links.ndim == 3 and self.links.size > 0)
        _check_links("links", self.links, rows)
        box = np.asarray(self.box, np.float64)
        if box.shape != (2, 3) or not np.isfinite(box).all() or not (box[0] < box[1]).all():
            raise InputError(f"box: expected a low and a higher corner (2, 3), got {box.tolist()}")
        object.__setattr__(self, "box", box)

    @classmethod
    def from_dense(cls, density: np.ndarray, sh: np.ndarray, box: np.ndarray, keep: np.ndarray) -> SparseGrid:
        """Keep the voxels where `keep` ``(z, y, x)`` of ``(z, y, x)`` densities and ``(z, y, x, 3, functions)``."""
        links = np.full(keep.shape, EMPTY, np.int32)
        links[keep] = np.arange(np.count_nonzero(keep), dtype=np.int32)
        return cls(links, density[keep].astype(np.float32), sh[keep].astype(np.float32), box)

    @property
    def degree(self) -> int:
        """Of the spherical harmonics."""
        return spherical_harmonics.degree_of(self.sh.shape[2])

    @property
    def voxel(self) -> np.ndarray:
        """Edges ``(3,)`` of a voxel along x, y, z."""
        return (self.box[1] - self.box[0]) / self.links.shape[::-1]

    @property
    def geometry(self) -> UniformGrid:
        """Where the samples are, for point data of an image."""
        x, y, z = ((float(o), float(s)) for o, s in zip(self.box[0] + self.voxel / 2, self.voxel, strict=True))
        nz, ny, nx = self.links.shape
        return UniformGrid((0, nx - 1, 0, ny - 1, 0, nz - 1), origin=(x[0], y[0], z[0]), spacing=(x[1], y[1], z[1]))

    def dense(self) -> tuple[np.ndarray, np.ndarray]:
        """Density ``(z, y, x)`` and coefficients ``(z, y, x, 3, functions)``, zero where empty."""
        density, sh = (
            np.append(self.density, 0),
            np.concatenate([self.sh, np.zeros_like(self.sh[:1], shape=(1, *self.sh.shape[1:]))]),
        )
        return density[self.links].astype(np.float32), sh[self.links]

    def sample(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Density ``(n,)`` (not clipped) and coefficients ``(n, 3, functions)`` at points ``(n, 3)``, in float64.

        A plain reference to check faster kernels against. Outside the box everything is zero.
        """
        inside = ((points >= self.box[0]) & (points <= self.box[1])).all(1)
        top = np.array(self.links.shape[::-1]) - 1
        at = np.clip((points - self.box[0]) / self.voxel - 0.5, 0, top)
        low = np.minimum(at.astype(np.int64), np.maximum(top - 1, 0))
        share = at - low
        density = np.zeros(len(points))
        sh = np.zeros((len(points), *self.sh.shape[1:]))
        for corner in np.ndindex(2, 2, 2):
            weight = np.prod(np.where(corner, share, 1 - share), axis=1) * inside
            x, y, z = np.minimum(low + corner, top).T
            row = self.links[z, y, x]
            weight = np.where(row == EMPTY, 0.0, weight)
            if len(self.density):
                density += weight * self.density[row]
                sh += weight[:, None, None] * self.sh[row]
        return density, sh

    def taking(self, keep: np.ndarray) -> SparseGrid:
        """Only the voxels where `keep` ``(z, y, x)`` bool holds; rows in their order."""
        rows = self.links[keep & (self.links != EMPTY)]
        kept = np.zeros(len(self.density), bool)
        kept[rows] = True
        numbers = np.append(np.where(kept, np.cumsum(kept) - 1, EMPTY), EMPTY).astype(np.int32)
        return replace(self, links=numbers[self.links], density=self.density[kept], sh=self.sh[kept])

    def colors(self, points: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """RGB ``(n, 3)`` float64 at points seen along unit directions ``(n, 3)``."""
        values = spherical_harmonics.basis(np.asarray(directions, np.float64), self.degree)
        return np.maximum(0.0, 0.5 + np.einsum("nck,nk->nc", self.sample(points)[1], values))


def _check(name: str, array: np.ndarray, expected: str, good: bool) -> None:
    if not good or array.dtype.kind not in "iuf":
        raise InputError(f"{name}: expected numbers of shape {expected}, got {array.shape} {array.dtype}")


def _check_links(name: str, links: np.ndarray, rows: int) -> None:
    used = links[links != EMPTY]
    if links.dtype.kind not in "iu" or (used.size and not 0 <= used.min() <= used.max() < rows):
        raise InputError(f"{name}: expected row numbers below {rows} or {EMPTY}, got {links.dtype} beyond that")
    if used.size > rows or np.bincount(used, minlength=1).max(initial=0) > 1:
        raise InputError(f"{name}: two voxels lead to one row; expected one row per voxel")
