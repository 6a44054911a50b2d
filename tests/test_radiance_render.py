"""The renderer: closed forms, autograd in float64, kernels against plain torch, and pictures of fields."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_radiance_scenes import primitive

from neurcomp_core.errors import InputError, MissingExtraError
from neurcomp_core.radiance import scene_sets, spherical_harmonics
from neurcomp_core.radiance.cameras import Camera, Intrinsics, rays
from neurcomp_core.radiance.grids import EMPTY, SparseGrid, SphereLayers
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.poses import look_at
from neurcomp_core.radiance.rendering import compositing, fused, quality, ranges, sampling, views
from neurcomp_core.radiance.rendering.compositing import PackedSamples
from neurcomp_core.radiance.rendering.device_samples import sample_rays_on
from neurcomp_core.radiance.rendering.device_views import GridTensors, render_rays_on
from neurcomp_core.radiance.rendering.fields import DvgoField, SceneField
from neurcomp_core.radiance.rendering.frames import GridFrame, Rays
from neurcomp_core.radiance.rendering.gradients import Gradients
from neurcomp_core.radiance.rendering.march import March, MarchOptions
from neurcomp_core.radiance.rendering.occupancy import Occupancy
from neurcomp_core.radiance.rendering.pictures import picture
from neurcomp_core.radiance.rendering.samples import Samples, batches, sample_counts, sample_rays
from neurcomp_core.radiance.scenes import Scene, scene

ALL = MarchOptions(0.5, 0.0)
BOX = np.array([[-1.0, -0.8, -0.5], [1.2, 0.9, 0.6]])


def some_grid(shape=(5, 7, 9), degree: int = 2, share: float = 0.6, seed: int = 0) -> SparseGrid:
    """Random values in float64, clumps of empty voxels, part of the densities and colours negative."""
    draw = np.random.default_rng(seed)
    keep = draw.random(shape) < share
    keep[shape[0] // 2 :, :, : shape[2] // 2] = False
    links = np.full(shape, EMPTY, np.int32)
    rows = np.count_nonzero(keep)
    links[keep] = draw.permutation(rows)
    sh = draw.normal(0, 0.8, (rows, 3, spherical_harmonics.count(degree)))
    return SparseGrid(links, draw.normal(2, 2.5, rows), sh, BOX)


def some_rays(count: int = 40, seed: int = 1) -> Rays:
    """From outside, from inside, along the axes and along a face, and past the box; lengths differ."""
    draw = np.random.default_rng(seed)
    origins = draw.normal(0, 1.5, (count, 3))
    origins[: count // 4] = draw.uniform(BOX[0], BOX[1], (count // 4, 3))
    directions = draw.uniform(BOX[0], BOX[1], (count, 3)) - origins
    directions *= draw.uniform(0.3, 2, (count, 1))
    origins[-6:-1], directions[-6:-1] = 0.05, 0.0
    for k, (axis, sign) in enumerate([(0, 1), (1, -1), (2, 1), (0, -1), (1, 1)]):
        origins[-6 + k, axis], directions[-6 + k, axis] = -3.0 * sign, sign
    origins[-2] = BOX[1, 0], -3, 0.1
    origins[-1], directions[-1] = (5, 5, 5), (1, 0, 0)
    return Rays(origins, directions, 0.0, np.inf)


def tensors(grid: SparseGrid) -> tuple[torch.Tensor, torch.Tensor]:
    density, sh = torch.from_numpy(grid.density.copy()), torch.from_numpy(grid.sh.copy())
    return density.requires_grad_(), sh.requires_grad_()


def camera(size: int = 24, eye=(2.6, 1.5, 1.1)) -> Camera:
    pose = look_at(np.array(eye, np.float64), np.zeros(3), np.array([0, 0, 1.0]))
    return Camera(Intrinsics.from_angle(0.8, size, size), pose)


def camera_rays(size: int = 24) -> Rays:
    origins, directions = rays(camera(size), None, np.float64)
    return Rays(origins.reshape(-1, 3), directions.reshape(-1, 3))


# -------------------------------------------------------------------------------------------------------- known answers


@pytest.mark.parametrize("shape", [(4, 5, 6), (1, 1, 1), (1, 9, 2)])
def test_constant_box_is_the_closed_form(shape: tuple[int, int, int]) -> None:
    sigma, color = 1.7, np.array([0.3, 0.6, 0.1])
    sh = np.broadcast_to((color - 0.5)[:, None] / spherical_harmonics.basis(np.eye(3)[:1], 0)[0], (*shape, 3, 1))
    grid = SparseGrid.from_dense(np.full(shape, sigma), sh, BOX, np.ones(shape, bool))
    given = some_rays()
    found = March.of(grid, ALL).forward(grid.density, grid.sh, given)
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = ((face - given.origins) / given.directions for face in BOX)
        begin = np.maximum(np.nanmax(np.minimum(low, high), 1), 0)
        end = np.nanmin(np.maximum(low, high), 1)
    lengths = np.linalg.norm(given.directions, axis=1) * np.maximum(end - begin, 0)
    assert np.count_nonzero(lengths) > 30
    opacity = 1 - np.exp(-sigma * lengths)
    np.testing.assert_allclose(found.opacity, opacity, atol=1e-6)
    np.testing.assert_allclose(found.color, opacity[:, None] * color, atol=1e-6)
    # Mean depth is an integral of t, which the midpoint rule takes to second order.
    fine = March.of(grid, MarchOptions(0.02 * min(shape), 0.0)).forward(grid.density, grid.sh, given)
    k = sigma * np.linalg.norm(given.directions, axis=1)
    with np.errstate(invalid="ignore"):
        exact = np.where(end > begin, begin + 1 / k - (end + 1 / k) * np.exp(-k * (end - begin)), 0)
    np.testing.assert_allclose(fine.depth, exact, atol=1e-3)


@pytest.mark.parametrize("kind", ["inward", "unbounded"])
def test_analytic_scenes_within_a_thousandth(kind: str) -> None:
    known = scene(kind)
    given = camera_rays(20)
    view = views.render_rays(SceneField(known, 1 / 128), given, known.background, options=ALL)
    color, opacity, depth = known.trace(given.origins, given.directions, 1 / 512)
    expected = color + (1 - opacity[:, None]) * known.background(given.directions)
    assert np.count_nonzero(opacity > 0.5) > 50
    np.testing.assert_allclose(view.color, expected, atol=1e-3)
    np.testing.assert_allclose(view.opacity, opacity, atol=1e-3)
    seen = opacity > 0.1
    np.testing.assert_allclose(view.depth[seen], depth[seen] / opacity[seen], atol=2e-3)


def test_a_sampled_smooth_volume_within_a_thousandth() -> None:
    ball = primitive(0, (0.1, 0.0, -0.1), (0.9, 0.9, 0.9), peak=3.0, tint=(0.2, 0.1, 0.3))
    known = Scene(ball[None])
    grid, given = known.grid(80), camera_rays(20)
    found = March.of(grid).forward(grid.density, grid.sh, given)
    color, opacity, depth = known.trace(given.origins, given.directions, 1 / 512)
    assert opacity.max() > 0.9
    np.testing.assert_allclose(found.color, color, atol=1e-3)
    np.testing.assert_allclose(found.opacity, opacity, atol=1e-3)
    np.testing.assert_allclose(found.depth, depth, atol=3e-3)


# ------------------------------------------------------------------------------------------------------------ gradients


@pytest.mark.parametrize("degree", [0, 1, 2, 4])
@pytest.mark.parametrize("stop", [0.0, 0.05])
def test_fused_march_is_plain_torch(degree: int, stop: float) -> None:
    grid, given = some_grid(degree=degree), some_rays()
    fractions = np.random.default_rng(3).random(len(given))
    geometry = March.of(grid, MarchOptions(0.4, stop))
    results = []
    for run in (fused.march, fused.march_reference):
        density, sh = tensors(grid)
        out = run(density, sh, geometry, given, fractions, penalty=True)
        draw = torch.Generator().manual_seed(4)
        loss = sum((torch.randn(o.shape, generator=draw, dtype=o.dtype) * o).sum() for o in out)
        results.append((*(o.detach() for o in out), *torch.autograd.grad(loss, (density, sh))))  # pyright: ignore
    assert results[0][1].max() > 0.9
    assert results[0][3].max() > 1
    for a, b in zip(*results, strict=True):
        assert a.abs().max() > 0.1
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_fused_gradients_are_those_of_finite_differences() -> None:
    grid, given = some_grid((3, 3, 4), 1, 0.9), some_rays(16)
    geometry = March.of(grid, ALL)
    shift = torch.from_numpy(np.abs(grid.density) + 0.3).requires_grad_()
    sh = torch.from_numpy(0.1 * grid.sh).requires_grad_()
    for run in (fused.march, fused.march_reference):
        assert torch.autograd.gradcheck(lambda d, s, run=run: run(d, s, geometry, given, penalty=True), (shift, sh))


def test_float32_is_close_to_float64() -> None:
    grid, given = some_grid(), some_rays()
    geometry = March.of(grid, ALL)
    found = []
    for kind in (np.float32, np.float64):
        density, sh = grid.density.astype(kind), grid.sh.astype(kind)
        out = geometry.forward(density, sh, given)
        sums = Gradients(density, sh)
        geometry.backward(density, sh, given, out, sums, color=np.ones((len(given), 3)), opacity=np.ones(len(given)))
        found.append((out.color, sums.density, sums.sh))
    assert found[0][1].dtype == np.float32
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


def test_gradients_over_threads_and_steps() -> None:
    grid, given = some_grid(), some_rays()
    geometry = March.of(grid)
    out = geometry.forward(grid.density, grid.sh, given)
    one, three, again = (Gradients(grid.density, grid.sh, threads) for threads in (1, 3, 3))
    for sums in (one, three, again):
        geometry.backward(grid.density, grid.sh, given, out, sums, color=np.ones((len(given), 3)))
    np.testing.assert_allclose(three.sh, one.sh, atol=1e-12)
    np.testing.assert_array_equal(three.touched, one.touched)
    assert not one.sh[~one.touched].any()
    assert 0 < one.touched.sum() < len(one.touched)
    first = three.density.copy()
    three.clear()
    for cleared in (three.density, three.sh, three.touched):
        assert not cleared.any()
    geometry.backward(grid.density, grid.sh, given, out, three, color=np.ones((len(given), 3)))
    np.testing.assert_array_equal(three.density, first)
    np.testing.assert_array_equal(again.density, first)


def test_importance_is_the_gradient_with_respect_to_a_grid_of_ones() -> None:
    grid, given = some_grid(share=0.8), some_rays()
    geometry = March.of(grid, MarchOptions(0.5, 0.01))
    most, total = geometry.importance(grid.density, given)
    samples = sample_rays(given, grid.voxel, Occupancy.of(grid), geometry.options)
    packed = PackedSamples.of(samples, torch.float64)
    points, links = torch.from_numpy(samples.points(given)), torch.from_numpy(grid.links)
    sigma = torch.relu(
        sampling.sample_reference(links, torch.from_numpy(grid.density)[:, None], points, geometry.frame)
    )
    weights = compositing.composite_reference(sigma[:, 0], sigma, packed, 0.01).weights
    ones = torch.ones(len(total), 1, dtype=torch.float64, requires_grad=True)
    sampled = sampling.sample_reference(links, ones, points, geometry.frame)[:, 0]
    (expected,) = torch.autograd.grad((weights * sampled).sum(), ones)
    np.testing.assert_allclose(total, expected[:, 0], atol=1e-12)
    largest = np.zeros(len(most))
    for n in range(len(points)):  # each sample's eight corners, by brute force
        (shares,) = torch.autograd.grad(
            sampling.sample_reference(links, ones, points[n : n + 1], geometry.frame).sum(), ones
        )
        largest = np.maximum(largest, np.where(shares[:, 0] > 0, float(weights[n]), 0))
    np.testing.assert_allclose(most, largest, atol=1e-12)
    further = geometry.importance(grid.density, given, (most.copy(), total.copy()))
    np.testing.assert_array_equal(further[0], most)
    np.testing.assert_allclose(further[1], 2 * total)


def test_importance_adds_up_over_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    from neurcomp_core.radiance.rendering import march

    grid, given = some_grid(), some_rays()
    one = March.of(grid).importance(grid.density, given)
    monkeypatch.setattr(march, "thread_count", lambda: 3)
    three = March.of(grid).importance(grid.density, given)
    np.testing.assert_allclose(three, one, atol=1e-12)


# ----------------------------------------------------------------------------------------------- samples of rays, grids


@pytest.mark.parametrize("block", [1, 2, 3, 4, 16])
def test_leaps_over_free_space_leave_pictures_as_they_are(block: int) -> None:
    grid, given = some_grid((17, 9, 21), share=0.04, seed=7), some_rays(200)
    frame = GridFrame.of(grid)
    occupancy = Occupancy.of(grid, block=block)
    fractions = np.random.default_rng(3).random(len(given))
    plain = March(grid.links, frame, Occupancy.full(frame), ALL).forward(grid.density, grid.sh, given, fractions)
    quick = March(grid.links, frame, occupancy, ALL).forward(grid.density, grid.sh, given, fractions)
    assert plain.opacity.max() > 0.5
    np.testing.assert_allclose(quick.color, plain.color, atol=1e-12)
    np.testing.assert_allclose(quick.depth, plain.depth, atol=1e-12)
    every = sample_rays(given, frame.voxel, Occupancy.full(frame))
    some = sample_rays(given, frame.voxel, occupancy)
    assert len(some) < len(every) or block == 16
    assert set(some.times) <= set(every.times)


@pytest.mark.parametrize("block", [1, 4])
def test_samples_on_a_device_are_those_of_the_kernel(block: int) -> None:
    grid, given = some_grid((17, 9, 21), share=0.02, seed=7), some_rays(200)
    fractions = np.random.default_rng(3).random(len(given))
    occupancy, voxel = Occupancy.of(grid, block=block), np.array([0.05, 0.04, 0.08])
    kernel = sample_rays(given, voxel, occupancy, fractions=fractions)
    packed, points = sample_rays_on(given, voxel, occupancy, fractions=fractions, dtype=torch.float64)
    assert len(kernel) > 200
    np.testing.assert_array_equal(packed.starts, kernel.starts)
    np.testing.assert_array_equal(packed.index, kernel.index)
    np.testing.assert_allclose(packed.times, kernel.times, atol=1e-12)
    np.testing.assert_allclose(packed.sizes, kernel.sizes, atol=1e-12)
    np.testing.assert_allclose(points, kernel.points(given), atol=1e-12)


def test_samples_stay_within_bounds_and_fill_them() -> None:
    given = replace(some_rays(), near=0.7, far=np.linspace(0.5, 3, 40))
    frame = GridFrame((8, 8, 8), BOX)
    samples = sample_rays(given, frame.voxel, Occupancy.full(frame))
    near, far = np.asarray(given.near)[samples.index], np.asarray(given.far)[samples.index]
    assert ((samples.times >= near) & (samples.times <= far)).all()
    at = samples.points(given)
    assert ((at >= BOX[0] - 1e-12) & (at <= BOX[1] + 1e-12)).all()
    for r in range(len(given)):
        own = slice(samples.starts[r], samples.starts[r + 1])
        if samples.times[own].size > 1:
            steps = np.diff(samples.times[own])
            assert (steps > 0).all()
            np.testing.assert_allclose(steps[:-1], steps[0], atol=1e-12)


@pytest.mark.parametrize("shape", [(5, 7, 9), (1, 2, 6), (4, 1, 1)])
@pytest.mark.parametrize("threads", [1, 3])
def test_sampling_and_its_gradient(shape, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "thread_count", lambda: threads)
    monkeypatch.setattr(sampling, "thread_count", lambda: threads)
    grid = some_grid(shape, share=0.9)
    frame = GridFrame.of(grid)
    draw = np.random.default_rng(5)
    points = draw.uniform(BOX[0] - 0.1, BOX[1] + 0.1, (300, 3))
    points[:2] = BOX
    links, at = torch.from_numpy(grid.links), torch.from_numpy(points)
    table = torch.from_numpy(grid.sh.reshape(len(grid.sh), -1).copy()).requires_grad_()
    full = torch.from_numpy(draw.normal(size=(*shape, 5))).requires_grad_()
    np.testing.assert_allclose(
        sampling.sample_sparse(links, table, at, frame).detach().reshape(300, 3, -1), grid.sample(points)[1], atol=1e-12
    )
    for leaf, got, expected in (
        (table, sampling.sample_sparse(links, table, at, frame), sampling.sample_reference(links, table, at, frame)),
        (
            full,
            sampling.sample_dense(full, at, frame),
            sampling.sample_reference(None, full.reshape(-1, 5), at, frame),
        ),
    ):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
        upstream = torch.randn(got.shape, dtype=got.dtype, generator=torch.Generator().manual_seed(1))
        (a,) = torch.autograd.grad(got, leaf, upstream)
        (b,) = torch.autograd.grad(expected, leaf, upstream)
        assert a.abs().max() > 0.1
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


def test_scattered_sums_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = GridFrame((6, 5, 4), BOX)
    points = torch.rand(2000, 3, generator=torch.Generator().manual_seed(1)) - 0.3
    found = []
    for threads in (1, 2, 4, 9):
        monkeypatch.setattr(sampling, "thread_count", lambda threads=threads: threads)
        grid = torch.ones(6, 5, 4, 3, requires_grad=True)
        found.append(torch.autograd.grad(sampling.sample_dense(grid, points, frame).sum(), grid)[0])
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_dense_sampling_of_samples_on_the_faces_is_dvgos() -> None:
    model = dvgo_model()
    frame = GridFrame((5, 6, 7), model.box, centered=False)
    points = np.random.default_rng(2).uniform(model.box[0] - 0.1, model.box[1] + 0.1, (200, 3))
    got = sampling.sample_dense(torch.from_numpy(model.features).double(), torch.from_numpy(points), frame)
    np.testing.assert_allclose(got, model.sample(points)[1], atol=1e-12)


def test_grid_gradients_are_those_of_finite_differences() -> None:
    frame = GridFrame((2, 3, 3), BOX)
    draw = torch.Generator().manual_seed(0)
    points = torch.rand(9, 3, generator=draw, dtype=torch.float64) * 0.8 - 0.4
    grid = torch.randn(2, 3, 3, 2, generator=draw, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda g: sampling.sample_dense(g, points, frame), (grid,))
    moving = points.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda g, p: sampling.sample_dense(g, p, frame), (grid, moving))


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_shading_and_its_gradient(degree: int) -> None:
    directions = torch.nn.functional.normalize(torch.randn(20, 3, dtype=torch.float64), dim=1)
    basis = sampling.basis_of(directions, degree)
    np.testing.assert_allclose(basis, spherical_harmonics.basis(directions.numpy(), degree), atol=1e-14)
    index = torch.arange(20).repeat_interleave(3)
    sh = torch.randn(60, 3, basis.shape[1], dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(60, 3, dtype=torch.float64)
    results = []
    for shade in (sampling.shade, sampling.shade_reference):
        out = shade(sh, basis, index)
        results.append((out.detach(), torch.autograd.grad(out, sh, upstream)[0]))
    assert (results[0][0] == 0).any()
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------------------------------------------------- compositing


def packed_samples() -> PackedSamples:
    """Rays with no, one and many samples, empty ones first and last."""
    counts = np.array([0, 5, 1, 0, 12, 30, 0])
    starts = np.concatenate([[0], np.cumsum(counts)])
    draw = np.random.default_rng(0)
    times = np.concatenate([np.sort(draw.uniform(1, 4, n)) for n in counts])
    return PackedSamples.of(Samples(starts, times, draw.uniform(0.01, 0.2, len(times))), torch.float64)


@pytest.mark.parametrize("stop", [0.0, 0.1])
def test_compositing_and_its_gradients(stop: float) -> None:
    samples = packed_samples()
    draw = torch.Generator().manual_seed(2)
    sigma = (8 * torch.rand(48, generator=draw, dtype=torch.float64)).requires_grad_()
    rgb = torch.rand(48, 4, generator=draw, dtype=torch.float64).requires_grad_()
    results = []
    for run in (compositing.composite, compositing.composite_reference):
        out = run(sigma, rgb, samples, stop)
        again = torch.Generator().manual_seed(3)
        loss = sum((torch.randn(o.shape, generator=again, dtype=o.dtype) * o).sum() for o in out)
        results.append((*(o.detach() for o in out), *torch.autograd.grad(loss, (sigma, rgb))))  # pyright: ignore
        assert torch.autograd.gradcheck(lambda s, c, run=run: tuple(run(s, c, samples, 0.0)), (sigma, rgb))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)
    color, opacity, _, weights = results[0][:4]
    assert (weights == 0).any() == (stop > 0)
    assert color[0].abs().sum() == opacity[0] == 0
    over = compositing.composite(sigma, rgb, samples).over(torch.ones(4))
    torch.testing.assert_close(over[0], torch.ones(4, dtype=torch.float64))


def test_a_packet_of_one_ray_by_hand() -> None:
    samples = PackedSamples.of(Samples(np.array([0, 2]), np.array([1.0, 3]), np.array([0.5, 2])), torch.float64)
    out = compositing.composite(torch.tensor([2.0, 1]).double(), torch.tensor([[0.2], [0.8]]).double(), samples)
    a, b = 1 - np.exp(-1), np.exp(-1) * (1 - np.exp(-2))
    np.testing.assert_allclose(out.weights, [a, b])
    np.testing.assert_allclose(
        [out.color.item(), out.opacity.item(), out.depth.item()], [0.2 * a + 0.8 * b, a + b, a + 3 * b]
    )


# ------------------------------------------------------------------------------------------------------------- pictures


def dvgo_model() -> DvgoModel:
    draw = np.random.default_rng(4)
    density = draw.normal(1, 3, (5, 6, 7)).astype(np.float32)
    features = draw.normal(0, 1, (5, 6, 7, 3)).astype(np.float32)
    return DvgoModel(density, features, BOX, -2.0, 0.3)


class Points:
    """A sparse grid as a field of points, by the plain reference."""

    def __init__(self, grid: SparseGrid) -> None:
        self.grid, self.box, self.voxel = grid, grid.box, grid.voxel
        self.occupancy = Occupancy.of(grid)

    def density(self, points: np.ndarray) -> np.ndarray:
        return np.maximum(self.grid.sample(points)[0], 0)

    def colors(self, points: np.ndarray, directions: np.ndarray) -> np.ndarray:
        return self.grid.colors(points, directions)


def test_pictures_of_a_grid_and_of_its_points_agree_in_any_batches() -> None:
    grid = some_grid()
    small = replace(grid, density=grid.density.astype(np.float32), sh=grid.sh.astype(np.float32))
    fast = views.render(small, camera(), (0.2, 0.4, 0.6))
    slow = views.render(Points(grid), camera(), (0.2, 0.4, 0.6))
    tight = views.render(Points(grid), camera(), np.array([0.2, 0.4, 0.6]), memory=100_000)
    bits = views.render(small, camera(), (0.2, 0.4, 0.6), memory=50_000)
    assert fast.color.shape == (24, 24, 3)
    for other in (slow, tight, bits):
        np.testing.assert_allclose(other.color, fast.color, atol=1e-5)
        np.testing.assert_allclose(other.opacity, fast.opacity, atol=1e-5)
        np.testing.assert_allclose(other.depth, fast.depth, atol=1e-4)
    empty = fast.opacity < 1e-3
    assert empty.any()
    np.testing.assert_array_equal(np.isnan(fast.depth), empty)
    outside = fast.color[fast.opacity == 0]
    np.testing.assert_allclose(outside, np.broadcast_to((0.2, 0.4, 0.6), outside.shape), atol=1e-7)


def test_pictures_of_tensors_are_those_of_arrays() -> None:
    grid, given = some_grid(degree=1), camera_rays()
    fast = views.render_rays(grid, given, lambda d: 0.5 + 0.5 * d)
    field = GridTensors.of(grid, "cpu", torch.float64)
    for memory in (1 << 20, 1 << 28):
        slow = render_rays_on(field, given, lambda d: 0.5 + 0.5 * d, memory=memory)
        np.testing.assert_allclose(slow.color, fast.color, atol=1e-6)
        np.testing.assert_allclose(slow.opacity, fast.opacity, atol=1e-6)
        np.testing.assert_allclose(slow.depth, fast.depth, atol=1e-5)


def test_batches_keep_to_their_budget() -> None:
    given = some_rays(100)
    frame = GridFrame((16, 16, 16), BOX)
    every = Occupancy.full(frame)
    cuts = batches(sample_counts(given, frame.voxel, every), 100)
    assert cuts[0][0] == 0
    assert [a for a, _ in cuts[1:]] == [b for _, b in cuts[:-1]]
    assert cuts[-1][1] == 100
    sizes = [len(sample_rays(given.part(a, b), frame.voxel, every)) for a, b in cuts]
    assert max(sizes) <= 100
    # No two neighbours would fit into one.
    assert all(a + b > 70 for a, b in itertools.pairwise(sizes))
    assert batches(np.array([5, 500, 0, 0]), 10) == [(0, 1), (1, 2), (2, 4)]
    assert batches(np.zeros(0, np.int64), 10) == []


def test_normals_point_out_of_a_ball() -> None:
    known = Scene(primitive(0, (0, 0, 0), (0.8, 0.8, 0.8), peak=40)[None])
    given = camera_rays()
    fields = {"points": SceneField(known, 1 / 40), "grid": known.grid(48)}
    for field in fields.values():
        view = views.render_rays(field, given, normals=True)
        assert view.normal is not None
        solid = view.opacity > 0.99
        surface = given.origins + view.depth[:, None] * given.directions
        outward = surface / np.linalg.norm(surface, axis=1, keepdims=True)
        assert solid.sum() > 50
        assert (view.normal * outward).sum(1)[solid].min() > 0.98
        np.testing.assert_allclose(np.linalg.norm(view.normal[solid], axis=1), 1, atol=1e-5)
        assert not view.normal[view.opacity < 1e-3].any()


def test_pictures_of_depth_and_normals() -> None:
    known = Scene(primitive(0, (0, 0, 0), (0.8, 0.8, 0.8), peak=40)[None])
    view = views.render(known.grid(24), camera(), normals=True)
    middle, corner = (12, 12), (0, 0)
    depth = picture(view, "depth")
    assert depth.shape == (24, 24, 3)
    assert depth[middle].min() > depth[12, 6].max() > depth[corner].max() == 0
    np.testing.assert_allclose(picture(view, "depth", (1.0, 5.0))[middle], 1 - 0.85 * (view.depth[middle] - 1) / 4)
    normal = picture(view, "normal")
    toward = camera().position / np.linalg.norm(camera().position)
    np.testing.assert_allclose(normal[middle], 0.5 + 0.5 * toward, atol=0.05)
    assert (normal[corner] == 0).all()
    assert picture(view, "opacity")[middle].min() > 0.99
    assert picture(view).max() <= 1
    nothing = replace(view, depth=np.full((24, 24), np.nan, np.float32), normal=None)
    assert not picture(nothing, "depth").any()
    with pytest.raises(InputError, match="without normals"):
        picture(nothing, "normal")
    with pytest.raises(InputError, match="'heat' is unknown"):
        picture(view, "heat")  # pyright: ignore[reportArgumentType]


def test_a_view_of_a_set_is_its_photograph(tmp_path) -> None:
    made = scene_sets.scene_set("inward", size=24, views=2, test_views=1)
    data = scene_sets.write(made, tmp_path).split("test").over((0.1, 0.2, 0.3))
    view = views.render_view(SceneField(made.scene, 1 / 64), data, 0)
    # The photograph averages over its pixels and has 8 bits.
    assert quality.psnr(view.color, data.colors(0)) > 28
    np.testing.assert_allclose(view.opacity[2:-2, 2:-2].mean(), data.opacity(0)[2:-2, 2:-2].mean(), atol=0.01)


def test_a_forward_facing_view_is_marched_in_normalised_coordinates(tmp_path) -> None:
    data = scene_sets.write(scene_sets.scene_set("forward", size=16, views=3, test_views=1), tmp_path).split("train")
    shape, rows = (12, 12, 12), 12**3
    draw = np.random.default_rng(0)
    grid = SparseGrid.from_dense(
        draw.uniform(0, 6, shape), draw.normal(0, 0.5, (*shape, 3, 4)), data.box, np.ones(shape, bool)
    )
    assert len(grid.density) == rows
    view = views.render_view(grid, data, 0)
    given = views.view_rays(data, 0)
    origins, directions, near, far = data.rays(0, None, np.float64)
    assert (near, far) == (0, 1)
    # A plain sum along one ray, with colour by the world's direction.
    middle = 16 * 8 + 8
    t = (np.arange(4000) + 0.5) / 4000
    points = origins.reshape(-1, 3)[middle] + t[:, None] * directions.reshape(-1, 3)[middle]
    seen = np.broadcast_to(data.viewing_directions(0, None, np.float64).reshape(-1, 3)[middle], points.shape)
    thick = np.maximum(grid.sample(points)[0], 0) * np.linalg.norm(directions.reshape(-1, 3)[middle]) / 4000
    weight = np.exp(-(np.cumsum(thick) - thick)) * -np.expm1(-thick)
    expected = weight @ grid.colors(points, seen) + (1 - weight.sum()) * np.array(data.background)
    assert weight.sum() > 0.9
    np.testing.assert_allclose(view.color[8, 8], expected, atol=0.02)
    np.testing.assert_allclose(given.views[middle], seen[0])  # pyright: ignore


def test_a_dvgo_model_is_rendered_with_and_without_its_mask() -> None:
    model = dvgo_model()
    plain = views.render(DvgoField(model), camera())
    everywhere = views.render(DvgoField(replace(model, mask=np.ones((9, 4, 3), bool))), camera())
    np.testing.assert_array_equal(plain.color, everywhere.color)
    nowhere = views.render(DvgoField(replace(model, mask=np.zeros((9, 4, 3), bool))), camera())
    assert plain.opacity.max() > 0.5
    assert (nowhere.color == 1).all()


def test_empty_grid_shows_the_background() -> None:
    grid = SparseGrid(np.full((3, 3, 3), EMPTY, np.int32), np.zeros(0), np.zeros((0, 3, 4)), BOX)
    sky = views.render(grid, camera(), lambda d: np.abs(d), normals=True)
    np.testing.assert_allclose(sky.color.reshape(-1, 3), np.abs(camera_rays().directions), atol=1e-6)
    density, sh = tensors(grid)
    out = fused.march(density, sh, March.of(grid), some_rays())
    out.over(torch.ones(3)).sum().backward()
    assert out.opacity.sum() == 0
    assert fused.march_reference(density, sh, March.of(grid), some_rays()).opacity.sum() == 0


# -------------------------------------------------------------------------------------------------------------- quality


def test_psnr_and_ssim_of_pictures() -> None:
    draw = np.random.default_rng(0)
    a = draw.random((16, 20, 3))
    b = np.clip(a + draw.normal(0, 0.1, a.shape), 0, 1)
    assert quality.psnr(a, a) == np.inf
    assert quality.psnr(0.2 * np.ones_like(a), 0.3 * np.ones_like(a)) == pytest.approx(20)
    assert quality.ssim(a, a) == pytest.approx(1)
    # One window, by its definition.
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    scores = []
    for c in range(3):
        x, y = a[:11, :11, c], b[:11, :11, c]
        mx, my = (window * x).sum(), (window * y).sum()
        vx, vy, both = ((window * p).sum() for p in ((x - mx) ** 2, (y - my) ** 2, (x - mx) * (y - my)))
        scores.append((2 * mx * my + 1e-4) * (2 * both + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))
    assert quality.ssim(a[:11, :11], b[:11, :11]) == pytest.approx(np.mean(scores), abs=1e-12)
    assert 0.5 < quality.ssim(a, b) < 0.999
    for bad in (a[:8], a[..., 0]):
        with pytest.raises(InputError, match="expected two pictures"):
            quality.ssim(bad, a)
    with pytest.raises(InputError, match="at least 11 x 11"):
        quality.ssim(a[:8], a[:8])


def test_lpips_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    picture = np.zeros((64, 64, 3))
    with pytest.raises(MissingExtraError, match=r"neurcomp\[lpips\]"):
        quality.lpips(picture, picture)


# --------------------------------------------------------------------------------------------------------------- misuse


def test_what_cannot_be_rendered_is_refused() -> None:
    grid, given = some_grid(), some_rays()
    geometry = March.of(grid)
    sums, few = Gradients(grid.density, grid.sh), grid.sh[:, :, :1]
    for match, call in {
        "directions": lambda: Rays(np.zeros((2, 3)), np.zeros((2, 2))),
        "not zero": lambda: Rays(np.zeros((2, 3)), np.zeros((2, 3))),
        "must be finite": lambda: Rays(np.full((2, 3), np.nan), np.ones((2, 3))),
        "one origin, near and far": lambda: Rays(np.zeros((3, 3)), np.ones((2, 3))),
        "must be numbers": lambda: Rays(np.zeros((2, 3)), np.ones((2, 3)), np.nan),
        "viewing direction": lambda: Rays(np.zeros((2, 3)), np.ones((2, 3)), views=np.ones((1, 3))),
        "step": lambda: MarchOptions(0),
        "stop": lambda: MarchOptions(0.5, 1),
        "low and a higher": lambda: GridFrame((2, 2, 2), BOX[::-1]),
        "at least 2 samples": lambda: GridFrame((2, 2, 1), BOX, centered=False),
        "mask of the frame": lambda: Occupancy.of(np.ones((2, 2, 2), bool), GridFrame((2, 2, 3), BOX)),
        "one voxel": lambda: Occupancy.of(grid, block=0),
        "same shape": lambda: March(grid.links, GridFrame((1, 2, 3), BOX)),
        "one frame": lambda: March(grid.links, geometry.frame, Occupancy.full(GridFrame((1, 2, 3), BOX))),
        "functions": lambda: geometry.forward(grid.density, grid.sh[:-1], given),
        "one float type": lambda: geometry.forward(grid.density.astype(np.float32), grid.sh, given),
        "new links": lambda: geometry.forward(grid.density[:-1], grid.sh[:-1], given),
        "lead to": lambda: geometry.importance(grid.density[:-1], given),
        "so far": lambda: geometry.importance(grid.density, given, (np.zeros(1), np.zeros(1))),
        "integrals of 40": lambda: geometry.backward(
            grid.density, grid.sh, given.part(0, 9), geometry.forward(grid.density, grid.sh, given), sums
        ),
        "gradients of": lambda: geometry.backward(
            grid.density, grid.sh, given, geometry.forward(grid.density, grid.sh, given), Gradients(grid.density, few)
        ),
        "row numbers below": lambda: sampling.sample_sparse(
            torch.from_numpy(grid.links), torch.zeros(3, 1), torch.zeros(1, 3), geometry.frame
        ),
        "ray of each": lambda: sampling.shade(torch.zeros(4, 3, 4), torch.zeros(2, 4), torch.full((4,), 2)),
        "points \\(n, 3\\)": lambda: sampling.sample_dense(
            torch.zeros(*grid.links.shape, 1), torch.zeros(1, 2), geometry.frame
        ),
        "fractions": lambda: geometry.forward(grid.density, grid.sh, given, np.full(len(given), 2.0)),
        "rgb": lambda: compositing.composite(torch.zeros(48), torch.zeros(47, 3), packed_samples()),
        "same samples": lambda: sampling.sample_dense(torch.zeros(1, 2, 3, 1), torch.zeros(1, 3), geometry.frame),
        "degree from 0 to 2": lambda: sampling.basis_of(torch.zeros(1, 3), 3),
    }.items():
        with pytest.raises(InputError, match=match):
            call()


def test_spheres_without_texels_change_nothing() -> None:
    grid, spheres = some_grid(), SphereLayers(np.full((4, 2), EMPTY, np.int32), np.zeros((0, 1, 4), np.float32))
    seen = views.render(replace(grid, background=spheres), camera())
    np.testing.assert_array_equal(seen.color, views.render(grid, camera()).color)


def test_pictures_need_no_torch(tmp_path) -> None:
    code = "import sys, neurcomp_core.radiance.rendering.views; print('torch' in sys.modules, 'numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
