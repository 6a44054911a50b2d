"""How much each voxel of a field is seen, from the views of a set or, with no images at hand, from all around.

Li et al., Compressing Volumetric Radiance Fields to 1 MB (CVPR 2023), section 3.2: the sum over samples of rays of
rendering weight times the voxel's trilinear weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from neurcomp_core.progress import Progress
from neurcomp_core.radiance import cameras
from neurcomp_core.radiance.cameras import Camera, Intrinsics
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.grids import EMPTY, SparseGrid
from neurcomp_core.radiance.poses import look_at
from neurcomp_core.radiance.rendering.frames import Rays
from neurcomp_core.radiance.rendering.march import March
from neurcomp_core.radiance.rendering.views import view_rays
from neurcomp_core.radiance.volume import RadianceVolume
from neurcomp_core.radiance.vqrf.rows import VoxelModel

_GOLDEN = math.pi * (3 - math.sqrt(5))
_ANGLE = math.radians(40)
# Rays that importance is taken from.
_MOST = 4_000_000


def importance(model: VoxelModel, views: Iterable[Rays], progress: Progress | None = None) -> np.ndarray:
    """Importance ``(rows,)`` float64 of the rows that `rows.rows_of` gives; it sums up to the rays' opacity.

    Samples at the outermost voxels, half a voxel deep, count for the nearest of them.
    """
    if isinstance(model, SparseGrid):
        march = March.of(model)
        sums = np.zeros(len(model.density)), np.zeros(len(model.density))
        for rays in views:
            _check(progress)
            march.importance(model.density, rays, sums)
        return sums[1][model.links[model.links != EMPTY]]
    from neurcomp_core.radiance.rendering.dvgo_importance import importance as of_dvgo

    shape = model.density.shape
    sums = np.zeros(shape), np.zeros(shape)
    for rays in views:
        _check(progress)
        of_dvgo(model, rays, sums)
    return sums[1].ravel()


def _check(progress: Progress | None) -> None:
    if progress is not None:
        progress.check()


def views_of(images: PosedImages, most: int = _MOST) -> Iterator[Rays]:
    """Rays of a set, view by view: all, or those of every k-th row and column if there are more than `most`."""
    total = sum(width * height for width, height in images.images.sizes)
    stride = math.ceil(math.sqrt(max(total / most, 1)))
    for view, (width, height) in enumerate(images.images.sizes):
        if stride == 1:
            yield view_rays(images, view)
            continue
        # Another offset in each view, so that no voxel lies between the rays of all.
        u, v = (np.arange(view // d % stride, n, stride) + 0.5 for n, d in ((width, 1), (height, stride)))
        yield view_rays(images, view, np.stack(np.meshgrid(u, v), -1).reshape(-1, 2))


def free_views(volume: RadianceVolume, count: int, size: int, turn: float = 0.0) -> list[Rays]:
    """Rays of `count` views of `size` x `size` pixels that need no images; other ones for another `turn`."""
    if volume.scene == "forward-facing":
        return forward(volume.box, count, size, turn)
    views = []
    for camera in sphere(volume.box, count, size, turn):
        origins, directions = cameras.rays(camera, None, np.float64)
        views.append(Rays(origins.reshape(-1, 3), directions.reshape(-1, 3)))
    return views


def sphere(box: np.ndarray, count: int, size: int, turn: float = 0.0) -> list[Camera]:
    """Cameras spread evenly over a sphere around a box, all of it in view.

    Parameters
    ----------
    box : ndarray ``(2, 3)``
        Low and high corner in x, y, z.
    count : int
    size : int
        Pixels each way.
    turn : float
        0 to 1: how far each moves on towards the next one's place.
    """
    center, reach = box.mean(0), float(np.linalg.norm(box[1] - box[0])) / 2
    distance = reach / math.sin(_ANGLE / 2)
    place = np.arange(count) + 0.5 * (1 + turn)
    height = np.clip(1 - 2 * place / count, -1, 1)
    around, ring = _GOLDEN * (place + turn), np.sqrt(1 - height**2)
    outward = np.stack([ring * np.cos(around), ring * np.sin(around), height], 1)
    intrinsics = Intrinsics.from_angle(_ANGLE, size, size)
    up = np.array([0.0, 0.0, 1.0])
    return [Camera(intrinsics, look_at(center + distance * o, center, up)) for o in outward]


def forward(box: np.ndarray, count: int, size: int, turn: float = 0.0) -> list[Rays]:
    """The like for a forward-facing field, in normalised device coordinates.

    Rays run from the box's near face (low z) to the far one, tilted by up to a tenth of its extent; seen from the
    world's origin, the field of view is taken as a right angle.
    """
    extent = box[1] - box[0]
    grid = (np.arange(size) + 0.5) / size
    u, v = (a.ravel() for a in np.meshgrid(grid, grid))
    start = box[0] + np.stack([u, v, np.zeros_like(u)], 1) * extent
    views = []
    for k in range(count):
        tilt, around = 0.1 * math.sqrt((k + 0.5 + turn / 2) / count), _GOLDEN * (k + turn)
        along = np.broadcast_to(extent * (tilt * math.cos(around), tilt * math.sin(around), 1), start.shape)
        world = np.stack([start[:, 0] + along[:, 0], start[:, 1] + along[:, 1], -np.ones_like(u)], 1)
        views.append(Rays(start, along, 0.0, 1.0, world / np.linalg.norm(world, axis=1, keepdims=True)))
    return views
