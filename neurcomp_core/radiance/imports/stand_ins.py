"""What stands in for NumPy's classes while a pickle is read, so that no code named by a file runs.

A pickle of an array is a call of ``_reconstruct``, then a state (version, shape, dtype, order, bytes). The stand-ins
take the same calls and build an array only once its size has been checked against the bytes that are there.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from neurcomp_core.errors import FormatError

_PLAIN = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}


class Dtype:
    """``numpy.dtype``: plain numbers, or object."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or (code not in _PLAIN and code not in ("O", "O8")):
            raise FormatError(f"the file holds an array of type {code!r}; expected plain numbers")
        self.code, self.order = code, "|"

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise FormatError("the file holds a damaged array type")
        self.order = state[1]

    @property
    def is_object(self) -> bool:
        return self.code.startswith("O")

    @property
    def numpy(self) -> np.dtype:
        return np.dtype(("<" if self.order in "|=" else self.order) + self.code)


class Array:
    """``numpy.ndarray``: `value` is an array of numbers, or a list of what an array of objects held."""

    value: Any = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], Dtype):
            raise FormatError("the file holds a damaged array")
        _, shape, dtype, fortran, raw = state
        if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise FormatError("the file holds an array without a proper shape")
        if dtype.is_object:
            if not isinstance(raw, list) or len(raw) != math.prod(shape):
                raise FormatError("the file holds a damaged array of objects")
            self.value = raw
            return
        expected = math.prod(shape) * dtype.numpy.itemsize
        if not isinstance(raw, bytes) or len(raw) != expected:
            raise FormatError(f"the file holds an array {shape} without its {expected} bytes")
        self.value = np.frombuffer(raw, dtype.numpy).reshape(shape, order="F" if fortran else "C")


def reconstruct(kind: Any = None, *_: Any) -> Array:
    """``numpy.core.multiarray._reconstruct``: its arguments are (ndarray, (0,), b'b'), the state follows."""
    if not (isinstance(kind, type) and issubclass(kind, Array)):
        raise FormatError("the file holds a damaged array")
    return kind()


def scalar(dtype: Any, raw: Any = b"") -> Any:
    """``numpy.core.multiarray.scalar``"""
    if not isinstance(dtype, Dtype) or dtype.is_object or not isinstance(raw, bytes):
        raise FormatError("the file holds a damaged number")
    if len(raw) != dtype.numpy.itemsize:
        raise FormatError("the file holds a number of the wrong size")
    return np.frombuffer(raw, dtype.numpy)[0].item()


def latin1(text: Any, encoding: Any = "latin1") -> bytes:
    """``_codecs.encode``, by which old pickles spell bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise FormatError("the file holds damaged bytes")
    return text.encode("latin1")


class Config(dict):
    """Settings of mmcv, mmengine and addict: nothing of theirs is kept."""

    def __new__(cls, *_: Any) -> Config:
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, _: Any) -> None:
        pass


#: Module and name in a file, and what it gets.
NUMPY: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): reconstruct,
    ("numpy.core.multiarray", "scalar"): scalar,
    ("numpy._core.multiarray", "scalar"): scalar,
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): Dtype,
}
CONFIGS: dict[tuple[str, str], Any] = {
    ("mmcv.utils.config", "ConfigDict"): Config,
    ("mmengine.config.config", "ConfigDict"): Config,
    ("addict.addict", "Dict"): Config,
}


def plain(value: Any) -> Any:
    """What a stand-in stands for; other values as they are."""
    return value.value if isinstance(value, Array) else value
