"""The residual sine network of a scalar field: its shape, its coordinates and its value in NumPy and torch.

Lu, Jiang, Levine, Berger: "Compressive Neural Representations of Volumetric Scalar Fields", CGF 40(3), 2021, section 4;
sine layers of Sitzmann et al., "Implicit Neural Representations with Periodic Activation Functions", NeurIPS 2020. A
sine layer, ``layers - 1`` residual blocks of two matrices, and a linear layer:

    x <- sin(omega (W x + b))
    x <- w2 (x + sin(omega (W2 sin(omega (W1 (w1 x) + b1)) + b2)))      w1 = 1/2 but in the first block,
                                                                       w2 = 1/2 in the last block, else 1
    y <- W x + b

A network without residual blocks has a sine layer of one matrix in the place of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

#: The narrowest network that the paper's rule gives.
NARROWEST = 16
#: Points that NumPy evaluates at a time.
_CHUNK = 1 << 14


@dataclass(frozen=True)
class Siren:
    """Shape of a sine network.

    Parameters are kept as a flat list ``[W, b, W, b, ...]`` in the order of `shapes`: W is ``(outputs, inputs)``.

    Attributes
    ----------
    width : int
        Neurons per layer.
    layers : int
        Sine layers of the paper's count: the first one and ``layers - 1`` residual blocks (or plain sine layers).
    inputs, outputs : int
        Coordinates of a sample, components of the field.
    omega : float
        Factor inside every sine.
    residual : bool
        Whether the inner layers are residual blocks.
    """

    width: int
    layers: int = 8
    inputs: int = 3
    outputs: int = 1
    omega: float = 30.0
    residual: bool = True

    @cached_property
    def shapes(self) -> list[tuple[int, int]]:
        """``(outputs, inputs)`` of every matrix, first to last; each has a bias of its outputs."""
        inner = (self.layers - 1) * (2 if self.residual else 1)
        return [(self.width, self.inputs), *[(self.width, self.width)] * inner, (self.outputs, self.width)]

    @cached_property
    def names(self) -> list[str]:
        """Name of every matrix: ``first``, ``block1.1``, ``block1.2``, ..., ``last`` (``layer1``, ... if plain)."""
        blocks = range(1, self.layers)
        inner = [f"block{k}.{i}" for k in blocks for i in (1, 2)] if self.residual else [f"layer{k}" for k in blocks]
        return ["first", *inner, "last"]

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum(rows * columns + rows for rows, columns in self.shapes)

    def halves(self, block: int) -> tuple[float, float]:
        """Weights w1 and w2 of residual block 1, 2, ..., ``layers - 1``."""
        return 1.0 if block == 1 else 0.5, 0.5 if block == self.layers - 1 else 1.0


def paper_width(
    count: float, layers: int = 8, inputs: int = 3, outputs: int = 1, residual: bool = True, narrowest: int = NARROWEST
) -> int:
    """Largest width of a network of at most `count` parameters, but at least `narrowest`.

    Parameters
    ----------
    count : float
        The paper's is the number of voxels over the compression ratio.
    layers, inputs, outputs, residual
        As of `Siren`.
    narrowest : int

    Examples
    --------
    >>> paper_width(91**3 / 50)
    32
    """
    width = narrowest
    while Siren(width + 1, layers, inputs, outputs, residual=residual).parameters <= count:
        width += 1
    return width


# --------------------------------------------------------------------------------------------------------- coordinates


def axis_scales(shape: Sequence[int]) -> np.ndarray:
    """Half lengths of the network's domain: an axis' extent ``n - 1`` over the largest one, ``(len(shape),)``."""
    extents = np.array(shape, np.float64) - 1
    return extents / max(float(extents.max()), 1.0)


def axis_coordinates(shape: Sequence[int]) -> list[np.ndarray]:
    """Coordinates of the samples along each axis of `shape`, float32: evenly from -scale to scale, 0 if it is one."""
    return [
        (np.linspace(-1.0, 1.0, n) * scale if n > 1 else np.zeros(1)).astype(np.float32)
        for n, scale in zip(shape, axis_scales(shape), strict=True)
    ]


def lattice_points(axes: Sequence[np.ndarray]) -> np.ndarray:
    """All points of a lattice in C order, ``(n, len(axes))`` float32; the first axis is the network's first input."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes)).astype(np.float32)


# ------------------------------------------------------------------------------------------------------------- forward


def forward(net: Siren, parameters: Sequence[np.ndarray], points: np.ndarray) -> np.ndarray:
    """Network values in plain NumPy, in the type of `points`.

    Parameters
    ----------
    net : Siren
    parameters : sequence of ndarray
        W, b, W, b, ... in the order of ``net.shapes``.
    points : ndarray
        ``(n, inputs)``.

    Returns
    -------
    ndarray
        ``(n, outputs)``.
    """
    omega = points.dtype.type(net.omega)
    typed = [p.astype(points.dtype, copy=False) for p in parameters]
    out = np.empty((len(points), net.outputs), points.dtype)

    def sine(x: np.ndarray, matrix: int) -> np.ndarray:
        x = x @ typed[2 * matrix].T
        x += typed[2 * matrix + 1]
        x *= omega
        return np.sin(x, out=x)

    for first in range(0, len(points), _CHUNK):
        x = sine(points[first : first + _CHUNK], 0)
        for block in range(1, net.layers):
            if not net.residual:
                x = sine(x, block)
                continue
            before, after = net.halves(block)
            x = x + sine(sine(x * points.dtype.type(before), 2 * block - 1), 2 * block)
            x *= points.dtype.type(after)
        out[first : first + _CHUNK] = x @ typed[-2].T + typed[-1]
    return out


def values_and_slopes(net: Siren, parameters: Sequence[Any], points: Any, xp: Any) -> tuple[Any, Any]:
    """Network values and their exact derivatives with respect to the coordinates, layer by layer.

    Parameters
    ----------
    net : Siren
    parameters : sequence of array
    points : array
        ``(n, inputs)``, of NumPy or torch as `parameters`, and in their type.
    xp : module
        ``numpy`` or ``torch``.

    Returns
    -------
    values : array
        ``(n, outputs)``.
    slopes : array
        ``(n, outputs, inputs)``.
    """
    omega = net.omega

    def sine(x: Any, slope: Any, matrix: int) -> tuple[Any, Any]:
        weight, bias = parameters[2 * matrix], parameters[2 * matrix + 1]
        phase = omega * (x @ weight.T + bias)
        return xp.sin(phase), omega * xp.cos(phase)[:, None, :] * (slope @ weight.T)

    # A slope is kept as a row per coordinate, ``(n or 1, inputs, width)``.
    x, slope = sine(points, xp.eye(net.inputs, dtype=points.dtype, **_where(points))[None], 0)
    for block in range(1, net.layers):
        if not net.residual:
            x, slope = sine(x, slope, block)
            continue
        before, after = net.halves(block)
        inner = sine(before * x, before * slope, 2 * block - 1)
        y, turned = sine(*inner, 2 * block)
        x, slope = after * (x + y), after * (slope + turned)
    values = x @ parameters[-2].T + parameters[-1]
    return values, (slope @ parameters[-2].T).swapaxes(1, 2)


def _where(points: Any) -> dict[str, Any]:
    """What puts a new array beside these points: a tensor has a device that matters, an array has not."""
    return {} if isinstance(points, np.ndarray) else {"device": points.device}


def forward_torch(net: Siren, parameters: Sequence[torch.Tensor], points: torch.Tensor) -> torch.Tensor:
    """`forward` in torch, on any device and differentiable: ``(n, inputs)`` to ``(n, outputs)``."""
    import torch

    linear, omega = torch.nn.functional.linear, net.omega

    def sine(x: torch.Tensor, matrix: int) -> torch.Tensor:
        return torch.sin(omega * linear(x, parameters[2 * matrix], parameters[2 * matrix + 1]))

    x = sine(points, 0)
    for block in range(1, net.layers):
        if not net.residual:
            x = sine(x, block)
            continue
        before, after = net.halves(block)
        x = after * (x + sine(sine(before * x, 2 * block - 1), 2 * block))
    return linear(x, parameters[-2], parameters[-1])
