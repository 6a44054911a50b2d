"""Training of one sine network under its quantisers and its own code length.

Group g (a matrix, a bias) is rounded to multiples of ``step / s_g``, where ``s_g^2`` is the mean squared sensitivity
of the output to its parameters (the diagonal of J^T J, estimated with random signs): every parameter's rounding then
costs the same error, and one number, `step`, trades size for quality. The loss is the squared error plus ``lambda``
times an estimate of the code length (a Laplace model per group); at high rate dD/dR = -2 ln 2 D ties ``lambda`` to
``step^2``, so both follow the real coder's byte count. See fit/trainer.py, which does the same for hash grids.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from neurcomp_core import metrics
from neurcomp_core.codec import Context, Encoded
from neurcomp_core.codecs import siren as codec_module
from neurcomp_core.codecs.siren import SirenRecord
from neurcomp_core.coding import wire
from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import Interrupted
from neurcomp_core.field import Field, full_region
from neurcomp_core.fit import quantiser_step
from neurcomp_core.fit.checkpoint import Checkpoint, key_of
from neurcomp_core.fit.siren_batches import Batches
from neurcomp_core.fit.siren_course import Course
from neurcomp_core.fit.siren_gradients import TorchLoss, gradients_by
from neurcomp_core.fit.sizes import Candidate
from neurcomp_core.nets import siren_kernels as kernels
from neurcomp_core.nets import siren_model as model
from neurcomp_core.nets.model import step_codes, steps_of
from neurcomp_core.nets.siren import Siren as Net
from neurcomp_core.regions import weights_of
from neurcomp_core.target import Target

if TYPE_CHECKING:
    from neurcomp_core.codecs.siren import Siren
    from neurcomp_core.fit.siren_device_batches import DeviceBatches
    from neurcomp_core.nets.siren_engines import Engine

_RATE_PRESSURE = 2.0  # times the high-rate lambda
_PHASE = 0.3  # of the phases that layers inside usually begin with; smaller ones take fewer bits


def initial_parameters(net: Net, rng: np.random.Generator) -> list[np.ndarray]:
    """Weights as Sitzmann et al. 2020, section 3.2, draw them; phases of the first layer over a whole turn."""
    found: list[np.ndarray] = []
    for k, (rows, columns) in enumerate(net.shapes):
        bound = 1 / columns if k == 0 else math.sqrt(6 / columns) / net.omega
        phase = math.pi / net.omega if k == 0 else _PHASE / math.sqrt(columns)
        last = k == len(net.shapes) - 1
        found.append(rng.uniform(-bound, bound, (rows, columns)).astype(np.float32))
        found.append(np.zeros(rows, np.float32) if last else rng.uniform(-phase, phase, rows).astype(np.float32))
    return found


class Trainer:
    """One network in training.

    Parameters
    ----------
    field : Field
        Masked samples take no part.
    record : SirenRecord
        Network shape.
    settings : Siren
    context : Context
    parameters : sequence of ndarray, optional
        To start from; random ones by default.
    """

    def __init__(
        self,
        field: Field,
        record: SirenRecord,
        settings: Siren,
        context: Context,
        parameters: Sequence[np.ndarray] | None = None,
    ) -> None:
        self.field, self.settings, self.context = field, settings, context
        self.spec = ArraySpec(field.values.shape, field.values.dtype)
        low, high = field.limits
        # As the paper's: outputs are in [-1, 1].
        scale, centre = (
            quantiser_step.short((high - low) / 2, (high - low) * 1e-6),
            quantiser_step.short((low + high) / 2, (high - low) * 1e-6),
        )
        self.record = replace(record, centre=centre, scale=scale)
        self.net = codec_module.network_of(self.record, self.spec)
        self.weights = weights_of(field, context.importance)
        self.batches = Batches(field, self.net, centre, scale, settings.batch, context.seed, self.weights)
        if parameters is None:
            parameters = initial_parameters(self.net, np.random.default_rng([context.seed, 1]))
        self.parameters = [p.copy() for p in parameters]
        self.engine, self.device_batches = self._on_device()
        gradient_term = settings.grad_lambda if self.engine is None else 0.0
        self._torch = TorchLoss(self.net, gradient_term) if gradient_term else None
        self.codes = b""
        self.step = 0.0
        self.unit = 1.0  # step per unit of 1 / sensitivity
        self.done = 0

    def _on_device(self) -> tuple[Engine | None, DeviceBatches | None]:
        """What computes the network on a device, and the field there; none where numba does."""
        engine = codec_module.engine_of(self.net, self.context, bool(self.settings.grad_lambda))
        if engine is None:
            return None, None
        from neurcomp_core.fit.siren_device_batches import DeviceBatches

        return engine, DeviceBatches(self.batches, engine.device, self.context.seed)

    # .................................................................................................. optimisation

    def run(self, steps: int, budget: int, share: Callable[[float], float]) -> None:
        """Train `steps` steps towards `budget` bytes; `share` maps the fraction done to reported progress."""
        course = self._course(steps, budget)
        try:
            while course.at < steps:
                course.forward()
                if course.at % 10 == 0 or course.at == steps:
                    text = f"step {course.at}/{steps}, about {course.decibels:.1f} dB"
                    self.context.progress.update(share(course.at / steps), text)
        except Interrupted:
            course.keep()
            raise
        course.finish()

    def _course(self, steps: int, budget: int) -> Course:
        checkpoint = self._checkpoint(steps, budget)
        if self.engine is None:
            return Course(self, steps, budget, checkpoint)
        from neurcomp_core.fit.siren_device import DeviceCourse

        return DeviceCourse(self, steps, budget, checkpoint)

    def _checkpoint(self, steps: int, budget: int) -> Checkpoint:
        path = self.context.checkpoint
        begun = (p.tobytes() for p in self.parameters)
        what = (self.field, self.settings, self.context.seed, self.record, steps, budget, self.codes, *begun)
        if self.weights is not None:
            what += (self.weights.tobytes(),)
        if self.engine is not None:
            what += (type(self.engine).__name__, self.engine.device.type)
        return Checkpoint(path, key_of("siren", *what) if path else "")

    def loss(self, parameters: Sequence[np.ndarray]) -> tuple[float, list[np.ndarray]]:
        """Loss of the next batch, and its gradients."""
        indices = self.batches.indices()
        points, targets, weights = self.batches.at(indices)
        if self._torch is None:
            return gradients_by(self.net, parameters, points, targets, weights, self.context.threads)
        if not self.settings.grad_lambda:
            return self._torch(parameters, points, targets, weights)
        return self._torch(parameters, points, targets, weights, *self.batches.slopes(indices))

    def rounded(self) -> list[np.ndarray]:
        """Parameters as a stream would hold them, about."""
        return [np.rint(p / s) * s for p, s in zip(self.parameters, self.steps32(), strict=True)]

    def add_rate_gradient(self, gradients: Sequence[np.ndarray]) -> None:
        """Gradient of ``lambda`` times code length, a Laplace density of the group's mean magnitude per parameter."""
        pressure = self.pressure()
        for values, gradient, step in zip(self.parameters, gradients, self.steps32(), strict=True):
            u = values / step
            size = np.abs(u)
            spread = max(float(size.mean()), 0.05)
            # u / (|u| + 0.3) is the sign, softened below half a step where rounding hides it anyway.
            gradient += np.float32(pressure / (spread * math.log(2) * float(step))) * (u / (size + np.float32(0.3)))

    # .................................................................................................... quantisers

    def _steps(self) -> np.ndarray:
        return steps_of(self.step, self.codes)

    def steps32(self) -> np.ndarray:
        """Step of each array of parameters, ``(arrays,)``."""
        return self._steps().astype(np.float32)

    def pressure(self) -> float:
        """Weight ``lambda`` of a bit beside the squared error."""
        samples = self.batches.count * self.net.outputs
        return _RATE_PRESSURE * math.log(2) / 6 * (self.step / self.unit) ** 2 / samples

    def sense(self) -> None:
        """Measure sensitivities; the absolute step of the typical group stays."""
        rng = np.random.default_rng([self.context.seed, 2, self.done])
        square = [np.zeros_like(p) for p in self.parameters]
        number = 8
        size = max(self.settings.batch // number, 64)
        for _ in range(number):
            among = rng.integers(0, self.batches.count, size)
            for total, g in zip(square, self._products(rng, among), strict=True):
                total += g * g
        scale = self.batches.count / (number * size)
        means = np.array([max(float(s.mean()) * scale, 1e-12) for s in square])
        relative = 1 / np.sqrt(means)
        self.codes = step_codes(relative)
        # The coarsest group has step `self.step`; what `step` means per unit of sensitivity must not change with it.
        unit = float(relative.max())
        self.step = float(np.float32(self.step / self.unit * unit if self.step else unit * 1e-2))
        self.unit = unit

    def _products(self, rng: np.random.Generator, among: np.ndarray) -> list[np.ndarray]:
        """Gradients of the sum of outputs times random signs, at some of the samples."""
        indices = among if self.batches.among is None else self.batches.among[among]
        points, targets, weights = self.batches.at(indices)
        weights = (weights > 0).astype(np.float32)
        signs = rng.integers(0, 2, targets.shape).astype(np.float32) - np.float32(0.5)
        if self.engine is not None:
            return self._engine_products(indices, 2 * signs * weights)
        values = np.zeros_like(targets)
        kernels.values(points, *model.fold(self.net, self.parameters).args, values, self.context.threads)
        # The gradient of a squared error is that of the sum of outputs times signs if the errors are these signs.
        return gradients_by(self.net, self.parameters, points, values - signs, weights, self.context.threads)[1]

    def _engine_products(self, indices: np.ndarray, slopes: np.ndarray) -> list[np.ndarray]:
        import torch

        assert self.engine is not None
        assert self.device_batches is not None
        device, outputs = self.engine.device, self.net.outputs
        at = torch.from_numpy(indices).to(device)
        turned = torch.from_numpy(np.ascontiguousarray(slopes[:outputs].T)).to(device)
        found = self.engine.products(self.engine.tensor(self.parameters), self.device_batches.places, at, turned)
        return self.engine.flat.split(found.cpu().numpy())

    def _stream(self, step: float) -> Encoded:
        record = replace(self.record, step=float(np.float32(step)), codes=self.codes)
        section = model.pack(self.net, self.parameters, steps_of(record.step, record.codes))
        return Encoded(wire.pack(record), (section,))

    def follow(self, aim: float) -> None:
        """Move the quantiser so that the stream comes to `aim` bytes, by the coder's ratio to the plain entropy."""
        step = quantiser_step.towards(self.step, aim, self.coder_share(), self.entropy_bytes)
        self.step = float(np.float32(step))

    def coder_share(self) -> float:
        """Bytes of the stream over those of `entropy_bytes`."""
        return self._stream(self.step).nbytes / self.entropy_bytes(self.step)

    def entropy_bytes(self, step: float) -> float:
        """Zeroth-order entropy of the rounded parameters; far faster than coding them."""
        return quantiser_step.entropy_bytes(self.parameters, steps_of(step, self.codes))

    # ........................................................................................................ results

    def candidate(self, encoded: Encoded) -> Candidate:
        """A stream with its measured quality and, in its record, how far decoders may differ."""
        encoded = self._with_margin(encoded)
        region = full_region(self.spec.shape)
        context = self.context.reference
        decoded = codec_module.Siren.decode(encoded, self.spec, region, 0, context)
        quality = metrics.measure(self.field.values, decoded, self.field.mask)
        return Candidate(encoded, quality, wire.unpack(SirenRecord, encoded.params).step)

    def _with_margin(self, encoded: Encoded) -> Encoded:
        """The stream with an exponent of what float32 leaves open: 16 times what it was seen to, against float64."""
        from neurcomp_core.nets.siren import forward

        record = wire.unpack(SirenRecord, encoded.params)
        parameters = model.unpack(self.net, encoded.sections[0], steps_of(record.step, record.codes))
        rng = np.random.default_rng(3)
        picked = rng.integers(0, len(self.batches.values), 4096)
        points, targets, _ = self.batches.at(picked)
        seen = np.zeros_like(targets)
        kernels.values(points, *model.fold(self.net, parameters).args, seen, self.context.threads)
        exact = forward(
            self.net, [p.astype(np.float64) for p in parameters], points[: self.net.inputs].T.astype(np.float64)
        )
        margin = quantiser_step.margin_of(exact, seen[: self.net.outputs].T)
        return Encoded(wire.pack(replace(record, margin=margin)), encoded.sections)

    def at_budget(self, budget: int) -> Candidate:
        """The finest quantiser whose stream fits `budget` bytes.

        Raises
        ------
        TargetError
            If even the coarsest does not.
        """
        if not self.codes:
            self.sense()
        # Room for a margin that is not the default.
        budget -= 2
        return self.candidate(quantiser_step.fitted(self._stream, self.step, budget, "a sine network"))

    def coarsest(self, target: Target, met: Candidate) -> Candidate:
        """The smallest stream, by the quantiser alone, that still meets `target`; `met` does."""

        def candidate(encoded: Encoded, _: float) -> Candidate | None:
            plausible = self.net.parameters <= codec_module.DENSITY * len(encoded.sections[0])
            return self.candidate(encoded) if plausible else None

        return quantiser_step.coarsest(self._stream, candidate, target, met)

    def grown(self, record: SirenRecord) -> Trainer:
        """A trainer of a wider network that starts with this one's function: nothing reads the new neurons yet."""
        if record.width < self.net.width or record.layers != self.net.layers:
            record = self.record
        new = codec_module.network_of(record, self.spec)
        start = initial_parameters(new, np.random.default_rng([self.context.seed, 1, record.width]))
        for k, (rows, columns) in enumerate(self.net.shapes):
            start[2 * k][:rows, columns:] = 0
            start[2 * k][:rows, :columns] = self.parameters[2 * k]
            start[2 * k + 1][:rows] = self.parameters[2 * k + 1]
        trainer = Trainer(self.field, record, self.settings, self.context, start)
        trainer.step, trainer.unit = self.step, self.unit
        trainer.sense()
        return trainer
