"""What the loaders share: finding pictures, splits, and where the scene is when a file does not say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.radiance import bounds
from neurcomp_core.radiance.cameras import Camera
from neurcomp_core.radiance.dataset import PosedImages, Split
from neurcomp_core.radiance.images import SUFFIXES, Images, to_float
from neurcomp_core.radiance.paths import mean_pose

# Cameras of forward-facing captures agree to 0.95 and more, of a half circle to 0.64.
_FORWARD = 0.8
# Content at the nearest bound keeps a third of its distance from the near plane, as in NeRF's reading of LLFF sets.
_NEAR_MARGIN = 0.75


def splits(count: int, holdout: int) -> tuple[Split, ...]:
    """Every `holdout`-th image, the first included, is for testing; 0 for none."""
    return tuple("test" if holdout and i % holdout == 0 else "train" for i in range(count))


def find_picture(folder: Path, name: str) -> Path | None:
    """The file that `name`, with or without its suffix, means; None if there is none."""
    path = folder / name.replace("\\", "/")
    if path.suffix.lower() in SUFFIXES and path.is_file():
        return path
    for suffix in (*SUFFIXES, *(s.upper() for s in SUFFIXES)):
        for other in (path.with_name(path.name + suffix), path.with_suffix(suffix)):
            if other.is_file():
                return other
    return None


def find_pictures(folder: Path, names: Sequence[str], skip_missing: bool) -> list[Path | None]:
    """`find_picture` for all names; InputError for the first missing one, unless some are there and may be missing."""
    found = [find_picture(folder, name) for name in names]
    missing = [name for name, file in zip(names, found, strict=True) if file is None]
    if not missing or (skip_missing and len(missing) < len(names)):
        return found
    rest = "none is there" if len(missing) == len(names) else f"{len(missing)} of {len(names)} are missing"
    way = "" if len(missing) == len(names) else ", or skip what is missing (skip_missing)"
    raise InputError(
        f"the image '{folder / missing[0]}' does not exist ({rest}); copy the images there, remove their frames{way}"
    )


def image_folder(folder: Path, downscale: float) -> tuple[Path, bool]:
    """``images_K`` for a whole factor K where there is one, else ``images``; and whether it is already small."""
    small = folder / f"images_{int(downscale)}"
    if downscale > 1 and downscale == int(downscale) and small.is_dir():
        return small, True
    if (folder / "images").is_dir():
        return folder / "images", False
    others = sorted(p.name for p in folder.glob("images_*") if p.is_dir())
    hint = f"; there is {', '.join(others)}, so load it with such a downscale factor" if others else ""
    raise InputError(f"'{folder}' has no folder 'images'{hint}")


def assemble(
    images: Images,
    cameras: Sequence[Camera],
    names: Sequence[Split],
    background: Sequence[float],
    near_far: tuple[float, float] | None = None,
    box: np.ndarray | None = None,
) -> PosedImages:
    """A set whose scene is told from its pictures and cameras.

    Pictures with transparent pixels show one object: "bounded". Cameras of one kind that look the same way, with known
    bounds, are "forward-facing": the world is moved and scaled so that their mean pose is the identity and the near
    plane of normalised device coordinates lies at 1. All else is "unbounded".
    """
    cameras = tuple(cameras)
    if not cameras:
        raise InputError("there are no frames with images; a set needs at least one")
    r, g, b = background
    if _shows_through(images):
        near, far = near_far or bounds.inward_near_far(cameras)
        box = bounds.seen_box(cameras, near, far) if box is None else box
        return PosedImages(images, cameras, tuple(names), near, far, box, "bounded", (r, g, b))
    if near_far is not None and _one_frustum(cameras) and bounds.agreement(cameras) > _FORWARD:
        cameras, scale = recentred(cameras, near_far[0])
        near, far = near_far[0] * scale, near_far[1] * scale
        box = bounds.ndc_box(cameras, 1.0)
        return PosedImages(images, cameras, tuple(names), near, far, box, "forward-facing", (r, g, b))
    inner = bounds.camera_box(cameras) if box is None else box
    reach = float((inner[1] - inner[0]).max()) / 2
    near, far = near_far or (0.05 * reach, 100 * reach)
    return PosedImages(images, cameras, tuple(names), near, far, inner, "unbounded", (r, g, b))


def _one_frustum(cameras: Sequence[Camera]) -> bool:
    """Whether normalised device coordinates are the same for all cameras: perspective ones of one field of view."""
    views = np.array([(c.intrinsics.fx / c.intrinsics.width, c.intrinsics.fy / c.intrinsics.height) for c in cameras])
    return not any(c.intrinsics.lens.fisheye for c in cameras) and bool(np.ptp(views, axis=0).max() < 1e-6)


def _shows_through(images: Images) -> bool:
    """Whether the pictures have transparent pixels; an alpha channel that is full everywhere says nothing."""
    return any(images.alpha) and bool(to_float(images[images.alpha.index(True)][..., 3]).min() < 1)


def recentred(cameras: Sequence[Camera], near: float) -> tuple[tuple[Camera, ...], float]:
    """Cameras whose mean pose is the identity, and the scale that puts `near` at 4/3."""
    to_mean = np.linalg.inv(mean_pose(cameras))
    scale = 1 / (_NEAR_MARGIN * near)
    moved = []
    for camera in cameras:
        pose = to_mean @ camera.pose
        pose[:3, 3] *= scale
        moved.append(replace(camera, pose=pose))
    return tuple(moved), scale
