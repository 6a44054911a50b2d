"""How much rays see of each sample of a DVGO model's grids: what VQRF prunes and weighs by."""

from __future__ import annotations

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.rendering.dvgo_march import THRESHOLD, DvgoMarch
from neurcomp_core.radiance.rendering.frames import Rays
from neurcomp_core.radiance.rendering.march import MarchOptions
from neurcomp_core.radiance.rendering.ranges import over_ranges, thread_count

# Rays marched at once.
_BATCH = 1 << 14


def importance(
    model: DvgoModel,
    rays: Rays,
    into: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    options: MarchOptions | None = None,
    threshold: float = THRESHOLD,
) -> tuple[np.ndarray, np.ndarray]:
    """Rendering weights brought to the grids' samples, as `March.importance` does for a sparse grid.

    Parameters
    ----------
    model : DvgoModel
    rays : Rays
    into : pair of ndarray ``(z, y, x)`` float64, optional
        What an earlier call gave, to go on with; changed in place.
    options : MarchOptions, optional
    threshold : float
        Opacity of a step up to which it counts as free, see `DvgoMarch`.

    Returns
    -------
    most : ndarray ``(z, y, x)`` float64
        Largest rendering weight among the points that a sample of the grid is a corner of.
    total : ndarray ``(z, y, x)`` float64
        Sum over points of rendering weight times the sample's trilinear weight (Li et al., CVPR 2023, section 3).
        Same rays, same sums, whatever the number of threads.
    """
    from neurcomp_core.radiance.rendering import dvgo_kernels

    shape = model.density.shape
    most, total = into or (np.zeros(shape), np.zeros(shape))
    if {most.shape, total.shape} != {shape}:
        raise InputError(f"importance so far: expected {shape} each, got {most.shape} and {total.shape}")
    march = DvgoMarch.of(model, options, threshold)
    for first in range(0, len(rays), _BATCH):
        found = march.samples(model.density, rays.part(first, min(first + _BATCH, len(rays))))
        borders = even_layers(found.at, shape[0])

        def work(part: int, a: int, b: int, found=found, borders=borders) -> None:
            for k in range(a, b):
                dvgo_kernels.importance(borders[k], borders[k + 1], found.at, found.weight, most, total)

        over_ranges(len(borders) - 1, work)
    return most, total


def even_layers(at: np.ndarray, depth: int, parts: int | None = None) -> list[int]:
    """`depth` layers along z cut into a stretch per thread with about as many positions ``(n, 3)`` each: borders."""
    parts = min(parts or thread_count(), depth)
    if parts == 1 or not len(at):
        return [0, depth]
    total = np.cumsum(np.bincount(at[:, 2].astype(np.int64).clip(0, depth - 1), minlength=depth))
    inner = np.searchsorted(total, total[-1] * np.arange(1, parts) / parts)
    return [0, *(int(b) for b in inner), depth]
