"""The course of a Plenoxels training: levels, pruning, checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from neurcomp_core.errors import Interrupted
from neurcomp_core.fit.checkpoint import Checkpoint, key_of
from neurcomp_core.radiance.codec import RadianceContext
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.grids import SparseGrid, SphereLayers
from neurcomp_core.radiance.places import Place
from neurcomp_core.radiance.rendering.frames import Rays
from neurcomp_core.radiance.rendering.march import March, MarchOptions
from neurcomp_core.radiance.rendering.samples import sample_counts
from neurcomp_core.radiance.training import plenoxels_grids as grids
from neurcomp_core.radiance.training.background import empty_spheres
from neurcomp_core.radiance.training.batches import RayBank, bank_in
from neurcomp_core.radiance.training.plenoxels_cpu import CpuSteps
from neurcomp_core.radiance.training.plenoxels_recipe import PlenoxelsRecipe
from neurcomp_core.radiance.training.watch import Watch, Watching

if TYPE_CHECKING:
    from neurcomp_core.radiance.training.plenoxels_torch import TorchSteps
    from neurcomp_core.radiance.training.plenoxels_triton import TritonSteps

# Training rays that voxels are judged by, per voxel of the grid's face and view: a quarter sees every one many times.
_JUDGES = 0.25
_CHUNK = 1 << 16
_STATE = ("links", "box", "density", "sh")


@dataclass(frozen=True)
class World:
    """Where a box of longest side 2 about the origin lies in the world: coordinates times `scale` plus `center`."""

    center: np.ndarray
    scale: float

    @classmethod
    def of(cls, box: np.ndarray) -> World:
        return cls(box.mean(0), float((box[1] - box[0]).max() / 2))

    def rays(self, rays: Any) -> Any:
        """World `Rays` or `RayTensors` in these coordinates, with the same t."""
        if isinstance(rays, Rays):
            origins = (rays.origins - self.center) / self.scale
            return Rays(origins, rays.directions / self.scale, rays.near, rays.far, rays.views)
        center = rays.origins.new_tensor(self.center)
        return rays._replace(
            origins=((rays.origins - center) / self.scale).contiguous(), directions=rays.directions / self.scale
        )

    def inside(self, box: np.ndarray) -> np.ndarray:
        return (box - self.center) / self.scale

    def grid(self, grid: SparseGrid) -> SparseGrid:
        """A grid of these coordinates in the world's: densities are per length."""
        far = grid.background
        if far is not None:
            far = SphereLayers(far.links, far.data * np.array([1, 1, 1, 1 / self.scale], np.float32))
        density = (grid.density / self.scale).astype(np.float32)
        return replace(grid, density=density, box=grid.box * self.scale + self.center, background=far)


class Course:
    """One training.

    Parameters
    ----------
    data : PosedImages
        Training images.
    recipe : PlenoxelsRecipe
    context : RadianceContext
    watch : Watch, optional
    """

    def __init__(
        self, data: PosedImages, recipe: PlenoxelsRecipe, context: RadianceContext, watch: Watch | None
    ) -> None:
        recipe = recipe.of_scene(data.scene)
        self.data, self.recipe, self.context = data, recipe, context
        self.place = Place.of(context.device, context.backend)
        self.world = World.of(data.box)
        self.options = MarchOptions(recipe.step, recipe.stop)
        self.unbounded = data.scene == "unbounded"
        # Without spheres behind it, what does not meet the box has no gradient.
        self.everything = RayBank.of(data) if self.unbounded else bank_in(data, data.box, self.place)
        self.bank = self.everything
        self._sent: tuple[RayBank, Any] | None = None
        self.at = 0
        self.watching = Watching(recipe.steps, self.model, context.progress, watch)
        self.checkpoint = Checkpoint(context.checkpoint, self._key() if context.checkpoint else "")
        box = self.world.inside(data.box)
        grid = grids.first_grid(box, self._shape(0, box), recipe.degree, recipe.density, self.unbounded)
        if self.unbounded:
            grid = replace(grid, background=empty_spheres(recipe.layers, recipe.layer_size, recipe.density))
        self.steps = self._steps(grid)
        if self.checkpoint.state is not None:
            self._resume(self.checkpoint.state)

    def run(self) -> SparseGrid:
        """Train to the end; the grid in world coordinates.

        Raises
        ------
        Interrupted
            With the grid so far as its ``best``.
        """
        recipe, seed = self.recipe, self.context.seed
        behind = np.asarray(self.data.background, np.float64)
        try:
            while self.at < recipe.steps:
                self._turn()
                fractions = np.random.default_rng((seed, self.at)).random(recipe.rays)
                rays, colors = self._batch()
                error = self.steps.step(rays, colors, behind, fractions, self.at, seed)
                self.at += 1
                self.checkpoint.offer(self._state)
                self.watching.step(self.at, self.bank.whole_error(error), self._label())
        except Interrupted as stopped:
            self.checkpoint.keep(self._state)
            stopped.best = self.model()
            raise
        if not self.checkpoint.finished:
            self.checkpoint.finish(self._state)
        return self.model()

    def _batch(self) -> tuple[Any, Any]:
        """Rays and colours of the next step, where it is made."""
        if self.place.backend == "triton":
            from neurcomp_core.radiance.training.device_batches import bank_at

            if self._sent is None or self._sent[0] is not self.bank:
                self._sent = None
                self._sent = self.bank, bank_at(self.bank, self.place)
            batch = self._sent[1].batch(self.at, self.recipe.rays, self.context.seed)
        else:
            batch = self.bank.batch(self.at, self.recipe.rays, self.context.seed)
        return self.world.rays(batch.rays), batch.colors

    def model(self) -> SparseGrid:
        """The grid as it is now, in world coordinates."""
        return self.world.grid(self.steps.grid())

    # ......................................................................................................... levels

    def _turn(self) -> None:
        """Refine, or prune, where it is time to."""
        recipe, starts = self.recipe, self.recipe.starts
        if self.at in starts[1:]:
            self._refine(starts.index(self.at))
        elif self.at in recipe.last_pruning:
            self._prune()

    def _refine(self, level: int) -> None:
        self.watching.show(self.at)
        grid = self.steps.grid()
        if self.recipe.prune:
            grid = grid.taking(self._kept(grid))
        box = grids.cropped_box(grid) if self.recipe.crop and self.recipe.prune and not self.unbounded else grid.box
        far = self.steps.squares()[2:]
        grid = grids.refined(grid, box, self._shape(level, box))
        # Means of squares start anew with other voxels; those of the background go on.
        fresh = np.zeros_like(grid.density), np.zeros_like(grid.sh)
        self._train(grid, (*fresh, *far))

    def _prune(self) -> None:
        grid = self.steps.grid()
        keep = self._kept(grid)
        rows = np.sort(grid.links[keep])
        density, sh, *far = self.steps.squares()
        self._train(grid.taking(keep), (density[rows], sh[rows], *far))

    def _train(self, grid: SparseGrid, squares: tuple[np.ndarray, ...] = ()) -> None:
        self.steps = self._steps(grid, squares)
        self._look(grid)

    def _steps(self, grid: SparseGrid, squares: tuple[np.ndarray, ...] = ()) -> CpuSteps | TorchSteps | TritonSteps:
        place = self.place
        if place.host:
            return CpuSteps(grid, self.recipe, squares)
        if place.backend == "triton":
            from neurcomp_core.radiance.training.plenoxels_triton import TritonSteps

            return TritonSteps(grid, self.recipe, squares, place.device)
        from neurcomp_core.radiance.training.plenoxels_torch import TorchSteps

        return TorchSteps(grid, self.recipe, squares, place.device)

    def _look(self, grid: SparseGrid) -> None:
        """Leave out the rays that meet no voxel any more."""
        if not self.unbounded:
            march = March.of(grid, self.options)
            assert march.occupancy is not None
            given = march.frame.voxel, march.occupancy, self.options
            self.bank = self.everything.meeting(lambda rays: sample_counts(self.world.rays(rays), *given) > 0)

    def _kept(self, grid: SparseGrid) -> np.ndarray:
        size = max(grid.links.shape)
        count = min(len(self.bank), max(_CHUNK, round(_JUDGES * len(self.data) * size**2)))
        most = None
        for first in range(0, count, _CHUNK):
            # Further batches of an order of their own.
            some = self.bank.indices(first // _CHUNK, _CHUNK, self.context.seed + 1)
            most = self.steps.largest_weights(self.world.rays(self.bank.rays(some)), most)
            self.context.progress.check()
        assert most is not None
        return grids.kept(grid, most, self.recipe.prune / size)

    def _shape(self, level: int, box: np.ndarray) -> tuple[int, int, int]:
        size = self.recipe.sizes[level]
        depth = self.recipe.depth * size // self.recipe.size if self.data.scene == "forward-facing" else 0
        return grids.shape_of(box, size, depth)

    def _label(self) -> str:
        z, y, x = self.steps.march.links.shape
        return f"{x} x {y} x {z}"

    # ..................................................................................................... checkpoints

    def _key(self) -> str:
        what = self.everything
        poses = [(camera.pose.tobytes(), camera.intrinsics) for camera in self.data.cameras]
        numbers = self.data.near, self.data.far, self.data.box.tobytes(), self.data.scene, self.data.background
        run = self.context.seed, self.context.threads, self.place.device == "cuda"
        return key_of("plenoxels", self.recipe, run, numbers, poses, len(what), what.colors.tobytes())

    def _state(self) -> Mapping[str, np.ndarray]:
        grid = self.steps.grid()
        found = {name: getattr(grid, name) for name in _STATE}
        if grid.background is not None:
            found |= {"far_links": grid.background.links, "far_data": grid.background.data}
        squares = {f"square_{i}": a for i, a in enumerate(self.steps.squares())}
        return {**found, **squares, "at": np.array(self.at)}

    def _resume(self, state: Mapping[str, np.ndarray]) -> None:
        try:
            far = SphereLayers(state["far_links"], state["far_data"]) if "far_links" in state else None
            grid = SparseGrid(state["links"], state["density"], state["sh"], state["box"], far)
            squares = tuple(state[f"square_{i}"] for i in range(4 if far is not None else 2))
            self.at = int(state["at"])
        except (KeyError, ValueError, TypeError) as error:
            raise self.checkpoint.damaged(error) from error
        self.steps = self._steps(grid, squares)
        turns = (*self.recipe.starts[1:], *self.recipe.last_pruning)
        if min(turns, default=self.at) < self.at < self.recipe.steps:
            self._look(grid)
