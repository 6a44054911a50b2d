"""Gradients of a sparse grid of spherical harmonics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurcomp_core.radiance.grids import SparseGrid
from neurcomp_core.radiance.rendering.fitting import squared_error
from neurcomp_core.radiance.rendering.frames import GridFrame
from neurcomp_core.radiance.rendering.gradients import Gradients
from neurcomp_core.radiance.rendering.march import March
from neurcomp_core.radiance.rendering.spheres import Backdrop
from neurcomp_core.radiance.training.batches import Batch
from neurcomp_core.radiance.vqrf.factors import Factors
from neurcomp_core.radiance.vqrf.finetune import Slope


@dataclass(frozen=True, eq=False)
class SparseDescent:
    """See `finetune.Descent`; spheres behind the grid stay as they are."""

    march: March
    sums: Gradients
    background: np.ndarray
    backdrop: Backdrop | None = None

    @classmethod
    def of(cls, factors: Factors, background: tuple[float, float, float]) -> SparseDescent:
        """That of a field's voxels."""
        links = factors.links
        z, y, x = links.shape
        march = March(links, GridFrame((z, y, x), factors.shell.box))
        sh = np.zeros((len(factors.density), 3, factors.kept.shape[1] // 3), np.float32)
        model = factors.model()
        assert isinstance(model, SparseGrid)
        backdrop = None if model.background is None else Backdrop.of(model)
        return cls(march, Gradients(factors.density, sh), np.array(background), backdrop)

    def slope(self, density: np.ndarray, features: np.ndarray, network: tuple[np.ndarray, ...], batch: Batch) -> Slope:
        """Of a batch."""
        sums = self.sums
        sums.clear()
        sh = features.reshape(len(density), 3, -1)
        behind = self.background if self.backdrop is None else self.backdrop.colors(batch.rays, self.background)
        errors, _ = squared_error(self.march, density, sh, batch.rays, batch.colors, behind, sums)
        # The loss is summed over the three channels.
        return Slope(float(np.mean(errors**2)), 3.0, sums.density, sums.sh, (), sums.touched)
