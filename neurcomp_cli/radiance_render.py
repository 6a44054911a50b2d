"""``neurcomp radiance render``."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from neurcomp_cli import options, radiance_files, report
from neurcomp_cli.console import working
from neurcomp_cli.radiance_files import ImageSettings, color_of, opened, opened_with_images, split_of
from neurcomp_core.codec import Context, usable_cpus
from neurcomp_core.errors import InputError
from neurcomp_core.progress import Progress
from neurcomp_core.radiance import evaluation, movies, viewpoints
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.places import Place
from neurcomp_core.radiance.rendering.pictures import Kind, picture
from neurcomp_core.radiance.rendering.views import View, render_view
from neurcomp_core.radiance.volume import RadianceVolume
from neurcomp_core.threads import limit

_PATH = "Along a path, instead of a split"
_EXAMPLES = (
    "neurcomp radiance render mic.nvc -o views/ --data mic --split test",
    "neurcomp radiance render mic.nvc -o mic.mp4 --path circle --views 120 --size 800 800",
    "neurcomp radiance render mic.nvc -o turn.gif --path spiral --views 40 --size 200 200",
    "neurcomp radiance render mic.nvc -o one.png --path circle --views 1 --depth --normals",
)


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    options.add(app, render, *_EXAMPLES)


def render(
    source: radiance_files.Volume,
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            metavar="OUT",
            help="Folder for numbered PNGs; .png for one view; .mp4 or .gif for a movie.",
            show_default=False,
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Posed images, whose cameras are taken.", rich_help_panel=radiance_files.IMAGES
        ),
    ] = None,
    split: radiance_files.Split = None,
    path: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(viewpoints.PATHS),
            help="Once around; rising, or swaying before a forward-facing scene; through the cameras of --data.",
            rich_help_panel=_PATH,
        ),
    ] = None,
    views: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="How many; of a split all by default, of a path 60.")
    ] = None,
    size: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="W H", help="Pixels; by default the images', else 400 400.", rich_help_panel=_PATH),
    ] = None,
    angle: Annotated[
        float | None,
        typer.Option(
            metavar="DEGREES",
            help="Horizontal field of view; by default the images', else 39.6.",
            rich_help_panel=_PATH,
        ),
    ] = None,
    elevation: Annotated[
        float | None,
        typer.Option(metavar="DEGREES", help="Of a circle; by default the cameras', else 30.", rich_help_panel=_PATH),
    ] = None,
    depth: Annotated[bool, typer.Option("--depth", help="Also depth: near is light, nothing is black.")] = False,
    opacity: Annotated[bool, typer.Option("--opacity", help="Also opacity.")] = False,
    normals: Annotated[bool, typer.Option("--normals", help="Also normals, -1..1 as 0..1.")] = False,
    rate: Annotated[float, typer.Option("--fps", min=0.1, metavar="N", help="Frames per second of a movie.")] = 24.0,
    downscale: radiance_files.Downscale = 1,
    background: radiance_files.Background = None,
    holdout: radiance_files.Holdout = 8,
    skip_missing: radiance_files.SkipMissing = False,
    threads: options.Threads = None,
    device: options.Device = "auto",
    backend: radiance_files.Backend = "auto",
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Render a radiance field: the views of a split of posed images, or a path around it.

    Depth, opacity and normals are files of their own beside the picture; in a movie they stand side by side.
    """
    movies.check(out)
    if out.exists() and not force and (not out.is_dir() or any(out.glob("view_*.png"))):
        raise InputError(f"'{out}' exists; give --force to replace it, or another name with -o")
    if data is None and (split is not None or path == "through"):
        raise InputError("which images? --split and --path through need --data FOLDER")
    if split is not None and path is not None:
        raise InputError("give --split or --path, not both")
    count, place = threads or usable_cpus(), Place.of(device, backend)
    with working(f"rendering {source.name}", quiet=quiet) as progress, limit(count):
        context, given = Context("cpu", count), None
        if data is None:
            volume = opened(source, context, to_render=not place.host)
        else:
            settings = ImageSettings(downscale, background, holdout, skip_missing)
            volume, given = opened_with_images(source, data, settings, context, to_render=not place.host)
        if given is not None and path is None:
            if size is not None or angle is not None or elevation is not None:
                raise InputError("--size, --angle and --elevation are those of a path; give one with --path")
            seen = evaluation.checked(volume, split_of(given, split))
            seen = seen.take(evaluation.spread(len(seen) if views is None else views, len(seen)))
        else:
            seen = _path(volume, given, path, views or 60, size, angle, elevation)
            if background is not None:
                seen = seen.over(color_of(background))
        kinds = _kinds(depth, opacity, normals)
        start = time.perf_counter()
        written = movies.write(_frames(volume, place, seen, kinds, progress), out, rate)
    seconds = time.perf_counter() - start
    if as_json:
        lens = seen.cameras[0].intrinsics
        report.print_json(
            {
                "input": str(source),
                "files": [str(p) for p in written],
                "views": len(seen),
                "pixels": [lens.width, lens.height],
                "seconds": round(seconds, 3),
                "device": place.device,
                "backend": place.backend,
            }
        )
    elif not quiet:
        what = f"{len(written)} files" if len(written) > 1 else "written"
        views_text = f"{len(seen)} view{'s' if len(seen) > 1 else ''}"
        report.line(f"{out}: {what}, {views_text} in {seconds:.1f} s, {seconds / len(seen):.2f} s each")


def _kinds(depth: bool, opacity: bool, normals: bool) -> list[Kind]:
    kinds: list[tuple[Kind, bool]] = [("color", True), ("depth", depth), ("opacity", opacity), ("normal", normals)]
    return [kind for kind, wanted in kinds if wanted]


def _path(
    volume: RadianceVolume,
    data: PosedImages | None,
    path: str | None,
    views: int,
    size: tuple[int, int] | None,
    angle: float | None,
    elevation: float | None,
) -> PosedImages:
    turned = [None if degrees is None else math.radians(degrees) for degrees in (angle, elevation)]
    return viewpoints.along(volume, path, views, size, *turned, data=data)  # pyright: ignore[reportArgumentType]


def _frames(
    volume: RadianceVolume, place: Place, seen: PosedImages, kinds: list[Kind], progress: Progress
) -> Iterator[movies.Frame]:
    field = evaluation.rendered_by(volume, place)
    limits = None
    for i in range(len(seen)):
        part = progress.part(i / len(seen), (i + 1) / len(seen), f"view {i + 1} of {len(seen)}")
        view = render_view(field, seen, i, normals="normal" in kinds, progress=part)
        if limits is None and "depth" in kinds:
            # One scale for all, or a movie flickers.
            limits = _depths(view)
        yield {kind: picture(view, kind, limits) for kind in kinds}


def _depths(view: View) -> tuple[float, float] | None:
    seen = view.depth[np.isfinite(view.depth)]
    if not seen.size:
        return None
    near, far = np.percentile(seen, (1, 99))
    return float(near), float(far)
