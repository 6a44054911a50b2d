"""Memory of the device: how much is free, and what happens where it does not suffice.

Out of memory, work is halved until it fits (`Shrinking`), and the user is told; only where even the least does not fit
is it an error. Nothing here loads torch: where it is not loaded there is no device to run out of memory.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from neurcomp_core.errors import InputError

T = TypeVar("T")

#: Share of the free memory that is planned with: allocators round up, and kernels need room of their own.
_SHARE = 0.6
#: What systems and allocators say where memory does not suffice.
_SAYINGS = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory, the device's or the machine's, did not suffice."""
    if isinstance(error, MemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and (
        type(error).__name__ == "OutOfMemoryError" or any(s in said for s in _SAYINGS)
    )


def free_bytes(device: Any) -> int | None:
    """Memory of a CUDA device that can be planned with; None on the CPU, whose memory is the system's to give."""
    torch = sys.modules.get("torch")
    if torch is None or torch.device(device).type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    # What torch holds without using it is free to us.
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int((free + held) * _SHARE)


def release() -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


class Shrinking:
    """A size of work that is halved whenever memory does not suffice, and stays there.

    Parameters
    ----------
    size, least : int
        To begin with, and below which there is no use in trying.
    what : str
        What the size counts, for messages: "samples per step".
    note : callable, optional
        Is told, once for each size that was too large.

    Examples
    --------
    >>> parts = Shrinking(1 << 22, 1 << 12, "voxels at a time", progress.note)
    >>> values = parts.run(lambda size: decode(first, size))
    """

    def __init__(self, size: int, least: int, what: str, note: Callable[[str], None] | None = None) -> None:
        self.size, self._least = size, min(least, size)
        self._what, self._note = what, note

    def run(self, work: Callable[[int], T]) -> T:
        """``work(size)``, again with half the size as long as memory does not suffice.

        Raises
        ------
        InputError
            If even the least size does not fit.
        """
        while True:
            try:
                return work(self.size)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.size <= self._least:
                    raise InputError(
                        f"the device has not enough memory, even for {self.size:,} {self._what}; free some of it, or "
                        "use --device cpu"
                    ) from None
            # Out of the handler, whose traceback keeps the tensors of what failed.
            release()
            before, self.size = self.size, max(self.size // 2, self._least)
            if self._note is not None:
                self._note(f"the device has not enough memory for {before:,} {self._what}; going on with {self.size:,}")
