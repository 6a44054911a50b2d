"""Radiance fields in ParaView's programs: opened, shown as volumes in their own colours, rendered, saved."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import paraview_env as pv
import pytest

from neurcomp_core.radiance import evaluation, files, scene_sets
from neurcomp_core.radiance.cameras import Camera, Intrinsics
from neurcomp_core.radiance.codec import radiance_codec_by_name
from neurcomp_core.radiance.grids import SparseGrid
from neurcomp_core.radiance.images import read, to_uint8
from neurcomp_core.radiance.poses import look_at
from neurcomp_core.radiance.rendering.views import render
from neurcomp_core.radiance.scenes import scene
from neurcomp_core.radiance.volume import RadianceVolume

pytestmark = pytest.mark.paraview

SCRIPTS = Path(__file__).parent.parent / "scripts"
SCRIPT = SCRIPTS / "radiance_pictures.py"
POSITION, SIDE = (1.9, -2.3, 1.2), 120
SETUP = f"""
from paraview.simple import *
from neurcomp_filters.scripting import checked
import json
field = OpenDataFile("object.nvc")
def view_of(background):
    view = CreateRenderView(ViewSize=[{SIDE}, {SIDE}], OrientationAxesVisibility=0, UseColorPaletteForBackground=0)
    view.Background = background
    SetActiveView(view)
    return view
def aim(view):
    view.CameraPosition, view.CameraFocalPoint, view.CameraViewUp = {list(POSITION)}, [0, 0, 0], [0, 0, 1]
    view.CameraViewAngle = 30
"""


@pytest.fixture(scope="module")
def grid() -> SparseGrid:
    return scene("inward").grid(40)


@pytest.fixture
def folder(grid: SparseGrid, tmp_path: Path) -> Path:
    """With a file that has the field to the bit."""
    volume = RadianceVolume(grid, grid.box)
    made = files.compress(volume, radiance_codec_by_name("plenoxels").from_preset("lossless"))
    assert made.lossless
    (tmp_path / "object.nvc").write_bytes(made.data)
    return tmp_path


def pvpython(folder: Path, text: str) -> str:
    """Output of a program that ran well, with a display."""
    done = pv.run([pv.program("pvpython"), str(pv.script(folder, text))], folder, pv.environment(folder), display=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def results(output: str) -> dict:
    """What a program printed as its last line."""
    return json.loads(output.strip().splitlines()[-1])


def truth(grid: SparseGrid, background: tuple[float, float, float]) -> np.ndarray:
    """The picture of this project's renderer, `SIDE` pixels square."""
    pose = look_at(np.array(POSITION), np.zeros(3), np.array([0.0, 0, 1]))
    camera = Camera(Intrinsics.from_angle(np.radians(30), SIDE, SIDE), pose)
    return to_uint8(render(grid, camera, background).color)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(max(np.mean((a / 255.0 - b / 255.0) ** 2), 1e-12)))


def test_volume_and_render_show_the_field(folder: Path, grid: SparseGrid) -> None:
    """As a volume it looks as it should, and Radiance Render with the view's camera gives the renderer's picture."""
    found = results(
        pvpython(
            folder,
            SETUP
            + f"""
with checked():
    field.ViewDirection = {[-v for v in POSITION]}
    field.UpdatePipeline()
    view = view_of([1.0, 0.9, 0.8])
    field.SMProxy.InvokeCommand("ShowAsVolume")
    aim(view)
    Render(view)
    SaveScreenshot("volume.png", view)
    drawn = RadianceRender(Input=field, ImageSize=[{SIDE}, {SIDE}])
    drawn.SMProxy.InvokeCommand("CopyCamera")
    SaveData("render.png", proxy=drawn)
    SaveData("render.vti", proxy=drawn)
    Hide(field, view)
    drawn.SMProxy.InvokeCommand("ShowPicture")
    aim(view)
    Render(view)
    SaveScreenshot("picture.png", view)
    SaveState("state.pvsm")
print(json.dumps({{
    "arrays": sorted(field.PointData.keys()), "offered": list(field.PointArrays),
    "extent": field.GetDataInformation().GetExtent(), "camera": list(drawn.CameraPosition),
    "background": list(drawn.Background), "picture": sorted(drawn.PointData.keys()),
    "bounds": drawn.GetDataInformation().GetBounds(), "bytes": field.FieldData["neurcomp_bytes"].GetRange()[0],
    "properties": sorted(drawn.ListProperties()),
}}))
""",
        )
    )
    z, y, x = grid.links.shape
    assert found["extent"] == [0, x - 1, 0, y - 1, 0, z - 1]
    assert found["arrays"] == sorted(found["offered"]) == ["color", "density", "rgba"]
    assert found["picture"] == ["depth", "opacity", "rgb"]
    assert found["bytes"] == (folder / "object.nvc").stat().st_size
    assert found["camera"] == pytest.approx(POSITION)
    assert found["background"] == pytest.approx([1.0, 0.9, 0.8])
    assert {"DensityArray", "ColorArray", "SphericalHarmonicsArray", "ImageSize", "From"} <= set(found["properties"])
    # It stands at the focal point, across the line of sight.
    assert np.mean(np.reshape(found["bounds"], (3, 2)), axis=1) == pytest.approx([0, 0, 0], abs=1e-6)
    expected = truth(grid, (1.0, 0.9, 0.8))
    rendered, volume, picture = (read(folder / f"{name}.png")[..., :3] for name in ("render", "volume", "picture"))
    assert np.abs(rendered.astype(int) - expected).max() <= 1
    assert psnr(volume, expected) > 30
    # Through the texture of a plane in the scene.
    assert psnr(picture[1:-1, 1:-1], expected[1:-1, 1:-1]) > 35
    # And again, from the state.
    pvpython(
        folder,
        "from paraview.simple import *\n"
        "from neurcomp_filters.scripting import checked\n"
        "with checked():\n"
        "    LoadState('state.pvsm')\n"
        "    SaveScreenshot('again.png', GetRenderViews()[0])\n",
    )
    assert psnr(read(folder / "again.png")[..., :3], picture) > 35


def test_compress_save_and_any_image(folder: Path, grid: SparseGrid) -> None:
    found = results(
        pvpython(
            folder,
            SETUP
            + """
with checked():
    made = RadianceCompress(Input=field, Codec="plenoxels", Target="Compression Ratio", Ratio=30, FileName="beside.nvc")
    made.UpdatePipeline()
    table = servermanager.Fetch(made, idx=1)
    SaveData("saved.nvc", proxy=made)
    SaveData("again.nvc", proxy=field)
    SaveData("open.vti", proxy=field, PointDataArrays=["density", "color", "rgba"])
    drawn = RadianceRender(Input=OpenDataFile("open.vti"), ImageSize=[60, 40])
    drawn.UpdatePipeline()
    view = view_of([1.0, 1.0, 1.0])
    made.SMProxy.InvokeCommand("ShowAsVolume")
    aim(view)
    Render(view)
    SaveScreenshot("decoded.png", view)
    double = Calculator(Input=field, ResultArrayName="thick", Function="density*2")
    thick = RadianceRender(Input=double, DensityArray="thick", From="Arrays", ImageSize=[60, 40])
    thick.UpdatePipeline()
print(json.dumps({
    "ratio": made.FieldData["neurcomp_ratio"].GetRange()[0], "psnr": made.FieldData["neurcomp_psnr"].GetRange()[0],
    "columns": [table.GetColumnName(i) for i in range(table.GetNumberOfColumns())],
    "opacity": [d.PointData["opacity"].GetRange()[1] for d in (drawn, thick)],
}))
""",
        )
    )
    assert 30 <= found["ratio"] < 40
    assert found["psnr"] > 30
    assert found["columns"][:2] == ["stage", "bytes"]
    saved = (folder / "saved.nvc").read_bytes()
    assert saved == (folder / "beside.nvc").read_bytes()
    assert (folder / "again.nvc").read_bytes() == (folder / "object.nvc").read_bytes()
    assert files.load(saved).model.links.shape == grid.links.shape  # type: ignore[union-attr]
    assert 0.9 < found["opacity"][0] <= found["opacity"][1]
    assert psnr(read(folder / "decoded.png")[..., :3], truth(grid, (1.0, 1.0, 1.0))) > 25


@pytest.mark.skipif(shutil.which("mpiexec") is None, reason="needs mpiexec")
def test_parallel_run_renders_the_whole(folder: Path, grid: SparseGrid) -> None:
    """Each process reads its piece; the first one has the picture of all."""
    program = (
        SETUP
        + f"""
import numpy as np
from neurcomp_filters.bridge import fields_from_vtk
from neurcomp_filters.pieces import process
with checked():
    field.PointArrays = ["density", "sh"]
    drawn = RadianceRender(Input=field, ImageSize=[{SIDE}, {SIDE}], CameraPosition={list(POSITION)})
    drawn.UpdatePipeline()
output = drawn.SMProxy.GetClientSideObject().GetOutputDataObject(0)
if process() == (0, 2):
    np.save("parallel.npy", fields_from_vtk(output)[0].values)
else:
    assert output.GetNumberOfPoints() == 0
"""
    )
    launch = ["mpiexec", "--allow-run-as-root", "--oversubscribe", "-n", "2", pv.program("pvbatch"), "--sym"]
    done = pv.run([*launch, str(pv.script(folder, program))], folder, pv.environment(folder))
    assert done.returncode == 0, done.stdout
    picture = np.load(folder / "parallel.npy")
    np.testing.assert_array_equal(picture[0, ::-1], truth(grid, (1.0, 1.0, 1.0)))


def test_on_a_server(folder: Path, grid: SparseGrid) -> None:
    """Reading and rendering happen there; buttons, which are the client's, say that they do not work."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [pv.program("pvserver"), f"--server-port={port}"]
    env = pv.environment(folder, autoload=False)
    log = folder / "server.log"
    with log.open("w") as out, subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=out) as server:
        try:
            end = time.monotonic() + 100
            while "Accepting connection" not in log.read_text() and time.monotonic() < end:
                time.sleep(0.2)
            code = f"""
            from paraview.simple import *
            Connect("localhost", {port})
            LoadPlugin({str(pv.PLUGIN)!r}, remote=True, ns=globals())
            field = OpenDataFile("object.nvc")
            drawn = RadianceRender(Input=field, ImageSize=[{SIDE}, {SIDE}], CameraPosition={list(POSITION)})
            SaveData("remote.png", proxy=drawn)
            field.SMProxy.InvokeCommand("ShowAsVolume")
            drawn.SMProxy.InvokeCommand("CopyCamera")
            print("still here", field.GetDataInformation().GetNumberOfPoints())
            """
            client = [pv.program("pvpython"), str(pv.script(folder, code))]
            done = pv.run(client, folder, pv.plain_environment(folder), display=True)
            server.wait(60)  # it ends with its client, and writes its log
        finally:
            server.kill()
    assert done.stdout.strip().endswith(f"still here {grid.links.size}"), done.stdout + log.read_text()
    assert log.read_text().count("buttons work with the built-in server only") == 2
    np.testing.assert_array_equal(read(folder / "remote.png")[..., :3], truth(grid, (1.0, 1.0, 1.0)))


def test_pictures_program(folder: Path) -> None:
    command = [pv.program("pvpython"), str(SCRIPT), "object.nvc", "-o", "pictures", "--views", "2", "--size", "100"]
    done = pv.run([*command, "--vti", "field.vti", "--sh"], folder, pv.environment(folder), display=True)
    assert done.returncode == 0, done.stdout
    names = sorted(path.name for path in (folder / "pictures").iterdir())
    assert names == ["render_000.png", "render_001.png", "volume_000.png", "volume_001.png"]
    for number in range(2):
        volume, rendered = (read(folder / "pictures" / f"{kind}_00{number}.png") for kind in ("volume", "render"))
        assert psnr(volume[..., :3], rendered[..., :3]) > 28
        assert f"{psnr(volume[..., :3], rendered[..., :3]):.2f} dB" in done.stdout
    first, second = (read(folder / "pictures" / f"render_00{i}.png") for i in range(2))
    assert psnr(first, second) < 25
    from neurcomp_filters import io

    assert [f.name for f in io.read(folder / "field.vti")] == ["density", "color", "rgba", "sh"]


def test_compare_program(folder: Path, grid: SparseGrid) -> None:
    """Two fields beside each other: pictures, figures, and a state whose views stay linked."""
    made = files.compress(RadianceVolume(grid, grid.box), radiance_codec_by_name("plenoxels").from_preset("small"))
    (folder / "small.nvc").write_bytes(made.data)
    options = ["-o", "pictures", "--compare", "small.nvc", "--state", "both.pvsm", "--views", "2", "--size", "100"]
    command = [pv.program("pvpython"), str(SCRIPT), "object.nvc", *options]
    done = pv.run(command, folder, pv.environment(folder), display=True)
    assert done.returncode == 0, done.stdout
    pictures = folder / "pictures"
    kinds = ("compare", "other", "render", "views")
    assert sorted(p.name for p in pictures.iterdir()) == [f"{k}_00{n}.png" for k in kinds for n in range(2)]
    for number in range(2):
        first, other = (read(pictures / f"{kind}_00{number}.png").astype(int) for kind in ("render", "other"))
        shown = np.split(read(pictures / f"compare_00{number}.png").astype(int), 3, axis=1)
        np.testing.assert_array_equal(shown[:2], [first, other])
        np.testing.assert_array_equal(shown[2], np.minimum(4 * np.abs(first - other), 255))
        assert f"{psnr(first, other):.2f} dB" in done.stdout
        # As volumes; the name is below, and a line between.
        views = read(pictures / f"views_00{number}.png")[:75, :, :3]
        assert psnr(views[:, 2:98], first[:75, 2:98]) > 26
        assert psnr(views[:, -98:-2], other[:75, 2:98]) > 26
    assert f"object.nvc: {(folder / 'object.nvc').stat().st_size} bytes" in done.stdout
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    found = results(
        pvpython(
            elsewhere,
            """
from paraview.simple import *
from neurcomp_filters.scripting import checked
import json, paraview.simple
paraview.simple._DisableFirstRenderCameraReset()
with checked():
    LoadState("../both.pvsm")
    views = GetRenderViews()
    SaveScreenshot("again.png", GetLayout(views[0]))
    views[0].CameraPosition = [4, 1, 2]
    Render(views[0])
print(json.dumps([view.GetActiveCamera().GetPosition() for view in views]))
""",
        )
    )
    assert found == [[4, 1, 2]] * 2
    assert psnr(read(elsewhere / "again.png")[..., :3], read(pictures / "views_000.png")[..., :3]) > 30


def test_from_images_program(tmp_path: Path) -> None:
    """Photographs in, a small file, VTI and pictures out; figures are those of the files."""
    data = scene_sets.write(scene_sets.scene_set("inward", size=40, views=14, test_views=2), tmp_path / "photographs")
    quick = ["size=24", "levels=1", "borders=", "steps=120", "rays=512"]
    command = [pv.program("pvpython"), str(SCRIPTS / "radiance_from_images.py"), "photographs", "-o", "scene"]
    command += [part for text in quick for part in ("--set", text)]
    command += ["--preset", "fast", "--codec-preset", "fast", "--codec-set", "tune=20", "--codec-set", "rounds=10"]
    command += ["--ratio", "50", "--views", "1", "--threads", "1"]
    done = pv.run(command, tmp_path, pv.environment(tmp_path), display=True)
    assert done.returncode == 0, done.stdout
    scene_folder = tmp_path / "scene"
    whole, packed = (files.load(scene_folder / f"{name}.nvc") for name in ("uncompressed", "compressed"))
    size = (scene_folder / "compressed.nvc").stat().st_size
    assert 0.97 * whole.nbytes / 50 <= size <= whole.nbytes / 50
    assert f"{size:,} bytes" in done.stdout
    unseen = data.split("test")
    measured = evaluation.mean_psnr(packed, unseen)
    assert packed.psnr == pytest.approx(measured, abs=1e-3)
    assert measured > 17
    middle = evaluation.spread(1, 2)[0]
    grid_of = np.split(read(scene_folder / "view_000.png").astype(int), 2)
    above, below = (np.split(row, 3, axis=1) for row in grid_of)
    truth = to_uint8(unseen.colors(middle))
    np.testing.assert_array_equal(above[0], truth)
    for volume, picture, drawn in zip((whole, packed), above[1:], below[1:], strict=True):
        _, figures, view = next(evaluation.evaluate(volume, unseen, [middle]))
        np.testing.assert_allclose(picture, to_uint8(view.color), atol=1)
        assert f"{figures.psnr:.2f} dB" in done.stdout
        # ParaView's camera is the photograph's.
        assert psnr(drawn, picture) > 20 > psnr(drawn[:, ::-1], picture)
    error = np.abs(above[2] - above[0])
    assert np.abs(below[0] - np.minimum(4 * error, 255)).max() <= 8  # rounded before and after
    for name in ("compressed", "uncompressed"):
        assert f"{psnr(read(scene_folder / f'{name}_000.png'), truth):.2f} dB" in done.stdout
    from neurcomp_filters import io

    assert [f.name for f in io.read(scene_folder / "field.vti")] == ["density", "color", "rgba"]
    assert "CameraLink" in (scene_folder / "compare.pvsm").read_text()


def test_from_images_program_checks_before_it_trains(tmp_path: Path) -> None:
    command = [pv.program("pvpython"), str(SCRIPTS / "radiance_from_images.py"), "photographs", "-o", "scene"]
    done = pv.run([*command, "--codec", "nerf"], tmp_path, pv.environment(tmp_path), display=True)
    assert done.returncode == 2, done.stdout
    assert "nerf does not take what plenoxels trains; vqrf and plenoxels do" in done.stdout.splitlines()[-1]


def test_pictures_program_refuses_other_files(folder: Path) -> None:
    (folder / "broken.nvc").write_bytes(b"nothing")
    for name, sentence, code in (
        ("broken.nvc", "broken.nvc is not a NeurComp file", 1),
        ("missing.nvc", "there is no such file", 2),
    ):
        command = [pv.program("pvpython"), str(SCRIPT), name, "-o", "pictures"]
        done = pv.run(command, folder, pv.environment(folder), display=True)
        assert done.returncode == code, done.stdout
        assert sentence in done.stdout.splitlines()[-1]
