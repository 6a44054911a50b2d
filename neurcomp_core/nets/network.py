"""The hash-grid network in torch: an encoding and a perceptron with CPU kernels, and the plain-torch reference."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import torch

from neurcomp_core.nets import kernels
from neurcomp_core.nets.grid import PRIME_Y, PRIME_Z, GridLayout, smoothstep


class _Encode(torch.autograd.Function):
    """`kernels.encode` with its gradient with respect to the table."""

    @staticmethod
    def forward(ctx: Any, points: torch.Tensor, table: torch.Tensor, layout: GridLayout) -> torch.Tensor:
        ctx.points, ctx.layout, ctx.shape = points, layout, table.shape
        out = torch.empty(layout.width, len(points))
        kernels.encode(points.numpy(), table.detach().numpy(), *layout.kernel_args, out.numpy())
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[None, torch.Tensor, None]:
        gradient = torch.zeros(ctx.shape)
        layout: GridLayout = ctx.layout
        kernels.encode_backward(
            ctx.points.numpy(), upstream[0].contiguous().numpy(), *layout.kernel_args, gradient.numpy()
        )
        return None, gradient, None


class _Mlp(torch.autograd.Function):
    """`kernels.mlp` with its gradients; activations are computed again rather than kept."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, *weights)
        y = torch.empty(len(weights[2]), x.shape[1])
        first, inner, last = (w.detach().numpy() for w in weights)
        kernels.mlp(x.numpy(), first, inner, last, y.numpy(), torch.get_num_threads())
        return y

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x, *weights = ctx.saved_tensors
        dx = torch.empty_like(x)
        sums = [np.zeros((torch.get_num_threads(), *w.shape), np.float32) for w in weights]
        first, inner, last = (w.numpy() for w in weights)
        t_first, t_inner, t_last = (w.transpose(-1, -2).contiguous().numpy() for w in weights)
        g_first, g_inner, g_last = sums
        kernels.mlp_backward(
            x.numpy(), upstream[0].contiguous().numpy(), first, inner, last, t_first, t_inner, t_last, dx.numpy(),
            g_first, g_inner, g_last,
        )  # fmt: skip
        return (dx, *(torch.from_numpy(s.sum(axis=0)) for s in sums))


def encode(points: torch.Tensor, table: torch.Tensor, layout: GridLayout) -> torch.Tensor:
    """Multi-resolution hash encoding by the CPU kernels.

    Parameters
    ----------
    points : Tensor
        ``(n, 3)`` float32 in [0, 1]; axes beyond ``layout.dims`` must be 0.
    table : Tensor
        ``(entries, features)`` float32.
    layout : GridLayout

    Returns
    -------
    Tensor
        ``(levels * features, n)``, feature-major.
    """
    return cast(torch.Tensor, _Encode.apply(points, table, layout))


def mlp(x: torch.Tensor, weights: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """ReLU perceptron without biases by the CPU kernels, ``(inputs, n)`` to ``(outputs, n)``.

    Parameters
    ----------
    x : Tensor
    weights : tuple of Tensor
        ``(width, inputs)``, ``(layers - 1, width, width)``, ``(outputs, width)``.
    """
    return cast(torch.Tensor, _Mlp.apply(x, *weights))


def encode_reference(points: torch.Tensor, table: torch.Tensor, layout: GridLayout) -> torch.Tensor:
    """`encode` in plain torch, for any device; the kernels are tested against it."""
    levels = []
    for level in range(layout.levels):
        size, first = int(layout.sizes[level]), int(layout.firsts[level])
        resolution = int(layout.resolutions[level])
        position = points[:, : layout.dims] * float(np.float32(layout.scales[level])) + 0.5
        lower = position.floor()
        upper_weight = smoothstep(position - lower) if layout.smooth else position - lower
        lower = lower.long()
        total = 0
        for corner in range(1 << layout.dims):
            bits = [corner >> axis & 1 for axis in range(layout.dims)]
            vertex = [lower[:, axis] + bit for axis, bit in enumerate(bits)]
            if layout.dense[level]:
                index = sum(v * resolution**axis for axis, v in enumerate(vertex)) % size
            else:
                index = vertex[0]
                for v, prime in zip(vertex[1:], (PRIME_Y, PRIME_Z), strict=False):
                    index = index ^ (v * prime)
                index = index & (size - 1)
            weight = torch.ones_like(position[:, 0])
            for axis, bit in enumerate(bits):
                weight = weight * (upper_weight[:, axis] if bit else 1 - upper_weight[:, axis])
            total = total + weight[:, None] * table[first + index]
        levels.append(total)
    return torch.cat(levels, dim=1).t()


def mlp_reference(x: torch.Tensor, weights: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """`mlp` in plain torch, for any device; the kernels are tested against it."""
    w_in, w_hidden, w_out = weights
    x = torch.relu(w_in @ x)
    for w in w_hidden:
        x = torch.relu(w @ x)
    return w_out @ x


def initial_parameters(
    layout: GridLayout, width: int, hidden: int, outputs: int, generator: torch.Generator
) -> list[torch.Tensor]:
    """Table and weights to start from: table uniform in ±1e-4, weights Xavier uniform
    (Müller et al. 2022, section 4).
    """

    def uniform(bound: float, *shape: int) -> torch.Tensor:
        return (torch.rand(*shape, generator=generator) * 2 - 1) * bound

    return [
        uniform(1e-4, layout.entries, layout.features),
        uniform(math.sqrt(6 / (layout.width + width)), width, layout.width),
        uniform(math.sqrt(3 / width), hidden - 1, width, width),
        uniform(math.sqrt(6 / (width + outputs)), outputs, width),
    ]
