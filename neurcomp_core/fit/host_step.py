"""A training step of a hash grid on any device, one operation of torch or of a backend after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch

from neurcomp_core.fit.smoothness import error_terms
from neurcomp_core.nets.memory import is_out_of_memory, release

if TYPE_CHECKING:
    from neurcomp_core.fit.trainer import Trainer


#: Points, targets and weights, as `sampling.BlockSampler.batch` draws them.
Batch = tuple[torch.Tensor, torch.Tensor, "torch.Tensor | None"]


class HostStep:
    """Steps of `trainer`; see `device_step.DeviceStep` for the ones that never leave a GPU."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer

    def __call__(self, rounded: bool) -> torch.Tensor:
        """One step at the optimiser's learning rate, under quantisers if `rounded`; the squared error before it."""
        trainer = self._trainer
        batch = trainer.sampler.batch()
        effective = trainer.effective(trainer.rounded() if rounded else trainer.parameters)
        squared, *gradients = trainer.parts.run(lambda most: self._gradients(batch, effective, most))
        found = iter(gradients)
        for p in trainer.parameters:
            # Rounding passes gradients straight through.
            p.grad = next(found) if p.numel() else None
        if trainer.variation is not None:
            table = cast(torch.Tensor, trainer.parameters[0].grad)
            trainer.variation.add_gradient(effective[0], trainer.settings.tv, table)
        if rounded:
            self._add_rate_gradient()
        trainer.optimiser.step()
        return squared

    def _gradients(self, batch: Batch, effective: list[torch.Tensor], most: int) -> list[torch.Tensor]:
        """The squared error, and the gradients of what is made least, of at most `most` samples at a time."""
        trainer = self._trainer
        points, targets, weights = batch
        active = [p for p in effective if p.numel()]
        scale = scale_of(trainer, weights)

        def of_part(part: slice) -> list[torch.Tensor]:
            own = targets[:, part], None if weights is None else weights[:, part]
            squared, loss = loss_of(trainer, trainer.output(points[part], effective), *own, scale)
            share = own[0].shape[1] / len(points)
            return [squared.detach() * share, *torch.autograd.grad(loss * share, active)]

        return summed(trainer.sampler.parts(most), of_part)

    @torch.no_grad()
    def _add_rate_gradient(self) -> None:
        """Gradient of ``lambda`` times code length, a Laplace density of the group's mean magnitude per parameter."""
        trainer = self._trainer
        pressure = trainer.pressure()
        gradients = trainer.split([cast(torch.Tensor, p.grad) for p in trainer.parameters])
        steps = trainer.quantiser_steps()
        for values, gradient, step in zip(trainer.split(trainer.parameters), gradients, steps, strict=True):
            u = values * (1 / step)
            size = u.abs()
            spread = max(float(size.mean()), 0.05)
            # u / (|u| + 0.3) is the sign, softened below half a step where rounding hides it anyway.
            gradient.addcdiv_(u, size.add_(0.3), value=pressure / (spread * math.log(2) * step))


def loss_of(
    trainer: Trainer,
    output: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor | None,
    scale: torch.Tensor | float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The squared error of a batch, and what is made least; of a part of one with the `scale_of` all of it."""
    error = output - targets
    scale = scale_of(trainer, weights) if scale is None else scale
    if weights is not None:
        error = error * weights
    squared = (error * error).mean() * scale
    return squared, squared + error_terms(error, scale, trainer.sampler, trainer.settings)


def scale_of(trainer: Trainer, weights: torch.Tensor | None) -> torch.Tensor | float:
    """What means over a batch are multiplied by, so that samples without data do not dilute them."""
    if weights is None or trainer.sampler.balanced:
        return 1.0
    data = weights.sum()
    # A device's sum is not waited for.
    return weights.numel() / (data.clamp(min=1.0) if data.is_cuda else max(float(data), 1.0))


def summed(parts: Iterable[slice], of_part: Callable[[slice], Sequence[torch.Tensor]]) -> list[torch.Tensor]:
    """What the parts of a batch give, added up."""
    found: list[torch.Tensor] = []
    for part in parts:
        own = of_part(part)
        found = [a.add_(b) for a, b in zip(found, own, strict=True)] if found else list(own)
    return found


class SafeStep:
    """Steps that go on with `HostStep` once faster ones have run out of memory.

    Parameters
    ----------
    trainer : Trainer
    fast : callable
        Makes the faster steps; memory may not suffice for that already.
    """

    def __init__(self, trainer: Trainer, fast: Callable[[Trainer], Callable[[bool], torch.Tensor]]) -> None:
        self._trainer = trainer
        self._step: Any = None
        with self._falling_back():
            self._step = fast(trainer)

    def __call__(self, rounded: bool) -> torch.Tensor:
        """See `HostStep`."""
        with self._falling_back():
            return self._step(rounded)
        return self._step(rounded)

    @contextmanager
    def _falling_back(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if not is_out_of_memory(error) or isinstance(self._step, HostStep):
                raise
            self._step = HostStep(self._trainer)
            release()
            self._trainer.context.progress.note(
                "the device has not enough memory for steps of its own; going on with slower ones"
            )
