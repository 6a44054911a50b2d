"""Evaluation of NeRF's networks in NumPy: dense layers, or compressed sparse rows for networks that were pruned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from neurcomp_core.radiance.imports.nerf import Dense, NerfMlp, encode
from neurcomp_core.radiance.rendering.ranges import over_ranges

# Points evaluated together: their activations stay in the caches.
_CHUNK = 4096


class Network(Protocol):
    """A NeRF network in two parts, since colours are asked for where there is density only."""

    def density(self, points: np.ndarray) -> tuple[np.ndarray, Any]:
        """Density ``(n,)`` float32, not negative, at points ``(n, 3)``, and what `colors` needs of them."""
        ...

    def colors(self, features: Any, lit: np.ndarray, views: np.ndarray) -> np.ndarray:
        """RGB ``(m, 3)`` of the points numbered `lit` ``(m,)``, seen along unit directions ``(m, 3)``."""
        ...


@dataclass(frozen=True, eq=False)
class DenseNetwork:
    """Matrix products, whatever is zero."""

    mlp: NerfMlp

    def density(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mlp, n = self.mlp, len(points)
        frequencies = int(mlp.position_frequencies)
        sigma = np.empty(n, np.float32)
        features = np.empty((n, len(mlp.trunk[-1].weight)), np.float32)
        for a in range(0, n, _CHUNK):
            position = x = encode(np.asarray(points[a : a + _CHUNK], np.float32), frequencies)
            for layer in mlp.trunk:
                if layer.weight.shape[1] > x.shape[1]:
                    x = np.concatenate([position, x], 1)
                x = _relu(layer(x))
            sigma[a : a + _CHUNK] = np.maximum(mlp.sigma(x)[:, 0], 0)
            features[a : a + _CHUNK] = x
        return sigma, features

    def colors(self, features: np.ndarray, lit: np.ndarray, views: np.ndarray) -> np.ndarray:
        mlp, out = self.mlp, np.empty((len(lit), 3), np.float32)
        for a in range(0, len(lit), _CHUNK):
            x = features[lit[a : a + _CHUNK]]
            if mlp.views and mlp.feature is not None:
                seen = encode(np.asarray(views[a : a + _CHUNK], np.float32), int(mlp.direction_frequencies))
                x = np.concatenate([mlp.feature(x), seen], 1)
                for layer in mlp.views:
                    x = _relu(layer(x))
            out[a : a + _CHUNK] = _sigmoid(mlp.rgb(x))
        return out


@dataclass(frozen=True, eq=False)
class Rows:
    """A layer in compressed sparse rows: weights that are not zero, row by row."""

    starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    bias: np.ndarray

    @classmethod
    def of(cls, layer: Dense) -> Rows:
        rows, columns = np.nonzero(layer.weight)
        starts = np.searchsorted(rows, np.arange(len(layer.weight) + 1))
        values = layer.weight[rows, columns].astype(np.float32)
        return cls(starts, columns.astype(np.int32), values, layer.bias.astype(np.float32))

    def __call__(self, x: np.ndarray, relu: bool) -> np.ndarray:
        """Of blocks ``(blocks, inputs, BLOCK)`` of points, ``(blocks, outputs, BLOCK)``."""
        from neurcomp_core.radiance.rendering import nerf_kernels

        out = np.empty((len(x), len(self.bias), x.shape[2]), np.float32)
        given = x, self.starts, self.columns, self.values, self.bias, relu, out
        over_ranges(len(x), lambda _, a, b: nerf_kernels.sparse_layer(a, b, *given))
        return out


@dataclass(frozen=True, eq=False)
class SparseNetwork:
    """Sums over the weights that are not zero; faster than `DenseNetwork` where most are."""

    mlp: NerfMlp

    @cached_property
    def _rows(self) -> dict[int, Rows]:
        return {id(layer): Rows.of(layer) for layer in self.mlp.layers}

    def _apply(self, layer: Dense, x: np.ndarray, relu: bool = False) -> np.ndarray:
        return self._rows[id(layer)](x, relu)

    def density(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mlp, n = self.mlp, len(points)
        frequencies = int(mlp.position_frequencies)
        sigma = np.empty(n, np.float32)
        features = np.empty((n, len(mlp.trunk[-1].weight)), np.float32)
        for a in range(0, n, _CHUNK):
            part = np.asarray(points[a : a + _CHUNK], np.float32)
            position = x = _blocks(encode(part, frequencies))
            for layer in mlp.trunk:
                if layer.weight.shape[1] > x.shape[1]:
                    x = np.concatenate([position, x], 1)
                x = self._apply(layer, x, relu=True)
            sigma[a : a + _CHUNK] = _flat(self._apply(mlp.sigma, x, relu=True), len(part))[:, 0]
            features[a : a + _CHUNK] = _flat(x, len(part))
        return sigma, features

    def colors(self, features: np.ndarray, lit: np.ndarray, views: np.ndarray) -> np.ndarray:
        mlp, out = self.mlp, np.empty((len(lit), 3), np.float32)
        for a in range(0, len(lit), _CHUNK):
            chosen = lit[a : a + _CHUNK]
            x = _blocks(features[chosen])
            if mlp.views and mlp.feature is not None:
                seen = encode(np.asarray(views[a : a + _CHUNK], np.float32), int(mlp.direction_frequencies))
                x = np.concatenate([self._apply(mlp.feature, x), _blocks(seen)], 1)
                for layer in mlp.views:
                    x = self._apply(layer, x, relu=True)
            out[a : a + _CHUNK] = _sigmoid(_flat(self._apply(mlp.rgb, x), len(chosen)))
        return out


def with_layers(layout: NerfMlp, layers: Sequence[Dense]) -> NerfMlp:
    """A network of the same kind with other layers, in the order of `NerfMlp.layers`."""
    trunk, rest = tuple(layers[: len(layout.trunk)]), list(layers[len(layout.trunk) :])
    sigma, rgb = rest[0], rest[-1]
    feature = None if layout.feature is None else rest[1]
    views = tuple(rest[(1 if feature is None else 2) : -1])
    return replace(layout, trunk=trunk, sigma=sigma, rgb=rgb, feature=feature, views=views)


def _blocks(x: np.ndarray) -> np.ndarray:
    """Points ``(n, channels)`` as ``(blocks, channels, BLOCK)``, zeros after the last."""
    from neurcomp_core.radiance.rendering.nerf_kernels import BLOCK

    count = -(-len(x) // BLOCK)
    padded = np.zeros((count * BLOCK, x.shape[1]), np.float32)
    padded[: len(x)] = x
    return np.ascontiguousarray(padded.reshape(count, BLOCK, -1).transpose(0, 2, 1))


def _flat(x: np.ndarray, count: int) -> np.ndarray:
    """Inverse of `_blocks`."""
    return x.transpose(0, 2, 1).reshape(-1, x.shape[1])[:count]


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0, out=x)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # tanh, unlike exp, does not overflow.
    return 0.5 + 0.5 * np.tanh(0.5 * x)
