"""What computes networks: the backends by name, what each must do, and which one runs where.

One file per backend, ``backend_*.py``; this module loads none of them, nor torch, until it is asked to. Backends differ
by rounding only, within the tolerances of docs/gpu.md; nothing in a stream says which one made it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from neurcomp_core.errors import InputError

if TYPE_CHECKING:
    import torch

    from neurcomp_core.field import Region
    from neurcomp_core.nets.decoder import Decoder
    from neurcomp_core.nets.grid import GridLayout
    from neurcomp_core.nets.model import Network

#: What a user may ask for.
NAMES = ("auto", "triton", "tinycudann", "torch", "numba")
_CLASSES = {
    "triton": "TritonBackend",
    "tinycudann": "TinycudannBackend",
    "torch": "TorchBackend",
    "numba": "NumbaBackend",
}


class Backend(ABC):
    """What a hash-grid network is trained and decoded with."""

    #: As the user types it.
    name: ClassVar[str]

    def __init__(self, device: str = "cpu") -> None:
        #: ``cpu`` or ``cuda``.
        self.device = device

    @classmethod
    @abstractmethod
    def obstacle(cls, device: str) -> str:
        """Why it cannot run on ``cpu`` or ``cuda`` here, and what to do, as the end of a sentence; empty if it can."""

    @abstractmethod
    def encode(self, points: torch.Tensor, table: torch.Tensor, layout: GridLayout, cube: int = 1) -> torch.Tensor:
        """Multi-resolution hash encoding, differentiable with respect to the table.

        Parameters
        ----------
        points : Tensor
            ``(n, 3)`` float32 in [0, 1]; axes beyond ``layout.dims`` must be 0.
        table : Tensor
            ``(entries, features)`` float32.
        layout : GridLayout
        cube : int
            Points come as cubes of ``cube**dims`` neighbours on a lattice, as `fit.sampling.BlockSampler` draws them,
            the first network axis fastest; 1 if nothing is known of them. Only a hint: results do not depend on it.

        Returns
        -------
        Tensor
            ``(levels * features, n)`` float32, feature-major.
        """

    @abstractmethod
    def mlp(self, x: torch.Tensor, weights: tuple[torch.Tensor, ...], precision: str = "float32") -> torch.Tensor:
        """ReLU perceptron without biases, differentiable: ``(inputs, n)`` to ``(outputs, n)`` float32.

        Parameters
        ----------
        x : Tensor
        weights : tuple of Tensor
            ``(width, inputs)``, ``(hidden - 1, width, width)``, ``(outputs, width)`` float32.
        precision : str
            One of `PRECISIONS` that products may be computed in; sums are float32. A backend may be more precise.
        """

    @abstractmethod
    def decoder(self, network: Network, parameters: Sequence[np.ndarray]) -> Decoder:
        """A network ready to be asked for its values; see `nets.decoder.Decoder`.

        Parameters
        ----------
        network : Network
        parameters : sequence of ndarray
            Float32 in the shapes of ``network.shapes``.

        Raises
        ------
        InputError
            If it does not compute exactly enough for files.
        """

    def evaluate(self, network: Network, parameters: Sequence[np.ndarray], region: Region, step: int) -> np.ndarray:
        """Decode: outputs ``(outputs, z, y, x)`` float32 at every `step`-th sample of a region of the lattice."""
        return np.moveaxis(self.decoder(network, parameters).lattice(region, step), 3, 0)


#: Backends that compute products in less than float32.
_HALF = ("triton", "tinycudann")
#: What products of perceptrons may be computed in.
PRECISIONS = ("float32", "tf32", "float16")


def precision_of(name: str, backend: Backend) -> str:
    """What products are computed in in training: ``auto`` is float16 with Triton or tiny-cuda-nn on CUDA, else float32.

    Raises
    ------
    InputError
        If the backend has no such products.
    """
    if name == "auto":
        return "float16" if backend.name in _HALF and backend.device == "cuda" else "float32"
    if name != "float32" and backend.name not in _HALF:
        raise InputError(f"precision: {name} needs --backend triton, got {backend.name}; use float32 or auto")
    return name


def checked_name(name: str) -> None:
    """Raise InputError unless `name` is one of `NAMES`."""
    if name not in NAMES:
        raise InputError(f"backend: expected one of {', '.join(NAMES)}, got '{name}'")


def backend_class(name: str) -> type[Backend]:
    """The class of a backend, which may not be able to run here."""
    return getattr(import_module(f"neurcomp_core.nets.backend_{name}"), _CLASSES[name])


def chosen(name: str, device: torch.device | str) -> Backend:
    """The backend that a name stands for on a device.

    ``auto`` is numba on the CPU; on CUDA it is triton, or torch where triton is not installed. Any other is the one
    that is named, or an error.

    Raises
    ------
    InputError
        If there is no such backend or it cannot run on `device`.
    """
    checked_name(name)
    kind = device if isinstance(device, str) else device.type
    if name == "auto":
        name = "numba" if kind == "cpu" else "torch" if backend_class("triton").obstacle(kind) else "triton"
    found = backend_class(name)
    if obstacle := found.obstacle(kind):
        raise InputError(f"backend {name}: {obstacle}")
    return found(kind)
