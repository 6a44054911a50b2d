"""Radiance fields on devices: Triton kernels and plain torch against the CPU's kernels, fields that are not expanded.

Without a GPU Triton's kernels run under its interpreter, on fields of a few hundred voxels and tens of rays.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
pytest.importorskip("triton")

from neurcomp_core.codecs.vqrf import Vqrf  # noqa: E402
from neurcomp_core.errors import InputError  # noqa: E402
from neurcomp_core.radiance import files, scene_sets, trainers  # noqa: E402
from neurcomp_core.radiance.codec import RadianceContext  # noqa: E402
from neurcomp_core.radiance.dataset import PosedImages  # noqa: E402
from neurcomp_core.radiance.evaluation import mean_psnr, rendered_by  # noqa: E402
from neurcomp_core.radiance.grids import EMPTY, SparseGrid, SphereLayers  # noqa: E402
from neurcomp_core.radiance.imports.dvgo import DvgoModel  # noqa: E402
from neurcomp_core.radiance.places import HOST, Place  # noqa: E402
from neurcomp_core.radiance.rendering.device_dvgo import DeviceDvgoMarch, Grids, Network  # noqa: E402
from neurcomp_core.radiance.rendering.device_march import DeviceMarch, Table  # noqa: E402
from neurcomp_core.radiance.rendering.device_rays import RayTensors  # noqa: E402
from neurcomp_core.radiance.rendering.dvgo_march import DvgoMarch  # noqa: E402
from neurcomp_core.radiance.rendering.frames import Rays  # noqa: E402
from neurcomp_core.radiance.rendering.gradients import Gradients  # noqa: E402
from neurcomp_core.radiance.rendering.march import March, MarchOptions  # noqa: E402
from neurcomp_core.radiance.rendering.occupancy import dilated  # noqa: E402
from neurcomp_core.radiance.rendering.views import render_rays, render_view  # noqa: E402
from neurcomp_core.radiance.shared import SharedDvgo, SharedGrid  # noqa: E402
from neurcomp_core.radiance.training.batches import Batch, RayBank, bank_in  # noqa: E402
from neurcomp_core.radiance.training.device_batches import DeviceBank  # noqa: E402
from neurcomp_core.radiance.training.dvgo import engine_of  # noqa: E402
from neurcomp_core.radiance.training.dvgo_recipe import DvgoSchedule  # noqa: E402
from neurcomp_core.radiance.training.dvgo_state import DvgoState  # noqa: E402
from neurcomp_core.radiance.training.dvgo_step import CpuEngine  # noqa: E402
from neurcomp_core.radiance.training.dvgo_torch import TorchEngine  # noqa: E402
from neurcomp_core.radiance.training.plenoxels_cpu import CpuSteps  # noqa: E402
from neurcomp_core.radiance.training.plenoxels_recipe import PlenoxelsRecipe  # noqa: E402
from neurcomp_core.radiance.volume import RadianceVolume  # noqa: E402
from neurcomp_core.radiance.vqrf.factors import Factors  # noqa: E402
from neurcomp_core.radiance.vqrf.finetune import descent_of  # noqa: E402
from neurcomp_core.radiance.vqrf.rows import Shell, rows_of  # noqa: E402

#: What docs/gpu.md states: colours, opacities and depths in float32 against the CPU's float64.
PICTURE = 2e-5
GRADIENT = 2e-5
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
STEP = MarchOptions(1.0)


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rays_of(count: int, seed: int = 0) -> Rays:
    """Rays of which most meet the unit box around the origin; some along an axis, some from within, some too short."""
    draw = np.random.default_rng(seed)
    origins = draw.normal(size=(count, 3))
    origins *= 3 / np.linalg.norm(origins, axis=1, keepdims=True)
    aims = draw.uniform(-1.2, 1.2, (count, 3))
    origins[0], aims[0] = (0.1, 0.2, -3), (0.1, 0.2, 0)
    origins[1], aims[1] = (0.1, 0.2, 0.1), (1, 1, 0)
    far = np.full(count, np.inf)
    far[2] = 2.5
    return Rays(origins, aims - origins, 0.0, far)


def oblique(count: int) -> Rays:
    """`rays_of` without the one along an axis, whose samples lie on voxels up to rounding: slopes jump there."""
    return rays_of(count).part(1, count)


def grid_of(degree: int, seed: int = 1, far: bool = False) -> SparseGrid:
    draw = np.random.default_rng(seed)
    shape, functions = (6, 9, 7), (degree + 1) ** 2
    keep = draw.random(shape) < 0.5
    keep[:, :5, :4] = False
    density = draw.normal(1.0, 2.0, shape)
    sh = draw.normal(0, 0.7, (*shape, 3, functions))
    box = np.array([[-1, -1.1, -0.9], [1, 1.2, 1.0]])
    grid = SparseGrid.from_dense(density, sh, box, keep)
    if not far:
        return grid
    links = np.arange(8 * 4, dtype=np.int32).reshape(8, 4)
    links[3, 2] = EMPTY
    links[links > 14] -= 1
    layers = SphereLayers(links, draw.normal(0.3, 1, (31, 3, 4)).astype(np.float32))
    return SparseGrid(grid.links, grid.density, grid.sh, box, layers)


def dvgo_of(direct: bool, depth: int, seed: int = 2, masked: bool = True, width: int = 24) -> DvgoModel:
    draw = np.random.default_rng(seed)
    shape, channels = (7, 6, 8), 6
    occupied = draw.random(shape) < 0.4
    occupied[:, :, :3] = False
    density = np.where(occupied, draw.normal(1, 3, shape), -8).astype(np.float32)
    features = draw.normal(size=(*shape, channels)).astype(np.float32)
    sizes = [channels - (0 if direct else 3) + 3 + 12, *[width] * (depth - 1), 3]
    layers = tuple(
        ((draw.normal(size=(b, a)) / np.sqrt(a)).astype(np.float32), draw.normal(size=b).astype(np.float32))
        for a, b in itertools.pairwise(sizes)
    )
    if not depth:
        layers, features, direct = (), features[..., :3].copy(), True
    box = np.array([[-1, -1, -1], [1, 1.2, 1.0]])
    return DvgoModel(
        density, features, box, -2.0, 0.25, layers, 2 if depth else 0, direct, dilated(occupied) if masked else None
    )


def shared_grid(seed: int = 3) -> SharedGrid:
    draw = np.random.default_rng(seed)
    grid = grid_of(1, seed)
    table = draw.normal(0, 0.7, (11, 3, 4)).astype(np.float32)
    slots = draw.integers(0, 11, len(grid.density)).astype(np.int32)
    return SharedGrid(grid.links, grid.density, slots, table, grid.box)


def shared_dvgo(seed: int = 4) -> SharedDvgo:
    draw = np.random.default_rng(seed)
    model = dvgo_of(True, 3, seed)
    occupied = draw.random(model.density.shape) < 0.4
    links = np.full(occupied.shape, EMPTY, np.int32)
    links[occupied] = draw.permutation(np.count_nonzero(occupied))
    rows = np.count_nonzero(occupied)
    return SharedDvgo(
        links, draw.normal(1, 3, rows).astype(np.float32), draw.integers(0, 9, rows).astype(np.int32),
        draw.normal(size=(9, 6)).astype(np.float32), -7.0, model.box, model.shift, model.unit, model.layers,
        model.frequencies, True, dilated(occupied),
    )  # fmt: skip


def volume_of(model: object) -> RadianceVolume:
    return RadianceVolume(model, model.box)  # pyright: ignore


def close(got: Any, expected: np.ndarray, tolerance: float, scale: float = 1.0) -> None:
    values = got.detach().cpu().numpy() if isinstance(got, torch.Tensor) else np.asarray(got)
    assert values.shape == expected.shape
    assert np.abs(values - expected).max(initial=0) <= tolerance * max(scale, np.abs(expected).max(initial=0))


# --------------------------------------------------------------------------------------------------- kernels: Plenoxels


@pytest.mark.parametrize("degree", [0, 2])
def test_a_sparse_grid_is_marched_as_by_the_cpu(device: str, degree: int) -> None:
    grid, rays = grid_of(degree), rays_of(40)
    march = March.of(grid, STEP)
    fractions = np.random.default_rng(0).random(len(rays))
    expected = march.forward(grid.density, grid.sh, rays, fractions, penalty=True, normals=True)
    table, sent = Table.of(grid.density, grid.sh, device), RayTensors.of(rays, device)
    some = torch.tensor(fractions, dtype=torch.float32, device=device)
    on_device = DeviceMarch.of(march, device)
    found = on_device.forward(table, sent, some, penalty=True, normals=True)
    for name in ("color", "opacity", "depth", "penalty", "normal"):
        close(getattr(found, name), getattr(expected, name), PICTURE)
    assert expected.opacity.max() > 0.5, "something must be there to be seen"

    draw = np.random.default_rng(1)
    upstream = {n: draw.normal(size=getattr(expected, n).shape) for n in ("color", "opacity", "depth")}
    sums = Gradients(grid.density, grid.sh)
    march.backward(grid.density, grid.sh, rays, expected, sums, fractions, **upstream, penalty=0.1)
    into = torch.zeros_like(table.density), torch.zeros_like(table.sh)
    tensors = {n: torch.tensor(g, dtype=torch.float32, device=device) for n, g in upstream.items()}
    on_device.backward(table, sent, found, into, some, **tensors, penalty=0.1)
    close(into[0], sums.density, GRADIENT)
    close(into[1][:, : 3 * (degree + 1) ** 2], sums.sh, GRADIENT)
    assert not into[1][:, 3 * (degree + 1) ** 2 :].any(), "the padding has no gradient"


def test_importance_is_that_of_the_cpu(device: str) -> None:
    grid, rays = grid_of(0), oblique(30)
    march = March.of(grid, STEP)
    most, total = march.importance(grid.density, rays)
    found = [torch.zeros(len(grid.density), device=device) for _ in range(2)]
    density = torch.tensor(grid.density, device=device)
    DeviceMarch.of(march, device).importance(density, RayTensors.of(rays, device), *found)
    close(found[0], most, PICTURE)
    close(found[1], total, PICTURE)


# -------------------------------------------------------------------------------------------------------- kernels: DVGO


@pytest.mark.parametrize("masked", [True, False])
def test_dvgo_samples_are_those_of_the_cpu(device: str, masked: bool) -> None:
    model, rays = dvgo_of(True, 3, masked=masked), rays_of(40)
    march = DvgoMarch.of(model, STEP)
    expected = march.samples(model.density, rays)
    grids = Grids(*(torch.tensor(a, device=device) for a in (model.density, model.features)))
    on_device, sent = DeviceDvgoMarch.of(march, device), RayTensors.of(rays, device)
    found = on_device.samples(grids, sent)
    assert len(expected) > 50
    np.testing.assert_array_equal(found.starts.cpu().numpy(), expected.starts)
    close(found.at, expected.at, 1e-5)
    for name in ("slope", "weight", "opacity", "depth"):
        close(getattr(found, name), getattr(expected, name), PICTURE)
    lit = on_device.samples(grids, sent, lit=True)
    np.testing.assert_array_equal(np.diff(lit.starts.cpu().numpy()), np.diff(expected.lit(march.threshold).starts))


@pytest.mark.parametrize(("direct", "depth", "width"), [(True, 3, 24), (False, 2, 40), (True, 0, 0)])
def test_a_dvgo_network_is_that_of_the_cpu(device: str, direct: bool, depth: int, width: int) -> None:
    model, rays = dvgo_of(direct, depth, width=width), oblique(30)
    place = Place(device, "triton")
    expected = render_rays(rendered_by(volume_of(model)), rays, options=STEP, normals=True)
    found = render_rays(rendered_by(volume_of(model), place), rays, options=STEP, normals=True)
    for name in ("color", "opacity"):
        close(getattr(found, name), getattr(expected, name), PICTURE)
    close(np.nan_to_num(found.depth), np.nan_to_num(expected.depth), PICTURE)
    assert found.normal is not None
    assert expected.normal is not None
    close(found.normal, expected.normal, 1e-3)


def test_networks_that_the_fused_kernel_does_not_take_go_through_torch() -> None:
    model = dvgo_of(True, 3, width=160)
    assert Network.of(model.layers, 6, 2, True, "cpu").packed is None
    assert Network.of(dvgo_of(True, 3).layers, 6, 2, True, "cpu").packed is not None


# --------------------------------------------------------------------------------------------------- pictures and files


@pytest.mark.parametrize("backend", ["triton", "torch"])
@pytest.mark.parametrize("far", [False, True])
def test_pictures_of_a_sparse_grid(device: str, backend: str, far: bool) -> None:
    grid, rays = grid_of(2, far=far), oblique(24)
    expected = render_rays(grid, rays, (0.2, 0.5, 1.0), options=STEP, normals=True)
    found = render_rays(
        rendered_by(volume_of(grid), Place(device, backend)), rays, (0.2, 0.5, 1.0), options=STEP, normals=True
    )
    close(found.color, expected.color, PICTURE if not far else 1e-4)
    close(found.opacity, expected.opacity, PICTURE)
    assert found.normal is not None
    assert expected.normal is not None
    close(found.normal, expected.normal, 1e-3)


def test_pictures_of_dvgo_by_plain_torch(device: str) -> None:
    model, rays = dvgo_of(True, 3), oblique(24)
    expected = render_rays(rendered_by(volume_of(model)), rays, options=STEP, normals=True)
    found = render_rays(rendered_by(volume_of(model), Place(device, "torch")), rays, options=STEP, normals=True)
    close(found.color, expected.color, PICTURE)
    assert found.normal is not None
    assert expected.normal is not None
    close(found.normal, expected.normal, 1e-3)


@pytest.mark.parametrize("make", [shared_grid, shared_dvgo])
def test_what_is_shared_looks_as_if_it_were_expanded(device: str, make: object) -> None:
    model, rays = make(), oblique(24)  # pyright: ignore
    whole = render_rays(rendered_by(volume_of(model.expanded())), rays, options=STEP, normals=True)
    on_host = render_rays(rendered_by(volume_of(model)), rays, options=STEP, normals=True)
    # The same numbers in another order.
    for name in ("color", "opacity", "normal"):
        close(getattr(on_host, name), getattr(whole, name), 1e-5)
    for backend in ("triton", "torch"):
        found = render_rays(rendered_by(volume_of(model), Place(device, backend)), rays, options=STEP)
        close(found.color, whole.color, PICTURE)
    place = Place(device, "triton")
    expanded = render_rays(rendered_by(volume_of(model.expanded()), place), rays, options=STEP)
    found = render_rays(rendered_by(volume_of(model), place), rays, options=STEP)
    close(found.color, expanded.color, 1e-5)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> PosedImages:
    folder = tmp_path_factory.mktemp("photographs")
    return scene_sets.write(scene_sets.scene_set("inward", size=8, views=5, test_views=2), folder)


def test_a_view_is_made_on_the_device(device: str, photographs: PosedImages) -> None:
    grid = grid_of(1)
    expected = render_view(grid, photographs, 0, options=STEP)
    found = render_view(rendered_by(volume_of(grid), Place(device, "triton")), photographs, 0, options=STEP)
    assert found.color.shape == expected.color.shape == (8, 8, 3)
    close(found.color, expected.color, PICTURE)
    close(np.nan_to_num(found.depth), np.nan_to_num(expected.depth), 1e-4)
    assert (np.isnan(found.depth) == np.isnan(expected.depth)).all()


def test_places() -> None:
    assert Place.of("cpu") is HOST
    assert Place.of("cpu", "numba") is HOST
    assert Place.of("cpu", "torch").backend == "torch"
    with pytest.raises(InputError, match="tinycudann"):
        Place.of("cpu", "tinycudann")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="cuda"):
            Place.of("cuda")


# --------------------------------------------------------------------------------------------------------- training


RECIPE = PlenoxelsRecipe.from_preset(
    "fast", size=8, levels=1, steps=10, rays=24, degree=1, step=1.0, sparsity=1e-3, tv_sh=1e-2, tv_density=1e-3,
    tv_share=1.0,
)  # fmt: skip


@pytest.mark.parametrize("backend", ["triton", "torch"])
@pytest.mark.parametrize("far", [False, True])
def test_plenoxels_steps_are_those_of_the_cpu(device: str, backend: str, far: bool) -> None:
    if backend == "triton":
        from neurcomp_core.radiance.training.plenoxels_triton import TritonSteps as Steps
    else:
        from neurcomp_core.radiance.training.plenoxels_torch import TorchSteps as Steps
    grid, draw = grid_of(1, far=far), np.random.default_rng(5)
    expected, found = CpuSteps(grid, RECIPE), Steps(grid, RECIPE, device=device)
    for step in range(2):
        rays, targets, fractions = rays_of(24, step), draw.random((24, 3)), draw.random(24)
        given = rays, targets, np.array([1.0, 0.9, 0.8]), fractions, step, 7
        errors = expected.step(*given), found.step(*given)
        assert errors[1] == pytest.approx(errors[0], rel=1e-4)
    # RMSProp's first steps are as large as their rate whatever the gradient: hence compare all but a few numbers, of
    # gradients about zero, whose sign is rounding.
    for name in ("density", "sh"):
        a, b = getattr(expected.grid(), name), getattr(found.grid(), name)
        assert np.mean(np.abs(a - b) > 1e-3 * np.abs(a).max()) < 0.01
        assert np.abs(a - getattr(grid, name)).max() > 0.01, "something must have moved"
    assert [s.shape for s in found.squares()] == [s.shape for s in expected.squares()]
    again = Steps(found.grid(), RECIPE, found.squares(), device)
    for a, b in zip(again.squares(), found.squares(), strict=True):
        np.testing.assert_array_equal(a, b)
    close(found.largest_weights(oblique(24)), expected.largest_weights(oblique(24)), 0.02)


SCHEDULE = DvgoSchedule(10, batch=24, step=1.0, entropy=0.01, point=0.1, tv_density=1e-4, tv_features=1e-4)


@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_dvgo_gradients_are_those_of_the_cpu(device: str, backend: str) -> None:
    model, rays = dvgo_of(True, 3), rays_of(24)
    batch = Batch(rays, np.random.default_rng(6).random((24, 3)).astype(np.float32))
    expected = CpuEngine(DvgoState.of(model), (1.0, 0.9, 0.8))
    plain = replace(SCHEDULE, tv_density=0.0, tv_features=0.0)
    error = expected.accumulate(batch, plain)
    engine = engine_of(DvgoState.of(model), (1.0, 0.9, 0.8), device, backend)
    assert isinstance(engine, TorchEngine)
    got, slopes = engine.slopes(batch, plain)
    assert got == pytest.approx(error, rel=1e-4)
    for name, gradient in expected.gradients.items():
        close(slopes[name], gradient, GRADIENT, 0.0)


@pytest.mark.parametrize("masked", [True, False])
def test_dvgo_steps_by_triton_are_those_of_the_cpu(device: str, masked: bool) -> None:
    model, background = dvgo_of(False, 2, masked=masked), (1.0, 0.9, 0.8)
    states = [DvgoState.of(model) for _ in range(2)]
    for state in states:
        state.pace = np.linspace(0.5, 1, model.density.size, dtype=np.float32).reshape(model.density.shape)
    engines = CpuEngine(states[0], background), engine_of(states[1], background, device, "triton")
    for step in range(2):
        colors = np.random.default_rng(step).random((24, 3)).astype(np.float32)
        errors = [engine.step(Batch(rays_of(24, step), colors), SCHEDULE, step) for engine in engines]
        assert errors[1] == pytest.approx(errors[0], rel=1e-3)
    engines[1].save()
    for name, a in states[0].parameters.items():
        b, before = states[1].parameters[name], DvgoState.of(model).parameters[name]
        assert np.mean(np.abs(a - b) > 1e-3 * np.abs(a - before).max()) < 0.01
        assert np.abs(b - before).max() > 1e-4, "something must have moved"


@pytest.mark.parametrize("backend", ["triton", "torch"])
@pytest.mark.parametrize("kind", ["sparse", "dvgo"])
def test_fine_tuning_gradients_are_those_of_the_cpu(device: str, backend: str, kind: str) -> None:
    model = grid_of(1) if kind == "sparse" else dvgo_of(True, 3)
    rows = rows_of(model)
    some = rows.take(np.arange(len(rows)) % 3 > 0)
    factors = Factors.of(Shell.of(model), some, np.ones(len(some)))
    batch = Batch(rays_of(30), np.random.default_rng(6).random((30, 3)).astype(np.float32))
    given = factors.density, factors.rows().features, factors.network, batch
    expected = descent_of(factors, (1.0, 0.9, 0.8)).slope(*given)
    found = descent_of(factors, (1.0, 0.9, 0.8), Place(device, backend, True)).slope(*given)
    assert found.scale == expected.scale
    assert found.error == pytest.approx(expected.error, rel=1e-4)
    features = expected.features.reshape(len(expected.density), -1)
    close(found.density, expected.density, GRADIENT, 0.0)
    close(found.features.reshape(features.shape), features, GRADIENT, 0.0)
    for a, b in zip(found.network, expected.network, strict=True):
        close(a, b, GRADIENT, 0.0)


def test_a_compressed_file_is_rendered_as_it_is_stored(device: str, photographs: PosedImages) -> None:
    volume = RadianceVolume.of(grid_of(1), photographs)
    images = RadianceContext("cpu", views=photographs.split("train"), unseen=photographs.split("test"))
    codec = Vqrf.from_preset("fast", tune=2, refine=0, rays=64, rounds=3, codes=16)
    packed = files.compress(volume, codec, None, images)
    whole, stored = files.load(packed.data), files.load(packed.data, to_render=True)
    assert isinstance(stored.model, SharedGrid)
    np.testing.assert_array_equal(stored.model.expanded().sh, whole.model.sh)  # pyright: ignore
    assert stored.model.nbytes < whole.nbytes + whole.model.links.nbytes  # pyright: ignore
    psnr = [mean_psnr(v, images.unseen) for v in (whole, stored)]  # pyright: ignore
    psnr.append(mean_psnr(stored, images.unseen, place=Place(device, "triton")))  # pyright: ignore
    assert psnr[1] == pytest.approx(psnr[0], abs=1e-4)
    assert psnr[2] == pytest.approx(psnr[0], abs=0.02), "the bound across CPU and CUDA"


def test_batches_on_the_device_are_those_of_the_host(device: str, photographs: PosedImages) -> None:
    box = np.array([[-0.3] * 3, [0.3] * 3])
    bank = RayBank.of(photographs, box=box)
    assert 0 < len(bank) < bank.total
    same = bank_in(photographs, box, Place(device, "triton"))
    np.testing.assert_array_equal(same.pixels, bank.pixels)
    assert same.missed == bank.missed
    on_device = DeviceBank(bank, device)
    for step in (0, 3):
        expected, found = bank.batch(step, 40, 1), on_device.batch(step, 40, 1)
        close(found.colors, expected.colors, 1e-6)
        for name in ("origins", "directions", "near", "views"):
            close(getattr(found.rays, name), getattr(expected.rays, name), 1e-12)


@pytest.mark.parametrize("model", ["plenoxels", "dvgo"])
def test_a_whole_training_on_a_device(device: str, photographs: PosedImages, model: str) -> None:
    trainer, train = trainers.trainer(model), photographs.split("train")
    small = {
        "plenoxels": {"steps": 3, "size": 8, "levels": 1, "rays": 16, "step": 1.0, "degree": 0, "prune": 0},
        "dvgo": {"coarse_steps": 1, "fine_steps": 2, "coarse_batch": 16, "fine_batch": 16, "resolution": 8,
                 "coarse_resolution": 8, "channels": 3, "width": 8, "scale_at": (), "mask_every": 1},
    }  # fmt: skip
    recipe = trainer.recipe.from_preset("fast", **small[model])
    found = [
        trainer.train(train, recipe, RadianceContext(where, 1, backend=backend))
        for where, backend in (("cpu", "numba"), (device, "triton"))
    ]
    volumes = [RadianceVolume.of(f, train) for f in found]
    psnr = [mean_psnr(volume, photographs.split("test")) for volume in volumes]
    assert psnr[1] == pytest.approx(psnr[0], abs=0.3), "the same batches in the same order"


def test_kernels_compile_for_a_gpu_where_there_is_none() -> None:
    script = Path(__file__).parent.parent / "benchmarks" / "gpu_radiance_kernels.py"
    command = [sys.executable, str(script), "--only", "march", "shade", "mix"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.split("|")] for line in done.stdout.splitlines() if line.startswith("| ")]
    stacks = {name: stack for _, name, _, _, stack, *_ in rows[2:]}
    assert set(stacks) == {"march", "shade", "mix"}
    assert stacks["march"] in ("0", "?"), "registers overflow"
