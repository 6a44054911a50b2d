"""What a compressed field is judged by: a few views of images, or of the uncompressed field where there are none."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.evaluation import checked, field_of, spread
from neurcomp_core.radiance.rendering.frames import Rays
from neurcomp_core.radiance.rendering.views import render_rays, view_rays
from neurcomp_core.radiance.volume import RadianceModel, RadianceVolume
from neurcomp_core.radiance.vqrf.importance import free_views

# Rays of a judgement, all views together.
_RAYS = 400_000


@dataclass(frozen=True, eq=False)
class Look:
    """Rays, and the colours ``(rays, 3)`` that there should be along them."""

    rays: Rays
    colors: np.ndarray


@dataclass(frozen=True, eq=False)
class Judge:
    """Views to compare with.

    Attributes
    ----------
    volume : RadianceVolume
        The uncompressed field.
    looks : tuple of Look
        One per view.
    photos : bool
        True: the colours are those of images. False: of the uncompressed field.
    """

    volume: RadianceVolume
    looks: tuple[Look, ...]
    photos: bool

    @classmethod
    def of_images(cls, volume: RadianceVolume, images: PosedImages, most: int) -> Judge:
        """Up to `most` images of a set, evenly chosen; of large ones a lattice of their pixels."""
        images = checked(volume, images)
        looks = tuple(_look(images, view, _RAYS // most) for view in spread(most, len(images)))
        return cls(replace(volume, background=images.background), looks, True)

    @classmethod
    def of_field(cls, volume: RadianceVolume, most: int, size: int) -> Judge:
        """What a field itself shows in `most` views of `size` x `size` pixels, not those `importance` is taken from."""
        rays = free_views(volume, most, size, turn=0.5)
        return cls(volume, tuple(Look(r, seen(volume, volume.model, r)) for r in rays), False)

    def psnr(self, model: RadianceModel) -> float:
        """Mean over views in dB, colours clipped to 0 to 1, for a range of 1; infinite if nothing differs."""
        return float(np.mean([-10 * math.log10(e) if e else math.inf for e in self.errors(model)]))

    def errors(self, model: RadianceModel) -> list[float]:
        """Mean squared error of each view."""
        found = []
        for look in self.looks:
            shown = np.clip(seen(self.volume, model, look.rays), 0, 1).astype(np.float64)
            found.append(float(np.mean((shown - np.clip(look.colors, 0, 1)) ** 2)))
        return found


def _look(images: PosedImages, view: int, most: int) -> Look:
    colors = images.colors(view)
    height, width = colors.shape[:2]
    stride = math.ceil(math.sqrt(max(width * height / most, 1)))
    u, v = np.arange(stride // 2, width, stride), np.arange(stride // 2, height, stride)
    pixels = np.stack(np.meshgrid(u, v), -1).reshape(-1, 2)
    return Look(view_rays(images, view, pixels + 0.5), colors[pixels[:, 1], pixels[:, 0]])


def seen(volume: RadianceVolume, model: RadianceModel, rays: Rays) -> np.ndarray:
    """Colours ``(rays, 3)`` float32 of a model that is rendered as a volume is."""
    return render_rays(field_of(replace(volume, model=model)), rays, volume.background).color
