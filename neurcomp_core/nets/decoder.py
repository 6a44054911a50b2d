"""A network that is ready to be asked: for values on its lattice, and for values and slopes at any points.

A backend makes one of the parameters (`backends.Backend.decoder`), uploads them once, and is then asked as often as one
likes. Positions are computed in float64 everywhere and products in float32, so that decoders differ by what the order
of sums does, far below the margin of FORMAT.md.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from neurcomp_core.field import Region
from neurcomp_core.nets.model import Network

#: Samples per axis that are decoded with one table of cells per axis.
LONGEST = 1 << 14


class Decoder(ABC):
    """A hash-grid network with its parameters in place.

    Parameters
    ----------
    network : Network
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        #: Is told where work had to be cut into smaller parts.
        self.note: Callable[[str], None] | None = None

    def _told(self, text: str) -> None:
        if self.note is not None:
            self.note(text)

    @abstractmethod
    def _fill(self, region: Region, step: int, out: np.ndarray, scale: float, centre: float) -> None:
        """`lattice` of a region of at most `LONGEST` samples per axis."""

    @abstractmethod
    def _values(self, points: np.ndarray) -> np.ndarray:
        """`values` of points that are known to be in order."""

    @abstractmethod
    def _gradients(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`gradients` of points that are known to be in order."""

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """A new array that results are copied to as fast as the device can: page-locked where it is a GPU."""
        return np.empty(shape, dtype)

    def lattice(
        self, region: Region, step: int = 1, out: np.ndarray | None = None, scale: float = 1.0, centre: float = 0.0
    ) -> np.ndarray:
        """Values ``centre + scale * output`` at every `step`-th sample of a region of the lattice.

        Parameters
        ----------
        region : tuple of slice
            Along z, y, x.
        step : int
        out : ndarray, optional
            C-contiguous ``(z, y, x, outputs)`` float32 or float64 that is filled and returned; a new float32 one by
            default.
        scale, centre : float
            Applied in the type of `out`.

        Returns
        -------
        ndarray
        """
        shape = tuple(len(range(r.start, r.stop, step)) for r in region)
        if out is None:
            out = self.empty((*shape, self.network.outputs), np.dtype(np.float32))
        if out.shape != (*shape, self.network.outputs) or out.dtype not in (np.float32, np.float64):
            raise ValueError(
                f"out: expected float32 or float64 of shape {(*shape, self.network.outputs)}, "
                f"got {out.dtype} of shape {out.shape}"
            )
        if max(shape) <= LONGEST and out.flags.c_contiguous:
            self._fill(region, step, out, scale, centre)
            return out
        for corner in itertools.product(*(range(0, n, LONGEST) for n in shape)):
            part = tuple(
                slice(r.start + c * step, min(r.start + (c + LONGEST) * step, r.stop))
                for r, c in zip(region, corner, strict=True)
            )
            box = tuple(slice(c, min(c + LONGEST, n)) for c, n in zip(corner, shape, strict=True))
            found = np.empty(out[box].shape, out.dtype)
            self._fill(part, step, found, scale, centre)  # type: ignore[arg-type]
            out[box] = found
        return out

    def values(self, points: np.ndarray) -> np.ndarray:
        """Outputs at any points of the unit cube.

        Parameters
        ----------
        points : ndarray
            ``(n, dims)`` network coordinates, the lattice's axes fastest first; those outside are moved to its faces.

        Returns
        -------
        ndarray
            ``(n, outputs)`` float32.
        """
        return self._values(self._in_order(points))

    def gradients(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Outputs at any points, and their exact derivatives with respect to the network coordinates.

        Parameters
        ----------
        points : ndarray
            As `values` takes them. On a face of a grid's cell, where linear interpolation has a kink, slopes are those
            of the cell above; where a neuron is exactly at rest, those of rest.

        Returns
        -------
        values : ndarray
            ``(n, outputs)`` float32.
        slopes : ndarray
            ``(n, outputs, dims)`` float32.
        """
        return self._gradients(self._in_order(points))

    def _in_order(self, points: np.ndarray) -> np.ndarray:
        dims = self.network.layout.dims
        points = np.asarray(points, np.float64)
        if points.ndim != 2 or points.shape[1] != dims:
            raise ValueError(f"points: expected shape (n, {dims}), got {points.shape}")
        found = np.zeros((len(points), 3))
        np.clip(points, 0, 1, out=found[:, :dims])
        return found
