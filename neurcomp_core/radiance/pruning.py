"""Pruning of NeRFs: which weights go, training of those that stay, and networks that are truly smaller.

Isik, Neural 3D Scene Compression via Model Compression (2021): one threshold over the weight matrices of both networks,
biases stay. Choice and retraining are `neurcomp_core.fit.prune`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from neurcomp_core import threads
from neurcomp_core.errors import InputError, Interrupted, require
from neurcomp_core.fit import prune as fit
from neurcomp_core.radiance.codec import RadianceContext
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.imports.nerf import Dense, NerfMlp, NerfWeights
from neurcomp_core.radiance.neurons import Graph, compact
from neurcomp_core.radiance.rendering.nerf_networks import with_layers

if TYPE_CHECKING:
    import torch

    from neurcomp_core.radiance.rendering.nerf_torch import TorchNetwork
    from neurcomp_core.radiance.training.nerf_recipe import NerfRecipe

#: Rounds of iterative pruning.
ROUNDS = 5
# Step numbers of retraining begin here: other batches than training's.
_FIRST = 1 << 24

Masks = tuple[np.ndarray, ...]


def networks_of(weights: NerfWeights) -> tuple[NerfMlp, ...]:
    """The coarse network and, if there is one, the fine one."""
    return (weights.coarse,) if weights.fine is None else (weights.coarse, weights.fine)


def matrices(weights: NerfWeights) -> list[np.ndarray]:
    """Weight matrices ``(out, in)`` of the coarse, then the fine network, in the order of `NerfMlp.layers`."""
    return [layer.weight for mlp in networks_of(weights) for layer in mlp.layers]


def sparsity(weights: NerfWeights) -> float:
    """Share of the weights that are zero; biases do not count."""
    every = matrices(weights)
    return 1 - sum(np.count_nonzero(w) for w in every) / sum(w.size for w in every)


def masks_of(weights: NerfWeights) -> Masks:
    """Bool per matrix of `matrices`: True where a weight is not zero."""
    return tuple(w != 0 for w in matrices(weights))


def prune(weights: NerfWeights, ratio: float) -> tuple[NerfWeights, Masks]:
    """Set the smallest weights of all matrices together to zero.

    Parameters
    ----------
    weights : NerfWeights
    ratio : float
        Share of the weights that go, 0 to less than 1; a percentage / 100.

    Returns
    -------
    weights : NerfWeights
    masks : tuple of ndarray
        Bool per matrix, True where a weight stays; see `matrices`.

    Raises
    ------
    InputError
        If the ratio is out of range.
    """
    masks = tuple(fit.magnitude_masks(matrices(weights), ratio))
    return masked(weights, masks), masks


def prune_neurons(weights: NerfWeights, ratio: float) -> tuple[NerfWeights, Masks]:
    """Set all weights of the weakest hidden neurons to zero, until at least `ratio` of all weights are.

    A neuron's strength is the product of the norms of its weights to and from it, relative to the mean of its layer's:
    no layer is pruned away. `compacted` then makes a small dense network of what is left. See `prune` for the
    parameters.
    """
    if not 0 <= ratio < 1:
        raise InputError(f"share of weights to prune: expected 0 to less than 1, got {ratio}")
    every = [Graph(mlp) for mlp in networks_of(weights)]
    ranked = []
    for g, graph in enumerate(every):
        for layer in range(len(graph.widths)):
            strength = graph.strength(layer)
            strength = strength / max(float(strength.mean()), 1e-30)
            # The last neuron of a layer stays.
            ranked += [(float(strength[k]), g, layer, int(k)) for k in np.argsort(strength, kind="stable")[:-1]]
    total = sum(w.size for w in matrices(weights))
    ranked.sort()
    low, high = 0, len(ranked)
    while low < high:  # the fewest neurons that are enough
        middle = (low + high) // 2
        if _zeros(_silenced(weights, ranked[:middle])) >= ratio * total:
            high = middle
        else:
            low = middle + 1
    found = _silenced(weights, ranked[:low])
    return found, masks_of(found)


def masked(weights: NerfWeights, masks: Sequence[np.ndarray]) -> NerfWeights:
    """The weights with zeros where a mask is False; InputError if the masks are another network's."""
    every = matrices(weights)
    if [m.shape for m in masks] != [w.shape for w in every]:
        raise InputError("masks: expected one of the shape of each weight matrix; use those that `prune` gave")
    kept = iter(fit.pruned(every, masks))
    return _rebuilt(weights, lambda layer: Dense(next(kept), layer.bias))


# --------------------------------------------------------------------------------------------------------- retraining


def retrain(
    weights: NerfWeights,
    masks: Sequence[np.ndarray],
    data: PosedImages,
    recipe: NerfRecipe,
    iterations: int = 500,
    context: RadianceContext | None = None,
) -> NerfWeights:
    """Train what masks keep; what they do not stays zero.

    Parameters
    ----------
    weights : NerfWeights
        Pruned or as they were before; those before tell best where the scene is.
    masks : sequence of ndarray
        See `prune`.
    data : PosedImages
        To train on.
    recipe : NerfRecipe
        Batches, samples and `NerfRecipe.retrain_rate`.
    iterations : int
    context : RadianceContext, optional

    Raises
    ------
    Interrupted
        With the weights so far as ``best``.
    """
    masked(weights, masks)  # or say that they do not fit
    kept = iter(masks)
    order = [next(kept) if is_matrix else None for is_matrix in _prunable(weights)]
    return _retrained(
        weights, data, recipe, context,
        lambda parameters, loss, progress: fit.retrain(
            parameters, order, loss, iterations, recipe.retrain_rate, progress=progress
        ),
    )  # fmt: skip


def prune_and_retrain(
    weights: NerfWeights,
    ratio: float,
    data: PosedImages,
    recipe: NerfRecipe,
    iterations: int = 500,
    rounds: int = ROUNDS,
    context: RadianceContext | None = None,
) -> NerfWeights:
    """Prune and retrain in turn, `iterations` in all: more and more weights go (`fit.prune.shares`); one round is
    one-shot pruning. See `retrain`.
    """
    if not 0 <= ratio < 1:
        raise InputError(f"share of weights to prune: expected 0 to less than 1, got {ratio}")
    if rounds < 1:
        raise InputError(f"rounds: expected at least 1, got {rounds}")
    prunable = _prunable(weights)
    return _retrained(
        weights, data, recipe, context,
        lambda parameters, loss, progress: fit.prune_and_retrain(
            parameters, prunable, ratio, loss, iterations, recipe.retrain_rate, rounds, progress
        ),
    )  # fmt: skip


def _retrained(
    weights: NerfWeights, data: PosedImages, recipe: NerfRecipe, context: RadianceContext | None, work: Callable
) -> NerfWeights:
    require("torch", "train", "retraining a NeRF")
    from neurcomp_core.radiance.rendering.nerf_torch import TorchNetwork
    from neurcomp_core.radiance.training.nerf_loss import RayLoss

    context = context or RadianceContext()
    with threads.limit(context.threads):
        loss = RayLoss.of(data, recipe, context)
        networks = [TorchNetwork.of(mlp, loss.device, train=True) for mlp in networks_of(weights)]
        known = None
        if recipe.refresh:
            loss.look(networks[0])
            known = loss.free
        done = 0

        def of_batch(parameters: Sequence[torch.Tensor]) -> torch.Tensor:
            nonlocal done
            here = _split(networks, parameters)
            # A pruned network has density where there was none, and it has to be seen to be removed.
            if recipe.refresh and done % max(1, recipe.refresh // 4) == 0:
                loss.look(here[0], known)
            done += 1
            return loss(here, _FIRST + done)[0]

        try:
            work([p for network in networks for p in network.tensors], of_batch, context.progress)
        except Interrupted as stop:
            stop.best = NerfWeights(*(network.mlp() for network in networks))
            raise
        return NerfWeights(*(network.mlp() for network in networks))


def _split(networks: Sequence[TorchNetwork], parameters: Sequence[torch.Tensor]) -> list[TorchNetwork]:
    from neurcomp_core.radiance.rendering.nerf_torch import TorchNetwork

    found, first = [], 0
    for network in networks:
        last = first + len(network.tensors)
        found.append(TorchNetwork(network.layout, parameters[first:last]))
        first = last
    return found


def _prunable(weights: NerfWeights) -> list[bool]:
    return [is_matrix for _ in matrices(weights) for is_matrix in (True, False)]


# ---------------------------------------------------------------------------------------------------- smaller networks


def compacted(weights: NerfWeights) -> NerfWeights:
    """The same function with fewer neurons: those go that nothing depends on, or that depend on nothing.

    A neuron without weights to it is a constant, which moves into the biases of the layers behind.
    """
    return NerfWeights(*(compact(mlp) for mlp in networks_of(weights)))


def _silenced(weights: NerfWeights, neurons: Sequence[tuple[float, int, int, int]]) -> NerfWeights:
    graphs = [Graph(mlp) for mlp in networks_of(weights)]
    for g, graph in enumerate(graphs):
        for layer in range(len(graph.widths)):
            graph.silence(layer, [k for _, h, at, k in neurons if (h, at) == (g, layer)])
    return NerfWeights(*(graph.mlp() for graph in graphs))


def _zeros(weights: NerfWeights) -> int:
    return sum(w.size - np.count_nonzero(w) for w in matrices(weights))


def _rebuilt(weights: NerfWeights, change: Callable[[Dense], Dense]) -> NerfWeights:
    return NerfWeights(*(with_layers(mlp, [change(layer) for layer in mlp.layers]) for mlp in networks_of(weights)))
