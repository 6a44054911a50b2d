"""Sums of gradients over threads, row by row and only where there are any."""

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True)
def gather(first, last, density, sh, touched):
    """Add rows `first` to `last` - 1 of all slots ``(slots, rows, ...)`` to the first slot's and clear the others'."""
    for part in range(1, density.shape[0]):
        for row in range(first, last):
            if touched[part, row]:
                touched[part, row] = False
                touched[0, row] = True
                density[0, row] += density[part, row]
                density[part, row] = 0
                for k in range(sh.shape[2]):
                    sh[0, row, k] += sh[part, row, k]
                    sh[part, row, k] = 0


@njit(cache=True, nogil=True)
def clear(first, last, density, sh, touched):
    """Set touched rows `first` to `last` - 1 of ``(rows,)`` and ``(rows, k)`` to zero."""
    for row in range(first, last):
        if touched[row]:
            touched[row] = False
            density[row] = 0
            for k in range(sh.shape[1]):
                sh[row, k] = 0
