"""The contract of `neurcomp_core.codec`, over every registered codec, and the files that pin the format.

Golden files are made once, by ``python tests/test_codecs.py``, which leaves those that exist alone: a file that no
longer decodes to its values is a broken decoder or a new format version, never a reason to make it again.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurcomp_core import metrics
from neurcomp_core.codec import Codec, Context, Encoded, registry
from neurcomp_core.container import ArraySpec, Container
from neurcomp_core.errors import NeurCompError, TargetError
from neurcomp_core.field import Field, RectilinearGrid, UniformGrid, full_region
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.regions import ArrayImportance
from neurcomp_core.target import Bytes, MaxError, Psnr, Ratio, RelativeError, Target

GOLDEN = Path(__file__).parent / "golden"
#: Parameters that make a codec quick; quality is not what is tested here.
QUICK: dict[str, dict[str, Any]] = {
    "hashgrid": {"steps": 60, "batch": 4096},
    "siren": {"steps": 100, "batch": 1024},
    "network": {"steps": 60, "batch": 1024},
}
#: Activations of the golden networks of each encoding.
ACTIVATIONS = {
    "identity": "sine", "frequency": "snake", "triangle": "relu", "oneblob": "relu", "dense": "snake", "hash": "relu",
    "triplane": "sine", "cp": "snake", "vm": "relu", "spherical": "sine",
}  # fmt: skip
#: Codecs that take constant arrays only; the pipeline never hands them others.
CONSTANT_ONLY = {"constant"}
#: Targets that a codec rightly refuses, with its reason.
UNSUPPORTED: dict[tuple[str, type[Target]], str] = {}
#: What FORMAT.md allows two decoders of one file to differ by, in units of the data's range.
MARGIN = 2.0**-14

CONTEXT = Context(device="cpu", threads=2)
CODECS = sorted(set(registry()) - CONSTANT_ONLY)
every_codec = pytest.mark.parametrize("name", CODECS)


def codec(name: str) -> Codec:
    return registry()[name](**QUICK.get(name, {}))


def wave(shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    """A smooth signal of the given shape; integers use most of their range."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape[:3]), indexing="ij")
    values = np.sin(x / 4) * np.cos(y / 5) + z / shape[0]
    if len(shape) == 4:
        values = np.stack([np.roll(values, c, axis=2) * (c + 1) for c in range(shape[3])], axis=3)
    if np.dtype(dtype).kind in "iu":
        limits = np.iinfo(dtype)
        low, high = limits.min * 0.9, limits.max * 0.9
        values = low + (values - values.min()) / np.ptp(values) * (high - low)
    return values.astype(dtype)


def encoded_of(data: bytes) -> tuple[Encoded, ArraySpec]:
    """The codec's own part of a file of one array without special samples."""
    file = Container(data)
    return Encoded(file.header.arrays[0].params, file.sections(0)), file.spec(0)


# ------------------------------------------------------------------------------------------------------------ targets


@every_codec
@pytest.mark.parametrize(
    "target", [Ratio(8), Bytes(1500), Psnr(25), MaxError(0.4), RelativeError(0.2)], ids=lambda t: str(t)
)
def test_targets_are_kept(name: str, target: Target) -> None:
    if (name, type(target)) in UNSUPPORTED:
        pytest.skip(UNSUPPORTED[name, type(target)])
    field = Field(wave((12, 14, 16)), UniformGrid((0, 15, 2, 15, 0, 11), (1, 2, 3), (0.1, 0.2, 0.3)), "a", time=0.5)
    result = compress(field, target, codec(name), CONTEXT)
    (decoded,) = decompress(result.data, context=CONTEXT)
    assert decoded.geometry == field.geometry
    assert (decoded.name, decoded.time, decoded.values.dtype) == ("a", 0.5, np.float32)
    quality = metrics.measure(field.values, decoded.values)
    assert result.reports[0].quality == quality
    budget = target.budget(field.nbytes)
    if budget is not None:
        assert 0.97 * budget <= len(result.data) <= budget
        assert quality.psnr > 15
    else:
        assert target.met(quality)
        assert len(result.data) < field.nbytes


@every_codec
def test_targets_out_of_reach_are_refused_with_what_can_be_had(name: str) -> None:
    field = Field(wave((6, 7, 8)), name="tiny")
    with pytest.raises(TargetError, match=r"array 'tiny': .*ratio.* [\d.]+"):
        compress(field, Bytes(60), codec(name), CONTEXT)


# -------------------------------------------------------------------------------------------------------------- shapes


@every_codec
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((1, 1, 90), "float32"), ((1, 90, 1), "float64"), ((70, 1, 1), "float32"), ((1, 20, 24), "float32"),
        ((20, 1, 24), "uint8"), ((24, 20, 1), "float32"), ((2, 3, 4), "float32"), ((9, 10, 11), "uint8"),
        ((9, 10, 11), "int8"), ((9, 10, 11), "uint16"), ((9, 10, 11), "int16"), ((9, 10, 11), "uint32"),
        ((9, 10, 11), "int32"), ((9, 10, 11), "int64"), ((9, 10, 11), "uint64"), ((9, 10, 11), "float64"),
        ((9, 10, 11, 3), "float32"), ((9, 10, 11, 1), "float64"), ((1, 12, 14, 9), "int16"),
    ],
    ids=str,
)  # fmt: skip
def test_shapes_and_types_return(name: str, shape: tuple[int, ...], dtype: str) -> None:
    field = Field(wave(shape, dtype))
    (decoded,) = decompress(compress(field, Psnr(15), codec(name), CONTEXT).data, context=CONTEXT)
    assert decoded.values.dtype == field.values.dtype
    assert decoded.values.shape == shape
    assert metrics.measure(field.values, decoded.values).psnr >= 15


@every_codec
@pytest.mark.parametrize("values", [np.full((5, 6, 7), 3.25), np.full((5, 6, 7, 2), -4, np.int32)], ids=["f8", "i4"])
def test_constant_fields_are_exact(name: str, values: np.ndarray) -> None:
    result = compress(Field(values), Psnr(60), codec(name), CONTEXT)
    assert result.reports[0].quality.max_error == 0
    np.testing.assert_array_equal(decompress(result.data)[0].values, values)


@every_codec
def test_samples_that_are_not_data_are_exact(name: str) -> None:
    values = wave((9, 10, 12, 2))
    values[2:4, 3:] = np.nan
    values[5, 5, 5, 1] = np.inf
    values[7:] = -999
    mask = values == -999
    (decoded,) = decompress(compress(Field(values, mask=mask), Psnr(15), codec(name), CONTEXT).data, context=CONTEXT)
    special = mask | ~np.isfinite(values)
    assert decoded.values[special].tobytes() == values[special].tobytes()
    assert decoded.mask is not None
    np.testing.assert_array_equal(decoded.mask, mask)
    assert metrics.measure(values, decoded.values, mask).psnr >= 15


@every_codec
def test_a_component_may_have_no_data_or_one_value(name: str) -> None:
    values = wave((6, 7, 8, 3))
    values[..., 0] = np.nan
    values[..., 1] = 2
    (decoded,) = decompress(compress(Field(values), Psnr(15), codec(name), CONTEXT).data, context=CONTEXT)
    assert np.isnan(decoded.values[..., 0]).all()


@every_codec
@pytest.mark.parametrize("offset", [1e6, -1e30])
def test_values_far_from_zero_keep_their_variation(name: str, offset: float) -> None:
    values = wave((9, 10, 11), "float64") * abs(offset) * 1e-7 + offset
    (decoded,) = decompress(compress(Field(values), Psnr(15), codec(name), CONTEXT).data, context=CONTEXT)
    assert metrics.measure(values, decoded.values).psnr >= 15


# ------------------------------------------------------------------------------------------------------ bytes and parts


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {name: compress(Field(wave((12, 14, 16))), Bytes(1200), codec(name), CONTEXT).data for name in CODECS}


@every_codec
def test_same_seed_same_bytes(name: str, files: dict[str, bytes]) -> None:
    assert compress(Field(wave((12, 14, 16))), Bytes(1200), codec(name), CONTEXT).data == files[name]


@every_codec
@pytest.mark.parametrize("level", [0, 1, 2, 4])
@pytest.mark.parametrize("region", [(0, 12, 0, 14, 0, 16), (3, 11, 5, 6, 2, 16), (11, 12, 13, 14, 15, 16)], ids=str)
def test_regions_and_levels_are_parts_of_the_whole(
    name: str, files: dict[str, bytes], level: int, region: tuple[int, ...]
) -> None:
    (whole,) = decompress(files[name], context=CONTEXT)
    box = tuple(slice(a, b) for a, b in zip(region[::2], region[1::2], strict=True))
    (part,) = decompress(files[name], region=box, level=level, context=CONTEXT)  # type: ignore[arg-type]
    expected = whole.values[tuple(slice(b.start, b.stop, 2**level) for b in box)]
    assert part.values.shape == expected.shape
    margin = MARGIN if level == 0 or registry()[name].exact_levels else 0.15
    np.testing.assert_allclose(part.values, expected, rtol=0, atol=margin * np.ptp(whole.values))


@every_codec
def test_decoding_does_not_depend_on_threads(name: str, files: dict[str, bytes]) -> None:
    one, two = (decompress(files[name], context=replace(CONTEXT, threads=n))[0].values for n in (1, 2))
    assert one.tobytes() == two.tobytes()


@every_codec
def test_damaged_streams_give_our_errors_or_an_array(name: str, files: dict[str, bytes]) -> None:
    encoded, spec = encoded_of(files[name])
    rng = random.Random(7)
    refused = 0
    for i in range(300):
        parts = [encoded.params, *encoded.sections]
        at = rng.choice([i for i, part in enumerate(parts) if part])
        if i % 3:
            part = bytearray(parts[at])
            part[rng.randrange(len(part))] ^= 1 << rng.randrange(8)
            parts[at] = bytes(part)
        else:
            parts[at] = parts[at][: rng.randrange(len(parts[at]))]
        damaged = Encoded(parts[0], tuple(parts[1:]))
        try:
            with np.errstate(all="ignore"):
                values = registry()[name].decode(damaged, spec, full_region(spec.shape), 0, CONTEXT)
        except NeurCompError:
            refused += 1
        else:
            assert values.shape == spec.shape
            assert values.dtype == spec.dtype
    assert refused > 20


@every_codec
def test_streams_for_another_shape_are_refused_or_decoded_in_it(name: str, files: dict[str, bytes]) -> None:
    encoded, _ = encoded_of(files[name])
    other = ArraySpec((5, 1, 9, 4), np.dtype(np.uint8))
    try:
        values = registry()[name].decode(encoded, other, full_region(other.shape), 0, CONTEXT)
    except NeurCompError:
        return
    assert values.shape == other.shape
    assert values.dtype == other.dtype


@every_codec
def test_surplus_and_missing_sections_are_refused(name: str, files: dict[str, bytes]) -> None:
    encoded, spec = encoded_of(files[name])
    for sections in ((), (*encoded.sections, b"more")):
        with pytest.raises(NeurCompError):
            registry()[name].decode(replace(encoded, sections=sections), spec, full_region(spec.shape), 0, CONTEXT)


def test_ids_are_never_shared() -> None:
    ids = [c.id for c in registry().values()]
    assert len(set(ids)) == len(ids)
    # Stored in files for ever.
    stored = {
        "constant": 1, "hashgrid": 2, "siren": 4, "tucker": 5, "network": 6, "tthresh": 10, "sperr": 11, "sz3": 12,
        "zfp": 13,
    }  # fmt: skip
    assert {name: registry()[name].id for name in stored} == stored


# -------------------------------------------------------------------------------------------------------------- golden


def golden_fields() -> dict[str, tuple[list[Field], Target]]:
    """What the golden files hold; values of networks are those their files decode to, not these."""
    holes = np.full((6, 7, 8), 2.5, np.float32)
    holes[2:4, 1:6, 2:] = np.array([0x7FC00123], np.uint32).view(np.float32)
    holes[5] = -1e30
    holes[0, 0, 0] = -np.inf
    many = np.full((8, 8, 8), 1, np.int16)
    many[:5] = np.arange(320).reshape(5, 8, 8) - 160
    grid = RectilinearGrid(
        np.geomspace(1, 9, 8), np.linspace(0, 1, 7, dtype=np.float32), np.arange(6) * 0.1, (1, -2, 3)
    )
    tilted = UniformGrid((0, 2, 0, 3, 0, 4), (0.1, -7, 1 / 3), (0.5, 0.5, 0.25), (0, 1, 0, -1, 0, 0, 0, 0, 1))
    network = wave((12, 14, 16))
    network[4:6, :5] = np.nan
    small = np.full((2, 2, 2), 9, np.uint8)
    vectors = wave((1, 20, 24, 2), "float64")
    # Layers that go together.
    layers = wave((1, 30, 36)) + np.geomspace(1, 9, 9)[:, None, None].astype(np.float32)
    return {
        "constant": ([Field(np.full((5, 4, 3, 2), 1 / 3), tilted, "Δ", time=1.5), Field(small)], Psnr(20)),
        "masks": ([Field(holes, grid, mask=holes == -1e30)], Psnr(20)),
        "palette": ([Field(many, mask=np.arange(512).reshape(8, 8, 8) < 320, association="cell")], Psnr(20)),
        "hashgrid": ([Field(network, name="ImageScalars")], Bytes(1000)),
        "hashgrid-vectors": ([Field(vectors, name="v")], Bytes(900)),
        "hashgrid-integers": ([Field(wave((9, 10, 11), "uint8"), name="u")], Bytes(600)),
        "hashgrid-smoothstep": ([Field(wave((9, 10, 11)), name="s")], Bytes(600)),
        "siren": ([Field(network, name="ImageScalars")], Bytes(1000)),
        "siren-vectors": ([Field(vectors, name="v")], Bytes(900)),
        "siren-integers": ([Field(wave((9, 10, 11), "uint8"), name="u")], Bytes(400)),
        "network": ([Field(network, name="ImageScalars")], Bytes(1000)),
        "network-frequency-vectors": ([Field(vectors, name="v")], Bytes(900)),
        "network-vm-line": ([Field(wave((1, 1, 90)), name="l")], Bytes(500)),
        **{f"network-{name}": ([Field(wave((9, 10, 7)), name="e")], Bytes(500)) for name in ACTIVATIONS},
        "network-oneblob-integers": ([Field(wave((9, 10, 7), "uint8"), name="u")], Bytes(500)),
        "tthresh": ([Field(network, name="ImageScalars")], Bytes(1500)),
        "tucker": ([Field(network, name="ImageScalars")], Bytes(900)),
        "tucker-vectors": ([Field(vectors, name="v")], Psnr(40)),
        "tucker-integers": ([Field(wave((9, 10, 11), "uint8"), name="u")], Psnr(35)),
        "wavelet": ([Field(network, name="ImageScalars")], Bytes(900)),
        "wavelet-vectors": ([Field(vectors, name="v")], Psnr(50)),
        "wavelet-lossless": ([Field(wave((9, 10, 11), "uint16") & 0xFFF0, name="u")], MaxError(0.5)),
        "wavelet-bound": ([Field(network, name="b")], MaxError(0.01)),
        "wavelet-layers": ([Field(layers, name="t")], Psnr(40)),
        "wavelet-tiles": ([Field(wave((32, 33, 34)), name="s")], Psnr(60)),
        "wavelet-regions": ([Field(wave((30, 27, 25)), name="r")], Bytes(3000)),
        "sperr": ([Field(network, name="ImageScalars")], Psnr(50)),
        "sz3": ([Field(network, name="ImageScalars")], Psnr(50)),
        "zfp": ([Field(network, name="ImageScalars")], Psnr(50)),
    }  # fmt: skip


def is_network(name: str) -> bool:
    return not name.startswith(("constant", "masks", "palette"))


@pytest.mark.parametrize("name", golden_fields())
def test_golden_files_decode_to_their_values(name: str) -> None:
    decoded = decompress(GOLDEN / f"{name}.nvc", context=CONTEXT)
    fields, _ = golden_fields()[name]
    with np.load(GOLDEN / f"{name}.npz") as stored:
        values = [stored[key] for key in sorted(stored)]
    assert len(decoded) == len(fields) == len(values)
    for got, given, expected in zip(decoded, fields, values, strict=True):
        assert (got.name, got.association, got.time) == (given.name, given.association, given.time)
        assert got.geometry == given.geometry
        assert got.values.dtype == given.values.dtype == expected.dtype
        np.testing.assert_array_equal(got.mask, given.mask)
        if not is_network(name):
            assert got.values.tobytes() == expected.tobytes() == given.values.tobytes()
            continue
        assert np.array_equal(np.isnan(got.values), np.isnan(given.values))
        spread = float(np.nanmax(expected)) - float(np.nanmin(expected))
        # An integer may fall on the other side of a half.
        allowed = MARGIN * spread if expected.dtype.kind == "f" else 1
        error = np.abs(got.values.astype(np.float64) - expected.astype(np.float64))
        assert np.nanmax(error) <= allowed


@pytest.mark.parametrize("name", [n for n in golden_fields() if not is_network(n)])
def test_golden_files_are_what_is_written_today(name: str) -> None:
    fields, target = golden_fields()[name]
    made = compress(fields, target, "constant", CONTEXT).data
    stored = (GOLDEN / f"{name}.nvc").read_bytes()
    # Deflated bytes may differ between versions of zlib; what they hold may not.
    assert made == stored or (b"x\xda" in stored and zlib.ZLIB_RUNTIME_VERSION != zlib.ZLIB_VERSION)


def make_golden() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name, (fields, target) in golden_fields().items():
        path = GOLDEN / f"{name}.nvc"
        if not path.exists():
            kind = name.split("-")[0]
            maker = (
                registry()["wavelet"].from_preset(brick=16)
                if name == "wavelet-tiles"
                else codec(kind if kind in CODECS else "hashgrid")
            )
            if name.startswith("network-"):
                encoding = name.split("-")[1]
                maker = replace(maker, encoding=encoding, activation=ACTIVATIONS[encoding])  # type: ignore[call-arg]
            if name == "hashgrid-smoothstep":
                maker = replace(maker, interpolation="smoothstep")  # type: ignore[call-arg]
            # Weights of a box, less beside it, none behind.
            matters = np.ones((30, 27, 25), np.float32)
            matters[5:20, 4:17, 9:] = 6
            matters[25:] = 0.1
            context = replace(CONTEXT, importance=ArrayImportance(matters)) if name == "wavelet-regions" else CONTEXT
            path.write_bytes(compress(fields, target, maker, context).data)
            values = {str(i): f.values for i, f in enumerate(decompress(path, context=CONTEXT))}
            np.savez_compressed(path.with_suffix(".npz"), **values)  # type: ignore[arg-type]


if __name__ == "__main__":
    make_golden()
