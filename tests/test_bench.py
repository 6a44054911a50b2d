"""Benchmarks: what they measure, that they go on where they were stopped, and that their arithmetic is right."""

from __future__ import annotations

import csv
import json
import math
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from neurcomp_cli import bench_case, bench_document, bench_pictures, bench_table, bench_volumes
from neurcomp_cli.bench import _chosen, file_name
from neurcomp_cli.bench_case import MEASURES, Case
from neurcomp_cli.bench_document import Heading, Paragraph, Picture, Table
from neurcomp_cli.main import app
from neurcomp_core import analysis, metrics, plots, savings
from neurcomp_core.errors import InputError, MissingExtraError
from neurcomp_core.field import Field, RectilinearGrid, UniformGrid
from neurcomp_core.pipeline import decompress
from neurcomp_core.plots import Curve, Panel, Speed
from neurcomp_core.samples import marschner_lobb
from neurcomp_core.target import Bytes, MaxError, Psnr, Ratio, parse_targets
from neurcomp_filters import io, isosurface

pytest.importorskip("matplotlib", reason="reports need the extra 'plot'")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def good(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def refused(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    return result.stderr


# --------------------------------------------------------------------------------------------------------- targets


def test_targets_from_text() -> None:
    wanted = (Psnr(30), Psnr(40.5), Ratio(50), Bytes(1000), MaxError(0.1))
    assert parse_targets("psnr:30,40.5 ratio:50  bytes:1000 max-error: 0.1 psnr:30") == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "at least one"),
        ("psnr", "got 'psnr'"),
        ("snr:3", "ratio, bytes, psnr, max-error, relative-error"),
        ("psnr:3,x", "psnr: expected a number, got 'x'"),
        ("ratio:-3", "ratio: expected a positive finite number"),
    ],
)
def test_bad_targets(text: str, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        parse_targets(text)


# --------------------------------------------------------------------------------------------------------- savings


def test_saving_by_hand() -> None:
    curves = {
        # Bytes double every 10 dB.
        "sz3": [(30.0, 10_000.0), (50.0, 40_000.0)],
        # Better above 40 dB, where it takes 15 000 against 20 000.
        "zfp": [(40.0, 15_000.0), (50.0, 30_000.0)],
        "mine": [(30.0, 5_000.0), (50.0, 20_000.0)],
    }
    found = savings.saving(curves, "mine", low=30, high=50, places=3)
    # At 30 dB zfp takes its smallest file, 15 000.
    np.testing.assert_allclose(found.relative, [5 / 10 - 1, 10 / 15 - 1, 20 / 30 - 1])
    assert found.best == ("sz3", "zfp", "zfp")
    assert found.mean == pytest.approx((1 / 2 * 2 / 3 * 2 / 3) ** (1 / 3) - 1)
    assert found.worst == pytest.approx(-1 / 3)


def test_saving_ends_where_a_curve_ends() -> None:
    curves = {"sperr": [(30.0, 10_000.0), (60.0, 80_000.0)], "mine": [(30.0, 9_000.0), (40.0, 18_000.0)]}
    found = savings.saving(curves, "mine", low=30, high=50, places=3)
    assert found.relative[0] == pytest.approx(-0.1)
    assert np.isnan(found.relative[2])
    assert found.mean == pytest.approx(-0.1)


def test_a_lossless_file_is_not_interpolated_to() -> None:
    points = [(30.0, 1_000.0), (40.0, 2_000.0), (math.inf, 9_000.0)]
    np.testing.assert_allclose(
        np.exp(savings.log_bytes(points, np.array([35.0, 40.0, 41.0]))), [2000**0.5 * 1000**0.5, 2000, 9000]
    )
    # A lossless file smaller than a lossy one makes that pointless.
    assert np.exp(savings.log_bytes([(30.0, 9_000.0), (math.inf, 5_000.0)], np.array([20.0])))[0] == pytest.approx(5000)


def test_a_better_and_smaller_file_wins() -> None:
    points = [(30.0, 4_000.0), (35.0, 3_000.0), (40.0, 6_000.0)]
    np.testing.assert_allclose(np.exp(savings.log_bytes(points, np.array([10.0, 30.0]))), [3000, 3000])


def test_rows_without_result_change_no_curve() -> None:
    points = [(30.0, 1_000.0), (50.0, 4_000.0)]
    nothing = (float(bench_table.NOTHING["psnr_db"]), float(bench_table.NOTHING["bytes"]))
    places = np.linspace(20, 60, 9)
    np.testing.assert_array_equal(savings.log_bytes([nothing, *points], places), savings.log_bytes(points, places))


def test_savings_worst_leaves_out_tiny_files() -> None:
    curves = {"sz3": [(30.0, 1_000.0), (50.0, 100_000.0)], "mine": [(30.0, 3_000.0), (50.0, 90_000.0)]}
    found = savings.saving(curves, "mine", low=30, high=50, places=3)
    assert found.relative[0] == pytest.approx(2.0)
    assert found.worst == pytest.approx(math.sqrt(2.7e8) / 1e4 - 1)


def test_savings_need_peers() -> None:
    with pytest.raises(InputError, match="at least one of tthresh, sperr, sz3, zfp; got points of mine"):
        savings.saving({"mine": [(30.0, 1.0)]}, "mine")


def test_average_saving() -> None:
    curves = {"sz3": [(30.0, 1_000.0), (70.0, 1_000.0)]}
    half, double = (savings.saving({**curves, "m": [(30.0, b), (70.0, b)]}, "m") for b in (500.0, 2_000.0))
    assert savings.average([half, double]) == pytest.approx(0)
    assert math.isnan(savings.average([]))


# -------------------------------------------------------------------------------------------------------- analysis


def waves(shape: tuple[int, int, int], frequency: float, axis: int = 2) -> np.ndarray:
    at = np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(3)])
    return np.broadcast_to(np.cos(2 * np.pi * frequency * at), shape).copy()


def test_gradient_error_of_a_known_error() -> None:
    z, y, x = np.mgrid[:5, :6, :7].astype(float)
    original = 3 * x + 4 * y
    assert analysis.gradient_error(original, original) == 0
    assert analysis.gradient_error(original, original + 7) == 0
    # |grad| is 5, that of the difference 1.
    assert analysis.gradient_error(original, original + z) == pytest.approx(1 / 5)
    # Twice the distance along z: half the slope.
    assert analysis.gradient_error(original, original + z, spacing=(2, 1, 1)) == pytest.approx(1 / 10)
    assert analysis.gradient_error(np.ones((3, 3, 3)), z[:3, :3, :3]) == np.inf
    assert analysis.gradient_error(np.ones((1, 1, 1)), np.ones((1, 1, 1))) == 0


def test_gradient_error_looks_away_from_what_is_not_data() -> None:
    x = np.mgrid[:9, :9, :9][2].astype(float)
    bad = x.copy()
    bad[4, 4, 4] = 1e6
    mask = np.zeros(x.shape, bool)
    mask[4, 4, 4] = True
    assert analysis.gradient_error(x, bad) > 1
    assert analysis.gradient_error(x, bad, mask) == 0
    holed = np.where(mask, np.nan, x)
    assert analysis.gradient_error(holed, bad) == 0
    assert math.isnan(analysis.gradient_error(x, bad, np.ones(x.shape, bool)))


def test_gradient_error_in_slabs_vectors_and_flat_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 11, 6, 7))
    whole = analysis.gradient_error(a, b)
    da, db = (np.stack(np.gradient(v))[:, 1:-1, 1:-1, 1:-1] for v in (a, b))
    assert whole == pytest.approx(np.sqrt(((db - da) ** 2).sum() / (da**2).sum()))
    monkeypatch.setattr(analysis, "_CHUNK", 50)
    assert analysis.gradient_error(a, b) == pytest.approx(whole)
    both = analysis.gradient_error(np.stack([a, a], -1), np.stack([b, b], -1))
    assert both == pytest.approx(whole)
    flat = analysis.gradient_error(a[:1], b[:1])
    da, db = (np.stack(np.gradient(v[0]))[:, 1:-1, 1:-1] for v in (a, b))
    assert flat == pytest.approx(np.sqrt(((db - da) ** 2).sum() / (da**2).sum()))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_spectrum_of_a_wave(axis: int) -> None:
    found = analysis.power_spectrum(waves((32, 32, 32), 0.25, axis))
    assert len(found.frequency) == 16
    peak = found.frequency[found.power.argmax()]
    assert abs(peak - 0.25) <= 1 / 32
    # The window lets power into the neighbouring bins only.
    assert found.power[np.abs(found.frequency - 0.25) > 0.1].max() < 1e-6 * found.power.max()


def test_spectrum_of_noise_is_flat_and_counts_every_mode_once() -> None:
    noise = np.random.default_rng(1).normal(size=(20, 24, 31))
    found = analysis.power_spectrum(noise)
    window = np.prod([np.sum((0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(n) + 0.5) / n)) ** 2) for n in noise.shape])
    np.testing.assert_allclose(found.power[3:], window, rtol=0.35)
    full = np.abs(np.fft.fftn(noise - noise.mean())) ** 2
    assert full.mean() == pytest.approx(noise.size * noise.var())


def test_spectrum_error() -> None:
    a = np.random.default_rng(2).normal(size=(16, 16, 16))
    assert analysis.spectrum_error(a, a) == 0
    assert analysis.spectrum_error(a, np.roll(a, 0, 0) * 2) == pytest.approx(20 * np.log10(2))
    hole = np.zeros(a.shape, bool)
    hole[3:5] = True
    assert analysis.spectrum_error(np.where(hole, np.nan, a), np.where(hole, 1e9, a)) == 0
    assert analysis.spectrum_error(np.ones((4, 4, 4)), np.ones((4, 4, 4))) == 0
    with pytest.raises(InputError, match="no sample"):
        analysis.power_spectrum(np.full((4, 4, 4), np.nan))
    with pytest.raises(InputError, match="different shape"):
        analysis.spectrum_error(a, a[1:])


def ball(radius: float, centre: float = 15.5) -> np.ndarray:
    z, y, x = np.mgrid[:32, :32, :32]
    return radius - np.sqrt((x - centre) ** 2 + (y - 15.5) ** 2 + (z - 15.5) ** 2)


def test_isosurface_distance_of_spheres() -> None:
    same = isosurface.distance(ball(10), ball(10), 0.0)
    assert same.hausdorff < 1e-6
    wider = isosurface.distance(ball(10), ball(11.5), 0.0)
    assert wider.mean == pytest.approx(1.5, abs=0.03)
    assert wider.hausdorff == pytest.approx(1.5, abs=0.05)
    moved = isosurface.distance(ball(10), ball(10, 17.5), 0.0)
    assert moved.hausdorff == pytest.approx(2, abs=0.05)
    # The mean of |2 cos| over a sphere.
    assert moved.mean == pytest.approx(1, abs=0.1)


def test_isosurface_distance_where_there_is_none() -> None:
    assert math.isnan(isosurface.distance(ball(10), ball(10), 99.0).mean)
    assert isosurface.distance(ball(10), ball(10) - 99, 0.0).hausdorff == np.inf
    with pytest.raises(InputError, match="one shape"):
        isosurface.distance(ball(10), ball(10)[1:], 0.0)


# ------------------------------------------------------------------------------------------------- one measurement


@pytest.mark.parametrize(
    "grid",
    [
        UniformGrid((1, 4, 0, 2, 0, 1), (1.0, 2.0, 3.0), (0.1, 0.2, 0.3)),
        RectilinearGrid(np.arange(4.0) ** 2, np.arange(3.0), np.arange(2, dtype=np.float32), (1, 0, 0)),
    ],
)
def test_fields_travel_whole(grid: UniformGrid | RectilinearGrid, tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    field = Field(values, grid, "α", "point", 2.5, values > 20)
    bench_case.save(field, tmp_path / "field.npz")
    again = bench_case.load(tmp_path / "field.npz")
    assert (again.geometry, again.name, again.time, again.association) == (grid, "α", 2.5, "point")
    np.testing.assert_array_equal(again.values, values)
    assert again.mask is not None
    np.testing.assert_array_equal(again.mask, field.mask)  # type: ignore[arg-type]


CODECS = ("tthresh", "zfp")
TARGETS = "psnr:40 ratio:10 bytes:40"


@dataclass(frozen=True)
class Made:
    """A table that was measured once for the tests below: too few bytes in each third row."""

    table: Path
    kept: Path
    volume: Path
    output: str

    @property
    def rows(self) -> list[dict[str, str]]:
        return list(csv.DictReader(self.table.open(encoding="utf-8")))

    def arguments(self, *more: object) -> list[object]:
        codecs = [part for name in CODECS for part in ("--codec", name)]
        return ["bench", self.volume, *codecs, "--targets", TARGETS, "-o", self.table, "--threads", 1, *more]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    pytest.importorskip("zfpy", reason="needs the extra 'peers'")
    folder = tmp_path_factory.mktemp("bench")
    volume = folder / "rings.vti"
    io.write([marschner_lobb(24)], volume)
    found = Made(folder / "table.csv", folder / "kept", volume, "")
    return replace(found, output=good(*found.arguments("--keep", found.kept)).stdout)


def test_a_row_per_codec_and_target(made: Made) -> None:
    assert list(made.rows[0]) == list(bench_table.COLUMNS)
    wanted = [(c, *t) for c in CODECS for t in (("psnr", "40"), ("ratio", "10"), ("bytes", "40"))]
    assert [(r["codec"], r["target"], r["value"]) for r in made.rows] == wanted
    for row in made.rows:
        assert (row["volume"], row["shape"], row["dtype"], row["preset"]) == (
            "rings",
            "24x24x24",
            "float32",
            "balanced",
        )
        assert (row["raw_bytes"], row["threads"], row["seed"]) == (str(24**3 * 4), "1", "0")
        assert "CPUs" in row["machine"]


def test_figures_are_those_of_the_file(made: Made) -> None:
    original = marschner_lobb(24)
    for row in [r for r in made.rows if r["status"] == "ok"]:
        file = made.kept / file_name(row)
        assert file.stat().st_size == int(row["bytes"])
        (decoded,) = decompress(file)
        quality = metrics.measure(original.values, decoded.values)
        assert float(row["psnr_db"]) == pytest.approx(quality.psnr, rel=1e-5)
        assert float(row["max_error"]) == pytest.approx(quality.max_error, rel=1e-5)
        assert float(row["ssim"]) == pytest.approx(metrics.ssim(original.values, decoded.values), rel=1e-5)
        wrong = analysis.gradient_error(original.values, decoded.values)
        assert float(row["gradient_error"]) == pytest.approx(wrong, rel=1e-5)
        assert float(row["isosurface_max"]) >= float(row["isosurface_mean"]) > 0
        assert float(row["spectrum_error_db"]) > 0
        assert float(row["peak_mib"]) >= float(row["baseline_mib"]) > 10
        assert float(row["encode_s"]) > 0
        assert float(row["decode_s"]) > 0
        assert re.search(rf"numpy [\d.]+.*{'zfpy [0-9]' if row['codec'] == 'zfp' else ''}", row["libraries"])
        if row["target"] == "psnr":
            assert float(row["psnr_db"]) >= 40
        else:
            assert 0.97 <= int(row["bytes"]) / (24**3 * 4 / 10) <= 1


def test_a_target_out_of_reach_is_a_row_that_says_so(made: Made) -> None:
    failed = [row for row in made.rows if row["target"] == "bytes"]
    assert [(row["bytes"], row["psnr_db"], row["ssim"]) for row in failed] == [("inf", "-inf", "")] * 2
    assert all("bytes are less than its description" in row["status"] for row in failed)
    assert all(row["status"] in made.output for row in failed)


def test_what_is_measured_is_not_measured_again(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    before = made.table.read_bytes()
    calls: list[Case] = []

    def instead(case: Case) -> dict:
        calls.append(case)
        return {"bytes": 5, "psnr_db": math.inf, "encode_s": 1.0}

    monkeypatch.setattr(bench_case, "run", instead)
    found = json.loads(good(*made.arguments("--json")).stdout)["rows"]
    assert not calls
    assert found == made.rows
    assert made.table.read_bytes() == before
    # Another seed is another measurement; a failure is tried again on demand only.
    copy = replace(made, table=made.table.with_name("copy.csv"))
    copy.table.write_bytes(before)
    good(*copy.arguments("--seed", 7, "--quiet"))
    assert len(calls) == 6
    good(*copy.arguments("--retry", "--quiet"))
    assert [c.target for c in calls[6:]] == ["bytes", "bytes"]
    again = [r for r in bench_table.read(copy.table) if (r["target"], r["seed"]) == ("bytes", "0")]
    assert [(r["status"], r["bytes"], r["psnr_db"]) for r in again] == [("ok", "5", "inf")] * 2


def test_a_codec_whose_package_is_missing_is_left_out(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def instead(case: Case) -> dict:
        calls.append(case.codec)
        return {"error": "zfp needs zfpy", "missing": True} if case.codec == "zfp" else {"error": "no"}

    monkeypatch.setattr(bench_case, "run", instead)
    copy = replace(made, table=made.table.with_name("missing.csv"))
    result = good(*copy.arguments())
    assert result.stderr.count("zfp is left out: zfp needs zfpy") == 1
    assert calls == ["tthresh"] * 3 + ["zfp"]
    assert {row["codec"] for row in copy.rows} == {"tthresh"}


def test_a_case_that_dies_is_an_error(tmp_path: Path) -> None:
    result = bench_case.run(Case(str(tmp_path / "nothing.npz"), "tthresh", "balanced", "psnr", 30.0))
    assert re.match(r"the process failed \(exit code 1\): FileNotFoundError", result["error"])


def test_missing_extras_are_told_apart(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(case: Case) -> dict:
        raise MissingExtraError("install it")

    monkeypatch.setattr(bench_case, "measured", fails)
    bench_case.main(json.dumps({"field": "", "codec": "", "preset": "", "target": "", "value": 1.0, "measures": [],
                                "isovalues": []}))  # fmt: skip
    assert json.loads(capsys.readouterr().out) == {"error": "install it", "missing": True}


def test_ctrl_c_leaves_a_table_to_go_on_with(made: Made, tmp_path: Path) -> None:
    table = tmp_path / "stopped.csv"
    arguments = [str(a) for a in replace(made, table=table).arguments("--measure", "none")]
    process = subprocess.Popen([sys.executable, "-m", "neurcomp_cli", *arguments], stderr=subprocess.PIPE, text=True)
    give_up = time.monotonic() + 240
    while not bench_table.read(table) and time.monotonic() < give_up:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=240)
    assert process.returncode == 130, told
    assert told.endswith("neurcomp: stopped\n")
    assert 1 <= len(bench_table.read(table)) < 6
    assert table.read_text(encoding="utf-8").endswith("\n")


# ----------------------------------------------------------------------------------------------------------- table


def test_half_a_line_is_cut_off(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    row = dict.fromkeys(bench_table.COLUMNS, "x")
    bench_table.append(table, row | {"status": "two\nlines, and a comma"})
    table.write_bytes(table.read_bytes() + b"rings,24x2")
    assert len(bench_table.read(table)) == 1
    bench_table.append(table, row | {"volume": "y"})
    assert [(r["volume"], r["status"]) for r in bench_table.read(table)] == [
        ("x", "two lines, and a comma"),
        ("y", "x"),
    ]
    assert table.read_text(encoding="utf-8").count("\n") == 3


def test_other_tables_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "other.csv"
    table.write_text("a,b\n1,2\n", encoding="utf-8")
    assert "is no table of `neurcomp bench`" in refused("bench", "marschner-lobb:8", "-o", table)
    assert "there is no such file" in refused("bench", "report", tmp_path / "none.csv")


# --------------------------------------------------------------------------------------------------------- command


def test_volumes(made: Made, tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", np.zeros((2, 3, 4), np.uint8))
    io.write([replace(marschner_lobb(8), name=name) for name in ("p", "q")], tmp_path / "a.vti")
    (tmp_path / "notes.txt").write_text("no volume")
    sources = bench_volumes.listed(["marschner-lobb:8"], tmp_path)
    found = [name for source in sources for name, _ in bench_volumes.opened(source, None, bench_volumes.Reading())]
    assert found == ["marschner-lobb-8", "a:p", "a:q", "b"]
    for name in found:
        field = bench_volumes.found(name, sources)
        assert field is not None
        assert field.values.shape == ((2, 3, 4) if name == "b" else (8, 8, 8))
    assert bench_volumes.found("c", sources) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give at least one volume"),
        (["nothing.vti"], "no such file, nor a sample (taylor-green, marschner-lobb"),
        (["marschner-lobb:x"], "expected marschner-lobb:SIZE"),
        (["marschner-lobb:8", "--codec", "mp3"], "there is no codec 'mp3'"),
        (["marschner-lobb:8", "--measure", "beauty"], "expected some of ssim, gradient, spectrum, isosurface"),
        (["marschner-lobb:8", "--isovalues", "high"], "--isovalues: expected values or percentiles"),
        (["marschner-lobb:8", "--targets", "40"], "expected KIND:VALUE,VALUE"),
        (["marschner-lobb:8", "-o", "missing/table.csv"], "the folder 'missing' does not exist"),
        (["--data", "missing"], "there is no such folder"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = refused("bench", "--quiet", *arguments)
    assert words in told
    assert len([line for line in told.splitlines() if line.startswith("neurcomp: ")]) == 1
    assert not list(tmp_path.iterdir())


def test_volumes_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_case, "run", lambda case: {"error": "no"})
    assert "another volume 'marschner-lobb-8'" in refused(
        "bench", "marschner-lobb:8", "marschner-lobb:8", "-q", "-o", tmp_path / "table.csv"
    )


def test_presets_are_those_a_codec_has() -> None:
    assert list(_chosen(["hashgrid", "zfp", "hashgrid"], ["fast", "small", "fast"])) == [
        ("hashgrid", "fast"), ("hashgrid", "small"), ("zfp", "balanced"),
    ]  # fmt: skip
    everything = dict(_chosen(None, None))
    assert "constant" not in everything
    assert set(everything.values()) == {"balanced"}


def test_help_is_at_hand() -> None:
    assert "report" in run("bench").output
    assert "report" in good("bench", "--help").stdout
    assert "--targets" in good("bench", "run", "--help").stdout


def test_quick_measures_every_codec(tmp_path: Path) -> None:
    from neurcomp_core.codec import registry

    table = tmp_path / "quick.csv"
    result = good("bench", "--quick", "--targets", "ratio:10", "-o", table, "--threads", 2)
    rows = bench_table.read(table)
    left_out = set(re.findall(r"^(\S+) is left out", result.stderr, re.MULTILINE))
    competing = {name for name, codec in registry().items() if codec.competes}
    assert {row["codec"] for row in rows} | left_out == competing - {"constant"}
    assert [row["status"] for row in rows] == ["ok"] * len(rows)
    assert all(row[name] for row in rows for name in ("ssim", "gradient_error", "spectrum_error_db", "isosurface_mean"))


# ---------------------------------------------------------------------------------------------------------- report


def test_report(made: Made, tmp_path: Path) -> None:
    # A codec of ours, as the table has peers only.
    rows = [r | {"codec": "wavelet", "bytes": str(int(r["bytes"]) // 2)} for r in made.rows[:2]]
    table = tmp_path / "table.csv"
    for row in [*made.rows, *rows]:
        bench_table.append(table, row)
    out = tmp_path / "report"
    good("bench", "report", table, "-o", out, "--kept", made.kept, "--volume", made.volume)
    text, page = ((out / f"report.{kind}").read_text(encoding="utf-8") for kind in ("md", "html"))
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert pictures == re.findall(r'<img src="([^"]+)"', page)
    assert set(pictures) == {
        "savings.png",
        "speed.png",
        *(f"rings-{n}.png" for n in ("rate", "analysis", "picture", "spectra")),
    }
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    curves: dict[str, list[savings.Point]] = {}
    for row in [*made.rows, *rows]:
        curves.setdefault(row["codec"], []).append((float(row["psnr_db"]), float(row["bytes"])))
    assert f"| mean | {100 * savings.saving(curves, 'wavelet').mean:+.1f} % |" in text
    assert "bytes are less than its description" in text
    for row in rows:
        assert f"{int(row['bytes']):,}" in text
    assert page.count("<table>") == page.count("</table>") == len(re.findall(r"^\| ---", text, re.MULTILINE))


def test_report_without_pictures_or_peers(made: Made, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    for row in made.rows:
        bench_table.append(table, row | {"codec": "wavelet"})
    good("bench", "report", table, "-o", tmp_path / "report", "--quiet")
    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "that takes a codec and one of its peers" in text
    assert "picture" not in text
    assert "rates.png" not in text
    for row in made.rows:
        bench_table.append(tmp_path / "failed.csv", row | {"status": "no"})
    assert "no measurement that succeeded" in refused("bench", "report", tmp_path / "failed.csv", "-o", tmp_path / "r")


def test_a_report_of_several_volumes_has_their_curves_in_one_plot(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, list[Panel]] = {}
    draw = plots.panels
    monkeypatch.setattr(
        plots, "panels", lambda shown, path, *rest: (drawn.update({path.name: shown}), draw(shown, path))
    )
    table = tmp_path / "table.csv"
    for volume in ("a", "b"):
        for row in made.rows:
            bench_table.append(table, row | {"volume": volume})
        bench_table.append(table, made.rows[0] | {"volume": volume, "codec": "siren", "preset": "fast"})
    good("bench", "report", table, "-o", tmp_path / "report")
    assert [panel.title for panel in drawn["rates.png"]] == ["a", "b"]
    assert (tmp_path / "report" / "rates.png").stat().st_size > 0
    first = made.rows[0]
    for panel in drawn["rates.png"]:
        curve = next(c for c in panel.curves if c.codec == "siren")
        assert curve.label == "siren fast"
        assert curve.points == [(int(first["raw_bytes"]) / int(first["bytes"]), float(first["psnr_db"]))]


def test_documents() -> None:
    blocks = [Heading(1, "A & B"), Paragraph("say `x < y`"), Table(("a", "b"), [("p|q", "1")]), Picture("c.png", "<c>")]
    assert bench_document.markdown(blocks).split("\n\n") == [
        "# A & B", "say `x < y`", "| a | b |\n| --- | --: |\n| p\\|q | 1 |", "![<c>](c.png)\n",
    ]  # fmt: skip
    page = bench_document.html(blocks)
    for part in (
        "<title>A &amp; B</title>",
        "<p>say <code>x &lt; y</code></p>",
        '<td class="left">p|q</td><td>1</td>',
        'alt="&lt;c&gt;"',
    ):
        assert part in page


def test_slices_take_the_place_of_renderings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench_pictures, "_rendered", lambda *_: False)
    field = marschner_lobb(12)
    decoded = replace(field, values=field.values + np.float32(0.01))
    shown = [bench_pictures.Shown("one, 10:1", decoded), bench_pictures.Shown("same", field)]
    assert bench_pictures.draw(field, shown, tmp_path / "slices.png") == "slice"
    assert (tmp_path / "slices.png").read_bytes().startswith(b"\x89PNG")


def test_vectors_and_flat_volumes_have_pictures(tmp_path: Path) -> None:
    vectors = Field(np.random.default_rng(0).normal(size=(1, 9, 8, 3)))
    shown = [bench_pictures.Shown("half", replace(vectors, values=vectors.values / 2))]
    assert bench_pictures.draw(vectors, shown, tmp_path / "flat.png") == "slice"


def test_plots_keep_a_codecs_colour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list = []
    save: Callable = plots.picture._save
    monkeypatch.setattr(plots.picture, "_save", lambda figure, *rest: (drawn.append(figure), save(figure, *rest)))
    points = [(1.0, 2.0), (3.0, math.nan), (2.0, 4.0)]
    for names in (("sz3", "wavelet"), ("wavelet", "other")):
        plots.panels([Panel([Curve(n, points, "fast") for n in names], "x", "y", log_x=True)], tmp_path / "a.png")
    first, second = (figure.axes[0].get_lines() for figure in drawn)
    assert first[1].get_color() == second[0].get_color() == plots.style("wavelet")[0]
    assert first[0].get_color() != first[1].get_color()
    assert first[0].get_linestyle() == "--"
    np.testing.assert_array_equal(first[0].get_xdata(), [1, 2])
    known = ("wavelet", "hashgrid", "siren", "network", "tucker", "auto", *savings.PEERS)
    assert len({plots.style(name) for name in known}) == len({plots.style(name)[0] for name in known}) == len(known)
    curve = Curve("a", [(1.0, 2.0)])
    plots.panels([Panel([curve], "x", "y", title) for title in "pqrst"], tmp_path / "rows.png", across=3)
    places = [(ax.get_title(), ax.get_subplotspec().rowspan.start) for ax in drawn[-1].axes if ax.axison]
    assert places == [("p", 0), ("q", 0), ("r", 0), ("s", 1), ("t", 1)]
    plots.speeds([Speed("sz3", "sz3", [1.0, 100.0], []), Speed("zfp", "zfp", [], [])], tmp_path / "b.png")
    assert [label.get_text() for label in drawn[-1].axes[0].get_yticklabels()] == ["sz3"]
    for nothing in (
        lambda: plots.panels([Panel([Curve("a", [(0.0, 1.0)])], "x", "y", log_x=True)], tmp_path / "c.png"),
        lambda: plots.speeds([], tmp_path / "c.png"),
    ):
        with pytest.raises(InputError, match="there is no"):
            nothing()


def test_measures_are_the_tables_columns() -> None:
    columns = {
        "ssim": "ssim",
        "gradient": "gradient_error",
        "spectrum": "spectrum_error_db",
        "isosurface": "isosurface_mean",
    }
    assert tuple(columns) == MEASURES
    assert set(columns.values()) <= set(bench_table.COLUMNS)
