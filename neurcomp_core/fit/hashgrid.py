"""Fitting a hash-grid network to a field, to a size or to a quality."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from neurcomp_core import metrics, threads
from neurcomp_core.codec import Context, Encoded
from neurcomp_core.codecs.hashgrid import DENSITY, HashGridRecord
from neurcomp_core.errors import InputError, Interrupted, TargetError
from neurcomp_core.field import Field
from neurcomp_core.fit.trainer import CHECK_EVERY, WARM_UP, Candidate, Trainer
from neurcomp_core.target import Bytes, MaxError, Target

if TYPE_CHECKING:
    from neurcomp_core.codecs.hashgrid import HashGrid

_FINEST = 1.25  # vertices per axis of the finest level, of those that would give one vertex per bit
_ROUNDS = 10  # of a search for a quality
_OVERSHOOT = 2.0  # dB over the target that are worth training a smaller network for


def fit(field: Field, target: Target, settings: HashGrid, context: Context) -> Encoded:
    """Fit a network to `field` so that its stream meets `target`; see `codec.Codec.encode`."""
    device = _device(context.device)
    with threads.limit(context.threads):
        if isinstance(target, Bytes):
            return _fit_bytes(field, int(target.value), settings, context, device)
        return _fit_quality(field, target, settings, context, device)


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device: cuda was asked for, but torch sees no CUDA device; use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


# -------------------------------------------------------------------------------------------------------- searches


def _fit_bytes(field: Field, budget: int, settings: HashGrid, context: Context, device: torch.device) -> Encoded:
    trainer = Trainer(field, shape_for(field, budget, settings), settings, context, device)
    try:
        trainer.run(settings.steps, budget, lambda done: done)
    except Interrupted as stop:
        raise type(stop)(str(stop), _so_far(trainer, budget)) from stop
    return trainer.at_budget(budget).encoded


def _so_far(trainer: Trainer, budget: int) -> Encoded | None:
    """What an interrupted trainer has, if it is worth anything yet."""
    if trainer.done < WARM_UP:
        return None
    try:
        return trainer.at_budget(budget).encoded
    except TargetError:
        return None


def _fit_quality(field: Field, target: Target, settings: HashGrid, context: Context, device: torch.device) -> Encoded:
    """Train at growing sizes, each from the last one's parameters, until the target is met, then coarsen to meet it
    just so; or, where the first size was too large, anew at smaller ones until the target is missed.
    """
    goal = _decibels_of(target, field)
    budget: int | None = max(400, int(field.voxels * field.components * 0.02))
    ceiling = max(4096, 2 * field.nbytes)
    history: list[tuple[int, float]] = []
    best: Candidate | None = None
    smallest: Candidate | None = None
    trainer = Trainer(field, shape_for(field, budget, settings), settings, context, device)
    steps = settings.steps
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
                trainer = Trainer(field, shape_for(field, budget, settings), settings, context, device)
                continue
            budget = _next_budget(history, goal, ceiling)
            if budget is None:
                break
            trainer = trainer.grown(shape_for(field, budget, settings, trainer.record))
            steps = max(settings.steps // 2, 4 * CHECK_EVERY)
    except Interrupted as stop:
        kept = smallest or best
        raise type(stop)(str(stop), kept.encoded if kept else _so_far(trainer, budget or ceiling)) from stop
    if smallest is not None:
        return smallest.encoded
    assert best is not None
    shown = f"a PSNR of {best.quality.psnr:.2f} dB and a largest error of {best.quality.max_error:g}"
    raise TargetError(
        f"{target} is out of reach of a hash grid trained this long: it got {shown} with {best.encoded.nbytes} bytes; "
        "ask for less, or try the preset 'small'"
    )


def _next_budget(history: list[tuple[int, float]], goal: float, ceiling: int) -> int | None:
    """Size to try next: along the measured slope in dB per octave, or None when more bytes have stopped paying."""
    budget, reached = history[-1]
    slope = 5.0
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


def shape_for(
    field: Field, budget: int, settings: HashGrid, grown_from: HashGridRecord | None = None
) -> HashGridRecord:
    """Network for a stream of `budget` bytes: as large as its bits can feed, see docs/hashgrid.md for the measurements.

    The table has about an entry per seven bits, the finest level about two vertices per bit, and never finer than
    samples. `grown_from` is a network to keep the resolutions and the width of, so that it can be grown into this one.
    """
    bits = 8 * budget
    log2_table = settings.log2_table or min(max(round(math.log2(bits / 7)), 6), 22)
    width = settings.width or (8 if budget < 1500 else 16 if budget < 6000 else 32 if budget < 100_000 else 64)
    longest = max(field.values.shape[:3])
    base = min(settings.base, max(2, longest))
    # Vertices count only where there are samples.
    sides = [n / longest for n in field.values.shape[:3] if n > 1]
    finest = min(_FINEST * (bits / math.prod(sides)) ** (1 / max(len(sides), 1)), longest)
    growth = grown_from.growth if grown_from else settings.growth
    octaves = max(math.log(finest / base), 0.0) / math.log(growth)
    levels = settings.levels or min(1 + math.ceil(octaves - 0.25), 24)
    if grown_from:
        levels = max(levels, grown_from.levels)
        log2_table = max(log2_table, grown_from.log2_table)
        width = grown_from.width
    elif levels > 1 and finest > base:
        growth = max((finest / base) ** (1 / (levels - 1)), 1.01)
    while log2_table > 4 and (settings.features << log2_table) * levels > DENSITY * budget:
        log2_table -= 1
    return HashGridRecord(
        log2_table, levels, settings.features, base, float(np.float32(growth)), width, settings.hidden
    )
