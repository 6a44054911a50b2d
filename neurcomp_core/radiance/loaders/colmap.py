"""COLMAP's sparse models with their images: ``sparse/0/{cameras,images,points3D}.{bin,txt}`` and ``images/``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.radiance.bounds import point_bounds
from neurcomp_core.radiance.cameras import Camera
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.images import Images
from neurcomp_core.radiance.loaders.colmap_model import read_model
from neurcomp_core.radiance.loaders.common import assemble, find_pictures, image_folder, splits
from neurcomp_core.radiance.poses import from_opencv

_PLACES = ("sparse/0", "sparse", "colmap/sparse/0", ".")


def find(folder: Path) -> Path | None:
    """The folder of a COLMAP model in or below `folder`."""
    for place in _PLACES:
        if any((folder / place / f"cameras.{kind}").is_file() for kind in ("bin", "txt")):
            return folder / place
    return None


def load(model: Path, downscale: float, background: Sequence[float], holdout: int, skip_missing: bool) -> PosedImages:
    """See `neurcomp_core.radiance.loaders.load`; coordinates stay the model's unless it is forward-facing."""
    lenses, shots, points = read_model(model)
    if not shots:
        raise InputError(f"'{model}' has no registered images; a set needs at least one")
    pictures, small = image_folder(_root(model), downscale)
    shots = sorted(shots, key=lambda shot: shot.name)
    found = find_pictures(pictures, [shot.name for shot in shots], skip_missing)
    shots = [shot for shot, file in zip(shots, found, strict=True) if file is not None]
    images = Images.of_files([file for file in found if file is not None])
    cameras = []
    for shot, size in zip(shots, images.sizes, strict=True):
        if shot.camera not in lenses:
            raise InputError(f"'{shot.name}': its camera {shot.camera} is not in '{model}'; the model is incomplete")
        intrinsics = lenses[shot.camera]
        if small and abs(size[0] / intrinsics.width * intrinsics.height - size[1]) <= 1:
            intrinsics = intrinsics.resized(*size)
        pose = from_opencv(_camera_to_world(shot.rotation, shot.translation))
        cameras.append(Camera(intrinsics, pose, shot.name))
    known = None if points is None else point_bounds(cameras, points)
    near_far, box = (None, None) if known is None else (known[:2], known[2])
    data = assemble(images, cameras, splits(len(shots), holdout), background, near_far, box)
    return data if small else data.downscaled(downscale)


def _root(model: Path) -> Path:
    """The nearest folder at or above the model that has pictures."""
    for folder in (model, *model.resolve().parents[:3]):
        if any(p.is_dir() for p in folder.glob("images*")):
            return folder
    raise InputError(f"no folder 'images' beside or above '{model}'; COLMAP's model needs its pictures")


def _camera_to_world(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = rotation.T
    pose[:3, 3] = -rotation.T @ translation
    return pose
