"""What ``neurcomp compress`` does with its files once its options are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurcomp_cli import options
from neurcomp_cli.console import working
from neurcomp_cli.regions import Rows, Wanted
from neurcomp_cli.series import compress_files
from neurcomp_cli.volumes import NVC, TTHRESH, Reading, check_writable, is_compressed, load, open_compressed
from neurcomp_core import metrics, region_quality
from neurcomp_core.codec import Codec, Context
from neurcomp_core.errors import InputError, Interrupted
from neurcomp_core.field import Field
from neurcomp_core.files import atomic_write
from neurcomp_core.init_file import Init
from neurcomp_core.pipeline import Compressed, decode_array
from neurcomp_core.pipeline import compress as compress_fields
from neurcomp_core.regions import Importance
from neurcomp_core.steps import History
from neurcomp_core.target import Target


@dataclass(frozen=True)
class Job:
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
    regions: Wanted
    init: Init | None = None
    backend: str = "auto"


def outputs(inputs: Sequence[Path], out: Path | None, force: bool) -> list[Path]:
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


def run(source: Path, target: Path, fields: list[Field], job: Job, importance: Importance | None = None) -> Compressed:
    def work(context: Context) -> Compressed:
        if target.suffix.lower() == TTHRESH:
            return _bare_stream(fields, target, job, context)
        return compress_fields(fields, job.target, job.codec, context, _history(fields, job))

    return _written(f"compressing {source.name}", target, job, work, importance)


def _history(fields: list[Field], job: Job) -> History | None:
    """How the steps of one file are predicted, if there are several."""
    return History(job.key_every) if len({f.time for f in fields}) > 1 else None


def run_series(inputs: Sequence[Path], target: Path, job: Job) -> tuple[Compressed, list[Field]]:
    for source in inputs:
        _check_not_compressed(source)
    fields: list[Field] = []

    def work(context: Context) -> Compressed:
        result, found = compress_files(
            inputs, lambda path: load(path, job.arrays, job.reading), job.target, job.codec, job.key_every, context
        )
        fields.extend(found)
        return result

    return _written(f"compressing {target.name}", target, job, work, job.regions.importance), fields


def _written(
    title: str, target: Path, job: Job, work: Callable[[Context], Compressed], importance: Importance | None
) -> Compressed:
    """What `work` makes, in the file `target`."""
    with working(title, quiet=job.silent, time_limit=job.time_limit, hands_over=True) as progress:
        try:
            context = Context(
                job.device,
                job.threads,
                job.seed,
                progress,
                checkpoint=job.checkpoint,
                importance=importance,
                init=job.init,
                backend=job.backend,
            )
            result = work(context)
        except Interrupted as stop:
            raise type(stop)(f"{stop}; {_keep(stop.best, target, job)}", stop.best) from stop
    atomic_write(target, result.data)
    if job.checkpoint is not None:
        # What it was kept for is done.
        job.checkpoint.unlink(missing_ok=True)
    return result


def _bare_stream(fields: list[Field], target: Path, job: Job, context: Context) -> Compressed:
    from neurcomp_core.tthresh.file import compress_file

    if job.regions:
        raise InputError(f"-o {target}: the codec tthresh cannot make some samples better than others")
    if len(fields) != 1:
        names = ", ".join(f"'{f.name}'" for f in fields)
        raise InputError(f"-o {target}: a {TTHRESH} file holds one array, got {len(fields)} ({names}); choose one")
    if job.codec.name not in ("tthresh", "auto"):
        raise InputError(f"-o {target}: a {TTHRESH} file is of the codec tthresh, got --codec {job.codec.name}")
    return compress_file(fields[0], job.target, context)


def _keep(best: object, target: Path, job: Job) -> str:
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


def region_rows(target: Path, fields: Sequence[Field], importance: Importance | None, init: Init | None = None) -> Rows:
    """Errors of the arrays of a file inside and outside of each region; none if there is no importance."""
    if importance is None:
        return []
    file, context = open_compressed(target), Context(init=init)
    return [
        (f, region_quality.report(f, decode_array(file, i, context=context).values, importance))
        for i, f in enumerate(fields)
    ]
