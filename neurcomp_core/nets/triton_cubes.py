"""Triton kernels of the hash-grid encoding of cubes of 2 x 2 x 2 samples that lie less than a cell apart.

A lane takes a cube at one level. Its samples have two places along each axis, which together touch three vertices: the
cube reads each of 27 vertices once, where eight samples would read 64, and interpolation is separable, along x, then y,
then z. On the way back the same sums in the other order leave one number per vertex and feature to add. The third
vertex along an axis is skipped where no sample reaches it: cubes cost 8 accesses where cells are large, which is where
atomic additions to the same few entries would queue, and 27 where cells are as small as samples.
"""
# Triton's language is not typed.
# pyright: reportArgumentType=false, reportGeneralTypeIssues=false, reportOperatorIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from neurcomp_core.nets.triton_tables import cell_of, entry_of, level_of, pair_at


@triton.jit
def _ends(points, cube, inside, scale, AXIS: tl.constexpr, SMOOTH: tl.constexpr):
    """Along an axis: lowest vertex, the near sample's weight, whether the far one is a cell further, its weight."""
    low, near = cell_of(points, cube * 8, inside, scale, AXIS, True, SMOOTH)
    high, far = cell_of(points, cube * 8 + 7, inside, scale, AXIS, True, SMOOTH)
    return low, near, high > low, far


@triton.jit
def _near(weight, V: tl.constexpr):
    """What the near sample weighs the vertex `V` above the lowest with."""
    if V == 0:
        found = 1.0 - weight
    elif V == 1:
        found = weight
    else:
        found = tl.zeros_like(weight)
    return found


@triton.jit
def _far(beyond, weight, V: tl.constexpr):
    """What the far sample does."""
    if V == 0:
        found = tl.where(beyond, 0.0, 1.0 - weight)
    elif V == 1:
        found = tl.where(beyond, 1.0 - weight, weight)
    else:
        found = tl.where(beyond, weight, 0.0)
    return found


@triton.jit
def _all(a, b, c, d, e, f, g, h, COUNT: tl.constexpr):
    """Eight values per cube, x fastest, as one line of samples."""
    # A join adds the fastest axis, so z comes first.
    line = tl.join(tl.join(tl.join(a, e), tl.join(c, g)), tl.join(tl.join(b, f), tl.join(d, h)))
    return tl.reshape(line, (COUNT,))


@triton.jit
def forward_cubes(
    points, table, scales, strides, firsts, out, n,
    PAIRS: tl.constexpr, HALF: tl.constexpr, SMOOTH: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Interpolate: `out` ``(levels * 2 * PAIRS, n)``; program (tile of cubes, level, pair of features)."""
    level, pair = tl.program_id(1), tl.program_id(2)
    scale, by_y, by_z, size, dense, first = level_of(scales, strides, firsts, level)
    cube = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    here = cube * 8 < n
    x, near_x, over_x, far_x = _ends(points, cube, here, scale, 0, SMOOTH)
    y, near_y, over_y, far_y = _ends(points, cube, here, scale, 1, SMOOTH)
    z, near_z, over_z, far_z = _ends(points, cube, here, scale, 2, SMOOTH)
    none = tl.zeros((TILE,), tl.float32)
    # Sums of the eight samples, named by their x, y and z, of the pair's first and second feature.
    s000, s100, s010, s110, s001, s101, s011, s111 = none, none, none, none, none, none, none, none
    t000, t100, t010, t110, t001, t101, t011, t111 = none, none, none, none, none, none, none, none
    for c in tl.static_range(3):
        # Of the plane's four samples.
        p00, p10, p01, p11 = none, none, none, none
        q00, q10, q01, q11 = none, none, none, none
        for b in tl.static_range(3):
            # Of the row's two.
            u0, u1, v0, v1 = none, none, none, none
            for a in tl.static_range(3):
                wanted = here
                if a == 2:
                    wanted = wanted & over_x
                if b == 2:
                    wanted = wanted & over_y
                if c == 2:
                    wanted = wanted & over_z
                row = first + entry_of(x + a, (y + b) * by_y, (z + c) * by_z, size, dense)
                value, other = pair_at(table, row * PAIRS + pair, wanted, HALF)
                u0 += _near(near_x, a) * value
                u1 += _far(over_x, far_x, a) * value
                v0 += _near(near_x, a) * other
                v1 += _far(over_x, far_x, a) * other
            share, further = _near(near_y, b), _far(over_y, far_y, b)
            p00 += share * u0
            p10 += share * u1
            p01 += further * u0
            p11 += further * u1
            q00 += share * v0
            q10 += share * v1
            q01 += further * v0
            q11 += further * v1
        share, further = _near(near_z, c), _far(over_z, far_z, c)
        s000 += share * p00
        s100 += share * p10
        s010 += share * p01
        s110 += share * p11
        s001 += further * p00
        s101 += further * p10
        s011 += further * p01
        s111 += further * p11
        t000 += share * q00
        t100 += share * q10
        t010 += share * q01
        t110 += share * q11
        t001 += further * q00
        t101 += further * q10
        t011 += further * q01
        t111 += further * q11
    at = tl.program_id(0).to(tl.int64) * (8 * TILE) + tl.arange(0, 8 * TILE)
    target = out + (level * PAIRS + pair).to(tl.int64) * 2 * n + at
    tl.store(target, _all(s000, s100, s010, s110, s001, s101, s011, s111, 8 * TILE), mask=at < n)
    tl.store(target + n, _all(t000, t100, t010, t110, t001, t101, t011, t111, 8 * TILE), mask=at < n)


@triton.jit
def backward_cubes(
    points, upstream, scales, strides, firsts, gradient, n,
    PAIRS: tl.constexpr, SMOOTH: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Add what `upstream` ``(levels * 2 * PAIRS, n)`` gives each entry to `gradient`; programs as in `forward_cubes`,
    with one feature each.
    """
    level, feature = tl.program_id(1), tl.program_id(2)
    scale, by_y, by_z, size, dense, first = level_of(scales, strides, firsts, level)
    cube = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    here = cube * 8 < n
    x, near_x, over_x, far_x = _ends(points, cube, here, scale, 0, SMOOTH)
    y, near_y, over_y, far_y = _ends(points, cube, here, scale, 1, SMOOTH)
    z, near_z, over_z, far_z = _ends(points, cube, here, scale, 2, SMOOTH)
    at = tl.program_id(0).to(tl.int64) * (8 * TILE) + tl.arange(0, 8 * TILE)
    given = tl.load(upstream + (level * 2 * PAIRS + feature).to(tl.int64) * n + at, mask=at < n, other=0.0)
    # Named by x, then y, then z: a split takes the fastest axis away.
    g0, g1 = tl.split(tl.reshape(given.to(tl.float32), (TILE, 2, 2, 2)))
    g00, g01 = tl.split(g0)
    g10, g11 = tl.split(g1)
    g000, g001 = tl.split(g00)
    g010, g011 = tl.split(g01)
    g100, g101 = tl.split(g10)
    g110, g111 = tl.split(g11)
    for c in tl.static_range(3):
        share, further = _near(near_z, c), _far(over_z, far_z, c)
        p00 = share * g000 + further * g001
        p01 = share * g010 + further * g011
        p10 = share * g100 + further * g101
        p11 = share * g110 + further * g111
        for b in tl.static_range(3):
            share_y, further_y = _near(near_y, b), _far(over_y, far_y, b)
            u0 = share_y * p00 + further_y * p01
            u1 = share_y * p10 + further_y * p11
            for a in tl.static_range(3):
                wanted = here
                if a == 2:
                    wanted = wanted & over_x
                if b == 2:
                    wanted = wanted & over_y
                if c == 2:
                    wanted = wanted & over_z
                row = first + entry_of(x + a, (y + b) * by_y, (z + c) * by_z, size, dense)
                value = _near(near_x, a) * u0 + _far(over_x, far_x, a) * u1
                tl.atomic_add(gradient + row * (2 * PAIRS) + feature, value, mask=wanted, sem="relaxed")
