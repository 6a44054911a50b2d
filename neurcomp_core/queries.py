"""Values and slopes of a compressed array at any points, without decoding it whole where its codec can.

A network of codec ``hashgrid`` or ``siren`` is a function of position: it is asked at the points themselves, on a GPU
if the context says so, and its slopes are exact. Of any other array the box around the points is decoded and
interpolated linearly along each axis, as VTK probes an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from neurcomp_core.codec import Context, Encoded, codec_by_id
from neurcomp_core.codecs import hashgrid
from neurcomp_core.codecs.hashgrid import HashGrid, Opened
from neurcomp_core.codecs.siren import Siren, SirenPoints
from neurcomp_core.container import Container
from neurcomp_core.decoding import decode_array
from neurcomp_core.errors import InputError
from neurcomp_core.field import Field, Geometry, RectilinearGrid, UniformGrid, full_region

#: How far outside a point may lie, in samples, for the rounding of its coordinates.
_NEAR = 1e-6


def query(source: bytes | str | Path | Container, array: str | None = None, context: Context | None = None) -> Query:
    """An array of a ``.nvc`` file, to be asked for values and gradients at points.

    Parameters
    ----------
    source : bytes, path or Container
    array : str, optional
        Its name; may be left out where the file holds one array. Of a series it is the first step: `Query` takes any.
    context : Context, optional
        Where to compute, and by what: ``Context(device="cuda")``.

    Returns
    -------
    Query

    Raises
    ------
    FormatError
        If the file is damaged.
    InputError
        If there is no such array.

    Examples
    --------
    >>> pressure = query("flow.nvc", "pressure")
    >>> pressure.sample([[0.1, 0.2, 0.3]])
    array([1.0132], dtype=float32)
    >>> pressure.gradient([[0.1, 0.2, 0.3]]).shape
    (1, 3)
    """
    file = source if isinstance(source, Container) else Container(source)
    names = [record.name for record in file.header.arrays]
    listing = ", ".join(f"'{n}'" for n in dict.fromkeys(names)) or "none"
    if array is None and len(set(names)) != 1:
        raise InputError(f"which array of {file.name}? It has: {listing}")
    if array is not None and array not in names:
        raise InputError(f"{file.name} has no array '{array}'; it has: {listing}")
    return Query(file, 0 if array is None else names.index(array), context or Context())


@dataclass(frozen=True, eq=False)
class Query:
    """One array of an open file; see `query`.

    Attributes
    ----------
    file : Container
    index : int
        The array's place in the file.
    context : Context
    """

    file: Container
    index: int
    context: Context

    @property
    def geometry(self) -> Geometry:
        """The grid that the array is on."""
        return self.file.geometry(self.index)

    @cached_property
    def exact(self) -> bool:
        """Whether a network is asked at the points themselves; else samples around them are interpolated.

        A network with a residual, or an array in which samples are missing, is interpolated.
        """
        record = self.file.header.arrays[self.index]
        single = len(self.file.lazy_sections(self.index)) == 1
        return codec_by_id(record.codec) in (HashGrid, Siren) and not record.special and single

    def sample(self, points: ArrayLike, fill: float = np.nan) -> np.ndarray:
        """Values at points.

        Parameters
        ----------
        points : array_like
            ``(n, 3)`` positions x, y, z in the units of the grid.
        fill : float
            Value of points outside of the grid, and beside missing samples.

        Returns
        -------
        ndarray
            ``(n,)`` or ``(n, components)``: float32, or float64 of arrays that float32 does not hold. Integers are not
            rounded.

        Raises
        ------
        InputError
            If `points` has another shape, or the device or backend is not there.
        """
        return self._asked(points, fill, slopes=False)[0]

    def gradient(self, points: ArrayLike, fill: float = np.nan) -> np.ndarray:
        """Derivatives with respect to x, y, z at points.

        Linear interpolation has kinks at the faces of its cells: slopes there are those of the cell above.

        Parameters
        ----------
        points, fill
            As `sample` takes them.

        Returns
        -------
        ndarray
            ``(n, 3)`` or ``(n, components, 3)``, per unit of the grid; 0 along an axis of one sample.

        Raises
        ------
        InputError
            As `sample`.
        """
        return self._asked(points, fill, slopes=True)[1]

    def _asked(self, points: ArrayLike, fill: float, slopes: bool) -> tuple[np.ndarray, np.ndarray]:
        points = np.asarray(points, np.float64)
        if points.ndim != 2 or points.shape[1] != 3:
            raise InputError(f"points: expected shape (n, 3) with x, y, z, got {points.shape}")
        spec = self.file.spec(self.index)
        index, unit = _located(points, self.geometry)
        shape = np.array(spec.shape[2::-1])
        if self.file.association(self.index) == "cell":
            # Cells have their values in their middles.
            index = index - 0.5
        margin = np.where((shape == 1) | (self.file.association(self.index) == "cell"), 0.5, 0.0) + _NEAR
        with np.errstate(invalid="ignore"):
            inside = ((index >= -margin) & (index <= shape - 1 + margin)).all(axis=1)
        components = spec.shape[3] if len(spec.shape) == 4 else 1
        narrow = spec.dtype in (np.float32, np.uint8, np.int8, np.uint16, np.int16)
        values = np.full((len(points), components), fill, np.float32 if narrow else np.float64)
        gradients = np.full((*values.shape, 3), fill, values.dtype)
        if inside.any():
            ask = self._network if self.exact else self._interpolated
            found, slope = ask(index[inside], slopes)
            missing = ~np.isfinite(found)
            values[inside] = np.where(missing, fill, found)
            if slopes:
                # Along each index axis, and from there to the axes of the world.
                world = np.einsum("ncj,nji->nci", slope, unit[inside])
                gradients[inside] = np.where(missing[..., None], fill, world)
        return (values[:, 0], gradients[:, 0]) if len(spec.shape) == 3 else (values, gradients)

    # ......................................................................................................... network

    @cached_property
    def _opened(self) -> Opened:
        record = self.file.header.arrays[self.index]
        encoded = Encoded(record.params, self.file.lazy_sections(self.index))
        return hashgrid.opened(encoded, self.file.spec(self.index), self.context)

    @cached_property
    def _sines(self) -> SirenPoints | None:
        """The network of a sine network's array."""
        record = self.file.header.arrays[self.index]
        if codec_by_id(record.codec) is not Siren:
            return None
        encoded = Encoded(record.params, self.file.lazy_sections(self.index))
        return SirenPoints.of(encoded, self.file.spec(self.index), self.context)

    def _network(self, index: np.ndarray, slopes: bool) -> tuple[np.ndarray, np.ndarray]:
        """Values ``(n, c)`` and slopes ``(n, c, 3)`` per sample at sample indices x, y, z."""
        from neurcomp_core import threads

        if self._sines is not None:
            with threads.limit(self.context.threads):
                return self._sines.at(index, slopes)
        network = self._opened
        lattice = network.decoder.network.lattice
        columns = [2 - axis for axis in lattice.axes]
        points = np.stack([lattice.coordinates(a, index[:, c]) for a, c in zip(lattice.axes, columns, strict=True)], 1)
        slope = np.zeros((len(index), network.decoder.network.outputs, 3))
        with threads.limit(self.context.threads):
            if slopes:
                found, own = network.decoder.gradients(points)
                # A sample is this far from the next in the network's coordinates.
                slope[..., columns] = own * (network.scale / max(lattice.shape))
            else:
                found = network.decoder.values(points)
        return found * network.scale + network.centre, slope

    # ................................................................................................... interpolation

    def _interpolated(self, index: np.ndarray, slopes: bool) -> tuple[np.ndarray, np.ndarray]:
        """As `_network`, linear between samples; in the outer halves of cells the outermost samples' values."""
        shape = np.array(self.file.spec(self.index).shape[2::-1])
        index = index.clip(0, shape - 1)
        lower = np.minimum(np.floor(index).astype(np.int64), np.maximum(shape - 2, 0))
        weight = index - lower
        corner = lower.min(axis=0)
        field = self._box(corner, np.minimum(lower.max(axis=0) + 1, shape - 1))
        values = field.values.astype(np.float64).reshape(*field.values.shape[:3], -1)
        if field.mask is not None:
            values[field.mask if field.mask.ndim == 3 else field.mask.any(axis=-1)] = np.nan
        first = lower - corner
        second = np.minimum(first + 1, np.array(values.shape[2::-1]) - 1)
        found = np.zeros((len(index), values.shape[3]))
        slope = np.zeros((*found.shape, 3))
        for corner_bits in range(8):
            bits = [corner_bits >> axis & 1 for axis in range(3)]
            x, y, z = (second[:, a] if bit else first[:, a] for a, bit in enumerate(bits))
            share = np.stack([weight[:, a] if bit else 1 - weight[:, a] for a, bit in enumerate(bits)], axis=1)
            sample = values[z, y, x]
            # What has no weight need not be there.
            product = share.prod(axis=1)[:, None]
            found += product * np.where(product > 0, sample, 0)
            for axis in range(3) if slopes else ():
                others = np.delete(share, axis, axis=1).prod(axis=1)[:, None]
                slope[..., axis] += (1 if bits[axis] else -1) * others * np.where(others > 0, sample, 0)
        slope[..., shape == 1] = 0
        return found, slope

    def _box(self, low: np.ndarray, high: np.ndarray) -> Field:
        region = tuple(slice(int(a), int(b) + 1) for a, b in zip(low[::-1], high[::-1], strict=True))
        whole = full_region(self.file.spec(self.index).shape)
        return decode_array(self.file, self.index, whole if region == whole else region, 0, self.context)  # type: ignore[arg-type]


def _located(points: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Point indices x, y, z counted from the grid's corner; and their derivatives ``(n, index axis, world axis)``."""
    if isinstance(geometry, UniformGrid):
        direction = np.array(geometry.direction).reshape(3, 3)
        inverse = np.linalg.inv(direction * np.array(geometry.spacing))
        start = np.array(geometry.extent[::2])
        index = (points - np.array(geometry.origin)) @ inverse.T - start
        return index, np.broadcast_to(inverse, (len(points), 3, 3))
    assert isinstance(geometry, RectilinearGrid)
    index, unit = np.empty(points.shape), np.zeros((len(points), 3, 3))
    for axis, coordinates in enumerate(geometry.axes):
        at = np.asarray(coordinates, np.float64)
        sign = -1.0 if len(at) > 1 and at[-1] < at[0] else 1.0
        if len(at) == 1:
            index[:, axis] = points[:, axis] - at[0]
            continue
        rising, wanted = at * sign, points[:, axis] * sign
        cell = np.clip(np.searchsorted(rising, wanted, side="right") - 1, 0, len(at) - 2)
        width = rising[cell + 1] - rising[cell]
        index[:, axis] = cell + (wanted - rising[cell]) / width
        unit[:, axis, axis] = sign / width
    return index, unit
