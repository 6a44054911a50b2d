"""Saving ``.nvc`` files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from vtkmodules.vtkCommonCore import vtkDataArraySelection
from vtkmodules.vtkCommonDataModel import vtkDataObject, vtkDataSet
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline

from neurcomp_core.errors import InputError, Interrupted, NeurCompError
from neurcomp_core.field import Field
from neurcomp_core.files import atomic_write
from neurcomp_core.pipeline import compress, decompress
from neurcomp_filters import pieces, resample
from neurcomp_filters.arrays import ArrayChoice
from neurcomp_filters.figures import attached_file
from neurcomp_filters.settings import CompressionSettings


class NvcWriter(CompressionSettings):
    """Compress a data set into a ``.nvc`` file.

    What `NeuralCompress` made is written as it was compressed, not once more. All time steps go into one file if
    `SetWriteAllTimeSteps` is on. A process of a parallel run writes its piece into a file of its own, a block of a
    multiblock likewise.

    Examples
    --------
    >>> writer = NvcWriter()
    >>> writer.SetInputConnection(reader.GetOutputPort())
    >>> writer.SetFileName("flow.nvc")
    >>> writer.SetTarget(Psnr(50))
    >>> writer.Write()
    1
    """

    def __init__(self) -> None:
        super().__init__(nInputPorts=1, inputType="vtkDataSet", nOutputPorts=0)
        self._arrays = ArrayChoice(self)
        self._blocks = pieces.Blocks(self)
        self._file_name = ""
        self._all_steps = False
        self._reuse = True
        self._step = 0
        self._collected: list[Field] = []

    def SetFileName(self, name: str | None) -> None:
        self._set(_file_name=str(name or ""))

    def GetFileName(self) -> str:
        return self._file_name

    def GetPointDataArraySelection(self) -> vtkDataArraySelection:
        return self._arrays.selections["point"]

    def GetCellDataArraySelection(self) -> vtkDataArraySelection:
        return self._arrays.selections["cell"]

    def SetWriteAllTimeSteps(self, wanted: bool) -> None:
        """Whether the file holds all time steps of the input, or the current one."""
        self._set(_all_steps=bool(wanted))

    def SetReuseCompressed(self, wanted: bool) -> None:
        """Whether a reconstruction by `NeuralCompress` is written as the bytes it came from."""
        self._set(_reuse=bool(wanted))

    def Write(self) -> int:
        """Write the file; 1 if that succeeded, else 0 (see `GetErrorText`)."""
        self._error = ""
        # A writer is run when it is asked to, whatever it did before.
        self.Modified()
        self.Update()
        return int(not self._error)

    # ...................................................................................................... pipeline

    def RequestUpdateExtent(self, request: Any, inInfo: Any, outInfo: Any) -> int:
        info = inInfo[0].GetInformationObject(0)
        piece, count = pieces.process()
        info.Set(Pipeline.UPDATE_PIECE_NUMBER(), piece)
        info.Set(Pipeline.UPDATE_NUMBER_OF_PIECES(), count)
        pieces.request_all(info)
        times = self._times(info)
        if times:
            info.Set(Pipeline.UPDATE_TIME_STEP(), times[self._step])
        return 1

    def RequestData(self, request: Any, inInfo: Any, outInfo: Any) -> int:
        info = inInfo[0].GetInformationObject(0)
        source = self.GetInputData(inInfo, 0, 0)
        times = self._times(info)
        self._tried(lambda: self._take(source, last=self._step + 1 >= len(times)))
        self._step += 1
        if self._error or self._step >= len(times):
            request.Remove(Pipeline.CONTINUE_EXECUTING())
            self._step, self._collected = 0, []
        else:
            request.Set(Pipeline.CONTINUE_EXECUTING(), 1)
        return 1

    # .......................................................................................................... work

    def _times(self, info: Any) -> tuple[float, ...]:
        if not self._all_steps or not info.Has(Pipeline.TIME_STEPS()):
            return ()
        return tuple(info.Get(Pipeline.TIME_STEPS()))

    def _take(self, source: vtkDataSet, last: bool) -> None:
        """Add a time step, and write the file after the last one."""
        if not self._file_name:
            raise InputError("no file name is set")
        suffix = self._suffix(source)
        if suffix and source.GetNumberOfPoints() == 0:
            return
        resample.check_regular(source)
        fields = self._arrays.fields(source)
        if last and not self._collected:
            content = self._attached(source, fields)
            if content is not None:
                self._save(content, suffix)
                return
        # Upstream may use its memory for the next step.
        self._collected += fields if last else [_kept(field) for field in fields]
        if last:
            self._save(self._compressed(self._collected), suffix)

    def _attached(self, source: vtkDataObject, fields: list[Field]) -> bytes | None:
        """The file that `fields` came from, if they still are what it holds."""
        content = attached_file(source) if self._reuse else None
        if content is None:
            return None
        try:
            known = {(f.association, f.name): f for f in decompress(content, context=self.context(self._progress()))}
        except NeurCompError:
            return None
        if len(known) != len(fields) or any((f.association, f.name) not in known for f in fields):
            return None
        same = all(_same(known[f.association, f.name], f) for f in fields)
        return content if same else None

    def _compressed(self, fields: list[Field]) -> bytes:
        context = self.context(self._progress(self._time_limit))
        try:
            return compress(fields, self.target(), self.codec(), context).data
        except Interrupted as stop:
            if not self._keep_best or not isinstance(stop.best, bytes):
                raise InputError(f"{stop}; nothing was written ('Keep Best' writes the best so far)") from stop
            self.Warn(f"{stop}; '{self._file_name}' holds the best so far")
            return stop.best

    def _suffix(self, source: vtkDataObject) -> str:
        block = self._blocks.index(source)
        piece, count = pieces.process()
        return ("" if block is None else f"_{block}") + (f"_p{piece}" if count > 1 else "")

    def _save(self, content: bytes, suffix: str) -> None:
        path = Path(self._file_name)
        atomic_write(path.with_name(path.stem + suffix + path.suffix), content)


def _kept(field: Field) -> Field:
    mask = None if field.mask is None else field.mask.copy()
    return Field(field.values.copy(), field.geometry, field.name, field.association, field.time, mask)


def _same(a: Field, b: Field) -> bool:
    return (
        a.geometry == b.geometry
        and a.time == b.time
        and a.values.dtype == b.values.dtype
        and a.values.shape == b.values.shape
        and np.ascontiguousarray(a.values).tobytes() == np.ascontiguousarray(b.values).tobytes()
    )
