"""Work split over threads: kernels take a range of rays or points and release the interpreter's lock.

Their number is `numba.get_num_threads()`, which `neurcomp_core.threads.limit` sets. Ranges are contiguous and depend
on it alone, so results that are summed over threads in order are the same in every run.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def thread_count() -> int:
    import numba

    return numba.get_num_threads()


def over_ranges(count: int, work: Callable[[int, int, int], object], parts: int | None = None) -> None:
    """Call ``work(part, first, last)`` for contiguous ranges of ``range(count)``, one per thread.

    An exception of any part is raised here.
    """
    parts = min(parts or thread_count(), max(count, 1))
    borders = [count * part // parts for part in range(parts + 1)]
    jobs = list(zip(range(parts), borders, borders[1:], strict=False))
    if parts == 1:
        work(*jobs[0])
        return
    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(lambda job: work(*job), jobs))
