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
from neurcomp_core.files import atomic_write, checked_path
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.progress import Progress
from neurcomp_core.series import join, next_target
from neurcomp_core.steps import KEY_EVERY, History
from neurcomp_filters import pieces, resample
from neurcomp_filters.arrays import ArrayChoice
from neurcomp_filters.figures import attached_file
from neurcomp_filters.radiance_file import holds_fields, unchanged
from neurcomp_filters.settings import CompressionSettings


class NvcWriter(CompressionSettings):
    """Compress a data set into a ``.nvc`` file.

    What `NeuralCompress` made is written as it was compressed, not once more. All time steps go into one file if
    `SetWriteAllTimeSteps` is on; they are compressed as they come, so memory holds a few steps and the streams so far.
    A step is predicted from those before it where that is smaller, with a key step every `SetKeyStepEvery` steps. In a
    parallel run the first process collects the pieces, for which it needs the memory, and compresses the whole; what
    `NeuralCompress` made of the pieces it joins into one file, a block for each. A block of a multiblock becomes a file
    of its own.

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
        self._key_every = KEY_EVERY
        self._reuse = True
        self._step = 0
        self._parts: list[bytes] = []
        self._history = History()
        self._whole = Progress()
        self._saved = False

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

    def SetKeyStepEvery(self, count: int) -> None:
        """Every so many time steps at least one needs no other to be read; 1 for all, 0 for as few as pay."""
        self._set(_key_every=int(count))

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
        count = max(len(self._times(info)), 1)
        if self._step == 0:
            self._whole, self._saved = self._progress(self._time_limit), False
        self._tried(lambda: self._take(source, count))
        self._step += 1
        if self._error or self._step >= count:
            request.Remove(Pipeline.CONTINUE_EXECUTING())
            self._step, self._parts = 0, []
        else:
            request.Set(Pipeline.CONTINUE_EXECUTING(), 1)
        return 1

    # .......................................................................................................... work

    def _times(self, info: Any) -> tuple[float, ...]:
        if not self._all_steps or not info.Has(Pipeline.TIME_STEPS()):
            return ()
        return tuple(info.Get(Pipeline.TIME_STEPS()))

    def _take(self, source: vtkDataSet, count: int) -> None:
        """Compress a time step of `count`, and write the file after the last one."""
        if not self._file_name:
            raise InputError("no file name is set")
        resample.check_regular(source)
        block, (process, processes) = self._blocks.index(source), pieces.process()
        if block is not None and count > 1:
            raise InputError("time steps of a multiblock cannot be in one file; extract a block, or save a single step")
        if processes == 1:
            self._add([source], count, "" if block is None else f"_{block}")
        elif block is not None:
            # Not every process has every block.
            if source.GetNumberOfPoints():
                self._add([source], count, f"_{block}_p{process}")
        else:
            parts = pieces.gathered(source)
            if parts:
                self._tried(lambda: self._add([p for p in parts if p.GetNumberOfPoints()], count, ""))
            # All fail if the first one does: in the next step they would wait for it for ever.
            problem = pieces.told_by_the_first(self._error)
            if problem and not self._error:
                raise InputError(problem)

    def _add(self, sources: list[vtkDataSet], count: int, suffix: str) -> None:
        """Compress one time step, given in pieces; the last one ends the file, or the first one that is stopped."""
        if self._saved:
            return
        path = Path(self._file_name)
        path = path.with_name(path.stem + suffix + path.suffix)
        checked_path(path)
        if not self._parts:
            self._history = History(self._key_every)
        content, complete = self._encoded(sources, count)
        if content is not None:
            self._parts.append(content)
        if len(self._parts) == count or not complete:
            self._saved = True
            atomic_write(path, self._parts[0] if len(self._parts) == 1 else join(self._parts))

    def _encoded(self, sources: list[vtkDataSet], count: int) -> tuple[bytes | None, bool]:
        """Bytes of a file of one time step, and whether it is complete; None if nothing of it is."""
        parts = [self._arrays.fields(source) for source in sources]
        if self._reuse:
            known = [self._attached(*pair) for pair in zip(sources, parts, strict=True)]
            if None not in known:
                self._history.forget()
                return (known[0] if len(known) == 1 else join(known)), True  # type: ignore[return-value,arg-type]
        fields = parts[0] if len(parts) == 1 else pieces.assembled(parts)
        context = self.context(self._share(count))
        try:
            target = next_target(self.target(), self._parts, fields, count - len(self._parts))
            history = self._history if count > 1 else None
            return compress(fields, target, self.codec(), context, history).data, True
        except Interrupted as stop:
            best = stop.best if isinstance(stop.best, bytes) else None
            if not self._keep_best:
                raise InputError(f"{stop}; nothing was written ('Keep Best' writes the best so far)") from stop
            if best is None and not self._parts:
                raise InputError(f"{stop}; there was nothing to write yet") from stop
            self.Warn(f"{stop}; '{self._file_name}' holds the best so far")
            return best, False

    def _share(self, count: int) -> Progress:
        """Progress of one time step as a part of the whole."""
        done, whole = len(self._parts), self._whole
        if count == 1:
            return whole
        return Progress(lambda f, text: whole.update((done + f) / count, f"time step {done + 1}/{count}, {text}"))

    def _attached(self, source: vtkDataObject, fields: list[Field]) -> bytes | None:
        """The file that `fields` came from, if they still are what it holds."""
        content = attached_file(source)
        if content is None:
            return None
        if holds_fields(content):
            # Of a radiance field any of its arrays stand for the whole; files of them are not joined.
            return content if not self._all_steps and unchanged(source, [f.name for f in fields]) else None
        try:
            known = {(f.association, f.name): f for f in decompress(content, context=self.context(self._progress()))}
        except NeurCompError:
            return None
        if len(known) != len(fields) or any((f.association, f.name) not in known for f in fields):
            return None
        same = all(_same(known[f.association, f.name], f) for f in fields)
        return content if same else None


def _same(a: Field, b: Field) -> bool:
    return (
        a.geometry == b.geometry
        and a.time == b.time
        and a.values.dtype == b.values.dtype
        and a.values.shape == b.values.shape
        and np.ascontiguousarray(a.values).tobytes() == np.ascontiguousarray(b.values).tobytes()
    )
