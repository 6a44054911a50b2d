"""The codec tucker: its bases, its stream, its targets, and where the codec auto takes it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neurcomp_core import metrics
from neurcomp_core.auto import Auto
from neurcomp_core.codec import Context, Encoded, codec_by_id
from neurcomp_core.codecs import tucker
from neurcomp_core.codecs.tucker import Tucker
from neurcomp_core.codecs.wavelet import Wavelet
from neurcomp_core.coding import wire
from neurcomp_core.container import ArraySpec, Container
from neurcomp_core.errors import Cancelled, FormatError, InputError, TargetError
from neurcomp_core.field import Field, Region, full_region
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.progress import Progress
from neurcomp_core.target import Bytes, MaxError, Psnr, Ratio, Target
from neurcomp_core.tucker import coded, fit
from neurcomp_core.tucker.basis import cosines, orthonormal
from neurcomp_core.tucker.record import TuckerRecord
from neurcomp_core.tucker.space import Space
from neurcomp_core.wavelet.lanes import Lanes

CONTEXT = Context(device="cpu", threads=1)
LANES = Lanes(1)


def product(shape: tuple[int, ...] = (20, 22, 24), terms: int = 3, noise: float = 0.02) -> np.ndarray:
    """A few products of rough lines, which no wavelet likes, and some noise."""
    rng = np.random.default_rng(5)
    values = noise * rng.standard_normal(shape)
    for _ in range(terms):
        lines = [rng.standard_normal(n) for n in shape]
        term = lines[0]
        for line in lines[1:]:
            term = np.multiply.outer(term, line)
        values += term
    return values.astype(np.float32)


def made(values: np.ndarray, target: Target) -> tuple[Encoded, ArraySpec]:
    return Tucker().encode(Field(values), target, CONTEXT), ArraySpec(values.shape, values.dtype)


def record_of(encoded: Encoded) -> TuckerRecord:
    return wire.unpack(TuckerRecord, encoded.params)


# --------------------------------------------------------------------------------------------------------------- bases


@pytest.mark.parametrize("size", [1, 2, 7, 90])
def test_cosines_are_orthonormal(size: int) -> None:
    np.testing.assert_allclose(cosines(size).T @ cosines(size), np.eye(size), atol=1e-13)


def test_bases_are_orthonormal_and_span_what_their_columns_do() -> None:
    columns = np.random.default_rng(0).standard_normal((30, 8))
    columns[:, 5] = columns[:, 4] + 1e-3 * columns[:, 5]
    basis, own = orthonormal(columns)
    np.testing.assert_allclose(basis.T @ basis, np.eye(8), atol=1e-12)
    triangle = basis.T @ columns
    np.testing.assert_allclose(np.tril(triangle, -1), 0, atol=1e-12)
    assert (np.diagonal(triangle) > 0).all()
    assert own[5] < 1e-2 < np.delete(own, 5).min()


@pytest.mark.parametrize("shape", [(12, 13, 14, 1), (9, 1, 11, 3), (1, 1, 60, 1)], ids=str)
def test_estimated_errors_are_those_of_the_samples(shape: tuple[int, ...]) -> None:
    values = product(shape).astype(np.float64)
    space = Space(values.copy(), LANES)
    before = np.inf
    for step in (0.5, 0.1, 0.02):
        candidate = space.candidate(step)
        rebuilt = candidate.core
        for axis, basis in enumerate(candidate.bases):
            lines = basis if len(basis) == 1 else cosines(len(basis)) @ basis
            rebuilt = np.moveaxis(np.tensordot(lines, rebuilt, (1, axis)), 0, axis)
        error = float(np.sum((rebuilt - values) ** 2))
        assert candidate.error == pytest.approx(error, rel=1e-6)
        assert error < before
        before = error


def test_bases_that_were_rounded_cost_no_more_than_their_space(monkeypatch: pytest.MonkeyPatch) -> None:
    # The core makes up for what rounding does to columns: coarse ones of a square basis lose nothing.
    values = np.random.default_rng(2).standard_normal((8, 8, 8, 1))
    candidate = Space(values.copy(), LANES).candidate(1e-4, ratio=3000.0)
    assert candidate.core.shape == (8, 8, 8, 1)
    assert candidate.error < 1e-7 * np.sum(values**2)


# -------------------------------------------------------------------------------------------------------------- stream


@pytest.mark.parametrize("shape", [(20, 22, 24), (10, 12, 14, 3), (1, 30, 40)], ids=str)
def test_a_stream_is_the_integers_it_was_made_of(shape: tuple[int, ...]) -> None:
    values = product(shape)
    space = Space(values.astype(np.float64).reshape(fit.lengths(shape)), LANES)
    candidate = space.candidate(0.05)
    assert candidate.coded is not None
    found = coded.unpack(coded.pack(candidate.coded, LANES), shape, candidate.core.shape, LANES)
    for got, given in zip((found.core, *found.factors), (candidate.coded.core, *candidate.coded.factors), strict=True):
        assert (got is None) == (given is None)
        if got is not None and given is not None:
            np.testing.assert_array_equal(got.q, given.q)
    for basis, wanted in zip(coded.bases(found, LANES), candidate.bases, strict=True):
        np.testing.assert_array_equal(basis, wanted)


def test_streams_that_cannot_be_are_refused() -> None:
    encoded, spec = made(product(), Psnr(30))
    record, whole = record_of(encoded), full_region(spec.shape)

    def decode(changed: TuckerRecord, sections: tuple[bytes, ...] = tuple(encoded.sections)) -> np.ndarray:
        return Tucker.decode(Encoded(wire.pack(changed), sections), spec, whole, 0, CONTEXT)

    for changed, said in (
        (replace(record, ranks=(1, 2)), "makes no sense"),
        (replace(record, step=0.0), "makes no sense"),
        (replace(record, centre=np.inf), "makes no sense"),
        (replace(record, ranks=(21, 1, 1)), "do not fit"),
        (replace(record, ranks=(0, 1, 1)), "do not fit"),
    ):
        with pytest.raises(FormatError, match=said):
            decode(changed)
    with pytest.raises(FormatError, match="longer than its section"):
        decode(record, (b"\xff\x01" + encoded.sections[0],))
    big = ArraySpec((1000, 1000, 1000), spec.dtype)
    huge = Encoded(wire.pack(replace(record, ranks=(1000, 1000, 1000))), tuple(encoded.sections))
    with pytest.raises(FormatError, match="cannot hold"):
        Tucker.decode(huge, big, tuple(slice(0, 1) for _ in range(3)), 0, CONTEXT)  # type: ignore[arg-type]


def test_columns_that_depend_on_each_other_are_refused() -> None:
    columns = np.zeros((1, 2, 9, 1))
    columns[0, :, 3] = 5
    factor = coded.quantised(columns, 1.0, 0.1, LANES)
    core = coded.quantised(np.ones((2, 1, 1, 1)), 1.0, 0.1, LANES)
    with pytest.raises(FormatError, match="depend on each other"):
        coded.bases(coded.Coded(core, (factor, None, None, None)), LANES)


def test_sums_stay_within_the_margin() -> None:
    values = product(noise=0.2).astype(np.float64)
    encoded, spec = made(values, Psnr(45))
    record = record_of(encoded)
    ranks = record.columns(spec.shape, len(encoded.sections[0]))
    found = coded.unpack(encoded.sections[0], spec.shape, ranks, LANES)
    total = coded.values_of(found.core, record.step, LANES).astype(np.longdouble)
    for axis, factor in enumerate(found.factors):
        if factor is None:
            continue
        rows: list[np.ndarray] = []
        for f in coded.columns_of(factor, LANES).T.astype(np.longdouble):
            g = f - sum(((f @ other) * other for other in rows), np.zeros_like(f))
            g -= sum(((g @ other) * other for other in rows), np.zeros_like(f))
            rows.append(g / np.sqrt(g @ g))
        lines = cosines(len(rows[0])).astype(np.longdouble) @ np.array(rows).T
        total = np.moveaxis(np.tensordot(lines, total, (1, axis)), 0, axis)
    out = Tucker.outputs(encoded, spec, full_region(spec.shape), 1, CONTEXT)
    off = np.abs(np.ldexp(total[..., 0], record.exponent) + record.centre - out).max()
    assert off < 1e-3 * Tucker.margin(encoded)


def test_nothing_but_the_mean() -> None:
    spec = ArraySpec((3, 4, 5, 2), np.dtype(np.int16))
    encoded = Encoded(wire.pack(TuckerRecord(centre=7.4)), (b"",))
    values = Tucker.decode(encoded, spec, (slice(0, 3), slice(1, 4), slice(0, 5)), 1, CONTEXT)
    assert values.shape == (2, 2, 3, 2)
    assert (values == 7).all()


# ------------------------------------------------------------------------------------------------------------- targets


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("psnr", [30, 35, 45])
def test_a_psnr_is_met_closely(psnr: float, dtype: str) -> None:
    values = product(noise=0.3)
    if dtype == "uint8":
        values = (values - values.min()) / np.ptp(values) * 255
    values = values.astype(dtype)
    result = compress(Field(values), Psnr(psnr), Tucker(), CONTEXT)
    assert psnr <= result.reports[0].quality.psnr < psnr + 0.08


def test_masked_samples_do_not_count() -> None:
    values = product((16, 18, 20), noise=0.3)
    mask = np.zeros(values.shape, bool)
    mask[4:9, 3:] = True
    values[mask] = -1e5
    result = compress(Field(values, mask=mask), Psnr(35), Tucker(), CONTEXT)
    (decoded,) = decompress(result.data, context=CONTEXT)
    assert 35 <= metrics.measure(values, decoded.values, mask).psnr < 35.1


@pytest.mark.parametrize("target", [Bytes(300), Bytes(3000), Ratio(40)], ids=str)
def test_a_size_is_used(target: Target) -> None:
    values = product(noise=0.3)
    result = compress(Field(values), target, Tucker(), CONTEXT)
    budget = target.budget(values.nbytes)
    assert budget is not None
    assert 0.97 * budget <= len(result.data) <= budget


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_integers_without_loss_need_a_residual(dtype: str) -> None:
    values = np.rint(20 * product((11, 12, 14), noise=0.3)).clip(-100, 100)
    values = (values + 100).astype(dtype)
    with pytest.raises(TargetError):
        compress(Field(values), MaxError(0), Tucker(), CONTEXT)
    result = compress(Field(values), MaxError(0), Tucker(residual=True), CONTEXT)
    np.testing.assert_array_equal(decompress(result.data, context=CONTEXT)[0].values, values)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_bounds_hold_for_decoders_at_the_margin(dtype: str, residual: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.rint(20 * product((11, 12, 14), noise=0.3)).clip(0, 200).astype(dtype)
    data = compress(Field(values), MaxError(4), Tucker(residual=residual), CONTEXT).data
    outputs = Tucker.outputs
    signs = np.random.default_rng(0).choice((-1.0, 1.0), values.shape)

    def other(encoded: Encoded, spec: ArraySpec, region: Region, step: int, context: Context) -> np.ndarray:
        found = outputs(encoded, spec, region, step, context)
        return (found + Tucker.margin(encoded) * signs).astype(found.dtype)

    monkeypatch.setattr(Tucker, "outputs", other)
    assert metrics.measure(values, decompress(data, context=CONTEXT)[0].values).max_error <= 4


def test_what_it_cannot_take_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = product((3, 4, 5)).astype(np.float64)
    wide[0, 0, :2] = 1.5e308, -1.5e308
    with pytest.raises(TargetError, match="choose the codec wavelet"):
        Tucker().encode(Field(wide), Psnr(30), CONTEXT)
    with pytest.raises(TargetError, match="between machines"):
        Tucker().encode(Field(product()), MaxError(1e-9), CONTEXT)
    with pytest.raises(TargetError, match="cannot be reached"):
        Tucker().encode(Field(product()), Psnr(300), CONTEXT)
    monkeypatch.setattr(fit, "LONGEST", 20)
    with pytest.raises(InputError, match="at most 20 samples"):
        Tucker().encode(Field(product()), Psnr(30), CONTEXT)


@pytest.mark.parametrize("target", [Psnr(40), Bytes(3000)], ids=str)
def test_a_stopped_run_keeps_what_it_has(target: Target) -> None:
    progress = Progress(lambda done, text: progress.cancel() if text.endswith("trial 2") else None)
    with pytest.raises(Cancelled) as caught:
        compress(Field(product(noise=0.3)), target, Tucker(), replace(CONTEXT, progress=progress))
    assert isinstance(caught.value.best, bytes)
    assert decompress(caught.value.best, context=CONTEXT)[0].values.shape == (20, 22, 24)


# ---------------------------------------------------------------------------------------------------------------- auto


def test_auto_takes_it_where_it_wins() -> None:
    field = Field(product((40, 40, 44), terms=2, noise=0.01))
    target = Bytes(700)
    assert Tucker.predicted(700, field) < 700
    result = compress(field, target, Auto(), CONTEXT)
    assert result.reports[0].codec == "tucker"
    (lost,) = result.reports[0].tried
    assert lost.codec == Wavelet.id
    assert lost.psnr < result.reports[0].quality.psnr - 3
    assert codec_by_id(Container(result.data).header.arrays[0].codec) is Tucker


def test_auto_reaches_a_quality_with_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Target] = []
    fitted = Tucker.fit

    def counted(self: Tucker, field: Field, target: Target, context: Context) -> Encoded:
        asked.append(target)
        return fitted(self, field, target, context)

    monkeypatch.setattr(Tucker, "fit", counted)
    monkeypatch.setattr(tucker, "_EVEN_FLOATS", 32.0)
    result = compress(Field(product(terms=2, noise=0.01)), Psnr(30), Auto(), CONTEXT)
    assert asked == [Psnr(30)]
    assert result.reports[0].codec == "tucker"
    assert len(result.data) < result.reports[0].tried[0].nbytes


def test_it_is_not_expected_to_win_at_usual_rates_or_where_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    floats, integers = Field(product()), Field(product().astype(np.uint8))
    samples = floats.values.size
    low, high = int(0.1 * samples / 8), int(0.2 * samples / 8)
    assert Tucker.predicted(low, floats) < low
    assert Tucker.predicted(high, floats) > high
    assert Tucker.predicted(low, integers) > low
    line = Field(np.zeros((1, 2, tucker.LONGEST + 1), np.float32))
    assert Tucker.predicted(1, line) > 1
    monkeypatch.setattr(tucker, "LARGEST", samples - 1)
    assert Tucker.predicted(low, floats) > low
