"""``transforms.json`` of nerfstudio and instant-ngp: camera models, intrinsics per frame, splits by file name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.radiance.dataset import PosedImages, Split
from neurcomp_core.radiance.loaders import transforms
from neurcomp_core.radiance.loaders.common import assemble, splits

# instant-ngp's defaults: its unit cube holds the world scaled by 0.33 about the point (0.5, 0.5, 0.5).
_NGP_SCALE = 0.33
_NGP_OFFSET = (0.5, 0.5, 0.5)


def load(path: Path, background: Sequence[float], holdout: int, skip_missing: bool) -> PosedImages:
    """See `neurcomp_core.radiance.loaders.load`; coordinates stay the file's."""
    table, frames = transforms.read(path)
    # Frames of a video are often out of order; a split by position must not depend on that.
    frames = sorted(frames, key=lambda frame: str(frame.get("file_path")))
    shown = transforms.present(path, frames, skip_missing)
    images, cameras = transforms.views(path, table, shown)
    names = _named_splits(table, [frame for frame, _ in shown]) or splits(len(shown), holdout)
    return assemble(images, cameras, names, background, box=_box(table, path))


def _named_splits(table: Mapping[str, Any], frames: list[dict[str, Any]]) -> list[Split] | None:
    kinds: tuple[Split, ...] = ("train", "val", "test")
    of: dict[str, Split] = {}
    for kind in kinds:
        listed = table.get(f"{kind}_filenames", [])
        if isinstance(listed, list):
            of.update({str(name): kind for name in listed})
    if not of:
        return None
    missing = [f["file_path"] for f in frames if f["file_path"] not in of]
    if missing:
        raise InputError(f"'{missing[0]}' is in none of train_filenames, val_filenames and test_filenames")
    return [of[f["file_path"]] for f in frames]


def _box(table: Mapping[str, Any], path: Path) -> np.ndarray | None:
    """instant-ngp's box: a cube of side ``aabb_scale`` about the middle of its unit cube, in the file's coordinates."""
    if "aabb_scale" not in table:
        return None
    try:
        side = float(table["aabb_scale"])
        scale = float(table.get("scale", _NGP_SCALE))
        offset = np.array(table.get("offset", _NGP_OFFSET), np.float64).reshape(3)
    except (TypeError, ValueError) as error:
        raise InputError(f"'{path}': aabb_scale, scale and offset must be numbers ({error})") from error
    if not (0 < side < np.inf and 0 < scale < np.inf and np.isfinite(offset).all()):
        raise InputError(f"'{path}': aabb_scale and scale must be positive and finite, got {side} and {scale}")
    half = np.array([[-side / 2], [side / 2]])
    return (0.5 + half - offset) / scale
