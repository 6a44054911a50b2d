"""Decoding of hash-grid networks in plain torch, on any device, part by part in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from neurcomp_core.field import Region
from neurcomp_core.nets.copying import Copier, page_locked
from neurcomp_core.nets.decoder import Decoder
from neurcomp_core.nets.grid import PRIME_Y, PRIME_Z, smoothstep
from neurcomp_core.nets.memory import Shrinking, free_bytes
from neurcomp_core.nets.model import Network

#: Samples that are computed at a time on the CPU, and at most on a GPU (one part is copied while another is computed),
#: and the fewest that are tried.
_ON_CPU, _MOST, _LEAST = 1 << 16, 1 << 22, 1 << 12

#: Lower vertices ``(levels, n)`` int32 and weights of the upper ones ``(levels, n)`` float32, per network axis.
Cells = list[tuple[torch.Tensor, torch.Tensor]]


class TorchDecoder(Decoder):
    """The reference of the decoders on devices; `nets.triton_decode` replaces what computes one part.

    Parameters
    ----------
    network : Network
    parameters : sequence of ndarray
        Float32, in the shapes of ``network.shapes``.
    device : str
        ``cpu`` or ``cuda``.
    """

    def __init__(self, network: Network, parameters: Sequence[np.ndarray], device: str) -> None:
        super().__init__(network)
        self.device = torch.device(device)
        self.parameters = [torch.from_numpy(np.ascontiguousarray(p)).to(self.device) for p in parameters]
        free = free_bytes(self.device)
        # Three parts are there at a time: one that is computed, one that is copied, one that waits.
        size = _ON_CPU if free is None else min(max(free // (3 * self._sample_bytes()), _LEAST), _MOST)
        #: How many samples are computed at a time; at first as many as the free memory holds.
        self.parts = Shrinking(size, _LEAST, "samples at a time", self._told)

    def _sample_bytes(self) -> int:
        """Device memory that a sample takes while it is computed."""
        network = self.network
        layout = network.layout
        # Cells, a corner's indices and weights, features as they are joined, two layers, results.
        return 4 * (8 * layout.levels + 16 + 2 * layout.width + 2 * network.width + 2 * network.outputs)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """See `Decoder.empty`."""
        return page_locked(shape, dtype) if self.device.type == "cuda" else super().empty(shape, dtype)

    # ......................................................................................................... lattice

    @torch.no_grad()
    def _fill(self, region: Region, step: int, out: np.ndarray, scale: float, centre: float) -> None:
        rows = out.reshape(-1, self.network.outputs)
        counts = [out.shape[axis] for axis in self.network.lattice.axes]
        cells = self._cells(region, step)
        # What is stored in float32 is finished on the device.
        on_device = out.dtype == np.float32
        factors = (float(np.float32(scale)), float(np.float32(centre))) if on_device else (1.0, 0.0)

        def store(target: np.ndarray, values: np.ndarray) -> None:
            target[...] = values
            if not on_device:
                target *= scale
                target += centre

        copier = Copier(self.device)
        first = 0
        while first < len(rows):

            def part(most: int, at: int = first) -> torch.Tensor:
                return self._lattice_part(cells, counts, at, min(most, len(rows) - at), factors)

            with _exact_products():
                values = self.parts.run(part)
            copier.put(values, rows[first : first + len(values)], store)
            first += len(values)
        copier.finish()

    def _cells(self, region: Region, step: int) -> Cells:
        """Of the samples along each axis of a lattice."""
        found = self.network.lattice.axis_cells(self.network.layout, region, step)[: self.network.layout.dims]
        return [(torch.from_numpy(low).to(self.device), torch.from_numpy(w).to(self.device)) for low, w in found]

    def _lattice_part(
        self, cells: Cells, counts: list[int], first: int, size: int, factors: tuple[float, float]
    ) -> torch.Tensor:
        """Samples ``[first, first + size)`` of a lattice of `counts` along the network's axes, ``(size, outputs)``;
        multiplied by the one factor, to which the other is added.
        """
        rest = torch.arange(first, first + size, device=self.device)
        own: Cells = []
        for (lower, weight), count in zip(cells, counts, strict=True):
            at = rest % count
            rest = rest // count
            own.append((lower[:, at], weight[:, at]))
        values = self._perceptron([self._features(own)])[0]
        return values.mul_(factors[0]).add_(factors[1])

    # .......................................................................................................... points

    def _values(self, points: np.ndarray) -> np.ndarray:
        found = self._by_parts(points, lambda part: self._point_part(part, slopes=False))
        return found[0]

    def _gradients(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, slopes = self._by_parts(points, lambda part: self._point_part(part, slopes=True))
        return values, slopes

    @torch.no_grad()
    def _by_parts(
        self, points: np.ndarray, work: Callable[[torch.Tensor], tuple[torch.Tensor, ...]]
    ) -> tuple[np.ndarray, ...]:
        n, outputs, dims = len(points), self.network.outputs, self.network.layout.dims
        found = (np.empty((n, outputs), np.float32), np.empty((n, outputs, dims), np.float32))
        first = 0
        while first < n:

            def part(most: int, at: int = first) -> tuple[torch.Tensor, ...]:
                return work(torch.from_numpy(points[at : at + most]).to(self.device))

            with _exact_products():
                values = self.parts.run(part)
            for target, value in zip(found, values, strict=False):
                target[first : first + len(value)] = value.cpu().numpy()
            first += len(values[0])
        return found

    def _point_part(self, points: torch.Tensor, slopes: bool) -> tuple[torch.Tensor, ...]:
        """Outputs ``(n, outputs)`` at ``(n, 3)`` float64 points; with `slopes`, their derivatives as well."""
        layout = self.network.layout
        scales = torch.from_numpy(layout.scales).to(self.device)[:, None]
        cells: Cells = []
        growth = []
        for axis in range(layout.dims):
            position = points[None, :, axis] * scales + 0.5
            lower = position.floor()
            weight = (position - lower).float()
            growth.append((6 * weight * (1 - weight) if layout.smooth else torch.ones_like(weight)) * scales.float())
            cells.append((lower.int(), smoothstep(weight) if layout.smooth else weight))
        states = [self._features(cells)]
        if slopes:
            for axis in range(layout.dims):
                states.append(self._features(cells, axis) * growth[axis].repeat_interleave(layout.features, dim=0))
        values, *tangents = self._perceptron(states)
        return (values, torch.stack(tangents, dim=-1)) if slopes else (values,)

    # ......................................................................................................... network

    def _features(self, cells: Cells, along: int | None = None) -> torch.Tensor:
        """Features ``(levels * features, n)``; `along` an axis, what upper vertices' are above the lower ones'."""
        layout, table = self.network.layout, self.parameters[0]
        found = []
        for level in range(layout.levels):
            size, first, resolution = (int(v[level]) for v in (layout.sizes, layout.firsts, layout.resolutions))
            total = torch.zeros((), device=self.device)
            for corner in range(1 << layout.dims):
                bits = [corner >> axis & 1 for axis in range(layout.dims)]
                vertex = [lower[level].long() + bit for (lower, _), bit in zip(cells, bits, strict=True)]
                index = vertex[0]
                if layout.dense[level]:
                    for axis in range(1, layout.dims):
                        index = index + vertex[axis] * resolution**axis
                    index = index % size
                else:
                    for v, prime in zip(vertex[1:], (PRIME_Y, PRIME_Z), strict=False):
                        index = index ^ (v * prime)
                    index = index & (size - 1)
                share = torch.ones_like(cells[0][1][level])
                for axis, bit in enumerate(bits):
                    upper = cells[axis][1][level]
                    if axis == along:
                        share = share if bit else -share
                    else:
                        share = share * (upper if bit else 1 - upper)
                total = total + share[:, None] * table[first + index]
            found.append(total)
        return torch.cat(found, dim=1).t()

    def _perceptron(self, states: list[torch.Tensor]) -> list[torch.Tensor]:
        """Outputs ``(n, outputs)`` of features ``(inputs, n)``, and of the tangents that follow them."""
        w_in, w_hidden, w_out = self.parameters[1:]
        for w in (w_in, *w_hidden):
            value, *tangents = (w @ s for s in states)
            states = [torch.relu(value)] + [t * (value > 0) for t in tangents]
        return [(w_out @ s).t().contiguous() for s in states]


@contextmanager
def _exact_products() -> Iterator[None]:
    """Products in float32, whatever the user allows elsewhere: shorter ones would leave the margin of decoders."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
