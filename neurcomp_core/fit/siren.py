"""Fitting a sine network to a field, to a size or to a quality."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from neurcomp_core import metrics, threads
from neurcomp_core.codec import Context, Encoded
from neurcomp_core.codecs.siren import DENSITY, WIDEST, SirenRecord
from neurcomp_core.errors import Interrupted, TargetError
from neurcomp_core.field import Field
from neurcomp_core.fit.siren_course import CHECK_EVERY
from neurcomp_core.fit.siren_trainer import Candidate, Trainer
from neurcomp_core.nets.siren import paper_width
from neurcomp_core.target import Bytes, MaxError, Target

if TYPE_CHECKING:
    from neurcomp_core.codecs.siren import Siren

_ROUNDS = 10  # of a search for a quality
_OVERSHOOT = 2.0  # dB over the target that are worth training a smaller network for
#: Steps before an interrupted training is worth keeping.
_WORTH = 200
#: Layers and omega of the paper's network, and our omega.
_PAPER_LAYERS, _PAPER_OMEGA, _OMEGA = 8, 30.0, 20.0


def fit(field: Field, target: Target, settings: Siren, context: Context) -> Encoded:
    """Fit a network to `field` so that its stream meets `target`; see `codec.Codec.encode`."""
    with threads.limit(context.threads):
        if isinstance(target, Bytes):
            return _fit_bytes(field, int(target.value), settings, context)
        return _fit_quality(field, target, settings, context)


def steps_for(field: Field, settings: Siren) -> int:
    """Optimiser steps: those asked for, or as many as draw `passes` samples for each of the field."""
    if settings.passes is None:
        return settings.steps
    return max(round(settings.passes * field.voxels / settings.batch), 1)


def shape_for(field: Field, budget: int, settings: Siren, grown_from: SirenRecord | None = None) -> SirenRecord:
    """Network for a stream of `budget` bytes; see docs/siren.md for the measurements.

    As wide as `settings.bits` bits per parameter allow, or by the paper's rule; `grown_from` is a network to keep the
    layers of.
    """
    inputs = max(sum(n > 1 for n in field.values.shape[:3]), 1)
    outputs = field.components
    if settings.parameter_ratio is not None:
        layers = settings.layers or _PAPER_LAYERS
        width = paper_width(field.voxels / settings.parameter_ratio, layers, inputs, outputs)
        return SirenRecord(min(width, WIDEST), layers, settings.omega or _PAPER_OMEGA)
    count = min(8 * budget / settings.bits, DENSITY * budget)
    layers = settings.layers or (grown_from.layers if grown_from else _layers_for(count))
    width = settings.width or paper_width(count, layers, inputs, outputs, narrowest=1)
    return SirenRecord(min(width, WIDEST), layers, settings.omega or _OMEGA)


def _layers_for(count: float) -> int:
    return 2 if count < 300 else 3 if count < 6000 else 4


# -------------------------------------------------------------------------------------------------------- searches


def _fit_bytes(field: Field, budget: int, settings: Siren, context: Context) -> Encoded:
    trainer = Trainer(field, shape_for(field, budget, settings), settings, context)
    try:
        trainer.run(steps_for(field, settings), budget, lambda done: done)
    except Interrupted as stop:
        raise type(stop)(str(stop), _so_far(trainer, budget)) from stop
    return trainer.at_budget(budget).encoded


def _so_far(trainer: Trainer, budget: int) -> Encoded | None:
    """What an interrupted trainer has, if it is worth anything yet."""
    if trainer.done < _WORTH:
        return None
    try:
        return trainer.at_budget(budget).encoded
    except TargetError:
        return None


def _fit_quality(field: Field, target: Target, settings: Siren, context: Context) -> Encoded:
    """Train at growing sizes, each from the last one's parameters, until the target is met, then coarsen to meet it
    just so; or, where the first size was too large, anew at smaller ones until the target is missed.
    """
    goal = _decibels_of(target, field)
    budget: int | None = max(400, int(field.voxels * field.components * 0.01))
    ceiling = max(4096, 2 * field.nbytes)
    history: list[tuple[int, float]] = []
    best: Candidate | None = None
    smallest: Candidate | None = None
    trainer = Trainer(field, shape_for(field, budget, settings), settings, context)
    steps = steps_for(field, settings)
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
                trainer = Trainer(field, shape_for(field, budget, settings), settings, context)
                continue
            budget = _next_budget(history, goal, ceiling)
            if budget is None:
                break
            trainer = trainer.grown(shape_for(field, budget, settings, trainer.record))
            steps = max(steps_for(field, settings) // 2, 4 * CHECK_EVERY)
    except Interrupted as stop:
        kept = smallest or best
        raise type(stop)(str(stop), kept.encoded if kept else _so_far(trainer, budget or ceiling)) from stop
    if smallest is not None:
        return smallest.encoded
    assert best is not None
    shown = f"a PSNR of {best.quality.psnr:.2f} dB and a largest error of {best.quality.max_error:g}"
    raise TargetError(
        f"{target} is out of reach of a sine network trained this long: it got {shown} with "
        f"{best.encoded.nbytes} bytes; ask for less, or try the preset 'small'"
    )


def _next_budget(history: list[tuple[int, float]], goal: float, ceiling: int) -> int | None:
    """Size to try next: along the measured slope in dB per octave, or None when more bytes have stopped paying."""
    budget, reached = history[-1]
    slope = 4.0
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
