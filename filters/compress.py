"""Neural Compress: a data set in, what is left of it after compression out, with the figures."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from vtkmodules.vtkCommonCore import vtkDataArraySelection
from vtkmodules.vtkCommonDataModel import vtkDataObject, vtkDataSet
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline

from neurcomp_core.container import Container
from neurcomp_core.errors import Cancelled, InputError, Interrupted
from neurcomp_core.field import Field
from neurcomp_core.files import atomic_write, checked_path
from neurcomp_core.metrics import ratio
from neurcomp_core.pipeline import Compressed, compress, decompress
from neurcomp_core.regions import Importance
from neurcomp_filters import pieces, resample
from neurcomp_filters.arrays import ArrayChoice
from neurcomp_filters.bridge import ASSOCIATIONS, GHOSTS, vtk_from_fields
from neurcomp_filters.figures import add_figures, attach_file, figures_of
from neurcomp_filters.regions import RegionSettings


class NeuralCompress(RegionSettings):
    """Compress the arrays of an image or a rectilinear grid and show what comes back.

    The output is the reconstruction, decoded from the very bytes that a file would have. Its field data hold codec,
    bytes, ratio, bits per voxel, PSNR, largest error and seconds of each array (``neurcomp_...``), and the file itself,
    which `NvcWriter` then writes as it is. Blocks of a multiblock and pieces of a parallel run are files of their own.

    Examples
    --------
    >>> compressor = NeuralCompress()
    >>> compressor.SetInputConnection(reader.GetOutputPort())
    >>> compressor.SetTarget(Ratio(100))
    >>> compressor.Update()
    >>> image = compressor.GetOutputDataObject(0)
    """

    def __init__(self) -> None:
        super().__init__(nInputPorts=1, inputType="vtkDataSet", nOutputPorts=1, outputType="vtkDataSet")
        self._arrays = ArrayChoice(self)
        self._blocks = pieces.Blocks(self)
        self._error_arrays = False
        self._keep_file = True
        self._file_name = ""
        self._resample = False
        self._dimensions = (100, 100, 100)

    def GetPointDataArraySelection(self) -> vtkDataArraySelection:
        return self._arrays.selections["point"]

    def GetCellDataArraySelection(self) -> vtkDataArraySelection:
        return self._arrays.selections["cell"]

    def SetErrorArrays(self, wanted: bool) -> None:
        """Whether to add ``NAME_error``, reconstruction minus original."""
        self._set(_error_arrays=bool(wanted))

    def SetKeepFile(self, keep: bool) -> None:
        """Whether the output carries the compressed bytes in its field data."""
        self._set(_keep_file=bool(keep))

    def SetFileName(self, name: str | None) -> None:
        """A ``.nvc`` to write each time the filter runs; none if empty."""
        self._set(_file_name=str(name or ""))

    def SetResampleToImage(self, wanted: bool) -> None:
        """Whether to sample inputs that are no regular grids; otherwise they are an error."""
        self._set(_resample=bool(wanted))

    def SetSamplingDimensions(self, x: int, y: int, z: int) -> None:
        self._set(_dimensions=(int(x), int(y), int(z)))

    # ...................................................................................................... pipeline

    def RequestDataObject(self, request: Any, inInfo: Any, outInfo: Any) -> int:
        source = self.GetInputData(inInfo, 0, 0)
        if source is None:
            return 0
        # Of what cannot be compressed comes an empty data set of its kind, and an error.
        kind = "vtkImageData" if self._samples(source) else source.GetClassName()
        output = self.GetOutputData(outInfo, 0)
        if output is None or output.GetClassName() != kind:
            output = resample.vtkImageData() if self._samples(source) else source.NewInstance()
            outInfo.GetInformationObject(0).Set(vtkDataObject.DATA_OBJECT(), output)
        return 1

    def RequestInformation(self, request: Any, inInfo: Any, outInfo: Any) -> int:
        if self._samples(self.GetInputData(inInfo, 0, 0)):
            extent = [v for n in self._dimensions for v in (0, max(n, 1) - 1)]
            outInfo.GetInformationObject(0).Set(Pipeline.WHOLE_EXTENT(), extent, 6)
        return 1

    def RequestUpdateExtent(self, request: Any, inInfo: Any, outInfo: Any) -> int:
        pieces.request_all(inInfo[0].GetInformationObject(0))
        return 1

    def RequestData(self, request: Any, inInfo: Any, outInfo: Any) -> int:
        source, output = self.GetInputData(inInfo, 0, 0), self.GetOutputData(outInfo, 0)
        piece, count = pieces.piece_of(outInfo.GetInformationObject(0))
        block = self._blocks.index(source)
        key = (source.GetMTime(), block, piece, count)
        # A process may have nothing of a data set that does not split.
        if count > 1 and source.GetNumberOfPoints() == 0:
            output.Initialize()
            return 1
        suffix = ("" if block is None else f"_{block}") + _step_suffix(inInfo[0].GetInformationObject(0), source)
        suffix += f"_p{piece}" if count > 1 else ""
        self._guarded(key, [output], lambda: self._compress(source, output, suffix), keep=max(1, len(self._blocks)))
        return 1

    # .......................................................................................................... work

    def _samples(self, source: vtkDataObject | None) -> bool:
        return self._resample and source is not None and not resample.is_regular(source)

    def _compress(self, source: vtkDataSet, output: vtkDataSet, suffix: str) -> None:
        start = time.perf_counter()
        if self._samples(source):
            source = resample.resampled(source, self._dimensions)
        resample.check_regular(source)
        if self._file_name:
            checked_path(self._file_name)
        fields = self._arrays.fields(source)
        importance = self.importance(source)
        result, stopped = self._run(fields, importance)
        decoded = decompress(result, context=self.context(self._progress()))
        seconds = time.perf_counter() - start
        raw = sum(f.nbytes for f in fields)
        figures = [replace(f, seconds=seconds * f.raw_bytes / raw) for f in figures_of(Container(result))]
        figures = self.with_regions(figures, fields, decoded, importance)
        if self._error_arrays:
            decoded += [error_field(a, b) for a, b in zip(fields, decoded, strict=True)]
        # Set here, not carried: hidden samples and neighbours' points are the input's to say.
        output.ShallowCopy(vtk_from_fields([replace(f, mask=None) for f in decoded]))
        _pass_on(source, output)
        add_figures(output, figures)
        if self._keep_file:
            attach_file(output, result)
        written = self._write(result, suffix, stopped is None)
        if stopped is not None:
            reached = f"{len(result)} bytes, ratio {ratio(raw, len(result)):.4g}, PSNR {figures[0].psnr:.2f} dB"
            self.Warn(f"{stopped}; the output is the best so far ({reached}){written}")

    def _run(self, fields: list[Field], importance: Importance | None) -> tuple[bytes, Interrupted | None]:
        """Bytes of a file, and what ended the run early if something did."""
        context = replace(self.context(self._progress(self._time_limit)), importance=importance)
        try:
            result: Compressed = compress(fields, self.target(), self.codec(), context)
        except Interrupted as stop:
            if not isinstance(stop.best, bytes):
                what = "stopped" if isinstance(stop, Cancelled) else "over its time limit"
                raise InputError(f"{stop} (it was {what} before there was any complete result)") from stop
            return stop.best, stop
        return result.data, None

    def _write(self, content: bytes, suffix: str, complete: bool) -> str:
        if not self._file_name:
            return ""
        path = Path(self._file_name)
        path = path.with_name(f"{path.stem}{suffix}{path.suffix or '.nvc'}")
        if not complete and not self._keep_best:
            return f"; '{path}' was not written ('Keep Best' writes it nonetheless)"
        atomic_write(path, content)
        return f"; it is also in '{path}'"


def error_field(original: Field, decoded: Field) -> Field:
    """``decoded - original`` as floats, named ``NAME_error``."""
    wide = np.float32 if original.values.dtype.itemsize <= 2 or original.values.dtype == np.float32 else np.float64
    with np.errstate(invalid="ignore", over="ignore"):
        difference = decoded.values.astype(np.float64) - original.values.astype(np.float64)
        return replace(decoded, name=f"{original.name}_error", values=difference.astype(wide), mask=None)


def _pass_on(source: vtkDataSet, output: vtkDataSet) -> None:
    """Ghost marks and field data of the input."""
    for association in ASSOCIATIONS:
        before, after = (d.GetPointData() if association == "point" else d.GetCellData() for d in (source, output))
        if before.GetArray(GHOSTS) is not None:
            after.AddArray(before.GetArray(GHOSTS))
    known = source.GetFieldData()
    for i in range(known.GetNumberOfArrays()):
        name = known.GetArrayName(i) or ""
        # Figures of an earlier compression are not this one's.
        if not name.startswith("neurcomp_"):
            output.GetFieldData().AddArray(known.GetAbstractArray(i))


def _step_suffix(info: Any, source: vtkDataObject) -> str:
    """A number for a step of a series, which has a file of its own."""
    if not info.Has(Pipeline.TIME_STEPS()) or not source.GetInformation().Has(vtkDataObject.DATA_TIME_STEP()):
        return ""
    times = list(info.Get(Pipeline.TIME_STEPS()))
    if len(times) < 2:
        return ""
    now = source.GetInformation().Get(vtkDataObject.DATA_TIME_STEP())
    return f"_{min(range(len(times)), key=lambda i: abs(times[i] - now)):04d}"
