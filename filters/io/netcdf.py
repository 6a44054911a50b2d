"""netCDF files with CF conventions: variables on their coordinate axes, one field per variable and time step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline
from vtkmodules.vtkIONetCDF import vtkNetCDFCFReader

from neurcomp_core.errors import InputError
from neurcomp_core.field import Field, RectilinearGrid
from neurcomp_filters.bridge import fields_from_vtk
from neurcomp_filters.io._grids import uniform_grid
from neurcomp_filters.io._masks import merge, where_equal
from neurcomp_filters.io._netcdf_header import Attributes, variable_attributes
from neurcomp_filters.io._vtk import errors_raised, updated

# What netCDF itself puts where nothing was ever written; for integers it might as well be data.
_NEVER_WRITTEN = 9.969209968386869e36


def read_netcdf(path: Path, arrays: Sequence[str] | None) -> list[Field]:
    """Variables with the most axes, or those named, at every time step.

    Longitudes and latitudes stay plain coordinates. ``_FillValue`` and ``missing_value`` become masks; packed
    variables are unpacked to float64, as VTK does.
    """
    attributes = variable_attributes(path)
    reader = vtkNetCDFCFReader()
    reader.SetFileName(str(path))
    reader.SphericalCoordinatesOff()
    with errors_raised():
        reader.UpdateInformation()
    axes = _axes(reader)
    if not axes:
        raise InputError("it has no variable on a grid")
    names = _wanted(axes, arrays)
    fields: list[Field] = []
    for group in dict.fromkeys(axes[name] for name in names):
        fields += _read_group(reader, group, [name for name in names if axes[name] == group])
    return [replace(field, mask=_mask(field, attributes.get(field.name, {}))) for field in fields]


def _axes(reader: vtkNetCDFCFReader) -> dict[str, str]:
    # Variables and the axes they have besides time, as in '(lev, lat, lon)'.
    names, axes = reader.GetAllVariableArrayNames(), reader.GetVariableDimensions()
    pairs = ((names.GetValue(i), axes.GetValue(i)) for i in range(names.GetNumberOfValues()))
    return {name: text for name, text in pairs if text.strip("()")}


def _wanted(axes: dict[str, str], arrays: Sequence[str] | None) -> list[str]:
    if arrays is None:
        most = max(text.count(",") for text in axes.values())
        return [name for name, text in axes.items() if text.count(",") == most]
    for name in arrays:
        if name not in axes:
            listing = ", ".join(f"'{n}' {text}" for n, text in axes.items())
            raise InputError(f"there is no array '{name}'; existing arrays: {listing}")
    return list(dict.fromkeys(arrays))


def _read_group(reader: vtkNetCDFCFReader, axes: str, names: list[str]) -> list[Field]:
    reader.SetDimensions(axes)
    for i in range(reader.GetNumberOfVariableArrays()):
        name = reader.GetVariableArrayName(i)
        reader.SetVariableArrayStatus(name, int(name in names))
    reader.SetOutputTypeToAutomatic()
    with errors_raised():
        reader.UpdateDataObject()
        reader.UpdateInformation()
    if reader.GetOutputDataObject(0).IsA("vtkImageData"):
        # VTK calls axes even that are so only roughly; take the coordinates themselves.
        reader.SetOutputTypeToRectilinear()
        with errors_raised():
            reader.UpdateInformation()
    key = vtkStreamingDemandDrivenPipeline.TIME_STEPS()
    information = reader.GetOutputInformation(0)
    times = information.Get(key) if information.Has(key) else None
    fields: list[Field] = []
    for time in times or (None,):
        if time is not None:
            with errors_raised():
                reader.UpdateTimeStep(time)
        fields += [_placed(field, time) for field in fields_from_vtk(updated(reader), names)]
    return fields


def _placed(field: Field, time: float | None) -> Field:
    even = uniform_grid(field.geometry) if isinstance(field.geometry, RectilinearGrid) else None
    return replace(field, geometry=even or field.geometry, time=time)


def _mask(field: Field, attributes: Attributes) -> np.ndarray | None:
    fills = [
        float(v) if v.dtype.kind == "f" else int(v)
        for n in ("_FillValue", "missing_value")
        for v in attributes.get(n, ())
    ]
    scale, offset = (
        float(attributes[n][0]) if n in attributes else d for n, d in (("scale_factor", 1.0), ("add_offset", 0.0))
    )
    mask = field.mask
    if (scale, offset) != (1.0, 0.0):
        # VTK has unpacked the samples; packed ones are whole numbers, so a quarter of a step is close enough.
        for fill in fills:
            near = np.abs(field.values - (fill * scale + offset)) < abs(scale) / 4
            mask = merge(mask, near if near.any() else None)
        return mask
    if "_FillValue" not in attributes and field.values.dtype.kind == "f":
        fills.append(_NEVER_WRITTEN)
    for fill in fills:
        mask = merge(mask, where_equal(field.values, fill))
    return mask
