"""A quantised sine network: its stream, and its values on a lattice. Needs no torch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurcomp_core.coding.matrices import LIMIT, decode_matrices, encode_matrices
from neurcomp_core.errors import FormatError
from neurcomp_core.field import Region
from neurcomp_core.nets import siren_kernels as kernels
from neurcomp_core.nets.siren import Siren, axis_coordinates

#: Samples that are evaluated at a time.
_PART = 1 << 18


#: first, first_bias, inner, inner_bias, after, residual, last, last_bias: see `Folded`.
Args = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, bool, np.ndarray, np.ndarray]
#: The same without `after` and `residual`.
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Folded:
    """A network as the kernels take it; see `siren_kernels`.

    Attributes
    ----------
    first, first_bias, inner, inner_bias : ndarray
        ``(width, inputs)``, ``(width,)``, ``(matrices, width, width)``, ``(matrices, width)`` float32, padded.
    after : ndarray
        w2 of each block, float32.
    residual : bool
    last, last_bias : ndarray
        ``(outputs, width)``, ``(outputs,)``.
    """

    first: np.ndarray
    first_bias: np.ndarray
    inner: np.ndarray
    inner_bias: np.ndarray
    after: np.ndarray
    residual: bool
    last: np.ndarray
    last_bias: np.ndarray

    @property
    def args(self) -> Args:
        """In the kernels' order."""
        return (self.first, self.first_bias, self.inner, self.inner_bias, self.after, self.residual, self.last,
                self.last_bias)  # fmt: skip

    @property
    def arrays(self) -> Arrays:
        """Those that training changes, in the kernels' order."""
        return (self.first, self.first_bias, self.inner, self.inner_bias, self.last, self.last_bias)


def padded(count: int) -> int:
    """`count` rounded up to what the kernels take."""
    return -(-count // kernels.PAD) * kernels.PAD


def factors(net: Siren) -> list[float]:
    """What a matrix' weights are multiplied by where it is folded; biases of sine layers take omega alone."""
    inner = [net.omega] * (net.layers - 1)
    if net.residual:
        inner = [f for block in range(1, net.layers) for f in (net.omega * net.halves(block)[0], net.omega)]
    return [net.omega, *inner, 1.0]


def fold(net: Siren, parameters: Sequence[np.ndarray]) -> Folded:
    """A network's parameters for the kernels."""
    width, inputs, outputs = padded(net.width), padded(net.inputs), padded(net.outputs)
    scale = factors(net)
    count = len(net.shapes) - 2
    found = Folded(
        np.zeros((width, inputs), np.float32),
        np.zeros(width, np.float32),
        np.zeros((count, width, width), np.float32),
        np.zeros((count, width), np.float32),
        np.array([net.halves(block)[1] for block in range(1, net.layers)], np.float32),
        net.residual,
        np.zeros((outputs, width), np.float32),
        np.zeros(outputs, np.float32),
    )
    w = net.width
    np.multiply(parameters[0], np.float32(scale[0]), out=found.first[:w, : net.inputs])
    np.multiply(parameters[1], np.float32(net.omega), out=found.first_bias[:w])
    for k in range(count):
        np.multiply(parameters[2 * k + 2], np.float32(scale[k + 1]), out=found.inner[k, :w, :w])
        np.multiply(parameters[2 * k + 3], np.float32(net.omega), out=found.inner_bias[k, :w])
    found.last[: net.outputs, :w] = parameters[-2]
    found.last_bias[: net.outputs] = parameters[-1]
    return found


def unfold(net: Siren, gradients: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Gradients with respect to `Folded.arrays`, as those with respect to a network's parameters."""
    first, first_bias, inner, inner_bias, last, last_bias = gradients
    scale = [np.float32(s) for s in factors(net)]
    w, omega = net.width, np.float32(net.omega)
    found = [first[:w, : net.inputs] * scale[0], first_bias[:w] * omega]
    for k in range(len(inner)):
        found += [inner[k, :w, :w] * scale[k + 1], inner_bias[k, :w] * omega]
    return [*found, last[: net.outputs, :w].copy(), last_bias[: net.outputs].copy()]


def points_of(net: Siren, coordinates: Sequence[np.ndarray]) -> np.ndarray:
    """Points for the kernels, ``(padded inputs, n)`` float32, of ``(n,)`` coordinates per input."""
    points = np.zeros((padded(net.inputs), len(coordinates[0])), np.float32)
    for row, values in zip(points, coordinates, strict=False):
        row[:] = values
    return points


# --------------------------------------------------------------------------------------------------------------- values


def varying(shape: Sequence[int]) -> list[int]:
    """Axes that carry a coordinate, those of more than one sample; the last if there is none."""
    return [a for a, n in enumerate(shape) if n > 1] or [len(shape) - 1]


def inputs_of(net: Siren, shape: Sequence[int]) -> list[int]:
    """Axes that are the network's inputs: those of `varying`, or all three."""
    return varying(shape) if net.inputs < 3 else [0, 1, 2]


def axes_of(shape: Sequence[int], region: Region, step: int) -> list[np.ndarray]:
    """Coordinates of every `step`-th sample of a region, along each axis."""
    return [c[r.start : r.stop : step] for c, r in zip(axis_coordinates(shape), region, strict=True)]


def evaluate(
    net: Siren, parameters: Sequence[np.ndarray], shape: Sequence[int], region: Region, step: int, threads: int
) -> np.ndarray:
    """Values at every `step`-th sample of a box of the lattice.

    Parameters
    ----------
    net : Siren
        Its inputs are the axes of `varying`, or all three.
    parameters : sequence of ndarray
    shape : sequence of 3 int
        Samples of the whole array along z, y, x.
    region : tuple of slice
    step : int
    threads : int

    Returns
    -------
    ndarray
        ``(outputs, z, y, x)`` float32.
    """
    folded = fold(net, parameters)
    inputs = inputs_of(net, shape)
    axes = axes_of(shape, region, step)
    counts = [len(a) for a in axes]
    out = np.empty((net.outputs, *counts), np.float32)
    # Parts are boxes: whole rows, then rows of a layer, then layers, as many as fit.
    sizes = [1, 1, 1]
    left = _PART
    for axis in (2, 1, 0):
        sizes[axis] = max(1, min(counts[axis], left))
        left //= sizes[axis]
    for corner in itertools.product(*(range(0, n, s) for n, s in zip(counts, sizes, strict=True))):
        part = [a[c : c + s] for a, c, s in zip(axes, corner, sizes, strict=True)]
        grid = np.meshgrid(*part, indexing="ij")
        points = points_of(net, [grid[a].reshape(-1) for a in inputs])
        values = np.empty((net.outputs, points.shape[1]), np.float32)
        kernels.values(points, *folded.args, values, threads)
        box = tuple(slice(c, c + len(p)) for c, p in zip(corner, part, strict=True))
        out[(slice(None), *box)] = values.reshape(net.outputs, *grid[0].shape)
    return out


# --------------------------------------------------------------------------------------------------------------- stream


def shapes_of(net: Siren) -> list[tuple[int, ...]]:
    """Shapes of W, b, W, b, ...; each array is a group, with a quantiser of its own."""
    return [shape for rows, columns in net.shapes for shape in ((rows, columns), (rows,))]


def quantised(parameters: Sequence[np.ndarray], steps: np.ndarray) -> list[np.ndarray]:
    """Parameters as multiples of their steps, int64."""
    # A budget may allow finer steps than the coder; the values at its end are then merely less exact.
    return [
        np.rint(p / step).clip(1 - LIMIT, LIMIT - 1).astype(np.int64) for p, step in zip(parameters, steps, strict=True)
    ]


def pack(net: Siren, parameters: Sequence[np.ndarray], steps: np.ndarray) -> bytes:
    """Stream of the parameters, each rounded to a multiple of its group's step."""
    return encode_matrices(quantised(parameters, steps))


def unpack(net: Siren, data: bytes, steps: np.ndarray) -> list[np.ndarray]:
    """Float32 parameters of a stream; raises FormatError if it is not one of this network."""
    symbols = decode_matrices(data, shapes_of(net))
    return [(q * step).astype(np.float32) for q, step in zip(symbols, steps, strict=True)]


def pack_floats(parameters: Sequence[np.ndarray]) -> bytes:
    """Parameters as they are, float32."""
    return b"".join(np.ascontiguousarray(p, "<f4").tobytes() for p in parameters)


def unpack_floats(net: Siren, data: bytes) -> list[np.ndarray]:
    """Inverse of `pack_floats`; raises FormatError if it is not of this network, or has values that are no numbers."""
    if len(data) != 4 * net.parameters:
        raise FormatError(f"siren: {len(data)} bytes of parameters, {4 * net.parameters} expected")
    flat = np.frombuffer(data, "<f4").astype(np.float32)
    if not np.isfinite(flat).all():
        raise FormatError("siren: a parameter is no finite number; the stream is damaged")
    shapes = shapes_of(net)
    ends = np.cumsum([math.prod(s) for s in shapes])
    return [part.reshape(s) for part, s in zip(np.split(flat, ends[:-1]), shapes, strict=True)]
