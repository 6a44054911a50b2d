"""Total variation of a table of values whose rows are neighbours in space, and its gradient.

Fridovich-Keil et al., Plenoxels (CVPR 2022), section 3.4: the mean over voxels and channels' sum of
``sqrt(dx^2 + dy^2 + dz^2)``, differences to the next voxel along each axis being multiplied by ``samples / 256``.
"""

from __future__ import annotations

import numpy as np

from neurcomp_core.radiance.grids import EMPTY
from neurcomp_core.radiance.rendering.gradients import Gradients
from neurcomp_core.radiance.rendering.ranges import over_ranges

#: Added to the square, in colours: the root has no gradient where all neighbours are equal.
FLAT = 1e-9
_REFERENCE = 256.0


def next_rows(links: np.ndarray, wrap: tuple[bool, ...] = (False, False, False)) -> np.ndarray:
    """Row of the next sample along each axis, last axis first.

    Parameters
    ----------
    links : ndarray
        Row per sample, `EMPTY` where there is none; for a grid ``(z, y, x)``.
    wrap : tuple of bool
        Axes (in the order of `links`) whose last sample is followed by the first.

    Returns
    -------
    ndarray ``(rows, axes)`` int32
        `EMPTY` for an empty neighbour, -2 beyond the end. Rows that no link leads to have no neighbours.
    """
    rows = int(links.max(initial=EMPTY)) + 1
    found = np.full((rows, links.ndim), -2, np.int32)
    for axis in range(links.ndim):
        ahead = np.roll(links, -1, axis)
        if not wrap[axis]:
            np.moveaxis(ahead, axis, 0)[-1] = -2
        kept = links != EMPTY
        found[links[kept], links.ndim - 1 - axis] = ahead[kept]
    return found


def scales_of(shape: tuple[int, ...]) -> np.ndarray:
    """Factors ``(axes,)`` of differences, last axis first, for that many samples."""
    return np.array(shape[::-1], np.float64) / _REFERENCE


def total_variation(values: np.ndarray, ahead: np.ndarray, scales: np.ndarray, edges: bool) -> float:
    """Mean over rows of the sum over channels, in plain NumPy.

    Parameters
    ----------
    values : ndarray ``(rows, channels)``
    ahead : ndarray ``(rows, axes)``
        See `next_rows`.
    scales : ndarray ``(axes,)``
    edges : bool
        Whether an empty neighbour counts as zero, as interpolation has it; else there is no difference to it. There
        never is one beyond the end.
    """
    padded = np.concatenate([values, np.zeros((1, values.shape[1]), values.dtype)])
    square = np.full(values.shape, FLAT, np.float64)
    for axis in range(ahead.shape[1]):
        row = ahead[:, axis]
        counted = (row >= 0) | ((row == EMPTY) & edges)
        difference = padded[np.where(row >= 0, row, len(values))] - values.astype(np.float64)
        square += np.where(counted[:, None], scales[axis] * difference, 0.0) ** 2
    return float(np.sqrt(square).sum() / len(values))


def add_gradient(
    into: Gradients,
    density: np.ndarray,
    sh: np.ndarray,
    ahead: np.ndarray,
    scales: np.ndarray,
    weights: tuple[float, float],
    rows: tuple[int, int],
) -> None:
    """Add the gradient of ``weights[0] TV(density) + weights[1] TV(sh)``, estimated from some of the rows.

    Of the rows given (`rows`: first, last) the mean is taken instead of that over all, as svox2 does. An empty
    neighbour counts as zero density; to its colour there is no difference. It goes into the threads' slots of `into`,
    which are added up by the next march, or by ``into.gather()``.

    Parameters
    ----------
    into : Gradients
    density : ndarray ``(rows,)``
    sh : ndarray ``(rows, 3, functions)``
    ahead, scales
        See `total_variation`.
    weights : tuple of float
    rows : tuple of int
    """
    first, last = rows
    if last <= first or not any(weights):
        return
    from neurcomp_core.radiance.training import regulariser_kernels as kernels

    flat = sh.reshape(len(sh), -1)
    shares = [weight / (last - first) for weight in weights]

    def work(part: int, a: int, b: int) -> None:
        g_density, g_sh, touched = into.slot(part)
        given = first + a, first + b, ahead, scales
        if shares[0]:
            kernels.add_gradient(*given, density.reshape(-1, 1), True, shares[0], g_density.reshape(-1, 1), touched)
        if shares[1]:
            kernels.add_gradient(*given, flat, False, shares[1], g_sh, touched)

    over_ranges(last - first, work, into.slots)


def stretch(rows: int, share: float, seed: tuple[int, ...]) -> tuple[int, int]:
    """A random contiguous range of `share` of the rows, at least one; all of them for a share of 1."""
    count = min(rows, max(1, round(share * rows)))
    first = int(np.random.default_rng(seed).integers(0, rows - count + 1)) if rows else 0
    return first, first + count
