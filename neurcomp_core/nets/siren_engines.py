"""What computes a sine network on a device: `TorchEngine`, plain torch, and `siren_triton.TritonEngine`.

Parameters are one flat tensor, ``[W | b]`` of every layer by rows, first layer to last, so that the layers of one shape
are a view of it. `engine_for` chooses by the names of `nets.backends`; numba, the CPU's own, has no engine: the codec
computes in NumPy arrays there (`siren_model`, `fit.siren_gradients`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from neurcomp_core.errors import InputError
from neurcomp_core.nets import backends
from neurcomp_core.nets.copying import Copier, page_locked
from neurcomp_core.nets.memory import Shrinking
from neurcomp_core.nets.siren import Siren, forward_torch, values_and_slopes
from neurcomp_core.nets.siren_flat import Flat, Places

if TYPE_CHECKING:
    from collections.abc import Callable

#: Widest network of the fused kernels.
WIDEST = 128
#: Points that are evaluated at a time, at most and at least, and floats of a layer in plain torch.
_PART, _LEAST, _FLOATS = 1 << 22, 1 << 12, 1 << 27


class Engine(ABC):
    """A network on a device.

    Parameters
    ----------
    net : Siren
    device : torch.device
    """

    def __init__(self, net: Siren, device: torch.device) -> None:
        self.net, self.device, self.flat = net, device, Flat(net)

    @abstractmethod
    def gradients(
        self,
        parameters: torch.Tensor,
        places: Places,
        index: torch.Tensor,
        values: torch.Tensor,
        shares: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``sum(shares * (network - values)**2)``, a scalar on the device, and its gradient, shaped as `parameters`.

        Parameters
        ----------
        parameters : Tensor
            See `Flat`.
        places : Places
        index : Tensor
            ``(n,)`` int64 flat numbers of samples.
        values : Tensor
            ``(n, outputs)`` float32.
        shares : Tensor, optional
            ``(n, outputs)``; all are ``1 / (n * outputs)`` if left out.
        """

    @abstractmethod
    def products(
        self, parameters: torch.Tensor, places: Places, index: torch.Tensor, slopes: torch.Tensor
    ) -> torch.Tensor:
        """Gradient of ``sum(slopes * network)``; `slopes` is ``(n, outputs)``."""

    @abstractmethod
    def box(self, parameters: torch.Tensor, places: Places, first: int, count: int) -> torch.Tensor:
        """Values ``(outputs, count)`` of `count` samples of a box from its flat number `first` on."""

    @abstractmethod
    def values(self, parameters: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """Values ``(outputs, n)`` at points ``(n, inputs)``."""

    @torch.no_grad()
    def asked(self, parameters: torch.Tensor, points: np.ndarray, slopes: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Values ``(n, outputs)`` at points ``(n, inputs)`` float32 and, with `slopes`, ``(n, outputs, inputs)``."""
        at = torch.from_numpy(np.ascontiguousarray(points)).to(self.device)
        if not slopes:
            return self.values(parameters, at).t().cpu().numpy(), None
        values, found = values_and_slopes(self.net, self.flat.matrices(parameters), at, torch)
        return values.cpu().numpy(), found.cpu().numpy()

    def part(self) -> int:
        """Points that may be evaluated at a time."""
        return _PART

    def lattice(
        self,
        parameters: torch.Tensor,
        axes: Sequence[np.ndarray],
        note: Callable[[str], None] | None = None,
    ) -> np.ndarray:
        """Values on a lattice, ``(outputs, *counts)`` float32, page-locked where the device is a GPU.

        Parameters
        ----------
        parameters : Tensor
        axes : sequence of ndarray
            Coordinates along each input.
        note : callable, optional
            Is told where memory allows only smaller parts.
        """
        places = Places.of(axes, self.device)
        counts = [len(a) for a in axes]
        total = math.prod(counts)
        shape, dtype = (self.net.outputs, total), np.dtype(np.float32)
        out = page_locked(shape, dtype) if self.device.type == "cuda" else np.empty(shape, dtype)
        copier = Copier(self.device)
        parts = Shrinking(self.part(), _LEAST, "samples at a time", note)
        first = 0
        while first < total:

            def part(most: int, first: int = first) -> torch.Tensor:
                return self.box(parameters, places, first, min(most, total - first))

            values = parts.run(part)
            for row, line in zip(out, values, strict=True):
                copier.put(line, row[first : first + len(line)], np.copyto)
            first += values.shape[1]
        copier.finish()
        return out.reshape(self.net.outputs, *counts)

    def tensor(self, parameters: Sequence[np.ndarray]) -> torch.Tensor:
        """``[W, b, W, b, ...]`` on the device."""
        return torch.from_numpy(self.flat.join(parameters)).to(self.device)


class TorchEngine(Engine):
    """`nets.siren.forward_torch` and autograd; in float32 unless torch itself was told otherwise."""

    def part(self) -> int:
        """See `Engine.part`."""
        return max(min(_PART, _FLOATS // max(self.net.width, 1)), 1024)

    def gradients(
        self,
        parameters: torch.Tensor,
        places: Places,
        index: torch.Tensor,
        values: torch.Tensor,
        shares: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Engine.gradients`."""

        def loss(outputs: torch.Tensor) -> torch.Tensor:
            missed = (outputs - values) ** 2
            return missed.mean() if shares is None else (missed * shares).sum()

        return self._gradient(parameters, places.points(index, self.net.inputs), loss)

    def products(
        self, parameters: torch.Tensor, places: Places, index: torch.Tensor, slopes: torch.Tensor
    ) -> torch.Tensor:
        """See `Engine.products`."""
        points = places.points(index, self.net.inputs)
        return self._gradient(parameters, points, lambda outputs: (outputs * slopes).sum())[1]

    def gradients_with_slopes(
        self,
        parameters: torch.Tensor,
        points: torch.Tensor,
        values: torch.Tensor,
        shares: torch.Tensor | None,
        slopes: torch.Tensor,
        slope_shares: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `gradients`, with the squared error of the gradients ``(n, outputs, inputs)`` besides.

        `slope_shares` ``(n, outputs)`` hold the weight of each. The loss that is returned is that of the values alone.
        """
        points = points.requires_grad_()
        squared = torch.zeros((), device=self.device)

        def loss(outputs: torch.Tensor) -> torch.Tensor:
            nonlocal squared
            missed = (outputs - values) ** 2
            squared = missed.mean() if shares is None else (missed * shares).sum()
            total = squared
            for c in range(self.net.outputs):
                (slope,) = torch.autograd.grad(outputs[:, c].sum(), points, create_graph=True)
                total = total + (((slope - slopes[:, c]) ** 2).mean(dim=1) * slope_shares[:, c]).sum()
            return total

        gradient = self._gradient(parameters, points, loss)[1]
        return squared.detach(), gradient

    def _gradient(
        self, parameters: torch.Tensor, points: torch.Tensor, loss: Callable[[torch.Tensor], torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.enable_grad():
            held = [p.detach().contiguous().requires_grad_() for p in self.flat.matrices(parameters)]
            value = loss(forward_torch(self.net, held, points))
            found = torch.autograd.grad(value, held)
        layers = [torch.cat([w, b[:, None]], 1).reshape(-1) for w, b in zip(found[::2], found[1::2], strict=True)]
        return value.detach(), torch.cat(layers)

    def box(self, parameters: torch.Tensor, places: Places, first: int, count: int) -> torch.Tensor:
        """See `Engine.box`."""
        index = torch.arange(first, first + count, device=self.device)
        return self.values(parameters, places.points(index, self.net.inputs))

    @torch.no_grad()
    def values(self, parameters: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """See `Engine.values`."""
        return forward_torch(self.net, self.flat.matrices(parameters), points).t().contiguous()


# ------------------------------------------------------------------------------------------------------------- choosing


def engine_for(name: str, device: torch.device | str, net: Siren, gradient_term: bool = False) -> Engine | None:
    """The engine that a backend's name stands for on ``cpu`` or ``cuda``; None for numba, which needs none.

    ``auto`` takes torch for what the fused kernels do not do: networks wider than `WIDEST`, and the gradient term.

    Raises
    ------
    InputError
        If the backend that is named cannot compute this.
    """
    device = torch.device(device)
    found = backends.chosen(name, device).name
    if found == "numba":
        return None
    if found == "tinycudann":
        raise InputError("backend tinycudann: it has no residual sine networks; choose triton, torch or auto")
    if found == "torch":
        return TorchEngine(net, device)
    obstacle = ""
    if net.width > WIDEST:
        obstacle = f"its kernels take sine networks of at most {WIDEST} neurons per layer, this one has {net.width}"
    elif gradient_term:
        obstacle = "its kernels do not do the gradient term (grad_lambda)"
    if not obstacle:
        from neurcomp_core.nets.siren_triton import TritonEngine

        return TritonEngine(net, device)
    if name == "auto":
        return TorchEngine(net, device)
    raise InputError(f"backend triton: {obstacle}; choose torch or auto")
