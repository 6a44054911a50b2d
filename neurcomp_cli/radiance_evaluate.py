"""``neurcomp radiance evaluate``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from neurcomp_cli import options, radiance_files, radiance_tables, report
from neurcomp_cli.console import working
from neurcomp_cli.radiance_files import ImageSettings, opened_with_images, split_of
from neurcomp_cli.volumes import check_writable
from neurcomp_core.codec import Context, usable_cpus
from neurcomp_core.radiance import evaluation, movies
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.evaluation import ViewFigures
from neurcomp_core.radiance.images import write_png
from neurcomp_core.radiance.places import Place
from neurcomp_core.threads import limit

_EXAMPLES = (
    "neurcomp radiance evaluate mic.nvc mic --split test",
    "neurcomp radiance evaluate mic.nvc mic --views 5 --csv figures.csv --picture worst.png",
    "neurcomp radiance evaluate fine_last.tar mic --lpips --json    # another program's model",
)
#: LPIPS of this network is what the tables of NeRF and Plenoxels have.
_NETWORK = "vgg"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    options.add(app, evaluate, *_EXAMPLES)


def evaluate(
    source: radiance_files.Volume,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of posed images.", show_default=False)],
    split: radiance_files.Split = None,
    views: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only so many, evenly spread; all by default.")
    ] = None,
    lpips: Annotated[bool, typer.Option("--lpips", help=f"Also LPIPS ({_NETWORK}); needs the extra 'lpips'.")] = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Also write the table there.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Also write the table there.")] = None,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Worst view: photograph, rendered, error (white: 25 % of the range)."),
    ] = None,
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
    """Measure how close a field's views are to photographs it has not seen.

    PSNR has peak 1, as in all tables of radiance fields; means are over views.
    """
    for path in (csv, html, picture):
        if path is not None:
            check_writable(path, force)
    count, place = threads or usable_cpus(), Place.of(device, backend)
    with working(f"evaluating {source.name}", quiet=quiet) as progress, limit(count):
        settings = ImageSettings(downscale, background, holdout, skip_missing)
        context = Context("cpu", count)
        volume, images = opened_with_images(source, data, settings, context, to_render=not place.host)
        seen = split_of(images, split)
        chosen = None if views is None else evaluation.spread(views, len(seen))
        worst: tuple[float, Callable[[], np.ndarray]] | None = None
        rows: list[ViewFigures] = []
        network = _NETWORK if lpips else None
        for index, figures, view in evaluation.evaluate(volume, seen, chosen, network, progress, place):
            rows.append(figures)
            if worst is None or figures.psnr < worst[0]:
                color = view.color
                worst = figures.psnr, lambda i=index, c=color: comparison(seen, i, c)
        if picture is not None and worst is not None:
            write_png(picture, worst[1]())
    table = radiance_tables.Table.of(rows)
    if csv is not None:
        table.write_csv(csv)
    if html is not None:
        table.write_html(html, f"{source.name}, {len(rows)} views of {data.name}")
    if as_json:
        where = {"device": place.device, "backend": place.backend}
        report.print_json({**_record(source, data, rows, table, picture), **where})
    elif not quiet:
        report.table(table.heads, table.cells, left=1)
        report.note(radiance_tables.NOTE + (f" LPIPS: network {_NETWORK}." if lpips else ""))
        for path in (csv, html, picture):
            if path is not None:
                report.line(f"{path}: written")


def comparison(data: PosedImages, view: int, rendered: np.ndarray) -> np.ndarray:
    """Photograph, rendered view and absolute error, side by side; an error of a quarter is white."""
    truth, got = data.colors(view), np.clip(rendered, 0, 1)
    return movies.side_by_side([truth, got, np.clip(4 * np.abs(truth - got), 0, 1)])


def _record(
    source: Path, data: Path, rows: Sequence[ViewFigures], table: radiance_tables.Table, picture: Path | None
) -> dict[str, Any]:
    found = [
        {"view": r.name, "psnr": r.psnr, "ssim": r.ssim, "lpips": r.lpips, "seconds": round(r.seconds, 4)} for r in rows
    ]
    drawn = None if picture is None else str(picture)
    return {"input": str(source), "data": str(data), "views": found, "mean": table.means, "picture": drawn}
