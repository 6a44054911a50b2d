"""``neurcomp meta-train``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from neurcomp_cli import options, report
from neurcomp_cli.console import working
from neurcomp_cli.volumes import Reading, check_writable, load
from neurcomp_core import init_file
from neurcomp_core.codec import Context, usable_cpus
from neurcomp_core.codecs.hashgrid import HashGrid
from neurcomp_core.errors import InputError, Interrupted, require
from neurcomp_core.field import Field

_LEARNING = "Learning"
_EXAMPLES = (
    "neurcomp meta-train run/*.vti -o flow.nvi --ratio 100",
    "neurcomp meta-train a.nrrd b.nrrd c.nrrd -o ct.nvi --ratio 200 --tasks 3",
    "neurcomp compress new.vti --ratio 100 --codec hashgrid --init flow.nvi",
)


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    options.add(app, meta_train, *_EXAMPLES, name="meta-train")


def meta_train(
    inputs: Annotated[list[Path], typer.Argument(metavar="VOLUME", help="Volume files.", show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT.nvi", help="File to write.", show_default=False)],
    ratio: Annotated[
        float | None, typer.Option(help="Ratio that networks are shaped for; 100 if no size is given.")
    ] = None,
    size: Annotated[int | None, typer.Option("--bytes", help="The same as bytes of the first volume's file.")] = None,
    arrays: options.Arrays = None,
    rounds: Annotated[int, typer.Option(min=1, metavar="N", help="Outer steps.", rich_help_panel=_LEARNING)] = 30,
    inner: Annotated[
        int, typer.Option(min=1, metavar="N", help="Training steps on a field.", rich_help_panel=_LEARNING)
    ] = 200,
    outer_rate: Annotated[
        float,
        typer.Option(metavar="RATE", help="Share of the way to a trained network.", rich_help_panel=_LEARNING),
    ] = 0.7,
    tasks: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Fields per outer step; 1: serial Reptile.", rich_help_panel=_LEARNING),
    ] = 1,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Parameter of hashgrid; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, metavar="N", help="Same seed, same start.")] = 0,
    threads: options.Threads = None,
    device: options.Device = "auto",
    backend: options.Backend = "auto",
    time_limit: Annotated[
        float | None, typer.Option(min=0.0, metavar="SECONDS", help="Then write the start so far; exit with 3.")
    ] = None,
    dims: options.Dims = None,
    dtype: options.Dtype = None,
    dataset: options.Dataset = None,
    fill_value: options.FillValue = None,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Learn where networks of the codec hashgrid should start, from volumes like those to compress (Reptile).

    The start serves `compress --init`, at any size and for volumes of any resolution, with the same number of
    components and of axes. Files made with it do not need it, unless --delta-init asks for smaller ones that do. Every
    array is a task, and all are held in memory.

    Ctrl-C ends the learning; the start as it is then is written.
    """
    from neurcomp_core.target import Bytes, Ratio

    start = time.perf_counter()
    if out.suffix.lower() != init_file.SUFFIX:
        raise InputError(f"-o {out}: expected a name that ends in {init_file.SUFFIX}")
    if ratio is not None and size is not None:
        raise InputError("give --ratio or --bytes, not both")
    check_writable(out, force)
    require("torch", "train", "meta-training")
    from neurcomp_core.fit.reptile import Plan
    from neurcomp_core.fit.reptile import meta_train as learn

    codec = HashGrid(**options.settings_of(HashGrid, settings))
    plan = Plan(rounds, inner, outer_rate, tasks)
    reading = Reading(dims, dtype, dataset, fill_value)
    fields = _tasks([field for path in inputs for field in load(path, arrays, reading)])
    target = Bytes(size) if size is not None else Ratio(100.0 if ratio is None else ratio)
    budget = target.budget(fields[0].nbytes)
    assert budget is not None
    with working("learning a start", quiet=quiet, time_limit=time_limit, hands_over=True) as progress:
        context = Context(device, threads or usable_cpus(), seed, progress, backend=backend)
        try:
            found = learn(fields, budget, codec, plan, context, out.stem)
        except Interrupted as stop:
            if not isinstance(stop.best, init_file.Init):
                raise
            stop.best.write(out)
            raise type(stop)(f"{stop}; the start as it is now is in '{out}'", stop.best) from stop
    found.write(out)
    seconds = time.perf_counter() - start
    if as_json:
        report.print_json(
            {"output": str(out), "bytes": len(found.data), "tasks": len(fields), "seconds": round(seconds, 3)}
        )
    elif not quiet:
        report.line(
            f"{out}: {report.whole(len(found.data))} bytes, learned from {len(fields)} fields in {seconds:.1f} s"
        )


def _tasks(fields: list[Field]) -> list[Field]:
    """Fields with their special samples masked and filled, as trainings take them."""
    from neurcomp_core.array_coding import prepare

    return [prepare(field, 0, HashGrid()).field for field in fields]
