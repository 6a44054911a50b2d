"""Steps of a DVGO training by Triton kernels: `dvgo_step.CpuEngine` on a CUDA device.

March, look-ups, losses, scattering, total variation and Adam are kernels; the network's matrix products and their
gradients are torch's.
"""
# What a kernel is called with is known to Triton, not to a checker.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from typing import Any

import torch

from neurcomp_core.radiance.rendering.device_dvgo import DeviceDvgoMarch, Grids
from neurcomp_core.radiance.rendering.device_rays import RayTensors
from neurcomp_core.radiance.rendering.dvgo_march import DvgoMarch
from neurcomp_core.radiance.rendering.march import MarchOptions
from neurcomp_core.radiance.rendering.tensor_networks import logits
from neurcomp_core.radiance.rendering.triton_rays import lanes
from neurcomp_core.radiance.training import triton_kernels as kernels
from neurcomp_core.radiance.training.batches import Batch
from neurcomp_core.radiance.training.dvgo_recipe import DvgoSchedule
from neurcomp_core.radiance.training.dvgo_state import DvgoState
from neurcomp_core.radiance.training.dvgo_step import DECAYS, correction
from neurcomp_core.radiance.training.dvgo_torch import TorchEngine

_NUMBERS, _SAMPLES = 1024, 64


class TritonEngine(TorchEngine):
    """See `dvgo_step.CpuEngine`; parameters, moments and gradients are on `device`.

    Attributes
    ----------
    gradients : dict of str to Tensor
        By the names and with the shapes of `DvgoState.parameters`.
    """

    def load(self, state: DvgoState | None = None) -> None:
        super().load(state)
        for p in self.parameters.values():
            p.requires_grad_(False)
        self.gradients = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        self._device_marches: dict[tuple[float, float], DeviceDvgoMarch] = {}

    def step(self, batch: Batch, schedule: DvgoSchedule, done: int) -> float:
        error = self.accumulate(batch, schedule)
        self._update(schedule, done)
        return error

    def accumulate(self, batch: Batch, schedule: DvgoSchedule) -> float:
        """Add the gradient of the batch's loss to `gradients`; its mean squared error. See `CpuEngine.accumulate`."""
        p, march = self.parameters, self.march(schedule)
        given: Any = batch.rays
        rays = given if isinstance(given, RayTensors) else RayTensors.of(given, self.device)
        target = torch.as_tensor(batch.colors).to(self.device, torch.float32).contiguous()
        grids = Grids(p["density"], p["features"])
        seen = march.samples(grids, rays)
        lit = torch.nonzero(seen.weight > schedule.threshold)[:, 0]
        number = torch.full((len(seen.weight),), -1, dtype=torch.int32, device=self.device)
        number[lit] = torch.arange(len(lit), dtype=torch.int32, device=self.device)
        at = seen.at[lit].contiguous()
        features = march.gather(grids, at).requires_grad_()
        names = [f"{kind} {i}" for i in range(len(self.state.layers)) for kind in ("weight", "bias")]
        network = [p[name].detach().requires_grad_() for name in names]
        layers = list(zip(network[::2], network[1::2], strict=True))
        with torch.enable_grad():
            found = logits(
                features, seen.index[lit], rays.views.float(), layers, self.state.frequencies, self.state.direct
            )
        rgb = found.detach().sigmoid().contiguous()
        squared = torch.zeros(rays.count, device=self.device)
        g_density, g_logits = torch.zeros(len(seen.weight), 1, device=self.device), torch.zeros_like(rgb)
        size = lanes(self.device)
        kernels.losses[(-(-rays.count // size),)](
            seen.starts, seen.weight, seen.slope, number, rgb, target, self.background, squared, g_density, g_logits,
            rays.count, schedule.entropy, schedule.point, LANES=size, num_warps=1,
        )  # fmt: skip
        if len(lit):
            found.backward(g_logits)
            march.scatter(at, features.grad.contiguous(), self.gradients["features"])  # pyright: ignore
            for name, tensor in zip(names, network, strict=True):
                assert tensor.grad is not None
                self.gradients[name] += tensor.grad
        march.scatter(seen.at, g_density, self.gradients["density"])
        for name, weight in (("density", schedule.tv_density), ("features", schedule.tv_features)):
            if weight > 0:
                self._variation(name, weight, march)
        return float(squared.mean())

    def slopes(self, batch: Batch, schedule: DvgoSchedule) -> tuple[float, dict[str, torch.Tensor]]:
        """See `TorchEngine.slopes`; good until the next call."""
        for gradient in self.gradients.values():
            gradient.zero_()
        return self.accumulate(batch, schedule), self.gradients

    def march(self, schedule: DvgoSchedule) -> DeviceDvgoMarch:
        """The geometry that a schedule's rays take."""
        state, key = self.state, (schedule.step, schedule.threshold)
        if key not in self._device_marches:
            options = MarchOptions(schedule.step)
            march = DvgoMarch(
                state.shape, state.box, state.shift, state.unit, state.mask, options, schedule.threshold
            )  # fmt: skip
            self._device_marches[key] = DeviceDvgoMarch.of(march, self.device)
        return self._device_marches[key]

    def _variation(self, name: str, weight: float, march: DeviceDvgoMarch) -> None:
        values = self.parameters[name]
        channels = 1 if values.ndim == 3 else values.shape[3]
        samples = values.numel() // channels
        kernels.grid_variation[(-(-samples // _SAMPLES),)](
            values, self.gradients[name], march.space.extents, weight * max(self.state.shape) / 128,
            CHANNELS=channels, WIDTH=1 << (channels - 1).bit_length(), SAMPLES=_SAMPLES,
        )  # fmt: skip

    @torch.no_grad()
    def _update(self, schedule: DvgoSchedule, done: int) -> None:
        """Adam's step by `gradients`, which are cleared."""
        state = self.state
        state.updates += 1
        scale = schedule.decay ** (done / schedule.steps) * correction(state.updates)
        rates = {"density": schedule.rate_density, "features": schedule.rate_features}
        for name, p in self.parameters.items():
            g, (mean, square) = self.gradients[name], self._moments[name]
            rate = rates.get(name, schedule.rate_network) * scale
            if name in rates:
                pace = self._pace[name]
                kernels.adam[(-(-p.numel() // _NUMBERS),)](
                    p, mean, square, g, p if pace is None else pace, p.numel(), rate, *DECAYS, schedule.tiny,
                    CHANNELS=1 if p.ndim == 3 else p.shape[3], PACED=pace is not None, LANES=_NUMBERS,
                )  # fmt: skip
            else:
                mean += (1 - DECAYS[0]) * (g - mean)
                square += (1 - DECAYS[1]) * (g * g - square)
                p -= rate * mean / (square.sqrt() + schedule.tiny)
                g.zero_()
