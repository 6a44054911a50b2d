"""One level of a hash grid in a table of another length: same resolution, other entries.

Hash indices are taken modulo a power of two. A table twice as long repeats the old one, and a level that becomes dense
reads the old hash: the function stays. In a shorter table, entries that come to share a place are averaged.
"""

from __future__ import annotations

import numpy as np

from neurcomp_core.nets.grid import PRIME_Y, PRIME_Z, GridLayout


def resized(values: np.ndarray, old: GridLayout, new: GridLayout, level: int) -> np.ndarray:
    """Entries of one level, from one layout to another of the same resolutions; alike on every machine.

    Parameters
    ----------
    values : ndarray
        ``(old.sizes[level], features)`` float32.
    old, new : GridLayout
        With the same axes, base and growth.
    level : int

    Returns
    -------
    ndarray
        ``(new.sizes[level], features)`` float32.
    """
    size = int(new.sizes[level])
    if old.dense[level] and new.dense[level]:
        return values
    if old.dense[level]:
        return _averaged(values[: len(_hashes(new, level))], _hashes(new, level) & np.uint64(size - 1), size)
    if new.dense[level]:
        found = np.zeros((size, values.shape[1]), np.float32)
        index = _hashes(new, level) & np.uint64(len(values) - 1)
        found[: len(index)] = values[index]
        return found
    if size >= len(values):
        return np.resize(values, (size, values.shape[1]))
    return _averaged(values, np.arange(len(values), dtype=np.uint64) & np.uint64(size - 1), size)


def _hashes(layout: GridLayout, level: int) -> np.ndarray:
    """``(resolution**dims,)`` uint64: the hash of each vertex, x fastest, before it is cut to a table."""
    r = int(layout.resolutions[level])
    vertex = np.arange(r**layout.dims, dtype=np.uint64)
    index = vertex % r
    for axis, prime in ((1, PRIME_Y), (2, PRIME_Z))[: layout.dims - 1]:
        index ^= vertex // r**axis % r * np.uint64(prime)
    return index


def _averaged(values: np.ndarray, index: np.ndarray, size: int) -> np.ndarray:
    """Means of the rows that share an index, summed in their order in float64; 0 where there is none."""
    counts = np.maximum(np.bincount(index.astype(np.int64), minlength=size), 1)
    sums = [np.bincount(index.astype(np.int64), weights=column, minlength=size) for column in values.T]
    return (np.stack(sums, axis=1) / counts[:, None]).astype(np.float32)
