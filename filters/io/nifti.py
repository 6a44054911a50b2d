"""NIfTI-1 and NIfTI-2 images.

World coordinates are NIfTI's own, right-anterior-superior in the header's unit. VTK reads the samples (and reverses
the slices where the header says they run left-handed) but leaves origin and direction to the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from vtkmodules.vtkIOImage import vtkNIFTIImageReader

from neurcomp_core.errors import InputError
from neurcomp_core.field import Field, UniformGrid
from neurcomp_filters.bridge import fields_from_vtk
from neurcomp_filters.io._grids import affine_grid
from neurcomp_filters.io._vtk import updated


def read_nifti(path: Path, arrays: Sequence[str] | None) -> list[Field]:
    """Stored samples (no rescaling) placed by the sform, else by the qform; a time axis gives one field per step."""
    reader = vtkNIFTIImageReader()
    reader.SetFileName(str(path))
    reader.TimeAsVectorOn()
    fields = fields_from_vtk(updated(reader), arrays)
    geometry = _geometry(reader, fields[0])
    steps = reader.GetTimeDimension()
    if steps <= 1:
        return [replace(field, geometry=geometry) for field in fields]
    return [
        replace(field, values=_step(field, step, steps), geometry=geometry, time=step * reader.GetTimeSpacing())
        for step in range(steps)
        for field in fields
    ]


def _step(field: Field, step: int, steps: int) -> np.ndarray:
    # VTK lays the time steps out as components, those of a vector within one step.
    count = field.components // steps
    values = field.values[..., step * count : (step + 1) * count]
    return np.ascontiguousarray(values[..., 0] if count == 1 else values)


def _geometry(reader: vtkNIFTIImageReader, field: Field) -> UniformGrid:
    assert isinstance(field.geometry, UniformGrid)
    for matrix in (reader.GetSFormMatrix(), reader.GetQFormMatrix()):
        if matrix is None:
            continue
        # VTK's matrix goes from scaled index coordinates to the world.
        affine = np.array([[matrix.GetElement(i, j) for j in range(4)] for i in range(3)])
        try:
            return affine_grid(affine[:, :3] * field.geometry.spacing, affine[:, 3].tolist(), field.geometry.dimensions)
        except InputError:
            continue
    return field.geometry
