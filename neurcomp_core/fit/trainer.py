"""Training of one hash-grid network under its quantisers and its own code length.

Group g (a grid level, a matrix) is rounded to multiples of ``step / s_g``, where ``s_g^2`` is the mean squared
sensitivity of the output to its parameters (the diagonal of J^T J, estimated with random signs): every parameter's
rounding then costs the same error, and one number, `step`, trades size for quality. The loss is the squared error plus
``lambda`` times an estimate of the code length (a Laplace model per group); at high rate dD/dR = -2 ln 2 D ties
``lambda`` to ``step^2``, so both follow the real coder's byte count.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from neurcomp_core import metrics
from neurcomp_core.codec import Context, Encoded
from neurcomp_core.codecs import hashgrid as codec_module
from neurcomp_core.codecs.hashgrid import HashGridRecord
from neurcomp_core.coding import wire
from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import Interrupted
from neurcomp_core.field import Field, full_region
from neurcomp_core.fit import hashgrid_checkpoint as kept
from neurcomp_core.fit import quantiser_step
from neurcomp_core.fit.checkpoint import Checkpoint, key_of
from neurcomp_core.fit.host_step import HostStep, SafeStep, summed
from neurcomp_core.fit.sizes import Candidate
from neurcomp_core.fit.smoothness import TotalVariation
from neurcomp_core.fit.streaming import sampler_for
from neurcomp_core.nets import network as nn
from neurcomp_core.nets.backends import chosen, precision_of
from neurcomp_core.nets.memory import Shrinking
from neurcomp_core.nets.model import Network, step_codes, steps_of
from neurcomp_core.nets.resize import resized
from neurcomp_core.regions import weights_of
from neurcomp_core.target import Target

if TYPE_CHECKING:
    from neurcomp_core.codecs.hashgrid import HashGrid
    from neurcomp_core.init_file import Init

WARM_UP = 20  # steps of rising learning rate
_FEWEST = 256  # samples that are tried at a time where memory is short
_FLOAT_SHARE = 0.15  # of the steps before parameters are rounded
_FREEZE = 0.9  # share after which the quantiser stays
CHECK_EVERY = 100
_SENSE_EVERY = 100
_AIM = 0.988  # of the budget, while following it
_RATE_PRESSURE = 2.0  # times the high-rate lambda; measured best on turbulence and on smooth fields


class Trainer:
    """One network in training.

    Parameters
    ----------
    field : Field
        Masked samples take no part.
    record : HashGridRecord
        Network shape.
    settings : HashGrid
    context : Context
    device : torch.device
    parameters : list of Tensor, optional
        To start from; by default those of ``context.init``, or random ones.
    """

    def __init__(
        self,
        field: Field,
        record: HashGridRecord,
        settings: HashGrid,
        context: Context,
        device: torch.device,
        parameters: list[torch.Tensor] | None = None,
    ) -> None:
        self.field, self.settings, self.context, self.device = field, settings, context, device
        self.backend = chosen(context.backend, device)
        self.precision = precision_of(settings.precision, self.backend)
        self.spec = ArraySpec(field.values.shape, field.values.dtype)
        low, high = field.limits
        scale, centre = (
            quantiser_step.short(high - low, (high - low) * 1e-6),
            quantiser_step.short((low + high) / 2, (high - low) * 1e-6),
        )
        self.record = replace(record, centre=centre, scale=scale)
        self.network: Network = codec_module.network_of(self.record, self.spec)
        self.weights = weights_of(field, context.importance)
        self.generator = generator = torch.Generator().manual_seed(context.seed)
        self.sampler = sampler_for(
            field.values,
            self.network.lattice,
            field.mask,
            centre,
            scale,
            settings.block,
            settings.batch,
            generator,
            device=device,
            importance=self.weights,
            resident=None if settings.resident is None else int(settings.resident * 2**20),
            steps=settings.steps,
        )
        if not self.sampler.resident:
            context.progress.note("the array does not fit onto the device; parts of it take turns there")
        #: How many samples are computed at a time: a batch, or parts of it whose gradients add up.
        self.parts = Shrinking(self.sampler.points, _FEWEST, "samples at a time", context.progress.note)
        if parameters is None:
            parameters = nn.initial_parameters(
                self.network.layout, record.width, record.hidden, self.network.outputs, generator
            )
            if context.init is not None:
                parameters = _started(parameters, context.init, self.network)
        #: What the parameters are differences to; none unless the stream is to hold differences.
        self.origin: list[torch.Tensor] | None = None
        if settings.delta_init and context.init is not None:
            self.record = replace(self.record, start=context.init.reference)
            self.origin = [torch.from_numpy(p) for p in context.init.parameters_for(self.network.layout)]
            parameters = [p - o for p, o in zip(parameters, self.origin, strict=True)]
            self.origin = [o.to(device) for o in self.origin]
        self.parameters = [p.to(device).requires_grad_() for p in parameters]
        self.optimiser = torch.optim.Adam(self.parameters, lr=settings.rate, betas=(0.9, 0.99), eps=1e-15, fused=True)
        layout, lattice = self.network.layout, self.network.lattice
        self.variation = TotalVariation(layout, lattice, generator, device) if settings.tv else None
        self.codes = b""
        self.step = 0.0
        self.unit = 1.0  # step per unit of 1 / sensitivity
        self.done = 0
        self._row_steps: list[torch.Tensor] = []

    # .................................................................................................. optimisation

    def run(self, steps: int, budget: int, share: Callable[[float], float]) -> None:
        """Train `steps` steps towards `budget` bytes; `share` maps the fraction done to reported progress."""
        warm = bool(self.codes)
        first_rounded = 0 if warm else int(steps * _FLOAT_SHARE)
        rate = self.settings.rate * (0.5 if warm else 1.0)
        aim = _AIM * budget
        running: float | None = None
        checkpoint = self._checkpoint(steps, budget)
        first = 0
        if checkpoint.state is not None:
            first, running = kept.restored(self, checkpoint)
        step = step_of(self)
        for i in range(first, steps):
            for group in self.optimiser.param_groups:
                group["lr"] = rate * _schedule(i, steps)
            if i >= first_rounded and i < _FREEZE * steps:
                since = i - first_rounded
                if since % _SENSE_EVERY == 0 and i < 0.8 * steps:
                    self._sense()
                if since % CHECK_EVERY == 0:
                    self._follow(aim)
            loss = step(i >= first_rounded)
            self.done += 1
            if i % 10 == 9:
                error = float(loss)
                running = error if running is None else 0.7 * running + 0.3 * error
                text = f"step {i + 1}/{steps}, about {-10 * math.log10(max(running, 1e-30)):.1f} dB"
                now = partial(kept.state_of, self, i + 1, running)
                checkpoint.offer(now)
                try:
                    self.context.progress.update(share((i + 1) / steps), text)
                except Interrupted:
                    checkpoint.keep(now)
                    raise
        if not checkpoint.finished:
            checkpoint.finish(partial(kept.state_of, self, steps, running))

    def adapt(self, steps: int, budget: int | None = None) -> float:
        """Train `steps` steps at a constant learning rate after its rise; under the quantisers of `budget` bytes, if
        that is given. Returns the last squared error.
        """
        error = torch.zeros(())
        if budget is not None:
            self._sense()
            self._follow(_AIM * budget)
        step = step_of(self)
        for i in range(steps):
            for group in self.optimiser.param_groups:
                group["lr"] = self.settings.rate * min(1.0, (i + 1) / WARM_UP)
            error = step(budget is not None)
            self.done += 1
        return float(error)

    def _checkpoint(self, steps: int, budget: int) -> Checkpoint:
        path = self.context.checkpoint
        begun = (p.tobytes() for p in self._numpy())
        what = (self.field, self.settings, self.context.seed, self.record, steps, budget, self.codes, *begun)
        if self.weights is not None:
            what += (self.weights.tobytes(),)
        return Checkpoint(path, key_of("hashgrid", *what) if path else "")

    def output(self, points: torch.Tensor, parameters: list[torch.Tensor]) -> torch.Tensor:
        """The network at points ``(n, 3)``: ``(outputs, n)``."""
        encoded = self.backend.encode(
            points, parameters[0], self.network.layout, self.sampler.cube(self.network.layout)
        )
        return self.backend.mlp(encoded, tuple(parameters[1:]), self.precision)

    def effective(self, parameters: list[torch.Tensor]) -> list[torch.Tensor]:
        """What the network is evaluated with: gradients are taken of this, and are those of `parameters`."""
        if self.origin is None:
            return [p if p.requires_grad else p.requires_grad_() for p in parameters]
        return [(p.detach() + o).requires_grad_() for p, o in zip(parameters, self.origin, strict=True)]

    def rounded(self) -> list[torch.Tensor]:
        """Parameters as the quantisers leave them."""
        with torch.no_grad():
            return [
                torch.round(p / s).mul_(s) if p.numel() else p
                for p, s in zip(self.parameters, self._row_steps, strict=True)
            ]

    def pressure(self) -> float:
        """What a bit costs: ``lambda`` per sample."""
        samples = self.field.voxels * self.network.outputs
        return _RATE_PRESSURE * math.log(2) / 6 * (self.step / self.unit) ** 2 / samples

    def split(self, parameters: list[torch.Tensor]) -> list[torch.Tensor]:
        """Tensors in the shapes of the parameters as one per group; see `Network.groups`."""
        layout = self.network.layout
        levels = [parameters[0][f : f + s] for f, s in zip(layout.firsts, layout.sizes, strict=True)]
        return levels + [
            p for p, shape in zip(parameters[1:], self.network.shapes[1:], strict=True) if math.prod(shape)
        ]

    # .................................................................................................... quantisers

    def quantiser_steps(self) -> np.ndarray:
        """Of each group."""
        return steps_of(self.step, self.codes)

    def set_step(self, step: float) -> None:
        self.step = float(np.float32(step))
        steps = self.quantiser_steps()
        layout = self.network.layout
        table = np.repeat(steps[: layout.levels], layout.sizes).astype(np.float32)
        rest = iter(steps[layout.levels :])
        self._row_steps = [torch.from_numpy(table)[:, None].to(self.device)] + [
            torch.tensor(next(rest) if p.numel() else 1.0, dtype=torch.float32, device=self.device)
            for p in self.parameters[1:]
        ]

    def _sense(self) -> None:
        """Measure sensitivities, keep the absolute step of the typical group."""
        square = [torch.zeros_like(p) for p in self.parameters]
        batches = 4
        effective = self.effective(self.parameters)
        active = [p for p in effective if p.numel()]
        for _ in range(batches):
            points, _, weights = self.sampler.batch()
            signs = self.sampler.signs(torch.Size((self.network.outputs, len(points))))
            upstream = signs if weights is None else signs * weights

            def of_part(part: slice, points: torch.Tensor = points, upstream: torch.Tensor = upstream) -> Any:
                return torch.autograd.grad((self.output(points[part], effective) * upstream[:, part]).sum(), active)

            found = iter(self.parts.run(lambda most, own=of_part: summed(self.sampler.parts(most), own)))
            for s, p in zip(square, self.parameters, strict=True):
                if p.numel():
                    s.add_(next(found).square())
        scale = self.field.voxels / (batches * self.sampler.points)
        means = np.array([max(float(s.mean()) * scale, 1e-12) for s in self.split(square)])
        relative = 1 / np.sqrt(means)
        self.codes = step_codes(relative)
        # The coarsest group has step `self.step`; what `step` means per unit of sensitivity must not change with it.
        unit = float(relative.max())
        self.set_step(self.step / self.unit * unit if self.step else unit * 1e-2)
        self.unit = unit

    def _numpy(self) -> list[np.ndarray]:
        return [p.detach().cpu().numpy() for p in self.parameters]

    def weights_of_network(self) -> list[np.ndarray]:
        """The network's float32 parameters, differences or not."""
        return [p.detach().cpu().numpy() for p in self.effective(self.parameters)]

    def _stream(self, step: float, parameters: list[np.ndarray]) -> Encoded:
        record = replace(self.record, step=float(np.float32(step)), codes=self.codes + self.record.marks)
        section = self.network.pack(parameters, steps_of(record.step, self.codes))
        return Encoded(wire.pack(record), (section,))

    def _follow(self, aim: float) -> None:
        """Move the quantiser so that the stream comes to `aim` bytes, by the coder's ratio to the plain entropy."""
        parameters = self._numpy()

        def entropy(step: float) -> float:
            return quantiser_step.entropy_bytes(self.network.split(parameters), steps_of(step, self.codes))

        factor = self._stream(self.step, parameters).nbytes / entropy(self.step)
        self.set_step(quantiser_step.towards(self.step, aim, factor, entropy))

    # ........................................................................................................ results

    def _candidate(self, encoded: Encoded, step: float) -> Candidate:
        region = full_region(self.spec.shape)
        decoded = codec_module.HashGrid.decode(encoded, self.spec, region, 0, self.context.reference)
        return Candidate(encoded, metrics.measure(self.field.values, decoded, self.field.mask), step)

    def at_budget(self, budget: int) -> Candidate:
        """The finest quantiser whose stream fits `budget` bytes.

        Raises
        ------
        TargetError
            If even the coarsest does not.
        """
        if not self.codes:
            self._sense()
        parameters = self._numpy()
        encoded = quantiser_step.fitted(
            lambda step: self._stream(step, parameters), self.step, budget, "a hash-grid network", 0.98
        )
        return self._candidate(encoded, wire.unpack(HashGridRecord, encoded.params).step)

    def coarsest(self, target: Target, met: Candidate) -> Candidate:
        """The smallest stream, by the quantiser alone, that still meets `target`; `met` does."""
        parameters = self._numpy()

        def candidate(encoded: Encoded, step: float) -> Candidate | None:
            return self._candidate(encoded, step) if self._plausible(encoded) else None

        return quantiser_step.coarsest(lambda step: self._stream(step, parameters), candidate, target, met)

    def _plausible(self, encoded: Encoded) -> bool:
        """Whether readers take so many parameters from so short a stream."""
        return self.network.parameters <= codec_module.DENSITY * len(encoded.sections[0])

    def grown(self, record: HashGridRecord) -> Trainer:
        """A trainer of a larger network that starts with this one's function: same base, growth and width.

        Tables are `resized`, which keeps the function of longer ones; a new, finer level starts at zero.
        """
        old = self.network
        if record.levels < old.layout.levels or record.log2_table < old.layout.log2_table:
            record = self.record
        new = codec_module.network_of(record, self.spec)
        table = np.zeros(new.shapes[0], np.float32)
        before = self.weights_of_network()
        for level in range(old.layout.levels):
            a = before[0][old.layout.firsts[level] : old.layout.firsts[level] + old.layout.sizes[level]]
            b = table[new.layout.firsts[level] : new.layout.firsts[level] + new.layout.sizes[level]]
            b[:] = resized(a, old.layout, new.layout, level)
        first = np.zeros(new.shapes[1], np.float32)
        first[:, : old.layout.width] = before[1]
        extra = nn.initial_parameters(
            new.layout, record.width, record.hidden, new.outputs, torch.Generator().manual_seed(self.context.seed + 1)
        )
        first[:, old.layout.width :] = extra[1].numpy()[:, old.layout.width :]
        start = [torch.from_numpy(table), torch.from_numpy(first)] + [torch.from_numpy(p.copy()) for p in before[2:]]
        trainer = Trainer(self.field, record, self.settings, self.context, self.device, start)
        trainer.step, trainer.unit = self.step, self.unit
        trainer._sense()
        return trainer


def step_of(trainer: Trainer) -> Callable[[bool], torch.Tensor]:
    """What takes one step of a trainer, under quantisers or not, and returns the squared error before it."""
    if trainer.backend.name == "triton":
        from neurcomp_core.fit import device_step

        if device_step.fits(trainer):
            return SafeStep(trainer, device_step.DeviceStep)
    return HostStep(trainer)


def _started(random: list[torch.Tensor], init: Init, network: Network) -> list[torch.Tensor]:
    """Parameters of a start; random ones in the levels that it does not have."""
    found = [torch.from_numpy(p) for p in init.parameters_for(network.layout)]
    common = min(init.record.levels, network.layout.levels)
    if common < network.layout.levels:
        found[0][int(network.layout.firsts[common]) :] = random[0][int(network.layout.firsts[common]) :]
        found[1][:, common * network.layout.features :] = random[1][:, common * network.layout.features :]
    return found


def _schedule(i: int, steps: int) -> float:
    """Learning rate over time: warm-up, plateau, cosine to 1 %."""
    rise = min(1.0, (i + 1) / WARM_UP)
    late = max(0.0, (i / steps - 0.4) / 0.6)
    return rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * late)))
