"""Samples without a grid: NumPy's .npy and raw files without any header."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.field import DTYPES, Field

# What the extension alone says about the samples.
_TYPES = {".float": "<f4", ".f32": "<f4", ".double": "<f8", ".f64": "<f8", ".d64": "<f8", ".u8": "u1"}

#: Larger files are mapped into memory instead of read.
_MAPPED = 1 << 26


def read_raw(
    path: Path,
    arrays: Sequence[str] | None,
    dims: Sequence[int] | None = None,
    dtype: str | np.dtype | None = None,
) -> list[Field]:
    """One field from raw samples, x fastest; `dims` is x, y[, z[, components]]."""
    dtype = _TYPES.get(path.suffix.lower()) if dtype is None else dtype
    if dims is None or dtype is None:
        missing = " and ".join(n for n, v in (("dims (x y z)", dims), ("dtype", dtype)) if v is None)
        raise InputError(f"a raw file has no header: give {missing}")
    kind = _sample_type(dtype)
    if not 2 <= len(dims) <= 4 or any(int(n) != n or n < 1 for n in dims):
        raise InputError(f"dims: expected 2 to 4 positive whole numbers (x y z components), got {tuple(dims)}")
    sizes = [int(n) for n in dims]
    expected, available = math.prod(sizes) * kind.itemsize, path.stat().st_size
    if expected != available:
        text = " x ".join(str(n) for n in sizes)
        raise InputError(f"{text} samples of {kind.name} take {expected} bytes, but the file has {available} bytes")
    components = sizes[3:]
    shape = tuple(reversed([*sizes, 1][:3]))
    values = np.memmap(path, kind, "r") if expected > _MAPPED else np.fromfile(path, kind)
    values = values.reshape(*shape, *components)
    return _named(values, path, arrays)


def read_npy(path: Path, arrays: Sequence[str] | None) -> list[Field]:
    """One field from an array with axes ``([[z,] y,] x)`` or ``(z, y, x, c)``."""
    try:
        large = path.stat().st_size > _MAPPED
        values = np.load(path, mmap_mode="r" if large else None, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(f"it is not a usable .npy file ({error})") from None
    if not isinstance(values, np.ndarray) or not 1 <= values.ndim <= 4:
        raise InputError(f"expected 1 to 4 axes ([[z,] y,] x or z, y, x, c), got shape {np.shape(values)}")
    values = np.ascontiguousarray(values)
    return _named(values.reshape((1,) * (3 - values.ndim) + values.shape), path, arrays)


def write_npy(fields: Sequence[Field], path: Path) -> None:
    """Write the values of one field; the grid is not kept."""
    if len(fields) != 1:
        names = ", ".join(f"'{field.name}'" for field in fields)
        raise InputError(f"a .npy file holds one array, got {len(fields)} ({names}); choose one or write a .vti file")
    with open(path, "wb") as file:
        np.save(file, np.ascontiguousarray(fields[0].values), allow_pickle=False)


def _sample_type(dtype: str | np.dtype) -> np.dtype:
    try:
        kind = np.dtype(dtype)
    except (TypeError, ValueError):
        kind = None
    if kind is None or kind.name not in DTYPES:
        raise InputError(f"dtype: expected one of {', '.join(DTYPES)} (or '>f4' for big-endian), got '{dtype}'")
    # A type without a byte order is little-endian on every machine, so that a command means the same everywhere.
    return kind.newbyteorder("<") if isinstance(dtype, str) and dtype[0] not in "<>=|" else kind


def _named(values: np.ndarray, path: Path, arrays: Sequence[str] | None) -> list[Field]:
    name = path.stem
    if arrays is not None and set(arrays) != {name}:
        raise InputError(f"the file holds one array, '{name}'; asked for {', '.join(repr(a) for a in arrays)}")
    return [Field(values, name=name)]
