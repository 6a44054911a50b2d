"""Networks with residuals: every target is met, wherever the file is decoded."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from neurcomp_core import metrics
from neurcomp_core.codec import Context, Encoded
from neurcomp_core.codecs.hashgrid import MARGIN, HashGrid, HashGridRecord
from neurcomp_core.codecs.wavelet import Wavelet
from neurcomp_core.coding import wire
from neurcomp_core.container import ArraySpec, Container
from neurcomp_core.errors import Cancelled, NeurCompError, TargetError
from neurcomp_core.field import Field, Region, full_region
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.progress import Progress
from neurcomp_core.residual import NetworkCodec, joined, parts
from neurcomp_core.target import Bytes, MaxError, Psnr, Ratio, RelativeError, Target

CONTEXT = Context(device="cpu", threads=1)
CODEC = HashGrid(steps=60, batch=1024, residual=True)


def volume(dtype: str = "float32", shape: tuple[int, ...] = (11, 12, 14)) -> np.ndarray:
    """A wave with a little noise, which no network learns; integers use most of their range."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape[:3]), indexing="ij")
    values = np.sin(x / 4) * np.cos(y / 5) + z / shape[0]
    values += 0.02 * np.random.default_rng(3).standard_normal(values.shape)
    if len(shape) == 4:
        values = np.stack([np.roll(values, c, axis=2) * (c + 1) for c in range(shape[3])], axis=3)
    if np.dtype(dtype).kind in "iu":
        values = (values - values.min()) / np.ptp(values) * 0.9 * np.iinfo(dtype).max
    return values.astype(dtype)


def record_of(data: bytes) -> HashGridRecord:
    return wire.unpack(HashGridRecord, Container(data).header.arrays[0].params)


# ------------------------------------------------------------------------------------------------------------- targets


@pytest.mark.parametrize("dtype", ["float32", "uint8", "float64"])
@pytest.mark.parametrize("target", [Psnr(30), Psnr(55), RelativeError(0.02), Bytes(1200), Ratio(6)], ids=str)
def test_any_target_is_met(target: Target, dtype: str) -> None:
    field = Field(volume(dtype))
    result = compress(field, target, CODEC, CONTEXT)
    report = result.reports[0]
    quality = metrics.measure(field.values, decompress(result.data, context=CONTEXT)[0].values)
    assert (report.codec, report.quality) == ("hashgrid", quality)
    assert target.met(quality)
    budget = target.budget(field.nbytes)
    assert budget is None or 0.97 * budget <= len(result.data) <= budget
    if isinstance(target, Psnr) and dtype != "uint8":
        # Steps of so small a file are coarse.
        assert quality.psnr < target.value + 0.3
    (alone,) = report.tried
    assert (alone.codec, alone.met) == (Wavelet.id, True)


def test_the_network_alone_cannot_do_that() -> None:
    with pytest.raises(TargetError, match="out of reach"):
        compress(Field(volume()), Psnr(75), replace(CODEC, residual=False), CONTEXT)
    data = compress(Field(volume()), Psnr(75), CODEC, CONTEXT).data
    assert record_of(data).residual
    assert len(Container(data).header.arrays[0].sections) > 1


def test_no_residual_where_the_network_suffices() -> None:
    data = compress(Field(volume()), Psnr(6), CODEC, CONTEXT).data
    assert not record_of(data).residual
    assert len(Container(data).header.arrays[0].sections) == 1


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_integers_without_loss(dtype: str) -> None:
    values = volume("uint8").astype(dtype)
    result = compress(Field(values), MaxError(0.5), CODEC, CONTEXT)
    np.testing.assert_array_equal(decompress(result.data, context=CONTEXT)[0].values, values)


def test_bounds_below_the_margin_are_refused() -> None:
    for values, target, least in (
        (volume(), RelativeError(1e-5), r"7\.\d+e-05|0\.000\d+"),
        (volume("uint16"), MaxError(1), "4"),
    ):
        with pytest.raises(TargetError, match=f"between machines; with a residual ({least}) is the least") as caught:
            compress(Field(values), target, CODEC, CONTEXT)
        assert caught.value.reachable is not None
        bound = MaxError(caught.value.reachable)
        assert compress(Field(values), bound, CODEC, CONTEXT).reports[0].quality.max_error <= bound.value


@pytest.mark.parametrize("dtype", ["float32", "uint8", "uint16", "float64"])
def test_bounds_hold_for_decoders_at_the_margin(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = volume(dtype)
    bound = 0.5 if dtype == "uint8" else 7 if dtype == "uint16" else 4e-4
    data = compress(Field(values), MaxError(bound), CODEC, CONTEXT).data
    outputs = HashGrid.outputs
    signs = np.random.default_rng(0).choice((-1.0, 1.0), values.shape)

    def other(encoded: Encoded, spec: ArraySpec, region: Region, step: int, context: Context) -> np.ndarray:
        found = outputs(encoded, spec, region, step, context)
        return (found + MARGIN * record_of(data).scale * signs).astype(found.dtype)

    monkeypatch.setattr(HashGrid, "outputs", other)
    decoded = decompress(data, context=CONTEXT)[0].values
    assert metrics.measure(values, decoded).max_error <= bound


def test_masked_samples_and_components() -> None:
    values = volume(shape=(6, 7, 9, 2))
    values[2:4, 3:] = np.nan
    values[5:] = -999
    mask = values == -999
    (decoded,) = decompress(compress(Field(values, mask=mask), Psnr(40), CODEC, CONTEXT).data, context=CONTEXT)
    special = mask | np.isnan(values)
    assert decoded.values[special].tobytes() == values[special].tobytes()
    assert metrics.measure(values, decoded.values, mask).psnr >= 40


# --------------------------------------------------------------------------------------------------------------- bytes


@pytest.fixture(scope="module")
def data() -> bytes:
    return compress(Field(volume()), Psnr(50), CODEC, CONTEXT).data


def test_same_seed_same_bytes(data: bytes) -> None:
    assert compress(Field(volume()), Psnr(50), CODEC, CONTEXT).data == data


@pytest.mark.parametrize("level", [0, 1, 2])
def test_regions_and_levels_are_parts_of_the_whole(data: bytes, level: int) -> None:
    (whole,) = decompress(data, context=CONTEXT)
    box = (slice(3, 11), slice(1, 6), slice(0, 14))
    (part,) = decompress(data, region=box, level=level, context=CONTEXT)
    expected = whole.values[tuple(slice(b.start, b.stop, 2**level) for b in box)]
    np.testing.assert_allclose(part.values, expected, rtol=0, atol=MARGIN * np.ptp(whole.values))


def test_parts_are_the_inverse_of_joined(data: bytes) -> None:
    file = Container(data)
    encoded = Encoded(file.header.arrays[0].params, file.sections(0))
    network, rest = parts(HashGridRecord, encoded)
    assert rest is not None
    assert len(network.sections) == 1
    assert joined(HashGridRecord, network, rest) == encoded
    about = HashGrid.describe(encoded)
    assert (about["network bytes"], about["residual bytes"]) == (network.nbytes, rest.nbytes)


def test_damaged_streams_give_our_errors_or_an_array(data: bytes) -> None:
    file = Container(data)
    spec, whole = file.spec(0), [file.header.arrays[0].params, *file.sections(0)]
    rng = random.Random(5)
    refused = 0
    for i in range(120):
        streams = list(whole)
        at = rng.choice([k for k, s in enumerate(streams) if s])
        part = bytearray(streams[at])
        part[rng.randrange(len(part))] ^= 1 << rng.randrange(8)
        streams[at] = bytes(part) if i % 3 else bytes(part[: rng.randrange(len(part))])
        if i % 10 == 9:
            streams.pop()
        try:
            with np.errstate(all="ignore"):
                region = full_region(spec.shape)
                values = HashGrid.decode(Encoded(streams[0], tuple(streams[1:])), spec, region, 0, CONTEXT)
        except NeurCompError:
            refused += 1
        else:
            assert (values.shape, values.dtype) == (spec.shape, spec.dtype)
    assert refused > 10


def test_a_stopped_run_keeps_what_it_has() -> None:
    progress = Progress(lambda done, text: progress.cancel() if done > 0.5 else None)
    with pytest.raises(Cancelled) as caught:
        compress(Field(volume()), Psnr(50), CODEC, replace(CONTEXT, progress=progress))
    assert isinstance(caught.value.best, bytes)
    (kept,) = decompress(caught.value.best, context=CONTEXT)
    assert metrics.measure(volume(), kept.values).psnr >= 50


def test_networks_share_one_contract() -> None:
    assert issubclass(HashGrid, NetworkCodec)
    assert not HashGrid().residual
    assert CODEC.shortened(0.5) == HashGrid(steps=30, batch=1024)
