"""Steps of a Plenoxels training by Triton kernels: `plenoxels_cpu.CpuSteps` on a CUDA device.

Rows, gradients and means of squares stay on the device; a step is a march, a march back, total variation and RMSProp,
one kernel each. Background spheres are plain torch.
"""
# What a kernel is called with is known to Triton, not to a checker.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from neurcomp_core.radiance.grids import SparseGrid
from neurcomp_core.radiance.rendering.device_march import DeviceMarch, Table
from neurcomp_core.radiance.rendering.device_rays import RayTensors
from neurcomp_core.radiance.rendering.frames import Rays
from neurcomp_core.radiance.rendering.march import March, MarchOptions
from neurcomp_core.radiance.rendering.spheres import layers_of, spheres_reference
from neurcomp_core.radiance.training import triton_kernels as kernels
from neurcomp_core.radiance.training.plenoxels_recipe import PlenoxelsRecipe
from neurcomp_core.radiance.training.plenoxels_torch import Far
from neurcomp_core.radiance.training.regularisers import next_rows, scales_of, stretch

_ROWS, _NUMBERS = 32, 1024


class TritonSteps:
    """See `plenoxels_cpu.CpuSteps`, whose interface this is; `device` is where it runs."""

    def __init__(
        self,
        grid: SparseGrid,
        recipe: PlenoxelsRecipe,
        squares: tuple[np.ndarray, ...] = (),
        device: str | torch.device = "cuda",
    ) -> None:
        self.recipe, self._grid, self.device = recipe, grid, torch.device(device)
        self.march = March.of(grid, MarchOptions(recipe.step, recipe.stop))
        self._march = DeviceMarch.of(self.march, self.device)
        self.table = Table.of(grid.density, grid.sh, self.device)
        self.gradients = torch.zeros_like(self.table.density), torch.zeros_like(self.table.sh)
        kept = squares[:2] or (np.zeros_like(grid.density), np.zeros_like(grid.sh))
        means = Table.of(*kept, self.device)
        self._squares = means.density, means.sh
        self._ahead = torch.tensor(next_rows(grid.links, (False,) * 3), device=self.device).int().contiguous()
        self._scales = torch.tensor(scales_of(grid.links.shape), dtype=torch.float32, device=self.device)
        self._far = None if grid.background is None else Far(grid, recipe, squares[2:], self.device)

    def step(
        self, rays: Rays | RayTensors, targets: np.ndarray | torch.Tensor, behind: np.ndarray, fractions: np.ndarray,
        step: int, seed: int,
    ) -> float:  # fmt: skip
        """See `CpuSteps.step`."""
        recipe, far = self.recipe, self._far
        like = {"dtype": torch.float32, "device": self.device}
        sent = rays if isinstance(rays, RayTensors) else RayTensors.of(rays, self.device)
        within, backdrop = torch.as_tensor(fractions).to(**like), torch.as_tensor(behind).to(**like)
        smooth = step < recipe.tv_until * recipe.steps
        found = self._march.forward(self.table, sent, within)
        if far is not None:
            color, opacity = spheres_reference(far.spheres, far.table.density, far.table.sh, sent)
            backdrop = color + (1 - opacity)[:, None] * backdrop
        seen_through = backdrop.detach()
        errors = found.color + (1 - found.opacity)[:, None] * seen_through
        errors -= torch.as_tensor(targets).to(**like)
        slope = 2 / sent.count * errors
        if smooth:
            self._smooth((seed, step, 1))
        self._march.backward(
            self.table, sent, found, self.gradients, within,
            color=slope, opacity=-(slope * seen_through).sum(1), penalty=recipe.sparsity / sent.count,
        )  # fmt: skip
        rates = recipe.rates(step)
        if far is not None:
            backdrop.backward(slope * (1 - found.opacity)[:, None])
            if smooth:
                far.smooth((seed, step, 2))
            far.table.move(rates, recipe.decay)
        for values, square, gradient, rate in zip(
            (self.table.density, self.table.sh), self._squares, self.gradients, rates, strict=True
        ):
            count = values.numel()
            if count:
                grid = (-(-count // _NUMBERS),)
                kernels.rmsprop[grid](values, square, gradient, count, rate, recipe.decay, LANES=_NUMBERS)
        return float((errors**2).mean())

    def _smooth(self, seed: tuple[int, ...]) -> None:
        """Add the gradient of total variation over a random stretch of rows."""
        first, last = stretch(len(self._ahead), self.recipe.tv_share, seed)
        if last <= first:
            return
        weights = self.recipe.tv_density, self.recipe.tv_sh
        tables = (self.table.density, 1, 1), (self.table.sh, 3 * self.table.functions, self.table.sh.shape[1])
        for (values, channels, width), gradient, weight, edges in zip(
            tables, self.gradients, weights, (True, False), strict=True
        ):
            if weight:
                kernels.row_variation[(-(-(last - first) // _ROWS),)](
                    values, gradient, self._ahead, self._scales, first, last, weight / (last - first),
                    EDGES=edges, CHANNELS=channels, WIDTH=width, ROWS=_ROWS,
                )  # fmt: skip

    def largest_weights(self, rays: Rays, before: np.ndarray | None = None) -> np.ndarray:
        """See `CpuSteps.largest_weights`."""
        most = torch.zeros_like(self.table.density)
        if before is not None:
            most += torch.as_tensor(before).to(most)
        self._march.importance(self.table.density, RayTensors.of(rays, self.device), most)
        return most.cpu().numpy()

    def grid(self) -> SparseGrid:
        """The grid as it is now."""
        background = self._grid.background
        if background is not None and self._far is not None:
            background = layers_of(background.links, background.data.shape[1], *self._far.table.arrays())
        density, sh = self.table.density.cpu().numpy().copy(), self.table.coefficients().cpu().numpy().copy()
        return replace(self._grid, density=density, sh=sh, background=background)

    def squares(self) -> tuple[np.ndarray, ...]:
        """RMSProp's means, as the constructor takes them."""
        density, sh = self._squares
        flat = sh[:, : 3 * self.table.functions].reshape(len(sh), 3, self.table.functions)
        far = () if self._far is None else tuple(a.cpu().numpy() for a in self._far.table.squares)
        return density.cpu().numpy().copy(), flat.cpu().numpy().copy(), *far
