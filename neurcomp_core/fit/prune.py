"""Magnitude pruning of networks: which weights go, and training those that stay.

Han, Pool, Tran, Dally: "Learning both Weights and Connections for Efficient Neural Networks", NeurIPS 2015; for fields
and one threshold over all layers Isik: "Neural 3D Scene Compression via Model Compression", 2021. Whatever has weights
can be pruned here: a network is a list of arrays or of torch parameters, in any order and of any shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.progress import Progress

if TYPE_CHECKING:
    import torch

    Loss = Callable[[Sequence[torch.Tensor]], torch.Tensor]
    Through = Callable[[Sequence[torch.Tensor]], Sequence[torch.Tensor]]

#: Decay of the two means of Adam.
_BETAS = (0.9, 0.99)
#: Share of the steps over which the learning rate rises.
_WARM_UP = 0.05


def magnitude_masks(
    weights: Sequence[np.ndarray], share: float, importance: Sequence[np.ndarray | float] | None = None
) -> list[np.ndarray]:
    """What is kept when the smallest weights of all arrays together go.

    Parameters
    ----------
    weights : sequence of ndarray
        What may be pruned; leave out what may not, like biases.
    share : float
        Of all weights that go, 0 to less than 1; rounded down to a whole number of weights.
    importance : sequence, optional
        Factor of every magnitude, one per array or one per weight: the sensitivity of an output, or one over the
        root mean square of an array to compare within arrays instead.

    Returns
    -------
    list of ndarray
        Bool, True where a weight stays, in the shapes of `weights`.

    Raises
    ------
    InputError
        If `share` is out of range.

    Examples
    --------
    >>> [m.tolist() for m in magnitude_masks([np.array([3.0, -0.1]), np.array([0.2, -4.0])], 0.5)]
    [[True, False], [False, True]]
    """
    if not 0 <= share < 1:
        raise InputError(f"share of weights to prune: expected 0 to less than 1, got {share}")
    factors = importance if importance is not None else [1.0] * len(weights)
    scores = [np.abs(w) * f for w, f in zip(weights, factors, strict=True)]
    flat = np.concatenate([s.ravel() for s in scores])
    kept = np.ones(flat.size, bool)
    # The order of equal magnitudes is that of the arrays: the same weights go on every machine.
    kept[np.argsort(flat, kind="stable")[: int(share * flat.size)]] = False
    ends = np.cumsum([s.size for s in scores])[:-1]
    return [k.reshape(s.shape) for k, s in zip(np.split(kept, ends), scores, strict=True)]


def pruned(weights: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The weights with zeros where a mask is False."""
    return [np.where(m, w, w.dtype.type(0)) for w, m in zip(weights, masks, strict=True)]


def shares(share: float, rounds: int) -> list[float]:
    """Shares to prune one after the other: fast at first, slower towards the end.

    Zhu, Gupta: "To prune, or not to prune", 2017, equation 1.

    Examples
    --------
    >>> [round(s, 3) for s in shares(0.8, 4)]
    [0.463, 0.7, 0.787, 0.8]
    """
    return [share * (1 - (1 - k / rounds) ** 3) for k in range(1, rounds + 1)]


def retrain(
    parameters: Sequence[torch.Tensor],
    masks: Sequence[np.ndarray | None],
    loss: Loss,
    steps: int,
    rate: float,
    through: Through | None = None,
    progress: Progress | None = None,
) -> None:
    """Train with Adam what a mask keeps, in place; what it does not is and stays zero.

    Parameters
    ----------
    parameters : sequence of Tensor
        Leaves that require gradients.
    masks : sequence
        One per parameter, as `magnitude_masks` makes them; None for what is not pruned.
    loss : callable
        The loss of a new batch under the parameters it is given.
    steps : int
    rate : float
        Largest learning rate; it rises from and falls to zero.
    through : callable, optional
        A quantiser (`quantise`) that parameters go through before they reach `loss`.
    progress : Progress, optional
        Raises `Interrupted` when it says so; the parameters then are those of the last step.
    """
    import torch

    holes = [
        None if m is None else torch.as_tensor(~m, device=p.device) for p, m in zip(parameters, masks, strict=True)
    ]
    _zero(parameters, holes)
    optimiser = torch.optim.Adam(list(parameters), rate, _BETAS)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * _envelope((step + 0.5) / steps)
        optimiser.zero_grad()
        loss(parameters if through is None else through(parameters)).backward()
        # Neither the weights nor the optimiser's means may learn anything where there is no weight.
        _zero([p.grad for p in parameters if p.grad is not None],
              [h for p, h in zip(parameters, holes, strict=True) if p.grad is not None])  # fmt: skip
        optimiser.step()
        _zero(parameters, holes)
        if progress is not None:
            progress.update((step + 1) / steps, "retraining what was not pruned")


def prune_and_retrain(
    parameters: Sequence[torch.Tensor],
    prunable: Sequence[bool],
    share: float,
    loss: Loss,
    steps: int,
    rate: float,
    rounds: int = 1,
    progress: Progress | None = None,
) -> list[np.ndarray | None]:
    """Prune in place by one threshold over all prunable parameters, and retrain: at once, or in several rounds.

    Parameters
    ----------
    parameters : sequence of Tensor
    prunable : sequence of bool
        Which of them may lose weights.
    share : float
        Of their weights that go.
    loss, rate, progress
        As of `retrain`.
    steps : int
        Of all rounds together; 0 prunes and does not retrain.
    rounds : int
        1 prunes at once; more prune step by step (`shares`), choosing anew among all weights that are left.

    Returns
    -------
    list of ndarray or None
        Masks, None for what may not be pruned.
    """
    masks: list[np.ndarray | None] = [None] * len(parameters)
    for number, part in enumerate(shares(share, rounds)):
        weights = [p.detach().cpu().numpy() for p, may in zip(parameters, prunable, strict=True) if may]
        found = iter(magnitude_masks(weights, part))
        masks = [next(found) if may else None for may in prunable]
        stage = None if progress is None else progress.part(number / rounds, (number + 1) / rounds)
        count = steps * (number + 1) // rounds - steps * number // rounds
        retrain(parameters, masks, loss, count, rate, progress=stage)
    return masks


def _envelope(done: float) -> float:
    return min(done / _WARM_UP, (1 + float(np.cos(np.pi * done))) / 2)


def _zero(tensors: Sequence[torch.Tensor], holes: Sequence[torch.Tensor | None]) -> None:
    import torch

    with torch.no_grad():
        for tensor, hole in zip(tensors, holes, strict=True):
            if hole is not None:
                tensor.masked_fill_(hole, 0)
