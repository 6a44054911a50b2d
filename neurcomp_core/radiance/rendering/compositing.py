"""Compositing of samples in torch: CPU kernels with their gradients, and the same in plain torch for any device.

Mildenhall et al., NeRF (ECCV 2020), eq. 3; Max, IEEE TVCG 1995, eq. 8.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch

from neurcomp_core.errors import InputError
from neurcomp_core.radiance.rendering import composite_kernels
from neurcomp_core.radiance.rendering.ranges import over_ranges
from neurcomp_core.radiance.rendering.samples import Samples


class PackedSamples(NamedTuple):
    """`Samples` as tensors on one device.

    starts ``(rays + 1,)`` and index ``(n,)`` int64; times and sizes ``(n,)``.
    """

    starts: torch.Tensor
    index: torch.Tensor
    times: torch.Tensor
    sizes: torch.Tensor

    @classmethod
    def of(
        cls, samples: Samples, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> PackedSamples:
        """From arrays."""
        starts, index = (torch.from_numpy(a).to(device) for a in (samples.starts, samples.index))
        times, sizes = (torch.from_numpy(a).to(device, dtype) for a in (samples.times, samples.sizes))
        return cls(starts, index, times, sizes)


class Composite(NamedTuple):
    """Colour ``(rays, channels)`` premultiplied and without background, opacity ``(rays,)``, depth ``(rays,)`` (sum of
    weight times t), and rendering weights ``(n,)`` of the samples.
    """

    color: torch.Tensor
    opacity: torch.Tensor
    depth: torch.Tensor
    weights: torch.Tensor

    def over(self, background: torch.Tensor) -> torch.Tensor:
        """Colour ``(rays, channels)`` over a background ``(channels,)`` or ``(rays, channels)``."""
        return self.color + (1 - self.opacity)[:, None] * background


def composite(sigma: torch.Tensor, rgb: torch.Tensor, samples: PackedSamples, stop: float = 0.0) -> Composite:
    """Weights ``T_i (1 - exp(-sigma_i l_i))`` of samples and what they add up to; all four outputs have gradients.

    Parameters
    ----------
    sigma : Tensor ``(n,)``
        Density, not negative.
    rgb : Tensor ``(n, channels)``
        Colours, or any other channels to be averaged.
    samples : PackedSamples
        Their t and length l.
    stop : float
        Samples behind the point where transmittance has fallen below this weigh nothing.

    Raises
    ------
    InputError
        If shapes disagree.
    """
    n = len(samples.times)
    if sigma.shape != (n,) or rgb.ndim != 2 or len(rgb) != n:
        raise InputError(f"expected sigma ({n},) and rgb ({n}, channels), got {(*sigma.shape,)} and {(*rgb.shape,)}")
    if sigma.device.type != "cpu":
        return composite_reference(sigma, rgb, samples, stop)
    return Composite(*cast(tuple, _Composite.apply(sigma, rgb, samples, stop)))


class _Composite(torch.autograd.Function):
    """`composite_kernels.forward` with its gradients with respect to sigma and rgb."""

    @staticmethod
    def forward(
        ctx: Any, sigma: torch.Tensor, rgb: torch.Tensor, samples: PackedSamples, stop: float
    ) -> tuple[torch.Tensor, ...]:
        sigma, rgb = sigma.detach().contiguous(), rgb.detach().to(sigma.dtype).contiguous()
        rays = len(samples.starts) - 1
        color = sigma.new_empty(rays, rgb.shape[1])
        opacity, depth, weights = sigma.new_empty(rays), sigma.new_empty(rays), torch.zeros_like(sigma)
        times, sizes = samples.times.to(sigma.dtype).numpy(), samples.sizes.to(sigma.dtype).numpy()
        starts = samples.starts.numpy()
        given = starts, sigma.numpy(), rgb.numpy(), times, sizes, float(stop)
        results = color.numpy(), opacity.numpy(), depth.numpy(), weights.numpy()
        over_ranges(rays, lambda _, a, b: composite_kernels.forward(a, b, *given, *results))
        ctx.given = starts, rgb.numpy(), times, sizes, float(stop)
        ctx.save_for_backward(weights)
        return color, opacity, depth, weights

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        (weights,) = ctx.saved_tensors
        starts, rgb = ctx.given[:2]
        g_sigma = torch.zeros_like(weights)
        g_rgb = weights.new_zeros(rgb.shape)
        outputs = [g.contiguous().numpy() for g in upstream]
        given = (*ctx.given, weights.numpy(), *outputs, g_sigma.numpy(), g_rgb.numpy())
        over_ranges(len(starts) - 1, lambda _, a, b: composite_kernels.backward(a, b, *given))
        return g_sigma, g_rgb, None, None


def composite_reference(sigma: torch.Tensor, rgb: torch.Tensor, samples: PackedSamples, stop: float = 0.0) -> Composite:
    """`composite` in plain torch for any device."""
    thick = sigma * samples.sizes.to(sigma.dtype)
    # One running sum over all rays, less what was there at each ray's start: hence float64.
    before = thick.double().cumsum(0) - thick.double()
    if len(before):
        first = samples.starts[:-1].clamp(max=len(before) - 1)
        before = before - before[first][samples.index]
    through = torch.exp(-before)
    weights = through * -torch.expm1(-thick.double())
    weights = torch.where(through.detach() >= stop, weights, 0).to(sigma.dtype)
    rays = len(samples.starts) - 1

    def total(values: torch.Tensor) -> torch.Tensor:
        return values.new_zeros(rays, *values.shape[1:]).index_add(0, samples.index, values)

    return Composite(
        total(weights[:, None] * rgb.to(sigma.dtype)),
        total(weights),
        total(weights * samples.times.to(sigma.dtype)),
        weights,
    )
