"""The header of a ``.npy`` stream, read before anything is allocated."""

from __future__ import annotations

from typing import IO

import numpy as np

from neurcomp_core.errors import FormatError


def read_header(stream: IO[bytes], what: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether the order is Fortran's, and dtype; `stream` is left at the data. FormatError names `what`."""
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(stream)
        return np.lib.format.read_array_header_2_0(stream)
    except Exception as error:  # NumPy parses the header as Python, so a damaged one can fail in any way
        raise FormatError(f"{what} is no NumPy array ({error})") from error
