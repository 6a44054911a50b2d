"""Speed of the radiance renderer on the CPU: fused kernels, kernels with stored samples, and plain torch, in one run.

    python benchmarks/radiance_render.py [--size 128] [--rays 1000] [--runs 5] [--threads 1]

Rays go through random pixels of 40 cameras around the analytic scene "inward", sampled on a grid whose longest side has
`size` voxels, with spherical harmonics of degree 2. "surface" is that grid; "fog" has every voxel filled with thin
density, as a grid has before anything was learnt, so that every step of every ray is evaluated. Variants take turns;
figures are medians. A step is half a voxel; a ray ends at transmittance 1e-4. On one thread, seconds are the
process's own, so that others on the machine disturb by their caches alone; on more they are the wall's.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import numpy as np
import torch
from machine import describe

from neurcomp_core import threads
from neurcomp_core.radiance import paths, spherical_harmonics
from neurcomp_core.radiance.cameras import Camera, Intrinsics, rays
from neurcomp_core.radiance.grids import SparseGrid
from neurcomp_core.radiance.rendering import compositing, fused, sampling
from neurcomp_core.radiance.rendering.compositing import PackedSamples
from neurcomp_core.radiance.rendering.frames import GridFrame, Rays
from neurcomp_core.radiance.rendering.gradients import Gradients
from neurcomp_core.radiance.rendering.march import March
from neurcomp_core.radiance.rendering.samples import sample_rays
from neurcomp_core.radiance.scenes import scene

Work = Callable[[], object]


def random_rays(count: int, seed: int = 0) -> Rays:
    """Through random pixels of cameras around the origin."""
    draw = np.random.default_rng(seed)
    lens = Intrinsics.from_angle(0.69, 400, 400)
    origins, directions = [], []
    for pose in paths.circle(np.zeros(3), 4.0, 40):
        o, d = rays(Camera(lens, pose), draw.uniform(40, 360, (-(-count // 40), 2)), np.float64)
        origins.append(o)
        directions.append(d)
    order = draw.permutation(sum(map(len, origins)))[:count]
    return Rays(np.concatenate(origins)[order], np.concatenate(directions)[order])


def fog(grid: SparseGrid) -> SparseGrid:
    """The same box with thin density everywhere."""
    draw = np.random.default_rng(0)
    shape = grid.links.shape
    density = draw.uniform(0.0, 0.2, shape).astype(np.float32)
    sh = 0.1 * draw.standard_normal((*shape, 3, 9), np.float32)
    return SparseGrid.from_dense(density, sh, grid.box, np.ones(shape, bool))


def stored(grid: SparseGrid, geometry: March, given: Rays, values: list[torch.Tensor]) -> torch.Tensor:
    """Kernels piece by piece: sample, gather, shade, composite; as a model with a network in between does."""
    assert geometry.occupancy is not None
    assert given.views is not None
    samples = sample_rays(given, geometry.frame.voxel, geometry.occupancy, geometry.options)
    packed = PackedSamples.of(samples)
    points = torch.from_numpy(samples.points(given)).float()
    links = torch.from_numpy(geometry.links)
    sigma = torch.relu(sampling.sample_sparse(links, values[0][:, None], points, geometry.frame))[:, 0]
    lit = torch.nonzero(sigma.detach() > 0)[:, 0]
    basis = torch.from_numpy(spherical_harmonics.basis(given.views, grid.degree)).float()
    mixed = sampling.sample_sparse(links, values[1].flatten(1), points[lit], geometry.frame)
    seen = sampling.shade(mixed.reshape(len(lit), 3, -1), basis, packed.index[lit])
    rgb = torch.zeros(len(sigma), 3).index_copy(0, lit, seen)
    return compositing.composite(sigma, rgb, packed, geometry.options.stop).color


def variants(grid: SparseGrid, given: Rays) -> dict[str, tuple[Work, Work]]:
    """Forward, and forward and backward, of every variant."""
    geometry = March.of(grid)
    values = [torch.from_numpy(a).requires_grad_() for a in (grid.density, grid.sh)]
    upstream = torch.ones(len(given), 3)
    sums = Gradients(grid.density, grid.sh)

    def kernels() -> None:
        found = geometry.forward(grid.density, grid.sh, given)
        geometry.backward(grid.density, grid.sh, given, found, sums, color=upstream.numpy())
        sums.clear()

    def both(forward: Callable[[], torch.Tensor]) -> Work:
        return lambda: torch.autograd.grad(forward(), values, upstream)

    def without(forward: Callable[[], torch.Tensor]) -> Work:
        return torch.no_grad()(forward)

    def pieces() -> torch.Tensor:
        return stored(grid, geometry, given, values)

    def plain() -> torch.Tensor:
        return fused.march_reference(values[0], values[1], geometry, given).color

    def march() -> torch.Tensor:
        return fused.march(values[0], values[1], geometry, given).color

    return {
        "fused": (lambda: geometry.forward(grid.density, grid.sh, given), kernels),
        "fused as a torch function": (without(march), both(march)),
        "kernels, samples stored": (without(pieces), both(pieces)),
        "plain torch": (without(plain), both(plain)),
    }


def race(works: dict[str, tuple[Work, Work]], runs: int, clock: Callable[[], float]) -> dict[str, np.ndarray]:
    """Median seconds forward, and forward and backward, of each variant; they take turns."""
    found: dict[str, list[list[float]]] = {name: [] for name in works}
    for run in range(runs + 1):
        for name, pair in works.items():
            taken = []
            for work in pair:
                start = clock()
                work()
                taken.append(clock() - start)
            if run:  # the first compiles and warms up
                found[name].append(taken)
    return {name: np.median(times, axis=0) for name, times in found.items()}


def grids(size: int, points: int, runs: int, clock: Callable[[], float]) -> None:
    """Trilinear features of a dense grid, against torch's own."""
    frame = GridFrame((size, size, size), np.array([[-1.0] * 3, [1.0] * 3]), centered=False)
    draw = torch.Generator().manual_seed(0)
    grid = torch.randn(size, size, size, 12, generator=draw).requires_grad_()
    at = torch.rand(points, 3, generator=draw) * 2 - 1
    upstream = torch.randn(points, 12, generator=draw)

    def own() -> torch.Tensor:
        return sampling.sample_dense(grid, at, frame)

    def torchs() -> torch.Tensor:
        image = grid.permute(3, 0, 1, 2)[None]
        return torch.nn.functional.grid_sample(image, at[None, None, None], align_corners=True)[0, :, 0, 0].t()

    works: dict[str, tuple[Work, Work]] = {
        name: (torch.no_grad()(f), lambda f=f: torch.autograd.grad(f(), grid, upstream))
        for name, f in (("kernels", own), ("torch's grid_sample", torchs))
    }
    print(
        f"\ndense grid {size}^3 x 12 channels, {points:,} points\n\n| | forward | forward and backward |\n|---|---|---|"
    )
    for name, (a, b) in race(works, runs, clock).items():
        print(f"| {name} | {points / a / 1e6:.2f} M points/s | {points / b / 1e6:.2f} M points/s |")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rays", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    clock = time.process_time if options.threads == 1 else time.perf_counter
    print(f"{describe()}; load {load:.1f}; {options.threads} thread(s), seconds by {clock.__name__}")
    surface = scene("inward").grid(options.size)
    given = random_rays(options.rays)
    with threads.limit(options.threads):
        for name, grid in (("surface", surface), ("fog", fog(surface))):
            geometry = March.of(grid)
            assert geometry.occupancy is not None
            every = len(sample_rays(given, grid.voxel, geometry.occupancy))
            print(
                f"\n{name}: {grid.links.shape} samples (z, y, x), {len(grid.density):,} rows, {options.rays} rays, "
                f"{every / options.rays:.0f} samples a ray outside free space\n\n"
                "| | forward, rays/s | forward and backward, rays/s | against plain torch |\n|---|---|---|---|"
            )
            times = race(variants(grid, given), options.runs, clock)
            slow = times["plain torch"]
            for variant, taken in times.items():
                a, b = options.rays / taken
                print(f"| {variant} | {a:,.0f} | {b:,.0f} | {slow[0] / taken[0]:.0f} x, {slow[1] / taken[1]:.0f} x |")
        grids(options.size, 200_000, options.runs, clock)


if __name__ == "__main__":
    main()
