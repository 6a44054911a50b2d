"""Where a scene is, from its cameras or its points: near and far distances and a box."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurcomp_core.radiance.cameras import Camera, ndc_rays, project, rays

_LATTICE = 32
# A frustum ends where its image does; a margin keeps an object that touches the image's edge.
_MARGIN = 0.02


def focus_point(cameras: Sequence[Camera]) -> np.ndarray:
    """The point ``(3,)`` closest, in least squares, to all optical axes; before the cameras where axes are parallel."""
    origins = np.stack([c.position for c in cameras])
    forward = np.stack([c.forward for c in cameras])
    across = np.eye(3) - forward[:, :, None] * forward[:, None, :]
    matrix, right = across.sum(0), (across @ origins[:, :, None]).sum(0)[:, 0]
    # Singular where all axes are parallel; the pseudo-inverse then picks the point nearest to the cameras' centre.
    center = origins.mean(0)
    return center + np.linalg.pinv(matrix, rcond=1e-9) @ (right - matrix @ center)


def agreement(cameras: Sequence[Camera]) -> float:
    """Length of the mean viewing direction: 1 if all look the same way, 0 if they look all around."""
    return float(np.linalg.norm(np.mean([c.forward for c in cameras], axis=0)))


def inward_near_far(cameras: Sequence[Camera]) -> tuple[float, float]:
    """Near and far of cameras that look at one object: half and one and a half times their distance from it.

    NeRF's synthetic scenes, 4.03 from their cameras, get the customary 2 and 6.
    """
    distances = np.linalg.norm(np.stack([c.position for c in cameras]) - focus_point(cameras), axis=1)
    return 0.5 * float(distances.min()), 1.5 * float(distances.max())


def frustum_box(cameras: Sequence[Camera], near: float, far: float) -> np.ndarray:
    """Box ``(2, 3)``, low and high corner in x, y, z, of all the cameras' frusta between `near` and `far`.

    Sun et al., Direct Voxel Grid Optimization (CVPR 2022), section 5.
    """
    corners = []
    for camera in cameras:
        origins, directions = rays(camera, _border(camera), np.float64)
        corners += [origins + near * directions, origins + far * directions]
    points = np.concatenate(corners)
    return np.stack([points.min(0), points.max(0)])


def seen_box(cameras: Sequence[Camera], near: float, far: float, share: float = 0.9) -> np.ndarray:
    """Box ``(2, 3)`` of the points that at least `share` of the cameras see between `near` and `far`.

    Much tighter than `frustum_box` where the cameras surround an object: what is in every picture is in this box.
    Falls back to `frustum_box` where the frusta have no such point in common.
    """
    outer = box = frustum_box(cameras, near, far)
    for _ in range(2):
        axes = [np.linspace(low, high, _LATTICE) for low, high in box.T]
        lattice = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        votes = sum(_sees(camera, lattice, near, far).astype(np.int32) for camera in cameras)
        seen = lattice[votes >= share * len(cameras)]
        if not len(seen):
            return outer
        cell = (box[1] - box[0]) / (_LATTICE - 1)
        box = np.stack([np.maximum(seen.min(0) - cell, outer[0]), np.minimum(seen.max(0) + cell, outer[1])])
    return box


def camera_box(cameras: Sequence[Camera]) -> np.ndarray:
    """Cube ``(2, 3)`` about the focus point that reaches the farthest camera: the foreground of an unbounded set."""
    center = focus_point(cameras)
    reach = float(np.linalg.norm(np.stack([c.position for c in cameras]) - center, axis=1).max())
    return np.stack([center - reach, center + reach])


def ndc_box(cameras: Sequence[Camera], near: float) -> np.ndarray:
    """Box ``(2, 3)`` of all the cameras' frusta in normalised device coordinates."""
    ends = []
    for camera in cameras:
        origins, directions = ndc_rays(*rays(camera, _border(camera), np.float64), camera.intrinsics, near)
        ends += [origins, origins + directions]
    points = np.concatenate(ends)
    return np.stack([points.min(0), points.max(0)])


def point_bounds(cameras: Sequence[Camera], points: np.ndarray) -> tuple[float, float, np.ndarray] | None:
    """Near, far and box ``(2, 3)`` of a sparse reconstruction; None where the cameras see too few of its points.

    Distances of the points that project into each image, with the 0.1 % nearest and farthest left out and 10 % to
    spare; the box leaves out 1 % at either end of each axis and adds 10 %. Stray points are common.
    """
    distances = []
    for camera in cameras:
        seen = points[_sees(camera, points, 0.0, np.inf)]
        distances.append(np.linalg.norm(seen - camera.position, axis=1))
    found = np.concatenate(distances)
    if found.size < 10:
        return None
    near, far = np.percentile(found, (0.1, 99.9))
    low, high = np.percentile(points, (1, 99), axis=0)
    margin = 0.1 * (high - low)
    return 0.9 * float(near), 1.1 * float(far), np.stack([low - margin, high + margin])


def _border(camera: Camera) -> np.ndarray:
    """Corners and middles of the image's edges, ``(8, 2)``."""
    w, h = camera.intrinsics.width, camera.intrinsics.height
    return np.array([(u, v) for u in (0, w / 2, w) for v in (0, h / 2, h) if (u, v) != (w / 2, h / 2)], np.float64)


def _sees(camera: Camera, points: np.ndarray, near: float, far: float) -> np.ndarray:
    i = camera.intrinsics
    uv = project(camera, points) / (i.width, i.height)
    distance = np.linalg.norm(points - camera.position, axis=1)
    with np.errstate(invalid="ignore"):
        inside = ((uv >= -_MARGIN) & (uv <= 1 + _MARGIN)).all(1)
    return inside & (distance >= near) & (distance <= far)
