"""Gradients of fields on a device, by Triton kernels or plain torch: `descent_sparse` and `descent_dvgo` for CUDA."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from neurcomp_core.radiance.grids import SparseGrid
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.places import Place
from neurcomp_core.radiance.rendering.device_fields import DeviceBackdrop
from neurcomp_core.radiance.rendering.device_rays import RayTensors
from neurcomp_core.radiance.rendering.frames import GridFrame
from neurcomp_core.radiance.rendering.march import March
from neurcomp_core.radiance.training.batches import Batch
from neurcomp_core.radiance.training.dvgo_recipe import DvgoSchedule
from neurcomp_core.radiance.training.dvgo_state import DvgoState
from neurcomp_core.radiance.training.dvgo_torch import TorchEngine
from neurcomp_core.radiance.vqrf.factors import Factors
from neurcomp_core.radiance.vqrf.finetune import Slope

# Of the squared error alone.
_LOSS = DvgoSchedule(1, entropy=0.0, point=0.0)


@dataclass(frozen=True, eq=False)
class SparseDescent:
    """See `finetune.Descent`; spheres behind the grid stay as they are."""

    march: March
    place: Place
    background: torch.Tensor
    backdrop: DeviceBackdrop | None

    @classmethod
    def of(cls, factors: Factors, background: tuple[float, float, float], place: Place) -> SparseDescent:
        """That of a field's voxels."""
        z, y, x = factors.occupied.shape
        march, model = March(factors.links, GridFrame((z, y, x), factors.shell.box)), factors.model()
        assert isinstance(model, SparseGrid)
        behind = torch.tensor(background, dtype=torch.float32, device=place.device)
        return cls(march, place, behind, DeviceBackdrop.of(model, torch.device(place.device)))

    def slope(self, density: np.ndarray, features: np.ndarray, network: tuple[np.ndarray, ...], batch: Batch) -> Slope:
        """Of a batch."""
        rays, like = RayTensors.of(batch.rays, self.place.device), self.background
        beyond = like if self.backdrop is None else self.backdrop.over(rays, like)
        targets = torch.as_tensor(np.asarray(batch.colors)).to(like)
        sh = features.reshape(len(density), 3, -1)
        found = (self._by_triton if self.place.backend == "triton" else self._by_torch)(
            density, sh, batch, rays, beyond, targets
        )
        errors, g_density, g_sh = found
        met = (g_density != 0) | (g_sh != 0).any(1)
        error = float((errors**2).mean())
        g_density, g_sh, met = (a.cpu().numpy() for a in (g_density, g_sh, met))
        # The loss is summed over the three channels.
        return Slope(error, 3.0, g_density, g_sh, (), met)

    def _by_triton(
        self, density: np.ndarray, sh: np.ndarray, batch: Batch, rays: RayTensors, beyond: torch.Tensor,
        targets: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
        from neurcomp_core.radiance.rendering.device_march import DeviceMarch, Table

        table = Table.of(density, sh, self.place.device)
        march = self.march.__dict__.get("_on_device")
        if march is None:
            march = self.march.__dict__["_on_device"] = DeviceMarch.of(self.march, self.place.device)
        found = march.forward(table, rays)
        errors = found.color + (1 - found.opacity)[:, None] * beyond - targets
        color = 2 / rays.count * errors
        into = torch.zeros_like(table.density), torch.zeros_like(table.sh)
        march.backward(table, rays, found, into, color=color, opacity=-(color * beyond).sum(1))
        return errors, into[0], into[1][:, : 3 * table.functions]

    def _by_torch(
        self, density: np.ndarray, sh: np.ndarray, batch: Batch, rays: RayTensors, beyond: torch.Tensor,
        targets: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
        from neurcomp_core.radiance.rendering.fused import march_reference

        values = [torch.tensor(a, device=self.place.device, requires_grad=True) for a in (density, sh)]
        seen = march_reference(values[0], values[1], self.march, batch.rays)
        errors = seen.over(beyond) - targets
        loss = (errors**2).sum(1).mean()
        if loss.requires_grad:
            loss.backward()
        density_slope, slope = (torch.zeros_like(v) if v.grad is None else v.grad for v in values)
        return errors.detach(), density_slope, slope.flatten(1)


@dataclass(frozen=True, eq=False)
class DvgoDescent:
    """See `finetune.Descent`; rows are the occupied samples among all of the grids."""

    engine: TorchEngine
    rows: torch.Tensor

    @classmethod
    def of(cls, factors: Factors, background: tuple[float, float, float], place: Place) -> DvgoDescent:
        """That of a field's voxels."""
        from neurcomp_core.radiance.training.dvgo import engine_of

        model = factors.model()
        assert isinstance(model, DvgoModel)
        engine = engine_of(DvgoState.of(model), background, place.device, place.backend)
        assert isinstance(engine, TorchEngine)
        return cls(engine, torch.tensor(np.flatnonzero(factors.occupied), device=place.device))

    def slope(self, density: np.ndarray, features: np.ndarray, network: tuple[np.ndarray, ...], batch: Batch) -> Slope:
        """Of a batch."""
        values, channels = self.engine.parameters, features.shape[1]
        names = [f"{kind} {i}" for i in range(len(network) // 2) for kind in ("weight", "bias")]
        with torch.no_grad():
            for name, given, width in (("density", density, 1), ("features", features, channels)):
                sent = torch.as_tensor(np.ascontiguousarray(given)).to(values[name])
                values[name].view(-1, width)[self.rows] = sent.view(-1, width)
            for name, array in zip(names, network, strict=True):
                values[name].copy_(torch.as_tensor(np.ascontiguousarray(array)))
        error, slopes = self.engine.slopes(batch, _LOSS)
        g_density = slopes["density"].view(-1)[self.rows]
        g_features = slopes["features"].view(-1, channels)[self.rows]
        met = (g_density != 0) | (g_features != 0).any(1)
        own = tuple(slopes[name].cpu().numpy().copy() for name in names)
        g_density, g_features, met = (a.cpu().numpy() for a in (g_density, g_features, met))
        return Slope(error, 1.0, g_density, g_features, own, met)
