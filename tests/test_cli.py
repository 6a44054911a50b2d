"""The command line as users meet it: results, sentences, exit codes, and what is left on the disk."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from neurcomp_cli.main import app
from neurcomp_core.field import Field, RectilinearGrid, UniformGrid
from neurcomp_core.pipeline import decompress
from neurcomp_core.samples import marschner_lobb
from neurcomp_filters import io

FAST = ("--codec", "hashgrid", "--set", "steps=60", "--set", "batch=1024", "--threads", "1")
ENDLESS = ("--codec", "hashgrid", "--set", "steps=1000000", "--set", "batch=64", "--threads", "1")
BRIEF = ("--codec", "hashgrid", "--set", "steps=20", *FAST[4:])


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def good(*arguments: object) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def parsed(*arguments: object) -> Any:
    return json.loads(good(*arguments, "--json").stdout)


def refused(*arguments: object, code: int = 2) -> str:
    """The sentence a command fails with; nothing else is printed."""
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("neurcomp: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


def started(*arguments: object, limit: int | None = None) -> subprocess.Popen[str]:
    """A real process; with `limit`, one whose files cannot grow beyond so many bytes."""

    def restrict() -> None:
        assert limit is not None
        # Without the signal the system's answer is an error, as with a full disk.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-m", "neurcomp_cli", *map(str, arguments)]
    before = restrict if limit is not None else None
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, preexec_fn=before)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def lattice(shape: Sequence[int]) -> np.ndarray:
    z, y, x = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    return np.sin(x / 3) + np.cos(y / 4) * np.sin(1 + z / 5)


@pytest.fixture(scope="module")
def rings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rings") / "rings.vti"
    io.write([marschner_lobb(20)], path)
    return path


@pytest.fixture(scope="module")
def packed(rings: Path) -> Path:
    good("compress", rings, "--ratio", "10", *FAST, "--quiet")
    return rings.with_suffix(".nvc")


# ------------------------------------------------------------------------------------------------------ round trips


def test_compress_decompress_compare(rings: Path, packed: Path, tmp_path: Path) -> None:
    raw = 20**3 * 4
    assert 0.97 * raw / 10 <= packed.stat().st_size <= raw / 10

    out = tmp_path / "back.vti"
    good("decompress", packed, "-o", out)
    (field,) = io.read(out)
    assert field.name == "marschner_lobb"
    assert field.geometry == io.read(rings)[0].geometry
    np.testing.assert_array_equal(field.values, decompress(packed)[0].values)

    picture = tmp_path / "errors.png"
    found = parsed("compare", rings, packed, "--picture", picture)
    again = parsed("compare", rings, out)
    assert found["arrays"] == again["arrays"]
    assert found["compressed"][str(packed)]["ratio"] == raw / packed.stat().st_size
    assert picture.read_bytes().startswith(b"\x89PNG")
    (about,) = parsed("info", packed)["arrays"]
    assert about["psnr"] == pytest.approx(found["arrays"][0]["psnr"], abs=1e-4)
    assert about["parameters"]["width"] > 0


def test_tables_name_their_definitions(rings: Path, packed: Path, tmp_path: Path) -> None:
    text = good("compress", rings, "--bytes", "2000", *FAST, "-o", tmp_path / "a.nvc").stdout
    for word in (
        "marschner_lobb",
        "hashgrid",
        "20 × 20 × 20",
        "32,000",
        "ratio",
        "PSNR = 20 log10((max - min) / RMSE)",
    ):
        assert word in text
    text = good("compare", rings, packed).stdout
    for word in ("PSNR = 20 log10", "SSIM = ", "bits/voxel", str(packed)):
        assert word in text
    assert "levels" in good("info", packed).stdout
    assert "20 × 20 × 20" in good("info", rings).stdout


def test_json_of_compress_is_the_only_output(rings: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.nvc"
    (found,) = parsed("compress", rings, "--ratio", "12", *FAST, "-o", out)["files"]
    assert found["file_bytes"] == out.stat().st_size
    assert found["raw_bytes"] == 32000
    assert found["arrays"][0]["name"] == "marschner_lobb"
    assert found["arrays"][0]["psnr"] > 0


def test_quality_target_holds(rings: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.nvc"
    good("compress", rings, "--relative-error", "0.4", *FAST, "-o", out)
    (figures,) = parsed("compare", rings, out)["arrays"]
    assert figures["max_error"] <= 0.4 * figures["range"]


def test_same_seed_same_bytes(rings: Path, packed: Path, tmp_path: Path) -> None:
    good("compress", rings, "--ratio", "10", *FAST, "-o", tmp_path / "a.nvc")
    good("compress", rings, "--ratio", "10", *FAST, "--seed", "1", "-o", tmp_path / "b.nvc")
    assert (tmp_path / "a.nvc").read_bytes() == packed.read_bytes()
    assert (tmp_path / "b.nvc").read_bytes() != packed.read_bytes()


def test_types_vectors_and_islands(tmp_path: Path) -> None:
    base = lattice((10, 11, 12))
    islands = base.astype(np.float32)
    islands[2:5, 3:6, 4:7] = np.nan
    fields = [
        Field((100 + 50 * base).astype(np.uint8), name="u8"),
        Field((3000 + 900 * base).astype(np.uint16), name="u16"),
        Field((1e6 * base).astype(np.int32), name="i32"),
        Field(base, name="f64"),
        Field(np.stack([base, -base, base * base], -1).astype(np.float32), name="vector"),
        Field(islands, name="islands"),
        Field(np.full(base.shape, 7.25, np.float32), name="flat"),
        Field(lattice((9, 10, 11)).astype(np.float32), fields_grid := Field(base).geometry, "cells", "cell"),
    ]
    assert isinstance(fields_grid, UniformGrid)
    source, out = tmp_path / "all.vti", tmp_path / "all.nvc"
    io.write(fields, source)
    (made,) = parsed("compress", source, "--ratio", "3", *BRIEF)["files"]
    assert {a["name"]: a["codec"] for a in made["arrays"]}["flat"] == "constant"
    good("decompress", out, "-o", tmp_path / "back.vti")
    back = {f.name: f for f in io.read(tmp_path / "back.vti")}
    for field in fields:
        assert back[field.name].values.dtype == field.values.dtype
        assert back[field.name].values.shape == field.values.shape
        assert back[field.name].association == field.association
    np.testing.assert_array_equal(np.isnan(back["islands"].values), np.isnan(islands))
    np.testing.assert_array_equal(back["flat"].values, fields[6].values)
    found = parsed("compare", source, out)
    assert [a["name"] for a in found["arrays"]] == [f.name for f in io.read(source)]
    assert "choose one with --array" in refused("compare", source, out, "--picture", tmp_path / "p.png")
    good("compare", source, out, "--array", "vector", "--picture", tmp_path / "p.png")
    # What is lossless has an infinite PSNR, which JSON cannot say.
    flat = next(a for a in found["arrays"] if a["name"] == "flat")
    assert flat["psnr"] is None
    assert flat["max_error"] == 0


def test_image_of_one_layer_by_region_and_level(tmp_path: Path) -> None:
    source = tmp_path / "image.npy"
    np.save(source, lattice((1, 30, 40))[0].astype(np.float32))
    good("compress", source, "--ratio", "4", *FAST)
    whole = decompress(tmp_path / "image.nvc")[0].values
    good("decompress", tmp_path / "image.nvc", "--region", "10:30,:,0", "-o", tmp_path / "part.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "part.npy"), whole[:, :, 10:30])
    good("decompress", tmp_path / "image.nvc", "--level", "2", "-o", tmp_path / "coarse.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "coarse.npy"), whole[:, ::4, ::4])
    sentence = refused("decompress", tmp_path / "image.nvc", "--region", "10:41,:,:", "-o", tmp_path / "x.npy")
    assert "within 0:40" in sentence
    assert "x0:x1,y0:y1,z0:z1" in refused("decompress", tmp_path / "image.nvc", "--region", "1:2", "-o", "x.npy")
    assert "expected first:end" in refused("decompress", tmp_path / "image.nvc", "--region", "a:2,:,:", "-o", "x.npy")


def test_default_names(tmp_path: Path) -> None:
    axes = (np.array([0.0, 1.0, 3.0]), np.array([0.0, 2.0, 3.0]), np.array([0.0, 1.0, 1.5]))
    one = Field(np.full((3, 3, 3), 2.0), RectilinearGrid(*axes), "one")
    io.write([one], tmp_path / "a.vtr")
    io.write([replace(one, time=t, geometry=Field(one.values).geometry) for t in (0.0, 1.0)], tmp_path / "series.pvd")
    good("compress", tmp_path / "a.vtr", tmp_path / "series.pvd", "--psnr", "40", "-o", tmp_path)
    assert {"a.nvc", "series.nvc"} <= set(names(tmp_path))
    for old in ("a.vtr", "series.pvd"):
        (tmp_path / old).unlink()
    good("decompress", tmp_path / "a.nvc")
    good("decompress", tmp_path / "series.nvc")
    assert io.read(tmp_path / "a.vtr")[0].geometry == one.geometry
    assert [f.time for f in io.read(tmp_path / "series.pvd")] == [0.0, 1.0]
    assert len(parsed("compare", tmp_path / "series.nvc", tmp_path / "series.pvd")["arrays"]) == 2


def test_raw_files_and_fill_values(tmp_path: Path) -> None:
    values = np.full((4, 5, 6), 3, "<i2")
    values[1, 2, 3] = -99
    values.tofile(tmp_path / "a.raw")
    raw = ("--dims", "6,5,4", "--dtype", "int16")
    good("compress", tmp_path / "a.raw", *raw, "--fill-value", "-99", "--ratio", "1")
    np.testing.assert_array_equal(decompress(tmp_path / "a.nvc")[0].values, values)
    found = parsed("info", tmp_path / "a.raw", *raw, "--fill-value", "-99")["arrays"][0]
    assert (found["min"], found["max"], found["not_data"], found["dims"]) == (3, 3, 1, [6, 5, 4])
    # The options are for the raw file alone, not for the other one.
    assert parsed("compare", tmp_path / "a.raw", tmp_path / "a.nvc", *raw)["arrays"][0]["max_error"] == 0
    sentence = refused("info", tmp_path / "a.raw", "--dims", "6,5,5", "--dtype", "int16")
    assert "300 bytes" in sentence
    assert "240 bytes" in sentence
    assert "--dims: expected 2 to 4" in refused("info", tmp_path / "a.raw", "--dims", "6,5,-4", "--dtype", "int16")


def test_sample(tmp_path: Path) -> None:
    good("sample", "marschner-lobb", "-o", tmp_path / "ml.vti", "--size", "9")
    assert io.read(tmp_path / "ml.vti")[0].values.shape == (9, 9, 9)
    flow = ("sample", "taylor-green", "--size", "12", "--reynolds", "20")
    good(*flow, "-o", tmp_path / "flow.npy", "--time", "0.2", "--steps", "2", "--what", "velocity")
    assert {"flow_0000.npy", "flow_0001.npy"} <= set(names(tmp_path))
    good(*flow, "-o", tmp_path / "flow.pvd", "--times", "0,0.1", "--what", "both")
    assert [(f.name, f.time) for f in io.read(tmp_path / "flow.pvd")][::2] == [
        ("vorticity_magnitude", 0.0),
        ("vorticity_magnitude", 0.1),
    ]
    assert "not both" in refused(*flow, "-o", tmp_path / "x.vti", "--times", "1,2", "--steps", "3")
    assert "exists" in refused("sample", "marschner-lobb", "-o", tmp_path / "ml.vti")


def test_codecs_version_and_help() -> None:
    found = {c["name"]: c for c in parsed("codecs")["codecs"]}
    assert found["hashgrid"]["presets"].keys() == {"fast", "balanced", "small"}
    assert "preset small: steps=" in good("codecs").stdout
    assert good("--version").stdout.startswith("neurcomp ")
    for command in ("compress", "decompress", "info", "compare", "sample"):
        assert f"  neurcomp {command} " in good(command, "--help").stdout


# -------------------------------------------------------------------------------------------------------- sentences


def test_targets_and_settings(rings: Path, tmp_path: Path) -> None:
    out = ("-o", tmp_path / "x.nvc")
    sentence = refused("compress", rings, *out)
    assert "exactly one target of --ratio, --bytes, --psnr, --max-error, --relative-error, --rmse or" in sentence
    assert "--l2-error; got none" in sentence
    assert "got --ratio and --psnr" in refused("compress", rings, "--ratio", 9, "--psnr", 40, *out)
    assert "ratio: expected a positive finite number, got -3.0" in refused("compress", rings, "--ratio", "-3", *out)
    assert "there are: auto, constant, hashgrid" in refused("compress", rings, "--ratio", 9, "--codec", "zip", *out)
    assert "fast, balanced, small" in refused("compress", rings, "--ratio", 9, "--preset", "huge", *out)
    network = ("compress", rings, "--ratio", 9, "--codec", "hashgrid", *out)
    assert "expected a whole number, got 'x'" in refused(*network, "--set", "levels=x")
    assert "KEY=VALUE" in refused(*network, "--set", "levels")
    assert "it has: residual, levels, log2_table" in refused(*network, "--set", "depth=3")
    assert "expected 10 to" in refused(*network, "--set", "steps=1")
    assert "expected --codec with a network (hashgrid" in refused("compress", rings, "--ratio", 9, "--residual", *out)
    assert "expected auto, cpu or cuda" in refused("compress", rings, "--ratio", 9, "--device", "tpu", *out)
    assert run("compress", rings, "--ratio", "much").exit_code == 2
    assert run("compress").exit_code == 2
    assert names(tmp_path) == []


def test_unreachable_targets(rings: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.nvc"
    sentence = refused("compress", rings, "--psnr", 200, *BRIEF, "-o", out, code=5)
    assert "PSNR" in sentence
    assert "dB" in sentence
    sentence = refused("compress", rings, "--ratio", 1000, "-o", out, code=5)
    assert "ratio of at most" in sentence
    assert names(tmp_path) == []


def test_files_that_cannot_be_read(rings: Path, packed: Path, tmp_path: Path) -> None:
    missing = tmp_path / "no.vti"
    out = ("--ratio", 9, "-o", tmp_path / "x.nvc")
    assert f"'{missing}': there is no such file" in refused("compress", missing, *out)
    (tmp_path / "a.xyz").write_bytes(b"?")
    assert "unknown extension '.xyz'" in refused("compress", tmp_path / "a.xyz", *out)
    assert ".nrrd" in refused("info", tmp_path / "a.xyz")
    (tmp_path / "empty.vti").touch()
    assert "0 bytes" in refused("info", tmp_path / "empty.vti")
    assert "is a folder" in refused("info", tmp_path)
    sentence = refused("compress", rings, "--array", "pressure", *out)
    assert "'pressure'" in sentence
    assert "marschner_lobb" in sentence
    assert "has no array 'p'; it has: 'marschner_lobb'" in refused("decompress", packed, "--array", "p", "-o", "x.vti")
    assert "compressed already" in refused("compress", packed, *out)
    np.save(tmp_path / "nan.npy", np.full((3, 4, 5), np.nan))
    assert "no finite, unmasked sample" in refused("compress", tmp_path / "nan.npy", *out)
    np.save(tmp_path / "none.npy", np.zeros((0, 4, 5)))
    assert "empty" in refused("compress", tmp_path / "none.npy", *out)


def test_damaged_files(packed: Path, tmp_path: Path) -> None:
    data = packed.read_bytes()
    for name, content, words in (
        ("cut.nvc", data[: len(data) // 2], "truncated"),
        ("foreign.nvc", b"PK\x03\x04 not ours", "not a NeurComp file"),
        ("empty.nvc", b"", "not a NeurComp file"),
        ("flipped.nvc", data[:-10] + bytes([data[-10] ^ 1]) + data[-9:], "checksum"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        for command in (("info", path), ("decompress", path, "-o", tmp_path / "x.vti"), ("compare", path, packed)):
            assert words in refused(*command, code=4)
    assert "cannot read" in refused("decompress", tmp_path / "no.nvc")
    assert "x.vti" not in names(tmp_path)


def test_outputs_that_cannot_be_written(rings: Path, packed: Path, tmp_path: Path) -> None:
    away = tmp_path / "no" / "x.nvc"
    assert "does not exist" in refused("compress", rings, "--ratio", 9, "-o", away)
    assert "does not exist" in refused("decompress", packed, "-o", away.with_suffix(".vti"))
    assert "exists; give --force" in refused("compress", rings, "--ratio", 9)
    assert "ends in .nvc" in refused("compress", rings, "--ratio", 9, "-o", tmp_path / "x.vti")
    assert "unknown extension '.xyz'" in refused("decompress", packed, "-o", tmp_path / "x.xyz")
    assert "would both become" in refused("compress", rings, rings, "--ratio", 9, "-o", tmp_path)
    assert names(tmp_path) == []
    out = tmp_path / "x.vti"
    out.touch()
    good("decompress", packed, "-o", out, "--force")
    assert io.read(out)[0].voxels == 8000


def test_compare_of_what_cannot_be_compared(rings: Path, tmp_path: Path) -> None:
    io.write([marschner_lobb(9)], tmp_path / "small.vti")
    sentence = refused("compare", rings, tmp_path / "small.vti")
    assert "20 × 20 × 20" in sentence
    assert "9 × 9 × 9" in sentence
    two = [replace(marschner_lobb(20), name=n) for n in ("a", "b")]
    io.write(two, tmp_path / "two.vti")
    assert "('marschner_lobb') has its like in" in refused("compare", rings, tmp_path / "two.vti")
    assert "has no array 'c'; it has: 'a', 'b'" in refused("compare", tmp_path / "two.vti", rings, "--array", "c")
    assert parsed("compare", tmp_path / "two.vti", rings, "--array", "b")["arrays"][0]["max_error"] == 0


# ------------------------------------------------------------------------------------------------ stops, full disks


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("target", [("--ratio", "10"), ("--psnr", "90")])
def test_time_limit(rings: Path, tmp_path: Path, keep: bool, target: tuple[str, str]) -> None:
    out = tmp_path / "x.nvc"
    more = ("--keep-best",) if keep else ()
    # A busy machine may need longer until there is anything to keep.
    for limit in (2, 12, 72):
        given = ("--time-limit", limit, "-o", out, *more)
        sentence = refused("compress", rings, *target, *ENDLESS, *given, code=3)
        assert f"time limit of {limit} s" in sentence
        if not keep or out.exists():
            break
    if keep:
        assert "the best so far is in" in sentence
        assert "ratio" in sentence
        assert decompress(out)[0].values.shape == (20, 20, 20)
    else:
        assert "nothing was written" in sentence
    assert names(tmp_path) == ["x.nvc"] * keep


@pytest.mark.parametrize("keep", [False, True])
def test_ctrl_c(rings: Path, tmp_path: Path, keep: bool) -> None:
    out = tmp_path / "x.nvc"
    process = started("compress", rings, "--ratio", 10, *ENDLESS, "-o", out, *(("--keep-best",) if keep else ()))
    assert process.stderr is not None
    while "step" not in (line := process.stderr.readline()):
        assert line, "the process ended before it was stopped"
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    text, errors = process.communicate(timeout=240)
    assert process.returncode == 130, errors
    assert text == ""
    assert "Traceback" not in errors
    assert "stopped by the user" in errors
    assert names(tmp_path) == ["x.nvc"] * keep
    if keep:
        assert "the best so far is in" in errors
        assert decompress(out)[0].values.shape == (20, 20, 20)


@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_full_disk_leaves_nothing(packed: Path, tmp_path: Path, command: str) -> None:
    # Smaller than either result, so that its writing fails half way.
    if command == "compress":
        np.save(tmp_path / "in.npy", np.arange(60000, dtype=np.float32).reshape(30, 40, 50) % 7)
        arguments = ("compress", tmp_path / "in.npy", "--bytes", 4000, "-o", tmp_path / "x.nvc", *FAST)
    else:
        arguments = ("decompress", packed, "-o", tmp_path / "x.vti")
    before = names(tmp_path)
    process = started(*arguments, limit=1500)
    text, errors = process.communicate(timeout=240)
    assert process.returncode == 2, errors
    assert text == ""
    assert "neurcomp: cannot write" in errors
    assert "Traceback" not in errors
    assert names(tmp_path) == before
