"""Neurons of a NeRF network and who reads them: taking some out without changing what the network computes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neurcomp_core.radiance.imports.nerf import Dense, NerfMlp
from neurcomp_core.radiance.rendering.nerf_networks import with_layers


class Graph:
    """Layers of a network as lists that shrink, and which of them read which neurons.

    Hidden layers are the trunk's, the feature layer and the view layers. ``readers[k]`` has, for hidden layer k, the
    numbers of the layers that read it and the inputs that its neurons begin at there.
    """

    def __init__(self, mlp: NerfMlp) -> None:
        self.layout = mlp
        self.layers = [[layer.weight.copy(), layer.bias.copy()] for layer in mlp.layers]
        trunk, views = len(mlp.trunk), len(mlp.views)
        position = mlp.trunk[0].weight.shape[1]
        last = len(self.layers) - 1
        self.hidden, self.readers = list(range(trunk)), []
        for k in range(1, trunk):
            wide = mlp.trunk[k].weight.shape[1] > len(mlp.trunk[k - 1].weight)
            self.readers.append([(k, position if wide else 0)])
        self.readers.append([(trunk, 0), (trunk + 1 if mlp.feature is not None else last, 0)])
        if mlp.feature is not None:
            self.hidden.append(trunk + 1)
            self.readers.append([(trunk + 2, 0)])
            for k in range(views):
                self.hidden.append(trunk + 2 + k)
                self.readers.append([(trunk + 3 + k, 0)])
        self.linear = {trunk + 1} if mlp.feature is not None else set()

    @property
    def widths(self) -> list[int]:
        return [len(self.layers[k][1]) for k in self.hidden]

    def _outgoing(self, hidden: int) -> list[np.ndarray]:
        width = self.widths[hidden]
        return [self.layers[k][0][:, at : at + width] for k, at in self.readers[hidden]]

    def strength(self, hidden: int) -> np.ndarray:
        """Norm of the weights to a neuron times that of those from it, ``(width,)``."""
        to = np.linalg.norm(self.layers[self.hidden[hidden]][0], axis=1)
        return to * np.linalg.norm(np.concatenate(self._outgoing(hidden)), axis=0)

    def silence(self, hidden: int, neurons: Sequence[int]) -> None:
        """Zero all weights to and from neurons, and their biases."""
        weight, bias = self.layers[self.hidden[hidden]]
        weight[neurons], bias[neurons] = 0, 0
        for outgoing in self._outgoing(hidden):
            outgoing[:, neurons] = 0

    def drop(self, hidden: int) -> bool:
        """Remove the neurons of a layer that can go; whether there were any."""
        index = self.hidden[hidden]
        weight, bias = self.layers[index]
        width = len(bias)
        constant = ~weight.any(1)
        unread = ~np.concatenate(self._outgoing(hidden)).any(0)
        gone = constant | unread
        if gone.all():
            gone[0] = False  # a layer keeps a neuron
        if not gone.any():
            return False
        value = bias if index in self.linear else np.maximum(bias, 0)
        value = np.where(gone & constant, value, 0).astype(np.float64)
        for reader, at in self.readers[hidden]:
            layer = self.layers[reader]
            layer[1] = (layer[1] + layer[0][:, at : at + width] @ value).astype(np.float32)
            layer[0] = np.delete(layer[0], at + np.flatnonzero(gone), axis=1)
        self.layers[index] = [weight[~gone], bias[~gone]]
        return True

    def mlp(self) -> NerfMlp:
        return with_layers(self.layout, [Dense(np.ascontiguousarray(w), b) for w, b in self.layers])


def compact(mlp: NerfMlp) -> NerfMlp:
    """The same function with fewer neurons, see `pruning.compacted`."""
    graph = Graph(mlp)
    changed = True
    while changed:
        dropped = [graph.drop(layer) for layer in range(len(graph.widths))]
        changed = any(dropped)
    return graph.mlp()
