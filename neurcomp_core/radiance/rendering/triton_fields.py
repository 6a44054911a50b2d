"""Voxel fields rendered by Triton kernels: expanded ones, and those whose rows share features, as they are."""
# What a kernel is called with is known to Triton, not to a checker.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch

from neurcomp_core.radiance.grids import SparseGrid
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.rendering import triton_dvgo
from neurcomp_core.radiance.rendering.device_dvgo import DeviceDvgoMarch, Grids, Network
from neurcomp_core.radiance.rendering.device_fields import DeviceField, Look
from neurcomp_core.radiance.rendering.device_march import DeviceMarch, Table
from neurcomp_core.radiance.rendering.device_rays import RayTensors
from neurcomp_core.radiance.rendering.dvgo_march import THRESHOLD, DvgoMarch
from neurcomp_core.radiance.rendering.frames import GridFrame
from neurcomp_core.radiance.rendering.march import March, MarchOptions
from neurcomp_core.radiance.rendering.tensor_normals import normals as normals_at
from neurcomp_core.radiance.rendering.triton_rays import lanes
from neurcomp_core.radiance.shared import SharedDvgo, SharedGrid

# Rays, what they meet, and the basis functions of each.
_PER_RAY = 320
# A lit sample: position, weight, ray, colour; so many of them for a ray that meets something.
_PER_SAMPLE, _SAMPLES = 48, 64


class GridField(DeviceField):
    """A sparse grid, see `device_march`."""

    def __init__(self, model: SparseGrid | SharedGrid, device: torch.device | str) -> None:
        super().__init__(model, device)
        shared = isinstance(model, SharedGrid)
        table, slots = (model.table, model.slots) if shared else (model.sh, None)
        self.table = Table.of(model.density, table, self.device, slots)
        z, y, x = model.links.shape
        self._march = March(model.links, GridFrame((z, y, x), model.box))
        self._marches: dict[MarchOptions, DeviceMarch] = {}

    def nbytes_of_ray(self, options: MarchOptions) -> int:
        del options
        return _PER_RAY

    def integrals(self, rays: RayTensors, options: MarchOptions, normals: bool = False) -> Look:
        if options not in self._marches:
            march = March(self._march.links, self._march.frame, self._march.occupancy, options)
            self._marches[options] = DeviceMarch.of(march, self.device)
        found = self._marches[options].forward(self.table, rays, normals=normals)
        return Look(found.color, found.opacity, found.depth, found.normal)


class DvgoField(DeviceField):
    """A DVGO model, see `device_dvgo`."""

    def __init__(self, model: DvgoModel | SharedDvgo, device: torch.device | str) -> None:
        super().__init__(model, device)
        self._model = model
        sent = {"device": self.device}
        if isinstance(model, SharedDvgo):
            values = (torch.tensor(a, **sent) for a in (model.density, model.table, model.links, model.slots))
            self.grids = Grids(*values, model.rest)
        else:
            values = (np.asarray(a, np.float32) for a in (model.density, model.features))
            self.grids = Grids(*(torch.tensor(a, **sent) for a in values))
        self._marches: dict[MarchOptions, DeviceDvgoMarch] = {}

    @cached_property
    def network(self) -> Network:
        """On the device."""
        model = self._model
        return Network.of(model.layers, self.grids.channels, model.frequencies, model.direct, self.device)

    def nbytes_of_ray(self, options: MarchOptions) -> int:
        return _PER_RAY + round(_PER_SAMPLE * _SAMPLES * 0.5 / options.step)

    def integrals(self, rays: RayTensors, options: MarchOptions, normals: bool = False) -> Look:
        if options not in self._marches:
            self._marches[options] = DeviceDvgoMarch.of(DvgoMarch.of(self._model, options, THRESHOLD), self.device)
        march = self._marches[options]
        seen = march.samples(self.grids, rays, lit=True)
        rgb = self.network.colors(march, self.grids, seen.at, seen.index, rays.views.float().contiguous())
        color = torch.zeros(rays.count, 3, device=self.device)
        size = lanes(self.device)
        if len(rgb):
            triton_dvgo.mix[(-(-rays.count // size),)](
                seen.starts, seen.weight, rgb.contiguous(), color, rays.count, LANES=size, num_warps=1
            )
        normal = color[:0]
        if normals:
            # What is too faint to be given a colour has a normal.
            every = march.samples(self.grids, rays)
            model, grids = self._model, self.grids
            z, y, x = model.links.shape if isinstance(model, SharedDvgo) else model.density.shape
            frame = GridFrame((z, y, x), model.box, centered=False)
            turned = every.weight[:, None] * normals_at(grids.density, grids.links, grids.rest, frame, every.at)
            normal = torch.zeros_like(color).index_add_(0, every.index.long(), turned)
        return Look(color, seen.opacity, seen.depth, normal)
