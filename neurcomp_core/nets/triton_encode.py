"""The hash-grid encoding in Triton, forward and backward: kernels for points of any order, and which kernels to take.

Samples that are known to lie in cubes are `triton_cubes`'s.
"""
# Triton's language is not typed.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

from __future__ import annotations

from typing import Any, cast

import torch
import triton
import triton.language as tl

from neurcomp_core.nets.grid import GridLayout
from neurcomp_core.nets.triton_cubes import backward_cubes, forward_cubes
from neurcomp_core.nets.triton_tables import cell_of, entry_of, level_of, levels_of, packed, pair_at

#: Points or cubes per program: one for each of its threads.
_TILE, _WARPS = 128, 4


@triton.jit
def _forward(
    points, table, scales, strides, firsts, out, n,
    DIMS: tl.constexpr, PAIRS: tl.constexpr, HALF: tl.constexpr, SMOOTH: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Interpolate `table`; program (tile of points, level, pair of features)."""
    level, pair = tl.program_id(1), tl.program_id(2)
    scale, by_y, by_z, size, dense, first = level_of(scales, strides, firsts, level)
    at = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    inside = at < n
    x, up_x = cell_of(points, at, inside, scale, 0, True, SMOOTH)
    y, up_y = cell_of(points, at, inside, scale, 1, DIMS > 1, SMOOTH)
    z, up_z = cell_of(points, at, inside, scale, 2, DIMS > 2, SMOOTH)
    sum0 = tl.zeros((TILE,), tl.float32)
    sum1 = tl.zeros((TILE,), tl.float32)
    for corner in tl.static_range(1 << DIMS):
        share = _share(up_x, up_y, up_z, corner)
        row = first + entry_of(
            x + (corner & 1), (y + (corner >> 1 & 1)) * by_y, (z + (corner >> 2)) * by_z, size, dense
        )  # fmt: skip
        if PAIRS > 0:
            value, other = pair_at(table, row * PAIRS + pair, inside, HALF)
            sum0 += share * value
            sum1 += share * other
        else:
            sum0 += share * tl.load(table + row * tl.num_programs(2) + pair, mask=inside, other=0.0).to(tl.float32)
    if PAIRS > 0:
        target = out + (level * PAIRS + pair).to(tl.int64) * 2 * n + at
        tl.store(target, sum0, mask=inside)
        tl.store(target + n, sum1, mask=inside)
    else:
        tl.store(out + (level * tl.num_programs(2) + pair).to(tl.int64) * n + at, sum0, mask=inside)


@triton.jit
def _share(up_x, up_y, up_z, CORNER: tl.constexpr):
    """Weight of a corner; along axes that are not there, weights of upper vertices are 0."""
    along_x = up_x if CORNER & 1 else 1.0 - up_x
    along_y = up_y if CORNER & 2 else 1.0 - up_y
    along_z = up_z if CORNER & 4 else 1.0 - up_z
    return along_x * along_y * along_z


@triton.jit
def _backward(
    points, upstream, scales, strides, firsts, gradient, n,
    DIMS: tl.constexpr, SMOOTH: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Add what `upstream` gives each entry to `gradient`; program (tile of points, level, feature)."""
    level, feature, features = tl.program_id(1), tl.program_id(2), tl.num_programs(2)
    scale, by_y, by_z, size, dense, first = level_of(scales, strides, firsts, level)
    at = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    inside = at < n
    x, up_x = cell_of(points, at, inside, scale, 0, True, SMOOTH)
    y, up_y = cell_of(points, at, inside, scale, 1, DIMS > 1, SMOOTH)
    z, up_z = cell_of(points, at, inside, scale, 2, DIMS > 2, SMOOTH)
    given = tl.load(upstream + (level * features + feature).to(tl.int64) * n + at, mask=inside, other=0.0)
    given = given.to(tl.float32)
    for corner in tl.static_range(1 << DIMS):
        row = first + entry_of(
            x + (corner & 1), (y + (corner >> 1 & 1)) * by_y, (z + (corner >> 2)) * by_z, size, dense
        )  # fmt: skip
        value = _share(up_x, up_y, up_z, corner) * given
        tl.atomic_add(gradient + row * features + feature, value, mask=inside, sem="relaxed")


def _in_cubes(layout: GridLayout, cube: int, n: int) -> bool:
    """Whether `triton_cubes` takes the points."""
    return cube == 2 and layout.dims == 3 and n % 8 == 0


def forward(points: torch.Tensor, table: torch.Tensor, layout: GridLayout, cube: int, out: torch.Tensor) -> None:
    """Encode without gradients; see `backends.Backend.encode`.

    Parameters
    ----------
    points : Tensor
        ``(n, 3)`` float32, contiguous.
    table : Tensor
        ``(entries, features)`` float32 or float16, contiguous.
    layout, cube
        As there.
    out : Tensor
        ``(levels * features, n)`` of any floating type, contiguous; written.
    """
    n = len(points)
    if not n:
        return
    pairs = 0 if layout.features % 2 else layout.features // 2
    half = table.dtype == torch.float16
    values = packed(table) if pairs else table
    levels = levels_of(layout, points.device)
    if pairs and _in_cubes(layout, cube, n):
        grid = (triton.cdiv(n, 8 * _TILE), layout.levels, pairs)
        forward_cubes[grid](points, values, *levels, out, n, pairs, half, layout.smooth, _TILE, num_warps=_WARPS)
        return
    grid = (triton.cdiv(n, _TILE), layout.levels, pairs or layout.features)
    _forward[grid](
        points, values, *levels, out, n, layout.dims, pairs, half, layout.smooth, _TILE, num_warps=_WARPS
    )  # fmt: skip


def backward(
    points: torch.Tensor, upstream: torch.Tensor, layout: GridLayout, cube: int, gradient: torch.Tensor
) -> None:
    """Add the gradient of `forward` with respect to the table, given that of its result.

    Sums are in the order in which the device comes to them: repeated runs differ by rounding.

    Parameters
    ----------
    points, layout, cube
        As there.
    upstream : Tensor
        ``(levels * features, n)`` of any floating type, contiguous.
    gradient : Tensor
        ``(entries, features)`` float32, contiguous; added to.
    """
    n, features = len(points), layout.features
    if not n:
        return
    levels = levels_of(layout, points.device)
    if features % 2 == 0 and _in_cubes(layout, cube, n):
        grid = (triton.cdiv(n, 8 * _TILE), layout.levels, features)
        backward_cubes[grid](
            points, upstream, *levels, gradient, n, features // 2, layout.smooth, _TILE, num_warps=_WARPS
        )  # fmt: skip
        return
    grid = (triton.cdiv(n, _TILE), layout.levels, features)
    _backward[grid](
        points, upstream, *levels, gradient, n, layout.dims, layout.smooth, _TILE, num_warps=_WARPS
    )  # fmt: skip


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: torch.Tensor, table: torch.Tensor, layout: GridLayout, cube: int) -> torch.Tensor:
        points = points.contiguous()
        ctx.points, ctx.layout, ctx.cube, ctx.shape = points, layout, cube, table.shape
        out = torch.empty(layout.width, len(points), device=points.device)
        forward(points, table.detach().contiguous(), layout, cube, out)
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[None, torch.Tensor, None, None]:
        gradient = torch.zeros(ctx.shape, device=upstream[0].device)
        backward(ctx.points, upstream[0].contiguous(), ctx.layout, ctx.cube, gradient)
        return None, gradient, None, None


def encode(points: torch.Tensor, table: torch.Tensor, layout: GridLayout, cube: int = 1) -> torch.Tensor:
    """See `backends.Backend.encode`."""
    return cast(torch.Tensor, _Encode.apply(points, table, layout, cube))
