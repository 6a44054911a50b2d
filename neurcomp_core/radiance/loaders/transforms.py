"""``transforms*.json``: what Blender's, nerfstudio's and instant-ngp's files have in common.

Poses are camera-to-world in OpenGL's axes already. Keys of a frame go before those of the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurcomp_core.errors import InputError
from neurcomp_core.radiance.cameras import COEFFICIENTS, Camera, Intrinsics
from neurcomp_core.radiance.distortion import Lens
from neurcomp_core.radiance.images import Images
from neurcomp_core.radiance.loaders.common import find_pictures
from neurcomp_core.radiance.poses import checked_pose

_LARGEST = 1e30


def read(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The file's table and its frames."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read '{path}': {error}") from error
    frames = table.get("frames") if isinstance(table, dict) else None
    if not isinstance(frames, list) or not all(isinstance(f, dict) for f in frames):
        raise InputError(
            f"'{path}' has no list of 'frames'; expected the layout of NeRF's, nerfstudio's or ngp's files"
        )
    if not frames:
        raise InputError(f"'{path}' has no frames; a set needs at least one image with its pose")
    return table, frames


def present(path: Path, frames: list[dict[str, Any]], skip_missing: bool) -> list[tuple[dict[str, Any], Path]]:
    """Frames with their pictures' files."""
    names: list[str] = []
    for i, frame in enumerate(frames):
        name = frame.get("file_path")
        if not isinstance(name, str) or not name:
            raise InputError(f"'{path}', frame {i}: 'file_path' is missing; expected the name of an image")
        names.append(name)
    files = find_pictures(path.parent, names, skip_missing)
    return [(frame, file) for frame, file in zip(frames, files, strict=True) if file is not None]


def views(
    path: Path, table: Mapping[str, Any], frames: Sequence[tuple[dict[str, Any], Path]]
) -> tuple[Images, list[Camera]]:
    """Pictures (their headers are read) and cameras of frames from `present`."""
    images = Images.of_files([file for _, file in frames])
    first = frames[0][0]["file_path"]
    cameras = []
    for (frame, _), size in zip(frames, images.sizes, strict=True):
        name = frame["file_path"]
        label = f"'{path.name}', frame '{name}'"
        if "w" not in table and "w" not in frame and size != images.sizes[0]:
            raise InputError(
                f"{label}: the image has {size[0]} x {size[1]} pixels, '{first}' {images.sizes[0][0]} x "
                f"{images.sizes[0][1]}; give each frame its w, h and focal length, or make all images one size"
            )
        if "transform_matrix" not in frame:
            raise InputError(f"{label}: 'transform_matrix' is missing; expected a camera-to-world pose")
        try:
            intrinsics = intrinsics_of({**table, **frame}, size)
        except InputError as error:
            raise InputError(f"{label}: {error}") from None
        pose = checked_pose(frame["transform_matrix"], label)
        cameras.append(Camera(intrinsics, pose, name.removeprefix("./")))
    return images, cameras


def intrinsics_of(table: Mapping[str, Any], size: tuple[int, int]) -> Intrinsics:
    """Intrinsics of a frame whose image has `size` (width, height)."""
    width, height = int(_number(table, "w", size[0])), int(_number(table, "h", size[1]))
    if "fl_x" in table:
        fx = _number(table, "fl_x")
        fy = _number(table, "fl_y", fx)
    elif "camera_angle_x" in table:
        fx = fy = Intrinsics.from_angle(_number(table, "camera_angle_x"), width, height).fx
        if "camera_angle_y" in table:
            fy = Intrinsics.from_angle(_number(table, "camera_angle_y"), height, width).fx
    else:
        raise InputError("no focal length: expected 'fl_x' (pixels) or 'camera_angle_x' (radians)")
    cx, cy = _number(table, "cx", width / 2), _number(table, "cy", height / 2)
    return Intrinsics(width, height, fx, fy, cx, cy, _lens(table))


def _lens(table: Mapping[str, Any]) -> Lens:
    model = table.get("camera_model", "OPENCV_FISHEYE" if table.get("is_fisheye") else "OPENCV")
    model = "PINHOLE" if model == "SIMPLE_PINHOLE" else model
    if model not in COEFFICIENTS:
        raise InputError(f"camera model {model} is not supported, only {', '.join(COEFFICIENTS)}; undistort the images")
    values = {k: _number(table, k, 0.0) for k in COEFFICIENTS[model]}
    return Lens(model == "OPENCV_FISHEYE", **values)


def _number(table: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = table.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        raise InputError(f"'{key}' is {value!r}; expected a finite number")
    return value
