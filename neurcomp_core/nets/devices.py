"""Where networks are computed: what ``auto``, ``cpu`` and ``cuda`` mean on this machine."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from neurcomp_core.errors import InputError, require

if TYPE_CHECKING:
    import torch


def on_cuda(name: str) -> bool:
    """Whether ``auto``, ``cpu`` or ``cuda`` is a CUDA device here; torch is loaded only if it can be one.

    Raises
    ------
    InputError
        If CUDA is asked for and there is none.
    MissingExtraError
        If CUDA is asked for and torch is not installed.
    """
    found = False
    if name == "auto" and "torch" not in sys.modules and not _has_driver():
        return False
    if name == "cuda":
        require("torch", "gpu", "computing on CUDA")
    if name != "cpu" and find_spec("torch") is not None:
        import torch

        found = torch.cuda.is_available()
    if name == "cuda" and not found:
        raise InputError("device: cuda was asked for, but torch sees no CUDA device; use --device cpu")
    return found


@cache
def _has_driver() -> bool:
    """Whether there is a CUDA driver: cheap to ask, where loading torch to ask it takes seconds."""
    for library in ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "libcuda.so"):
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        return True
    return False


def device_of(name: str) -> torch.device:
    """The torch device that ``auto``, ``cpu`` or ``cuda`` stands for.

    Raises
    ------
    InputError
        If CUDA is asked for and there is none.
    """
    import torch

    return torch.device("cuda" if on_cuda(name) else "cpu")
