"""Training of one coordinate network under its quantisers and its own code length, the same for every encoding.

Each table, matrix and bias g is rounded to multiples of ``step / s_g``, where ``s_g^2`` is the mean squared sensitivity
of the output to its parameters, and the loss carries an estimate of the code length: see fit/trainer.py, which does the
same for hash grids and says why. The optimiser is Adam, so that encodings are all that differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from neurcomp_core import metrics
from neurcomp_core.codec import Context, Encoded
from neurcomp_core.codecs import network as codec_module
from neurcomp_core.codecs.network import NetworkRecord
from neurcomp_core.coding import wire
from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import Interrupted
from neurcomp_core.field import Field, full_region
from neurcomp_core.fit import hashgrid_checkpoint as kept
from neurcomp_core.fit import quantiser_step
from neurcomp_core.fit.checkpoint import Checkpoint, key_of
from neurcomp_core.fit.sampling import BlockSampler
from neurcomp_core.fit.sizes import Candidate
from neurcomp_core.nets.model import step_codes, steps_of
from neurcomp_core.regions import weights_of
from neurcomp_core.target import Target

if TYPE_CHECKING:
    from neurcomp_core.codecs.network import Network

_WARM_UP = 50  # steps of rising learning rate; a tenth of the steps if they are few
_FLOAT_SHARE = 0.3  # of the steps before parameters are rounded
_FREEZE = 0.9  # share after which the quantiser stays
CHECK_EVERY = 100
_AIM = 0.988  # of the budget, while following it
_RATE_PRESSURE = 2.0  # times the high-rate lambda
#: Learning rates of perceptrons, for a width of 16 and falling with its root; of sines for omega = 1.
_RATES = {"relu": 1e-2, "snake": 1e-2, "sine": 6e-2}


class Trainer:
    """One network in training.

    Parameters
    ----------
    field : Field
        Masked samples take no part.
    record : NetworkRecord
        Network shape.
    settings : Network
    context : Context
    device : torch.device
    """

    def __init__(
        self, field: Field, record: NetworkRecord, settings: Network, context: Context, device: torch.device
    ) -> None:
        self.field, self.settings, self.context, self.device = field, settings, context, device
        self.spec = ArraySpec(field.values.shape, field.values.dtype)
        low, high = field.limits
        scale, centre = (
            quantiser_step.short((high - low) / 2, (high - low) * 1e-6),
            quantiser_step.short((low + high) / 2, (high - low) * 1e-6),
        )
        self.record = replace(record, centre=centre, scale=scale)
        self.net = codec_module.network_of(self.record, self.spec)
        self.weights = weights_of(field, context.importance)
        self.generator = torch.Generator().manual_seed(context.seed)
        self.sampler = BlockSampler(
            field.values, self.net.encoding.lattice, field.mask, centre, scale, 1, settings.batch, self.generator,
            device, self.weights,
        )  # fmt: skip
        start = self.net.initial(np.random.default_rng([context.seed, 1]))
        self.parameters = [torch.from_numpy(p).to(device).requires_grad_() for p in start]
        tables = len(self.net.encoding.shapes)
        self.rates = [settings.table_rate] * tables + [rate_for(settings, record)] * (len(start) - tables)
        groups = [{"params": [p], "lr": rate} for p, rate in zip(self.parameters, self.rates, strict=True)]
        self.optimiser = torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-15, fused=True)
        self.codes = b""
        self.step = 0.0
        self.unit = 1.0  # step per unit of 1 / sensitivity
        self.done = 0

    # .................................................................................................. optimisation

    def run(self, steps: int, budget: int, share: Callable[[float], float]) -> None:
        """Train `steps` steps towards `budget` bytes; `share` maps the fraction done to reported progress."""
        first_rounded = 0 if self.codes else int(steps * _FLOAT_SHARE)
        running: float | None = None
        checkpoint = self._checkpoint(steps, budget)
        first = 0
        if checkpoint.state is not None:
            first, running = kept.restored(self, checkpoint)  # type: ignore[arg-type]
        for i in range(first, steps):
            for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
                group["lr"] = rate * _schedule(i, steps)
            if first_rounded <= i < _FREEZE * steps and (i - first_rounded) % CHECK_EVERY == 0:
                self._sense()
                self._follow(_AIM * budget)
            error = float(self._optimise(rounded=i >= first_rounded))
            self.done += 1
            running = error if running is None else 0.95 * running + 0.05 * error
            if i % 10 == 9:
                # Outputs have a range of 2.
                text = f"step {i + 1}/{steps}, about {10 * math.log10(4 / max(running, 1e-30)):.1f} dB"
                now = partial(kept.state_of, self, i + 1, running)  # type: ignore[arg-type]
                checkpoint.offer(now)
                try:
                    self.context.progress.update(share((i + 1) / steps), text)
                except Interrupted:
                    checkpoint.keep(now)
                    raise
        if not checkpoint.finished:
            checkpoint.finish(partial(kept.state_of, self, steps, running))  # type: ignore[arg-type]

    def _checkpoint(self, steps: int, budget: int) -> Checkpoint:
        path = self.context.checkpoint
        begun = (p.tobytes() for p in self._numpy())
        what = (self.field, self.settings, self.context.seed, self.record, steps, budget, self.codes, *begun)
        if self.weights is not None:
            what += (self.weights.tobytes(),)
        return Checkpoint(path, key_of("network", *what) if path else "")

    def _optimise(self, rounded: bool) -> torch.Tensor:
        points, targets, weights = self.sampler.batch()
        effective = [p.requires_grad_() for p in self._rounded()] if rounded else self.parameters
        error = self.net.values(points, effective, torch) - targets
        scale = 1.0
        if weights is not None:
            error = error * weights
            # Samples without data must not dilute the mean.
            scale = 1.0 if self.sampler.balanced else weights.numel() / max(float(weights.sum()), 1.0)
        loss = (error * error).mean() * scale
        # Rounding passes gradients straight through.
        for p, gradient in zip(self.parameters, torch.autograd.grad(loss, effective), strict=True):
            p.grad = gradient
        if rounded:
            self._add_rate_gradient()
        self.optimiser.step()
        return loss.detach()

    def _rounded(self) -> list[torch.Tensor]:
        with torch.no_grad():
            return [torch.round(p / s).mul_(s) for p, s in zip(self.parameters, self._steps(), strict=True)]

    @torch.no_grad()
    def _add_rate_gradient(self) -> None:
        """Gradient of ``lambda`` times code length, a Laplace density of the group's mean magnitude per parameter."""
        samples = self.field.voxels * self.net.outputs
        pressure = _RATE_PRESSURE * math.log(2) / 6 * (self.step / self.unit) ** 2 / samples
        for values, step in zip(self.parameters, self._steps(), strict=True):
            assert values.grad is not None
            u = values / step
            size = u.abs()
            spread = max(float(size.mean()), 0.05)
            # u / (|u| + 0.3) is the sign, softened below half a step where rounding hides it anyway.
            values.grad.addcdiv_(u, size.add_(0.3), value=pressure / (spread * math.log(2) * step))

    # .................................................................................................... quantisers

    def _steps(self) -> list[float]:
        return steps_of(self.step, self.codes).tolist()

    def set_step(self, step: float) -> None:
        """Quantiser step of the coarsest group."""
        self.step = float(np.float32(step))

    def _sense(self) -> None:
        """Measure sensitivities; the absolute step of the typical group stays."""
        square = [0.0] * len(self.parameters)
        batches = 4
        for _ in range(batches):
            points, _, weights = self.sampler.batch()
            output = self.net.values(points, self.parameters, torch)
            signs = self.sampler.signs(output.shape)
            total = (output * (signs if weights is None else signs * weights)).sum()
            for i, g in enumerate(torch.autograd.grad(total, self.parameters)):
                square[i] += float(g.square().mean())
        scale = self.field.voxels / (batches * self.sampler.points)
        relative = 1 / np.sqrt([max(s * scale, 1e-12) for s in square])
        self.codes = step_codes(relative)
        # The coarsest group has step `self.step`; what `step` means per unit of sensitivity must not change with it.
        unit = float(relative.max())
        self.set_step(self.step / self.unit * unit if self.step else unit * 1e-2)
        self.unit = unit

    def _numpy(self) -> list[np.ndarray]:
        return [p.detach().cpu().numpy() for p in self.parameters]

    def _stream(self, step: float, parameters: Sequence[np.ndarray]) -> Encoded:
        record = replace(self.record, step=float(np.float32(step)), codes=self.codes)
        section = self.net.pack(parameters, steps_of(record.step, record.codes))
        return Encoded(wire.pack(record), (section,))

    def _follow(self, aim: float) -> None:
        """Move the quantiser so that the stream comes to `aim` bytes, by the coder's ratio to the plain entropy."""
        parameters = self._numpy()

        def entropy(step: float) -> float:
            return quantiser_step.entropy_bytes(parameters, steps_of(step, self.codes))

        factor = self._stream(self.step, parameters).nbytes / entropy(self.step)
        self.set_step(quantiser_step.towards(self.step, aim, factor, entropy))

    # ........................................................................................................ results

    def candidate(self, encoded: Encoded) -> Candidate:
        """A stream with its measured quality and, in its record, how far decoders may differ."""
        encoded = self._with_margin(encoded)
        region, context = full_region(self.spec.shape), self.context.reference
        decoded = codec_module.Network.decode(encoded, self.spec, region, 0, context)
        quality = metrics.measure(self.field.values, decoded, self.field.mask)
        return Candidate(encoded, quality, wire.unpack(NetworkRecord, encoded.params).step)

    def _with_margin(self, encoded: Encoded) -> Encoded:
        """The stream with an exponent of what float32 leaves open: 16 times what it was seen to, against float64."""
        record = wire.unpack(NetworkRecord, encoded.params)
        parameters = self.net.unpack(encoded.sections[0], steps_of(record.step, record.codes))
        points = self.sampler.batch()[0][:4096].cpu()
        with torch.no_grad():
            exact = self.net.values(points.double(), [torch.from_numpy(p).double() for p in parameters], torch)
        seen = self.net.values(points.numpy(), parameters, np)
        margin = quantiser_step.margin_of(exact.numpy(), seen)
        return Encoded(wire.pack(replace(record, margin=margin)), encoded.sections)

    def at_budget(self, budget: int) -> Candidate:
        """The finest quantiser whose stream fits `budget` bytes.

        Raises
        ------
        TargetError
            If even the coarsest does not.
        """
        if not self.codes:
            self._sense()
        # Room for a margin that is not the default.
        budget -= 2
        parameters = self._numpy()
        return self.candidate(
            quantiser_step.fitted(lambda step: self._stream(step, parameters), self.step, budget, "a network")
        )

    def coarsest(self, target: Target, met: Candidate) -> Candidate:
        """The smallest stream, by the quantiser alone, that still meets `target`; `met` does."""
        parameters = self._numpy()

        def candidate(encoded: Encoded, _: float) -> Candidate | None:
            plausible = self.net.parameters <= codec_module.DENSITY * len(encoded.sections[0])
            return self.candidate(encoded) if plausible else None

        return quantiser_step.coarsest(lambda step: self._stream(step, parameters), candidate, target, met)


def rate_for(settings: Network, record: NetworkRecord) -> float:
    """Learning rate of the perceptron: what its output moves by grows with its width and, of sines, with omega."""
    if settings.rate is not None:
        return settings.rate
    rate = _RATES[settings.activation] * math.sqrt(16 / max(record.width, 4))
    return rate / record.omega if settings.activation == "sine" else rate


def _schedule(i: int, steps: int) -> float:
    """Learning rate over time: warm-up, then cosine to 1 %."""
    rise = min(1.0, (i + 1) / min(_WARM_UP, max(steps // 10, 1)))
    return rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * i / steps)))
