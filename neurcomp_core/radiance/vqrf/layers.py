"""Spheres behind a sparse grid, rounded and coded; they are not pruned, shared or fine-tuned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurcomp_core.coding import wire
from neurcomp_core.radiance.coding.attributes import decode_attributes, encode_attributes
from neurcomp_core.radiance.coding.occupancy import decode_occupancy, encode_occupancy
from neurcomp_core.radiance.coding.quantise import Quantiser
from neurcomp_core.radiance.grids import EMPTY, SphereLayers

# Steps in the root mean square of all values.
_FINENESS = 40


def step_of(far: SphereLayers) -> float:
    """The step they are rounded with; a float32."""
    spread = np.sqrt(np.mean(np.square(far.data, dtype=np.float64))) if far.data.size else 0.0
    return float(np.float32(spread / _FINENESS)) or 1.0


def quantised(far: SphereLayers, step: float) -> SphereLayers:
    """What is decoded of them."""
    return _layers(far.links != EMPTY, _symbols(far, step), far.data.shape[1], step)


def encode(far: SphereLayers, step: float) -> bytes:
    """Their stream."""
    mask = (far.links != EMPTY)[None]
    first = encode_occupancy(mask)
    return wire.write_varint(len(first)) + first + encode_attributes(_symbols(far, step), mask)


def decode(data: bytes, shape: Sequence[int], step: float) -> SphereLayers:
    """Inverse of `encode`; `shape` is (rows and columns of the map, spheres). FormatError for what it did not write."""
    height, width, count = shape
    length, at = wire.read_varint(memoryview(data), 0)
    mask = decode_occupancy(data[at : at + length], (1, height, width))
    values = decode_attributes(data[at + length :], mask, 4 * count)
    return _layers(mask[0], values, count, step)


def _symbols(far: SphereLayers, step: float) -> np.ndarray:
    values = far.data[far.links[far.links != EMPTY]]
    return Quantiser(step).quantise(values.reshape(len(values), 4 * far.data.shape[1]))


def _layers(mask: np.ndarray, values: np.ndarray, count: int, step: float) -> SphereLayers:
    links = np.full(mask.shape, EMPTY, np.int32)
    links[mask] = np.arange(np.count_nonzero(mask), dtype=np.int32)
    return SphereLayers(links, Quantiser(step).dequantise(values).reshape(len(values), count, 4))
