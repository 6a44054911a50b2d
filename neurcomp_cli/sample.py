"""``neurcomp sample``."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from neurcomp_cli import options, report, sample_radiance
from neurcomp_cli.console import working
from neurcomp_cli.volumes import check_writable
from neurcomp_core import samples
from neurcomp_core.errors import InputError
from neurcomp_core.field import Field
from neurcomp_core.progress import Progress

_EXAMPLES = (
    "neurcomp sample taylor-green -o flow.vti",
    "neurcomp sample taylor-green -o flow.pvd --times 2,4,6,8 --what both",
    "neurcomp sample taylor-green -o flow.vti --steps 9    # flow_0000.vti ...",
    "neurcomp sample marschner-lobb -o rings.vti --size 41",
    "neurcomp sample radiance -o photographs --scene inward --size 100",
)


class Kind(str, Enum):
    """What can be computed."""

    taylor_green = "taylor-green"
    marschner_lobb = "marschner-lobb"
    radiance = "radiance"


class What(str, Enum):
    """Arrays of a flow."""

    vorticity = "vorticity"
    velocity = "velocity"
    both = "both"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    options.add(app, sample, *_EXAMPLES)


_FLOW = "Taylor-Green flow"
_RADIANCE = "Posed images of a radiance field"


def sample(
    kind: Annotated[Kind, typer.Argument(help="What to compute.", show_default=False)],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="OUT", help="File to write, or folder.", show_default=False)
    ],
    size: Annotated[
        int | None,
        typer.Option(help="Samples per axis, 64 by default; radiance: pixels, 100 by default.", show_default=False),
    ] = None,
    reynolds: Annotated[float, typer.Option(help="Reynolds number.", rich_help_panel=_FLOW)] = 300,
    time: Annotated[float, typer.Option(help="Time of the flow.", rich_help_panel=_FLOW)] = 8,
    steps: Annotated[
        int | None,
        typer.Option(min=2, metavar="N", help="A series: so many times from 0 to --time.", rich_help_panel=_FLOW),
    ] = None,
    times: Annotated[
        str | None, typer.Option(metavar="T1,T2,…", help="A series at these times.", rich_help_panel=_FLOW)
    ] = None,
    what: Annotated[What, typer.Option(help="Arrays to write.", rich_help_panel=_FLOW)] = What.vorticity,
    perturbation: Annotated[float, typer.Option(help="Random part of the start, 0 to 1.", rich_help_panel=_FLOW)] = 0.1,
    scene: Annotated[sample_radiance.Scene, typer.Option(help="What to photograph.", rich_help_panel=_RADIANCE)] = (
        sample_radiance.Scene.inward
    ),
    views: Annotated[int, typer.Option(metavar="N", help="Images to train on.", rich_help_panel=_RADIANCE)] = 60,
    test_views: Annotated[int, typer.Option(metavar="N", help="Images to test on.", rich_help_panel=_RADIANCE)] = 10,
    truth: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.vti", help="Also write the scene's density and colour on a grid.", rich_help_panel=_RADIANCE
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of what is random.")] = 0,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compute sample data: a turbulent flow by direct numerical simulation, the Marschner-Lobb test signal, or
    ray-traced photographs of a small radiance field with their cameras.

    A series goes into one .pvd collection, or into numbered files. Photographs go into a folder in the layout of
    NeRF-synthetic (inward), LLFF (forward) or nerfstudio (unbounded).
    """
    if kind is Kind.radiance:
        sample_radiance.run(
            out, scene.value, 100 if size is None else size, views, test_views, seed, truth, force, as_json, quiet
        )
        return
    size = 64 if size is None else size
    if kind is Kind.marschner_lobb:
        check_writable(out, force)
        _finish(out, [_write([samples.marschner_lobb(size)], out)], as_json, quiet)
        return
    if steps is not None and times is not None:
        raise InputError("give --steps or --times, not both")
    wanted = [time]
    if times is not None:
        wanted = options.numbers(times, "--times")
    elif steps is not None:
        wanted = [float(t) for t in np.linspace(0.0, time, steps)]
    series = len(wanted) > 1
    together = out.suffix.lower() == ".pvd"
    paths = [out]
    if series and not together:
        paths = [out.with_name(f"{out.stem}_{i:04d}{out.suffix}") for i in range(len(wanted))]
    for path in paths:
        check_writable(path, force)
    written: list[tuple[Path, list[Field]]] = []
    with working("simulating", quiet=quiet) as progress:
        flow = _flow(size, reynolds, wanted, perturbation, seed, what, progress)
        if together:
            written.append(_write([field for fields in flow for field in fields], out))
        else:
            written += [_write(fields, path) for fields, path in zip(flow, paths, strict=True)]
    _finish(out, written, as_json, quiet)


def _flow(
    size: int, reynolds: float, times: list[float], perturbation: float, seed: int, what: What, progress: Progress
) -> Iterator[list[Field]]:
    series = samples.taylor_green_series(size, reynolds, times, perturbation=perturbation, seed=seed, progress=progress)
    for step in series:
        parts = {What.vorticity: [step.vorticity_magnitude], What.velocity: [step.velocity]}
        yield parts.get(what, [step.vorticity_magnitude, step.velocity])


def _write(fields: list[Field], path: Path) -> tuple[Path, list[Field]]:
    from neurcomp_filters import io

    io.write(fields, path)
    return path, fields


def _finish(out: Path, written: list[tuple[Path, list[Field]]], as_json: bool, quiet: bool) -> None:
    if as_json:
        files = [{"output": str(path), "arrays": [report.field_json(f) for f in fields]} for path, fields in written]
        report.print_json({"files": files})
    elif not quiet:
        for path, fields in written:
            names = ", ".join(f"{report.label(f)} {report.shape_text(f.values.shape)}" for f in fields)
            report.line(f"{path}: {names}")
