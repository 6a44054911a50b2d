"""Empty space that a ray may leap over: a coarse grid that knows how far the next occupied cell is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.radiance.grids import EMPTY, SparseGrid
from neurcomp_core.radiance.rendering.frames import GridFrame

#: Voxels per cell and axis. 4 to 8 differ little; smaller cells fit the surface, larger ones make leaps longer.
BLOCK = 4
_FARTHEST = 32


@dataclass(frozen=True, eq=False)
class Occupancy:
    """Free space of a grid in cells of `block` voxels.

    Marching with it gives the very samples that marching without it gives, less those whose interpolated values are
    zero: a cell counts as free only if no sample within it touches an occupied voxel.

    Attributes
    ----------
    distance : ndarray ``(z, y, x)`` uint8
        Per cell 0 if it is occupied, else how many cells off, in the maximum norm, the nearest occupied one is (at
        most 32).
    frame : GridFrame
        Of the voxels, not of the cells.
    block : int
    """

    distance: np.ndarray
    frame: GridFrame
    block: int = BLOCK

    @classmethod
    def of(cls, occupied: np.ndarray | SparseGrid, frame: GridFrame | None = None, block: int = BLOCK) -> Occupancy:
        """From a mask ``(z, y, x)`` of the samples that are not zero, with its frame, or from a sparse grid's links.

        The mask may be coarser than the field, DVGO's is, as long as what it leaves out is zero by trilinear
        interpolation between its samples.
        """
        if isinstance(occupied, SparseGrid):
            cells, frame = occupied.links != EMPTY, GridFrame.of(occupied)
        else:
            cells = np.asarray(occupied, bool)
        if frame is None or cells.shape != frame.shape:
            raise InputError(f"occupancy: expected a mask of the frame's shape, got {cells.shape}")
        if block < 1:
            raise InputError(f"block: expected at least one voxel, got {block}")
        for axis in range(3):
            cells = _blocks(cells, axis, block)
        distance = np.full(cells.shape, _FARTHEST, np.uint8)
        for far in range(_FARTHEST):
            distance[cells & (distance == _FARTHEST)] = far
            if cells.all() or not cells.any():
                break
            cells = dilated(cells)
        return cls(distance, frame, block)

    @classmethod
    def full(cls, frame: GridFrame) -> Occupancy:
        """Everything occupied: nothing is leapt over."""
        return cls(np.zeros((1, 1, 1), np.uint8), frame, max(frame.shape))

    @property
    def occupied(self) -> float:
        """Share of the cells that are occupied."""
        return float(np.mean(self.distance == 0))


def _blocks(mask: np.ndarray, axis: int, block: int) -> np.ndarray:
    """Whether any of the samples ``k block .. (k + 1) block`` is set: a point between the last two touches both."""
    mask = np.moveaxis(mask, axis, 0)
    out = np.stack([mask[k : k + block + 1].any(0) for k in range(0, len(mask), block)])
    return np.moveaxis(out, 0, axis)


def dilated(cells: np.ndarray) -> np.ndarray:
    """Occupied cells ``(z, y, x)`` bool and all that touch them, by face, edge or corner."""
    for axis in range(3):
        cells = np.moveaxis(cells, axis, 0)
        more = cells.copy()
        more[1:] |= cells[:-1]
        more[:-1] |= cells[1:]
        cells = np.moveaxis(more, 0, axis)
    return np.ascontiguousarray(cells)
