"""The shallow network of a DVGO model in torch, on any device, with gradients."""

from __future__ import annotations

import torch
from torch.nn.functional import linear


def encoded(views: torch.Tensor, frequencies: int) -> torch.Tensor:
    """Direction d, sin(2^k d), cos(2^k d) ``(n, 3 + 6 frequencies)``; see `dvgo_march.encoded`."""
    waves = (views[:, :, None] * 2.0 ** torch.arange(frequencies, device=views.device)).flatten(1)
    return torch.cat([views, waves.sin(), waves.cos()], 1)


def logits(
    features: torch.Tensor, index: torch.Tensor, views: torch.Tensor,
    layers: list[tuple[torch.Tensor, torch.Tensor]], frequencies: int, direct: bool,
) -> torch.Tensor:  # fmt: skip
    """Colours before the sigmoid ``(n, 3)`` of features ``(n, channels)`` seen along ``views[index]``."""
    if not layers:
        return features
    x = torch.cat([features if direct else features[:, 3:], encoded(views, frequencies)[index.long()]], 1)
    for i, (weight, bias) in enumerate(layers):
        x = linear(x, weight, bias)
        x = x.relu() if i < len(layers) - 1 else x
    return x if direct else x + features[:, :3]
