"""Compression of voxel radiance fields by pruning, vector quantisation, fine-tuning and learned coding."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from neurcomp_core.codec import Context, Encoded
from neurcomp_core.codecs.vqrf import Vqrf
from neurcomp_core.container import Container, Header, RadianceRecord, dumps
from neurcomp_core.errors import FormatError, InputError, TargetError
from neurcomp_core.progress import Progress
from neurcomp_core.radiance import scene_sets, spherical_harmonics
from neurcomp_core.radiance.codec import RadianceContext
from neurcomp_core.radiance.coding import attributes
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.evaluation import mean_psnr
from neurcomp_core.radiance.files import compress, load
from neurcomp_core.radiance.grids import SparseGrid, SphereLayers
from neurcomp_core.radiance.images import Images
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.rendering.frames import Rays
from neurcomp_core.radiance.rendering.occupancy import dilated
from neurcomp_core.radiance.scenes import scene
from neurcomp_core.radiance.training.batches import RayBank
from neurcomp_core.radiance.volume import RadianceModel, RadianceVolume
from neurcomp_core.radiance.vqrf import finetune, layers, search, stages, stream
from neurcomp_core.radiance.vqrf.choose import chosen
from neurcomp_core.radiance.vqrf.codebook import Learning, agreeing, averaged, learn, nearest, ordered, summed
from neurcomp_core.radiance.vqrf.factors import Basis, Factors
from neurcomp_core.radiance.vqrf.finetune import Tuning, descent_of, tuned
from neurcomp_core.radiance.vqrf.importance import free_views, importance, sphere, views_of
from neurcomp_core.radiance.vqrf.judge import seen
from neurcomp_core.radiance.vqrf.plan import Plan
from neurcomp_core.radiance.vqrf.pruning import carrying
from neurcomp_core.radiance.vqrf.quantise import Steps, Symbols, quantised
from neurcomp_core.radiance.vqrf.rows import Shell, rows_of
from neurcomp_core.radiance.vqrf.sensitivity import Sensitivity
from neurcomp_core.radiance.vqrf.thrift import Thrift
from neurcomp_core.target import Bytes, MaxError, PsnrLoss, Ratio

GOLDEN = Path(__file__).parent / "golden"
KINDS = ("sparse", "dvgo")


@cache
def images() -> PosedImages:
    """Pictures of the analytic scene with noise of its own in the last ones, so that they differ."""
    known = scene_sets.scene_set("inward", 24, 10, 3)
    pictures = Images.of_arrays([known.scene.render(c, 1 / 24, 1).astype(np.float32) for c in known.cameras])
    return PosedImages(pictures, known.cameras, known.splits, 0.1, 8.0, known.scene.box())


@cache
def sparse() -> SparseGrid:
    """The analytic scene with coefficients that are not all alike: noise as training leaves it."""
    grid = scene("inward").grid(20)
    noise = np.random.default_rng(3).normal(0, 0.03, grid.sh.shape)
    return replace(grid, sh=(grid.sh + noise).astype(np.float32))


@cache
def dvgo() -> DvgoModel:
    """The analytic scene's density, and features that a small random network turns into some colour."""
    known, draw, shape = scene("inward"), np.random.default_rng(5), (15, 16, 17)
    box = known.box()
    axes = [np.linspace(box[0, i], box[1, i], n) for i, n in enumerate(shape[::-1])]
    z, y, x = np.meshgrid(*axes[::-1], indexing="ij")
    points = np.stack([x, y, z], -1)
    unit, shift = float(axes[0][1] - axes[0][0]), math.log(1 / 0.99 - 1)
    thick = np.clip(known.density(points) * unit, 1e-4, 15)
    features = draw.normal(0, 0.1, (*shape, 6)) + np.sin(points @ draw.normal(0, 1, (3, 6)))
    layers = tuple(
        (draw.normal(0, 1 / math.sqrt(i), (o, i)).astype(np.float32), draw.normal(0, 0.1, o).astype(np.float32))
        for i, o in ((6 + 9, 8), (8, 3))
    )
    density = (np.log(np.expm1(thick)) - shift).astype(np.float32)
    return DvgoModel(density, features.astype(np.float32), box, shift, unit, layers, 1)


def model(kind: str) -> SparseGrid | DvgoModel:
    return sparse() if kind == "sparse" else dvgo()


@cache
def volume(kind: str) -> RadianceVolume:
    return RadianceVolume.of(model(kind), images())


@cache
def context(kind: str, noise: float = 0.02) -> RadianceContext:
    """Of images that show the field itself, with a little noise: there is a quality to lose."""
    draw, shown = np.random.default_rng(7), []
    data = images()
    for view in range(len(data)):
        rays = next(r for i, r in enumerate(views_of(data)) if i == view)
        picture = seen(volume(kind), model(kind), rays).reshape(24, 24, 3)
        shown.append(np.clip(picture + draw.normal(0, noise, picture.shape), 0, 1).astype(np.float32))
    data = replace(data, images=Images.of_arrays(shown))
    return RadianceContext(threads=1, views=data.split("train"), unseen=data.split("test"))


@cache
def weights(kind: str) -> np.ndarray:
    return importance(model(kind), views_of(images()))


@cache
def factors(kind: str, codes: int = 24) -> Factors:
    """Pruned, and with a codebook."""
    rows, keep = rows_of(model(kind)), carrying(weights(kind), 0.999)
    part = Factors.of(Shell.of(model(kind)), rows.take(keep), weights(kind)[keep])
    own = carrying(weights(kind)[keep], 0.4)
    return part.shared(own, learn(part.kept[~own], weights(kind)[keep][~own], codes, Learning(10)), weights(kind)[keep])


def small(preset: str = "fast", **overrides) -> Vqrf:
    chosen = {"tune": 10, "rays": 400, "codes": 32, "rounds": 10, **overrides}
    made = Vqrf.from_preset(preset, **chosen)
    assert isinstance(made, Vqrf)
    return made


# ------------------------------------------------------------------------------------------------ importance, pruning


@pytest.mark.parametrize("kind", KINDS)
def test_importance_sums_up_to_opacity(kind):
    origins = np.random.default_rng(0).normal(size=(200, 3))
    origins *= 4 / np.linalg.norm(origins, axis=1, keepdims=True)
    rays = Rays(origins, -origins)
    found = importance(model(kind), [rays])
    assert found.shape == (len(rows_of(model(kind))),)
    black, white = (seen(replace(volume(kind), background=b), model(kind), rays) for b in ((0, 0, 0), (1, 1, 1)))
    opacity = 1 - (white - black).mean(1)
    # Trilinear weights of a sample add up to one; a sparse grid's rim lends some to voxels that are not there.
    share = found.sum() / opacity.sum()
    assert share == pytest.approx(1, abs=1e-3) if kind == "dvgo" else 0.9 < share < 1 + 1e-6


def test_fewer_rays_give_about_the_same_importance():
    found = importance(sparse(), views_of(images(), 24 * 24 * 13 // 4))
    every = weights("sparse")
    assert 3 < every.sum() / found.sum() < 5
    kept = carrying(found, 0.99), carrying(every, 0.99)
    assert (kept[0] & kept[1]).sum() > 0.85 * kept[1].sum()


def test_importance_follows_rows_not_links():
    grid = sparse()
    turned = np.random.default_rng(0).permutation(len(grid.density))
    links = grid.links.copy()
    links[links >= 0] = np.argsort(turned)[links[links >= 0]]
    other = replace(grid, links=links, density=grid.density[turned], sh=grid.sh[turned])
    rays = [next(iter(views_of(images())))]
    assert np.allclose(importance(other, rays), importance(grid, rays))
    assert np.array_equal(rows_of(other).features, rows_of(grid).features)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999, 1.0])
def test_carrying_keeps_the_fewest_that_carry_the_share(share):
    values = np.random.default_rng(1).exponential(size=500) * (np.arange(500) % 7 > 0)
    keep = carrying(values, share)
    assert values[keep].sum() >= share * values.sum() * (1 - 1e-12)
    if keep.any():
        assert values[keep].min() >= values[~keep].max()
        assert share == 1 or values[keep].sum() - values[keep].min() < share * values.sum()
    assert not keep[values == 0].any()


def test_carrying_refuses_what_is_no_share():
    with pytest.raises(InputError, match="expected 0 to 1"):
        carrying(np.ones(3), 1.5)


def test_sphere_cameras_see_all_of_the_box_from_all_around():
    box = np.array([[-1.0, 0, 2], [1, 3, 2.5]])
    cameras = sphere(box, 12, 10)
    corners = np.array([[box[i, 0], box[j, 1], box[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    for camera in cameras:
        local = (corners - camera.position) @ camera.pose[:3, :3]
        reach = math.tan(math.radians(20)) * -local[:, 2:]
        assert (np.abs(local[:, :2]) <= reach + 1e-9).all()
    outward = np.stack([c.position - box.mean(0) for c in cameras])
    assert np.linalg.norm(outward.mean(0)) < 0.1 * np.linalg.norm(outward[0])
    turned = sphere(box, 12, 10, 0.5)
    assert min(np.linalg.norm(a.position - b.position) for a in cameras for b in turned) > 0.1


def test_views_without_images_of_a_forward_facing_field_cross_its_box():
    near = replace(volume("sparse"), scene="forward-facing", near=1.0)
    for rays in free_views(near, 3, 5):
        assert np.allclose(rays.origins[:, 2], near.box[0, 2])
        assert np.allclose(rays.origins[:, 2] + rays.directions[:, 2], near.box[1, 2])
        assert rays.views is not None
        assert np.allclose(np.linalg.norm(rays.views, axis=1), 1)


@pytest.mark.parametrize("kind", KINDS)
def test_pruned_fields_are_those_rows_and_nothing_else(kind):
    shell, rows = Shell.of(model(kind)), rows_of(model(kind))
    keep = carrying(weights(kind), 0.9)
    left = shell.model(rows.take(keep))
    back = rows_of(left)
    if isinstance(left, SparseGrid):
        assert np.array_equal(back.density, rows.density[keep])
        assert np.array_equal(back.features, rows.features[keep])
        return
    assert left.mask is not None
    assert np.array_equal(back.density[keep], rows.density[keep])
    assert not back.features[~keep].any()
    assert np.array_equal(left.mask, dilated(rows.take(keep).occupied))
    free = back.density[~keep]
    voxel = np.cbrt(np.prod((left.box[1] - left.box[0]) / (np.array(left.density.shape[::-1]) - 1)))
    opacity = -np.expm1(-np.logaddexp(0, free + left.shift) / left.unit * voxel)
    assert (opacity < 2e-5).all()


# ----------------------------------------------------------------------------------------------------------- codebook


def test_a_round_without_memory_is_a_step_of_k_means():
    draw = np.random.default_rng(2)
    rows, importance_of, codes = draw.normal(size=(300, 5)), draw.exponential(size=300), draw.normal(size=(7, 5))
    found, mass, sums = averaged(rows.astype(np.float32), importance_of, codes.astype(np.float32), np.zeros(7),
                                 np.zeros((7, 5)), 0.0)  # fmt: skip
    near = ((rows[:, None] - codes) ** 2).sum(2).argmin(1)
    expected = np.stack([np.average(rows[near == k], axis=0, weights=importance_of[near == k]) for k in range(7)])
    assert np.allclose(found, expected, atol=1e-5)
    assert np.allclose(mass, np.bincount(near, importance_of, 7))
    assert np.allclose(sums / mass[:, None], expected, atol=1e-5)


def test_averages_remember_earlier_batches():
    rows, ones = np.ones((4, 2), np.float32), np.ones(4)
    codes, mass, _ = averaged(rows, ones, np.zeros((1, 2), np.float32), np.array([4.0]), np.zeros((1, 2)), 0.75)
    assert np.allclose(codes, 0.25)
    assert np.allclose(mass, 4)


def test_dead_codes_start_anew():
    draw = np.random.default_rng(0)
    rows = (np.repeat(draw.uniform(0, 100, (30, 3)), 20, 0) + draw.normal(0, 0.1, (600, 3))).astype(np.float32)
    # Some of 30 clusters get none of 36 codes to begin with.
    worst = {}
    for replaced in (0, 2):
        codes = learn(rows, np.ones(len(rows)), 36, Learning(150, replaced=replaced))
        worst[replaced] = nearest(rows, codes)[1].max()
    assert worst[0] > 10
    assert worst[2] < 1
    assert set(nearest(rows, codes)[0]) == set(range(len(codes)))


def test_nearest_and_sums_agree_with_numpy():
    draw = np.random.default_rng(4)
    rows, codes = draw.normal(size=(64, 6)).astype(np.float32), draw.normal(size=(9, 6)).astype(np.float32)
    index, distance = nearest(rows, codes)
    every = ((rows[:, None] - codes) ** 2).sum(2)
    assert np.array_equal(index, every.argmin(1))
    assert np.allclose(distance, every.min(1), rtol=1e-5)
    expected = np.zeros((9, 6))
    np.add.at(expected, index, rows)
    assert np.allclose(summed(rows, index, 9), expected)
    order = ordered(codes)
    assert sorted(order) == list(range(9))


def test_indices_agree_with_their_neighbours_at_a_price():
    draw = np.random.default_rng(5)
    rows, codes = draw.normal(size=(400, 4)).astype(np.float32), draw.normal(size=(32, 4)).astype(np.float32)
    weight, before = draw.exponential(size=400), np.stack([np.arange(-1, 399), np.full(400, -1), np.full(400, -1)], 1)
    index = {price: agreeing(rows, weight, codes, before, price) for price in (0.0, 0.3, 3.0)}
    assert np.array_equal(index[0.0], nearest(rows, codes)[0])
    repeats = [np.mean(i[1:] == i[:-1]) for i in index.values()]
    errors = [weight @ ((rows - codes[i]) ** 2).sum(1) for i in index.values()]
    assert repeats == sorted(repeats)
    assert repeats[2] > repeats[0] + 0.2
    assert errors == sorted(errors)
    # What is given up is worth the bits that are saved.
    bit = 0.3 * errors[0] / (5 * 400)
    assert errors[1] - errors[0] <= 4 * bit * np.sum(index[0.3] != index[0.0]) * (1 + 1e-5)


# ------------------------------------------------------------------------------------------------------------ factors


@pytest.mark.parametrize("kind", KINDS)
def test_a_basis_is_undone_and_least_correlated(kind):
    rows = rows_of(model(kind))
    basis = Basis.of(rows.features, weights(kind))
    coefficients = basis.coefficients(rows.features)
    assert np.allclose(basis.features(coefficients), rows.features, atol=1e-4)
    mean = weights(kind) @ coefficients / weights(kind).sum()
    spread = (weights(kind)[:, None] * (coefficients - mean)).T @ (coefficients - mean)
    assert np.abs(spread - np.diag(np.diag(spread))).max() < 0.05 * np.diag(spread).max()
    assert np.diag(spread).argmax() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_shared_rows_have_the_nearest_code(kind):
    whole = factors(kind)
    plain = Factors.of(
        whole.shell, rows_of(model(kind)).take(carrying(weights(kind), 0.999)), np.ones(len(whole.density))
    )
    assert np.array_equal(whole.occupied, plain.occupied)
    assert len(whole.kept) + len(whole.index) == len(whole.density)
    assert set(whole.index) == set(range(len(whole.codes)))
    rows = rows_of(whole.model())
    if kind == "sparse":
        kept = rows_of(model(kind)).take(carrying(weights(kind), 0.999)).features[whole.own]
        assert np.allclose(rows.features[whole.own], kept, atol=1e-4)
        assert len(np.unique(rows.features[~whole.own].round(5), axis=0)) <= len(whole.codes)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_agree_with_finite_differences(kind):
    part = factors(kind)
    descent = descent_of(part, (1.0, 1.0, 1.0))
    batch = RayBank.of(images(), np.float32).batch(0, 400)
    rows = part.rows()
    slope = descent.slope(rows.density, rows.features, part.network, batch)
    found = {"density": slope.density.copy(), "features": slope.features.copy()}
    network = [g.copy() for g in slope.network]
    per_ray = 3 if kind == "sparse" else 1  # that of Plenoxels is summed over channels
    draw = np.random.default_rng(0)

    def error(density, features, network):
        return per_ray * descent.slope(density, features, network, batch).error

    for name in ("density", "features"):
        toward = draw.normal(size=getattr(rows, name).shape).astype(np.float32)
        small_step = 2e-3
        ends = []
        for sign in (1, -1):
            moved = {"density": rows.density, "features": rows.features}
            moved[name] = (moved[name] + sign * small_step * toward).astype(np.float32)
            ends.append(error(moved["density"], moved["features"], part.network))
        slope_along = (ends[0] - ends[1]) / (2 * small_step)
        assert slope_along == pytest.approx(float((found[name] * toward).sum()), rel=0.03, abs=1e-5)
    for i, gradient in enumerate(network):
        toward = draw.normal(size=gradient.shape).astype(np.float32)
        ends = []
        for sign in (1, -1):
            moved_network = list(part.network)
            moved_network[i] = (moved_network[i] + sign * 2e-3 * toward).astype(np.float32)
            ends.append(error(rows.density, rows.features, tuple(moved_network)))
        assert (ends[0] - ends[1]) / 4e-3 == pytest.approx(float((gradient * toward).sum()), rel=0.03, abs=1e-5)


def test_gradients_of_codes_are_those_of_autograd():
    torch = pytest.importorskip("torch")
    part = factors("sparse")
    upstream = np.random.default_rng(0).normal(size=(len(part.density), part.kept.shape[1]))
    kept, codes = (torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in (part.kept, part.codes))
    own = torch.from_numpy(part.own)
    coefficients = torch.zeros(len(part.density), part.kept.shape[1], dtype=torch.float64)
    coefficients = coefficients.masked_scatter(own[:, None], kept)
    coefficients = coefficients.masked_scatter(~own[:, None], codes[torch.from_numpy(part.index)])
    features = coefficients @ torch.from_numpy(part.basis.vectors / 128) + torch.from_numpy(part.basis.offset)
    features.backward(torch.from_numpy(upstream))
    toward = finetune.coefficient_gradient(part.basis, upstream)
    assert np.allclose(toward[part.own], kept.grad)
    assert np.allclose(summed(toward[~part.own], part.index, len(part.codes)), codes.grad)


@pytest.mark.parametrize("kind", KINDS)
def test_fine_tuning_wins_back_quality_and_repeats(kind):
    part, known = factors(kind, 4), context(kind, 0.001)
    assert known.views is not None
    assert known.unseen is not None
    after = tuned(part, known.views, Tuning(40, 500))
    again = tuned(part, known.views, Tuning(40, 500))
    assert np.array_equal(after.occupied, part.occupied)
    assert np.array_equal(after.index, part.index)
    for name in ("density", "kept", "codes"):
        assert np.array_equal(getattr(after, name), getattr(again, name))
    psnr = [mean_psnr(replace(volume(kind), model=f.model()), known.unseen) for f in (part, after)]
    assert psnr[1] > psnr[0] + 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_fine_tuning_what_quantisation_leaves(kind):
    part, known = factors(kind), context(kind, 0.001)
    assert known.views is not None
    assert known.unseen is not None
    steps = search.scales_of(part).scaled(0.5)
    before = quantised(part, steps).model()
    after = quantised(tuned(part, known.views, Tuning(40, 800, 0.003), steps=steps), steps).model()
    psnr = [mean_psnr(replace(volume(kind), model=m), known.unseen) for m in (before, after)]
    assert psnr[1] > psnr[0]


# -------------------------------------------------------------------------------------------------- rate and distortion


@cache
def sensitivity(kind: str) -> Sensitivity:
    bank = RayBank.of(images())
    batches = [bank.rays(bank.indices(k, 1000, 1)) for k in range(12)]
    return Sensitivity.of(factors(kind), weights(kind)[carrying(weights(kind), 0.999)], batches, (1.0, 1.0, 1.0))


@pytest.mark.parametrize("kind", KINDS)
def test_sensitivity_tells_what_noise_costs(kind):
    part, known, draw = factors(kind), sensitivity(kind), np.random.default_rng(1)
    assert known.share.sum() == pytest.approx(1)
    every, rows = list(views_of(images())), part.rows()
    rays = Rays(*(np.concatenate([np.asarray(getattr(r, n)) for r in every]) for n in ("origins", "directions")))
    truth = seen(volume(kind), part.shell.model(rows), rays)
    for name, told in (
        ("features", known.metric.trace() * 0.01**2),
        ("density", known.density.sum() * 0.02**2),
    ):
        found = []
        for _ in range(4):
            size = 0.01 if name == "features" else 0.02
            noise = draw.normal(0, size, getattr(rows, name).shape).astype(np.float32)
            changed = replace(rows, **{name: getattr(rows, name) + noise})
            shown = seen(volume(kind), part.shell.model(changed), rays)
            found.append(np.mean((shown - truth).astype(np.float64) ** 2))
        assert np.mean(found) == pytest.approx(told, rel=0.35)


@pytest.mark.parametrize("kind", KINDS)
def test_with_a_metric_all_coefficients_count_alike(kind):
    part = factors(kind)
    kept = carrying(weights(kind), 0.999)
    basis = Basis.of(part.rows().features, weights(kind)[kept], sensitivity(kind).metric)
    turned = part.turned(basis)
    assert np.allclose(turned.rows().features, part.rows().features, atol=1e-3)
    apart = []
    for used in (part.basis, basis):
        counts = np.log(sensitivity(kind).channels(used))
        apart.append(np.median(np.abs(counts - np.median(counts))))
    # But for directions that are hardly seen, which are not stretched without end.
    assert apart[1] < 0.3 * apart[0]


def test_choosing_without_a_price_takes_the_nearest():
    draw = np.random.default_rng(0)
    keep = draw.random((7, 8, 9)) < 0.5
    units = draw.normal(0, 6, (np.count_nonzero(keep), 5))
    assert np.array_equal(chosen(units, np.ones((1, 5)), 0.0, keep), np.floor(units + 0.5))
    # Without any weight whatever is predicted does, but not however far off it is.
    free = chosen(units / 4, np.zeros((1, 5)), 1.0, keep)
    assert np.abs(free - units / 4).max() <= 3.5
    assert len(attributes.encode_attributes(free, keep)) < 0.5 * len(
        attributes.encode_attributes(np.rint(units / 4).astype(np.int64), keep)
    )


def test_chosen_integers_are_worth_their_bits():
    draw = np.random.default_rng(0)
    keep = draw.random((16, 17, 18)) < 0.6
    z, y, x = np.nonzero(keep)
    units = 4 * np.sin(np.stack([x, y, z], 1) / 3) + draw.normal(0, 1, (len(x), 3))
    weight = np.repeat(draw.exponential(size=(len(x), 1)) ** 3, 3, 1)
    given = np.rint(3 * weight[:, :1]).astype(np.int64)

    def tried(symbols):
        return len(attributes.encode_attributes(symbols, keep, given)), float((weight * (symbols - units) ** 2).sum())

    plain = tried(np.rint(units).astype(np.int64))
    found = [tried(chosen(units, weight, price, keep, given)) for price in (0.1, 0.3, 1.0)]
    sizes, errors = [f[0] for f in found], [f[1] for f in found]
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)
    for price, (size, error) in zip((0.1, 0.3, 1.0), found, strict=True):
        assert error + price * 8 * size < plain[1] + price * 8 * plain[0]
    # At an equal size they are better than coarser steps.
    for scale in np.linspace(1, 6, 26):
        rough = np.rint(units / scale).astype(np.int64)
        size = len(attributes.encode_attributes(rough, keep, given))
        if size <= sizes[1]:
            assert float((weight * (rough * scale - units) ** 2).sum()) > 1.5 * errors[1]
            break
    else:
        raise AssertionError("no steps were coarse enough")


@pytest.mark.parametrize("kind", KINDS)
def test_fine_tuning_what_thrift_leaves(kind):
    part, known = factors(kind), context(kind, 0.001)
    assert known.views is not None
    assert known.unseen is not None
    steps = search.scales_of(part).scaled(0.3)
    mean = sensitivity(kind).channels(part.basis).sum() / part.kept.size
    thrift = Thrift(sensitivity(kind), 0.3 * mean * steps.kept**2)
    after = tuned(part, known.views, Tuning(60, 800, 0.003), rounding=lambda f: thrift.symbols(f, steps))
    psnr = [mean_psnr(replace(volume(kind), model=thrift.symbols(f, steps).model()), known.unseen)
            for f in (part, after)]  # fmt: skip
    assert psnr[1] > psnr[0] + 0.1
    plain, thrifty = (sum(map(len, stream.encode(s)[1])) for s in (quantised(part, steps), thrift.symbols(part, steps)))
    assert thrifty < 0.95 * plain
    for a, b in zip(quantised(part, steps).network, thrift.symbols(part, steps).network, strict=True):
        assert np.array_equal(a, b)


# ------------------------------------------------------------------------------------------------- symbols and streams


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_decoded_is_what_was_encoded_to_the_bit(kind):
    symbols = quantised(factors(kind), search.scales_of(factors(kind)).scaled(0.1))
    params, sections = stream.encode(symbols)
    a, b = symbols.model(), stream.decode(params, sections).model()
    for name in ("density", "sh") if kind == "sparse" else ("density", "features", "mask"):
        assert getattr(a, name).tobytes() == getattr(b, name).tobytes()
    assert a.box.tobytes() == b.box.tobytes()
    if isinstance(a, DvgoModel) and isinstance(b, DvgoModel):
        assert all(
            np.array_equal(x, y) for p, q in zip(a.layers, b.layers, strict=True) for x, y in zip(p, q, strict=True)
        )
        assert (a.shift, a.unit, a.frequencies, a.direct) == (b.shift, b.unit, b.frequencies, b.direct)


@pytest.mark.parametrize("kind", KINDS)
def test_quantisation_stays_within_half_a_step(kind):
    part, steps = factors(kind), Steps(0.1, 0.02, 0.03, 0.05)
    rough = quantised(part, steps).factors()
    assert np.abs(rough.kept - part.kept).max() <= 0.5001 * steps.kept
    assert np.abs(rough.codes - part.codes).max() <= 0.5001 * steps.codes
    law = (lambda v: np.sign(v) * np.sqrt(np.abs(v))) if kind == "sparse" else (lambda v: v)
    assert np.abs(law(rough.density) - law(part.density)).max() <= 0.5001 * steps.density
    coefficients = part.basis.features(rough.coefficients())
    assert np.allclose(rows_of(quantised(part, steps).model()).features[: len(coefficients)][:0], 0)
    decoded = quantised(part, steps).model()
    grid = rows_of(decoded).take(part.occupied.ravel()) if kind == "dvgo" else rows_of(decoded)
    assert np.allclose(grid.features, coefficients, atol=1e-4)


def test_a_background_of_spheres_comes_back():
    draw = np.random.default_rng(0)
    links = np.full((8, 4), -1, np.int32)
    links[2:6] = draw.permutation(16).reshape(4, 4)
    far = SphereLayers(links, draw.normal(size=(16, 3, 4)).astype(np.float32))
    grid = replace(sparse(), background=far)
    part = Factors.of(Shell.of(grid), rows_of(grid), np.ones(len(grid.density)))
    symbols = quantised(part, search.scales_of(part).scaled(0.1))
    back = stream.decode(*stream.encode(symbols)).model()
    assert isinstance(back, SparseGrid)
    assert back.background is not None
    step = layers.step_of(far)
    expected = layers.quantised(far, step)
    assert np.array_equal(back.background.links, expected.links)
    assert np.array_equal(back.background.data, expected.data)
    assert np.abs(expected.data[expected.links[2:6]] - far.data[links[2:6]]).max() <= 0.5001 * step


def test_a_field_before_spheres_is_fine_tuned_with_them():
    draw = np.random.default_rng(0)
    links = np.arange(8 * 4, dtype=np.int32).reshape(8, 4)
    far = SphereLayers(links, draw.uniform(0, 1, (32, 2, 4)).astype(np.float32))
    grid = replace(sparse(), background=far)
    known = replace(images(), scene="unbounded")
    shown = RadianceVolume.of(grid, known)
    pictures = [seen(shown, grid, rays).reshape(24, 24, 3) for rays in views_of(known)]
    known = replace(known, images=Images.of_arrays([np.clip(p, 0, 1) for p in pictures]))
    part = factors("sparse", 4)
    part = replace(part, shell=Shell.of(grid))
    after = tuned(part, known.split("train"), Tuning(40, 500))
    psnr = [mean_psnr(replace(shown, model=f.model()), known.split("test")) for f in (part, after)]
    assert psnr[1] > psnr[0] + 0.2


def test_damaged_parameters_are_refused():
    params, sections = stream.encode(quantised(factors("sparse"), Steps(0.1, 0.1, 0.1, 0.1)))
    with pytest.raises(FormatError):
        stream.decode(params, sections[:-1])
    record = stream.wire.unpack(stream.Record, params)
    for wrong in (
        {"shape": (1 << 20, 1 << 20, 1 << 20)}, {"channels": 0}, {"channels": 28}, {"kind": 5},
        {"steps": (0.0, 1.0, 1.0)}, {"steps": (float("nan"), 1.0, 1.0)}, {"codes": -1}, {"box": (0.0,)},
        {"box": (1.0,) * 6}, {"layers": (1, 2)},
    ):  # fmt: skip
        with pytest.raises(FormatError):
            Vqrf.decode(coded(stream.wire.pack(replace(record, **wrong)), sections), Context(threads=1))


def coded(params, sections) -> Encoded:
    return Encoded(params, tuple(sections))


# ------------------------------------------------------------------------------------------------------ whole codec


@pytest.mark.parametrize("kind", KINDS)
def test_stages_and_files(kind):
    known = context(kind)
    made = compress(volume(kind), small(), None, known)
    names = [s.name for s in made.stages]
    assert names == ["uncompressed", "pruned", "vector-quantised", "fine-tuned", "quantised", "coded"]
    sizes = [s.nbytes for s in made.stages]
    assert sizes[0] == volume(kind).nbytes
    assert sizes == sorted(sizes, reverse=True)
    assert abs(made.nbytes - sizes[-1]) < 96
    assert all(s.psnr is not None and 10 < s.psnr < 60 for s in made.stages)
    back = load(made.data)
    assert isinstance(back.model, type(model(kind)))
    for rays in free_views(volume(kind), 2, 16):
        assert np.abs(seen(volume(kind), back.model, rays) - seen(volume(kind), made.volume.model, rays)).max() < 1e-4
    parts = Vqrf.parts(coded(b"", Container(made.data).radiance_sections(0)))
    assert list(parts)[:2] == ["occupancy", "density"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0.5, 1.6])
def test_bytes_are_used_up_and_kept(kind, size):
    known = replace(context(kind), unseen=None)
    codec = small(tune=0, rounds=3)
    plain = compress(volume(kind), codec, None, known).nbytes
    budget = int(size * plain)
    made = compress(volume(kind), codec, Bytes(budget), known)
    assert 0.97 * budget <= made.nbytes <= budget


def test_a_ratio_is_kept():
    codec = small(tune=0, rounds=3)
    made = compress(volume("sparse"), codec, Ratio(60), replace(context("sparse"), unseen=None))
    assert 60 <= made.ratio <= 60 / 0.97


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", [0.1, 1.0])
def test_a_loss_of_psnr_is_kept(kind, loss):
    made = compress(volume(kind), small(), PsnrLoss(loss), context(kind))
    assert made.psnr_loss is not None
    assert made.psnr_loss <= loss
    if loss == 1.0:
        assert made.psnr_loss > 0.3


def test_without_images_the_loss_is_stated():
    made = compress(volume("sparse"), small(), None, RadianceContext(threads=1))
    assert [s.name.split(" (")[0] for s in made.stages] == [
        "uncompressed", "pruned", "vector-quantised", "quantised", "coded",
    ]  # fmt: skip
    stated = made.stages[-1].psnr
    assert made.stages[0].psnr == math.inf
    assert stated is not None
    rays = free_views(volume("sparse"), 4, stages.FREE_SIZE, 0.5)
    errors = [
        np.mean((np.clip(seen(volume("sparse"), made.volume.model, r), 0, 1)
                 - np.clip(seen(volume("sparse"), sparse(), r), 0, 1)) ** 2) for r in rays
    ]  # fmt: skip
    assert stated == pytest.approx(float(np.mean(-10 * np.log10(errors))), abs=1e-3)
    record = Container(made.data).header.radiance[0]
    assert f"{stated:.2f} dB" in Vqrf.describe(coded(record.params, ())).values()


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(InputError, match="measured on images"):
        small().encode(volume("sparse"), PsnrLoss(0.1), RadianceContext(threads=1))
    with pytest.raises(InputError, match="not to max-error"):
        small().encode(volume("sparse"), MaxError(0.1), RadianceContext(threads=1))
    with pytest.raises(TargetError, match="bytes can"):
        small(tune=0).encode(volume("sparse"), Bytes(100), RadianceContext(threads=1))
    with pytest.raises(InputError, match="codebook"):
        Vqrf(codes=0)
    empty = replace(sparse(), density=np.zeros_like(sparse().density))
    with pytest.raises(InputError, match="no ray meets"):
        small().encode(RadianceVolume(empty, empty.box), None, RadianceContext(threads=1))


@pytest.mark.parametrize("kind", KINDS)
def test_small_is_smaller(kind):
    made = compress(volume(kind), small("small", refine=20), None, context(kind))
    plain = compress(volume(kind), small("balanced", refine=20), None, context(kind))
    assert made.nbytes < plain.nbytes
    assert made.psnr_loss is not None
    assert plain.psnr_loss is not None
    assert made.psnr_loss < max(0.3, plain.psnr_loss + 0.1)


def test_a_field_may_be_thrifty_without_codes():
    known = context("sparse")
    made = [compress(volume("sparse"), small("small", keep=1.0, codes=0, tune=0, thrift=t), None, known)
            for t in (0.0, 0.5)]  # fmt: skip
    for one in made:
        record = stream.wire.unpack(stream.Record, Container(one.data).header.radiance[0].params)
        assert record.codes == 0
    assert made[0].psnr_loss is not None
    assert made[1].psnr_loss is not None
    assert made[1].psnr_loss < 0.3
    assert made[1].nbytes < made[0].nbytes or made[1].psnr_loss < made[0].psnr_loss


@pytest.mark.parametrize("kind", KINDS)
def test_small_keeps_targets(kind):
    codec = small("small", refine=10, tune=0)
    plain = compress(volume(kind), codec, None, context(kind)).nbytes
    made = compress(volume(kind), codec, Bytes(int(0.8 * plain)), context(kind))
    assert 0.97 * int(0.8 * plain) <= made.nbytes <= int(0.8 * plain)
    made = compress(volume(kind), codec, PsnrLoss(0.5), context(kind))
    assert made.psnr_loss is not None
    assert made.psnr_loss <= 0.5
    bare = compress(volume(kind), codec, None, RadianceContext(threads=1))
    assert bare.nbytes < volume(kind).nbytes / 10


def test_same_seed_same_bytes_and_stopping():
    known = context("sparse")
    assert (
        compress(volume("sparse"), small(), None, known).data == compress(volume("sparse"), small(), None, known).data
    )
    progress = Progress()
    progress.cancel()
    from neurcomp_core.errors import Cancelled

    with pytest.raises(Cancelled):
        small().encode(volume("sparse"), None, replace(known, progress=progress))


def test_plans_get_richer_and_sparser():
    plan = Plan(0.99, 0.5, 64)
    rows = stages.pruned(stages.Material.of(volume("sparse"), RadianceContext(threads=1), Progress()), plan.sparser())[
        0
    ]
    more = stages.pruned(stages.Material.of(volume("sparse"), RadianceContext(threads=1), Progress()), plan.richer())[0]
    assert len(rows.density) < len(more.density)
    for _ in range(12):
        plan = plan.richer()
    assert (plan.prune, plan.keep) == (1.0, 1.0)
    assert spherical_harmonics.count(sparse().degree) == sparse().sh.shape[2]


# ------------------------------------------------------------------------------------------------------------- golden


def golden() -> dict[str, Symbols]:
    """Quantised fields that the golden files hold."""
    found = {}
    for name, kind in (("radiance-vqrf", "sparse"), ("radiance-vqrf-dvgo", "dvgo")):
        draw = np.random.default_rng(len(name))
        z, y, x = np.meshgrid(np.arange(5), np.arange(6), np.arange(7), indexing="ij")
        occupied = (z - 2) ** 2 + (y - 2.5) ** 2 + (x - 3) ** 2 < 9
        rows, channels = int(occupied.sum()), 12 if kind == "sparse" else 5
        own = draw.random(rows) < 0.3
        density = (20 + 5 * np.sin(x + y) - 3 * z)[occupied].astype(np.int64)
        kept = np.rint(draw.normal(0, 9, (own.sum(), channels)) / np.arange(1, channels + 1)).astype(np.int64)
        codes = np.rint(draw.normal(0, 9, (6, channels)) / np.arange(1, channels + 1)).astype(np.int64)
        index = np.concatenate([np.arange(6), draw.integers(0, 6, rows - own.sum() - 6)])
        vectors = np.rint(128 * np.linalg.qr(draw.normal(size=(channels, channels)))[0]).astype(np.int64)
        basis = Basis(vectors, draw.integers(-1000, 1000, channels), float(np.float32(0.0007)))
        box = np.array([[-1.0, -1.25, 0], [1, 1.5, 1.75]])
        steps = Steps(float(np.float32(0.3)), float(np.float32(0.07)), float(np.float32(0.09)), 0.0)
        if kind == "sparse":
            links = np.full((6, 3), -1, np.int32)
            links[1:5] = np.arange(12).reshape(4, 3)
            far = SphereLayers(links, draw.normal(size=(12, 2, 4)).astype(np.float32))
            step = layers.step_of(far)
            shell, extra = Shell("sparse", box, background=layers.quantised(far, step)), ((), (), step)
        else:
            shell = Shell("dvgo", box, -4.5, 0.25, rest=-5.75, frequencies=1, direct=True)
            network = tuple(draw.integers(-9, 9, shape) for shape in ((4, 14), (4,), (3, 4), (3,)))
            extra = network, tuple(float(np.float32(v)) for v in (0.1, 0.02, 0.2, 0.03)), 1.0
        found[name] = Symbols(shell, occupied, density, basis, own, kept, codes, index, extra[0], steps, *extra[1:])
    return found


def values_of(decoded: RadianceModel) -> dict[str, np.ndarray]:
    """A model's numbers by the names that the golden files give them."""
    if isinstance(decoded, SparseGrid):
        assert decoded.background is not None
        return {
            "keep": decoded.links >= 0, "density": decoded.density, "sh": decoded.sh, "box": decoded.box,
            "far": decoded.background.links >= 0, "far data": decoded.background.data,
        }  # fmt: skip
    assert isinstance(decoded, DvgoModel)
    assert decoded.mask is not None
    tensors = {f"tensor {i}": a for i, a in enumerate(a for layer in decoded.layers for a in layer)}
    return {
        "density": decoded.density, "features": decoded.features, "mask": decoded.mask, "box": decoded.box, **tensors
    }  # fmt: skip


@pytest.mark.parametrize("name", ["radiance-vqrf", "radiance-vqrf-dvgo"])
def test_golden_files_decode_to_their_values_and_are_what_is_written_today(name):
    data = (GOLDEN / f"{name}.nvc").read_bytes()
    found = values_of(load(data).model)
    with np.load(GOLDEN / f"{name}.npz") as stored:
        assert set(stored) == set(found)
        for key in stored:
            assert found[key].tobytes() == stored[key].tobytes(), key
    record = Container(data).header.radiance[0]
    params, sections = stream.encode(golden()[name])
    assert params == record.params
    assert sections == list(Container(data).radiance_sections(0))


def make_golden() -> None:
    """Write the files that are not there yet: python tests/test_radiance_vqrf.py."""
    for name, symbols in golden().items():
        if not (GOLDEN / f"{name}.nvc").exists():
            params, sections = stream.encode(symbols)
            record = RadianceRecord(tuple(map(len, sections)), codec=Vqrf.id, params=params)
            data = dumps(Header(radiance=(record,)), sections)
            (GOLDEN / f"{name}.nvc").write_bytes(data)
            np.savez_compressed(GOLDEN / f"{name}.npz", **values_of(load(data).model))  # pyright: ignore


if __name__ == "__main__":
    make_golden()
