"""The codec auto: what it takes, what it tries, and that the file says so."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurcomp_core import codec as contracts
from neurcomp_core import metrics
from neurcomp_core.auto import Auto
from neurcomp_core.codec import Context, Encoded, Tried, codec_by_name, pack_tried, registry, tried_cost, unpack_tried
from neurcomp_core.codecs import hashgrid
from neurcomp_core.codecs.hashgrid import HashGrid
from neurcomp_core.codecs.wavelet import Wavelet
from neurcomp_core.container import Container
from neurcomp_core.errors import Cancelled, InputError, MissingExtraError, TargetError
from neurcomp_core.field import Field
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.progress import Progress
from neurcomp_core.residual import NetworkCodec
from neurcomp_core.samples import marschner_lobb
from neurcomp_core.target import Bytes, MaxError, Psnr, Ratio, RelativeError, Target

CONTEXT = Context(device="cpu", threads=1)
THOROUGH = Auto.from_preset("small", steps=40)
#: What needs no training.
AT_ONCE = ("tucker", "wavelet")
TARGETS = [Psnr(40), Bytes(900), RelativeError(0.01)]


def field() -> Field:
    """A signal with a little noise, so that sizes have no jumps."""
    signal = marschner_lobb(16)
    noise = np.random.default_rng(1).standard_normal(signal.values.shape).astype(np.float32)
    return replace(signal, values=signal.values + np.float32(0.005) * noise)


def record(data: bytes) -> tuple[str, list[Tried]]:
    """Codec that a file names, and what it says was tried."""
    array = Container(data).header.arrays[0]
    return contracts.codec_by_id(array.codec).name, unpack_tried(array.tried)


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_the_wavelet_at_once(target: Target) -> None:
    default = compress(field(), target, context=CONTEXT)
    assert default.data == compress(field(), target, "wavelet", CONTEXT).data
    assert default.data == compress(field(), target, Auto.from_preset("fast"), CONTEXT).data
    assert record(default.data) == ("wavelet", [])
    assert default.reports[0].tried == ()


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_the_smallest_of_all_that_were_tried(target: Target) -> None:
    result = compress(field(), target, THOROUGH, CONTEXT)
    (report,) = result.reports
    decoded = decompress(result.data, context=CONTEXT)[0].values
    assert metrics.measure(field().values, decoded) == report.quality
    assert target.met(report.quality)
    budget = target.budget(field().nbytes)
    assert budget is None or 0.97 * budget <= len(result.data) <= budget
    name, tried = record(result.data)
    assert name == report.codec
    kinds = {(t.codec, t.residual) for t in tried}
    known = [kind for kind in registry().values() if issubclass(kind, NetworkCodec) and kind.competes]
    networks = {(kind.id, r) for kind in known for r in (False, True)}
    assert len(kinds) == len(networks)
    assert kinds < {(Wavelet.id, False)} | networks
    for t in tried:
        around = 100  # bytes of the header
        assert t.psnr <= report.quality.psnr if budget else t.nbytes > len(result.data) - around or not t.met


def test_a_network_that_wins_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    able = Wavelet.encode

    def poor(self: Wavelet, f: Field, target: Target, context: Context) -> Encoded:
        """Codes noise: all of its bytes, or far too well."""
        size = isinstance(target, Bytes)
        noise = np.random.default_rng(0).standard_normal(f.values.shape).astype(np.float32)
        noisy = replace(f, values=f.values + noise * np.float32(1 if size else 1e-3))
        return able(self, noisy, target if size else Psnr(90), context)

    monkeypatch.setattr(Wavelet, "encode", poor)
    monkeypatch.setattr(HashGrid, "predicted", classmethod(lambda cls, nbytes, f: nbytes / 2))
    ramp = Field(np.linspace(0, 1, 4096, dtype=np.float32).reshape(16, 16, 16) ** 2)
    result = compress(ramp, Bytes(400), Auto(steps=150), CONTEXT)
    assert record(result.data)[0] == result.reports[0].codec == "hashgrid"
    (lost,) = record(result.data)[1]
    assert lost.codec == Wavelet.id
    assert lost.psnr < result.reports[0].quality.psnr
    result = compress(ramp, Psnr(20), Auto(steps=150), CONTEXT)
    assert result.reports[0].codec == "hashgrid"
    assert result.reports[0].quality.psnr >= 20


def test_networks_are_tried_where_their_predicted_size_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Target] = []

    def fit(self: HashGrid, f: Field, target: Target, context: Context) -> Encoded:
        asked.append(target)
        raise TargetError("not today")

    monkeypatch.setattr(HashGrid, "fit", fit)
    monkeypatch.setattr(hashgrid, "_EVEN", 4.0)
    values = field().values
    materials = Field((100 * values).astype(np.uint8))
    for target in (Bytes(600), Psnr(30), MaxError(2)):
        compress(materials, target, context=CONTEXT)
    # No network is as good at the largest error as at the mean.
    assert len(asked) == 2
    assert all(isinstance(t, Bytes) for t in asked)
    compress(Field(values), Bytes(600), context=CONTEXT)
    assert len(asked) == 2


def test_what_cannot_be_tried_is_said_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(self: HashGrid, f: Field, target: Target, context: Context) -> Encoded:
        raise MissingExtraError("fitting a network needs the Python package 'torch'")

    monkeypatch.setattr(HashGrid, "fit", fit)
    result = compress(field(), Psnr(40), THOROUGH, CONTEXT)
    assert record(result.data)[0] in AT_ONCE
    assert any("needs the Python package 'torch'" in str(t) for t in result.reports[0].tried)
    assert "hashgrid: no result" in map(str, record(result.data)[1])


def test_a_time_limit_ends_the_search_not_the_run() -> None:
    context = replace(CONTEXT, progress=Progress(time_limit=3))
    result = compress(field(), Psnr(40), Auto.from_preset("small", steps=10**6), context)
    assert result.reports[0].codec in AT_ONCE
    assert "time limit" in str(result.reports[0].tried[-1])


def test_a_stopped_run_keeps_the_best_file_so_far() -> None:
    progress = Progress(lambda done, text: progress.cancel() if text.startswith("hashgrid") else None)
    with pytest.raises(Cancelled) as caught:
        compress(field(), Psnr(40), THOROUGH, replace(CONTEXT, progress=progress))
    assert isinstance(caught.value.best, bytes)
    assert record(caught.value.best)[0] in AT_ONCE
    assert metrics.measure(field().values, decompress(caught.value.best)[0].values).psnr >= 40


def test_files_never_name_it() -> None:
    assert codec_by_name("auto") is Auto
    assert Auto not in registry().values()
    assert not hasattr(Auto, "id")
    assert compress(Field(np.ones((3, 4, 5))), Ratio(2), context=CONTEXT).reports[0].codec == "constant"


def test_presets_and_parameters() -> None:
    assert Auto.presets.keys() == {"fast", "balanced", "small"}
    with pytest.raises(InputError, match="expected one of never, likely, always, got 'maybe'"):
        Auto(networks="maybe")
    with pytest.raises(TargetError, match="ratio"):
        compress(field(), Bytes(60), context=CONTEXT)


def test_what_was_tried_survives_the_file() -> None:
    tried = (
        Tried(HashGrid.id, False, 123456, 41.27, True),
        Tried(HashGrid.id, True, 99, math.inf, True),
        Tried(Wavelet.id, False, why="no reason"),
    )
    assert unpack_tried(pack_tried(tried)) == [*tried[:2], replace(tried[2], why="")]
    assert [str(t) for t in tried] == [
        "hashgrid: 123,456 bytes, 41.27 dB", "hashgrid with residual: 99 bytes, lossless", "wavelet: no reason",
    ]  # fmt: skip
    assert str(replace(tried[0], met=False)).endswith("which misses the target")
    assert unpack_tried((61, 0, 5, 5)) == []
    assert tried_cost(()) == 0
    assert tried_cost(tried) < 30


def test_the_command_line_says_it(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from neurcomp_cli.main import app
    from neurcomp_filters import io

    io.write([field()], tmp_path / "a.vti")

    def said(*arguments: object) -> str:
        done = CliRunner().invoke(app, [str(a) for a in arguments])
        assert done.exit_code == 0, done.output
        return done.output

    source, out = tmp_path / "a.vti", ("-o", tmp_path / "a.nvc", "--threads", 1, "--force")
    assert "auto chose wavelet; nothing else was likely to win" in said("compress", source, "--psnr", 40, *out)
    text = said("compress", source, "--psnr", 40, "--preset", "small", "--set", "steps=20", *out)
    assert re.search(f"auto chose ({'|'.join(AT_ONCE)}) over .*hashgrid", text)
    assert re.search(f"({'|'.join(AT_ONCE)}) was chosen over .*hashgrid", said("info", tmp_path / "a.nvc"), re.DOTALL)
    small = ("--set", "steps=20", "--set", "batch=512")
    said("compress", source, "--psnr", 40, "--codec", "hashgrid", "--residual", *small, *out)
    text = said("info", tmp_path / "a.nvc")
    assert "residual bytes" in text
    assert "hashgrid was chosen over wavelet: " in text
    assert "auto (the default): " in said("codecs")


def test_filters_show_it() -> None:
    pytest.importorskip("vtkmodules")
    from neurcomp_filters.bridge import vtk_from_fields
    from neurcomp_filters.compress import NeuralCompress
    from neurcomp_filters.settings import codec_choices, codec_names

    assert codec_choices() == ["auto", *codec_names()]
    algorithm = NeuralCompress()
    algorithm.SetInputDataObject(vtk_from_fields([field()]))
    algorithm.SetTarget(Psnr(40))
    algorithm.SetThreads(1)

    def told(name: str) -> str | None:
        algorithm.Update()
        assert algorithm.GetErrorText() == ""
        array = algorithm.GetOutputDataObject(0).GetFieldData().GetAbstractArray(f"neurcomp_{name}")
        return None if array is None else array.GetValue(0)

    assert (told("codec"), told("tried")) == ("wavelet", None)
    algorithm.SetPreset("small")
    algorithm.SetCodecParameters("steps=20")
    assert told("codec") in AT_ONCE
    assert "hashgrid" in str(told("tried"))
    algorithm.SetPreset("balanced")
    algorithm.SetCodec("hashgrid")
    algorithm.SetCodecParameters("steps=20 batch=512")
    algorithm.SetResidual(True)
    assert told("codec") == "hashgrid"
    assert str(told("tried")).startswith("wavelet: ")
