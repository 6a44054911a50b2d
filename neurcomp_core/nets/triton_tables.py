"""What Triton kernels of hash grids share: where a point lies in a level, which entry a vertex has, what that holds.

Indices are those of `nets.grid`, in 32-bit integers that wrap as the unsigned ones of `nets.kernels` do. Kernels take
features in pairs where their number is even: a pair is one read, of 32 bits from float16 tables and 64 from float32.
"""
# Triton's language is not typed.
# pyright: reportAssignmentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl

from neurcomp_core.nets.grid import PRIME_Y, PRIME_Z, GridLayout


class Levels(NamedTuple):
    """A layout's levels on a device."""

    scales: torch.Tensor  # (levels,) float32
    strides: torch.Tensor  # (levels, 4) int32: factors of y and of z, table size, whether dense
    firsts: torch.Tensor  # (levels,) int64


@lru_cache(maxsize=32)
def levels_of(layout: GridLayout, device: torch.device) -> Levels:
    """What `level_of` reads."""
    dense = layout.dense
    by_y = np.where(dense, layout.resolutions, PRIME_Y)
    by_z = np.where(dense, layout.resolutions**2, PRIME_Z)
    # Wraps the primes into signed integers, whose products and sums have the same bits.
    strides = np.stack([by_y, by_z, layout.sizes, dense], axis=1).astype(np.uint64).astype(np.uint32).view(np.int32)
    return Levels(
        torch.from_numpy(layout.scales.astype(np.float32)).to(device),
        torch.from_numpy(np.ascontiguousarray(strides)).to(device),
        torch.from_numpy(layout.firsts).to(device),
    )


def packed(table: torch.Tensor) -> torch.Tensor:
    """A table of an even number of features with each pair of them as one integer."""
    return table.view(torch.int32 if table.dtype == torch.float16 else torch.int64)


@triton.jit
def level_of(scales, strides, firsts, level):
    """Scale, factors of y and z, size, whether dense, first row."""
    by = strides + level * 4
    return (
        tl.load(scales + level),
        tl.load(by),
        tl.load(by + 1),
        tl.load(by + 2),
        tl.load(by + 3),
        tl.load(firsts + level),
    )


@triton.jit
def cell_of(points, at, inside, scale, AXIS: tl.constexpr, PRESENT: tl.constexpr, SMOOTH: tl.constexpr):
    """Lower vertex of points `at` along an axis, and the weight of the upper one; 0 along an axis that is not there."""
    half: tl.constexpr = 0.5 if PRESENT else 0.0
    position = tl.load(points + at * 3 + AXIS, mask=inside, other=0.0) * scale + half
    vertex = tl.floor(position)
    weight = position - vertex
    if SMOOTH:
        weight = weight * weight * (3.0 - 2.0 * weight)
    return vertex.to(tl.int32), weight


@triton.jit
def entry_of(x, y, z, size, dense):
    """Index in a level's table; `y` and `z` are multiplied by their stride or prime."""
    flat = x + y + z
    flat = tl.where(flat >= size, flat - size, flat)
    mixed = (x ^ y ^ z) & (size - 1)
    return tl.where(dense != 0, flat, mixed).to(tl.int64)


@triton.jit
def pair_at(table, at, inside, HALF: tl.constexpr):
    """Two features as float32, of a `packed` table; HALF if it is of float16."""
    both = tl.load(table + at, mask=inside, other=0)
    if HALF:
        first = both.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
        second = (both >> 16).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    else:
        first = both.to(tl.int32).to(tl.float32, bitcast=True)
        second = (both >> 32).to(tl.int32).to(tl.float32, bitcast=True)
    return first, second
