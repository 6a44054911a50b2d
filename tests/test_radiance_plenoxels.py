"""Plenoxels: batches of rays, the training step's gradient, regularisers, background spheres, trainings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

from neurcomp_core.errors import Cancelled, InputError  # noqa: E402
from neurcomp_core.progress import Progress  # noqa: E402
from neurcomp_core.radiance.codec import RadianceContext  # noqa: E402
from neurcomp_core.radiance.dataset import PosedImages  # noqa: E402
from neurcomp_core.radiance.grids import EMPTY, SparseGrid, SphereLayers  # noqa: E402
from neurcomp_core.radiance.rendering import device_views, fused, quality, views  # noqa: E402
from neurcomp_core.radiance.rendering.fitting import squared_error  # noqa: E402
from neurcomp_core.radiance.rendering.frames import Rays  # noqa: E402
from neurcomp_core.radiance.rendering.gradients import Gradients  # noqa: E402
from neurcomp_core.radiance.rendering.march import March, MarchOptions  # noqa: E402
from neurcomp_core.radiance.rendering.spheres import Backdrop, Spheres, spheres_reference, tables_of  # noqa: E402
from neurcomp_core.radiance.scene_sets import scene_set, write  # noqa: E402
from neurcomp_core.radiance.training import plenoxels_grids as grids  # noqa: E402
from neurcomp_core.radiance.training import regularisers  # noqa: E402
from neurcomp_core.radiance.training.background import empty_spheres, neighbours  # noqa: E402
from neurcomp_core.radiance.training.batches import RayBank, meets_box, permuted  # noqa: E402
from neurcomp_core.radiance.training.plenoxels import PlenoxelsRecipe, train  # noqa: E402
from neurcomp_core.radiance.training.plenoxels_course import Course, World  # noqa: E402
from neurcomp_core.radiance.training.plenoxels_cpu import CpuSteps  # noqa: E402
from neurcomp_core.radiance.training.plenoxels_torch import TorchSteps  # noqa: E402
from neurcomp_core.radiance.training.watch import MOMENTS, Moment, Watching  # noqa: E402

BOX = np.array([[-1.0, -0.8, -0.6], [1.0, 0.9, 0.7]])


def some_grid(shape=(5, 7, 9), share: float = 0.6, seed: int = 0) -> SparseGrid:
    draw = np.random.default_rng(seed)
    keep = draw.random(shape) < share
    sh = draw.normal(0, 0.5, (*shape, 3, 4))
    return SparseGrid.from_dense(draw.normal(1, 2, shape), sh, BOX, keep)


def some_rays(count: int = 60, seed: int = 1, spread: float = 3.0) -> Rays:
    draw = np.random.default_rng(seed)
    origins = draw.normal(size=(count, 3))
    origins *= spread / np.linalg.norm(origins, axis=1, keepdims=True)
    return Rays(origins, draw.uniform(-0.7, 0.7, (count, 3)) - origins)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PosedImages]:
    folder = tmp_path_factory.mktemp("sets")
    return {
        kind: write(scene_set(kind, size=40, views=16, test_views=4), folder / kind)
        for kind in ("inward", "forward", "unbounded")
    }


def context(**given) -> RadianceContext:
    return RadianceContext(**{"threads": 1, "device": "cpu", **given})


def unseen_psnr(grid: SparseGrid, data: PosedImages) -> float:
    test = data.split("test")
    return float(
        np.mean([quality.psnr(views.render_view(grid, test, v).color, test.colors(v)) for v in range(len(test))])
    )


# ----------------------------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize("count", [1, 2, 3, 17, 1000])
def test_every_pixel_comes_once_per_epoch(count: int) -> None:
    orders = [permuted(np.arange(count), count, (5, epoch)) for epoch in range(2)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(count))
    if count > 3:
        assert (orders[0] != orders[1]).any()
        assert (orders[0] != np.arange(count)).any()


@pytest.mark.parametrize("kind", ["inward", "forward", "unbounded"])
def test_the_banks_rays_and_colors_are_the_sets(kind: str, sets: dict[str, PosedImages]) -> None:
    data = sets[kind].split("train")
    bank = RayBank.of(data, alpha=True)
    assert len(bank) == bank.total == len(data) * 1600
    view = bank.at(np.arange(3200, 4800))
    expected = views.view_rays(data, 2)
    for name in ("origins", "directions", "near", "far", "views"):
        np.testing.assert_allclose(getattr(view.rays, name), getattr(expected, name), atol=1e-12)
    np.testing.assert_allclose(view.colors, data.colors(2).reshape(-1, 3), atol=0.5001 / 255)
    assert view.alpha is not None
    np.testing.assert_allclose(view.alpha, data.opacity(2).ravel(), atol=0.5001 / 255)


def test_batches_are_a_function_of_seed_and_step(sets: dict[str, PosedImages]) -> None:
    data = sets["inward"].split("train")
    bank = RayBank.of(data, np.float32)
    one, same = bank.batch(7, 100, seed=3), RayBank.of(data, np.float32).batch(7, 100, seed=3)
    np.testing.assert_array_equal(one.colors, same.colors)
    np.testing.assert_array_equal(one.rays.directions, same.rays.directions)
    assert (one.colors != bank.batch(7, 100, seed=4).colors).any()
    # One batch over the border of two epochs, each complete.
    size = len(bank) // 2 + 1
    drawn = np.concatenate([bank.indices(step, size) for step in range(4)])
    np.testing.assert_array_equal(np.sort(drawn[: len(bank)]), np.arange(len(bank)))
    np.testing.assert_array_equal(np.sort(drawn[len(bank) : 2 * len(bank)]), np.arange(len(bank)))
    with pytest.raises(InputError, match="at least 1"):
        bank.indices(0, 0)


def test_a_bank_of_rays_that_meet_a_box_keeps_the_others_error(sets: dict[str, PosedImages]) -> None:
    data = sets["inward"].split("train")
    box = np.array([[-0.3, -0.3, -0.3], [0.3, 0.3, 0.3]])
    whole, part = RayBank.of(data), RayBank.of(data, box=box)
    rays = whole.rays(np.arange(len(whole)))
    met = meets_box(rays, box)
    assert 0 < met.sum() == len(part) < part.total
    np.testing.assert_array_equal(part.colors, whole.colors[met])
    # Some along the ray is in the box exactly where the box is met.
    along = rays.origins[:, None] + np.linspace(2, 4.5, 200)[:, None] * rays.directions[:, None]
    inside = ((along > box[0]) & (along < box[1])).all(2).any(1)
    assert not (inside & ~met).any()
    assert np.mean(inside == met) > 0.99
    behind = np.asarray(data.background)
    errors = ((whole.at(np.arange(len(whole))).colors - behind) ** 2).mean(1)
    np.testing.assert_allclose(part.whole_error(float(errors[met].mean())), errors.mean(), rtol=1e-5)
    again = part.meeting(lambda r: meets_box(r, box / 2))
    np.testing.assert_allclose(again.missed + errors[again.pixels].sum(), errors.sum(), rtol=1e-5)
    with pytest.raises(InputError, match="no ray meets the box"):
        RayBank.of(data, box=box + 50)


def test_watching_tells_the_running_error_about_forty_times() -> None:
    moments: list[Moment] = []
    grid = some_grid()
    watching = Watching(200, lambda: grid, Progress(), moments.append)
    for step in range(1, 201):
        watching.step(step, 1e-3 if step < 100 else 1e-4)
    watching.show(200)
    assert len(moments) == MOMENTS
    assert [m.step for m in moments] == list(range(5, 201, 5))
    assert moments[0].psnr == pytest.approx(30)
    assert moments[-1].psnr is not None
    assert 36 < moments[-1].psnr < 40
    assert moments[-1].model() is grid


# --------------------------------------------------------------------------------------------------- gradients, step


@pytest.mark.parametrize("stop", [0.0, 0.3])
def test_one_walk_gives_the_gradient_of_autograd(stop: float) -> None:
    grid, rays = some_grid(), some_rays()
    geometry = March.of(grid, MarchOptions(0.4, stop))
    draw = np.random.default_rng(2)
    targets, behind, fractions = draw.random((60, 3)), draw.random((60, 3)), draw.random(60)
    density, sh = grid.density.astype(np.float64), grid.sh.astype(np.float64)
    sums = Gradients(density, sh)
    errors, opacity = squared_error(geometry, density, sh, rays, targets, behind, sums, fractions, penalty=0.03)
    values = torch.tensor(density, requires_grad=True), torch.tensor(sh, requires_grad=True)
    seen = fused.march_reference(*values, geometry, rays, fractions, penalty=True)
    expected = seen.over(torch.tensor(behind)) - torch.tensor(targets)
    loss = (expected**2).sum(1).mean() + 0.03 * seen.penalty.mean()
    loss.backward()
    np.testing.assert_allclose(errors, expected.detach(), atol=1e-10)
    np.testing.assert_allclose(opacity, seen.opacity.detach(), atol=1e-10)
    np.testing.assert_allclose(sums.density, values[0].grad, atol=1e-10)
    np.testing.assert_allclose(sums.sh.reshape(sh.shape), values[1].grad, atol=1e-10)
    np.testing.assert_array_equal(sums.touched, sums.density != 0)


def test_gradients_over_threads_are_gathered_and_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    grid, rays = some_grid(), some_rays()
    density, sh = grid.density.astype(np.float64), grid.sh.astype(np.float64)
    given = March.of(grid), density, sh, rays, np.zeros((60, 3)), np.ones(3)
    one, three = Gradients(density, sh, 1), Gradients(density, sh, 3)
    for sums in (one, three):
        squared_error(*given, sums)
    np.testing.assert_allclose(three.sh, one.sh, atol=1e-14)
    np.testing.assert_array_equal(three.touched, one.touched)
    three.clear()
    for array in (three.sh, three.density, three.touched, three.slot(1)[0]):
        assert not array.any()


# -------------------------------------------------------------------------------------------------- total variation


@pytest.mark.parametrize("edges", [True, False])
def test_total_variation_of_a_grid_is_the_formula(edges: bool) -> None:
    grid = some_grid((4, 5, 6))
    shape = grid.links.shape
    ahead, scales = regularisers.next_rows(grid.links), regularisers.scales_of(shape)
    found = regularisers.total_variation(grid.density[:, None], ahead, scales, edges)
    dense, there = grid.dense()[0].astype(np.float64), grid.links != EMPTY
    total = 0.0
    for z, y, x in zip(*np.nonzero(there), strict=True):
        square = 0.0
        for axis, place in enumerate([(z + 1, y, x), (z, y + 1, x), (z, y, x + 1)]):
            if place[axis] < shape[axis] and (there[place] or edges):
                square += ((dense[place] - dense[z, y, x]) * shape[axis] / 256) ** 2
        total += np.sqrt(square)
    assert found == pytest.approx(total / np.count_nonzero(there), rel=1e-3)


def test_the_gradient_of_total_variation_is_that_of_finite_differences() -> None:
    grid = some_grid((3, 4, 5))
    density, sh = grid.density.astype(np.float64), grid.sh.astype(np.float64)
    ahead, scales = regularisers.next_rows(grid.links), regularisers.scales_of(grid.links.shape)
    rows = len(density)
    sums = Gradients(density, sh, 2)
    regularisers.add_gradient(sums, density, sh, ahead, scales, (0.3, 0.7), (0, rows))
    sums.gather()

    def loss() -> float:
        smooth = regularisers.total_variation(sh.reshape(rows, -1), ahead, scales, False)
        return 0.3 * regularisers.total_variation(density[:, None], ahead, scales, True) + 0.7 * smooth

    for array, gradient in ((density, sums.density), (sh.reshape(-1), sums.sh.reshape(-1))):
        for i in range(0, array.size, 7):
            before = array[i]
            ends = []
            for change in (1e-5, -1e-5):
                array[i] = before + change
                ends.append(loss())
            array[i] = before
            assert gradient[i] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-8)


def test_stretches_are_contiguous_and_their_mean_gradient_is_the_whole_ones() -> None:
    first, last = regularisers.stretch(1000, 0.05, (1, 2))
    assert last - first == 50
    assert 0 <= first <= 950
    assert regularisers.stretch(10, 1.0, (0,)) == (0, 10)
    grid = some_grid((3, 4, 5))
    given = grid.density, grid.sh, regularisers.next_rows(grid.links), regularisers.scales_of(grid.links.shape)
    whole, parts = Gradients(grid.density, grid.sh), Gradients(grid.density, grid.sh)
    half = len(grid.density) // 2
    regularisers.add_gradient(whole, *given, (1.0, 0.0), (0, 2 * half))
    for piece in ((0, half), (half, 2 * half)):
        regularisers.add_gradient(parts, *given, (0.5, 0.0), piece)
    whole.gather()
    parts.gather()
    np.testing.assert_allclose(parts.density, whole.density, atol=1e-7)
    assert not parts.sh.any()


# ------------------------------------------------------------------------------------------------------------ grids


def test_pruning_keeps_what_is_seen_and_what_touches_it() -> None:
    grid = some_grid((8, 8, 8), share=0.9)
    most = np.zeros(len(grid.density))
    places = np.argwhere(grid.links != EMPTY)
    chosen = places[len(places) // 2]
    most[grid.links[tuple(chosen)]] = 0.5
    keep = grids.kept(grid, most, 0.1)
    near = (np.abs(np.indices(grid.links.shape) - chosen[:, None, None, None]) <= 1).all(0)
    np.testing.assert_array_equal(keep, near & (grid.links != EMPTY))
    less = grid.taking(keep)
    dense, sh = grid.dense()
    np.testing.assert_array_equal(less.dense()[0], np.where(keep, dense, 0))
    np.testing.assert_array_equal(less.dense()[1], np.where(keep[..., None, None], sh, 0))
    with pytest.raises(InputError, match="nothing is left"):
        grids.kept(grid, most, 0.6)


def test_refining_samples_the_grid_where_it_is() -> None:
    grid = some_grid((6, 5, 7), share=0.5)
    fine = grids.refined(grid, grid.box, (12, 10, 14))
    points = np.stack([a[fine.links != EMPTY] for a in np.meshgrid(*centers(fine), indexing="ij")][::-1], 1)
    density, sh = grid.sample(points)
    np.testing.assert_allclose(fine.density, density, atol=1e-5)
    np.testing.assert_allclose(fine.sh, sh, atol=1e-5)
    # Each voxel becomes eight.
    np.testing.assert_array_equal(fine.links != EMPTY, (grid.links != EMPTY).repeat(2, 0).repeat(2, 1).repeat(2, 2))
    same = grids.refined(grid, grid.box, (6, 5, 7))
    np.testing.assert_allclose(same.density, grid.density, atol=1e-6)


def centers(grid: SparseGrid) -> list[np.ndarray]:
    """Along z, y, x."""
    return [
        grid.box[0, i] + (np.arange(n) + 0.5) * grid.voxel[i] for i, n in zip((2, 1, 0), grid.links.shape, strict=True)
    ]


def test_cropping_keeps_every_voxel_and_one_more() -> None:
    keep = np.zeros((10, 9, 8), bool)
    keep[3:5, 0:2, 4:8] = True
    grid = SparseGrid.from_dense(np.ones(keep.shape), np.zeros((*keep.shape, 3, 1)), BOX, keep)
    low, high = (grids.cropped_box(grid) - BOX[0]) / grid.voxel
    np.testing.assert_allclose(low, [3, 0, 2])
    np.testing.assert_allclose(high, [8, 3, 6])


def test_training_coordinates_see_the_same(sets: dict[str, PosedImages]) -> None:
    grid, rays = some_grid(), some_rays()
    far = empty_spheres(3, 4, 0.7)
    world = World(np.array([0.3, -0.2, 0.1]), 2.5)
    moved = Rays(rays.origins * world.scale + world.center, rays.directions, views=rays.views)
    inner = replace(grid, background=far)
    seen = views.render_rays(world.grid(inner), moved)
    expected = views.render_rays(inner, Rays(rays.origins, rays.directions))
    np.testing.assert_allclose(seen.color, expected.color, atol=1e-5)
    np.testing.assert_allclose(world.rays(moved).origins, rays.origins, atol=1e-12)


# -------------------------------------------------------------------------------------------------------- background


def some_spheres(layers: int = 5) -> SphereLayers:
    draw = np.random.default_rng(4)
    links = np.arange(8 * 4, dtype=np.int32).reshape(8, 4)
    links[2, 1] = EMPTY
    data = draw.normal(0.3, 1.0, (32, layers, 4)).astype(np.float32)
    return SphereLayers(links, data)


@pytest.mark.parametrize("spread", [0.3, 3.0])
@pytest.mark.parametrize("layers", [1, 5])
def test_spheres_and_their_gradient_are_plain_torch(spread: float, layers: int) -> None:
    far = some_spheres(layers)
    spheres = Spheres(far.links, layers, BOX, MarchOptions(0.5, 1e-3))
    rays = some_rays(spread=spread)
    density, rgb = (a.astype(np.float64) for a in tables_of(far))
    found = spheres.forward(density, rgb, rays)
    values = torch.tensor(density, requires_grad=True), torch.tensor(rgb, requires_grad=True)
    color, opacity = spheres_reference(spheres, *values, rays)
    assert found[1].max() > 0.3
    np.testing.assert_allclose(found[0], color.detach(), atol=1e-9)
    np.testing.assert_allclose(found[1], opacity.detach(), atol=1e-9)
    draw = np.random.default_rng(5)
    g_color, g_opacity = draw.normal(size=(60, 3)), draw.normal(size=60)
    ((color * torch.tensor(g_color)).sum() + (opacity * torch.tensor(g_opacity)).sum()).backward()
    sums = Gradients(density, rgb, 2)
    spheres.backward(density, rgb, rays, found, sums, color=g_color, opacity=g_opacity)
    np.testing.assert_allclose(sums.density, values[0].grad, atol=1e-9)
    np.testing.assert_allclose(sums.sh.reshape(rgb.shape), values[1].grad, atol=1e-9)


def test_spheres_gradient_is_that_of_finite_differences() -> None:
    far = some_spheres(3)
    spheres, rays = Spheres(far.links, 3, BOX, MarchOptions(0.5, 0.0)), some_rays(20, spread=0.2)
    density, rgb = (a.astype(np.float64) for a in tables_of(far))
    sums = Gradients(density, rgb)
    spheres.backward(density, rgb, rays, spheres.forward(density, rgb, rays), sums, color=np.ones((20, 3)))
    for array, gradient in ((density, sums.density), (rgb.reshape(-1), sums.sh.reshape(-1))):
        for i in range(0, array.size, 11):
            before, ends = array[i], []
            for change in (1e-6, -1e-6):
                array[i] = before + change
                ends.append(spheres.forward(density, rgb, rays)[0].sum())
            array[i] = before
            assert gradient[i] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-7)


def test_opaque_spheres_hide_what_is_behind_and_lie_where_they_should() -> None:
    far = empty_spheres(4, 8, 1e4)
    # Texels by longitude: red where x > 0, green where x < 0.
    turn = (np.arange(16) / 16 - 0.5) * 2 * np.pi
    right = np.repeat(np.sin(turn) > 0, 8)
    far.data[right, :, :3], far.data[~right, :, :3] = (0.5, -0.5, -0.5), (-0.5, 0.5, -0.5)
    cube = np.array([[-1.0] * 3, [1.0] * 3])
    nothing = np.zeros((2, 2, 2))
    grid = SparseGrid.from_dense(nothing, np.zeros((2, 2, 2, 3, 1)), cube, nothing > 0)
    grid = replace(grid, background=far)
    rays = Rays(np.zeros((2, 3)), np.array([[1.0, 0.2, 0.3], [-1.0, -0.3, 0.2]]))
    seen = views.render_rays(grid, rays, (0.0, 0.0, 1.0))
    np.testing.assert_allclose(seen.color, [[1, 0, 0], [0, 1, 0]], atol=1e-3)
    assert not seen.opacity.any()
    there = device_views.render_rays_on(device_views.GridTensors.of(grid, "cpu"), rays, (0.0, 0.0, 1.0))
    np.testing.assert_allclose(there.color, seen.color, atol=1e-6)
    backdrop = Backdrop.of(replace(grid, background=empty_spheres(4, 8, 0.0)))
    np.testing.assert_array_equal(backdrop.colors(rays, np.array([0.1, 0.2, 0.3])), [[0.1, 0.2, 0.3]] * 2)
    with pytest.raises(InputError, match="no background spheres"):
        Backdrop.of(replace(grid, background=None))


def test_texels_are_neighbours_around_the_sphere_and_across_layers() -> None:
    far = some_spheres(3)
    ahead = regularisers.next_rows(neighbours(far), (True, False, False))
    places = neighbours(far)
    assert ahead[places[7, 2, 1]].tolist() == [places[7, 2, 2], places[7, 3, 1], places[0, 2, 1]]
    assert ahead[places[3, 3, 2]].tolist() == [-2, -2, places[4, 3, 2]]
    assert ahead[places[2, 0, 0]].tolist() == [places[2, 0, 1], EMPTY, places[3, 0, 0]]


# ------------------------------------------------------------------------------------------------- plain torch, steps


@pytest.mark.parametrize("background", [False, True])
def test_steps_in_plain_torch_are_those_of_the_kernels(background: bool) -> None:
    grid = replace(some_grid(), background=some_spheres() if background else None)
    recipe = PlenoxelsRecipe(sparsity=1e-3, tv_share=0.3, tv_background=0.1, step=0.4)
    one, two = CpuSteps(grid, recipe), TorchSteps(grid, recipe, device="cpu")
    draw = np.random.default_rng(0)
    for step in range(2):
        given = some_rays(seed=step), draw.random((60, 3)), np.array([1.0, 0.5, 0.2]), draw.random(60), step, 0
        assert one.step(*given) == pytest.approx(two.step(*given), rel=1e-3)
    # RMSProp turns the sign of a tiny gradient into a step, so a few values may differ.
    for a, b in ((one.grid().density, two.grid().density), (one.grid().sh, two.grid().sh)):
        assert np.mean(np.abs(a - b) < 1e-2) > 0.95
    assert np.abs(one.grid().density - grid.density).max() > 0.1
    if background:
        a, b = (steps.grid().background for steps in (one, two))
        assert a is not None
        assert b is not None
        assert np.mean(np.abs(a.data - b.data) < 1e-2) > 0.95
        assert np.abs(a.data - some_spheres().data).max() > 0.1
    # From the same grid, on with the same means.
    again = TorchSteps(one.grid(), recipe, one.squares(), "cpu")
    for mine, theirs in zip(again.squares(), one.squares(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    most = one.largest_weights(some_rays(200))
    np.testing.assert_allclose(again.largest_weights(some_rays(200)), most, atol=1e-5)
    np.testing.assert_array_equal(one.largest_weights(some_rays(50, seed=9), most) >= most, True)
    assert most.max() > 0.1


# --------------------------------------------------------------------------------------------------------- trainings

SHORT = {"size": 32, "levels": 2, "steps": 160, "rays": 1024, "degree": 1}


def test_a_short_training_reaches_its_quality(sets: dict[str, PosedImages]) -> None:
    data = sets["inward"]
    moments: list[Moment] = []
    recipe = PlenoxelsRecipe.from_preset("fast", **SHORT)
    grid = train(data.split("train"), recipe, context(), moments.append)
    assert unseen_psnr(grid, data) > 27
    assert max(grid.links.shape) == 32
    assert len(grid.density) < 0.7 * grid.links.size
    assert (grid.box[0] >= data.box[0]).all()
    assert (grid.box[1] <= data.box[1]).all()
    steps = [m.step for m in moments]
    assert steps == sorted(set(steps))
    assert len(steps) >= MOMENTS
    first, last = moments[0].psnr, moments[-1].psnr
    assert first is not None
    assert last is not None
    assert last > first + 5


@pytest.mark.parametrize("kind", ["forward", "unbounded"])
def test_other_scenes_train(kind: str, sets: dict[str, PosedImages]) -> None:
    data = sets[kind]
    small = {**SHORT, "layers": 4, "layer_size": 16}
    start = train(data.split("train"), PlenoxelsRecipe.from_preset("fast", **{**small, "steps": 2}), context())
    grid = train(data.split("train"), PlenoxelsRecipe.from_preset("fast", **small), context())
    assert unseen_psnr(grid, data) > unseen_psnr(start, data) + 3
    assert (grid.background is not None) == (kind == "unbounded")
    if grid.background is not None:
        np.testing.assert_array_equal(grid.box, data.box)
        assert grid.background.data.std() > 0.01


def test_the_same_run_gives_the_same_bits(sets: dict[str, PosedImages]) -> None:
    data = sets["unbounded"].split("train")
    recipe = PlenoxelsRecipe.from_preset("fast", **{**SHORT, "steps": 20, "layers": 4, "layer_size": 8})
    for threads in (1, 2):
        one, two = (train(data, recipe, context(threads=threads)) for _ in range(2))
        same_grids(one, two)


def same_grids(one: SparseGrid, two: SparseGrid) -> None:
    for name in ("links", "density", "sh", "box"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    if one.background is not None and two.background is not None:
        np.testing.assert_array_equal(one.background.data, two.background.data)


class StopAt(Progress):
    """Cancels itself at a step."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.left = calls

    def update(self, fraction: float, text: str = "") -> None:
        self.left -= 1
        if self.left == 0:
            self.cancel()
        super().update(fraction, text)


@pytest.mark.parametrize(
    ("kind", "levels", "stops"),
    [("inward", 2, (5, 12, 19, 26, 33)), ("inward", 1, (20, 30)), ("unbounded", 2, (12, 30))],
)
def test_a_run_that_goes_on_ends_like_one_that_never_stopped(
    kind: str, levels: int, stops: tuple[int, ...], sets: dict[str, PosedImages], tmp_path: Path
) -> None:
    data = sets[kind].split("train")
    small = {"size": 16, "levels": levels, "steps": 40, "layers": 4, "layer_size": 8}
    recipe = PlenoxelsRecipe.from_preset("fast", **{**SHORT, **small})
    whole = train(data, recipe, context())
    # Before and after the grid is refined (at 12) and pruned (at 26, or 20 of one level), and right there.
    for stop in stops:
        kept = tmp_path / f"{stop}.npz"
        with pytest.raises(Cancelled) as stopped:
            train(data, recipe, context(checkpoint=kept, progress=StopAt(stop)))
        assert isinstance(stopped.value.best, SparseGrid)
        same_grids(train(data, recipe, context(checkpoint=kept)), whole)
        # Finished: nothing is trained again.
        course = Course(data, recipe, context(checkpoint=kept), None)
        assert course.at == recipe.steps
    with pytest.raises(Cancelled):
        train(data, recipe, context(checkpoint=tmp_path / "other.npz", progress=StopAt(5)))
    with pytest.raises(InputError, match="another run"):
        train(data, replace(recipe, rays=7), context(checkpoint=tmp_path / "other.npz"))


def test_switches_switch(sets: dict[str, PosedImages]) -> None:
    data = sets["inward"].split("train")
    full = train(data, PlenoxelsRecipe.from_preset("fast", **{**SHORT, "steps": 12, "prune": 0.0}), context())
    assert (full.links != EMPTY).all()
    np.testing.assert_allclose(full.box, data.box)
    coarse = train(data, PlenoxelsRecipe.from_preset("fast", **{**SHORT, "steps": 12, "levels": 1}), context())
    assert max(coarse.links.shape) == 32


def test_recipes() -> None:
    full = PlenoxelsRecipe.from_preset("full")
    assert full.sizes == (256, 512)
    assert full.starts == (0, 38400)
    assert full.rates(128_000)[0] == pytest.approx(30 * (0.05 / 30) ** (128 / 250), rel=0.05)
    assert full.rates(0)[0] == pytest.approx(0.3)
    assert PlenoxelsRecipe.from_preset("balanced", levels=2).starts == (0, 800)
    far = full.of_scene("unbounded")
    assert (far.tv_density, far.tv_sh) == (pytest.approx(5e-5), pytest.approx(5e-3))
    assert far.of_scene("unbounded") == far
    assert full.of_scene("bounded") is full
    for given, words in {
        "size": {"size": 2}, "levels": {"size": 8, "levels": 4}, "degree": {"degree": 3}, "decay": {"decay": 1.0},
        "borders": {"borders": (0.4, 0.2)}, "density_rate": {"density_rate": 0.0}, "no parameter 'sizes'": {"sizes": 1},
    }.items():  # fmt: skip
        with pytest.raises(InputError, match=given):
            PlenoxelsRecipe.from_preset("balanced", **words)
    with pytest.raises(InputError, match="no preset 'slow'"):
        PlenoxelsRecipe.from_preset("slow")
