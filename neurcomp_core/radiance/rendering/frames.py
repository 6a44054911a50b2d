"""Where the samples of a grid lie, and which rays are marched through it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.radiance.grids import SparseGrid
from neurcomp_core.radiance.shared import SharedGrid


@dataclass(frozen=True, eq=False)
class GridFrame:
    """Position of a grid's samples in a box: position in voxels = point * scale + offset, per axis.

    Attributes
    ----------
    shape : tuple of int
        Samples along z, y, x.
    box : ndarray ``(2, 3)`` float64
        Low and high corner in x, y, z. Outside the field is zero.
    centered : bool
        True: samples at the centres of equal voxels (`SparseGrid`, svox2). False: the first and the last sample of an
        axis lie on the box's faces (DVGO), of which an axis then needs two.
    """

    shape: tuple[int, int, int]
    box: np.ndarray
    centered: bool = True

    def __post_init__(self) -> None:
        box = np.ascontiguousarray(self.box, np.float64)
        if box.shape != (2, 3) or not np.isfinite(box).all() or not (box[0] < box[1]).all():
            raise InputError(f"box: expected a low and a higher corner (2, 3), got {box.tolist()}")
        fewest = 1 if self.centered else 2
        if len(self.shape) != 3 or min(self.shape) < fewest:
            raise InputError(f"a grid needs at least {fewest} samples along each of z, y, x; got {self.shape}")
        object.__setattr__(self, "box", box)

    @classmethod
    def of(cls, grid: SparseGrid | SharedGrid) -> GridFrame:
        """The frame of a sparse grid."""
        z, y, x = grid.links.shape
        return cls((z, y, x), grid.box)

    @property
    def voxel(self) -> np.ndarray:
        """Distance ``(3,)`` of neighbouring samples along x, y, z."""
        return (self.box[1] - self.box[0]) / (np.array(self.shape[::-1]) - (0 if self.centered else 1))

    @property
    def scale(self) -> np.ndarray:
        """``(3,)`` voxels per unit length along x, y, z."""
        return 1 / self.voxel

    @property
    def offset(self) -> np.ndarray:
        """``(3,)``"""
        return -self.box[0] * self.scale - (0.5 if self.centered else 0.0)


@dataclass(frozen=True, eq=False)
class Rays:
    """Rays ``origins + t directions`` between near and far.

    Attributes
    ----------
    origins, directions : ndarray ``(n, 3)`` float64
        In the coordinates of the box; directions need not have unit length (normalised device coordinates).
    near, far : ndarray ``(n,)`` float64
        Bounds of t; one number serves all rays. 0 and infinity leave the bounds to the box.
    views : ndarray ``(n, 3)`` float64
        Unit directions in the world, which colour depends on; by default those of `directions`.

    Raises
    ------
    InputError
        If shapes disagree, numbers are not finite, or a direction is zero.
    """

    origins: np.ndarray
    directions: np.ndarray
    near: np.ndarray | float = 0.0
    far: np.ndarray | float = np.inf
    views: np.ndarray | None = None

    def __post_init__(self) -> None:
        directions = np.ascontiguousarray(self.directions, np.float64)
        if directions.ndim != 2 or directions.shape[1] != 3:
            raise InputError(f"rays: expected directions (n, 3), got {directions.shape}")
        try:
            origins = np.ascontiguousarray(np.broadcast_to(self.origins, directions.shape), np.float64)
            near, far = (np.array(np.broadcast_to(b, len(directions)), np.float64) for b in (self.near, self.far))
        except ValueError:
            raise InputError(
                f"rays: expected one origin, near and far per direction, got {np.shape(self.origins)}, "
                f"{np.shape(self.near)} and {np.shape(self.far)} for {directions.shape}"
            ) from None
        lengths = np.linalg.norm(directions, axis=1, keepdims=True)
        if not (np.isfinite(origins).all() and np.isfinite(lengths).all() and (lengths > 0).all()):
            raise InputError("rays: origins and directions must be finite and directions not zero")
        if np.isnan(near).any() or np.isnan(far).any():
            raise InputError("rays: near and far must be numbers")
        views = directions / lengths if self.views is None else np.ascontiguousarray(self.views, np.float64)
        if views.shape != directions.shape:
            raise InputError(f"rays: expected one viewing direction per ray {directions.shape}, got {views.shape}")
        for name, value in zip(
            ("origins", "directions", "near", "far", "views"), (origins, directions, near, far, views), strict=True
        ):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.directions)

    def part(self, first: int, last: int) -> Rays:
        """Rays `first` to `last` - 1."""
        cut = slice(first, last)
        return Rays(*(np.asarray(a)[cut] for a in (self.origins, self.directions, self.near, self.far, self.views)))
