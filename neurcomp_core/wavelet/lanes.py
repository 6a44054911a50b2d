"""Work side by side on the CPU threads a run may use; the kernels release the interpreter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

#: Below this many bytes, threads cost more than they save.
_LEAST = 1 << 18


class Lanes:
    """A pool of `threads` workers, to be used in a ``with`` block."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def each(self, work: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """``work(item)`` for each item; results in order, the first exception raised."""
        items = list(items)
        if self._pool is None or len(items) == 1:
            return [work(item) for item in items]
        return list(self._pool.map(work, items))

    def slabs(self, array: np.ndarray) -> Sequence[np.ndarray]:
        """`array` cut along its first axis into a part for each thread, or one if it is small."""
        if array.nbytes < _LEAST:
            return [array]
        return [part for part in np.array_split(array, self.threads) if part.size]
