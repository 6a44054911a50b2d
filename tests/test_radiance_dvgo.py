"""DVGO: kernels against autograd in float64, pictures against the plain model, and trainings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurcomp_core.errors import Cancelled, InputError
from neurcomp_core.progress import Progress
from neurcomp_core.radiance import scene_sets
from neurcomp_core.radiance.cameras import Camera, Intrinsics
from neurcomp_core.radiance.codec import RadianceContext
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.poses import look_at
from neurcomp_core.radiance.rendering import quality, views
from neurcomp_core.radiance.rendering.dvgo_importance import importance
from neurcomp_core.radiance.rendering.dvgo_march import DvgoMarch
from neurcomp_core.radiance.rendering.dvgo_render import lattice
from neurcomp_core.radiance.rendering.fields import DvgoField
from neurcomp_core.radiance.rendering.frames import GridFrame, Rays
from neurcomp_core.radiance.rendering.occupancy import Occupancy
from neurcomp_core.radiance.training import dvgo, dvgo_scene
from neurcomp_core.radiance.training.batches import Batch, RayBank
from neurcomp_core.radiance.training.dvgo import DvgoRecipe, DvgoSchedule, DvgoState
from neurcomp_core.radiance.training.dvgo_step import CpuEngine
from neurcomp_core.radiance.training.dvgo_torch import TorchEngine
from neurcomp_core.radiance.training.watch import Moment

BOX = np.array([[-1.0, -0.8, -0.5], [1.2, 0.9, 0.6]])
SHAPE = 6, 7, 9
BEHIND = 0.9, 0.6, 0.3
REACHED = 30.0


def some_model(kind: str = "direct", masked: bool = True, dtype: type = np.float64) -> DvgoModel:
    """Random grids and network; a third of space is known to be free."""
    draw = np.random.default_rng(2)
    channels = 3 if kind == "color" else 6
    inputs = channels - 3 * (kind == "added") + 3 + 6 * 2
    sizes = [] if kind == "color" else [(10, inputs), (8, 10), (3, 8)]
    layers = tuple((draw.normal(0, 0.5, s).astype(dtype), draw.normal(0, 0.2, s[0]).astype(dtype)) for s in sizes)
    density, features = draw.normal(0, 3, SHAPE), draw.normal(0, 1, (*SHAPE, channels))
    mask = draw.random((4, 5, 6)) < 0.67 if masked else None
    return DvgoModel(
        density.astype(dtype), features.astype(dtype), BOX, -2.0, 0.3, layers, 2, kind != "added", mask
    )  # fmt: skip


def some_rays(count: int = 30) -> Rays:
    """From around the box, from within it, and past it."""
    draw = np.random.default_rng(3)
    origins = 2 * draw.normal(size=(count, 3))
    origins[:5] = draw.uniform(BOX[0], BOX[1], (5, 3))
    directions = draw.uniform(BOX[0], BOX[1], (count, 3)) - origins
    origins[-1], directions[-1] = (5, 5, 5), (1, 0, 0)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return Rays(origins, directions, 0.1, 9.0)


def some_batch() -> Batch:
    rays = some_rays()
    return Batch(rays, np.random.default_rng(5).random((len(rays), 3)).astype(np.float32))


def camera(size: int = 24) -> Camera:
    pose = look_at(np.array([2.6, 1.5, 1.1]), np.zeros(3), np.array([0, 0, 1.0]))
    return Camera(Intrinsics.from_angle(0.8, size, size), pose)


class Points:
    """A model as a field that has nothing but values at points."""

    def __init__(self, model: DvgoModel) -> None:
        self.field, self.model = DvgoField(model), model
        self.box, self.voxel = self.field.box, self.field.voxel
        z, y, x = model.density.shape
        self.occupancy = Occupancy.full(GridFrame((z, y, x), model.box, centered=False))

    def density(self, points: np.ndarray) -> np.ndarray:
        return self.model.sigma(points)

    def colors(self, points: np.ndarray, directions: np.ndarray) -> np.ndarray:
        return self.model.colors(points, directions)


# ------------------------------------------------------------------------------------------------------------ rendering


@pytest.mark.parametrize("kind", ["direct", "added", "color"])
@pytest.mark.parametrize("masked", [False, True])
def test_a_picture_is_that_of_the_plain_model(kind: str, masked: bool) -> None:
    model = some_model(kind, masked)
    truth = views.render(Points(model), camera(), BEHIND)
    exact = views.render(DvgoField(model, threshold=0.0), camera(), BEHIND)
    assert truth.opacity.max() > 0.9
    for name in ("color", "opacity", "depth"):
        np.testing.assert_allclose(getattr(exact, name), getattr(truth, name), atol=1e-6)
    skipped = views.render(DvgoField(model, threshold=1e-3), camera(), BEHIND)
    assert 0 < np.abs(skipped.color - truth.color).max() < 0.02


def test_what_is_kept_in_memory_does_not_change_a_picture() -> None:
    model = some_model(dtype=np.float32)
    whole = views.render(DvgoField(model), camera(), normals=True)
    parts = views.render(DvgoField(model), camera(), normals=True, memory=100_000)
    for name in ("color", "opacity", "depth", "normal"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), atol=1e-6)


def test_normals_point_against_the_slope_of_density() -> None:
    z, y, x = np.meshgrid(*(np.linspace(a, b, n) for (a, b), n in zip(BOX.T[::-1], SHAPE, strict=True)), indexing="ij")
    model = replace(some_model(masked=False), density=40 * (0.3 - x) - 20 * z + 0 * y)
    seen = views.render(DvgoField(model), camera(), normals=True)
    assert seen.normal is not None
    lit = seen.opacity > 0.5
    assert lit.any()
    np.testing.assert_allclose(seen.normal[lit], np.broadcast_to([2, 0, 1] / np.sqrt(5), (lit.sum(), 3)), atol=1e-5)


def test_a_lattice_has_the_model_s_density_and_colour() -> None:
    model = some_model()
    density, rgb = lattice(model, (1, 2, -2), (5, 6, 7), threshold=1e-3)
    axes = [np.linspace(a, b, n) for (a, b), n in zip(BOX.T, (7, 6, 5), strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).transpose(2, 1, 0, 3).reshape(-1, 3)
    sigma = model.sigma(points)
    seen = density.reshape(-1) > 0
    assert 0.2 < seen.mean() < 0.9
    np.testing.assert_allclose(density.reshape(-1)[seen], sigma[seen], rtol=1e-5)
    assert sigma[~seen].max() < 0.01
    direction = np.broadcast_to(np.array([1, 2, -2]) / 3, points.shape)
    np.testing.assert_allclose(rgb.reshape(-1, 3)[seen], model.colors(points, direction)[seen], atol=1e-5)
    with pytest.raises(InputError, match="direction"):
        lattice(model, (0, 0, 0))


def test_importance_is_the_gradient_of_all_weights() -> None:
    """VQRF's definition: derivative of the weighted sum over samples of an interpolated grid of ones."""
    model, rays = some_model(), some_rays()
    most, total = importance(model, rays, threshold=0.0)
    found = DvgoMarch.of(model, None, 0.0).samples(model.density, rays)
    np.testing.assert_allclose(total.sum(), found.opacity.sum())
    state = DvgoState.of(replace(model, features=np.ones((*SHAPE, 3)), layers=()))
    engine = TorchEngine(state, (0, 0, 0), "cpu")
    ones = engine.parameters["features"]
    seen = engine._march(rays, DvgoSchedule(1, threshold=0.0))
    # Each sample's colour before the sigmoid has derivative w(1 - w) of it: all are sigmoid(1).
    seen.color[:, 0].sum().backward()
    slope = 1 / (1 + np.exp(-1)) * (1 - 1 / (1 + np.exp(-1)))
    assert ones.grad is not None
    np.testing.assert_allclose(total, ones.grad[..., 0].numpy() / slope, atol=1e-9)
    assert (most <= total + 1e-12).sum() > 0
    assert most.max() == pytest.approx(found.weight.max())
    halves = importance(
        model, rays.part(12, len(rays)), importance(model, rays.part(0, 12), threshold=0.0), threshold=0.0
    )
    np.testing.assert_allclose(halves, (most, total))


# ------------------------------------------------------------------------------------------------------------ gradients


@pytest.mark.parametrize("kind", ["direct", "added", "color"])
@pytest.mark.parametrize("threshold", [0.0, 3e-3])
def test_gradients_are_autograd_s(kind: str, threshold: float) -> None:
    batch, schedule = some_batch(), DvgoSchedule(10, entropy=0.05, point=0.3, threshold=threshold)
    model = some_model(kind)
    cpu = CpuEngine(DvgoState.of(model), BEHIND)
    other = TorchEngine(DvgoState.of(model), BEHIND, "cpu")
    loss, error = other.loss(batch, schedule)
    loss.backward()
    assert cpu.accumulate(batch, schedule) == pytest.approx(error, rel=1e-9)
    for name, p in other.parameters.items():
        assert p.grad is not None
        assert p.grad.abs().max() > 1e-5
        np.testing.assert_allclose(cpu.gradients[name], p.grad.numpy(), atol=1e-9, err_msg=name)


def test_gradients_are_finite_differences() -> None:
    """Of the loss without its per-point part, which holds weights fixed."""
    batch, schedule = some_batch(), DvgoSchedule(10, entropy=0.05, point=0.0, threshold=0.0)
    cpu = CpuEngine(DvgoState.of(some_model()), BEHIND)
    cpu.accumulate(batch, schedule)
    draw = np.random.default_rng(0)
    for name, p in cpu.state.parameters.items():
        along = draw.normal(size=p.shape)
        ends = []
        for sign in (1, -1):
            p += sign * 1e-5 * along
            ends.append(float(TorchEngine(cpu.state, BEHIND, "cpu").loss(batch, schedule)[0].detach()))
            p -= sign * 1e-5 * along
        slope = float((cpu.gradients[name] * along).sum())
        assert slope == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4), name


def test_steps_are_those_of_plain_torch() -> None:
    """Losses, total variation, paces, fixed voxels and Adam, over several steps."""
    batch = some_batch()
    schedule = DvgoSchedule(8, rate_density=0.05, entropy=0.02, tv_density=1e-4, tv_features=1e-4, threshold=0.0)
    draw = np.random.default_rng(1)
    pace, free = draw.random(SHAPE), draw.random(SHAPE) < 0.7
    states = [replace_state(DvgoState.of(some_model(), free), pace) for _ in range(2)]
    engines = CpuEngine(states[0], BEHIND), TorchEngine(states[1], BEHIND, "cpu")
    for i in range(4):
        errors = [engine.step(batch, schedule, i) for engine in engines]
        assert errors[0] == pytest.approx(errors[1], rel=1e-7)
    engines[1].save()
    before = DvgoState.of(some_model()).parameters
    for name, p in states[0].parameters.items():
        np.testing.assert_allclose(p, states[1].parameters[name], atol=1e-6, err_msg=name)
        assert np.abs(p - before[name]).max() > 1e-4
    np.testing.assert_array_equal(states[0].density[~free], before["density"][~free])
    np.testing.assert_array_equal(states[0].features[~free], before["features"][~free])


def replace_state(state: DvgoState, pace: np.ndarray) -> DvgoState:
    state.pace = pace
    return state


def test_threads_add_up_to_the_same_gradients() -> None:
    import numba

    batch, schedule = some_batch(), DvgoSchedule(10, threshold=0.0)
    found = []
    before = numba.get_num_threads()
    for count in {1, min(2, numba.config.NUMBA_NUM_THREADS)}:  # pyright: ignore
        numba.set_num_threads(count)
        cpu = CpuEngine(DvgoState.of(some_model()), BEHIND)
        cpu.accumulate(batch, schedule)
        found.append(cpu.gradients)
    numba.set_num_threads(before)
    for name in found[0]:
        np.testing.assert_allclose(found[0][name], found[-1][name], atol=1e-12)


# ------------------------------------------------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def inward(tmp_path_factory: pytest.TempPathFactory) -> PosedImages:
    return scene_sets.write(scene_sets.scene_set("inward", 40, 24, 4), tmp_path_factory.mktemp("inward"))


def small(**overrides) -> DvgoRecipe:
    wanted = {
        "coarse_resolution": 24, "coarse_steps": 150, "coarse_batch": 512, "resolution": 32, "fine_steps": 250,
        "fine_batch": 512, "width": 32, "mask_every": 100, **overrides,
    }  # fmt: skip
    return DvgoRecipe.from_preset("fast", **wanted)


def test_a_short_training_shows_unseen_views(inward: PosedImages) -> None:
    moments: list[Moment] = []
    context = RadianceContext(device="cpu", threads=1)
    model = dvgo.train(inward.split("train"), small(), context, moments.append)
    test = inward.split("test")
    seen = [views.render_view(DvgoField(model), test, i).color for i in range(len(test))]
    assert np.mean([quality.psnr(c, test.colors(i)) for i, c in enumerate(seen)]) > REACHED
    assert model.mask is not None
    assert 0.1 < model.mask.mean() < 0.9
    assert moments[-1].step == moments[-1].steps == 400
    assert moments[-1].psnr is not None
    assert moments[-1].psnr > REACHED
    # The box about the object has every voxel that is opaque, and the object is as large as the scene says.
    known = scene_sets.scene_set("inward", 40, 24, 4).scene
    points = np.random.default_rng(0).uniform(inward.box[0], inward.box[1], (20_000, 3))
    inside = known.density(points) > 1.0
    assert inside.any()
    away = (points[inside] < model.box[0]) | (points[inside] > model.box[1])
    assert away.any(1).mean() < 0.01
    assert np.prod(model.box[1] - model.box[0]) < 0.9 * np.prod(inward.box[1] - inward.box[0])


def test_the_box_is_that_of_the_opaque_voxels() -> None:
    state = DvgoState.of(replace(some_model("color", False), density=np.full(SHAPE, -30.0)))
    recipe = small(margin=1.0)
    np.testing.assert_array_equal(dvgo_scene.object_box(state, recipe), BOX)
    state.density[3, 2:5, 4] = 5.0
    voxel = (BOX[1] - BOX[0]) / (np.array(SHAPE[::-1]) - 1)
    expected = BOX[0] + np.array([[3, 1, 2], [5, 5, 4]]) * voxel
    np.testing.assert_allclose(dvgo_scene.object_box(state, recipe), expected)


def test_more_samples_show_the_same() -> None:
    """The refined grid interpolates the old one: the same picture where the shift stays."""
    model = some_model(masked=False)
    state = DvgoState.of(replace(model, mask=np.ones(SHAPE, bool)))
    fine = dvgo_scene.refined(state, small(denser=0.0, fine_threshold=1e-9), 8 * np.prod(SHAPE))
    assert np.prod(fine.shape) > 6 * np.prod(SHAPE)
    seen = [views.render(DvgoField(m, threshold=0.0), camera()).color for m in (model, fine.model())]
    assert quality.psnr(*seen) > 25


def test_free_space_stays_where_it_is_free() -> None:
    state = DvgoState.of(replace(some_model(masked=False), mask=np.ones(SHAPE, bool)))
    state.density[:, :, :4] = -40.0
    before = views.render(DvgoField(state.model()), camera()).color
    dvgo_scene.cleared(state, 1e-4)
    assert state.mask is not None
    assert not state.mask[:, :, :3].any()
    assert state.mask[:, :, 4:].all()
    np.testing.assert_allclose(views.render(DvgoField(state.model()), camera()).color, before, atol=2e-3)


class Stopper:
    """Cancels a run after a number of reports, as a killed run ends."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.progress = Progress(self.report)

    def report(self, fraction: float, text: str) -> None:
        self.left -= 1
        if self.left == 0:
            self.progress.cancel()


@pytest.mark.parametrize("stop", [25, 44, 57])
def test_a_run_that_is_gone_on_with_ends_like_one_that_was_not_stopped(
    inward: PosedImages, tmp_path: Path, stop: int
) -> None:
    data = inward.split("train")
    recipe = small(
        coarse_steps=40,
        coarse_rate_density=1.0,
        fine_steps=30,
        coarse_batch=128,
        fine_batch=128,
        mask_every=11,
        width=8,
    )
    whole = dvgo.train(data, recipe, RadianceContext(device="cpu", threads=1))
    kept = tmp_path / "run.ckpt"
    stopper = Stopper(stop)
    with pytest.raises(Cancelled) as caught:
        dvgo.train(data, recipe, RadianceContext(device="cpu", threads=1, progress=stopper.progress, checkpoint=kept))
    assert isinstance(caught.value.best, DvgoModel)
    for _ in range(2):  # the second time from the finished run
        resumed = dvgo.train(data, recipe, RadianceContext(device="cpu", threads=1, checkpoint=kept))
        for a, b in zip(
            DvgoState.of(whole).parameters.values(), DvgoState.of(resumed).parameters.values(), strict=True
        ):
            np.testing.assert_array_equal(a, b)
        assert whole.mask is not None
        assert resumed.mask is not None
        np.testing.assert_array_equal(whole.mask, resumed.mask)
        assert (whole.shift, whole.unit) == (resumed.shift, resumed.unit)


def test_a_checkpoint_of_another_run_is_refused(inward: PosedImages, tmp_path: Path) -> None:
    data, recipe, kept = inward.split("train"), small(coarse_batch=64, width=8), tmp_path / "run.ckpt"
    stopped = RadianceContext(device="cpu", threads=1, progress=Stopper(5).progress, checkpoint=kept)
    with pytest.raises(Cancelled):
        dvgo.train(data, recipe, stopped)
    with pytest.raises(InputError, match="another run"):
        dvgo.train(data, replace(recipe, width=9), RadianceContext(device="cpu", threads=1, checkpoint=kept))


def test_the_torch_engine_trains(inward: PosedImages) -> None:
    """The CUDA path's trainer, here on the CPU: the coarse stage of the kernels, step by step."""
    data = inward.split("train")
    recipe = small(coarse_batch=128)
    states = [dvgo_scene.coarse_state(data, recipe) for _ in range(2)]
    bank = RayBank.of(data, box=data.box)
    schedule = replace(recipe.coarse, steps=12, tiny=1e-8, threshold=0.0)
    errors: list[list[float]] = []
    for engine in (CpuEngine(states[0], data.background), TorchEngine(states[1], data.background, "cpu")):
        found: list[float] = []
        dvgo.steps(engine, bank, schedule, lambda done, error, found=found: found.append(error))
        engine.save()
        errors.append(found)
    np.testing.assert_allclose(errors[0], errors[1], rtol=1e-3)
    assert len(errors[0]) == 12
    np.testing.assert_allclose(states[0].density, states[1].density, atol=0.02)


def test_fine_tuning_keeps_what_is_fixed_and_calls_its_hook(inward: PosedImages) -> None:
    data = inward.split("train")
    recipe = small(coarse_steps=100, fine_steps=40, width=16)
    model = dvgo.train(data, recipe, RadianceContext(device="cpu", threads=1))
    free = np.zeros(model.density.shape, bool)
    free[:, :, : model.density.shape[2] // 2] = True
    called: list[float] = []

    def hook(state: DvgoState) -> None:
        called.append(float(state.features[:, :, -1].std()))
        # As codes that are shared are brought together again.
        state.features[..., 0] = np.round(state.features[..., 0] * 16) / 16

    schedule = DvgoSchedule(25, batch=256, rate_density=0.02, rate_features=0.02)
    context = RadianceContext(device="cpu", threads=1)
    tuned = dvgo.fine_tune(model, data, schedule, context, trainable=free, every=10, hook=hook)
    assert len(called) == 3
    np.testing.assert_array_equal(tuned.density[~free], model.density[~free])
    np.testing.assert_array_equal(tuned.features[~free][:, 1:], model.features[~free][:, 1:])
    assert np.abs(tuned.features - model.features).max() > 1e-3
    assert np.abs(tuned.layers[0][0] - model.layers[0][0]).max() > 1e-4
    np.testing.assert_array_equal(tuned.features[..., 0] * 16, np.round(tuned.features[..., 0] * 16))
    views_before, views_after = (error_of(m, data) for m in (model, tuned))
    assert views_after < views_before
    with pytest.raises(InputError, match="trainable"):
        dvgo.fine_tune(model, data, schedule, context, trainable=free[1:])


def error_of(model: DvgoModel, data: PosedImages) -> float:
    seen = [views.render_view(DvgoField(model), data, i).color for i in range(0, len(data), 6)]
    return float(np.mean([np.mean((c - data.colors(6 * i)) ** 2) for i, c in enumerate(seen)]))


# ------------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: DvgoRecipe.from_preset("quick"), "no preset 'quick'"),
        (lambda: DvgoRecipe.from_preset("fast", sizes=3), "no parameter 'sizes'"),
        (lambda: DvgoRecipe.from_preset("fast", fine_size=3), "no parameter 'fine_size'"),
        (lambda: DvgoRecipe.from_preset("fast", resolution=4), "at least 8"),
        (lambda: DvgoRecipe.from_preset("fast", alpha=1.0), "between 0 and 1"),
        (lambda: DvgoRecipe.from_preset("fast", scale_at=(0.5, 0.2)), "rising"),
        (lambda: DvgoRecipe.from_preset("fast", fine_steps=0), "at least one step"),
        (lambda: DvgoRecipe.from_preset("fast", fine_rate_density=-1.0), "rate_density"),
        (lambda: DvgoRecipe.from_preset("fast", depth=1), "depth"),
        (lambda: DvgoMarch.of(some_model(), None, 1.0), "threshold"),
    ],
)
def test_mistakes_are_named(make: Callable[[], object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        make()
