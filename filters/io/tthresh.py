"""Tensors in the file format of the TTHRESH program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.field import Field
from neurcomp_core.pipeline import decompress
from neurcomp_core.tthresh.file import TthreshFile


def read_tthresh(path: Path, arrays: Sequence[str] | None) -> list[Field]:
    """One field, or one per step of a series."""
    try:
        return decompress(TthreshFile(path), arrays)
    except FormatError as error:
        raise InputError(str(error)) from error
