"""Volume Compare: where and by how much one data set differs from another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonCore import vtkDataArraySelection, vtkStringArray
from vtkmodules.vtkCommonDataModel import vtkCompositeDataSet, vtkDataObject, vtkDataSet, vtkTable
from vtkmodules.vtkCommonExecutionModel import vtkAlgorithm

from neurcomp_core import metrics
from neurcomp_core.errors import InputError
from neurcomp_core.field import Field
from neurcomp_filters import pieces, resample
from neurcomp_filters.algorithm import Algorithm
from neurcomp_filters.arrays import ArrayChoice
from neurcomp_filters.bridge import fields_from_vtk, vtk_from_fields

#: Columns of the table, in order, with what each is.
COLUMNS = ("PSNR (dB)", "SSIM", "RMSE", "Max Error", "Relative Max Error", "Range", "Samples")


class VolumeCompare(Algorithm):
    """Compare the arrays of a reconstruction (input 1) with those of the original (input 0).

    Arrays are paired by name; where both inputs have a single one, they are a pair whatever their names. Output 0 is
    the grid of the original with, per array, ``NAME_difference`` (reconstruction minus original),
    ``NAME_absolute_error`` and ``NAME_relative_error`` (of the original's range). Output 1 is a table: PSNR, SSIM,
    RMSE, largest error absolute and relative, range and number of samples, as `neurcomp_core.metrics` defines them. In
    a parallel run each process has the figures of its piece.
    """

    def __init__(self) -> None:
        super().__init__(nInputPorts=2, inputType="vtkDataSet", nOutputPorts=2, outputType="vtkDataSet")
        self._arrays = ArrayChoice(self)
        self._blocks = pieces.Blocks(self)
        self._ssim = True

    def GetPointDataArraySelection(self) -> vtkDataArraySelection:
        return self._arrays.selections["point"]

    def GetCellDataArraySelection(self) -> vtkDataArraySelection:
        return self._arrays.selections["cell"]

    def SetComputeSSIM(self, wanted: bool) -> None:
        """Whether to compute the structural similarity, which takes the most time."""
        self._set(_ssim=bool(wanted))

    # ...................................................................................................... pipeline

    def FillInputPortInformation(self, port: int, info: Any) -> int:
        # The pipeline goes through the blocks of the first input; those of the second are looked up.
        kind = "vtkDataSet" if port == 0 else "vtkDataObject"
        info.Set(vtkAlgorithm.INPUT_REQUIRED_DATA_TYPE(), kind)
        return 1

    def FillOutputPortInformation(self, port: int, info: Any) -> int:
        info.Set(vtkDataObject.DATA_TYPE_NAME(), "vtkTable" if port == 1 else "vtkDataSet")
        return 1

    def RequestDataObject(self, request: Any, inInfo: Any, outInfo: Any) -> int:
        source = self.GetInputData(inInfo, 0, 0)
        if source is None:
            return 0
        output = self.GetOutputData(outInfo, 0)
        if output is None or output.GetClassName() != source.GetClassName():
            outInfo.GetInformationObject(0).Set(vtkDataObject.DATA_OBJECT(), source.NewInstance())
        if self.GetOutputData(outInfo, 1) is None:
            outInfo.GetInformationObject(1).Set(vtkDataObject.DATA_OBJECT(), vtkTable())
        return 1

    def RequestUpdateExtent(self, request: Any, inInfo: Any, outInfo: Any) -> int:
        for vector in inInfo:
            pieces.request_all(vector.GetInformationObject(0))
        return 1

    def RequestData(self, request: Any, inInfo: Any, outInfo: Any) -> int:
        first, second = (self.GetInputData(inInfo, port, 0) for port in (0, 1))
        outputs = [self.GetOutputData(outInfo, port) for port in (0, 1)]
        block = self._blocks.index(first)
        if block is not None and isinstance(second, vtkCompositeDataSet):
            second = pieces.leaves(second).get(block)
        key = (first.GetMTime(), second.GetMTime() if second is not None else 0, block)
        keep = max(1, len(self._blocks))
        self._guarded(key, outputs, lambda: self._compare(first, second, outputs), keep=keep)
        return 1

    # .......................................................................................................... work

    def _compare(self, first: vtkDataSet, second: Any, outputs: list[Any]) -> None:
        if second is None:
            raise InputError("the reconstruction has no such block; both inputs must have the same structure")
        for data in (first, second):
            resample.check_regular(data)
        pairs = self._pairs(self._arrays.fields(first), fields_from_vtk(second))
        progress = self._progress()
        errors: list[Field] = []
        rows: list[tuple[str, list[float]]] = []
        for done, (a, b) in enumerate(pairs):
            name = a.name if a.name == b.name else f"{b.name} vs {a.name}"
            progress.update(done / len(pairs), f"comparing {name}")
            quality = metrics.measure(a.values, b.values, a.mask)
            similarity = metrics.ssim(a.values, b.values, a.mask) if self._ssim else float("nan")
            relative = quality.max_error / quality.range if quality.range else float("nan")
            rows.append(
                (name, [quality.psnr, similarity, quality.rmse, quality.max_error, relative, quality.range,
                        float(quality.samples)])
            )  # fmt: skip
            errors += _errors(a, b, quality.range)
        outputs[0].ShallowCopy(vtk_from_fields(errors))
        outputs[1].ShallowCopy(_table(rows))
        progress.update(1.0, "compared")

    def _pairs(self, first: list[Field], second: list[Field]) -> list[tuple[Field, Field]]:
        others = {(f.association, f.name): f for f in second}
        pairs = [(f, others[f.association, f.name]) for f in first if (f.association, f.name) in others]
        if not pairs and len(first) == len(second) == 1:
            pairs = [(first[0], second[0])]
        if not pairs:
            names = [", ".join(f"'{f.name}' ({f.association})" for f in fields) for fields in (first, second)]
            raise InputError(f"the inputs have no array in common: the original has {names[0]}, the other {names[1]}")
        for a, b in pairs:
            if a.values.shape != b.values.shape or a.association != b.association:
                raise InputError(
                    f"array '{a.name}': the inputs differ in size: {_size(a)} and {_size(b)}; "
                    "compare at full resolution, or bring one onto the other's grid with Resample With Dataset"
                )
        return pairs


def _size(field: Field) -> str:
    z, y, x = field.values.shape[:3]
    many = f" of {field.components} components" if field.components > 1 else ""
    return f"{x} x {y} x {z} {field.association}s{many}"


def _errors(original: Field, other: Field, value_range: float) -> list[Field]:
    """Difference, absolute and relative error arrays; NaN where the original is not data."""
    wide = np.float64 if original.values.dtype.itemsize > 4 or other.values.dtype.itemsize > 4 else np.float32
    with np.errstate(invalid="ignore", over="ignore"):
        difference = other.values.astype(np.float64) - original.values.astype(np.float64)
    if original.mask is not None:
        difference[original.mask] = np.nan
    magnitude = np.abs(difference)
    relative = magnitude / value_range if value_range else np.where(magnitude == 0, 0.0, np.nan)
    parts = {"difference": difference, "absolute_error": magnitude, "relative_error": relative}
    return [
        replace(original, name=f"{original.name}_{name}", values=values.astype(wide), mask=None)
        for name, values in parts.items()
    ]


def _table(rows: list[tuple[str, list[float]]]) -> vtkTable:
    table = vtkTable()
    names = vtkStringArray()
    names.SetName("Array")
    for name, _ in rows:
        names.InsertNextValue(name)
    table.AddColumn(names)
    for i, title in enumerate(COLUMNS):
        column = numpy_to_vtk(np.array([values[i] for _, values in rows]), deep=True)
        column.SetName(title)
        table.AddColumn(column)
    return table
