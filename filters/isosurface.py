"""How far the isosurfaces of a reconstruction are from those of the original."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkPolyData
from vtkmodules.vtkFiltersCore import vtkFlyingEdges3D, vtkImplicitPolyDataDistance

from neurcomp_core.errors import InputError
from neurcomp_core.field import Field
from neurcomp_filters.bridge import vtk_from_fields

#: Vertices that distances are taken at; larger surfaces are sampled evenly.
SAMPLES = 20_000


@dataclass(frozen=True)
class SurfaceDistance:
    """Distance between two surfaces in samples of the grid.

    Attributes
    ----------
    mean : float
        Of the distances from each surface's vertices to the other surface, both directions weighing the same.
    hausdorff : float
        The largest of them.
    """

    mean: float
    hausdorff: float


def distance(original: np.ndarray, decoded: np.ndarray, isovalue: float, samples: int = SAMPLES) -> SurfaceDistance:
    """Symmetric distance between the isosurfaces of two volumes.

    "Metro: Measuring Error on Simplified Surfaces" (Cignoni, Rocchini & Scopigno, Computer Graphics Forum 17(2), 1998,
    section 2), taken at the vertices of surfaces from flying edges (Schroeder, Maynard & Geveci, LDAV 2015), which lie
    evenly. The grid is that of the indices, so the unit is one sample.

    Parameters
    ----------
    original, decoded : ndarray
        ``(z, y, x)``, at least 2 samples along each axis.
    isovalue : float
    samples : int
        Most vertices to look at per surface.

    Returns
    -------
    SurfaceDistance
        NaN if the original has no such surface; infinite if only the reconstruction has none.

    Raises
    ------
    InputError
        If the shapes differ or are not those of volumes.
    """
    if original.shape != decoded.shape or original.ndim != 3 or min(original.shape) < 2:
        raise InputError(
            f"isosurfaces: expected two volumes of one shape (z, y, x), got {original.shape} and {decoded.shape}"
        )
    first, second = surface(original, isovalue), surface(decoded, isovalue)
    if first.GetNumberOfCells() == 0:
        return SurfaceDistance(float("nan"), float("nan"))
    if second.GetNumberOfCells() == 0:
        return SurfaceDistance(float("inf"), float("inf"))
    there, back = _distances(first, second, samples), _distances(second, first, samples)
    return SurfaceDistance(float(there.mean() + back.mean()) / 2, float(max(there.max(), back.max())))


def surface(values: np.ndarray, isovalue: float) -> vtkPolyData:
    """Triangles where ``(z, y, x)`` values cross `isovalue`, in coordinates of the indices x, y, z."""
    contour = vtkFlyingEdges3D()
    contour.SetInputData(vtk_from_fields([Field(values)]))
    contour.ComputeNormalsOff()
    contour.ComputeGradientsOff()
    contour.ComputeScalarsOff()
    contour.SetValue(0, isovalue)
    contour.Update()
    return contour.GetOutput()


def _distances(start: vtkPolyData, end: vtkPolyData, samples: int) -> np.ndarray:
    points = vtk_to_numpy(start.GetPoints().GetData())
    points = points[:: -(-len(points) // samples)]
    measure = vtkImplicitPolyDataDistance()
    measure.SetInput(end)
    return np.abs([measure.EvaluateFunction(p) for p in points.tolist()])
