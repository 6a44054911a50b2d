"""What all filters share: errors where ParaView shows them, results kept until something changes, progress, aborts."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from typing import Any

from vtkmodules.util.vtkAlgorithm import VTKPythonAlgorithmBase
from vtkmodules.vtkCommonCore import vtkOutputWindow
from vtkmodules.vtkCommonDataModel import vtkDataObject

from neurcomp_core.errors import NeurCompError
from neurcomp_core.progress import Progress

#: Seconds between two reports; each makes a user interface handle its events.
_REPORT_EVERY = 0.1


class Algorithm(VTKPythonAlgorithmBase):
    """Base of the filters, readers and writers.

    A problem is one message in VTK's output window (ParaView's message window), never an exception: VTK has no way to
    hand one on. The outputs are then empty, and the same request is not tried again until a property or the input
    changes. `GetErrorText` gives the message to scripts.
    """

    def __init__(self, **ports: Any) -> None:
        super().__init__(**ports)
        self._error = ""
        self._results: dict[tuple, list[vtkDataObject]] = {}
        self._errors: dict[tuple, str] = {}
        self._generation = -1

    def GetErrorText(self) -> str:
        """What went wrong in the last execution; empty if nothing did."""
        return self._error

    def SetError(self, message: str) -> None:
        """Report a failure."""
        self._error = message
        vtkOutputWindow.GetInstance().DisplayErrorText(self._as_vtk("ERROR", message))

    def Warn(self, message: str) -> None:
        """Report what a user should know of a result that is there."""
        vtkOutputWindow.GetInstance().DisplayWarningText(self._as_vtk("Warning", message))

    def _as_vtk(self, kind: str, message: str) -> str:
        # The shape that ParaView's message window takes apart. It shows what follows the address, so the name is there
        # once more; one line stays one entry.
        name = type(self).__name__
        address = self.GetAddressAsString("").removeprefix("Addr=")
        return f"{kind}: In {name}, line 0\n{name} ({address}): {name}: {' '.join(message.split())}\n\n"

    def _set(self, **values: Any) -> None:
        """Assign properties; tells the pipeline if that changed any."""
        changed = False
        for name, value in values.items():
            if getattr(self, name) != value:
                setattr(self, name, value)
                changed = True
        if changed:
            self.Modified()

    # ...................................................................................................... execution

    def _guarded(self, key: tuple, outputs: list[Any], work: Callable[[], None], keep: int = 1) -> None:
        """Run `work`, which fills `outputs`, unless its result for `key` is known.

        The pipeline runs a filter again whenever the output does not cover what was asked for, as an empty one never
        does, and all blocks of a multiblock when one is out of date. The last `keep` results are remembered.
        """
        if self._generation != self.GetMTime():
            self._generation = self.GetMTime()
            self._results.clear()
            self._errors.clear()
        self._error = self._errors.get(key, "")
        if key in self._results:
            for output, known in zip(outputs, self._results[key], strict=True):
                output.ShallowCopy(known)
            return
        if not self._error:
            if self._tried(work):
                self._results[key] = [_copied(output) for output in outputs]
            else:
                self._errors[key] = self._error
        for memory in (self._results, self._errors):
            while len(memory) > keep:
                del memory[next(iter(memory))]
        if self._error:
            for output in outputs:
                output.Initialize()

    def _tried(self, work: Callable[[], None]) -> bool:
        try:
            work()
        except NeurCompError as error:
            self.SetError(str(error))
        except MemoryError:
            self.SetError("there is not enough memory; take a smaller part of the data")
        except Exception as error:
            # A defect of ours or of a library: say where, for the report.
            frame = traceback.extract_tb(error.__traceback__)[-1]
            self.SetError(f"unexpected problem, please report it: {error!r} in {frame.filename}, line {frame.lineno}")
        return not self._error

    def _progress(self, time_limit: float = 0.0) -> Progress:
        """Progress that shows in the status bar and ends with the pipeline's abort flag or after `time_limit` s."""
        last = 0.0

        def report(fraction: float, text: str) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last < _REPORT_EVERY and fraction < 1:
                return
            last = now
            self.SetProgressText(text or type(self).__name__)
            self.UpdateProgress(fraction)
            if self._aborted():
                progress.cancel()

        progress = Progress(report, time_limit if time_limit > 0 else None)
        return progress

    def _aborted(self) -> bool:
        # CheckAbort, of newer VTK, also asks the filters downstream.
        return bool(self.GetAbortExecute() or (hasattr(self, "CheckAbort") and self.CheckAbort()))


def _copied(data: vtkDataObject) -> vtkDataObject:
    copy = data.NewInstance()
    copy.ShallowCopy(data)
    return copy
