"""Fitting a hash-grid network to a field, to a size or to a quality."""

from __future__ import annotations

import math
from dataclasses import replace
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
from neurcomp_core.nets.devices import device_of
from neurcomp_core.nets.grid import Lattice
from neurcomp_core.target import Target

if TYPE_CHECKING:
    from neurcomp_core.codecs.hashgrid import HashGrid

_TRIAL, _TRIED = 0.02, 10  # share of the steps, and fewest steps, to compare two starts
_FINEST = 1.25  # vertices per axis of the finest level, of those that would give one vertex per bit


def fit(field: Field, target: Target, settings: HashGrid, context: Context) -> Encoded:
    """Fit a network to `field` so that its stream meets `target`; see `codec.Codec.encode`."""
    device = device_of(context.device)
    try:
        settings, growth = started(field, settings, context)
    except InputError:
        if context.init is None or not context.init.tentative:
            raise
        context, growth = replace(context, init=None), None
    training = sizes.Training(
        "a hash grid",
        begin=lambda budget: _begun(
            field, shape_for(field, budget, settings, growth=growth), settings, context, device
        ),
        grow=lambda trainer, budget: trainer.grown(shape_for(field, budget, settings, trainer.record)),
        steps=settings.steps,
        more=max(settings.steps // 2, 4 * CHECK_EVERY),
        worth=WARM_UP,
        share=0.02,
        octave=5.0,
    )
    with threads.limit(context.threads):
        return sizes.fit(field, target, training)


def _begun(field: Field, record: HashGridRecord, settings: HashGrid, context: Context, device: torch.device) -> Trainer:
    """A network at its start or, unless it is to hold differences, at random weights where some steps show these to be
    better: a start of unlike fields does harm.
    """
    trainer = Trainer(field, record, settings, context, device)
    if context.init is None or settings.delta_init:
        return trainer
    other = Trainer(field, record, settings, replace(context, init=None), device)
    # Both see the same samples.
    trial = max(int(settings.steps * _TRIAL), _TRIED)
    return trainer if trainer.adapt(trial) < other.adapt(trial) else other


def started(field: Field, settings: HashGrid, context: Context) -> tuple[HashGrid, float | None]:
    """Settings of networks that start at ``context.init``, if there is one, and the growth that they must have.

    Raises
    ------
    InputError
        If the start is for other fields, or settings ask for another network.
    """
    init = context.init
    if settings.delta_init and (init is None or init.tentative):
        raise InputError("--delta-init: differences to what? Give a start with --init FILE.nvi")
    if init is None:
        return settings, None
    own = init.record
    usual = type(settings)()
    for name in ("features", "base", "growth", "width", "hidden", "interpolation"):
        if getattr(settings, name) not in (getattr(usual, name), getattr(own, name)):
            raise InputError(
                f"hashgrid: {name}: the start '{own.name}' has {getattr(own, name)}, got {getattr(settings, name)}; "
                "leave it out, or train another start"
            )
    shape = field.values.shape
    outputs = shape[3] if len(shape) == 4 else 1
    # The coarsest resolution is no finer than the field.
    base = min(own.base, max(2, max(shape[:3])))
    wrong = init.misfit(
        Lattice(shape[:3]).dims, outputs, own.features, base, own.growth, own.width, own.hidden, own.smooth
    )
    if wrong:
        raise InputError(f"array '{field.name}': {wrong}; choose other arrays, or train a start on such fields")
    adapted = replace(
        settings, features=own.features, base=own.base, width=own.width, hidden=own.hidden,
        interpolation=own.interpolation,
    )  # fmt: skip
    return adapted, own.growth


def shape_for(
    field: Field,
    budget: int,
    settings: HashGrid,
    grown_from: HashGridRecord | None = None,
    growth: float | None = None,
) -> HashGridRecord:
    """Network for a stream of `budget` bytes: as large as its bits can feed, see docs/hashgrid.md for the measurements.

    The table has about an entry per seven bits, the finest level about two vertices per bit, and never finer than
    samples; with ``settings.max_load`` it has at most so many vertices per table entry. `grown_from` is a network to
    keep the resolutions and the width of, so that it can be grown into this one; `growth` is that of a start, which
    resolutions must be those of.
    """
    bits = 8 * budget
    log2_table = settings.log2_table or min(max(round(math.log2(bits / 7)), 6), 22)
    width = settings.width or (8 if budget < 1500 else 16 if budget < 6000 else 32 if budget < 100_000 else 64)
    longest = max(field.values.shape[:3])
    base = min(settings.base, max(2, longest))
    # Vertices count only where there are samples.
    sides = [n / longest for n in field.values.shape[:3] if n > 1]
    finest = min(_FINEST * (bits / math.prod(sides)) ** (1 / max(len(sides), 1)), longest)
    if settings.max_load:
        finest = min(finest, (settings.max_load * 2**log2_table / math.prod(sides)) ** (1 / max(len(sides), 1)))
    kept = grown_from.growth if grown_from else growth
    growth = kept or settings.growth
    octaves = max(math.log(finest / base), 0.0) / math.log(growth)
    levels = settings.levels or min(1 + math.ceil(octaves - 0.25), 24)
    if grown_from:
        levels = max(levels, grown_from.levels)
        log2_table = max(log2_table, grown_from.log2_table)
        width = grown_from.width
    elif kept is None and levels > 1 and finest > base:
        growth = min(max((finest / base) ** (1 / (levels - 1)), 1.01), 8.0)
    while log2_table > 4 and (settings.features << log2_table) * levels > DENSITY * budget:
        log2_table -= 1
    return HashGridRecord(
        log2_table, levels, settings.features, base, float(np.float32(growth)), width, settings.hidden,
        smooth=settings.smooth,
    )  # fmt: skip
