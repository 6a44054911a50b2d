"""The voxels of a Plenoxels training: the first grid, pruning, cropping and refining (section 3.3)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.radiance import spherical_harmonics
from neurcomp_core.radiance.grids import EMPTY, SparseGrid
from neurcomp_core.radiance.rendering import sample_kernels
from neurcomp_core.radiance.rendering.frames import GridFrame
from neurcomp_core.radiance.rendering.occupancy import dilated
from neurcomp_core.radiance.rendering.ranges import over_ranges
from neurcomp_core.radiance.training.background import in_ellipsoid

# Voxels that a cropped box keeps around what is left.
_MARGIN = 1


def shape_of(box: np.ndarray, size: int, depth: int = 0) -> tuple[int, int, int]:
    """Samples along z, y, x: `size` along the longest side and cubic voxels, but `depth` along z if that is not 0."""
    extent = box[1] - box[0]
    x, y, z = np.maximum(1, np.rint(size * extent / extent.max())).astype(int)
    return (depth or int(z)), int(y), int(x)


def first_grid(box: np.ndarray, shape: tuple[int, int, int], degree: int, density: float, round: bool) -> SparseGrid:
    """Grey fog of constant density everywhere, or if `round` in the largest ellipsoid within the box."""
    keep = in_ellipsoid(shape) if round else np.ones(shape, bool)
    fog = np.full(shape, density, np.float32)
    return SparseGrid.from_dense(fog, np.zeros((*shape, 3, spherical_harmonics.count(degree)), np.float32), box, keep)


def kept(grid: SparseGrid, most: np.ndarray, least: float) -> np.ndarray:
    """``(z, y, x)`` bool: voxels whose largest rendering weight, `most` ``(rows,)``, is at least `least`, and those of
    the grid next to them, by face, edge or corner.

    Raises
    ------
    InputError
        If there is none.
    """
    keep = np.append(most >= least, False)[grid.links]
    if not keep.any():
        raise InputError(
            "nothing is left of the grid: no voxel is seen in the training views; check the box and the poses, "
            "train more steps, or prune less (prune=0 keeps everything)"
        )
    return dilated(keep) & (grid.links != EMPTY)


def cropped_box(grid: SparseGrid) -> np.ndarray:
    """The smallest box ``(2, 3)``, within the grid's, around its voxels and one more on each side."""
    places = np.stack(np.nonzero(grid.links != EMPTY)[::-1], 1)
    low, high = places.min(0) - _MARGIN, places.max(0) + 1 + _MARGIN
    corners = grid.box[0] + np.stack([low, high]) * grid.voxel
    return np.stack([np.maximum(corners[0], grid.box[0]), np.minimum(corners[1], grid.box[1])])


def refined(grid: SparseGrid, box: np.ndarray, shape: tuple[int, int, int]) -> SparseGrid:
    """Voxels of `shape` in `box`, those whose centre lies in one of the grid's, interpolated trilinearly."""
    inside = []
    for axis, count in enumerate(shape):
        i = 2 - axis
        centers = box[0, i] + (np.arange(count) + 0.5) * (box[1, i] - box[0, i]) / count
        cells = np.floor((centers - grid.box[0, i]) / grid.voxel[i]).astype(int)
        inside.append(np.clip(cells, 0, grid.links.shape[axis] - 1))
    return resampled(grid, grid.links[np.ix_(*inside)] != EMPTY, box)


def resampled(grid: SparseGrid, keep: np.ndarray, box: np.ndarray | None = None) -> SparseGrid:
    """Voxels of another size, by trilinear interpolation.

    Parameters
    ----------
    grid : SparseGrid
    keep : ndarray ``(z, y, x)`` bool
        The new voxels that are to be there; the others are left out.
    box : ndarray ``(2, 3)``, optional
        Low and high corner in x, y, z of what they divide; that of the grid if left out. New voxels beyond the grid's
        box are zero.
    """
    box = grid.box if box is None else np.asarray(box, np.float64)
    links = np.full(keep.shape, EMPTY, np.int32)
    links[keep] = np.arange(np.count_nonzero(keep), dtype=np.int32)
    points = np.stack(np.nonzero(keep)[::-1], 1) + 0.5
    points = box[0] + points * ((box[1] - box[0]) / keep.shape[::-1])
    table = np.concatenate([grid.density[:, None], grid.sh.reshape(len(grid.sh), -1)], 1)
    values = np.zeros((len(points), table.shape[1]), table.dtype)
    if len(table):
        frame = GridFrame.of(grid)
        old = np.ascontiguousarray(grid.links, np.int32)
        given = points, old, False, frame.shape, frame.box, frame.scale, frame.offset, table, values
        over_ranges(len(points), lambda _, a, b: sample_kernels.sample(a, b, *given))
    sh = np.ascontiguousarray(values[:, 1:]).reshape(len(points), *grid.sh.shape[1:])
    return replace(grid, links=links, density=np.ascontiguousarray(values[:, 0]), sh=sh, box=box)
