"""Decoding of hash-grid networks by fused Triton kernels: one pass from table to values, nothing in between is stored.

A program computes `BLOCK` samples. Levels are the rows of its tiles and samples the columns, so that neighbouring
threads gather for neighbouring samples, whose vertices are neighbours in dense levels and, since the hash leaves x
alone, in hashed ones. A level's features go into the first layer as matrix products, one per feature; the layers
follow in registers. Positions are float64 (on a lattice the host computes them, once per axis); a product is
the sum of three tf32 ones, which tensor cores compute and which misses float32's by some two bits; one would not do.
"""

# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportIndexIssue=false, reportCallIssue=false, reportOperatorIssue=false
# Inside kernels, names are Triton's: constants and tensors that only its compiler knows.

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import triton
import triton.language as tl

from neurcomp_core.nets.grid import PRIME_Y, PRIME_Z
from neurcomp_core.nets.model import Network
from neurcomp_core.nets.torch_decode import Cells, TorchDecoder

#: Most neurons of a layer that a kernel takes.
_WIDEST = 128
_PRIME_Y, _PRIME_Z = tl.constexpr(PRIME_Y), tl.constexpr(PRIME_Z)


@triton.jit
def _entry(x, y, z, resolution, size, dense, DIMS: tl.constexpr):
    """Entry of a vertex within its level; all uint32."""
    flat = x
    hashed = x
    if DIMS > 1:
        flat += resolution * y
        hashed ^= y * _PRIME_Y
    if DIMS > 2:
        flat += resolution * resolution * z
        hashed ^= z * _PRIME_Z
    flat = tl.where(flat >= size, flat - size, flat)
    return tl.where(dense, flat, hashed & (size - 1))


@triton.jit
def _gathered(table, entry, item, mask, F: tl.constexpr, PAIRS: tl.constexpr):
    """Feature `item` of entries; with `PAIRS`, features ``2 * item`` and ``2 * item + 1``, in one load each."""
    if PAIRS:
        bits = tl.load(table + entry * (F // 2) + item, mask=mask, other=0)
        low = bits.to(tl.int32).to(tl.float32, bitcast=True)
        high = (bits >> 32).to(tl.int32).to(tl.float32, bitcast=True)
    else:
        low = tl.load(table + entry * F + item, mask=mask, other=0.0)
        high = low
    return low, high


@triton.jit
def _matrix(weights, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """A row-major matrix of powers of two."""
    return tl.load(weights + tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :])


@triton.jit(do_not_specialize=["first", "count", "nz"])
def _lattice(
    table, x_lower, x_weight, y_lower, y_weight, z_lower, z_weight, resolutions, sizes, firsts, dense,
    w_in, w_hidden, w_out, out, first, count, nx, ny, nz, outputs, scale, centre, levels,
    F: tl.constexpr, PAIRS: tl.constexpr, DIMS: tl.constexpr, LEVELS: tl.constexpr, WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr, PRECISION: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Samples of a lattice of `nx` by `ny` by `nz`, `count` of them, the first of them `first`."""
    item = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = item < count
    at = first + item
    level = tl.arange(0, LEVELS)
    known = level < levels
    resolution = tl.load(resolutions + level, mask=known, other=1).to(tl.uint32)[:, None]
    size = tl.load(sizes + level, mask=known, other=1).to(tl.uint32)[:, None]
    start = tl.load(firsts + level, mask=known, other=0)[:, None]
    flat = tl.load(dense + level, mask=known, other=1)[:, None] != 0
    mask = known[:, None] & real[None, :]
    i = at % nx
    x = tl.load(x_lower + level[:, None] * nx + i[None, :], mask=mask, other=0).to(tl.uint32)
    u = tl.load(x_weight + level[:, None] * nx + i[None, :], mask=mask, other=0.0)
    # What a missing axis has: vertex 0, and no upper one.
    y, z = x * 0, x * 0
    v, w = u * 0, u * 0
    if DIMS > 1:
        j = (at // nx) % ny
        y = tl.load(y_lower + level[:, None] * ny + j[None, :], mask=mask, other=0).to(tl.uint32)
        v = tl.load(y_weight + level[:, None] * ny + j[None, :], mask=mask, other=0.0)
    if DIMS > 2:
        k = at // (nx * ny)
        z = tl.load(z_lower + level[:, None] * nz + k[None, :], mask=mask, other=0).to(tl.uint32)
        w = tl.load(z_weight + level[:, None] * nz + k[None, :], mask=mask, other=0.0)
    h = tl.zeros((WIDTH, BLOCK), tl.float32)
    for part in tl.static_range(F // 2 if PAIRS else F):
        even = tl.zeros((LEVELS, BLOCK), tl.float32)
        odd = tl.zeros((LEVELS, BLOCK), tl.float32)
        for corner in tl.static_range(1 << DIMS):
            entry = _entry(x + (corner & 1), y + (corner >> 1 & 1), z + (corner >> 2), resolution, size, flat, DIMS)
            low, high = _gathered(table, start + entry.to(tl.int64), part, mask, F, PAIRS)
            share = u if corner & 1 else 1 - u
            if DIMS > 1:
                share *= v if corner >> 1 & 1 else 1 - v
            if DIMS > 2:
                share *= w if corner >> 2 else 1 - w
            even += share * low
            odd += share * high
        if PAIRS:
            h += tl.dot(_matrix(w_in + 2 * part * WIDTH * LEVELS, WIDTH, LEVELS), even, input_precision=PRECISION)
            h += tl.dot(_matrix(w_in + (2 * part + 1) * WIDTH * LEVELS, WIDTH, LEVELS), odd, input_precision=PRECISION)
        else:
            h += tl.dot(_matrix(w_in + part * WIDTH * LEVELS, WIDTH, LEVELS), even, input_precision=PRECISION)
    h = tl.maximum(h, 0.0)
    for layer in range(HIDDEN - 1):
        h = tl.dot(_matrix(w_hidden + layer * WIDTH * WIDTH, WIDTH, WIDTH), h, input_precision=PRECISION)
        h = tl.maximum(h, 0.0)
    neuron = tl.arange(0, WIDTH)
    for c in range(outputs):
        value = tl.sum(tl.load(w_out + c * WIDTH + neuron)[:, None] * h, axis=0)
        tl.store(out + item.to(tl.int64) * outputs + c, value * scale + centre, mask=real)


@triton.jit
def _position(points, axis: tl.constexpr, item, real, scales, SMOOTH: tl.constexpr):
    """Lower vertices along an axis, weights of the upper ones, and what these grow by along the axis."""
    position = tl.load(points + item.to(tl.int64) * 3 + axis, mask=real, other=0.0)[None, :] * scales[:, None] + 0.5
    lower = tl.floor(position)
    weight = (position - lower).to(tl.float32)
    slope = scales.to(tl.float32)[:, None] + weight * 0
    if SMOOTH:
        slope = 6 * weight * (1 - weight) * slope
        weight = weight * weight * (3 - 2 * weight)
    return lower.to(tl.int32).to(tl.uint32), weight, slope


@triton.jit(do_not_specialize=["count"])
def _at_points(
    table, points, scales, resolutions, sizes, firsts, dense, w_in, w_hidden, w_out, out, slopes, count, outputs,
    levels, F: tl.constexpr, DIMS: tl.constexpr, SMOOTH: tl.constexpr, SLOPES: tl.constexpr, LEVELS: tl.constexpr,
    WIDTH: tl.constexpr, HIDDEN: tl.constexpr, PRECISION: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Values, and with `SLOPES` derivatives carried forward beside them, at `points` ``(count, 3)`` float64."""
    item = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    real = item < count
    level = tl.arange(0, LEVELS)
    known = level < levels
    resolution = tl.load(resolutions + level, mask=known, other=1).to(tl.uint32)[:, None]
    size = tl.load(sizes + level, mask=known, other=1).to(tl.uint32)[:, None]
    start = tl.load(firsts + level, mask=known, other=0)[:, None]
    flat = tl.load(dense + level, mask=known, other=1)[:, None] != 0
    scale = tl.load(scales + level, mask=known, other=1.0)
    mask = known[:, None] & real[None, :]
    x, u, du = _position(points, 0, item, real, scale, SMOOTH)
    y, v, dv = x * 0, u * 0, du * 0
    z, w, dw = x * 0, u * 0, du * 0
    if DIMS > 1:
        y, v, dv = _position(points, 1, item, real, scale, SMOOTH)
    if DIMS > 2:
        z, w, dw = _position(points, 2, item, real, scale, SMOOTH)
    h = tl.zeros((WIDTH, BLOCK), tl.float32)
    hx = tl.zeros((WIDTH, BLOCK), tl.float32)
    hy = tl.zeros((WIDTH, BLOCK), tl.float32)
    hz = tl.zeros((WIDTH, BLOCK), tl.float32)
    for part in tl.static_range(F):
        e = tl.zeros((LEVELS, BLOCK), tl.float32)
        ex = tl.zeros((LEVELS, BLOCK), tl.float32)
        ey = tl.zeros((LEVELS, BLOCK), tl.float32)
        ez = tl.zeros((LEVELS, BLOCK), tl.float32)
        for corner in tl.static_range(1 << DIMS):
            entry = _entry(x + (corner & 1), y + (corner >> 1 & 1), z + (corner >> 2), resolution, size, flat, DIMS)
            value = tl.load(table + (start + entry.to(tl.int64)) * F + part, mask=mask, other=0.0)
            a = u if corner & 1 else 1 - u
            b = v if corner >> 1 & 1 else 1 - v
            c = w if corner >> 2 else 1 - w
            e += a * b * c * value
            if SLOPES:
                ex += (value if corner & 1 else -value) * b * c
                if DIMS > 1:
                    ey += (value if corner >> 1 & 1 else -value) * a * c
                if DIMS > 2:
                    ez += (value if corner >> 2 else -value) * a * b
        columns = _matrix(w_in + part * WIDTH * LEVELS, WIDTH, LEVELS)
        h += tl.dot(columns, e, input_precision=PRECISION)
        if SLOPES:
            hx += tl.dot(columns, ex * du, input_precision=PRECISION)
            if DIMS > 1:
                hy += tl.dot(columns, ey * dv, input_precision=PRECISION)
            if DIMS > 2:
                hz += tl.dot(columns, ez * dw, input_precision=PRECISION)
    for layer in range(HIDDEN):
        awake = h > 0
        h = tl.where(awake, h, 0.0)
        hx = tl.where(awake, hx, 0.0)
        hy = tl.where(awake, hy, 0.0)
        hz = tl.where(awake, hz, 0.0)
        if layer < HIDDEN - 1:
            matrix = _matrix(w_hidden + layer * WIDTH * WIDTH, WIDTH, WIDTH)
            h = tl.dot(matrix, h, input_precision=PRECISION)
            if SLOPES:
                hx = tl.dot(matrix, hx, input_precision=PRECISION)
                if DIMS > 1:
                    hy = tl.dot(matrix, hy, input_precision=PRECISION)
                if DIMS > 2:
                    hz = tl.dot(matrix, hz, input_precision=PRECISION)
    neuron = tl.arange(0, WIDTH)
    row = item.to(tl.int64) * outputs
    for c in range(outputs):
        last = tl.load(w_out + c * WIDTH + neuron)[:, None]
        tl.store(out + row + c, tl.sum(last * h, axis=0), mask=real)
        if SLOPES:
            tl.store(slopes + (row + c) * DIMS, tl.sum(last * hx, axis=0), mask=real)
            if DIMS > 1:
                tl.store(slopes + (row + c) * DIMS + 1, tl.sum(last * hy, axis=0), mask=real)
            if DIMS > 2:
                tl.store(slopes + (row + c) * DIMS + 2, tl.sum(last * hz, axis=0), mask=real)


class TritonDecoder(TorchDecoder):
    """See `torch_decode.TorchDecoder`, which takes layers of more than 128 neurons: matrices that large do not fit into
    a multiprocessor's shared memory, and the libraries' own products are as fast then.

    Attributes
    ----------
    precision : str
        Of products, as `triton.language.dot` takes it: ``tf32x3`` or ``ieee``.
    tile : int
        Elements of a layer's activations that a program holds.
    """

    precision = "tf32x3"
    tile = 4096

    def __init__(self, network: Network, parameters: Sequence[np.ndarray], device: str) -> None:
        super().__init__(network, parameters, device)
        layout = network.layout
        # Triton takes powers of two, and products at least 16 long; what is added is 0 and changes nothing.
        self.levels = max(triton.next_power_of_2(layout.levels), 16)
        self.width = max(triton.next_power_of_2(network.width), 16)
        table, w_in, w_hidden, w_out = self.parameters
        columns = torch.zeros(layout.features, self.width, self.levels, device=self.device)
        columns[:, : network.width, : layout.levels] = w_in.view(network.width, layout.levels, -1).permute(2, 0, 1)
        hidden = torch.zeros(network.hidden - 1, self.width, self.width, device=self.device)
        hidden[:, : network.width, : network.width] = w_hidden
        last = torch.zeros(network.outputs, self.width, device=self.device)
        last[:, : network.width] = w_out
        self.weights = columns, hidden, last
        self.table = table
        #: Two features as one word, for one load instead of two.
        self.pairs = table.view(torch.int64) if layout.features % 2 == 0 else None
        numbers = (layout.resolutions, layout.sizes, layout.firsts, layout.dense.astype(np.int64))
        self.numbers = tuple(torch.from_numpy(np.ascontiguousarray(n)).to(self.device) for n in numbers)
        self.scales = torch.from_numpy(layout.scales).to(self.device)

    def _sample_bytes(self) -> int:
        """See `TorchDecoder`: the result, and a point with its slopes."""
        return 24 + 16 * self.network.outputs if self._fused else super()._sample_bytes()

    @property
    def _fused(self) -> bool:
        return self.network.width <= _WIDEST

    def _block(self, states: int) -> int:
        """Samples a program computes: fewer where layers are wide or tangents go along."""
        return max(min(self.tile // (max(self.width, 4 * self.levels) * states), 64), 16)

    def _lattice_part(
        self, cells: Cells, counts: list[int], first: int, size: int, factors: tuple[float, float]
    ) -> torch.Tensor:
        """See `TorchDecoder`."""
        if not self._fused:
            return super()._lattice_part(cells, counts, first, size, factors)
        network, layout = self.network, self.network.layout
        out = torch.empty(size, network.outputs, device=self.device)
        nx, ny, nz = (counts + [1, 1])[:3]
        # Kernels count in 32 bits, from the plane that the first sample is in.
        plane, rest = divmod(first, nx * ny) if layout.dims > 2 else (0, first)
        axes = [t for axis in [*cells[:2], *((low[:, plane:], w[:, plane:]) for low, w in cells[2:])] for t in axis]
        axes = [a.contiguous() for a in axes]
        axes += axes[:2] * (3 - len(cells))
        block = self._block(1)
        _lattice[(triton.cdiv(size, block),)](
            self.table if self.pairs is None else self.pairs, *axes, *self.numbers, *self.weights, out, rest, size, nx,
            ny, nz - plane, network.outputs, *factors, layout.levels, F=layout.features, PAIRS=self.pairs is not None,
            DIMS=layout.dims, LEVELS=self.levels, WIDTH=self.width, HIDDEN=network.hidden, PRECISION=self.precision,
            BLOCK=block, num_stages=1,
        )  # fmt: skip
        return out

    def _point_part(self, points: torch.Tensor, slopes: bool) -> tuple[torch.Tensor, ...]:
        """See `TorchDecoder`."""
        if not self._fused:
            return super()._point_part(points, slopes)
        network, layout = self.network, self.network.layout
        out = torch.empty(len(points), network.outputs, device=self.device)
        found = torch.empty(len(points), network.outputs, layout.dims, device=self.device) if slopes else out
        block = self._block(4 if slopes else 1)
        _at_points[(triton.cdiv(len(points), block),)](
            self.table, points, self.scales, *self.numbers, *self.weights, out, found, len(points), network.outputs,
            layout.levels, F=layout.features, DIMS=layout.dims, SMOOTH=layout.smooth, SLOPES=slopes,
            LEVELS=self.levels, WIDTH=self.width, HIDDEN=network.hidden, PRECISION=self.precision, BLOCK=block,
            num_stages=1,
        )  # fmt: skip
        return (out, found) if slopes else (out,)
