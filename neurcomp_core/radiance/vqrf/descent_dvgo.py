"""Gradients of a DVGO model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.rendering.occupancy import dilated
from neurcomp_core.radiance.training.batches import Batch
from neurcomp_core.radiance.training.dvgo_recipe import DvgoSchedule
from neurcomp_core.radiance.training.dvgo_state import DvgoState
from neurcomp_core.radiance.training.dvgo_step import CpuEngine
from neurcomp_core.radiance.vqrf.factors import Factors
from neurcomp_core.radiance.vqrf.finetune import Slope

# Of the squared error alone.
_LOSS = DvgoSchedule(1, entropy=0.0, point=0.0)


@dataclass(frozen=True, eq=False)
class DvgoDescent:
    """See `finetune.Descent`.

    rows are the occupied samples among all of the grids, reach those that may be given a gradient.
    """

    engine: CpuEngine
    rows: np.ndarray
    reach: np.ndarray

    @classmethod
    def of(cls, factors: Factors, background: tuple[float, float, float]) -> DvgoDescent:
        """That of a field's voxels."""
        model = factors.model()
        assert isinstance(model, DvgoModel)
        # A mask leads to samples within half a voxel of its own: two steps from the occupied ones.
        reach = np.flatnonzero(dilated(dilated(factors.occupied)))
        return cls(CpuEngine(DvgoState.of(model), background), np.flatnonzero(factors.occupied), reach)

    def slope(self, density: np.ndarray, features: np.ndarray, network: tuple[np.ndarray, ...], batch: Batch) -> Slope:
        """Of a batch."""
        state, sums = self.engine.state, self.engine.gradients
        channels = features.shape[1]
        state.density.reshape(-1)[self.rows] = density
        state.features.reshape(-1, channels)[self.rows] = features
        arrays = [array for layer in state.layers for array in layer]
        for array, values in zip(arrays, network, strict=True):
            array[...] = values
        names = [f"{kind} {i}" for i in range(len(state.layers)) for kind in ("weight", "bias")]
        flat = sums["density"].reshape(-1), sums["features"].reshape(-1, channels)
        for gradient in flat:
            gradient[self.reach] = 0
        for name in names:
            sums[name][...] = 0
        error = self.engine.accumulate(batch, _LOSS)
        g_density, g_features = (gradient[self.rows] for gradient in flat)
        met = (g_density != 0) | (g_features != 0).any(1)
        return Slope(error, 1.0, g_density, g_features, tuple(sums[name] for name in names), met)
