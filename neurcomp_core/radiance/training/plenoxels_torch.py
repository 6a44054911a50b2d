"""Steps of a Plenoxels training in plain torch, on any device: what `plenoxels_cpu` does by kernels.

All samples of a batch are held at once, and gradients come from autograd; the optimiser moves only rows with a
gradient. On the CPU it is far slower than the kernels and serves as their reference.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from neurcomp_core.radiance.grids import SparseGrid
from neurcomp_core.radiance.rendering.compositing import composite_reference
from neurcomp_core.radiance.rendering.device_samples import sample_rays_on
from neurcomp_core.radiance.rendering.frames import Rays
from neurcomp_core.radiance.rendering.fused import march_reference
from neurcomp_core.radiance.rendering.march import March, MarchOptions
from neurcomp_core.radiance.rendering.sampling import sample_reference
from neurcomp_core.radiance.rendering.spheres import Spheres, layers_of, spheres_reference, tables_of
from neurcomp_core.radiance.training.background import neighbours
from neurcomp_core.radiance.training.plenoxels_recipe import PlenoxelsRecipe
from neurcomp_core.radiance.training.regularisers import FLAT, next_rows, scales_of, stretch

_TINY = 1e-12


class _Table:
    """Densities and colour coefficients with their means of squares, on a device."""

    def __init__(
        self, density: np.ndarray, sh: np.ndarray, links: np.ndarray, wrap: tuple[bool, ...],
        squares: tuple[np.ndarray, ...], device: torch.device,
    ) -> None:  # fmt: skip
        self.density, self.sh = (torch.tensor(a, device=device, requires_grad=True) for a in (density, sh))
        kept = squares or (np.zeros_like(density), np.zeros_like(sh))
        self.squares = [torch.tensor(a, device=device) for a in kept]
        self._ahead = torch.tensor(next_rows(links, wrap), device=device).long()
        self._scales = torch.tensor(scales_of(links.shape), device=device, dtype=torch.float32)

    def variation(self, weights: tuple[float, float], share: float, seed: tuple[int, ...]) -> torch.Tensor:
        """Total variation over a random stretch of rows, see `regularisers.add_gradient`."""
        first, last = stretch(len(self._ahead), share, seed)
        ahead = self._ahead[first:last]
        loss = self._scales.new_zeros(())
        for values, weight, edges in zip((self.density, self.sh), weights, (True, False), strict=True):
            if weight and last > first:
                flat = values.flatten(1) if values.ndim > 1 else values[:, None]
                square = torch.full_like(flat[first:last], FLAT)
                for axis in range(ahead.shape[1]):
                    row = ahead[:, axis, None]
                    there = torch.where(row >= 0, flat[row[:, 0].clamp(min=0)], 0)
                    counted = (row >= 0) | ((row == -1) & edges)
                    square = square + torch.where(counted, self._scales[axis] * (there - flat[first:last]), 0) ** 2
                loss = loss + weight / (last - first) * square.sqrt().sum()
        return loss

    @torch.no_grad()
    def move(self, rates: tuple[float, float], decay: float) -> None:
        """One step of RMSProp on values with a gradient, which is cleared."""
        for values, square, rate in zip((self.density, self.sh), self.squares, rates, strict=True):
            if values.grad is None:
                continue
            met = torch.nonzero(values.grad.flatten(1).any(1) if values.ndim > 1 else values.grad)[:, 0]
            g, before = values.grad[met], square[met]
            now = torch.where(before == 0, g * g, torch.where(g == 0, before, decay * before + (1 - decay) * g * g))
            square[met] = now
            values[met] -= rate * g / (now.sqrt() + _TINY)
            values.grad = None

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return self.density.detach().cpu().numpy().copy(), self.sh.detach().cpu().numpy().copy()


class Far:
    """Background spheres in training, with `_Table`'s optimiser."""

    def __init__(
        self, grid: SparseGrid, recipe: PlenoxelsRecipe, squares: tuple[np.ndarray, ...], device: torch.device
    ) -> None:
        assert grid.background is not None
        links, layers = grid.background.links, grid.background.data.shape[1]
        self.spheres = Spheres(links, layers, grid.box, MarchOptions(recipe.step, recipe.stop))
        tables, places = tables_of(grid.background), neighbours(grid.background)
        self.table = _Table(*tables, places, (True, False, False), squares, device)
        self._recipe = recipe

    def variation(self, seed: tuple[int, ...]) -> torch.Tensor:
        """Their total variation, weighted."""
        weights = self._recipe.tv_background, self._recipe.tv_background
        return self.table.variation(weights, self._recipe.tv_share, seed)

    def smooth(self, seed: tuple[int, ...]) -> None:
        """Add its gradient."""
        loss = self.variation(seed)
        if loss.requires_grad:
            loss.backward()


class TorchSteps:
    """See `plenoxels_cpu.CpuSteps`, whose interface this is; `device` is where it runs."""

    def __init__(
        self,
        grid: SparseGrid,
        recipe: PlenoxelsRecipe,
        squares: tuple[np.ndarray, ...] = (),
        device: str | torch.device = "cuda",
    ) -> None:
        self.recipe, self._grid, self.device = recipe, grid, torch.device(device)
        options = MarchOptions(recipe.step, recipe.stop)
        self.march = March.of(grid, options)
        solid = (False, False, False)
        self._rows = _Table(grid.density, grid.sh, grid.links, solid, squares[:2], self.device)
        self._far = None if grid.background is None else Far(grid, recipe, squares[2:], self.device)

    def step(
        self, rays: Rays, targets: np.ndarray, behind: np.ndarray, fractions: np.ndarray, step: int, seed: int
    ) -> float:
        """See `CpuSteps.step`."""
        recipe, rows, far = self.recipe, self._rows, self._far
        smooth = step < recipe.tv_until * recipe.steps
        seen = march_reference(rows.density, rows.sh, self.march, rays, fractions, penalty=bool(recipe.sparsity))
        backdrop = torch.tensor(behind, dtype=torch.float32, device=self.device)
        if far is not None:
            color, opacity = spheres_reference(far.spheres, far.table.density, far.table.sh, rays)
            backdrop = color + (1 - opacity)[:, None] * backdrop
        errors = seen.over(backdrop) - torch.tensor(targets, dtype=torch.float32, device=self.device)
        loss = (errors**2).sum(1).mean() + recipe.sparsity * seen.penalty.mean()
        if smooth:
            loss = loss + rows.variation((recipe.tv_density, recipe.tv_sh), recipe.tv_share, (seed, step, 1))
            if far is not None:
                loss = loss + far.variation((seed, step, 2))
        if loss.requires_grad:
            loss.backward()
        rates = recipe.rates(step)
        rows.move(rates, recipe.decay)
        if far is not None:
            far.table.move(rates, recipe.decay)
        return float((errors.detach() ** 2).mean())

    @torch.no_grad()
    def largest_weights(self, rays: Rays, before: np.ndarray | None = None) -> np.ndarray:
        """See `CpuSteps.largest_weights`."""
        march, density = self.march, self._rows.density
        assert march.occupancy is not None
        packed, points = sample_rays_on(
            rays, march.frame.voxel, march.occupancy, march.options, None, torch.float32, self.device
        )
        links = torch.tensor(march.links, device=self.device)
        sigma = torch.relu(sample_reference(links, density[:, None], points, march.frame)[:, 0])
        weights = composite_reference(sigma, sigma.new_zeros(len(sigma), 0), packed, march.options.stop).weights
        most = torch.zeros_like(density) if before is None else torch.tensor(before, device=self.device)
        lit = torch.nonzero(weights > 0)[:, 0]
        weights, points = weights[lit], points[lit]
        like = {"dtype": points.dtype, "device": self.device}
        top = torch.tensor(links.shape[::-1], device=self.device) - 1
        at = points * torch.as_tensor(march.frame.scale, **like) + torch.as_tensor(march.frame.offset, **like)
        low = at.clamp(torch.zeros(3, **like), top.to(points.dtype)).long().minimum((top - 1).clamp(min=0))
        share = at.clamp(torch.zeros(3, **like), top.to(points.dtype)) - low
        for corner in range(8):
            up = torch.tensor([corner >> axis & 1 for axis in range(3)], device=self.device)
            x, y, z = (low + up).minimum(top).unbind(1)
            row = links[z, y, x].long()
            # A corner without a share is not met, as the kernel has it.
            met = (row >= 0) & torch.where(up == 1, share > 0, share < 1).all(1)
            most.scatter_reduce_(0, row[met], weights[met], "amax")
        return most.cpu().numpy()

    def grid(self) -> SparseGrid:
        """The grid as it is now."""
        background = self._grid.background
        if background is not None and self._far is not None:
            background = layers_of(background.links, background.data.shape[1], *self._far.table.arrays())
        density, sh = self._rows.arrays()
        return replace(self._grid, density=density, sh=sh, background=background)

    def squares(self) -> tuple[np.ndarray, ...]:
        """RMSProp's means, as the constructor takes them."""
        kept = self._rows.squares + (self._far.table.squares if self._far is not None else [])
        return tuple(a.cpu().numpy() for a in kept)
