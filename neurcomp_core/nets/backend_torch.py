"""Backend ``torch``: plain torch on any device, which the other backends are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from neurcomp_core.nets import network as nn
from neurcomp_core.nets.backends import Backend
from neurcomp_core.nets.grid import GridLayout

if TYPE_CHECKING:
    from neurcomp_core.nets.decoder import Decoder
    from neurcomp_core.nets.model import Network


class TorchBackend(Backend):
    """`nets.network.encode_reference` and `mlp_reference`."""

    name: ClassVar[str] = "torch"

    @classmethod
    def obstacle(cls, device: str) -> str:
        """See `Backend.obstacle`."""
        return ""

    def encode(self, points: torch.Tensor, table: torch.Tensor, layout: GridLayout, cube: int = 1) -> torch.Tensor:
        """See `Backend.encode`."""
        return nn.encode_reference(points, table, layout)

    def mlp(self, x: torch.Tensor, weights: tuple[torch.Tensor, ...], precision: str = "float32") -> torch.Tensor:
        """See `Backend.mlp`."""
        return nn.mlp_reference(x, weights)

    def decoder(self, network: Network, parameters: Sequence[np.ndarray]) -> Decoder:
        """See `Backend.decoder`."""
        from neurcomp_core.nets.torch_decode import TorchDecoder

        return TorchDecoder(network, parameters, self.device)
