"""How many CPU threads the kernels of a block of code use."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def limit(count: int) -> Iterator[None]:
    """Run numba kernels, and torch where it is loaded, on at most `count` threads within the block."""
    import numba

    torch = sys.modules.get("torch")
    before = numba.get_num_threads(), torch.get_num_threads() if torch else 0
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))  # pyright: ignore
    if torch:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        numba.set_num_threads(before[0])
        if torch:
            torch.set_num_threads(before[1])
