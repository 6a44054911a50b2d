"""Cameras to look at a radiance volume with, where there are no photographs: a path as a set without pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.radiance import paths
from neurcomp_core.radiance.cameras import Camera, Intrinsics
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.images import Images
from neurcomp_core.radiance.poses import look_at
from neurcomp_core.radiance.volume import RadianceVolume

Path = Literal["circle", "spiral", "through"]
PATHS: tuple[str, ...] = get_args(Path)
#: Horizontal field of view where nothing says another, in radians: that of NeRF's synthetic scenes.
ANGLE = 0.6911
_SIZE = 400
_LOWEST, _HIGHEST, _TURNS = math.radians(-10), math.radians(70), 2
# How far cameras of a forward-facing set stand from their middle, in units of the nearest content's distance.
_SWAY = 0.15


def along(
    volume: RadianceVolume,
    path: Path | None = None,
    views: int = 60,
    size: tuple[int, int] | None = None,
    angle: float | None = None,
    elevation: float | None = None,
    data: PosedImages | None = None,
) -> PosedImages:
    """Views along a path, as a set whose pictures are empty.

    Parameters
    ----------
    volume : RadianceVolume
    path : str, optional
        "circle": once around; "spiral": rising around an object, or swaying before a forward-facing scene; "through":
        through the cameras of `data`. By default a circle, before a forward-facing scene a spiral.
    views : int
        How many.
    size : pair of int, optional
        Width and height in pixels; by default those of `data`, else 400 x 400.
    angle : float, optional
        Horizontal field of view in radians; by default that of `data`, else `ANGLE`.
    elevation : float, optional
        Of a circle, in radians; by default the mean of the cameras of `data`, else 30 degrees.
    data : PosedImages, optional
        Whose cameras the path fits.

    Raises
    ------
    InputError
        If the path is unknown, needs `data` which is not given, or does not fit the scene.
    """
    forward = volume.scene == "forward-facing"
    path = path or ("spiral" if forward else "circle")
    if path not in PATHS:
        raise InputError(f"path '{path}' is unknown; expected one of {', '.join(PATHS)}")
    if path == "circle" and forward:
        raise InputError("a circle does not fit a forward-facing scene, which has no back; take the path spiral")
    if path == "through" and data is None:
        raise InputError("the path through needs images, whose cameras it goes through")
    if not 1 <= views <= 100_000:
        raise InputError(f"views: expected 1 to 100000, got {views}")
    poses = _POSES[path](volume, views, elevation, () if data is None else data.cameras)
    lens = _lens(size, angle, data)
    cameras = tuple(Camera(lens, pose, f"view {i}") for i, pose in enumerate(poses))
    # Nothing is ever drawn on it, so one byte is enough for all of a picture.
    empty = np.broadcast_to(np.zeros((), np.uint8), (lens.height, lens.width, 3))
    images = Images.of_arrays([empty] * views)
    splits = ("test",) * views
    return PosedImages(images, cameras, splits, volume.near, volume.far, volume.box, volume.scene, volume.background)


def _lens(size: tuple[int, int] | None, angle: float | None, data: PosedImages | None) -> Intrinsics:
    given = None if data is None else data.cameras[0].intrinsics
    width, height = size or ((_SIZE, _SIZE) if given is None else (given.width, given.height))
    if min(width, height) < 1 or max(width, height) > 16384:
        raise InputError(f"size: expected 1 to 16384 pixels each way, got {width} x {height}")
    if given is None or angle is not None:
        return Intrinsics.from_angle(ANGLE if angle is None else angle, width, height)
    return given.resized(width, height)


def _circle(
    volume: RadianceVolume, views: int, elevation: float | None, cameras: Sequence[Camera]
) -> Sequence[np.ndarray]:
    if cameras and elevation is None:
        return list(paths.around(cameras, views))
    elevation = math.radians(30) if elevation is None else elevation
    return list(paths.circle(_middle(volume), _distance(volume), views, elevation=elevation))


def _spiral(
    volume: RadianceVolume, views: int, elevation: float | None, cameras: Sequence[Camera]
) -> Sequence[np.ndarray]:
    del elevation
    if volume.scene == "forward-facing":
        near = max(volume.near, 1e-3)
        far = volume.far if math.isfinite(volume.far) else 10 * near
        return list(paths.spiral(cameras or _swaying(near), near, far, views))
    middle, distance, up = _middle(volume), _distance(volume), np.array([0.0, 0.0, 1.0])
    share = np.arange(views) / views
    height = _LOWEST + share * (_HIGHEST - _LOWEST)
    turn = 2 * math.pi * _TURNS * share
    ring = np.stack([np.cos(height) * np.cos(turn), np.cos(height) * np.sin(turn), np.sin(height)], 1)
    return [look_at(middle + distance * offset, middle, up) for offset in ring]


def _through(
    volume: RadianceVolume, views: int, elevation: float | None, cameras: Sequence[Camera]
) -> Sequence[np.ndarray]:
    del volume, elevation
    return list(paths.interpolate(np.stack([c.pose for c in cameras]), views))


_POSES = {"circle": _circle, "spiral": _spiral, "through": _through}


def _middle(volume: RadianceVolume) -> np.ndarray:
    return volume.box.mean(0)


def _distance(volume: RadianceVolume) -> float:
    """From which the scene was photographed, or is in sight."""
    if math.isfinite(volume.far) and volume.far > 0 and volume.scene == "bounded":
        return (volume.near + volume.far) / 2
    extent = volume.box[1] - volume.box[0]
    if volume.scene == "unbounded":  # its box ends where its cameras stood
        return 0.45 * float(extent.min())
    return 1.3 * float(np.linalg.norm(extent))


def _swaying(near: float) -> list[Camera]:
    """Cameras about the mean pose of a forward-facing set, which loaders make the identity."""
    lens = Intrinsics.from_angle(ANGLE, 8, 8)
    found = []
    for x, y in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        pose = np.eye(4)
        pose[:2, 3] = _SWAY * near * x, _SWAY * near * y
        found.append(Camera(lens, pose))
    return found
