"""Pictures of a DVGO model, and its values on a lattice; neither needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.rendering.dvgo_march import (
    THRESHOLD,
    Density,
    DvgoMarch,
    Features,
    Lit,
    RowDensity,
    RowFeatures,
    colors,
    density_arguments,
    encoded,
)
from neurcomp_core.radiance.rendering.frames import GridFrame, Rays
from neurcomp_core.radiance.rendering.march import Integrals, MarchOptions
from neurcomp_core.radiance.rendering.ranges import over_ranges
from neurcomp_core.radiance.shared import SharedDvgo

# What a sample with opacity and its share of a colour's making take.
_PER_SAMPLE = 128


@dataclass(frozen=True, eq=False)
class DvgoRenderer:
    """A model and its geometry, to render many pictures.

    Attributes
    ----------
    model : DvgoModel or SharedDvgo
    march : DvgoMarch
        `threshold` is a weight, too: samples of less get no colour.
    """

    model: DvgoModel | SharedDvgo
    march: DvgoMarch

    @classmethod
    def of(
        cls, model: DvgoModel | SharedDvgo, options: MarchOptions | None = None, threshold: float = THRESHOLD
    ) -> DvgoRenderer:
        """A model as it is to be rendered."""
        return cls(model, DvgoMarch.of(model, options, threshold))

    @property
    def density(self) -> Density:
        """As the march takes it."""
        model = self.model
        return RowDensity(model.links, model.density, model.rest) if isinstance(model, SharedDvgo) else model.density

    @property
    def features(self) -> Features:
        """As the network's inputs are looked up in them."""
        model = self.model
        return RowFeatures(model.links, model.slots, model.table) if isinstance(model, SharedDvgo) else model.features

    def cuts(self, count: int, memory: int) -> list[tuple[int, int]]:
        """Ranges of `count` rays whose temporary arrays keep to `memory` bytes, however long the rays are."""
        longest = float(np.linalg.norm(self.march.shape)) / self.march.options.step
        rays = max(1, int(memory / (_PER_SAMPLE * longest)))
        return [(first, min(first + rays, count)) for first in range(0, count, rays)]

    def integrals(self, rays: Rays, normals: bool = False) -> Integrals:
        """What rays meet."""
        from neurcomp_core.radiance.rendering import dvgo_kernels

        model, features = self.model, self.features
        samples = self.march.samples(self.density, rays)
        lit = samples.lit(self.march.threshold)
        assert rays.views is not None
        encoding = encoded(rays.views, model.frequencies, features.dtype)
        rgb = colors(lit, features, model.layers, encoding, model.direct)
        color, normal = np.zeros((len(rays), 3)), np.zeros((len(rays) if normals else 0, 3))
        frame = self.march.frame

        def work(part: int, first: int, last: int) -> None:
            dvgo_kernels.mix(first, last, lit.starts, lit.weight, rgb, color)
            if normals:
                given = [*density_arguments(self.density), frame.scale, normal]
                dvgo_kernels.normals(first, last, samples.starts, samples.at, samples.weight, *given)

        over_ranges(len(rays), work)
        return Integrals(color, samples.opacity, samples.depth, np.zeros(0), normal, np.diff(samples.starts))


def lattice(
    model: DvgoModel, view: Sequence[float], shape: tuple[int, int, int] | None = None, threshold: float = THRESHOLD
) -> tuple[np.ndarray, np.ndarray]:
    """Density and colour on a lattice of points over the model's box, for export as image data.

    Parameters
    ----------
    model : DvgoModel
    view : sequence of 3 float
        The direction along which it is looked at; of any length.
    shape : tuple of int, optional
        Points along z, y, x, the outermost ones on the box's faces; the grid's own if left out.
    threshold : float
        Points whose voxel has no more opacity than this are left without colour, and without density.

    Returns
    -------
    density : ndarray ``(z, y, x)`` float32
        Per world length.
    rgb : ndarray ``(z, y, x, 3)`` float32
        From 0 to 1.
    """
    z, y, x = shape or model.density.shape
    direction = np.asarray(view, np.float64)
    length = np.linalg.norm(direction)
    if direction.shape != (3,) or not (np.isfinite(length) and length > 0):
        raise InputError(f"view: expected a direction of three numbers, not all zero, got {list(view)}")
    frame = GridFrame((z, y, x), model.box, centered=False)
    axes = [np.linspace(low, high, n) for (low, high), n in zip(model.box.T, (x, y, z), strict=True)]
    density, rgb = np.zeros((z, y, x), np.float32), np.zeros((z, y, x, 3), np.float32)
    own = GridFrame((model.density.shape[0], model.density.shape[1], model.density.shape[2]), model.box, centered=False)
    encoding = encoded(direction[None] / length, model.frequencies, model.features.dtype)
    edge = float(np.cbrt(np.prod(frame.voxel)))
    for k, height in enumerate(axes[2]):
        points = np.stack(np.broadcast_arrays(axes[0], axes[1][:, None], height), -1).reshape(-1, 3)
        sigma = model.sigma(points)
        index = np.flatnonzero(-np.expm1(-sigma * edge) > threshold)
        at = (points[index] * own.scale + own.offset).astype(np.float32)
        none = np.zeros(len(index), np.float32)
        lit = Lit(index, np.array([0, len(index)]), np.zeros(len(index), np.int32), at, none)
        density[k].reshape(-1)[index] = sigma[index]
        rgb[k].reshape(-1, 3)[index] = colors(lit, model.features, model.layers, encoding, model.direct)
    return density, rgb
