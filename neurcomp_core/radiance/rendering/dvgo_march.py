"""Rays through a DVGO model: first density alone, then colour of the few samples that have a weight.

Without torch: kernels for grids, NumPy's matrix products for the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from neurcomp_core import blas
from neurcomp_core.errors import InputError
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.rendering.frames import GridFrame, Rays
from neurcomp_core.radiance.rendering.march import MarchOptions, ray_fractions
from neurcomp_core.radiance.rendering.occupancy import Occupancy
from neurcomp_core.radiance.rendering.ranges import over_ranges, thread_count
from neurcomp_core.radiance.shared import SharedDvgo

#: Opacity of a step, and rendering weight, up to which a sample is left out (the authors' program: 1e-4).
THRESHOLD = 1e-4
# Rows of a network's inputs taken at once, so that activations stay in the cache: measured best from 1024 to 4096.
BLOCK = 2048
_NO_MASK, _NO_DISTANCE = np.zeros((0, 0, 0), bool), np.zeros((1, 1, 1), np.uint8)
_NO_LINKS = np.zeros((0, 0, 0), np.int32)

Layers = Sequence[tuple[np.ndarray, np.ndarray]]


class RowDensity(NamedTuple):
    """Densities before activation of the samples that have a row, and of those that have none.

    links ``(z, y, x)`` int32, rows ``(rows,)``, rest.
    """

    links: np.ndarray
    rows: np.ndarray
    rest: float

    @property
    def shape(self) -> tuple[int, ...]:
        return self.links.shape


class RowFeatures(NamedTuple):
    """Features that rows share: those of row r are ``table[slots[r]]``, and zero where `links` leads to none.

    links ``(z, y, x)`` and slots ``(rows,)`` int32, table ``(n, channels)``.
    """

    links: np.ndarray
    slots: np.ndarray
    table: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return *self.links.shape, self.table.shape[1]

    @property
    def dtype(self) -> np.dtype:
        return self.table.dtype


Density = np.ndarray | RowDensity
Features = np.ndarray | RowFeatures


def density_arguments(density: Density) -> tuple:
    """What kernels take of densities: values, links, rest, shape."""
    if isinstance(density, RowDensity):
        return density.rows[None, None], density.links, float(density.rest), density.links.shape
    return np.ascontiguousarray(density), _NO_LINKS, 0.0, density.shape


@dataclass(frozen=True, eq=False)
class DvgoSamples:
    """Samples that rays have met, one ray after the other, nearest first.

    Attributes
    ----------
    starts : ndarray ``(rays + 1,)`` int64
        Ray r has the samples ``starts[r]`` to ``starts[r + 1] - 1``.
    at : ndarray ``(n, 3)``
        Position in voxels of the density grid x, y, z.
    slope : ndarray ``(n,)``
        Derivative of a sample's optical thickness with respect to the interpolated density before activation.
    weight : ndarray ``(n,)``
        Rendering weight.
    opacity, depth : ndarray ``(rays,)`` float64
        1 - transmittance; sum of weight times t.
    """

    starts: np.ndarray
    at: np.ndarray
    slope: np.ndarray
    weight: np.ndarray
    opacity: np.ndarray
    depth: np.ndarray

    def __len__(self) -> int:
        return len(self.weight)

    def lit(self, threshold: float) -> Lit:
        """The samples whose weight is above `threshold`."""
        index = np.flatnonzero(self.weight > threshold)
        starts = np.searchsorted(index, self.starts)
        rays = np.repeat(np.arange(len(starts) - 1, dtype=np.int32), np.diff(starts))
        return Lit(index, starts, rays, self.at[index], self.weight[index])


@dataclass(frozen=True, eq=False)
class Lit:
    """Samples that are given a colour.

    index ``(m,)`` among all samples; starts ``(rays + 1,)`` among these; rays ``(m,)``, at ``(m, 3)``, weight ``(m,)``.
    """

    index: np.ndarray
    starts: np.ndarray
    rays: np.ndarray
    at: np.ndarray
    weight: np.ndarray

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True, eq=False)
class DvgoMarch:
    """Geometry of a DVGO model through which rays are marched; its density is given to each call.

    Attributes
    ----------
    shape : tuple of int
        Samples of the grids along z, y, x.
    box : ndarray ``(2, 3)`` float64
    shift, unit : float
        See `DvgoModel`.
    mask : ndarray ``(z, y, x)`` bool or None
        Known free space, by the nearest of its samples, is False.
    options : MarchOptions
    threshold : float
        Opacity of a step up to which it counts as free.
    """

    shape: tuple[int, int, int]
    box: np.ndarray
    shift: float
    unit: float
    mask: np.ndarray | None = None
    options: MarchOptions = field(default_factory=MarchOptions)
    threshold: float = THRESHOLD

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise InputError(f"threshold: expected an opacity of at least 0 and below 1, got {self.threshold}")

    @classmethod
    def of(
        cls, model: DvgoModel | SharedDvgo, options: MarchOptions | None = None, threshold: float = THRESHOLD
    ) -> DvgoMarch:
        """The geometry of a model."""
        z, y, x = model.links.shape if isinstance(model, SharedDvgo) else model.density.shape
        return cls((z, y, x), model.box, model.shift, model.unit, model.mask, options or MarchOptions(), threshold)

    @cached_property
    def frame(self) -> GridFrame:
        return GridFrame(self.shape, self.box, centered=False)

    @cached_property
    def occupancy(self) -> Occupancy:
        """Free space by the mask, in cells."""
        if self.mask is None or min(self.mask.shape) < 2:
            return Occupancy.full(self.frame)
        z, y, x = self.mask.shape
        return Occupancy.of(self.mask, GridFrame((z, y, x), self.box, centered=False))

    @cached_property
    def _free(self) -> tuple:
        if self.mask is None or min(self.mask.shape) < 2:
            return _NO_MASK, np.ones(3), np.zeros(3), _NO_DISTANCE, 1
        found = self.occupancy
        mask = np.ascontiguousarray(self.mask)
        return mask, found.frame.scale, found.frame.offset, found.distance, found.block

    def samples(self, density: Density, rays: Rays, fractions: np.ndarray | None = None) -> DvgoSamples:
        """What rays meet of a density grid ``(z, y, x)`` float32 or float64.

        Parameters
        ----------
        density : ndarray or RowDensity
        rays : Rays
        fractions : ndarray ``(rays,)``, optional
            See `march.March.forward`.
        """
        from neurcomp_core.radiance.rendering import dvgo_kernels

        if density.shape != self.shape:
            raise InputError(f"density: expected {self.shape}, got {density.shape}")
        n = len(rays)
        counts, opacity, depth = np.zeros(n, np.int64), np.zeros(n), np.zeros(n)
        given = [
            rays.origins, rays.directions, rays.near, rays.far, ray_fractions(fractions, n),
            float(self.options.step), float(self.options.stop), float(self.threshold), float(self.shift),
            float(self.unit), *density_arguments(density), self.frame.box, self.frame.scale, self.frame.offset,
            *self._free, counts, opacity, depth,
        ]  # fmt: skip
        found: list[tuple[np.ndarray, ...]] = [()] * thread_count()

        def work(part: int, first: int, last: int) -> None:
            found[part] = dvgo_kernels.march(first, last, *given)

        over_ranges(n, work)
        found = [f for f in found if f]
        at, slope, weight = found[0] if len(found) == 1 else map(np.concatenate, zip(*found, strict=True))
        return DvgoSamples(np.concatenate([[0], np.cumsum(counts)]), at, slope, weight, opacity, depth)


def encoded(views: np.ndarray, frequencies: int, dtype: type | np.dtype) -> np.ndarray:
    """Direction d, sin(2^k d), cos(2^k d) ``(n, 3 + 6 frequencies)`` of unit directions ``(n, 3)``."""
    waves = (views[:, :, None] * 2.0 ** np.arange(frequencies)).reshape(len(views), 3 * frequencies)
    return np.concatenate([views, np.sin(waves), np.cos(waves)], 1).astype(dtype)


def inputs(lit: Lit, features: Features, encoding: np.ndarray, direct: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """The network's inputs ``(m, width)`` at lit samples; without `direct` also what is added to its output ``(m, 3)``.

    `features` is the grid ``(z, y, x, channels)``, `encoding` ``(rays, e)`` are the rays' encoded directions.
    """
    from neurcomp_core.radiance.rendering import dvgo_kernels

    channels = features.shape[3]
    out = np.empty((len(lit), channels + encoding.shape[1]), features.dtype)

    def work(part: int, first: int, last: int) -> None:
        if isinstance(features, RowFeatures):
            dvgo_kernels.gather_rows(first, last, lit.at, *features, out)
        else:
            dvgo_kernels.gather(first, last, lit.at, features, out)
        dvgo_kernels.encodings(first, last, lit.rays, encoding, out[:, channels:])

    over_ranges(len(lit), work)
    return (out, None) if direct else (out[:, 3:], out[:, :3])


def network(given: np.ndarray, layers: Layers) -> list[np.ndarray]:
    """Activations ``(m, width)`` of each layer, the last one without ReLU."""
    out = [np.empty((len(given), len(bias)), given.dtype) for _, bias in layers]

    def work(part: int, begin: int, end: int) -> None:
        for first in range(begin * BLOCK, min(end * BLOCK, len(given)), BLOCK):
            cut = slice(first, first + BLOCK)
            x = given[cut]
            for i, (weight, bias) in enumerate(layers):
                y = np.matmul(x, weight.T, out=out[i][cut])
                y += bias
                if i < len(layers) - 1:
                    np.maximum(y, 0, out=y)
                x = y

    with blas.one_thread():
        over_ranges(-(-len(given) // BLOCK), work)
    return out


def sigmoid(x: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-x))`` without overflow, in the type of `x`."""
    half = x.dtype.type(0.5)
    return half + half * np.tanh(half * x)


def colors(
    lit: Lit, features: Features, layers: Layers, encoding: np.ndarray, direct: bool, block: int = 1 << 16
) -> np.ndarray:
    """RGB ``(m, 3)`` of lit samples, `block` of them at a time."""
    out = np.empty((len(lit), 3), features.dtype)
    for first in range(0, len(lit), block):
        cut = slice(first, min(first + block, len(lit)))
        some = Lit(lit.index[cut], lit.starts, lit.rays[cut], lit.at[cut], lit.weight[cut])
        if layers:
            given, base = inputs(some, features, encoding, direct)
            logits = network(given, layers)[-1]
            logits = logits if base is None else logits + base
        else:
            logits = inputs(some, features, encoding[:, :0], True)[0]
        out[cut] = sigmoid(logits)
    return out
