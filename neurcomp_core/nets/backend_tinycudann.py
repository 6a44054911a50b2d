"""Backend ``tinycudann``: tiny-cuda-nn where the user has compiled it.

It trains; it does not decode. Its perceptrons compute in half precision and its positions in single, so its values miss
those of other decoders by more than files allow (FORMAT.md, "What decoders may differ by").
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from neurcomp_core.errors import InputError
from neurcomp_core.nets import network as nn
from neurcomp_core.nets import tinycudann
from neurcomp_core.nets.backends import Backend
from neurcomp_core.nets.grid import GridLayout

if TYPE_CHECKING:
    from neurcomp_core.nets.decoder import Decoder
    from neurcomp_core.nets.model import Network

_INSTALL = (
    "the package tinycudann is not installed: with torch and a CUDA compiler, TCNN_CUDA_ARCHITECTURES=90 (that of the "
    "GPU) pip install --no-build-isolation 'git+https://github.com/NVlabs/tiny-cuda-nn/#subdirectory=bindings/torch', "
    "or choose --backend triton"
)


class TinycudannBackend(Backend):
    """Müller's tiny-cuda-nn, whose conventions `nets.grid` shares."""

    name: ClassVar[str] = "tinycudann"

    @classmethod
    def obstacle(cls, device: str) -> str:
        """See `Backend.obstacle`."""
        if find_spec("tinycudann") is None:
            return _INSTALL
        return "" if device == "cuda" else "it runs on a CUDA device; use --device cuda or another --backend"

    def encode(self, points: torch.Tensor, table: torch.Tensor, layout: GridLayout, cube: int = 1) -> torch.Tensor:
        """See `Backend.encode`; in float32."""
        grid = _grid(layout)
        return _applied(grid, points[:, : layout.dims].contiguous(), table.reshape(-1)).t().float()

    def mlp(self, x: torch.Tensor, weights: tuple[torch.Tensor, ...], precision: str = "float32") -> torch.Tensor:
        """See `Backend.mlp`; plain torch where less than float32 is not allowed, for its own perceptrons are half."""
        if precision != "float16":
            return nn.mlp_reference(x, weights)
        first, inner, last = weights
        perceptron = _perceptron(first.shape[1], len(first), len(inner) + 1, len(last))
        flat = [_whole(w).reshape(-1) for w in (first, *inner, last)]
        return _applied(perceptron, x.t().contiguous(), torch.cat(flat)).t().float()

    def decoder(self, network: Network, parameters: Sequence[np.ndarray]) -> Decoder:
        """See `Backend.decoder`; always an error."""
        raise InputError(
            "backend tinycudann: it trains but does not decode, for its half precision is less than files promise; use "
            "--backend triton or torch"
        )


def _whole(matrix: torch.Tensor) -> torch.Tensor:
    """A matrix padded with zeros as tiny-cuda-nn has it."""
    rows, columns = matrix.shape
    return torch.nn.functional.pad(matrix, (0, tinycudann.padded(columns) - columns, 0, tinycudann.padded(rows) - rows))


def _applied(module: Any, x: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """A module's output ``(n, outputs)`` with parameters of ours in place of its own; gradients go to these."""
    return torch.func.functional_call(module, {"params": parameters}, (x,))


@lru_cache(maxsize=4)
def _grid(layout: GridLayout) -> Any:
    config = tinycudann.encoding_config(layout)
    grid = import_module("tinycudann").Encoding(layout.dims, config, dtype=torch.float32)
    return _checked(grid, layout.entries * layout.features, config)


@lru_cache(maxsize=4)
def _perceptron(inputs: int, width: int, hidden: int, outputs: int) -> Any:
    config = tinycudann.network_config(width, hidden)
    rows, columns, last = (tinycudann.padded(n) for n in (width, inputs, outputs))
    count = rows * columns + (hidden - 1) * rows * rows + last * rows
    return _checked(import_module("tinycudann").Network(inputs, outputs, config), count, config)


def _checked(module: Any, count: int, config: dict[str, Any]) -> Any:
    if module.params.numel() != count:
        raise InputError(
            f"backend tinycudann: this version makes {module.params.numel():,} parameters of {config}, expected "
            f"{count:,}; use --backend triton or torch"
        )
    return module
