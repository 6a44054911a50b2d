"""What lies behind a grid on concentric spheres: colours, their gradients, and the same in plain torch.

Fridovich-Keil et al., Plenoxels (CVPR 2022), section 3.5. The grid's box is stretched to [-1, 1]^3; the inner sphere
has radius 1 there, and spheres are equally spaced in inverse radius, down to 0 at infinity. Each holds an
equirectangular map of colour and density, longitude from -z through -x along its first axis, +y at the top of its
second one; between texels and spheres everything is interpolated linearly. svox2 has the same, but interpolates the
map's last row with its first one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.radiance.grids import SparseGrid, SphereLayers
from neurcomp_core.radiance.rendering.frames import Rays
from neurcomp_core.radiance.rendering.gradients import Gradients
from neurcomp_core.radiance.rendering.march import MarchOptions
from neurcomp_core.radiance.rendering.ranges import over_ranges
from neurcomp_core.radiance.shared import SharedGrid

if TYPE_CHECKING:
    import torch

    from neurcomp_core.radiance.rendering.device_rays import RayTensors


@dataclass(frozen=True, eq=False)
class Spheres:
    """Geometry of background spheres; the values of their texels are given to each call.

    Values are ``density (rows layers,)`` and ``rgb (rows layers, 3, 1)``, before ``+ 0.5`` and clipping: a table like a
    sparse grid's, of spherical harmonics of degree 0 whose function is 1, so `Gradients` holds what is summed.

    Attributes
    ----------
    links : ndarray ``(2 r, r)`` int32
        See `SphereLayers`.
    layers : int
    box : ndarray ``(2, 3)``
        Of the grid before them.
    options : MarchOptions
        `step` in layers.
    """

    links: np.ndarray
    layers: int
    box: np.ndarray
    options: MarchOptions = field(default_factory=MarchOptions)

    def __post_init__(self) -> None:
        object.__setattr__(self, "links", np.ascontiguousarray(self.links, np.int32))

    @property
    def steps(self) -> int:
        """Samples between the inner sphere and infinity."""
        return int(self.layers / self.options.step) + 2

    def forward(self, density: np.ndarray, rgb: np.ndarray, rays: Rays) -> tuple[np.ndarray, np.ndarray]:
        """Colour ``(rays, 3)``, premultiplied, and opacity ``(rays,)``, float64, of what is outside the inner sphere.

        Near and far of the rays do not bound it.
        """
        color, opacity = np.zeros((len(rays), 3)), np.zeros(len(rays))
        given = [*self._arguments(density, rgb, rays), color, opacity]
        if len(density):
            from neurcomp_core.radiance.rendering import sphere_kernels

            over_ranges(len(rays), lambda _, a, b: sphere_kernels.forward(a, b, *given))
        return color, opacity

    def backward(
        self,
        density: np.ndarray,
        rgb: np.ndarray,
        rays: Rays,
        found: tuple[np.ndarray, np.ndarray],
        into: Gradients,
        *,
        color: np.ndarray,
        opacity: np.ndarray | float = 0.0,
    ) -> None:
        """Add the gradient of a loss with respect to the texels to `into`.

        `found` is what `forward` gave; `color` ``(rays, 3)`` and `opacity` ``(rays,)`` are the loss's derivatives.
        """
        n = len(rays)
        upstream = [
            np.ascontiguousarray(np.broadcast_to(g, shape), np.float64) for g, shape in ((color, (n, 3)), (opacity, n))
        ]
        into.check(density, rgb.reshape(len(rgb), 3))
        if not len(density):
            return
        from neurcomp_core.radiance.rendering import sphere_kernels

        given = (*self._arguments(density, rgb, rays), *found, *upstream)
        over_ranges(n, lambda part, a, b: sphere_kernels.backward(a, b, *[*given, *into.slot(part)]), into.slots)
        into.gather()

    def _arguments(self, density: np.ndarray, rgb: np.ndarray, rays: Rays) -> tuple:
        entries = (int(self.links.max(initial=-1)) + 1) * self.layers
        if density.shape != (len(density),) or rgb.shape != (len(density), 3, 1) or len(density) < entries:
            raise InputError(
                f"spheres: expected density ({entries},) and rgb ({entries}, 3, 1), got {density.shape} and {rgb.shape}"
            )
        center, half = self.box.mean(0), (self.box[1] - self.box[0]) / 2
        place = rays.origins, rays.directions, center, half, self.links, self.layers, self.steps
        values = np.ascontiguousarray(density), np.ascontiguousarray(rgb).reshape(-1, 3)
        return (*place, float(self.options.stop), *values)


@dataclass(frozen=True, eq=False)
class Backdrop:
    """The background spheres of a grid, and what is behind them, seen along rays."""

    spheres: Spheres
    density: np.ndarray
    rgb: np.ndarray

    @classmethod
    def of(cls, grid: SparseGrid | SharedGrid, options: MarchOptions | None = None) -> Backdrop:
        """Those of a grid that has some."""
        if grid.background is None:
            raise InputError("the grid has no background spheres; expected one with `background`")
        layers = grid.background.data.shape[1]
        spheres = Spheres(grid.background.links, layers, grid.box, options or MarchOptions())
        return cls(spheres, *tables_of(grid.background))

    def colors(self, rays: Rays, behind: np.ndarray) -> np.ndarray:
        """Colours ``(rays, 3)`` over `behind` ``(3,)`` or ``(rays, 3)``."""
        color, opacity = self.spheres.forward(self.density, self.rgb, rays)
        return color + (1 - opacity[:, None]) * behind


def tables_of(spheres: SphereLayers) -> tuple[np.ndarray, np.ndarray]:
    """Density ``(rows layers,)`` and colour ``(rows layers, 3, 1)`` of background spheres."""
    flat = spheres.data.reshape(-1, 4)
    return np.ascontiguousarray(flat[:, 3]), np.ascontiguousarray(flat[:, :3, None])


def layers_of(links: np.ndarray, layers: int, density: np.ndarray, rgb: np.ndarray) -> SphereLayers:
    """Inverse of `tables_of`."""
    data = np.concatenate([rgb.reshape(-1, 3), density[:, None]], 1).astype(np.float32)
    return SphereLayers(links, data.reshape(-1, layers, 4))


def spheres_reference(
    spheres: Spheres, density: torch.Tensor, rgb: torch.Tensor, rays: Rays | RayTensors
) -> tuple[torch.Tensor, torch.Tensor]:
    """`Spheres.forward` in plain torch, on the device and in the type of `density`, with gradients."""
    import torch

    like = {"dtype": density.dtype, "device": density.device}
    half = torch.as_tensor((spheres.box[1] - spheres.box[0]) / 2, **like)
    places, directions = (
        a.to(**like) if isinstance(a, torch.Tensor) else torch.tensor(a, **like)
        for a in (rays.origins, rays.directions)
    )
    origins = (places - torch.as_tensor(spheres.box.mean(0), **like)) / half
    length, directions = directions.norm(dim=1), directions / half
    speed = directions.norm(dim=1, keepdim=True)
    unit = length / speed[:, 0]
    directions = directions / speed
    along = (origins * directions).sum(1)
    square = ((origins * origins).sum(1) - along**2).clamp(min=0)
    inner = 1 / (square.sqrt() + 1e-3).clamp(min=1)
    steps = spheres.steps
    inverse = ((steps - torch.arange(steps, **like) - 0.5) / steps).expand(len(places), steps)
    used = inverse <= inner[:, None]
    # Each step reaches from the sphere before it, the first one from the innermost.
    before = torch.cat([torch.ones_like(inner)[:, None], inverse[:, :-1]], 1).minimum(inner[:, None])
    t = -along[:, None] + (1 / inverse**2 - square[:, None]).clamp(min=0).sqrt()
    used = used & (t > 0)
    sizes = torch.where(used, (before - inverse) * unit[:, None], 0)
    points = (origins[:, None] + t[..., None] * directions[:, None]) * inverse[..., None]
    entries, weights = _texels(spheres, points, inverse)
    sigma = torch.relu((weights * density[entries]).sum(-1))
    colors = torch.relu(0.5 + (weights[..., None] * rgb[entries][..., 0]).sum(-2))
    depth = torch.cumsum(sigma * sizes, 1)
    through = torch.exp(-torch.cat([torch.zeros_like(depth[:, :1]), depth[:, :-1]], 1))
    weight = through * -torch.expm1(-sigma * sizes) * (through.detach() >= spheres.options.stop)
    return (weight[..., None] * colors).sum(1), weight.sum(1)


def _texels(spheres: Spheres, points: torch.Tensor, inverse: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Entries and weights ``(rays, steps, 8)`` of unit vectors ``(rays, steps, 3)`` at inverse radii."""
    import torch

    links = torch.as_tensor(spheres.links, device=points.device).long()
    width, height = links.shape
    x, y, z = points.unbind(-1)
    u = width * (0.5 + torch.atan2(x, z) / (2 * math.pi))
    v = height * (0.5 - torch.asin(y.clamp(-1, 1)) / math.pi)
    w = ((1 - inverse) * spheres.layers - 0.5).clamp(0, spheres.layers - 1)
    i, j = u.long().clamp(max=width - 1), v.long().clamp(max=height - 1)
    k = w.long().clamp(max=max(spheres.layers - 2, 0))
    u, v, w = u - i, v - j, w - k
    entries, weights = [], []
    for corner in range(8):
        right, down, out = corner & 1, corner & 2, corner & 4
        row = links[(i + 1) % width if right else i, (j + 1).clamp(max=height - 1) if down else j]
        share = (u if right else 1 - u) * (v if down else 1 - v) * (w if out else 1 - w)
        layer = (k + 1).clamp(max=spheres.layers - 1) if out else k
        entries.append(row.clamp(min=0) * spheres.layers + layer)
        weights.append(torch.where(row >= 0, share, 0))
    return torch.stack(entries, -1), torch.stack(weights, -1)
