"""The commands `neurcomp radiance …` as users meet them: files, figures, sentences, exit codes."""

from __future__ import annotations

import csv
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cli import good, names, parsed, refused, run

from neurcomp_cli import demo_radiance
from neurcomp_core.errors import InputError, TimeLimitReached
from neurcomp_core.radiance import evaluation, export, files, images, loaders, trainers, viewpoints
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.grids import EMPTY, SparseGrid
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.rendering import quality
from neurcomp_core.radiance.rendering.views import render_view
from neurcomp_core.radiance.scene_sets import scene_set, write
from neurcomp_core.radiance.scenes import scene
from neurcomp_core.radiance.volume import RadianceVolume
from neurcomp_filters import io
from neurcomp_filters.radiance_image import grid_of

ONE = ("--threads", "1")
# Eight photographs of 24 x 24 pixels: enough to see that training does something.
TINY = ("--preset", "fast", "--set", "size=16", "--set", "levels=1", "--set", "rays=256", "--device", "cpu", *ONE)


def svox2_file(grid: SparseGrid, path: Path, scale: float = 1.0) -> Path:
    """What svox2 would have saved of a grid, in a world `scale` times as large."""
    arrays = {
        "links": np.ascontiguousarray(grid.links.transpose(2, 1, 0)),
        "density_data": grid.density[:, None] / np.float32(scale),
        "sh_data": grid.sh.reshape(len(grid.sh), -1).astype(np.float16),
        "radius": scale * (grid.box[1] - grid.box[0]) / 2,
        "center": scale * grid.box.mean(0),
        "basis_type": np.array(1),
    }
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
    return path


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inward")
    write(scene_set("inward", size=24, views=8, test_views=2), folder)
    return folder


@pytest.fixture(scope="module")
def facing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forward")
    write(scene_set("forward", size=24, views=8, test_views=2), folder)
    return folder


@pytest.fixture(scope="module")
def baked() -> SparseGrid:
    """The scene of the photographs on voxels, coarse enough to be quick."""
    return scene("inward").grid(24)


@pytest.fixture(scope="module")
def model(baked: SparseGrid, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return svox2_file(baked, tmp_path_factory.mktemp("model") / "ckpt.npz")


@pytest.fixture(scope="module")
def packed(model: Path, photographs: Path) -> Path:
    path = model.with_name("packed.nvc")
    good("radiance", "import", model, path, "--data", photographs, *ONE)
    return path


@pytest.fixture(scope="module")
def dvgo(tmp_path_factory: pytest.TempPathFactory) -> tuple[DvgoModel, Path]:
    """A small DVGO model whose colour depends on the direction, and its file."""
    draw = np.random.default_rng(0)
    shape = (7, 8, 9)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    density = (12 * (0.7 - np.sqrt(x * x + y * y + z * z))).astype(np.float32)
    features = draw.standard_normal((*shape, 4)).astype(np.float32)
    layers = tuple(
        (0.3 * draw.standard_normal((out, n)).astype(np.float32), np.zeros(out, np.float32))
        for n, out in ((4 + 3 + 6, 8), (8, 3))
    )
    made = DvgoModel(density, features, np.array([[-1.0, -1, -1], [1, 1, 1]]), -2.0, 0.3, layers, 1)
    path = tmp_path_factory.mktemp("dvgo") / "small.nvc"
    path.write_bytes(files.compress(RadianceVolume(made, made.box), "dvgo").data)
    volume = files.load(path)
    assert isinstance(volume.model, DvgoModel)
    return volume.model, path


# ---------------------------------------------------------------------------------------------------------- import


def test_import_measures_and_names(model: Path, packed: Path, photographs: Path, tmp_path: Path) -> None:
    volume = files.load(packed)
    test = loaders.load(photographs).split("test")
    assert volume.psnr == pytest.approx(evaluation.mean_psnr(volume, test), abs=1e-3)
    assert volume.psnr is not None
    assert volume.psnr > 28
    assert (volume.name, volume.scene, volume.near) == ("packed", "bounded", pytest.approx(test.near))
    assert "plenoxels" in good("info", packed).stdout

    found = parsed(
        "radiance", "import", model, tmp_path / "a.nvc", "--codec", "plenoxels", "--codec-preset", "lossless"
    )
    assert found["lossless"]
    assert found["psnr"] is None
    assert found["file_bytes"] == (tmp_path / "a.nvc").stat().st_size < found["model_bytes"]


def test_import_of_another_world(baked: SparseGrid, packed: Path, photographs: Path, tmp_path: Path) -> None:
    path = svox2_file(baked, tmp_path / "small.npz", 2 / 3)
    ask = ("radiance", "import", path, tmp_path / "x.nvc", "--data", photographs, "--force", *ONE)
    right, wrong = parsed(*ask, "--scale", "1.5"), parsed(*ask)
    assert right["psnr_before"] == pytest.approx(
        parsed("radiance", "evaluate", packed, photographs)["mean"]["psnr"], abs=0.5
    )
    assert wrong["psnr_before"] < right["psnr_before"] - 5
    assert "positive number" in refused(*ask, "--scale", "-1")


def test_import_to_a_size(model: Path, photographs: Path, tmp_path: Path) -> None:
    found = parsed("radiance", "import", model, tmp_path / "a.nvc", "--data", photographs, "--bytes", "4000", *ONE)
    assert found["file_bytes"] <= 4000
    # At most one target.
    ask = ("radiance", "import", model, tmp_path / "b.nvc", "--bytes", 9, "--ratio", 2)
    assert "got --bytes and --ratio" in refused(*ask)
    assert names(tmp_path) == ["a.nvc"]


def test_import_refuses(model: Path, photographs: Path, packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.nvc"
    assert "does not exist" in refused("radiance", "import", tmp_path / "no.npz", out)
    assert "ends in .nvc" in refused("radiance", "import", model, tmp_path / "x.vti")
    assert "--force" in refused("radiance", "import", model, packed)
    assert "there is no codec 'zip' of radiance fields" in refused("radiance", "import", model, out, "--codec", "zip")
    assert "need --codec NAME" in refused("radiance", "import", model, out, "--codec-preset", "lossless")
    assert "takes a DvgoModel, got a SparseGrid" in refused("radiance", "import", model, out, "--codec", "dvgo")
    sentence = refused("radiance", "import", model, out, "--codec", "plenoxels", "--codec-set", "depth=3")
    assert "codec plenoxels has no parameter 'depth'; it has: density_bits" in sentence
    assert "no set of posed images" in refused("radiance", "import", model, out, "--data", tmp_path)
    assert "white, black or R,G,B" in refused(
        "radiance", "import", model, out, "--data", photographs, "--background", "blue"
    )
    weights = np.empty(8, object)
    draw = np.random.default_rng(0)
    for i, shape in enumerate(((9, 4), (4,), (4, 4), (4,), (4, 4), (4,), (4, 4), (4,))):
        weights[i] = draw.standard_normal(shape).astype(np.float32)
    np.save(tmp_path / "model_000001.npy", weights, allow_pickle=True)
    assert "does not say where its scene lies" in refused("radiance", "import", tmp_path / "model_000001.npy", out)
    # Its images do.
    network = ("radiance", "evaluate", tmp_path / "model_000001.npy", photographs, "--views", 1, *ONE)
    assert len(parsed(*network)["views"]) == 1
    (tmp_path / "bad.npz").write_bytes(b"PK")
    assert "damaged" in refused("radiance", "import", tmp_path / "bad.npz", out, code=4)
    assert names(tmp_path) == ["bad.npz", "model_000001.npy"]


# -------------------------------------------------------------------------------------------------------- evaluate


def test_evaluate(packed: Path, photographs: Path, tmp_path: Path) -> None:
    table, page, picture = tmp_path / "f.csv", tmp_path / "f.html", tmp_path / "worst.png"
    ask = ("radiance", "evaluate", packed, photographs, *ONE)
    text = good(*ask, "--csv", table, "--html", page, "--picture", picture).stdout
    found = parsed(*ask)
    volume, test = files.load(packed), loaders.load(photographs).split("test")
    field = evaluation.field_of(volume)
    for i, row in enumerate(found["views"]):
        color = np.clip(render_view(field, test, i).color, 0, 1)
        assert row["psnr"] == pytest.approx(quality.psnr(color, test.colors(i)), abs=1e-6)
        assert row["ssim"] == pytest.approx(quality.ssim(color, test.colors(i)), abs=1e-6)
        assert (row["view"], row["lpips"]) == (test.names[i], None)
    assert found["mean"]["psnr"] == pytest.approx(np.mean([r["psnr"] for r in found["views"]]))
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["view"] for row in rows] == [*test.names, "mean"]
    assert rows[-1]["PSNR dB"] == f"{found['mean']['psnr']:.2f}"
    assert rows[-1]["PSNR dB"] in text
    assert f"<td>{rows[0]['SSIM']}</td>" in page.read_text()
    drawn = images.read(picture)
    assert drawn.shape == (24, 72, 3)
    worst = int(np.argmin([r["psnr"] for r in found["views"]]))
    np.testing.assert_array_equal(drawn[:, :24], images.to_uint8(test.colors(worst)))

    assert len(parsed(*ask, "--split", "train")["views"]) == 8
    assert len(parsed(*ask, "--views", "1")["views"]) == 1
    # The background is the field's unless another is asked for, and images are as small as asked for.
    dark = parsed(*ask, "--background", "black", "--downscale", "2")
    assert dark["mean"]["psnr"] != found["mean"]["psnr"]


def test_evaluate_refuses(
    packed: Path, photographs: Path, facing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = ("radiance", "evaluate", packed)
    assert "there is no such file" in refused("radiance", "evaluate", tmp_path / "no.nvc", photographs)
    assert "is a folder" in refused("radiance", "evaluate", tmp_path, photographs)
    (tmp_path / "a.txt").write_text("?")
    assert "expected .nvc or a trained model" in refused("radiance", "evaluate", tmp_path / "a.txt", photographs)
    assert "does not exist" in refused(*ask, tmp_path / "nothing")
    assert "expected one of train, val, test or all, got 'both'" in refused(*ask, photographs, "--split", "both")
    assert "the set has no val images" in refused(*ask, photographs, "--split", "val")
    assert "their coordinates differ" in refused(*ask, facing)
    data = packed.read_bytes()
    (tmp_path / "cut.nvc").write_bytes(data[: len(data) // 2])
    assert "truncated" in refused("radiance", "evaluate", tmp_path / "cut.nvc", photographs, code=4)
    good("sample", "marschner-lobb", "-o", tmp_path / "ml.vti", "--size", "9")
    good("compress", tmp_path / "ml.vti", "--ratio", "5", "--codec", "wavelet")
    assert "holds no radiance field" in refused("radiance", "evaluate", tmp_path / "ml.nvc", photographs)
    assert "exists" in refused(*ask, photographs, "--csv", tmp_path / "a.txt")
    monkeypatch.setitem(sys.modules, "lpips", None)
    assert "pip install 'neurcomp[lpips]'" in refused(*ask, photographs, "--lpips", code=6)


# ---------------------------------------------------------------------------------------------------------- render


def test_render_views_of_a_split(packed: Path, photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "views"
    ask = ("radiance", "render", packed, "-o", out, "--data", photographs, *ONE)
    found = parsed(*ask, "--depth", "--opacity", "--normals")
    assert names(out) == sorted(
        f"view_{i:04d}{kind}.png" for i in range(2) for kind in ("", "_depth", "_opacity", "_normal")
    )
    assert (found["views"], found["pixels"], len(found["files"])) == (2, [24, 24], 8)
    test = loaders.load(photographs).split("test")
    psnr = np.mean([quality.psnr(images.read(out / f"view_{i:04d}.png") / 255, test.colors(i)) for i in range(2)])
    assert psnr == pytest.approx(parsed("radiance", "evaluate", packed, photographs)["mean"]["psnr"], abs=0.1)
    opacity = images.read(out / "view_0000_opacity.png")
    assert (opacity[0, 0] == 0).all()
    assert opacity.max() > 250
    assert "--force" in refused(*ask)
    good(*ask, "--force", "--views", "1", "--background", "black")
    assert images.read(out / "view_0000.png")[0, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("path", ["circle", "spiral"])
def test_render_along_a_path_without_images(packed: Path, tmp_path: Path, path: str) -> None:
    out = tmp_path / "turn.gif"
    good("radiance", "render", packed, "-o", out, "--path", path, "--views", 3, "--size", 31, 21, "--depth", *ONE)
    from PIL import Image

    with Image.open(out) as movie:
        assert (movie.n_frames, movie.size) == (3, (62, 21))  # pyright: ignore[reportAttributeAccessIssue]
        frames = []
        for i in range(3):
            movie.seek(i)
            frames.append(np.asarray(movie.convert("RGB"))[:, :31].astype(int))
    # The object is in the middle of each, white around it, and it turns.
    assert all((f[0, 0] > 250).all() and f[6:15, 10:21].min() < 200 for f in frames)
    assert np.abs(frames[0] - frames[1]).mean() > 2


def test_render_a_movie(packed: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "turn.mp4"
    ask = ("radiance", "render", packed, "-o", out, "--path", "through", "--views", 4, "--size", 33, 25, *ONE)
    imageio = pytest.importorskip("imageio.v2", reason="needs the extra 'video': pip install 'neurcomp[video]'")
    good(*ask, "--data", photographs)
    frames = [np.asarray(frame) for frame in imageio.get_reader(out)]
    assert len(frames) == 4
    assert frames[0].shape == (26, 34, 3)  # even, as players want them
    assert "need --data" in refused(*ask, "--force")
    monkeypatch.setitem(sys.modules, "imageio.v2", None)
    assert "pip install 'neurcomp[video]'" in refused(*ask, "--data", photographs, "--force", code=6)


def test_render_refuses(packed: Path, photographs: Path, tmp_path: Path) -> None:
    ask = ("radiance", "render", packed, "-o")
    assert "one .png holds one view, got 2" in refused(*ask, tmp_path / "a.png", "--path", "circle", "--views", 2)
    assert "a folder, or a name that ends in .png" in refused(*ask, tmp_path / "a.avi")
    assert "does not exist" in refused(*ask, tmp_path / "no" / "folder")
    out = tmp_path / "views"
    assert "'oval' is unknown; expected one of circle, spiral, through" in refused(*ask, out, "--path", "oval")
    assert "need --data FOLDER" in refused(*ask, out, "--split", "test")
    both = ("--data", photographs, "--split", "test", "--path", "circle")
    assert "not both" in refused(*ask, out, *both)
    assert "those of a path" in refused(*ask, out, "--data", photographs, "--size", 9, 9)
    assert "1 to 16384 pixels" in refused(*ask, out, "--path", "circle", "--size", 0, 9)
    assert "field of view" in refused(*ask, out, "--path", "circle", "--angle", 200)
    assert names(tmp_path) == []


def test_viewpoints(baked: SparseGrid, photographs: Path) -> None:
    data = loaders.load(photographs)
    volume = RadianceVolume.of(baked, data)
    around = viewpoints.along(volume, "circle", 5, (8, 6))
    assert isinstance(around, PosedImages)
    middle = baked.box.mean(0)
    for camera in around.cameras:
        towards = middle - camera.position
        assert towards @ camera.forward == pytest.approx(np.linalg.norm(towards))
        assert np.linalg.norm(towards) == pytest.approx((data.near + data.far) / 2)
    assert around.cameras[0].intrinsics.fx == pytest.approx(4 / np.tan(viewpoints.ANGLE / 2))
    assert viewpoints.along(volume, "circle", 2, data=data).cameras[0].intrinsics == data.cameras[0].intrinsics
    heights = [c.position[2] for c in viewpoints.along(volume, "spiral", 5).cameras]
    assert heights == sorted(heights)
    assert heights[0] < middle[2]
    through = viewpoints.along(volume, "through", 10, data=data).cameras
    np.testing.assert_allclose(through[0].pose, data.cameras[0].pose, atol=1e-9)

    flat = replace(volume, scene="forward-facing", near=1.2, far=9.0)
    sway = viewpoints.along(flat, None, 6).cameras
    assert all(c.forward[2] < -0.9 and np.abs(c.position).max() < 1 for c in sway)
    with pytest.raises(InputError, match="circle does not fit a forward-facing scene"):
        viewpoints.along(flat, "circle")
    # Nothing says how far its cameras were: all of the box is in sight, and an unbounded scene is seen from within.
    unknown = viewpoints.along(replace(volume, near=0.0, far=np.inf), None, 1).cameras[0]
    assert np.linalg.norm(unknown.position - middle) > np.linalg.norm(baked.box[1] - baked.box[0])
    within = viewpoints.along(replace(volume, scene="unbounded"), None, 1).cameras[0].position
    assert ((within > baked.box[0]) & (within < baked.box[1])).all()


# ---------------------------------------------------------------------------------------------------------- export


def test_export_of_a_grid_is_its_samples(packed: Path, tmp_path: Path) -> None:
    grid = files.load(packed).model
    assert isinstance(grid, SparseGrid)
    out = tmp_path / "a.vti"
    good("radiance", "export", packed, out, "--direction", 0, "-3", 0, "--sh", "--rgba")
    found = {f.name: f for f in io.read(out)}
    assert set(found) == {"density", "color", "sh", "rgba"}
    density, sh = grid.dense()
    np.testing.assert_array_equal(found["density"].values, np.maximum(density, 0))
    np.testing.assert_array_equal(found["sh"].values, sh.reshape(*density.shape, 27))
    assert found["density"].geometry == grid.geometry
    assert found["rgba"].values.dtype == np.uint8
    # The colour is what a ray along that direction meets at the samples.
    keep = grid.links != EMPTY
    index = np.argwhere(keep)
    points = grid.box[0] + (index[:, ::-1] + 0.5) * grid.voxel
    seen = grid.colors(points, np.broadcast_to([0.0, -1.0, 0.0], points.shape))
    np.testing.assert_allclose(found["color"].values[keep], np.clip(seen, 0, 1), atol=1e-5)
    assert (found["color"].values[~keep] == 0.5).all()

    # Without a direction: the mean over all of them.
    good("radiance", "export", packed, out, "--force")
    mean = np.mean([grid.colors(points, np.broadcast_to(d, points.shape)) for d in export.spread(500)], axis=0)
    unclipped = (mean > 0.05).all(1) & (mean < 0.95).all(1)
    color = {f.name: f for f in io.read(out)}["color"].values[keep]
    np.testing.assert_allclose(color[unclipped], mean[unclipped], atol=0.02)


def test_export_and_back(packed: Path, photographs: Path, tmp_path: Path) -> None:
    """An image with signed density and harmonics is the field."""
    out = tmp_path / "a.vti"
    volume = files.load(packed)
    grid = volume.model
    assert isinstance(grid, SparseGrid)
    # As training leaves it: densities below zero beside the surface.
    draw = np.random.default_rng(1)
    density = np.where(draw.random(len(grid.density)) < 0.3, -3, grid.density).astype(np.float32)
    trained = replace(volume, model=replace(grid, density=density))
    (tmp_path / "trained.nvc").write_bytes(files.compress(trained, "plenoxels").data)
    trained = files.load(tmp_path / "trained.nvc")
    good("radiance", "export", tmp_path / "trained.nvc", out, "--sh", "--signed")
    again = grid_of(io.read(out)).grid
    test = loaders.load(photographs).split("test")
    before = render_view(evaluation.field_of(trained), test, 0).color
    np.testing.assert_allclose(render_view(again, test, 0).color, before, atol=1e-5)
    good("radiance", "export", tmp_path / "trained.nvc", out, "--sh", "--force")
    assert min(f.values.min() for f in io.read(out) if f.name == "density") == 0


def test_export_at_another_resolution(packed: Path, tmp_path: Path) -> None:
    found = parsed("radiance", "export", packed, tmp_path / "a.vti", "--resolution", 12)
    assert max(found["arrays"][0]["dims"]) == 12
    grid = files.load(packed).model
    assert isinstance(grid, SparseGrid)
    density = {f.name: f for f in io.read(tmp_path / "a.vti")}["density"]
    x, y, z = grid.box[0] + (np.array([5, 4, 3]) + 0.5) * density.geometry.spacing  # pyright: ignore
    expected = max(0, grid.sample(np.array([[x, y, z]]))[0][0])
    assert density.values[3, 4, 5] == pytest.approx(expected, rel=1e-5)
    assert "2 to 2048" in refused("radiance", "export", packed, tmp_path / "b.vti", "--resolution", 1)


def test_export_of_dvgo(dvgo: tuple[DvgoModel, Path], tmp_path: Path) -> None:
    model, path = dvgo
    out = tmp_path / "a.vti"
    good("radiance", "export", path, out, "--direction", 1, 0, 0)
    found = {f.name: f for f in io.read(out)}
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (7, 8, 9)), indexing="ij")
    points = np.stack([x, y, z], -1).reshape(-1, 3)
    density = model.sigma(points).reshape(7, 8, 9)
    keep = found["density"].values > 0
    np.testing.assert_allclose(found["density"].values[keep], density[keep], rtol=1e-5)
    assert density[~keep].max() * 0.25 < 2e-3  # what was left out is hardly there
    seen = model.colors(points, np.broadcast_to([1.0, 0, 0], points.shape)).reshape(7, 8, 9, 3)
    np.testing.assert_allclose(found["color"].values[keep], seen[keep], atol=1e-4)
    geometry = found["density"].geometry
    np.testing.assert_allclose(geometry.origin, (-1, -1, -1), atol=1e-9)  # pyright: ignore

    # Harmonics hold a colour that changes as slowly with the direction as this one nearly exactly.
    good("radiance", "export", path, out, "--sh", "--force")
    grid = grid_of(io.read(out)).grid
    inside = np.array([[0.0, 0.0, 0.0], [0.25, 0.0, 0.0]])
    for direction in export.spread(5):
        towards = np.broadcast_to(direction, inside.shape)
        np.testing.assert_allclose(grid.colors(inside, towards)[0], model.colors(inside, towards)[0], atol=0.03)


def test_export_a_mesh(packed: Path, tmp_path: Path) -> None:
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkIOPLY import vtkPLYReader
    from vtkmodules.vtkIOXML import vtkXMLPolyDataReader

    grid = files.load(packed).model
    assert isinstance(grid, SparseGrid)
    found = parsed("radiance", "export", packed, tmp_path / "a.vtp", "--isovalue", 8)
    reader = vtkXMLPolyDataReader()
    reader.SetFileName(str(tmp_path / "a.vtp"))
    reader.Update()
    mesh = reader.GetOutput()
    assert (mesh.GetNumberOfPoints(), mesh.GetNumberOfCells()) == (found["vertices"], found["triangles"])
    points = vtk_to_numpy(mesh.GetPoints().GetData()).astype(float)
    normals = vtk_to_numpy(mesh.GetPointData().GetNormals()).astype(float)
    colors = vtk_to_numpy(mesh.GetPointData().GetArray("color"))
    density = grid.sample(points)[0]
    assert np.median(np.abs(density - 8)) < 0.5
    ahead, behind = (grid.sample(points + s * 0.3 * grid.voxel[0] * normals)[0] for s in (1, -1))
    assert np.mean(ahead < behind) > 0.99
    seen = np.clip(grid.colors(points, -normals), 0, 1)
    np.testing.assert_allclose(colors / 255, seen, atol=0.01)

    good("radiance", "export", packed, tmp_path / "a.ply", "--isovalue", 8)
    ply = vtkPLYReader()
    ply.SetFileName(str(tmp_path / "a.ply"))
    ply.Update()
    np.testing.assert_array_equal(vtk_to_numpy(ply.GetOutput().GetPointData().GetArray("RGB")), colors)
    good("radiance", "export", packed, tmp_path / "a.obj", "--isovalue", 8, "--direction", 0, 0, 1)
    lines = (tmp_path / "a.obj").read_text().splitlines()
    rows = np.array([line.split()[1:] for line in lines if line.startswith("v ")], float)
    np.testing.assert_allclose(rows[:, :3], points, atol=1e-5)
    along = np.clip(grid.colors(points, np.broadcast_to([0.0, 0.0, 1.0], points.shape)), 0, 1)
    np.testing.assert_allclose(rows[:, 3:], along, atol=0.01)
    assert sum(line.startswith("f ") for line in lines) == found["triangles"]
    # By default the surface lies where a voxel stops half of the light.
    default = parsed("radiance", "export", packed, tmp_path / "b.ply")
    assert default["isovalue"] == pytest.approx(np.log(2) / grid.voxel.min(), rel=1e-3)


def test_export_refuses(packed: Path, tmp_path: Path) -> None:
    ask = ("radiance", "export", packed)
    assert "expected a name that ends in .vti" in refused(*ask, tmp_path / "a.stl")
    assert "leave out --sh" in refused(*ask, tmp_path / "a.ply", "--sh")
    assert "--isovalue is for meshes" in refused(*ask, tmp_path / "a.vti", "--isovalue", 3)
    assert "no surface at 1e+06" in refused(*ask, tmp_path / "a.ply", "--isovalue", 1e6)
    assert "positive density" in refused(*ask, tmp_path / "a.ply", "--isovalue", -1)
    assert "not all zero" in refused(*ask, tmp_path / "a.vti", "--direction", 0, 0, 0)
    assert names(tmp_path) == []


# ----------------------------------------------------------------------------------------------------------- train


def test_train(photographs: Path, tmp_path: Path) -> None:
    out, checkpoint, preview = tmp_path / "a.nvc", tmp_path / "a.ckpt", tmp_path / "previews"
    ask = ("radiance", "train", photographs, out, *TINY, "--set", "steps=60", "--checkpoint", checkpoint)
    found = parsed(*ask, "--preview", preview)
    assert found["images"] == 8
    assert found["unseen_views"] == 2
    volume, test = files.load(out), loaders.load(photographs).split("test")
    assert found["psnr"] == pytest.approx(evaluation.mean_psnr(volume, test), abs=1e-4)
    assert volume.psnr == pytest.approx(found["psnr"], abs=1e-3)
    # Better than the best picture of one colour.
    plain = np.mean([quality.psnr(np.broadcast_to(c.mean((0, 1)), c.shape), c) for c in map(test.colors, range(2))])
    assert found["psnr"] > plain + 2
    assert not checkpoint.exists()
    assert {"latest.png", "step_000060.png"} <= set(names(preview))
    drawn = images.read(preview / "latest.png")
    assert drawn.shape == (24, 48, 3)
    np.testing.assert_array_equal(drawn[:, :24], images.to_uint8(test.colors(1)))
    text = good(*ask, "--force", "--evaluate", "0").stdout
    assert "voxels" in text
    assert "PSNR" not in text
    assert files.load(out).psnr is None


def test_a_stopped_training_goes_on(photographs: Path, tmp_path: Path) -> None:
    whole, out, checkpoint = tmp_path / "whole.nvc", tmp_path / "a.nvc", tmp_path / "a.ckpt"
    ask = ("radiance", "train", photographs)
    steps = ("--set", "steps=80", *TINY)
    good(*ask, whole, *steps)
    sentence = refused(*ask, out, *steps, "--checkpoint", checkpoint, "--time-limit", "0.05", code=3)
    assert f"'{checkpoint}' goes on from here; nothing else was written" in sentence
    assert checkpoint.exists()
    assert not out.exists()
    good(*ask, out, *steps, "--checkpoint", checkpoint)
    a, b = files.load(whole), files.load(out)
    assert files.same_model(a.model, b.model)
    assert not checkpoint.exists()
    sentence = refused(*ask, tmp_path / "b.nvc", *steps, "--time-limit", "0.05", code=3)
    assert "--checkpoint lets a run go on" in sentence
    sentence = refused(*ask, tmp_path / "b.nvc", *steps, "--time-limit", "0.05", "--keep-best", code=3)
    assert "the model so far is in" in sentence
    assert isinstance(files.load(tmp_path / "b.nvc").model, SparseGrid)


def test_stopped_while_it_compresses(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is trained is not lost."""
    compress, calls = files.compress, []

    def stopped_once(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            raise TimeLimitReached("the time limit", best=b"half a stream")
        return compress(*arguments)

    monkeypatch.setattr(files, "compress", stopped_once)
    ask = ("radiance", "train", photographs, tmp_path / "a.nvc", *TINY, "--set", "steps=5", "--keep-best")
    assert "the model so far is in" in refused(*ask, code=3)
    assert isinstance(files.load(tmp_path / "a.nvc").model, SparseGrid)


def test_ctrl_c_keeps_the_checkpoint(photographs: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "a.ckpt"
    arguments = ("radiance", "train", photographs, tmp_path / "a.nvc", *TINY, "--set", "steps=1000000")
    command = [sys.executable, "-m", "neurcomp_cli", *map(str, arguments), "--checkpoint", str(checkpoint)]
    preview = tmp_path / "previews"
    process = subprocess.Popen([*command, "--preview", str(preview)], stderr=subprocess.PIPE, text=True)
    # Kernels load in the first step; the first message of the log says that there has been one.
    assert process.stderr is not None
    line = process.stderr.readline()
    assert re.search(r"step \d+/1000000", line)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 130, text
    assert "Traceback" not in text
    assert "goes on from here" in text
    assert names(tmp_path) == ["a.ckpt", "previews"]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        (
            "dvgo",
            "coarse_steps=8 fine_steps=8 coarse_batch=64 fine_batch=64 resolution=10 coarse_resolution=8 channels=3",
        ),
        ("nerf", "steps=6 batch=32 width=8 depth=2 warm_up=2"),
    ],
)
def test_other_models(photographs: Path, tmp_path: Path, name: str, settings: str) -> None:
    out = tmp_path / "a.nvc"
    given = [text for setting in settings.split() for text in ("--set", setting)]
    run_it = ("--preset", "fast", "--device", "cpu", "--evaluate", "1", *ONE)
    found = parsed("radiance", "train", photographs, out, "--model", name, *given, *run_it)
    assert (found["codec"], found["unseen_views"]) == (name, 1)
    assert parsed("radiance", "evaluate", out, photographs, "--views", 1)["views"][0]["psnr"] > 3
    good("radiance", "export", out, tmp_path / "a.vti", "--resolution", 8)
    good("radiance", "render", out, "-o", tmp_path / "a.png", "--path", "circle", "--views", 1, "--size", 8, 8)


def test_train_a_forward_facing_set(facing: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.nvc"
    found = parsed("radiance", "train", facing, out, *TINY, "--set", "steps=20", "--holdout", "5")
    assert found["images"] == 8
    assert files.load(out).scene == "forward-facing"
    good("radiance", "render", out, "-o", tmp_path / "sway.gif", "--views", 2, "--size", 16, 16)
    notes = parsed("radiance", "export", out, tmp_path / "a.vti")["notes"]
    assert any("normalised device coordinates" in note for note in notes)


def test_train_refuses(photographs: Path, packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.nvc"
    ask = ("radiance", "train", photographs, out)
    assert "expected one of plenoxels, dvgo, nerf" in refused(*ask, "--model", "gaussians")
    assert "--preset: model plenoxels has fast, balanced, full, got 'huge'" in refused(*ask, "--preset", "huge")
    assert "model plenoxels has no parameter 'depht'; it has: size, levels" in refused(*ask, "--set", "depht=3")
    assert "--set steps: expected a whole number, got 'many'" in refused(*ask, "--set", "steps=many")
    assert "model dvgo has no parameter 'steps'; it has: coarse_steps" in refused(
        *ask, "--model", "dvgo", "--set", "steps=3"
    )
    assert "no set of posed images" in refused("radiance", "train", tmp_path, out)
    assert "--force" in refused("radiance", "train", photographs, packed)
    assert "a factor of at least 1" in refused(*ask, "--downscale", "0.5")
    assert "the set has no val images" in refused(*ask, "--split", "val")
    assert "is a file; give a folder" in refused(*ask, "--preview", packed)
    assert "does not exist" in refused(*ask, "--checkpoint", tmp_path / "no" / "a.ckpt")
    (tmp_path / "odd.ckpt").write_text("?")
    assert "no checkpoint that can be read" in refused(*ask, *TINY, "--checkpoint", tmp_path / "odd.ckpt")
    assert "expected auto, cpu or cuda" in refused(*ask, "--device", "tpu")
    assert run("radiance", "train", photographs).exit_code == 2
    assert names(tmp_path) == ["odd.ckpt"]


def test_parameters_of_recipes() -> None:
    plenoxels = trainers.parameters(trainers.trainer("plenoxels").recipe)
    assert {"size", "steps", "borders"} <= set(plenoxels)
    dvgo = trainers.trainer("dvgo").recipe
    assert {"coarse_steps", "fine_rate_network", "resolution"} <= set(trainers.parameters(dvgo))
    made = dvgo.from_preset("fast", coarse_steps=10, fine_steps=20, coarse_batch=3, fine_batch=5)
    assert [trainers.rays_until(made, step) for step in (0, 4, 12)] == [0, 12, 40]


@pytest.mark.parametrize("command", ["train", "import", "render", "evaluate", "export"])
def test_help(command: str) -> None:
    assert f"  neurcomp radiance {command} " in good("radiance", command, "--help").stdout


# -------------------------------------------------------------------------------------------------------- ParaView


@pytest.mark.paraview
@pytest.mark.parametrize("kind", ["vti", "nvc"])
def test_paraview_draws_a_field_in_its_colours(packed: Path, tmp_path: Path, kind: str) -> None:
    given = packed
    if kind == "vti":
        given = tmp_path / "a.vti"
        good("radiance", "export", packed, given, "--rgba")
    volume = files.load(packed)
    around = viewpoints.along(volume, "circle", 1, (80, 80))
    pose = around.cameras[0].pose
    numbers = [f"{v:.6f}" for v in pose[:3, 3]], [f"{v:.6f}" for v in volume.box.mean(0)]
    picture = tmp_path / "a.png"
    script = Path(__file__).parent.parent / "scripts" / "render_radiance.py"
    command = [sys.executable, "-m", "neurcomp_cli", "pvpython", script, given, "-o", picture, "--size", "80"]
    command += ["--position", *numbers[0], "--focus", *numbers[1], "--angle", str(np.degrees(viewpoints.ANGLE))]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    ours = np.clip(render_view(evaluation.field_of(volume), around, 0).color, 0, 1)
    # One colour from everywhere, eight bits of opacity: close, not equal.
    assert quality.psnr(images.read(picture) / 255, ours) > 25
    bad = subprocess.run(
        [*map(str, command[:5]), str(tmp_path / "no.vti"), "-o", str(picture)], capture_output=True, text=True
    )
    assert bad.returncode == 2
    assert "there is no such file" in bad.stderr
    assert "Traceback" not in bad.stderr


# ------------------------------------------------------------------------------------------------------------ demo


def test_the_demo_writes_all_and_fails_loudly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PIXELS", 24), ("VIEWS", 6), ("TEST_VIEWS", 2), ("VOXELS", 16)):
        monkeypatch.setattr(demo_radiance, name, value)
    monkeypatch.setattr(demo_radiance, "SETTINGS", {"steps": 30, "levels": 1, "rays": 256})
    monkeypatch.setenv("PVPYTHON", str(tmp_path / "no-pvpython"))
    folder = tmp_path / "out"
    with pytest.raises(Exception, match=r"the demo failed: .* dB on unseen views, expected at least 30 dB"):
        demo_radiance.demo(folder)
    assert {"photographs", "scene.nvc", "scene.vti", "worst-view.png", "rendered.png"} <= set(names(folder))
    assert images.read(folder / "rendered.png").shape == (400, 400, 3)
