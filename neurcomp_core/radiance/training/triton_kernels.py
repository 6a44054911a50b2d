"""Triton kernels of training: losses along rays, total variation, and optimisers that move what has a gradient.

They are `regulariser_kernels`, `optimiser_kernels` and `dvgo_kernels` once more; sums that meet are added in no fixed
order.
"""
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportIndexIssue=false

from __future__ import annotations

import triton
import triton.language as tl

_TINY = tl.constexpr(1e-12)
_SURE = tl.constexpr(1e-6)


@triton.jit(do_not_specialize=["count"])
def rmsprop(values, square, gradient, count, rate, decay, LANES: tl.constexpr):
    """See `optimiser_kernels.rmsprop`; of all numbers ``(count,)``."""
    n = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    g = tl.load(gradient + n, mask=n < count, other=0.0)
    met = (n < count) & (g != 0.0)
    before = tl.load(square + n, mask=met, other=0.0)
    now = tl.where(before == 0.0, g * g, decay * before + (1.0 - decay) * g * g)
    value = tl.load(values + n, mask=met, other=0.0)
    tl.store(square + n, now, mask=met)
    tl.store(values + n, value - rate * g / (tl.sqrt(now) + _TINY), mask=met)
    tl.store(gradient + n, 0.0, mask=met)


@triton.jit(do_not_specialize=["count"])
def adam(
    values, mean, square, gradient, pace, count, rate, decay_mean, decay_square, tiny,
    CHANNELS: tl.constexpr, PACED: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """See `dvgo_kernels.adam`; of all numbers ``(count,)``, `CHANNELS` to a sample."""
    n = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    g = tl.load(gradient + n, mask=n < count, other=0.0)
    met = (n < count) & (g != 0.0)
    tl.store(gradient + n, 0.0, mask=met)
    speed = g * 0.0 + rate
    if PACED:
        speed *= tl.load(pace + n // CHANNELS, mask=met, other=0.0)
        met &= speed != 0.0
    m = decay_mean * tl.load(mean + n, mask=met, other=0.0) + (1.0 - decay_mean) * g
    s = decay_square * tl.load(square + n, mask=met, other=0.0) + (1.0 - decay_square) * g * g
    value = tl.load(values + n, mask=met, other=0.0)
    tl.store(mean + n, m, mask=met)
    tl.store(square + n, s, mask=met)
    tl.store(values + n, value - speed * m / (tl.sqrt(s) + tiny), mask=met)


@triton.jit(do_not_specialize=["first", "last"])
def row_variation(
    values, gradient, ahead, scales, first, last, weight, EDGES: tl.constexpr, CHANNELS: tl.constexpr,
    WIDTH: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """See `regulariser_kernels.add_gradient`; rows have `WIDTH` numbers, `CHANNELS` of which count."""
    row = first + (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    c = tl.arange(0, WIDTH)
    wanted = (row < last)[:, None] & (c < CHANNELS)[None, :]
    place = row[:, None] * WIDTH + c[None, :]
    here = tl.load(values + place, mask=wanted, other=0.0)
    square = tl.zeros([ROWS, WIDTH], tl.float32) + 1e-9
    for a in tl.static_range(3):
        other = tl.load(ahead + 3 * row + a, mask=row < last, other=-2).to(tl.int64)
        there = tl.load(values + other[:, None] * WIDTH + c[None, :], mask=wanted & (other >= 0)[:, None], other=0.0)
        counted = other >= 0
        if EDGES:
            counted = other >= -1
        apart = tl.where(counted[:, None], tl.load(scales + a) * (there - here), 0.0)
        square += apart * apart
    slope = weight / tl.sqrt(square)
    own = tl.zeros([ROWS, WIDTH], tl.float32)
    for a in tl.static_range(3):
        other = tl.load(ahead + 3 * row + a, mask=row < last, other=-2).to(tl.int64)
        next_one = other[:, None] * WIDTH + c[None, :]
        there = tl.load(values + next_one, mask=wanted & (other >= 0)[:, None], other=0.0)
        counted = other >= 0
        if EDGES:
            counted = other >= -1
        scale = tl.load(scales + a)
        change = tl.where(counted[:, None], slope * scale * scale * (there - here), 0.0)
        own -= change
        tl.atomic_add(gradient + next_one, change, mask=wanted & (other >= 0)[:, None], sem="relaxed")
    tl.atomic_add(gradient + place, own, mask=wanted, sem="relaxed")


@triton.jit
def _pull(values, here, there, wanted):
    """Slope of the Huber loss of the difference to a neighbour."""
    other = tl.load(values + there, mask=wanted, other=0.0)
    return tl.where(wanted, tl.minimum(tl.maximum(here - other, -1.0), 1.0), 0.0)


@triton.jit
def grid_variation(
    values, gradient, extents, weight, CHANNELS: tl.constexpr, WIDTH: tl.constexpr, SAMPLES: tl.constexpr
):
    """See `dvgo_kernels.variation`: where a sample has a gradient in any channel."""
    nz, ny, nx = tl.load(extents), tl.load(extents + 1), tl.load(extents + 2)
    n = tl.program_id(0).to(tl.int64) * SAMPLES + tl.arange(0, SAMPLES)
    inside = n < nz.to(tl.int64) * ny * nx
    c = tl.arange(0, WIDTH)
    wanted = inside[:, None] & (c < CHANNELS)[None, :]
    place = n[:, None] * CHANNELS + c[None, :]
    g = tl.load(gradient + place, mask=wanted, other=0.0)
    met = tl.max(tl.where(g != 0.0, 1, 0), axis=1) > 0
    wanted = wanted & met[:, None]
    here = tl.load(values + place, mask=wanted, other=0.0)
    i, j, k = n % nx, (n // nx) % ny, n // (nx * ny)
    line, layer = CHANNELS * nx.to(tl.int64), CHANNELS * nx.to(tl.int64) * ny
    total = _pull(values, here, place - CHANNELS, wanted & (i > 0)[:, None])
    total += _pull(values, here, place + CHANNELS, wanted & (i < nx - 1)[:, None])
    total += _pull(values, here, place - line, wanted & (j > 0)[:, None])
    total += _pull(values, here, place + line, wanted & (j < ny - 1)[:, None])
    total += _pull(values, here, place - layer, wanted & (k > 0)[:, None])
    total += _pull(values, here, place + layer, wanted & (k < nz - 1)[:, None])
    tl.store(gradient + place, g + weight * total, mask=wanted)


@triton.jit(do_not_specialize=["rays"])
def losses(
    starts, weight, slope, number, rgb, target, background, squared, g_density, g_logits, rays, entropy, point,
    LANES: tl.constexpr,
):  # fmt: skip
    """See `dvgo_kernels.losses`; `number` ``(n,)`` is that of a sample among the lit ones, or negative."""
    ray = (tl.program_id(0) * LANES + tl.arange(0, LANES)).to(tl.int64)
    alive = ray < rays
    first = tl.load(starts + ray, mask=alive, other=0)
    last = tl.load(starts + ray + 1, mask=alive, other=0)
    red, green, blue = tl.zeros([LANES], tl.float32), tl.zeros([LANES], tl.float32), tl.zeros([LANES], tl.float32)
    through = tl.full([LANES], 1.0, tl.float32)
    n = first
    here = alive & (n < last)
    while tl.max(here.to(tl.int32), axis=0) > 0:
        w = tl.load(weight + n, mask=here, other=0.0)
        m = tl.load(number + n, mask=here, other=-1).to(tl.int64)
        lit = here & (m >= 0)
        red += w * tl.load(rgb + 3 * m, mask=lit, other=0.0)
        green += w * tl.load(rgb + 3 * m + 1, mask=lit, other=0.0)
        blue += w * tl.load(rgb + 3 * m + 2, mask=lit, other=0.0)
        through -= w
        n += tl.where(here, 1, 0)
        here = alive & (n < last)
    behind_r, behind_g, behind_b = tl.load(background), tl.load(background + 1), tl.load(background + 2)
    want_r = tl.load(target + 3 * ray, mask=alive, other=0.0)
    want_g = tl.load(target + 3 * ray + 1, mask=alive, other=0.0)
    want_b = tl.load(target + 3 * ray + 2, mask=alive, other=0.0)
    error_r = red + through * behind_r - want_r
    error_g = green + through * behind_g - want_g
    error_b = blue + through * behind_b - want_b
    tl.store(squared + ray, (error_r * error_r + error_g * error_g + error_b * error_b) / 3.0, mask=alive)
    scale = 2.0 / (3.0 * rays)
    gr, gg, gb = scale * error_r, scale * error_g, scale * error_b
    # Of opacity O = 1 - T, through the background and the entropy of T.
    g_opacity = -(gr * behind_r + gg * behind_g + gb * behind_b)
    unsure = (through > _SURE) & (through < 1.0 - _SURE)
    odds = tl.log(tl.where(unsure, (1.0 - through) / through, 1.0))
    g_opacity -= tl.where(unsure, entropy / rays * odds, 0.0)
    rest = g_opacity * (1.0 - through) + gr * red + gg * green + gb * blue
    own = 2.0 * point / rays
    left = tl.full([LANES], 1.0, tl.float32)
    n = first
    here = alive & (n < last)
    while tl.max(here.to(tl.int32), axis=0) > 0:
        w = tl.load(weight + n, mask=here, other=0.0)
        m = tl.load(number + n, mask=here, other=-1).to(tl.int64)
        lit = here & (m >= 0)
        a = tl.load(rgb + 3 * m, mask=lit, other=0.0)
        b = tl.load(rgb + 3 * m + 1, mask=lit, other=0.0)
        c = tl.load(rgb + 3 * m + 2, mask=lit, other=0.0)
        seen = g_opacity + gr * a + gg * b + gb * c
        tl.store(g_logits + 3 * m, w * (gr + own * (a - want_r)) * a * (1.0 - a), mask=lit)
        tl.store(g_logits + 3 * m + 1, w * (gg + own * (b - want_g)) * b * (1.0 - b), mask=lit)
        tl.store(g_logits + 3 * m + 2, w * (gb + own * (c - want_b)) * c * (1.0 - c), mask=lit)
        rest -= w * seen
        left -= w
        tl.store(g_density + n, tl.load(slope + n, mask=here, other=0.0) * (left * seen - rest), mask=here)
        n += tl.where(here, 1, 0)
        here = alive & (n < last)
