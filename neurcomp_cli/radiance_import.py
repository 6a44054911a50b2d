"""``neurcomp radiance import``."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from neurcomp_cli import options, radiance_coding, radiance_files, report
from neurcomp_cli.console import working
from neurcomp_cli.radiance_coding import Coding
from neurcomp_cli.radiance_files import ImageSettings, images_of, imported, output
from neurcomp_core.codec import usable_cpus
from neurcomp_core.radiance.codec import RadianceContext
from neurcomp_core.threads import limit

_EXAMPLES = (
    "neurcomp radiance import fine_last.tar mic.nvc --data mic",
    "neurcomp radiance import ckpt.npz mic.nvc --data mic --scale 1.5    # svox2's world is 2/3 as large",
    "neurcomp radiance import model_200000.npy lego.nvc --data lego",
)


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    options.add(app, import_, *_EXAMPLES, name="import")


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="svox2 .npz, DirectVoxGO .tar, nerf-pytorch .tar, NeRF .npy.", show_default=False
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.nvc", help="File to write.", show_default=False)],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Its posed images: bounds and background are theirs, and quality is measured.",
            rich_help_panel=radiance_files.IMAGES,
        ),
    ] = None,
    scale: Annotated[
        float, typer.Option(metavar="FACTOR", help="Length in the images' world of one unit of the model's.")
    ] = 1.0,
    evaluate: radiance_files.Evaluate = None,
    codec: radiance_coding.CodecName = None,
    codec_preset: radiance_coding.CodecPreset = None,
    codec_settings: radiance_coding.CodecSettings = None,
    size: radiance_coding.Size = None,
    ratio: radiance_coding.RatioOption = None,
    psnr_loss: radiance_coding.LossOption = None,
    downscale: radiance_files.Downscale = 1,
    background: radiance_files.Background = None,
    holdout: radiance_files.Holdout = 8,
    skip_missing: radiance_files.SkipMissing = False,
    threads: options.Threads = None,
    device: options.Device = "auto",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, metavar="N", help="Same seed, same bytes.")] = 0,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Read a trained radiance field of another program into a .nvc file.

    No code in such a file is executed. Without --data a field is rendered over white, and its quality is not known.
    """
    output(out, force)
    coding = Coding.of(codec, codec_preset, codec_settings, size, ratio, psnr_loss)
    start = time.perf_counter()
    count = threads or usable_cpus()
    given = None if data is None else images_of(data, ImageSettings(downscale, background, holdout, skip_missing))
    with working(f"importing {source.name}", quiet=quiet, hands_over=True) as progress, limit(count):
        volume = imported(source, given, scale)
        context = RadianceContext(device, count, seed, progress)
        if given is not None:
            views, judges = radiance_files.to_train(given), radiance_files.judges(given, evaluate)
            context = replace(context, views=views, unseen=judges)
        record = coding.write(volume, out, context)
    if as_json:
        report.print_json({"input": str(source), **record, "seconds": round(time.perf_counter() - start, 3)})
    elif not quiet:
        radiance_coding.show(record)
