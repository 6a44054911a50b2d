"""Lens distortion: from a point on the image plane to a direction, and back.

Points on the image plane are normalised OpenCV coordinates, ``((u - cx) / fx, (v - cy) / fy)``: x right, y down.
Directions here are OpenCV's, too: x right, y down, z forward. `neurcomp_core.radiance.cameras` turns them.

Perspective lenses follow Brown (1966) as OpenCV, COLMAP and nerfstudio write it, ``x_d = x (1 + k1 r^2 + k2 r^4 +
k3 r^6 + k4 r^8) + 2 p1 x y + p2 (r^2 + 2 x^2)``; fisheye lenses follow Kannala & Brandt (2006, eq. 6), ``r_d = theta
(1 + k1 theta^2 + ... + k4 theta^8)`` with theta the angle from the optical axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_ITERATIONS = 30
_CONVERGED = 1e-10


@dataclass(frozen=True)
class Lens:
    """Distortion coefficients, named as OpenCV and COLMAP name them; all zero is a pinhole."""

    fisheye: bool = False
    k1: float = 0.0
    k2: float = 0.0
    k3: float = 0.0
    k4: float = 0.0
    p1: float = 0.0
    p2: float = 0.0

    @property
    def is_pinhole(self) -> bool:
        return not self.fisheye and not any((self.k1, self.k2, self.k3, self.k4, self.p1, self.p2))


def project(lens: Lens, directions: np.ndarray) -> np.ndarray:
    """Where directions ``(..., 3)`` meet the image plane: ``(..., 2)``, NaN behind a perspective camera."""
    x, y, z = np.moveaxis(np.asarray(directions, np.float64), -1, 0)
    if lens.fisheye:
        r = np.hypot(x, y)
        theta = np.arctan2(r, z)
        # On the axis the ratio of two zeros is 1 / z, and the point (0, 0) either way.
        scale = _fisheye(lens, theta)[0] / np.where(r > 0, r, 1.0)
        return np.stack([x * scale, y * scale], -1)
    z = np.where(z > 0, z, np.nan)
    x, y = x / z, y / z
    return np.stack(_perspective(lens, x, y)[:2], -1)


def unproject(lens: Lens, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverse of `project` by Newton's method.

    Parameters
    ----------
    lens : Lens
    points : ndarray ``(..., 2)``
        Distorted points.

    Returns
    -------
    directions : ndarray ``(..., 3)`` float64
        Of unit length.
    valid : ndarray ``(...)`` bool
        False where the polynomial has no inverse: beyond the radius where it turns back.
    """
    xd, yd = np.moveaxis(np.asarray(points, np.float64), -1, 0)
    if lens.fisheye:
        return _unproject_fisheye(lens, xd, yd)
    x, y = xd.copy(), yd.copy()
    valid = np.ones(x.shape, bool)
    if not lens.is_pinhole:
        with np.errstate(all="ignore"):
            for _ in range(_ITERATIONS):
                fx, fy, xx, xy, yy = _perspective(lens, x, y)
                ex, ey, det = fx - xd, fy - yd, xx * yy - xy * xy
                x, y = x - (yy * ex - xy * ey) / det, y - (xx * ey - xy * ex) / det
                if not np.any(np.abs(ex) + np.abs(ey) > _CONVERGED):
                    break
            fx, fy, xx, xy, yy = _perspective(lens, x, y)
            # The Jacobian at the axis is the identity; where it is no longer positive definite, the image has folded.
            valid = (np.hypot(fx - xd, fy - yd) < 1e-8) & (xx * yy - xy * xy > 0) & (xx + yy > 0)
    directions = np.stack([x, y, np.ones_like(x)], -1)
    return directions / np.linalg.norm(directions, axis=-1, keepdims=True), valid


def _perspective(lens: Lens, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    """Distorted x, y and their (symmetric) Jacobian xx, xy, yy."""
    r2 = x * x + y * y
    radial = 1 + r2 * (lens.k1 + r2 * (lens.k2 + r2 * (lens.k3 + r2 * lens.k4)))
    slope = 2 * (lens.k1 + r2 * (2 * lens.k2 + r2 * (3 * lens.k3 + r2 * 4 * lens.k4)))
    p1, p2 = lens.p1, lens.p2
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y),
        radial + slope * x * x + 2 * p1 * y + 6 * p2 * x,
        slope * x * y + 2 * p1 * x + 2 * p2 * y,
        radial + slope * y * y + 6 * p1 * y + 2 * p2 * x,
    )


def _fisheye(lens: Lens, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distorted radius and its derivative."""
    t2 = theta * theta
    value = theta * (1 + t2 * (lens.k1 + t2 * (lens.k2 + t2 * (lens.k3 + t2 * lens.k4))))
    slope = 1 + t2 * (3 * lens.k1 + t2 * (5 * lens.k2 + t2 * (7 * lens.k3 + t2 * 9 * lens.k4)))
    return value, slope


def _unproject_fisheye(lens: Lens, xd: np.ndarray, yd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    radius = np.hypot(xd, yd)
    theta = np.minimum(radius, np.pi)
    with np.errstate(all="ignore"):
        for _ in range(_ITERATIONS):
            value, slope = _fisheye(lens, theta)
            theta = theta - (value - radius) / slope
            if not np.any(np.abs(value - radius) > _CONVERGED):
                break
        value, slope = _fisheye(lens, theta)
        valid = (np.abs(value - radius) < 1e-8) & (slope > 0) & (theta >= 0) & (theta <= np.pi)
    across = np.sin(theta) / np.where(radius > 0, radius, 1.0)
    return np.stack([xd * across, yd * across, np.cos(theta)], -1), valid
