"""PyTorch checkpoints, weights only: tensors, NumPy arrays and plain values; anything else in a file is refused."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neurcomp_core.errors import FormatError, MissingExtraError, require
from neurcomp_core.radiance.imports import stand_ins


def load(path: Path) -> dict[str, Any]:
    """The dictionary that ``torch.save`` wrote, on the CPU.

    Raises
    ------
    FormatError
        If the file is damaged, or holds anything but tensors, arrays and plain values.
    MissingExtraError
        If torch is missing or older than 2.5.
    """
    torch = require("torch", "train", "reading a PyTorch checkpoint")
    if not hasattr(torch.serialization, "safe_globals"):
        raise MissingExtraError(f"reading a checkpoint safely needs torch 2.5 or newer, this is {torch.__version__}")
    try:
        with torch.serialization.safe_globals(_allowed()):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FormatError as error:
        raise FormatError(f"'{path}': {error}") from error
    except pickle.UnpicklingError as error:
        # torch's own text advises to execute the file.
        called = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"calls {called[1]}" if called else "holds other objects"
        raise FormatError(f"'{path}' {what}; only tensors, arrays of numbers and plain values are read") from error
    except MemoryError as error:
        raise FormatError(f"'{path}' claims more memory than there is") from error
    except Exception as error:  # a damaged file can fail in any way
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FormatError(f"'{path}' is damaged or no PyTorch checkpoint ({first[:160]})") from error
    if not isinstance(loaded, dict):
        raise FormatError(f"'{path}': expected a dictionary of weights, got {type(loaded).__name__}")
    return {str(key): _plain(value) for key, value in loaded.items()}


def array(table: Mapping[str, Any], key: str, where: str) -> np.ndarray:
    """The tensor or array under `key` as NumPy; FormatError if there is none, or it is not finite."""
    value: Any = table.get(key)
    if hasattr(value, "detach"):
        value = value.detach()
        value = (value.float() if value.is_floating_point() else value).numpy()
    if not isinstance(value, np.ndarray):
        raise FormatError(f"{where}: '{key}' is missing or no array")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise FormatError(f"{where}: '{key}' holds NaN or infinite numbers")
    return value


def _allowed() -> list[Any]:
    # torch finds an allowed class by its module and name, so each stand-in goes under the name it stands in for.
    allowed = []
    for (module, name), target in {**stand_ins.NUMPY, **stand_ins.CONFIGS}.items():
        if isinstance(target, type):
            named: Any = type(name, (target,), {})
        else:
            named = _renamed(target)
            named.__name__ = named.__qualname__ = name
        named.__module__ = module
        allowed.append(named)
    return allowed


def _renamed(function: Any) -> Any:
    def call(*args: Any) -> Any:
        return function(*args)

    return call


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return stand_ins.plain(value)
