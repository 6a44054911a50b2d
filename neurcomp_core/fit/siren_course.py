"""The course of one training of a sine network: schedule, quantiser, a watch over the loss, and its checkpoint."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from neurcomp_core.fit.checkpoint import Checkpoint, State
from neurcomp_core.fit.siren_optimiser import Soap
from neurcomp_core.nets.siren import Siren as Net

if TYPE_CHECKING:
    from neurcomp_core.codecs.siren import Siren
    from neurcomp_core.fit.siren_trainer import Trainer

_WARM_UP = 200  # steps of rising learning rate; a tenth of the steps if they are few
_FLOAT_SHARE = 0.5  # of the steps before parameters are rounded
_FREEZE = 0.95  # share after which the quantiser stays
CHECK_EVERY = 200
_AIM = 0.99  # of the budget, while following it
_WATCH = 50  # steps between looks at whether the loss runs away
_RUNAWAY = 3.0  # times the least loss
_REST = 0.01  # of the learning rate, at the end


class Course:
    """A run of a trainer.

    Parameters
    ----------
    trainer : Trainer
    steps, budget : int
        Of the run; bytes of the stream.
    checkpoint : Checkpoint
        Goes on where that was.
    """

    def __init__(self, trainer: Trainer, steps: int, budget: int, checkpoint: Checkpoint) -> None:
        self.trainer, self.steps, self.checkpoint = trainer, steps, checkpoint
        self.aim = _AIM * budget
        self.at = 0
        warm = bool(trainer.codes)
        self.first_rounded = 0 if warm else int(steps * _FLOAT_SHARE)
        self.rate = rate_for(trainer.settings, trainer.net) * (0.5 if warm else 1.0)
        self.running = math.nan
        self.least = math.inf
        self.slowed = 1.0
        self.since = 0  # steps since the optimiser began
        self._begin()
        if checkpoint.state is not None:
            self._restore(checkpoint.state)

    @property
    def decibels(self) -> float:
        """PSNR that the running loss means; outputs have a range of 2."""
        self._listen()
        return 10 * math.log10(4 / max(self.running, 1e-30)) if self.running == self.running else 0.0

    def forward(self) -> None:
        """One step."""
        i = self.at
        moving = self.first_rounded <= i < max(_FREEZE * self.steps, self.first_rounded + 1)
        if moving and (i - self.first_rounded) % CHECK_EVERY == 0:
            self._adjust()
            self.least = math.inf
        self._advance(i >= self.first_rounded, self.rate * self.slowed * self._schedule(i))
        self.at += 1
        self.since += 1
        self.trainer.done += 1
        if self.at % _WATCH == 0:
            self._watch()
        self.checkpoint.offer(self._state)

    # What follows is in NumPy; fit/siren_device.py does the same on a device.

    def _begin(self) -> None:
        """Make what a run needs beside the numbers."""
        self.optimiser = Soap(self.trainer.parameters)
        self.best = [p.copy() for p in self.trainer.parameters]

    def _adjust(self) -> None:
        """Move the quantiser to where the stream has the bytes aimed at."""
        self.trainer.sense()
        self.trainer.follow(self.aim)

    def _advance(self, rounding: bool, rate: float) -> None:
        """Move the parameters along the gradient of the next batch, and the running loss."""
        trainer = self.trainer
        effective = trainer.rounded() if rounding else trainer.parameters
        loss, gradients = trainer.loss(effective)
        if rounding:
            trainer.add_rate_gradient(gradients)
        self.optimiser.step(gradients, rate)
        self.running = loss if self.running != self.running else 0.95 * self.running + 0.05 * loss

    def _listen(self) -> None:
        """Bring `running` up to date."""

    def _fetch(self) -> None:
        """Bring the trainer's parameters up to date."""

    def _push(self) -> None:
        """Take the trainer's parameters, and `running`, as they have been set."""

    def _note(self) -> None:
        """Keep the parameters as the best so far."""
        self.best = [p.copy() for p in self.trainer.parameters]

    def _go_back(self) -> None:
        """Go on from the best parameters, anew."""
        for p, b in zip(self.trainer.parameters, self.best, strict=True):
            p[...] = b
        self.optimiser = Soap(self.trainer.parameters)

    def _optimiser_state(self) -> dict[str, np.ndarray]:
        found = {f"best{i}": p for i, p in enumerate(self.best)}
        found |= {f"optimiser.{name}": a for name, a in self.optimiser.state().items()}
        return found | {f"batches.{name}": a for name, a in self.trainer.batches.state().items()}

    def _restore_optimiser(self, stored: State) -> None:
        self.best = [np.array(stored[f"best{i}"], np.float32) for i in range(len(self.trainer.parameters))]
        self.optimiser.restore(part_of(stored, "optimiser."))
        self.trainer.batches.restore(part_of(stored, "batches."))

    # .................................................................................................................

    def _schedule(self, i: int) -> float:
        """Learning rate over time: warm-up, then cosine to 1 %."""
        warm = min(_WARM_UP, max(self.steps // 10, 1))
        rise = min(1.0, (self.since + 1) / warm)
        return rise * (_REST + (1 - _REST) * 0.5 * (1 + math.cos(math.pi * i / self.steps)))

    def _watch(self) -> None:
        """Go back to the best parameters where the loss runs away, and on with half the learning rate."""
        self._listen()
        if self.running < self.least:
            self.least = self.running
            self._note()
        elif not self.running <= _RUNAWAY * self.least:
            self._go_back()
            self.slowed *= 0.5
            self.since = 0
            self.running = self.least

    def keep(self) -> None:
        """Keep where the run is, now."""
        self._fetch()
        self.checkpoint.keep(self._state)

    def finish(self) -> None:
        """Keep the result, if there is a checkpoint."""
        self._fetch()
        if not self.checkpoint.finished:
            self.checkpoint.finish(self._result)

    def _result(self) -> dict[str, np.ndarray]:
        self._fetch()
        self._listen()
        t = self.trainer
        numbers = [self.at, t.step, t.unit, t.done, self.running, self.least, self.slowed, self.since]
        return {f"p{i}": p for i, p in enumerate(t.parameters)} | {
            "numbers": np.array(numbers, np.float64),
            "codes": np.frombuffer(t.codes, np.uint8),
        }

    def _state(self) -> dict[str, np.ndarray]:
        return self._result() | self._optimiser_state()

    def _restore(self, stored: State) -> None:
        t = self.trainer
        try:
            for i, p in enumerate(t.parameters):
                p[...] = stored[f"p{i}"]
            t.codes = stored["codes"].tobytes()
            numbers = [float(v) for v in stored["numbers"]]
            self.at, t.step, t.unit, t.done = int(numbers[0]), numbers[1], numbers[2], int(numbers[3])
            self.running, self.least, self.slowed, self.since = numbers[4], numbers[5], numbers[6], int(numbers[7])
            self._push()
            if not self.checkpoint.finished:
                self._restore_optimiser(stored)
        except (KeyError, ValueError, IndexError, TypeError, RuntimeError) as error:
            raise self.checkpoint.damaged(error) from error


def part_of(stored: State, head: str) -> dict[str, np.ndarray]:
    """Arrays whose names begin with `head`, by the rest of their names."""
    return {name[len(head) :]: a for name, a in stored.items() if name.startswith(head)}


def rate_for(settings: Siren, net: Net) -> float:
    """Learning rate: what a network's output moves by grows with its width."""
    return settings.rate or min(0.04 / net.width, 3e-3) * 30 / net.omega
