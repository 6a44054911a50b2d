"""NeRF's networks as torch tensors, on any device and with gradients: what is trained, and what renders on CUDA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import linear

from neurcomp_core.radiance.imports.nerf import Dense, NerfMlp
from neurcomp_core.radiance.rendering.nerf_networks import with_layers

# Points whose activations are held at once without gradients.
_CHUNK = 1 << 18


def encode(x: torch.Tensor, frequencies: int) -> torch.Tensor:
    """Positional encoding ``(n, 3 + 6 frequencies)``; the same as `neurcomp_core.radiance.imports.nerf.encode`."""
    if not frequencies:
        return x
    powers = 2.0 ** torch.arange(frequencies, dtype=x.dtype, device=x.device)
    angles = x[:, None, :] * powers[:, None]
    return torch.cat([x, torch.stack([angles.sin(), angles.cos()], 2).flatten(1)], 1)


@dataclass(frozen=True, eq=False)
class TorchNetwork:
    """One NeRF network.

    Attributes
    ----------
    layout : NerfMlp
        Which layers there are; its numbers are not looked at.
    tensors : sequence of Tensor
        Weight ``(out, in)`` and bias ``(out,)`` of every layer, in the order of `NerfMlp.layers`.
    """

    layout: NerfMlp
    tensors: Sequence[torch.Tensor]

    @classmethod
    def of(
        cls,
        mlp: NerfMlp,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        train: bool = False,
    ) -> TorchNetwork:
        """A copy of a network on a device; leaves that take gradients if it is to be trained."""
        arrays = [a for layer in mlp.layers for a in (layer.weight, layer.bias)]
        return cls(mlp, [torch.tensor(a, dtype=dtype, device=device).requires_grad_(train) for a in arrays])

    def mlp(self) -> NerfMlp:
        """A copy as arrays."""
        arrays = [np.array(t.detach().cpu().numpy(), np.float32) for t in self.tensors]
        return with_layers(self.layout, [Dense(w, b) for w, b in zip(arrays[::2], arrays[1::2], strict=True)])

    def evaluate(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Density ``(n,)`` and the trunk's output ``(n, width)`` at points ``(n, 3)``."""
        count = len(self.layout.trunk)
        position = x = encode(points, int(self.layout.position_frequencies))
        for k in range(count):
            weight, bias = self._layer(k)
            if weight.shape[1] > x.shape[1]:
                x = torch.cat([position, x], 1)
            x = linear(x, weight, bias).relu_()
        return linear(x, *self._layer(count))[:, 0].relu(), x

    def shade(self, features: torch.Tensor, views: torch.Tensor) -> torch.Tensor:
        """RGB ``(n, 3)`` of the trunk's output ``(n, width)`` seen along unit directions ``(n, 3)``."""
        x, first = features, len(self.layout.trunk) + 1
        if self.layout.views:
            seen = encode(views, int(self.layout.direction_frequencies))
            x = torch.cat([linear(x, *self._layer(first)), seen], 1)
            for k in range(len(self.layout.views)):
                x = linear(x, *self._layer(first + 1 + k)).relu_()
        return linear(x, self.tensors[-2], self.tensors[-1]).sigmoid()

    def _layer(self, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.tensors[2 * k], self.tensors[2 * k + 1]

    # .............................................................................. `nerf_networks.Network`, of arrays

    @torch.no_grad()
    def density(self, points: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
        given = self._tensor(points)
        parts = [self.evaluate(given[a : a + _CHUNK]) for a in range(0, max(len(given), 1), _CHUNK)]
        sigma, features = (torch.cat(p) for p in zip(*parts, strict=True))
        return sigma.cpu().numpy(), features

    @torch.no_grad()
    def colors(self, features: torch.Tensor, lit: np.ndarray, views: np.ndarray) -> np.ndarray:
        chosen, seen = torch.from_numpy(lit).to(features.device), self._tensor(views)
        steps = range(0, max(len(lit), 1), _CHUNK)
        parts = [self.shade(features[chosen[a : a + _CHUNK]], seen[a : a + _CHUNK]) for a in steps]
        return torch.cat(parts).cpu().numpy()

    def _tensor(self, a: np.ndarray) -> torch.Tensor:
        like = self.tensors[0]
        return torch.as_tensor(np.asarray(a), dtype=like.dtype, device=like.device)
