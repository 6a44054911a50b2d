"""Real spherical harmonics up to degree 4, signs and order as PlenOctrees, svox2 and 3D Gaussian splatting have them.

Orthonormal on the unit sphere, with the Condon-Shortley phase: coefficient ``l (l + 1) + m`` belongs to degree l and
order m = -l..l. Degree 2: ``1, -y, z, -x, xy, -yz, 3 z^2 - 1, -xz, x^2 - y^2`` times their norms.
"""

from __future__ import annotations

from math import factorial, pi, sqrt

import numpy as np

from neurcomp_core.errors import InputError

MAX_DEGREE = 4


def count(degree: int) -> int:
    """Basis functions up to `degree`."""
    return (degree + 1) ** 2


def degree_of(functions: int) -> int:
    """Inverse of `count`; InputError for what is no square from 1 to 25."""
    degree = round(sqrt(max(functions, 0))) - 1
    if not 0 <= degree <= MAX_DEGREE or count(degree) != functions:
        raise InputError(f"spherical harmonics: expected 1, 4, 9, 16 or 25 functions, got {functions}")
    return degree


def basis(directions: np.ndarray, degree: int) -> np.ndarray:
    """Values of all functions up to `degree`.

    Parameters
    ----------
    directions : ndarray ``(..., 3)``
        Unit vectors.
    degree : int
        0 to 4.

    Returns
    -------
    ndarray ``(..., (degree + 1)^2)``
        In the dtype of `directions`.
    """
    if not 0 <= degree <= MAX_DEGREE:
        raise InputError(f"spherical harmonics: expected a degree from 0 to {MAX_DEGREE}, got {degree}")
    x, y, z = np.moveaxis(directions, -1, 0)
    out = np.empty((*x.shape, count(degree)), directions.dtype)
    # sin^m(theta) cos(m phi) and sin^m(theta) sin(m phi) are the real and imaginary part of (x + i y)^m.
    real, imaginary = np.ones_like(x), np.zeros_like(x)
    for m in range(degree + 1):
        for n, legendre in enumerate(_legendre(z, m, degree), start=m):
            scale = (-1) ** m * sqrt((2 * n + 1) / (4 * pi) * factorial(n - m) / factorial(n + m))
            if m == 0:
                out[..., n * (n + 1)] = scale * legendre
            else:
                out[..., n * (n + 1) + m] = sqrt(2) * scale * legendre * real
                out[..., n * (n + 1) - m] = sqrt(2) * scale * legendre * imaginary
        real, imaginary = real * x - imaginary * y, real * y + imaginary * x
    return out


def _legendre(z: np.ndarray, m: int, degree: int) -> list[np.ndarray]:
    """Associated Legendre functions of order m, degrees m to `degree`, without phase and sin^m, by their recurrence."""
    below = np.zeros_like(z)
    current = np.full_like(z, float(np.prod(np.arange(1, 2 * m, 2))))
    out = [current]
    for n in range(m + 1, degree + 1):
        below, current = current, ((2 * n - 1) * z * current - (n + m - 1) * below) / (n - m)
        out.append(current)
    return out
