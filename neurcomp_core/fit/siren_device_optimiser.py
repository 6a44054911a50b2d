"""`siren_optimiser.Soap` in torch: the same steps on a device, of parameters that lie there as one flat tensor.

A step is two functions of fixed tensors, `observe` and `move`, which a CUDA graph can hold, and between them, now and
then, `renew`, which it cannot: eigenvectors and QR factors are libraries' work. What is of every parameter is done on
the flat tensors at once, what is of matrices on stacks of layers of one shape.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from neurcomp_core.fit.siren_optimiser import EVERY, FARTHEST, GRAM_MEMORY, MEMORY, SQUARE_MEMORY
from neurcomp_core.nets.siren_flat import Flat

#: Arrays of a stack, for checkpoints.
_ARRAYS = ("mean", "square", "left", "right", "left_basis", "right_basis")


class DeviceSoap:
    """Optimiser of a flat tensor of parameters, which it changes in place.

    Parameters
    ----------
    flat : Flat
        What the tensor is.
    device : torch.device
    """

    def __init__(self, flat: Flat, device: torch.device) -> None:
        self._flat = flat
        self.count = 0

        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.float32, device=device)

        self._mean, self._square, self._buffer = zeros(flat.size), zeros(flat.size), zeros(flat.size)
        shapes = [stack.shape for stack in flat.stacks(self._mean)]
        self._left, self._left_basis = ([zeros(n, rows, rows) for n, rows, _ in shapes] for _ in range(2))
        self._right, self._right_basis = ([zeros(n, columns, columns) for n, _, columns in shapes] for _ in range(2))
        #: Learning rate and corrections of the two running means, of the step under way.
        self._numbers = zeros(3)

    @property
    def tensors(self) -> list[torch.Tensor]:
        """All that steps change, but parameters."""
        return [self._mean, self._square, *self._left, *self._right, *self._left_basis, *self._right_basis]

    def reset(self) -> None:
        """Begin anew."""
        self.count = 0
        for tensor in self.tensors:
            tensor.zero_()

    def begin(self, rate: float) -> None:
        """Begin a step in which an element moves by about `rate` at most."""
        self.count += 1
        numbers = [rate, 1 / (1 - MEMORY**self.count), 1 / (1 - SQUARE_MEMORY**self.count)]
        # Not pinned, so staged before the call returns: nothing waits for the device.
        self._numbers.copy_(torch.tensor(numbers, dtype=torch.float32), non_blocking=True)

    def observe(self, gradient: torch.Tensor) -> None:
        """Put a gradient into the running Gram matrices."""
        for left, right, g in zip(self._left, self._right, self._flat.stacks(gradient), strict=True):
            turned = g.transpose(1, 2)
            left.baddbmm_(g, turned, beta=GRAM_MEMORY, alpha=1 - GRAM_MEMORY)
            right.baddbmm_(turned, g, beta=GRAM_MEMORY, alpha=1 - GRAM_MEMORY)

    def renew(self) -> None:
        """Renew the bases if it is time."""
        if self.count == 1:
            for gram, basis in zip(self._left + self._right, self._left_basis + self._right_basis, strict=True):
                basis.copy_(torch.linalg.eigh(gram)[1].flip(-1))
        elif self.count % EVERY == 0:
            for i, square in enumerate(self._flat.stacks(self._square)):
                order = _renew(self._left[i], self._left_basis[i])
                square.copy_(square.take_along_dim(order[:, :, None], 1))
                order = _renew(self._right[i], self._right_basis[i])
                square.copy_(square.take_along_dim(order[:, None, :], 2))

    def move(self, gradient: torch.Tensor, parameters: torch.Tensor) -> None:
        """Move the parameters along a gradient that has been observed."""
        self._mean.lerp_(gradient, 1 - MEMORY)
        projected = self._turned(gradient)
        self._square.mul_(SQUARE_MEMORY).addcmul_(projected, projected, value=1 - SQUARE_MEMORY)
        move = self._turned(self._mean).mul_(self._numbers[1])
        move.div_((self._square * self._numbers[2]).sqrt_().add_(1e-12)).clamp_(-FARTHEST, FARTHEST)
        for left, right, m in zip(self._left_basis, self._right_basis, self._flat.stacks(move), strict=True):
            m.copy_(left @ m @ right.transpose(1, 2))
        parameters.sub_(move.mul_(self._numbers[0]))

    def _turned(self, flat: torch.Tensor) -> torch.Tensor:
        """A gradient in the bases, in a buffer that the next call overwrites."""
        stacks, out = self._flat.stacks(flat), self._flat.stacks(self._buffer)
        for left, right, g, o in zip(self._left_basis, self._right_basis, stacks, out, strict=True):
            torch.bmm(left.transpose(1, 2) @ g, right, out=o)
        return self._buffer

    def state(self) -> dict[str, np.ndarray]:
        """All that a run needs to go on, as arrays named as those of `Soap.state`."""
        found = {f"{i}.{name}": part.cpu().numpy() for name, parts in self._named() for i, part in enumerate(parts)}
        return {"count": np.array(self.count)} | found

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Inverse of `state`; raises KeyError or ValueError if it is another network's."""
        for name, parts in self._named():
            for i, part in enumerate(parts):
                after = np.array(state[f"{i}.{name}"], np.float32)
                if after.shape != tuple(part.shape):
                    raise ValueError(f"{name}: expected shape {tuple(part.shape)}, got {after.shape}")
                part.copy_(torch.from_numpy(after))
        self.count = int(state["count"])

    def _named(self) -> list[tuple[str, list[torch.Tensor]]]:
        views = [self._flat.stacks(self._mean), self._flat.stacks(self._square)]
        return list(zip(_ARRAYS, [*views, self._left, self._right, self._left_basis, self._right_basis], strict=True))


def _renew(gram: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """One orthogonal iteration of the eigenvectors of `gram`, sorted, in place; returns the order that this took."""
    product = gram @ basis
    order = torch.argsort((basis * product).sum(1), dim=1, descending=True, stable=True)
    basis.copy_(torch.linalg.qr(product.take_along_dim(order[:, None, :], 2))[0])
    return order
