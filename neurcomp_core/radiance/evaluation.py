"""Views that a radiance volume has of a set of images, and how close they are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.nets.devices import on_cuda
from neurcomp_core.progress import Progress
from neurcomp_core.radiance.dataset import PosedImages, Split
from neurcomp_core.radiance.grids import SparseGrid
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.imports.nerf import NerfWeights
from neurcomp_core.radiance.places import HOST, Place
from neurcomp_core.radiance.rendering import quality
from neurcomp_core.radiance.rendering.fields import DvgoField, PointField, ViewField
from neurcomp_core.radiance.rendering.views import Renderable, View, render_rays, render_view, view_rays
from neurcomp_core.radiance.shared import SharedDvgo, SharedGrid
from neurcomp_core.radiance.volume import RadianceVolume

# SSIM's window.
_SMALLEST = 11


@dataclass(frozen=True)
class ViewFigures:
    """How one view was met.

    Attributes
    ----------
    name : str
        Of the camera.
    psnr, ssim : float
        See `rendering.quality`; SSIM is NaN for pictures smaller than its window.
    lpips : float or None
        If asked for.
    seconds : float
        That rendering took.
    """

    name: str
    psnr: float
    ssim: float
    lpips: float | None
    seconds: float


def field_of(volume: RadianceVolume, device: str = "auto") -> SparseGrid | PointField:
    """What the renderer takes: a sparse grid as it is, else what has density and colour at points.

    `device` is that of a NeRF's networks: "cpu", "cuda", or "auto" for CUDA where there is any.
    """
    model = volume.model
    if isinstance(model, SparseGrid):
        return model
    if isinstance(model, DvgoModel):
        return DvgoField(model)
    from neurcomp_core.radiance.rendering.nerf_field import NerfField

    if device == "auto":
        device = "cuda" if on_cuda(device) else "cpu"
    return NerfField.of(volume, device=device)


def rendered_by(volume: RadianceVolume, place: Place = HOST) -> Renderable:
    """What makes pictures of a volume at a place: its voxels on that device, a NeRF's networks.

    Raises
    ------
    InputError
        If a NeRF is to be rendered by a backend that does not compute its networks there.
    """
    model = volume.model
    if isinstance(model, NerfWeights):
        if place.named and place.backend != ("numba" if place.device == "cpu" else "torch"):
            raise InputError(
                f"backend {place.backend} on {place.device}: a NeRF's networks are computed by numba on the CPU and by "
                "torch on CUDA; choose one of these with --device and --backend"
            )
        return field_of(volume, place.device)
    if place.host:
        return model if isinstance(model, SharedGrid | SharedDvgo) else field_of(volume)
    from neurcomp_core.radiance.rendering.device_fields import device_field

    return device_field(model, place)


def unseen(data: PosedImages) -> PosedImages:
    """Images to judge by: the test images of a set, else those for validation.

    Raises
    ------
    InputError
        If there are neither.
    """
    order: tuple[Split, ...] = ("test", "val")
    for name in order:
        if name in data.splits:
            return data.split(name)
    raise InputError(
        "the set has no test and no validation images, only those to train on; hold some out, or name a split"
    )


def checked(volume: RadianceVolume, data: PosedImages) -> PosedImages:
    """The set as the volume is to be rendered in it: within the volume's bounds.

    Raises
    ------
    InputError
        If the one is in normalised device coordinates and the other is not.
    """
    if (volume.scene == "forward-facing") != (data.scene == "forward-facing"):
        raise InputError(
            f"the field is of a {volume.scene} scene and the images are {data.scene}: their coordinates differ; "
            "give the images it was made from"
        )
    return data if data.scene == "forward-facing" else replace(data, near=volume.near, far=volume.far)


def render_of(field: Renderable, data: PosedImages, view: int, progress: Progress | None = None) -> tuple[View, float]:
    """A view and the seconds it took."""
    start = time.perf_counter()
    got = render_view(field, data, view, progress=progress)
    return got, time.perf_counter() - start


def evaluate(
    volume: RadianceVolume,
    data: PosedImages,
    views: Sequence[int] | None = None,
    lpips: str | None = None,
    progress: Progress | None = None,
    place: Place | None = None,
) -> Iterator[tuple[int, ViewFigures, View]]:
    """Render views and measure them, one after the other.

    Parameters
    ----------
    volume : RadianceVolume
    data : PosedImages
        Rendered over its own background.
    views : sequence of int, optional
        All by default.
    lpips : str, optional
        Network to take LPIPS with, "alex" or "vgg".
    progress : Progress, optional
    place : Place, optional
        Where they are rendered, see `rendered_by`; by default the CPU, a NeRF on CUDA where there is any.

    Yields
    ------
    int, ViewFigures, View
        Number of the view in the set, figures, picture.

    Raises
    ------
    InputError
        If the images cannot be of this field, or as the loaders and `quality` do.
    """
    data, progress = checked(volume, data), progress or Progress()
    field = _default(volume) if place is None else rendered_by(volume, place)
    chosen = list(range(len(data)) if views is None else views)
    if chosen:  # kernels load at their first ray, or are compiled at what it meets, which is not rendering
        if isinstance(field, ViewField):
            render_view(field, data, chosen[0])
        else:
            render_rays(field, view_rays(data, chosen[0], np.array([[0.5, 0.5]])))
    for done, index in enumerate(chosen):
        part = progress.part(done / len(chosen), (done + 1) / len(chosen), f"view {done + 1} of {len(chosen)}")
        got, seconds = render_of(field, data, index, part)
        truth = data.colors(index)
        image = np.clip(got.color, 0, 1)
        large = min(truth.shape[:2]) >= _SMALLEST
        figures = ViewFigures(
            data.names[index],
            quality.psnr(image, truth),
            quality.ssim(image, truth) if large else float("nan"),
            None if lpips is None else quality.lpips(image, truth, lpips),
            seconds,
        )
        yield index, figures, got


def mean_psnr(
    volume: RadianceVolume,
    data: PosedImages,
    views: Sequence[int] | None = None,
    progress: Progress | None = None,
    place: Place | None = None,
) -> float:
    """Mean PSNR over views, in dB, as tables of radiance fields have it; see `evaluate`."""
    found = evaluate(volume, data, views, None, progress, place)
    return float(np.mean([figures.psnr for _, figures, _ in found]))


def _default(volume: RadianceVolume) -> Renderable:
    return field_of(volume) if isinstance(volume.model, NerfWeights) else rendered_by(volume)


def spread(count: int, of: int) -> list[int]:
    """`count` numbers below `of`, evenly spread; all if there are no more."""
    return list(range(of)) if count >= of else [int((i + 0.5) * of / count) for i in range(count)]
