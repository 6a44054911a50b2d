"""Rays as tensors on a device: those of arrays, and those of cameras, which are turned there."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from neurcomp_core.radiance.cameras import Camera, Intrinsics, camera_directions, pixel_centers
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.rendering.frames import Rays


class RayTensors(NamedTuple):
    """`frames.Rays` on one device.

    origins, directions, views ``(n, 3)``; near, far ``(n,)``: all float64, whatever the field's type, since where a ray
    enters the box decides where all of its samples lie.
    """

    origins: torch.Tensor
    directions: torch.Tensor
    near: torch.Tensor
    far: torch.Tensor
    views: torch.Tensor

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.directions)

    @property
    def device(self) -> torch.device:
        return self.directions.device

    @classmethod
    def of(cls, rays: Rays, device: torch.device | str) -> RayTensors:
        """From arrays."""
        arrays = rays.origins, rays.directions, rays.near, rays.far, rays.views
        return cls(*(torch.tensor(np.asarray(a), dtype=torch.float64, device=device) for a in arrays))

    @classmethod
    def of_camera(cls, camera: Camera, near: float, far: float, device: torch.device | str) -> RayTensors:
        """Through all pixels of a camera, row by row; directions through its lens are sent to the device once."""
        turn = torch.tensor(camera.pose[:3, :3].T, dtype=torch.float64, device=device)
        views = _lens(camera.intrinsics, str(device)) @ turn
        place = torch.tensor(camera.position, dtype=torch.float64, device=device)
        first, last = (torch.full((len(views),), float(b), dtype=torch.float64, device=device) for b in (near, far))
        return cls(place.expand(len(views), 3).contiguous(), views, first, last, views)

    @classmethod
    def of_view(cls, data: PosedImages, view: int, device: torch.device | str) -> RayTensors:
        """`views.view_rays` of all pixels."""
        if data.scene == "forward-facing":
            from neurcomp_core.radiance.rendering.views import view_rays

            return cls.of(view_rays(data, view), device)
        return cls.of_camera(data.cameras[view], data.near, data.far, device)

    def part(self, first: int, last: int) -> RayTensors:
        """Rays `first` to `last` - 1."""
        return RayTensors(*(a[first:last] for a in self))


@lru_cache(maxsize=4)
def _lens(intrinsics: Intrinsics, device: str) -> torch.Tensor:
    pixels = pixel_centers(intrinsics.width, intrinsics.height).reshape(-1, 2)
    return torch.as_tensor(camera_directions(intrinsics, pixels), device=device)
