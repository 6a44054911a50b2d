"""Uniform quantisers of voxel attributes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.radiance.coding.attributes import LIMIT

#: Shares of values below and above the range that a number of bits divides.
_TAILS = 0.001


@dataclass(frozen=True)
class Quantiser:
    """Multiples of a step.

    Attributes
    ----------
    step : float
    square : bool
        Whether what is rounded is ``sign(v) sqrt(|v|)``: densities, whose opacity saturates, need less care the larger
        they are.
    dead : float
        Share of a step, below 1/2, by which values are rounded towards zero; of encoders only.
    """

    step: float
    square: bool = False
    dead: float = 0.0

    @classmethod
    def of_bits(cls, values: np.ndarray, bits: float, square: bool = False, dead: float = 0.0) -> Quantiser:
        """``2**bits`` steps between the 0.1 % and 99.9 % quantiles of `values`; what lies outside takes more."""
        low, high = np.quantile(_bent(values, square), [_TAILS, 1 - _TAILS]) if values.size else (0.0, 0.0)
        if not high > low:
            low, high = (0.0, float(np.abs(_bent(values, square)).max(initial=0)) or 1.0)
        return cls(float(np.float32((high - low) * 2.0**-bits)), square, dead)

    def quantise(self, values: np.ndarray) -> np.ndarray:
        """Integers of `values`, of any shape.

        Raises
        ------
        InputError
            If a value is not finite, or the step is so fine that integers would be too large.
        """
        units = _bent(values, self.square) / self.step
        if not np.isfinite(units).all() or np.abs(units).max(initial=0) >= LIMIT - 1:
            raise InputError(
                f"values cannot be rounded to multiples of {self.step:g}: some are not finite or too large; "
                "take fewer bits, or store them without loss"
            )
        return (np.sign(units) * np.floor(np.abs(units) + (0.5 - self.dead))).astype(np.int32)

    def dequantise(self, symbols: np.ndarray) -> np.ndarray:
        """float32 values of integers."""
        units = symbols * self.step
        return np.asarray(units * np.abs(units) if self.square else units, np.float32)


def quantiser_of(step: float, square: bool = False) -> Quantiser | None:
    """What a file's step stands for: None, for 0, is float32 values as they are; FormatError if it makes no sense."""
    if not (math.isfinite(step) and step >= 0):
        raise FormatError(f"a quantiser's step is {step}; the file is damaged")
    return Quantiser(step, square) if step else None


def _bent(values: np.ndarray, square: bool) -> np.ndarray:
    wide = np.asarray(values, np.float64)
    return np.sign(wide) * np.sqrt(np.abs(wide)) if square else wide
