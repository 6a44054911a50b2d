"""Backend ``triton``: fused kernels for CUDA, which Triton compiles on their first use."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from neurcomp_core.nets.backends import Backend
from neurcomp_core.nets.grid import GridLayout

if TYPE_CHECKING:
    from neurcomp_core.nets.decoder import Decoder
    from neurcomp_core.nets.model import Network


class TritonBackend(Backend):
    """`nets.triton_encode`, `nets.triton_mlp` and `nets.triton_decode`."""

    name: ClassVar[str] = "triton"

    @classmethod
    def obstacle(cls, device: str) -> str:
        """See `Backend.obstacle`; on the CPU it runs under Triton's interpreter alone, which is for tests."""
        if find_spec("triton") is None:
            return "the package triton is not installed; install neurcomp[gpu] or choose another --backend"
        if device == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
            return "its kernels run on a CUDA device; use --device cuda or another --backend"
        return ""

    def encode(self, points: torch.Tensor, table: torch.Tensor, layout: GridLayout, cube: int = 1) -> torch.Tensor:
        """See `Backend.encode`."""
        from neurcomp_core.nets import triton_encode

        return triton_encode.encode(points, table, layout, cube)

    def mlp(self, x: torch.Tensor, weights: tuple[torch.Tensor, ...], precision: str = "float32") -> torch.Tensor:
        """See `Backend.mlp`."""
        from neurcomp_core.nets import triton_mlp

        return triton_mlp.mlp(x, weights, precision)

    def decoder(self, network: Network, parameters: Sequence[np.ndarray]) -> Decoder:
        """See `Backend.decoder`."""
        from neurcomp_core.nets.triton_decode import TritonDecoder

        return TritonDecoder(network, parameters, self.device)
