"""Triton kernels of the small perceptron, forward and backward: a tile of points goes through all layers in registers.

Activations never reach memory; backward computes them again. Layers are products of a weight matrix and a
feature-major tile, ``(outputs, inputs) @ (inputs, points)``, in the precision asked for with float32 sums; widths are
padded to powers of two from 16, the least that matrix units take. A program goes through several tiles and keeps the
gradients of the weights in registers; one reduction in a fixed order adds those of all programs, so a run repeats to
the bit.

Gradients in float16 are multiplied by the power of two that brings the largest to between 128 and 256 before they enter
the network, and divided by it when they leave: none is lost below the range of float16, and no step is ever skipped.
"""
# Triton's language is not typed.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

from __future__ import annotations

from typing import Any, cast

import torch
import triton
import triton.language as tl

from neurcomp_core.nets.network import mlp_reference

#: Widest layer and most hidden layers whose gradients stay in registers; cuBLAS computes larger perceptrons.
WIDEST, DEEPEST = 64, 4
#: Points per tile, there and back: what registers hold with two hidden layers of 64.
_TILE, _TILE_BACK = 128, 64
#: Programs at most: two for each multiprocessor of the largest devices.
_PROGRAMS = 264
_OPERANDS = {"float32": tl.float32, "tf32": tl.float32, "float16": tl.float16}


@triton.jit
def _matrix(source, ROWS: tl.constexpr, COLUMNS: tl.constexpr, TALL: tl.constexpr, WIDE: tl.constexpr):
    """A row-major ``(ROWS, COLUMNS)`` matrix, padded with zeros to ``(TALL, WIDE)``."""
    row = tl.arange(0, TALL)[:, None]
    column = tl.arange(0, WIDE)[None, :]
    return tl.load(source + row * COLUMNS + column, mask=(row < ROWS) & (column < COLUMNS), other=0.0)


@triton.jit
def _transposed(source, ROWS: tl.constexpr, COLUMNS: tl.constexpr, TALL: tl.constexpr, WIDE: tl.constexpr):
    """The transposed of `_matrix`, ``(WIDE, TALL)``."""
    row = tl.arange(0, TALL)[None, :]
    column = tl.arange(0, WIDE)[:, None]
    return tl.load(source + row * COLUMNS + column, mask=(row < ROWS) & (column < COLUMNS), other=0.0)


@triton.jit
def _put_matrix(target, values, ROWS: tl.constexpr, COLUMNS: tl.constexpr, TALL: tl.constexpr, WIDE: tl.constexpr):
    """Write the part of `_matrix` that is no padding."""
    row = tl.arange(0, TALL)[:, None]
    column = tl.arange(0, WIDE)[None, :]
    tl.store(target + row * COLUMNS + column, values, mask=(row < ROWS) & (column < COLUMNS))


@triton.jit
def _product(a, b, OPERAND: tl.constexpr, PRECISION: tl.constexpr):
    return tl.dot(a.to(OPERAND), b.to(OPERAND), input_precision=PRECISION)


@triton.jit
def _layer(weight, x, OPERAND: tl.constexpr, PRECISION: tl.constexpr):
    """A hidden layer of one tile, in the type of operands."""
    return tl.maximum(_product(weight, x, OPERAND, PRECISION), 0.0).to(OPERAND)


@triton.jit
def _columns(source, at, n, COUNT: tl.constexpr, PADDED: tl.constexpr):
    """Points `at` of a feature-major array, ``(PADDED, points)``."""
    row = tl.arange(0, PADDED)[:, None]
    return tl.load(source + row.to(tl.int64) * n + at[None, :], mask=(row < COUNT) & (at < n)[None, :], other=0.0)


@triton.jit
def _put_columns(target, values, at, n, COUNT: tl.constexpr, PADDED: tl.constexpr):
    row = tl.arange(0, PADDED)[:, None]
    tl.store(target + row.to(tl.int64) * n + at[None, :], values, mask=(row < COUNT) & (at < n)[None, :])


@triton.jit
def _forward(
    x, w_in, w_hidden, w_out, y, n,
    INPUTS: tl.constexpr, WIDTH: tl.constexpr, OUTPUTS: tl.constexpr, HIDDEN: tl.constexpr,
    IN: tl.constexpr, W: tl.constexpr, OUT: tl.constexpr,
    OPERAND: tl.constexpr, PRECISION: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """``(INPUTS, n)`` to ``(OUTPUTS, n)``, a tile of points per program."""
    at = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    tile = _columns(x, at, n, INPUTS, IN)
    tile = _layer(_matrix(w_in, WIDTH, INPUTS, W, IN), tile, OPERAND, PRECISION)
    for k in tl.static_range(HIDDEN - 1):
        tile = _layer(_matrix(w_hidden + k * WIDTH * WIDTH, WIDTH, WIDTH, W, W), tile, OPERAND, PRECISION)
    values = _product(_matrix(w_out, OUTPUTS, WIDTH, OUT, W), tile, OPERAND, PRECISION)
    _put_columns(y, values, at, n, OUTPUTS, OUT)


@triton.jit
def _back(w_hidden, delta, below, K: tl.constexpr, WIDTH: tl.constexpr, W: tl.constexpr, OPERAND: tl.constexpr,
          PRECISION: tl.constexpr):  # fmt: skip
    """Gradients before layer `K`'s rectifier from those of the layer above; `below` is what layer `K` gave."""
    weight = _transposed(w_hidden + K * WIDTH * WIDTH, WIDTH, WIDTH, W, W)
    found = _product(weight, delta, OPERAND, PRECISION)
    return tl.where(below > 0, found, 0.0).to(OPERAND)


@triton.jit
def _backward(
    x, upstream, w_in, w_hidden, w_out, scale, dx, sums, n, tiles,
    INPUTS: tl.constexpr, WIDTH: tl.constexpr, OUTPUTS: tl.constexpr, HIDDEN: tl.constexpr,
    IN: tl.constexpr, W: tl.constexpr, OUT: tl.constexpr,
    OPERAND: tl.constexpr, PRECISION: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Gradients of `_forward`: `dx` ``(INPUTS, n)``, and a row of `sums` ``(programs, weights)`` per program."""
    factor = tl.load(scale)
    sum_in = tl.zeros((W, IN), tl.float32)
    sum_out = tl.zeros((OUT, W), tl.float32)
    if HIDDEN > 1:
        sum0 = tl.zeros((W, W), tl.float32)
    if HIDDEN > 2:
        sum1 = tl.zeros((W, W), tl.float32)
    if HIDDEN > 3:
        sum2 = tl.zeros((W, W), tl.float32)
    for index in range(tl.program_id(0), tiles, tl.num_programs(0)):
        at = index * TILE + tl.arange(0, TILE)
        given = _columns(x, at, n, INPUTS, IN).to(OPERAND)
        h0 = _layer(_matrix(w_in, WIDTH, INPUTS, W, IN), given, OPERAND, PRECISION)
        top = h0
        if HIDDEN > 1:
            h1 = _layer(_matrix(w_hidden, WIDTH, WIDTH, W, W), h0, OPERAND, PRECISION)
            top = h1
        if HIDDEN > 2:
            h2 = _layer(_matrix(w_hidden + WIDTH * WIDTH, WIDTH, WIDTH, W, W), h1, OPERAND, PRECISION)
            top = h2
        if HIDDEN > 3:
            h3 = _layer(_matrix(w_hidden + 2 * WIDTH * WIDTH, WIDTH, WIDTH, W, W), h2, OPERAND, PRECISION)
            top = h3
        delta = (_columns(upstream, at, n, OUTPUTS, OUT) * factor).to(OPERAND)
        sum_out += _product(delta, tl.trans(top), OPERAND, PRECISION)
        found = _product(_transposed(w_out, OUTPUTS, WIDTH, OUT, W), delta, OPERAND, PRECISION)
        delta = tl.where(top > 0, found, 0.0).to(OPERAND)
        if HIDDEN > 3:
            sum2 += _product(delta, tl.trans(h2), OPERAND, PRECISION)
            delta = _back(w_hidden, delta, h2, 2, WIDTH, W, OPERAND, PRECISION)
        if HIDDEN > 2:
            sum1 += _product(delta, tl.trans(h1), OPERAND, PRECISION)
            delta = _back(w_hidden, delta, h1, 1, WIDTH, W, OPERAND, PRECISION)
        if HIDDEN > 1:
            sum0 += _product(delta, tl.trans(h0), OPERAND, PRECISION)
            delta = _back(w_hidden, delta, h0, 0, WIDTH, W, OPERAND, PRECISION)
        sum_in += _product(delta, tl.trans(given), OPERAND, PRECISION)
        below = _product(_transposed(w_in, WIDTH, INPUTS, W, IN), delta, OPERAND, PRECISION)
        _put_columns(dx, below / factor, at, n, INPUTS, IN)
    matrices: tl.constexpr = WIDTH * INPUTS
    last: tl.constexpr = matrices + (HIDDEN - 1) * WIDTH * WIDTH
    total: tl.constexpr = last + OUTPUTS * WIDTH
    mine = sums + tl.program_id(0).to(tl.int64) * total
    _put_matrix(mine, sum_in, WIDTH, INPUTS, W, IN)
    _put_matrix(mine + last, sum_out, OUTPUTS, WIDTH, OUT, W)
    if HIDDEN > 1:
        _put_matrix(mine + matrices, sum0, WIDTH, WIDTH, W, W)
    if HIDDEN > 2:
        _put_matrix(mine + matrices + WIDTH * WIDTH, sum1, WIDTH, WIDTH, W, W)
    if HIDDEN > 3:
        _put_matrix(mine + matrices + 2 * WIDTH * WIDTH, sum2, WIDTH, WIDTH, W, W)


def fits(weights: tuple[torch.Tensor, ...]) -> bool:
    """Whether the kernels take a perceptron of these weights."""
    first, hidden, last = weights
    return max(first.shape[0], first.shape[1], last.shape[0]) <= WIDEST and len(hidden) < DEEPEST


def _shape(weights: tuple[torch.Tensor, ...], precision: str) -> tuple[Any, ...]:
    first, hidden, last = weights
    sizes = first.shape[1], first.shape[0], last.shape[0]
    inputs, width, outputs = sizes
    padded = [max(16, triton.next_power_of_2(s)) for s in (inputs, width, outputs)]
    # Three products of tf32 are as good as one of float32, which matrix units do not have. Half ones have one way.
    multiplied = {"float32": "tf32x3", "tf32": "tf32", "float16": "ieee"}[precision]
    return (*sizes, len(hidden) + 1, *padded, _OPERANDS[precision], multiplied)


def _warps(weights: tuple[torch.Tensor, ...]) -> int:
    return 8 if len(weights[1]) > 1 and weights[0].shape[0] > 32 else 4


def forward(x: torch.Tensor, weights: tuple[torch.Tensor, ...], precision: str) -> torch.Tensor:
    """`backends.Backend.mlp` without gradients.

    Parameters
    ----------
    x : Tensor
        ``(inputs, n)`` of any floating type, contiguous.
    weights : tuple of Tensor
        Float32 and contiguous; `fits` must hold.
    precision : str
        One of `backends.PRECISIONS`.

    Returns
    -------
    Tensor
        ``(outputs, n)`` float32.
    """
    first, hidden, last = weights
    n = x.shape[1]
    y = torch.empty(len(last), n, device=x.device)
    if n:
        grid = (triton.cdiv(n, _TILE),)
        # There is no address of nothing: one hidden layer reads none of `hidden`.
        inner = hidden if len(hidden) else first
        _forward[grid](x, first, inner, last, y, n, *_shape(weights, precision), _TILE, num_warps=4)
    return y


def backward(
    x: torch.Tensor, upstream: torch.Tensor, weights: tuple[torch.Tensor, ...], precision: str
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Gradients of `forward` with respect to `x` and the weights, float32; parameters as there."""
    first, hidden, last = weights
    n = x.shape[1]
    tiles = triton.cdiv(n, _TILE_BACK)
    programs = min(tiles, _PROGRAMS)
    dx = torch.empty(x.shape, device=x.device)
    sums = torch.empty(programs, sum(w.numel() for w in weights), device=x.device)
    scale = _scale_of(upstream) if precision == "float16" else torch.ones((), device=x.device)
    if n:
        inner = hidden if len(hidden) else first
        _backward[(programs,)](
            x, upstream, first, inner, last, scale, dx, sums, n, tiles, *_shape(weights, precision), _TILE_BACK,
            # Fetching the next tile's weights ahead would need more shared memory than there is.
            num_warps=_warps(weights), num_stages=1,
        )  # fmt: skip
    flat = sums.sum(dim=0) / scale
    parts = flat.split([w.numel() for w in weights])
    return dx, [part.view(w.shape) for part, w in zip(parts, weights, strict=True)]


def _scale_of(upstream: torch.Tensor) -> torch.Tensor:
    """The power of two that brings the largest gradient to between 128 and 256, computed on the device."""
    largest = upstream.abs().amax().clamp(2.0**-100, 2.0**100)
    return torch.exp2(torch.floor(8 - torch.log2(largest)))


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, precision: str, *weights: torch.Tensor) -> torch.Tensor:
        x, *kept = (t.detach().contiguous() for t in (x, *weights))
        ctx.save_for_backward(x, *kept)
        ctx.precision = precision
        return forward(x, tuple(kept), precision)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        dx, gradients = backward(x, upstream[0].contiguous(), tuple(weights), ctx.precision)
        return dx, None, *gradients


def mlp(x: torch.Tensor, weights: tuple[torch.Tensor, ...], precision: str = "float32") -> torch.Tensor:
    """See `backends.Backend.mlp`; perceptrons larger than `fits` has it are cuBLAS's, in float32."""
    if not fits(weights):
        return mlp_reference(x, weights)
    return cast(torch.Tensor, _Mlp.apply(x, precision, *weights))
