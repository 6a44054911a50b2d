"""Posed image sets as people have them; `load` tells the layouts apart."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from neurcomp_core.errors import InputError
from neurcomp_core.radiance.dataset import WHITE, PosedImages
from neurcomp_core.radiance.loaders import blender, colmap, llff, nerfstudio


def load(
    path: str | os.PathLike[str],
    *,
    downscale: float = 1,
    background: Sequence[float] = WHITE,
    holdout: int = 8,
    skip_missing: bool = False,
) -> PosedImages:
    """Read a set of posed images; the pictures themselves are read when asked for.

    Parameters
    ----------
    path : path
        A folder with ``transforms_train.json`` (Blender, NeRF-synthetic), ``transforms.json`` (nerfstudio,
        instant-ngp), ``poses_bounds.npy`` (LLFF) or a COLMAP model (``sparse/0``, ``sparse`` or right there); the
        first of these that is found. Or one such file.
    downscale : float
        Makes images so many times smaller each way; a folder ``images_K`` of a whole factor K is used where there is
        one, the area filter otherwise.
    background : tuple of 3 float
        RGB from 0 to 1 behind transparent pixels.
    holdout : int
        Every `holdout`-th image, the first included, is for testing where the set has no splits of its own; 0 for
        none.
    skip_missing : bool
        Leave out frames whose images are not there (instant-ngp's own example has such) instead of refusing the set.

    Returns
    -------
    PosedImages

    Raises
    ------
    InputError
        If nothing is recognised, or the set cannot be used: missing images, wrong sizes, no frames, singular or NaN
        poses, impossible angles. The sentence names the file and the frame.
    FormatError
        If a binary file is damaged.
    """
    if holdout < 0:
        raise InputError(f"holdout: expected a whole number from 0 on, got {holdout}")
    if not 1 <= downscale < math.inf:
        raise InputError(f"downscale: expected a factor of at least 1, got {downscale}")
    given = Path(path)
    if not given.exists():
        raise InputError(f"'{path}' does not exist; give the folder of a set of posed images")
    folder = given if given.is_dir() else given.parent
    names = [given.name] if given.is_file() else ["transforms_train.json", "transforms.json", "poses_bounds.npy"]
    for name in names:
        if not (folder / name).is_file():
            continue
        if name.startswith("transforms_"):
            data = blender.load(folder, background, skip_missing)
        elif name.endswith(".json"):
            data = nerfstudio.load(folder / name, background, holdout, skip_missing)
        elif name == "poses_bounds.npy":
            return llff.load(folder, downscale, background, holdout)
        else:
            continue
        return data.downscaled(downscale)
    if (model := colmap.find(folder)) is not None:
        return colmap.load(model, downscale, background, holdout, skip_missing)
    raise InputError(
        f"'{path}' is no set of posed images: expected transforms_train.json (Blender), transforms.json (nerfstudio, "
        "instant-ngp), poses_bounds.npy (LLFF), or a COLMAP model in sparse/0"
    )
