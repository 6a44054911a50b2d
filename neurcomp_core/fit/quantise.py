"""Fine-tuning networks under their quantisers: what is trained is what is stored.

A forward pass sees quantised values, the gradient passes through to the values behind them (the straight-through
estimator of Bengio, Léonard, Courville, 2013), which are assigned anew in every pass: codes follow weights that move.
The centres of a codebook are trained as well, each by the sum of the gradients of what is assigned to it (Han, Mao,
Dally: "Deep Compression", ICLR 2016, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neurcomp_core.coding.codebook import Codebook, assign, kmeans

if TYPE_CHECKING:
    import torch


class Codebooks:
    """Codebooks of a list of parameters, as the `through` of `prune.retrain`.

    Train `centres` with the parameters: ``retrain([*parameters, *books.centres], ..., through=books)``.

    Parameters
    ----------
    parameters : sequence of Tensor
    counts : sequence of int or None
        Most centres of each; None leaves a parameter as it is.
    masks : sequence, optional
        Of `prune`: what is pruned has a centre of its own, which stays 0.

    Attributes
    ----------
    centres : list of Tensor
        Of each parameter that has a codebook, ``(k,)``; the 0 of what is pruned is none of them.
    """

    def __init__(
        self,
        parameters: Sequence[torch.Tensor],
        counts: Sequence[int | None],
        masks: Sequence[np.ndarray | None] | None = None,
    ) -> None:
        import torch

        found = masks if masks is not None else [None] * len(parameters)
        self._masks = [None if m is None or m.all() else m for m in found]
        self._has = [count is not None for count in counts]
        self.centres: list[torch.Tensor] = []
        for parameter, count, mask in zip(parameters, counts, self._masks, strict=True):
            if count is not None:
                values = _array(parameter)
                start = kmeans(values, count) if mask is None else kmeans(values[mask], max(count - 1, 1))
                self.centres.append(torch.from_numpy(start.centres).to(parameter.device).requires_grad_())

    def books(self, parameters: Sequence[torch.Tensor]) -> list[Codebook | None]:
        """Codebooks as they are now; None where there is none."""
        centres = iter(self.centres)
        return [
            _book(_array(p), _array(next(centres)), mask) if has else None
            for p, has, mask in zip(parameters, self._has, self._masks, strict=False)
        ]

    def __call__(self, parameters: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Quantised values that pass gradients on to `parameters` and to `centres`."""
        import torch

        found, centres = [], iter(self.centres)
        # Behind the parameters may come the centres, which are trained with them.
        for p, has, mask in zip(parameters, self._has, self._masks, strict=False):
            if not has:
                found.append(p)
                continue
            own = next(centres)
            order = torch.argsort(own.detach())
            labels = torch.searchsorted(_middles(own.detach()[order]), p.detach())
            values = own[order[labels]] + (p - p.detach())
            found.append(values if mask is None else values * torch.from_numpy(mask).to(p.device))
        return found


def _middles(centres: torch.Tensor) -> torch.Tensor:
    return (centres[1:] + centres[:-1]) / 2


def _book(values: np.ndarray, centres: np.ndarray, mask: np.ndarray | None) -> Codebook:
    centres = np.sort(centres)
    if mask is None:
        return Codebook(centres, assign(values, centres))
    chosen = np.where(mask, centres[assign(values, centres)], np.float32(0))
    known, labels = np.unique(chosen, return_inverse=True)
    return Codebook(known, labels.reshape(values.shape))


class Steps:
    """Rounding to multiples of a step per parameter, as the `through` of `prune.retrain`.

    Parameters
    ----------
    steps : sequence of float
        One per parameter.
    """

    def __init__(self, steps: Sequence[float]) -> None:
        self.steps = [np.float32(s) for s in steps]

    def symbols(self, parameters: Sequence[torch.Tensor]) -> list[np.ndarray]:
        """Integers that `coding.matrices` takes."""
        return [np.rint(_array(p) / s).astype(np.int64) for p, s in zip(parameters, self.steps, strict=True)]

    def __call__(self, parameters: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Quantised values that pass gradients on to `parameters`."""
        symbols = self.symbols(parameters)
        return [
            _straight_through(p, (q * s).astype(np.float32))
            for p, q, s in zip(parameters, symbols, self.steps, strict=True)
        ]


def _array(parameter: Any) -> np.ndarray:
    return parameter.detach().cpu().numpy()


def _straight_through(parameter: torch.Tensor, quantised: np.ndarray) -> torch.Tensor:
    import torch

    change = torch.from_numpy(np.ascontiguousarray(quantised)).to(parameter.device) - parameter.detach()
    return parameter + change
