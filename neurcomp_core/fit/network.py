"""Fitting a coordinate network to a field, to a size or to a quality; and how large each encoding is for a size."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from neurcomp_core import threads
from neurcomp_core.codec import Context, Encoded
from neurcomp_core.codecs.hashgrid import HashGrid
from neurcomp_core.codecs.network import DENSITY, LIMITS, NetworkRecord, network_of
from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import InputError
from neurcomp_core.field import Field
from neurcomp_core.fit import hashgrid, sizes
from neurcomp_core.fit.network_trainer import CHECK_EVERY, Trainer
from neurcomp_core.nets.backends import chosen
from neurcomp_core.nets.coordinate import ACTIVATIONS
from neurcomp_core.nets.devices import device_of
from neurcomp_core.nets.encodings import ENCODINGS
from neurcomp_core.nets.grid import Lattice
from neurcomp_core.target import Target

if TYPE_CHECKING:
    from neurcomp_core.codecs.network import Network

#: Factor between resolutions of dense grids, and values per entry of factorised grids.
_GROWTH, _FEATURES = 2.0, 8
_BINS, _MOST_OCTAVES, _BANDS = 32, 10, 4


def fit(field: Field, target: Target, settings: Network, context: Context) -> Encoded:
    """Fit a network to `field` so that its stream meets `target`; see `codec.Codec.encode`."""
    device = device_of(context.device)
    usual = chosen("auto", device).name
    if context.backend not in ("auto", usual):
        raise InputError(
            f"network: this codec is trained with {usual} on {device.type}, got backend {context.backend}; use auto"
        )

    def begin(budget: int) -> Trainer:
        return Trainer(field, shape_for(field, budget, settings), settings, context, device)

    training = sizes.Training(
        "a network",
        begin=begin,
        # Most encodings cannot grow without changing what they are; all begin anew, for a fair comparison.
        grow=lambda trainer, budget: begin(budget),
        steps=settings.steps,
        more=settings.steps,
        worth=2 * CHECK_EVERY,
        share=0.02,
        octave=4.0,
    )
    with threads.limit(context.threads):
        return sizes.fit(field, target, training)


def shape_for(field: Field, budget: int, settings: Network) -> NetworkRecord:
    """Network for a stream of `budget` bytes, with what the user set; see docs/encodings.md.

    Encodings with tables have a small perceptron, and tables for the rest of the bytes. Others have three hidden
    layers, as wide as the bytes allow.
    """
    kind = ENCODINGS[settings.encoding]
    record = NetworkRecord(kind.number, ACTIVATIONS.index(settings.activation), omega=settings.omega)
    if "features" in kind.uses:
        width = settings.width or (8 if budget < 1500 else 16 if budget < 6000 else 32 if budget < 100_000 else 64)
        return _with_tables(field, budget, settings, replace(record, width=width, hidden=settings.hidden or 2))
    longest = max(field.values.shape[:3])
    if "levels" in kind.uses:
        # The shortest wave spans two samples.
        octaves = max(min(int(math.log2(longest)), _MOST_OCTAVES), 1)
        bands = min(octaves, _BANDS) if kind.name == "spherical" else octaves
        record = replace(record, levels=settings.levels or bands)
    if "resolution" in kind.uses:
        record = replace(record, resolution=settings.resolution or max(min(_BINS, longest), 2))
    record = replace(record, width=1, hidden=settings.hidden or 3)
    if settings.width:
        return replace(record, width=settings.width)
    count = min(8 * budget / settings.bits, DENSITY * budget)
    spec = ArraySpec(field.values.shape, field.values.dtype)
    while record.width < LIMITS["width"][1]:
        wider = replace(record, width=record.width + 1)
        if network_of(wider, spec).parameters > count:
            break
        record = wider
    return record


def _with_tables(field: Field, budget: int, settings: Network, record: NetworkRecord) -> NetworkRecord:
    """Sizes of an encoding with tables."""
    lattice = Lattice(field.values.shape[:3])  # type: ignore[arg-type]
    longest = max(lattice.shape)
    extents = [lattice.shape[a] / longest for a in lattice.axes]
    if settings.encoding == "hash":
        return _hash_tables(field, budget, settings, record)
    # Half of the bytes of a small network are its perceptron's.
    count = 8 * budget / settings.bits - 2.0 * record.width**2
    count = max(count, 4 * budget / settings.bits, 16)
    if settings.encoding == "dense":
        features, growth = settings.features or 2, settings.growth or _GROWTH
        base = settings.resolution or min(4, max(longest, 2))
        # Vertices of all levels are a little more than those of the finest, growth**-dims of it and so on.
        vertices = count / features * (1 - growth ** -len(extents))
        finest = min((vertices / math.prod(extents)) ** (1 / len(extents)), longest)
        levels = settings.levels or min(1 + max(round(math.log(max(finest / base, 1)) / math.log(growth)), 0), 16)
        if levels > 1 and settings.growth is None:
            growth = min(max((finest / base) ** (1 / (levels - 1)), 1.01), 8.0)
        growth = float(min(growth, 8.0))
        return replace(record, levels=levels, features=features, resolution=base, growth=_float32(growth))
    resolution = settings.resolution or max(longest, 2)
    features = settings.features or _FEATURES
    per_feature = _factor_entries(settings.encoding, extents, resolution)
    if settings.resolution is None:
        while resolution > 2 and features * per_feature > count:
            resolution = max(int(resolution * 0.95), 2)
            per_feature = _factor_entries(settings.encoding, extents, resolution)
    if settings.features is None:
        features = int(min(max(count / per_feature, features), 64))
    return replace(record, features=features, resolution=resolution)


def _factor_entries(encoding: str, extents: list[float], resolution: int) -> float:
    """Table entries, about."""
    sides = [e * resolution + 1 for e in extents]
    planes = sum(math.prod(pair) for pair in itertools.combinations(sides, min(len(sides), 2)))
    return {"triplane": planes, "cp": sum(sides), "vm": planes + sum(sides)}[encoding]


def _hash_tables(field: Field, budget: int, settings: Network, record: NetworkRecord) -> NetworkRecord:
    """Sizes as the codec ``hashgrid`` takes them."""
    asked = HashGrid(
        levels=settings.levels, log2_table=settings.log2_table, width=record.width, features=settings.features or 2,
        base=settings.resolution or 4, growth=settings.growth or 1.5,
    )  # fmt: skip
    found = hashgrid.shape_for(field, budget, asked)
    return replace(
        record,
        levels=found.levels,
        features=found.features,
        resolution=found.base,
        growth=_float32(settings.growth) if settings.growth else found.growth,
        log2_table=found.log2_table,
    )


def _float32(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float32))
