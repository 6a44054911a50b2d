"""NeRF: networks against their NumPy definition, sampling and rendering against plain code, training, pruning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from neurcomp_core.errors import Cancelled, InputError
from neurcomp_core.nets.devices import device_of
from neurcomp_core.progress import Progress
from neurcomp_core.radiance import pruning, scene_sets
from neurcomp_core.radiance.codec import RadianceContext
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.images import Images
from neurcomp_core.radiance.imports import nerf as imported
from neurcomp_core.radiance.imports.nerf import Dense, NerfMlp, NerfWeights
from neurcomp_core.radiance.rendering import quality, views
from neurcomp_core.radiance.rendering.frames import Rays
from neurcomp_core.radiance.rendering.march import MarchOptions
from neurcomp_core.radiance.rendering.nerf_field import NerfField, sample_grid
from neurcomp_core.radiance.rendering.nerf_networks import DenseNetwork, SparseNetwork
from neurcomp_core.radiance.rendering.nerf_sampling import Space, free_space, keep, lattice_frame, refined, stratified
from neurcomp_core.radiance.rendering.nerf_torch import TorchNetwork, encode
from neurcomp_core.radiance.training import nerf as training
from neurcomp_core.radiance.training.nerf import NerfRecipe, train
from neurcomp_core.radiance.training.nerf_loss import RayLoss, shaded
from neurcomp_core.radiance.training.watch import Moment
from neurcomp_core.radiance.volume import RadianceVolume

BOX = np.array([[-1.0, -0.9, -0.8], [1.1, 0.9, 1.0]])
TINY = NerfRecipe(
    depth=3, width=16, position_frequencies=3, direction_frequencies=2, steps=60, batch=64, coarse_samples=12,
    fine_samples=8, rate=5e-3, last_rate=1e-3, warm_up=10, refresh=15, resolution=12,
)  # fmt: skip
ONE = RadianceContext(device="cpu", threads=1)


def network(seed: int = 0, width: int = 16, depth: int = 4, gain: float = 1.5) -> NerfMlp:
    """Random weights and biases, a skip connection, densities of either sign."""
    recipe = replace(TINY, depth=depth, width=width)
    draw = np.random.default_rng(seed)
    mlp = training.fresh(recipe, BOX, draw)
    layers = [Dense(gain * x.weight, 0.2 * draw.standard_normal(x.bias.shape).astype(np.float32)) for x in mlp.layers]
    layers[depth] = Dense(60 * layers[depth].weight, layers[depth].bias + 2)
    return pruning.with_layers(mlp, layers)


def two() -> NerfWeights:
    return NerfWeights(network(0), network(1))


def points(count: int = 200, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    directions = draw.standard_normal((count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return draw.uniform(BOX[0], BOX[1], (count, 3)).astype(np.float32), directions.astype(np.float32)


def some_rays(count: int = 30, seed: int = 4) -> Rays:
    """Into the box from outside and inside; the last one misses it."""
    draw = np.random.default_rng(seed)
    origins = draw.standard_normal((count, 3))
    origins *= 3 / np.linalg.norm(origins, axis=1, keepdims=True)
    origins[::8] = draw.uniform(BOX[0], BOX[1], origins[::8].shape)
    directions = draw.uniform(-0.5, 0.5, (count, 3)) - origins
    origins[-1], directions[-1] = (0, 0, 4), (1, 0, 0)
    return Rays(origins, directions * draw.uniform(0.5, 2, (count, 1)), 0.1, 9.0)


@pytest.fixture(scope="module")
def photographs() -> PosedImages:
    """Sixteen small pictures of the analytic scene, in memory."""
    made = scene_sets.scene_set("inward", 16, 14, 2)
    pictures = Images.of_arrays([made.scene.render(camera) for camera in made.cameras])
    box = np.array([[-1.1] * 3, [1.1] * 3])
    return PosedImages(pictures, made.cameras, made.splits, 1.5, 5.0, box)


# ------------------------------------------------------------------------------------------------------------ networks


@pytest.mark.parametrize("frequencies", [0, 1, 10])
def test_encoding_in_torch_is_the_one_in_numpy(frequencies: int) -> None:
    x = points()[0].astype(np.float64)
    found = encode(torch.from_numpy(x), frequencies).numpy()
    np.testing.assert_allclose(found, imported.encode(x, frequencies), rtol=0, atol=1e-14)
    assert found.shape == (len(x), 3 + 6 * frequencies)


@pytest.mark.parametrize("with_views", [True, False])
@pytest.mark.parametrize("kind", ["torch", "dense", "sparse"])
def test_every_evaluation_is_that_of_the_definition(kind: str, with_views: bool) -> None:
    mlp = network()
    if not with_views:
        mlp = NerfMlp(mlp.trunk, mlp.sigma, Dense(mlp.feature.weight[:3], mlp.feature.bias[:3]))  # pyright: ignore
    x, d = points(5000)
    sigma, rgb = mlp(x, d)
    assert 0.1 < np.mean(sigma > 0) < 0.9
    made = {"torch": TorchNetwork.of, "dense": DenseNetwork, "sparse": SparseNetwork}[kind](mlp)
    density, features = made.density(x)
    lit = np.flatnonzero(sigma > 0)
    np.testing.assert_allclose(density, sigma, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(made.colors(features, lit, d[lit]), rgb[lit], atol=2e-5)
    assert made.colors(features, lit[:0], d[:0]).shape == (0, 3)


def test_a_network_comes_back_from_torch_as_it_went_there() -> None:
    mlp = network()
    back = TorchNetwork.of(mlp).mlp()
    for a, b in zip(mlp.layers, back.layers, strict=True):
        np.testing.assert_array_equal(a.weight, b.weight)
        np.testing.assert_array_equal(a.bias, b.bias)


def test_a_fresh_network_is_the_papers() -> None:
    mlp = training.fresh(NerfRecipe(), BOX, np.random.default_rng(0))
    shapes = [layer.weight.shape for layer in mlp.layers]
    assert shapes == [
        (256, 63), *[(256, 256)] * 4, (256, 319), *[(256, 256)] * 2, (1, 256), (256, 256), (128, 283), (3, 128)
    ]  # fmt: skip
    assert mlp.position_frequencies == 10
    assert mlp.direction_frequencies == 4
    sigma = mlp(*points())[0]
    # Something to learn from everywhere, and nothing opaque.
    assert np.mean(sigma > 0) > 0.95
    assert 0.3 < sigma.mean() * 2 < 3


# ------------------------------------------------------------------------------------------------------------ sampling


def test_strata_cover_what_a_ray_has_of_the_box() -> None:
    rays, space = some_rays(), Space.of(BOX, "bounded")
    for draw in (None, np.random.default_rng(0)):
        strata = stratified(rays, space, 10, draw)
        assert (strata.times >= strata.edges[:, :-1]).all()
        assert (strata.times <= strata.edges[:, 1:]).all()
        for r in range(len(rays)):
            fine = np.linspace(0.1, 9, 40_001)
            at = rays.origins[r] + fine[:, None] * rays.directions[r]
            inside = fine[((at >= BOX[0]) & (at <= BOX[1])).all(1)]
            length = strata.edges[r, -1] - strata.edges[r, 0]
            if not len(inside):
                assert length == 0
            else:
                np.testing.assert_allclose(strata.edges[r, [0, -1]], inside[[0, -1]], atol=5e-4)


def test_an_unbounded_scene_is_sampled_evenly_in_disparity() -> None:
    rays = some_rays()
    strata = stratified(rays, Space.of(BOX, "unbounded"), 8)
    np.testing.assert_allclose(np.diff(1 / strata.edges, axis=1), (1 / 9 - 10) / 8, rtol=1e-9)
    with pytest.raises(InputError, match="finite far distance"):
        stratified(Rays(rays.origins, rays.directions, 0.1, np.inf), Space.of(BOX, "unbounded"), 8)


def test_fine_samples_follow_the_weights() -> None:
    rays = some_rays(2)
    strata = stratified(rays, Space.of(BOX, "bounded"), 4)
    weights = np.array([[0.0, 3.0, 0.0, 1.0], [0.0] * 4])
    found = refined(strata, weights, 400, np.random.default_rng(0))
    counts = np.histogram(found.times[0], strata.edges[0])[0] - 1
    np.testing.assert_allclose(counts, [0, 300, 0, 100], atol=1)
    assert (np.diff(found.times, axis=1) >= 0).all()
    # A ray on which nothing was found, here also one that misses the box, keeps its whole length.
    np.testing.assert_array_equal(found.edges[:, [0, -1]], strata.edges[:, [0, -1]])
    assert (np.diff(found.edges, axis=1) >= 0).all()


def test_free_space_leaves_out_what_is_empty_and_nothing_else() -> None:
    def ball(at: np.ndarray) -> np.ndarray:
        return np.where(np.linalg.norm(at - 0.2, axis=1) < 0.4, 30.0, 0.0)

    rays = some_rays(200)
    free = free_space(ball, BOX, 24)
    strata = stratified(rays, Space.of(BOX, "bounded"), 64)
    every, some = keep(strata, rays), keep(strata, rays, free)
    missing = np.setdiff1d(every.slots, some.slots)
    assert 0.3 < len(missing) / len(every.slots) < 0.99
    at = every.samples.points(rays)[np.isin(every.slots, missing)]
    assert not ball(at).any()
    whole = keep(strata, rays, free, np.ones(len(rays), bool))
    np.testing.assert_array_equal(whole.slots, every.slots)
    np.testing.assert_array_equal(whole.samples.sizes, every.samples.sizes)
    spread = some.spread(np.ones(len(some.slots)), strata)
    assert spread.sum() == len(some.slots)
    assert spread.shape == strata.times.shape


def test_a_lattice_has_nearly_cubic_cells() -> None:
    frame = lattice_frame(BOX, 21)
    assert frame.shape == (19, 19, 22)
    with pytest.raises(InputError, match="at least one cell"):
        lattice_frame(BOX, 0)


# ----------------------------------------------------------------------------------------------------------- rendering


def plainly(weights: NerfWeights, ray: Rays, samples: tuple[int, int]) -> tuple[np.ndarray, float, float]:
    """One ray by the paper's equations in float64, sample after sample."""

    def march(mlp: NerfMlp, times: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        at = ray.origins + times[:, None] * ray.directions
        sigma, rgb = mlp(at, np.repeat(np.asarray(ray.views), len(times), 0))
        through, color, out, depth = 1.0, np.zeros(3), [], 0.0
        for s, c, t, length in zip(sigma, rgb, times, np.diff(edges) * np.linalg.norm(ray.directions), strict=True):
            weight = through * (1 - np.exp(-s * length))
            through *= np.exp(-s * length)
            color, depth = color + weight * c, depth + weight * t
            out.append(weight)
        return np.array(out), color, depth

    begin, end = (float(b[0]) for b in Space.of(BOX, "bounded").intervals(ray))
    edges = np.linspace(begin, end, samples[0] + 1)
    times = (edges[1:] + edges[:-1]) / 2
    weights_ = march(weights.coarse, times, edges)[0] + 1e-5
    total = np.concatenate([[0], np.cumsum(weights_)]) / weights_.sum()
    more = np.interp((np.arange(samples[1]) + 0.5) / samples[1], total, edges)
    times = np.sort(np.concatenate([times, more]))
    edges = np.concatenate([[begin], (times[1:] + times[:-1]) / 2, [end]])
    out, color, depth = march(weights.fine or weights.coarse, times, edges)
    return color, out.sum(), depth


@pytest.mark.parametrize("fine", [True, False])
def test_rendering_is_that_of_plain_code(fine: bool) -> None:
    weights, rays = (two() if fine else NerfWeights(network(0))), some_rays()
    field = NerfField(weights, BOX, samples=(16, 24), resolution=0)
    found = field.integrate(rays, MarchOptions(stop=0.0))
    for r in range(len(rays) - 1):
        color, opacity, depth = plainly(weights, rays.part(r, r + 1), (16, 24))
        np.testing.assert_allclose(found.color[r], color, atol=3e-5)
        assert found.opacity[r] == pytest.approx(opacity, abs=3e-5)
        assert found.depth[r] == pytest.approx(depth, abs=2e-4)
    assert found.opacity[-1] == 0
    assert found.opacity.max() > 0.9


def test_pictures_in_batches_are_pictures() -> None:
    weights, camera = two(), scene_sets.scene_set("inward", 12, 2, 1).cameras[0]
    field = NerfField(weights, BOX, samples=(16, 16))
    once = views.render(field, camera, normals=True)
    parts = views.render(field, camera, normals=True, memory=20 * field.ray_nbytes)
    np.testing.assert_allclose(once.color, parts.color, atol=1e-6)
    lengths = np.linalg.norm(once.normal, axis=-1)  # pyright: ignore
    np.testing.assert_allclose(lengths[lengths > 0], 1, atol=1e-6)
    assert np.isfinite(once.depth[once.opacity > 0.5]).all()
    sparse = views.render(replace(field, evaluation="sparse"), camera)
    np.testing.assert_allclose(sparse.color, once.color, atol=1e-4)
    volume = RadianceVolume(weights, BOX)
    np.testing.assert_array_equal(views.render(NerfField.of(volume, samples=(16, 16)), camera).color, once.color)


def test_gradients_see_what_pictures_show() -> None:
    """The training's colours, in torch, are the renderer's."""
    weights, rays = two(), some_rays()
    strata = stratified(rays, Space.of(BOX, "bounded"), 20)
    kept = keep(strata, rays)
    made = TorchNetwork.of(weights.coarse, dtype=torch.float64, train=True)
    out = shaded(made, rays, kept)
    field = NerfField(NerfWeights(weights.coarse), BOX, samples=(20, 0), resolution=0)
    np.testing.assert_allclose(
        out.color.detach().numpy(), field.integrate(rays, MarchOptions(stop=0.0)).color, atol=3e-5
    )
    out.over(torch.ones(3, dtype=torch.float64)).square().sum().backward()
    weight = made.tensors[0]
    before, epsilon = weight.grad[2, 1].item(), 1e-6  # pyright: ignore
    figures = []
    with torch.no_grad():
        for sign in (1, -1):
            weight[2, 1] += sign * epsilon
            figures.append(shaded(made, rays, kept).over(torch.ones(3, dtype=torch.float64)).square().sum().item())
            weight[2, 1] -= sign * epsilon
    assert before == pytest.approx((figures[0] - figures[1]) / (2 * epsilon), rel=1e-5)
    assert before != 0


def test_density_on_a_grid() -> None:
    weights = two()
    density, frame = sample_grid(weights, BOX, 10)
    assert density.shape == frame.shape
    z, y, x = 3, 4, 5
    at = BOX[0] + frame.voxel * (x, y, z)
    field = NerfField(weights, BOX)
    assert density[z, y, x] == pytest.approx(field.density(at[None])[0], rel=1e-4, abs=1e-5)
    whole = weights.fine(at[None], at[None])[0][0]  # pyright: ignore
    assert density[z, y, x] in (0, pytest.approx(whole, rel=1e-4, abs=1e-5))
    assert field.density(np.array([[5.0, 0, 0]]))[0] == 0


def test_what_cannot_be_rendered_is_refused() -> None:
    with pytest.raises(InputError, match="samples: expected at least 1"):
        NerfField(two(), BOX, samples=(0, 4))
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA device"):
            device_of("cuda")


# ------------------------------------------------------------------------------------------------------------ training


def test_training_improves_unseen_views(photographs: PosedImages) -> None:
    seen, unseen = photographs.split("train"), photographs.split("test")
    moments, models = [], []

    def look(moment: Moment) -> None:
        moments.append(moment)
        models.append(moment.model())

    weights = train(seen, replace(TINY, steps=240, warm_up=40, refresh=40), ONE, look)
    blank = quality.psnr(np.ones_like(unseen.colors(0)), unseen.colors(0))

    def score(w: NerfWeights) -> float:
        view = views.render_view(NerfField(w, unseen.box, samples=(24, 24)), unseen, 0)
        return quality.psnr(view.color, unseen.colors(0))

    assert score(weights) > blank + 3
    assert score(weights) > score(models[0]) + 1
    assert moments[-1].step == moments[-1].steps == 240
    first, last = moments[0].psnr, moments[-1].psnr
    assert first is not None
    assert last > first
    # In the warm-up there is one network; what is handed out has two all the same.
    assert moments[0].step < 40
    np.testing.assert_array_equal(models[0].fine.rgb.weight, models[0].coarse.rgb.weight)


@pytest.mark.parametrize("at", [7, 33])
def test_a_killed_run_goes_on_to_the_same_weights(photographs, tmp_path, at: int) -> None:
    seen = photographs.split("train")
    whole = train(seen, TINY, ONE)
    file = tmp_path / "run.npz"
    stopping = Progress()

    def stop(moment) -> None:
        if moment.step >= at:
            stopping.cancel()

    context = replace(ONE, checkpoint=file, progress=stopping)
    with pytest.raises(Cancelled) as caught:
        train(seen, TINY, context, stop)
    assert isinstance(caught.value.best, NerfWeights)
    resumed = train(seen, TINY, replace(ONE, checkpoint=file))
    again = train(seen, TINY, replace(ONE, checkpoint=file))  # finished: from the file
    for a, b, c in zip(*map(pruning.matrices, (whole, resumed, again)), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    file.unlink()
    stopping = Progress()
    with pytest.raises(Cancelled):
        train(seen, TINY, replace(ONE, checkpoint=file, progress=stopping), stop)
    with pytest.raises(InputError, match="another run"):
        train(seen, replace(TINY, rate=6e-3), replace(ONE, checkpoint=file))


def test_the_papers_recipe_trains_both_networks_from_the_start(photographs: PosedImages) -> None:
    recipe = NerfRecipe.from_preset("full", depth=2, width=8, batch=32, steps=3, coarse_samples=4, fine_samples=4)
    weights = train(photographs.split("train"), recipe, ONE)
    assert weights.fine is not None
    assert not np.array_equal(weights.fine.trunk[0].weight, weights.coarse.trunk[0].weight)
    alone = train(photographs.split("train"), replace(recipe, fine_samples=0), ONE)
    assert alone.fine is None


@pytest.mark.parametrize("kind", ["forward", "unbounded"])
def test_other_scenes_are_trained_in_their_own_coordinates(kind: str, tmp_path) -> None:
    data = scene_sets.write(scene_sets.scene_set(kind, 16, 14, 2), tmp_path)
    seen, first = data.split("train"), data.split("test")
    weights = train(seen, replace(TINY, steps=250, width=32, coarse_samples=24), ONE)
    found = views.render_view(NerfField(weights, data.box, data.scene, (16, 16)), first, 0)
    flat = np.broadcast_to(first.colors(0).mean((0, 1)), found.color.shape)
    assert quality.psnr(found.color, first.colors(0)) > quality.psnr(flat, first.colors(0)) + 1


def test_free_space_does_not_change_whole_rays(photographs: PosedImages) -> None:
    seen = photographs.split("train")
    losses = []
    for whole in (1.0, 0.0):
        loss = RayLoss.of(seen, replace(TINY, whole=whole), ONE)
        networks = [TorchNetwork.of(mlp, train=True) for mlp in pruning.networks_of(two())]
        unrestricted = loss(networks, 5)[1]
        loss.look(networks[0])
        losses.append((unrestricted, loss(networks, 5)[1]))
    assert losses[0][0] == losses[0][1]
    assert losses[0][0] == losses[1][0]


def test_recipes_are_checked() -> None:
    assert set(NerfRecipe.presets) == {"fast", "balanced", "full"}
    assert NerfRecipe.from_preset("full") == NerfRecipe()
    fast = NerfRecipe.from_preset("fast")
    assert (fast.depth, fast.width) == (4, 128)
    assert fast.rate_at(0) == fast.rate
    assert fast.rate_at(fast.steps) == pytest.approx(fast.last_rate)
    for wrong, words in [
        ({"depth": 0}, "depth: expected at least 1"), ({"warm_up": -1}, "warm_up"), ({"rate": 1e-9}, "rates"),
        ({"whole": 2.0}, "whole"), ({"hue": 1}, "no parameter 'hue'"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=words):
            NerfRecipe.from_preset("fast", **wrong)
    with pytest.raises(InputError, match="no preset 'slow'"):
        NerfRecipe.from_preset("slow")


# ------------------------------------------------------------------------------------------------------------- pruning


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.9])
def test_the_smallest_weights_of_both_networks_go(ratio: float) -> None:
    weights = two()
    found, masks = pruning.prune(weights, ratio)
    assert pruning.sparsity(found) == pytest.approx(ratio, abs=1e-3)
    kept = np.concatenate([np.abs(w[m]) for w, m in zip(pruning.matrices(weights), masks, strict=True)])
    gone = np.concatenate([np.abs(w[~m]) for w, m in zip(pruning.matrices(weights), masks, strict=True)])
    assert not len(gone) or gone.max() <= kept.min()
    for a, b in zip(pruning.networks_of(weights), pruning.networks_of(found), strict=True):
        for x, y in zip(a.layers, b.layers, strict=True):
            np.testing.assert_array_equal(x.bias, y.bias)
    for m, n in zip(masks, pruning.masks_of(found), strict=True):
        np.testing.assert_array_equal(m, n)


def test_retraining_helps_and_holds_zeros(photographs: PosedImages) -> None:
    seen = photographs.split("train")
    recipe = replace(TINY, steps=150, warm_up=30, retrain_rate=4e-3)
    weights = train(seen, recipe, ONE)
    pruned, masks = pruning.prune(weights, 0.7)
    after = pruning.retrain(weights, masks, seen, recipe, 60, ONE)
    for w, v, m in zip(pruning.matrices(after), pruning.matrices(pruned), masks, strict=True):
        assert not w[~m].any()
        assert not m.any() or not np.array_equal(w[m], v[m])

    def error(w: NerfWeights) -> float:
        loss = RayLoss.of(seen, replace(recipe, batch=1500), ONE)
        return loss([TorchNetwork.of(mlp, train=True) for mlp in pruning.networks_of(w)], 0)[1]

    assert error(after) < 0.8 * error(pruned)
    rounds = pruning.prune_and_retrain(weights, 0.7, seen, recipe, 60, 3, ONE)
    assert pruning.sparsity(rounds) >= 0.699
    assert error(rounds) < 0.8 * error(pruned)


def test_stopped_retraining_hands_out_what_it_has(photographs: PosedImages) -> None:
    weights, stopping = two(), Progress()
    stopping.cancel()
    _, masks = pruning.prune(weights, 0.5)
    with pytest.raises(Cancelled) as caught:
        pruning.retrain(weights, masks, photographs, TINY, 5, replace(ONE, progress=stopping))
    assert isinstance(caught.value.best, NerfWeights)
    assert pruning.sparsity(caught.value.best) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("ratio", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("choose", [pruning.prune, pruning.prune_neurons])
def test_smaller_networks_are_the_same_function(choose, ratio: float) -> None:
    pruned, _ = choose(NerfWeights(network(0, 32), network(1, 32)), ratio)
    small = pruning.compacted(pruned)
    x, d = points(500)
    for a, b in zip(pruning.networks_of(pruned), pruning.networks_of(small), strict=True):
        for p, q in zip(a(x, d), b(x, d), strict=True):
            np.testing.assert_allclose(p, q, rtol=1e-4, atol=1e-5)
    sizes = [sum(w.size for w in pruning.matrices(n)) for n in (pruned, small)]
    assert sizes[1] < sizes[0]
    if choose is pruning.prune_neurons:
        assert sizes[1] <= (1 - ratio) * sizes[0] * 2
    again = pruning.compacted(small)
    assert [w.shape for w in pruning.matrices(again)] == [w.shape for w in pruning.matrices(small)]


def test_a_network_without_zeros_stays_as_it_is() -> None:
    weights = two()
    for a, b in zip(pruning.matrices(weights), pruning.matrices(pruning.compacted(weights)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_neurons_go_until_enough_weights_are_gone() -> None:
    weights = NerfWeights(network(0, 32), network(1, 32))
    found, masks = pruning.prune_neurons(weights, 0.6)
    assert 0.6 <= pruning.sparsity(found) < 0.65
    assert all(m.any() for m in masks)


def test_what_cannot_be_pruned_is_refused() -> None:
    weights = two()
    for wrong in (pruning.prune, pruning.prune_neurons):
        with pytest.raises(InputError, match="0 to less than 1"):
            wrong(weights, 1.0)
    with pytest.raises(InputError, match="masks: expected one"):
        pruning.masked(weights, pruning.masks_of(NerfWeights(network(0))))
