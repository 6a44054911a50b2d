"""Voxel fields rendered by plain torch on any device: what Triton kernels are compared with, and do without them.

All samples of a batch of rays are held at once, free space is looked up at every step, and fields whose rows share
features are expanded.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

from neurcomp_core.radiance.grids import SparseGrid
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.rendering.compositing import composite_reference
from neurcomp_core.radiance.rendering.device_fields import DeviceField, Look, VoxelModel
from neurcomp_core.radiance.rendering.device_rays import RayTensors
from neurcomp_core.radiance.rendering.device_samples import sample_tensors
from neurcomp_core.radiance.rendering.device_views import GridTensors, TensorField
from neurcomp_core.radiance.rendering.dvgo_march import THRESHOLD, DvgoMarch
from neurcomp_core.radiance.rendering.frames import GridFrame
from neurcomp_core.radiance.rendering.march import MarchOptions
from neurcomp_core.radiance.rendering.sampling import sample_reference
from neurcomp_core.radiance.rendering.tensor_networks import logits
from neurcomp_core.radiance.rendering.tensor_normals import normals
from neurcomp_core.radiance.shared import SharedDvgo, SharedGrid

# Look-ups and temporary tensors of a sample.
_PER_SAMPLE = 1024


class DvgoTensors:
    """A DVGO model as a `device_views.TensorField`."""

    def __init__(self, model: DvgoModel, device: torch.device) -> None:
        like = {"dtype": torch.float32, "device": device}
        self._model = model
        self.march = DvgoMarch.of(model)
        self.voxel, self.occupancy = self.march.frame.voxel, self.march.occupancy
        self.like = torch.tensor(model.density.reshape(-1, 1), **like)
        self._features = torch.tensor(model.features.reshape(-1, model.features.shape[3]), **like)
        self._layers = [(torch.tensor(w, **like), torch.tensor(b, **like)) for w, b in model.layers]
        self._mask = None if model.mask is None else torch.tensor(model.mask, device=device)

    def density(self, points: torch.Tensor) -> torch.Tensor:
        model, known = self._model, self._known(points)
        raw = sample_reference(None, self.like, points[known], self.march.frame)[:, 0]
        thick = torch.nn.functional.softplus(raw + model.shift, threshold=30) / model.unit
        return points.new_zeros(len(points)).index_put((known,), thick)

    def colors(self, points: torch.Tensor, views: torch.Tensor) -> torch.Tensor:
        model = self._model
        features = sample_reference(None, self._features, points, self.march.frame)
        every = torch.arange(len(points), device=points.device)
        return logits(features, every, views, self._layers, model.frequencies, model.direct).sigmoid()

    def _known(self, points: torch.Tensor) -> torch.Tensor:
        """Numbers of the points that are not in known free space, by the mask's nearest sample."""
        if self._mask is None or min(self._mask.shape) < 2:
            return torch.arange(len(points), device=points.device)
        top = torch.tensor(self._mask.shape[::-1], device=points.device) - 1
        low, high = torch.as_tensor(self._model.box, dtype=points.dtype, device=points.device)
        at = ((points - low) / (high - low) * top + 0.5).long()
        x, y, z = torch.minimum(at.clamp(min=0), top).T
        return torch.nonzero(self._mask[z, y, x])[:, 0]


class _PlainField(DeviceField):
    """A field of tensors; steps of less opacity than `threshold` count as free, weights below it have no colour."""

    def __init__(
        self,
        model: VoxelModel,
        field: TensorField,
        threshold: float,
        lattice: tuple[torch.Tensor, torch.Tensor | None, GridFrame],
        device: torch.device | str,
    ) -> None:
        super().__init__(model, device)
        self._field, self._threshold, self._lattice = field, threshold, lattice

    @cached_property
    def _longest(self) -> float:
        """Voxels along a ray at most."""
        return float(np.linalg.norm((self.box[1] - self.box[0]) / self._field.voxel))

    def nbytes_of_ray(self, options: MarchOptions) -> int:
        return round(_PER_SAMPLE * (self._longest / options.step + 2))

    def integrals(self, rays: RayTensors, options: MarchOptions, normals: bool = False) -> Look:
        field, least = self._field, self._threshold
        given = (a.float() for a in rays)
        origins, directions, near, far, views = given
        packed, points = sample_tensors(origins, directions, field.voxel, field.occupancy, options, near, far)
        sigma = field.density(points)
        if least:
            sigma = torch.where(-torch.expm1(-sigma * packed.sizes) > least, sigma, 0)
        clear = composite_reference(sigma, sigma.new_zeros(len(sigma), 0), packed, options.stop)
        lit = torch.nonzero(clear.weights > least)[:, 0]
        color = origins.new_zeros(rays.count, 3)
        if len(lit):
            rgb = field.colors(points[lit], views[packed.index[lit]])
            color.index_add_(0, packed.index[lit], clear.weights[lit, None] * rgb)
        normal = color[:0]
        if normals:
            met = torch.nonzero(clear.weights > 0)[:, 0]
            turned = clear.weights[met, None] * self._normals(points[met])
            normal = torch.zeros_like(color).index_add_(0, packed.index[met], turned)
        return Look(color, clear.opacity, clear.depth, normal)

    def _normals(self, points: torch.Tensor) -> torch.Tensor:
        """Unit vectors ``(n, 3)`` against the density's gradient."""
        density, links, frame = self._lattice
        at = points * torch.as_tensor(frame.scale).to(points) + torch.as_tensor(frame.offset).to(points)
        return normals(density, links, 0.0, frame, at)


class GridField(_PlainField):
    """A sparse grid; degree 0 to 2."""

    def __init__(self, model: SparseGrid | SharedGrid, device: torch.device | str) -> None:
        grid = model.expanded() if isinstance(model, SharedGrid) else model
        field = GridTensors.of(grid, device)
        super().__init__(model, field, 0.0, (field.density_rows, field.links, field.frame), device)


class DvgoField(_PlainField):
    """A DVGO model."""

    def __init__(self, model: DvgoModel | SharedDvgo, device: torch.device | str) -> None:
        whole = model.expanded() if isinstance(model, SharedDvgo) else model
        field = DvgoTensors(whole, torch.device(device))
        density = field.like.reshape(whole.density.shape)
        super().__init__(model, field, THRESHOLD, (density, None, field.march.frame), device)
