"""``neurcomp bench``: volumes × codecs × targets, one row each; ``neurcomp bench report`` draws what came of it."""

from __future__ import annotations

import importlib.util
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from typer.core import TyperGroup

from neurcomp_cli import bench_case, bench_machine, bench_table, bench_volumes, options, report
from neurcomp_cli.bench_case import MEASURES, Case
from neurcomp_cli.bench_table import Row
from neurcomp_cli.console import say, working
from neurcomp_cli.volumes import Reading
from neurcomp_core.codec import codec_by_name, registry, usable_cpus
from neurcomp_core.errors import InputError
from neurcomp_core.field import Field
from neurcomp_core.files import atomic_write
from neurcomp_core.nets.backends import NAMES
from neurcomp_core.progress import Progress
from neurcomp_core.target import parse_targets

_EXAMPLES = (
    "neurcomp bench --quick -o quick.csv",
    'neurcomp bench ct.nrrd flow.vti --codec hashgrid --targets "psnr:30,40,50" -o results.csv',
    'neurcomp bench taylor-green:96 --preset fast --preset balanced --targets "ratio:50,200" -o results.csv',
    "neurcomp bench --data volumes/ -o results.csv    # goes on where it was stopped",
    "neurcomp bench report results.csv -o report/",
)
_TARGETS = "psnr:30,35,40,45,50,55,60,65"
_QUICK_VOLUME, _QUICK_TARGETS, _QUICK_PRESET = "taylor-green:24", "ratio:5,20", "fast"
_MEASURES = ",".join(MEASURES)
_RUN = "Run"


class _RunByDefault(TyperGroup):
    """``neurcomp bench VOLUME`` means ``neurcomp bench run VOLUME``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)


@dataclass(frozen=True)
class _Plan:
    """What holds for all rows of one command."""

    table: Path
    codecs: tuple[tuple[str, str], ...]
    targets: tuple[tuple[str, float], ...]
    case: Case
    isovalues: tuple[str, ...]
    keep: Path | None
    retry: bool


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = typer.Typer(
        cls=_RunByDefault,
        no_args_is_help=True,
        rich_markup_mode="rich",
        help="Measure codecs on volumes, and report on the measurements.\n\n`neurcomp bench VOLUME …` is short for "
        "`neurcomp bench run VOLUME …`, whose --help has the options.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    options.add(group, run, *_EXAMPLES)
    options.add(group, report_, *_EXAMPLES[-1:], name="report")
    app.add_typer(group, name="bench")


def run(
    volumes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VOLUME", help="Files, or samples: taylor-green:SIZE, marschner-lobb:SIZE.", show_default=False
        ),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="TABLE.csv", help="Table that rows are added to.")] = Path(
        "results.csv"
    ),
    codecs: Annotated[
        list[str] | None,
        typer.Option("--codec", metavar="NAME", help="Repeatable; all by default.", show_default=False),
    ] = None,
    presets: Annotated[
        list[str] | None,
        typer.Option(
            "--preset",
            metavar="NAME",
            help="Repeatable; balanced by default, and where a codec has none of them.",
            show_default=False,
        ),
    ] = None,
    targets: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND:V,V …", help=f"psnr, ratio, bytes, max-error, relative-error. Default: {_TARGETS}"),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also measure all volume files of a folder.")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help=f"Small: by default {_QUICK_VOLUME}, {_QUICK_TARGETS}, preset {_QUICK_PRESET}."),
    ] = False,
    measure: Annotated[
        str, typer.Option(metavar="LIST|none", help="What to measure besides PSNR and errors.")
    ] = _MEASURES,
    isovalues: Annotated[
        str, typer.Option(metavar="V,V%", help="Isosurfaces to compare: values, or percentiles with %.")
    ] = "90%",
    keep: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep the compressed files, for `bench report`.")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Measure again what failed.")] = False,
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="CPU threads; all by default.", rich_help_panel=_RUN)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, metavar="N", rich_help_panel=_RUN)] = 0,
    device: Annotated[
        str, typer.Option(metavar="cpu|cuda|auto", help="Where to compute.", rich_help_panel=_RUN)
    ] = "cpu",
    backend: Annotated[
        str, typer.Option(metavar="|".join(NAMES), help="What computes networks.", rich_help_panel=_RUN)
    ] = "auto",
    time_limit: Annotated[
        float | None, typer.Option(min=0.0, metavar="SECONDS", help="For each compression.", rich_help_panel=_RUN)
    ] = None,
    arrays: options.Arrays = None,
    dims: options.Dims = None,
    dtype: options.Dtype = None,
    dataset: options.Dataset = None,
    fill_value: options.FillValue = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compress volumes with codecs to targets, decompress, and add a row of figures for each to a CSV table.

    Each row is measured in a process of its own: seconds count from libraries loaded and kernels compiled, peak memory
    is that of the whole process. A row that the table has is not measured again, so a stopped benchmark goes on where
    it was. A target that a codec cannot reach is a row that says so; a codec whose package is missing is left out.
    """
    if quick:
        volumes = volumes or ([] if data else [_QUICK_VOLUME])
        targets, presets = targets or [_QUICK_TARGETS], presets or [_QUICK_PRESET]
    sources = bench_volumes.listed(volumes or [], data)
    if not sources:
        raise InputError("give at least one volume: a file, a sample like taylor-green:64, --data FOLDER or --quick")
    plan = _Plan(
        out,
        tuple(_chosen(codecs, presets)),
        tuple((t.label, t.value) for t in parse_targets(" ".join(targets or [_TARGETS]))),
        Case(
            "", "", "", "", 0.0, device, threads or usable_cpus(), seed, time_limit, _measures(measure), backend=backend
        ),
        tuple(part.strip() for part in isovalues.split(",")),
        keep,
        retry,
    )
    if not out.parent.is_dir():
        raise InputError(f"cannot write '{out}': the folder '{out.parent}' does not exist")
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    reading = Reading(dims, dtype, dataset, fill_value)
    with working("measuring", quiet=quiet) as progress:
        found = _measured(plan, sources, lambda source: bench_volumes.opened(source, arrays, reading), progress)
    if as_json:
        report.print_json({"table": str(out), "rows": found})
    elif not quiet:
        _show(out, found)


def _chosen(codecs: Sequence[str] | None, presets: Sequence[str] | None) -> Iterator[tuple[str, str]]:
    """Codecs and presets to measure; a codec that has none of the presets is measured as balanced."""
    # Constant arrays get theirs unasked.
    names = codecs or sorted(name for name, kind in registry().items() if name != "constant" and kind.competes)
    for name in dict.fromkeys(names):
        known = codec_by_name(name).presets
        wanted = [p for p in dict.fromkeys(presets or ()) if p in known] or ["balanced"]
        yield from ((name, preset) for preset in wanted)


def _measures(text: str) -> tuple[str, ...]:
    names = [] if text.strip() == "none" else [part.strip() for part in text.split(",")]
    for name in names:
        if name not in MEASURES:
            raise InputError(f"--measure: expected some of {', '.join(MEASURES)}, or none; got '{name}'")
    if "isosurface" in names and importlib.util.find_spec("vtkmodules") is None:
        say("isosurfaces are not measured: that needs VTK (pip install 'neurcomp[vtk]')")
        names.remove("isosurface")
    return tuple(names)


def _measured(
    plan: _Plan, sources: Sequence[str], opened: Callable[[str], list[tuple[str, Field]]], progress: Progress
) -> list[Row]:
    """All rows of `plan` on the volumes of `sources`, measured now or in the table before."""
    known = {bench_table.key_of(row): row for row in bench_table.read(plan.table)}
    names: set[str] = set()
    missing: set[str] = set()
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for i, source in enumerate(sources):
            progress.update(i / len(sources), f"reading {source}")
            volumes = opened(source)
            for k, (name, field) in enumerate(volumes):
                if name in names:
                    raise InputError(f"'{source}': there is another volume '{name}'; rename one, or use two tables")
                names.add(name)
                cases = list(_cases(plan, name, field, Path(folder) / "volume.npz"))
                for j, (row, case) in enumerate(cases):
                    done = (i + (k + j / len(cases)) / len(volumes)) / len(sources)
                    progress.update(done, f"{name}, {case.codec} {case.preset}, {case.target} {case.value:g}")
                    old = known.get(bench_table.key_of(row))
                    if old is not None and (old["status"] == bench_table.OK or not plan.retry):
                        found.append(old)
                    elif case.codec not in missing:
                        result = bench_case.run(case)
                        if result.get("missing"):
                            missing.add(case.codec)
                            say(f"{case.codec} is left out: {result['error']}")
                        else:
                            found.append(_filled(row, result))
                            bench_table.append(plan.table, found[-1])
    return found


def _cases(plan: _Plan, name: str, field: Field, path: Path) -> Iterator[tuple[Row, Case]]:
    """Rows to fill and how, the field being written once for all of them."""
    bench_case.save(field, path)
    values = _isovalues(plan.isovalues, field) if "isosurface" in plan.case.measures else ()
    about = {
        "volume": name,
        "shape": "x".join(map(str, field.values.shape[2::-1] + field.values.shape[3:])),
        "dtype": field.values.dtype.name,
        "raw_bytes": str(field.nbytes),
        "threads": str(plan.case.threads),
        "seed": str(plan.case.seed),
        "neurcomp": report.version(),
        "machine": bench_machine.describe(),
        "date": date.today().isoformat(),
    }
    for codec, preset in plan.codecs:
        for target, value in plan.targets:
            case = replace(
                plan.case, field=str(path), codec=codec, preset=preset, target=target, value=value, isovalues=values
            )
            row = about | {"codec": codec, "preset": preset, "target": target, "value": f"{value:g}"}
            yield row, replace(case, keep=_kept(plan.keep, row))


def _kept(folder: Path | None, row: Row) -> str:
    return "" if folder is None else str(folder / file_name(row))


def file_name(row: Row) -> str:
    """Name of the compressed file of a row."""
    parts = (row[name] for name in ("volume", "codec", "preset", "target", "value"))
    text = "-".join(parts) + ("" if row["seed"] == "0" else f"-seed{row['seed']}")
    return "".join(c if c.isalnum() or c in "-_.@" else "_" for c in text) + ".nvc"


def _isovalues(texts: Sequence[str], field: Field) -> tuple[float, ...]:
    valid = field.valid
    values = field.values.ravel() if valid is None else field.values[valid]
    found = []
    for text in texts:
        try:
            share = text.endswith("%")
            number = float(text.removesuffix("%"))
            found.append(float(np.percentile(values, number)) if share else number)
        except ValueError:
            raise InputError(f"--isovalues: expected values or percentiles like 0.5,90%, got '{text}'") from None
    return tuple(found)


def _filled(row: Row, result: dict[str, Any]) -> Row:
    """A row with what was measured."""
    if "error" in result:
        return row | {"status": " ".join(str(result["error"]).split()), **bench_table.NOTHING}
    return row | {"status": bench_table.OK} | {name: _text(value) for name, value in result.items()}


def _text(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return "" if math.isnan(value) else f"{value:.6g}"


def _show(out: Path, rows: Sequence[Row]) -> None:
    cells = [
        (
            row["volume"],
            row["codec"],
            row["preset"],
            f"{row['target']} {row['value']}",
            *(
                (report.whole(int(row["bytes"])), *(_short(row[name]) for name in ("bits_per_voxel", "psnr_db")),
                 _short(row["max_error"]), _short(row["encode_s"]), _short(row["decode_s"]), _short(row["peak_mib"]))
                if row["status"] == bench_table.OK
                else ("failed", *[""] * 6)
            ),
        )
        for row in rows
    ]  # fmt: skip
    heads = ("volume", "codec", "preset", "target", "bytes", "bits/voxel", "PSNR dB", "max error", "encode s",
             "decode s", "peak MiB")  # fmt: skip
    report.table(heads, cells, left=4)
    for row in rows:
        if row["status"] != bench_table.OK:
            report.line(f"{row['volume']}, {row['codec']} {row['preset']}, {row['target']} {row['value']}: "
                        f"{row['status']}")  # fmt: skip
    report.line(f"{out}: {len(rows)} rows asked for are in it")
    report.note(f"{report.PSNR}; bytes are those of the whole file; seconds and memory: see docs/bench.md.")


def _short(text: str) -> str:
    return report.number(float(text)) if text else ""


def report_(
    table: Annotated[
        Path, typer.Argument(metavar="TABLE.csv", help="What `neurcomp bench` wrote.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FOLDER", help="Made if missing.")] = Path("report"),
    kept: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Compressed files that `bench --keep` wrote, for pictures.")
    ] = None,
    volumes: Annotated[
        list[str] | None,
        typer.Option("--volume", metavar="FILE", help="An original for pictures; repeatable.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Originals: the volume files of a folder.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Draw a report of a table: report.html and report.md, with plots beside them.

    Rate and distortion of each volume, bytes against the best peer at equal PSNR, speed, and errors of gradients,
    isosurfaces and power spectra. With --kept and the originals, also pictures of original, reconstructions and errors
    at about one size.
    """
    from neurcomp_cli import bench_document, bench_report

    if not table.is_file():
        raise InputError(f"cannot read '{table}': there is no such file")
    rows = bench_table.read(table)
    sources = bench_volumes.listed(volumes or [], data)
    wanted = {row["volume"] for row in rows} if kept else set()

    def file_of(row: Row) -> Path | None:
        path = None if kept is None else kept / file_name(row)
        return path if path is not None and path.is_file() else None

    out.mkdir(parents=True, exist_ok=True)
    with working("drawing", quiet=quiet) as progress:
        blocks = bench_report.build(
            rows, out, lambda name: bench_volumes.found(name, sources) if name in wanted else None, file_of,
            progress.update,
        )  # fmt: skip
    for name, text in (("report.md", bench_document.markdown(blocks)), ("report.html", bench_document.html(blocks))):
        atomic_write(out / name, text.encode())
    if not quiet:
        report.line(f"{out / 'report.html'}: {len(rows)} rows of {table}")
