"""A sine network on a GPU by the fused kernels of `triton_siren`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import torch

from neurcomp_core.nets.siren import Siren
from neurcomp_core.nets.siren_engines import WIDEST, Engine
from neurcomp_core.nets.siren_flat import Places

#: Fewest neurons that the kernels' matrix products take.
_NARROWEST = 16
#: How matrices are multiplied: as exactly as float32 does within a few units of its last place.
PRECISION = "tf32x3"
#: Programs of one launch: as many sums of gradients are held.
_PROGRAMS = 1024


class TritonEngine(Engine):
    """`nets.triton_siren`.

    Parameters
    ----------
    net : Siren
        At most `WIDEST` neurons wide.
    device : torch.device
    precision : str
        How matrices are multiplied: ``ieee``, ``tf32x3`` or ``tf32``; see `triton_siren`.
    """

    def __init__(self, net: Siren, device: torch.device, precision: str = PRECISION) -> None:
        super().__init__(net, device)
        assert net.width <= WIDEST, "wider networks are matrix products, which torch does as well"
        self.precision = precision
        self.width = max(_NARROWEST, 1 << (net.width - 1).bit_length())
        self.matrices = len(net.shapes) - 2
        places, factors, self.total = _folding(net, self.width)
        self._places = torch.from_numpy(places).to(device)
        self._factors = torch.from_numpy(factors).to(device)
        after = [net.halves(block)[1] for block in range(1, net.layers)] or [1.0]
        self._after = torch.tensor(after, dtype=torch.float32, device=device)

    def gradients(
        self,
        parameters: torch.Tensor,
        places: Places,
        index: torch.Tensor,
        values: torch.Tensor,
        shares: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Engine.gradients`."""
        sums = self._backward(parameters, places, index, values, shares, False)
        return sums[self.total], sums[self._places] * self._factors

    def products(
        self, parameters: torch.Tensor, places: Places, index: torch.Tensor, slopes: torch.Tensor
    ) -> torch.Tensor:
        """See `Engine.products`."""
        return self._backward(parameters, places, index, slopes, None, True)[self._places] * self._factors

    def _backward(
        self,
        parameters: torch.Tensor,
        places: Places,
        index: torch.Tensor,
        values: torch.Tensor,
        shares: torch.Tensor | None,
        given: bool,
    ) -> torch.Tensor:
        """Sums of `backward_kernel` over all points, ``(total + 1,)``."""
        tile, options = self._launch(len(index))
        share = 1 / (len(index) * self.net.outputs)
        folded = self._folded(parameters)
        sums = None
        for first in range(0, len(index), tile * _PROGRAMS):
            part = slice(first, first + tile * _PROGRAMS)
            found = self._backward_part(
                folded, places, index[part], values[part], None if shares is None else shares[part], share, given, tile,
                options,
            )  # fmt: skip
            sums = found if sums is None else sums + found
        assert sums is not None
        return sums

    def _backward_part(
        self,
        folded: torch.Tensor,
        places: Places,
        index: torch.Tensor,
        values: torch.Tensor,
        shares: torch.Tensor | None,
        share: float,
        given: bool,
        tile: int,
        options: dict[str, int],
    ) -> torch.Tensor:
        kernels = _kernels()
        n, net = len(index), self.net
        programs = -(-n // tile)
        blocks = net.layers - 1
        states = torch.empty((blocks + 1, n, self.width), dtype=torch.float32, device=self.device)
        self._forward(folded, places.table, index, states, states, 0, n, places.counts, tile, options, save=True)
        sums = torch.empty((programs, self.total + 1), dtype=torch.float32, device=self.device)
        kernels.backward_kernel[(programs,)](
            folded, self._after, places.table, index, states, values.contiguous(),
            values if shares is None else shares.contiguous(), sums, share, n, *places.counts, self.matrices,
            net.outputs, self.total + 1, INPUTS=net.inputs, WIDTH=self.width, RESIDUAL=net.residual, GIVEN=given,
            SHARED=shares is not None, PRECISION=self.precision, TILE=tile, **options,
        )  # fmt: skip
        return sums.sum(0)

    def box(self, parameters: torch.Tensor, places: Places, first: int, count: int) -> torch.Tensor:
        """See `Engine.box`."""
        out = torch.empty((self.net.outputs, count), dtype=torch.float32, device=self.device)
        self._forward(self._folded(parameters), places.table, None, out, out, first, count, places.counts,
                      *self._launch(count))  # fmt: skip
        return out

    def values(self, parameters: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """See `Engine.values`."""
        n = len(points)
        out = torch.empty((self.net.outputs, n), dtype=torch.float32, device=self.device)
        source = points.t().contiguous()
        self._forward(self._folded(parameters), source, None, out, out, 0, n, (n, 1, 1), *self._launch(n), True)
        return out

    def _forward(
        self,
        folded: torch.Tensor,
        source: torch.Tensor,
        index: torch.Tensor | None,
        states: torch.Tensor,
        out: torch.Tensor,
        first: int,
        n: int,
        counts: tuple[int, int, int],
        tile: int,
        options: dict[str, int],
        from_points: bool = False,
        save: bool = False,
    ) -> None:
        kernels = _kernels()
        net = self.net
        kernels.forward_kernel[(-(-n // tile),)](
            folded, self._after, source, source if index is None else index, states, out, first, n, *counts,
            self.matrices, net.outputs, INPUTS=net.inputs, WIDTH=self.width, RESIDUAL=net.residual,
            FROM_POINTS=from_points, DRAWN=index is not None, SAVE=save, PRECISION=self.precision, TILE=tile, **options,
        )  # fmt: skip

    def _folded(self, parameters: torch.Tensor) -> torch.Tensor:
        folded = torch.zeros(self.total, dtype=torch.float32, device=self.device)
        return folded.index_copy_(0, self._places, parameters * self._factors)

    def _launch(self, n: int) -> tuple[int, dict[str, int]]:
        """Points of a program, and warps: smaller tiles where there would be too few of them for a GPU."""
        tile, warps = _TILES[self.width]
        while self.device.type == "cuda" and tile > 32 and n < 132 * tile:
            tile //= 2
        return tile, {"num_warps": warps, "num_stages": 1}


def _kernels() -> Any:
    # Loads Triton; and type checkers do not know that a constexpr is whatever it is given as.
    return import_module("neurcomp_core.nets.triton_siren")


#: Points of a program and its warps, by width; see docs/gpu.md.
_TILES = {16: (64, 4), 32: (64, 4), 64: (32, 8), 128: (32, 8)}


def _folding(net: Siren, width: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Place of every parameter of a `Flat` in the kernels' array, its factor there, and the length of that array."""
    matrices = len(net.shapes) - 2
    inner = net.inputs * width + width
    biases = inner + matrices * width * width
    last = biases + matrices * width
    factors = [net.omega] * (matrices + 1)
    if net.residual:
        factors = [net.omega, *(f for k in range(1, net.layers) for f in (net.omega * net.halves(k)[0], net.omega))]
    places, scales = [], []
    for k, (rows, columns) in enumerate(net.shapes):
        row, column = np.indices((rows, columns + 1))
        bias = column == columns
        if k == 0:
            place = np.where(bias, net.inputs * width + row, column * width + row)
        elif k <= matrices:
            place = np.where(
                bias, biases + (k - 1) * width + row, inner + (k - 1) * width * width + row * width + column
            )
        else:
            place = np.where(bias, last + rows * width + row, last + row * width + column)
        places.append(place.reshape(-1))
        sine = k <= matrices
        scales.append(np.where(bias, net.omega if sine else 1.0, factors[k] if sine else 1.0).reshape(-1))
    length = last + net.outputs * width + net.outputs
    return np.concatenate(places), np.concatenate(scales).astype(np.float32), length
