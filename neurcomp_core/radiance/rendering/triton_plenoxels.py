"""Triton kernels of a sparse grid with spherical harmonics: sample, shade and composite along rays, and gradients.

The quadrature and the gradients are those of `march_kernels`. A lane walks a ray; once a lane of its program has met
density, colour is mixed for all of them, coefficients side by side, from rows padded to a power of two. Rows of
coefficients may be shared: then `slots` says which one a row of densities has, and nothing is ever expanded.
"""
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportCallIssue=false, reportGeneralTypeIssues=false, reportIndexIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from neurcomp_core.radiance.rendering.triton_rays import axis, corner, corner_of, enter, leap, opacity_of


@triton.jit
def _density(here, i0, j0, k0, i1, j1, k1, u, v, w, ny, nx, links, density):
    """Interpolated density of lanes that are `here`; empty corners count as zero."""
    total = u * 0.0
    for q in tl.static_range(8):
        where, share = corner(q, i0, j0, k0, i1, j1, k1, u, v, w, ny, nx)
        row = tl.load(links + where, mask=here, other=-1)
        total += share * tl.load(density + row.to(tl.int64), mask=here & (row >= 0), other=0.0)
    return total


@triton.jit
def _slope(here, i0, j0, k0, i1, j1, k1, u, v, w, ny, nx, links, density):
    """Its gradient with respect to position in voxels."""
    x, y, z = u * 0.0, u * 0.0, u * 0.0
    for q in tl.static_range(8):
        where, _ = corner(q, i0, j0, k0, i1, j1, k1, u, v, w, ny, nx)
        row = tl.load(links + where, mask=here, other=-1)
        value = tl.load(density + row.to(tl.int64), mask=here & (row >= 0), other=0.0)
        a, b, c = 1.0 - u, 1.0 - v, 1.0 - w
        along_x, along_y, along_z = -value, -value, -value
        if q & 1:
            a, along_x = u, value
        if q & 2:
            b, along_y = v, value
        if q & 4:
            c, along_z = w, value
        x += along_x * b * c
        y += along_y * a * c
        z += along_z * a * b
    return x, y, z


@triton.jit
def _mixed(lit, i0, j0, k0, i1, j1, k1, u, v, w, ny, nx, links, slots, sh, WIDTH: tl.constexpr, SHARED: tl.constexpr):
    """Interpolated coefficients ``(lanes, WIDTH)`` of lanes that are `lit`."""
    k = tl.arange(0, WIDTH)
    total = tl.zeros([lit.shape[0], WIDTH], tl.float32)
    for q in range(8):
        where, share = corner_of(q, i0, j0, k0, i1, j1, k1, u, v, w, ny, nx)
        row = tl.load(links + where, mask=lit, other=-1)
        here = lit & (row >= 0)
        if SHARED:
            row = tl.load(slots + row.to(tl.int64), mask=here, other=0)
        at = row.to(tl.int64)[:, None] * WIDTH + k[None, :]
        total += share[:, None] * tl.load(sh + at, mask=here[:, None], other=0.0)
    return total


@triton.jit
def _waves(basis, ray, alive, FUNCTIONS: tl.constexpr, WIDTH: tl.constexpr):
    """Basis functions ``(lanes, WIDTH)`` once for each channel; zero in the padding."""
    k = tl.arange(0, WIDTH)
    at = ray.to(tl.int64)[:, None] * FUNCTIONS + (k % FUNCTIONS)[None, :]
    return tl.load(basis + at, mask=alive[:, None] & (k < 3 * FUNCTIONS)[None, :], other=0.0)


@triton.jit
def _channel(values, c: tl.constexpr, FUNCTIONS: tl.constexpr, WIDTH: tl.constexpr):
    """Sum ``(lanes,)`` over the functions of a channel."""
    k = tl.arange(0, WIDTH)
    return tl.sum(tl.where((k // FUNCTIONS == c)[None, :], values, 0.0), axis=1)


@triton.jit(do_not_specialize=["rays"])
def forward(
    origins, directions, near, far, fractions, basis, numbers, extents, distance, links, density, sh, slots, color,
    opacity, depth, penalty, normal, stops, rays, stop,
    BLOCK: tl.constexpr, FUNCTIONS: tl.constexpr, WIDTH: tl.constexpr, SHARED: tl.constexpr, JITTER: tl.constexpr,
    PENALTY: tl.constexpr, NORMALS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """See `march_kernels.forward`; rows of `sh` have `WIDTH` numbers."""
    ray = tl.program_id(0) * LANES + tl.arange(0, LANES)
    alive = ray < rays
    begin, dt, length, steps, x, y, z, vx, vy, vz, mx, my, mz, wx, wy, wz = enter(
        origins, directions, near, far, numbers, ray, alive
    )
    fraction = tl.full([LANES], 0.5, tl.float32)
    if JITTER:
        fraction = tl.load(fractions + ray, mask=alive, other=0.5)
    waves = _waves(basis, ray, alive, FUNCTIONS, WIDTH)
    nz, ny, nx = tl.load(extents), tl.load(extents + 1), tl.load(extents + 2)
    n = tl.zeros([LANES], tl.int32)
    through = tl.full([LANES], 1.0, tl.float32)
    red, green, blue = tl.zeros([LANES], tl.float32), tl.zeros([LANES], tl.float32), tl.zeros([LANES], tl.float32)
    far_sum, thin = tl.zeros([LANES], tl.float32), tl.zeros([LANES], tl.float32)
    sx, sy, sz = tl.zeros([LANES], tl.float32), tl.zeros([LANES], tl.float32), tl.zeros([LANES], tl.float32)
    walking = alive & (n < steps)
    while tl.max(walking.to(tl.int32), axis=0) > 0:
        n = leap(n, walking, steps, fraction, mx, my, mz, wx, wy, wz, distance, extents, BLOCK)
        here = walking & (n < steps)
        size = tl.minimum(steps - n, 1.0)
        at = n + fraction * size
        i0, i1, u = axis(x + at * vx, nx)
        j0, j1, v = axis(y + at * vy, ny)
        k0, k1, w = axis(z + at * vz, nz)
        sigma = _density(here, i0, j0, k0, i1, j1, k1, u, v, w, ny, nx, links, density)
        lit = here & (sigma > 0.0)
        if tl.max(lit.to(tl.int32), axis=0) > 0:
            weight = tl.where(lit, through * opacity_of(sigma * size * length), 0.0)
            mixed = waves * _mixed(lit, i0, j0, k0, i1, j1, k1, u, v, w, ny, nx, links, slots, sh, WIDTH, SHARED)
            red += weight * tl.maximum(0.5 + _channel(mixed, 0, FUNCTIONS, WIDTH), 0.0)
            green += weight * tl.maximum(0.5 + _channel(mixed, 1, FUNCTIONS, WIDTH), 0.0)
            blue += weight * tl.maximum(0.5 + _channel(mixed, 2, FUNCTIONS, WIDTH), 0.0)
            far_sum += weight * (begin + at * dt)
            through -= weight
            if PENALTY:
                thin += tl.where(lit, tl.log(1.0 + 2.0 * sigma * sigma), 0.0)
            if NORMALS:
                a, b, c = _slope(lit, i0, j0, k0, i1, j1, k1, u, v, w, ny, nx, links, density)
                a *= tl.load(numbers + 6).to(tl.float32)
                b *= tl.load(numbers + 7).to(tl.float32)
                c *= tl.load(numbers + 8).to(tl.float32)
                norm = tl.sqrt(a * a + b * b + c * c)
                turned = tl.where(norm > 0.0, weight / tl.where(norm > 0.0, norm, 1.0), 0.0)
                sx -= turned * a
                sy -= turned * b
                sz -= turned * c
        n += tl.where(here, 1, 0)
        walking = here & (n < steps) & (through >= stop)
    out = ray.to(tl.int64)
    tl.store(color + 3 * out, red, mask=alive)
    tl.store(color + 3 * out + 1, green, mask=alive)
    tl.store(color + 3 * out + 2, blue, mask=alive)
    tl.store(opacity + out, 1.0 - through, mask=alive)
    tl.store(depth + out, far_sum, mask=alive)
    tl.store(stops + out, n, mask=alive)
    if PENALTY:
        tl.store(penalty + out, thin, mask=alive)
    if NORMALS:
        tl.store(normal + 3 * out, sx, mask=alive)
        tl.store(normal + 3 * out + 1, sy, mask=alive)
        tl.store(normal + 3 * out + 2, sz, mask=alive)


@triton.jit(do_not_specialize=["rays"])
def backward(
    origins, directions, near, far, fractions, basis, numbers, extents, distance, links, density, sh, color, opacity,
    depth, stops, g_color, g_opacity, g_depth, g_density, g_sh, rays, g_penalty,
    BLOCK: tl.constexpr, FUNCTIONS: tl.constexpr, WIDTH: tl.constexpr, JITTER: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """See `march_kernels.backward`; gradients are added to `g_density` and `g_sh` in no fixed order."""
    ray = tl.program_id(0) * LANES + tl.arange(0, LANES)
    alive = ray < rays
    begin, dt, length, steps, x, y, z, vx, vy, vz, mx, my, mz, wx, wy, wz = enter(
        origins, directions, near, far, numbers, ray, alive
    )
    fraction = tl.full([LANES], 0.5, tl.float32)
    if JITTER:
        fraction = tl.load(fractions + ray, mask=alive, other=0.5)
    waves = _waves(basis, ray, alive, FUNCTIONS, WIDTH)
    nz, ny, nx = tl.load(extents), tl.load(extents + 1), tl.load(extents + 2)
    k = tl.arange(0, WIDTH)
    at = ray.to(tl.int64)
    gr = tl.load(g_color + 3 * at, mask=alive, other=0.0)
    gg = tl.load(g_color + 3 * at + 1, mask=alive, other=0.0)
    gb = tl.load(g_color + 3 * at + 2, mask=alive, other=0.0)
    go = tl.load(g_opacity + at, mask=alive, other=0.0)
    gd = tl.load(g_depth + at, mask=alive, other=0.0)
    rest = go * tl.load(opacity + at, mask=alive, other=0.0) + gd * tl.load(depth + at, mask=alive, other=0.0)
    rest += gr * tl.load(color + 3 * at, mask=alive, other=0.0)
    rest += gg * tl.load(color + 3 * at + 1, mask=alive, other=0.0)
    rest += gb * tl.load(color + 3 * at + 2, mask=alive, other=0.0)
    last = tl.load(stops + at, mask=alive, other=0)
    n = tl.zeros([LANES], tl.int32)
    through = tl.full([LANES], 1.0, tl.float32)
    walking = alive & (n < last) & (n < steps)
    while tl.max(walking.to(tl.int32), axis=0) > 0:
        n = leap(n, walking, steps, fraction, mx, my, mz, wx, wy, wz, distance, extents, BLOCK)
        here = walking & (n < steps) & (n < last)
        size = tl.minimum(steps - n, 1.0)
        step = n + fraction * size
        i0, i1, u = axis(x + step * vx, nx)
        j0, j1, v = axis(y + step * vy, ny)
        k0, k1, w = axis(z + step * vz, nz)
        sigma = _density(here, i0, j0, k0, i1, j1, k1, u, v, w, ny, nx, links, density)
        lit = here & (sigma > 0.0)
        if tl.max(lit.to(tl.int32), axis=0) > 0:
            weight = tl.where(lit, through * opacity_of(sigma * size * length), 0.0)
            mixed = waves * _mixed(lit, i0, j0, k0, i1, j1, k1, u, v, w, ny, nx, links, links, sh, WIDTH, False)
            red = 0.5 + _channel(mixed, 0, FUNCTIONS, WIDTH)
            green = 0.5 + _channel(mixed, 1, FUNCTIONS, WIDTH)
            blue = 0.5 + _channel(mixed, 2, FUNCTIONS, WIDTH)
            seen = go + gd * (begin + step * dt)
            seen += tl.where(red > 0.0, gr * red, 0.0)
            seen += tl.where(green > 0.0, gg * green, 0.0)
            seen += tl.where(blue > 0.0, gb * blue, 0.0)
            rest -= weight * seen
            through -= weight
            slope = size * length * (through * seen - rest)
            slope += g_penalty * 4.0 * sigma / (1.0 + 2.0 * sigma * sigma)
            up_r = tl.where(red > 0.0, weight * gr, 0.0)
            up_g = tl.where(green > 0.0, weight * gg, 0.0)
            up_b = tl.where(blue > 0.0, weight * gb, 0.0)
            above = tl.where(
                (k // FUNCTIONS == 0)[None, :],
                up_r[:, None],
                tl.where((k // FUNCTIONS == 1)[None, :], up_g[:, None], up_b[:, None]),
            )
            above *= waves
            for q in range(8):
                where, share = corner_of(q, i0, j0, k0, i1, j1, k1, u, v, w, ny, nx)
                row = tl.load(links + where, mask=lit, other=-1).to(tl.int64)
                met = lit & (row >= 0) & (share != 0.0)
                tl.atomic_add(g_density + row, share * slope, mask=met, sem="relaxed")
                place = row[:, None] * WIDTH + k[None, :]
                wanted = met[:, None] & (k < 3 * FUNCTIONS)[None, :]
                tl.atomic_add(g_sh + place, share[:, None] * above, mask=wanted, sem="relaxed")
        n += tl.where(here, 1, 0)
        walking = here & (n < steps) & (n < last)


@triton.jit(do_not_specialize=["rays"])
def importance(
    origins, directions, near, far, numbers, extents, distance, links, density, most, total, rays, stop,
    BLOCK: tl.constexpr, TOTAL: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """See `march_kernels.importance`; the sum is left out without `TOTAL`."""
    ray = tl.program_id(0) * LANES + tl.arange(0, LANES)
    alive = ray < rays
    _, _, length, steps, x, y, z, vx, vy, vz, mx, my, mz, wx, wy, wz = enter(
        origins, directions, near, far, numbers, ray, alive
    )
    fraction = tl.full([LANES], 0.5, tl.float32)
    nz, ny, nx = tl.load(extents), tl.load(extents + 1), tl.load(extents + 2)
    n = tl.zeros([LANES], tl.int32)
    through = tl.full([LANES], 1.0, tl.float32)
    walking = alive & (n < steps)
    while tl.max(walking.to(tl.int32), axis=0) > 0:
        n = leap(n, walking, steps, fraction, mx, my, mz, wx, wy, wz, distance, extents, BLOCK)
        here = walking & (n < steps)
        size = tl.minimum(steps - n, 1.0)
        at = n + fraction * size
        i0, i1, u = axis(x + at * vx, nx)
        j0, j1, v = axis(y + at * vy, ny)
        k0, k1, w = axis(z + at * vz, nz)
        sigma = _density(here, i0, j0, k0, i1, j1, k1, u, v, w, ny, nx, links, density)
        lit = here & (sigma > 0.0)
        weight = tl.where(lit, through * opacity_of(sigma * size * length), 0.0)
        through -= weight
        for q in tl.static_range(8):
            where, share = corner(q, i0, j0, k0, i1, j1, k1, u, v, w, ny, nx)
            row = tl.load(links + where, mask=lit, other=-1).to(tl.int64)
            met = lit & (row >= 0) & (share > 0.0)
            tl.atomic_max(most + row, weight, mask=met, sem="relaxed")
            if TOTAL:
                tl.atomic_add(total + row, weight * share, mask=met, sem="relaxed")
        n += tl.where(here, 1, 0)
        walking = here & (n < steps) & (through >= stop)
