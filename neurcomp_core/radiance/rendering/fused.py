"""The fused march as a torch function, and the same in plain torch for any device."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
import torch

from neurcomp_core.radiance import spherical_harmonics
from neurcomp_core.radiance.rendering import sampling
from neurcomp_core.radiance.rendering.compositing import composite_reference
from neurcomp_core.radiance.rendering.device_samples import sample_rays_on
from neurcomp_core.radiance.rendering.frames import Rays
from neurcomp_core.radiance.rendering.gradients import Gradients
from neurcomp_core.radiance.rendering.march import March


class RayIntegrals(NamedTuple):
    """Colour ``(rays, 3)`` premultiplied and without background, opacity, depth (sum of weight times t) and penalty
    (sum of log(1 + 2 density^2)), ``(rays,)`` each, in the grid's type.
    """

    color: torch.Tensor
    opacity: torch.Tensor
    depth: torch.Tensor
    penalty: torch.Tensor

    def over(self, background: torch.Tensor) -> torch.Tensor:
        """Colour over a background ``(3,)`` or ``(rays, 3)``."""
        return self.color + (1 - self.opacity)[:, None] * background


def march(
    density: torch.Tensor,
    sh: torch.Tensor,
    geometry: March,
    rays: Rays,
    fractions: np.ndarray | None = None,
    *,
    penalty: bool = False,
) -> RayIntegrals:
    """Rays through a sparse grid, with gradients with respect to its rows.

    Samples are never stored on the CPU; on other devices this is `march_reference`.

    Parameters
    ----------
    density : Tensor ``(rows,)``
    sh : Tensor ``(rows, 3, functions)``
    geometry : March
    rays : Rays
    fractions : ndarray ``(rays,)``, optional
        See `March.forward`.
    penalty : bool
        Whether to sum it; else zero.
    """
    if density.device.type != "cpu":
        return march_reference(density, sh, geometry, rays, fractions, penalty=penalty)
    return RayIntegrals(*cast(tuple, _March.apply(density, sh, geometry, rays, fractions, penalty)))


class _March(torch.autograd.Function):
    """`March.forward` and `March.backward`."""

    @staticmethod
    def forward(
        ctx: Any,
        density: torch.Tensor,
        sh: torch.Tensor,
        geometry: March,
        rays: Rays,
        fractions: np.ndarray | None,
        penalty: bool,
    ) -> tuple[torch.Tensor, ...]:
        values = density.detach().numpy(), sh.detach().numpy()
        found = geometry.forward(*values, rays, fractions, penalty=penalty)
        ctx.given, ctx.geometry, ctx.rays, ctx.fractions = (values, found), geometry, rays, fractions
        thin = found.penalty if penalty else np.zeros(len(rays))
        return tuple(torch.from_numpy(a).to(density.dtype) for a in (found.color, found.opacity, found.depth, thin))

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (density, sh), found = ctx.given
        sums = Gradients(density, sh)
        color, opacity, depth, penalty = (g.double().numpy() for g in upstream)
        ctx.geometry.backward(
            density, sh, ctx.rays, found, sums, ctx.fractions,
            color=color, opacity=opacity, depth=depth, penalty=penalty,
        )  # fmt: skip
        gradients = torch.from_numpy(sums.density), torch.from_numpy(sums.sh.reshape(sh.shape))
        return (*gradients, None, None, None, None)


def march_reference(
    density: torch.Tensor,
    sh: torch.Tensor,
    geometry: March,
    rays: Rays,
    fractions: np.ndarray | None = None,
    *,
    penalty: bool = False,
) -> RayIntegrals:
    """`march` in plain torch, on the device of `density`; all samples of the rays are held at once."""
    assert geometry.occupancy is not None
    assert rays.views is not None
    frame, options, device = geometry.frame, geometry.options, density.device
    packed, points = sample_rays_on(
        rays, frame.voxel, geometry.occupancy, options, fractions, density.dtype, device
    )  # fmt: skip
    basis = spherical_harmonics.basis(rays.views, spherical_harmonics.degree_of(sh.shape[2]))
    links = _links_on(geometry, device)
    sigma = torch.relu(sampling.sample_reference(links, density[:, None], points, frame)[:, 0])
    # Colours of empty space are not looked at, and neither kernel nor plain torch gives them a gradient.
    lit = torch.nonzero(sigma.detach() > 0)[:, 0]
    mixed = sampling.sample_reference(links, sh.reshape(len(sh), 3 * sh.shape[2]), points[lit], frame)
    seen = sampling.shade_reference(
        mixed.reshape(len(lit), 3, sh.shape[2]), torch.from_numpy(basis).to(device, density.dtype), packed.index[lit]
    )
    rgb = torch.zeros(len(sigma), 3, dtype=seen.dtype, device=device).index_copy(0, lit, seen)
    out = composite_reference(sigma, rgb, packed, options.stop)
    thin = torch.zeros(len(rays), dtype=density.dtype, device=device)
    if penalty:
        # Only of samples that are reached, as the fused march has it.
        reached = (out.weights.detach() > 0) | (sigma.detach() == 0)
        thin = thin.index_add(0, packed.index, torch.where(reached, torch.log1p(2 * sigma * sigma), 0))
    return RayIntegrals(out.color, out.opacity, out.depth, thin)


def _links_on(geometry: March, device: torch.device) -> torch.Tensor:
    """The links as a tensor, sent to a device once."""
    kept = geometry.__dict__.setdefault("_links_on", {})
    if device not in kept:
        kept[device] = torch.tensor(geometry.links, device=device)
    return kept[device]
