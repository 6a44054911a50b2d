"""TTHRESH: our streams against the reference's, rule by rule, part by part, and whatever bytes come in."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurcomp_core import metrics
from neurcomp_core.codec import Context
from neurcomp_core.errors import FormatError, InputError, NeurCompError, TargetError
from neurcomp_core.field import Field
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.samples import marschner_lobb
from neurcomp_core.search import search
from neurcomp_core.target import Bytes, L2Error, MaxError, Psnr, Ratio, RelativeError, Rmse, Target
from neurcomp_core.tthresh import bits, blocks, tucker
from neurcomp_core.tthresh import stream as streams
from neurcomp_core.tthresh.file import TthreshFile, compress_file
from neurcomp_core.tthresh.fit import fit
from neurcomp_core.tthresh.stream import Encoder, Header, decimate, read

NATIVE = os.environ.get("NEURCOMP_TTHRESH")
MUTANTS = 2400


def tensor(shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    """Smooth, with a little noise; integers within 0 to 200."""
    axes = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    values = sum(np.sin(a / (3 + i)) for i, a in enumerate(axes)) * np.cos(sum(axes) / 9)
    values = values + 0.01 * np.random.default_rng(0).standard_normal(shape)
    values = (values - values.min()) / max(np.ptp(values), 1e-9)
    return (200 * values).astype(dtype) if np.dtype(dtype).kind in "iu" else values.astype(dtype)


def rmse(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)))


# --------------------------------------------------------------------------------------------------------- rule by rule


def test_bits_fill_words_from_the_most_significant_one() -> None:
    out = bits.Writer()
    for value, count in ((1, 1), (5, 3), (0, 0), (2**64 - 1, 64), (0xABC, 12)):
        out.write(value, count)
    data = out.tobytes()
    assert len(data) == 16
    assert data[7] == 0b1101_1111  # little-endian: the first bits are in the last byte of the word
    source = bits.Reader(data)
    assert [source.read(n) for n in (1, 3, 0, 64, 12)] == [1, 5, 0, 2**64 - 1, 0xABC]
    with pytest.raises(FormatError, match="ends early: 64 bits expected, 48 are left"):
        source.read(64)


@pytest.mark.parametrize(
    "runs",
    [[0], [7], [0] * 1000, [3, 3, 9], list(range(300)), [0, 1 << 40, 5, 1 << 40], [0] * 9999 + [1]],
    ids=lambda runs: f"{len(runs)} of {len(set(runs))}",
)
def test_run_lengths_come_back(runs: list[int]) -> None:
    out = bits.Writer()
    out.write(1, 5)
    bits.write_runs(out, np.array(runs, np.int64))
    source = bits.Reader(out.tobytes())
    source.read(5)
    np.testing.assert_array_equal(bits.read_runs(source, len(runs)), runs)
    assert source.at == out.at


def test_run_lengths_take_about_their_entropy() -> None:
    runs = np.random.default_rng(1).geometric(0.2, 50_000).astype(np.int64) - 1
    out = bits.Writer()
    bits.write_runs(out, runs)
    _, counts = np.unique(runs, return_counts=True)
    entropy = -(counts * np.log2(counts / counts.sum())).sum()
    assert entropy < out.at < 1.01 * entropy + 30 * len(counts) + 300


def test_one_repeated_run_length_takes_no_bits() -> None:
    out = bits.Writer()
    bits.write_runs(out, np.zeros(1 << 20, np.int64))
    # Two counts, a key of 1 bit, a frequency of 21, and the coder's end.
    assert out.at == 64 + (6 + 1) + (6 + 21) + 64 + 32


@pytest.mark.parametrize(("plane", "stop"), [(63, 600), (58, 600), (55, 0), (55, 333), (30, 17), (1, 600), (20, 600)])
def test_blocks_come_back_in_the_middle_of_their_steps(plane: int, stop: int) -> None:
    values = np.random.default_rng(2).standard_normal(600) ** 5
    coefficients = blocks.quantise(values.copy())
    data = blocks.BlockWriter(coefficients, coefficients.scale).write(plane, stop).tobytes()
    (scale,) = struct.unpack("<d", data[:8])
    assert scale == coefficients.scale == 2.0 ** (63 - np.floor(np.log2(np.abs(values).max())))
    sparse = blocks.read_block(bits.Reader(data), 600)
    whole = np.zeros(600)
    whole[sparse.positions] = sparse.values
    step = np.where(np.arange(600) < stop, 2.0**plane, 2.0 ** (plane + 1))
    steps = np.floor(np.abs(values) * scale / step)
    expected = np.sign(values) * (steps + 0.5) * (steps > 0) * step / scale
    # What a double of 64 bits cannot tell apart.
    np.testing.assert_allclose(whole, expected, rtol=1e-15, atol=3 / scale)
    error = np.sum(((whole - values) * scale) ** 2)
    np.testing.assert_allclose(coefficients.error(plane, stop), error, rtol=1e-6, atol=1e4)


def test_a_cut_uses_up_the_error_it_is_given() -> None:
    coefficients = blocks.quantise(np.random.default_rng(3).laplace(size=20_000) ** 3)
    for error in np.geomspace(1e20, 1e40, 21):
        plane, stop, level = coefficients.cut(error)
        assert plane <= level <= plane + 1
        if 0 < stop < 20_000:
            assert coefficients.error(plane, stop) <= error < coefficients.error(plane, stop - 1)


@pytest.mark.parametrize(
    "shape", [(5, 6, 7), (1, 20, 3), (50, 2, 3), (4, 9), (3, 4, 5, 6), (1, 1, 9), (100,), (2, 3, 2, 3, 2), (9, 400)]
)
def test_hosvd_is_orthogonal_sorted_and_exact(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(4).standard_normal(shape)
    core, factors = tucker.hosvd(values.copy())
    for axis, factor in enumerate(factors):
        np.testing.assert_allclose(factor.T @ factor, np.eye(factor.shape[1]), atol=1e-12)
        slices = np.sqrt((np.moveaxis(core, axis, 0).reshape(shape[axis], -1) ** 2).sum(axis=1))
        assert (np.diff(slices) <= 1e-9).all()
    cut = core[tuple(slice(f.shape[1]) for f in factors)]
    again = np.concatenate([part for _, part in tucker.reconstruct(cut, factors)], axis=1)
    np.testing.assert_allclose(again.reshape(shape), values, atol=1e-12)


# ---------------------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("shape", [(20, 30), (9, 10, 11), (1, 17, 16), (6, 7, 8, 3), (4, 5, 6, 7, 2), (40,)], ids=str)
def test_streams_decode_to_what_the_encoder_said(shape: tuple[int, ...], dtype: str) -> None:
    values = tensor(shape, dtype)
    encoder = Encoder(values)
    for error in (0.1, 0.01, 1e-4):
        made = encoder.stream(error * float(np.ptp(values)))
        data = made.tobytes()
        assert len(data) == made.nbytes
        assert data[0] == len(shape)
        assert struct.unpack_from(f"<{len(shape)}I", data, 1) == shape[::-1]
        got = read(data)
        assert got.header == Header(shape, np.dtype(dtype))
        np.testing.assert_array_equal(got.values(), made.decoded().values())
        if len(shape) > 1:
            assert rmse(got.values(dtype=np.dtype(np.float64)), values) < 1.5 * error * float(np.ptp(values))


def test_zeros_and_huge_or_tiny_values() -> None:
    np.testing.assert_array_equal(read(Encoder(np.zeros((3, 4, 5))).stream(0.1).tobytes()).values(), 0)
    for scale in (1e-200, 1e200):
        values = tensor((6, 7, 8), "float64") * scale
        assert rmse(read(Encoder(values).stream(1e-3 * scale).tobytes()).values() / scale, values / scale) < 2e-3
    with pytest.raises(InputError, match=r"magnitude 1e\+300 .* rescale"):
        Encoder(np.full((2, 2, 2), 1e300))


def test_a_vector_field_and_a_series_are_one_tensor() -> None:
    series = tensor((5, 6, 7, 8, 3))
    whole = read(fit(series, Psnr(45), Context()).tobytes())
    assert whole.header.shape == series.shape
    assert metrics.measure(series, whole.values()).psnr >= 45


@pytest.mark.parametrize(
    "target",
    [
        Psnr(30), Psnr(55.5), MaxError(0.02), RelativeError(0.1), Rmse(0.004), L2Error(0.006), L2Error(1.5), Ratio(5),
        Bytes(2000), Ratio(1),
    ],
    ids=str,
)  # fmt: skip
def test_targets_are_met_tightly(target: Target) -> None:
    field = Field(tensor((24, 25, 26)))
    result = compress(field, target, "tthresh")
    quality = result.reports[0].quality
    assert target.met(quality)
    budget = target.budget(field.nbytes)
    if budget:
        assert 0.97 * budget <= len(result.data) <= budget or quality.max_error == 0
    if isinstance(target, Psnr):
        assert quality.psnr <= target.value + 0.05
    if isinstance(target, Rmse):
        assert 0.99 * target.value < quality.rmse <= target.value
    if isinstance(target, L2Error):
        size = np.sqrt(np.mean(field.values.astype(np.float64) ** 2))
        assert quality.rmse <= target.value * size
        assert target.value > 1 or quality.rmse > 0.99 * target.value * size


def test_targets_out_of_reach_say_what_can_be_had() -> None:
    field = Field(tensor((12, 13, 14), "float64"))
    with pytest.raises(TargetError, match=r"cannot be reached with tthresh; a largest error of .*e-\d+ can"):
        compress(field, MaxError(1e-30), "tthresh")
    with pytest.raises(TargetError, match=r"cannot be reached with tthresh; 3\d\d.* dB can"):
        compress(field, Psnr(500), "tthresh")


# ---------------------------------------------------------------------------------------------------------------- parts


def test_parts_are_those_of_the_whole() -> None:
    got = read(Encoder(tensor((20, 21, 22))).stream(1e-3).tobytes())
    whole = got.values(dtype=np.dtype(np.float64))
    for parts in (
        (slice(3, 9), slice(None), slice(4, 5)),
        (slice(None, None, 4), slice(None, None, 3), slice(None, None, -1)),
        (slice(19, 20), slice(0, 1), slice(None)),
    ):
        np.testing.assert_allclose(got.values(parts, np.dtype(np.float64)), whole[parts], atol=1e-12)


def test_decimation_filters_the_whole() -> None:
    got = read(Encoder(tensor((16, 18, 21))).stream(1e-3).tobytes())
    whole = got.values(dtype=np.dtype(np.float64))
    small = decimate(got, 2, "box", np.dtype(np.float64))
    np.testing.assert_allclose(
        small[:, :, :10], whole[:, :, :20].reshape(8, 2, 9, 2, 10, 2).mean((1, 3, 5)), atol=1e-12
    )
    np.testing.assert_allclose(decimate(got, 3, "skip"), got.values()[::3, ::3, ::3], atol=1e-6)
    rows = tucker.lanczos(21, 4)
    assert rows.shape == (6, 21)
    np.testing.assert_allclose(rows.sum(axis=1), 1)
    t = (np.arange(21) - 8) / 4
    weights = np.where(abs(t) < 2, np.sinc(t) * np.sinc(t / 2), 0)
    np.testing.assert_allclose(rows[2], weights / weights.sum())
    expected = np.einsum("zyx,az,by,cx->abc", whole, tucker.lanczos(16, 4), tucker.lanczos(18, 4), rows)
    np.testing.assert_allclose(decimate(got, 4, "lanczos", np.dtype(np.float64)), expected, atol=1e-12)
    with pytest.raises(InputError, match="expected box, lanczos or skip by a factor of 1 or more, got cubic by 2"):
        decimate(got, 2, "cubic")


# ---------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("shape", "fields"),
    [
        ((7, 8), [(1, 7, 8)]), ((6, 7, 8), [(6, 7, 8)]), ((5, 6, 7, 3), [(5, 6, 7, 3)]),
        ((4, 5, 6, 10), [(5, 6, 10)] * 4), ((2, 4, 5, 6, 3), [(4, 5, 6, 3)] * 2),
    ],
    ids=str,
)  # fmt: skip
def test_tensors_open_as_fields(shape: tuple[int, ...], fields: list[tuple[int, ...]], tmp_path: Path) -> None:
    from neurcomp_filters import io

    values = tensor(shape)
    path = tmp_path / "flow.tthresh"
    path.write_bytes(Encoder(values).stream(1e-4).tobytes())
    got = io.read(path)
    assert [f.values.shape for f in got] == fields
    assert [f.time for f in got] == ([None] if len(fields) == 1 else [float(i) for i in range(len(fields))])
    assert {f.name for f in got} == {"flow"}
    joined = np.stack([f.values for f in got]).reshape(shape)
    np.testing.assert_allclose(joined, read(path.read_bytes()).values(), atol=1e-6)
    region = (slice(0, 1), slice(2, 5), slice(1, 6))
    (part,) = decompress(TthreshFile(path), region=region, level=1)[-1:]
    np.testing.assert_allclose(part.values, got[-1].values[:1, 2:5:2, 1:6:2], atol=1e-6)


def test_commands_take_bare_streams(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from neurcomp_cli.main import app
    from neurcomp_filters import io

    def neurcomp(*arguments: object, code: int = 0) -> str:
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        assert result.exit_code == code, result.output
        return result.output

    field = marschner_lobb(24)
    source, small, again = (tmp_path / name for name in ("a.vti", "b.tthresh", "c.vti"))
    io.write([field], source)
    words = neurcomp("compress", source, "--l2-error", 0.01, "-o", small)
    assert "holds the tensor alone: grid, array name and time are not kept" in " ".join(words.split())
    neurcomp("decompress", small, "-o", again)
    (decoded,) = io.read(again)
    size = np.sqrt(np.mean(field.values.astype(np.float64) ** 2))
    assert rmse(decoded.values, field.values) <= 0.01 * size
    neurcomp("decompress", small, "--region", "4:9,:,3", "--level", 1, "-o", tmp_path / "part.vti")
    np.testing.assert_allclose(io.read(tmp_path / "part.vti")[0].values, decoded.values[3:4, ::2, 4:9:2], atol=1e-5)
    assert "24 × 24 × 24" in neurcomp("info", small)
    assert "tthresh" in neurcomp("compress", source, "--ratio", 9, "--codec", "constant", "-o", small, "-f", code=2)
    small.write_bytes(small.read_bytes()[:99])
    assert "TTHRESH" in neurcomp("decompress", small, "-o", again, "-f", code=4)


def test_the_reader_opens_series_in_parts(tmp_path: Path) -> None:
    pytest.importorskip("vtkmodules", reason="pip install vtk to try the reader")
    from vtkmodules.util.numpy_support import vtk_to_numpy

    from neurcomp_filters.reader import NvcReader

    series = tensor((3, 6, 7, 10))
    path = tmp_path / "series.tthresh"
    path.write_bytes(Encoder(series).stream(1e-5).tobytes())
    reader = NvcReader()
    reader.SetFileName(str(path))
    assert reader.GetTimestepValues() == [0, 1, 2]
    reader.UpdateTimeStep(2.0)
    image = reader.GetOutputDataObject(0)
    assert image.GetDimensions() == (10, 7, 6)
    values = vtk_to_numpy(image.GetPointData().GetArray("series")).reshape(6, 7, 10)
    np.testing.assert_allclose(values, series[2], atol=1e-3)


def test_tensors_of_more_axes_are_refused_as_fields() -> None:
    data = Encoder(tensor((2, 2, 2, 2, 2, 2))).stream(0.1).tobytes()
    with pytest.raises(FormatError, match=r"the data: a tensor of shape \(2, .* no series of vector fields"):
        TthreshFile(data)


def test_a_file_of_a_field_is_the_bare_stream() -> None:
    field = marschner_lobb(24)
    result = compress_file(field, Psnr(40))
    assert result.data[:14] == struct.pack("<B3IB", 3, 24, 24, 24, 3)
    assert 40 <= metrics.measure(field.values, read(result.data).values()).psnr <= 40.1
    budget = compress_file(field, Ratio(20))
    assert 0.97 * field.nbytes / 20 <= len(budget.data) <= field.nbytes / 20
    inside = compress(field, Psnr(40), "tthresh")
    assert result.data in inside.data
    values = field.values.copy()
    values[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="NaN or masked samples"):
        compress_file(replace(field, values=values), Psnr(40))


# -------------------------------------------------------------------------------------------------------- the reference


def wasm_encoder() -> Callable[..., bytes]:
    """The reference's encoder, compiled to WebAssembly (its decoder leaves out half steps: 4 to 9 dB worse)."""
    version = importlib.metadata.version

    def hidden(name: str) -> str:
        # numcodecs takes every part of zfpy's version for a number.
        if name == "zfpy":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    importlib.metadata.version = hidden
    try:
        module = pytest.importorskip("numcodecs_wasm_tthresh", reason="pip install numcodecs-wasm-tthresh to compare")
    finally:
        importlib.metadata.version = version

    def encode(values: np.ndarray, **target: Any) -> bytes:
        (mode,) = target
        # It lists NumPy's sizes as they are, slowest first, which in the format is fastest first.
        values = values.reshape(values.shape[::-1])
        return bytes(module.Tthresh(eb_mode=mode, **{f"eb_{mode}": target[mode]}).encode(values))

    return encode


CASES = [((24, 25, 26), "float32"), ((16, 20, 24), "uint8"), ((8, 9, 10, 11), "float32"), ((12, 14, 16), "float64")]


@pytest.mark.parametrize(("shape", "dtype"), CASES, ids=str)
def test_streams_of_the_reference_are_read_and_matched(shape: tuple[int, ...], dtype: str) -> None:
    encode = wasm_encoder()
    values = tensor(shape, dtype)
    encoder = Encoder(values)
    for psnr in (30.0, 40.0, 50.0):
        theirs = encode(values, psnr=psnr)
        decoded = read(theirs).values(dtype=np.dtype(np.float64))
        error = rmse(decoded, values)
        # It aims at 20 log10(range / (2 rmse)) and misses, in small arrays by much, as factors have errors, too.
        assert abs(20 * np.log10(float(np.ptp(values)) / 2 / error) - psnr) < 10

        def attempt(knob: float) -> tuple[float, bytes]:
            made = encoder.stream(knob)
            return rmse(made.decoded().values(dtype=np.dtype(np.float64)), values), made.tobytes()

        ours = search(attempt, error, error, (error / 100, error * 100), slack=0.004).result
        assert len(ours) <= 1.01 * len(theirs) + 128


@pytest.mark.parametrize("target", [{"eps": 0.01}, {"rmse": 0.005}, {"psnr": 95.0}, {"psnr": 140.0}], ids=str)
def test_all_targets_of_the_reference_are_read(target: dict[str, float]) -> None:
    values = tensor((20, 21, 22), "float64")
    decoded = read(wasm_encoder()(values, **target)).values()
    (mode, value), spread = next(iter(target.items())), float(np.ptp(values))
    size = np.sqrt(np.mean(values**2))
    limit = {"eps": value * size, "rmse": value, "psnr": spread / 2 / 10 ** (value / 20)}[mode]
    assert 0.3 * limit < rmse(decoded, values) < 3.3 * limit


@pytest.mark.skipif(not NATIVE, reason="NEURCOMP_TTHRESH names no tthresh program to compare with")
@pytest.mark.parametrize(("shape", "dtype"), [*CASES, ((10, 11, 12), "uint16"), ((10, 11, 12), "int32")], ids=str)
def test_the_native_program_reads_and_writes_the_same(shape: tuple[int, ...], dtype: str, tmp_path: Path) -> None:
    kinds = {"uint8": "uchar", "uint16": "ushort", "int32": "int", "float32": "float", "float64": "double"}
    values = tensor(shape, dtype)
    original, file, out = (str(tmp_path / name) for name in ("raw", "file", "out"))
    values.tofile(original)
    encoder = Encoder(values)

    def native(*arguments: str) -> np.ndarray:
        subprocess.run([str(NATIVE), *arguments], check=True, stdout=subprocess.DEVNULL)
        return np.fromfile(out, dtype).reshape(shape)

    for psnr in ("20", "40", "60"):
        sizes = map(str, shape[::-1])
        theirs = native("-i", original, "-t", kinds[dtype], "-s", *sizes, "-p", psnr, "-c", file, "-o", out)
        # It rounds small integers, as we do, but cuts the decimals of 32-bit ones.
        allowed = 1 if dtype == "int32" else 1e-5
        np.testing.assert_allclose(read(Path(file).read_bytes()).values(), theirs, atol=allowed, rtol=0)
        ours = encoder.stream(float(np.ptp(values)) / 2 / 10 ** (float(psnr) / 20))
        Path(file).write_bytes(ours.tobytes())
        np.testing.assert_allclose(ours.decoded().values(), native("-c", file, "-o", out), atol=allowed, rtol=0)


# ----------------------------------------------------------------------------------------------------- any bytes at all


def corpus() -> list[bytes]:
    return [
        Encoder(tensor(shape, dtype)).stream(error).tobytes()
        for shape, dtype, error in (
            ((6, 7, 8), "float32", 0.1), ((9, 8, 7), "uint8", 0.5),
            ((5, 4, 3, 2), "float64", 1e-7), ((30, 31), "int32", 9),
        )
    ]  # fmt: skip


def mutant(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    kind = rng.randrange(5)
    if kind == 0:
        return data[: rng.randrange(len(data))]
    if kind == 1:
        return data[: rng.randrange(60)] + rng.randbytes(rng.randrange(400))
    if kind == 2:
        at = rng.randrange(len(out) + 1)
        out[at:at] = rng.randbytes(rng.choice((1, 8, 64)))
    for _ in range(rng.choice((1, 1, 2, 8))):
        out[rng.randrange(len(out) if kind == 3 else min(len(out), 80))] ^= 1 << rng.randrange(8)
    return bytes(out)


def attack() -> None:
    """Decode all mutants within little memory; a traceback ends it at the first that gets through."""
    import resource

    files, rng = corpus(), random.Random(5)
    for data in files:
        read(data).values()
    streams.memory_limit = lambda: 64 << 20
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + (192 << 20), resource.RLIM_INFINITY))
    refused = 0
    for number in range(MUTANTS):
        data = mutant(files[number % len(files)], rng)
        try:
            got = read(data)
            if np.prod(got.header.shape, dtype=np.float64) < 1 << 22:
                assert got.values().shape == got.header.shape
        except NeurCompError:
            refused += 1
    print(refused)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux to limit a process's address space")
def test_any_bytes_give_our_errors_or_a_tensor() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", __file__], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    # The format has no checksum: flipped signs and raw bits decode to other numbers.
    assert MUTANTS // 2 < int(done.stdout) < MUTANTS


def test_damage_is_named() -> None:
    data = Encoder(tensor((6, 7, 8))).stream(0.01).tobytes()
    for bad, words in (
        (b"", "0 bytes are too few"),
        (b"\3" + bytes(20), r"not a TTHRESH header: sizes \(0, 0, 0\)"),
        (data[:13] + b"\x09" + data[14:], "type 9"),
        (data[:200], "TTHRESH"),
        (data + bytes(8), "8 bytes follow the end"),
        (struct.pack("<B3IB", 3, 7, 7, 6, 3) + data[14:], "do not add up|ends|contradict|TTHRESH"),
    ):
        with pytest.raises(FormatError, match=words):
            read(bad)


if __name__ == "__main__":
    attack()
