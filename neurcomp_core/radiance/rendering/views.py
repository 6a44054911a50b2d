"""Pictures of a radiance field: colour, opacity, depth and normals of every pixel of a camera."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from neurcomp_core.progress import Progress
from neurcomp_core.radiance import cameras
from neurcomp_core.radiance.cameras import Camera
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.grids import SparseGrid
from neurcomp_core.radiance.rendering.dvgo_render import DvgoRenderer
from neurcomp_core.radiance.rendering.fields import DvgoField, PointField, RayField, ViewField
from neurcomp_core.radiance.rendering.frames import Rays
from neurcomp_core.radiance.rendering.march import Integrals, March, MarchOptions
from neurcomp_core.radiance.rendering.ranges import over_ranges
from neurcomp_core.radiance.rendering.samples import Samples, batches, sample_counts, sample_rays
from neurcomp_core.radiance.rendering.spheres import Backdrop
from neurcomp_core.radiance.shared import SharedDvgo, SharedGrid

#: A colour, or colours ``(n, 3)`` as a function of unit viewing directions ``(n, 3)``.
Background = Sequence[float] | np.ndarray | Callable[[np.ndarray], np.ndarray]

#: What pictures are made of.
Renderable = SparseGrid | SharedGrid | SharedDvgo | PointField | RayField

#: Bytes of temporary arrays that rendering may take.
MEMORY = 256 << 20
# Points, directions, density, colours and what evaluating them takes, per sample; what a fused march keeps per ray.
_PER_SAMPLE, _PER_RAY = 256, 512


@dataclass(frozen=True, eq=False)
class View:
    """What a camera sees.

    A grid's background spheres are in its colour alone: to opacity, depth and normals they are background.

    Attributes
    ----------
    color : ndarray ``(height, width, 3)`` float32
        Over the background.
    opacity : ndarray ``(height, width)`` float32
    depth : ndarray ``(height, width)`` float32
        Mean t, by rendering weight, of what is seen: world distance along rays of unit length; NaN where opacity is
        below 1e-3.
    normal : ndarray ``(height, width, 3)`` float32 or None
        Unit vectors against the density's gradient, averaged by rendering weight, in the box's coordinates; zero where
        opacity is below 1e-3 or they cancel.
    """

    color: np.ndarray
    opacity: np.ndarray
    depth: np.ndarray
    normal: np.ndarray | None = None


def render(
    field: Renderable,
    camera: Camera,
    background: Background = (1.0, 1.0, 1.0),
    *,
    near: float = 0.0,
    far: float = np.inf,
    options: MarchOptions | None = None,
    normals: bool = False,
    memory: int = MEMORY,
    progress: Progress | None = None,
) -> View:
    """A picture through a camera, one ray per pixel.

    Parameters
    ----------
    field : Renderable
        A sparse grid goes through the fused kernels; a `RayField` samples its rays itself.
    camera : Camera
    background : colour or callable
        RGB, or a function from unit directions ``(n, 3)`` to colours ``(n, 3)``.
    near, far : float
        World distances.
    options : MarchOptions, optional
    normals : bool
        Whether to make them, too.
    memory : int
        Bytes of temporary arrays; rays are marched in batches that keep to it. What a `PointField` itself takes to be
        evaluated, a network's activations, comes on top.
    progress : Progress, optional
    """
    origins, directions = cameras.rays(camera, None, np.float64)
    rays = Rays(origins.reshape(-1, 3), directions.reshape(-1, 3), near, far)
    view = render_rays(field, rays, background, options=options, normals=normals, memory=memory, progress=progress)
    return _shaped(view, camera.intrinsics.height, camera.intrinsics.width)


def render_view(
    field: Renderable,
    data: PosedImages,
    view: int,
    *,
    options: MarchOptions | None = None,
    normals: bool = False,
    memory: int = MEMORY,
    progress: Progress | None = None,
) -> View:
    """The picture that a field has of one view of a set, over the set's background and within its bounds.

    Rays of a forward-facing set run in normalised device coordinates, and so do depth and normals.
    """
    if isinstance(field, ViewField):
        return field.view(data, view, options=options, normals=normals, progress=progress)
    intrinsics = data.cameras[view].intrinsics
    rays = view_rays(data, view)
    got = render_rays(field, rays, data.background, options=options, normals=normals, memory=memory, progress=progress)
    return _shaped(got, intrinsics.height, intrinsics.width)


def view_rays(data: PosedImages, view: int, pixels: np.ndarray | None = None) -> Rays:
    """Rays of one view of a set, row by row, or through some of its pixels ``(n, 2)`` (u, v)."""
    origins, directions, near, far = data.rays(view, pixels, np.float64)
    views = data.viewing_directions(view, pixels, np.float64).reshape(-1, 3)
    return Rays(origins.reshape(-1, 3), directions.reshape(-1, 3), near, far, views)


def render_rays(
    field: Renderable,
    rays: Rays,
    background: Background = (1.0, 1.0, 1.0),
    *,
    options: MarchOptions | None = None,
    normals: bool = False,
    memory: int = MEMORY,
    progress: Progress | None = None,
) -> View:
    """What rays see; arrays of the view have one axis of rays instead of height and width. See `render`."""
    options, progress, backdrop = options or MarchOptions(), progress or Progress(), None
    if isinstance(field, SparseGrid | SharedGrid):
        shared = isinstance(field, SharedGrid)
        sh, slots = (field.table, field.slots) if shared else (field.sh, None)
        backdrop = None if field.background is None else Backdrop.of(field, options)
        geometry = March.of(field, options)
        cuts = [(a, min(len(rays), a + memory // _PER_RAY)) for a in range(0, len(rays), max(1, memory // _PER_RAY))]

        def integrate(part: Rays) -> Integrals:
            return geometry.forward(field.density, sh, part, normals=normals, slots=slots)
    elif isinstance(field, DvgoField | SharedDvgo):
        renderer = DvgoRenderer.of(field, options) if isinstance(field, SharedDvgo) else field.renderer(options)
        cuts = renderer.cuts(len(rays), memory)

        def integrate(part: Rays) -> Integrals:
            return renderer.integrals(part, normals)
    elif isinstance(field, RayField):
        # What is on a device has its background there, too.
        behind_it = getattr(field, "backdrop", None)
        backdrop = None if behind_it is None else behind_it(options)
        several = max(1, memory // field.ray_nbytes)
        cuts = [(a, min(len(rays), a + several)) for a in range(0, len(rays), several)]

        def integrate(part: Rays) -> Integrals:
            return field.integrate(part, options, normals)
    else:
        occupancy = field.occupancy
        cuts = batches(sample_counts(rays, field.voxel, occupancy, options) + 1, memory // _PER_SAMPLE)

        def integrate(part: Rays) -> Integrals:
            return _integrate(field, part, sample_rays(part, field.voxel, occupancy, options), options.stop, normals)

    return assembled(rays, cuts, integrate, background, normals, progress, backdrop)


def assembled(
    rays: Rays,
    cuts: Sequence[tuple[int, int]],
    integrate: Callable[[Rays], Integrals],
    background: Background,
    normals: bool,
    progress: Progress,
    backdrop: Backdrop | None = None,
) -> View:
    """What rays see, range by range of `cuts`, from what `integrate` gives for each; `backdrop` before `background`."""
    n = len(rays)
    out = View(
        np.empty((n, 3), np.float32), np.empty(n, np.float32), np.empty(n, np.float32),
        np.empty((n, 3), np.float32) if normals else None,
    )  # fmt: skip
    for first, last in cuts:
        progress.update(first / n, "rendering")
        part = rays.part(first, last)
        behind = background(part.views) if callable(background) else np.asarray(background, np.float64)  # pyright: ignore
        _fill(out, slice(first, last), integrate(part), behind if backdrop is None else backdrop.colors(part, behind))
    progress.update(1.0, "rendered")
    return out


def _fill(out: View, at: slice, found: Integrals, behind: np.ndarray) -> None:
    seen = found.opacity >= 1e-3
    out.color[at] = found.color + (1 - found.opacity[:, None]) * behind
    out.opacity[at] = found.opacity
    out.depth[at] = np.divide(found.depth, found.opacity, out=np.full(len(seen), np.nan), where=seen)
    if out.normal is not None:
        length = np.linalg.norm(found.normal, axis=1, keepdims=True)
        where = seen[:, None] & (length > 1e-6)
        out.normal[at] = np.divide(found.normal, length, out=np.zeros_like(found.normal), where=where)


def _shaped(view: View, height: int, width: int) -> View:
    size = height, width
    return View(
        view.color.reshape(*size, 3),
        view.opacity.reshape(size),
        view.depth.reshape(size),
        None if view.normal is None else view.normal.reshape(*size, 3),
    )


def _integrate(field: PointField, rays: Rays, samples: Samples, stop: float, normals: bool) -> Integrals:
    """Integrals of a field by its values at samples; colours only of samples that have a weight."""
    assert rays.views is not None
    n, points, index = len(rays), samples.points(rays), samples.index
    sigma = np.ascontiguousarray(field.density(points), np.float64)
    weights = _composite(samples, sigma, np.zeros((len(samples), 0)), stop, n)[3]
    lit = np.flatnonzero(weights > 0)
    rgb = np.zeros((len(samples), 6 if normals else 3))
    rgb[lit, :3] = field.colors(points[lit], rays.views[index[lit]])
    if normals:
        rgb[lit, 3:] = _normals(field, points[lit])
    mixed, opacity, depth, _ = _composite(samples, sigma, rgb, stop, n)
    stops = np.diff(samples.starts)
    return Integrals(mixed[:, :3], opacity, depth, np.zeros(0), mixed[:, 3:], stops)


def _normals(field: PointField, points: np.ndarray) -> np.ndarray:
    """Unit vectors against the density's gradient, by central differences over a voxel."""
    slope = np.empty_like(points)
    for axis in range(3):
        ahead = np.zeros(3)
        ahead[axis] = field.voxel[axis] / 2
        slope[:, axis] = (field.density(points - ahead) - field.density(points + ahead)) / field.voxel[axis]
    length = np.linalg.norm(slope, axis=1, keepdims=True)
    return np.divide(slope, length, out=np.zeros_like(slope), where=length > 0)


def _composite(
    samples: Samples, sigma: np.ndarray, rgb: np.ndarray, stop: float, rays: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    from neurcomp_core.radiance.rendering import composite_kernels

    out = np.zeros((rays, rgb.shape[1])), np.zeros(rays), np.zeros(rays), np.zeros(len(samples))
    given = samples.starts, sigma, rgb, samples.times, samples.sizes, float(stop)
    over_ranges(rays, lambda _, a, b: composite_kernels.forward(a, b, *given, *out))
    return out
