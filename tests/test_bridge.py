"""The bridge between VTK data sets and fields."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonCore import (
    vtkBitArray,
    vtkCharArray,
    vtkIdTypeArray,
    vtkLongArray,
    vtkLongLongArray,
    vtkStringArray,
    vtkUnsignedLongArray,
    vtkUnsignedLongLongArray,
)
from vtkmodules.vtkCommonDataModel import (
    vtkDataSetAttributes,
    vtkImageData,
    vtkMultiBlockDataSet,
    vtkRectilinearGrid,
    vtkStructuredGrid,
)

from neurcomp_core.errors import InputError
from neurcomp_core.field import DTYPES, Association, Field, Geometry, RectilinearGrid, UniformGrid, grid_shape
from neurcomp_filters.bridge import GHOSTS, fields_from_vtk, vtk_from_fields

ROTATED = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
UNIFORM = UniformGrid((-2, 1, 3, 5, 0, 4), (0.1, -20.0, 1e6), (0.5, 0.3, 1 / 3), ROTATED)
FLAT = UniformGrid((0, 3, 0, 2, 7, 7))
RECTILINEAR = RectilinearGrid(
    np.array([0.0, 0.1, 1.0, 10.0]), np.array([-1, 0, 5], np.float32), np.array([0.0, 0.5]), (5, -3, 0)
)


def make_field(
    geometry: Geometry = UNIFORM,
    dtype: str = "float32",
    components: int = 1,
    association: Association = "point",
    name: str = "a",
) -> Field:
    shape = grid_shape(geometry, association) + ((components,) if components > 1 else ())
    values = np.random.default_rng(7).integers(0, 100, shape).astype(dtype)
    return Field(values, geometry, name, association)


def same(a: Field, b: Field) -> bool:
    return (
        a.values.dtype == b.values.dtype
        and np.array_equal(a.values, b.values)
        and (a.geometry, a.name, a.association, a.time) == (b.geometry, b.name, b.association, b.time)
    )


def small_image(*arrays: object) -> vtkImageData:
    image = vtkImageData()
    image.SetDimensions(2, 1, 1)
    for array in arrays:
        image.GetPointData().AddArray(array)
    return image


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("association", ["point", "cell"])
def test_round_trip_of_types(dtype: str, association: Association) -> None:
    field = make_field(dtype=dtype, association=association)
    (back,) = fields_from_vtk(vtk_from_fields([field]))
    assert same(field, back)


@pytest.mark.parametrize("geometry", [UNIFORM, FLAT, RECTILINEAR, UniformGrid((0, 0, 0, 0, 0, 0))])
@pytest.mark.parametrize("association", ["point", "cell"])
@pytest.mark.parametrize("components", [1, 2, 3, 9])
def test_round_trip_of_grids(geometry: Geometry, association: Association, components: int) -> None:
    field = make_field(geometry, components=components, association=association)
    dataset = vtk_from_fields([field])
    assert dataset.IsA("vtkImageData" if isinstance(geometry, UniformGrid) else "vtkRectilinearGrid")
    assert tuple(dataset.GetExtent()) == geometry.extent
    (back,) = fields_from_vtk(dataset)
    assert same(field, back)


def test_x_is_the_fastest_axis() -> None:
    field = make_field(dtype="int32")
    image = vtk_from_fields([field])
    assert isinstance(image, vtkImageData)
    # Index (x, y, z) in the image's own extent, from its corner (-2, 3, 0).
    assert image.GetScalarComponentAsDouble(-2 + 3, 3 + 1, 0 + 2, 0) == field.values[2, 1, 3]


def test_direction_turns_index_axes_into_world_axes() -> None:
    image = vtk_from_fields([make_field()])
    np.testing.assert_allclose(image.GetPoint(1), (0.1 - 0.3 * 3, -20.0 + 0.5 * -1, 1e6))


def test_memory_is_shared_and_outlives_its_owner() -> None:
    field = make_field()
    dataset = vtk_from_fields([field])
    field.values[0, 0, 0] = 1234
    assert dataset.GetPointData().GetArray("a").GetValue(0) == 1234
    expected = field.values.copy()
    del field
    gc.collect()
    (back,) = fields_from_vtk(dataset)
    del dataset
    gc.collect()
    np.testing.assert_array_equal(back.values, expected)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (vtkCharArray, "int8"),
        (vtkLongArray, "int64"),
        (vtkLongLongArray, "int64"),
        (vtkIdTypeArray, "int64"),
        (vtkUnsignedLongArray, "uint64"),
        (vtkUnsignedLongLongArray, "uint64"),
        (vtkBitArray, "uint8"),
    ],
)
def test_integer_types_of_c(kind: type, dtype: str) -> None:
    array = kind()
    array.SetName("a")
    array.SetNumberOfTuples(2)
    array.SetTuple1(0, 1)
    array.SetTuple1(1, 0)
    (field,) = fields_from_vtk(small_image(array))
    assert field.values.dtype == np.dtype(dtype)
    assert field.values.ravel().tolist() == [1, 0]


def test_active_attributes() -> None:
    vector = make_field(components=3, name="v")
    first, second = make_field(name="s"), make_field(name="t")
    data = vtk_from_fields([vector, first, second]).GetPointData()
    assert data.GetScalars().GetName() == "s"
    assert data.GetVectors().GetName() == "v"


def test_time_is_kept() -> None:
    field = Field(np.zeros((1, 1, 2)), time=2.5)
    assert fields_from_vtk(vtk_from_fields([field]))[0].time == 2.5


def test_ghost_bits_become_a_mask() -> None:
    image = vtkImageData()
    image.SetDimensions(5, 2, 1)
    bits = vtkDataSetAttributes
    for data, values in (
        (image.GetPointData(), [0, bits.DUPLICATEPOINT, bits.HIDDENPOINT, 0, 0] * 2),
        (image.GetCellData(), [bits.HIDDENCELL, bits.REFINEDCELL, bits.DUPLICATECELL, bits.HIGHCONNECTIVITYCELL]),
    ):
        for name, array in ((GHOSTS, np.array(values, np.uint8)), ("a", np.arange(len(values), dtype=np.float32))):
            vtk_array = numpy_to_vtk(array, deep=1)
            vtk_array.SetName(name)
            data.AddArray(vtk_array)
    point, cell = fields_from_vtk(image)
    assert point.mask is not None
    assert point.mask[0, 0].tolist() == [False, True, True, False, False]
    assert cell.mask is not None
    assert cell.mask[0, 0].tolist() == [True, True, True, False]


@pytest.mark.parametrize("association", ["point", "cell"])
def test_masks_come_back(association: Association) -> None:
    field = make_field(association=association)
    mask = field.values > 50
    dataset = vtk_from_fields([Field(field.values, field.geometry, "a", association, mask=mask)])
    (back,) = fields_from_vtk(dataset)
    np.testing.assert_array_equal(back.mask, mask)


def test_one_arrays_fill_values_hide_nothing_of_another() -> None:
    a, b = np.array([[[True, True, False]]]), np.array([[[True, False, False]]])
    values = np.zeros((1, 1, 3))
    dataset = vtk_from_fields([Field(values, name="a", mask=a), Field(values, name="b", mask=b)])
    assert [dataset.GetPointData().GetArray(GHOSTS).GetValue(i) for i in range(3)] == [2, 0, 0]
    dataset = vtk_from_fields([Field(values, name="a", mask=a), Field(values, name="b")])
    assert not dataset.GetPointData().HasArray(GHOSTS)


def test_names_choose_and_order() -> None:
    fields = [make_field(name="a"), make_field(name="b"), make_field(name="a", association="cell")]
    dataset = vtk_from_fields(fields)
    assert [(f.name, f.association) for f in fields_from_vtk(dataset, ["b", "a"])] == [
        ("b", "point"),
        ("a", "point"),
        ("a", "cell"),
    ]
    assert [f.association for f in fields_from_vtk(dataset, ["a"], "cell")] == ["cell"]
    assert [f.name for f in fields_from_vtk(dataset, association="point")] == ["a", "b"]


def test_unnamed_arrays_get_names() -> None:
    image = vtkImageData()
    image.SetDimensions(2, 1, 1)
    image.AllocateScalars(10, 1)
    image.GetPointData().GetScalars().SetName(None)
    image.GetPointData().AddArray(vtkIdTypeArray())
    image.GetPointData().GetArray(1).SetNumberOfTuples(2)
    assert [f.name for f in fields_from_vtk(image)] == ["ImageScalars", "ImageScalars_1"]


def test_integer_coordinates() -> None:
    grid = vtkRectilinearGrid()
    grid.SetDimensions(2, 1, 1)
    grid.SetXCoordinates(numpy_to_vtk(np.array([1, 5], np.int32), deep=1))
    array = numpy_to_vtk(np.zeros(2), deep=1)
    array.SetName("a")
    grid.GetPointData().AddArray(array)
    (field,) = fields_from_vtk(grid)
    assert isinstance(field.geometry, RectilinearGrid)
    assert field.geometry.x.tolist() == [1.0, 5.0]
    assert field.geometry.x.dtype == np.float64


def strings() -> vtkStringArray:
    array = vtkStringArray()
    array.SetName("labels")
    array.InsertNextValue("x")
    array.InsertNextValue("y")
    return array


def test_string_arrays() -> None:
    number = numpy_to_vtk(np.zeros(2), deep=1)
    number.SetName("a")
    assert [f.name for f in fields_from_vtk(small_image(strings(), number))] == ["a"]
    with pytest.raises(InputError, match=r"only string arrays \('labels'\)"):
        fields_from_vtk(small_image(strings()))
    with pytest.raises(InputError, match="'labels' holds strings"):
        fields_from_vtk(small_image(strings(), number), ["labels"])


def test_missing_arrays_are_answered_with_those_that_exist() -> None:
    dataset = vtk_from_fields([make_field(name="p"), make_field(name="c", association="cell")])
    with pytest.raises(InputError, match=r"no array 'x'; existing arrays: 'p' \(point\), 'c' \(cell\)"):
        fields_from_vtk(dataset, ["x"])
    with pytest.raises(InputError, match=r"no array 'c'; existing arrays: 'p' \(point\)"):
        fields_from_vtk(dataset, ["c"], "point")
    with pytest.raises(InputError, match="no point or cell data array"):
        fields_from_vtk(small_image())


def test_data_sets_that_cannot_be_used() -> None:
    with pytest.raises(InputError, match="the data set is empty"):
        fields_from_vtk(vtkImageData())
    with pytest.raises(InputError, match=r"got vtkStructuredGrid.*Resample To Image"):
        fields_from_vtk(vtkStructuredGrid())
    with pytest.raises(InputError, match="got vtkMultiBlockDataSet: extract one block"):
        fields_from_vtk(vtkMultiBlockDataSet())
    array = numpy_to_vtk(np.zeros(3), deep=1)
    array.SetName("long")
    with pytest.raises(InputError, match="'long' has 3 tuples, but the grid has 2 points"):
        fields_from_vtk(small_image(array))


def test_fields_that_do_not_belong_together() -> None:
    with pytest.raises(InputError, match="no field"):
        vtk_from_fields([])
    with pytest.raises(InputError, match="different grids"):
        vtk_from_fields([make_field(name="a"), make_field(FLAT, name="b")])
    with pytest.raises(InputError, match="different grids"):
        vtk_from_fields([make_field(name="a"), make_field(RECTILINEAR, name="b")])
    with pytest.raises(InputError, match="different time steps"):
        vtk_from_fields([Field(np.zeros((1, 1, 2)), name="a", time=t) for t in (0.0, 1.0)])
    with pytest.raises(InputError, match="two point arrays have the name 'a'"):
        vtk_from_fields([make_field(name="a"), make_field(name="a")])
