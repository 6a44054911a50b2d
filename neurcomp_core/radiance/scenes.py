"""Small analytic radiance fields with known answers: what a reconstruction or a renderer is judged against.

A scene is a sum of soft primitives of bounded support. A ball of radius R and peak density a has density
``a (1 - r^2/R^2)^3``, so a ray that passes its centre at distance b meets the optical depth

    ``(32/35) a (R^2 - b^2)^(7/2) / R^6``;

a box has constant density inside and falls to zero at its faces as a quintic smoothstep, so across a whole pair of
faces the optical depth is the peak times (full width - softness). Colour is a textured base and a tint
``((1 + d.axis) / 2)^2``, a polynomial of degree 2 in the viewing direction d: spherical harmonics of degree 2 hold
it exactly. Where primitives overlap, densities add up and colours mix by density.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.radiance import spherical_harmonics
from neurcomp_core.radiance.cameras import Camera, rays
from neurcomp_core.radiance.grids import SparseGrid

#: Step of the quadrature in world units. The error falls with its square; docs/radiance-data.md has the figures.
STEP = 1 / 128
#: What pictures are rendered with: colours are off by less than a fifth of an 8-bit step.
PICTURE_STEP = 1 / 64
KINDS = ("inward", "forward", "unbounded")


@dataclass(frozen=True, eq=False)
class Scene:
    """An analytic emission-absorption radiance field.

    Attributes
    ----------
    table : ndarray ``(primitives, 21)`` float64
        See `neurcomp_core.radiance.scene_kernels`.
    sky : ndarray ``(2, 3)`` float64, optional
        Colours straight down and straight up (z) at infinity; transparent if None.
    """

    table: np.ndarray
    sky: np.ndarray | None = None

    def density(self, points: np.ndarray) -> np.ndarray:
        """``(...)`` float64 per unit length at world points ``(..., 3)``."""
        return self._evaluate(points, np.zeros_like(points, np.float64))[0]

    def color(self, points: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """RGB ``(..., 3)`` float64 at points seen along unit directions; zero where there is no density."""
        return self._evaluate(points, directions)[1]

    def background(self, directions: np.ndarray) -> np.ndarray:
        """RGB ``(..., 3)`` at infinity along unit directions; black for a scene without sky."""
        if self.sky is None:
            return np.zeros_like(directions)
        x, y, z = np.moveaxis(np.asarray(directions, np.float64), -1, 0)
        up = (0.5 + 0.5 * z)[..., None]
        clouds = 0.06 * (np.sin(7 * x + 3 * z) * np.cos(6 * y - 2 * z))[..., None]
        return (1 - up) * self.sky[0] + up * self.sky[1] + clouds

    def trace(
        self, origins: np.ndarray, directions: np.ndarray, step: float = STEP
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Integrals along rays ``origins + t directions``, t >= 0 (Max, IEEE TVCG 1995, eq. 8).

        Parameters
        ----------
        origins, directions : ndarray ``(..., 3)``
            World coordinates; directions of unit length.
        step : float
            Longest step of the quadrature.

        Returns
        -------
        color : ndarray ``(..., 3)`` float64
            Premultiplied by opacity, without the sky.
        opacity : ndarray ``(...)`` float64
        depth : ndarray ``(...)`` float64
            Mean distance by rendering weight, times opacity.
        """
        from neurcomp_core.radiance import scene_kernels

        if not 0 < step < np.inf:
            raise InputError(f"step: expected a positive length, got {step}")
        shape = np.shape(directions)[:-1]
        d = np.ascontiguousarray(directions, np.float64).reshape(-1, 3)
        o = np.ascontiguousarray(np.broadcast_to(origins, np.shape(directions)), np.float64).reshape(-1, 3)
        color, opacity, depth = np.empty(d.shape), np.empty(len(d)), np.empty(len(d))
        scene_kernels.trace(self.table, o, d, float(step), color, opacity, depth)
        return color.reshape(*shape, 3), opacity.reshape(shape), depth.reshape(shape)

    def render(self, camera: Camera, step: float = PICTURE_STEP, samples: int = 2) -> np.ndarray:
        """Picture ``(height, width, 4)`` float64, alpha not premultiplied; ``(height, width, 3)`` if there is a sky.

        `samples` x `samples` rays per pixel are averaged, as a camera's pixel averages over its area.
        """
        i = camera.intrinsics
        offsets = (np.arange(samples) + 0.5) / samples
        u = (np.arange(i.width)[:, None] + offsets).ravel()
        v = (np.arange(i.height)[:, None] + offsets).ravel()
        origins, directions = rays(camera, np.stack(np.meshgrid(u, v), -1), np.float64)
        color, opacity, _ = self.trace(origins, directions, step)
        if self.sky is not None:
            color = color + (1 - opacity[..., None]) * self.background(directions)
        blocks = (i.height, samples, i.width, samples)
        color = color.reshape(*blocks, 3).mean((1, 3))
        if self.sky is not None:
            return color
        alpha = opacity.reshape(*blocks, 1).mean((1, 3))
        straight = np.divide(color, alpha, out=np.zeros_like(color), where=alpha > 1e-9)
        return np.concatenate([straight, alpha], -1)

    def box(self) -> np.ndarray:
        """``(2, 3)``: the smallest box around all primitives."""
        center = self.table[:, 1:4]
        half = np.where(self.table[:, :1] == 0, self.table[:, 4:5], self.table[:, 4:7])
        return np.stack([(center - half).min(0), (center + half).max(0)])

    def grid(self, size: int, box: np.ndarray | None = None) -> SparseGrid:
        """The field sampled on `size` voxels along the longest side of `box`; voxels without density are left out.

        Colours become spherical harmonics of degree 2, which hold them exactly at the samples.
        """
        if size < 2:
            raise InputError(f"size: expected at least 2 voxels, got {size}")
        box = self.box() if box is None else np.asarray(box, np.float64)
        extent = box[1] - box[0]
        count = np.maximum(1, np.rint(size * extent / extent.max()).astype(int))
        axes = [box[0, i] + (np.arange(n) + 0.5) * extent[i] / n for i, n in enumerate(count)]
        z, y, x = np.meshgrid(*axes[::-1], indexing="ij")
        points = np.stack([x, y, z], -1)
        density = self.density(points)
        keep = density > 0
        # Nine directions in general position determine nine coefficients.
        turn, height = np.arange(9) * 2.399963, np.linspace(-0.9, 0.9, 9)
        ring = np.sqrt(1 - height**2)
        directions = np.stack([ring * np.cos(turn), ring * np.sin(turn), height], -1)
        inverse = np.linalg.inv(spherical_harmonics.basis(directions, 2))
        inside = points[keep]
        seen = np.stack([self.color(inside, np.broadcast_to(d, inside.shape)) for d in directions], -1)
        sh = np.zeros((*keep.shape, 3, 9), np.float32)
        sh[keep] = (seen - 0.5) @ inverse.T
        return SparseGrid.from_dense(density, sh, box, keep)

    def _evaluate(self, points: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from neurcomp_core.radiance import scene_kernels

        shape = np.shape(points)[:-1]
        p = np.ascontiguousarray(points, np.float64).reshape(-1, 3)
        d = np.ascontiguousarray(directions, np.float64).reshape(-1, 3)
        density, color = np.empty(len(p)), np.empty(p.shape)
        scene_kernels.evaluate(self.table, p, d, density, color)
        return density.reshape(shape), color.reshape(*shape, 3)


def scene(kind: str, seed: int = 0) -> Scene:
    """One of `KINDS`: "inward" is an object within [-1, 1]^3, "forward" lies before a wall along -z, "unbounded" is an
    object on a wide floor among far balls under a sky. The same seed gives the same scene.
    """
    if kind not in KINDS:
        raise InputError(f"scene '{kind}' is unknown; expected one of {', '.join(KINDS)}")
    draw = np.random.default_rng(seed)
    if kind == "inward":
        return Scene(_object(draw))
    if kind == "forward":
        rows = [_box(draw, (0, 0, -6), (9, 7, 0.15), 0.1, 60, wave=4)]
        for depth in np.linspace(2.2, 5, 7):
            across = draw.uniform(-0.35, 0.35, 2) * depth
            rows.append(_ball(draw, (*across, -depth), draw.uniform(0.12, 0.2) * depth, 12))
        rows.append(_box(draw, (0.3, -0.9, -3), (0.9, 0.12, 0.5), 0.06, 40))
        return Scene(np.array(rows), np.array([[0.2, 0.2, 0.2], [0.2, 0.2, 0.2]]))
    rows = list(_object(draw))
    rows.append(_box(draw, (0, 0, -0.75), (14, 14, 0.1), 0.1, 80, wave=3))
    for turn in np.arange(9) * (2 * np.pi / 9):
        distance = draw.uniform(5, 9)
        radius = draw.uniform(0.8, 1.8)
        place = (distance * np.cos(turn), distance * np.sin(turn), radius - 0.9)
        rows.append(_ball(draw, place, radius, 15))
    return Scene(np.array(rows), np.array([[0.55, 0.5, 0.45], [0.35, 0.5, 0.75]]))


def _object(draw: np.random.Generator) -> np.ndarray:
    """A slab with balls on it and above it, one of them translucent; within radius 1."""
    rows = [_box(draw, (0, 0, -0.5), (0.6, 0.6, 0.14), 0.08, 60)]
    for k in range(6):
        turn = 2 * np.pi * (k + draw.uniform(0, 0.5)) / 6
        reach = draw.uniform(0.3, 0.5)
        place = (reach * np.cos(turn), reach * np.sin(turn), draw.uniform(-0.25, 0.5))
        rows.append(_ball(draw, place, draw.uniform(0.2, 0.34), 1.5 if k == 0 else 14))
    return np.array(rows)


def _ball(draw: np.random.Generator, center: tuple, radius: float, depth: float) -> np.ndarray:
    """`depth`: optical depth through the middle."""
    return _row(draw, 0, center, (radius, radius, radius), 1.0, depth * 35 / (32 * radius), 4 / radius)


def _box(
    draw: np.random.Generator, center: tuple, half: tuple, softness: float, peak: float, wave: float = 9
) -> np.ndarray:
    return _row(draw, 1, center, half, softness, peak, wave)


def _row(
    draw: np.random.Generator, kind: int, center: tuple, half: tuple, softness: float, peak: float, wave: float
) -> np.ndarray:
    base, tint = draw.uniform(0.1, 0.75, 3), draw.uniform(0.05, 0.25, 3)
    axis, waves = draw.standard_normal((2, 3))
    axis /= np.linalg.norm(axis)
    return np.concatenate(
        [[kind], center, half, [softness, peak], base, tint, axis, wave * waves / np.linalg.norm(waves)]
    )
