"""Trained models in another unit of length: svox2, for one, trains NeRF's synthetic scenes at 2/3 of their size."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.radiance.grids import SparseGrid
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.volume import RadianceModel


def rescaled(model: RadianceModel, factor: float) -> RadianceModel:
    """The same field with all lengths times `factor`; densities, which are per length, are divided by it.

    Raises
    ------
    InputError
        If the factor is no positive number, or the model is a network, which has its unit of length in its weights.
    """
    if not 0 < factor < math.inf:
        raise InputError(f"scale: expected a positive number, got {factor}")
    if factor == 1:
        return model
    if isinstance(model, SparseGrid):
        return replace(model, box=model.box * factor, density=(model.density / factor).astype(np.float32))
    if isinstance(model, DvgoModel):
        return replace(model, box=model.box * factor, unit=model.unit * factor)
    raise InputError("a network's positions cannot be rescaled; scale the cameras of its images instead")
