"""Errors inside and outside of regions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from neurcomp_core import metrics
from neurcomp_core.errors import InputError
from neurcomp_core.field import Field
from neurcomp_core.metrics import Quality
from neurcomp_core.regions import Importance, Regions


@dataclass(frozen=True)
class RegionQuality:
    """Errors inside and outside of a region; both PSNR are of the whole field's range, so that they compare.

    Attributes
    ----------
    name : str
    inside, outside : Quality, optional
        None where there is no valid sample.
    share : float
        Of the valid samples that lie inside.
    """

    name: str
    inside: Quality | None
    outside: Quality | None

    @property
    def share(self) -> float:
        inside, outside = (0 if q is None else q.samples for q in (self.inside, self.outside))
        return inside / (inside + outside)


def region_quality(field: Field, decoded: np.ndarray, importance: Importance) -> RegionQuality:
    """Errors of `decoded` inside and outside of a region of `field`."""
    inside = importance.inside(field)
    found: list[Quality | None] = []
    low, high = field.limits
    for left_out in (~inside, inside):
        mask = (
            left_out if field.mask is None else (left_out if field.mask.ndim == 3 else left_out[..., None]) | field.mask
        )
        try:
            part = metrics.measure(field.values, decoded, mask)
        except InputError:
            found.append(None)
            continue
        found.append(replace(part, range=high - low, psnr=metrics.psnr(high - low, part.rmse)))
    return RegionQuality(str(importance), found[0], found[1])


def report(field: Field, decoded: np.ndarray, importance: Importance) -> list[RegionQuality]:
    """`region_quality` of each region of several."""
    parts = importance.parts if isinstance(importance, Regions) else (importance,)
    return [region_quality(field, decoded, part) for part in parts]
