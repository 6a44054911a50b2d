"""A sampled field on an image or a rectilinear grid: what codecs eat and return.

Axis order: arrays are C-contiguous ``(z, y, x)`` or ``(z, y, x, c)``, x fastest as in VTK. Geometry lists ``x, y, z``
as VTK does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.metrics import limits, valid_samples

Association = Literal["point", "cell"]
Region = tuple[slice, slice, slice]

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class UniformGrid:
    """Image geometry, as vtkImageData has it.

    Attributes
    ----------
    extent : tuple of 6 int
        First and last point index per axis: ``(x0, x1, y0, y1, z0, z1)``.
    origin, spacing : tuple of 3 float
        Position of index (0, 0, 0), and distance of neighbouring points, x, y, z.
    direction : tuple of 9 float
        Row-major 3x3 matrix that turns index axes into world axes.
    """

    extent: tuple[int, ...]
    origin: tuple[float, ...] = (0.0, 0.0, 0.0)
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0)
    direction: tuple[float, ...] = IDENTITY

    @property
    def dimensions(self) -> tuple[int, int, int]:
        """Points along x, y, z."""
        e = self.extent
        return (e[1] - e[0] + 1, e[3] - e[2] + 1, e[5] - e[4] + 1)

    def sample(self, start: tuple[int, int, int], count: tuple[int, int, int], step: int) -> UniformGrid:
        """Geometry of every `step`-th point, `count` points from index `start` (x, y, z, counted from the corner)."""
        if step == 1:
            low = tuple(self.extent[2 * i] + start[i] for i in range(3))
            return replace(self, extent=_extent(low, count))
        # A coarser lattice has indices of its own, so the corner moves into the origin.
        corner = np.array([self.extent[2 * i] + start[i] for i in range(3)], float) * np.array(self.spacing)
        origin = np.array(self.origin) + np.array(self.direction).reshape(3, 3) @ corner
        return UniformGrid(
            _extent((0, 0, 0), count), _floats(origin), tuple(s * step for s in self.spacing), self.direction
        )


@dataclass(frozen=True, eq=False)
class RectilinearGrid:
    """Axis-aligned geometry with one coordinate array per axis, as vtkRectilinearGrid has it.

    Attributes
    ----------
    x, y, z : ndarray
        Point coordinates, float32 or float64, kept to the bit.
    start : tuple of 3 int
        First point index along x, y, z.
    """

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    start: tuple[int, ...] = (0, 0, 0)

    @property
    def axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return (self.x, self.y, self.z)

    @property
    def dimensions(self) -> tuple[int, int, int]:
        """Points along x, y, z."""
        return (len(self.x), len(self.y), len(self.z))

    @property
    def extent(self) -> tuple[int, ...]:
        return _extent(self.start, self.dimensions)

    def sample(self, start: tuple[int, int, int], count: tuple[int, int, int], step: int) -> RectilinearGrid:
        """Geometry of every `step`-th point, `count` points from index `start` (x, y, z, counted from the corner)."""
        # The last of a coarser lattice's cells may be cut off by the end of the grid.
        x, y, z = (
            a[np.minimum(s + np.arange(n) * step, len(a) - 1)] for a, s, n in zip(self.axes, start, count, strict=True)
        )
        first = tuple(a + b for a, b in zip(self.start, start, strict=True)) if step == 1 else (0, 0, 0)
        return RectilinearGrid(x, y, z, first)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, RectilinearGrid)
            and self.start == other.start
            and all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(self.axes, other.axes, strict=True))
        )


Geometry = UniformGrid | RectilinearGrid


def _extent(start: tuple[int, ...], count: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(v for s, n in zip(start, count, strict=True) for v in (s, s + n - 1))


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def grid_shape(geometry: Geometry, association: Association) -> tuple[int, int, int]:
    """Samples along z, y, x; a flat axis has one layer of cells, as in VTK."""
    return samples_of(geometry.dimensions, association)


def samples_of(dimensions: tuple[int, ...], association: Association) -> tuple[int, int, int]:
    """`grid_shape` of a grid of `dimensions` points x, y, z."""
    x, y, z = dimensions
    return (z, y, x) if association == "point" else (max(z - 1, 1), max(y - 1, 1), max(x - 1, 1))


def full_region(shape: tuple[int, ...]) -> Region:
    """The box of a whole array, z, y, x."""
    return (slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2]))


@dataclass(frozen=True, eq=False)
class Field:
    """One array on one grid.

    Parameters
    ----------
    values : ndarray
        ``(z, y, x)`` or ``(z, y, x, c)``, one of `DTYPES`, any byte order.
    geometry : UniformGrid or RectilinearGrid, optional
        Unit spacing at the origin if left out.
    name : str
    association : {'point', 'cell'}
    time : float, optional
        Time value of this step, if it belongs to a series.
    mask : ndarray of bool, optional
        True where a sample is not data (fill value, blanked, ghost): carried exactly, left out of statistics.
        Shape ``(z, y, x)`` or that of `values`. NaN and infinities need no mask.

    Raises
    ------
    InputError
        If the array is empty, of an unsupported type or does not fit its grid.
    """

    values: np.ndarray
    geometry: Geometry = None  # type: ignore[assignment]
    name: str = "values"
    association: Association = "point"
    time: float | None = None
    mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        values = np.asarray(self.values)
        where = f"array '{self.name}'"
        if values.dtype.name not in DTYPES:
            raise InputError(f"{where}: expected one of {', '.join(DTYPES)}, got {values.dtype}")
        if values.ndim not in (3, 4):
            raise InputError(f"{where}: expected axes (z, y, x) or (z, y, x, component), got shape {values.shape}")
        if values.size == 0:
            raise InputError(f"{where} is empty: shape {values.shape}; there is nothing to compress")
        if not values.dtype.isnative:
            values = values.astype(values.dtype.newbyteorder("="))
        object.__setattr__(self, "values", values)
        if self.geometry is None:
            count = values.shape[2::-1] if self.association == "point" else tuple(n + 1 for n in values.shape[2::-1])
            object.__setattr__(self, "geometry", UniformGrid(_extent((0, 0, 0), count)))
        if values.shape[:3] != grid_shape(self.geometry, self.association):
            raise InputError(
                f"{where}: {self.association} data on a grid of {self.geometry.dimensions} points (x, y, z) needs "
                f"shape {grid_shape(self.geometry, self.association)}, got {values.shape[:3]}"
            )
        if self.mask is not None:
            mask = np.asarray(self.mask, bool)
            if mask.shape not in (values.shape, values.shape[:3]):
                raise InputError(f"{where}: mask of shape {mask.shape} does not fit values of shape {values.shape}")
            object.__setattr__(self, "mask", mask)

    @property
    def components(self) -> int:
        """Values per sample."""
        return self.values.shape[3] if self.values.ndim == 4 else 1

    @property
    def voxels(self) -> int:
        """Samples of the grid; a vector counts once."""
        return self.values.shape[0] * self.values.shape[1] * self.values.shape[2]

    @property
    def valid(self) -> np.ndarray | None:
        """Boolean array of finite, unmasked samples in the shape of `values`; None when all are."""
        return valid_samples(self.values, self.mask)

    @property
    def limits(self) -> tuple[float, float]:
        """Least and largest of the valid samples, of which there must be one."""
        low, high = limits(self.values, self.valid)
        return float(low), float(high)

    @property
    def nbytes(self) -> int:
        """Bytes of the raw values."""
        return self.values.nbytes
