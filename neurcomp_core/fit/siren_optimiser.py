"""Shampoo-preconditioned Adam for the small matrices of a sine network, in NumPy.

SOAP (Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam", ICLR 2025, algorithm 3): Adam in the
eigenbases of the running Gram matrices of a layer's gradient, which are renewed by a step of orthogonal iteration. A
layer's matrix and bias are one matrix ``[W | b]`` here; layers of one shape are stacked and go through every operation
together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Decay of the running means of gradient, squared gradient and Gram matrices; steps between renewals of the bases.
MEMORY, SQUARE_MEMORY, GRAM_MEMORY, EVERY = 0.95, 0.98, 0.98, 10
#: Learning rates that a step may go in any direction of the bases. Of a fixed basis the means' decays allow 1.26, by
#: Cauchy and Schwarz; in directions without gradient the quotient of two rounding errors can be anything.
FARTHEST = 2.0


@dataclass
class _Stack:
    """State of all layers of one shape, ``(layers, rows, columns)``."""

    layers: list[int]
    mean: np.ndarray
    square: np.ndarray
    left: np.ndarray
    right: np.ndarray
    left_basis: np.ndarray
    right_basis: np.ndarray


#: Arrays of a `_Stack`, for checkpoints.
_ARRAYS = ("mean", "square", "left", "right", "left_basis", "right_basis")


class Soap:
    """Optimiser of the parameters ``[W, b, W, b, ...]``, which it changes in place.

    Parameters
    ----------
    parameters : sequence of ndarray
        float32.
    memory, square_memory, gram_memory : float
        Decay of the running means of gradient, squared gradient and Gram matrices.
    every : int
        Steps between two renewals of the bases.
    """

    def __init__(
        self,
        parameters: Sequence[np.ndarray],
        memory: float = MEMORY,
        square_memory: float = SQUARE_MEMORY,
        gram_memory: float = GRAM_MEMORY,
        every: int = EVERY,
    ) -> None:
        self.parameters = parameters
        self.memory, self.square_memory, self.gram_memory, self.every = memory, square_memory, gram_memory, every
        self.count = 0
        shapes: dict[tuple[int, ...], list[int]] = {}
        for layer in range(len(parameters) // 2):
            shapes.setdefault(parameters[2 * layer].shape, []).append(layer)
        self.stacks = []
        for (rows, columns), layers in shapes.items():
            n = len(layers)
            sizes = ((rows, columns + 1),) * 2 + ((rows, rows), (columns + 1, columns + 1)) * 2
            self.stacks.append(_Stack(layers, *(np.zeros((n, *size), np.float32) for size in sizes)))

    def step(self, gradients: Sequence[np.ndarray], rate: float) -> None:
        """One step along `gradients`, shaped as the parameters; an element moves by about `rate` at most."""
        self.count += 1
        for stack in self.stacks:
            together = [np.column_stack([gradients[2 * k], gradients[2 * k + 1]]) for k in stack.layers]
            move = self._move(stack, np.stack(together))
            move *= np.float32(rate)
            for change, k in zip(move, stack.layers, strict=True):
                self.parameters[2 * k][...] -= change[:, :-1]
                self.parameters[2 * k + 1][...] -= change[:, -1]

    def _move(self, stack: _Stack, gradient: np.ndarray) -> np.ndarray:
        turned = gradient.swapaxes(1, 2)
        _blend(stack.left, gradient @ turned, self.gram_memory)
        _blend(stack.right, turned @ gradient, self.gram_memory)
        if self.count == 1:
            stack.left_basis, stack.right_basis = (np.linalg.eigh(m)[1][:, :, ::-1] for m in (stack.left, stack.right))
        elif self.count % self.every == 0:
            stack.left_basis, order = _renewed(stack.left, stack.left_basis)
            stack.square = np.take_along_axis(stack.square, order[:, :, None], 1)
            stack.right_basis, order = _renewed(stack.right, stack.right_basis)
            stack.square = np.take_along_axis(stack.square, order[:, None, :], 2)
        _blend(stack.mean, gradient, self.memory)
        left, right = stack.left_basis, stack.right_basis
        back, across = left.swapaxes(1, 2), right.swapaxes(1, 2)
        projected = back @ gradient @ right
        _blend(stack.square, np.square(projected, out=projected), self.square_memory)
        move = back @ stack.mean @ right
        move /= 1 - self.memory**self.count
        move /= np.sqrt(stack.square / (1 - self.square_memory**self.count)) + np.float32(1e-12)
        return left @ np.clip(move, -FARTHEST, FARTHEST, out=move) @ across

    def state(self) -> dict[str, np.ndarray]:
        """All that a run needs to go on, as arrays."""
        found = {f"{i}.{name}": getattr(stack, name) for i, stack in enumerate(self.stacks) for name in _ARRAYS}
        return {"count": np.array(self.count)} | found

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Inverse of `state`; raises KeyError or ValueError if it is another network's."""
        for i, stack in enumerate(self.stacks):
            for name in _ARRAYS:
                before, after = getattr(stack, name), state[f"{i}.{name}"]
                if before.shape != after.shape:
                    raise ValueError(f"{name}: expected shape {before.shape}, got {after.shape}")
                setattr(stack, name, np.array(after, np.float32))
        self.count = int(state["count"])


def _blend(mean: np.ndarray, value: np.ndarray, memory: float) -> None:
    """Move a running mean, in place."""
    mean *= np.float32(memory)
    mean += np.float32(1 - memory) * value


def _renewed(gram: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One orthogonal iteration of the eigenvectors of `gram`, sorted; and the order that this took."""
    product = gram @ basis
    strength = np.einsum("kij,kij->kj", basis, product)
    order = np.argsort(-strength, axis=1, kind="stable")
    return np.linalg.qr(np.take_along_axis(product, order[:, None, :], 2))[0], order
