"""The course of one training of a sine network on a device: what `siren_course.Course` does in NumPy, in torch.

Parameters, optimiser and field lie on the device. A step is two functions of fixed tensors, with the renewal of the
optimiser's bases between them where it is time; on CUDA each is captured once as a graph and replayed, so that its many
small kernels cost a launch. The host decides only what takes a look at the bytes: where the quantiser goes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from neurcomp_core.fit.checkpoint import Checkpoint, State
from neurcomp_core.fit.siren_course import Course, part_of
from neurcomp_core.fit.siren_device_optimiser import DeviceSoap
from neurcomp_core.nets.siren_engines import Engine, TorchEngine

if TYPE_CHECKING:
    from neurcomp_core.fit.siren_device_batches import DeviceBatches
    from neurcomp_core.fit.siren_trainer import Trainer

#: Runs of a function before it is captured: libraries choose their kernels in them.
_WARM_UPS = 3


class Replay:
    """A function of fixed tensors that waits for nothing: a CUDA graph where there is CUDA.

    Parameters
    ----------
    function : callable
    changed : list of Tensor
        What it changes; it is put back after the runs that come before a capture.
    """

    def __init__(self, function: Callable[[], None], changed: list[torch.Tensor]) -> None:
        self._function, self._changed = function, changed
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        """Run it."""
        if self._changed[0].device.type != "cuda":
            self._function()
            return
        if self._graph is None:
            self._graph = self._captured()
        self._graph.replay()

    def _captured(self) -> torch.cuda.CUDAGraph:
        before = [tensor.clone() for tensor in self._changed]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                self._function()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Other threads of a program, such as ParaView's, may go on with theirs.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._function()
        for tensor, value in zip(self._changed, before, strict=True):
            tensor.copy_(value)
        return graph


class DeviceCourse(Course):
    """A run of a trainer with an engine; see `Course`."""

    def __init__(self, trainer: Trainer, steps: int, budget: int, checkpoint: Checkpoint) -> None:
        assert trainer.engine is not None
        assert trainer.device_batches is not None
        self.engine: Engine = trainer.engine
        self.device_batches: DeviceBatches = trainer.device_batches
        super().__init__(trainer, steps, budget, checkpoint)

    def _begin(self) -> None:
        engine, batches = self.engine, self.device_batches
        flat, device, outputs = engine.flat, engine.device, engine.net.outputs

        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.float32, device=device)

        self.parameters = engine.tensor(self.trainer.parameters)
        self._best = self.parameters.clone()
        self._loss = zeros() + math.nan
        self.soap = DeviceSoap(flat, device)
        # A batch, its gradient, and the quantiser, at fixed addresses.
        self._index = torch.zeros(batches.size, dtype=torch.int64, device=device)
        self._values = zeros(batches.size, outputs)
        self._shares = zeros(batches.size, outputs) if batches.weighted else None
        self._slopes = zeros(batches.size, outputs, engine.net.inputs)
        self._slope_shares = zeros(batches.size, outputs)
        self._gradient = zeros(flat.size)
        groups = flat.groups
        counts = np.bincount(groups)
        places = np.full((len(counts), counts.max()), flat.size)
        for group, line in enumerate(places):
            line[: counts[group]] = np.flatnonzero(groups == group)
        indices = (torch.from_numpy(a).to(device) for a in (groups, places, counts))
        self._groups, self._group_places, self._counts = indices
        self._steps = zeros(len(counts)) + 1
        self._pressures = zeros(len(counts))
        if self.trainer.codes:
            self._set_steps()
        changed = [self.parameters, self._loss, self._gradient, *self.soap.tensors]
        self._fronts = [
            Replay(lambda: self._front(rounding=False), changed),
            Replay(lambda: self._front(rounding=True), changed),
        ]
        self._back = Replay(lambda: self.soap.move(self._gradient, self.parameters), changed)

    # .......................................................................................................... steps

    def _advance(self, rounding: bool, rate: float) -> None:
        batches = self.device_batches
        index = batches.indices()
        self._index.copy_(index, non_blocking=True)
        self._values.copy_(batches.values(index), non_blocking=True)
        if self._shares is not None:
            self._shares.copy_(batches.shares(index), non_blocking=True)
        if self.trainer.settings.grad_lambda:
            slopes, shares = batches.slopes(index)
            self._slopes.copy_(slopes)
            self._slope_shares.copy_(shares).mul_(self.trainer.settings.grad_lambda)
        self.soap.begin(rate)
        self._fronts[rounding]()
        self.soap.renew()
        self._back()

    def _front(self, rounding: bool) -> None:
        """Gradient of the batch, into the running loss and the optimiser's Gram matrices."""
        steps = self._steps[self._groups] if rounding else None
        effective = self.parameters if steps is None else torch.round(self.parameters / steps).mul_(steps)
        loss, gradient = self._gradients(effective)
        self._gradient.copy_(gradient)
        if steps is not None:
            self._add_rate_gradient(steps)
        self._loss.copy_(torch.where(torch.isnan(self._loss), loss, 0.95 * self._loss + 0.05 * loss))
        self.soap.observe(self._gradient)

    def _gradients(self, parameters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        places = self.device_batches.places
        if not self.trainer.settings.grad_lambda:
            return self.engine.gradients(parameters, places, self._index, self._values, self._shares)
        assert isinstance(self.engine, TorchEngine)
        points = places.points(self._index, self.engine.net.inputs)
        return self.engine.gradients_with_slopes(
            parameters, points, self._values, self._shares, self._slopes, self._slope_shares
        )

    def _add_rate_gradient(self, steps: torch.Tensor) -> None:
        """See `Trainer.add_rate_gradient`."""
        u = self.parameters / steps
        size = u.abs()
        padded = torch.cat([size, size.new_zeros(1)])
        spread = (padded[self._group_places].sum(1) / self._counts).clamp_min_(0.05)
        self._gradient.addcmul_((self._pressures / spread)[self._groups], u / size.add_(0.3))

    def _set_steps(self) -> None:
        """Take the trainer's quantiser."""
        steps = self.trainer.steps32()
        self._steps.copy_(torch.from_numpy(steps))
        self._pressures.copy_(torch.from_numpy((self.trainer.pressure() / (math.log(2) * steps)).astype(np.float32)))

    # ....................................................................................................... exchange

    def _adjust(self) -> None:
        self._fetch()
        super()._adjust()
        self._set_steps()

    def _listen(self) -> None:
        self.running = float(self._loss)

    def _fetch(self) -> None:
        found = self.engine.flat.split(self.parameters.cpu().numpy())
        for p, value in zip(self.trainer.parameters, found, strict=True):
            p[...] = value

    def _push(self) -> None:
        self.parameters.copy_(self.engine.tensor(self.trainer.parameters))
        self._loss.fill_(self.running)
        if self.trainer.codes:
            self._set_steps()

    def _note(self) -> None:
        self._best.copy_(self.parameters)

    def _go_back(self) -> None:
        self.parameters.copy_(self._best)
        self._loss.fill_(self.least)
        self.soap.reset()

    def _optimiser_state(self) -> dict[str, np.ndarray]:
        found = {"best": self._best.cpu().numpy()}
        found |= {f"optimiser.{name}": a for name, a in self.soap.state().items()}
        return found | {f"batches.{name}": a for name, a in self.device_batches.state().items()}

    def _restore_optimiser(self, stored: State) -> None:
        self._best.copy_(torch.from_numpy(np.array(stored["best"], np.float32)))
        self.soap.restore(part_of(stored, "optimiser."))
        self.device_batches.restore(part_of(stored, "batches."))
