"""Cameras: intrinsics, poses, and the rays through pixels.

**The convention, once.** A pose is a 4x4 camera-to-world matrix; the camera looks along its -z, +x is right and +y is
up (OpenGL, Blender, NeRF). Loaders convert at the door: COLMAP's and OpenCV's axes (y down, z forward) with
`poses.from_opencv`. Pixel coordinates are ``(u, v)``, u to the right and v down from the image's upper left corner; the
centre of the first pixel is (0.5, 0.5). World units are those of the file. Directions of rays have unit length, so
distances along them are world distances.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.radiance import distortion
from neurcomp_core.radiance.distortion import Lens
from neurcomp_core.radiance.poses import checked_pose

Model = Literal["PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "OPENCV_FISHEYE"]

#: Coefficients that each camera model has, as COLMAP orders them; nerfstudio adds k3 and k4 to OPENCV.
COEFFICIENTS: dict[str, tuple[str, ...]] = {
    "PINHOLE": (),
    "SIMPLE_RADIAL": ("k1",),
    "RADIAL": ("k1", "k2"),
    "OPENCV": ("k1", "k2", "p1", "p2", "k3", "k4"),
    "OPENCV_FISHEYE": ("k1", "k2", "k3", "k4"),
}


@dataclass(frozen=True)
class Intrinsics:
    """What a camera is, apart from where it stands.

    Attributes
    ----------
    width, height : int
        Pixels.
    fx, fy : float
        Focal lengths in pixels.
    cx, cy : float
        Principal point in pixels from the upper left corner.
    lens : Lens
        Distortion.

    Raises
    ------
    InputError
        If a number is not finite, or a size or focal length is not positive.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    lens: Lens = field(default_factory=Lens)

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise InputError(f"an image needs at least one pixel each way, got {self.width} x {self.height}")
        for name in ("fx", "fy"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(
                    f"{name}: expected a positive focal length in pixels, got {getattr(self, name)}; correct the file"
                )
        lens = self.lens
        others = (self.cx, self.cy, lens.k1, lens.k2, lens.k3, lens.k4, lens.p1, lens.p2)
        if not all(map(math.isfinite, others)):
            raise InputError("principal point and distortion must be finite numbers; correct the file")

    @property
    def model(self) -> Model:
        """The simplest of COLMAP's models that holds these coefficients."""
        lens = self.lens
        if lens.fisheye:
            return "OPENCV_FISHEYE"
        if lens.p1 or lens.p2 or lens.k3 or lens.k4:
            return "OPENCV"
        return "RADIAL" if lens.k2 else "SIMPLE_RADIAL" if lens.k1 else "PINHOLE"

    @classmethod
    def from_angle(cls, angle: float, width: int, height: int) -> Intrinsics:
        """Pinhole with a horizontal field of view of `angle` radians and its axis through the image's centre."""
        if not 0 < angle < math.pi:
            hint = ", which looks like degrees" if math.pi <= angle <= 360 else ""
            raise InputError(
                f"the horizontal field of view is {angle}{hint}; expected radians above 0 and below pi (3.14)"
            )
        focal = width / 2 / math.tan(angle / 2)
        return cls(width, height, focal, focal, width / 2, height / 2)

    def resized(self, width: int, height: int) -> Intrinsics:
        """The same camera with other pixels."""
        x, y = width / self.width, height / self.height
        return replace(self, width=width, height=height, fx=self.fx * x, fy=self.fy * y, cx=self.cx * x, cy=self.cy * y)


@dataclass(frozen=True, eq=False)
class Camera:
    """Intrinsics and a camera-to-world pose, see the module's text for its convention.

    Attributes
    ----------
    intrinsics : Intrinsics
    pose : ndarray ``(4, 4)`` float64
        Given as ``(3, 4)`` or ``(4, 4)``; a uniform scale in its axes is removed.
    name : str
        For messages and tables; usually the image's file name.

    Raises
    ------
    InputError
        If the pose is not finite, singular, mirrored or sheared; the sentence names the camera.
    """

    intrinsics: Intrinsics
    pose: np.ndarray
    name: str = ""

    def __post_init__(self) -> None:
        pose = checked_pose(self.pose, f"camera '{self.name}'")
        pose.flags.writeable = False
        object.__setattr__(self, "pose", pose)

    @property
    def position(self) -> np.ndarray:
        """``(3,)``"""
        return self.pose[:3, 3]

    @property
    def forward(self) -> np.ndarray:
        """``(3,)`` unit vector along which the camera looks."""
        return -self.pose[:3, 2]

    @property
    def up(self) -> np.ndarray:
        """``(3,)`` unit vector that is up in the image."""
        return self.pose[:3, 1]


def pixel_centers(width: int, height: int) -> np.ndarray:
    """``(height, width, 2)`` float64 coordinates (u, v) of all pixels' centres."""
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.stack([u, v], -1)


def rays(camera: Camera, pixels: np.ndarray | None = None, dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Rays through pixels, distortion undone.

    Parameters
    ----------
    camera : Camera
    pixels : ndarray ``(..., 2)``, optional
        Coordinates (u, v); the centres of all pixels, ``(height, width, 2)``, if left out.
    dtype : type
        float32 or float64; what is computed is float64.

    Returns
    -------
    origins, directions : ndarray ``(..., 3)``
        In world coordinates; directions have unit length. Origins are one point, broadcast (read-only).

    Raises
    ------
    InputError
        If the distortion has no inverse at one of the pixels.
    """
    if pixels is None:
        local = _all_directions(camera.intrinsics)
    else:
        local = camera_directions(camera.intrinsics, pixels)
    directions = (local @ camera.pose[:3, :3].T).astype(dtype)
    return np.broadcast_to(camera.position.astype(dtype), directions.shape), directions


def camera_directions(intrinsics: Intrinsics, pixels: np.ndarray) -> np.ndarray:
    """Unit directions ``(..., 3)`` float64 in the camera's own axes (x right, y up, -z forward)."""
    pixels = np.asarray(pixels, np.float64)
    points = (pixels - (intrinsics.cx, intrinsics.cy)) / (intrinsics.fx, intrinsics.fy)
    directions, valid = distortion.unproject(intrinsics.lens, points)
    if not valid.all():
        u, v = pixels[~valid][0]
        raise InputError(
            f"the lens distortion ({intrinsics.model}) has no inverse at pixel ({u:.1f}, {v:.1f}) "
            f"of {intrinsics.width} x {intrinsics.height}; check its coefficients and model, or undistort the images"
        )
    return directions * (1.0, -1.0, -1.0)


@lru_cache(maxsize=4)
def _all_directions(intrinsics: Intrinsics) -> np.ndarray:
    directions = camera_directions(intrinsics, pixel_centers(intrinsics.width, intrinsics.height))
    directions.flags.writeable = False
    return directions


def project(camera: Camera, points: np.ndarray) -> np.ndarray:
    """Pixel coordinates ``(..., 2)`` of world points ``(..., 3)``; NaN behind a perspective camera."""
    local = (np.asarray(points, np.float64) - camera.position) @ camera.pose[:3, :3]
    i = camera.intrinsics
    return distortion.project(i.lens, local * (1.0, -1.0, -1.0)) * (i.fx, i.fy) + (i.cx, i.cy)


def ndc_rays(
    origins: np.ndarray, directions: np.ndarray, intrinsics: Intrinsics, near: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Rays in normalised device coordinates (Mildenhall et al., NeRF, ECCV 2020, appendix C, eqs. 25-26).

    For forward-facing sets whose mean pose is the identity: the frustum from the plane ``z = -near`` to infinity
    becomes the cube [-1, 1]^3, and equal steps along a ray are equal steps in disparity.

    Parameters
    ----------
    origins, directions : ndarray ``(..., 3)``
        World rays that look towards -z.
    intrinsics : Intrinsics
        Of the common frustum.
    near : float
        Positive distance of the near plane.

    Returns
    -------
    origins, directions : ndarray ``(..., 3)``
        ``origins + t directions`` runs from the near plane at t = 0 to infinity at t = 1; directions are *not* of
        unit length.

    Raises
    ------
    InputError
        If a ray does not look towards -z.
    """
    if not (directions[..., 2] < 0).all():
        raise InputError("normalised device coordinates need rays that look towards -z; is the set forward-facing?")
    t = -(near + origins[..., 2:]) / directions[..., 2:]
    o = origins + t * directions
    scale = np.array([2 * intrinsics.fx / intrinsics.width, 2 * intrinsics.fy / intrinsics.height], o.dtype)
    oz, slope = o[..., 2:], directions[..., :2] / directions[..., 2:]
    start = np.concatenate([-scale * o[..., :2] / oz, 1 + 2 * near / oz], -1)
    along = np.concatenate([-scale * (slope - o[..., :2] / oz), -2 * near / oz], -1)
    return start, along
