"""Orthonormal bases of the axes, from the few integers that a file holds of each.

The singular vectors of a field that looks alike everywhere are nearly cosines, so those of an axis are written in the
discrete cosine transform along it, where most of their coefficients are zero. What is left after rounding spans nearly
the same space; its orthonormal basis is what the core belongs to, so no error of the core is made larger by them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

#: Part of a column, as a share of its length, that columns before it must not have already.
LEAST_OWN = 0.1


@lru_cache(maxsize=8)
def cosines(size: int) -> np.ndarray:
    """Orthonormal DCT-II of a line: element ``(sample, frequency)``."""
    frequency = np.arange(size)
    angles = np.pi / (2 * size) * ((2 * frequency[:, None] + 1) * frequency % (4 * size))
    matrix = np.cos(angles) * np.sqrt(2 / size)
    matrix[:, 0] = np.sqrt(1 / size)
    matrix.flags.writeable = False
    return matrix


def orthonormal(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Basis of the space that the first k columns span, for every k.

    Parameters
    ----------
    columns : ndarray ``(n, r)``, r up to n

    Returns
    -------
    basis : ndarray ``(n, r)``
        Column k is column k of `columns` less what lies in the space of those before it, of length 1.
    own : ndarray ``(r,)``
        Length of that difference as a share of the column's.
    """
    basis, triangle = np.linalg.qr(columns)
    diagonal = np.diagonal(triangle)
    lengths = np.sqrt(np.sum(columns**2, axis=0))
    return basis * np.where(diagonal < 0, -1.0, 1.0), np.abs(diagonal) / np.where(lengths > 0, lengths, 1)
