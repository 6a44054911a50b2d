"""Rate–Distortion: how good each codec is at which size, as tables for a line chart."""

from __future__ import annotations

from typing import Any

import numpy as np
from vtkmodules.vtkCommonDataModel import vtkDataObject

from neurcomp_core import metrics
from neurcomp_core.field import Field
from neurcomp_core.target import parse_targets
from neurcomp_filters.several import SeveralCodecs, Trial
from neurcomp_filters.tables import table

#: Targets by default.
TARGETS = "ratio:20,50,100,200"
#: Name of the column to draw along x.
RATE = "bits per voxel"


class RateDistortion(SeveralCodecs):
    """Try codecs at several targets.

    Output 0 is a table for a line chart: bits per voxel of the files, rising, and a column of PSNR (dB) per codec. A
    codec's column has its measured points and, at the sizes of the other codecs' files, values between them, linear
    over the logarithm of the size; outside its own points it is NaN. Output 1 has a row per file: codec, target, bytes,
    ratio, bits per voxel, PSNR, RMSE, largest error, seconds.
    """

    def __init__(self) -> None:
        super().__init__(nOutputPorts=2, outputType="vtkTable")
        self._targets = TARGETS

    def SetTargets(self, text: str) -> None:
        """Targets such as ``ratio:20,50 psnr:40``; see `target.parse_targets`."""
        self._set(_targets=str(text or ""))

    def FillOutputPortInformation(self, port: int, info: Any) -> int:
        info.Set(vtkDataObject.DATA_TYPE_NAME(), "vtkTable")
        return 1

    def _work(self, source: vtkDataObject, outputs: list[Any]) -> None:
        targets = parse_targets(self._targets)
        field = self.field(source)
        found = list(self.trials(field, targets))
        outputs[0].ShallowCopy(table(curves(field, found)))
        outputs[1].ShallowCopy(table(rows(field, found)))


def rows(field: Field, found: list[Trial]) -> dict[str, list]:
    """Figures of trials by column."""
    sizes = [t.file_bytes for t in found]
    return {
        "Codec": [t.codec for t in found],
        "Target": [str(t.target) for t in found],
        "Bytes": sizes,
        "Ratio": [metrics.ratio(field.nbytes, size) for size in sizes],
        "Bits per Voxel": [metrics.bits_per_voxel(size, field.voxels) for size in sizes],
        "PSNR (dB)": [t.quality.psnr for t in found],
        "RMSE": [t.quality.rmse for t in found],
        "Max Error": [t.quality.max_error for t in found],
        "Encode (s)": [t.encode for t in found],
        "Decode (s)": [t.decode for t in found],
    }


def curves(field: Field, found: list[Trial]) -> dict[str, list]:
    """`RATE` and PSNR of each codec at the sizes of all files; lossless files, whose PSNR is infinite, are left out."""
    finite = [t for t in found if np.isfinite(t.quality.psnr)]
    sizes = np.array(sorted({t.file_bytes for t in finite}), float)
    columns = {RATE: [metrics.bits_per_voxel(int(size), field.voxels) for size in sizes]}
    for codec in dict.fromkeys(t.codec for t in finite):
        # Of files of one size the best.
        best: dict[int, float] = {}
        for t in finite:
            if t.codec == codec:
                best[t.file_bytes] = max(t.quality.psnr, best.get(t.file_bytes, -np.inf))
        x, y = zip(*sorted(best.items()), strict=True)
        between = np.interp(np.log(sizes), np.log(x), y, left=np.nan, right=np.nan)
        columns[codec] = between.tolist()
    return columns
