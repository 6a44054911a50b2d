"""Coloured triangle meshes out: ``.vtp`` (ParaView), ``.ply`` and ``.obj`` (everything else)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkPolyData
from vtkmodules.vtkIOPLY import vtkPLYWriter
from vtkmodules.vtkIOXML import vtkXMLPolyDataWriter

from neurcomp_core.errors import InputError
from neurcomp_core.files import atomic_path

#: Point data of a coloured mesh: RGB, uint8.
COLOR = "color"


def write_surface(mesh: vtkPolyData, path: str | os.PathLike[str]) -> None:
    """Write triangles with RGB `color` per vertex, wholly or not at all.

    OBJ has no colours of its own; they stand behind the coordinates (``v x y z r g b``, 0 to 1), as MeshLab, Blender
    and CloudCompare read them.

    Raises
    ------
    InputError
        If the extension is unknown or the file cannot be written.
    """
    path = Path(path)
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise InputError(f"cannot write '{path}': a mesh is written as {', '.join(_WRITERS)}")
    with atomic_path(path) as temporary:
        writer(mesh, temporary)


def _write_vtp(mesh: vtkPolyData, path: Path) -> None:
    writer = vtkXMLPolyDataWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(mesh)
    if not writer.Write():
        raise InputError(f"cannot write '{path}': VTK refused")


def _write_ply(mesh: vtkPolyData, path: Path) -> None:
    writer = vtkPLYWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(mesh)
    writer.SetFileTypeToBinary()
    writer.SetArrayName(COLOR)
    if not writer.Write():
        raise InputError(f"cannot write '{path}': VTK refused")


def _write_obj(mesh: vtkPolyData, path: Path) -> None:
    points = vtk_to_numpy(mesh.GetPoints().GetData())
    colors = vtk_to_numpy(mesh.GetPointData().GetArray(COLOR)) / 255
    corners = vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3) + 1
    with open(path, "w", encoding="ascii") as file:
        np.savetxt(file, np.concatenate([points, colors], 1), "v %.7g %.7g %.7g %.4g %.4g %.4g")
        np.savetxt(file, corners, "f %d %d %d")


_WRITERS: dict[str, Callable[[vtkPolyData, Path], None]] = {".vtp": _write_vtp, ".ply": _write_ply, ".obj": _write_obj}
#: Extensions of meshes.
SURFACES = tuple(_WRITERS)
