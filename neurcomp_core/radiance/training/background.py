"""Background spheres to begin a training with."""

from __future__ import annotations

import numpy as np

from neurcomp_core.radiance.grids import EMPTY, SphereLayers


def empty_spheres(layers: int, size: int, density: float) -> SphereLayers:
    """Grey spheres of constant density with ``2 size`` by `size` texels each; all texels are there."""
    links = np.arange(2 * size * size, dtype=np.int32).reshape(2 * size, size)
    data = np.zeros((links.size, layers, 4), np.float32)
    data[..., 3] = density
    return SphereLayers(links, data)


def neighbours(spheres: SphereLayers) -> np.ndarray:
    """Entry ``row layers + layer`` per texel and layer ``(2 r, r, layers)``, `EMPTY` where there is no texel."""
    layers = spheres.data.shape[1]
    rows = spheres.links[..., None].astype(np.int64)
    return np.where(rows == EMPTY, EMPTY, rows * layers + np.arange(layers)).astype(np.int32)


def in_ellipsoid(shape: tuple[int, int, int]) -> np.ndarray:
    """``(z, y, x)`` bool: voxels whose centre lies in the largest ellipsoid within their box.

    The inner sphere is this ellipsoid; what a grid has beyond it would lie before the spheres and behind them.
    """
    axes = [((np.arange(n) + 0.5) / n * 2 - 1) ** 2 for n in shape]
    return axes[0][:, None, None] + axes[1][:, None] + axes[2] <= 1
