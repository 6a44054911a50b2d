"""Steps of a DVGO training in plain torch, for CUDA devices: the same losses and updates as `dvgo_step.CpuEngine`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import linear, softplus

from neurcomp_core.radiance.rendering.compositing import PackedSamples, composite_reference
from neurcomp_core.radiance.rendering.device_samples import sample_rays_on
from neurcomp_core.radiance.rendering.dvgo_march import DvgoMarch
from neurcomp_core.radiance.rendering.frames import Rays
from neurcomp_core.radiance.rendering.march import MarchOptions
from neurcomp_core.radiance.rendering.sampling import sample_reference
from neurcomp_core.radiance.training.batches import Batch
from neurcomp_core.radiance.training.dvgo_recipe import DvgoSchedule
from neurcomp_core.radiance.training.dvgo_state import DvgoState
from neurcomp_core.radiance.training.dvgo_step import DECAYS, correction

_SURE = 1e-6


class Seen(NamedTuple):
    """Colour ``(rays, 3)`` without background, transmittance ``(rays,)``, and of the lit samples rendering weight
    ``(m,)``, colour ``(m, 3)`` and ray ``(m,)``.
    """

    color: torch.Tensor
    through: torch.Tensor
    weight: torch.Tensor
    rgb: torch.Tensor
    index: torch.Tensor


class TorchEngine:
    """See `dvgo_step.CpuEngine`; parameters and moments are on `device` and come back with `save`.

    Parameters
    ----------
    state : DvgoState
    background : tuple of 3 float
    device : str or torch.device
    """

    def __init__(self, state: DvgoState, background: tuple[float, float, float], device: str | torch.device) -> None:
        self.device, self._behind = torch.device(device), background
        self.load(state)

    def load(self, state: DvgoState | None = None) -> None:
        state = self.state = state or self.state
        self.parameters = {name: self._sent(p).requires_grad_() for name, p in state.parameters.items()}
        self._moments = {name: (self._sent(a), self._sent(b)) for name, (a, b) in state.moments.items()}
        like = self.parameters["density"]
        self.background = torch.tensor(self._behind, dtype=like.dtype, device=self.device)
        self._mask = None if state.mask is None else torch.tensor(state.mask, device=self.device)
        pace = None if state.pace is None else self._sent(state.pace.astype(state.density.dtype))
        free = None if state.trainable is None else self._sent(state.trainable.astype(state.density.dtype))
        self._pace = {"density": pace if free is None else free if pace is None else pace * free, "features": free}
        self._marches: dict[tuple[float, float], DvgoMarch] = {}

    def save(self) -> None:
        for name, array in self.state.parameters.items():
            array[...] = self.parameters[name].detach().cpu().numpy()
            for kept, tensor in zip(self.state.moments[name], self._moments[name], strict=True):
                kept[...] = tensor.cpu().numpy()

    def step(self, batch: Batch, schedule: DvgoSchedule, done: int) -> float:
        loss, error = self.loss(batch, schedule)
        loss.backward()
        self._update(schedule, done)
        return error

    def loss(self, batch: Batch, schedule: DvgoSchedule) -> tuple[torch.Tensor, float]:
        """The loss of a batch, see `dvgo_kernels.losses`, and its mean squared error."""
        seen = self._march(batch.rays, schedule)
        target = self._sent(batch.colors).to(seen.color.dtype)
        squared = (seen.color + seen.through[:, None] * self.background - target).square().mean()
        sure = seen.through.clamp(_SURE, 1 - _SURE)
        entropy = -(sure * sure.log() + (1 - sure) * (1 - sure).log()).mean()
        own = (seen.weight.detach()[:, None] * (seen.rgb - target[seen.index]).square()).sum() / len(batch)
        return squared + schedule.entropy * entropy + schedule.point * own, float(squared.detach())

    def slopes(self, batch: Batch, schedule: DvgoSchedule) -> tuple[float, dict[str, torch.Tensor]]:
        """Mean squared error of a batch, and the gradient of its loss by the parameters' names; nothing is kept."""
        loss, error = self.loss(batch, schedule)
        if loss.requires_grad:
            loss.backward()
        found = {}
        for name, p in self.parameters.items():
            found[name] = torch.zeros_like(p) if p.grad is None else p.grad
            p.grad = None
        return error, found

    def _sent(self, array: np.ndarray) -> torch.Tensor:
        return torch.tensor(array, device=self.device)

    def _march(self, rays: Rays, schedule: DvgoSchedule) -> Seen:
        state, density = self.state, self.parameters["density"]
        key = schedule.step, schedule.threshold
        if key not in self._marches:
            options = MarchOptions(schedule.step)
            self._marches[key] = DvgoMarch(
                state.shape, state.box, state.shift, state.unit, state.mask, options, schedule.threshold
            )
        march = self._marches[key]
        frame = march.frame
        packed, points = sample_rays_on(
            rays, frame.voxel, march.occupancy, march.options, None, density.dtype, self.device
        )  # fmt: skip
        kept = self._occupied(points)
        sigma = points.new_zeros(len(points))
        raw = sample_reference(None, density.reshape(-1, 1), points[kept], frame)[:, 0]
        thick = softplus(raw + state.shift, threshold=30) / state.unit
        faint = -torch.expm1(-thick.detach() * packed.sizes[kept]) <= schedule.threshold
        sigma = sigma.index_copy(0, kept, torch.where(faint, 0, thick))
        clear = composite_reference(sigma, sigma.new_zeros(len(sigma), 0), packed, march.options.stop)
        lit = torch.nonzero(clear.weights.detach() > schedule.threshold)[:, 0]
        rgb = self._colors(points[lit], packed, lit, rays)
        weight, index = clear.weights[lit], packed.index[lit]
        color = sigma.new_zeros(len(rays), 3).index_add(0, index, weight[:, None] * rgb)
        return Seen(color, 1 - clear.opacity, weight, rgb, index)

    def _occupied(self, points: torch.Tensor) -> torch.Tensor:
        """Numbers of the points that are not in known free space, by the mask's nearest sample."""
        if self._mask is None or min(self._mask.shape) < 2:
            return torch.arange(len(points), device=points.device)
        top = torch.tensor(self._mask.shape[::-1], device=points.device) - 1
        low, high = (torch.tensor(corner, dtype=points.dtype, device=points.device) for corner in self.state.box)
        at = ((points - low) / (high - low) * top + 0.5).long()
        x, y, z = torch.minimum(at.clamp(min=0), top).T
        return torch.nonzero(self._mask[z, y, x])[:, 0]

    def _colors(self, points: torch.Tensor, packed: PackedSamples, lit: torch.Tensor, rays: Rays) -> torch.Tensor:
        state, p = self.state, self.parameters
        frame = next(iter(self._marches.values())).frame
        features = sample_reference(None, p["features"].reshape(-1, state.features.shape[3]), points, frame)
        if not state.layers:
            return features.sigmoid()
        assert rays.views is not None
        views = torch.tensor(rays.views, dtype=points.dtype, device=points.device)
        waves = (views[:, :, None] * 2.0 ** torch.arange(state.frequencies, device=points.device)).flatten(1)
        encoding = torch.cat([views, waves.sin(), waves.cos()], 1)[packed.index[lit]]
        x = torch.cat([features if state.direct else features[:, 3:], encoding], 1)
        for i in range(len(state.layers)):
            x = linear(x, p[f"weight {i}"], p[f"bias {i}"])
            x = x.relu() if i < len(state.layers) - 1 else x
        return (x if state.direct else x + features[:, :3]).sigmoid()

    @torch.no_grad()
    def _update(self, schedule: DvgoSchedule, done: int) -> None:
        self.state.updates += 1
        scale = schedule.decay ** (done / schedule.steps) * correction(self.state.updates)
        rates = {"density": schedule.rate_density, "features": schedule.rate_features}
        weights = {"density": schedule.tv_density, "features": schedule.tv_features}
        for name, p in self.parameters.items():
            g = p.grad
            if g is None:
                continue
            if weights.get(name, 0) > 0:
                _add_variation(p, g, weights[name] * max(self.state.shape) / 128)
            mean, square = self._moments[name]
            rate = rates.get(name, schedule.rate_network) * scale
            new_mean, new_square = torch.lerp(g, mean, DECAYS[0]), torch.lerp(g * g, square, DECAYS[1])
            move = rate * new_mean / (new_square.sqrt() + schedule.tiny)
            some = torch.ones_like(g, dtype=torch.bool) if name not in rates else g != 0
            pace = self._pace.get(name)
            if pace is not None:
                factor = pace if p.ndim == 3 else pace[..., None]
                some, move = some & (factor != 0), move * factor
            p -= torch.where(some, move, 0)
            mean.copy_(torch.where(some, new_mean, mean))
            square.copy_(torch.where(some, new_square, square))
            p.grad = None


def _add_variation(values: torch.Tensor, gradient: torch.Tensor, weight: float) -> None:
    """See `dvgo_kernels.variation`: where there is a gradient."""
    total = torch.zeros_like(values)
    for axis in range(3):
        slope = values.diff(dim=axis).clamp(-1, 1)
        ahead, behind = [slice(None)] * 3, [slice(None)] * 3
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        total[tuple(ahead)] += slope
        total[tuple(behind)] -= slope
    met = gradient != 0 if values.ndim == 3 else (gradient != 0).any(3, keepdim=True)
    gradient += weight * torch.where(met, total, 0)
