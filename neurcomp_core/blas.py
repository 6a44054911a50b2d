"""NumPy's matrix products on one thread each, where this project's own threads share the work.

OpenBLAS, which NumPy's wheels bring along, starts a thread per CPU for each product and has them spin while they wait:
of many small products on a machine that does other things as well, most of the time goes into that. Other builds of
NumPy are left as they are.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

_NAMES = "scipy_openblas_{}_num_threads64_", "scipy_openblas_{}_num_threads", "openblas_{}_num_threads64_"


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block, each product runs on the thread that asks for it; such blocks of several threads must not
    overlap.
    """
    found = _openblas()
    if found is None:
        yield
        return
    get, put = found
    before = get()
    put(1)
    try:
        yield
    finally:
        put(before)


@cache
def _openblas() -> tuple[Any, Any] | None:
    """Functions that tell and set the number of threads, if NumPy has an OpenBLAS of its own."""
    place = Path(np.__file__).parent
    for folder in (place.parent / "numpy.libs", place / ".dylibs"):
        for library in sorted(folder.glob("*openblas*")):
            try:
                opened = ctypes.CDLL(str(library))
            except OSError:
                continue
            for name in _NAMES:
                if hasattr(opened, name.format("set")):
                    return getattr(opened, name.format("get")), getattr(opened, name.format("set"))
    return None
