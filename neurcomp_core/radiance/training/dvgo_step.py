"""One step of training a DVGO model on the CPU: kernels for the grids, NumPy's matrix products for the network."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

from neurcomp_core import blas
from neurcomp_core.radiance.rendering.dvgo_importance import even_layers
from neurcomp_core.radiance.rendering.dvgo_march import (
    BLOCK,
    DvgoMarch,
    DvgoSamples,
    Layers,
    Lit,
    encoded,
    inputs,
    network,
    sigmoid,
)
from neurcomp_core.radiance.rendering.frames import Rays
from neurcomp_core.radiance.rendering.march import MarchOptions
from neurcomp_core.radiance.rendering.ranges import over_ranges
from neurcomp_core.radiance.training import dvgo_kernels
from neurcomp_core.radiance.training.batches import Batch
from neurcomp_core.radiance.training.dvgo_recipe import DvgoSchedule
from neurcomp_core.radiance.training.dvgo_state import DvgoState

#: Adam's, as the authors' program has them.
DECAYS = 0.9, 0.99


class Engine(Protocol):
    """What trains a `DvgoState` on some device."""

    def step(self, batch: Batch, schedule: DvgoSchedule, done: int) -> float:
        """One step, the schedule's number `done`; the batch's mean squared error."""
        ...

    def save(self) -> None:
        """Bring the state's arrays up to date."""
        ...

    def load(self, state: DvgoState | None = None) -> None:
        """Go on from the state's arrays, which somebody has changed or set anew, or from another state."""
        ...


class CpuEngine:
    """Steps on the arrays of a state themselves.

    Parameters
    ----------
    state : DvgoState
    background : tuple of 3 float

    Attributes
    ----------
    gradients : dict of str to ndarray
        By the names and with the shapes of `DvgoState.parameters`.
    touched : dict of str to ndarray ``(z, y, x)`` bool
        Samples of the "density" and of the "features" that batches have met since the last step.
    """

    def __init__(self, state: DvgoState, background: tuple[float, float, float]) -> None:
        self.background = np.array(background, np.float64)
        self.load(state)

    def load(self, state: DvgoState | None = None) -> None:
        """See `Engine`."""
        state = self.state = state or self.state
        self.gradients = {name: np.zeros(p.shape, p.dtype) for name, p in state.parameters.items()}
        self.touched = {name: np.zeros(state.shape, bool) for name in ("density", "features")}
        self._marches: dict[tuple[float, float], DvgoMarch] = {}
        kind = state.density.dtype
        free = None if state.trainable is None else state.trainable.astype(kind)
        pace = free if state.pace is None else state.pace.astype(kind) * (1 if free is None else free)
        self._pace = {"density": _flat(pace, kind), "features": _flat(free, kind)}

    def save(self) -> None:
        """Nothing to do: the state's arrays are those that are trained."""

    def clear(self) -> None:
        """Drop what `accumulate` has added, without a step; marks of what was met, too."""
        for name, gradient in self.gradients.items():
            if name in self.touched:
                gradient[self.touched[name]] = 0
                self.touched[name][...] = False
            else:
                gradient[...] = 0

    def step(self, batch: Batch, schedule: DvgoSchedule, done: int) -> float:
        error = self.accumulate(batch, schedule)
        self.update(schedule, done)
        return error

    # ....................................................................................................... gradients

    def accumulate(self, batch: Batch, schedule: DvgoSchedule) -> float:
        """Add the gradient of the batch's loss to `gradients`; its mean squared error."""
        state, rays = self.state, batch.rays
        samples = self._march(schedule).samples(state.density, rays)
        lit = samples.lit(schedule.threshold)
        given, activations, logits = self._seen(lit, rays)
        squared, g_density, g_logits = self._losses(samples, lit, sigmoid(logits), batch, schedule)
        g_features = g_logits
        if state.layers:
            layers, channels = [(w, b) for w, b in state.layers], state.features.shape[3]
            sums = [(self.gradients[f"weight {i}"], self.gradients[f"bias {i}"]) for i in range(len(layers))]
            taken = channels if state.direct else channels - 3
            g_features = backward(given, activations, layers, g_logits, sums, taken)
            if not state.direct:
                g_features = np.concatenate([g_logits, g_features], 1)
        self._scatter("density", samples.at, g_density[:, None])
        self._scatter("features", lit.at, g_features)
        for name, weight in (("density", schedule.tv_density), ("features", schedule.tv_features)):
            if weight > 0:
                self._variation(name, weight)
        return float(squared.mean())

    def _march(self, schedule: DvgoSchedule) -> DvgoMarch:
        state, key = self.state, (schedule.step, schedule.threshold)
        if key not in self._marches:
            options = MarchOptions(schedule.step)
            self._marches[key] = DvgoMarch(
                state.shape, state.box, state.shift, state.unit, state.mask, options, schedule.threshold
            )
        return self._marches[key]

    def _seen(self, lit: Lit, rays: Rays) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
        """The network's inputs, its activations, and colours before the sigmoid."""
        state = self.state
        assert rays.views is not None
        encoding = encoded(rays.views, state.frequencies, state.features.dtype)
        if not state.layers:
            given, _ = inputs(lit, state.features, encoding[:, :0], True)
            return given, [], given
        given, base = inputs(lit, state.features, encoding, state.direct)
        activations = network(given, [(w, b) for w, b in state.layers])
        return given, activations, activations[-1] if base is None else activations[-1] + base

    def _losses(
        self, samples: DvgoSamples, lit: Lit, rgb: np.ndarray, batch: Batch, schedule: DvgoSchedule
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n = len(batch)
        squared, g_density, g_logits = np.empty(n), np.empty_like(samples.weight), np.empty_like(rgb)
        given = (
            n, samples.starts, samples.weight, samples.slope, lit.starts, lit.index, rgb, batch.colors,
            self.background, schedule.entropy, schedule.point, squared, g_density, g_logits,
        )  # fmt: skip
        over_ranges(n, lambda _, first, last: dvgo_kernels.losses(first, last, *given))
        return squared, g_density, g_logits

    def _scatter(self, name: str, at: np.ndarray, upstream: np.ndarray) -> None:
        gradient, touched = self.gradients[name], self.touched[name]
        gradient = gradient if gradient.ndim == 4 else gradient[..., None]
        borders = even_layers(at, self.state.shape[0])

        def work(part: int, first: int, last: int) -> None:
            for k in range(first, last):
                dvgo_kernels.scatter(borders[k], borders[k + 1], at, upstream, gradient, touched)

        over_ranges(len(borders) - 1, work)

    def _variation(self, name: str, weight: float) -> None:
        values, gradient = self.state.parameters[name], self.gradients[name]
        if values.ndim == 3:
            values, gradient = values[..., None], gradient[..., None]
        scaled = weight * max(self.state.shape) / 128
        given = values, self.touched[name], scaled, gradient
        over_ranges(len(values), lambda _, first, last: dvgo_kernels.variation(first, last, *given))

    # .......................................................................................................... update

    def update(self, schedule: DvgoSchedule, done: int) -> None:
        """Adam's step by `gradients`, which are cleared."""
        state = self.state
        state.updates += 1
        fall, corrected = schedule.decay ** (done / schedule.steps), correction(state.updates)
        for name, rate in (("density", schedule.rate_density), ("features", schedule.rate_features)):
            self._update_grid(name, rate * fall * corrected, schedule.tiny)
        for name in state.parameters:
            if name not in ("density", "features"):
                self._update_layer(name, schedule.rate_network * fall * corrected, schedule.tiny)

    def _update_grid(self, name: str, rate: float, tiny: float) -> None:
        values, gradient = self.state.parameters[name], self.gradients[name]
        channels = 1 if values.ndim == 3 else values.shape[3]
        grids = (a.reshape(-1, channels) for a in (values, gradient, *self.state.moments[name]))
        given = [*grids, self.touched[name].reshape(-1), self._pace[name], rate, *DECAYS, tiny]
        over_ranges(values.size // channels, lambda _, first, last: dvgo_kernels.adam(first, last, *given))

    def _update_layer(self, name: str, rate: float, tiny: float) -> None:
        gradient, (mean, square) = self.gradients[name], self.state.moments[name]
        mean += (1 - DECAYS[0]) * (gradient - mean)
        square += (1 - DECAYS[1]) * (gradient * gradient - square)
        self.state.parameters[name][...] -= rate * mean / (np.sqrt(square) + tiny)
        gradient[...] = 0


def correction(updates: int) -> float:
    """Factor to Adam's rate for moments that started at zero `updates` steps ago (Kingma & Ba 2015, section 2)."""
    return math.sqrt(1 - DECAYS[1] ** updates) / (1 - DECAYS[0] ** updates)


def backward(
    given: np.ndarray,
    activations: list[np.ndarray],
    layers: Layers,
    upstream: np.ndarray,
    sums: list[tuple[np.ndarray, np.ndarray]],
    taken: int,
) -> np.ndarray:
    """Gradient ``(m, taken)`` of `network` with respect to the first inputs; that of its layers is added to `sums`."""
    out = np.empty((len(given), taken), given.dtype)
    parts: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}

    def work(part: int, begin: int, end: int) -> None:
        mine = parts[part] = [(np.zeros_like(w), np.zeros_like(b)) for w, b in sums]
        for first in range(begin * BLOCK, min(end * BLOCK, len(given)), BLOCK):
            cut = slice(first, first + BLOCK)
            slope = upstream[cut]
            for i in reversed(range(len(layers))):
                x = activations[i - 1][cut] if i else given[cut]
                g_weight, g_bias = mine[i]
                g_weight += slope.T @ x
                g_bias += slope.sum(0)
                if i:
                    slope = slope @ layers[i][0]
                    slope *= x > 0
            np.matmul(slope, layers[0][0][:, :taken], out=out[cut])

    with blas.one_thread():
        over_ranges(-(-len(given) // BLOCK), work)
    for part in sorted(parts):
        for (g_weight, g_bias), (more_weight, more_bias) in zip(sums, parts[part], strict=True):
            g_weight += more_weight
            g_bias += more_bias
    return out


def _flat(values: np.ndarray | None, kind: np.dtype) -> np.ndarray:
    return np.zeros(0, kind) if values is None else np.ascontiguousarray(values).reshape(-1)
