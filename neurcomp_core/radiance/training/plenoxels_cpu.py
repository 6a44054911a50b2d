"""Steps of a Plenoxels training on the CPU, by compiled kernels that touch only rows with a gradient."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neurcomp_core.radiance.grids import SparseGrid
from neurcomp_core.radiance.rendering.fitting import squared_error
from neurcomp_core.radiance.rendering.frames import Rays
from neurcomp_core.radiance.rendering.march import March, MarchOptions
from neurcomp_core.radiance.rendering.spheres import Spheres, layers_of, tables_of
from neurcomp_core.radiance.training.background import neighbours
from neurcomp_core.radiance.training.plenoxels_recipe import PlenoxelsRecipe
from neurcomp_core.radiance.training.plenoxels_rows import Rows

#: RMSProp's means: of the grid's density and coefficients, then of the spheres'.
Squares = tuple[np.ndarray, ...]


class CpuSteps:
    """A grid, and its background spheres if it has some, while it is trained.

    Parameters
    ----------
    grid : SparseGrid
        Copied.
    recipe : PlenoxelsRecipe
    squares : tuple of ndarray
        What `squares` gave, to go on; () to begin.
    """

    def __init__(self, grid: SparseGrid, recipe: PlenoxelsRecipe, squares: Squares = ()) -> None:
        self.recipe, self._grid = recipe, grid
        options = MarchOptions(recipe.step, recipe.stop)
        self.march = March.of(grid, options)
        known = [np.array(a, np.float32) for a in squares]
        self._rows = Rows(grid.density.copy(), grid.sh.copy(), grid.links, squares=_pair(known[:2]))
        self._far: Rows | None = None
        if grid.background is not None:
            links, layers = grid.background.links, grid.background.data.shape[1]
            self._spheres = Spheres(links, layers, grid.box, options)
            tables, places = tables_of(grid.background), neighbours(grid.background)
            self._far = Rows(*tables, places, (True, False, False), _pair(known[2:]))

    def step(
        self, rays: Rays, targets: np.ndarray, behind: np.ndarray, fractions: np.ndarray, step: int, seed: int
    ) -> float:
        """Step number `step` of the training.

        Parameters
        ----------
        rays : Rays
        targets : ndarray ``(rays, 3)``
        behind : ndarray ``(3,)``
            Colour behind everything.
        fractions : ndarray ``(rays,)``
            See `March.forward`.
        step, seed : int

        Returns
        -------
        float
            Mean squared error of the batch before the step.
        """
        recipe, rows, far = self.recipe, self._rows, self._far
        beyond, found = behind, None
        smooth = step < recipe.tv_until * recipe.steps
        if far is not None:
            found = self._spheres.forward(far.density, far.sh, rays)
            behind = found[0] + (1 - found[1][:, None]) * behind
        if smooth:
            rows.smooth((recipe.tv_density, recipe.tv_sh), recipe.tv_share, (seed, step, 1))
        errors, opacity = squared_error(
            self.march, rows.density, rows.sh, rays, targets, behind, rows.gradients, fractions, penalty=recipe.sparsity
        )
        rates = recipe.rates(step)
        if far is not None and found is not None:
            if smooth:
                far.smooth((recipe.tv_background, recipe.tv_background), recipe.tv_share, (seed, step, 2))
            color = 2 / len(rays) * errors * (1 - opacity[:, None])
            upstream = {"color": color, "opacity": -color @ beyond}
            self._spheres.backward(far.density, far.sh, rays, found, far.gradients, **upstream)
            far.move(rates, recipe.decay)
        rows.move(rates, recipe.decay)
        return float(np.mean(errors**2))

    def largest_weights(self, rays: Rays, before: np.ndarray | None = None) -> np.ndarray:
        """Largest rendering weight ``(rows,)`` along any of the rays, or as it was `before`; see `March.importance`."""
        most = np.zeros(len(self._rows.density)) if before is None else before
        return self.march.importance(self._rows.density, rays, (most, np.zeros_like(most)))[0]

    def grid(self) -> SparseGrid:
        """The grid as it is now."""
        background = self._grid.background
        if background is not None and self._far is not None:
            background = layers_of(background.links, background.data.shape[1], self._far.density, self._far.sh)
        rows = self._rows
        return replace(self._grid, density=rows.density.copy(), sh=rows.sh.copy(), background=background)

    def squares(self) -> Squares:
        """RMSProp's means, as the constructor takes them."""
        return (*self._rows.squares, *(self._far.squares if self._far is not None else ()))


def _pair(arrays: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
    return (arrays[0], arrays[1]) if arrays else None
