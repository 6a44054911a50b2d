"""Samples along rays, packed: what a network or a dense grid is evaluated at before compositing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurcomp_core.radiance.rendering.frames import Rays
from neurcomp_core.radiance.rendering.march import MarchOptions, ray_fractions
from neurcomp_core.radiance.rendering.occupancy import Occupancy
from neurcomp_core.radiance.rendering.ranges import over_ranges

_NONE = np.zeros(0)


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples of rays, one after the other, nearest first.

    Attributes
    ----------
    starts : ndarray ``(rays + 1,)`` int64
        Ray r has the samples ``starts[r]`` to ``starts[r + 1] - 1``.
    times : ndarray ``(n,)`` float64
        t of each sample.
    sizes : ndarray ``(n,)`` float64
        Length of ray that each stands for, in the box's coordinates.
    """

    starts: np.ndarray
    times: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.times)

    @property
    def index(self) -> np.ndarray:
        """Ray ``(n,)`` int64 of each sample."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def points(self, rays: Rays) -> np.ndarray:
        """``(n, 3)`` float64."""
        index = self.index
        return rays.origins[index] + self.times[:, None] * rays.directions[index]


def sample_rays(
    rays: Rays,
    voxel: np.ndarray,
    occupancy: Occupancy,
    options: MarchOptions | None = None,
    fractions: np.ndarray | None = None,
) -> Samples:
    """Samples of rays in a box, one per step, except in free space.

    Parameters
    ----------
    rays : Rays
    voxel : ndarray ``(3,)``
        Edges along x, y, z of the voxel that the step refers to.
    occupancy : Occupancy
        Its frame has the box; `Occupancy.full` where nothing is known.
    options : MarchOptions, optional
        Its `stop` is not used: that is the compositing's.
    fractions : ndarray ``(rays,)``, optional
        See `March.forward`.
    """
    from neurcomp_core.radiance.rendering import ray_kernels

    given = _walk(rays, voxel, occupancy, options, fractions)
    starts = np.concatenate([[0], np.cumsum(sample_counts(rays, voxel, occupancy, options, fractions))])
    times, sizes = np.empty(starts[-1]), np.empty(starts[-1])
    if len(times):
        filled = [*given, starts, times, sizes]
        over_ranges(len(rays), lambda _, a, b: ray_kernels.walk(a, b, *filled))
    return Samples(starts, times, sizes)


def sample_counts(
    rays: Rays,
    voxel: np.ndarray,
    occupancy: Occupancy,
    options: MarchOptions | None = None,
    fractions: np.ndarray | None = None,
) -> np.ndarray:
    """How many samples ``(rays,)`` int64 `sample_rays` would give."""
    from neurcomp_core.radiance.rendering import ray_kernels

    counts = np.zeros(len(rays) + 1, np.int64)
    given = [*_walk(rays, voxel, occupancy, options, fractions), counts, _NONE, _NONE]
    over_ranges(len(rays), lambda _, a, b: ray_kernels.walk(a, b, *given))
    return counts[1:]


def batches(counts: np.ndarray, most: int) -> list[tuple[int, int]]:
    """Ranges of rays that have at most `most` samples each, by the rays' counts ``(rays,)``; at least one ray."""
    total = np.cumsum(counts)
    cuts, first = [], 0
    while first < len(counts):
        before = total[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(total, before + most, side="right")))
        cuts.append((first, last))
        first = last
    return cuts


def _walk(
    rays: Rays,
    voxel: np.ndarray,
    occupancy: Occupancy,
    options: MarchOptions | None,
    fractions: np.ndarray | None,
) -> tuple:
    """What `ray_kernels.walk` is given of these."""
    frame, step = occupancy.frame, float((options or MarchOptions()).step)
    scale = np.stack([1 / np.asarray(voxel, np.float64), frame.scale])
    given = rays.origins, rays.directions, rays.near, rays.far, ray_fractions(fractions, len(rays)), step
    return (*given, frame.box, scale, frame.offset, frame.shape, occupancy.distance, occupancy.block)
