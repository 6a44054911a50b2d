"""Codec ``wavelet``: targets to the point, a bound that always holds, tiles, levels and streaming."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurcomp_core import container, metrics
from neurcomp_core.codec import Context, Encoded
from neurcomp_core.codecs.wavelet import Wavelet
from neurcomp_core.coding import wire
from neurcomp_core.container import ArraySpec, Container
from neurcomp_core.errors import FormatError, InputError, TargetError
from neurcomp_core.field import Field, full_region
from neurcomp_core.pipeline import compress, decode_array, decode_blocks, decompress
from neurcomp_core.samples import marschner_lobb
from neurcomp_core.target import Bytes, MaxError, Psnr, Ratio
from neurcomp_core.wavelet import lifting, prediction, stream, transform
from neurcomp_core.wavelet.filling import fill
from neurcomp_core.wavelet.lanes import Lanes
from neurcomp_core.wavelet.layout import Layout
from neurcomp_core.wavelet.record import WaveletRecord
from neurcomp_core.wavelet.scaling import Scaling, corrected, difference
from neurcomp_core.wavelet.tiles import Pyramid, Tiling

CONTEXT = Context(device="cpu", threads=2)


def rough(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Waves with noise, float64 of unit size."""
    rng = np.random.default_rng(seed)
    grid = np.indices(shape[:3])
    values = np.sum([np.sin(g / (3 + 2 * i) + i) for i, g in enumerate(grid)], axis=0) / 3
    values = values if len(shape) == 3 else values[..., None] * np.arange(1, shape[3] + 1)
    return values + 0.02 * rng.standard_normal(shape)


def as_type(values: np.ndarray, dtype: str) -> np.ndarray:
    if np.dtype(dtype).kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    unit = (values - values.min()) / np.ptp(values)
    return np.rint(limits.min + unit * (float(limits.max) - limits.min)).clip(limits.min, limits.max).astype(dtype)


@cache
def tiled() -> bytes:
    """A file of 12 tiles."""
    return compress(Field(rough((36, 40, 44))), Psnr(40), Wavelet(brick=16), CONTEXT).data


def encoded_of(data: bytes) -> tuple[Encoded, ArraySpec]:
    file = Container(data)
    return Encoded(file.header.arrays[0].params, file.sections(0)), file.spec(0)


# ------------------------------------------------------------------------------------------------------------ targets


@pytest.mark.parametrize("psnr", [45, 60, 75])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_psnr_is_met_within_a_twentieth_of_a_decibel(psnr: float, dtype: str) -> None:
    result = compress(Field(rough((40, 44, 36)).astype(dtype)), Psnr(psnr), Wavelet(), CONTEXT)
    assert len(result.data) > 4096
    assert psnr <= result.reports[0].quality.psnr <= psnr + 0.05


@pytest.mark.parametrize("target", [Bytes(5000), Bytes(30_000), Ratio(20), Ratio(40)], ids=str)
@pytest.mark.parametrize("brick", [-1, 24])
def test_a_size_is_used_to_99_percent(target: Bytes | Ratio, brick: int) -> None:
    field = Field(marschner_lobb(48).values.astype(np.float32))
    size = len(compress(field, target, Wavelet(brick=brick), CONTEXT).data)
    budget = target.budget(field.nbytes)
    assert budget is not None
    assert 0.99 * budget <= size <= budget


@pytest.mark.parametrize("seed", range(8))
def test_a_bound_on_the_error_is_never_exceeded(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 20, 3)) + ((2,) if seed % 5 == 4 else ())
    noise = rng.standard_normal(shape)
    kinds = [noise, np.exp(4 * noise), np.where(noise > 2, 1e3, np.round(noise)), noise.cumsum(0).cumsum(1).cumsum(2)]
    values = kinds[seed % 4]
    codec = Wavelet(brick=16 if seed % 2 else 0)
    for dtype, share in product(("float32", "float64", "uint8", "uint16"), (0.1, 1e-3, 1e-5)):
        field = Field(as_type(values, dtype))
        bound = share * float(np.ptp(field.values.astype(float))) or 1.0
        result = compress(field, MaxError(bound), codec, CONTEXT)
        (decoded,) = decompress(result.data)
        assert metrics.measure(field.values, decoded.values).max_error <= bound


EXTREMES = {
    "int8": [-128, 127], "uint16": [0, 65535], "int32": [-(2**31), 2**31 - 1], "uint32": [0, 2**32 - 1],
    "int64": [-(2**62) - 500, -(2**62) + 500], "uint64": [2**64 - 1000, 2**64 - 1],
}  # fmt: skip


@pytest.mark.parametrize("dtype", EXTREMES)
def test_integers_are_lossless_where_no_error_is_allowed(dtype: str) -> None:
    low, high = EXTREMES[dtype]
    rng = np.random.default_rng(0)
    values = rng.integers(low, high, (7, 8, 9), np.dtype(dtype), endpoint=True)
    values[0, 0, :2] = low, high
    for bound in (0.5, 0.999):
        (decoded,) = decompress(compress(Field(values), MaxError(bound), Wavelet(), CONTEXT).data)
        np.testing.assert_array_equal(decoded.values, values)


def test_long_integers_are_lossless_through_corrections() -> None:
    values = np.random.default_rng(0).integers(-(2**50), 2**50, (5, 6, 7))
    (decoded,) = decompress(compress(Field(values), MaxError(0.5), Wavelet(), CONTEXT).data)
    np.testing.assert_array_equal(decoded.values, values)


@pytest.mark.parametrize("dtype", ["int32", "uint32"])
def test_the_longest_numbers_of_32_bits_are_lossless(dtype: str) -> None:
    values = np.random.default_rng(0).integers(-(2**31), 2**31, (5, 6, 7)).astype(np.int32).view(dtype)
    values.flat[:2] = np.iinfo(dtype).min, np.iinfo(dtype).max
    (decoded,) = decompress(compress(Field(values), MaxError(0.5), Wavelet(), CONTEXT).data)
    np.testing.assert_array_equal(decoded.values, values)


def test_a_size_that_no_step_is_fine_enough_for_is_refused() -> None:
    noise = 1e-3 * np.random.default_rng(0).standard_normal((5, 1, 9))
    values = (np.arange(5)[:, None, None] + noise).astype(np.float32)
    with pytest.raises(TargetError):
        compress(Field(values), Bytes(400), Wavelet(), CONTEXT)


def test_a_bound_of_zero_is_lossless_and_for_integers_only() -> None:
    values = np.random.default_rng(0).integers(0, 200, (5, 6, 7), np.uint8)
    for codec in (Wavelet(), "auto"):
        result = compress(Field(values), MaxError(0), codec, CONTEXT)
        np.testing.assert_array_equal(decompress(result.data)[0].values, values)
    with pytest.raises(TargetError, match="only integers can be lossless"):
        compress(Field(values.astype(np.float32)), MaxError(0), Wavelet(), CONTEXT)


@pytest.mark.parametrize(
    ("dtype", "scale", "offset"),
    [("float32", 1e30, 0), ("float32", 1.6e38, 0), ("float32", 1e-41, 0), ("float64", 1e-300, 0), ("float64", 1, 1e9)],
)
def test_huge_tiny_and_offset_values_keep_their_bound(dtype: str, scale: float, offset: float) -> None:
    values = (rough((9, 10, 11)) * scale + offset).astype(dtype)
    spread = float(values.max()) - float(values.min())
    for share in (1e-1, 1e-4):
        (decoded,) = decompress(compress(Field(values), MaxError(share * spread), Wavelet(), CONTEXT).data)
        assert metrics.measure(values, decoded.values).max_error <= share * spread


def test_a_bound_below_what_floats_resolve_is_refused_with_what_can_be_had() -> None:
    field = Field((rough((8, 8, 8)) + 1e6).astype(np.float32))
    with pytest.raises(TargetError, match="resolve"):
        compress(field, MaxError(1e-12), Wavelet(), CONTEXT)


@pytest.mark.parametrize("brick", [0, 16])
def test_what_is_no_data_comes_back_to_the_bit(brick: int) -> None:
    values = rough((20, 18, 40)).astype(np.float32)
    values[3:9, 4:, :7] = np.nan
    values[0, 0, 0] = -np.inf
    mask = np.zeros(values.shape, bool)
    mask[15:, :, 30:] = True
    values[mask] = -9999
    result = compress(Field(values, mask=mask), MaxError(0.01), Wavelet(brick=brick), CONTEXT)
    (decoded,) = decompress(result.data)
    special = mask | ~np.isfinite(values)
    np.testing.assert_array_equal(decoded.values[special], values[special])
    np.testing.assert_array_equal(decoded.mask, mask)
    assert np.abs(decoded.values[~special] - values[~special]).max() <= 0.01


def test_gaps_are_filled_with_what_surrounds_them() -> None:
    values = np.indices((12, 20, 17)).sum(axis=0).astype(np.float32)
    valid = np.ones(values.shape, bool)
    valid[4:8, 5:12, 3:9] = False
    filled = fill(np.where(valid, values, 1e6).astype(np.float32), valid)
    np.testing.assert_array_equal(filled[valid], values[valid])
    assert np.abs(filled - values).max() < 6
    sizes = [
        len(
            compress(
                Field(np.where(valid, values, v).astype(np.float32), mask=~valid), Psnr(50), Wavelet(), CONTEXT
            ).data
        )
        for v in (0, 1e6)
    ]
    assert abs(sizes[0] - sizes[1]) < 10
    whole = np.full((3, 4, 5, 2), np.iinfo(np.uint64).max)
    some = np.zeros(whole.shape, bool)
    some[0, 0, 0, 0] = True
    assert (fill(np.where(some, whole, 7), some)[..., 1] == 7).all()


# ----------------------------------------------------------------------------------------------------- scale, rounding


def test_exact_differences_and_corrections_of_64_bit_integers() -> None:
    a = np.array([[2**64 - 1, 5, 0]], np.uint64)
    b = np.array([[2**64 - 3, 9, 2**63]], np.uint64)
    np.testing.assert_array_equal(difference(a, b), [[2, -4, -(2.0**63)]])
    found = corrected(np.array([2**63 - 2, -(2**63) + 1, 7]), np.array([3, -3, 3], np.int32), 5.0)
    np.testing.assert_array_equal(found, [2**63 - 1, -(2**63), 22])
    small = corrected(np.array([250, 3, 7], np.uint8), np.array([1, -1, 0], np.int32), 9.0)
    np.testing.assert_array_equal(small, [255, 0, 7])


def test_scaling_returns_integers_and_clips_to_the_type() -> None:
    scaling = Scaling(np.dtype(np.uint64), np.float64, float(2**63))
    values = np.array([2**63 - 7, 2**63 + 8], np.uint64)
    np.testing.assert_array_equal(scaling.values(scaling.floats(values, 15.0)), values)
    assert Scaling(np.dtype(np.uint8), np.float32, 100.0).values(np.array([-200.4, 200.0], np.float32)).tolist() == [
        0,
        255,
    ]


# -------------------------------------------------------------------------------------------------------- tiles, levels

SHAPES = [((34, 36, 29), 16), ((1, 100, 90), 32), ((33, 5, 40), 16), ((24, 17, 20, 2), 16)]


@pytest.mark.parametrize(("shape", "edge"), SHAPES, ids=str)
def test_tiles_hold_the_coefficients_of_the_whole_array(shape: tuple[int, ...], edge: int) -> None:
    values = rough(shape[:3])
    tiling = Tiling(shape[:3], 16, edge, 1)  # type: ignore[arg-type]
    whole = values.copy()
    lifting.forward(whole, tiling.whole, Lanes(1))
    pyramid = Pyramid(lambda box: values[box][..., None].copy(), 1, tiling, Lanes(1))
    seen = np.zeros(whole.shape, int)
    assert tiling.root is not None
    for layout, parts, places in [
        (tiling.root, pyramid.root(), lambda band: band.box),
        *((tiling.layout(r), pyramid.tile(r), lambda band, r=r: _within(tiling, r, band)) for r in tiling.regions),
    ]:
        for band in layout.bands:
            np.testing.assert_array_equal(parts[0][band.box], whole[places(band)])
            seen[places(band)] += 1
    assert (seen == 1).all()


def _within(tiling: Tiling, region: tuple, band) -> tuple[slice, ...]:
    low = tiling.whole.splits[band.level].low
    return tuple(
        slice(p.start + low[i], p.stop + low[i]) if band.orient >> i & 1 else p
        for i, p in enumerate(tiling.place(region, band))
    )


@pytest.mark.parametrize(("shape", "edge"), SHAPES, ids=str)
@pytest.mark.parametrize("transform", ["wavelet", "none"])
def test_boxes_and_blocks_are_parts_of_the_whole(shape: tuple[int, ...], edge: int, transform: str) -> None:
    field = Field(rough(shape).astype(np.float32))
    file = Container(compress(field, MaxError(0.02), Wavelet(transform, brick=edge), CONTEXT).data)
    whole = decode_array(file, 0).values
    part: Any = tuple(slice(n // 3, max(2 * n // 3, n // 3 + 1)) for n in shape[:3])
    np.testing.assert_array_equal(decode_array(file, 0, part).values, whole[part])
    blocks = np.full_like(whole, np.nan)
    for region, values in decode_blocks(file, 0, CONTEXT):
        blocks[region] = values
    np.testing.assert_array_equal(blocks, whole)
    for level in (1, 2, 5):
        step = 2**level
        coarse = decode_array(file, 0, None, level).values
        assert coarse.shape == whole[::step, ::step, ::step].shape
        odd: Any = tuple(slice(min(1, n - 1), n) for n in shape[:3])
        assert decode_array(file, 0, odd, level).values.shape == whole[odd][::step, ::step, ::step].shape


def test_a_coarser_level_is_close_to_the_samples_it_stands_for() -> None:
    values = np.sin(np.indices((40, 48, 44)).sum(axis=0) / 20).astype(np.float32)
    for brick in (-1, 24):
        file = Container(compress(Field(values), Psnr(60), Wavelet(brick=brick), CONTEXT).data)
        for level in (1, 2):
            step = 2**level
            coarse = decode_array(file, 0, None, level).values
            assert np.abs(coarse - values[::step, ::step, ::step]).max() < 0.2


class Counting(Container):
    """Counts the bytes of the sections that are read."""

    read = 0

    def section(self, index: int, section: int) -> bytes:
        data = super().section(index, section)
        self.read += len(data)
        return data


def test_a_box_and_a_level_read_what_they_need() -> None:
    field = Field(rough((1, 320, 320)).astype(np.float32))
    data = compress(field, Psnr(50), Wavelet(brick=32), CONTEXT).data
    total = sum(Container(data).header.arrays[0].sections)
    box, coarse = Counting(data), Counting(data)
    decode_array(box, 0, (slice(0, 1), slice(160, 192), slice(192, 224)))
    assert 0 < box.read < total / 6
    decode_array(coarse, 0, None, 3)
    assert 0 < coarse.read < total / 6


def test_tiles_cost_little() -> None:
    field = Field(rough((96, 96, 96)).astype(np.float32))
    sizes = [len(compress(field, Psnr(50), Wavelet(brick=b), CONTEXT).data) for b in (-1, 48)]
    assert sizes[1] < 1.05 * sizes[0]


def test_mapped_input_gives_the_same_bytes(tmp_path: Path) -> None:
    values = rough((40, 30, 34)).astype(np.float32)
    np.save(tmp_path / "values.npy", values)
    mapped = np.load(tmp_path / "values.npy", mmap_mode="r")
    one, other = (compress(Field(v), Psnr(45), Wavelet(brick=16), CONTEXT).data for v in (values, mapped))
    assert one == other


# ---------------------------------------------------------------------------------------------------------- exactness


@pytest.mark.parametrize(
    ("brick", "shape", "target"),
    [(-1, (64, 128, 128), Psnr(38)), (32, (40, 64, 50), Psnr(50)), (16, (24, 32, 24), MaxError(0.01))],
    ids=str,
)
def test_threads_change_nothing(brick: int, shape: tuple[int, ...], target: Psnr | MaxError) -> None:
    field = Field(rough(shape).astype(np.float32))
    files = [compress(field, target, Wavelet(brick=brick), Context(device="cpu", threads=n)).data for n in (1, 2)]
    assert files[0] == files[1]
    one, two = (decompress(files[0], context=Context(device="cpu", threads=n))[0].values for n in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_a_lone_coefficient_that_its_sibling_predicts_survives() -> None:
    layout = Layout((24, 24, 24), 1, 1)
    bands = {band.orient: band for band in layout.bands if band.level == 0}
    box = stream.Box(layout, 1, np.zeros(layout.size, np.int32), [np.zeros((1, 4)) for _ in stream.groups(layout)])
    for orient in (3, 7):
        layout.views(box.q, bands[orient])[0][5, 6, 7] = 1
    count = len(prediction.taps(layout, bands[7], 0))
    sibling = layout.blocks[0, 3][0].base - layout.blocks[0, 7][0].base
    at = prediction.taps(layout, bands[7], 0).tolist().index(sibling)
    bits = transform.weight_bits(layout)
    weights = tuple(2**bits if i == at else 0 for i in range(count))
    box.predictors[0, 0, 7] = prediction.Predictor(weights, bits)
    before = box.q.copy()
    sections = stream.encode(box, Lanes(1))
    found = stream.decode(sections, layout, 1, bits, len(sections) - 1, Lanes(1))
    np.testing.assert_array_equal(found.q, before)


def test_plain_python_decodes_the_same(tmp_path: Path) -> None:
    fields = [
        Field(rough((9, 10, 11)).astype(np.float32), name="a"),
        Field(as_type(rough((6, 7, 8)), "uint8"), name="b"),
    ]
    codec = Wavelet("wavelet", brick=16)
    data = compress(fields, MaxError(1.0), codec, CONTEXT).data
    extreme = Field(np.array([-(2**31), 2**31 - 1, 5, -7] * 6, np.int32).reshape(2, 3, 4))
    files = {"some": data, "extreme": compress(extreme, MaxError(0.5), Wavelet(), CONTEXT).data}
    for name, content in files.items():
        (tmp_path / f"{name}.nvc").write_bytes(content)
    program = (
        "import sys, hashlib; from neurcomp_core.pipeline import decompress\n"
        "for path in sys.argv[1:]:\n"
        "    for field in decompress(path): print(hashlib.sha256(field.values.tobytes()).hexdigest())"
    )
    paths = [str(tmp_path / f"{name}.nvc") for name in files]
    seen = [
        subprocess.run(
            [sys.executable, "-c", program, *paths], env={**os.environ, "NUMBA_DISABLE_JIT": jit},
            capture_output=True, text=True, check=True,
        ).stdout
        for jit in ("0", "1")
    ]  # fmt: skip
    assert seen[0] == seen[1]
    assert len(seen[0].split()) == 3


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"brick": 20}, "multiple of 8"), ({"transform": "fourier"}, "auto, wavelet, none"), ({"weight": -1.0}, "0 to 1")],
)
def test_impossible_parameters_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Wavelet(**settings)


@pytest.mark.parametrize(
    "change",
    [{"step": 0.0}, {"edge": 12}, {"lanes": 0}, {"key": 999}, {"edge": 24}, {"depth": 40}, {"quantum": 1.0}],
    ids=str,
)
def test_impossible_records_are_refused(change: dict) -> None:
    encoded, spec = encoded_of(tiled())
    record = wire.unpack(WaveletRecord, encoded.params)
    with pytest.raises(FormatError, match="wavelet"):
        Wavelet.decode(replace(encoded, params=_packed(record, change)), spec, full_region(spec.shape), 0, CONTEXT)


def _packed(record: WaveletRecord, change: dict) -> bytes:
    """A record that the class itself would refuse."""
    for name, value in change.items():
        object.__setattr__(record, name, value)
    return wire.pack(record)


def test_huge_shapes_of_damaged_files_are_refused_at_once() -> None:
    encoded, _ = encoded_of(tiled())
    spec = ArraySpec((1 << 30, 1 << 30, 1 << 30), np.dtype(np.float32))
    region = full_region((1, 1, 1))
    with pytest.raises(FormatError, match="sections"):
        Wavelet.decode(encoded, spec, region, 0, CONTEXT)


def test_sections_are_read_when_they_are_asked_for() -> None:
    file = Counting(tiled())
    sections = file.lazy_sections(0)
    assert (len(sections), file.read) == (len(file.header.arrays[0].sections), 0)
    assert sections[1:][0] == file.sections(0)[1]
    assert container.section_cost(file.sections(0)) > 0


def test_layouts_without_a_rest_cover_all_but_it() -> None:
    layout = Layout((20, 10, 3), 2, 1, along=((0, 1), (0,)))
    covered = np.zeros((20, 10, 3), int)
    for band in layout.bands:
        covered[band.box] += 1
    assert (covered[:5, :5] == 0).all()
    assert covered.sum() == 20 * 10 * 3 - 5 * 5 * 3
