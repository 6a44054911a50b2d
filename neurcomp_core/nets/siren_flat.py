"""A sine network's parameters as one flat tensor, and the samples of a box by their flat numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from neurcomp_core.nets.siren import Siren


@dataclass(frozen=True)
class Flat:
    """Parameters of a network as one flat array."""

    net: Siren

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.net.parameters

    def join(self, parameters: Sequence[np.ndarray]) -> np.ndarray:
        """``[W, b, W, b, ...]`` as one array, float32."""
        pairs = zip(parameters[::2], parameters[1::2], strict=True)
        return np.concatenate([np.column_stack([w, b]).reshape(-1) for w, b in pairs]).astype(np.float32)

    def split(self, flat: np.ndarray) -> list[np.ndarray]:
        """Inverse of `join`."""
        found: list[np.ndarray] = []
        for layer in self._layers(flat):
            found += layer[:, :-1].copy(), layer[:, -1].copy()
        return found

    def matrices(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """``[W, b, W, b, ...]`` as views of a tensor."""
        return [part for layer in self._layers(flat) for part in (layer[:, :-1], layer[:, -1])]

    def _layers(self, flat: Any) -> list[Any]:
        found, at = [], 0
        for rows, columns in self.net.shapes:
            found.append(flat[at : at + rows * (columns + 1)].reshape(rows, columns + 1))
            at += rows * (columns + 1)
        return found

    def stacks(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """Views ``(layers, rows, columns + 1)`` of the first layer, of all inner ones, and of the last."""
        found, at = [], 0
        shapes = self.net.shapes
        for count, (rows, columns) in ((1, shapes[0]), (len(shapes) - 2, shapes[1]), (1, shapes[-1])):
            size = count * rows * (columns + 1)
            if count:
                found.append(flat[at : at + size].view(count, rows, columns + 1))
            at += size
        return found

    @cached_property
    def groups(self) -> np.ndarray:
        """Number of the array, of W, b, W, b, ..., that each parameter belongs to, ``(size,)``."""
        found = [np.full((rows, columns + 1), 2 * k) for k, (rows, columns) in enumerate(self.net.shapes)]
        for layer in found:
            layer[:, -1] += 1
        return np.concatenate([layer.reshape(-1) for layer in found])


@dataclass(frozen=True)
class Places:
    """Where the samples of a box lie, by their flat number in C order.

    Attributes
    ----------
    counts : tuple of 3 int
        Samples along the axes that are inputs, the last ones; 1 before them.
    table : Tensor
        Coordinates along the three axes, one after the other; 0 of one that is no input.
    """

    counts: tuple[int, int, int]
    table: torch.Tensor

    @classmethod
    def of(cls, axes: Sequence[np.ndarray], device: torch.device) -> Places:
        """Of coordinates along each input axis."""
        filled = [np.zeros(1, np.float32)] * (3 - len(axes)) + [np.asarray(a, np.float32) for a in axes]
        counts = (len(filled[0]), len(filled[1]), len(filled[2]))
        return cls(counts, torch.from_numpy(np.concatenate(filled)).to(device))

    def points(self, index: torch.Tensor, inputs: int) -> torch.Tensor:
        """Coordinates ``(n, inputs)`` of flat numbers."""
        a, b, c = self.counts
        at = (index // (b * c), a + index // c % b, a + b + index % c)
        return torch.stack([self.table[i] for i in at[3 - inputs :]], dim=1)
