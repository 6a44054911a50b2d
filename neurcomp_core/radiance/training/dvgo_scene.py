"""What happens to a DVGO model between steps: its first state, the box about the object, more samples, free space.

Sun, Sun & Chen (CVPR 2022), sections 4.2 (low-density initialisation, view-count-based rates) and 5 (fine stage,
progressive scaling, free space).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.rendering.frames import GridFrame, Rays
from neurcomp_core.radiance.rendering.occupancy import Occupancy, dilated
from neurcomp_core.radiance.rendering.ranges import over_ranges
from neurcomp_core.radiance.rendering.views import view_rays
from neurcomp_core.radiance.training import dvgo_kernels
from neurcomp_core.radiance.training.dvgo_recipe import DvgoRecipe
from neurcomp_core.radiance.training.dvgo_state import DvgoState, resampled

# Views that must see a voxel; their rays to look with, along either side of an image.
_FEWEST, _LOOK = 3, 64
# Opacity that a voxel in known free space is given; least and largest one of a warm start.
_FREE, _WARM = 1e-6, (3e-4, 0.2)

Shape = tuple[int, int, int]


def shape_of(box: np.ndarray, count: float) -> Shape:
    """Samples along z, y, x of a grid over `box` of about cubic voxels, about `count` in all."""
    size = box[1] - box[0]
    x, y, z = np.maximum((size / np.cbrt(np.prod(size) / count)).astype(int), 2)
    return int(z), int(y), int(x)


def coarse_state(data: PosedImages, recipe: DvgoRecipe) -> DvgoState:
    """The start of the coarse stage: thin everywhere, colour without direction.

    Space that fewer than three views see, or that is nearer than `near` to a camera, is taken for free; the others'
    rates are in proportion to the number of views that see them.
    """
    box, count = data.box, recipe.coarse_resolution**3
    shape = shape_of(box, count)
    unit = float(np.cbrt(np.prod(box[1] - box[0]) / count))
    counts = view_counts(data, GridFrame(shape, box, centered=False))
    seen = counts >= min(_FEWEST, len(data))
    if data.scene != "forward-facing":
        seen &= ~_near_cameras(data, GridFrame(shape, box, centered=False))
    pace = (counts / max(1, int(counts.max()))).astype(np.float32)
    features = np.zeros((*shape, 3), np.float32)
    shift = shift_of(recipe.coarse_alpha)
    state = DvgoState(np.zeros(shape, np.float32), features, [], box, shift, unit, pace=pace)
    return set_free(state, seen)


def shift_of(opacity: float) -> float:
    """Of the density's activation, for which a density of zero gives a voxel this opacity (section 4.2, eq. 9)."""
    return math.log(1 / (1 - opacity) - 1)


def view_counts(data: PosedImages, frame: GridFrame) -> np.ndarray:
    """How many views see each sample of a grid ``(z, y, x)``, by rays through a lattice of their pixels."""
    counts, latest = np.zeros(frame.shape, np.int32), np.full(frame.shape, -1, np.int32)
    for view, (width, height) in enumerate(data.images.sizes):
        u, v = (np.arange(0, n, max(1, n // _LOOK)) + 0.5 for n in (width, height))
        pixels = np.stack(np.broadcast_arrays(u, v[:, None]), -1).reshape(-1, 2)
        rays = view_rays(data, view, pixels)
        bounds = rays.origins, rays.directions, rays.near, rays.far
        # One thread: all write to one array.
        given = *bounds, 1.0, frame.shape, frame.box, frame.scale, frame.offset, view, latest
        dvgo_kernels.visits(0, len(rays), *given)
        counts += latest == view
    return counts


def _near_cameras(data: PosedImages, frame: GridFrame) -> np.ndarray:
    """Samples ``(z, y, x)`` that are no farther than `near` from a camera."""
    axes = [
        low + voxel * np.arange(n) for low, voxel, n in zip(frame.box[0], frame.voxel, frame.shape[::-1], strict=True)
    ]
    close = np.zeros(frame.shape, bool)
    for camera in data.cameras:
        x, y, z = ((axis - p) ** 2 for axis, p in zip(axes, camera.position, strict=True))
        close |= z[:, None, None] + y[:, None] + x <= data.near**2
    return close


def set_free(state: DvgoState, occupied: np.ndarray) -> DvgoState:
    """Take what is not `occupied` ``(z, y, x)`` for free space from now on, and clear what is out of reach then."""
    state.mask = occupied
    away = ~state.reach
    state.density[away] = state.raw(_FREE)
    state.features[away] = 0
    return state


def object_box(coarse: DvgoState, recipe: DvgoRecipe) -> np.ndarray:
    """Box ``(2, 3)`` of the coarse stage's voxels that have opacity, with some room; all of it if none has."""
    found = np.argwhere(coarse.opacity() > recipe.box_threshold)[:, ::-1]
    if not len(found):
        return coarse.box
    voxel = (coarse.box[1] - coarse.box[0]) / (np.array(coarse.shape[::-1]) - 1)
    low, high = coarse.box[0] + (found.min(0) - 1) * voxel, coarse.box[0] + (found.max(0) + 1) * voxel
    middle, half = (low + high) / 2, recipe.margin * (high - low) / 2
    return np.stack([np.maximum(middle - half, coarse.box[0]), np.minimum(middle + half, coarse.box[1])])


def fine_state(coarse: DvgoState, recipe: DvgoRecipe, draw: np.random.Generator) -> DvgoState:
    """The start of the fine stage, in the box about the object that the coarse stage has found."""
    box = object_box(coarse, recipe)
    shape = shape_of(box, recipe.resolution**3 / 2 ** len(recipe.scale_at))
    unit = float(np.cbrt(np.prod(box[1] - box[0]) / recipe.resolution**3))
    features = np.zeros((*shape, recipe.channels), np.float32)
    layers = new_layers(recipe, draw)
    shift = shift_of(recipe.alpha)
    state = DvgoState(np.zeros(shape, np.float32), features, layers, box, shift, unit, recipe.frequencies)
    occupied = _at(state, coarse, _largest(coarse.opacity())) >= recipe.mask_threshold
    if recipe.warm:
        # Dense enough to be seen, thin enough to be looked through where the coarse stage was wrong.
        sigma = np.logaddexp(0, _at(state, coarse, coarse.density) + coarse.shift) / coarse.unit
        thick = np.clip(sigma * unit, -np.log1p(-_WARM[0]), -np.log1p(-_WARM[1]))
        state.density[...] = np.log(np.expm1(thick)) - shift
    return set_free(state, occupied if occupied.any() else np.ones(shape, bool))


def _at(fine: DvgoState, coarse: DvgoState, values: np.ndarray) -> np.ndarray:
    """Trilinear `values` of the coarse grid's samples at those of the fine one, both ``(z, y, x)``."""
    frame = GridFrame(coarse.shape, coarse.box, centered=False)
    low, high = (fine.box * frame.scale + frame.offset).clip(0, np.array(coarse.shape[::-1]) - 1)
    for axis, n in zip((2, 1, 0), fine.shape[::-1], strict=True):
        at = np.linspace(low[2 - axis], high[2 - axis], n)
        below = np.minimum(at.astype(int), values.shape[axis] - 2)
        share = (at - below).reshape([-1 if a == axis else 1 for a in range(3)])
        values = np.take(values, below, axis) * (1 - share) + np.take(values, below + 1, axis) * share
    return values


def _largest(values: np.ndarray) -> np.ndarray:
    """Maximum over each sample's 27 neighbours and itself."""
    for axis in range(3):
        line = np.moveaxis(values, axis, 0)
        more = line.copy()
        np.maximum(more[1:], line[:-1], out=more[1:])
        np.maximum(more[:-1], line[1:], out=more[:-1])
        values = np.moveaxis(more, 0, axis)
    return np.ascontiguousarray(values)


def new_layers(recipe: DvgoRecipe, draw: np.random.Generator) -> list[list[np.ndarray]]:
    """Weights and biases uniform within one over the square root of the inputs; the last bias is zero."""
    sizes = [recipe.channels + 3 + 6 * recipe.frequencies, *[recipe.width] * (recipe.depth - 1), 3]
    layers = []
    for inputs, outputs in itertools.pairwise(sizes):
        weight, bias = (draw.uniform(-1, 1, size) / math.sqrt(inputs) for size in ((outputs, inputs), outputs))
        layers.append([weight.astype(np.float32), bias.astype(np.float32)])
    layers[-1][1][:] = 0
    return layers


def refined(state: DvgoState, recipe: DvgoRecipe, count: float) -> DvgoState:
    """The state on a grid of about `count` samples, its known free space looked at anew; Adam starts anew."""
    assert state.mask is not None
    shape = shape_of(state.box, count)
    density = resampled(state.density[..., None], shape)[..., 0]
    known = resampled(state.mask[..., None].astype(np.float32), shape)[..., 0] > 0
    bare = DvgoState(
        density, np.zeros((*shape, 0), np.float32), [], state.box, state.shift, state.unit, mask=known
    )  # fmt: skip
    occupied = _occupied(bare, recipe.fine.threshold)
    features = resampled(state.features, shape, dilated(occupied))
    shift = state.shift - recipe.denser
    fine = DvgoState(
        density, features, state.layers, state.box, shift, state.unit, state.frequencies, state.direct
    )  # fmt: skip
    return set_free(fine, occupied)


def _occupied(state: DvgoState, threshold: float) -> np.ndarray:
    """What is not yet known to be free and still has opacity about it; all that was, if nothing has."""
    assert state.mask is not None
    found = state.mask & (_largest(state.opacity()) > threshold)
    return found if found.any() else state.mask


def cleared(state: DvgoState, threshold: float) -> DvgoState:
    """The same state, with space that has become free known to be."""
    return set_free(state, _occupied(state, threshold))


@dataclass(frozen=True, eq=False)
class Space:
    """Where something may be: a box ``(2, 3)`` and a mask ``(z, y, x)`` of the samples over it that are not free."""

    box: np.ndarray
    mask: np.ndarray

    def meets(self, rays: Rays) -> np.ndarray:
        """Whether rays pass it, in steps of half a voxel: ``(n,)`` bool."""
        z, y, x = self.mask.shape
        frame = GridFrame((z, y, x), self.box, centered=False)
        space = Occupancy.of(self.mask, frame)
        hit = np.zeros(len(rays), bool)
        given = (
            rays.origins, rays.directions, rays.near, rays.far, 0.5, frame.box, np.ascontiguousarray(self.mask),
            frame.scale, frame.offset, space.distance, space.block, hit,
        )  # fmt: skip
        over_ranges(len(rays), lambda _, first, last: dvgo_kernels.meets(first, last, *given))
        return hit
