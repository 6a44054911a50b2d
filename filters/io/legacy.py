"""Legacy VTK files: structured points and rectilinear grids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vtkmodules.vtkIOLegacy import vtkGenericDataObjectReader

from neurcomp_core.field import Field
from neurcomp_filters.bridge import fields_from_vtk
from neurcomp_filters.io._vtk import updated


def read_vtk(path: Path, arrays: Sequence[str] | None) -> list[Field]:
    """Fields of a legacy file, of all kinds of attributes."""
    reader = vtkGenericDataObjectReader()
    reader.SetFileName(str(path))
    # Without these, VTK keeps the first array of each kind only.
    reader.ReadAllScalarsOn()
    reader.ReadAllVectorsOn()
    reader.ReadAllNormalsOn()
    reader.ReadAllTensorsOn()
    reader.ReadAllColorScalarsOn()
    reader.ReadAllTCoordsOn()
    reader.ReadAllFieldsOn()
    return fields_from_vtk(updated(reader), arrays)
