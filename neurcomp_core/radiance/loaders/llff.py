"""LLFF's ``poses_bounds.npy`` with ``images/`` (Mildenhall et al., Local Light Field Fusion, SIGGRAPH 2019).

A row has a 3x5 matrix, row-major, whose columns are the camera's axes down, right and backwards, its position, and
(height, width, focal length) of the full-size images; then the distances of the nearest and the farthest content.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.radiance.cameras import Camera, Intrinsics
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.images import SUFFIXES, Images
from neurcomp_core.radiance.loaders.common import assemble, image_folder, splits
from neurcomp_core.radiance.poses import checked_pose


def load(folder: Path, downscale: float, background: Sequence[float], holdout: int) -> PosedImages:
    """See `neurcomp_core.radiance.loaders.load`."""
    rows = _rows(folder / "poses_bounds.npy")
    pictures, small = image_folder(folder, downscale)
    files = sorted(f for f in pictures.iterdir() if f.suffix.lower() in SUFFIXES)
    if len(files) != len(rows):
        raise InputError(
            f"'{pictures}' has {len(files)} images, poses_bounds.npy {len(rows)} poses; every pose needs its image"
        )
    images = Images.of_files(files)
    cameras = []
    for file, row, size in zip(files, rows, images.sizes, strict=True):
        label = f"'{file.name}'"
        matrix = row[:15].reshape(3, 5)
        height, width, focal = map(float, matrix[:, 4])
        pose = np.stack([matrix[:, 1], -matrix[:, 0], matrix[:, 2], matrix[:, 3]], 1)
        intrinsics = _intrinsics(label, width, height, focal, size)
        cameras.append(Camera(intrinsics, checked_pose(pose, label), file.name))
    near, far = row_bounds(rows[:, 15:], files)
    data = assemble(images, cameras, splits(len(files), holdout), background, (near, far))
    return data if small else data.downscaled(downscale)


def row_bounds(bounds: np.ndarray, files: Sequence[Path]) -> tuple[float, float]:
    """Nearest and farthest content of all images."""
    bad = ~((bounds[:, 0] > 0) & (bounds[:, 1] > bounds[:, 0]) & np.isfinite(bounds).all(1))
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"'{files[i].name}': expected bounds 0 < near < far, got {bounds[i, 0]:g} and {bounds[i, 1]:g}"
        )
    return float(bounds[:, 0].min()), float(bounds[:, 1].max())


def _rows(path: Path) -> np.ndarray:
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"cannot read '{path}': {error}") from error
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != 17 or rows.dtype.kind not in "fiu":
        got = f"{rows.shape} {rows.dtype}" if isinstance(rows, np.ndarray) else "an archive"
        raise InputError(f"'{path}': expected a table of (images, 17) numbers, got {got}")
    if not len(rows):
        raise InputError(f"'{path}' has no frames; a set needs at least one image with its pose")
    return rows.astype(np.float64)


def _intrinsics(label: str, width: float, height: float, focal: float, size: tuple[int, int]) -> Intrinsics:
    if not (1 <= width < 2**31 and 1 <= height < 2**31):
        raise InputError(f"{label}: poses_bounds.npy has an image size of {width:g} x {height:g}; expected pixels")
    try:
        full = Intrinsics(round(width), round(height), focal, focal, round(width) / 2, round(height) / 2)
    except InputError as error:
        raise InputError(f"{label}: {error}") from None
    # The table is of the full-size images; what lies here may be smaller, but of the same shape to a pixel.
    if abs(size[0] / full.width * full.height - size[1]) > 1:
        raise InputError(
            f"{label}: the image has {size[0]} x {size[1]} pixels, poses_bounds.npy was made for {full.width} x "
            f"{full.height}; the shapes differ, so use the images it was made for"
        )
    return full.resized(*size)
