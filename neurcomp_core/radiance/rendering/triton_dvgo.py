"""Triton kernels of a DVGO model: rays to samples with opacity, then colour of those that have a weight.

The quadrature is that of `dvgo_kernels`. Rays are walked twice, to count samples and to fill them in, so that they lie
ray by ray without gaps; density is looked up where free space is not known alone. Colour then is one kernel: features
of the eight corners, and the network's matrix products, none of which leave the chip.

Values are looked up in dense grids, or through `links` in rows that occupied samples have; then features lie in a table
that rows share by `slots`, samples without a row have the density `rest` and features of zero, and nothing is expanded.
"""
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportIndexIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from neurcomp_core.radiance.rendering.triton_rays import axis, corner, corner_of, enter, leap, opacity_of


@triton.jit
def _density(here, i0, j0, k0, i1, j1, k1, u, v, w, ny, nx, links, density, rest, SPARSE: tl.constexpr):
    """Interpolated density before activation of lanes that are `here`."""
    total = u * 0.0
    for q in tl.static_range(8):
        where, share = corner(q, i0, j0, k0, i1, j1, k1, u, v, w, ny, nx)
        if SPARSE:
            row = tl.load(links + where, mask=here, other=-1).to(tl.int64)
            value = tl.load(density + row, mask=here & (row >= 0), other=0.0)
            total += share * tl.where(row >= 0, value, rest)
        else:
            total += share * tl.load(density + where, mask=here, other=0.0)
    return total


@triton.jit
def _features(
    at_x, at_y, at_z, wanted, first, extents, links, slots, features, CHANNELS: tl.constexpr, WIDTH: tl.constexpr,
    TAKEN: tl.constexpr, SPARSE: tl.constexpr,
):  # fmt: skip
    """Interpolated channels `first` to `first` + `TAKEN` - 1 as ``(lanes, WIDTH)``, zeros in the padding."""
    nz, ny, nx = tl.load(extents), tl.load(extents + 1), tl.load(extents + 2)
    i0, i1, u = axis(at_x, nx)
    j0, j1, v = axis(at_y, ny)
    k0, k1, w = axis(at_z, nz)
    c = tl.arange(0, WIDTH)
    total = tl.zeros([at_x.shape[0], WIDTH], tl.float32)
    for q in range(8):
        where, share = corner_of(q, i0, j0, k0, i1, j1, k1, u, v, w, ny, nx)
        here = wanted
        if SPARSE:
            row = tl.load(links + where, mask=wanted, other=-1).to(tl.int64)
            here = wanted & (row >= 0)
            where = tl.load(slots + row, mask=here, other=0).to(tl.int64)
        at = where[:, None] * CHANNELS + first + c[None, :]
        total += share[:, None] * tl.load(features + at, mask=here[:, None] & (c < TAKEN)[None, :], other=0.0)
    return total


@triton.jit(do_not_specialize=["rays"])
def march(
    origins, directions, near, far, fractions, numbers, extents, distance, mask, links, density, starts, counts,
    opacity, depth, at, slope, weight, index, rays, stop, threshold, shift, unit, rest,
    BLOCK: tl.constexpr, MASKED: tl.constexpr, SPARSE: tl.constexpr, JITTER: tl.constexpr, FILL: tl.constexpr,
    LIT: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """See `dvgo_kernels.march`.

    Without `FILL`: `counts`, `opacity` and `depth` of rays. With it: `at` ``(n, 3)``, `slope`, `weight` and `index`,
    the ray, of samples from ``starts[ray]`` on. With `LIT` samples of no weight above `threshold` are not counted.
    """
    ray = tl.program_id(0) * LANES + tl.arange(0, LANES)
    alive = ray < rays
    begin, dt, length, steps, x, y, z, vx, vy, vz, mx, my, mz, wx, wy, wz = enter(
        origins, directions, near, far, numbers, ray, alive
    )
    length = length / unit
    fraction = tl.full([LANES], 0.5, tl.float32)
    if JITTER:
        fraction = tl.load(fractions + ray, mask=alive, other=0.5)
    nz, ny, nx = tl.load(extents), tl.load(extents + 1), tl.load(extents + 2)
    sz, sy, sx = tl.load(extents + 3), tl.load(extents + 4), tl.load(extents + 5)
    n = tl.zeros([LANES], tl.int32)
    found = tl.zeros([LANES], tl.int64)
    if FILL:
        found = tl.load(starts + ray.to(tl.int64), mask=alive, other=0)
    through = tl.full([LANES], 1.0, tl.float32)
    far_sum = tl.zeros([LANES], tl.float32)
    walking = alive & (n < steps)
    while tl.max(walking.to(tl.int32), axis=0) > 0:
        if MASKED:
            n = leap(n, walking, steps, fraction, mx, my, mz, wx, wy, wz, distance, extents, BLOCK)
        here = walking & (n < steps)
        size = tl.minimum(steps - n, 1.0)
        step = n + fraction * size
        occupied = here
        if MASKED:
            i = tl.minimum(tl.maximum(mx + step * wx + 0.5, 0.0).to(tl.int32), sx - 1)
            j = tl.minimum(tl.maximum(my + step * wy + 0.5, 0.0).to(tl.int32), sy - 1)
            k = tl.minimum(tl.maximum(mz + step * wz + 0.5, 0.0).to(tl.int32), sz - 1)
            known = tl.load(mask + ((k.to(tl.int64) * sy + j) * sx + i), mask=here, other=0)
            occupied = here & (known != 0)
        px, py, pz = x + step * vx, y + step * vy, z + step * vz
        i0, i1, u = axis(px, nx)
        j0, j1, v = axis(py, ny)
        k0, k1, w = axis(pz, nz)
        raw = shift + _density(occupied, i0, j0, k0, i1, j1, k1, u, v, w, ny, nx, links, density, rest, SPARSE)
        rise = tl.exp(tl.minimum(raw, 30.0))
        # log(1 + x), also of small x: before it is trained a field is nearly transparent.
        small = rise * (1.0 - rise * (0.5 - rise * (1.0 / 3.0 - rise * 0.25)))
        thick = tl.where(raw < 30.0, tl.where(rise < 0.01, small, tl.log(1.0 + rise)), raw)
        alpha = opacity_of(thick * size * length)
        met = occupied & (alpha > threshold)
        share = tl.where(met, through * alpha, 0.0)
        counted = met
        if LIT:
            counted = met & (share > threshold)
        if FILL:
            tl.store(at + 3 * found, px, mask=counted)
            tl.store(at + 3 * found + 1, py, mask=counted)
            tl.store(at + 3 * found + 2, pz, mask=counted)
            tl.store(slope + found, rise / (1.0 + rise) * size * length, mask=counted)
            tl.store(weight + found, share, mask=counted)
            tl.store(index + found, ray, mask=counted)
        far_sum += share * (begin + step * dt)
        through -= share
        found += tl.where(counted, 1, 0)
        n += tl.where(here, 1, 0)
        walking = here & (n < steps) & (through >= stop)
    if not FILL:
        tl.store(counts + ray, found, mask=alive)
        tl.store(opacity + ray, 1.0 - through, mask=alive)
        tl.store(depth + ray, far_sum, mask=alive)


@triton.jit(do_not_specialize=["count"])
def gather(
    at, extents, links, slots, features, out, count,
    CHANNELS: tl.constexpr, WIDTH: tl.constexpr, SPARSE: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Interpolated features ``(count, CHANNELS)`` at positions in voxels ``(count, 3)``."""
    n = (tl.program_id(0) * LANES + tl.arange(0, LANES)).to(tl.int64)
    c = tl.arange(0, WIDTH)
    wanted = n < count
    x = tl.load(at + 3 * n, mask=wanted, other=0.0)
    y = tl.load(at + 3 * n + 1, mask=wanted, other=0.0)
    z = tl.load(at + 3 * n + 2, mask=wanted, other=0.0)
    values = _features(x, y, z, wanted, 0, extents, links, slots, features, CHANNELS, WIDTH, CHANNELS, SPARSE)
    tl.store(out + n[:, None] * CHANNELS + c[None, :], values, mask=wanted[:, None] & (c < CHANNELS)[None, :])


@triton.jit(do_not_specialize=["count"])
def scatter(
    at, extents, upstream, gradient, count, CHANNELS: tl.constexpr, WIDTH: tl.constexpr, LANES: tl.constexpr
):  # fmt: skip
    """Add trilinear shares of `upstream` ``(count, CHANNELS)`` to a dense grid, in no fixed order."""
    n = (tl.program_id(0) * LANES + tl.arange(0, LANES)).to(tl.int64)
    c = tl.arange(0, WIDTH)
    wanted = n < count
    nz, ny, nx = tl.load(extents), tl.load(extents + 1), tl.load(extents + 2)
    i0, i1, u = axis(tl.load(at + 3 * n, mask=wanted, other=0.0), nx)
    j0, j1, v = axis(tl.load(at + 3 * n + 1, mask=wanted, other=0.0), ny)
    k0, k1, w = axis(tl.load(at + 3 * n + 2, mask=wanted, other=0.0), nz)
    inside = wanted[:, None] & (c < CHANNELS)[None, :]
    values = tl.load(upstream + n[:, None] * CHANNELS + c[None, :], mask=inside, other=0.0)
    for q in tl.static_range(8):
        where, share = corner(q, i0, j0, k0, i1, j1, k1, u, v, w, ny, nx)
        place = where[:, None] * CHANNELS + c[None, :]
        tl.atomic_add(gradient + place, share[:, None] * values, mask=inside, sem="relaxed")


@triton.jit
def _tile(matrix, row, column, STRIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Transposed ``(COLUMNS, ROWS)`` part of a matrix whose rows have `STRIDE` numbers, from `row` and `column` on."""
    r, c = row + tl.arange(0, ROWS), column + tl.arange(0, COLUMNS)
    return tl.load(matrix + r[None, :] * STRIDE + c[:, None])


@triton.jit(do_not_specialize=["count"])
def shade(
    at, index, waves, extents, links, slots, features, inner, outer, bias, hidden, hidden_bias, last, last_bias, rgb,
    count,
    CHANNELS: tl.constexpr, DIRECT: tl.constexpr, INPUTS: tl.constexpr, WAVES: tl.constexpr, WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr, PART: tl.constexpr, SPARSE: tl.constexpr, PRECISION: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Colours ``(count, 3)`` of samples: features and direction through a network of two layers, or of three.

    Directions are encoded in `waves` ``(rays, WAVES)``. Weights are padded with zeros: `inner` ``(WIDTH, INPUTS)`` of
    features and `outer` ``(WIDTH, WAVES)`` of directions in the first layer, `hidden` ``(WIDTH, WIDTH)`` of the second
    one if there is one (`HIDDEN`), `last` ``(16, WIDTH)``. The layer before the last is made `PART` units at a time.
    """
    n = (tl.program_id(0) * LANES + tl.arange(0, LANES)).to(tl.int64)
    wanted = n < count
    x = tl.load(at + 3 * n, mask=wanted, other=0.0)
    y = tl.load(at + 3 * n + 1, mask=wanted, other=0.0)
    z = tl.load(at + 3 * n + 2, mask=wanted, other=0.0)
    ray = tl.load(index + n, mask=wanted, other=0).to(tl.int64)
    first: tl.constexpr = 0 if DIRECT else 3  # pyright: ignore[reportAssignmentType]
    given = _features(
        x, y, z, wanted, first, extents, links, slots, features, CHANNELS, INPUTS, CHANNELS - first, SPARSE
    )
    toward = tl.load(waves + ray[:, None] * WAVES + tl.arange(0, WAVES)[None, :], mask=wanted[:, None], other=0.0)
    color = tl.arange(0, 16)
    logits = tl.zeros([LANES, 16], tl.float32) + tl.load(last_bias + color)[None, :]
    if HIDDEN:
        units = tl.zeros([LANES, WIDTH], tl.float32) + tl.load(bias + tl.arange(0, WIDTH))[None, :]
        units = tl.dot(given, _tile(inner, 0, 0, INPUTS, WIDTH, INPUTS), units, input_precision=PRECISION)
        units = tl.dot(toward, _tile(outer, 0, 0, WAVES, WIDTH, WAVES), units, input_precision=PRECISION)
        units = tl.maximum(units, 0.0)
        for p in tl.static_range(WIDTH // PART):
            some = tl.zeros([LANES, PART], tl.float32) + tl.load(hidden_bias + p * PART + tl.arange(0, PART))[None, :]
            some = tl.dot(units, _tile(hidden, p * PART, 0, WIDTH, PART, WIDTH), some, input_precision=PRECISION)
            some = tl.maximum(some, 0.0)
            logits = tl.dot(some, _tile(last, 0, p * PART, WIDTH, 16, PART), logits, input_precision=PRECISION)
    else:
        for p in tl.static_range(WIDTH // PART):
            some = tl.zeros([LANES, PART], tl.float32) + tl.load(bias + p * PART + tl.arange(0, PART))[None, :]
            some = tl.dot(given, _tile(inner, p * PART, 0, INPUTS, PART, INPUTS), some, input_precision=PRECISION)
            some = tl.dot(toward, _tile(outer, p * PART, 0, WAVES, PART, WAVES), some, input_precision=PRECISION)
            some = tl.maximum(some, 0.0)
            logits = tl.dot(some, _tile(last, 0, p * PART, WIDTH, 16, PART), logits, input_precision=PRECISION)
    if not DIRECT:
        logits += _features(x, y, z, wanted, 0, extents, links, slots, features, CHANNELS, 16, 3, SPARSE)
    value = 1.0 / (1.0 + tl.exp(-logits))
    tl.store(rgb + n[:, None] * 3 + color[None, :], value, mask=wanted[:, None] & (color < 3)[None, :])


@triton.jit(do_not_specialize=["rays"])
def mix(starts, weight, rgb, color, rays, LANES: tl.constexpr):
    """Colour ``(rays, 3)``: sum of weight times rgb over samples ``starts[ray]`` to ``starts[ray + 1] - 1``."""
    ray = (tl.program_id(0) * LANES + tl.arange(0, LANES)).to(tl.int64)
    alive = ray < rays
    n = tl.load(starts + ray, mask=alive, other=0)
    last = tl.load(starts + ray + 1, mask=alive, other=0)
    red, green, blue = tl.zeros([LANES], tl.float32), tl.zeros([LANES], tl.float32), tl.zeros([LANES], tl.float32)
    here = n < last
    while tl.max(here.to(tl.int32), axis=0) > 0:
        share = tl.load(weight + n, mask=here, other=0.0)
        red += share * tl.load(rgb + 3 * n, mask=here, other=0.0)
        green += share * tl.load(rgb + 3 * n + 1, mask=here, other=0.0)
        blue += share * tl.load(rgb + 3 * n + 2, mask=here, other=0.0)
        n += tl.where(here, 1, 0)
        here = n < last
    tl.store(color + 3 * ray, red, mask=alive)
    tl.store(color + 3 * ray + 1, green, mask=alive)
    tl.store(color + 3 * ray + 2, blue, mask=alive)
