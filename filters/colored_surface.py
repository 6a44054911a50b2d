"""Isosurface of a radiance field's density with the field's colour at each vertex."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkPolyData
from vtkmodules.vtkFiltersCore import vtkFlyingEdges3D

from neurcomp_core.errors import InputError
from neurcomp_core.field import Field
from neurcomp_filters.bridge import vtk_from_fields
from neurcomp_filters.io.surfaces import COLOR

#: Colours ``(n, 3)`` from 0 to 1 of points ``(n, 3)`` with outward unit normals ``(n, 3)``.
Coloring = Callable[[np.ndarray, np.ndarray], np.ndarray]


def colored_surface(density: Field, isovalue: float, coloring: Coloring) -> vtkPolyData:
    """Triangles where density crosses a value, in world coordinates.

    Parameters
    ----------
    density : Field
        ``(z, y, x)`` on a uniform grid.
    isovalue : float
    coloring : callable
        See `Coloring`.

    Returns
    -------
    vtkPolyData
        With normals that point to where density is lower, and uint8 RGB `color` per vertex.

    Raises
    ------
    InputError
        If the field has no such surface.
    """
    image = vtk_from_fields([density])
    contour = vtkFlyingEdges3D()
    contour.SetInputData(image)
    contour.ComputeNormalsOn()
    contour.ComputeGradientsOff()
    contour.ComputeScalarsOff()
    contour.SetValue(0, isovalue)
    contour.Update()
    mesh = contour.GetOutput()
    if not mesh.GetNumberOfCells():
        low, high = float(density.values.min()), float(density.values.max())
        raise InputError(f"density has no surface at {isovalue:g}; it runs from {low:.4g} to {high:.4g}")
    points = vtk_to_numpy(mesh.GetPoints().GetData()).astype(np.float64)
    normals = vtk_to_numpy(mesh.GetPointData().GetNormals()).astype(np.float64)
    # A normal can be zero where density is flat on both sides.
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.where(lengths > 0, normals / np.maximum(lengths, 1e-30), [0.0, 0.0, 1.0])
    colors = np.rint(255 * np.clip(coloring(points, normals), 0, 1)).astype(np.uint8)
    array = numpy_to_vtk(colors, deep=True)
    array.SetName(COLOR)
    mesh.GetPointData().SetScalars(array)
    return mesh
