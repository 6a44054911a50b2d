"""Decoding of hash-grid networks by the CPU kernels. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurcomp_core.field import Region
from neurcomp_core.nets import point_kernels
from neurcomp_core.nets.decoder import Decoder
from neurcomp_core.nets.model import Network


class NumbaDecoder(Decoder):
    """The reference that files are measured with.

    Parameters
    ----------
    network : Network
    parameters : sequence of ndarray
        Float32, in the shapes of ``network.shapes``.
    """

    def __init__(self, network: Network, parameters: Sequence[np.ndarray]) -> None:
        super().__init__(network)
        self.parameters = [np.ascontiguousarray(p) for p in parameters]

    def _fill(self, region: Region, step: int, out: np.ndarray, scale: float, centre: float) -> None:
        planes = out.reshape(1, *out.shape[:3]) if out.dtype == np.float32 and self.network.outputs == 1 else None
        found = self.network.evaluate(self.parameters, region, step, planes)
        if planes is None:
            out[...] = np.moveaxis(found, 0, 3)
        out *= out.dtype.type(scale)
        out += out.dtype.type(centre)

    def _values(self, points: np.ndarray) -> np.ndarray:
        return self._at(points, 0)[0]

    def _gradients(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._at(points, self.network.layout.dims)

    def _at(self, points: np.ndarray, dims: int) -> tuple[np.ndarray, np.ndarray]:
        """Outputs and `dims` of their derivatives."""
        layout, outputs = self.network.layout, self.network.outputs
        values = np.empty((len(points), outputs), np.float32)
        slopes = np.empty((len(points), outputs, dims), np.float32)
        _, resolutions, sizes, firsts, dense, _, smooth = layout.kernel_args
        table, first, inner, last = self.parameters
        point_kernels.at_points(
            points, table, layout.scales, resolutions, sizes, firsts, dense, layout.dims, smooth, first, inner, last,
            values, slopes,
        )  # fmt: skip
        return values, slopes
