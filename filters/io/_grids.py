"""Geometry as files state it, turned into grids."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.field import RectilinearGrid, UniformGrid


def affine_grid(columns: np.ndarray, origin: Sequence[float], dimensions: Sequence[int]) -> UniformGrid:
    """Grid of points ``origin + columns @ (i, j, k)``.

    Parameters
    ----------
    columns : ndarray, shape (3, 3)
        Column ``a`` is the step from a point to its neighbour along index axis ``a``.
    origin : sequence of 3 float
        Position of the first point.
    dimensions : sequence of 3 int
        Points along x, y, z.

    Raises
    ------
    InputError
        If the steps are not finite or do not span three dimensions.
    """
    # hypot keeps the length of an axis-aligned step to the bit.
    spacing = [math.hypot(*column) for column in columns.T.tolist()]
    with np.errstate(divide="ignore", invalid="ignore"):
        direction = columns / np.array(spacing)
    if not (np.isfinite(direction).all() and np.isfinite(origin).all() and abs(np.linalg.det(direction)) > 1e-9):
        raise InputError(f"the geometry in the header is not usable: steps {columns.T.tolist()}, origin {list(origin)}")
    # Adding zero turns -0.0 into 0.0.
    return UniformGrid(
        tuple(v for n in dimensions for v in (0, int(n) - 1)),
        tuple(float(v) for v in origin),
        tuple(spacing),
        tuple((direction + 0.0).reshape(-1).tolist()),
    )


def uniform_grid(grid: RectilinearGrid) -> UniformGrid | None:
    """The uniform grid that `grid` is, up to the rounding of its coordinates; None if it is not evenly spaced."""
    origin, spacing = [], []
    for axis, first in zip(grid.axes, grid.start, strict=True):
        points = axis.astype(np.float64)
        count = len(points)
        step = (points[-1] - points[0]) / (count - 1) if count > 1 else 1.0
        # Coordinates that fit float32 were most likely rounded to it.
        single = bool((points == points.astype(np.float32)).all())
        rounding = 2 * np.finfo(np.float32 if single else np.float64).eps * float(np.abs(points).max())
        even = points[0] + step * np.arange(count)
        if not step > 0 or not np.isfinite(step) or float(np.abs(points - even).max()) > rounding:
            return None
        # A rounding as large as the step would call anything even.
        if count > 1 and rounding > 1e-3 * step:
            return None
        spacing.append(float(step))
        origin.append(float(points[0] - step * first))
    return UniformGrid(grid.extent, tuple(origin), tuple(spacing))
