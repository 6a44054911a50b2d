"""VTK data sets <-> fields, without copying: the one place that knows about axis order.

VTK stores points x fastest in one flat array, which is the memory of a C-contiguous ``(z, y, x[, c])`` array; so the
bridge reshapes and never transposes. Geometry keeps VTK's x, y, z order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonCore import VTK_BIT, vtkDoubleArray, vtkUnsignedCharArray
from vtkmodules.vtkCommonDataModel import (
    vtkCompositeDataSet,
    vtkDataObject,
    vtkDataSet,
    vtkDataSetAttributes,
    vtkImageData,
    vtkRectilinearGrid,
)

from neurcomp_core.errors import InputError
from neurcomp_core.field import DTYPES, Association, Field, Geometry, RectilinearGrid, UniformGrid, grid_shape

GHOSTS = "vtkGhostType"
ASSOCIATIONS: tuple[Association, Association] = ("point", "cell")

# Bits of vtkGhostType that take a sample out: duplicate and hidden points; duplicate, refined and hidden cells.
_NOT_DATA = {
    "point": vtkDataSetAttributes.DUPLICATEPOINT | vtkDataSetAttributes.HIDDENPOINT,
    "cell": vtkDataSetAttributes.DUPLICATECELL | vtkDataSetAttributes.REFINEDCELL | vtkDataSetAttributes.HIDDENCELL,
}
_HIDDEN = {"point": vtkDataSetAttributes.HIDDENPOINT, "cell": vtkDataSetAttributes.HIDDENCELL}


def fields_from_vtk(
    dataset: vtkDataObject, names: Sequence[str] | None = None, association: Association | None = None
) -> list[Field]:
    """Arrays of an image or a rectilinear grid as fields.

    The values share memory with `dataset`: treat them as read-only. ``vtkGhostType`` becomes `Field.mask`.

    Parameters
    ----------
    dataset : vtkImageData or vtkRectilinearGrid
    names : sequence of str, optional
        Arrays to take, in this order; all numeric ones if left out. A name that exists as point and as cell data
        gives both, unless `association` is set.
    association : {'point', 'cell'}, optional
        Take only point data or only cell data.

    Returns
    -------
    list of Field
        Values ``(z, y, x)``, or ``(z, y, x, c)`` where an array has several components.

    Raises
    ------
    InputError
        If the data set is of another kind, empty, or without a matching numeric array.
    """
    geometry = geometry_from_vtk(dataset)
    assert isinstance(dataset, vtkDataSet)
    wanted: tuple[Association, ...] = ASSOCIATIONS if association is None else (association,)
    found: list[tuple[Association, str, Any]] = []
    for kind in wanted:
        for name, array in _arrays(_attributes(dataset, kind)):
            found.append((kind, name, array))
    if names is not None:
        found = _select(found, names)
    elif not any(_is_numeric(array) for _, _, array in found):
        text = ", ".join(f"'{name}'" for _, name, _ in found)
        what = f"only string arrays ({text})" if found else f"no {association or 'point or cell'} data array"
        raise InputError(f"the data set has {what}; expected at least one numeric array")
    time = _time(dataset)
    masks = {kind: _mask(dataset, geometry, kind) for kind in wanted}
    return [
        Field(_values(array, name, kind, geometry), geometry, name, kind, time, masks[kind])
        for kind, name, array in found
        if _is_numeric(array)
    ]


def geometry_from_vtk(dataset: vtkDataObject | None) -> Geometry:
    """Geometry of an image or a rectilinear grid.

    Raises
    ------
    InputError
        If `dataset` is of another kind or has no points.
    """
    if dataset is None:
        raise InputError("there is no input data set")
    if not isinstance(dataset, (vtkImageData, vtkRectilinearGrid)):
        kind = dataset.GetClassName()
        if isinstance(dataset, vtkCompositeDataSet):
            raise InputError(f"expected an image or a rectilinear grid, got {kind}: extract one block of it first")
        raise InputError(
            f"expected an image or a rectilinear grid, got {kind}: "
            "turn it into an image first, in ParaView with the filter Resample To Image"
        )
    if dataset.GetNumberOfPoints() == 0:
        raise InputError("the data set is empty: it has no points")
    if isinstance(dataset, vtkImageData):
        matrix = dataset.GetDirectionMatrix()
        return UniformGrid(
            tuple(dataset.GetExtent()),
            tuple(dataset.GetOrigin()),
            tuple(dataset.GetSpacing()),
            tuple(matrix.GetElement(i, j) for i in range(3) for j in range(3)),
        )
    axes = (dataset.GetXCoordinates(), dataset.GetYCoordinates(), dataset.GetZCoordinates())
    return RectilinearGrid(*(_coordinates(axis) for axis in axes), start=tuple(dataset.GetExtent()[::2]))


def vtk_from_fields(fields: Sequence[Field]) -> vtkImageData | vtkRectilinearGrid:
    """One VTK data set with every field as an array, sharing memory with the fields where their layout allows.

    The first one-component array of an association becomes its active scalars, the first three-component one its
    active vectors. Where fields have masks, a sample that no array of the association has a value for is written
    to ``vtkGhostType`` as hidden.

    Raises
    ------
    InputError
        If there is no field, or the fields differ in geometry or time, or two have one name.
    """
    if not fields:
        raise InputError("there is no field to make a data set of")
    first = fields[0]
    for field in fields[1:]:
        if field.geometry != first.geometry:
            raise InputError(
                f"arrays '{first.name}' and '{field.name}' are on different grids; handle them one grid at a time"
            )
        if field.time != first.time:
            raise InputError(
                f"arrays '{first.name}' and '{field.name}' belong to different time steps ({first.time} and "
                f"{field.time}); handle them one time step at a time"
            )
    dataset = vtk_from_geometry(first.geometry)
    if first.time is not None:
        _set_time(dataset, first.time)
    for association in ASSOCIATIONS:
        _add_arrays(_attributes(dataset, association), [f for f in fields if f.association == association])
    return dataset


def _attributes(dataset: vtkDataSet, association: Association) -> vtkDataSetAttributes:
    return dataset.GetPointData() if association == "point" else dataset.GetCellData()


def _arrays(attributes: vtkDataSetAttributes) -> Iterable[tuple[str, Any]]:
    unnamed = 0
    for i in range(attributes.GetNumberOfArrays()):
        array = attributes.GetAbstractArray(i)
        name = array.GetName()
        if name == GHOSTS:
            continue
        if not name:
            # VTK's own name for the unnamed scalars of an image.
            name = "ImageScalars" if unnamed == 0 else f"ImageScalars_{unnamed}"
            unnamed += 1
        yield name, array


def _select(found: list[tuple[Association, str, Any]], names: Sequence[str]) -> list[tuple[Association, str, Any]]:
    chosen = []
    for name in dict.fromkeys(names):
        matches = [item for item in found if item[1] == name]
        if not matches:
            existing = ", ".join(f"'{n}' ({kind})" for kind, n, array in found if _is_numeric(array)) or "none"
            raise InputError(f"there is no array '{name}'; existing arrays: {existing}")
        if not any(_is_numeric(array) for _, _, array in matches):
            raise InputError(f"array '{name}' holds strings, not numbers; it cannot be used")
        chosen += matches
    return chosen


def _is_numeric(array: Any) -> bool:
    return array.IsA("vtkDataArray")


def _values(array: Any, name: str, association: Association, geometry: Geometry) -> np.ndarray:
    shape = grid_shape(geometry, association)
    components, tuples = array.GetNumberOfComponents(), array.GetNumberOfTuples()
    if tuples != shape[0] * shape[1] * shape[2]:
        raise InputError(
            f"array '{name}' has {tuples} tuples, but the grid has {shape[0] * shape[1] * shape[2]} {association}s"
        )
    values = _numpy(array)
    if values.dtype.name not in DTYPES:
        raise InputError(f"array '{name}' is of type {array.GetDataTypeAsString()}, which is not supported")
    # C has several names for one integer type (long, long long, id type); NumPy code should see one.
    values = values.view(np.dtype(values.dtype.name))
    return values.reshape(shape if components == 1 else (*shape, components))


def _numpy(array: Any) -> np.ndarray:
    if array.GetDataType() == VTK_BIT:
        unpacked = vtkUnsignedCharArray()
        unpacked.DeepCopy(array)
        array = unpacked
    elif not array.HasStandardMemoryLayout():
        # Implicit and structure-of-arrays layouts have no buffer of their own in tuple order.
        plain = array.CreateDataArray(array.GetDataType())
        plain.DeepCopy(array)
        array = plain
    return vtk_to_numpy(array)


def _coordinates(array: Any) -> np.ndarray:
    values = _numpy(array)
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float64)


def _mask(dataset: vtkDataSet, geometry: Geometry, association: Association) -> np.ndarray | None:
    array = _attributes(dataset, association).GetArray(GHOSTS)
    if array is None:
        return None
    ghosts = _values(array, GHOSTS, association, geometry)
    mask = (ghosts & _NOT_DATA[association]) != 0
    return mask if mask.any() else None


def _time(dataset: vtkDataSet) -> float | None:
    information = dataset.GetInformation()
    if information.Has(vtkDataObject.DATA_TIME_STEP()):
        return float(information.Get(vtkDataObject.DATA_TIME_STEP()))
    # What VTK's writers leave in files for it.
    array = dataset.GetFieldData().GetArray("TimeValue")
    return float(array.GetComponent(0, 0)) if array is not None and array.GetNumberOfTuples() == 1 else None


def _set_time(dataset: vtkDataSet, time: float) -> None:
    dataset.GetInformation().Set(vtkDataObject.DATA_TIME_STEP(), time)
    array = vtkDoubleArray()
    array.SetName("TimeValue")
    array.InsertNextValue(time)
    dataset.GetFieldData().AddArray(array)


def vtk_from_geometry(geometry: Geometry) -> vtkImageData | vtkRectilinearGrid:
    """A data set without arrays."""
    if isinstance(geometry, UniformGrid):
        image = vtkImageData()
        image.SetExtent(*geometry.extent)
        image.SetOrigin(*geometry.origin)
        image.SetSpacing(*geometry.spacing)
        image.SetDirectionMatrix(*geometry.direction)
        return image
    grid = vtkRectilinearGrid()
    grid.SetExtent(*geometry.extent)
    x, y, z = (_vtk_array(axis, name) for axis, name in zip(geometry.axes, "xyz", strict=True))
    grid.SetXCoordinates(x)
    grid.SetYCoordinates(y)
    grid.SetZCoordinates(z)
    return grid


def _vtk_array(values: np.ndarray, name: str) -> Any:
    # numpy_to_vtk keeps a reference to the memory it is given for as long as the VTK array lives.
    array = numpy_to_vtk(np.ascontiguousarray(values))
    array.SetName(name)
    return array


def _add_arrays(attributes: vtkDataSetAttributes, fields: Sequence[Field]) -> None:
    for field in fields:
        if attributes.HasArray(field.name):
            raise InputError(f"two {field.association} arrays have the name '{field.name}'; names must differ")
        shape = (field.voxels,) if field.components == 1 else (field.voxels, field.components)
        array = _vtk_array(field.values.reshape(shape), field.name)
        attributes.AddArray(array)
        if field.components == 1 and attributes.GetScalars() is None:
            attributes.SetActiveScalars(field.name)
        elif field.components == 3 and attributes.GetVectors() is None:
            attributes.SetActiveVectors(field.name)
    hidden = _hidden(fields)
    if hidden is not None:
        ghosts = hidden.reshape(-1).astype(np.uint8) * np.uint8(_HIDDEN[fields[0].association])
        attributes.AddArray(_vtk_array(ghosts, GHOSTS))


def _hidden(fields: Sequence[Field]) -> np.ndarray | None:
    # VTK hides a sample for all arrays at once, so one array's fill value must not take away another's data.
    hidden: np.ndarray | None = None
    for field in fields:
        if field.mask is None:
            return None
        mask = field.mask if field.mask.ndim == 3 else np.asarray(field.mask.all(axis=-1))
        hidden = mask if hidden is None else np.asarray(hidden & mask)
    return hidden if hidden is not None and hidden.any() else None
