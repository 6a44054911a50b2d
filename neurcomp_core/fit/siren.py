"""Fitting a sine network to a field, to a size or to a quality."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neurcomp_core import threads
from neurcomp_core.codec import Context, Encoded
from neurcomp_core.codecs.siren import DENSITY, WIDEST, SirenRecord
from neurcomp_core.field import Field
from neurcomp_core.fit import sizes
from neurcomp_core.fit.siren_course import CHECK_EVERY
from neurcomp_core.fit.siren_trainer import Trainer
from neurcomp_core.nets.siren import paper_width
from neurcomp_core.target import Target

if TYPE_CHECKING:
    from neurcomp_core.codecs.siren import Siren

#: Steps before an interrupted training is worth keeping.
_WORTH = 200
#: Layers and omega of the paper's network, and our omega.
_PAPER_LAYERS, _PAPER_OMEGA, _OMEGA = 8, 30.0, 20.0


def fit(field: Field, target: Target, settings: Siren, context: Context) -> Encoded:
    """Fit a network to `field` so that its stream meets `target`; see `codec.Codec.encode`."""
    steps = steps_for(field, settings)
    training = sizes.Training(
        "a sine network",
        begin=lambda budget: Trainer(field, shape_for(field, budget, settings), settings, context),
        grow=lambda trainer, budget: trainer.grown(shape_for(field, budget, settings, trainer.record)),
        steps=steps,
        more=max(steps // 2, 4 * CHECK_EVERY),
        worth=_WORTH,
        share=0.01,
        octave=4.0,
    )
    with threads.limit(context.threads):
        return sizes.fit(field, target, training)


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
