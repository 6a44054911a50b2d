"""Fields on a device: pictures whose rays are made, marched and composited there, by Triton kernels or by plain torch.

A `DeviceField` is a `fields.RayField`, so that everything which renders takes one; `view` makes a camera's picture
without its rays ever being on the host.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from neurcomp_core.nets.memory import Shrinking, free_bytes
from neurcomp_core.progress import Progress
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.grids import SparseGrid
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.places import Place
from neurcomp_core.radiance.rendering.device_rays import RayTensors
from neurcomp_core.radiance.rendering.frames import Rays
from neurcomp_core.radiance.rendering.march import Integrals, MarchOptions
from neurcomp_core.radiance.rendering.spheres import Spheres, spheres_reference, tables_of
from neurcomp_core.radiance.rendering.views import MEMORY, View
from neurcomp_core.radiance.shared import SharedDvgo, SharedGrid

#: What can be rendered on a device.
VoxelModel = SparseGrid | DvgoModel | SharedGrid | SharedDvgo

# Fewest rays that are tried before memory counts as not sufficing.
_FEWEST = 256
# Rays whose background spheres are looked up at once.
_SPHERES = 1 << 13


class Look(NamedTuple):
    """What rays have met: `march.Integrals` as float32 tensors; normal ``(0, 3)`` if it was not asked for."""

    color: torch.Tensor
    opacity: torch.Tensor
    depth: torch.Tensor
    normal: torch.Tensor


@dataclass(frozen=True, eq=False)
class DeviceBackdrop:
    """Background spheres on a device; see `spheres.Backdrop`."""

    spheres: Spheres
    density: torch.Tensor
    rgb: torch.Tensor

    @classmethod
    def of(cls, model: VoxelModel, device: torch.device, options: MarchOptions | None = None) -> DeviceBackdrop | None:
        """Those of a field that has some."""
        far = getattr(model, "background", None)
        if far is None:
            return None
        tables = (torch.tensor(a, device=device) for a in tables_of(far))
        return cls(Spheres(far.links, far.data.shape[1], model.box, options or MarchOptions()), *tables)

    @torch.no_grad()
    def over(self, rays: RayTensors, behind: torch.Tensor) -> torch.Tensor:
        """Colours ``(rays, 3)`` over `behind` ``(3,)``."""
        found = []
        for first in range(0, rays.count, _SPHERES):
            part = rays.part(first, first + _SPHERES)
            color, opacity = spheres_reference(self.spheres, self.density, self.rgb, part)
            found.append(color + (1 - opacity[:, None]) * behind)
        return torch.cat(found) if found else behind.new_zeros(0, 3)

    def colors(self, rays: Rays, behind: np.ndarray) -> np.ndarray:
        """See `spheres.Backdrop.colors`."""
        nothing = torch.zeros(3, device=self.density.device)
        sent = RayTensors.of(rays, self.density.device)
        # Over black and over white: what lies behind shows through by the difference.
        dark, light = (self.over(sent, nothing + shade).double().cpu().numpy() for shade in (0.0, 1.0))
        return dark + (light - dark) * behind


class DeviceField(ABC):
    """A field that is rendered on a device.

    Attributes
    ----------
    device : torch.device
    box : ndarray ``(2, 3)``
    """

    def __init__(self, model: VoxelModel, device: torch.device | str) -> None:
        self.device, self.box = torch.device(device), model.box
        self._backdrop = DeviceBackdrop.of(model, self.device)

    def backdrop(self, options: MarchOptions) -> DeviceBackdrop | None:
        """What is behind the voxels, if there is anything."""
        far = self._backdrop
        return None if far is None else replace(far, spheres=replace(far.spheres, options=options))

    @abstractmethod
    def integrals(self, rays: RayTensors, options: MarchOptions, normals: bool = False) -> Look:
        """What rays meet."""

    @abstractmethod
    def nbytes_of_ray(self, options: MarchOptions) -> int:
        """About how many bytes of temporary tensors a ray takes."""

    # ........................................................................................... as a `fields.RayField`

    @property
    def ray_nbytes(self) -> int:
        return self.nbytes_of_ray(MarchOptions())

    @torch.no_grad()
    def integrate(self, rays: Rays, options: MarchOptions, normals: bool = False) -> Integrals:
        """See `fields.RayField`."""
        sent = RayTensors.of(rays, self.device)
        look = self._parts(sent, lambda part: self.integrals(part, options, normals), options)
        color, opacity, depth, normal = (a.double().cpu().numpy() for a in look)
        return Integrals(color, opacity, depth, np.zeros(0), normal, np.zeros(0, np.int64))

    # ................................................................................................... whole pictures

    @torch.no_grad()
    def frame(
        self,
        rays: RayTensors,
        background: tuple[float, float, float],
        options: MarchOptions | None = None,
        normals: bool = False,
        progress: Progress | None = None,
    ) -> Look:
        """Rays over a background, as `views.View` has it: depth is a mean, normals have unit length."""
        options = options or MarchOptions()
        behind, backdrop = torch.tensor(background, dtype=torch.float32, device=self.device), self.backdrop(options)

        def work(part: RayTensors) -> Look:
            color, opacity, depth, normal = self.integrals(part, options, normals)
            beyond = behind if backdrop is None else backdrop.over(part, behind)
            seen = opacity >= 1e-3
            depth = torch.where(seen, depth / torch.where(seen, opacity, 1), torch.nan)
            length = normal.norm(dim=1, keepdim=True)
            if normals:
                normal = torch.where(seen[:, None] & (length > 1e-6), normal / length.clamp(min=1e-12), 0)
            return Look(color + (1 - opacity[:, None]) * beyond, opacity, depth, normal)

        return self._parts(rays, work, options, progress)

    def view(
        self,
        data: PosedImages,
        view: int,
        *,
        options: MarchOptions | None = None,
        normals: bool = False,
        progress: Progress | None = None,
    ) -> View:
        """`views.render_view` of this field."""
        lens = data.cameras[view].intrinsics
        rays = RayTensors.of_view(data, view, self.device)
        look = self.frame(rays, data.background, options, normals, progress)
        color, opacity, depth, normal = (a.cpu().numpy() for a in look)
        size = lens.height, lens.width
        shown = normal.reshape(*size, 3) if normals else None
        return View(color.reshape(*size, 3), opacity.reshape(size), depth.reshape(size), shown)

    def _parts(
        self,
        rays: RayTensors,
        work: Callable[[RayTensors], Look],
        options: MarchOptions,
        progress: Progress | None = None,
    ) -> Look:
        """`work` on as many rays at a time as memory allows."""
        progress = progress or Progress()
        memory = free_bytes(self.device) or MEMORY
        several = max(_FEWEST, memory // self.nbytes_of_ray(options))
        shrinking = Shrinking(max(1, min(several, rays.count)), _FEWEST, "rays at a time", progress.note)
        found, done = [], 0
        while done < rays.count or not found:
            progress.update(done / max(rays.count, 1), "rendering")

            def some(size: int, first: int = done) -> tuple[Look, int]:
                last = min(first + size, rays.count)
                return work(rays.part(first, last)), last

            look, done = shrinking.run(some)
            found.append(look)
        progress.update(1.0, "rendered")
        return found[0] if len(found) == 1 else Look(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def device_field(model: VoxelModel, place: Place) -> DeviceField:
    """A voxel field on the device of a place that is not the host."""
    if place.backend == "triton":
        from neurcomp_core.radiance.rendering import triton_fields as fields
    else:
        from neurcomp_core.radiance.rendering import torch_fields as fields
    made = fields.GridField if isinstance(model, SparseGrid | SharedGrid) else fields.DvgoField
    return made(model, place.device)  # pyright: ignore[reportArgumentType]
