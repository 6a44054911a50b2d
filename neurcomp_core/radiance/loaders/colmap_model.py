"""Parser of COLMAP's sparse models, binary and text; the layouts are those of colmap.github.io/format.html.

Rotations and translations are world-to-camera in OpenCV's axes, as the files have them.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.radiance.cameras import Intrinsics
from neurcomp_core.radiance.distortion import Lens

# COLMAP's numbers, and the parameters of each model in order; f is both focal lengths.
_MODELS: dict[int, tuple[str, str]] = {
    0: ("SIMPLE_PINHOLE", "f cx cy"),
    1: ("PINHOLE", "fx fy cx cy"),
    2: ("SIMPLE_RADIAL", "f cx cy k1"),
    3: ("RADIAL", "f cx cy k1 k2"),
    4: ("OPENCV", "fx fy cx cy k1 k2 p1 p2"),
    5: ("OPENCV_FISHEYE", "fx fy cx cy k1 k2 k3 k4"),
    6: ("FULL_OPENCV", "fx fy cx cy k1 k2 p1 p2 k3 d4 d5 d6"),  # d: denominator of the rational radius
    8: ("SIMPLE_RADIAL_FISHEYE", "f cx cy k1"),
    9: ("RADIAL_FISHEYE", "f cx cy k1 k2"),
}
_REFUSED = {7: "FOV", 10: "THIN_PRISM_FISHEYE", 11: "RAD_TAN_THIN_PRISM_FISHEYE"}
_BY_NAME = {name: parameters.split() for name, parameters in _MODELS.values()}


@dataclass(frozen=True, eq=False)
class Shot:
    """One registered image: ``x_camera = rotation @ x_world + translation``."""

    name: str
    camera: int
    rotation: np.ndarray
    translation: np.ndarray


def read_model(folder: Path) -> tuple[dict[int, Intrinsics], list[Shot], np.ndarray | None]:
    """Cameras by number, registered images, and points ``(n, 3)`` float64, None where there is no file of them."""
    kind = "bin" if (folder / "cameras.bin").is_file() else "txt"
    cameras, images, points = (folder / f"{name}.{kind}" for name in ("cameras", "images", "points3D"))
    if not images.is_file():
        raise InputError(f"'{images}' does not exist; a COLMAP model needs cameras and images of one kind")
    if kind == "bin":
        return _binary_cameras(cameras), _binary_images(images), _binary_points(points) if points.is_file() else None
    return _text_cameras(cameras), _text_images(images), _text_points(points) if points.is_file() else None


def _intrinsics(label: str, model: str, width: int, height: int, values: list[float]) -> Intrinsics:
    names = _BY_NAME.get(model)
    if names is None:
        raise InputError(
            f"{label}: camera model {model} is not supported, only {', '.join(_BY_NAME)}; "
            "undistort the images with 'colmap image_undistorter'"
        )
    if len(values) != len(names):
        raise FormatError(f"{label}: {model} has {len(names)} parameters, got {len(values)}")
    p = dict(zip(names, values, strict=True))
    if any(p.get(d) for d in ("d4", "d5", "d6")):
        raise InputError(
            f"{label}: FULL_OPENCV with a rational radius is not supported; "
            "undistort the images with 'colmap image_undistorter'"
        )
    lens = Lens(model.endswith("FISHEYE"), **{k: v for k, v in p.items() if k[0] in "kp"})
    try:
        return Intrinsics(width, height, p.get("fx", p.get("f", 0)), p.get("fy", p.get("f", 0)), p["cx"], p["cy"], lens)
    except InputError as error:
        raise InputError(f"{label}: {error}") from None


def _shot(label: str, name: str, camera: int, numbers: list[float]) -> Shot:
    """From the quaternion (w, x, y, z) and the translation."""
    norm = math.hypot(*numbers[:4])
    if not all(map(math.isfinite, numbers)):
        raise InputError(f"{label}: the pose holds NaN or infinite numbers; correct or remove this image")
    if norm < 1e-6:
        raise InputError(f"{label}: the pose is singular (its quaternion is zero); correct or remove this image")
    w, x, y, z = (q / norm for q in numbers[:4])
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return Shot(name, camera, rotation, np.array(numbers[4:]))


# ---------------------------------------------------------------------------------------------------------- binary


class _Bytes:
    """Little-endian numbers one after another; FormatError beyond the end."""

    def __init__(self, path: Path) -> None:
        self.path, self.data, self.at = path, path.read_bytes(), 0

    def take(self, layout: str) -> tuple:
        size = struct.calcsize("<" + layout)
        self.need(size)
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += size
        return values

    def need(self, size: int) -> None:
        if size > len(self.data) - self.at:
            raise FormatError(f"'{self.path}' is truncated: {size} bytes expected at {self.at} of {len(self.data)}")

    def skip(self, count: int, size: int) -> None:
        self.need(count * size)
        self.at += count * size

    def text(self) -> str:
        end = self.data.find(b"\0", self.at, self.at + 4096)
        if end < 0:
            raise FormatError(f"'{self.path}': a name without an end at byte {self.at}")
        raw, self.at = self.data[self.at : end], end + 1
        return raw.decode("utf-8", "replace")

    def count(self, smallest: int) -> int:
        """A number of records, each of at least `smallest` bytes."""
        (count,) = self.take("Q")
        self.need(count * smallest)
        return count


def _binary_cameras(path: Path) -> dict[int, Intrinsics]:
    file, cameras = _Bytes(path), {}
    for _ in range(file.count(24)):
        number, kind, width, height = file.take("iiQQ")
        if kind not in _MODELS:
            model, count = _REFUSED.get(kind, f"number {kind}"), 0
        else:
            model, count = _MODELS[kind][0], len(_MODELS[kind][1].split())
        values = list(file.take(f"{count}d"))
        cameras[number] = _intrinsics(f"'{path}', camera {number}", model, width, height, values)
    return cameras


def _binary_images(path: Path) -> list[Shot]:
    file, shots = _Bytes(path), []
    for _ in range(file.count(73)):
        file.take("i")
        numbers = list(file.take("7d"))
        (camera,) = file.take("i")
        name = file.text()
        file.skip(file.take("Q")[0], 24)
        shots.append(_shot(f"'{name}'", name, camera, numbers))
    return shots


def _binary_points(path: Path) -> np.ndarray:
    file = _Bytes(path)
    points = np.empty((file.count(51), 3))
    for i in range(len(points)):
        _, *points[i], _, _, _, _, track = file.take("Q3d3BdQ")
        file.skip(track, 8)
    return points[np.isfinite(points).all(1)]


# ------------------------------------------------------------------------------------------------------------ text


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read '{path}': {error}") from error


def _text_cameras(path: Path) -> dict[int, Intrinsics]:
    cameras = {}
    for line in filter(str.strip, _lines(path)):
        try:
            number, model, width, height, *values = line.split()
            record = int(number), model, int(width), int(height), [float(v) for v in values]
        except ValueError:
            raise FormatError(f"'{path}': expected 'ID MODEL WIDTH HEIGHT PARAMS', got '{line[:80]}'") from None
        cameras[record[0]] = _intrinsics(f"'{path}', camera {record[0]}", *record[1:])
    return cameras


def _text_images(path: Path) -> list[Shot]:
    shots, lines = [], iter(_lines(path))
    for line in lines:
        if not line.strip():
            continue
        next(lines, "")  # the image's points, empty where it has none
        try:
            _, *numbers, camera, name = line.split(maxsplit=9)
            record = int(camera), [float(v) for v in numbers]
        except ValueError:
            raise FormatError(f"'{path}': expected 'ID QW QX QY QZ TX TY TZ CAMERA NAME', got '{line[:80]}'") from None
        if len(record[1]) != 7:
            raise FormatError(f"'{path}': expected 'ID QW QX QY QZ TX TY TZ CAMERA NAME', got '{line[:80]}'")
        shots.append(_shot(f"'{name}'", name, *record))
    return shots


def _text_points(path: Path) -> np.ndarray:
    try:
        points = np.array([[float(v) for v in line.split()[1:4]] for line in filter(str.strip, _lines(path))])
    except ValueError:
        raise FormatError(f"'{path}': expected lines 'ID X Y Z R G B ERROR TRACK'") from None
    points = points.reshape(-1, 3)
    return points[np.isfinite(points).all(1)]
