"""Where a NeRF is evaluated along rays: strata first, then more samples where the first ones found something.

Mildenhall et al., NeRF (ECCV 2020), sections 4 and 5.2 (stratified and hierarchical sampling). Samples lie within the
scene's box only, and those in space that is known to be free are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.radiance.rendering.frames import GridFrame, Rays
from neurcomp_core.radiance.rendering.occupancy import Occupancy
from neurcomp_core.radiance.rendering.ranges import over_ranges
from neurcomp_core.radiance.rendering.samples import Samples

# So that a ray whose coarse samples found nothing is still sampled everywhere (the reference program's figure).
_FLOOR = 1e-5
# Length, in its distances, of the last sample of a ray without end: whatever has density there is opaque.
_ENDLESS = 100.0
# Points that densities are looked up at together.
_SLAB = 1 << 16


@dataclass(frozen=True, eq=False)
class Space:
    """Which part of a ray is sampled.

    Attributes
    ----------
    box : ndarray ``(2, 3)`` or None
        Nothing is outside; None leaves a ray's own near and far, which then must be finite.
    disparity : bool
        Strata are even in 1/t instead of t, and the last sample stands for all that is behind it; near must then be
        above 0.
    """

    box: np.ndarray | None
    disparity: bool = False

    @classmethod
    def of(cls, box: np.ndarray, scene: str) -> Space:
        """Of a set or volume: an unbounded one is sampled from near to far, evenly in disparity."""
        return cls(None, True) if scene == "unbounded" else cls(np.asarray(box, np.float64))

    def intervals(self, rays: Rays) -> tuple[np.ndarray, np.ndarray]:
        """First and last t ``(n,)``; equal where a ray misses the box."""
        begin, end = np.asarray(rays.near, np.float64), np.asarray(rays.far, np.float64)
        if self.box is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                low, high = ((corner - rays.origins) / rays.directions for corner in self.box)
            # Parallel to a face: 0/0 on it counts inside.
            first = np.nan_to_num(np.minimum(low, high), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
            last = np.nan_to_num(np.maximum(low, high), nan=np.inf, posinf=np.inf, neginf=-np.inf)
            begin, end = np.maximum(begin, first.max(1)), np.minimum(end, last.min(1))
            met = end > begin
            begin, end = np.where(met, begin, 0.0), np.where(met, end, 0.0)
        if not np.isfinite(end).all() or (self.disparity and not (begin > 0).all()):
            raise InputError("rays of a NeRF without a box need a near distance above 0 and a finite far distance")
        return begin, end


@dataclass(frozen=True, eq=False)
class Strata:
    """Samples of rays, the same number on each.

    Attributes
    ----------
    edges : ndarray ``(rays, n + 1)`` float64
        What each sample stands for: the lengths between them add up to what is sampled of the ray.
    times : ndarray ``(rays, n)`` float64
        t, ascending.
    endless : bool
        Whether the last sample of a ray stands for all that is behind it, too.
    """

    edges: np.ndarray
    times: np.ndarray
    endless: bool = False


def stratified(rays: Rays, space: Space, count: int, draw: np.random.Generator | None = None) -> Strata:
    """One sample in each of `count` strata of a ray (eq. 2): at a random place, or in the middle without `draw`."""
    begin, end = space.intervals(rays)
    fractions = np.full((len(rays), count), 0.5) if draw is None else draw.random((len(rays), count))
    edges = _between(begin, end, np.linspace(0, 1, count + 1)[None], space)
    return Strata(edges, _between(begin, end, (np.arange(count) + fractions) / count, space), space.disparity)


def refined(coarse: Strata, weights: np.ndarray, count: int, draw: np.random.Generator | None = None) -> Strata:
    """The coarse samples and `count` more, drawn in proportion to the coarse rendering weights (section 5.2).

    Parameters
    ----------
    coarse : Strata
    weights : ndarray ``(rays, n)``
        Of the coarse samples.
    count : int
    draw : Generator, optional
        Without one, samples lie at the middles of `count` strata of equal probability.
    """
    from neurcomp_core.radiance.rendering import nerf_kernels

    rays = len(weights)
    fractions = np.full((rays, count), 0.5) if draw is None else draw.random((rays, count))
    found = np.empty((rays, count))
    given = coarse.edges, np.ascontiguousarray(weights, np.float64), fractions, _FLOOR, found
    over_ranges(rays, lambda _, a, b: nerf_kernels.refine(a, b, *given))
    times = np.sort(np.concatenate([coarse.times, found], 1), axis=1)
    middles = (times[:, 1:] + times[:, :-1]) / 2
    edges = np.concatenate([coarse.edges[:, :1], middles, coarse.edges[:, -1:]], 1)
    return Strata(edges, times, coarse.endless)


@dataclass(frozen=True, eq=False)
class Kept:
    """Samples outside free space.

    Attributes
    ----------
    samples : Samples
    slots : ndarray ``(n,)`` int64
        Flat number of each in `Strata.times`.
    """

    samples: Samples
    slots: np.ndarray

    def spread(self, values: np.ndarray, like: Strata) -> np.ndarray:
        """Values ``(n,)`` of the samples as ``(rays, strata)``, zero in free space."""
        out = np.zeros(like.times.shape)
        out.ravel()[self.slots] = values
        return out


def keep(strata: Strata, rays: Rays, free: Occupancy | None = None, whole: np.ndarray | None = None) -> Kept:
    """Samples that are not in free space and stand for some length.

    Parameters
    ----------
    strata : Strata
    rays : Rays
    free : Occupancy, optional
        Without one nothing is free.
    whole : ndarray ``(rays,)`` bool, optional
        Rays on which nothing counts as free.
    """
    from neurcomp_core.radiance.rendering import nerf_kernels

    n = len(rays)
    if free is None:
        free = Occupancy.full(GridFrame((1, 1, 1), np.array([[0.0] * 3, [1.0] * 3])))
    whole = np.zeros(n, bool) if whole is None else whole
    frame = free.frame
    given = (
        rays.origins, rays.directions, strata.edges, strata.times, whole,
        frame.scale, frame.offset, frame.shape, free.distance, free.block,
    )  # fmt: skip
    starts = np.zeros(n + 1, np.int64)
    none, no_slots = np.zeros(0), np.zeros(0, np.int64)
    over_ranges(n, lambda _, a, b: nerf_kernels.keep(a, b, *given, starts, none, none, no_slots))
    starts = np.cumsum(starts)
    times, sizes, slots = np.empty(starts[-1]), np.empty(starts[-1]), np.empty(starts[-1], np.int64)
    if len(times):
        over_ranges(n, lambda _, a, b: nerf_kernels.keep(a, b, *given, starts, times, sizes, slots))
    if strata.endless:
        last = starts[1:][np.diff(starts) > 0] - 1
        sizes[last] = _ENDLESS * times[last]
    return Kept(Samples(starts, times, sizes), slots)


def free_space(
    density: Callable[[np.ndarray], np.ndarray], box: np.ndarray, resolution: int, least: float = 0.01
) -> Occupancy:
    """Free space of a density that can be evaluated anywhere.

    Parameters
    ----------
    density : callable
        Per unit length ``(n,)`` at points ``(n, 3)`` float32.
    box : ndarray ``(2, 3)``
    resolution : int
        Cells along the longest side; the density is looked up at their corners.
    least : float
        A cell is free if at none of its corners, and of its neighbours' corners, a cell's diagonal would be at least
        this opaque.
    """
    frame = lattice_frame(box, resolution)
    values = on_lattice(density, frame)
    cell = float(np.linalg.norm(frame.voxel))
    seen = values >= -np.log1p(-least) / cell
    # A cell of block 1 touches the corners k and k + 1; one corner more on either side for what lies between samples.
    for axis in range(3):
        moved = np.moveaxis(seen, axis, 0)
        grown = moved.copy()
        grown[1:] |= moved[:-1]
        grown[:-1] |= moved[1:]
        seen = np.moveaxis(grown, 0, axis)
    return Occupancy.of(seen, frame, block=1)


def lattice_frame(box: np.ndarray, resolution: int) -> GridFrame:
    """`resolution` cells of equal edges, nearly cubes, along a box's longest side; samples on its faces."""
    if resolution < 1:
        raise InputError(f"resolution: expected at least one cell, got {resolution}")
    sides = box[1] - box[0]
    x, y, z = (max(2, 1 + round(float(resolution * side / sides.max()))) for side in sides)
    return GridFrame((z, y, x), box, centered=False)


def on_lattice(density: Callable[[np.ndarray], np.ndarray], frame: GridFrame) -> np.ndarray:
    """Values ``(z, y, x)`` float32 at a frame's samples, evaluated slab by slab."""
    shape = frame.shape
    out = np.empty(int(np.prod(shape)), np.float32)
    for first in range(0, out.size, _SLAB):
        flat = np.arange(first, min(first + _SLAB, out.size))
        at = np.stack(np.unravel_index(flat, shape)[::-1], 1)
        out[flat] = density(((at - frame.offset) * frame.voxel).astype(np.float32))
    return out.reshape(shape)


def _between(begin: np.ndarray, end: np.ndarray, share: np.ndarray, space: Space) -> np.ndarray:
    begin, end = begin[:, None], end[:, None]
    if space.disparity:
        return 1 / ((1 - share) / begin + share / end)
    return begin + share * (end - begin)
