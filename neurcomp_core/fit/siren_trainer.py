"""Training of one sine network under its quantisers and its own code length.

Group g (a matrix, a bias) is rounded to multiples of ``step / s_g``, where ``s_g^2`` is the mean squared sensitivity
of the output to its parameters (the diagonal of J^T J, estimated with random signs): every parameter's rounding then
costs the same error, and one number, `step`, trades size for quality. The loss is the squared error plus ``lambda``
times an estimate of the code length (a Laplace model per group); at high rate dD/dR = -2 ln 2 D ties ``lambda`` to
``step^2``, so both follow the real coder's byte count. See fit/trainer.py, which does the same for hash grids.
"""

from __future__ import annotations

import importlib.util
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
        cuda = _cuda(context.device)
        self._torch = TorchLoss(self.net, "cuda" if cuda else "cpu", g) if (g := settings.grad_lambda) or cuda else None
        self.codes = b""
        self.step = 0.0
        self.unit = 1.0  # step per unit of 1 / sensitivity
        self.done = 0

    # .................................................................................................. optimisation

    def run(self, steps: int, budget: int, share: Callable[[float], float]) -> None:
        """Train `steps` steps towards `budget` bytes; `share` maps the fraction done to reported progress."""
        course = Course(self, steps, budget, self._checkpoint(steps, budget))
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

    def _checkpoint(self, steps: int, budget: int) -> Checkpoint:
        path = self.context.checkpoint
        begun = (p.tobytes() for p in self.parameters)
        what = (self.field, self.settings, self.context.seed, self.record, steps, budget, self.codes, *begun)
        if self.weights is not None:
            what += (self.weights.tobytes(),)
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
        return [np.rint(p / s) * s for p, s in zip(self.parameters, self._steps32(), strict=True)]

    def add_rate_gradient(self, gradients: Sequence[np.ndarray]) -> None:
        """Gradient of ``lambda`` times code length, a Laplace density of the group's mean magnitude per parameter."""
        samples = self.batches.count * self.net.outputs
        pressure = _RATE_PRESSURE * math.log(2) / 6 * (self.step / self.unit) ** 2 / samples
        for values, gradient, step in zip(self.parameters, gradients, self._steps32(), strict=True):
            u = values / step
            size = np.abs(u)
            spread = max(float(size.mean()), 0.05)
            # u / (|u| + 0.3) is the sign, softened below half a step where rounding hides it anyway.
            gradient += np.float32(pressure / (spread * math.log(2) * float(step))) * (u / (size + np.float32(0.3)))

    # .................................................................................................... quantisers

    def _steps(self) -> np.ndarray:
        return steps_of(self.step, self.codes)

    def _steps32(self) -> np.ndarray:
        return self._steps().astype(np.float32)

    def sense(self) -> None:
        """Measure sensitivities; the absolute step of the typical group stays."""
        rng = np.random.default_rng([self.context.seed, 2, self.done])
        square = [np.zeros_like(p) for p in self.parameters]
        folded = model.fold(self.net, self.parameters)
        number = 8
        size = max(self.settings.batch // number, 64)
        for _ in range(number):
            among = rng.integers(0, self.batches.count, size)
            points, targets, weights = self.batches.at(
                among if self.batches.among is None else self.batches.among[among]
            )
            values = np.zeros_like(targets)
            kernels.values(points, *folded.args, values, self.context.threads)
            # The gradient of a squared error is that of the sum of outputs times signs if the errors are these signs.
            weights = (weights > 0).astype(np.float32)
            signs = rng.integers(0, 2, targets.shape).astype(np.float32) - np.float32(0.5)
            _, found = gradients_by(self.net, self.parameters, points, values - signs, weights, self.context.threads)
            for total, g in zip(square, found, strict=True):
                total += g * g
        scale = self.batches.count / (number * size)
        means = np.array([max(float(s.mean()) * scale, 1e-12) for s in square])
        relative = 1 / np.sqrt(means)
        self.codes = step_codes(relative)
        # The coarsest group has step `self.step`; what `step` means per unit of sensitivity must not change with it.
        unit = float(relative.max())
        self.step = float(np.float32(self.step / self.unit * unit if self.step else unit * 1e-2))
        self.unit = unit

    def _stream(self, step: float) -> Encoded:
        record = replace(self.record, step=float(np.float32(step)), codes=self.codes)
        section = model.pack(self.net, self.parameters, steps_of(record.step, record.codes))
        return Encoded(wire.pack(record), (section,))

    def follow(self, aim: float) -> None:
        """Move the quantiser so that the stream comes to `aim` bytes, by the coder's ratio to the plain entropy."""
        factor = self._stream(self.step).nbytes / self._entropy_bytes(self.step)
        fine, coarse = self.step / 16, self.step * 16
        for _ in range(12):
            middle = math.sqrt(fine * coarse)
            if factor * self._entropy_bytes(middle) > aim:
                fine = middle
            else:
                coarse = middle
        self.step = float(np.float32(math.sqrt(fine * coarse)))

    def _entropy_bytes(self, step: float) -> float:
        """Zeroth-order entropy of the rounded parameters; far faster than coding them."""
        bits = 64.0
        for values, group_step in zip(self.parameters, steps_of(step, self.codes), strict=True):
            symbols = np.clip(np.rint(values.reshape(-1) * np.float32(1 / group_step)), -2048, 2047).astype(np.int32)
            counts = np.bincount(symbols + 2048)
            counts = counts[counts > 0]
            bits += float((counts * np.log2(counts.sum() / counts)).sum())
        return bits / 8

    # ........................................................................................................ results

    def candidate(self, encoded: Encoded) -> Candidate:
        """A stream with its measured quality and, in its record, how far decoders may differ."""
        encoded = self._with_margin(encoded)
        region = full_region(self.spec.shape)
        context = replace(self.context, device="cpu")
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


def _cuda(device: str) -> bool:
    """Whether to train on CUDA; torch is not imported to find out that there is none to import."""
    if device == "cpu" or (device == "auto" and importlib.util.find_spec("torch") is None):
        return False
    import torch

    return device == "cuda" or torch.cuda.is_available()
