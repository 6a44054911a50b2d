"""What goes into a file comes out of it, what surrounds a stream is small, and damage is named where it is."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurcomp_core import container, masks
from neurcomp_core.codec import Context
from neurcomp_core.codecs.hashgrid import HashGrid
from neurcomp_core.coding import wire
from neurcomp_core.container import ArrayRecord, ArraySpec, Container, Header
from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.field import Association, Field, Geometry, RectilinearGrid, UniformGrid
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.target import Bytes, MaxError, Psnr

QUICK = HashGrid(steps=60, batch=4096)
CPU = Context(device="cpu", threads=2)
TILTED = (0.6, -0.8, 0.0, 0.8, 0.6, 0.0, 0.0, 0.0, 1.0)

#: Two different values suffice for the constant codec, one value with masked samples.
SHAPE = (4, 5, 6)


def constant(name: str = "values", value: float = 2.5, **more: object) -> Field:
    return Field(np.full(SHAPE, value, np.float32), name=name, **more)  # type: ignore[arg-type]


def wave(shape: tuple[int, ...] = (12, 14, 16)) -> np.ndarray:
    z, y, x = np.mgrid[tuple(slice(n) for n in shape[:3])]
    return (np.sin(x / 3) * np.cos(y / 4) + z / 12).astype(np.float32)


def cube(axis: np.ndarray) -> RectilinearGrid:
    return RectilinearGrid(axis, axis, axis)


def through_file(*fields: Field) -> list[Field]:
    return decompress(compress(fields, Psnr(20)).data)


@pytest.fixture(scope="module")
def hashgrid_file() -> bytes:
    return compress(Field(wave(), name="ImageScalars"), Bytes(900), QUICK, CPU).data


# ------------------------------------------------------------------------------------------------------------ geometry


@pytest.mark.parametrize(
    "geometry",
    [
        UniformGrid((0, 5, 0, 4, 0, 3)),
        UniformGrid((-3, 2, 7, 11, 0, 3), (0.1, 2.0, -3.5), (0.5, 0.25, 1e-7)),
        UniformGrid((0, 5, 0, 4, 0, 3), (1.0, 1.0, 1.0), (2.0, 2.0, 2.0), TILTED),
        UniformGrid((5, 10, 5, 9, 5, 8), (-0.0, 0.0, 0.0), (1e300, 1.0, 1.0)),
        RectilinearGrid(np.linspace(0, 1, 6), np.geomspace(1, 90, 5), np.array([0.0, 0.1, 0.5, 4.0])),
        RectilinearGrid(
            np.arange(6, dtype=np.float32), np.cumsum([0.1, 0.2, 0.3, 0.1, 5.0]).astype(np.float32),
            np.array([-1e30, 0, 1, 1e38], np.float32), (3, -2, 1),
        ),
    ],
    ids=["default", "uniform", "tilted", "odd-floats", "rectilinear-f8", "rectilinear-f4"],
)  # fmt: skip
def test_geometry_returns_exactly(geometry: Geometry) -> None:
    (decoded,) = through_file(constant(geometry=geometry))
    assert decoded.geometry == geometry
    if isinstance(geometry, UniformGrid):
        assert isinstance(decoded.geometry, UniformGrid)
        # -0.0 equals 0.0, but is another origin to a bit-exact reader.
        assert np.array(decoded.geometry.origin).tobytes() == np.array(geometry.origin).tobytes()


def test_axis_coordinates_return_to_the_bit() -> None:
    odd = np.array([np.nan, -0.0, np.inf, 5e-324, 1.0])
    axes = (np.linspace(0, 0.7, 6, dtype=np.float32), odd, np.arange(4) * 0.1)
    (decoded,) = through_file(constant(geometry=RectilinearGrid(*axes)))
    assert isinstance(decoded.geometry, RectilinearGrid)
    for got, given in zip(decoded.geometry.axes, axes, strict=True):
        assert got.dtype == given.dtype
        assert got.tobytes() == given.tobytes()


def test_even_axes_cost_three_numbers_and_smooth_ones_less_than_raw() -> None:
    even = container.geometry_record(cube(np.linspace(-1, 1, 500)))
    assert len(wire.pack(even)) < 100
    stretched = container.geometry_record(cube(np.geomspace(1e-3, 1, 500)))
    assert len(wire.pack(stretched)) < 0.75 * 3 * 500 * 8


def test_grid_is_stored_once_for_all_arrays_on_it() -> None:
    x, y, z = (np.geomspace(1, 2, n) for n in SHAPE[::-1])
    grid = RectilinearGrid(x, y, z)
    one = compress(constant("a", geometry=grid), Psnr(20)).data
    two = compress([constant("a", geometry=grid), constant("b", geometry=grid)], Psnr(20)).data
    assert len(two) - len(one) < 30
    assert len(Container(two).header.geometries) == 1


@pytest.mark.parametrize("association", ["point", "cell"])
@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("kind", ["uniform", "rectilinear"])
@pytest.mark.parametrize("shape", [(4, 5, 7), (1, 5, 7), (1, 1, 7)])
def test_region_and_level_keep_samples_where_they_are(
    association: Association, level: int, kind: str, shape: tuple[int, ...]
) -> None:
    extra = association == "cell"
    points = [n + (extra and n > 1) for n in shape[::-1]]
    axes = [np.arange(n) * 0.5 + 3 for n in points]
    extent = tuple(v for n in points for v in (2, n + 1))
    grid = (
        RectilinearGrid(axes[0], axes[1], axes[2])
        if kind == "rectilinear"
        else UniformGrid(extent, (2, 2, 2), (0.5, 0.5, 0.5))
    )
    data = compress(Field(np.full(shape, 7.0), grid, association=association), Psnr(20)).data
    region = tuple(slice(1 if n > 3 else 0, n) for n in shape)
    (decoded,) = decompress(data, region=region, level=level)  # type: ignore[arg-type]
    for axis, n in enumerate(shape[::-1]):
        start, step = (1 if n > 3 else 0), 2**level
        count = decoded.values.shape[2 - axis]
        assert count == len(range(start, n, step))
        cells = extra and n > 1
        first, width = _axis(decoded.geometry, axis)
        assert first == 3 + 0.5 * start
        assert decoded.geometry.dimensions[axis] == count + cells
        if count > 1:
            assert width == 0.5 * step


def _axis(geometry: Geometry, axis: int) -> tuple[float, float]:
    """Position of the first point, distance to the second."""
    if isinstance(geometry, RectilinearGrid):
        points = geometry.axes[axis]
        return float(points[0]), float(points[1] - points[0]) if len(points) > 1 else 0.0
    return geometry.origin[axis] + geometry.extent[2 * axis] * geometry.spacing[axis], geometry.spacing[axis]


# -------------------------------------------------------------------------------------------------------------- arrays


def test_many_arrays_grids_and_time_steps() -> None:
    other = UniformGrid((0, 6, 0, 5, 0, 4), spacing=(0.1, 0.2, 0.3))
    fields = [
        constant("p", 1, time=0.5),
        constant("p", 2, time=0.75),
        constant("Δρ name with spaces", 3, association="cell", geometry=other),
        Field(np.full((*SHAPE, 3), 7, np.uint16), name="v"),
        Field(np.full((1, 1, 1), -(2**63), np.int64), name="one"),
    ]
    decoded = through_file(*fields)
    assert len(decoded) == len(fields)
    for got, given in zip(decoded, fields, strict=True):
        assert (got.name, got.association, got.time, got.mask) == (given.name, given.association, given.time, None)
        assert got.geometry == given.geometry
        assert got.values.dtype == given.values.dtype
        np.testing.assert_array_equal(got.values, given.values)


def test_arrays_are_chosen_by_name() -> None:
    data = compress([constant("a", 1), constant("b", 2), constant("a", 3)], Psnr(20)).data
    assert [f.values.flat[0] for f in decompress(data, ["a"])] == [1, 3]
    with pytest.raises(InputError, match=r"no array 'c'; it has: a, b"):
        decompress(data, ["c"])


def test_several_networks_share_a_budget() -> None:
    fields = [Field(wave(), name="a"), Field(wave()[:, ::-1] ** 2, name="b"), constant("c")]
    result = compress(fields, Bytes(3000), QUICK, CPU)
    assert len(result.data) <= 3000
    assert 0.97 * len(result.data) <= sum(r.file_bytes for r in result.reports) <= 1.01 * len(result.data)
    assert [r.codec for r in result.reports] == ["hashgrid", "hashgrid", "constant"]
    assert [f.name for f in decompress(result.data)] == ["a", "b", "c"]


def test_measured_figures_are_in_the_header(hashgrid_file: bytes) -> None:
    (decoded,) = decompress(hashgrid_file)
    record = Container(hashgrid_file).header.arrays[0]
    assert record.max_error == pytest.approx(np.abs(decoded.values - wave()).max(), rel=1e-4)
    assert record.psnr is not None
    assert record.psnr > 15


# --------------------------------------------------------------------------------------------------------------- masks


def special_fields() -> dict[str, Field]:
    rng = np.random.default_rng(1)
    payloads = np.array([0x7FC00001, 0xFFC00002, 0x7F800001, 0x7F800000, 0xFF800000], np.uint32).view(np.float32)
    values = np.full(SHAPE, 1.5, np.float32)
    values[1] = payloads[rng.integers(0, len(payloads), SHAPE[1:])]
    many = np.full((10, 11, 12), 4.0)
    many[3:6] = rng.standard_normal((3, 11, 12)) * 1e9  # 396 values under the mask, each its own
    covered = np.zeros(many.shape, bool)
    covered[3:6] = True
    holes = np.zeros((*SHAPE, 3), bool)
    holes[1:, 2, :, 1] = True
    holes[0, 0, 0] = True
    vectors = np.broadcast_to(np.array([1.0, -2.0, 3.0], np.float32), (*SHAPE, 3)).copy()
    vectors[holes] = -999
    vectors[2, 2, 2, 2] = np.nan
    counts = np.full(SHAPE, 9, np.int16)
    counts[:, 1:3] = -32768
    wide = np.full(SHAPE, 2**64 - 1, np.uint64)
    wide[0, 0] = 3
    late = np.full((40, 8, 8), -999.0)
    late[0] = 1
    empty = np.full((*SHAPE, 2), np.nan, np.float32)
    empty[..., 0] = 3
    return {
        "nan-payloads": Field(values),
        "palette-overflow": Field(many, mask=covered),
        "vector-components": Field(vectors, mask=holes),
        "vector-samples": Field(vectors, mask=np.asarray(holes.any(axis=3))),
        "fill-integers": Field(counts, mask=np.equal(counts, -32768)),
        "widest-integers": Field(wide, mask=np.equal(wide, 3)),
        "mostly-masked": Field(late, mask=np.equal(late, -999)),
        "component-without-data": Field(empty),
        "one-sample-left": Field(late, mask=np.not_equal(np.arange(late.size).reshape(late.shape), 1000)),
    }


@pytest.mark.parametrize("name", special_fields())
def test_special_samples_return_to_the_bit(name: str) -> None:
    field = special_fields()[name]
    valid = field.valid
    assert valid is not None
    word = f"u{field.values.dtype.itemsize}"
    clean, section = masks.split(field)
    assert np.isfinite(clean).all()
    np.testing.assert_array_equal(clean[valid], field.values[valid])
    labels, patterns = masks.read(section, ArraySpec(field.values.shape, field.values.dtype))
    np.testing.assert_array_equal(labels != 0, ~valid)
    np.testing.assert_array_equal(patterns[~valid], field.values.view(word)[~valid])

    if name == "one-sample-left":
        field = replace(field, values=np.where(valid, 5.0, field.values))
    elif name in ("widest-integers",):
        field = replace(field, values=np.where(valid, field.values[valid][0], field.values))
    (decoded,) = through_file(field)
    np.testing.assert_array_equal(decoded.values.view(word), field.values.view(word))
    got, given = decoded.valid, field.valid
    assert got is not None
    np.testing.assert_array_equal(got, given)


def test_special_samples_beside_a_network() -> None:
    values = wave()
    values[3:5, 2:9] = np.nan
    values[0, 0, 0] = -np.inf
    mask = np.zeros(values.shape, bool)
    mask[8:, 10:] = True
    values[8:, 10:] = 1e20
    field = Field(values, mask=mask)
    data = compress(field, Bytes(1100), QUICK, CPU).data
    assert 0.97 * 1100 <= len(data) <= 1100
    (decoded,) = decompress(data)
    assert decoded.mask is not None
    np.testing.assert_array_equal(decoded.mask, mask)
    np.testing.assert_array_equal(decoded.valid, field.valid)
    special = ~field.valid  # type: ignore[operator]
    assert decoded.values[special].tobytes() == values[special].tobytes()
    (part,) = decompress(data, region=(slice(2, 9), slice(1, 13), slice(0, 16)), level=1)
    expected = decoded.values[2:9:2, 1:13:2, 0:16:2]
    np.testing.assert_allclose(part.values, expected, rtol=0, atol=1e-5)
    assert part.mask is not None
    np.testing.assert_array_equal(part.mask, decoded.mask[2:9:2, 1:13:2, 0:16:2])


def test_masks_cost_little_where_they_are_simple() -> None:
    values = np.zeros((40, 40, 40), np.float32)
    z, y, x = np.mgrid[:40, :40, :40]
    ball = (x - 20) ** 2 + (y - 20) ** 2 + (z - 20) ** 2 < 225
    _, section = masks.split(Field(np.where(ball, values, np.float32(-1e34)), mask=~ball))
    # The ball's surface crosses 1,400 columns; a bit per sample would take 8,000 bytes.
    assert len(section) < 900


def test_nothing_but_special_samples_is_refused() -> None:
    with pytest.raises(InputError, match=r"array 'gone' has no finite, unmasked sample"):
        compress(Field(np.full(SHAPE, np.nan), name="gone"), Psnr(30))


# ------------------------------------------------------------------------------------------------------------ overhead


def overhead(field: Field, codec: HashGrid) -> tuple[int, int]:
    """Bytes of a file around its stream, and the stream's own."""
    data = compress(field, Bytes(900), codec, CPU).data
    header = Container(data).header
    (record,) = header.arrays
    # The measured figures are an extra.
    bare = replace(header, arrays=(replace(record, psnr=None, max_error=None),))
    return len(container.dumps(bare, ())) + 4, sum(record.sections)


@pytest.mark.parametrize(
    ("field", "codec"),
    [
        (Field(wave()), QUICK),
        (
            Field(wave(), UniformGrid((0, 15, 0, 13, 0, 11), (-1.0, 0.5, 12.5), (0.25, 0.25, 0.5)), "ImageScalars"),
            QUICK,
        ),
        (Field(wave(), UniformGrid((0, 15, 0, 13, 0, 11), (0.1, 0.2, 0.3), (0.1,) * 3), "ImageScalars"), QUICK),
        (
            Field(wave().astype(np.float64), name="ImageScalars"),
            replace(QUICK, growth=1.4, base=5, hidden=1, width=12, features=1),
        ),
    ],
    ids=["default", "spacing-origin", "spacing-origin-f8", "every-parameter"],
)
def test_what_surrounds_a_stream_stays_under_96_bytes(field: Field, codec: HashGrid) -> None:
    around, stream = overhead(field, codec)
    print(f"{around} bytes around a stream of {stream}")
    assert around <= 96


def test_constant_array_takes_less_than_64_bytes() -> None:
    assert len(compress(Field(np.full((99, 99, 99), 4.5), name="ImageScalars"), Psnr(60)).data) <= 64


# -------------------------------------------------------------------------------------------------------------- damage


def sealed(packed: bytes, rest: bytes = b"", version: int = container.VERSION) -> bytes:
    head = container.MAGIC + bytes([version]) + wire.write_varint(len(packed)) + packed
    return head + container._crc(head) + rest


@pytest.fixture(scope="module")
def two_arrays() -> bytes:
    holes = wave(SHAPE)
    holes[1] = np.nan
    fields = [Field(np.where(np.isnan(holes), np.nan, np.float32(1)), name="first"), Field(wave(), name="second")]
    return compress(fields, Psnr(20), QUICK, CPU).data


def test_damage_is_named_by_section_and_leaves_the_rest_readable(two_arrays: bytes) -> None:
    file = Container(two_arrays)
    for index, name in enumerate(("first", "second")):
        at = file._offsets[index][0] + 2
        damaged = bytearray(two_arrays)
        damaged[at] ^= 4
        with pytest.raises(FormatError, match=rf"section 1 of array '{name}' is damaged \(checksum mismatch"):
            decompress(bytes(damaged), [name])
        other = ("second", "first")[index]
        assert decompress(bytes(damaged), [other])[0].name == other


def test_every_flipped_bit_of_a_small_file_is_noticed() -> None:
    data = compress(special_fields()["fill-integers"], Psnr(20)).data
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            decompress(bytes(damaged))


def test_every_truncation_is_noticed_and_named(two_arrays: bytes) -> None:
    file = Container(two_arrays)
    header = file._offsets[0][0]
    for length in range(len(two_arrays)):
        with pytest.raises(FormatError) as error:
            Container(two_arrays[:length])
        text = str(error.value)
        if length >= header:
            first = length < file._offsets[1][0]
            assert f"truncated in section 1 of array '{'first' if first else 'second'}'" in text
            assert f"the file has {length}" in text
        elif length > 4:
            assert "truncated" in text


def test_bytes_behind_the_end_are_noticed(two_arrays: bytes) -> None:
    with pytest.raises(FormatError, match="3 bytes follow the last section"):
        Container(two_arrays + b"abc")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 a zip", b"# vtk DataFile Version 3.0", b"\x89PNG\r\n\x1a\n"])
def test_foreign_files(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "foreign.nvc"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=r"foreign\.nvc is not a NeurComp file"):
        Container(path)


def test_version_from_the_future() -> None:
    with pytest.raises(FormatError, match=r"format version 3, this program reads versions 1 and 2; update neurcomp"):
        Container(sealed(wire.pack(Header()), version=3))


def test_codec_from_the_future(hashgrid_file: bytes) -> None:
    file = Container(hashgrid_file)
    record = replace(file.header.arrays[0], codec=63)
    data = container.dumps(replace(file.header, arrays=(record,)), file.sections(0))
    with pytest.raises(FormatError, match=r"array 'ImageScalars': the file names codec 63.*update neurcomp"):
        decompress(data)


def test_newer_fields_are_skipped(hashgrid_file: bytes) -> None:
    file = Container(hashgrid_file)
    start = file._offsets[0][0]
    newer = wire.pack(file.header) + wire.write_varint(99 << 3 | wire.BYTES) + b"\x03new"
    (decoded,) = decompress(sealed(newer, hashgrid_file[start:]))
    np.testing.assert_array_equal(decoded.values, decompress(hashgrid_file)[0].values)


@pytest.mark.parametrize(
    "change",
    [
        {"geometry": 1}, {"geometry": -1}, {"association": 2}, {"dtype": 10}, {"dtype": -1}, {"components": -1},
        {"components": 1 << 16}, {"brick": (8, 8, 8)}, {"special": True, "sections": ()},
    ],
    ids=str,
)  # fmt: skip
def test_senseless_descriptions_are_refused(change: dict) -> None:
    header = Header((container.GeometryRecord((2, 2, 2)),), (replace(ArrayRecord(codec=1, name="odd"), **change),))
    with pytest.raises(FormatError, match=r"the description of array 'odd' makes no sense"):
        Container(container.dumps(header, ()))


@pytest.mark.parametrize(
    "change",
    [
        {"dimensions": (2, 2)}, {"dimensions": (0, 2, 2)}, {"dimensions": (1 << 31, 1, 1)}, {"dimensions": (-1, 2, 2)},
        {"start": (1, 2)}, {"start": (1 << 40,)}, {"spacing": ()}, {"origin": (0.0, 1.0)}, {"direction": (1.0,) * 8},
    ],
    ids=str,
)  # fmt: skip
def test_senseless_grids_are_refused(change: dict) -> None:
    header = Header((replace(container.GeometryRecord((2, 2, 2)), **change),))
    with pytest.raises(FormatError, match="a grid in the header makes no sense"):
        Container(container.dumps(header, ()))


def test_huge_arrays_are_refused_before_memory_is_touched() -> None:
    grid = container.GeometryRecord(((1 << 31) - 1,) * 3)
    array = ArrayRecord(codec=1, params=bytes(4), name="huge")
    with pytest.raises(InputError, match="decode a region or a coarser level"):
        decompress(container.dumps(Header((grid,), (array,)), ()))


# -------------------------------------------------------------------------------------------------------------- access


def test_path_is_mapped_and_read_lazily(two_arrays: bytes, tmp_path: Path) -> None:
    path = tmp_path / "two.nvc"
    path.write_bytes(two_arrays)
    file = Container(path)
    assert file.nbytes == len(two_arrays)
    assert len(file) == 2
    assert decompress(path, ["second"])[0].values.shape == wave().shape
    for same in (bytearray(two_arrays), memoryview(two_arrays)):
        assert Container(same).header == file.header


def test_unreadable_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*missing\.nvc: No such file"):
        Container(tmp_path / "missing.nvc")
    with pytest.raises(InputError, match="cannot read"):
        Container(tmp_path)


def test_decoding_needs_no_torch(two_arrays: bytes, tmp_path: Path) -> None:
    path = tmp_path / "two.nvc"
    path.write_bytes(two_arrays)
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from neurcomp_core.pipeline import decompress\n"
        "fields = decompress(sys.argv[1])\n"
        "print([f.values.shape for f in fields], sorted(m for m in sys.modules if m.startswith('torch')))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[(4, 5, 6), (12, 14, 16)] ['torch']"


def test_quality_targets_end_in_a_file_that_keeps_them() -> None:
    data = compress(Field(wave()), MaxError(0.5), QUICK, CPU).data
    assert np.abs(decompress(data)[0].values - wave()).max() <= 0.5
