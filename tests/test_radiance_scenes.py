"""Analytic scenes: integrals against closed forms, grids against the field, and written sets against what they show."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurcomp_core.errors import InputError
from neurcomp_core.radiance import scene_sets, spherical_harmonics
from neurcomp_core.radiance.cameras import Camera, Intrinsics, project, rays
from neurcomp_core.radiance.grids import EMPTY, SparseGrid, SphereLayers
from neurcomp_core.radiance.loaders import load
from neurcomp_core.radiance.poses import look_at
from neurcomp_core.radiance.scenes import KINDS, STEP, Scene, scene


def primitive(kind: int, center, half, softness: float = 1.0, peak: float = 3.0, tint=(0, 0, 0)) -> np.ndarray:
    base, axis, wave = (0.2, 0.4, 0.6), (0.0, 0.0, 1.0), (0, 0, 0)
    return np.concatenate([[kind], center, half, [softness, peak], np.array(base) / 0.75, tint, axis, wave])


BALL = primitive(0, (0.1, 0.2, -0.3), (0.5, 0.5, 0.5))
BOX = primitive(1, (0, 0, 0), (0.4, 0.3, 0.5), 0.1)


def along_x(y: float, z: float) -> tuple[np.ndarray, np.ndarray]:
    return np.array([[-4.0, y, z]]), np.array([[1.0, 0, 0]])


@pytest.mark.parametrize("offset", [0.0, 0.2, 0.45])
def test_opacity_of_a_ball_is_the_closed_form(offset: float) -> None:
    color, opacity, depth = Scene(BALL[None]).trace(*along_x(0.2 + offset, -0.3), STEP)
    thickness = 32 / 35 * 3 * (0.5**2 - offset**2) ** 3.5 / 0.5**6
    assert opacity[0] == pytest.approx(1 - math.exp(-thickness), abs=1e-5)
    np.testing.assert_allclose(color[0], opacity[0] * np.array([0.2, 0.4, 0.6]), atol=1e-12)
    assert depth[0] / opacity[0] < 4.1  # more weight in front of the middle


def test_opacity_of_a_box_is_the_closed_form() -> None:
    _, opacity, _ = Scene(BOX[None]).trace(*along_x(0.1, -0.2), STEP)
    assert opacity[0] == pytest.approx(1 - math.exp(-3 * (0.8 - 0.1)), abs=1e-5)
    # Halfway up a face's slope the density is half the peak.
    assert Scene(BOX[None]).density(np.array([0.0, 0.25, 0])) == pytest.approx(1.5)
    assert Scene(BOX[None]).density(np.array([[0.0, 0, 0], [0.41, 0, 0]])).tolist() == [3, 0]
    # A ray that starts inside meets only what is before it.
    _, ahead, _ = Scene(BOX[None]).trace(np.zeros((1, 3)), np.array([[0, 1.0, 0]]), STEP)
    assert ahead[0] == pytest.approx(1 - math.exp(-3 * (0.3 - 0.05)), abs=1e-5)


def test_two_bodies_in_a_row() -> None:
    near, far = primitive(0, (0, 0, 0), [0.5] * 3, peak=2), primitive(0, (2, 0, 0), [0.3] * 3, peak=5)
    far[9:12] = np.array([0.6, 0.1, 0.3]) / 0.75
    color, opacity, depth = Scene(np.stack([far, near])).trace(*along_x(0, 0), STEP)
    first, second = (1 - math.exp(-32 / 35 * a * r) for a, r in ((2, 0.5), (5, 0.3)))
    np.testing.assert_allclose(
        color[0], first * np.array([0.2, 0.4, 0.6]) + (1 - first) * second * np.array([0.6, 0.1, 0.3]), atol=2e-5
    )
    assert opacity[0] == pytest.approx(first + (1 - first) * second, abs=1e-5)
    assert 4 * first < depth[0] < 4 * first + 6 * (1 - first) * second


def test_overlap_adds_density_and_mixes_color_by_it() -> None:
    other = primitive(0, (0.1, 0.2, -0.3), [0.5] * 3, peak=1)
    other[9:12] = np.array([0.6, 0.8, 0.2]) / 0.75
    both = Scene(np.stack([BALL, other]))
    at = np.array([[0.2, 0.2, -0.3]])
    assert both.density(at)[0] == pytest.approx(4 / 3 * Scene(BALL[None]).density(at)[0])
    np.testing.assert_allclose(both.color(at, np.array([[0, 0, 1.0]]))[0], [0.3, 0.5, 0.5])


@pytest.mark.parametrize("kind", KINDS)
def test_quadrature_converges_with_the_square_of_the_step(kind: str) -> None:
    data = scene_sets.scene_set(kind, 8, 2, 1)
    origins, directions = rays(data.cameras[0], dtype=np.float64)
    exact = data.scene.trace(origins, directions, 1 / 2048)
    errors = [
        max(float(np.abs(a - b).max()) for a, b in zip(data.scene.trace(origins, directions, h), exact, strict=True))
        for h in (1 / 64, STEP)
    ]
    assert errors[0] < 2e-3
    assert errors[1] < 3e-4
    assert errors[1] < 0.5 * errors[0]


def test_scenes_are_deterministic_and_bounded() -> None:
    for kind in KINDS:
        np.testing.assert_array_equal(scene(kind, 3).table, scene(kind, 3).table)
        assert (scene(kind, 3).table != scene(kind, 4).table).any()
    low, high = scene("inward").box()
    assert (low > -1).all()
    assert (high < 1).all()
    with pytest.raises(InputError, match="scene 'outward' is unknown; expected one of inward, forward, unbounded"):
        scene("outward")


def test_grid_holds_density_and_view_dependent_color() -> None:
    field = scene("inward", 1)
    grid = field.grid(24)
    assert max(grid.links.shape) == 24
    assert 0.05 < np.mean(grid.links != EMPTY) < 0.7
    x, y, z = grid.geometry.origin, grid.geometry.spacing, np.argwhere(grid.links != EMPTY)
    points = np.array(x) + np.array(y) * z[:, ::-1]
    directions = np.random.default_rng(0).standard_normal(points.shape)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    np.testing.assert_allclose(grid.sample(points)[0], field.density(points), rtol=1e-5)
    np.testing.assert_allclose(grid.colors(points, directions), field.color(points, directions), atol=1e-5)


# ----------------------------------------------------------------------------------------------- written image sets


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[scene_sets.SceneSet, Path]]:
    folder = tmp_path_factory.mktemp("sets")
    sets = {kind: scene_sets.scene_set(kind, 24, 10, 3, seed=2) for kind in KINDS}
    for kind, data in sets.items():
        scene_sets.write(data, folder / kind)
    return {kind: (data, folder / kind) for kind, data in sets.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_written_sets_show_the_scene(written, kind: str) -> None:
    made, folder = written[kind]
    data = load(folder)
    assert data.scene == {"inward": "bounded", "forward": "forward-facing", "unbounded": "unbounded"}[kind]
    assert data.splits.count("test") == (2 if kind == "forward" else 3)
    order = sorted(range(13), key=lambda i: made.splits[i] == "test") if kind == "inward" else range(13)
    for i, j in enumerate(order):
        picture = made.scene.render(made.cameras[j])
        expected = picture[..., :3] * picture[..., 3:] + 1 - picture[..., 3:] if kind == "inward" else picture
        np.testing.assert_allclose(data.colors(i), expected, atol=1.1 / 255)
        assert data.splits[i] == made.splits[j]
        if kind != "forward":  # its world has been moved
            np.testing.assert_allclose(data.cameras[i].pose, made.cameras[j].pose, atol=1e-9)
        assert data.cameras[i].intrinsics.fx == pytest.approx(made.cameras[j].intrinsics.fx)


def test_bounds_hold_the_object(written) -> None:
    made, folder = written["inward"]
    data = load(folder)
    low, high = made.scene.box()
    assert (data.box[0] < low).all()
    assert (data.box[1] > high).all()
    assert (data.box[1] - data.box[0] < 3).all()
    for camera in made.cameras:
        corners = np.stack(np.meshgrid(*zip(low, high, strict=True)), -1).reshape(-1, 3)
        distance = np.linalg.norm(corners - camera.position, axis=1)
        assert data.near < distance.min()
        assert distance.max() < data.far


def test_pictures_show_a_ball_where_it_projects() -> None:
    what = Scene(primitive(0, (0.3, -0.2, 0.25), [0.2] * 3, peak=30)[None])
    camera = Camera(
        Intrinsics.from_angle(0.7, 40, 30), look_at(np.array([2.0, 2, 1]), np.zeros(3), np.array([0, 0, 1.0]))
    )
    alpha = what.render(camera)[..., 3]
    v, u = np.mgrid[:30, :40] + 0.5
    center = np.array([(alpha * u).sum(), (alpha * v).sum()]) / alpha.sum()
    np.testing.assert_allclose(center, project(camera, np.array([0.3, -0.2, 0.25])), atol=0.05)


def test_a_set_replaces_another(tmp_path: Path, written) -> None:
    del written  # compiled kernels
    scene_sets.write(scene_sets.scene_set("inward", 8, 2, 1), tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine.txt").write_text("stays")
    data = scene_sets.write(scene_sets.scene_set("unbounded", 8, 3, 1), tmp_path)
    assert data.scene == "unbounded"
    assert (tmp_path / "images" / "mine.txt").exists()
    assert data.splits.count("train") == 3
    first = (tmp_path / "images" / "view_0002.png").read_bytes()
    scene_sets.write(scene_sets.scene_set("unbounded", 8, 3, 1), tmp_path)
    assert (tmp_path / "images" / "view_0002.png").read_bytes() == first
    for bad, words in (
        ({"size": 4}, "8 to 4096 pixels, got 4"),
        ({"views": 1}, "at least 2 to train"),
        ({"test_views": 0}, "1 to"),
    ):
        with pytest.raises(InputError, match=words):
            scene_sets.scene_set("inward", **bad)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to"):
        scene_sets.write(scene_sets.scene_set("inward", 8, 2, 1), tmp_path / "file")


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from neurcomp_cli import sample_radiance
    from neurcomp_cli.main import app
    from neurcomp_filters import io

    monkeypatch.setattr(sample_radiance, "_TRUTH_SIZE", 24)
    common = ["sample", "radiance", "-o", str(tmp_path / "set"), "--size", "12", "--views", "3", "--test-views", "1"]
    done = CliRunner().invoke(app, [*common, "--scene", "unbounded", "--truth", str(tmp_path / "truth.vti")])
    assert done.exit_code == 0, done.output
    assert "3 images to train and 1 to test on, 12 x 12, unbounded" in done.output
    density, color = io.read(tmp_path / "truth.vti")
    assert (density.name, color.name, color.values.shape[3]) == ("density", "color", 3)
    assert density.values.max() > 10
    refused = CliRunner().invoke(app, common)
    assert refused.exit_code == 2
    assert "is not an empty folder; choose another or give --force" in refused.output
    assert CliRunner().invoke(app, [*common, "--force", "-q"]).exit_code == 0
    assert load(tmp_path / "set").scene == "bounded"


# ------------------------------------------------------------------------------------------------------------ grids


def test_spherical_harmonics_are_the_customary_ones() -> None:
    draw = np.random.default_rng(0).standard_normal((50, 3))
    d = draw / np.linalg.norm(draw, axis=1, keepdims=True)
    x, y, z = d.T
    expected = np.stack(
        [
            np.full_like(x, 0.28209479177387814),
            *(0.4886025119029199 * c for c in (-y, z, -x)),
            *(1.0925484305920792 * c for c in (x * y, -y * z)),
            0.31539156525252005 * (2 * z * z - x * x - y * y),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (x * x - y * y),
        ],
        -1,
    )
    np.testing.assert_allclose(spherical_harmonics.basis(d, 2), expected, atol=1e-12)
    top = spherical_harmonics.basis(d, 4)
    np.testing.assert_allclose(top[:, 9], -0.5900435899266435 * y * (3 * x * x - y * y), atol=1e-12)
    np.testing.assert_allclose(top[:, 20], 0.10578554691520431 * (35 * z**4 - 30 * z * z + 3), atol=1e-12)
    np.testing.assert_allclose(
        top[:, 24], 0.6258357354491761 * (x * x * (x * x - 3 * y * y) - y * y * (3 * x * x - y * y)), atol=1e-12
    )
    # Orthonormal: Gauss-Legendre in z times equal angles integrates degree 8 exactly.
    nodes, weights = np.polynomial.legendre.leggauss(6)
    turn = 2 * np.pi * np.arange(12) / 12
    ring = np.sqrt(1 - nodes[:, None] ** 2)
    grid = np.stack([ring * np.cos(turn), ring * np.sin(turn), nodes[:, None] + 0 * turn], -1).reshape(-1, 3)
    values = spherical_harmonics.basis(grid, 4)
    area = np.repeat(weights, 12) * 2 * np.pi / 12
    np.testing.assert_allclose(values.T @ (values * area[:, None]), np.eye(25), atol=1e-12)
    assert spherical_harmonics.basis(d.astype(np.float32), 2).dtype == np.float32
    for bad in (lambda: spherical_harmonics.degree_of(5), lambda: spherical_harmonics.basis(d, 5)):
        with pytest.raises(InputError, match="spherical harmonics: expected"):
            bad()


def small_grid() -> SparseGrid:
    draw = np.random.default_rng(5)
    keep = draw.random((4, 3, 5)) < 0.6
    density, sh = draw.random((4, 3, 5)), draw.standard_normal((4, 3, 5, 3, 4))
    return SparseGrid.from_dense(density, sh, np.array([[-1.0, 0, 2], [1.5, 0.9, 4]]), keep)


def test_sparse_grid_interpolates_between_voxel_centers() -> None:
    grid = small_grid()
    density, sh = grid.dense()
    assert (density[grid.links == EMPTY] == 0).all()
    np.testing.assert_allclose(grid.voxel, [0.5, 0.3, 0.5])
    origin, spacing = np.array(grid.geometry.origin), np.array(grid.geometry.spacing)
    np.testing.assert_allclose(origin, [-0.75, 0.15, 2.25])
    center = origin + spacing * [3, 1, 2]
    np.testing.assert_allclose(grid.sample(center[None])[0][0], density[2, 1, 3], rtol=1e-6)
    between = center + spacing * [0.25, 0, 0.5]
    expected = 0.5 * (0.75 * sh[2, 1, 3] + 0.25 * sh[2, 1, 4]) + 0.5 * (0.75 * sh[3, 1, 3] + 0.25 * sh[3, 1, 4])
    np.testing.assert_allclose(grid.sample(between[None])[1][0], expected, rtol=1e-6)
    np.testing.assert_allclose(
        grid.sample(grid.box[:1])[0][0], density[0, 0, 0], rtol=1e-6
    )  # clamped in the outer half
    assert grid.sample(grid.box[1:] + 0.01)[0][0] == 0


def test_sparse_grid_refuses_what_does_not_fit() -> None:
    grid = small_grid()
    rows = len(grid.density)
    twice = grid.links.copy()
    twice[twice == 1] = 0
    beyond = grid.links.copy()
    beyond[beyond == 0] = rows
    for change, words in (
        ({"links": twice}, "two voxels lead to one row"),
        ({"links": beyond}, f"row numbers below {rows}"),
        ({"links": grid.links[0]}, "links: expected numbers of shape"),
        ({"sh": grid.sh[:, :, :3]}, "expected 1, 4, 9, 16 or 25 functions, got 3"),
        ({"sh": grid.sh[1:]}, "sh: expected numbers of shape"),
        ({"box": grid.box[::-1]}, "a low and a higher corner"),
    ):
        whole: dict[str, Any] = {"links": grid.links, "density": grid.density, "sh": grid.sh, "box": grid.box}
        with pytest.raises(InputError, match=words):
            SparseGrid(**{**whole, **change})
    with pytest.raises(InputError, match="background data"):
        SphereLayers(np.zeros((4, 2), np.int32), np.zeros((8, 3), np.float32))
