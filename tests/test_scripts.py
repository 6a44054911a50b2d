"""The programs in scripts/, run as a user runs them, on tiny data."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import PVPYTHON

from neurcomp_core.field import Field, UniformGrid
from neurcomp_core.pipeline import decompress
from neurcomp_core.samples import marschner_lobb
from neurcomp_filters import io

pytestmark = pytest.mark.paraview

SCRIPTS = Path(__file__).parent.parent / "scripts"
TRAINED = ("--set", "steps=60", "--set", "batch=1024", "--threads", "1")
QUICK = ("--codec", "hashgrid", *TRAINED)


def run(script: str, *arguments: object, program: str = "pvpython") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "neurcomp_cli", program, SCRIPTS / script, *arguments]
    env = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "PARAVIEW_HOME")} | {"PVPYTHON": str(PVPYTHON)}
    return subprocess.run([str(c) for c in command], env=env, capture_output=True, text=True, timeout=300)


def good(script: str, *arguments: object, program: str = "pvpython") -> str:
    done = run(script, *arguments, program=program)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(code: int, script: str, *arguments: object, program: str = "pvpython") -> str:
    """The sentence that a program ends with."""
    done = run(script, *arguments, program=program)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return next(line for line in done.stderr.splitlines() if line.startswith(f"{Path(script).stem}: "))


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three times of two arrays, one of which has a name that is no file name."""
    grid = UniformGrid((0, 11, 0, 9, 0, 7))
    z, y, x = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in (8, 10, 12)), indexing="ij")
    fields = [
        Field(np.sin(x / 3 + t) + scale * y * z, grid, name, time=float(t))
        for t in range(3)
        for name, scale in (("p/rho", 0.1), ("heat", 0.02))
    ]
    path = tmp_path_factory.mktemp("series") / "flow.pvd"
    io.write(fields, path)
    return path


@pytest.fixture(scope="module")
def rings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rings") / "rings.vti"
    io.write([marschner_lobb(20)], path)
    return path


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.glob("*.py")))
def test_help(script: str) -> None:
    text = good(script, "--help", program="pvbatch" if "catalyst" in script else "pvpython")
    assert f"neurcomp pvpython {script}" in text or f"neurcomp pvbatch {script}" in text


def test_compress_series(series: Path, tmp_path: Path) -> None:
    text = good("compress_series.py", series, "-o", tmp_path, "--ratio", "5", "--every", "2", *QUICK)
    assert text.count("heat") == 2
    for name, stem in (("p/rho", "p_rho"), ("heat", "heat")):
        decoded = decompress(tmp_path / f"{stem}.nvc")
        assert [(f.name, f.time) for f in decoded] == [(name, 0.0), (name, 2.0)]
        again = io.read(tmp_path / f"{stem}.pvd")
        assert [f.time for f in again] == [0.0, 2.0]
        for a, b in zip(decoded, again, strict=True):
            np.testing.assert_array_equal(a.values, b.values)


def test_compress_series_together_without_vti(series: Path, tmp_path: Path) -> None:
    good("compress_series.py", series, "-o", tmp_path, "--ratio", "4", "--together", "--no-vti", *QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["flow.nvc"]
    assert len(decompress(tmp_path / "flow.nvc")) == 6
    sentence = refused(2, "compress_series.py", series, "-o", tmp_path, "--ratio", "4", "--together")
    assert "exists; give --force" in sentence


def test_compress_series_fails_loudly(series: Path, tmp_path: Path) -> None:
    assert "no such file" in refused(2, "compress_series.py", "no.vti", "-o", tmp_path, "--ratio", "4")
    sentence = refused(2, "compress_series.py", series, "-o", tmp_path, "--ratio", "4", "--array", "no")
    assert "there is no array 'no'; there are: " in sentence
    sentence = refused(1, "compress_series.py", series, "-o", tmp_path, "--ratio", "9999", *QUICK)
    assert "ask for a ratio of at most" in sentence
    assert not list(tmp_path.glob("*.nvc"))
    assert run("compress_series.py", series, "-o", tmp_path).returncode == 2


def test_compare_codecs_and_render_comparison(rings: Path, tmp_path: Path) -> None:
    table, picture = tmp_path / "table.csv", tmp_path / "codecs.png"
    run_it = (rings, "-o", picture, "--size", "100", *QUICK)
    text = good("compare_codecs.py", *run_it, "--ratio", "10", "--csv", table, "--mode", "slice")
    with open(table, newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["codec"] == "hashgrid"
    assert 9.9 <= float(row["ratio"]) <= 10.4
    assert row["PSNR dB"] in text
    colours = pixels(picture)
    assert colours.shape[:2] == (100, 302)  # with two lines between the views
    # Each of the three views shows something, and original and decoded much the same.
    views = [colours[:85, i * 101 : i * 101 + 100].astype(int) for i in range(3)]
    assert all(view.std() > 10 for view in views)
    assert np.abs(views[0] - views[1]).mean() < np.abs(views[0] - views[2]).mean()

    state, other = tmp_path / "view.pvsm", tmp_path / "again.png"
    good("render_comparison.py", rings, rings, "-o", other, "--size", "100", "--state", state)
    assert pixels(other).std() > 10
    assert "VolumeCompare" in state.read_text()


def test_comparisons_fail_loudly(rings: Path, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    sentence = refused(1, "compare_codecs.py", rings, "-o", picture, "--ratio", "9999", *QUICK)
    assert "hashgrid: " in sentence
    assert "array 'marschner_lobb'" in sentence
    assert "there is no codec 'zip'" in refused(2, "compare_codecs.py", rings, "-o", picture, "--codec", "zip")
    assert "ends in .png" in refused(2, "render_comparison.py", rings, rings, "-o", tmp_path / "a.txt")
    assert not picture.exists()


def pixels(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return (imread(path)[..., :3] * 255).astype(np.uint8)


def test_in_situ(tmp_path: Path) -> None:
    run_it = ("--size", "17", *QUICK[:-2], "-o", tmp_path / "out")
    good("catalyst_compress.py", "--steps", "3", "--every", "2", "--ratio", "10", *run_it, program="pvbatch")
    files = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in files] == ["input_000000.nvc", "input_000002.nvc"]
    for path in files:
        (field,) = decompress(path)
        assert field.values.shape == (17, 17, 17)
        assert path.stat().st_size <= field.nbytes / 10


def test_in_situ_fails_loudly(tmp_path: Path) -> None:
    run_it = ("--steps", "1", "--size", "17", "--ratio", "9999", "-o", tmp_path)
    assert "ask for a ratio" in refused(1, "catalyst_compress.py", *run_it, program="pvbatch")
    assert not list(tmp_path.iterdir())
