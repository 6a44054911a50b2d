"""Volume files in and out."""

from __future__ import annotations

import bz2
import gzip
import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vtkmodules.vtkCommonCore import vtkPoints
from vtkmodules.vtkCommonDataModel import vtkPolyData, vtkStructuredGrid
from vtkmodules.vtkIOHDF import vtkHDFReader
from vtkmodules.vtkIOImage import vtkMetaImageWriter
from vtkmodules.vtkIOLegacy import vtkDataSetWriter

from neurcomp_core.errors import InputError
from neurcomp_core.field import DTYPES, Association, Field, RectilinearGrid, UniformGrid, grid_shape
from neurcomp_core.files import atomic_path, atomic_write
from neurcomp_filters.bridge import vtk_from_fields
from neurcomp_filters.io import READABLE, WRITABLE, read, write

ROTATED = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
UNIFORM = UniformGrid((-2, 1, 3, 5, 0, 4), (0.1, -20.0, 1e6), (0.5, 0.3, 1 / 3), ROTATED)
RECTILINEAR = RectilinearGrid(
    np.array([0.0, 0.1, 1.0, 10.0]), np.array([-1, 0, 5], np.float32), np.array([0.0, 0.5]), (5, -3, 0)
)
SAMPLES = np.arange(24).reshape(2, 3, 4)  # z, y, x


def make_field(geometry: Any = UNIFORM, dtype: str = "float32", **more: Any) -> Field:
    components: int = more.pop("components", 1)
    association: Association = more.get("association", "point")
    shape = grid_shape(geometry, association) + ((components,) if components > 1 else ())
    values = np.random.default_rng(7).integers(0, 100, shape).astype(dtype)
    return Field(values, geometry, **{"name": "a", **more})


def assert_same(back: Field, original: Field) -> None:
    assert back.values.dtype == original.values.dtype
    np.testing.assert_array_equal(back.values, original.values)
    assert back.geometry == original.geometry
    assert (back.name, back.association, back.time) == (original.name, original.association, original.time)
    if original.mask is None:
        assert back.mask is None
    else:
        np.testing.assert_array_equal(back.mask, original.mask)


def only(fields: Sequence[Field]) -> Field:
    assert len(fields) == 1
    return fields[0]


def world(field: Field, x: int, y: int, z: int) -> np.ndarray:
    """Position of a sample, counted from the corner of a uniform grid whose extent starts at 0."""
    grid = field.geometry
    assert isinstance(grid, UniformGrid)
    return np.array(grid.origin) + np.reshape(grid.direction, (3, 3)) @ (np.array(grid.spacing) * (x, y, z))


# Formats that are written and read


@pytest.mark.parametrize("extension", [".vti", ".vtkhdf", ".hdf", ".h5"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_uniform_round_trip(tmp_path: Path, extension: str, dtype: str) -> None:
    path = tmp_path / f"f{extension}"
    masked = make_field(dtype=dtype, name="cells", association="cell")
    fields = [
        make_field(dtype=dtype, name="scalar"),
        make_field(dtype=dtype, name="a vector", components=3),
        make_field(dtype=dtype, name="tensor", components=9),
        Field(masked.values, UNIFORM, "cells", "cell", mask=masked.values > 50),
    ]
    write(fields, path if extension != ".h5" else tmp_path / "f.hdf")
    if extension == ".h5":
        (tmp_path / "f.hdf").rename(path)
    back = {f.name: f for f in read(path)}
    assert back.keys() == {f.name for f in fields}
    for original in fields:
        assert_same(back[original.name], original)


@pytest.mark.parametrize("association", ["point", "cell"])
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float64"])
def test_rectilinear_round_trip(tmp_path: Path, association: Association, dtype: str) -> None:
    original = make_field(RECTILINEAR, dtype, association=association, time=1.5)
    write([original], tmp_path / "f.vtr")
    assert_same(only(read(tmp_path / "f.vtr")), original)


@pytest.mark.parametrize("count", [(1, 1, 1), (5, 1, 1), (1, 1, 5), (4, 1, 3)])
def test_flat_images(tmp_path: Path, count: tuple[int, int, int]) -> None:
    grid = UniformGrid(tuple(v for n in count for v in (0, n - 1)))
    for association in ("point", "cell"):
        original = make_field(grid, association=association)
        write([original], tmp_path / "f.vti")
        assert_same(only(read(tmp_path / "f.vti")), original)
    with pytest.raises(InputError, match=r"flat images.*write a \.vti file"):
        write([make_field(grid)], tmp_path / "f.hdf")


def test_time_is_kept(tmp_path: Path) -> None:
    write([make_field(time=2.25)], tmp_path / "f.vti")
    assert only(read(tmp_path / "f.vti")).time == 2.25


def test_vtkhdf_is_what_vtk_expects(tmp_path: Path) -> None:
    write([make_field(components=3, name="v"), make_field(name="s")], tmp_path / "f.vtkhdf")
    reader = vtkHDFReader()
    reader.SetFileName(str(tmp_path / "f.vtkhdf"))
    reader.Update()
    image = reader.GetOutputDataObject(0)
    assert [image.GetPointData().GetArrayName(i) for i in range(2)] == ["s", "v"]
    assert [image.GetDirectionMatrix().GetElement(i, j) for i in range(3) for j in range(3)] == list(ROTATED)


def test_chosen_arrays(tmp_path: Path) -> None:
    path = tmp_path / "f.vti"
    fields = [make_field(name="a"), make_field(name="b"), make_field(name="c", association="cell")]
    write(fields, path)
    assert [f.name for f in read(path, ["c", "a"])] == ["c", "a"]
    assert [f.name for f in read(path, "b")] == ["b"]
    with pytest.raises(InputError, match=r"f\.vti': there is no array 'x'; existing arrays: 'a'.*'b'.*'c'"):
        read(path, ["a", "x"])


def test_even_rectilinear_grid_becomes_an_image(tmp_path: Path) -> None:
    even = RectilinearGrid(np.linspace(0, 1, 11), np.array([3.0]), np.linspace(-1, 1, 5, dtype=np.float32), (2, 0, 0))
    write([make_field(even)], tmp_path / "f.vti")
    back = only(read(tmp_path / "f.vti")).geometry
    assert isinstance(back, UniformGrid)
    assert back.extent == (2, 12, 0, 0, 0, 4)
    assert back.spacing == pytest.approx((0.1, 1, 0.5))
    assert back.origin == pytest.approx((-0.2, 3, -1))


def test_uneven_rectilinear_grid_needs_vtr(tmp_path: Path) -> None:
    for extension in (".vti", ".hdf"):
        with pytest.raises(InputError, match=r"uneven axes; write it to a \.vtr file"):
            write([make_field(RECTILINEAR)], tmp_path / f"f{extension}")
    with pytest.raises(InputError, match=r"use \.vti"):
        write([make_field(UNIFORM)], tmp_path / "f.vtr")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("geometry", [UNIFORM, RECTILINEAR])
def test_series(tmp_path: Path, geometry: Any) -> None:
    fields = [make_field(geometry, name=name, time=time) for time in (0.5, 2.0) for name in ("a", "b")]
    write(fields, tmp_path / "s&p.pvd")
    back = read(tmp_path / "s&p.pvd")
    assert len(back) == len(fields)
    for one, original in zip(back, fields, strict=True):
        assert_same(one, original)
    (tmp_path / ("s&p_0001" + (".vti" if geometry is UNIFORM else ".vtr"))).unlink()
    with pytest.raises(InputError, match="s&p_0001"):
        read(tmp_path / "s&p.pvd")


def test_series_in_a_single_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"2 time steps and \.vti holds one; write a \.pvd series"):
        write([make_field(time=0.0), make_field(time=1.0)], tmp_path / "f.vti")


# Samples without a grid


@pytest.mark.parametrize("dtype", DTYPES)
def test_npy_round_trip(tmp_path: Path, dtype: str) -> None:
    write([make_field(dtype=dtype, components=2)], tmp_path / "f.npy")
    back = only(read(tmp_path / "f.npy"))
    np.testing.assert_array_equal(back.values, make_field(dtype=dtype, components=2).values)
    assert back.values.dtype == np.dtype(dtype)
    assert back.name == "f"


@pytest.mark.parametrize(("shape", "expected"), [((5,), (1, 1, 5)), ((4, 5), (1, 4, 5)), ((2, 3, 4, 5), (2, 3, 4, 5))])
def test_npy_axes(tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    values = np.asfortranarray(np.arange(math.prod(shape), dtype=">f4").reshape(shape))
    np.save(tmp_path / "f.npy", values)
    back = only(read(tmp_path / "f.npy"))
    assert back.values.shape == expected
    assert back.values.flags.c_contiguous
    np.testing.assert_array_equal(back.values.reshape(shape), values)


def test_npy_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "f.npy"
    np.save(path, np.array([{}]), allow_pickle=True)
    with pytest.raises(InputError, match=r"not a usable \.npy file"):
        read(path)
    np.save(path, np.zeros((2,) * 5))
    with pytest.raises(InputError, match="expected 1 to 4 axes"):
        read(path)
    np.save(path, np.zeros(3, complex))
    with pytest.raises(InputError, match="got complex128"):
        read(path)
    np.save(path, np.zeros(1000))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match=r"not a usable \.npy file"):
        read(path)
    with pytest.raises(InputError, match=r"holds one array, got 2 \('a', 'b'\)"):
        write([make_field(name="a"), make_field(name="b")], path)


@pytest.mark.parametrize("dtype", ["u1", "float32", "<f4", ">f4", ">u2", "int64"])
def test_raw(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "f.raw"
    path.write_bytes(SAMPLES.astype(np.dtype(dtype)).tobytes())
    back = only(read(path, dims=(4, 3, 2), dtype=dtype))
    np.testing.assert_array_equal(back.values, SAMPLES)
    assert back.values.dtype == np.dtype(dtype).newbyteorder("=")
    assert back.name == "f"


def test_raw_images_vectors_and_other_names(tmp_path: Path) -> None:
    path = tmp_path / "pressure.field"
    path.write_bytes(SAMPLES.astype("<f4").tobytes())
    assert only(read(path, dims=(4, 6), dtype="float32")).values.shape == (1, 6, 4)
    vector = only(read(path, dims=(2, 2, 2, 3), dtype="float32"))
    np.testing.assert_array_equal(vector.values.ravel(), SAMPLES.ravel())
    assert vector.values.shape == (2, 2, 2, 3)
    path = path.rename(tmp_path / "pressure.f32")
    assert only(read(path, dims=(4, 3, 2))).values.dtype == np.float32


def test_raw_errors(tmp_path: Path) -> None:
    path = tmp_path / "f.raw"
    path.write_bytes(bytes(100))
    with pytest.raises(InputError, match="4 x 3 x 2 samples of float32 take 96 bytes, but the file has 100 bytes"):
        read(path, dims=(4, 3, 2), dtype="float32")
    with pytest.raises(InputError, match=r"give dims \(x y z\) and dtype"):
        read(path)
    with pytest.raises(InputError, match="no header: give dtype"):
        read(path, dims=(4, 3, 2))
    with pytest.raises(InputError, match=r"dtype: expected one of uint8.*got 'float33'"):
        read(path, dims=(4, 3, 2), dtype="float33")
    with pytest.raises(InputError, match="dtype: expected one of"):
        read(path, dims=(4, 3, 2), dtype="complex64")
    for dims in ((4,), (4, 0, 2), (4, -3, 2), (1, 2, 3, 4, 5)):
        with pytest.raises(InputError, match="dims: expected 2 to 4 positive whole numbers"):
            read(path, dims=dims, dtype="u1")
    with pytest.raises(InputError, match="holds one array, 'f'; asked for 'g'"):
        read(path, ["g"], dims=(10, 10), dtype="u1")


@pytest.mark.parametrize(
    ("dtype", "fill", "count"),
    [("uint8", 3, 1), ("uint8", -1, 0), ("uint8", 3.5, 0), ("float32", 3, 1), ("float32", float("nan"), 0)],
)
def test_fill_value(tmp_path: Path, dtype: str, fill: float, count: int) -> None:
    np.save(tmp_path / "f.npy", SAMPLES.astype(dtype))
    mask = only(read(tmp_path / "f.npy", fill_value=fill)).mask
    assert (0 if mask is None else mask.sum()) == count


def test_fill_value_of_float32(tmp_path: Path) -> None:
    values = SAMPLES.astype(np.float32)
    values[0, 0, 0] = 1e20
    np.save(tmp_path / "f.npy", values)
    mask = only(read(tmp_path / "f.npy", fill_value=1e20)).mask
    assert mask is not None
    assert np.argwhere(mask).tolist() == [[0, 0, 0]]


# HDF5


def test_hdf5_datasets(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        file["group/pressure"] = SAMPLES.astype(">f4")
        file["group/pressure"].attrs["_FillValue"] = np.float32(5)
        file["names"] = ["x", "y"]
    for dataset in (None, "/group/pressure", "group/pressure"):
        back = only(read(path, dataset=dataset))
        np.testing.assert_array_equal(back.values, SAMPLES)
        assert (back.name, back.values.dtype) == ("pressure", np.float32)
        assert back.mask is not None
        assert np.argwhere(back.mask).tolist() == [[0, 1, 1]]
    with h5py.File(path, "a") as file:
        file["other"] = np.zeros((2, 2), np.uint8)
    assert only(read(path, ["other"])).values.shape == (1, 2, 2)
    with pytest.raises(InputError, match=r"say which dataset to read.*: /group/pressure, /other"):
        read(path)
    for dataset in ("/x", "/names", "/group"):
        with pytest.raises(InputError, match=f"no usable dataset '{dataset}'.*: /group/pressure, /other"):
            read(path, dataset=dataset)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="damaged, cut off or not HDF5"):
        read(path)


# Legacy VTK


def write_legacy(dataset: Any, path: Path, binary: bool = True) -> None:
    writer = vtkDataSetWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(dataset)
    writer.SetFileTypeToBinary() if binary else writer.SetFileTypeToASCII()
    writer.Write()


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("geometry", [UniformGrid((0, 3, 0, 2, 0, 1), (1.0, 2.0, 3.0), (0.5, 0.25, 2.0)), RECTILINEAR])
def test_legacy(tmp_path: Path, binary: bool, geometry: Any) -> None:
    fields = [make_field(geometry, name=n, components=c) for n, c in (("s", 1), ("t", 1), ("v", 3), ("w", 3))]
    fields.append(make_field(geometry, "uint16", name="cells", association="cell"))
    write_legacy(vtk_from_fields(fields), tmp_path / "f.vtk", binary)
    back = {f.name: f for f in read(tmp_path / "f.vtk")}
    assert back.keys() == {f.name for f in fields}
    for original in fields:
        np.testing.assert_array_equal(back[original.name].values, original.values)
        assert back[original.name].values.dtype == original.values.dtype
        assert back[original.name].geometry.dimensions == geometry.dimensions
    if isinstance(geometry, UniformGrid):
        assert back["s"].geometry == geometry


def test_legacy_of_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "f.vtk"
    points = vtkPoints()
    points.InsertNextPoint(0, 0, 0)
    surface = vtkPolyData()
    surface.SetPoints(points)
    grid = vtkStructuredGrid()
    grid.SetDimensions(1, 1, 1)
    grid.SetPoints(points)
    for dataset in (surface, grid):
        write_legacy(dataset, path)
        with pytest.raises(InputError, match=rf"f\.vtk': .*got {dataset.GetClassName()}.*Resample To Image"):
            read(path)


# NIfTI


def nifti(
    samples: np.ndarray,
    *,
    qform: tuple[float, ...] | None = None,
    sform: np.ndarray | None = None,
    qfac: float = 1.0,
    zooms: tuple[float, ...] = (1.0, 2.0, 3.0),
) -> bytes:
    """A NIfTI-1 file; `samples` are ``([c,] [t,] z, y, x)``, `qform` is b, c, d and the offset."""
    codes = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024, "u8": 1280}
    sizes = samples.shape[::-1]
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, samples.ndim, *sizes, *[1] * (7 - len(sizes)))
    struct.pack_into("<2h", header, 70, codes[samples.dtype.str[1:]], samples.itemsize * 8)
    struct.pack_into("<8f", header, 76, qfac, *zooms, *[1.0] * (7 - len(zooms)))
    struct.pack_into("<f", header, 108, 352)
    struct.pack_into("<2h", header, 252, int(qform is not None), int(sform is not None))
    if qform is not None:
        struct.pack_into("<6f", header, 256, *qform)
    if sform is not None:
        struct.pack_into("<12f", header, 280, *sform[:3].ravel())
    header[344:348] = b"n+1\0"
    return bytes(header) + samples.astype(samples.dtype.newbyteorder("<")).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_nifti_types(tmp_path: Path, dtype: str) -> None:
    (tmp_path / "f.nii").write_bytes(nifti(SAMPLES.astype(dtype)))
    back = only(read(tmp_path / "f.nii"))
    assert_same(back, Field(SAMPLES.astype(dtype), UniformGrid((0, 3, 0, 2, 0, 1), spacing=(1.0, 2.0, 3.0)), "NIFTI"))


def test_nifti_sform_comes_first_and_may_be_oblique(tmp_path: Path) -> None:
    affine = np.array([[0.0, -2.0, 0.0, 10.0], [0.6, 0.0, 2.4, -20.0], [-0.8, 0.0, 1.8, 30.0], [0, 0, 0, 1]])
    data = nifti(SAMPLES.astype("i2"), sform=affine, qform=(0, 0, 0, 7, 8, 9))
    (tmp_path / "f.nii.gz").write_bytes(gzip.compress(data))
    back = only(read(tmp_path / "f.nii.gz"))
    np.testing.assert_array_equal(back.values, SAMPLES)
    for index in ((0, 0, 0), (3, 0, 0), (0, 2, 0), (1, 2, 1)):
        np.testing.assert_allclose(world(back, *index), (affine @ (*index, 1))[:3], atol=1e-5)


def test_nifti_qform_with_reversed_slices(tmp_path: Path) -> None:
    # A quarter turn about z (x goes to y, y to -x); qfac -1 lets the slices run down.
    half = math.sqrt(0.5)
    (tmp_path / "f.nii").write_bytes(nifti(SAMPLES.astype("f4"), qform=(0, 0, half, 10, 20, 30), qfac=-1.0))
    back = only(read(tmp_path / "f.nii"))
    positions = {
        tuple(np.round(world(back, x, y, z), 4)): back.values[z, y, x] for z, y, x in np.ndindex(*SAMPLES.shape)
    }
    for z, y, x in np.ndindex(*SAMPLES.shape):
        assert positions[10 - 2.0 * y, 20 + 1.0 * x, 30 - 3.0 * z] == SAMPLES[z, y, x]


def test_nifti_time_steps_and_vectors(tmp_path: Path) -> None:
    series = np.arange(48, dtype="f4").reshape(2, 2, 3, 4)
    (tmp_path / "f.nii").write_bytes(nifti(series, zooms=(1.0, 1.0, 1.0, 0.5)))
    back = read(tmp_path / "f.nii")
    assert [f.time for f in back] == [0.0, 0.5]
    np.testing.assert_array_equal([f.values for f in back], series)
    vectors = np.arange(72, dtype="f4").reshape(3, 1, 2, 3, 4)
    (tmp_path / "f.nii").write_bytes(nifti(vectors))
    np.testing.assert_array_equal(only(read(tmp_path / "f.nii")).values, np.moveaxis(vectors[:, 0], 0, -1))


# NRRD


def nrrd(samples: np.ndarray, *lines: str, encoding: str = "raw", endian: str = "little") -> bytes:
    """A NRRD file of samples given slowest axis first."""
    types = {"u1": "uchar", "i2": "short", "f4": "float", "f8": "double", "i8": "long long int", "u8": "uint64_t"}
    types |= {"i1": "signed char", "u2": "unsigned short", "i4": "int32", "u4": "unsigned int"}
    sizes = " ".join(str(n) for n in samples.shape[::-1])
    head = [
        "NRRD0004",
        "# a comment: with colon",
        f"type: {types[samples.dtype.str[1:]]}",
        f"dimension: {samples.ndim}",
        f"sizes: {sizes}",
        f"encoding: {encoding}",
        f"endian: {endian}",
        "key:=value",
        *lines,
    ]
    data = samples.astype(samples.dtype.newbyteorder("<" if endian == "little" else ">")).tobytes()
    if encoding == "gzip":
        data = gzip.compress(data)
    elif encoding == "bzip2":
        data = bz2.compress(data)
    elif encoding == "ascii":
        data = " ".join(str(v) for v in samples.ravel().tolist()).encode()
    return "\n".join(head).encode() + b"\n\n" + data


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_nrrd_types(tmp_path: Path, encoding: str, endian: str, dtype: str) -> None:
    (tmp_path / "f.nrrd").write_bytes(nrrd(SAMPLES.astype(dtype), encoding=encoding, endian=endian))
    assert_same(only(read(tmp_path / "f.nrrd")), Field(SAMPLES.astype(dtype), name="ImageFile"))


def test_nrrd_geometry(tmp_path: Path) -> None:
    path = tmp_path / "f.nrrd"
    path.write_bytes(nrrd(SAMPLES.astype("f4"), "space directions: (0,2,0) (-3,0,0) (0,0,4)", "space origin: (1,2,3)"))
    grid = UniformGrid((0, 3, 0, 2, 0, 1), (1.0, 2.0, 3.0), (2.0, 3.0, 4.0), ROTATED)
    assert only(read(path)).geometry == grid
    path.write_bytes(nrrd(SAMPLES.astype("f4"), "spacings: 2 3 nan"))
    assert only(read(path)).geometry == UniformGrid((0, 3, 0, 2, 0, 1), spacing=(2.0, 3.0, 1.0))
    path.write_bytes(nrrd(SAMPLES[0].astype("f4"), "space directions: (2,0,0) (0,0,3)", "space origin: (1,2,3)"))
    flat = only(read(path)).geometry
    assert isinstance(flat, UniformGrid)
    assert flat.dimensions == (4, 3, 1)
    assert flat.direction == (1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("kinds: vector domain domain domain", 3),
        ("kinds: domain domain domain list", 0),
        ("space directions: (1,0,0) none (0,1,0) (0,0,1)", 2),
        ("comment: nothing said", 3),
    ],
)
def test_nrrd_components(tmp_path: Path, line: str, place: int) -> None:
    vector = np.arange(72, dtype="f4").reshape(2, 3, 4, 3)
    (tmp_path / "f.nrrd").write_bytes(nrrd(np.ascontiguousarray(np.moveaxis(vector, -1, place)), line))
    np.testing.assert_array_equal(only(read(tmp_path / "f.nrrd")).values, vector)


def test_nrrd_detached(tmp_path: Path) -> None:
    (tmp_path / "f.raw").write_bytes(b"a line\n__" + SAMPLES.astype("<i2").tobytes())
    header = nrrd(SAMPLES.astype("i2"), "data file: f.raw", "line skip: 1", "byte skip: 2").split(b"\n\n")[0]
    (tmp_path / "f.nhdr").write_bytes(header + b"\n")
    np.testing.assert_array_equal(only(read(tmp_path / "f.nhdr")).values, SAMPLES)
    (tmp_path / "f.nhdr").write_bytes(header.replace(b"byte skip: 2", b"byte skip: -1"))
    np.testing.assert_array_equal(only(read(tmp_path / "f.nhdr")).values, SAMPLES)
    (tmp_path / "f.raw").unlink()
    with pytest.raises(InputError, match=r"data file '.*f\.raw' does not exist"):
        read(tmp_path / "f.nhdr")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"NRRD0004", b"NERD0004", "not a NRRD file"),
        (b"type: short", b"type: block", "type 'block' is not supported"),
        (b"encoding: raw", b"encoding: hex", "encoding 'hex' is not supported"),
        (b"encoding: raw", b"encoding: gzip", "cut off or damaged"),
        (b"sizes: 4 3 2", b"sizes: 4 3", "contradictory"),
        (b"sizes: 4 3 2", b"sizes: 4 three 2", "not a list of whole numbers"),
        (b"sizes: 4 3 2", b"sizes: 999999999999 3 2", "announces 11999999999988 bytes of samples, there are 48"),
        (b"endian: little\n", b"", "has no 'endian'"),
        (b"key:=value", b"spacings: 1 2", "'spacings' does not fit"),
        (b"key:=value", b"space directions: (1,0,0) (1,0,0) (0,0,1)", "geometry in the header is not usable"),
        (b"key:=value", b"kinds: list list domain", "at most one other"),
    ],
)
def test_nrrd_errors(tmp_path: Path, old: bytes, new: bytes, message: str) -> None:
    data = nrrd(SAMPLES.astype("i2"))
    assert old in data
    (tmp_path / "f.nrrd").write_bytes(data.replace(old, new))
    with pytest.raises(InputError, match=rf"f\.nrrd': .*{message}"):
        read(tmp_path / "f.nrrd")


# MetaImage


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"])
@pytest.mark.parametrize("extension", [".mha", ".mhd"])
def test_meta_types(tmp_path: Path, dtype: str, extension: str) -> None:
    grid = UniformGrid((0, 3, 0, 2, 0, 1), (1.0, 2.0, 3.0), (0.5, 0.25, 2.0))
    writer = vtkMetaImageWriter()
    writer.SetFileName(str(tmp_path / f"f{extension}"))
    writer.SetInputData(vtk_from_fields([Field(SAMPLES.astype(dtype), grid)]))
    writer.Write()
    assert_same(only(read(tmp_path / f"f{extension}")), Field(SAMPLES.astype(dtype), grid, "MetaImage"))


META = b"""ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
TransformMatrix = 0 1 0 -1 0 0 0 0 1
Offset = 1 2 3
ElementSpacing = 2 1.5 3
DimSize = 4 3 2
ElementType = MET_SHORT
ElementDataFile = LOCAL
"""


def test_meta_lists_one_direction_after_the_other(tmp_path: Path) -> None:
    (tmp_path / "f.mha").write_bytes(META + SAMPLES.astype("<i2").tobytes())
    back = only(read(tmp_path / "f.mha"))
    np.testing.assert_array_equal(back.values, SAMPLES)
    # The x axis of the index points along (0, 1, 0).
    assert world(back, 1, 0, 0).tolist() == [1.0, 4.0, 3.0]
    assert back.geometry == UniformGrid((0, 3, 0, 2, 0, 1), (1.0, 2.0, 3.0), (2.0, 1.5, 3.0), ROTATED)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"NDims = 3\n", b"", "not a MetaImage: the header has no 'NDims'"),
        (b"NDims = 3", b"NDims = 4", "4 dimensions"),
        (b"DimSize = 4 3 2", b"DimSize = 4 3 3", "cut off: the header announces 72 bytes of samples, there are 48"),
        (b"DimSize = 4 3 2", b"DimSize = 4 x 2", "'DimSize' is not a list of numbers"),
        (b"0 -1 0 0 0 0 1", b"0", "'TransformMatrix' has 3 numbers; expected 9"),
        (b"LOCAL", b"f.raw", "data file '.*f.raw' does not exist"),
        (b"MET_SHORT", b"MET_WHAT", "f.mha"),
    ],
)
def test_meta_errors(tmp_path: Path, old: bytes, new: bytes, message: str) -> None:
    assert old in META
    (tmp_path / "f.mha").write_bytes(META.replace(old, new) + SAMPLES.astype("<i2").tobytes())
    with pytest.raises(InputError, match=message):
        read(tmp_path / "f.mha")


# netCDF


@dataclass
class Variable:
    """A variable of a netCDF file; an unlimited axis comes first."""

    values: np.ndarray
    axes: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)


def netcdf(lengths: dict[str, int], variables: dict[str, Variable], unlimited: str | None = None) -> bytes:
    """A netCDF classic file (64-bit offsets)."""
    codes = {"i1": 1, "i2": 3, "i4": 4, "f4": 5, "f8": 6}

    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 4)

    def name(text: str) -> bytes:
        return struct.pack(">I", len(text)) + padded(text.encode())

    def listed(tag: int, items: list[bytes]) -> bytes:
        return struct.pack(">2I", tag if items else 0, len(items)) + b"".join(items)

    def attribute(key: str, value: Any) -> bytes:
        if isinstance(value, str):
            return name(key) + struct.pack(">2I", 2, len(value)) + padded(value.encode())
        array = np.atleast_1d(value)
        data = padded(array.astype(array.dtype.newbyteorder(">")).tobytes())
        return name(key) + struct.pack(">2I", codes[array.dtype.str[1:]], array.size) + data

    names = list(lengths)
    series = [v for v in variables.values() if unlimited in v.axes]
    records = lengths[unlimited] if unlimited else 0

    def header(begins: dict[str, int]) -> bytes:
        described = []
        for key, v in variables.items():
            size = v.values.nbytes // (records if unlimited in v.axes else 1)
            axes = struct.pack(f">{1 + len(v.axes)}I", len(v.axes), *(names.index(a) for a in v.axes))
            attributes = listed(12, [attribute(k, value) for k, value in v.attributes.items()])
            code = codes[v.values.dtype.str[1:]]
            described.append(
                name(key) + axes + attributes + struct.pack(">2IQ", code, size + -size % 4, begins.get(key, 0))
            )
        dimensions = [name(n) + struct.pack(">I", 0 if n == unlimited else size) for n, size in lengths.items()]
        head = b"CDF\2" + struct.pack(">I", records) + listed(10, dimensions)
        return head + listed(12, [attribute("Conventions", "CF-1.6")]) + listed(11, described)

    begins, body, start = {}, b"", len(header({}))
    for key, v in variables.items():
        if unlimited not in v.axes:
            begins[key] = start + len(body)
            body += padded(v.values.astype(v.values.dtype.newbyteorder(">")).tobytes())
    for record in range(records):
        for key, v in variables.items():
            if unlimited in v.axes:
                begins.setdefault(key, start + len(body))
                data = v.values.astype(v.values.dtype.newbyteorder(">"))[record : record + 1].tobytes()
                body += data if len(series) == 1 else padded(data)
    return header(begins) + body


def axis(values: Any, axis: str, units: str) -> Variable:
    return Variable(np.asarray(values), (axis,), {"units": units})


LEVELS, LATITUDES, LONGITUDES = [1000.0, 500.0], [-60.0, 10.0, 45.0], [0.0, 0.1, 0.2, 0.3]
GRID = {
    "lev": axis(LEVELS, "lev", "hPa"),
    "lat": axis(np.array(LATITUDES, "f4"), "lat", "degrees_north"),
    "lon": axis(np.array(LONGITUDES, "f4"), "lon", "degrees_east"),
}
LENGTHS = {"lev": 2, "lat": 3, "lon": 4}
AXES = ("lev", "lat", "lon")


def test_netcdf_on_its_axes(tmp_path: Path) -> None:
    temperature = Variable(SAMPLES.astype("f4"), AXES)
    mean = Variable(SAMPLES[0].astype("f8"), ("lat", "lon"))
    (tmp_path / "f.nc").write_bytes(netcdf(LENGTHS, GRID | {"T": temperature, "mean": mean}))
    back = only(read(tmp_path / "f.nc"))
    assert (back.name, back.association, back.time, back.mask) == ("T", "point", None, None)
    np.testing.assert_array_equal(back.values, SAMPLES)
    assert back.values.dtype == np.float32
    assert isinstance(back.geometry, RectilinearGrid)
    for coordinates, expected in zip(back.geometry.axes, (LONGITUDES, LATITUDES, LEVELS), strict=True):
        np.testing.assert_array_equal(coordinates, np.array(expected, "f8" if expected is LEVELS else "f4"))
    both = read(tmp_path / "f.nc", ["mean", "T"])
    assert {f.name: f.values.shape for f in both} == {"mean": (1, 3, 4), "T": (2, 3, 4)}
    with pytest.raises(InputError, match=r"no array 'x'; existing arrays: .*'T' \(lev, lat, lon\)"):
        read(tmp_path / "f.nc", ["x"])


def test_netcdf_on_even_axes_is_an_image(tmp_path: Path) -> None:
    grid = {
        "z": axis([5.0, 7.0], "z", "m"),
        "y": axis(np.array([1.0, 1.1, 1.2], "f4"), "y", "m"),
        "x": axis(np.array([-0.3, 0.0, 0.3, 0.6]), "x", "m"),
    }
    variable = Variable(SAMPLES.astype("f8"), ("z", "y", "x"))
    (tmp_path / "f.nc").write_bytes(netcdf({"z": 2, "y": 3, "x": 4}, grid | {"v": variable}))
    image = only(read(tmp_path / "f.nc")).geometry
    assert isinstance(image, UniformGrid)
    assert image.spacing == pytest.approx((0.3, 0.1, 2.0), rel=1e-6)
    assert image.origin == pytest.approx((-0.3, 1.0, 5.0))


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("attribute", ["_FillValue", "missing_value"])
def test_netcdf_fill_values(tmp_path: Path, dtype: str, attribute: str) -> None:
    values = SAMPLES.astype(dtype)
    (tmp_path / "f.nc").write_bytes(netcdf(LENGTHS, GRID | {"v": Variable(values, AXES, {attribute: values[0, 1, 1]})}))
    back = only(read(tmp_path / "f.nc"))
    np.testing.assert_array_equal(back.values, values)
    assert back.values.dtype == values.dtype
    assert back.mask is not None
    assert np.argwhere(back.mask).tolist() == [[0, 1, 1]]


def test_netcdf_samples_never_written(tmp_path: Path) -> None:
    values = SAMPLES.astype("f4")
    values[1, 2, 3] = 9.969209968386869e36
    (tmp_path / "f.nc").write_bytes(netcdf(LENGTHS, GRID | {"v": Variable(values, AXES)}))
    mask = only(read(tmp_path / "f.nc")).mask
    assert mask is not None
    assert np.argwhere(mask).tolist() == [[1, 2, 3]]


def test_netcdf_packed(tmp_path: Path) -> None:
    attributes = {"scale_factor": 0.1, "add_offset": 273.15, "_FillValue": np.int16(7)}
    (tmp_path / "f.nc").write_bytes(netcdf(LENGTHS, GRID | {"v": Variable(SAMPLES.astype("i2"), AXES, attributes)}))
    back = only(read(tmp_path / "f.nc"))
    np.testing.assert_allclose(back.values, SAMPLES * 0.1 + 273.15)
    assert back.mask is not None
    assert np.argwhere(back.mask).tolist() == [[0, 1, 3]]


@pytest.mark.parametrize("names", [["T"], ["T", "U"]])
def test_netcdf_time_steps(tmp_path: Path, names: list[str]) -> None:
    times = np.array([0.0, 6.0, 12.0])
    values = np.stack([SAMPLES + 100 * i for i in range(3)]).astype("f4")
    variables = GRID | {"time": axis(times, "time", "hours since 2000-01-01")}
    variables |= {name: Variable(values, ("time", *AXES)) for name in names}
    path = tmp_path / "f.nc"
    path.write_bytes(netcdf({"time": 3, **LENGTHS}, variables, unlimited="time"))
    back = read(path)
    assert [(f.name, f.time) for f in back] == [(name, time) for time in times for name in names]
    for i, step in enumerate(back):
        np.testing.assert_array_equal(step.values, values[i // len(names)])
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match="cut off: its header announces"):
        read(path)


def test_netcdf4_fill_values(tmp_path: Path) -> None:
    import netCDF4

    with netCDF4.Dataset(tmp_path / "f.nc", "w") as file:
        for name, length in LENGTHS.items():
            file.createDimension(name, length)
            file.createVariable(name, "f8", (name,))[:] = GRID[name].values
        file.createVariable("v", "i2", AXES, fill_value=7)[:] = SAMPLES
    mask = only(read(tmp_path / "f.nc")).mask
    assert mask is not None
    assert np.argwhere(mask).tolist() == [[0, 1, 3]]


def test_netcdf_errors(tmp_path: Path) -> None:
    path = tmp_path / "f.nc"
    data = netcdf(LENGTHS, GRID | {"v": Variable(SAMPLES.astype("f4"), AXES)})
    path.write_bytes(b"not netCDF")
    with pytest.raises(InputError, match=r"f\.nc': it is not a netCDF file"):
        read(path)
    path.write_bytes(data[:100])
    with pytest.raises(InputError, match="cut off within its header"):
        read(path)
    path.write_bytes(data[:-1])
    with pytest.raises(InputError, match=f"announces {len(data)} bytes, there are {len(data) - 1}"):
        read(path)
    path.write_bytes(netcdf({"x": 1}, {}))
    with pytest.raises(InputError, match="no variable on a grid"):
        read(path)


# Files that cannot be read or written


@pytest.mark.parametrize("extension", READABLE)
def test_missing_empty_and_folders(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"f{extension}"
    with pytest.raises(InputError, match="there is no such file"):
        read(path)
    path.touch()
    with pytest.raises(InputError, match=r"the file is empty \(0 bytes\)"):
        read(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        read(path)


@pytest.mark.parametrize("extension", [e for e in READABLE if e not in (".raw", ".bin", ".dat") and len(e) > 2])
def test_junk_is_one_sentence(tmp_path: Path, extension: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"f{extension}"
    path.write_bytes(np.random.default_rng(1).bytes(3000))
    with pytest.raises(InputError) as error:
        read(path)
    message = str(error.value)
    assert message.startswith(f"cannot read '{path}': ")
    assert "\n" not in message
    assert "0x" not in message
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("extension", [".vti", ".vtr", ".hdf", ".vtk", ".nii", ".nii.gz", ".nrrd", ".mha", ".pvd"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_cut_off_files(tmp_path: Path, extension: str, share: float, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"f{extension}"
    values = np.random.default_rng(1).random((10, 20, 30))
    x, y, z = (np.arange(n) ** 2.0 for n in (30, 20, 10))
    original = Field(values, RectilinearGrid(x, y, z)) if extension == ".vtr" else Field(values)
    if extension in WRITABLE:
        write([original], path)
    else:
        if extension == ".vtk":
            write_legacy(vtk_from_fields([original]), path)
        else:
            data = {
                ".nii": lambda: nifti(values),
                ".nii.gz": lambda: gzip.compress(nifti(values)),
                ".nrrd": lambda: nrrd(values, encoding="gzip"),
                ".mha": lambda: META.replace(b"4 3 2", b"30 20 10").replace(b"SHORT", b"DOUBLE") + values.tobytes(),
            }[extension]()
            path.write_bytes(data)
    np.testing.assert_array_equal(only(read(path)).values, values)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError) as error:
        read(path)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_options_that_do_not_apply(tmp_path: Path) -> None:
    write([make_field()], tmp_path / "f.vti")
    with pytest.raises(InputError, match=r"'dims' does not apply to \.vti files"):
        read(tmp_path / "f.vti", dims=(1, 2, 3))
    with pytest.raises(InputError, match=r"'dataset' does not apply to \.vti files"):
        read(tmp_path / "f.vti", dataset="/x")


def test_unknown_extensions(tmp_path: Path) -> None:
    (tmp_path / "f.xyz").touch()
    with pytest.raises(InputError, match=r"unknown extension '\.xyz'; known are \.vti, .*give dims and dtype"):
        read(tmp_path / "f.xyz")
    with pytest.raises(InputError, match=r"unknown extension '\.nrrd'; known are \.vti, "):
        write([make_field()], tmp_path / "f.nrrd")
    with pytest.raises(InputError, match="there is no array to write"):
        write([], tmp_path / "f.vti")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs file permissions that hold for the user")
def test_permissions(tmp_path: Path) -> None:
    path = tmp_path / "f.vti"
    write([make_field()], path)
    path.chmod(0)
    with pytest.raises(InputError, match="permission denied"):
        read(path)


@pytest.mark.parametrize("extension", [".vti", ".hdf", ".npy", ".pvd"])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, extension: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"f{extension}"
    path.write_bytes(b"old")
    big = Field(np.random.default_rng(1).random((40, 40, 40)))
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # As good as a full disk: no file may grow beyond this.
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(InputError, match="cannot write '") as error:
            write([big], path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(error.value)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert capfd.readouterr() == ("", "")


def test_write_into_a_missing_folder(tmp_path: Path) -> None:
    for extension in WRITABLE:
        with pytest.raises(InputError, match=r"the folder '.*' does not exist"):
            write([make_field(RECTILINEAR if extension == ".vtr" else UNIFORM)], tmp_path / "no" / f"f{extension}")


# Atomic files


def test_atomic_write_replaces_and_keeps_mode_and_links(tmp_path: Path) -> None:
    target, link = tmp_path / "a.bin", tmp_path / "link.bin"
    atomic_write(target, b"one")
    assert target.stat().st_mode & 0o777 == 0o666 & ~_umask()
    target.chmod(0o640)
    link.symlink_to(target)
    atomic_write(link, b"two")
    assert target.read_bytes() == b"two"
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.bin", "link.bin"]


def test_atomic_path_cleans_up_after_any_exception(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    for raised, expected in ((KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "No space left"), InputError)):
        with pytest.raises(expected):
            write_half_of(target, raised)
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_atomic_path_refuses_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it is a folder"):
        atomic_write(tmp_path, b"")
    with pytest.raises(InputError, match=r"the folder '.*' does not exist"):
        atomic_write(tmp_path / "no" / "a.bin", b"")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a regular file"):
        atomic_write(tmp_path / "pipe", b"")


def write_half_of(target: Path, raised: BaseException) -> None:
    with atomic_path(target) as temporary:
        assert temporary.suffix == ".bin"
        temporary.write_bytes(b"half")
        raise raised


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
