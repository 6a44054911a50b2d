"""Camera paths to render along: a circle, a spiral, and interpolation between given poses.

Every function returns poses ``(n, 4, 4)`` in the convention of `neurcomp_core.radiance.cameras`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from neurcomp_core.errors import InputError
from neurcomp_core.radiance.bounds import focus_point
from neurcomp_core.radiance.cameras import Camera
from neurcomp_core.radiance.poses import look_at


def circle(
    center: np.ndarray, radius: float, views: int, *, elevation: float = math.pi / 6, up: ArrayLike = (0, 0, 1)
) -> np.ndarray:
    """Once around `center` on a sphere, at a constant elevation (radians) above the plane across `up`."""
    _check(views)
    z = np.asarray(up, np.float64) / np.linalg.norm(up)
    x = np.cross((0.0, 1.0, 0.0) if abs(z[1]) < 0.9 else (1.0, 0.0, 0.0), z)
    x /= np.linalg.norm(x)
    y = np.cross(z, x)
    turn = 2 * math.pi * np.arange(views)[:, None] / views
    ring = math.cos(elevation) * (np.cos(turn) * x + np.sin(turn) * y) + math.sin(elevation) * z
    center = np.asarray(center, np.float64)
    return np.stack([look_at(center + radius * offset, center, z) for offset in ring])


def around(cameras: Sequence[Camera], views: int) -> np.ndarray:
    """The circle that fits cameras which look inward: their focus point, mean distance, mean elevation and mean up."""
    center = focus_point(cameras)
    offsets = np.stack([c.position for c in cameras]) - center
    up = np.sum([c.up for c in cameras], axis=0)
    if np.linalg.norm(up) < 1e-6 * len(cameras):
        up = np.array([0.0, 0.0, 1.0])
    up = up / np.linalg.norm(up)
    distances = np.linalg.norm(offsets, axis=1)
    elevation = float(np.mean(np.arcsin(np.clip(offsets @ up / np.maximum(distances, 1e-12), -1, 1))))
    return circle(center, float(distances.mean()), views, elevation=elevation, up=up)


def spiral(cameras: Sequence[Camera], near: float, far: float, views: int, turns: int = 2) -> np.ndarray:
    """Spiral about the mean camera of a forward-facing set, always aimed at one point in front.

    The ellipsoid holds 90 % of the cameras, and the aim lies at the disparity-weighted depth of the scene, as in
    Mildenhall et al., Local Light Field Fusion (SIGGRAPH 2019).
    """
    _check(views)
    if not 0 < near < far:
        raise InputError(f"near and far: expected 0 < near < far, got {near} and {far}")
    mean = mean_pose(cameras)
    local = (np.stack([c.position for c in cameras]) - mean[:3, 3]) @ mean[:3, :3]
    radii = np.percentile(np.abs(local), 90, axis=0)
    depth = 1 / (0.25 / near + 0.75 / far)
    target = mean[:3, 3] - depth * mean[:3, 2]
    turn = 2 * math.pi * turns * np.arange(views) / views
    offsets = np.stack([np.cos(turn), -np.sin(turn), -np.sin(turn / 2)], 1) * radii
    return np.stack([look_at(mean[:3, 3] + mean[:3, :3] @ o, target, mean[:3, 1]) for o in offsets])


def interpolate(poses: np.ndarray, views: int, *, closed: bool = False) -> np.ndarray:
    """`views` poses through ``(n, 4, 4)`` key poses: Catmull-Rom positions, spherically interpolated rotations.

    An open path begins and ends at its first and last key; a closed one returns to its first.
    """
    _check(views)
    n = len(poses)
    if n < 2:
        raise InputError(f"a path needs at least two poses, got {n}")
    times = np.arange(views) * (n / views) if closed else np.linspace(0, n - 1, views)
    quaternions = [_quaternion(p[:3, :3]) for p in poses]
    out = []
    for time in times:
        first = min(int(time), n - 1 if closed else n - 2)
        share = float(time) - first
        keys = [first - 1, first, first + 1, first + 2]
        keys = [k % n if closed else min(max(k, 0), n - 1) for k in keys]
        pose = np.eye(4)
        pose[:3, 3] = _catmull_rom([poses[k][:3, 3] for k in keys], share)
        pose[:3, :3] = _rotation(_slerp(quaternions[keys[1]], quaternions[keys[2]], share))
        out.append(pose)
    return np.stack(out)


def mean_pose(cameras: Sequence[Camera]) -> np.ndarray:
    """Pose ``(4, 4)`` at the mean position, with the mean viewing and up directions."""
    position = np.mean([c.position for c in cameras], axis=0)
    forward = np.mean([c.forward for c in cameras], axis=0)
    if np.linalg.norm(forward) < 1e-3:
        raise InputError("the cameras look in all directions, so they have no mean pose; the set is not forward-facing")
    return look_at(position, position + forward, np.mean([c.up for c in cameras], axis=0))


def _check(views: int) -> None:
    if views < 1:
        raise InputError(f"a path needs at least one view, got {views}")


def _catmull_rom(keys: Sequence[np.ndarray], t: float) -> np.ndarray:
    a, b, c, d = keys
    return 0.5 * (2 * b + t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a))))


def _quaternion(r: np.ndarray) -> np.ndarray:
    """Unit quaternion (w, x, y, z): the largest eigenvector of Bar-Itzhack's matrix, stable for every rotation."""
    k = np.array(
        [
            [r[0, 0] + r[1, 1] + r[2, 2], r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]],
            [0, r[0, 0] - r[1, 1] - r[2, 2], r[1, 0] + r[0, 1], r[2, 0] + r[0, 2]],
            [0, 0, r[1, 1] - r[0, 0] - r[2, 2], r[2, 1] + r[1, 2]],
            [0, 0, 0, r[2, 2] - r[0, 0] - r[1, 1]],
        ]
    )
    return np.linalg.eigh(k, UPLO="U")[1][:, -1]


def _rotation(q: np.ndarray) -> np.ndarray:
    w, x, y, z = q / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _slerp(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    dot = float(a @ b)
    if dot < 0:  # the short way round
        b, dot = -b, -dot
    if dot > 0.9995:
        return a + t * (b - a)
    angle = math.acos(dot)
    return (math.sin((1 - t) * angle) * a + math.sin(t * angle) * b) / math.sin(angle)
