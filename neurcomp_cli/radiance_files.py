"""What the commands `neurcomp radiance …` share: options, fields and images in, compressed fields out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from neurcomp_cli.volumes import NVC, is_compressed
from neurcomp_core.codec import Context
from neurcomp_core.errors import InputError
from neurcomp_core.radiance import evaluation, imports, loaders
from neurcomp_core.radiance.dataset import BLACK, WHITE, PosedImages
from neurcomp_core.radiance.volume import RadianceVolume

IMAGES = "Images"
MODELS = (".npz", ".npy", ".tar", ".pt", ".pth")

Volume = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="A .nvc radiance file, or a model as `import` reads it.", show_default=False),
]
Downscale = Annotated[
    float, typer.Option(metavar="FACTOR", help="Make images so many times smaller each way.", rich_help_panel=IMAGES)
]
Background = Annotated[
    str | None,
    typer.Option(
        metavar="white|black|R,G,B",
        help="Behind transparent pixels; numbers from 0 to 1. By default the field's own, else white.",
        rich_help_panel=IMAGES,
    ),
]
Holdout = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="N",
        help="Sets without splits of their own: every N-th image is for testing; 0: none.",
        rich_help_panel=IMAGES,
    ),
]
SkipMissing = Annotated[
    bool, typer.Option("--skip-missing", help="Leave out frames whose images are missing.", rich_help_panel=IMAGES)
]
Split = Annotated[
    str | None,
    typer.Option(
        metavar="train|val|test|all", help="Which images; by default those for testing.", rich_help_panel=IMAGES
    ),
]
Evaluate = Annotated[
    int | None,
    typer.Option(
        "--evaluate",
        min=0,
        metavar="N",
        help="Measure so many unseen views; all by default, 0: none.",
        show_default=False,
    ),
]
Backend = Annotated[
    str,
    typer.Option(
        metavar="auto|triton|torch|numba",
        help="What computes fields: numba on the CPU; on CUDA triton, or plain torch where it is missing.",
    ),
]
_NAMED = {"white": WHITE, "black": BLACK}
_SPLITS = ("train", "val", "test")


def color_of(text: str) -> tuple[float, float, float]:
    """RGB from 0 to 1 of a name or of three numbers; InputError for anything else."""
    if text.lower() in _NAMED:
        return _NAMED[text.lower()]
    try:
        r, g, b = (float(part) for part in text.split(","))
    except ValueError:
        r = math.nan
        g = b = 0.0
    if not all(0 <= c <= 1 for c in (r, g, b)):
        raise InputError(f"--background: expected white, black or R,G,B from 0 to 1 like 0.5,0.5,0.5, got '{text}'")
    return r, g, b


@dataclass(frozen=True)
class ImageSettings:
    """How images are read; see the options of these names."""

    downscale: float = 1
    background: str | None = None
    holdout: int = 8
    skip_missing: bool = False


def images_of(path: Path, settings: ImageSettings, volume: RadianceVolume | None = None) -> PosedImages:
    """A set of posed images, over the background that was asked for, else the volume's, else white."""
    behind = WHITE if volume is None else volume.background
    if settings.background is not None:
        behind = color_of(settings.background)
    return loaders.load(
        path,
        downscale=settings.downscale,
        background=behind,
        holdout=settings.holdout,
        skip_missing=settings.skip_missing,
    )


def split_of(data: PosedImages, split: str | None) -> PosedImages:
    """The images of a split, all of them, or by default those to judge by.

    Raises
    ------
    InputError
        If the split is unknown, or has no images.
    """
    if split is None:
        return evaluation.unseen(data)
    if split == "all":
        return data
    for name in _SPLITS:
        if split == name:
            return data.split(name)  # pyright: ignore[reportArgumentType]
    raise InputError(f"--split: expected one of {', '.join(_SPLITS)} or all, got '{split}'")


def to_train(data: PosedImages) -> PosedImages | None:
    """The images of a set that it is trained on, if there are any."""
    return data.split("train") if "train" in data.splits else None


def judges(data: PosedImages, count: int | None) -> PosedImages | None:
    """So many unseen images of a set (all for None), evenly spread; None where there are none."""
    if count == 0 or not {"test", "val"} & set(data.splits):
        return None
    seen = evaluation.unseen(data)
    return seen if count is None else seen.take(evaluation.spread(count, len(seen)))


def opened(path: Path, context: Context | None = None, *, to_render: bool = False) -> RadianceVolume:
    """A radiance volume: of a ``.nvc`` file, or of a trained model of another program.

    `to_render` leaves what is compressed as small as it is, see `files.load`.

    Raises
    ------
    InputError, FormatError
        If there is no such file, or it holds no radiance field.
    """
    check_readable(path)
    if is_compressed(path):
        from neurcomp_core.radiance import files

        return files.load(path, context, to_render=to_render)
    return imported(path)


def check_readable(path: Path) -> None:
    """InputError unless there is such a file, and its name is that of a radiance field."""
    if path.is_dir():
        raise InputError(f"cannot read '{path}': it is a folder; give a file")
    if not path.exists():
        raise InputError(f"cannot read '{path}': there is no such file")
    if not is_compressed(path) and path.suffix.lower() not in MODELS:
        raise InputError(f"cannot read '{path}': expected {NVC} or a trained model ({', '.join(MODELS)})")


def opened_with_images(
    path: Path, data: Path, settings: ImageSettings, context: Context | None = None, *, to_render: bool = False
) -> tuple[RadianceVolume, PosedImages]:
    """A radiance volume and images to look at it with; another program's model has bounds and background of these."""
    if is_compressed(path):
        volume = opened(path, context, to_render=to_render)
        return volume, images_of(data, settings, volume)
    check_readable(path)
    images = images_of(data, settings)
    return imported(path, images), images


def imported(path: Path, data: PosedImages | None = None, scale: float = 1.0) -> RadianceVolume:
    """A trained model of another program; where its images are at hand, with their bounds and background.

    Raises
    ------
    InputError
        If a network, which has no box, comes without images.
    """
    from neurcomp_core.radiance import rescaled

    model = rescaled.rescaled(imports.load(path), scale)
    if data is not None:
        return RadianceVolume.of(model, data)
    if isinstance(model, imports.NerfWeights):
        raise InputError(f"'{path}' is a network, which does not say where its scene lies: give --data FOLDER")
    return RadianceVolume(model, model.box, name=path.stem)


def output(path: Path, force: bool) -> Path:
    """A ``.nvc`` file that can be written; InputError if it cannot."""
    from neurcomp_cli.volumes import check_writable

    if not is_compressed(path):
        raise InputError(f"'{path}': expected a name that ends in {NVC}")
    check_writable(path, force)
    return path
