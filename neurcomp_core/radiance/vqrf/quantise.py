"""Integers that stand for a field, and the field they stand for: the same bits on every machine.

What is decoded is a sum of products of integers, exact in float64, times one float32 step, rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.radiance.coding.quantise import Quantiser
from neurcomp_core.radiance.vqrf import layers
from neurcomp_core.radiance.vqrf.factors import UNIT, Basis, Factors
from neurcomp_core.radiance.vqrf.rows import Rows, Shell, VoxelModel


@dataclass(frozen=True)
class Steps:
    """Of uniform quantisers.

    Attributes
    ----------
    density : float
        Of DVGO's densities before activation; of signed square roots of a sparse grid's, see `coding.quantise`.
    kept, codes : float
        Of the coefficients of rows, and of the codebook.
    network : float
        Of weights, in units of the root of their matrix's mean square.
    """

    density: float
    kept: float
    codes: float
    network: float

    def scaled(self, factor: float) -> Steps:
        """All of them `factor` times as large."""
        return Steps(*(factor * getattr(self, f.name) for f in fields(self)))


@dataclass(frozen=True, eq=False)
class Symbols:
    """A quantised field: what its attributes share names with is described in `Factors`, but these are integers.

    `steps` are float32 numbers; `network_steps` has one for each of the network's arrays, `layer_step` is that of the
    shell's background, which is rounded already.
    """

    shell: Shell
    occupied: np.ndarray
    density: np.ndarray
    basis: Basis
    own: np.ndarray
    kept: np.ndarray
    codes: np.ndarray
    index: np.ndarray
    network: tuple[np.ndarray, ...]
    steps: Steps
    network_steps: tuple[float, ...]
    layer_step: float = 1.0

    def factors(self) -> Factors:
        """What they stand for, in float32."""
        kept, codes = (
            Quantiser(self.steps.kept).dequantise(self.kept),
            Quantiser(self.steps.codes).dequantise(self.codes),
        )
        return Factors(
            self.shell, self.occupied, self._density(), self.basis, self.own, kept, codes, self.index, self._network()
        )

    def model(self) -> VoxelModel:
        """The field."""
        features = np.empty((len(self.density), len(self.basis.mean)), np.float32)
        features[self.own] = self._features(self.kept, self.steps.kept)
        features[~self.own] = self._features(self.codes, self.steps.codes)[self.index]
        return self.shell.model(Rows(self.occupied, self._density(), features, self._network()))

    def table(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
        """Without expanding it: density ``(rows,)``, features ``(n, channels)`` of kept rows and of codes, which of
        these each row has ``(rows,)``, and the network.
        """
        features = (self._features(self.kept, self.steps.kept), self._features(self.codes, self.steps.codes))
        slots = np.empty(len(self.density), np.int64)
        slots[self.own] = np.arange(len(self.kept))
        slots[~self.own] = len(self.kept) + self.index
        return self._density(), np.concatenate(features), slots, self._network()

    def checked_model(self) -> VoxelModel:
        """`model`, of what a file says; FormatError if no model has such rows."""
        try:
            model = self.model()
        except (InputError, ValueError) as error:
            raise FormatError(f"a compressed radiance field makes no sense: {error}") from None
        return model

    def _density(self) -> np.ndarray:
        return _density_quantiser(self.shell, self.steps.density).dequantise(self.density.astype(np.int64))

    def _network(self) -> tuple[np.ndarray, ...]:
        return tuple(Quantiser(step).dequantise(a) for a, step in zip(self.network, self.network_steps, strict=True))

    def _features(self, coefficients: np.ndarray, step: float) -> np.ndarray:
        # UNIT is a power of two: only the product with the step and the sum are rounded.
        mixed = coefficients.astype(np.int64) @ self.basis.vectors.astype(np.int64)
        return (mixed * (np.float64(np.float32(step)) / UNIT) + self.basis.offset).astype(np.float32)


def quantised(factors: Factors, steps: Steps, dead: float = 0.0) -> Symbols:
    """The integers nearest to a field; steps are rounded to float32.

    `dead` is the share of a step, below 1/2, by which kept coefficients are rounded towards zero.
    """
    steps = Steps(*(_single(getattr(steps, f.name)) for f in fields(steps)))
    network_steps = tuple(_single(steps.network * (_rms(a) or 1.0)) for a in factors.network)
    density = _density_quantiser(factors.shell, steps.density).quantise(factors.density)
    kept, codes = (
        Quantiser(steps.kept, dead=dead).quantise(factors.kept),
        Quantiser(steps.codes).quantise(factors.codes),
    )
    network = tuple(Quantiser(s).quantise(a) for a, s in zip(factors.network, network_steps, strict=True))
    shell, far = factors.shell, factors.shell.background
    layer_step = 1.0 if far is None else layers.step_of(far)
    if far is not None:
        shell = replace(shell, background=layers.quantised(far, layer_step))
    return Symbols(
        shell, factors.occupied, density, factors.basis, factors.own, kept, codes, factors.index, network, steps,
        network_steps, layer_step,
    )  # fmt: skip


def _density_quantiser(shell: Shell, step: float) -> Quantiser:
    return Quantiser(step, shell.kind == "sparse")


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if values.size else 0.0


def _single(value: float) -> float:
    return float(np.float32(value))
