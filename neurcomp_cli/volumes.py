"""Files in, and what must hold before work on files out begins."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neurcomp_cli.options import whole_numbers
from neurcomp_core.container import Container
from neurcomp_core.errors import InputError
from neurcomp_core.field import Field
from neurcomp_core.pipeline import decompress
from neurcomp_core.tthresh import file as tthresh

NVC = ".nvc"
TTHRESH = tthresh.SUFFIX


@dataclass(frozen=True)
class Reading:
    """How to read what has no full header; the text forms of `neurcomp_filters.io.read`'s options."""

    dims: str | None = None
    dtype: str | None = None
    dataset: str | None = None
    fill_value: float | None = None


def is_compressed(path: Path) -> bool:
    """Whether a file is one of ours by its name."""
    return path.suffix.lower() == NVC


def load(path: Path, arrays: Sequence[str] | None = None, reading: Reading | None = None) -> list[Field]:
    """Fields of a volume file or of a ``.nvc``.

    Raises
    ------
    InputError, FormatError
        If the file or an array is missing or cannot be used.
    """
    reading = reading or Reading()
    _check_is_file(path)
    if is_compressed(path):
        return decompress(open_compressed(path), arrays)
    from neurcomp_filters import io

    dims = None if reading.dims is None else whole_numbers(reading.dims, "--dims", range(2, 5))
    return io.read(path, arrays, dims=dims, dtype=reading.dtype, dataset=reading.dataset, fill_value=reading.fill_value)


def open_compressed(path: Path) -> Container:
    """An open ``.nvc`` or ``.tthresh`` file.

    Raises
    ------
    InputError, FormatError
        If it cannot be read or is not one.
    """
    _check_is_file(path)
    return tthresh.open_compressed(path)


def _check_is_file(path: Path) -> None:
    if not path.exists():
        raise InputError(f"cannot read '{path}': there is no such file")
    if path.is_dir():
        raise InputError(f"cannot read '{path}': it is a folder; give a file")


def check_writable(path: Path, force: bool) -> None:
    """Find out before the work, not after it, that its result cannot be written.

    Raises
    ------
    InputError
        If the file exists and `force` is not set, or its folder is missing or read-only.
    """
    folder = path.parent
    if path.is_dir():
        raise InputError(f"cannot write '{path}': it is a folder; give a file name")
    if not folder.is_dir():
        raise InputError(f"cannot write '{path}': the folder '{folder}' does not exist")
    if path.exists() and not force:
        raise InputError(f"'{path}' exists; give --force to replace it, or another name with -o")
    if not os.access(folder, os.W_OK):
        raise InputError(f"cannot write '{path}': the folder '{folder}' is read-only; give another place with -o")
