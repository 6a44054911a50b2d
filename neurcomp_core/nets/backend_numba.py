"""Backend ``numba``: compiled CPU kernels. Decoding with it needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from neurcomp_core.nets.backends import Backend
from neurcomp_core.nets.grid import GridLayout

if TYPE_CHECKING:
    import torch

    from neurcomp_core.nets.decoder import Decoder
    from neurcomp_core.nets.model import Network


class NumbaBackend(Backend):
    """`nets.kernels`; the reference that files are measured with."""

    name: ClassVar[str] = "numba"

    @classmethod
    def obstacle(cls, device: str) -> str:
        """See `Backend.obstacle`."""
        return "" if device == "cpu" else "it computes on the CPU alone; use --device cpu or another --backend"

    def encode(self, points: torch.Tensor, table: torch.Tensor, layout: GridLayout, cube: int = 1) -> torch.Tensor:
        """See `Backend.encode`."""
        from neurcomp_core.nets import network

        return network.encode(points, table, layout)

    def mlp(self, x: torch.Tensor, weights: tuple[torch.Tensor, ...], precision: str = "float32") -> torch.Tensor:
        """See `Backend.mlp`."""
        from neurcomp_core.nets import network

        return network.mlp(x, weights)

    def decoder(self, network: Network, parameters: Sequence[np.ndarray]) -> Decoder:
        """See `Backend.decoder`."""
        from neurcomp_core.nets.numba_decode import NumbaDecoder

        return NumbaDecoder(network, parameters)
