"""The filters that try several codecs, in plain VTK and in ParaView."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paraview_env as pv
import pytest
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkOutputWindow, vtkStringOutputWindow
from vtkmodules.vtkCommonDataModel import vtkCompositeDataSet, vtkMultiBlockDataSet, vtkTable

from neurcomp_core import metrics
from neurcomp_core.errors import TargetError
from neurcomp_core.field import Field, RectilinearGrid, UniformGrid
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.samples import marschner_lobb
from neurcomp_core.target import Psnr, Ratio
from neurcomp_filters import several
from neurcomp_filters.bridge import fields_from_vtk, vtk_from_fields
from neurcomp_filters.compare_codecs import CompareCodecs, shifted
from neurcomp_filters.rate_distortion import RATE, RateDistortion
from neurcomp_filters.several import SeveralCodecs

pytest.importorskip("zfpy", reason="needs the extra 'peers'")

CODECS = ("tthresh", "zfp")


@pytest.fixture
def window() -> Iterator[vtkStringOutputWindow]:
    before, messages = vtkOutputWindow.GetInstance(), vtkStringOutputWindow()
    vtkOutputWindow.SetInstance(messages)
    yield messages
    vtkOutputWindow.SetInstance(before)


def tried(algorithm: SeveralCodecs, *fields: Field, codecs: tuple[str, ...] = CODECS) -> Any:
    algorithm.SetInputDataObject(vtk_from_fields(fields or [marschner_lobb(32)]))
    algorithm.SetCodecs(*codecs)
    algorithm.Update()
    return algorithm


def columns(table: vtkTable) -> dict[str, list]:
    found = {}
    for i in range(table.GetNumberOfColumns()):
        column = table.GetColumn(i)
        found[column.GetName()] = [column.GetValue(k) for k in range(table.GetNumberOfRows())]
    return found


# ------------------------------------------------------------------------------------------------- rate–distortion


def test_curves_go_through_the_measured_points() -> None:
    algorithm = RateDistortion()
    algorithm.SetTargets("ratio:10,30 psnr:45")
    tried(algorithm)
    curves, files = (columns(algorithm.GetOutputDataObject(port)) for port in (0, 1))
    assert list(curves) == [RATE, *CODECS]
    assert curves[RATE] == sorted(curves[RATE])
    assert files["Codec"] == [name for name in CODECS for _ in range(3)]
    assert files["Target"] == ["ratio 10", "ratio 30", "psnr 45"] * 2
    for codec, rate, psnr in zip(files["Codec"], files["Bits per Voxel"], files["PSNR (dB)"], strict=True):
        assert curves[codec][curves[RATE].index(rate)] == pytest.approx(psnr)
    # Outside a codec's own points its curve does not guess.
    for codec in CODECS:
        own = [r for c, r in zip(files["Codec"], files["Bits per Voxel"], strict=True) if c == codec]
        known = [r for r, value in zip(curves[RATE], curves[codec], strict=True) if not np.isnan(value)]
        assert (min(known), max(known)) == (min(own), max(own))


def test_figures_are_those_of_the_library() -> None:
    algorithm = RateDistortion()
    algorithm.SetTargets("psnr:40")
    files = columns(tried(algorithm).GetOutputDataObject(1))
    field = marschner_lobb(32)
    for i, name in enumerate(CODECS):
        compressed = compress(field, Psnr(40), name)
        assert files["Bytes"][i] == len(compressed.data)
        assert files["PSNR (dB)"][i] == pytest.approx(compressed.reports[0].quality.psnr)
        assert files["Ratio"][i] == pytest.approx(field.nbytes / len(compressed.data))


def test_a_codec_that_fails_is_left_out(window: vtkStringOutputWindow, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails_for_zfp(field: Field, target: Any, codec: Any, context: Any) -> Any:
        if codec.name == "zfp":
            raise TargetError("too much is asked")
        return compress(field, target, codec, context)

    monkeypatch.setattr(several, "compress", fails_for_zfp)
    algorithm = tried(RateDistortion())
    assert set(columns(algorithm.GetOutputDataObject(1))["Codec"]) == {"tthresh"}
    assert "zfp, ratio 20: too much is asked; zfp, ratio 50: too much" in window.GetOutput()
    tried(algorithm, codecs=("zfp",))
    assert "no codec succeeded: zfp, ratio 20: too much is asked" in algorithm.GetErrorText()
    assert algorithm.GetOutputDataObject(0).GetNumberOfRows() == 0


def test_a_lossless_file_has_no_place_on_the_curve() -> None:
    steps = replace(marschner_lobb(12), values=(marschner_lobb(12).values * 8).astype(np.uint8))
    algorithm = RateDistortion()
    algorithm.SetTargets("max-error:0.4 psnr:20")
    tried(algorithm, steps, codecs=("zfp",))
    curves, files = (columns(algorithm.GetOutputDataObject(port)) for port in (0, 1))
    assert np.isinf(files["PSNR (dB)"][0])
    assert len(curves["zfp"]) == 1


# ------------------------------------------------------------------------------------------------- compare codecs


def blocks_of(algorithm: CompareCodecs) -> dict[str, Any]:
    output = algorithm.GetOutputDataObject(0)
    names = [output.GetMetaData(i).Get(vtkCompositeDataSet.NAME()) for i in range(output.GetNumberOfBlocks())]
    return dict(zip(names, (output.GetBlock(i) for i in range(len(names))), strict=True))


def test_codecs_stand_side_by_side_at_equal_bytes() -> None:
    field = marschner_lobb(32)
    algorithm = CompareCodecs()
    algorithm.SetTarget(Ratio(20))
    blocks = blocks_of(tried(algorithm, field))
    assert list(blocks) == ["original", *CODECS]
    figures = columns(algorithm.GetOutputDataObject(1))
    assert [0.96 <= size * 20 / field.nbytes <= 1 for size in figures["Bytes"]] == [True, True]
    ends = -np.inf
    for name, block in blocks.items():
        low, high = block.GetBounds()[:2]
        assert low > ends
        assert high - low == pytest.approx(2)
        assert block.GetBounds()[2:] == blocks["original"].GetBounds()[2:]
        ends = high
        values, errors = (f.values for f in fields_from_vtk(block))
        assert [f.name for f in fields_from_vtk(block)] == ["marschner_lobb", "marschner_lobb_absolute_error"]
        np.testing.assert_allclose(errors, np.abs(values - field.values), atol=1e-7)
        if name != "original":
            i = figures["Codec"].index(name)
            assert figures["Max Error"][i] == pytest.approx(errors.max(), rel=1e-5)
            assert figures["SSIM"][i] == pytest.approx(metrics.ssim(field.values, values))
            np.testing.assert_array_equal(values, decompress(compress(field, Ratio(20), name).data)[0].values)


def test_grids_move_along_their_first_axis() -> None:
    turned = UniformGrid(
        (2, 6, 0, 1, 0, 1), (1.0, 1.0, 1.0), (0.5, 1.0, 1.0), (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    )
    assert shifted(turned, 1.5).origin == pytest.approx((1.0, 4.0, 1.0))  # type: ignore[union-attr]
    axes = RectilinearGrid(np.array([0, 1, 4], np.float32), np.arange(2.0), np.arange(2.0))
    np.testing.assert_array_equal(shifted(axes, 2).x, [8, 9, 12])  # type: ignore[union-attr]


def test_masks_cells_and_rectilinear_grids_pass(window: vtkStringOutputWindow) -> None:
    axes = RectilinearGrid(np.linspace(0, 1, 13) ** 2, np.linspace(0, 1, 12), np.linspace(0, 1, 11))
    z, y, x = np.mgrid[:10, :11, :12]
    mask = (x + y + z) % 17 == 0
    field = Field((np.sin(x / 3) + y * z / 50.0), axes, "cells", "cell", mask=mask)
    algorithm = CompareCodecs()
    algorithm.SetTarget(Psnr(40))
    blocks = blocks_of(tried(algorithm, field))
    assert window.GetOutput() == ""
    assert all(block.IsA("vtkRectilinearGrid") for block in blocks.values())
    values = vtk_to_numpy(blocks["zfp"].GetCellData().GetArray("cells_absolute_error")).reshape(mask.shape)
    assert np.isnan(values[mask]).all()
    assert np.isfinite(values[~mask]).all()
    np.testing.assert_array_equal(vtk_to_numpy(blocks["zfp"].GetCellData().GetArray("vtkGhostType")) != 0, mask.ravel())


# --------------------------------------------------------------------------------------------------------- both


def test_one_array_is_taken_and_said_to_be(window: vtkStringOutputWindow) -> None:
    fields = [replace(marschner_lobb(12), name=name) for name in ("first", "second")]
    algorithm = tried(CompareCodecs(), *fields, codecs=("zfp",))
    assert "of 'first', 'second' it took 'first'" in window.GetOutput()
    algorithm.GetPointDataArraySelection().EnableArray("second")
    algorithm.Update()
    assert fields_from_vtk(blocks_of(algorithm)["zfp"])[0].name == "second"


@pytest.mark.parametrize("kind", [RateDistortion, CompareCodecs])
def test_what_cannot_be_compressed_is_an_error(kind: type[SeveralCodecs], window: vtkStringOutputWindow) -> None:
    algorithm = kind()
    several_blocks = vtkMultiBlockDataSet()
    several_blocks.SetBlock(0, vtk_from_fields([marschner_lobb(8)]))
    algorithm.SetInputDataObject(several_blocks)
    algorithm.Update()
    assert "vtkMultiBlockDataSet" in algorithm.GetErrorText()
    algorithm.SetInputDataObject(vtk_from_fields([marschner_lobb(8)]))
    algorithm.GetCodecSelection().DisableAllArrays()
    algorithm.Update()
    assert "no codec is chosen" in algorithm.GetErrorText()


def test_nothing_runs_twice_and_a_stop_is_told(window: vtkStringOutputWindow, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(field: Field, target: Any, codec: Any, context: Any) -> Any:
        calls.append(codec.name)
        return compress(field, target, codec, context)

    monkeypatch.setattr(several, "compress", counted)
    algorithm = tried(CompareCodecs())
    algorithm.Update()
    assert calls == list(CODECS)
    monkeypatch.setattr(algorithm, "_aborted", lambda: True)
    monkeypatch.setattr("neurcomp_filters.algorithm._REPORT_EVERY", 0.0)
    algorithm.SetTarget(Ratio(30))
    algorithm.Update()
    assert "stopped at tthresh, ratio 30" in algorithm.GetErrorText()


# ------------------------------------------------------------------------------------------------------ ParaView

PROGRAM = """
import json
from paraview.simple import *
from neurcomp_filters.scripting import checked
# A wave with a gradient: neither constant nor symmetric.
wavelet = Wavelet(WholeExtent=[-8, 8, -7, 7, -6, 6])
with checked():
    curves = RateDistortion(Input=wavelet, Targets="ratio:20,40")
    offered = list(curves.GetProperty("Codecs").Available) if hasattr(curves.GetProperty("Codecs"), "Available") else []
    curves.Codecs = ["sperr", "tthresh"]
    UpdatePipeline(proxy=curves)
    codecs = CompareCodecs(Input=wavelet, Target="Compression Ratio", Ratio=30)
    codecs.Codecs = ["sperr", "tthresh"]
    UpdatePipeline(proxy=codecs)
def rows(proxy, port):
    table = servermanager.Fetch(proxy, idx=port)
    heads = [table.GetColumnName(i) for i in range(table.GetNumberOfColumns())]
    return [dict(zip(heads, [table.GetValue(k, i).ToString() for i in range(len(heads))]))
            for k in range(table.GetNumberOfRows())]
print(json.dumps({
    "curves": rows(curves, 0), "files": rows(curves, 1), "figures": rows(codecs, 1), "offered": offered,
    "bounds": codecs.GetDataInformation().GetBounds(), "arrays": sorted(codecs.PointData.keys()),
    "kind": codecs.GetDataInformation().GetCompositeDataClassName(),
    "properties": sorted(codecs.ListProperties()),
}))
"""


@pytest.mark.paraview
def test_in_paraview(tmp_path: Path) -> None:
    done = pv.run([pv.program("pvpython"), str(pv.script(tmp_path, PROGRAM))], tmp_path, pv.environment(tmp_path))
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert list(found["curves"][0]) == [RATE, "sperr", "tthresh"]
    assert [row["Codec"] for row in found["files"]] == ["sperr", "sperr", "tthresh", "tthresh"]
    assert [row["Codec"] for row in found["figures"]] == ["sperr", "tthresh"]
    assert all(30 <= float(row["Ratio"]) <= 31 for row in found["figures"])
    assert found["arrays"] == ["RTData", "RTData_absolute_error"]
    assert found["kind"] == "vtkMultiBlockDataSet"
    # Three blocks of a width of 16, and gaps of a tenth.
    assert found["bounds"][:2] == pytest.approx([-8, 8 + 2 * 16 * 1.1])
    assert {"Codecs", "Target", "Ratio", "Preset", "Gap", "ComputeSSIM", "PointArrays"} <= set(found["properties"])
