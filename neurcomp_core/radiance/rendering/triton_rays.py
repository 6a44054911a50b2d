"""What Triton kernels of marches share: a ray's steps through a box, leaps over free space, corners of a sample.

The same rules as `ray_kernels`. Where a ray enters the box, and how far a step is, are computed in float64; from there
on positions are counted in voxels from the entry, and float32 will do. A program takes as many rays as it has lanes, so
that lanes which have ended wait for the others of their program alone.
"""
# Triton's types are known when a kernel is compiled, not to a checker: see the signatures' comments.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportIndexIssue=false

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl

from neurcomp_core.radiance.rendering.frames import GridFrame
from neurcomp_core.radiance.rendering.occupancy import Occupancy

# Lanes of a program: a warp on a GPU; Triton's interpreter has no warps and is the faster the wider they are.
_WARP, _WIDE = 32, 256


def lanes(device: torch.device) -> int:
    """Rays of a program."""
    return _WARP if device.type == "cuda" else _WIDE


class Space(NamedTuple):
    """A march's geometry as kernels take it, on one device.

    Attributes
    ----------
    numbers : Tensor ``(19,)`` float64
        Box (6), voxels per unit length and offset (3 each), step in voxels, and scale and offset of the voxels that
        free space is told in (3 each).
    extents : Tensor ``(8,)`` int32
        Samples along z, y, x; the same of what free space is told in; cells of free space along y and x.
    distance : Tensor uint8
        See `Occupancy`.
    block : int
    """

    numbers: torch.Tensor
    extents: torch.Tensor
    distance: torch.Tensor
    block: int

    @classmethod
    def of(cls, frame: GridFrame, step: float, occupancy: Occupancy, device: torch.device | str) -> Space:
        """From arrays."""
        free = occupancy.frame
        numbers = (frame.box.ravel(), frame.scale, frame.offset, [step], free.scale, free.offset)
        extents = (*frame.shape, *free.shape, *occupancy.distance.shape[1:])
        return cls(
            torch.as_tensor(np.concatenate(numbers), dtype=torch.float64).to(device),
            torch.tensor(extents, dtype=torch.int32).to(device),
            torch.as_tensor(occupancy.distance).contiguous().to(device),
            occupancy.block,
        )


@triton.jit
def _slab(o, d, low, high, begin, end):
    """Narrow an interval of t, float64, to where one coordinate is between two faces."""
    still = d == 0.0
    safe = tl.where(still, 1.0, d)
    a, b = (low - o) / safe, (high - o) / safe
    outside = still & ((o < low) | (o > high))
    first = tl.where(still, begin, tl.maximum(begin, tl.minimum(a, b)))
    last = tl.where(still, tl.where(outside, begin - 1.0, end), tl.minimum(end, tl.maximum(a, b)))
    return first, last


@triton.jit
def enter(origins, directions, near, far, numbers, ray, alive):
    """Rays `ray` at their entry into the box: t, step in t, length of a step, number of steps (a fraction last; 0 if
    they miss the box), then position and change per step in voxels, and the same in voxels of free space.
    """
    at = ray.to(tl.int64)
    ox = tl.load(origins + 3 * at, mask=alive, other=0.0)
    oy = tl.load(origins + 3 * at + 1, mask=alive, other=0.0)
    oz = tl.load(origins + 3 * at + 2, mask=alive, other=0.0)
    dx = tl.load(directions + 3 * at, mask=alive, other=1.0)
    dy = tl.load(directions + 3 * at + 1, mask=alive, other=0.0)
    dz = tl.load(directions + 3 * at + 2, mask=alive, other=0.0)
    begin = tl.load(near + at, mask=alive, other=1.0)
    end = tl.load(far + at, mask=alive, other=0.0)
    begin, end = _slab(ox, dx, tl.load(numbers), tl.load(numbers + 3), begin, end)
    begin, end = _slab(oy, dy, tl.load(numbers + 1), tl.load(numbers + 4), begin, end)
    begin, end = _slab(oz, dz, tl.load(numbers + 2), tl.load(numbers + 5), begin, end)
    gx, gy, gz = dx * tl.load(numbers + 6), dy * tl.load(numbers + 7), dz * tl.load(numbers + 8)
    dt = tl.load(numbers + 12) / tl.sqrt(gx * gx + gy * gy + gz * gz)
    steps = tl.where(end > begin, (end - begin) / dt, 0.0)
    begin = tl.where(end > begin, begin, 0.0)
    x = ox * tl.load(numbers + 6) + tl.load(numbers + 9) + begin * gx
    y = oy * tl.load(numbers + 7) + tl.load(numbers + 10) + begin * gy
    z = oz * tl.load(numbers + 8) + tl.load(numbers + 11) + begin * gz
    fx, fy, fz = tl.load(numbers + 13), tl.load(numbers + 14), tl.load(numbers + 15)
    mx = (ox + begin * dx) * fx + tl.load(numbers + 16)
    my = (oy + begin * dy) * fy + tl.load(numbers + 17)
    mz = (oz + begin * dz) * fz + tl.load(numbers + 18)
    length = dt * tl.sqrt(dx * dx + dy * dy + dz * dz)
    return (
        begin.to(tl.float32), dt.to(tl.float32), length.to(tl.float32), steps.to(tl.float32),
        x.to(tl.float32), y.to(tl.float32), z.to(tl.float32),
        (gx * dt).to(tl.float32), (gy * dt).to(tl.float32), (gz * dt).to(tl.float32),
        mx.to(tl.float32), my.to(tl.float32), mz.to(tl.float32),
        (dx * fx * dt).to(tl.float32), (dy * fy * dt).to(tl.float32), (dz * fz * dt).to(tl.float32),
    )  # fmt: skip


@triton.jit
def _steps_out(position, speed, cell, away, BLOCK: tl.constexpr):
    """Steps until a position leaves the cells closer than `away` to `cell` along one axis."""
    edge = tl.where(speed > 0.0, (cell + away) * BLOCK, (cell - away + 1) * BLOCK).to(tl.float32)
    return tl.where(speed == 0.0, 1e9, (edge - position) / tl.where(speed == 0.0, 1.0, speed))


@triton.jit
def leap(n, walking, steps, fraction, x, y, z, vx, vy, vz, distance, extents, BLOCK: tl.constexpr):
    """The step at which each walking ray is next in an occupied cell, or beyond its steps.

    Positions and changes per step are in voxels of free space.
    """
    nz, ny, nx = tl.load(extents + 3), tl.load(extents + 4), tl.load(extents + 5)
    cy, cx = tl.load(extents + 6), tl.load(extents + 7)
    moving = walking & (n < steps)
    while tl.max(moving.to(tl.int32), axis=0) > 0:
        at = n + fraction * tl.minimum(steps - n, 1.0)
        px, py, pz = x + at * vx, y + at * vy, z + at * vz
        i = tl.minimum(tl.maximum(px, 0.0), nx - 1.0).to(tl.int32) // BLOCK
        j = tl.minimum(tl.maximum(py, 0.0), ny - 1.0).to(tl.int32) // BLOCK
        k = tl.minimum(tl.maximum(pz, 0.0), nz - 1.0).to(tl.int32) // BLOCK
        away = tl.load(distance + ((k * cy + j) * cx + i), mask=moving, other=0).to(tl.int32)
        rest = tl.minimum(_steps_out(px, vx, i, away, BLOCK), _steps_out(py, vy, j, away, BLOCK))
        rest = tl.minimum(rest, _steps_out(pz, vz, k, away, BLOCK))
        free = moving & (away > 0)
        n += tl.where(free, 1 + tl.maximum(rest, 0.0).to(tl.int32), 0)
        moving = free & (n < steps)
    return n


@triton.jit
def axis(position, count):
    """Lower sample, upper sample and share of the upper one along an axis; beyond the outermost samples theirs."""
    position = tl.minimum(tl.maximum(position, 0.0), count - 1.0)
    low = tl.minimum(position.to(tl.int32), tl.maximum(count - 2, 0))
    return low, tl.minimum(low + 1, count - 1), position - low


@triton.jit
def corner(q: tl.constexpr, i0, j0, k0, i1, j1, k1, u, v, w, ny, nx):
    """Number, int64, and share of corner `q` of a sample: bit 0 is up in x, 1 in y, 2 in z."""
    i, a = i0, 1.0 - u
    j, b = j0, 1.0 - v
    k, c = k0, 1.0 - w
    if q & 1:
        i, a = i1, u
    if q & 2:
        j, b = j1, v
    if q & 4:
        k, c = k1, w
    return (k.to(tl.int64) * ny + j) * nx + i, a * b * c


@triton.jit
def corner_of(q, i0, j0, k0, i1, j1, k1, u, v, w, ny, nx):
    """`corner` of a number known only when it runs: for loops that must not be unrolled, or registers overflow."""
    right, up, out = q & 1, (q >> 1) & 1, q >> 2
    i, j, k = i0 + right * (i1 - i0), j0 + up * (j1 - j0), k0 + out * (k1 - k0)
    a, b, c = 1.0 - u + right * (2.0 * u - 1.0), 1.0 - v + up * (2.0 * v - 1.0), 1.0 - w + out * (2.0 * w - 1.0)
    return (k.to(tl.int64) * ny + j) * nx + i, a * b * c


@triton.jit
def opacity_of(thick):
    """1 - exp(-x), also of small x."""
    small = thick * (1.0 - thick * (0.5 - thick * (1.0 / 6.0 - thick * (1.0 / 24.0))))
    return tl.where(thick < 0.02, small, 1.0 - tl.exp(-thick))
