"""Fitting a hash-grid network to a field, to a size or to a quality."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from neurcomp_core import threads
from neurcomp_core.codec import Context, Encoded
from neurcomp_core.codecs.hashgrid import DENSITY, HashGridRecord
from neurcomp_core.errors import InputError
from neurcomp_core.field import Field
from neurcomp_core.fit import sizes
from neurcomp_core.fit.trainer import CHECK_EVERY, WARM_UP, Trainer
from neurcomp_core.target import Target

if TYPE_CHECKING:
    from neurcomp_core.codecs.hashgrid import HashGrid

_FINEST = 1.25  # vertices per axis of the finest level, of those that would give one vertex per bit


def fit(field: Field, target: Target, settings: HashGrid, context: Context) -> Encoded:
    """Fit a network to `field` so that its stream meets `target`; see `codec.Codec.encode`."""
    device = _device(context.device)
    training = sizes.Training(
        "a hash grid",
        begin=lambda budget: Trainer(field, shape_for(field, budget, settings), settings, context, device),
        grow=lambda trainer, budget: trainer.grown(shape_for(field, budget, settings, trainer.record)),
        steps=settings.steps,
        more=max(settings.steps // 2, 4 * CHECK_EVERY),
        worth=WARM_UP,
        share=0.02,
        octave=5.0,
    )
    with threads.limit(context.threads):
        return sizes.fit(field, target, training)


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device: cuda was asked for, but torch sees no CUDA device; use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


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
