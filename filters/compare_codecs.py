"""Compare Codecs: an array and what several codecs leave of it at one target, side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from vtkmodules.vtkCommonDataModel import vtkCompositeDataSet, vtkDataObject, vtkMultiBlockDataSet

from neurcomp_core import metrics
from neurcomp_core.field import Field, Geometry, UniformGrid
from neurcomp_filters.bridge import vtk_from_fields
from neurcomp_filters.rate_distortion import rows
from neurcomp_filters.several import SeveralCodecs
from neurcomp_filters.tables import table


class CompareCodecs(SeveralCodecs):
    """Reconstructions of one array by several codecs at one target, 50:1 by default.

    Output 0 is a multiblock: the original, then a block per codec, named so and placed one beside the other along the
    first axis. All blocks have the array under its own name, so that one transfer function serves them, and
    ``NAME_absolute_error``. Output 1 is a table with a row per codec: bytes, ratio, bits per voxel, PSNR, RMSE, largest
    error, seconds and SSIM.
    """

    def __init__(self) -> None:
        super().__init__(nOutputPorts=2, outputType="vtkMultiBlockDataSet")
        self._gap = 0.1
        self._ssim = True

    def SetGap(self, share: float) -> None:
        """Space between the blocks as a share of their width."""
        self._set(_gap=float(share))

    def SetComputeSSIM(self, wanted: bool) -> None:
        """Whether to compute the structural similarity, too."""
        self._set(_ssim=bool(wanted))

    def FillOutputPortInformation(self, port: int, info: Any) -> int:
        info.Set(vtkDataObject.DATA_TYPE_NAME(), "vtkTable" if port else "vtkMultiBlockDataSet")
        return 1

    def _work(self, source: vtkDataObject, outputs: list[Any]) -> None:
        field = self.field(source)
        found = list(self.trials(field, (self.target(),)))
        blocks = vtkMultiBlockDataSet()
        shown = [("original", field), *((t.codec, t.decoded) for t in found)]
        for i, (name, values) in enumerate(shown):
            place = shifted(field.geometry, i * (1 + self._gap))
            parts = [replace(f, geometry=place) for f in (replace(field, values=values.values), error(field, values))]
            blocks.SetBlock(i, vtk_from_fields(parts))
            blocks.GetMetaData(i).Set(vtkCompositeDataSet.NAME(), name)
        columns = rows(field, found)
        if self._ssim:
            columns["SSIM"] = [metrics.ssim(field.values, t.decoded.values, field.mask) for t in found]
        outputs[0].ShallowCopy(blocks)
        outputs[1].ShallowCopy(table(columns))


def error(original: Field, decoded: Field) -> Field:
    """``|decoded - original|`` as floats, named ``NAME_absolute_error``; NaN where the original is not data."""
    wide = np.float32 if original.values.dtype.itemsize <= 4 else np.float64
    with np.errstate(invalid="ignore", over="ignore"):
        values = np.abs(decoded.values.astype(np.float64) - original.values.astype(np.float64))
    if original.mask is not None:
        values[original.mask] = np.nan
    return replace(original, name=f"{original.name}_absolute_error", values=values.astype(wide))


def shifted(grid: Geometry, widths: float) -> Geometry:
    """A grid moved along its first axis by so many times its width."""
    if isinstance(grid, UniformGrid):
        length = widths * max(grid.dimensions[0] - 1, 1) * grid.spacing[0]
        along = grid.direction[::3]
        return replace(grid, origin=tuple(o + length * d for o, d in zip(grid.origin, along, strict=True)))
    x = np.asarray(grid.x, np.float64)
    width = abs(float(x[-1] - x[0])) or 1.0
    return replace(grid, x=x + widths * width)
