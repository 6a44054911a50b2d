"""Time series: steps predicted from the decoded steps before them, key steps, and access to any step, box and level.

Golden files are made once, by ``python tests/test_series.py``, as those of `test_codecs` are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurcomp_core import container
from neurcomp_core.codec import Context, codec_by_id, registry
from neurcomp_core.codecs.hashgrid import HashGrid
from neurcomp_core.codecs.wavelet import Wavelet
from neurcomp_core.coding import wire
from neurcomp_core.container import ArrayRecord, Container, Header
from neurcomp_core.errors import Cancelled, FormatError, InputError
from neurcomp_core.field import Field
from neurcomp_core.metrics import measure
from neurcomp_core.pipeline import compress, decode_array, decode_blocks, decompress
from neurcomp_core.progress import Progress
from neurcomp_core.series import Series, join
from neurcomp_core.steps import LONGEST, History, Steps
from neurcomp_core.target import Bytes, L2Error, MaxError, Psnr, Ratio, RelativeError, Target
from neurcomp_core.temporal import Predicted, PredictedRecord

GOLDEN = Path(__file__).parent / "golden"
CONTEXT = Context(device="cpu", threads=1)
KEY, PREDICTED = Wavelet.id, Predicted.id


def moving(
    count: int, shape: tuple[int, ...] = (12, 14, 16), dtype: str = "float32", speed: float = 0.1
) -> list[Field]:
    """A pattern with some texture that moves and changes a little from step to step."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape[:3]), indexing="ij")
    rng = np.random.default_rng(0)
    texture = rng.standard_normal(shape[:3])
    steps = []
    for i in range(count):
        t = speed * i
        values = np.sin((x + t) / 3) * np.cos((y - 2 * t) / 4) + z / shape[0] + (0.2 + 0.05 * np.cos(t)) * texture
        if len(shape) == 4:
            values = np.stack([values * (c + 1) + c for c in range(shape[3])], axis=3)
        if np.dtype(dtype).kind in "iu":
            limits = np.iinfo(dtype)
            values = limits.min / 2 + limits.max / 2 + values / 5 * (limits.max / 2 - limits.min / 2)
        steps.append(Field(values.astype(dtype), name="u", time=float(i)))
    return steps


def codecs(data: bytes) -> list[int]:
    return [record.codec for record in Container(data).header.arrays]


def values(fields: Sequence[Field]) -> list[np.ndarray]:
    return [field.values for field in fields]


# ------------------------------------------------------------------------------------------------------------- targets


@pytest.mark.parametrize(
    "target", [Psnr(40), Psnr(70), MaxError(0.01), RelativeError(0.002), L2Error(0.01)], ids=lambda t: str(t)
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_step_keeps_its_target(target: Target, dtype: str) -> None:
    steps = moving(6, dtype=dtype)
    result = compress(steps, target, context=CONTEXT)
    assert codecs(result.data) == [KEY] + 5 * [PREDICTED]
    for step, decoded, report in zip(steps, decompress(result.data), result.reports, strict=True):
        quality = measure(step.values, decoded.values)
        assert quality == report.quality
        assert decoded.time == step.time
        if isinstance(target, L2Error):
            assert quality.rmse <= target.value * np.sqrt(np.mean(step.values.astype(float) ** 2))
        else:
            assert target.met(quality)
    alone = compress(steps, target, context=CONTEXT, history=History(1))
    assert codecs(alone.data) == 6 * [KEY]
    assert len(result.data) < 0.8 * len(alone.data)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32"])
@pytest.mark.parametrize("share", [0, 0.01])
def test_bounds_of_integers_are_kept_and_lossless_steps_exact(dtype: str, share: float) -> None:
    steps = moving(4, dtype=dtype)
    bound = max(share * float(np.ptp(steps[0].values)), 0.5)
    result = compress(steps, MaxError(bound), context=CONTEXT)
    assert PREDICTED in codecs(result.data)
    for step, decoded in zip(steps, decompress(result.data), strict=True):
        error = np.abs(step.values.astype(np.int64) - decoded.values.astype(np.int64)).max()
        assert error <= bound
        assert share or error == 0
    assert len(result.data) < len(compress(steps, MaxError(bound), context=CONTEXT, history=History(1)).data)


def test_the_whole_range_of_integers_is_predicted() -> None:
    rng = np.random.default_rng(3)
    first = rng.integers(-(2**31), 2**31, (6, 7, 8), dtype=np.int64).astype(np.int32)
    second = first.copy()
    second[::2] = np.where(first[::2] > 0, -(2**31), 2**31 - 1)
    steps = [Field(v, time=float(i)) for i, v in enumerate((first, second))]
    data = compress(steps, MaxError(0.5), context=CONTEXT).data
    for step, decoded in zip(steps, decompress(data), strict=True):
        np.testing.assert_array_equal(decoded.values, step.values)


def test_errors_do_not_add_up_along_a_long_series() -> None:
    steps = moving(40, (1, 20, 24))
    result = compress(steps, MaxError(0.02), context=CONTEXT, history=History(0))
    assert codecs(result.data)[1:] == 39 * [PREDICTED]
    for step, decoded in zip(steps, decompress(result.data), strict=True):
        assert measure(step.values, decoded.values).max_error <= 0.02


@pytest.mark.parametrize("target", [Ratio(15), Bytes(6000)], ids=str)
def test_a_size_is_used_and_not_exceeded(target: Target) -> None:
    steps = moving(6)
    budget = target.budget(sum(step.nbytes for step in steps))
    assert budget is not None
    together = compress(steps, target, context=CONTEXT)
    series = Series(target, len(steps))
    for step in steps:
        series.add([step], CONTEXT)
    for data in (together.data, series.data):
        assert PREDICTED in codecs(data)
        assert 0.97 * budget <= len(data) <= budget
    alone = compress(steps, target, context=CONTEXT, history=History(1))
    gain = [a.quality.psnr - b.quality.psnr for a, b in zip(together.reports, alone.reports, strict=True)]
    assert np.mean(gain[1:]) > 3


# --------------------------------------------------------------------------------------------------------- what is what


def test_a_step_that_is_not_like_the_last_one_is_a_key_step() -> None:
    rng = np.random.default_rng(5)
    steps = [Field(rng.standard_normal((12, 14, 16)).astype("f4"), time=float(i)) for i in range(3)]
    assert codecs(compress(steps, Psnr(40), context=CONTEXT).data) == 3 * [KEY]
    cut = [*moving(3), *(replace(s, values=s.values[::-1, ::-1] ** 2, time=3 + s.time) for s in moving(3))]  # type: ignore[operator]
    assert codecs(compress(cut, Psnr(50), context=CONTEXT).data) == [KEY, PREDICTED, PREDICTED] * 2


def test_steps_that_stand_still_take_no_stream() -> None:
    still = moving(1)[0]
    steps = [replace(still, time=float(i)) for i in range(5)]
    data = compress(steps, Psnr(50), context=CONTEXT).data
    records = Container(data).header.arrays
    assert [len(r.sections) for r in records[1:]] == 4 * [0]
    assert len(data) < len(compress(still, Psnr(50), context=CONTEXT).data) + 4 * 50
    first, *others = decompress(data)
    assert all(np.array_equal(first.values, o.values) for o in others)


@pytest.mark.parametrize(("every", "expected"), [(1, "kkkkkkk"), (3, "kppkppk"), (0, "kpppppp"), (100, "kpppppp")])
def test_key_steps_come_as_often_as_asked(every: int, expected: str) -> None:
    data = compress(moving(7), Psnr(45), context=CONTEXT, history=History(every)).data
    assert "".join("p" if c == PREDICTED else "k" for c in codecs(data)) == expected


def test_key_steps_cannot_come_less_than_never() -> None:
    with pytest.raises(InputError, match=r"key steps: expected one every 1, 2, … steps or 0 .* got -1"):
        History(-1)


def test_without_predictions_nothing_changes() -> None:
    steps = moving(3)
    alone = [compress(step, Psnr(40), context=CONTEXT).data for step in steps]
    assert join(alone) == compress(steps, Psnr(40), context=CONTEXT, history=History(1)).data
    # Arrays of different names, and of no time, are no series.
    names = [replace(step, name=name, time=0.0) for step, name in zip(steps, "abc", strict=True)]
    timeless = [replace(step, time=None) for step in steps]
    for fields in (names, timeless):
        assert codecs(compress(fields, Psnr(40), context=CONTEXT).data) == 3 * [KEY]


def test_a_codec_that_was_asked_for_is_what_is_used() -> None:
    data = compress(moving(2), Psnr(20), HashGrid(steps=60, batch=4096), CONTEXT).data
    assert codecs(data) == 2 * [HashGrid.id]


def test_series_of_several_arrays_are_kept_apart() -> None:
    one, other = moving(4), [replace(s, name="v", values=s.values[:, :, ::-1] + 7) for s in moving(4, speed=0.2)]
    vectors = [replace(s, name="u", association="cell", geometry=None) for s in moving(4, (11, 13, 15, 2))]
    fields = [f for group in zip(one, other, vectors, strict=True) for f in group]
    result = compress(fields, Psnr(50), context=CONTEXT)
    assert codecs(result.data) == 3 * [KEY] + 9 * [PREDICTED]
    for field, decoded in zip(fields, decompress(result.data), strict=True):
        assert decoded.name == field.name
        assert measure(field.values, decoded.values).psnr >= 50


def test_64_bit_integers_and_constants_are_never_predicted() -> None:
    steps = moving(3, dtype="int64")
    steps += [Field(np.full((2, 2, 2), 3.5, np.float32), name="c", time=float(i)) for i in range(2)]
    data = compress(steps, Psnr(40), context=CONTEXT).data
    assert PREDICTED not in codecs(data)
    assert np.array_equal(decompress(data)[4].values, steps[4].values)


def test_large_and_tiny_floats_are_predicted_or_not_but_come_back() -> None:
    for scale, dtype in ((1e37, "float32"), (1e-37, "float32"), (1e120, "float64"), (1e-120, "float64")):
        steps = [replace(s, values=(s.values * scale).astype(dtype)) for s in moving(3, dtype="float64")]
        for step, decoded in zip(steps, decompress(compress(steps, Psnr(45), context=CONTEXT).data), strict=True):
            unit = 1 / scale
            assert measure(step.values * unit, decoded.values * unit).psnr >= 45


def test_samples_that_are_not_data_move_and_are_exact() -> None:
    steps = []
    for i, step in enumerate(moving(5)):
        array = step.values.copy()
        array[2 + i : 5 + i, 3:8] = np.nan
        array[0, 0, i] = np.inf
        array[9, 9 + i % 3, 9] = -999
        steps.append(replace(step, values=array, mask=array == -999))
    for target in (Psnr(50), MaxError(0.01)):
        data = compress(steps, target, context=CONTEXT).data
        assert PREDICTED in codecs(data)
        for step, decoded in zip(steps, decompress(data), strict=True):
            special = ~np.isfinite(step.values) | (step.mask if step.mask is not None else False)
            assert decoded.values[special].tobytes() == step.values[special].tobytes()
            np.testing.assert_array_equal(decoded.mask, step.mask)
            assert target.met(measure(step.values, decoded.values, step.mask))


# -------------------------------------------------------------------------------------------------------------- access


def tiled() -> bytes:
    return compress(moving(6, (20, 24, 32)), Psnr(40), Wavelet(brick=16), CONTEXT, History(4)).data


@pytest.fixture(scope="module")
def file() -> Container:
    return Container(tiled())


def test_steps_decode_in_any_order_from_their_key_step(file: Container) -> None:
    assert codecs(bytes(file._view)) == [KEY, *3 * [PREDICTED], KEY, PREDICTED]
    steps, whole = Steps(file), values(decompress(file))
    assert [steps.chain(i) for i in (0, 3, 5)] == [[0], [0, 1, 2, 3], [4, 5]]
    for i in (3, 1, 2, 3, 5, 0, 4, 5, 2, 2):
        np.testing.assert_array_equal(decode_array(file, i, context=CONTEXT, steps=steps).values, whole[i])
        np.testing.assert_array_equal(decode_array(file, i, context=CONTEXT).values, whole[i])


def test_what_is_decoded_belongs_to_the_caller(file: Container) -> None:
    steps = Steps(file)
    first = decode_array(file, 1, steps=steps)
    first.values[...] = 0
    np.testing.assert_array_equal(decode_array(file, 2, steps=steps).values, decode_array(file, 2).values)


@pytest.mark.parametrize(
    "box", [((0, 16), (0, 16), (0, 16)), ((3, 20), (5, 6), (30, 32)), ((17, 20), (0, 24), (9, 10))]
)
def test_a_box_of_a_step_is_a_box_of_the_whole(file: Container, box: Any) -> None:
    region = tuple(slice(*b) for b in box)
    steps = Steps(file)
    for i in (1, 2, 3, 2):
        whole = decode_array(file, i).values
        got = decode_array(file, i, region, 0, CONTEXT, steps)  # type: ignore[arg-type]
        np.testing.assert_array_equal(got.values, whole[region])
        assert got.values.shape == whole[region].shape


def test_a_box_reads_only_its_share_of_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Container(compress(moving(3, (1, 96, 96)), Psnr(40), Wavelet(brick=16), CONTEXT).data)
    read: list[int] = []
    original = Container.section

    def counted(self: Container, index: int, section: int) -> bytes:
        data = original(self, index, section)
        read.append(len(data))
        return data

    monkeypatch.setattr(Container, "section", counted)
    decode_array(file, 2)
    everything = sum(read)
    read.clear()
    decode_array(file, 2, (slice(0, 1), slice(0, 8), slice(0, 8)))
    assert sum(read) < 0.5 * everything


@pytest.mark.parametrize("level", [1, 2])
def test_coarser_levels_are_those_of_the_steps_added_up(file: Container, level: int) -> None:
    for i in (0, 2, 5):
        whole, coarse = decode_array(file, i).values, decode_array(file, i, level=level).values
        samples = whole[(slice(None, None, 2**level),) * 3]
        assert coarse.shape == samples.shape
        # A preview: samples of a smoothed field, closer to the field than its own spread by far.
        assert np.sqrt(np.mean((coarse - samples) ** 2)) < 0.5 * samples.std()


def test_playing_forward_decodes_one_stream_a_step(monkeypatch: pytest.MonkeyPatch, file: Container) -> None:
    calls = 0
    original = Wavelet.decode.__func__  # type: ignore[attr-defined]

    def counted(cls: type, *arguments: Any) -> np.ndarray:
        nonlocal calls
        calls += 1
        return original(cls, *arguments)

    monkeypatch.setattr(Wavelet, "decode", classmethod(counted))
    steps = Steps(file)
    for i in range(len(file)):
        decode_array(file, i, steps=steps)
    assert calls == len(file)
    decompress(file)
    assert calls == 2 * len(file)
    decode_array(file, 3)
    assert calls == 2 * len(file) + 4


def test_boxes_one_after_the_other_are_the_whole(file: Container) -> None:
    whole = decode_array(file, 3).values
    out = np.full_like(whole, np.nan)
    for region, part in decode_blocks(file, 3):
        out[region] = part
    np.testing.assert_array_equal(out, whole)


def test_some_arrays_of_a_series_are_decoded_alone() -> None:
    one, other = moving(3), [replace(s, name="v") for s in moving(3, speed=0.3)]
    data = compress([f for pair in zip(one, other, strict=True) for f in pair], Psnr(45), context=CONTEXT).data
    both = decompress(data)
    chosen = decompress(data, ["v"])
    assert [f.time for f in chosen] == [0.0, 1.0, 2.0]
    for got, expected in zip(chosen, both[1::2], strict=True):
        np.testing.assert_array_equal(got.values, expected.values)


def test_decoded_values_do_not_depend_on_threads(file: Container) -> None:
    for i in (2, 3):
        a, b = (decode_array(file, i, context=Context(device="cpu", threads=n)).values for n in (1, 2))
        assert a.tobytes() == b.tobytes()


# -------------------------------------------------------------------------------------------------------------- series


def test_series_come_step_by_step() -> None:
    steps = moving(5)
    series = Series(Psnr(45), 5, key_every=3)
    for step in steps:
        assert series.add([step], CONTEXT).reports[0].quality.psnr >= 45
    assert series.data == compress(steps, Psnr(45), context=CONTEXT, history=History(3)).data
    again = join([series.data, series.data])
    for got, expected in zip(decompress(again)[5:], decompress(series.data), strict=True):
        np.testing.assert_array_equal(got.values, expected.values)


def test_a_step_from_elsewhere_begins_anew() -> None:
    steps = moving(5)
    series = Series(Psnr(45), 5)
    for step in steps[:2]:
        series.add([step], CONTEXT)
    series.append(compress(steps[2], Psnr(45), context=CONTEXT).data)
    for step in steps[3:]:
        series.add([step], CONTEXT)
    assert codecs(series.data) == [KEY, PREDICTED, KEY, KEY, PREDICTED]
    for step, decoded in zip(steps, decompress(series.data), strict=True):
        assert measure(step.values, decoded.values).psnr >= 45


class _Stops(Progress):
    """Cancels when it has been asked often enough."""

    def __init__(self, after: int) -> None:
        super().__init__(self._count)
        self.left = after

    def _count(self, fraction: float, text: str) -> None:
        self.left -= 1
        if self.left < 0:
            self.cancel()


def test_an_interrupted_series_leaves_a_file_of_its_first_steps() -> None:
    # The small array is done first: files of some arrays of each step must decode, too.
    small = [replace(s, name="s") for s in moving(4, (6, 7, 8))]
    fields = [f for pair in zip(small, moving(4), strict=True) for f in pair]
    total = 0

    def count(fraction: float, text: str) -> None:
        nonlocal total
        total += 1

    compress(fields, MaxError(0.01), context=replace(CONTEXT, progress=Progress(count)))
    kept = []
    for after in (total // 3, 2 * total // 3, total - 2):
        with pytest.raises(Cancelled) as stop:
            compress(fields, MaxError(0.01), context=replace(CONTEXT, progress=_Stops(after)))
        decoded = decompress(stop.value.best)  # type: ignore[arg-type]
        kept.append(len(decoded))
        for field in decoded:
            source = next(f for f in fields if (f.name, f.time) == (field.name, field.time))
            assert measure(source.values, field.values).max_error <= 0.01
    assert kept == sorted(kept)
    assert 0 < kept[0] < kept[-1] < len(fields)
    series = Series(MaxError(0.01), 3)
    series.add([fields[1]], CONTEXT)
    with pytest.raises(Cancelled) as stop:
        series.add([fields[3]], replace(CONTEXT, progress=_Stops(0)))
    assert [f.time for f in decompress(stop.value.best)] == [0.0]  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------------- damaged files


def parts_of(data: bytes) -> tuple[list[ArrayRecord], list[list[bytes]], Header]:
    file = Container(data)
    return list(file.header.arrays), [list(file.sections(i)) for i in range(len(file))], file.header


def file_of(records: Sequence[ArrayRecord], sections: Sequence[Sequence[bytes]], header: Header) -> bytes:
    return container.dumps(replace(header, arrays=tuple(records)), [s for part in sections for s in part])


@pytest.fixture(scope="module")
def small() -> bytes:
    return compress(moving(4, (1, 12, 14)), Psnr(60), context=CONTEXT).data


def test_a_missing_step_is_named(small: bytes) -> None:
    records, sections, header = parts_of(small)
    data = file_of(records[1:], sections[1:], header)
    with pytest.raises(FormatError, match=r"array 'u': predicted: \d steps? before array 1 .* missing"):
        decompress(data)
    with pytest.raises(FormatError, match="missing"):
        list(decode_blocks(Container(data), 1))


@pytest.mark.parametrize("change", [{"name": "w"}, {"dtype": 9}, {"components": 1}])
def test_a_step_of_another_kind_is_no_step_before(small: bytes, change: dict[str, Any]) -> None:
    records, sections, header = parts_of(small)
    records[0] = replace(records[0], **change)
    with pytest.raises(FormatError, match="missing"):
        decompress(file_of(records, sections, header), ["u"])


@pytest.mark.parametrize(
    ("weights", "text"),
    [((), "weights"), ((1, 2, 3), "weights"), ((2000,), "weights"), ((0, -1025), "weights"), ((64, 1), "missing")],
)
def test_weights_are_checked(small: bytes, weights: tuple[int, ...], text: str) -> None:
    records, sections, header = parts_of(small)
    record = wire.unpack(PredictedRecord, records[1].params)
    packed = (
        wire.pack(replace(record, weights=weights))
        if weights
        else b"\x0a\x00" + wire.pack(replace(record, weights=(64,)))
    )
    records[1] = replace(records[1], params=packed)
    with pytest.raises(FormatError, match=text):
        decompress(file_of(records, sections, header))


def test_sections_must_fit_the_parameters(small: bytes) -> None:
    records, sections, header = parts_of(small)
    for params, kept in ((wire.pack(PredictedRecord()), sections[1]), (records[1].params, [])):
        changed = replace(records[1], params=params, sections=tuple(map(len, kept)))
        with pytest.raises(FormatError, match=r"predicted|wavelet"):
            decompress(file_of([records[0], changed], [sections[0], kept], header))


def test_chains_are_bounded(small: bytes) -> None:
    records, sections, header = parts_of(small)
    still = replace(records[1], params=wire.pack(PredictedRecord()), sections=())
    for count in (LONGEST, LONGEST + 1):
        data = file_of([records[0], *count * [still]], [sections[0]], header)
        if count == LONGEST:
            first, *others = decompress(data)
            np.testing.assert_array_equal(others[-1].values, first.values)
        else:
            with pytest.raises(FormatError, match=f"more than {LONGEST} steps"):
                decompress(data)


def test_long_integers_and_networks_are_no_steps_before(small: bytes) -> None:
    records, sections, header = parts_of(small)
    wide = [replace(r, dtype=7) for r in records[:2]]
    with pytest.raises(FormatError, match="int64 have no differences"):
        decompress(file_of(wide, sections[:2], header))
    network = compress(moving(1, (1, 12, 14)), Psnr(20), HashGrid(steps=40, batch=256), CONTEXT).data
    (first,), own, _ = parts_of(network)
    still = replace(records[1], params=wire.pack(PredictedRecord()), sections=())
    with pytest.raises(FormatError, match="missing"):
        decompress(file_of([first, still], [own[0]], header))


def test_the_id_is_its_own() -> None:
    assert Predicted.id == 9
    assert Predicted.id not in {kind.id for kind in registry().values()}
    assert codec_by_id(9) is Predicted


# -------------------------------------------------------------------------------------------------------- command line


def test_several_files_become_one_series(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    from typer.testing import CliRunner

    from neurcomp_cli.main import app
    from neurcomp_filters import io

    steps = moving(4)
    for i, step in enumerate(steps):
        np.save(tmp_path / f"u_0{i}.npy", step.values)
    names = [str(tmp_path / f"u_0{i}.npy") for i in range(4)]
    out = tmp_path / "u.nvc"

    def run(*arguments: Any) -> Any:
        return CliRunner().invoke(app, [str(a) for a in arguments])

    found = run("compress", *names, "-o", out, "--psnr", 45, "--key-every", 3, "--json", "-q")
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)["files"][0]
    assert told["input"] == names
    assert told["file_bytes"] == out.stat().st_size
    assert [a["codec"] for a in told["arrays"]] == ["wavelet", "predicted", "predicted", "wavelet"]
    assert codecs(out.read_bytes()) == [KEY, PREDICTED, PREDICTED, KEY]
    assert [(a["name"], a["time"]) for a in told["arrays"]] == [("u", float(i)) for i in range(4)]
    assert "predicted" in run("info", out).stdout
    single = tmp_path / "one.npy"
    assert run("decompress", out, "--time", 1.2, "-o", single).exit_code == 0
    np.testing.assert_array_equal(np.load(single), decompress(out)[1].values)
    assert run("decompress", out, "--time", 2, "--region", "0:4,:,3", "-o", single, "--force").exit_code == 0
    np.testing.assert_array_equal(np.load(single), decompress(out)[2].values[3:4, :, :4])
    assert run("decompress", out, "-o", tmp_path / "u.pvd").exit_code == 0
    assert [f.time for f in io.read(tmp_path / "u.pvd")] == [0.0, 1.0, 2.0, 3.0]
    # A file of several times is a series as well.
    assert run("compress", tmp_path / "u.pvd", "-o", tmp_path / "v.nvc", "--psnr", 45).exit_code == 0
    assert codecs((tmp_path / "v.nvc").read_bytes()) == [KEY] + 3 * [PREDICTED]
    assert run("compress", tmp_path / "u.pvd", "-o", tmp_path / "w.nvc", "--psnr", 45, "--key-every", 1).exit_code == 0
    assert codecs((tmp_path / "w.nvc").read_bytes()) == 4 * [KEY]


def test_steps_of_the_same_time_are_refused(tmp_path: Path) -> None:
    from neurcomp_cli.series import compress_files

    paths = [tmp_path / "a", tmp_path / "b"]
    with pytest.raises(InputError, match=r"a' and '.*b' are both of the time 0"):
        compress_files(paths, lambda _: moving(1), Psnr(30), Wavelet(), 8, CONTEXT)


# ------------------------------------------------------------------------------------------------------------ ParaView


def test_the_reader_goes_to_any_step(tmp_path: Path, file: Container) -> None:
    pytest.importorskip("vtkmodules.vtkCommonDataModel", reason="needs the extra vtk")
    from vtkmodules.util.numpy_support import vtk_to_numpy

    from neurcomp_filters.reader import NvcReader

    out = tmp_path / "a.nvc"
    out.write_bytes(bytes(file._view))
    reader = NvcReader()
    reader.SetFileName(str(out))
    times = reader.GetTimestepValues()
    assert times == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    for time in (3.0, 0.0, 1.0, 2.0, 5.0, 4.0):
        reader.UpdateTimeStep(time)
        image = reader.GetOutputDataObject(0)
        got = vtk_to_numpy(image.GetPointData().GetArray("u"))
        np.testing.assert_array_equal(got, decode_array(file, int(time)).values.ravel())


def test_the_writer_predicts_steps_and_keeps_some(tmp_path: Path) -> None:
    pytest.importorskip("vtkmodules.vtkCommonDataModel", reason="needs the extra vtk")
    from neurcomp_filters.reader import NvcReader
    from neurcomp_filters.writer import NvcWriter

    (tmp_path / "all.nvc").write_bytes(compress(moving(5), Psnr(70), context=CONTEXT).data)
    reader = NvcReader()
    reader.SetFileName(str(tmp_path / "all.nvc"))
    out = tmp_path / "again.nvc"
    for every, expected in ((3, "kppkp"), (1, "kkkkk"), (0, "kpppp")):
        writer = NvcWriter()
        writer.SetInputConnection(reader.GetOutputPort())
        writer.SetFileName(str(out))
        writer.SetTarget(Psnr(45))
        writer.SetWriteAllTimeSteps(True)
        writer.SetKeyStepEvery(every)
        assert writer.Write() == 1
        assert "".join("p" if c == PREDICTED else "k" for c in codecs(out.read_bytes())) == expected
        for field, step in zip(decompress(out), decompress(tmp_path / "all.nvc"), strict=True):
            assert field.time == step.time
            assert measure(step.values, field.values).psnr >= 45
    writer.SetKeyStepEvery(-1)
    assert writer.Write() == 0
    assert "key steps" in writer.GetErrorText()


# -------------------------------------------------------------------------------------------------------------- golden


def golden_series() -> dict[str, tuple[list[Field], Target, History]]:
    holes = []
    for i, step in enumerate(moving(5, (7, 9, 10), speed=0.3)):
        array = step.values.copy()
        array[2, i : i + 3] = np.nan
        holes.append(replace(step, values=array))
    vectors = [replace(s, name="v") for s in moving(3, (1, 12, 14, 2), "float64")]
    still = [replace(moving(1, (1, 9, 10))[0], name="w", time=t) for t in (0.5, 1.5)]
    return {
        "predicted": ([*holes, *vectors, *still], Psnr(55), History(4)),
        "predicted-integers": (moving(4, (6, 9, 10), "uint8"), Psnr(35), History()),
        "predicted-lossless": (moving(4, (5, 9, 10), "int16", 0.02), MaxError(0.5), History()),
    }


@pytest.mark.parametrize("name", golden_series())
def test_golden_files_decode_to_their_values(name: str) -> None:
    decoded = decompress(GOLDEN / f"{name}.nvc", context=CONTEXT)
    fields, target, _ = golden_series()[name]
    assert PREDICTED in codecs((GOLDEN / f"{name}.nvc").read_bytes())
    with np.load(GOLDEN / f"{name}.npz") as stored:
        for i, (got, given) in enumerate(zip(decoded, fields, strict=True)):
            assert (got.name, got.time, got.values.dtype) == (given.name, given.time, given.values.dtype)
            assert target.met(measure(given.values, got.values))
            expected = stored[f"{i:02d}"]
            error = np.abs(got.values.astype(np.float64) - expected.astype(np.float64))
            spread = float(np.nanmax(expected)) - float(np.nanmin(expected))
            exact = name == "predicted-lossless"
            assert np.nanmax(error) <= (0 if exact else 2.0**-18 * spread if got.values.dtype.kind == "f" else 1)


def make_golden() -> Iterator[Path]:
    for name, (fields, target, history) in golden_series().items():
        path = GOLDEN / f"{name}.nvc"
        if not path.exists():
            path.write_bytes(compress(fields, target, "wavelet", CONTEXT, history).data)
            stored = {f"{i:02d}": f.values for i, f in enumerate(decompress(path, context=CONTEXT))}
            np.savez_compressed(path.with_suffix(".npz"), **stored)  # type: ignore[arg-type]
            yield path


if __name__ == "__main__":
    print(*make_golden(), sep="\n")
