"""Radiance fields in plain VTK: as arrays and back, their reader, pictures of them, and compressing them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkOutputWindow, vtkStringOutputWindow
from vtkmodules.vtkCommonDataModel import vtkDataObject, vtkDataSet, vtkDataSetAttributes, vtkImageData
from vtkmodules.vtkCommonExecutionModel import vtkTrivialProducer

from neurcomp_core import container
from neurcomp_core.container import Container, Header
from neurcomp_core.errors import InputError
from neurcomp_core.field import Field, RectilinearGrid, UniformGrid
from neurcomp_core.pipeline import compress as compress_arrays
from neurcomp_core.pipeline import decompress
from neurcomp_core.radiance import evaluation, export, files, scene_sets, spherical_harmonics
from neurcomp_core.radiance.cameras import Camera, Intrinsics
from neurcomp_core.radiance.codec import radiance_codec_by_name
from neurcomp_core.radiance.grids import SparseGrid
from neurcomp_core.radiance.images import to_uint8
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.poses import look_at
from neurcomp_core.radiance.rendering.fields import DvgoField
from neurcomp_core.radiance.rendering.frames import Rays
from neurcomp_core.radiance.rendering.views import render, render_rays
from neurcomp_core.radiance.scenes import scene
from neurcomp_core.radiance.volume import RadianceVolume
from neurcomp_core.target import Ratio
from neurcomp_filters.bridge import GHOSTS, fields_from_vtk, vtk_from_fields
from neurcomp_filters.radiance_camera import VtkCamera
from neurcomp_filters.radiance_compress import RadianceCompress
from neurcomp_filters.radiance_image import Names, alpha_length, opacity_points, rgba, to_grid, to_volume
from neurcomp_filters.radiance_render import RadianceRender
from neurcomp_filters.reader import NvcReader
from neurcomp_filters.writer import NvcWriter

POSITION = (2.2, -2.6, 1.4)
SIZE = (48, 36)
#: A rotation about no axis of the world.
TURN = np.array([[2.0, -1, 2], [2, 2, -1], [-1, 2, 2]]) / 3


@pytest.fixture(scope="module")
def grid() -> SparseGrid:
    return scene("inward").grid(24)


@pytest.fixture(scope="module")
def file(grid: SparseGrid, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("radiance") / "object.nvc"
    path.write_bytes(lossless(grid, background=(0.0, 0.0, 0.0), name="object", psnr=31.5))
    return path


@pytest.fixture(autouse=True)
def window() -> vtkStringOutputWindow:
    """Messages, which would else go to stderr."""
    messages = vtkStringOutputWindow()
    vtkOutputWindow.SetInstance(messages)
    return messages


def lossless(grid: SparseGrid, **about: Any) -> bytes:
    """A file that has a field to the bit."""
    made = files.compress(
        RadianceVolume(grid, grid.box, **about), radiance_codec_by_name("plenoxels").from_preset("lossless")
    )
    assert made.lossless
    return made.data


def image_of(grid: SparseGrid, sh: bool = True) -> vtkImageData:
    image = vtk_from_fields(export.fields(grid, sh=sh))
    assert isinstance(image, vtkImageData)
    return image


def reader_of(*paths: Path) -> NvcReader:
    reader = NvcReader()
    for path in paths:
        reader.AddFileName(str(path))
    return reader


def read(reader: NvcReader) -> vtkDataSet:
    reader.Update()
    assert reader.GetErrorText() == ""
    output = reader.GetOutputDataObject(0)
    assert isinstance(output, vtkDataSet)
    return output


def arrays(data: vtkDataObject) -> dict[str, Field]:
    return {f.name: f for f in fields_from_vtk(data)}


def figure(data: vtkDataObject, name: str) -> float:
    return data.GetFieldData().GetArray(f"neurcomp_{name}").GetComponent(0, 0)


def pixels(render: RadianceRender) -> np.ndarray:
    """``(height, width, 3)`` uint8, the upper row first."""
    render.Update()
    assert render.GetErrorText() == ""
    return arrays(render.GetOutputDataObject(0))["rgb"].values[0, ::-1]


def renderer(source: object) -> RadianceRender:
    """At `POSITION`, of a reader or of an image."""
    made = RadianceRender()
    if isinstance(source, vtkDataObject):
        made.SetInputDataObject(0, source)
    else:
        made.SetInputConnection(source.GetOutputPort())  # type: ignore[attr-defined]
    made.SetImageSize(*SIZE)
    made.SetCameraPosition(*POSITION)
    made.SetBackground(0.2, 0.4, 0.6)
    return made


def lens() -> Intrinsics:
    """VTK's camera of 30 degrees."""
    focal = SIZE[1] / 2 / np.tan(np.radians(15))
    return Intrinsics(*SIZE, focal, focal, SIZE[0] / 2, SIZE[1] / 2)


def expected(grid: SparseGrid) -> np.ndarray:
    """The picture of `renderer`."""
    pose = look_at(np.array(POSITION), np.zeros(3), np.array([0.0, 0, 1]))
    return to_uint8(render(grid, Camera(lens(), pose), (0.2, 0.4, 0.6)).color)


def off(a: np.ndarray, b: np.ndarray) -> int:
    """Largest difference of two pictures in steps of 1/255."""
    return int(np.abs(a.astype(int) - b.astype(int)).max())


# ----------------------------------------------------------------------------------------------------- images as fields


def test_arrays_are_the_field(grid: SparseGrid) -> None:
    back = to_volume(image_of(grid)).model
    assert isinstance(back, SparseGrid)
    np.testing.assert_allclose(back.box, grid.box, rtol=0, atol=1e-12)
    for mine, original in zip(back.dense(), grid.dense(), strict=True):
        np.testing.assert_array_equal(mine, original)


def test_colours_stand_for_themselves(grid: SparseGrid) -> None:
    """Floats, bytes and RGBA give one picture, whatever colour there is where nothing is."""
    density, color = export.fields(grid)
    shown = []
    for values in (
        color.values,
        to_uint8(color.values),
        np.concatenate([to_uint8(color.values), np.zeros((*density.values.shape, 1), np.uint8)], -1),
        np.rint(color.values * 65535).astype(np.uint16),
    ):
        image = vtk_from_fields([density, replace(color, values=values)])
        shown.append(pixels(renderer(image)))
    assert max(off(shown[0], other) for other in shown[1:]) <= 1
    # Beside the surface, colours are interpolated; farther off they count for nothing.
    for kept, counts in ((density.values > 0, True), (_near(density.values > 0), False)):
        black = replace(color, values=np.where(kept[..., None], color.values, 0).astype(np.float32))
        image = vtk_from_fields([density, black])
        assert (off(shown[0], pixels(renderer(image))) > 0) == counts
        assert len(to_grid(image).grid.density) <= np.count_nonzero(_near(density.values > 0)) < density.values.size


def _near(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1)
    z, y, x = mask.shape
    return np.any([padded[i : i + z, j : j + y, k : k + x] for i, j, k in np.ndindex(3, 3, 3)], axis=0)


def test_cells_fill_their_box(grid: SparseGrid) -> None:
    """Samples of cells lie at their centres, as those of a sparse grid do: the same field on the grid of its faces."""
    z, y, x = grid.links.shape
    low, voxel = tuple(grid.box[0].tolist()), tuple(grid.voxel.tolist())
    faces = UniformGrid((0, x, 0, y, 0, z), low, voxel)
    fields = [replace(f, geometry=faces, association="cell") for f in export.fields(grid, sh=True)]
    back = to_grid(vtk_from_fields(fields)).grid
    np.testing.assert_allclose(back.box, grid.box, rtol=0, atol=1e-12)
    assert off(pixels(renderer(vtk_from_fields(fields))), expected(grid)) == 0


def test_samples_without_a_value_are_empty(grid: SparseGrid) -> None:
    image = image_of(grid)
    density = vtk_to_numpy(image.GetPointData().GetArray("density"))
    where = np.flatnonzero(density > 1)[:3]
    hidden = np.zeros(density.shape, np.uint8)
    hidden[where[0]] = vtkDataSetAttributes.HIDDENPOINT
    density[where[1]] = np.nan
    vtk_to_numpy(image.GetPointData().GetArray("sh"))[where[2], 5] = np.inf
    ghosts = numpy_to_vtk(hidden, deep=True)
    ghosts.SetName(GHOSTS)
    image.GetPointData().AddArray(ghosts)
    links = to_grid(image).grid.links.reshape(-1)
    assert (links[where] < 0).all()
    assert (links >= 0).sum() == (grid.links >= 0).sum() - 3


def test_a_turned_image_is_the_turned_field(grid: SparseGrid) -> None:
    """Its picture is that of rays turned back, with the colours of the world's directions."""
    direction = tuple(TURN.reshape(-1).tolist())
    fields = export.fields(grid, sh=True)
    geometry = fields[0].geometry
    assert isinstance(geometry, UniformGrid)
    origin = tuple((TURN @ geometry.origin).tolist())
    place = replace(geometry, origin=origin, direction=direction)
    turned = vtk_from_fields([replace(f, geometry=place) for f in fields])
    origins, directions = VtkCamera(POSITION, width=SIZE[0], height=SIZE[1]).rays()
    rays = Rays(origins @ TURN, directions @ TURN, views=directions)
    truth = to_uint8(render_rays(grid, rays, (0.2, 0.4, 0.6)).color).reshape(SIZE[1], SIZE[0], 3)
    assert off(pixels(renderer(turned)), truth) == 0
    with pytest.raises(InputError, match=r"axes are rotated .* Resample To Image"):
        to_volume(turned)


def test_what_is_no_field_is_refused(grid: SparseGrid) -> None:
    image = image_of(grid)
    cases = {
        "there is no array 'sigma'": Names(density="sigma"),
        "there is no array 'harmonics'": Names(sh="harmonics"),
        "'color': expected one component, got 3": Names(density="color"),
        "expected 3, 12, 27, 48 or 75 components": Names(sh="density"),
        "colour 'sh': expected 3 or 4 components, got 27": Names(sh="None", color="sh"),
        "there is neither a colour nor": Names(sh="None", color=""),
        "expected a positive number, got -1": Names(scale=-1),
    }
    for sentence, names in cases.items():
        with pytest.raises(InputError, match=sentence):
            to_grid(image, names)
    steps = [np.arange(n) ** 1.1 for n in grid.links.shape[::-1]]
    bent = [replace(f, geometry=RectilinearGrid(*steps)) for f in export.fields(grid)]
    with pytest.raises(InputError, match="rectilinear"):
        to_grid(vtk_from_fields(bent))
    signed = [replace(f, values=np.zeros(f.values.shape, np.int8)) for f in export.fields(grid)]
    with pytest.raises(InputError, match="unsigned integers, got int8"):
        to_grid(vtk_from_fields(signed))


def test_names_and_scale(grid: SparseGrid) -> None:
    density, color, sh = export.fields(grid, sh=True)
    half = replace(density, values=density.values / 2, name="half")
    names = Names(density="half", sh="coefficients", scale=2)
    back = to_grid(vtk_from_fields([half, replace(sh, name="coefficients"), color]), names).grid
    np.testing.assert_array_equal(back.dense()[0], grid.dense()[0])
    np.testing.assert_array_equal(back.dense()[1], grid.dense()[1])


def test_alpha_and_transfer_function_give_the_density(grid: SparseGrid) -> None:
    density, color = export.fields(grid)
    shown = rgba(density, color)
    length = alpha_length(density)
    alpha = shown.values[..., 3]
    np.testing.assert_allclose(alpha / 255, 1 - np.exp(-density.values * length), atol=0.5 / 255 + 1e-6)
    points = np.array(opacity_points(length)).reshape(-1, 4)
    clear = (alpha > 0) & (alpha < 250) & (density.values < 5)
    opacity = np.interp(alpha[clear], points[:, 0], points[:, 1])
    # As far apart as half a step of alpha is.
    thick = density.values[clear]
    low, high = (-np.log(np.clip(1 - (alpha[clear] + s) / 255, 1e-9, 1)) / length for s in (-0.5, 0.5))
    assert clear.sum() > 100
    assert ((-np.log1p(-opacity) >= low - 1e-9) & (-np.log1p(-opacity) <= high + 1e-9)).all()
    assert ((thick >= low - 1e-5) & (thick <= high + 1e-5)).all()


# ------------------------------------------------------------------------------------------------------------- reader


def test_reader_gives_density_and_colours(file: Path, grid: SparseGrid) -> None:
    reader = reader_of(file)
    assert reader.GetHoldsRadiance() == 1
    found = arrays(read(reader))
    assert list(found) == ["density", "color", "rgba"]
    density, color = export.fields(grid)
    np.testing.assert_array_equal(found["density"].values, density.values)
    np.testing.assert_array_equal(found["color"].values, color.values)
    place = found["density"].geometry
    assert isinstance(place, UniformGrid)
    np.testing.assert_allclose(place.origin, grid.geometry.origin)
    output = reader.GetOutputDataObject(0)
    assert figure(output, "bytes") == file.stat().st_size
    assert figure(output, "psnr") == pytest.approx(31.5)
    assert figure(output, "ratio") == pytest.approx(RadianceVolume(grid, grid.box).nbytes / file.stat().st_size)
    assert figure(output, "alpha_length") == pytest.approx(4 * min(grid.voxel))


def test_reader_options(file: Path, grid: SparseGrid) -> None:
    reader = reader_of(file)
    reader.SetViewDirection(0, 0, -2)
    reader.GetPointDataArraySelection().EnableArray("sh")
    found = arrays(read(reader))
    basis = spherical_harmonics.basis(np.array([0.0, 0, -1]), 2)
    dense = grid.dense()[1]
    np.testing.assert_allclose(found["color"].values, np.clip(0.5 + dense @ basis, 0, 1), atol=1e-6)
    np.testing.assert_array_equal(found["sh"].values, dense.reshape(*dense.shape[:3], 27))
    reader.SetResolution(12)
    small = arrays(read(reader))
    np.testing.assert_array_equal(small["density"].values, export.fields(grid, 12)[0].values)
    assert small["sh"].values.shape == (*small["density"].values.shape, 27)
    reader.SetResolution(0)
    reader.SetLevelOfDetail(2)
    np.testing.assert_array_equal(arrays(read(reader))["density"].values, found["density"].values[::4, ::4, ::4])
    reader.SetLevelOfDetail(0)
    reader.UpdateExtent([3, 9, 0, 5, 7, 7])
    part = arrays(reader.GetOutputDataObject(0))["rgba"]
    np.testing.assert_array_equal(part.values, rgba(found["density"], found["color"]).values[7:8, 0:6, 3:10])
    reader.SetResolution(1)
    reader.Update()
    assert "resolution: expected 2 to" in reader.GetErrorText()


def test_series_of_fields(file: Path, grid: SparseGrid, tmp_path: Path) -> None:
    denser = SparseGrid(grid.links, grid.density * 2, grid.sh, grid.box)
    second = tmp_path / "second.nvc"
    second.write_bytes(lossless(denser))
    reader = reader_of(file, second)
    assert reader.GetTimestepValues() == [0.0, 1.0]
    reader.UpdateTimeStep(1.0)
    later = arrays(reader.GetOutputDataObject(0))["density"]
    np.testing.assert_array_equal(later.values, export.fields(denser)[0].values)
    assert later.time == 1.0


def test_a_dvgo_model_is_rendered_as_it_is(tmp_path: Path) -> None:
    """Its arrays are samples at its own nodes; the picture is of the model, with its own activation."""
    draw = np.random.default_rng(1)
    box = np.array([[-0.6, -0.5, -0.4], [0.6, 0.5, 0.4]])
    density = draw.normal(0, 6, (9, 11, 13)).astype(np.float32)
    model = DvgoModel(density, draw.normal(size=(9, 11, 13, 3)).astype(np.float32), box, shift=-2.0, unit=0.1)
    path = tmp_path / "dvgo.nvc"
    path.write_bytes(files.compress(RadianceVolume(model, box), "dvgo").data)
    decoded = files.load(path).model
    assert isinstance(decoded, DvgoModel)
    reader = reader_of(path)
    found = arrays(read(reader))
    place = found["density"].geometry
    assert isinstance(place, UniformGrid)
    assert place.dimensions == (13, 11, 9)
    np.testing.assert_allclose(place.origin, box[0], atol=1e-12)
    np.testing.assert_allclose(place.spacing, [0.1, 0.1, 0.1])
    x, y, z = (np.linspace(box[0, i], box[1, i], n) for i, n in enumerate(place.dimensions))
    nodes = np.stack(np.meshgrid(z, y, x, indexing="ij")[::-1], -1)
    sigma = decoded.sigma(nodes.reshape(-1, 3)).reshape(9, 11, 13)
    there = found["density"].values > 0
    np.testing.assert_allclose(found["density"].values[there], sigma[there], rtol=1e-4, atol=1e-5)
    pose = look_at(np.array(POSITION), np.zeros(3), np.array([0.0, 0, 1]))
    truth = to_uint8(render(DvgoField(decoded), Camera(lens(), pose), (0.2, 0.4, 0.6)).color)
    assert off(pixels(renderer(reader)), truth) <= 1


def test_field_beside_arrays(file: Path, tmp_path: Path) -> None:
    """A file with both opens as two blocks; nothing stands for the whole file then."""
    values = np.linspace(0, 1, 10 * 11 * 12, dtype=np.float32).reshape(10, 11, 12)
    own = Container(compress_arrays([Field(values, name="heat")], Ratio(5)).data)
    other = Container(file.read_bytes())
    header = Header(own.header.geometries, own.header.arrays, other.header.radiance)
    mixed = tmp_path / "mixed.nvc"
    mixed.write_bytes(container.dumps(header, [*own.sections(0), *other.radiance_sections(0)]))
    reader = reader_of(mixed)
    reader.Update()
    assert reader.GetErrorText() == ""
    blocks = reader.GetOutputDataObject(0)
    assert blocks.GetNumberOfBlocks() == 2
    assert list(arrays(blocks.GetBlock(0))) == ["heat"]
    assert list(arrays(blocks.GetBlock(1))) == ["density", "color", "rgba"]
    assert blocks.GetBlock(1).GetFieldData().GetArray("neurcomp_file") is None


def test_damaged_file_is_one_message(file: Path, tmp_path: Path, window: vtkStringOutputWindow) -> None:
    content = bytearray(file.read_bytes())
    content[-40] ^= 1
    broken = tmp_path / "broken.nvc"
    broken.write_bytes(content)
    reader = reader_of(broken)
    reader.Update()
    reader.Update()
    assert "damaged" in reader.GetErrorText()
    assert window.GetOutput().count("ERROR:") == 1


# ------------------------------------------------------------------------------------------------------------- pictures


def test_picture_is_the_renderers(file: Path, grid: SparseGrid) -> None:
    assert off(pixels(renderer(image_of(grid))), expected(grid)) == 0
    reader = reader_of(file)
    assert off(pixels(renderer(reader)), expected(grid)) == 0


def test_picture_is_of_the_file_until_its_arrays_change(file: Path, grid: SparseGrid) -> None:
    reader = reader_of(file)
    reader.SetResolution(8)
    image = vtkImageData()
    image.DeepCopy(read(reader))
    drawn = renderer(image)
    assert off(pixels(drawn), expected(grid)) == 0
    drawn.SetFrom(1)
    coarse = pixels(drawn)
    assert off(coarse, expected(grid)) > 30
    drawn.SetFrom(0)
    half = vtk_to_numpy(image.GetPointData().GetArray("density"))
    half *= 0
    image.GetPointData().GetArray("density").Modified()
    assert (pixels(drawn) == to_uint8(np.array([0.2, 0.4, 0.6]))).all()


def test_cut_image_is_not_the_file(file: Path) -> None:
    """What was cut out of the arrays is rendered, not the whole field."""
    reader = reader_of(file)
    reader.UpdateExtent([0, 11, 0, 22, 0, 20])
    cut = vtkImageData()
    cut.ShallowCopy(reader.GetOutputDataObject(0))
    whole = pixels(renderer(reader_of(file)))
    producer = vtkTrivialProducer()
    producer.SetOutput(cut)
    # The reader itself checked that part; a crop made afterwards differs from what was checked.
    again = vtkImageData()
    again.SetExtent(0, 11, 0, 22, 0, 19)
    again.CopyStructure(cut)
    again.CopyAttributes(cut)
    again.GetFieldData().ShallowCopy(cut.GetFieldData())
    again.Crop([0, 11, 0, 22, 0, 19])
    assert off(pixels(renderer(again)), whole) > 30


def test_cameras(grid: SparseGrid) -> None:
    drawn = renderer(image_of(grid))
    drawn.SetCameraPosition(0, 0, 0)
    drawn.SetNormals(True)
    drawn.Update()
    found = arrays(drawn.GetOutputDataObject(0))
    assert list(found) == ["rgb", "opacity", "depth", "normal"]
    seen = found["opacity"].values[0] > 0.5
    # All of it is in the picture, and fills a good part of it.
    border = np.ones(seen.shape, bool)
    border[1:-1, 1:-1] = False
    assert not seen[border].any()
    assert seen.mean() > 0.1
    assert np.isnan(found["depth"].values[0][found["opacity"].values[0] < 1e-4]).all()
    drawn.SetCameraPosition(0, -4, 0)
    drawn.SetCameraParallelScale(0.8)
    parallel = pixels(drawn)
    up, right = np.meshgrid((np.arange(36) - 17.5) * 1.6 / 36, (np.arange(48) - 23.5) * 1.6 / 36, indexing="ij")
    origins = np.stack([right, np.full_like(up, -4), -up], -1).reshape(-1, 3)
    rays = Rays(origins, np.broadcast_to([0.0, 1, 0], origins.shape).copy())
    truth = to_uint8(render_rays(grid, rays, (0.2, 0.4, 0.6)).color).reshape(36, 48, 3)
    assert off(parallel, truth) == 0


@pytest.mark.parametrize("parallel", [0.0, 0.7])
def test_picture_stands_where_it_was_seen(parallel: float) -> None:
    """The ray of each pixel meets its point of the picture."""
    camera = VtkCamera(POSITION, (0.1, 0.2, -0.3), (0.1, 0.2, 1), 40, parallel, 7, 5)
    place = camera.grid(True)
    turn, spacing = np.array(place.direction).reshape(3, 3), np.array(place.spacing)
    origins, directions = camera.rays()
    for row in range(5):
        for column in range(7):
            point = place.origin + turn @ (spacing * [column, 4 - row, 0])
            ray = row * 7 + column
            apart = np.cross(point - origins[ray], directions[ray])
            assert np.linalg.norm(apart) < 1e-9
    middle = place.origin + turn @ (spacing * [3, 2, 0])
    np.testing.assert_allclose(middle, camera.focal_point, atol=1e-12)
    assert camera.grid(False) == UniformGrid((0, 6, 0, 4, 0, 0))


def test_bad_cameras_are_one_sentence(grid: SparseGrid) -> None:
    drawn = renderer(image_of(grid))
    for change, sentence in {
        lambda: drawn.SetCameraViewAngle(180): "view angle: expected degrees above 0 and below 180, got 180",
        lambda: (drawn.SetCameraViewAngle(30), drawn.SetImageSize(0, 5)): "image size: expected 1 to 16384",
        lambda: (drawn.SetImageSize(*SIZE), drawn.SetCameraViewUp(0, 0, 0)): "view up: expected a direction",
        lambda: (drawn.SetCameraViewUp(0, 0, 1), drawn.SetStep(0)): "step: expected a positive number",
    }.items():
        change()
        drawn.Update()
        assert sentence in drawn.GetErrorText()
        assert drawn.GetOutputDataObject(0).GetNumberOfPoints() == 0


# ----------------------------------------------------------------------------------------------- compressing and saving


def test_compress_shows_what_the_file_holds(file: Path, grid: SparseGrid, tmp_path: Path) -> None:
    made, reader = RadianceCompress(), reader_of(file)
    made.SetInputConnection(reader.GetOutputPort())
    made.SetTargetKind(1)
    made.SetRatio(40)
    made.SetFileName(str(tmp_path / "beside.nvc"))
    made.Update()
    assert made.GetErrorText() == ""
    content = (tmp_path / "beside.nvc").read_bytes()
    image, steps = made.GetOutputDataObject(0), made.GetOutputDataObject(1)
    assert figure(image, "bytes") == len(content)
    assert figure(image, "ratio") == pytest.approx(RadianceVolume(grid, grid.box).nbytes / len(content))
    assert 40 <= figure(image, "ratio") < 60
    decoded = files.load(content).model
    assert isinstance(decoded, SparseGrid)
    np.testing.assert_array_equal(arrays(image)["density"].values, export.fields(decoded)[0].values)
    assert arrays(image)["density"].geometry == arrays(read(reader_of(file)))["density"].geometry
    assert off(pixels(renderer(made)), expected(decoded)) == 0
    assert off(expected(decoded), expected(grid)) > 0
    assert 30 < figure(image, "psnr") < 80
    assert steps.GetColumnByName("stage").GetValue(0) == "coded"
    parts = [steps.GetColumn(i).GetVariantValue(0).ToDouble() for i in range(2, steps.GetNumberOfColumns() - 1)]
    assert sum(parts) == steps.GetColumnByName("bytes").GetValue(0) <= len(content)


def test_compress_takes_any_image(grid: SparseGrid) -> None:
    density, color = export.fields(grid)
    grid_of = density.geometry
    assert isinstance(grid_of, UniformGrid)
    z, y, x = grid.links.shape
    moved = replace(grid_of, extent=(5, x + 4, -2, y - 3, 0, z - 1))
    made = RadianceCompress()
    made.SetInputDataObject(0, vtk_from_fields([replace(density, geometry=moved), replace(color, geometry=moved)]))
    made.SetPreset("lossless")
    made.SetCodec("plenoxels")
    made.Update()
    assert made.GetErrorText() == ""
    found = arrays(made.GetOutputDataObject(0))
    assert found["density"].geometry == moved
    np.testing.assert_array_equal(found["density"].values, density.values)
    np.testing.assert_allclose(found["color"].values, color.values, atol=1e-6)
    made.SetCodec("nerf")
    made.Update()
    assert "codec nerf takes a NerfWeights, got a SparseGrid" in made.GetErrorText()


def test_compress_with_photographs(file: Path, tmp_path: Path) -> None:
    """Codecs fine-tune on them, quality is that against the unseen ones, and a loss of it can be the target."""
    made, reader = RadianceCompress(), reader_of(file)
    made.SetInputConnection(reader.GetOutputPort())
    made.SetCodec("vqrf")
    made.SetPreset("fast")
    made.SetCodecParameters("tune=10, rays=500 rounds=5")
    made.SetThreads(1)
    made.SetTargetKind(3)
    made.SetPSNRLoss(0.4)
    made.Update()
    assert "a loss of PSNR is measured on photographs" in made.GetErrorText()
    data = scene_sets.write(scene_sets.scene_set("inward", size=24, views=8, test_views=3), tmp_path / "photographs")
    made.SetImagesFolder(str(tmp_path / "photographs"))
    made.SetViews(2)
    made.SetFileName(str(tmp_path / "small.nvc"))
    made.Update()
    assert made.GetErrorText() == ""
    before, after = (files.load(path) for path in (file, tmp_path / "small.nvc"))
    unseen = data.split("test").take(evaluation.spread(2, 3)).over(before.background)
    psnr = evaluation.mean_psnr(after, unseen)
    assert figure(made.GetOutputDataObject(0), "psnr") == pytest.approx(psnr, abs=1e-3)
    assert after.psnr == pytest.approx(psnr, abs=1e-3)
    assert psnr >= evaluation.mean_psnr(before, unseen) - 0.4
    stages = made.GetOutputDataObject(1).GetColumnByName("stage")
    names = [stages.GetValue(i) for i in range(stages.GetNumberOfValues())]
    assert "fine-tuned" in names
    assert names[-1] == "coded"
    made.SetCodecParameters("tune=10 rungs=5")
    made.Update()
    assert "codec parameters: 'rungs=5' is not of the form name=value" in made.GetErrorText()


def test_writer_keeps_the_file_until_an_array_changes(file: Path, tmp_path: Path) -> None:
    reader = reader_of(file)
    image = vtkImageData()
    image.DeepCopy(read(reader))
    writer = NvcWriter()
    writer.SetInputDataObject(0, image)
    writer.SetTarget(Ratio(3))
    writer.SetCodec("wavelet")
    writer.SetFileName(str(tmp_path / "same.nvc"))
    assert writer.Write() == 1
    assert (tmp_path / "same.nvc").read_bytes() == file.read_bytes()
    halved = vtk_to_numpy(image.GetPointData().GetArray("density"))
    halved /= 2
    writer.SetFileName(str(tmp_path / "other.nvc"))
    assert writer.Write() == 1
    names = [f.name for f in decompress((tmp_path / "other.nvc").read_bytes())]
    assert names == ["density", "color", "rgba"]
