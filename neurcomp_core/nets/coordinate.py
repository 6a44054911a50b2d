"""A coordinate network: an encoding of positions and a perceptron. Its integers, its stream, its values; no torch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from neurcomp_core.coding import matrices, weights, wire
from neurcomp_core.errors import FormatError
from neurcomp_core.field import Region
from neurcomp_core.nets.encodings import Encoding

#: Functions after every layer but the last; files hold their place in this list.
ACTIVATIONS = ("relu", "snake", "sine")
#: Floats of features and layers that are held at a time.
_PART = 1 << 20


def activated(x: Any, activation: str, omega: float, xp: Any) -> Any:
    """One of `ACTIVATIONS` of every element.

    ``snake`` is SnakeAlt, ``x / 2 + sin(x)**2``, of Weiss, Hermüller, Westermann: "Fast Neural Representations for
    Direct Volume Rendering" (fV-SRN), CGF 41(6), 2022, section 3; ``sine`` is ``sin(omega x)``, of Sitzmann et al.:
    "Implicit Neural Representations with Periodic Activation Functions", NeurIPS 2020, section 3.
    """
    if activation == "relu":
        return xp.clip(x, 0, None)
    if activation == "sine":
        return xp.sin(omega * x)
    sine = xp.sin(x)
    return 0.5 * x + sine * sine


@dataclass(frozen=True)
class CoordinateNetwork:
    """Shape of a network. Parameters are a list: the encoding's tables, then ``W, b`` of each layer.

    Attributes
    ----------
    encoding : Encoding
    activation : str
        One of `ACTIVATIONS`.
    width, hidden : int
        Neurons per hidden layer, hidden layers (at least 1).
    outputs : int
        Components of the field.
    omega : float
        Factor inside sines.
    """

    encoding: Encoding
    activation: str
    width: int
    hidden: int
    outputs: int
    omega: float

    @cached_property
    def layers(self) -> list[tuple[int, ...]]:
        """Shapes of W and b, in turn: ``(outputs, inputs)``, ``(outputs,)``."""
        sizes = [self.encoding.width, *[self.width] * self.hidden, self.outputs]
        return [s for inputs, outputs in itertools.pairwise(sizes) for s in ((outputs, inputs), (outputs,))]

    @cached_property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of all parameters; each is a group with a quantiser step of its own."""
        return [*self.encoding.shapes, *self.layers]

    @property
    def parameters(self) -> int:
        """Number of parameters, reachable or not."""
        return sum(math.prod(s) for s in self.shapes)

    @cached_property
    def tables(self) -> list[weights.Group]:
        """The encoding's tables as they are coded."""
        return self.encoding.groups()

    def values(self, points: Any, parameters: Sequence[Any], xp: Any) -> Any:
        """Outputs ``(outputs, n)`` at positions ``(n, 3)``; with `xp` numpy or torch, see `encodings.Encoding`."""
        count = len(self.encoding.shapes)
        x = self.encoding.features(points, parameters[:count], xp)
        layers = parameters[count:]
        for i in range(0, len(layers), 2):
            x = layers[i] @ x + layers[i + 1][:, None]
            if i < len(layers) - 2:
                x = activated(x, self.activation, self.omega, xp)
        return x

    def initial(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Parameters to start from, float32.

        Sines as Sitzmann et al. 2020 (section 3.2) draw them, with phases over a whole turn in the first layer; others
        uniform by Glorot and Bengio (2010, equation 16), with small biases.
        """
        found = self.encoding.initial(rng)
        for i, (rows, columns) in enumerate(self.layers[::2]):
            bound, phase = math.sqrt(6 / (rows + columns)), 0.1
            if self.activation == "sine":
                bound = 1 / columns if i == 0 else math.sqrt(6 / columns) / self.omega
                phase = math.pi / self.omega if i == 0 else 0.3 / math.sqrt(columns)
            last = i == self.hidden
            found.append(rng.uniform(-bound, bound, (rows, columns)).astype(np.float32))
            found.append(np.zeros(rows, np.float32) if last else rng.uniform(-phase, phase, rows).astype(np.float32))
        return found

    def evaluate(self, parameters: Sequence[np.ndarray], region: Region, step: int) -> np.ndarray:
        """Outputs ``(outputs, z, y, x)`` float32 at every `step`-th sample of a region of the lattice."""
        lattice = self.encoding.lattice
        axes = [np.arange(r.start, r.stop, step) for r in region]
        counts = [len(a) for a in axes]
        lines = [lattice.coordinates(a, index).astype(np.float32) for a, index in enumerate(axes)]
        out = np.empty((self.outputs, math.prod(counts)), np.float32)
        part = max(_PART // max(self.encoding.width, self.width), 64)
        for first in range(0, out.shape[1], part):
            places = np.unravel_index(np.arange(first, min(first + part, out.shape[1])), counts)
            points = np.zeros((len(places[0]), 3), np.float32)
            for column, axis in enumerate(lattice.axes):
                points[:, column] = lines[axis][places[axis]]
            out[:, first : first + part] = self.values(points, parameters, np)
        return out.reshape(self.outputs, *counts)

    # .......................................................................................................... stream

    def symbols(self, parameters: Sequence[np.ndarray], steps: np.ndarray) -> list[np.ndarray]:
        """Parameters as multiples of their steps, int64."""
        # A budget may allow finer steps than the coder; the values at its end are then merely less exact.
        limits = [weights.LIMIT] * len(self.encoding.shapes) + [matrices.LIMIT] * len(self.layers)
        return [
            np.rint(p / step).clip(1 - limit, limit - 1).astype(np.int64)
            for p, step, limit in zip(parameters, steps, limits, strict=True)
        ]

    def pack(self, parameters: Sequence[np.ndarray], steps: np.ndarray) -> bytes:
        """Stream of the parameters, each rounded to a multiple of its step: tables, then the perceptron."""
        symbols, count = self.symbols(parameters, steps), len(self.encoding.shapes)
        tables = weights.encode_groups(symbols[:count], self.tables) if count else b""
        return wire.write_varint(len(tables)) + tables + matrices.encode_matrices(symbols[count:])

    def unpack(self, data: bytes, steps: np.ndarray) -> list[np.ndarray]:
        """Float32 parameters of a stream; raises FormatError if it is not one of this network."""
        length, at = wire.read_varint(memoryview(data), 0)
        if length > len(data) - at or (length > 0) != bool(self.encoding.shapes):
            raise FormatError(f"network: {length} bytes of tables do not fit this network; the stream is damaged")
        symbols = weights.decode_groups(data[at : at + length], self.tables) if length else []
        symbols += matrices.decode_matrices(data[at + length :], self.layers)
        return [(q * step).astype(np.float32) for q, step in zip(symbols, steps, strict=True)]
