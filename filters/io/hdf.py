"""VTKHDF image files, and datasets of any other HDF5 file."""

from __future__ import annotations

import importlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurcomp_core.errors import InputError, require
from neurcomp_core.field import DTYPES, Field, UniformGrid
from neurcomp_filters.io._hdf5 import h5py
from neurcomp_filters.io._masks import merge, where_equal


def read_vtkhdf(path: Path, arrays: Sequence[str] | None) -> list[Field]:
    """Fields of a VTKHDF file, of every time step."""
    hdf = require("vtkmodules.vtkIOHDF", "vtk", "reading VTKHDF files")
    bridge = importlib.import_module("neurcomp_filters.bridge")
    run = importlib.import_module("neurcomp_filters.io._vtk")
    reader = hdf.vtkHDFReader()
    reader.SetFileName(str(path))
    dataset = run.updated(reader)
    # Time steps came with VTK 9.3.
    steps = reader.GetNumberOfSteps() if hasattr(reader, "GetNumberOfSteps") else 1
    if steps <= 1:
        return bridge.fields_from_vtk(dataset, arrays)
    fields = []
    for step in range(steps):
        reader.SetStep(step)
        reader.Modified()
        fields += bridge.fields_from_vtk(run.updated(reader), arrays)
    return fields


def write_vtkhdf(fields: Sequence[Field], path: Path) -> None:
    """Write fields on one uniform grid, compressed without loss by HDF5's own filters.

    VTK 9.2 (ParaView 5.11) reads point data on extents that start at 0; cell data and other extents need a later one.
    The time of the fields is not kept: the only place for it, field data, makes VTK 9.2 refuse the file.
    """
    from neurcomp_filters.bridge import ASSOCIATIONS, GHOSTS, vtk_from_fields
    from neurcomp_filters.io.xml import on_uniform_grid

    module = h5py("writing VTKHDF files")
    fields = on_uniform_grid(fields, "write it to a .vtr file")
    grid = fields[0].geometry
    assert isinstance(grid, UniformGrid)
    if min(grid.dimensions) == 1:
        raise InputError("flat images in VTKHDF files crash some versions of VTK's reader; write a .vti file")
    for field in fields:
        if "/" in field.name:
            raise InputError(f"VTKHDF array names cannot have a '/': '{field.name}'; rename the array or write .vti")
    # Going through VTK checks that the fields belong together, and makes vtkGhostType of their masks.
    dataset = vtk_from_fields(fields)
    # Through memory, because HDF5 may crash the process when the disk is full.
    buffer = io.BytesIO()
    with module.File(buffer, "w") as file:
        root = file.create_group("VTKHDF")
        root.attrs["Version"] = np.array([1, 0], np.int64)
        root.attrs.create("Type", b"ImageData", dtype=module.string_dtype("ascii", len("ImageData")))
        root.attrs["WholeExtent"] = np.array(grid.extent, np.int64)
        root.attrs["Origin"] = np.array(grid.origin)
        root.attrs["Spacing"] = np.array(grid.spacing)
        root.attrs["Direction"] = np.array(grid.direction)
        for association in ASSOCIATIONS:
            attributes = dataset.GetPointData() if association == "point" else dataset.GetCellData()
            members = [field for field in fields if field.association == association]
            if not members:
                continue
            group = root.create_group("PointData" if association == "point" else "CellData")
            for field in members:
                _create(group, field.name, field.values)
            ghosts = attributes.GetArray(GHOSTS)
            if ghosts is not None:
                from vtkmodules.util.numpy_support import vtk_to_numpy

                _create(group, GHOSTS, vtk_to_numpy(ghosts).reshape(members[0].values.shape[:3]))
    path.write_bytes(buffer.getbuffer())


def read_hdf5(path: Path, arrays: Sequence[str] | None, dataset: str | None = None) -> list[Field]:
    """One dataset with axes ``([[z,] y,] x)`` or ``(z, y, x, c)``, named after the last part of its path.

    Without `dataset`, a file that is VTKHDF is read as such, and the only dataset of a file is taken.
    """
    module = h5py("reading HDF5 files")
    try:
        file = module.File(path, "r")
    except OSError as error:
        raise InputError(f"the file is damaged, cut off or not HDF5 ({error})") from None
    with file:
        vtkhdf = dataset is None and "VTKHDF" in file
        if not vtkhdf:
            return [_field(_chosen(file, module, arrays, dataset))]
    require("vtkmodules.vtkCommonDataModel", "vtk", "reading VTKHDF files")
    return read_vtkhdf(path, arrays)


def _create(group: Any, name: str, values: np.ndarray) -> None:
    group.create_dataset(name, data=values, chunks=True, compression="gzip", compression_opts=4, shuffle=True)


def _chosen(file: Any, module: Any, arrays: Sequence[str] | None, dataset: str | None) -> Any:
    existing: list[str] = []

    def note(name: str, item: Any) -> None:
        if isinstance(item, module.Dataset) and 1 <= item.ndim <= 4 and item.dtype.name in DTYPES:
            existing.append("/" + name)

    file.visititems(note)
    listing = ", ".join(existing) or "none"
    if dataset is None:
        wanted = [name for name in existing if arrays is None or name.rsplit("/", 1)[1] in arrays]
        if len(wanted) != 1:
            raise InputError(f"say which dataset to read; numeric datasets of 1 to 4 axes: {listing}")
        dataset = wanted[0]
    if "/" + dataset.strip("/") not in existing:
        raise InputError(f"there is no usable dataset '{dataset}'; numeric datasets of 1 to 4 axes: {listing}")
    return file[dataset]


def _field(item: Any) -> Field:
    try:
        values = item[()]
    except OSError as error:
        raise InputError(f"dataset '{item.name}' cannot be read: {error}") from None
    values = values.reshape((1,) * (3 - values.ndim) + values.shape)
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    mask = None
    for attribute in ("_FillValue", "missing_value"):
        for fill in np.ravel(item.attrs.get(attribute, ())):
            mask = merge(mask, where_equal(values, fill.item()))
    return Field(values, name=item.name.rsplit("/", 1)[1], mask=mask)
