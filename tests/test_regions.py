"""Regions where errors matter more: weights, what codecs make of them, promises that still hold, and the reports."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from neurcomp_cli.main import app
from neurcomp_core import container, metrics
from neurcomp_core.codec import Context, Encoded
from neurcomp_core.codecs.wavelet import Wavelet
from neurcomp_core.coding import wire
from neurcomp_core.container import ArraySpec, Container
from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.field import Field, RectilinearGrid, UniformGrid, full_region
from neurcomp_core.metrics import Quality
from neurcomp_core.pipeline import compress, decode_array, decompress
from neurcomp_core.region_quality import region_quality
from neurcomp_core.regions import (
    ArrayImportance,
    BandRegion,
    BoxRegion,
    Importance,
    Regions,
    weights_of,
)
from neurcomp_core.target import Bytes, MaxError, Psnr, Target
from neurcomp_core.transfer_function import TransferFunction
from neurcomp_core.wavelet import importance, lifting
from neurcomp_core.wavelet.layout import Layout
from neurcomp_core.wavelet.record import WaveletRecord

CONTEXT = Context(device="cpu", threads=1)
BOX = BoxRegion((8, 22, 8, 22, 8, 22), 8)


def smooth(shape: tuple[int, ...] = (30, 31, 32), seed: int = 0) -> np.ndarray:
    """Noise with a falling spectrum, which costs bits everywhere."""
    rng = np.random.default_rng(seed)
    waves = np.sqrt(sum(k**2 for k in np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij")))
    noise = np.fft.fftn(rng.standard_normal(shape)) / (0.02 + waves) ** 2.5
    found = np.fft.ifftn(noise).real
    return ((found - found.min()) / np.ptp(found)).astype(np.float32)


FIELD = Field(smooth())


def made(target: Target, importance: Importance | None, codec: Any = None, field: Field = FIELD) -> tuple[bytes, Field]:
    """A file, and what it decodes to."""
    found = compress(field, target, codec or Wavelet(), replace(CONTEXT, importance=importance))
    return found.data, decompress(found.data, context=CONTEXT)[0]


def gain(field: Field, even: Field, better: Field, region: Importance) -> tuple[float, float]:
    """Decibels won inside and outside."""
    a, b = (region_quality(field, f.values, region) for f in (even, better))
    figures = [q.psnr if q else 0.0 for q in (a.inside, b.inside, a.outside, b.outside)]
    return figures[1] - figures[0], figures[3] - figures[2]


# ------------------------------------------------------------------------------------------------------------- weights


def test_a_box_of_samples() -> None:
    weights = BoxRegion((1, 3, 0, 2, 4, 9), 5).weights(Field(np.zeros((6, 5, 4))))
    expected = np.ones((6, 5, 4))
    expected[4:, :2, 1:3] = 5
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights, expected)


def test_a_box_in_the_world() -> None:
    turned = UniformGrid((2, 5, 0, 2, 0, 1), (10, 20, 30), (0.5, 2, 1), (0, -1, 0, 1, 0, 0, 0, 0, 1))
    # World x = 10 - 2 j, world y = 20 + 0.5 i with i from 2 on.
    inside = BoxRegion((8, 8, 21.4, 22, 0, 99), 2, world=True).inside(Field(np.zeros((2, 3, 4)), turned))
    assert np.argwhere(inside).tolist() == [[0, 1, 1], [0, 1, 2], [1, 1, 1], [1, 1, 2]]
    rectilinear = RectilinearGrid(np.array([0, 1, 4, 9.0]), np.array([0, 1.0]), np.array([0, 1.0]))
    cells = Field(np.zeros((1, 1, 3)), rectilinear, association="cell")
    assert BoxRegion((2, 3, 0, 1, 0, 1), world=True).inside(cells).ravel().tolist() == [False, True, False]


def test_bands_of_values_and_of_lengths() -> None:
    values = np.array([[[0, 1, 2, np.nan, 3]]])
    assert BandRegion(1, 2).inside(Field(values)).ravel().tolist() == [False, True, True, False, False]
    vectors = np.zeros((1, 1, 2, 2))
    vectors[0, 0, 1] = 3, 4
    assert BandRegion(5, 5).inside(Field(vectors)).ravel().tolist() == [False, True]


def test_an_array_is_scaled_or_taken_as_it_is() -> None:
    values = np.array([[[2.0, np.nan, 4, 6]]])
    field = Field(np.arange(4.0).reshape(1, 1, 4))
    assert ArrayImportance(values, 9).weights(field).ravel().tolist() == [1, 1, 5, 9]
    assert ArrayImportance(values).weights(field).ravel().tolist() == [2, 0, 4, 6]


def test_a_transfer_function_of_paraview(tmp_path: Path) -> None:
    nodes = [0, 0, 0.5, 0, 1, 0, 0.25, 0, 3, 0.5, 0.5, 1, 5, 0, 0.5, 0]
    file = tmp_path / "map.json"
    file.write_text(json.dumps([{"Name": "m", "RGBPoints": [0, 0, 0, 0], "Points": nodes}]))
    found = TransferFunction.from_file(file, 5)
    assert found == TransferFunction.from_nodes(nodes, 5)
    # The middle of 1 to 3 moved to 1.5; from 3 to 5 a step at 4; constant beyond both ends.
    values = np.array([[[-9, 0.5, 1, 1.5, 3, 3.9, 4.1, 9]]])
    np.testing.assert_allclose(found.weights(Field(values)).ravel(), [1, 1, 1, 3, 5, 5, 1, 1], atol=1e-6)


def test_later_regions_lie_over_earlier_ones() -> None:
    field = Field(np.arange(8.0).reshape(1, 1, 8))
    both = Regions((BandRegion(2, 5, 4), BoxRegion((4, 7, 0, 1, 0, 1), 0.5)))
    assert both.weights(field).ravel().tolist() == [1, 1, 4, 4, 0.5, 0.5, 0.5, 1]


def test_weights_of_what_is_no_data_are_0() -> None:
    values = smooth((4, 4, 4))
    values[0] = np.nan
    mask = np.zeros((4, 4, 4), bool)
    mask[1] = True
    weights = weights_of(Field(values, mask=mask), BoxRegion((0, 2, 0, 4, 0, 4), 3))
    assert weights is not None
    assert not weights[:2].any()
    assert set(np.unique(weights[2:])) == {1, 3}
    # All samples that count do so alike.
    assert weights_of(Field(values, mask=mask), BoxRegion((0, 4, 0, 4, 2, 4), 3)) is None


@pytest.mark.parametrize(
    ("work", "says"),
    [
        (lambda: BoxRegion((5, 2, 0, 1, 0, 1)), "expected x0,x1,y0,y1,z0,z1 with x0 <= x1"),
        (lambda: BoxRegion((0, 1, 0, 1, 0, 1), -1), "expected 0 to 4096, got -1"),
        (lambda: BandRegion(2, 1), "low <= high"),
        (lambda: BandRegion(7, 8).weights(FIELD), "its values go from 0 to 1"),
        (lambda: BoxRegion((99, 100, 0, 1, 0, 1)).weights(FIELD), "no sample of array 'values' (32 x 31 x 30"),
        (lambda: ArrayImportance(np.zeros((2, 2, 2)), 3, "w").weights(FIELD), "'w' has 2 x 2 x 2 samples"),
        (lambda: ArrayImportance(np.zeros((30, 31, 32)), 3).weights(FIELD), "they say nothing"),
        (lambda: ArrayImportance(np.full((30, 31, 32), -1.0)), "weights from 0 to 4096"),
        (lambda: weights_of(FIELD, ArrayImportance(np.zeros((30, 31, 32)))), "no sample has a weight above 0"),
        (lambda: TransferFunction(((0, 1), (1, 1))), "the same everywhere"),
        (lambda: TransferFunction.from_nodes([0, 1, 0.5, 0]), "got 4 numbers"),
        (lambda: TransferFunction.from_file(Path("none.json")), "'none.json'"),
        (lambda: made(Psnr(30), BOX, "tthresh"), "codec tthresh cannot make some samples better than others"),
        (lambda: made(Psnr(30), BOX, Wavelet("none")), "leave transform=none or regions out"),
        (lambda: made(MaxError(0), BOX, None, Field((FIELD.values * 99).astype(np.uint8))), "a lossless file has no"),
    ],
)
def test_what_cannot_be_is_one_sentence(work: Any, says: str) -> None:
    with pytest.raises(InputError) as caught:
        work()
    assert says in str(caught.value)


# ------------------------------------------------------------------------------------------------------- steps of bands


@pytest.mark.parametrize("orient", [0, 1, 4, 6])
@pytest.mark.parametrize("level", [0, 2])
def test_factors_follow_synthesis_functions(level: int, orient: int) -> None:
    """A coefficient's factor is about the root mean square of the weights under the function it stands for."""
    layout = Layout((40, 44, 48), level + 1, 1)
    band = next(b for b in layout.bands if b.orient == orient and b.level == level + (orient == 0))
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 7, importance.blocks_of(layout.shape, 8)).astype(np.uint8)
    found = importance.ScaleMap(labels, 8, layout).factors(band)
    squares = np.exp2(labels).repeat(8, 0).repeat(8, 1).repeat(8, 2)[:40, :44, :48].astype(float)
    assert found.shape == band.shape
    for place in rng.integers(2, np.array(band.shape) - 2, (12, 3)):
        unit = np.zeros(layout.shape)
        unit[tuple(place + band.origin)] = 1
        lifting.inverse(unit, layout, importance_lanes())
        expected = np.sqrt(np.sum(squares * unit**2) / np.sum(unit**2))
        assert abs(np.log2(found[tuple(place)] / expected)) < 0.6


def importance_lanes() -> Any:
    from neurcomp_core.wavelet.lanes import Lanes

    return Lanes(1)


def test_factors_of_a_part_are_a_part_of_the_factors() -> None:
    layout = Layout((33, 17, 90), 3, 1)
    labels = np.random.default_rng(0).integers(0, 9, importance.blocks_of(layout.shape, 4)).astype(np.uint8)
    scales = importance.ScaleMap(labels, 4, layout)
    for band in layout.bands:
        part = tuple(slice(n // 3, n) for n in band.shape)
        np.testing.assert_array_equal(scales.factors(band, part), scales.factors(band)[part])


def test_equal_weights_leave_steps_as_they_are() -> None:
    layout = Layout((20, 20, 20), 3, 1)
    labels = np.full(importance.blocks_of(layout.shape, 8), 4, np.uint8)
    for band in layout.bands:
        np.testing.assert_allclose(importance.ScaleMap(labels, 8, layout).factors(band), 4, rtol=1e-12)


def test_a_map_comes_back_and_is_as_fine_as_is_small() -> None:
    layout = Layout((50, 60, 70), 4, 1)
    weights = BoxRegion((10, 40, 20, 41, 3, 33), 6).weights(Field(np.zeros(layout.shape)))
    built = importance.build(weights, layout, 1e5)
    assert built
    scales, section = built
    assert scales.edge == 2
    assert len(section) < 1000
    assert (importance.read(section, 2, layout).labels == scales.labels).all()
    coarse = importance.build(weights, layout, 2000)
    assert coarse
    assert coarse[0].edge > 2
    assert importance.build(np.ones(layout.shape), layout, 1e5) is None
    bad = importance.masks.encode_labels(np.full((25, 30, 35), 40, np.uint8))
    with pytest.raises(FormatError, match="weight of 40"):
        importance.read(bad, 2, layout)


# -------------------------------------------------------------------------------------------------------------- wavelet


def test_a_region_gains_at_equal_bytes() -> None:
    target = Bytes(6000)
    (before, even), (after, better) = made(target, None), made(target, BOX)
    assert 0.97 * 6000 <= len(before) <= 6000
    assert 0.97 * 6000 <= len(after) <= 6000
    inside, outside = gain(FIELD, even, better, BOX)
    assert inside > 6
    assert -4 < outside < 0


def test_what_does_not_matter_pays() -> None:
    target = Bytes(6000)
    _, even = made(target, None)
    nothing = Regions((ArrayImportance(np.zeros(FIELD.values.shape)), replace(BOX, weight=1.0)))
    _, better = made(target, nothing)
    inside, outside = gain(FIELD, even, better, BOX)
    assert inside > 8
    assert outside < -8


@pytest.mark.parametrize("brick", [0, 16])
def test_quality_targets_hold_for_the_whole_array(brick: int) -> None:
    codec = Wavelet(brick=brick)
    even, _ = made(Psnr(45), None, codec)
    data, decoded = made(Psnr(45), BOX, codec)
    assert 45 <= metrics.measure(FIELD.values, decoded.values).psnr < 45.2
    assert len(data) > len(even)


def test_a_bound_holds_for_all_samples() -> None:
    _, decoded = made(MaxError(0.004), BOX)
    assert metrics.measure(FIELD.values, decoded.values).max_error <= 0.004


def test_boxes_and_levels_of_tiles() -> None:
    data, decoded = made(Psnr(50), BOX, Wavelet(brick=16))
    file = Container(data)
    record = wire.unpack(WaveletRecord, file.header.arrays[0].params)
    assert record.edge == 16
    assert record.blocks
    part = (slice(3, 20), slice(0, 31), slice(11, 12))
    np.testing.assert_allclose(decode_array(file, 0, part).values, decoded.values[part], atol=1e-6)
    coarse = decode_array(file, 0, None, 1).values
    assert metrics.measure(FIELD.values[::2, ::2, ::2], coarse).psnr > 25
    # One box is coded likewise.
    _, whole = made(Psnr(50), BOX, Wavelet(brick=-1))
    assert np.abs(whole.values - decoded.values).max() < 0.05


def test_integers_vectors_and_holes() -> None:
    values = np.stack([smooth(seed=i) for i in range(2)], axis=3)
    values = (values * 255).astype(np.uint8)
    mask = np.zeros(values.shape[:3], bool)
    mask[:9, :9, :9] = True
    field = Field(values, mask=mask)
    target = Bytes(6000)
    _, even = made(target, None, None, field)
    _, better = made(target, BOX, None, field)
    inside, outside = gain(field, even, better, BOX)
    assert inside > 3
    assert outside < 0
    np.testing.assert_array_equal(better.values[:9, :9, :9], values[:9, :9, :9])


def test_steps_of_a_series_have_the_regions_of_their_values() -> None:
    steps = [Field(np.roll(FIELD.values, i, axis=2), time=float(i)) for i in range(3)]
    band = BandRegion(0.6, 0.8, 8)
    even, better = (
        decompress(compress(steps, Bytes(15000), Wavelet(), replace(CONTEXT, importance=i)).data, context=CONTEXT)
        for i in (None, band)
    )
    for field, a, b in zip(steps, even, better, strict=True):
        inside, _ = gain(field, a, b, band)
        assert inside > 1


def test_same_input_same_bytes_on_any_number_of_threads() -> None:
    files = [compress(FIELD, Psnr(40), Wavelet(), replace(CONTEXT, threads=n, importance=BOX)).data for n in (1, 2)]
    assert files[0] == files[1]


def test_auto_takes_what_heeds_regions() -> None:
    found = compress(FIELD, Bytes(6000), "auto", replace(CONTEXT, importance=BOX))
    assert found.reports[0].codec == "wavelet"


def test_a_damaged_map_is_an_error() -> None:
    found = Wavelet().encode(FIELD, Psnr(40), replace(CONTEXT, importance=BOX))
    spec = ArraySpec(FIELD.values.shape, FIELD.values.dtype)
    record = wire.unpack(WaveletRecord, found.params)

    def decode(params: WaveletRecord, sections: tuple[bytes, ...]) -> np.ndarray:
        return Wavelet.decode(Encoded(wire.pack(params), sections), spec, full_region(spec.shape), 0, CONTEXT)

    sections = tuple(found.sections)
    decode(record, sections)
    for params, parts in [
        (record, sections[:-1]),
        (replace(record, blocks=0), sections),
    ]:
        with pytest.raises(FormatError):
            decode(params, parts)
    for blocks in (3, 128):
        with pytest.raises(FormatError, match="impossible"):
            replace(record, blocks=blocks)


# ------------------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("name", ["hashgrid", "siren"])
def test_networks_fit_regions_better(name: str) -> None:
    pytest.importorskip("torch")
    from neurcomp_core.codec import registry

    field = Field(smooth((16, 16, 16)))
    box = BoxRegion((4, 12, 4, 12, 4, 12), 4)
    # Where training is not nearly done, luck decides.
    steps, batch = {"hashgrid": (200, 2048), "siren": (600, 1024)}[name]
    codec = registry()[name].from_preset(steps=steps, batch=batch)
    _, even = made(Bytes(1200), None, codec, field)
    _, better = made(Bytes(1200), box, codec, field)
    inside, outside = gain(field, even, better, box)
    assert inside > 2
    assert outside < 0


# -------------------------------------------------------------------------------------------------------------- reports


def test_errors_inside_and_outside() -> None:
    field = Field(np.zeros((2, 2, 4)) + np.arange(4))
    decoded = field.values + np.array([0.5, 0.5, 0, 0])
    found = region_quality(field, decoded, BoxRegion((0, 1, 0, 2, 0, 2)))
    assert found.share == 0.25
    # The peak is the range of the whole field, 3, though inside all values are 0.
    assert found.inside == Quality(20 * np.log10(6), 0.5, 0.5, 3, 4)
    assert found.outside is not None
    assert found.outside.rmse == pytest.approx(0.5 / np.sqrt(3))


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def test_the_command_line(tmp_path: Path) -> None:
    source, out = tmp_path / "v.npy", tmp_path / "v.nvc"
    np.save(source, FIELD.values)
    given = ("--threads", 1, "--json", "-f", "-o", out)
    done = run(
        "compress", source, "--bytes", 6000, "--region", "box:8,22,8,22,8,22:6", "--region", "band:0.8,1", *given
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["files"][0]["arrays"][0]["regions"]
    assert [f["region"] for f in found] == ["box 8,22,8,22,8,22", "band 0.8,1"]
    assert found[0]["inside"]["psnr"] > found[0]["outside"]["psnr"]
    done = run("compare", source, out, "--region", "world:8,21,8,21,8,21", "--json")
    assert done.exit_code == 0, done.output
    compared = json.loads(done.stdout)["arrays"][0]["regions"][0]
    assert compared["inside"] == pytest.approx(found[0]["inside"])
    assert "PSNR in" in run("compare", source, out, "--region", "band:0.8,1").stdout
    for text in ("box:1,2,3", "ball:1,2", "band:1,x", "band:1,2:3:4"):
        done = run("compress", source, "--bytes", 6000, "--region", text, *given)
        assert done.exit_code != 0
        assert "expected box:x0,x1,y0,y1,z0,z1" in done.stderr


def test_an_importance_array_of_the_file(tmp_path: Path) -> None:
    vtk = pytest.importorskip("vtkmodules.vtkIOXML")
    from neurcomp_filters.bridge import vtk_from_fields

    weight = BOX.weights(FIELD) - 1
    image = vtk_from_fields([replace(FIELD, name="p"), Field(weight, name="w")])
    source, out = tmp_path / "v.vti", tmp_path / "v.nvc"
    writer = vtk.vtkXMLImageDataWriter()
    writer.SetFileName(str(source))
    writer.SetInputData(image)
    writer.Write()
    given = ("--threads", 1, "--bytes", 6000, "-f", "-o", out, "--json")
    done = run("compress", source, "--importance", "w", *given)
    assert done.exit_code == 0, done.output
    (array,) = json.loads(done.stdout)["files"][0]["arrays"]
    assert array["name"] == "p"
    (found,) = array["regions"]
    assert found["inside"]["psnr"] > found["outside"]["psnr"] + 3
    done = run("compress", source, "--importance", "q", *given)
    assert "expected one array 'q'" in done.stderr


def test_files_without_regions_say_nothing_of_them() -> None:
    data, _ = made(Bytes(6000), None)
    header = Container(data).header.arrays[0]
    assert wire.unpack(WaveletRecord, header.params).blocks == 0
    assert data[: len(container.MAGIC)] == container.MAGIC


# -------------------------------------------------------------------------------------------------------------- filters


def compressed(**given: Any) -> Any:
    """The filter on an image of FIELD and weights, run."""
    pytest.importorskip("vtkmodules.vtkCommonDataModel")
    from neurcomp_filters.bridge import vtk_from_fields
    from neurcomp_filters.compress import NeuralCompress

    grid = UniformGrid((0, 31, 0, 30, 0, 29), (5, 0, 0), (2, 1, 1))
    image = vtk_from_fields([Field(FIELD.values, grid, "p"), Field(BOX.weights(FIELD), grid, "w")])
    found = NeuralCompress()
    found.SetInputDataObject(0, image)
    found.GetPointDataArraySelection().EnableArray("p")
    found.SetTarget(Bytes(6000))
    found.SetCodec("wavelet")
    found.SetThreads(1)
    for name, value in given.items():
        getattr(found, name)(*value)
    found.Update()
    return found


def figure(filter_: Any, name: str) -> float:
    array = filter_.GetOutputDataObject(0).GetFieldData().GetArray(f"neurcomp_{name}")
    return float("nan") if array is None else array.GetValue(0)


@pytest.mark.parametrize(
    "given",
    [
        # World x is 5 + 2 i.
        {"SetRegionMode": (1,), "SetRegionBounds": (21, 47, 8, 21, 8, 21)},
        {"SetRegionMode": (3,), "SetRegionArray": ("w",), "SetRegionWeight": (8,)},
        {"SetRegionMode": (4,), "AddOpacityPoint": (0.2, 1, 0.5, 0), "AddOpacityPoint2": (0.9, 0, 0.5, 0)},
        {"SetRegionMode": (2,), "SetRegionBand": (0.0, 0.4)},
    ],
)
def test_the_filter_has_regions(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vtkmodules.vtkCommonDataModel")
    from neurcomp_filters.compress import NeuralCompress

    monkeypatch.setattr(NeuralCompress, "AddOpacityPoint2", NeuralCompress.AddOpacityPoint, raising=False)
    found, even = compressed(**given), compressed()
    assert not found.GetErrorText()
    assert np.isnan(figure(even, "psnr_inside"))
    assert figure(found, "psnr_inside") > figure(found, "psnr_outside") + 1
    assert figure(found, "psnr") < figure(even, "psnr")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"SetRegionMode": (3,), "SetRegionArray": ("q",)}, "region array: expected an array of one component"),
        ({"SetRegionMode": (4,)}, "choose the file of a colour map"),
        ({"SetRegionMode": (2,), "SetRegionBand": (2, 1)}, "low <= high"),
    ],
)
def test_the_filter_says_what_is_wrong(given: dict[str, Any], says: str) -> None:
    assert says in compressed(**given).GetErrorText()


@pytest.mark.paraview
def test_regions_in_paraview(tmp_path: Path) -> None:
    import paraview_env as pv

    text = """
from paraview.simple import *
from neurcomp_filters.scripting import checked
wavelet = Wavelet(WholeExtent=[-10, 10, -10, 10, -10, 10])
wavelet.UpdatePipeline()
with checked():
    found = NeuralCompress(Input=wavelet, Target="Compression Ratio", Ratio=30, Codec="wavelet")
    assert list(found.RegionBounds) == [-10, 10, -10, 10, -10, 10], list(found.RegionBounds)
    found.RegionMode, found.RegionBounds = "Box", [-5, 5, -5, 5, -5, 5]
    found.UpdatePipeline()
    inside = found.FieldData["neurcomp_psnr_inside"].GetRange()[0]
    found.RegionMode = "Transfer Function"
    opacity = GetOpacityTransferFunction("RTData")
    opacity.RescaleTransferFunction(*wavelet.PointData["RTData"].GetRange())
    found.OpacityPoints = opacity.Points
    found.UpdatePipeline()
    print(inside, found.FieldData["neurcomp_psnr_inside"].GetRange()[0], found.FieldData["neurcomp_psnr"].GetRange()[0])
"""
    done = pv.run([pv.program("pvpython"), str(pv.script(tmp_path, text))], tmp_path, pv.environment(tmp_path))
    assert done.returncode == 0, done.stdout
    box, opacity, whole = map(float, done.stdout.split()[-3:])
    assert box > 40
    assert opacity > whole + 0.1
