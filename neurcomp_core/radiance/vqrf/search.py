"""Quantiser steps by measured rate and distortion: bytes of each part and error of pictures, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from neurcomp_core.coding.allocation import Choice, allocate
from neurcomp_core.progress import Progress
from neurcomp_core.radiance.rendering.frames import Rays
from neurcomp_core.radiance.volume import RadianceVolume
from neurcomp_core.radiance.vqrf import stream
from neurcomp_core.radiance.vqrf.factors import Factors
from neurcomp_core.radiance.vqrf.judge import seen
from neurcomp_core.radiance.vqrf.quantise import Steps, quantised

#: Parts that have a step, in the order of `Steps`.
PARTS = tuple(f.name for f in fields(Steps))
# Steps that are tried, in units of the root mean square of what they divide: each this many times the one before.
_FINEST, _RATIO, _COUNT = 1 / 64, 1.6, 10


@dataclass(frozen=True, eq=False)
class Curves:
    """Measured choices per part, and what other parts take.

    Attributes
    ----------
    steps : dict of str to tuple of float
    choices : dict of str to tuple of Choice
        Bytes of the part and mean squared change of colours, for each step.
    fixed : int
        Bytes of the streams that no step changes.
    """

    steps: Mapping[str, Sequence[float]]
    choices: Mapping[str, Sequence[Choice]]
    fixed: int

    def within_error(self, most: float) -> Steps:
        """Steps of the fewest bytes for a sum of mean squared errors; the least erring ones if none are so good."""
        best = allocate([self.choices[p] for p in PARTS], most)
        return Steps(*(self.steps[p][i] for p, i in zip(PARTS, best, strict=True)))

    def within_bytes(self, most: float) -> Steps:
        """Steps of the least error for a size; the smallest ones if none are so small."""
        low, high = 1e-12, 1.0
        for _ in range(60):
            middle = float(np.sqrt(low * high))
            low, high = (low, middle) if self.nbytes(self.within_error(middle)) <= most else (middle, high)
        return self.within_error(high)

    def price(self, steps: Steps) -> float:
        """Mean squared error that a bit of the kept coefficients saves about these steps; 0 if there are too few."""
        at = self.steps["kept"].index(steps.kept)
        fine, coarse = (self.choices["kept"][min(max(k, 0), len(self.steps["kept"]) - 1)] for k in (at - 1, at + 1))
        saved = 8 * (fine.nbytes - coarse.nbytes)
        return max(coarse.error - fine.error, 0.0) / saved if saved > 0 else 0.0

    def nbytes(self, steps: Steps) -> float:
        """What a field takes with these steps, of those that were tried."""
        return self.fixed + sum(self.choices[p][self.steps[p].index(getattr(steps, p))].nbytes for p in PARTS)


def measured(factors: Factors, volume: RadianceVolume, rays: Rays, progress: Progress | None = None) -> Curves:
    """Curves of a field, by what `rays` see of it."""
    truth = seen(volume, factors.model(), rays)
    scales = scales_of(factors)
    steps: dict[str, Sequence[float]] = {}
    choices: dict[str, Sequence[Choice]] = {}
    for number, part in enumerate(PARTS):
        here: list[Choice] = []
        # A part that has nothing in it costs nothing whatever its step.
        tried = (
            [getattr(scales, part) * _FINEST * _RATIO**k for k in range(_COUNT)] if part_size(factors, part) else [1.0]
        )
        for k, step in enumerate(tried):
            if progress is not None:
                progress.update((number + k / len(tried)) / len(PARTS), f"measuring steps of {part}")
            symbols = quantised(factors, replace(scales.scaled(_FINEST), **{part: step}))
            rough = symbols.factors()
            name = {"network": "network"}.get(part, part)
            changed = replace(factors, **{name: getattr(rough, name)})
            error = float(np.mean((seen(volume, changed.model(), rays) - truth).astype(np.float64) ** 2))
            here.append(Choice(len(stream.encode_part(symbols, part)), error))
        steps[part], choices[part] = tried, here
    symbols = quantised(factors, scales)
    fixed = sum(len(stream.encode_part(symbols, name)) for name in ("occupancy", "own", "indices"))
    return Curves(steps, choices, fixed)


def scales_of(factors: Factors) -> Steps:
    """Root mean squares of what steps divide; of coefficients that of the strongest channel."""
    density = np.sqrt(np.abs(factors.density)) if factors.shell.kind == "sparse" else factors.density
    every = factors.coefficients()
    channel = float(np.sqrt(np.mean(np.square(every, dtype=np.float64), axis=0)).max(initial=0)) or 1.0
    spread = float(np.sqrt(np.mean(np.square(density, dtype=np.float64)))) if density.size else 1.0
    return Steps(spread or 1.0, channel, channel, 1.0)


def part_size(factors: Factors, part: str) -> int:
    """Numbers that a part has."""
    value = getattr(factors, part)
    return sum(a.size for a in value) if isinstance(value, tuple) else value.size
