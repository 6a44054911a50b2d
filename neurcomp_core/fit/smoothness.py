"""Against artefacts at high ratios: the loss of the gradient, and total variation of the grids.

Few bytes show as kinks at the faces of the grid's cells and as noise where vertices share entries. `error_terms` has
the network follow the field's differences besides its values, a gradient loss on the lattice (future work of arXiv
2401.08840). `TotalVariation` asks neighbouring vertices for like features, as Plenoxels does of voxels (Fridovich-Keil,
Yu et al., CVPR 2022, section 3.5).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from neurcomp_core.nets.grid import PRIME_Y, PRIME_Z, GridLayout, Lattice

if TYPE_CHECKING:
    from neurcomp_core.codecs.hashgrid import HashGrid
    from neurcomp_core.fit.sampling import BlockSampler

#: Vertices of a level that one step looks at.
_MOST = 1 << 14
#: Differences well below it are taken as smooth already: the root has no kink at 0.
_SOFT = 1e-3


def error_terms(
    error: torch.Tensor, scale: torch.Tensor | float, sampler: BlockSampler, settings: HashGrid
) -> torch.Tensor | float:
    """What `settings` add to the squared error: the absolute error, and the squared error of forward differences.

    Parameters
    ----------
    error : Tensor
        ``(c, n)`` of the samples of one batch, weighted.
    scale : Tensor or float
        Factor of means.
    sampler : BlockSampler
        Of the batch.
    settings : HashGrid
    """
    terms: torch.Tensor | float = 0.0
    if settings.l1:
        terms = terms + settings.l1 * error.abs().mean() * scale
    if settings.gradient and sampler.edge > 1:
        differences = sampler.differences(error)
        terms = terms + settings.gradient * sum((d * d).mean() for d in differences) * scale
    return terms


class TotalVariation:
    """Isotropic total variation of a hash grid's levels, and its gradient.

    The sum over levels and features of the mean over vertices of ``sqrt(sum_a d_a^2 + e^2)``, d_a the difference of a
    vertex's entry and that of its neighbour along axis a, e = 0.001. Vertices are the lower ones of the cells that hold
    samples; of a level with more than 16,384 of them each call takes as many at random. Hashed levels are no exception:
    their entries are the mean wish of all vertices that share them.

    Parameters
    ----------
    layout : GridLayout
    lattice : Lattice
        Where the samples are.
    generator : torch.Generator
        For the choice of vertices, on the CPU.
    device : torch.device
    """

    def __init__(self, layout: GridLayout, lattice: Lattice, generator: torch.Generator, device: torch.device) -> None:
        self._layout, self._generator, self._device = layout, generator, device
        self._lower = [
            [torch.from_numpy(a.astype(np.int64)) for a in lattice.lower_vertices(layout, level)[: layout.dims]]
            for level in range(layout.levels)
        ]
        self._fixed = {
            level: self._edges(level, torch.stack([v.reshape(-1) for v in torch.meshgrid(*axes, indexing="ij")]))
            for level, axes in enumerate(self._lower)
            if math.prod(map(len, axes)) <= _MOST
        }

    def value(self, table: torch.Tensor) -> torch.Tensor:
        """Of a ``(entries, features)`` table; differentiable, and slower than `add_gradient`."""
        total = table.new_zeros(())
        for level in range(self._layout.levels):
            here, beside = self._chosen(level)
            differences = table[beside] - table[here]
            total = total + _root(differences).mean(0).sum()
        return total

    @torch.no_grad()
    def add_gradient(self, table: torch.Tensor, weight: float, gradient: torch.Tensor) -> None:
        """Add `weight` times the gradient of `value` to `gradient`, both of the shape of `table`."""
        for level in range(self._layout.levels):
            here, beside = self._chosen(level)
            differences = table[beside] - table[here]
            pulls = differences * (weight / len(here)) / _root(differences)
            gradient.index_add_(0, here, pulls.sum(0), alpha=-1)
            gradient.index_add_(0, beside.reshape(-1), pulls.reshape(-1, table.shape[1]))

    def _chosen(self, level: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Entries of vertices ``(n,)`` and of their neighbours ``(dims, n)``."""
        if level in self._fixed:
            return self._fixed[level]
        picks = [axis[torch.randint(0, len(axis), (_MOST,), generator=self._generator)] for axis in self._lower[level]]
        return self._edges(level, torch.stack(picks))

    def _edges(self, level: int, vertices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        steps = torch.eye(self._layout.dims, dtype=torch.int64)[:, :, None]
        beside = torch.stack([self._entries(level, vertices + step) for step in steps])
        return self._entries(level, vertices).to(self._device), beside.to(self._device)

    def _entries(self, level: int, vertices: torch.Tensor) -> torch.Tensor:
        """Rows of the common table of vertices ``(dims, n)``, x first."""
        layout = self._layout
        size, first = int(layout.sizes[level]), int(layout.firsts[level])
        if layout.dense[level]:
            resolution = int(layout.resolutions[level])
            index = sum((v * resolution**axis for axis, v in enumerate(vertices)), start=torch.zeros_like(vertices[0]))
            return first + index % size
        index = vertices[0]
        for v, prime in zip(vertices[1:], (PRIME_Y, PRIME_Z), strict=False):
            index = index ^ (v * prime)
        return first + (index & (size - 1))


def _root(differences: torch.Tensor) -> torch.Tensor:
    """``(dims, n, features)`` to ``(n, features)``."""
    return (differences.square().sum(0) + _SOFT**2).sqrt()
