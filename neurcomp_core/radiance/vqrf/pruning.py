"""Which voxels matter: the fewest that together carry a share of all importance.

Li et al., Compressing Volumetric Radiance Fields to 1 MB (CVPR 2023), section 3.2.
"""

from __future__ import annotations

import numpy as np

from neurcomp_core.errors import InputError


def carrying(importance: np.ndarray, share: float) -> np.ndarray:
    """The fewest elements that carry at least a share of the sum.

    Parameters
    ----------
    importance : ndarray ``(n,)``
        Not negative.
    share : float
        0 (none) to 1 (all that have any importance).

    Returns
    -------
    ndarray ``(n,)`` bool
        Of equals the first.

    Raises
    ------
    InputError
        If the share is out of range.

    Examples
    --------
    >>> carrying(np.array([1.0, 6.0, 0.0, 3.0]), 0.9).tolist()
    [False, True, False, True]
    """
    if not 0 <= share <= 1:
        raise InputError(f"a share of importance: expected 0 to 1, got {share}")
    if share == 1:
        return importance > 0
    order = np.argsort(-importance, kind="stable")
    total = np.cumsum(importance[order], dtype=np.float64)
    # Sums that differ in rounding only count as equal, lest one more voxel than needed be kept.
    count = 0 if share == 0 or not len(total) else int(np.searchsorted(total, share * total[-1] * (1 - 1e-12))) + 1
    keep = np.zeros(len(importance), bool)
    keep[order[:count]] = True
    return keep & (importance > 0)
