"""Joint fine-tuning of what is left of a field: densities, kept coefficients, codebook and network.

Li et al., Compressing Volumetric Radiance Fields to 1 MB (CVPR 2023), section 3.4. Codes are trained as such: the
gradient of a code is the sum over its rows, so that rows never part and need not be brought together again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from neurcomp_core.progress import Progress
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.places import HOST, Place
from neurcomp_core.radiance.training.batches import Batch, bank_in
from neurcomp_core.radiance.vqrf.codebook import summed
from neurcomp_core.radiance.vqrf.factors import UNIT, Basis, Factors
from neurcomp_core.radiance.vqrf.quantise import Steps, Symbols, quantised

# Steps of fine-tuning between two roundings.
_ROUNDED = 20


@dataclass(frozen=True)
class Tuning:
    """How long and how fast.

    Attributes
    ----------
    steps, rays : int
        Steps, and rays of each.
    rate : float
        Share of an array's root mean square that a step changes its numbers by, at first.
    final : float
        Share of the rate that is left at the end; it falls exponentially.
    decay : float
        Of the mean square gradients by which steps are divided (RMSProp).
    """

    steps: int = 500
    rays: int = 4000
    rate: float = 0.01
    final: float = 0.1
    decay: float = 0.95


@dataclass(frozen=True, eq=False)
class Slope:
    """Gradient of `scale` times a batch's mean squared error.

    density ``(rows,)``, features ``(rows, channels)`` and network as `Rows` has them; met ``(rows,)`` bool are the rows
    that the batch has seen, error is the mean over rays and channels.
    """

    error: float
    scale: float
    density: np.ndarray
    features: np.ndarray
    network: tuple[np.ndarray, ...]
    met: np.ndarray


class Descent(Protocol):
    """Gradients of one kind of field, of fixed occupancy."""

    def slope(self, density: np.ndarray, features: np.ndarray, network: tuple[np.ndarray, ...], batch: Batch) -> Slope:
        """At values in float32; its arrays are good until the next call."""
        ...


class _Mover:
    """RMSProp of one array: steps of the same size whatever the gradient's, of rows that have any."""

    def __init__(self, values: np.ndarray, tuning: Tuning) -> None:
        self.values = values.astype(np.float32).copy()
        self._scale = float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if values.size else 0.0
        self._square = np.zeros(values.shape, np.float32)
        self._typical = 0.0
        self._tuning = tuning

    def move(self, gradient: np.ndarray, share: float, some: np.ndarray | slice = slice(None)) -> None:
        """Change the rows `some` by `share` of the tuning's rate; `gradient` is that of these rows."""
        if not gradient.size:
            return
        if not self._typical:
            # Until it has a mean square of its own, a number's is taken as all of them have it.
            self._typical = float(np.sqrt(np.mean(np.square(gradient, dtype=np.float64)))) or 1.0
            self._square[:] = self._typical**2
        keep = self._tuning.decay
        square = keep * self._square[some] + (1 - keep) * np.square(gradient)
        self._square[some] = square
        size = share * self._tuning.rate * self._scale
        self.values[some] -= size * gradient / (np.sqrt(square) + 1e-3 * self._typical)


class _Left:
    """What quantisation leaves of a field while it is tuned; all of it without steps and rounding."""

    def __init__(self, steps: Steps | None, rounding: Callable[[Factors], Symbols] | None) -> None:
        self._steps, self._rounding = steps, rounding
        self._offsets: dict[str, np.ndarray] = {}
        self._network: tuple[np.ndarray, ...] = ()

    def of(self, factors: Factors, step: int) -> Factors:
        if self._rounding is None:
            return factors if self._steps is None else quantised(factors, self._steps).factors()
        if step % _ROUNDED == 0:
            rough = self._rounding(factors).factors()
            self._offsets = {
                name: getattr(rough, name) - getattr(factors, name) for name in ("density", "kept", "codes")
            }
            self._network = tuple(b - a for a, b in zip(factors.network, rough.network, strict=True))
        values = {name: getattr(factors, name) + offset for name, offset in self._offsets.items()}
        network = tuple(a + b for a, b in zip(factors.network, self._network, strict=True))
        return replace(factors, **values, network=network)


def tuned(
    factors: Factors,
    images: PosedImages,
    tuning: Tuning,
    seed: int = 0,
    progress: Progress | None = None,
    steps: Steps | None = None,
    rounding: Callable[[Factors], Symbols] | None = None,
    place: Place = HOST,
) -> Factors:
    """A field that shows `images` better, of the same voxels and the same codes for the same voxels.

    Parameters
    ----------
    factors : Factors
    images : PosedImages
    tuning : Tuning
    seed : int
        Of the order of rays.
    progress : Progress, optional
    steps : Steps, optional
        Fine-tune what quantisation with these leaves: the loss is that of the quantised field, and its gradient counts
        as that of the numbers before (a straight-through estimate).
    rounding : callable, optional
        Instead of `steps`: makes integers of a field. It is asked now and then; in between, what it has changed numbers
        by stays.
    place : Place
        Where gradients are made. Everything else stays on the host, and gradients come there each step.
    """
    descent, bank = descent_of(factors, images.background, place), bank_in(images, factors.shell.box, place)
    others = ~factors.own
    left = _Left(steps, rounding)
    movers = {name: _Mover(getattr(factors, name), tuning) for name in ("density", "kept", "codes")}
    weights = [_Mover(a, tuning) for a in factors.network]

    def now() -> Factors:
        values = {name: mover.values for name, mover in movers.items()}
        return replace(factors, **values, network=tuple(w.values for w in weights))

    error = 0.0
    for step in range(tuning.steps):
        if progress is not None:
            shown = f", {-10 * math.log10(error):.1f} dB" if error else ""
            progress.update(step / tuning.steps, f"fine-tuning, step {step + 1} of {tuning.steps}{shown}")
        share = tuning.final ** (step / tuning.steps)
        at = left.of(now(), step)
        rows = at.rows()
        slope = descent.slope(rows.density, rows.features, at.network, bank.batch(step, tuning.rays, seed))
        error = 0.95 * error + 0.05 * slope.error if step else slope.error
        toward = coefficient_gradient(factors.basis, slope.features)
        met = np.flatnonzero(slope.met)
        movers["density"].move(slope.density[met], share, met)
        mine = np.flatnonzero(slope.met[factors.own])
        movers["kept"].move(toward[factors.own][mine], share, mine)
        if len(factors.codes):
            movers["codes"].move(summed(toward[others], factors.index, len(factors.codes)).astype(np.float32), share)
        for weight, gradient in zip(weights, slope.network, strict=True):
            weight.move(gradient, share)
    return now()


def coefficient_gradient(basis: Basis, features: np.ndarray) -> np.ndarray:
    """From the gradient with respect to features ``(rows, channels)`` to that with respect to coefficients."""
    return features @ (basis.vectors.astype(features.dtype).T / UNIT)


def descent_of(factors: Factors, background: tuple[float, float, float], place: Place = HOST) -> Descent:
    """The gradients of a field's kind."""
    if not place.host:
        from neurcomp_core.radiance.vqrf import descent_device

        kind = descent_device.SparseDescent if factors.shell.kind == "sparse" else descent_device.DvgoDescent
        return kind.of(factors, background, place)
    if factors.shell.kind == "sparse":
        from neurcomp_core.radiance.vqrf.descent_sparse import SparseDescent

        return SparseDescent.of(factors, background)
    from neurcomp_core.radiance.vqrf.descent_dvgo import DvgoDescent

    return DvgoDescent.of(factors, background)
