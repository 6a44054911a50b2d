"""``neurcomp compress``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from neurcomp_cli import options, report
from neurcomp_cli.console import working
from neurcomp_cli.series import compress_files
from neurcomp_cli.volumes import NVC, TTHRESH, Reading, check_writable, is_compressed, load, open_compressed
from neurcomp_core import metrics
from neurcomp_core.codec import Codec, Context, codec_by_name, usable_cpus
from neurcomp_core.errors import InputError, Interrupted, NeurCompError
from neurcomp_core.field import Field
from neurcomp_core.files import atomic_write
from neurcomp_core.pipeline import Compressed
from neurcomp_core.pipeline import compress as compress_fields
from neurcomp_core.steps import KEY_EVERY, History
from neurcomp_core.target import Target

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
)


@dataclass(frozen=True)
class _Job:
    """What holds for all files of one command."""

    target: Target
    codec: Codec
    arrays: Sequence[str] | None
    reading: Reading
    device: str
    threads: int
    seed: int
    time_limit: float | None
    keep_best: bool
    silent: bool
    key_every: int
    checkpoint: Path | None


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

    Ctrl-C stops a run; nothing is written then, or with --keep-best the best so far.
    """
    chosen = codec_by_name(codec)
    job = _Job(
        options.target_of(ratio, size, psnr, max_error, relative_error, rmse, l2_error),
        chosen.from_preset(
            preset,
            **options.settings_of(chosen, settings),
            **options.residual_of(chosen, residual),
            **options.parameters_of(chosen, parameter_ratio=parameter_ratio, grad_lambda=grad_lambda),
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
    )
    done: list[dict[str, Any]] = []
    try:
        if len(inputs) > 1 and out is not None and is_compressed(out) and not out.is_dir():
            check_writable(out, force)
            start = time.perf_counter()
            result, fields = _run_series(inputs, out, job)
            done.append(_record(inputs, out, fields, result, time.perf_counter() - start))
            if not quiet and not as_json:
                _show(out, fields, result, job)
            return
        outputs = _outputs(inputs, out, force)
        for source, target in zip(inputs, outputs, strict=True):
            start = time.perf_counter()
            fields = load(source, job.arrays, job.reading)
            try:
                result = _run(source, target, fields, job)
            except NeurCompError as error:
                # With many files, which one it was matters more than anything else.
                if len(inputs) > 1:
                    error.args = (f"{source}: {error}", *error.args[1:])
                raise
            done.append(_record([source], target, fields, result, time.perf_counter() - start))
            if not quiet and not as_json:
                _show(target, fields, result, job)
    finally:
        # Also when a later file failed: what was written before it exists.
        if as_json and done:
            report.print_json({"files": done})


def _outputs(inputs: Sequence[Path], out: Path | None, force: bool) -> list[Path]:
    if len(inputs) > 1 and out is not None and not out.is_dir():
        raise InputError(
            f"-o {out}: {len(inputs)} inputs give as many files; give a folder that exists, "
            f"or a name that ends in {NVC} for a series"
        )
    found: dict[Path, Path] = {}
    for source in inputs:
        _check_not_compressed(source)
        target = options.path_for(source, out, NVC)
        if not is_compressed(target) and target.suffix.lower() != TTHRESH:
            raise InputError(f"-o {target}: expected a name that ends in {NVC} or {TTHRESH}")
        if target in found:
            raise InputError(f"'{found[target]}' and '{source}' would both become '{target}'; give them one by one")
        check_writable(target, force)
        found[target] = source
    return list(found)


def _check_not_compressed(source: Path) -> None:
    if is_compressed(source):
        raise InputError(f"'{source}' is compressed already; decompress it first to compress it in another way")


def _run(source: Path, target: Path, fields: list[Field], job: _Job) -> Compressed:
    def work(context: Context) -> Compressed:
        if target.suffix.lower() == TTHRESH:
            return _bare_stream(fields, target, job, context)
        return compress_fields(fields, job.target, job.codec, context, _history(fields, job))

    return _written(f"compressing {source.name}", target, job, work)


def _history(fields: list[Field], job: _Job) -> History | None:
    """How the steps of one file are predicted, if there are several."""
    return History(job.key_every) if len({f.time for f in fields}) > 1 else None


def _run_series(inputs: Sequence[Path], target: Path, job: _Job) -> tuple[Compressed, list[Field]]:
    for source in inputs:
        _check_not_compressed(source)
    fields: list[Field] = []

    def work(context: Context) -> Compressed:
        result, found = compress_files(
            inputs, lambda path: load(path, job.arrays, job.reading), job.target, job.codec, job.key_every, context
        )
        fields.extend(found)
        return result

    return _written(f"compressing {target.name}", target, job, work), fields


def _written(title: str, target: Path, job: _Job, work: Callable[[Context], Compressed]) -> Compressed:
    """What `work` makes, in the file `target`."""
    with working(title, quiet=job.silent, time_limit=job.time_limit, hands_over=True) as progress:
        try:
            result = work(Context(job.device, job.threads, job.seed, progress, checkpoint=job.checkpoint))
        except Interrupted as stop:
            raise type(stop)(f"{stop}; {_keep(stop.best, target, job)}", stop.best) from stop
    atomic_write(target, result.data)
    if job.checkpoint is not None:
        # What it was kept for is done.
        job.checkpoint.unlink(missing_ok=True)
    return result


def _bare_stream(fields: list[Field], target: Path, job: _Job, context: Context) -> Compressed:
    from neurcomp_core.tthresh.file import compress_file

    if len(fields) != 1:
        names = ", ".join(f"'{f.name}'" for f in fields)
        raise InputError(f"-o {target}: a {TTHRESH} file holds one array, got {len(fields)} ({names}); choose one")
    if job.codec.name not in ("tthresh", "auto"):
        raise InputError(f"-o {target}: a {TTHRESH} file is of the codec tthresh, got --codec {job.codec.name}")
    return compress_file(fields[0], job.target, context)


def _keep(best: object, target: Path, job: _Job) -> str:
    """Write the best so far if that was asked for; what became of it."""
    if not job.keep_best:
        return "nothing was written (--keep-best writes the best so far)"
    if not isinstance(best, bytes):
        return "nothing was written, as there is no complete result yet"
    atomic_write(target, best)
    file = open_compressed(target)
    raw = sum(file.spec(i).nbytes for i in range(len(file)))
    # Of several arrays, those that were not begun are missing.
    arrays = ", ".join(f"'{r.name}' at a PSNR of {r.psnr:.2f} dB" for r in file.header.arrays if r.psnr is not None)
    return (
        f"the best so far is in '{target}': {len(best)} bytes, ratio {metrics.ratio(raw, len(best)):.4g}, {arrays}, "
        f"which is not a finished {job.target}"
    )


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


def _show(target: Path, fields: list[Field], result: Compressed, job: _Job) -> None:
    report.compressed_table(fields, result.reports)
    if job.codec.name == "auto" and target.suffix.lower() != TTHRESH:
        report.chosen(fields, result.reports)
    raw = sum(f.nbytes for f in fields)
    size = len(result.data)
    report.line(
        f"{target}: {report.whole(size)} bytes of {report.whole(raw)}, ratio {report.number(metrics.ratio(raw, size))}"
    )
    report.note(f"{report.PSNR}; {report.RATIO}.")
    if target.suffix.lower() == TTHRESH:
        report.note(f"A {TTHRESH} file holds the tensor alone: grid, array name and time are not kept.")
