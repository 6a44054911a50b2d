"""What pictures lose by a change of a field's numbers, to second order.

The diagonal of the Gauss-Newton matrix J'J of the colours' squared error, estimated without forming J: the mean square
of J'v for random signs v is that diagonal (Bekas, Kokiopoulou & Saad, An estimator for the diagonal of a matrix,
Applied Numerical Mathematics 57, 2007). A gradient of the squared error is linear in the colours it is asked for, so
that J'v is the difference of two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from neurcomp_core.progress import Progress
from neurcomp_core.radiance.places import HOST, Place
from neurcomp_core.radiance.rendering.frames import Rays
from neurcomp_core.radiance.training.batches import Batch
from neurcomp_core.radiance.vqrf.factors import UNIT, Basis, Factors
from neurcomp_core.radiance.vqrf.finetune import descent_of

# Share of a row's sensitivity that is taken from its importance: few rays meet a row, and some rows none of them.
_KNOWN = 0.1


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Mean squared error of colours per squared change.

    Attributes
    ----------
    density : ndarray ``(rows,)``
        Of densities.
    share : ndarray ``(rows,)``
        Of all sensitivity to features that each row has; sums up to 1.
    metric : ndarray ``(channels, channels)``
        A change d of one row's features counts as its share times ``d @ metric @ d``.
    """

    density: np.ndarray
    share: np.ndarray
    metric: np.ndarray

    @classmethod
    def of(
        cls,
        factors: Factors,
        importance: np.ndarray,
        rays: Iterable[Rays],
        background: tuple[float, float, float],
        seed: int = 0,
        progress: Progress | None = None,
        place: Place = HOST,
    ) -> Sensitivity:
        """That of a field's rows of some importance ``(rows,)``, by what some batches of rays see."""
        descent, rows, draw = descent_of(factors, background, place), factors.rows(), np.random.default_rng(seed)
        density, features = np.zeros(len(rows)), np.zeros(len(rows))
        metric, seen = np.zeros((rows.features.shape[1],) * 2), 0
        for some in rays:
            if progress is not None:
                progress.check()
            signs = np.where(draw.random((len(some), 3)) < 0.5, -0.5, 0.5).astype(np.float32)
            ends = []
            for side in (signs, -signs):
                slope = descent.slope(rows.density, rows.features, factors.network, Batch(some, 0.5 + side))
                # J'v times 2 / 3 over all rays, a mean over channels.
                scale = 1.5 * len(some) / slope.scale
                ends.append((scale * slope.density.astype(np.float64), scale * slope.features.astype(np.float64)))
            along = [b - a for a, b in zip(*ends, strict=True)]
            density += along[0] ** 2
            features += (along[1] ** 2).sum(1)
            metric += along[1].T @ along[1]
            seen += 3 * len(some)
        known = importance / max(float(importance.sum()), 1e-30)
        density = (1 - _KNOWN) * density + _KNOWN * density.sum() * known
        share = (1 - _KNOWN) * features / max(float(features.sum()), 1e-30) + _KNOWN * known
        return cls(density / max(seen, 1), share, metric / max(seen, 1))

    def channels(self, basis: Basis) -> np.ndarray:
        """Of changes of coefficients ``(channels,)``, of all rows together."""
        vectors = basis.vectors / UNIT
        return np.einsum("ij,jk,ik->i", vectors, self.metric, vectors)
