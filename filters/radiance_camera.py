"""Cameras as VTK and ParaView describe them, and the rays through their pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.field import UniformGrid
from neurcomp_core.radiance import cameras
from neurcomp_core.radiance.cameras import Intrinsics
from neurcomp_core.radiance.poses import look_at

Vector = tuple[float, float, float]
#: Where one looks from by default, relative to the middle of the box.
_FROM = np.array([1.1, -1.3, 0.7])


@dataclass(frozen=True)
class VtkCamera:
    """Where a picture is taken from; see ``vtkCamera``.

    Attributes
    ----------
    position, focal_point, view_up : tuple of 3 float
        World coordinates. Position and focal point that are the same stand for a view of the whole box.
    view_angle : float
        Vertical, in degrees.
    parallel_scale : float
        Half the height of a parallel projection; 0 for perspective.
    width, height : int
        Pixels.
    """

    position: Vector = (0.0, 0.0, 0.0)
    focal_point: Vector = (0.0, 0.0, 0.0)
    view_up: Vector = (0.0, 0.0, 1.0)
    view_angle: float = 30.0
    parallel_scale: float = 0.0
    width: int = 400
    height: int = 300

    def __post_init__(self) -> None:
        numbers = (*self.position, *self.focal_point, *self.view_up, self.parallel_scale)
        if not all(map(math.isfinite, numbers)):
            raise InputError("camera: expected finite numbers")
        if not 0 < self.view_angle < 180:
            raise InputError(f"view angle: expected degrees above 0 and below 180, got {self.view_angle:g}")
        if self.parallel_scale < 0:
            raise InputError(f"parallel scale: expected a length, or 0 for perspective, got {self.parallel_scale:g}")
        if not (0 < self.width <= 1 << 14 and 0 < self.height <= 1 << 14):
            raise InputError(f"image size: expected 1 to 16384 pixels each way, got {self.width} x {self.height}")
        if not any(self.view_up):
            raise InputError("view up: expected a direction, got zeros")

    def aimed(self, box: np.ndarray, rotation: np.ndarray) -> VtkCamera:
        """With a position that shows the whole of a box ``(2, 3)``, along the columns of `rotation`, if it has none."""
        if self.position != self.focal_point:
            return self
        middle, radius = rotation @ box.mean(0), float(np.linalg.norm(box[1] - box[0])) / 2
        half = math.radians(self.view_angle) / 2
        half = min(half, math.atan(math.tan(half) * self.width / self.height))
        place = middle + radius / math.sin(half) * _FROM / np.linalg.norm(_FROM)
        return replace(self, position=_vector(place), focal_point=_vector(middle))

    def grid(self, in_scene: bool) -> UniformGrid:
        """Of the picture's pixels, its lowest row first: across the line of sight at the focal point, as large as what
        is seen there, or one unit each.
        """
        extent = (0, self.width - 1, 0, self.height - 1, 0, 0)
        if not in_scene:
            return UniformGrid(extent)
        pose = self._pose()
        distance = float(np.linalg.norm(np.subtract(self.focal_point, self.position)))
        half = self.parallel_scale or distance * math.tan(math.radians(self.view_angle) / 2)
        pixel = 2 * half / self.height
        corner = np.array([(1 - self.width) / 2, (1 - self.height) / 2, 0.0]) * pixel
        origin = np.array(self.focal_point) + pose[:3, :3] @ corner
        return UniformGrid(extent, _vector(origin), (pixel, pixel, pixel), tuple(pose[:3, :3].reshape(-1).tolist()))

    def _pose(self) -> np.ndarray:
        return look_at(np.array(self.position), np.array(self.focal_point), np.array(self.view_up))

    def rays(self) -> tuple[np.ndarray, np.ndarray]:
        """Origins and unit directions ``(height * width, 3)`` float64, the upper row first, in world coordinates."""
        pose = self._pose()
        if self.parallel_scale:
            pixel = 2 * self.parallel_scale / self.height
            across = (cameras.pixel_centers(self.width, self.height) - (self.width / 2, self.height / 2)) * pixel
            origins = pose[:3, 3] + across[..., :1] * pose[:3, 0] - across[..., 1:] * pose[:3, 1]
            return origins.reshape(-1, 3), np.broadcast_to(-pose[:3, 2], (self.width * self.height, 3)).copy()
        focal = self.height / 2 / math.tan(math.radians(self.view_angle) / 2)
        lens = Intrinsics(self.width, self.height, focal, focal, self.width / 2, self.height / 2)
        origins, directions = cameras.rays(cameras.Camera(lens, pose), None, np.float64)
        return np.array(origins.reshape(-1, 3)), directions.reshape(-1, 3)


def _vector(values: np.ndarray) -> Vector:
    x, y, z = values.tolist()
    return (x, y, z)
