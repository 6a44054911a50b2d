"""Looking on while a field is trained: what a trainer tells, and how often."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from neurcomp_core.progress import Progress
from neurcomp_core.radiance.volume import RadianceModel

#: Moments of a whole training.
MOMENTS = 40
# Batches that the running error forgets in.
_MEMORY = 50.0


@dataclass(frozen=True, eq=False)
class Moment:
    """Where a training is.

    Attributes
    ----------
    step, steps : int
        Steps done, and of the whole training.
    seconds : float
        Since it began, or was resumed.
    psnr : float or None
        Of the latest batches against the training images, in dB; None before the first.
    model : callable
        The field as it is now, a copy that further training does not change; made when called.
    """

    step: int
    steps: int
    seconds: float
    psnr: float | None
    model: Callable[[], RadianceModel]


Watch = Callable[[Moment], None]


class Watching:
    """A trainer's side: keeps the running error, reports progress, and calls the watch about `MOMENTS` times.

    Parameters
    ----------
    steps : int
        Of the whole training.
    model : callable
        See `Moment.model`.
    progress : Progress
        Told after every step; may raise `Interrupted` (see `step`).
    watch : Watch, optional
    """

    def __init__(
        self, steps: int, model: Callable[[], RadianceModel], progress: Progress, watch: Watch | None = None
    ) -> None:
        self.steps, self._model, self._progress, self._watch = steps, model, progress, watch
        self._start = time.monotonic()
        self._error = self._weight = 0.0
        self._shown = -1

    @property
    def psnr(self) -> float | None:
        """Running PSNR in dB of the batches so far, for a range of 1."""
        if not self._weight:
            return None
        return -10 * math.log10(max(self._error / self._weight, 1e-12))

    def step(self, done: int, error: float, label: str = "") -> None:
        """After step `done` (counted from 1) with the batch's mean squared error.

        Raises
        ------
        Interrupted
            From `Progress`: the trainer adds its model as ``best`` and raises it again.
        """
        keep = 1 - 1 / _MEMORY
        self._error, self._weight = keep * self._error + error, keep * self._weight + 1
        head = f"{label}: " if label else ""
        if done * MOMENTS // self.steps != (done - 1) * MOMENTS // self.steps:
            self.show(done)
        self._progress.update(done / self.steps, f"{head}step {done}/{self.steps}, {self.psnr:.1f} dB")

    def show(self, done: int) -> None:
        """Call the watch now, once per step: at the end of a stage."""
        if self._watch is not None and done != self._shown:
            self._shown = done
            seconds = time.monotonic() - self._start
            self._watch(Moment(done, self.steps, seconds, self.psnr, self._model))
