"""Running VTK readers and writers so that what they complain about becomes one exception."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vtkmodules.vtkCommonCore import vtkLogger, vtkOutputWindow, vtkStringOutputWindow

from neurcomp_core.errors import InputError

# The pipeline's own follow-up messages say nothing about the file.
_FOLLOW_UP = re.compile(r"vtkExecutive|PipelineInformation|DemandDrivenPipeline|vtkDataObjectTypes")
# VTK reports some unreadable data as warnings only.
_FATAL_WARNING = re.compile(r"error|fail|truncat|premature|could not|cannot|unexpected", re.IGNORECASE)


@contextmanager
def errors_raised() -> Iterator[None]:
    """Keep VTK's messages off the terminal while the block runs, then raise InputError with the first error.

    The output window is one per process, so this is for one thread at a time.
    """
    window, verbosity = vtkOutputWindow.GetInstance(), vtkLogger.GetCurrentVerbosityCutoff()
    collected = vtkStringOutputWindow()
    vtkOutputWindow.SetInstance(collected)
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_OFF)
    try:
        yield
    finally:
        vtkOutputWindow.SetInstance(window)
        vtkLogger.SetStderrVerbosity(verbosity)
    message = _first_error(collected.GetOutput())
    if message:
        raise InputError(f"VTK says: {message}")


def updated(reader: Any) -> Any:
    """Run `reader` and return its output.

    Raises
    ------
    InputError
        With VTK's own message, or if there is no output: the file is damaged, cut off or of another kind.
    """
    try:
        with errors_raised():
            reader.Update()
            # Asking for the output may run a failed pipeline once more, so it belongs in here.
            output = reader.GetOutputDataObject(0)
    except InputError as error:
        raise InputError(f"the file is damaged, cut off or of another kind ({error})") from None
    if output is None:
        raise InputError("the file is damaged, cut off or of another kind")
    return output


def written(writer: Any) -> None:
    """Run `writer`.

    Raises
    ------
    InputError
        If VTK reports a failure.
    """
    with errors_raised():
        done = writer.Write()
    if not done or writer.GetErrorCode():
        raise InputError("VTK could not write the file; is there space left on the disk?")


def _first_error(output: str | bytes) -> str:
    # VTK's Python wrapping gives bytes where a message quotes a file that is not text.
    text = output if isinstance(output, str) else output.decode("ascii", "replace")
    for part in re.split(r"\n\s*\n", text):
        match = re.match(r"\s*(ERROR|(?:Generic )?Warning): In ([^\n]*), line \d+\n(.*)", part, re.DOTALL)
        if match is None or _FOLLOW_UP.search(match[2]) or _FOLLOW_UP.search(match[3]):
            continue
        # Without the name and the address of the object that speaks.
        message = re.sub(r"^(\w+ )?\((0x[0-9a-f]+|nullptr)\): ?", "", match[3])
        message = "".join(c if c.isprintable() else " " for c in message)
        message = " ".join(message.split())[:300]
        if match[1] == "ERROR" or _FATAL_WARNING.search(message):
            return message
    return ""
