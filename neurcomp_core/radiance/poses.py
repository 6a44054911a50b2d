"""Camera-to-world poses: checked, converted, made; the convention is that of `neurcomp_core.radiance.cameras`."""

from __future__ import annotations

from typing import Any

import numpy as np

from neurcomp_core.errors import InputError

# How far the axes of a pose may be from orthogonal: files round to a few decimals.
_ORTHOGONAL = 1e-2


def checked_pose(pose: Any, name: str) -> np.ndarray:
    """A rigid 4x4 float64 pose, or `InputError`: one sentence that begins with `name`."""
    try:
        matrix = np.array(pose, np.float64)
    except (TypeError, ValueError, OverflowError):
        matrix = np.empty(0)
    if matrix.shape not in ((3, 4), (4, 4)):
        raise InputError(f"{name}: expected a pose of 4x4 (or 3x4) numbers, got {_outline(pose)}; correct the file")
    if not np.isfinite(matrix).all():
        raise InputError(f"{name}: the pose holds NaN or infinite numbers; correct or remove this frame")
    if matrix.shape == (4, 4) and np.abs(matrix[3] - (0, 0, 0, 1)).max() > 1e-6:
        raise InputError(f"{name}: the pose's last row must be 0 0 0 1, got {_row(matrix[3])}; is it transposed?")
    longest = np.abs(matrix[:3, :3]).max()
    axes = matrix[:3, :3] / (longest or 1.0)
    volume = float(np.linalg.det(axes))
    if abs(volume) <= 1e-6:
        raise InputError(f"{name}: the pose is singular (its axes lie in a plane); correct or remove this frame")
    if volume < 0:
        raise InputError(f"{name}: the pose mirrors (its determinant is negative); expected a right-handed rotation")
    axes = axes / np.cbrt(volume)
    if np.abs(axes.T @ axes - np.eye(3)).max() > _ORTHOGONAL:
        raise InputError(f"{name}: the pose's axes are not orthogonal, so it is no rotation; correct this frame")
    u, _, vt = np.linalg.svd(axes)
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = u @ vt, matrix[:3, 3]
    return out


def from_opencv(pose: np.ndarray) -> np.ndarray:
    """Camera-to-world of axes x right, y down, z forward (COLMAP, OpenCV) to this module's; its own inverse."""
    return pose * np.array([1.0, -1.0, -1.0, 1.0])


def look_at(position: np.ndarray, target: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Pose ``(4, 4)`` of a camera at `position` that looks at `target`, `up` upright in the image."""
    position = np.asarray(position, np.float64)
    back = _unit(position - np.asarray(target, np.float64))
    right = np.cross(np.asarray(up, np.float64), back)
    if np.linalg.norm(right) < 1e-9:  # looking straight along `up`
        right = np.cross(np.eye(3)[np.abs(back).argmin()], back)
    right = _unit(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(back, right), back, position], 1)
    return pose


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _row(values: np.ndarray) -> str:
    return " ".join(f"{v:g}" for v in values)


def _outline(pose: Any) -> str:
    try:
        return " x ".join(map(str, np.shape(pose))) or str(pose)
    except ValueError:
        return "rows of different lengths"
