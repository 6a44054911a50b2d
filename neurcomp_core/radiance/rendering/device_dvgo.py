"""Marches through DVGO models by Triton kernels: what `dvgo_march` is on the CPU, with tensors in and out."""
# What a kernel is called with is known to Triton, not to a checker.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import pad

from neurcomp_core.radiance.rendering import triton_dvgo as kernels
from neurcomp_core.radiance.rendering.device_rays import RayTensors
from neurcomp_core.radiance.rendering.dvgo_march import DvgoMarch, Layers
from neurcomp_core.radiance.rendering.tensor_networks import encoded, logits
from neurcomp_core.radiance.rendering.triton_rays import Space, lanes

# Samples of a program that gathers or scatters; of one that shades, whose matrix products want 64 rows.
_SAMPLES, _SHADED = 128, 64
# Units of the layer before the last made at a time, and the widest network that the fused kernel takes.
_PART, _WIDEST = 32, 128
# Three products of 19 bits each on matrix units: as good as float32.
_PRECISION = "tf32x3"


class Grids(NamedTuple):
    """Values of a model on a device.

    density ``(z, y, x)`` and features ``(z, y, x, channels)`` float32; or, with links ``(z, y, x)`` int32, density
    ``(rows,)`` of the samples that have a row, `rest` of the others, and a table of features ``(n, channels)``, of
    which a row has number ``slots[row]``.
    """

    density: torch.Tensor
    features: torch.Tensor
    links: torch.Tensor | None = None
    slots: torch.Tensor | None = None
    rest: float = 0.0

    @property
    def channels(self) -> int:
        return self.features.shape[-1]


class Seen(NamedTuple):
    """Samples that rays have met, ray by ray: `dvgo_march.DvgoSamples` as tensors.

    starts ``(rays + 1,)`` int64; at ``(n, 3)``, slope and weight ``(n,)`` float32, index ``(n,)`` int32 is the ray;
    opacity and depth ``(rays,)`` float32.
    """

    starts: torch.Tensor
    at: torch.Tensor
    slope: torch.Tensor
    weight: torch.Tensor
    index: torch.Tensor
    opacity: torch.Tensor
    depth: torch.Tensor


@dataclass(frozen=True, eq=False)
class DeviceDvgoMarch:
    """A DVGO model's geometry on a device; mask is uint8, numbers as `DvgoMarch` has them."""

    space: Space
    mask: torch.Tensor | None
    stop: float
    threshold: float
    shift: float
    unit: float

    @classmethod
    def of(cls, march: DvgoMarch, device: torch.device | str) -> DeviceDvgoMarch:
        """That of a march."""
        mask = march.mask
        if mask is not None and min(mask.shape) < 2:
            mask = None
        space = Space.of(march.frame, march.options.step, march.occupancy, device)
        known = None if mask is None else torch.as_tensor(np.ascontiguousarray(mask).view(np.uint8)).to(device)
        return cls(space, known, march.options.stop, march.threshold, march.shift, march.unit)

    def samples(
        self, grids: Grids, rays: RayTensors, fractions: torch.Tensor | None = None, *, lit: bool = False
    ) -> Seen:
        """What rays meet; with `lit` only samples whose weight is above the threshold."""
        n, device, size = rays.count, rays.device, lanes(rays.device)
        counts = torch.zeros(n + 1, dtype=torch.int64, device=device)
        opacity, depth = torch.zeros(n, device=device), torch.zeros(n, device=device)
        sparse, masked = grids.links is not None, self.mask is not None
        block = self.space.block if masked else 1
        links = grids.links if grids.links is not None else counts
        mask = self.mask if self.mask is not None else counts

        def walk(starts: torch.Tensor, out: tuple[torch.Tensor, ...], fill: bool) -> None:
            at, slope, weight, index = out
            kernels.march[(-(-n // size),)](
                *rays[:4], depth if fractions is None else fractions, self.space.numbers, self.space.extents,
                self.space.distance, mask, links, grids.density, starts, counts[1:], opacity, depth, at, slope,
                weight, index, n, self.stop, self.threshold, self.shift, self.unit, grids.rest,
                BLOCK=block, MASKED=masked, SPARSE=sparse, JITTER=fractions is not None, FILL=fill, LIT=lit,
                LANES=size, num_warps=1,
            )  # fmt: skip

        if n:
            walk(counts, (opacity, opacity, opacity, counts), False)
        starts = counts.cumsum(0)
        count = int(starts[-1])
        at, slope, weight = (torch.empty(count, k, device=device).squeeze(1) for k in (3, 1, 1))
        index = torch.empty(count, dtype=torch.int32, device=device)
        if count:
            walk(starts, (at, slope, weight, index), True)
        return Seen(starts, at, slope, weight, index, opacity, depth)

    def gather(self, grids: Grids, at: torch.Tensor) -> torch.Tensor:
        """Features ``(n, channels)`` at positions in voxels ``(n, 3)``."""
        out = torch.empty(len(at), grids.channels, device=at.device)
        if len(at):
            sparse = grids.links is not None
            kernels.gather[(-(-len(at) // _SAMPLES),)](
                at, self.space.extents, grids.links if sparse else at, grids.slots if sparse else at, grids.features,
                out, len(at), CHANNELS=grids.channels, WIDTH=_power(grids.channels, 1), SPARSE=sparse, LANES=_SAMPLES,
            )  # fmt: skip
        return out

    def scatter(self, at: torch.Tensor, upstream: torch.Tensor, into: torch.Tensor) -> None:
        """Add the gradient of `gather`, or of densities, ``(n, channels)``, to a grid ``(z, y, x[, channels])``."""
        channels = upstream.shape[1]
        if len(at):
            kernels.scatter[(-(-len(at) // _SAMPLES),)](
                at, self.space.extents, upstream, into, len(at), CHANNELS=channels, WIDTH=_power(channels, 1),
                LANES=_SAMPLES,
            )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Network:
    """The colours of a DVGO model at samples, its network padded for the fused kernel where it fits into it.

    Attributes
    ----------
    layers : list of (weight, bias)
        On the device.
    frequencies, direct
        See `DvgoModel`.
    packed : tuple of Tensor or None
        What `kernels.shade` takes, from ``inner`` to ``last_bias``.
    """

    layers: list[tuple[torch.Tensor, torch.Tensor]]
    frequencies: int
    direct: bool
    packed: tuple[torch.Tensor, ...] | None

    @classmethod
    def of(cls, layers: Layers, channels: int, frequencies: int, direct: bool, device: torch.device | str) -> Network:
        """From arrays."""
        sent = [
            (torch.tensor(w, dtype=torch.float32, device=device), torch.tensor(b, dtype=torch.float32, device=device))
            for w, b in layers
        ]
        packed = _packed(sent, channels - (0 if direct else 3), 3 + 6 * frequencies)
        return cls(sent, frequencies, direct, packed)

    def colors(
        self, march: DeviceDvgoMarch, grids: Grids, at: torch.Tensor, index: torch.Tensor, views: torch.Tensor
    ) -> torch.Tensor:
        """RGB ``(n, 3)`` at positions in voxels ``(n, 3)`` seen along ``views[index]``, both float32."""
        if self.packed is None or not len(at):
            given = march.gather(grids, at)
            return logits(given, index, views, self.layers, self.frequencies, self.direct).sigmoid()
        out = torch.empty(len(at), 3, device=at.device)
        sparse = grids.links is not None
        inner, outer, bias, hidden, *_ = self.packed
        waves = pad(encoded(views, self.frequencies), (0, outer.shape[1] - 3 - 6 * self.frequencies))
        kernels.shade[(-(-len(at) // _SHADED),)](
            at, index, waves, march.space.extents, grids.links if sparse else at, grids.slots if sparse else at,
            grids.features, *self.packed, out, len(at),
            CHANNELS=grids.channels, DIRECT=self.direct, INPUTS=inner.shape[1], WAVES=outer.shape[1], WIDTH=len(bias),
            HIDDEN=len(hidden) > 1, PART=min(_PART, len(bias)), SPARSE=sparse, PRECISION=_PRECISION, LANES=_SHADED,
            num_warps=4,
        )  # fmt: skip
        return out


def _power(count: int, least: int) -> int:
    return max(least, 1 << (count - 1).bit_length())


def _packed(
    layers: list[tuple[torch.Tensor, torch.Tensor]], inputs: int, waves: int
) -> tuple[torch.Tensor, ...] | None:
    """The layers padded, or None if there are not two or three of up to 128 units."""
    if len(layers) not in (2, 3) or max(len(b) for _, b in layers) > _WIDEST or inputs < 1:
        return None
    (first, bias), *middle, (last, last_bias) = layers
    width = _power(max(len(b) for _, b in layers[:-1]), 16)

    def padded(values: torch.Tensor, *shape: int) -> torch.Tensor:
        out = values.new_zeros(shape)
        out[tuple(slice(n) for n in values.shape)] = values
        return out

    hidden, hidden_bias = middle[0] if middle else (first.new_zeros(1, 1), bias.new_zeros(1))
    size = width if middle else 1
    return (
        padded(first[:, :inputs], width, _power(inputs, 16)), padded(first[:, inputs:], width, _power(waves, 16)),
        padded(bias, width), padded(hidden, size, size), padded(hidden_bias, size), padded(last, 16, width),
        padded(last_bias, 16),
    )  # fmt: skip
