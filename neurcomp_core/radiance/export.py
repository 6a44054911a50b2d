"""Radiance fields of any kind as arrays on a regular grid, for programs that know volumes and not radiance.

A sparse grid gives its own samples, networks and DVGO's grids are sampled. Arrays are called `density`, `color`, `sh`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.field import Field, UniformGrid
from neurcomp_core.progress import Progress
from neurcomp_core.radiance import spherical_harmonics
from neurcomp_core.radiance.grids import EMPTY, SparseGrid
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.rendering.fields import PointField
from neurcomp_core.radiance.rendering.frames import GridFrame
from neurcomp_core.radiance.rendering.occupancy import dilated

DENSITY, COLOR, SH = "density", "color", "sh"
#: Opacity of a voxel below which it has no colour of its own.
FAINTEST = 1e-3
#: Voxels along the longest side of what has no grid of its own.
RESOLUTION = 128
_FEWEST, _MOST = 2, 2048
#: Directions that spherical harmonics are fitted to; degree 2 has 9 coefficients.
_DIRECTIONS = 32
_BATCH = 1 << 16


def fields(
    field: SparseGrid | PointField,
    resolution: int | None = None,
    direction: Sequence[float] | None = None,
    sh: bool = False,
    progress: Progress | None = None,
    *,
    signed: bool = False,
) -> list[Field]:
    """Density, colour and, if asked for, spherical harmonics as point data on one grid.

    Parameters
    ----------
    field : SparseGrid or PointField
    resolution, progress
        See `sampled`.
    direction : sequence of 3 float, optional
        Along which one looks, in world coordinates; by default colours are means over all directions.
    sh : bool
        Whether to give the coefficients, too.
    signed : bool
        Whether to keep densities below zero, which a trained sparse grid has beside its surfaces: its density is cut
        at zero after interpolation, so that surfaces lie between samples. Programs that show volumes expect zeros.

    Returns
    -------
    list of Field
        `density` ``(z, y, x)`` float32, per unit of world length; `color` ``(z, y, x, 3)`` float32 from 0 to 1, a half
        where there is none, which is what empty samples of a `SparseGrid` stand for; `sh` ``(z, y, x, 3 k)`` float32,
        the k coefficients of red first; a half is added to what they give.

    Raises
    ------
    InputError
        If the direction is zero or not finite, or as `sampled` does.
    """
    towards = None if direction is None else unit(direction)
    own = isinstance(field, SparseGrid)
    # One direction, or the mean of all: a constant holds it, and a network is asked less often.
    few = None if sh or own or towards is None else towards[None]
    grid = sampled(field, resolution, 2 if sh else 0, progress, directions=few)
    density, coefficients = grid.dense()
    if towards is not None and sh and not own:
        keep = grid.links != EMPTY
        color = np.full((*density.shape, 3), 0.5)
        color[keep] = seen_along(field, _points(GridFrame.of(grid), keep), towards)
    else:
        # Over the sphere, the mean of all harmonics but the first is zero.
        degree = grid.degree if own and towards is not None else 0
        basis = spherical_harmonics.basis(np.array([0.0, 0.0, 1.0]) if towards is None else towards, degree)
        color = 0.5 + coefficients[..., : len(basis)] @ basis
    geometry = grid.geometry
    solid = np.maximum(density, 0)
    color = np.clip(color, 0, 1).astype(np.float32)
    found = [Field(density if signed else solid, geometry, DENSITY), Field(color, geometry, COLOR)]
    if sh:
        found.append(Field(coefficients.reshape(*density.shape, -1).astype(np.float32), geometry, SH))
    return found


def sampled(
    field: SparseGrid | PointField,
    resolution: int | None = None,
    degree: int = 2,
    progress: Progress | None = None,
    *,
    directions: np.ndarray | None = None,
) -> SparseGrid:
    """A field as a sparse grid of density and spherical harmonics.

    Parameters
    ----------
    field : SparseGrid or PointField
    resolution : int, optional
        Voxels along the longest side of its box, 2 to 2048. By default a grid's own samples, else `RESOLUTION`.
    degree : int
        Of the spherical harmonics that a `PointField`'s colours are fitted by, in the least squares over directions
        spread evenly over the sphere; what is cut at 0 or 1, or changes faster with direction, is not held exactly.
    progress : Progress, optional
    directions : ndarray ``(n, 3)``, optional
        Unit vectors to fit to instead.

    Returns
    -------
    SparseGrid
        A sparse grid at its own resolution comes back as it is. Else voxels whose opacity is below `FAINTEST`, and
        that no other touches, are left out.

    Raises
    ------
    InputError
        If the resolution is out of range.
    """
    frame = frame_of(field, resolution)
    if isinstance(field, SparseGrid) and frame.shape == field.links.shape:
        return field
    progress = progress or Progress()
    density = _densities(field, frame, progress.part(0.0, 0.3))
    # Colours must not change where they are interpolated at a surface.
    keep = dilated(density * frame.voxel.min() > -math.log1p(-FAINTEST))
    points = _points(frame, keep)
    directions = spread(_DIRECTIONS) if directions is None else directions
    sh = _coefficients(field, points, degree, directions, progress.part(0.3, 1.0))
    links = np.full(keep.shape, EMPTY, np.int32)
    links[keep] = np.arange(len(points), dtype=np.int32)
    # A `SparseGrid` has its samples at the centres of voxels, none on its box.
    half = np.zeros(3) if frame.centered else frame.voxel / 2
    return SparseGrid(links, density[keep], sh, frame.box + np.stack([-half, half]))


def seen_along(field: SparseGrid | PointField, points: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Colours ``(n, 3)`` from 0 to 1 at points, seen along one unit direction ``(3,)``, or one each."""
    towards = np.broadcast_to(directions, points.shape)
    out = np.empty(points.shape)
    for part in _batches(len(points)):
        out[part] = field.colors(points[part], towards[part])
    return np.clip(out, 0, 1)


def isovalue(density: Field) -> float:
    """Density whose surface looks solid: a voxel of it stops half the light; at most half the largest density.

    Raises
    ------
    InputError
        If there is no density anywhere.
    """
    assert isinstance(density.geometry, UniformGrid)
    largest = float(density.values.max())
    if largest <= 0:
        raise InputError("the field has no density anywhere, so it has no surface")
    return min(math.log(2) / min(density.geometry.spacing), largest / 2)


def unit(direction: Sequence[float]) -> np.ndarray:
    """Unit vector ``(3,)``; InputError if there is none."""
    given = np.asarray(direction, np.float64)
    length = float(np.linalg.norm(given))
    if given.shape != (3,) or not 0 < length < math.inf:
        raise InputError(f"direction: expected three numbers that are not all zero, got {given.tolist()}")
    return given / length


def spread(count: int) -> np.ndarray:
    """Unit vectors ``(count, 3)`` evenly over the sphere, on a golden spiral."""
    height = 1 - (2 * np.arange(count) + 1) / count
    turn = math.pi * (3 - math.sqrt(5)) * np.arange(count)
    ring = np.sqrt(1 - height**2)
    return np.stack([ring * np.cos(turn), ring * np.sin(turn), height], 1)


# -------------------------------------------------------------------------------------------------------- sampling


def frame_of(field: SparseGrid | PointField, resolution: int | None = None) -> GridFrame:
    """Where `sampled` has its samples."""
    if resolution is None:
        if isinstance(field, SparseGrid):
            return GridFrame.of(field)
        model = getattr(field, "model", None)
        if isinstance(model, DvgoModel):
            z, y, x = model.density.shape
            return GridFrame((z, y, x), model.box, centered=False)
        resolution = RESOLUTION
    if not _FEWEST <= resolution <= _MOST:
        raise InputError(f"resolution: expected {_FEWEST} to {_MOST} voxels along the longest side, got {resolution}")
    extent = field.box[1] - field.box[0]
    x, y, z = np.maximum(_FEWEST, np.rint(resolution * extent / extent.max())).astype(int).tolist()
    return GridFrame((z, y, x), field.box)


def _points(frame: GridFrame, keep: np.ndarray) -> np.ndarray:
    """World positions ``(n, 3)`` of the samples where `keep` ``(z, y, x)``, in its order."""
    return (np.argwhere(keep)[:, ::-1] - frame.offset) * frame.voxel


def _densities(field: SparseGrid | PointField, frame: GridFrame, progress: Progress) -> np.ndarray:
    """``(z, y, x)`` float32, layer by layer."""
    z, y, x = frame.shape
    out = np.empty(frame.shape, np.float32)
    layer = _points(frame, np.ones((1, y, x), bool))
    for k in range(z):
        progress.update(k / z, "sampling densities")
        points = layer + [0, 0, k * frame.voxel[2]]
        for part in _batches(len(points)):
            found = field.sample(points[part])[0] if isinstance(field, SparseGrid) else field.density(points[part])
            out[k].reshape(-1)[part] = np.maximum(found, 0)
    return out


def _coefficients(
    field: SparseGrid | PointField, points: np.ndarray, degree: int, directions: np.ndarray, progress: Progress
) -> np.ndarray:
    """``(n, 3, functions)`` float32."""
    inverse = np.linalg.pinv(spherical_harmonics.basis(directions, degree))
    functions = field.sh.shape[2] if isinstance(field, SparseGrid) else len(inverse)
    out = np.empty((len(points), 3, functions), np.float32)
    for part in _batches(len(points)):
        progress.update(part.start / len(points), "sampling colours")
        if isinstance(field, SparseGrid):
            out[part] = field.sample(points[part])[1]
            continue
        at = points[part]
        seen = [field.colors(at, np.broadcast_to(d, at.shape)) - 0.5 for d in directions]
        out[part] = np.stack(seen, -1) @ inverse.T
    return out


def _batches(count: int) -> list[slice]:
    return [slice(first, min(count, first + _BATCH)) for first in range(0, count, _BATCH)]
