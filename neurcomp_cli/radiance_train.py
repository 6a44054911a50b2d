"""``neurcomp radiance train``."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from neurcomp_cli import options, radiance_coding, radiance_files, report
from neurcomp_cli.console import working
from neurcomp_cli.radiance_coding import Coding
from neurcomp_cli.radiance_files import ImageSettings, images_of, output, split_of
from neurcomp_cli.radiance_watching import Watcher
from neurcomp_core.codec import usable_cpus
from neurcomp_core.errors import InputError, Interrupted
from neurcomp_core.files import checked_path
from neurcomp_core.progress import Progress
from neurcomp_core.radiance import trainers
from neurcomp_core.radiance.codec import RadianceContext
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.places import Place
from neurcomp_core.radiance.trainers import Trainer
from neurcomp_core.radiance.volume import RadianceVolume
from neurcomp_core.threads import limit

_MODEL = "Model"
_RUN = "Run"
_EXAMPLES = (
    "neurcomp radiance train photographs scene.nvc",
    "neurcomp radiance train mic mic.nvc --model dvgo --downscale 4 --checkpoint mic.ckpt --preview previews/",
    "neurcomp radiance train mic mic.nvc --preset fast --set steps=4000 --set tv_sh=0.01",
    "neurcomp radiance train mic mic.nvc --codec vqrf --bytes 1000000",
    "neurcomp radiance train mic mic.nvc --preset full --device cuda --checkpoint mic.ckpt --time-limit 540",
)
#: Share of the whole command, for the bar, that training takes.
_TRAINED = 0.9


@dataclass(frozen=True)
class _Job:
    """What to train, on what."""

    trainer: Trainer
    recipe: Any
    train: PosedImages
    judges: PosedImages | None
    context: RadianceContext
    preview: Path | None
    keep_best: bool
    coding: Coding


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    options.add(app, train, *_EXAMPLES)


def train(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            help="Folder of posed images: NeRF-synthetic, nerfstudio, instant-ngp, LLFF or COLMAP.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.nvc", help="File to write.", show_default=False)],
    model: Annotated[
        str, typer.Option(metavar="|".join(trainers.NAMES), help="What to train.", rich_help_panel=_MODEL)
    ] = "plenoxels",
    preset: Annotated[
        str, typer.Option(metavar="fast|balanced|full", help="full: the paper's, for a GPU.", rich_help_panel=_MODEL)
    ] = "balanced",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Number of the recipe; repeatable.", rich_help_panel=_MODEL),
    ] = None,
    codec: radiance_coding.CodecName = None,
    codec_preset: radiance_coding.CodecPreset = None,
    codec_settings: radiance_coding.CodecSettings = None,
    size: radiance_coding.Size = None,
    ratio: radiance_coding.RatioOption = None,
    psnr_loss: radiance_coding.LossOption = None,
    downscale: radiance_files.Downscale = 1,
    background: radiance_files.Background = None,
    split: Annotated[
        str,
        typer.Option(metavar="train|val|test|all", help="Images to train on.", rich_help_panel=radiance_files.IMAGES),
    ] = "train",
    holdout: radiance_files.Holdout = 8,
    skip_missing: radiance_files.SkipMissing = False,
    evaluate: radiance_files.Evaluate = None,
    preview: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Now and then an unseen view there, beside its photograph.", rich_help_panel=_RUN
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Keep the training there; a killed run goes on where it was.", rich_help_panel=_RUN
        ),
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option(min=0.0, metavar="SECONDS", help="Then exit with 3.", rich_help_panel=_RUN)
    ] = None,
    keep_best: Annotated[
        bool,
        typer.Option(
            "--keep-best",
            help="When stopped by Ctrl-C or the time limit, write the model so far.",
            rich_help_panel=_RUN,
        ),
    ] = False,
    threads: options.Threads = None,
    device: options.Device = "auto",
    backend: radiance_files.Backend = "auto",
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, metavar="N", help="Same seed, same field.", rich_help_panel=_RUN)
    ] = 0,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a radiance field from photographs with known cameras and write it into a compressed .nvc file.

    The PSNR shown while it trains is that of the training images. At the end the field's views are measured on images
    it has not seen, and the mean PSNR is kept in the file.

    Ctrl-C or the time limit stops a run: its checkpoint, if there is one, stays to go on from, and nothing else is
    written, unless --keep-best asks for the model so far.
    """
    output(out, force)
    if checkpoint is not None:
        checked_path(checkpoint)
    if preview is not None and preview.exists() and not preview.is_dir():
        raise InputError(f"--preview: '{preview}' is a file; give a folder")
    coding = Coding.of(codec, codec_preset, codec_settings, size, ratio, psnr_loss)
    trainer = trainers.trainer(model)
    recipe = _recipe(trainer, preset, settings)
    images = images_of(data, ImageSettings(downscale, background, holdout, skip_missing))
    chosen, judges = split_of(images, split), radiance_files.judges(images, evaluate)
    count = threads or usable_cpus()
    start = time.perf_counter()
    with (
        working(f"training {model}", quiet=quiet, time_limit=time_limit, hands_over=True) as progress,
        limit(count),
    ):
        context = RadianceContext(
            device, count, seed, progress, checkpoint=checkpoint, backend=backend, views=chosen, unseen=judges
        )
        job = _Job(trainer, recipe, chosen, judges, context, preview, keep_best, coding)
        record = _run(job, out)
    if checkpoint is not None:
        # What it was kept for is done.
        checkpoint.unlink(missing_ok=True)
    if as_json:
        given = {"input": str(data), "model": model, "preset": preset, "images": len(chosen)}
        report.print_json({**given, **record, "seconds": round(time.perf_counter() - start, 3)})
    elif not quiet:
        report.line(
            f"{model}, {preset}: {len(chosen)} images, {_what(record)}trained in {record['training_seconds']:.0f} s"
        )
        radiance_coding.show(record)


def _recipe(trainer: Trainer, preset: str, settings: list[str] | None) -> Any:
    if preset not in trainer.recipe.presets:
        listing = ", ".join(trainer.recipe.presets)
        raise InputError(f"--preset: model {trainer.name} has {listing}, got '{preset}'")
    known = trainers.parameters(trainer.recipe)
    return trainer.recipe.from_preset(preset, **options.settings_in(known, f"model {trainer.name}", settings))


def _run(job: _Job, out: Path) -> dict[str, Any]:
    start = time.perf_counter()
    progress = job.context.progress
    place = Place.of(job.context.device, job.context.backend)
    watcher = Watcher(job.recipe, job.judges, job.preview, job.train, place)
    volume = None
    try:
        own = replace(job.context, progress=watcher.telling(progress.part(0.0, _TRAINED)))
        volume = RadianceVolume.of(job.trainer.train(job.train, job.recipe, own, watcher), job.train)
        trained = time.perf_counter() - start
        context = replace(job.context, progress=progress.part(_TRAINED, 1.0, "compressing"))
        record = job.coding.write(volume, out, context)
    except Interrupted as stop:
        # A trainer hands over a model; what is stopped later has the trained one.
        if volume is None and stop.best is not None:
            volume = RadianceVolume.of(stop.best, job.train)  # pyright: ignore[reportArgumentType]
        raise type(stop)(f"{stop}; {_keep(volume, job, out)}", stop.best) from stop
    return {**record, "training_seconds": round(trained, 3), "voxels": _voxels(volume)}


def _keep(volume: RadianceVolume | None, job: _Job, out: Path) -> str:
    """What became of a run that was stopped."""
    checkpoint = job.context.checkpoint
    kept = "" if checkpoint is None else f"'{checkpoint}' goes on from here; "
    if not job.keep_best:
        if checkpoint is None:
            return "nothing was written (--keep-best writes the model so far, --checkpoint lets a run go on)"
        return f"{kept}nothing else was written (--keep-best writes the model so far)"
    if volume is None:
        return f"{kept}there is no model yet"
    # The user has waited long enough: by the model's own codec, and not measured.
    context = replace(job.context, progress=Progress(), checkpoint=None, unseen=None)
    record = Coding(None, None, (), None).write(volume, out, context)
    return f"{kept}the model so far is in '{out}': {report.whole(record['file_bytes'])} bytes, not measured"


def _voxels(volume: RadianceVolume) -> list[int] | None:
    """Voxels along x, y, z and how many are kept; None of a network."""
    from neurcomp_core.radiance.grids import SparseGrid
    from neurcomp_core.radiance.imports.dvgo import DvgoModel

    if isinstance(volume.model, SparseGrid):
        return [*report.dims_of(volume.model.links.shape), len(volume.model.density)]
    if isinstance(volume.model, DvgoModel):
        return [*report.dims_of(volume.model.density.shape), volume.model.density.size]
    return None


def _what(record: dict[str, Any]) -> str:
    if record["voxels"] is None:
        return ""
    *shape, kept = record["voxels"]
    return f"{' × '.join(map(str, shape))} voxels ({report.whole(kept)} kept), "
