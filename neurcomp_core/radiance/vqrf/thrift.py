"""A field's integers by rate and distortion: numbers of all parts that are worth their bits, see `choose`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from neurcomp_core.radiance.vqrf.choose import chosen
from neurcomp_core.radiance.vqrf.factors import Factors
from neurcomp_core.radiance.vqrf.quantise import Steps, Symbols, quantised
from neurcomp_core.radiance.vqrf.sensitivity import Sensitivity


@dataclass(frozen=True, eq=False)
class Thrift:
    """What rounding weighs.

    Attributes
    ----------
    sensitivity : Sensitivity
        Of the field's rows.
    price : float
        Mean squared error of colours that a bit has to save.
    """

    sensitivity: Sensitivity
    price: float

    def scaled(self, factor: float) -> Thrift:
        """For steps `factor` times as large: errors and what bits save both go by their square."""
        return replace(self, price=self.price * factor**2)

    def symbols(self, factors: Factors, steps: Steps) -> Symbols:
        """The integers of a field; its network is rounded to the nearest."""
        plain, care = quantised(factors, steps), self.sensitivity
        steps = plain.steps
        if factors.shell.kind == "sparse":
            # Steps are those of square roots: a density changes by twice its root for each unit of it.
            root = np.sign(factors.density) * np.sqrt(np.abs(factors.density.astype(np.float64)))
            slope = 2 * np.maximum(np.abs(root), steps.density / 2) * steps.density
        else:
            root, slope = factors.density.astype(np.float64), steps.density
        units, weight = (root / steps.density)[:, None], (care.density * slope**2)[:, None]
        density = chosen(units, weight, self.price, factors.occupied)
        own = np.zeros_like(factors.occupied)
        own[factors.occupied] = factors.own
        channels = care.channels(factors.basis)
        weight = care.share[factors.own][:, None] * channels * steps.kept**2
        units = factors.kept.astype(np.float64) / steps.kept
        kept, codes = chosen(units, weight, self.price, own, density[factors.own]), plain.codes
        if len(codes):
            sharing = np.bincount(factors.index, care.share[~factors.own], len(codes))
            units = factors.codes.astype(np.float64) / steps.codes
            weight = sharing[:, None] * channels * steps.codes**2
            codes = chosen(units, weight, self.price, np.ones((1, 1, len(codes)), bool))
        return replace(plain, density=density[:, 0], kept=kept, codes=codes)


def rounded(factors: Factors, steps: Steps, thrift: Thrift | None = None) -> Symbols:
    """The integers of a field: the nearest ones, or thrifty ones."""
    return quantised(factors, steps) if thrift is None else thrift.symbols(factors, steps)
