"""Loss of a sine network and its gradients: by the CPU kernels, or by torch with the gradient term.

The gradient term is the paper's (Lu et al. 2021, section 4.2): the squared difference between the network's gradient
with respect to its coordinates and that of the trilinear field, by central differences at its samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neurcomp_core.errors import require
from neurcomp_core.nets import siren_kernels as kernels
from neurcomp_core.nets.siren import Siren, axis_scales, forward_torch
from neurcomp_core.nets.siren_model import fold, unfold


def gradients_by(
    net: Siren,
    parameters: Sequence[np.ndarray],
    points: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    threads: int,
) -> tuple[float, list[np.ndarray]]:
    """``sum(weights * (network(points) - targets)**2)`` and its gradients with respect to the parameters.

    Parameters
    ----------
    net : Siren
    parameters : sequence of ndarray
    points : ndarray
        ``(padded inputs, n)`` float32, as `siren_model.points_of` makes them.
    targets, weights : ndarray
        ``(padded outputs, n)`` float32.
    threads : int
        The order of sums, so the last bits, depend on it.
    """
    folded = fold(net, parameters)
    a, b, c, d, e, f = (np.zeros((threads, *part.shape), np.float32) for part in folded.arrays)
    losses = np.zeros(threads)
    kernels.gradients(points, targets, weights, *folded.args, a, b, c, d, e, f, losses)
    return float(losses.sum()), unfold(net, [part.sum(axis=0) for part in (a, b, c, d, e, f)])


def differences(values: np.ndarray, shape: Sequence[int], axes: Sequence[int], indices: np.ndarray) -> np.ndarray:
    """Gradient of the trilinear field at samples, by central differences (one-sided at the ends).

    Parameters
    ----------
    values : ndarray
        ``(samples, c)``, the flat field of `shape` (z, y, x).
    shape : sequence of 3 int
    axes : sequence of int
        Axes with more than one sample.
    indices : ndarray
        ``(n,)`` flat indices.

    Returns
    -------
    ndarray
        ``(n, c, len(axes))``, per unit of the network's coordinates.
    """
    scales = axis_scales(shape)
    place = np.unravel_index(indices, tuple(shape))
    strides = (shape[1] * shape[2], shape[2], 1)
    found = np.empty((len(indices), values.shape[1], len(axes)), np.float32)
    for column, axis in enumerate(axes):
        up = (place[axis] < shape[axis] - 1).astype(np.int64)
        down = (place[axis] > 0).astype(np.int64)
        spacing = 2 * scales[axis] / (shape[axis] - 1) * (up + down)
        change = values[indices + up * strides[axis]] - values[indices - down * strides[axis]]
        found[:, :, column] = change / spacing[:, None]
    return found


class TorchLoss:
    """The loss in torch, with a gradient term; on devices see `nets.siren_engines.TorchEngine`.

    Parameters
    ----------
    net : Siren
    grad_lambda : float
        Weight of the gradient term.
    """

    def __init__(self, net: Siren, grad_lambda: float) -> None:
        require("torch", "train", "the gradient term")
        self.net, self.grad_lambda = net, grad_lambda

    def __call__(
        self,
        parameters: Sequence[np.ndarray],
        points: np.ndarray,
        targets: np.ndarray,
        weights: np.ndarray,
        slopes: np.ndarray | None = None,
        slope_weights: np.ndarray | None = None,
    ) -> tuple[float, list[np.ndarray]]:
        """As `gradients_by`; `slopes` are those of `differences`, `slope_weights` ``(n, c)`` sum to 1.

        The loss that is returned is that of the values alone.
        """
        import torch

        def tensor(array: np.ndarray) -> Any:
            return torch.from_numpy(np.ascontiguousarray(array))

        net = self.net
        with torch.enable_grad():
            held = [tensor(p).requires_grad_() for p in parameters]
            x = tensor(points[: net.inputs].T).requires_grad_(slopes is not None)
            y = forward_torch(net, held, x)
            missed = (y - tensor(targets[: net.outputs].T)) ** 2
            squared = (missed * tensor(weights[: net.outputs].T)).sum()
            loss = squared
            if slopes is not None and slope_weights is not None:
                wanted, weight = tensor(slopes), tensor(slope_weights)
                for c in range(net.outputs):
                    (slope,) = torch.autograd.grad(y[:, c].sum(), x, create_graph=True)
                    off = ((slope - wanted[:, c]) ** 2).mean(dim=1)
                    loss = loss + self.grad_lambda * (off * weight[:, c]).sum()
            found = torch.autograd.grad(loss, held)
        return float(squared.detach()), [g.numpy() for g in found]
