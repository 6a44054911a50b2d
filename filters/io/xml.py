"""VTK's XML files: .vti (images) and .vtr (rectilinear grids)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vtkmodules.vtkIOXML import (
    vtkXMLImageDataReader,
    vtkXMLImageDataWriter,
    vtkXMLRectilinearGridReader,
    vtkXMLRectilinearGridWriter,
)

from neurcomp_core.errors import InputError
from neurcomp_core.field import Field, RectilinearGrid, UniformGrid
from neurcomp_filters.bridge import GHOSTS, fields_from_vtk, vtk_from_fields
from neurcomp_filters.io._grids import uniform_grid
from neurcomp_filters.io._vtk import errors_raised, updated, written


def read_vti(path: Path, arrays: Sequence[str] | None) -> list[Field]:
    """Fields of an image file."""
    return _read(vtkXMLImageDataReader(), path, arrays)


def read_vtr(path: Path, arrays: Sequence[str] | None) -> list[Field]:
    """Fields of a rectilinear grid file."""
    return _read(vtkXMLRectilinearGridReader(), path, arrays)


def write_vti(fields: Sequence[Field], path: Path) -> None:
    """Write fields on one uniform grid."""
    _write(vtkXMLImageDataWriter(), on_uniform_grid(fields, "write it to a .vtr file"), path)


def write_vtr(fields: Sequence[Field], path: Path) -> None:
    """Write fields on one rectilinear grid."""
    for field in fields:
        if isinstance(field.geometry, UniformGrid):
            raise InputError(f"array '{field.name}' is on a uniform grid and .vtr is for rectilinear ones; use .vti")
    _write(vtkXMLRectilinearGridWriter(), fields, path)


def on_uniform_grid(fields: Sequence[Field], advice: str) -> list[Field]:
    """The same fields, with rectilinear grids that are evenly spaced replaced by uniform ones.

    Raises
    ------
    InputError
        With `advice`, if a grid is not evenly spaced.
    """
    moved = []
    for field in fields:
        if isinstance(field.geometry, RectilinearGrid):
            grid = uniform_grid(field.geometry)
            if grid is None:
                raise InputError(f"array '{field.name}' is on a rectilinear grid with uneven axes; {advice}")
            field = replace(field, geometry=grid)
        moved.append(field)
    return moved


def _read(reader: Any, path: Path, arrays: Sequence[str] | None) -> list[Field]:
    reader.SetFileName(str(path))
    if arrays is not None:
        with errors_raised():
            reader.UpdateInformation()
        _leave_out(reader, {*arrays, GHOSTS})
    return fields_from_vtk(updated(reader), arrays)


def _leave_out(reader: Any, wanted: set[str]) -> None:
    # Saves time and memory; if a name is missing, everything is read so that the error can list what there is.
    selections = (reader.GetPointDataArraySelection(), reader.GetCellDataArraySelection())
    existing = {s.GetArrayName(i) for s in selections for i in range(s.GetNumberOfArrays())}
    if wanted - {GHOSTS} <= existing:
        for selection in selections:
            for i in range(selection.GetNumberOfArrays()):
                if selection.GetArrayName(i) not in wanted:
                    selection.DisableArray(selection.GetArrayName(i))


def _write(writer: Any, fields: Sequence[Field], path: Path) -> None:
    writer.SetFileName(str(path))
    writer.SetInputData(vtk_from_fields(fields))
    writer.SetDataModeToAppended()
    writer.EncodeAppendedDataOff()
    writer.SetCompressorTypeToZLib()
    writer.SetHeaderTypeToUInt64()
    written(writer)
