"""The size of a network that meets a target: one training for a size, a search over sizes for a quality."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from neurcomp_core import metrics
from neurcomp_core.codec import Encoded
from neurcomp_core.errors import Interrupted, TargetError
from neurcomp_core.field import Field
from neurcomp_core.target import Bytes, MaxError, Target

_ROUNDS = 10  # of a search for a quality
_OVERSHOOT = 2.0  # dB over the target that are worth training a smaller network for


@dataclass(frozen=True)
class Candidate:
    """A stream and what it is worth."""

    encoded: Encoded
    quality: metrics.Quality
    step: float


class Trainer(Protocol):
    """One network in training; `done` are its steps so far."""

    done: int

    def run(self, steps: int, budget: int, share: Callable[[float], float]) -> None:
        """Train `steps` steps towards `budget` bytes; `share` maps the fraction done to reported progress."""

    def at_budget(self, budget: int) -> Candidate:
        """The finest quantiser whose stream fits `budget` bytes."""
        ...

    def coarsest(self, target: Target, met: Candidate) -> Candidate:
        """The smallest stream, by the quantiser alone, that still meets `target`; `met` does."""
        ...


@dataclass(frozen=True)
class Training:
    """How networks of a kind are trained.

    Attributes
    ----------
    kind : str
        With its article, for messages.
    begin : callable
        From a size in bytes to a trainer.
    grow : callable
        From a trainer and a larger size to one of a larger network with the same function.
    steps, more : int
        Of a network, and of one that was grown.
    worth : int
        Steps before an interrupted training is worth keeping.
    share : float
        Bytes per value that a search begins with.
    octave : float
        Decibels that twice the bytes are taken to bring before that is measured.
    """

    kind: str
    begin: Callable[[int], Trainer]
    grow: Callable[[Any, int], Trainer]
    steps: int
    more: int
    worth: int
    share: float
    octave: float


def fit(field: Field, target: Target, training: Training) -> Encoded:
    """Train until the stream meets `target`; see `codec.Codec.encode`."""
    if isinstance(target, Bytes):
        return _fit_bytes(int(target.value), training)
    return _fit_quality(field, target, training)


def _fit_bytes(budget: int, training: Training) -> Encoded:
    trainer = training.begin(budget)
    try:
        trainer.run(training.steps, budget, lambda done: done)
    except Interrupted as stop:
        raise type(stop)(str(stop), _so_far(trainer, budget, training)) from stop
    return trainer.at_budget(budget).encoded


def _so_far(trainer: Trainer, budget: int, training: Training) -> Encoded | None:
    """What an interrupted trainer has, if it is worth anything yet."""
    if trainer.done < training.worth:
        return None
    try:
        return trainer.at_budget(budget).encoded
    except TargetError:
        return None


def _fit_quality(field: Field, target: Target, training: Training) -> Encoded:
    """Train at growing sizes, each from the last one's parameters, until the target is met, then coarsen to meet it
    just so; or, where the first size was too large, anew at smaller ones until the target is missed.
    """
    goal = _decibels_of(target, field)
    budget: int | None = max(400, int(field.voxels * field.components * training.share))
    ceiling = max(4096, 2 * field.nbytes)
    history: list[tuple[int, float]] = []
    best: Candidate | None = None
    smallest: Candidate | None = None
    trainer = training.begin(budget)
    steps = training.steps
    try:
        for number in range(_ROUNDS):
            trainer.run(steps, budget, lambda done, n=number: (n + done) / (n + 2))
            found = trainer.at_budget(budget)
            reached = _decibels(target, found.quality)
            history.append((budget, reached))
            if best is None or reached > _decibels(target, best.quality):
                best = found
            if target.met(found.quality):
                found = trainer.coarsest(target, found)
                smallest = min(smallest or found, found, key=lambda c: c.encoded.nbytes)
            elif smallest is not None:
                return smallest.encoded
            if smallest is not None:
                if reached - goal < _OVERSHOOT:
                    return smallest.encoded
                budget = min(int(0.9 * smallest.encoded.nbytes), _smaller_budget(budget, reached - goal))
                trainer = training.begin(budget)
                continue
            budget = _next_budget(history, goal, ceiling, training.octave)
            if budget is None:
                break
            trainer = training.grow(trainer, budget)
            steps = training.more
    except Interrupted as stop:
        kept = smallest or best
        raise type(stop)(str(stop), kept.encoded if kept else _so_far(trainer, budget or ceiling, training)) from stop
    if smallest is not None:
        return smallest.encoded
    assert best is not None
    shown = f"a PSNR of {best.quality.psnr:.2f} dB and a largest error of {best.quality.max_error:g}"
    raise TargetError(
        f"{target} is out of reach of {training.kind} trained this long: it got {shown} with "
        f"{best.encoded.nbytes} bytes; ask for less, or try the preset 'small'"
    )


def _next_budget(history: list[tuple[int, float]], goal: float, ceiling: int, slope: float) -> int | None:
    """Size to try next: along the measured slope in dB per octave, or None when more bytes have stopped paying."""
    budget, reached = history[-1]
    if len(history) > 1:
        octaves = math.log2(budget / history[-2][0])
        slope = (reached - history[-2][1]) / octaves
        if slope < 0.5 and octaves > 0.5:
            return None
    octaves = min(max((goal - reached) / max(slope, 2.0) * 1.05, 0.08), 2.0)
    following = int(budget * 2**octaves)
    return following if following <= ceiling else None


def _smaller_budget(budget: int, excess: float) -> int:
    """Size to try where `budget` bytes gave `excess` decibels too many; at small sizes an octave is worth 4 dB."""
    return max(64, int(budget / 2 ** min(excess / 4, 3.0)))


def _decibels(target: Target, quality: metrics.Quality) -> float:
    error = quality.max_error if isinstance(target, MaxError) else quality.rmse
    return metrics.psnr(quality.range, error)


def _decibels_of(target: Target, field: Field) -> float:
    if not isinstance(target, MaxError):
        return target.value
    low, high = field.limits
    return metrics.psnr(high - low, target.value)
