"""Meta-learned starts: the outer loop, their files, networks that start there, streams of differences to them."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from typer.testing import CliRunner

from neurcomp_cli.main import app
from neurcomp_core.codec import Context, Encoded
from neurcomp_core.codecs.hashgrid import MARGIN, HashGrid, HashGridRecord
from neurcomp_core.coding import wire
from neurcomp_core.container import Container
from neurcomp_core.errors import Cancelled, FormatError, InputError, NeurCompError
from neurcomp_core.field import Field, full_region
from neurcomp_core.fit.hashgrid import shape_for, started
from neurcomp_core.fit.reptile import Plan, meta_train, outer_step
from neurcomp_core.init_file import Init, InitRecord
from neurcomp_core.nets.grid import GridLayout
from neurcomp_core.nets.resize import resized
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.progress import Progress
from neurcomp_core.series import Series
from neurcomp_core.target import Bytes, Psnr

#: A start, a file of differences to it, and what that decodes to.
GOLDEN = Path(__file__).parent / "golden" / "differences"
CONTEXT = Context(device="cpu", threads=1)
QUICK = HashGrid(steps=40, batch=2048)
BUDGET = 900


def wave(phase: float, shape: tuple[int, int, int] = (14, 15, 16)) -> Field:
    """A member of a family: the same waves in other places."""
    z, y, x = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
    values = np.sin(6 * x + phase) * np.cos(5 * y - phase / 2) + np.sin(7 * z + 3 * x * y + phase)
    return Field(values.astype(np.float32), name="w")


FAMILY = [wave(p) for p in (0.0, 0.25, 0.5, 0.75)]
UNSEEN = wave(0.4)


@pytest.fixture(scope="module")
def init() -> Init:
    return meta_train(FAMILY, BUDGET, QUICK, Plan(rounds=24, inner=25, tasks=1), CONTEXT, "waves")


def test_an_outer_step_goes_a_share_of_the_way_to_the_mean() -> None:
    theta = [np.zeros((2, 2), np.float32), np.ones(3, np.float32)]
    found = [[np.full((2, 2), 2, np.float32), np.ones(3, np.float32)],
             [np.full((2, 2), 4, np.float32), np.full(3, 5, np.float32)]]  # fmt: skip
    table, weights = outer_step(theta, found, 0.25)
    np.testing.assert_array_equal(table, np.full((2, 2), 0.75))
    np.testing.assert_array_equal(weights, np.full(3, 1.5))
    assert table.dtype == np.float32


def test_a_start_is_the_same_for_the_same_seed_and_serial_differs_from_batched() -> None:
    made = [
        meta_train(FAMILY[:2], BUDGET, QUICK, Plan(2, 3, 0.5, tasks), replace(CONTEXT, seed=seed)).data
        for tasks, seed in ((1, 0), (1, 0), (2, 0), (1, 1))
    ]
    assert made[0] == made[1]
    assert len(set(made)) == 3


def psnr_of(context: Context, steps: int, **settings: object) -> float:
    codec = replace(QUICK, steps=steps, **settings)
    return compress(UNSEEN, Bytes(BUDGET), codec, context).reports[0].quality.psnr


def test_an_unseen_member_trains_faster_from_the_start(init: Init) -> None:
    at_random = psnr_of(CONTEXT, 40)
    begun = replace(CONTEXT, init=init)
    assert psnr_of(begun, 40) > at_random + 1
    # Half of the steps and differences: still better.
    assert psnr_of(begun, 20, delta_init=True) > at_random + 1


def test_files_need_the_start_only_for_differences(init: Init) -> None:
    begun = replace(CONTEXT, init=init)
    plain = compress(UNSEEN, Bytes(BUDGET), QUICK, begun).data
    assert decompress(plain, context=CONTEXT)[0].values.std() > 0.3
    result = compress(UNSEEN, Bytes(BUDGET), replace(QUICK, delta_init=True), begun)
    decoded = decompress(result.data, context=begun)[0].values
    error = float(np.sqrt(np.mean((decoded - UNSEEN.values) ** 2)))
    low, high = UNSEEN.limits
    assert 20 * np.log10((high - low) / error) == pytest.approx(result.reports[0].quality.psnr, abs=1e-3)
    other = Init.made(replace(init.record, name="other"), init.parameters)
    for context, got in ((CONTEXT, "none was given"), (replace(CONTEXT, init=other), "got 'other'")):
        with pytest.raises(InputError, match=rf"differences to the start 'waves' .*{got}.*--init"):
            decompress(result.data, context=context)


def test_differences_reach_a_quality_too_and_take_a_residual(init: Init) -> None:
    begun = replace(CONTEXT, init=init)
    for residual in (False, True):
        codec = replace(QUICK, delta_init=True, residual=residual)
        result = compress(UNSEEN, Psnr(28), codec, begun)
        assert result.reports[0].quality.psnr >= 28
        decoded = decompress(result.data, context=begun)[0].values
        assert np.isfinite(decoded).all()


def test_readers_that_know_no_differences_refuse_them(init: Init) -> None:
    data = compress(UNSEEN, Bytes(BUDGET), replace(QUICK, delta_init=True), replace(CONTEXT, init=init)).data
    file = Container(data)
    record = wire.unpack(HashGridRecord, file.header.arrays[0].params)
    assert record.start == init.reference == hashlib.sha256(init.data).digest()[:8] + b"waves"
    # Such a reader skips the field it does not know, and finds a code too many.
    for other in (replace(record, start=b""), replace(record, codes=record.codes[:-1])):
        damaged = Encoded(wire.pack(other), file.sections(0))
        with pytest.raises(FormatError, match="quantiser steps"):
            HashGrid.decode(damaged, file.spec(0), full_region(UNSEEN.values.shape), 0, replace(CONTEXT, init=init))


def test_steps_of_a_series_start_at_the_step_before_where_that_is_better() -> None:
    steps = [replace(wave(p), time=t) for t, p in enumerate((0.0, 0.02))]
    unlike = replace(steps[1], values=np.random.default_rng(0).normal(size=UNSEEN.values.shape).astype(np.float32))
    quick = replace(QUICK, steps=100)
    for second, better in ((steps[1], True), (unlike, False)):
        alone = compress(second, Bytes(BUDGET), quick, CONTEXT)
        series = Series(Bytes(2 * BUDGET), 2, quick)
        series.add([steps[0]], CONTEXT)
        joined = series.add([second], CONTEXT)
        gain = joined.reports[0].quality.psnr - alone.reports[0].quality.psnr
        assert gain > 1 if better else gain > -0.5
        # Decoding needs no step before.
        np.testing.assert_array_equal(decompress(series.data)[1].values, decompress(joined.data)[0].values)


def test_a_start_that_does_harm_is_not_taken(init: Init) -> None:
    dead = Init.made(replace(init.record, name="dead"), [np.full_like(p, -1) for p in init.parameters])
    assert psnr_of(replace(CONTEXT, init=dead), 60) > psnr_of(CONTEXT, 60) - 1


# ------------------------------------------------------------------------------------------------------- other sizes


@pytest.mark.parametrize("budget", [300, 4000])
def test_a_start_serves_other_sizes(init: Init, budget: int) -> None:
    settings, growth = started(UNSEEN, QUICK, replace(CONTEXT, init=init))
    record = shape_for(UNSEEN, budget, settings, growth=growth)
    assert (record.growth, record.base, record.width) == (init.record.growth, init.record.base, init.record.width)
    assert record.log2_table != init.record.log2_table
    for delta in (False, True):
        codec = replace(QUICK, steps=20, delta_init=delta)
        result = compress(UNSEEN, Bytes(budget), codec, replace(CONTEXT, init=init))
        assert 0.95 * budget <= len(result.data) <= budget


def test_longer_tables_and_dense_ones_keep_the_function() -> None:
    rng = np.random.default_rng(0)
    small = GridLayout(3, 4, 2, 7, 4, 1.5)
    for log2_table in (8, 9, 12):
        large = replace(small, log2_table=log2_table)
        for level in range(4):
            values = rng.normal(size=(int(small.sizes[level]), 2)).astype(np.float32)
            there = resized(values, small, large, level)
            assert there.shape == (int(large.sizes[level]), 2)
            # And back: the entries that shared a place are equal, so their mean is each of them.
            r = int(small.resolutions[level])
            vertices = np.stack(np.meshgrid(*[np.arange(r)] * 3, indexing="ij"), -1).reshape(-1, 3)
            np.testing.assert_array_equal(
                entries(values, small, level, vertices), entries(there, large, level, vertices)
            )


def entries(values: np.ndarray, layout: GridLayout, level: int, vertices: np.ndarray) -> np.ndarray:
    """FORMAT.md, "Grid"."""
    z, y, x = vertices.T
    r = int(layout.resolutions[level])
    if layout.dense[level]:
        return values[x + r * (y + r * z)]
    return values[[(a ^ b * 2654435761 ^ c * 805459861) % 2**layout.log2_table for a, b, c in zip(*map(
        np.ndarray.tolist, (x, y, z)), strict=True)]]  # fmt: skip


def test_shorter_tables_hold_means() -> None:
    values = np.arange(32, dtype=np.float32).reshape(16, 2)
    old, new = GridLayout(3, 3, 2, 4, 4, 2.0), GridLayout(3, 3, 2, 3, 4, 2.0)
    np.testing.assert_array_equal(resized(values, old, new, 2), (values[:8] + values[8:]) / 2)


def test_fields_of_another_kind_are_refused(init: Init) -> None:
    begun = replace(CONTEXT, init=init)
    vectors = Field(np.stack([UNSEEN.values] * 2, axis=-1), name="v")
    with pytest.raises(InputError, match=r"'v'.*components 1 .not 2"):
        compress(vectors, Bytes(BUDGET), QUICK, begun)
    with pytest.raises(InputError, match="width: the start 'waves' has 8, got 20"):
        compress(UNSEEN, Bytes(BUDGET), replace(QUICK, width=20), begun)
    with pytest.raises(InputError, match="--init"):
        compress(UNSEEN, Bytes(BUDGET), replace(QUICK, delta_init=True), CONTEXT)
    with pytest.raises(InputError, match="agree"):
        meta_train([UNSEEN, vectors], BUDGET, QUICK, Plan(1, 1), CONTEXT)
    with pytest.raises(InputError, match="constant"):
        meta_train([Field(np.ones((4, 4, 4), np.float32))], BUDGET, QUICK, Plan(1, 1), CONTEXT)
    with pytest.raises(InputError, match="outer rate"):
        Plan(outer_rate=0)


# ------------------------------------------------------------------------------------------------------------- files


def test_a_file_comes_back_to_the_bit(init: Init, tmp_path: Path) -> None:
    init.write(tmp_path / "waves.nvi")
    again = Init.read(tmp_path / "waves.nvi")
    assert (again.record, again.reference) == (init.record, init.reference)
    for a, b in zip(again.parameters, init.parameters, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b)


def sealed(body: bytes) -> bytes:
    return body + zlib.crc32(body).to_bytes(4, "little")


def test_damage_is_found(init: Init) -> None:
    data = init.data
    for at in (0, 4, 6, 20, len(data) // 2, len(data) - 1):
        broken = bytearray(data)
        broken[at] ^= 1
        with pytest.raises(FormatError):
            Init.from_bytes(bytes(broken))
    for cut in (0, 4, 9, len(data) - 1):
        with pytest.raises(FormatError):
            Init.from_bytes(data[:cut])
    huge = wire.pack(InitRecord(28, 32, 16, 1 << 16, 1.01))
    for head in (huge, wire.pack(replace(init.record, hidden=0)), wire.pack(replace(init.record, levels=5000))):
        body = data[:4] + b"\1" + wire.write_varint(len(head)) + head + bytes(40)
        with pytest.raises(FormatError):
            Init.from_bytes(sealed(body))
    with pytest.raises(FormatError, match="no numbers"):
        Init.from_bytes(sealed(data[:-6] + b"\0\x7e"))


def test_damaged_streams_of_differences_fail_cleanly(init: Init) -> None:
    begun = replace(CONTEXT, init=init)
    file = Container(compress(UNSEEN, Bytes(BUDGET), replace(QUICK, steps=10, delta_init=True), begun).data)
    params, rng = file.header.arrays[0].params, np.random.default_rng(0)
    for at in range(len(params)):
        broken = bytearray(params)
        broken[at] ^= 1 << int(rng.integers(8))
        encoded = Encoded(bytes(broken), file.sections(0))
        # Of what is still a stream some samples may differ; nothing but our own errors may be raised.
        with contextlib.suppress(NeurCompError):
            found = HashGrid.decode(encoded, file.spec(0), full_region(UNSEEN.values.shape), 0, begun)
            assert found.shape == UNSEEN.values.shape


def test_a_stop_hands_over_the_start_so_far() -> None:
    progress = Progress(lambda done, text: progress.cancel() if done > 0.4 else None)
    with pytest.raises(Cancelled) as stop:
        meta_train(FAMILY[:2], BUDGET, QUICK, Plan(4, 2), replace(CONTEXT, progress=progress))
    assert isinstance(stop.value.best, Init)


def plain_start(data: bytes, layout: GridLayout) -> list[np.ndarray]:
    """FORMAT.md, "Starts", in plain Python: parameters of a network of another layout, out of a file's bytes."""
    length, at = wire.read_varint(memoryview(data), 5)
    head = wire.unpack(InitRecord, data[at : at + length])
    weights = np.array(struct.unpack(f"<{(len(data) - 4 - at - length) // 2}e", data[at + length : -4]), np.float32)
    old, first = head.layout, 0
    tables = []
    for level in range(layout.levels):
        n = int(layout.sizes[level])
        table = [[np.float32(0)] * layout.features for _ in range(n)]
        if level < old.levels:
            m, r = int(old.sizes[level]), int(old.resolutions[level])
            entries = weights[first : first + m * old.features].reshape(m, old.features)
            first += m * old.features
            # z, y, x: x fastest.
            hashes = [x ^ y * 2654435761 ^ z * 805459861 for z, y, x in itertools.product(*[range(r)] * layout.dims)]
            shared: dict[int, list[int]] = {}
            if old.dense[level] and layout.dense[level]:
                shared = {i: [i] for i in range(n)}
            elif layout.dense[level]:
                shared = {i: [h % m] for i, h in enumerate(hashes)}
            elif old.dense[level]:
                for i, h in enumerate(hashes):
                    shared.setdefault(h % n, []).append(i)
            elif n >= m:
                shared = {i: [i % m] for i in range(n)}
            else:
                shared = {i: list(range(i, m, n)) for i in range(n)}
            for i, places in shared.items():
                for f in range(layout.features):
                    total = 0.0
                    for j in places:
                        total += float(entries[j, f])
                    table[i][f] = np.float32(total / len(places))
        tables += table
    shapes = head.shapes
    rest = weights[old.entries * old.features :]
    matrices = []
    for shape in shapes[1:]:
        size = int(np.prod(shape))
        matrices.append(rest[:size].reshape(shape))
        rest = rest[size:]
    columns = np.zeros((head.width, layout.width), np.float32)
    both = min(layout.width, matrices[0].shape[1])
    columns[:, :both] = matrices[0][:, :both]
    return [np.array(tables, np.float32), columns, *matrices[1:]]


@pytest.mark.parametrize(("log2_table", "levels"), [(5, 3), (7, 6), (8, 4), (9, 4), (10, 4)])
def test_the_definition_gives_the_same_start(log2_table: int, levels: int) -> None:
    record = InitRecord(8, 4, 2, 4, 1.5, 5, 2, 3, 1, "s")
    rng = np.random.default_rng(1)
    init = Init.made(record, [rng.normal(size=s).astype(np.float32) for s in record.shapes])
    layout = replace(record.layout, log2_table=log2_table, levels=levels)
    for got, expected in zip(init.parameters_for(layout), plain_start(init.data, layout), strict=True):
        assert got.tobytes() == expected.tobytes()


def test_golden_differences_decode_to_their_values() -> None:
    init = Init.read(GOLDEN / "waves.nvi")
    values = np.load(GOLDEN / "hashgrid.npz")["values"]
    (decoded,) = decompress(GOLDEN / "hashgrid.nvc", context=replace(CONTEXT, init=init))
    assert decoded.values.dtype == values.dtype
    assert np.abs(decoded.values - values).max() <= MARGIN * np.ptp(values)


def make_golden() -> None:
    """Write the golden start and a file of differences to it, at another size, unless they exist."""
    GOLDEN.mkdir(parents=True, exist_ok=True)
    if not (GOLDEN / "waves.nvi").exists():
        small = [wave(p, (9, 10, 11)) for p in (0.0, 0.5)]
        made = meta_train(small, 500, QUICK, Plan(rounds=8, inner=10), CONTEXT, "waves")
        made.write(GOLDEN / "waves.nvi")
        begun = replace(CONTEXT, init=Init.read(GOLDEN / "waves.nvi"))
        unseen = wave(0.3, (9, 10, 11))
        data = compress(unseen, Bytes(350), replace(QUICK, delta_init=True), begun).data
        (GOLDEN / "hashgrid.nvc").write_bytes(data)
        np.savez_compressed(GOLDEN / "hashgrid.npz", values=decompress(data, context=begun)[0].values)


# ------------------------------------------------------------------------------------------------------ command line


def test_the_commands(tmp_path: Path) -> None:
    for name, field in zip("abc", [*FAMILY[:2], UNSEEN], strict=True):
        np.save(tmp_path / f"{name}.npy", field.values)

    def said(*arguments: object, code: int = 0) -> str:
        done = CliRunner().invoke(app, [str(a) for a in arguments])
        assert done.exit_code == code, done.output
        return done.output

    start, out = tmp_path / "w.nvi", tmp_path / "c.nvc"
    quick = ("--set", "batch=1024", "--threads", 1)
    trains = ("--bytes", BUDGET, "--rounds", 2, "--inner", 3, *quick)
    said("meta-train", tmp_path / "a.npy", tmp_path / "b.npy", "-o", start, *trains)
    assert Init.read(start).record.name == "w"
    assert "expected a name that ends in .nvi" in said("meta-train", tmp_path / "a.npy", "-o", out, code=2)
    codes = ("compress", tmp_path / "c.npy", "-o", out, "--bytes", BUDGET, "--force")
    trained = ("--codec", "hashgrid", "--set", "steps=20", *quick)
    assert "expected --codec hashgrid" in said(*codes, "--codec", "wavelet", "--init", start, code=2)
    assert "give a start" in said(*codes, *trained, "--delta-init", code=2).lower()
    said(*codes, *trained, "--init", start)
    said("decompress", out, "-o", tmp_path / "d.npy", "--threads", 1)
    said(*codes, *trained, "--init", start, "--delta-init")
    assert "differences to the start" in said("info", out)
    assert "give that file with --init" in said("decompress", out, "-o", tmp_path / "e.npy", code=2)
    said("decompress", out, "-o", tmp_path / "e.npy", "--init", start, "--threads", 1)
    assert np.load(tmp_path / "e.npy").shape == UNSEEN.values.shape


if __name__ == "__main__":
    make_golden()
