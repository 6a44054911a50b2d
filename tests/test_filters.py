"""The filters in plain VTK, without ParaView."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkCommand, vtkOutputWindow, vtkStringArray, vtkStringOutputWindow
from vtkmodules.vtkCommonDataModel import (
    vtkDataObject,
    vtkDataSet,
    vtkDataSetAttributes,
    vtkImageData,
    vtkMultiBlockDataSet,
    vtkRectilinearGrid,
)
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline, vtkTrivialProducer
from vtkmodules.vtkFiltersGeneral import vtkImageDataToPointSet
from vtkmodules.vtkImagingCore import vtkExtractVOI, vtkRTAnalyticSource

from neurcomp_core.codec import Context
from neurcomp_core.codecs.hashgrid import HashGrid
from neurcomp_core.errors import InputError
from neurcomp_core.field import Association, Field, RectilinearGrid, UniformGrid, grid_shape
from neurcomp_core.metrics import measure
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.target import Psnr, Ratio
from neurcomp_filters.algorithm import Algorithm
from neurcomp_filters.bridge import GHOSTS, fields_from_vtk, vtk_from_fields
from neurcomp_filters.compare import VolumeCompare
from neurcomp_filters.compress import NeuralCompress
from neurcomp_filters.figures import attached_file
from neurcomp_filters.pieces import assembled
from neurcomp_filters.reader import NvcReader
from neurcomp_filters.resample import suggested_dimensions
from neurcomp_filters.settings import CompressionSettings
from neurcomp_filters.writer import NvcWriter

QUICK = "steps=60 batch=2048"
GRID = UniformGrid((-3, 12, 2, 14, 0, 10), (0.5, 1.0, -2.0), (0.1, 0.2, 0.3))
AXES = RectilinearGrid(np.linspace(0, 1, 16) ** 2, np.linspace(-1, 1, 13), np.arange(11, dtype=np.float32))


def wave(
    geometry: UniformGrid | RectilinearGrid = GRID, name: str = "wave", association: Association = "point",
    components: int = 0, time: float | None = None, shift: float = 0.0,
) -> Field:  # fmt: skip
    """A smooth field that tells the axes apart."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in grid_shape(geometry, association)), indexing="ij")
    values = np.sin(x / 4 + shift) * 2 + np.cos(y / 3) + z / 5
    if components:
        values = np.stack([values + i for i in range(components)], -1)
    return Field(values.astype(np.float32), geometry, name, association, time)


class Source(Algorithm):
    """Hands out fields, a time step at a time, and counts how often it is asked."""

    def __init__(self, *steps: list[Field]) -> None:
        super().__init__(nInputPorts=0, outputType="vtkImageData")
        self.steps, self.runs = steps, 0

    def RequestInformation(self, request: Any, inInfo: Any, outInfo: Any) -> int:
        info = outInfo.GetInformationObject(0)
        extent = self.steps[0][0].geometry.extent
        info.Set(vtkStreamingDemandDrivenPipeline.WHOLE_EXTENT(), extent, 6)
        times = [step[0].time for step in self.steps]
        if len(times) > 1:
            info.Set(vtkStreamingDemandDrivenPipeline.TIME_STEPS(), times, len(times))
            info.Set(vtkStreamingDemandDrivenPipeline.TIME_RANGE(), (times[0], times[-1]), 2)
        return 1

    def RequestData(self, request: Any, inInfo: Any, outInfo: Any) -> int:
        info = outInfo.GetInformationObject(0)
        key = vtkStreamingDemandDrivenPipeline.UPDATE_TIME_STEP()
        time = info.Get(key) if info.Has(key) else self.steps[0][0].time
        self.runs += 1
        (step,) = [s for s in self.steps if s[0].time == time]
        self.GetOutputData(outInfo, 0).ShallowCopy(vtk_from_fields(step))
        return 1


def quick(algorithm: CompressionSettings, source: Any, target: Ratio | Psnr | None = None) -> Any:
    """Connect and choose short training."""
    if isinstance(source, vtkDataObject):
        algorithm.SetInputDataObject(source)
    else:
        algorithm.SetInputConnection(source.GetOutputPort())
    algorithm.SetTarget(target or Ratio(10))
    algorithm.SetCodec("hashgrid")
    algorithm.SetCodecParameters(QUICK)
    return algorithm


def compressed(source: Any, target: Ratio | Psnr | None = None) -> NeuralCompress:
    return quick(NeuralCompress(), source, target)


def figure(data: vtkDataObject, name: str) -> float:
    return data.GetFieldData().GetArray(f"neurcomp_{name}").GetValue(0)


@pytest.fixture
def messages() -> Iterator[vtkStringOutputWindow]:
    """What VTK says, instead of the terminal."""
    before, window = vtkOutputWindow.GetInstance(), vtkStringOutputWindow()
    vtkOutputWindow.SetInstance(window)
    yield window
    vtkOutputWindow.SetInstance(before)


@pytest.fixture(scope="module")
def nvc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with point and cell data."""
    path = tmp_path_factory.mktemp("nvc") / "wave.nvc"
    fields = [wave(), wave(name="cells", association="cell")]
    path.write_bytes(compress(fields, Ratio(8), HashGrid(steps=60, batch=2048), Context()).data)
    return path


# -------------------------------------------------------------------------------------------------- Neural Compress


@pytest.mark.parametrize("geometry", [GRID, AXES])
def test_output_is_what_the_file_decodes_to(geometry: UniformGrid | RectilinearGrid, tmp_path: Path) -> None:
    original = wave(geometry)
    filter_ = compressed(vtk_from_fields([original]))
    filter_.SetFileName(str(tmp_path / "a.nvc"))
    filter_.Update()
    output = filter_.GetOutputDataObject(0)
    (shown,) = fields_from_vtk(output)
    data = (tmp_path / "a.nvc").read_bytes()
    (decoded,) = decompress(data)
    assert shown.geometry == geometry
    np.testing.assert_array_equal(shown.values, decoded.values)
    assert attached_file(output) == data
    quality = measure(original.values, shown.values)
    assert figure(output, "psnr") == pytest.approx(quality.psnr, rel=1e-5)
    assert figure(output, "max_error") == pytest.approx(quality.max_error, rel=1e-5)
    assert figure(output, "bytes") == len(data)
    assert figure(output, "ratio") == pytest.approx(original.nbytes / len(data))
    assert figure(output, "bits_per_voxel") == pytest.approx(8 * len(data) / original.voxels)
    assert figure(output, "seconds") > 0
    assert output.GetFieldData().GetAbstractArray("neurcomp_codec").GetValue(0) == "hashgrid"


def test_several_arrays_and_their_errors() -> None:
    fields = [wave(), wave(name="v", components=3), wave(name="c", association="cell")]
    filter_ = compressed(vtk_from_fields(fields))
    filter_.SetErrorArrays(True)
    filter_.Update()
    shown = {(f.association, f.name): f for f in fields_from_vtk(filter_.GetOutputDataObject(0))}
    assert set(shown) == {(f.association, f.name + e) for f in fields for e in ("", "_error")}
    for f in fields:
        error = shown[f.association, f"{f.name}_error"].values
        np.testing.assert_allclose(error, shown[f.association, f.name].values - f.values, atol=1e-6)
    assert filter_.GetOutputDataObject(0).GetFieldData().GetArray("neurcomp_psnr").GetNumberOfTuples() == 3


def test_only_chosen_arrays() -> None:
    filter_ = compressed(vtk_from_fields([wave(), wave(name="b"), wave(name="c", association="cell")]))
    filter_.GetPointDataArraySelection().EnableArray("b")
    filter_.Update()
    assert [f.name for f in fields_from_vtk(filter_.GetOutputDataObject(0))] == ["b"]
    filter_.GetCellDataArraySelection().EnableArray("c")
    filter_.Update()
    assert [f.name for f in fields_from_vtk(filter_.GetOutputDataObject(0))] == ["b", "c"]


def test_disabled_array_is_left_out() -> None:
    filter_ = compressed(vtk_from_fields([wave(), wave(name="b")]))
    filter_.GetPointDataArraySelection().DisableArray("b")
    filter_.Update()
    assert [f.name for f in fields_from_vtk(filter_.GetOutputDataObject(0))] == ["wave"]


def test_ghosts_nan_and_field_data_pass() -> None:
    image = vtk_from_fields([wave()])
    values = vtk_to_numpy(image.GetPointData().GetArray("wave"))
    values[7] = np.nan
    hidden = np.zeros(values.size, np.uint8)
    hidden[100:120] = vtkDataSetAttributes.DUPLICATEPOINT
    values[100:120] = 1e6
    from vtkmodules.util.numpy_support import numpy_to_vtk

    ghosts = numpy_to_vtk(hidden, deep=True)
    ghosts.SetName(GHOSTS)
    image.GetPointData().AddArray(ghosts)
    note = vtkStringArray()
    note.SetName("note")
    note.InsertNextValue("kept")
    image.GetFieldData().AddArray(note)
    filter_ = compressed(image)
    filter_.Update()
    output = filter_.GetOutputDataObject(0)
    shown = vtk_to_numpy(output.GetPointData().GetArray("wave"))
    assert np.isnan(shown[7])
    assert (shown[100:120] == 1e6).all()
    np.testing.assert_array_equal(vtk_to_numpy(output.GetPointData().GetArray(GHOSTS)), hidden)
    assert output.GetFieldData().GetAbstractArray("note").GetValue(0) == "kept"
    assert figure(output, "max_error") < 10


def test_a_slice_downstream_does_not_change_what_is_compressed() -> None:
    source = Source([wave()])
    filter_ = compressed(source)
    voi = vtkExtractVOI()
    voi.SetInputConnection(filter_.GetOutputPort())
    voi.SetVOI(0, 0, 2, 14, 0, 10)
    voi.Update()
    assert voi.GetOutput().GetExtent() == (0, 0, 2, 14, 0, 10)
    assert filter_.GetOutputDataObject(0).GetExtent() == GRID.extent


def test_blocks_are_files_of_their_own(tmp_path: Path) -> None:
    blocks = vtkMultiBlockDataSet()
    blocks.SetBlock(0, vtk_from_fields([wave()]))
    blocks.SetBlock(2, vtk_from_fields([wave(AXES)]))
    filter_ = compressed(blocks)
    filter_.SetFileName(str(tmp_path / "b.nvc"))
    filter_.Update()
    output = filter_.GetOutputDataObject(0)
    assert isinstance(output.GetBlock(0), vtkImageData)
    assert isinstance(output.GetBlock(2), vtkRectilinearGrid)
    assert len(list(tmp_path.glob("b_*.nvc"))) == 2
    compare = VolumeCompare()
    compare.SetInputDataObject(0, blocks)
    compare.SetInputConnection(1, filter_.GetOutputPort())
    compare.Update()
    table = compare.GetOutputDataObject(1).GetBlock(2)
    assert table.GetValueByName(0, "PSNR (dB)").ToDouble() == pytest.approx(figure(output.GetBlock(2), "psnr"))


def test_time_steps_are_files_of_their_own(tmp_path: Path) -> None:
    source = Source(*([wave(time=t, shift=t)] for t in (0.5, 1.5)))
    filter_ = compressed(source)
    filter_.SetFileName(str(tmp_path / "t.nvc"))
    for time in (0.5, 1.5):
        filter_.UpdateTimeStep(time)
    assert [decompress(p)[0].time for p in sorted(tmp_path.glob("*.nvc"))] == [0.5, 1.5]
    assert sorted(p.name for p in tmp_path.glob("*.nvc")) == ["t_0000.nvc", "t_0001.nvc"]


def test_same_request_is_not_computed_twice() -> None:
    source = Source([wave()])
    filter_ = compressed(source)
    filter_.Update()
    first = filter_.GetOutputDataObject(0).GetPointData().GetArray("wave")
    filter_.Update()
    assert filter_.GetOutputDataObject(0).GetPointData().GetArray("wave") is first
    filter_.SetSeed(1)
    filter_.Update()
    assert filter_.GetOutputDataObject(0).GetPointData().GetArray("wave") is not first


def test_time_limit_keeps_the_best_and_says_so(tmp_path: Path, messages: vtkStringOutputWindow) -> None:
    filter_ = compressed(vtk_from_fields([wave()]))
    filter_.SetCodecParameters("steps=1000000 batch=2048")
    filter_.SetTimeLimit(1.5)
    filter_.SetFileName(str(tmp_path / "a.nvc"))
    filter_.Update()
    assert filter_.GetOutputDataObject(0).GetPointData().GetArray("wave") is not None
    assert filter_.GetErrorText() == ""
    assert "Warning: In NeuralCompress" in messages.GetOutput()
    assert "the time limit of 1.5 s" in messages.GetOutput()
    assert "best so far" in messages.GetOutput()
    assert not list(tmp_path.iterdir())
    filter_.SetKeepBest(True)
    filter_.Update()
    assert [p.name for p in tmp_path.iterdir()] == ["a.nvc"]


def test_abort_ends_the_run(messages: vtkStringOutputWindow) -> None:
    filter_ = compressed(vtk_from_fields([wave()]))
    filter_.SetCodecParameters("steps=1000000 batch=2048")
    texts = []

    def stop(caller: Any, event: str) -> None:
        texts.append(filter_.GetProgressText() or "")
        if len(texts) == 5:
            filter_.SetAbortExecute(1)

    filter_.AddObserver(vtkCommand.ProgressEvent, stop)
    filter_.Update()
    assert any("dB" in text for text in texts)
    assert "stopped by the user" in messages.GetOutput()


# ------------------------------------------------------------------------------------------------------------ errors


def test_failure_is_one_line_told_once(messages: vtkStringOutputWindow) -> None:
    filter_ = compressed(Source([wave()]), Ratio(1e6))
    for _ in range(3):
        filter_.Update()
    text = messages.GetOutput()
    assert text.count("ERROR: In NeuralCompress, line 0\nNeuralCompress (0x") == 1
    assert "ask for a ratio of at most" in filter_.GetErrorText()
    assert filter_.GetErrorText() in text
    assert filter_.GetOutputDataObject(0).GetNumberOfPoints() == 0
    filter_.SetRatio(10)
    filter_.Update()
    assert filter_.GetErrorText() == ""
    assert filter_.GetOutputDataObject(0).GetNumberOfPoints() > 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.SetCodec("zip"), "there is no codec 'zip'; there are: "),
        (lambda f: f.SetPreset("huge"), "has no preset 'huge'"),
        (lambda f: f.SetCodecParameters("steps"), "'steps' is not of the form name=value"),
        (lambda f: f.SetCodecParameters("steps=many"), "'many' is not a value that steps can have"),
        (lambda f: f.SetTargetKind(9), "target kind: expected 0 to 4, got 9"),
        (lambda f: f.SetRatio(0), "ratio: expected a positive finite number"),
        (lambda f: f.SetDevice("tpu"), "device: expected auto, cpu or cuda, got 'tpu'"),
        (lambda f: f.GetPointDataArraySelection().EnableArray("nope"), "there is no array 'nope'"),
        (lambda f: f.GetPointDataArraySelection().EnableArray("text"), "array 'text' holds strings"),
        (lambda f: f.GetPointDataArraySelection().DisableArray("wave"), "no array is selected"),
        (lambda f: f.SetFileName("/no/such/folder/a.nvc"), "the folder '/no/such/folder' does not exist"),
    ],
)
def test_errors_say_what_to_do(change: Any, says: str, messages: vtkStringOutputWindow) -> None:
    image = vtk_from_fields([wave()])
    text = vtkStringArray()
    text.SetName("text")
    text.SetNumberOfValues(image.GetNumberOfPoints())
    image.GetPointData().AddArray(text)
    filter_ = compressed(image)
    change(filter_)
    filter_.Update()
    assert says in filter_.GetErrorText()
    assert messages.GetOutput().count("ERROR") == 1


def test_string_arrays_beside_others_are_left_out(messages: vtkStringOutputWindow) -> None:
    image = vtk_from_fields([wave()])
    text = vtkStringArray()
    text.SetName("text")
    text.SetNumberOfValues(image.GetNumberOfPoints())
    image.GetPointData().AddArray(text)
    filter_ = compressed(image)
    for name in ("wave", "text"):
        filter_.GetPointDataArraySelection().EnableArray(name)
    filter_.Update()
    assert "array 'text' holds strings, not numbers; it is left out" in messages.GetOutput()
    assert "ERROR" not in messages.GetOutput()
    assert filter_.GetOutputDataObject(0).GetPointData().HasArray("wave")


def test_curvilinear_input_is_told_how_to_become_an_image(messages: vtkStringOutputWindow) -> None:
    curved = vtkImageDataToPointSet()
    curved.SetInputData(vtk_from_fields([wave()]))
    filter_ = compressed(curved)
    filter_.Update()
    assert "a curvilinear grid (vtkStructuredGrid)" in filter_.GetErrorText()
    assert "apply Resample To Image first (sampling dimensions of 10 x 15 x 19" in filter_.GetErrorText()
    assert messages.GetOutput().count("ERROR") == 1
    filter_.SetResampleToImage(True)
    filter_.SetSamplingDimensions(8, 9, 10)
    filter_.Update()
    assert filter_.GetErrorText() == ""
    assert filter_.GetOutputDataObject(0).GetDimensions() == (8, 9, 10)


def test_suggested_dimensions_of_a_flat_grid() -> None:
    image = vtkImageData()
    image.SetDimensions(11, 1, 6)
    assert suggested_dimensions(image)[1] == 1


def test_filters_do_not_outlive_their_last_reference() -> None:
    filter_ = compressed(vtk_from_fields([wave()]))
    filter_.Update()
    gone = weakref.ref(filter_)
    del filter_
    gc.collect()
    assert gone() is None


# ------------------------------------------------------------------------------------------------------------ reader


def test_reader_gives_what_the_file_holds(nvc: Path) -> None:
    reader = NvcReader()
    reader.SetFileName(str(nvc))
    reader.Update()
    output = reader.GetOutputDataObject(0)
    for shown, decoded in zip(fields_from_vtk(output), decompress(nvc), strict=True):
        assert (shown.geometry, shown.name, shown.association) == (
            decoded.geometry, decoded.name, decoded.association,
        )  # fmt: skip
        np.testing.assert_array_equal(shown.values, decoded.values)
    assert figure(output, "psnr") > 10
    assert reader.GetTimestepValues() is None


def test_reader_selects_arrays(nvc: Path) -> None:
    reader = NvcReader()
    reader.SetFileName(str(nvc))
    reader.UpdateInformation()
    assert reader.GetPointDataArraySelection().GetArrayName(0) == "wave"
    reader.GetPointDataArraySelection().DisableArray("wave")
    reader.Update()
    assert [f.name for f in fields_from_vtk(reader.GetOutputDataObject(0))] == ["cells"]
    reader.GetCellDataArraySelection().DisableArray("cells")
    reader.Update()
    assert reader.GetOutputDataObject(0).GetExtent() == GRID.extent
    assert reader.GetOutputDataObject(0).GetPointData().GetNumberOfArrays() == 0


@pytest.mark.parametrize("level", [0, 1, 2, 4])
def test_reader_decodes_every_extent_at_every_level(level: int, nvc: Path) -> None:
    reader = NvcReader()
    reader.SetFileName(str(nvc))
    reader.SetLevelOfDetail(level)
    reader.Update()
    whole = reader.GetOutputDataObject(0)
    full = {f.name: f.values for f in decompress(nvc)}
    step = 2**level
    points = full["wave"][::step, ::step, ::step]
    np.testing.assert_array_equal(fields_from_vtk(whole, ["wave"])[0].values, points)
    extent = list(whole.GetExtent())
    for axis in range(3):
        if extent[2 * axis + 1] > extent[2 * axis]:
            part = extent.copy()
            part[2 * axis + 1] = part[2 * axis] = extent[2 * axis + 1]  # the last layer
            reader.Modified()  # or the whole, which is there, would do
            reader.UpdateExtent(part)
            output = reader.GetOutputDataObject(0)
            assert list(output.GetExtent()) == part
            shown = fields_from_vtk(output, ["wave"])[0]
            np.testing.assert_array_equal(shown.values, points.take([-1], axis=2 - axis))
            np.testing.assert_allclose(output.GetPoint(0), whole.GetPoint(whole.ComputePointId(part[::2])))
    if level == 0:
        reader.Modified()
        reader.UpdateExtent((-1, 4, 5, 5, 0, 10))
        (cells,) = fields_from_vtk(reader.GetOutputDataObject(0), ["cells"])
        np.testing.assert_array_equal(cells.values, full["cells"][0:10, 3:4, 2:7])


def test_reader_opens_a_series_and_several_files(tmp_path: Path) -> None:
    codec = HashGrid(steps=60, batch=2048)
    steps = [wave(time=t, shift=t) for t in (0.0, 0.5, 2.0)]
    (tmp_path / "s.nvc").write_bytes(compress(steps, Ratio(8), codec).data)
    reader = NvcReader()
    reader.SetFileName(str(tmp_path / "s.nvc"))
    assert reader.GetTimestepValues() == [0.0, 0.5, 2.0]
    reader.UpdateTimeStep(2.0)
    output = reader.GetOutputDataObject(0)
    np.testing.assert_array_equal(fields_from_vtk(output)[0].values, decompress(tmp_path / "s.nvc")[2].values)
    assert output.GetInformation().Get(vtkDataObject.DATA_TIME_STEP()) == 2.0
    several = NvcReader()
    for i, step in enumerate(steps[:2]):
        path = tmp_path / f"{i}.nvc"
        path.write_bytes(compress(replace(step, time=None), Ratio(8), codec).data)
        several.AddFileName(str(path))
    assert several.GetTimestepValues() == [0.0, 1.0]
    several.UpdateTimeStep(1.0)
    np.testing.assert_array_equal(
        fields_from_vtk(several.GetOutputDataObject(0))[0].values, decompress(tmp_path / "1.nvc")[0].values
    )


def test_several_grids_become_blocks(tmp_path: Path) -> None:
    data = compress([wave(), wave(AXES, "other")], Ratio(8), HashGrid(steps=60, batch=2048)).data
    (tmp_path / "g.nvc").write_bytes(data)
    reader = NvcReader()
    reader.SetFileName(str(tmp_path / "g.nvc"))
    reader.Update()
    output = reader.GetOutputDataObject(0)
    assert isinstance(output, vtkMultiBlockDataSet)
    assert [fields_from_vtk(output.GetBlock(i))[0].name for i in range(2)] == ["wave", "other"]


def test_reader_notices_a_file_that_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.nvc"
    codec = HashGrid(steps=60, batch=2048)
    path.write_bytes(compress(wave(), Ratio(8), codec).data)
    reader = NvcReader()
    reader.SetFileName(str(path))
    reader.Update()
    path.write_bytes(compress(wave(name="new"), Ratio(9), codec).data)
    reader.Modified()
    reader.Update()
    assert [f.name for f in fields_from_vtk(reader.GetOutputDataObject(0))] == ["new"]


@pytest.mark.parametrize(
    ("content", "says"), [(None, "cannot read"), (b"", "not a NeurComp file"), (b"\x8eNVC\x01", "truncated")]
)
def test_unreadable_file_is_one_message(
    content: bytes | None, says: str, tmp_path: Path, messages: vtkStringOutputWindow
) -> None:
    path = tmp_path / "bad.nvc"
    if content is not None:
        path.write_bytes(content)
    reader = NvcReader()
    reader.SetFileName(str(path))
    for _ in range(2):
        reader.Update()
    assert says in reader.GetErrorText()
    assert messages.GetOutput().count("ERROR: In NvcReader") == 1


def test_level_out_of_range(nvc: Path, messages: vtkStringOutputWindow) -> None:
    reader = NvcReader()
    reader.SetFileName(str(nvc))
    reader.SetLevelOfDetail(-1)
    reader.Update()
    assert "level of detail: expected 0 to 31, got -1" in reader.GetErrorText()


# ------------------------------------------------------------------------------------------------------------ writer


def test_writer_compresses(tmp_path: Path) -> None:
    writer = quick(NvcWriter(), vtk_from_fields([wave()]), Psnr(20))
    writer.SetFileName(str(tmp_path / "a.nvc"))
    assert writer.Write() == 1
    assert measure(wave().values, decompress(tmp_path / "a.nvc")[0].values).psnr >= 20


def test_writer_keeps_what_was_compressed_but_only_if_it_is_unchanged(tmp_path: Path) -> None:
    filter_ = compressed(vtk_from_fields([wave()]))
    filter_.Update()
    content = attached_file(filter_.GetOutputDataObject(0))
    assert content is not None
    writer = quick(NvcWriter(), filter_, Ratio(5))
    writer.SetFileName(str(tmp_path / "a.nvc"))
    assert writer.Write() == 1
    assert (tmp_path / "a.nvc").read_bytes() == content
    changed = vtkImageData()
    changed.DeepCopy(filter_.GetOutputDataObject(0))
    changed.GetPointData().GetArray("wave").SetValue(3, 100.0)
    writer.SetInputDataObject(changed)
    assert writer.Write() == 1
    assert len((tmp_path / "a.nvc").read_bytes()) > 1.5 * len(content)


def test_writer_puts_all_steps_into_one_file(tmp_path: Path) -> None:
    source = Source(*([wave(time=t, shift=t)] for t in (0.5, 1.5, 3.0)))
    writer = quick(NvcWriter(), source)
    writer.SetFileName(str(tmp_path / "a.nvc"))
    writer.SetWriteAllTimeSteps(True)
    assert writer.Write() == 1
    decoded = decompress(tmp_path / "a.nvc")
    assert [f.time for f in decoded] == [0.5, 1.5, 3.0]
    for field in decoded:
        assert field.time is not None
        assert measure(wave(shift=field.time).values, field.values).psnr > 15
    assert writer.Write() == 1


def test_writer_shares_a_size_among_the_steps(tmp_path: Path) -> None:
    steps = [wave(time=t, shift=t) for t in (0.5, 1.5, 3.0, 4.0)]
    writer = quick(NvcWriter(), Source(*([step] for step in steps)), Ratio(10))
    writer.SetFileName(str(tmp_path / "a.nvc"))
    writer.SetWriteAllTimeSteps(True)
    texts: list[str] = []
    writer.AddObserver(vtkCommand.ProgressEvent, lambda *_: texts.append(writer.GetProgressText() or ""))
    assert writer.Write() == 1
    budget = sum(step.nbytes for step in steps) / 10
    assert 0.97 * budget <= (tmp_path / "a.nvc").stat().st_size <= budget
    assert any(text.startswith("time step 3/4, step ") for text in texts)


def test_writer_keeps_the_steps_before_the_time_limit(tmp_path: Path, messages: vtkStringOutputWindow) -> None:
    class Late(NvcWriter):
        def _encoded(self, sources: list[vtkDataSet], count: int) -> tuple[bytes | None, bool]:
            if self._parts:
                self._whole = self._progress(1e-6)
            return super()._encoded(sources, count)

    for keep in (False, True):
        writer = quick(Late(), Source(*([wave(time=t)] for t in (0.5, 1.5, 3.0))))
        writer.SetFileName(str(tmp_path / "a.nvc"))
        writer.SetWriteAllTimeSteps(True)
        writer.SetKeepBest(keep)
        assert writer.Write() == keep
        assert (tmp_path / "a.nvc").exists() == keep
    assert "nothing was written ('Keep Best' writes the best so far)" in messages.GetOutput()
    assert "holds the best so far" in messages.GetOutput()
    assert decompress(tmp_path / "a.nvc")[0].time == 0.5


def test_writer_keeps_the_steps_that_neural_compress_made(tmp_path: Path) -> None:
    filter_ = compressed(Source(*([wave(time=t, shift=t)] for t in (0.5, 1.5))))
    filter_.SetFileName(str(tmp_path / "step.nvc"))
    writer = quick(NvcWriter(), filter_, Ratio(3))
    writer.SetFileName(str(tmp_path / "a.nvc"))
    writer.SetWriteAllTimeSteps(True)
    assert writer.Write() == 1
    for number, field in enumerate(decompress(tmp_path / "a.nvc")):
        (step,) = decompress(tmp_path / f"step_{number:04d}.nvc")
        assert step.time == field.time
        np.testing.assert_array_equal(step.values, field.values)


@pytest.mark.parametrize("geometry", [GRID, AXES])
@pytest.mark.parametrize("association", ["point", "cell"])
def test_pieces_make_the_whole(geometry: UniformGrid | RectilinearGrid, association: Association) -> None:
    whole = [wave(geometry, association=association, components=2), wave(geometry, "other", association)]
    whole[1] = replace(whole[1], mask=whole[1].values > 2)
    x, y, z = geometry.dimensions
    cuts = [(slice(0, 7), slice(0, y)), (slice(6, x), slice(0, 5)), (slice(6, x), slice(4, y))]
    parts = []
    for across, along in cuts:
        start, count = (across.start, along.start, 0), (across.stop - across.start, along.stop - along.start, z)
        less = association == "cell"
        box = (slice(None), slice(along.start, along.stop - less), slice(across.start, across.stop - less))
        grid = geometry.sample(start, count, 1)
        parts.append([
            replace(f, values=f.values[box], geometry=grid, mask=None if f.mask is None else f.mask[box]) for f in whole
        ])  # fmt: skip
    for expected, got in zip(whole, assembled(parts), strict=True):
        np.testing.assert_array_equal(got.values, expected.values)
        assert got.geometry == expected.geometry
        assert (got.mask is None) == (expected.mask is None)
        if got.mask is not None:
            np.testing.assert_array_equal(got.mask, expected.mask)
    with pytest.raises(InputError, match="leave a part of the grid out"):
        assembled([parts[0], parts[2]])
    with pytest.raises(InputError, match="different arrays"):
        assembled([parts[0], parts[1][:1], parts[2]])


def test_writer_fails_loudly(tmp_path: Path, messages: vtkStringOutputWindow) -> None:
    writer = quick(NvcWriter(), vtk_from_fields([wave()]), Ratio(1e6))
    assert writer.Write() == 0
    assert "no file name is set" in writer.GetErrorText()
    writer.SetFileName(str(tmp_path / "a.nvc"))
    assert writer.Write() == 0
    assert "ask for a ratio of at most" in writer.GetErrorText()
    assert not list(tmp_path.iterdir())


# ----------------------------------------------------------------------------------------------------------- compare


def compare(first: Any, second: Any) -> VolumeCompare:
    filter_ = VolumeCompare()
    filter_.SetInputDataObject(0, first)
    filter_.SetInputDataObject(1, second)
    filter_.Update()
    return filter_


def test_compare_measures_and_shows() -> None:
    a = wave()
    b = replace(a, values=a.values + np.float32(0.25))
    filter_ = compare(vtk_from_fields([a]), vtk_from_fields([b]))
    shown = {f.name: f.values for f in fields_from_vtk(filter_.GetOutputDataObject(0))}
    span = float(a.values.max() - a.values.min())
    np.testing.assert_allclose(shown["wave_difference"], 0.25, atol=1e-6)
    np.testing.assert_allclose(shown["wave_relative_error"], 0.25 / span, rtol=1e-5)
    table = filter_.GetOutputDataObject(1)
    quality = measure(a.values, b.values)
    assert table.GetValueByName(0, "Array").ToString() == "wave"
    assert table.GetValueByName(0, "PSNR (dB)").ToDouble() == pytest.approx(quality.psnr)
    assert table.GetValueByName(0, "Max Error").ToDouble() == pytest.approx(quality.max_error)
    assert table.GetValueByName(0, "Samples").ToInt() == a.voxels


def test_compare_leaves_masked_samples_out() -> None:
    mask = np.zeros(wave().values.shape, bool)
    mask[0] = True
    a = replace(wave(), mask=mask)
    b = replace(a, values=np.where(mask, np.float32(99), a.values))
    filter_ = compare(vtk_from_fields([a]), vtk_from_fields([b]))
    assert filter_.GetOutputDataObject(1).GetValueByName(0, "Max Error").ToDouble() == 0
    shown = vtk_to_numpy(filter_.GetOutputDataObject(0).GetPointData().GetArray("wave_absolute_error"))
    assert np.isnan(shown.reshape(mask.shape)[0]).all()


def test_compare_pairs_single_arrays_of_different_names() -> None:
    filter_ = compare(vtk_from_fields([wave()]), vtk_from_fields([wave(name="other")]))
    assert filter_.GetOutputDataObject(1).GetValueByName(0, "Array").ToString() == "other vs wave"


def test_compare_refuses_what_does_not_fit(messages: vtkStringOutputWindow) -> None:
    small = UniformGrid((0, 5, 0, 5, 0, 5))
    filter_ = compare(vtk_from_fields([wave()]), vtk_from_fields([wave(small)]))
    assert "the inputs differ in size: 16 x 13 x 11 points and 6 x 6 x 6 points" in filter_.GetErrorText()
    filter_ = compare(vtk_from_fields([wave(), wave(name="b")]), vtk_from_fields([wave(name="c")]))
    assert "have no array in common" in filter_.GetErrorText()


def test_sources_of_vtk_work_as_they_are() -> None:
    source = vtkRTAnalyticSource()
    source.SetWholeExtent(0, 15, 0, 15, 0, 7)
    filter_ = compressed(source)
    filter_.Update()
    assert filter_.GetErrorText() == ""
    producer = vtkTrivialProducer()
    producer.SetOutput(filter_.GetOutputDataObject(0))
    again = compressed(producer)
    again.Update()
    assert again.GetOutputDataObject(0).GetDimensions() == (16, 16, 8)


def test_importing_the_filters_loads_neither_torch_nor_numba() -> None:
    modules = ("compare", "compress", "reader", "writer", "scripting")
    imports = "".join(f"import neurcomp_filters.{m}\n" for m in modules)
    heavy = "print(sorted({'torch', 'numba', 'paraview', 'neurcomp_cli'} & set(sys.modules)))"
    code = f"import sys\n{imports}from neurcomp_filters.settings import codec_names\ncodec_names()\n{heavy}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
