"""Grids and spherical harmonics in torch: CPU kernels with their gradients, and the same in plain torch.

The kernels serve CPU tensors; on other devices, or where a gradient with respect to points is wanted, the plain ones
do. Both are float32 or float64, as what they are given.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import Any, cast

import numpy as np
import torch

from neurcomp_core.errors import InputError
from neurcomp_core.radiance.grids import EMPTY
from neurcomp_core.radiance.rendering import sample_kernels
from neurcomp_core.radiance.rendering.frames import GridFrame
from neurcomp_core.radiance.rendering.ranges import over_ranges, thread_count

_NO_LINKS = np.zeros((0, 0, 0), np.int32)


def sample_dense(grid: torch.Tensor, points: torch.Tensor, frame: GridFrame) -> torch.Tensor:
    """Trilinear values of a dense grid.

    Parameters
    ----------
    grid : Tensor ``(z, y, x, channels)``
    points : Tensor ``(n, 3)``
        In the box's coordinates, x, y, z; no gradient flows to them on the CPU.
    frame : GridFrame

    Returns
    -------
    Tensor ``(n, channels)``
        Zero outside the box.
    """
    _check_grid(tuple(grid.shape[:3]), frame)
    return _sample(None, grid.reshape(-1, grid.shape[3]), points, frame)


def sample_sparse(links: torch.Tensor, table: torch.Tensor, points: torch.Tensor, frame: GridFrame) -> torch.Tensor:
    """Trilinear values of a sparse grid, empty voxels counting as zero.

    Parameters
    ----------
    links : Tensor ``(z, y, x)`` int32
        Row of `table` per voxel, `grids.EMPTY` where there is none.
    table : Tensor ``(rows, channels)``
    points, frame
        See `sample_dense`.

    Returns
    -------
    Tensor ``(n, channels)``
        Zero outside the box.
    """
    _check_grid(tuple(links.shape), frame)
    if links.device.type == "cpu" and not int(links.max()) < len(table):
        raise InputError(f"links: expected row numbers below {len(table)}, got {int(links.max())}")
    return _sample(links, table, points, frame)


def _sample(links: torch.Tensor | None, table: torch.Tensor, points: torch.Tensor, frame: GridFrame) -> torch.Tensor:
    if points.ndim != 2 or points.shape[1] != 3 or table.ndim != 2:
        raise InputError(
            f"expected points (n, 3) and a table (rows, channels), got {(*points.shape,)} and {(*table.shape,)}"
        )
    if table.device.type != "cpu" or points.requires_grad:
        return sample_reference(links, table, points, frame)
    return cast(torch.Tensor, _Sample.apply(table, points, links, frame))


class _Sample(torch.autograd.Function):
    """`sample_kernels.sample` with its gradient with respect to the table."""

    @staticmethod
    def forward(
        ctx: Any, table: torch.Tensor, points: torch.Tensor, links: torch.Tensor | None, frame: GridFrame
    ) -> torch.Tensor:
        at = points.detach().contiguous().numpy()
        rows = _NO_LINKS if links is None else links.contiguous().numpy()
        ctx.given = at, rows, links is None, frame.shape, frame.box, frame.scale, frame.offset
        ctx.like = table.shape, table.dtype
        values = table.detach().contiguous().numpy()
        out = torch.empty(len(at), table.shape[1], dtype=table.dtype)
        given = (*ctx.given, values, out.numpy())
        over_ranges(len(at), lambda _, first, last: sample_kernels.sample(first, last, *given))
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        shape, dtype = ctx.like
        gradient = torch.zeros(shape, dtype=dtype)
        given = [*ctx.given, upstream[0].contiguous().numpy(), gradient.numpy()]
        depth = ctx.given[3][0]
        borders = _even_layers(ctx.given, depth)

        def work(part: int, first: int, last: int) -> None:
            for k in range(first, last):
                sample_kernels.scatter(borders[k], borders[k + 1], *given)

        over_ranges(len(borders) - 1, work)
        return gradient, None, None, None


def _even_layers(given: tuple, depth: int) -> list[int]:
    """Layers along z cut into one stretch per thread with about as many points each."""
    parts = thread_count()
    if parts == 1:
        return [0, depth]
    points, _, _, shape, box, scale, offset = given
    counts = np.zeros(depth, np.int64)
    sample_kernels.layers(points, shape, box, scale, offset, counts)
    total = np.cumsum(counts)
    inner = np.searchsorted(total, total[-1] * np.arange(1, parts) / parts)
    return [0, *(int(b) for b in inner), depth]


def sample_reference(
    links: torch.Tensor | None, table: torch.Tensor, points: torch.Tensor, frame: GridFrame
) -> torch.Tensor:
    """`sample_sparse`, or `sample_dense` without links, in plain torch for any device; gradients to points, too."""
    like = {"dtype": points.dtype, "device": points.device}
    box, scale, offset = (torch.as_tensor(a, **like) for a in (frame.box, frame.scale, frame.offset))
    inside = ((points >= box[0]) & (points <= box[1])).all(1)
    top = torch.tensor(frame.shape[::-1], device=points.device) - 1
    at = (points * scale + offset).clamp(torch.zeros(3, **like), top.to(points.dtype))
    low = torch.minimum(at.detach().long(), (top - 1).clamp(min=0))
    high = torch.minimum(low + 1, top)
    share = at - low
    out = torch.zeros(len(points), table.shape[1], dtype=table.dtype, device=table.device)
    for corner in range(8):
        up = [bool(corner >> axis & 1) for axis in range(3)]
        x, y, z = ((high if u else low)[:, axis] for axis, u in enumerate(up))
        weight = inside.to(points.dtype)
        for axis, u in enumerate(up):
            weight = weight * (share[:, axis] if u else 1 - share[:, axis])
        if links is None:
            row = (z * frame.shape[1] + y) * frame.shape[2] + x
        else:
            row = links[z, y, x].long()
            weight = torch.where(row == EMPTY, 0, weight)
            row = row.clamp(min=0)
        if len(table):
            out = out + weight.to(table.dtype)[:, None] * table[row]
    return out


def _check_grid(shape: tuple[int, ...], frame: GridFrame) -> None:
    if shape != frame.shape:
        raise InputError(f"grid {shape} and frame {frame.shape}: expected the same samples along z, y, x")


# ------------------------------------------------------------------------------------------------- spherical harmonics


def shade(sh: torch.Tensor, basis: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Colours of samples by spherical harmonics: ``max(0, 0.5 + sum_k sh_k Y_k)``.

    Parameters
    ----------
    sh : Tensor ``(n, 3, functions)``
    basis : Tensor ``(rays, functions)``
        Values of the functions along each ray, see `basis_of`; no gradient flows to them.
    index : Tensor ``(n,)`` int64
        Ray of each sample.

    Returns
    -------
    Tensor ``(n, 3)``
    """
    if sh.shape[1:] != (3, basis.shape[1]) or index.shape != (len(sh),):
        raise InputError(
            f"expected sh (n, 3, functions), basis (rays, functions) and index (n,), "
            f"got {(*sh.shape,)}, {(*basis.shape,)} and {(*index.shape,)}"
        )
    if sh.device.type != "cpu":
        return shade_reference(sh, basis, index)
    if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(basis):
        raise InputError(f"index: expected the ray of each sample, below {len(basis)}, got {int(index.max())}")
    return cast(torch.Tensor, _Shade.apply(sh, basis, index))


class _Shade(torch.autograd.Function):
    """`sample_kernels.shade` with its gradient with respect to the coefficients."""

    @staticmethod
    def forward(ctx: Any, sh: torch.Tensor, basis: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        out = torch.empty(len(sh), 3, dtype=sh.dtype)
        ctx.given = basis.to(sh.dtype).contiguous().numpy(), index.contiguous().numpy()
        ctx.shape = sh.shape
        given = (sh.detach().contiguous().numpy(), *ctx.given, out.numpy())
        over_ranges(len(sh), lambda _, first, last: sample_kernels.shade(first, last, *given))
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (colors,) = ctx.saved_tensors
        gradient = torch.empty(ctx.shape, dtype=colors.dtype)
        given = [colors.numpy(), *ctx.given, upstream[0].contiguous().numpy(), gradient.numpy()]
        over_ranges(len(colors), lambda _, first, last: sample_kernels.shade_backward(first, last, *given))
        return gradient, None, None


def shade_reference(sh: torch.Tensor, basis: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """`shade` in plain torch for any device."""
    return torch.relu(0.5 + (sh * basis.to(sh.dtype)[index][:, None, :]).sum(2))


def basis_of(views: torch.Tensor, degree: int) -> torch.Tensor:
    """Spherical harmonics ``(n, (degree + 1)^2)`` of unit vectors ``(n, 3)``, degree 0 to 2; on any device.

    Order and signs are those of `neurcomp_core.radiance.spherical_harmonics`.
    """
    if not 0 <= degree <= 2:
        raise InputError(f"spherical harmonics in torch: expected a degree from 0 to 2, got {degree}")
    x, y, z = views.unbind(1)
    out = [torch.full_like(x, sqrt(1 / (4 * pi)))]
    if degree > 0:
        a = sqrt(3 / (4 * pi))
        out += [-a * y, a * z, -a * x]
    if degree > 1:
        a = sqrt(15 / (4 * pi))
        out += [a * x * y, -a * y * z, sqrt(5 / (16 * pi)) * (3 * z * z - 1), -a * x * z, a / 2 * (x * x - y * y)]
    return torch.stack(out, 1)
