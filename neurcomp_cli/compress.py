"""``neurcomp compress``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from neurcomp_cli import options, regions, report
from neurcomp_cli.compressing import Job, outputs, region_rows, run, run_series
from neurcomp_cli.volumes import TTHRESH, Reading, check_writable, is_compressed
from neurcomp_core import metrics
from neurcomp_core.codec import codec_by_name, usable_cpus
from neurcomp_core.errors import NeurCompError
from neurcomp_core.field import Field
from neurcomp_core.pipeline import Compressed
from neurcomp_core.regions import WEIGHT
from neurcomp_core.steps import KEY_EVERY

_TARGET = "Target: exactly one of"
_CODEC = "Codec"
_RUN = "Run"
_EXAMPLES = (
    "neurcomp compress flow.vti --ratio 100",
    "neurcomp compress flow.vti --psnr 50 --array pressure -o p.nvc",
    "neurcomp compress ct.nrrd --max-error 2 --preset small",
    "neurcomp compress ct.nrrd --psnr 45 --codec hashgrid --residual",
    "neurcomp compress flow.vti --l2-error 0.01 -o flow.tthresh",
    "neurcomp compress a.raw --dims 256,256,128 --dtype uint8 --bytes 100000",
    "neurcomp compress run/*.vti --ratio 200 --time-limit 600 -o small/",
    "neurcomp compress run/*.vti --psnr 50 -o run.nvc    # one series",
    "neurcomp compress new.vti --ratio 100 --codec hashgrid --init flow.nvi",
    "neurcomp compress ct.nrrd --ratio 50 --region box:40,90,40,90,0,60 --region band:1000,1400:4",
)


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    options.add(app, compress, *_EXAMPLES)


def compress(
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT", help="Volume files.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="OUT",
            help="Folder, or file; of several inputs a series. By default beside the input.",
        ),
    ] = None,
    ratio: Annotated[
        float | None, typer.Option(help="Raw bytes / file bytes; 97-100 % used.", rich_help_panel=_TARGET)
    ] = None,
    size: Annotated[
        int | None, typer.Option("--bytes", help="Bytes of the file; 97-100 % used.", rich_help_panel=_TARGET)
    ] = None,
    psnr: Annotated[
        float | None, typer.Option(help="At least so many dB, peak = max - min.", rich_help_panel=_TARGET)
    ] = None,
    max_error: Annotated[
        float | None,
        typer.Option(
            help="No sample off by more, in the data's units; 0: lossless, of integers.", rich_help_panel=_TARGET
        ),
    ] = None,
    relative_error: Annotated[
        float | None, typer.Option(help="No sample off by more than this times the range.", rich_help_panel=_TARGET)
    ] = None,
    rmse: Annotated[
        float | None, typer.Option(help="Root mean squared error at most, data's units.", rich_help_panel=_TARGET)
    ] = None,
    l2_error: Annotated[
        float | None, typer.Option(help="Norm of the error / norm of the data at most.", rich_help_panel=_TARGET)
    ] = None,
    arrays: options.Arrays = None,
    codec: Annotated[
        str, typer.Option(metavar="NAME", help="See `neurcomp codecs`; auto chooses.", rich_help_panel=_CODEC)
    ] = "auto",
    preset: Annotated[
        str, typer.Option(metavar="fast|balanced|small", help="Speed or size.", rich_help_panel=_CODEC)
    ] = "balanced",
    residual: Annotated[
        bool,
        typer.Option(
            "--residual", help="Networks: code what they miss, so that any target is met.", rich_help_panel=_CODEC
        ),
    ] = False,
    parameter_ratio: Annotated[
        float | None,
        typer.Option(
            metavar="RATIO", help="siren: samples per network parameter, as in its paper.", rich_help_panel=_CODEC
        ),
    ] = None,
    grad_lambda: Annotated[
        float | None,
        typer.Option(metavar="WEIGHT", help="siren: weight of the gradient's error.", rich_help_panel=_CODEC),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.nvi",
            help="hashgrid: start there where that is better; see `neurcomp meta-train`.",
            rich_help_panel=_CODEC,
        ),
    ] = None,
    delta_init: Annotated[
        bool,
        typer.Option(
            "--delta-init",
            help="hashgrid: store differences to --init, in fewer bytes; decoding needs it then.",
            rich_help_panel=_CODEC,
        ),
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Codec parameter; repeatable.", rich_help_panel=_CODEC),
    ] = None,
    key_every: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Time series: at least every N-th step needs no other; 1: all, 0: as few as pay.",
            rich_help_panel=_CODEC,
        ),
    ] = KEY_EVERY,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, metavar="N", help="Same seed, same bytes.", rich_help_panel=_RUN)
    ] = 0,
    threads: options.Threads = None,
    device: options.Device = "auto",
    backend: options.Backend = "auto",
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Keep trainings there; a killed run goes on where it was.", rich_help_panel=_RUN
        ),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(min=0.0, metavar="SECONDS", help="Per file; then exit with 3.", rich_help_panel=_RUN),
    ] = None,
    keep_best: Annotated[
        bool,
        typer.Option(
            "--keep-best",
            help="When stopped by Ctrl-C or the time limit, write the best so far.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    region: regions.Region = None,
    importance: regions.Array = None,
    transfer_function: regions.Opacity = None,
    region_weight: regions.Weight = WEIGHT,
    dims: options.Dims = None,
    dtype: options.Dtype = None,
    dataset: options.Dataset = None,
    fill_value: options.FillValue = None,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compress volume files to a size or a quality, each into a .nvc file, or a .tthresh file if OUT is one.

    Several inputs and a .nvc file OUT make that file the series of their time steps; so do several times in one input.
    A step is predicted from the one before it where that takes fewer bytes.

    The file is decoded and measured before it is written: a target is met or the command fails and says what can be
    reached. All numeric arrays are taken. A size is that of the whole file, a quality holds for each array.

    Regions move errors out of where they matter most: the sum of (weight × error)² is made least, and the table says
    what is left inside and outside. Targets hold for the whole array as ever; a PSNR costs more bytes then.

    Ctrl-C stops a run; nothing is written then, or with --keep-best the best so far.
    """
    chosen = codec_by_name(codec)
    job = Job(
        options.target_of(ratio, size, psnr, max_error, relative_error, rmse, l2_error),
        chosen.from_preset(
            preset,
            **options.settings_of(chosen, settings),
            **options.residual_of(chosen, residual),
            **options.parameters_of(chosen, parameter_ratio=parameter_ratio, grad_lambda=grad_lambda),
            **options.parameters_of(chosen, delta_init=delta_init or None),
        ),
        arrays,
        Reading(dims, dtype, dataset, fill_value),
        device,
        threads or usable_cpus(),
        seed,
        time_limit,
        keep_best,
        quiet,
        key_every,
        options.checkpoint_of(chosen, checkpoint),
        regions.wanted(region, importance, transfer_function, region_weight),
        options.init_of(chosen, init),
        backend,
    )
    done: list[dict[str, Any]] = []
    try:
        if len(inputs) > 1 and out is not None and is_compressed(out) and not out.is_dir():
            check_writable(out, force)
            start = time.perf_counter()
            result, fields = run_series(inputs, out, job)
            done.append(_record(inputs, out, fields, result, time.perf_counter() - start))
            if not quiet and not as_json:
                _show(out, fields, result, job)
            return
        for source, target in zip(inputs, outputs(inputs, out, force), strict=True):
            start = time.perf_counter()
            fields, matters = job.regions.load(source, job.arrays, job.reading)
            try:
                result = run(source, target, fields, job, matters)
            except NeurCompError as error:
                # With many files, which one it was matters more than anything else.
                if len(inputs) > 1:
                    error.args = (f"{source}: {error}", *error.args[1:])
                raise
            done.append(_record([source], target, fields, result, time.perf_counter() - start))
            rows = [] if quiet and not as_json else region_rows(target, fields, matters, job.init)
            for found, (_, of_regions) in zip(done[-1]["arrays"], rows, strict=False):
                found["regions"] = regions.as_json(of_regions)
            if not quiet and not as_json:
                _show(target, fields, result, job, rows)
    finally:
        # Also when a later file failed: what was written before it exists.
        if as_json and done:
            report.print_json({"files": done})


def _record(
    sources: Sequence[Path], target: Path, fields: list[Field], result: Compressed, seconds: float
) -> dict[str, Any]:
    raw = sum(f.nbytes for f in fields)
    return {
        "input": str(sources[0]) if len(sources) == 1 else [str(source) for source in sources],
        "output": str(target),
        "raw_bytes": raw,
        "file_bytes": len(result.data),
        "ratio": metrics.ratio(raw, len(result.data)),
        "bits_per_voxel": metrics.bits_per_voxel(len(result.data), sum(f.voxels for f in fields)),
        "seconds": round(seconds, 3),
        "arrays": [report.array_json(f, r) for f, r in zip(fields, result.reports, strict=True)],
    }


def _show(target: Path, fields: list[Field], result: Compressed, job: Job, rows: regions.Rows = ()) -> None:
    report.compressed_table(fields, result.reports)
    if rows:
        regions.show(rows)
    if job.codec.name == "auto" and target.suffix.lower() != TTHRESH:
        report.chosen(fields, result.reports)
    raw = sum(f.nbytes for f in fields)
    size = len(result.data)
    report.line(
        f"{target}: {report.whole(size)} bytes of {report.whole(raw)}, ratio {report.number(metrics.ratio(raw, size))}"
    )
    report.note(f"{report.PSNR}; {report.RATIO}.")
    if rows:
        report.note("PSNR in and out: peak = range of the whole array.")
    if target.suffix.lower() == TTHRESH:
        report.note(f"A {TTHRESH} file holds the tensor alone: grid, array name and time are not kept.")
