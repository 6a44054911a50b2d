"""Training of DVGO models: a coarse stage that finds the object, a fine one that shows it.

Sun, Sun & Chen, Direct Voxel Grid Optimization: Super-fast Convergence for Radiance Fields Reconstruction (CVPR 2022),
sections 4 and 5; Improved Direct Voxel Grid Optimization (arXiv 2206.05085).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from neurcomp_core import threads
from neurcomp_core.errors import InputError, Interrupted
from neurcomp_core.fit.checkpoint import Checkpoint, key_of
from neurcomp_core.radiance.codec import RadianceContext
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.places import Place
from neurcomp_core.radiance.training import dvgo_scene
from neurcomp_core.radiance.training.batches import RayBank, bank_in
from neurcomp_core.radiance.training.dvgo_recipe import DvgoRecipe, DvgoSchedule
from neurcomp_core.radiance.training.dvgo_state import DvgoState
from neurcomp_core.radiance.training.dvgo_step import CpuEngine, Engine
from neurcomp_core.radiance.training.watch import Watch, Watching

if TYPE_CHECKING:
    from neurcomp_core.radiance.training.device_batches import DeviceBank

__all__ = ["DvgoRecipe", "DvgoSchedule", "DvgoState", "engine_of", "fine_tune", "steps", "train"]


def engine_of(
    state: DvgoState, background: tuple[float, float, float], device: str = "auto", backend: str = "auto"
) -> Engine:
    """What trains a state: kernels on the CPU, Triton's or plain torch on a CUDA device where there is one.

    Raises
    ------
    InputError
        If a device or a backend is asked for that is not there.
    """
    place = Place.of(device, backend)
    if place.host:
        return CpuEngine(state, background)
    if place.backend == "triton":
        from neurcomp_core.radiance.training.dvgo_triton import TritonEngine

        return TritonEngine(state, background, place.device)
    from neurcomp_core.radiance.training.dvgo_torch import TorchEngine

    return TorchEngine(state, background, place.device)


def steps(
    engine: Engine,
    bank: RayBank | DeviceBank,
    schedule: DvgoSchedule,
    after: Callable[[int, float], object],
    *,
    first: int = 0,
    seed: int = 0,
) -> None:
    """The inner loop of every training: ``after(done, error)`` follows each step, counted from 1.

    Parameters
    ----------
    engine : Engine
        Whoever changes its state's arrays in `after` calls ``engine.save()`` before and ``engine.load()`` behind.
    bank : RayBank or DeviceBank
    schedule : DvgoSchedule
    after : callable
    first : int
        Steps done before.
    seed : int
        Of the order of pixels.
    """
    for i in range(first, schedule.steps):
        # Batches are on the device only for engines that are there.
        error = engine.step(bank.batch(i, schedule.batch, seed), schedule, i)  # pyright: ignore[reportArgumentType]
        after(i + 1, error)


def fine_tune(
    model: DvgoModel,
    data: PosedImages,
    schedule: DvgoSchedule,
    context: RadianceContext | None = None,
    watch: Watch | None = None,
    *,
    trainable: np.ndarray | None = None,
    every: int = 10,
    hook: Callable[[DvgoState], object] | None = None,
) -> DvgoModel:
    """Train grids and network of a model further, of the same shape and in the same free space.

    Parameters
    ----------
    model : DvgoModel
    data : PosedImages
    schedule : DvgoSchedule
    context : RadianceContext, optional
    watch : callable, optional
    trainable : ndarray ``(z, y, x)`` bool, optional
        Samples of the grids that may change; the others keep their bits.
    every : int
        Steps between calls of `hook`, the last one after the last step.
    hook : callable, optional
        May change the state's arrays, for instance to bring rows that share a code together again.

    Raises
    ------
    Interrupted
        With the model so far as ``best``.
    """
    context = context or RadianceContext()
    if trainable is not None and trainable.shape != model.density.shape:
        raise InputError(f"trainable: expected {model.density.shape}, got {trainable.shape}")
    if every < 1:
        raise InputError(f"every: expected at least one step, got {every}")
    with threads.limit(context.threads):
        state = DvgoState.of(model, trainable)
        engine = engine_of(state, data.background, context.device, context.backend)
        bank = bank_in(data, model.box, Place.of(context.device, context.backend))

        def now() -> DvgoModel:
            engine.save()
            return state.model()

        watching = Watching(schedule.steps, now, context.progress, watch)

        def after(done: int, error: float) -> None:
            if hook is not None and (done % every == 0 or done == schedule.steps):
                engine.save()
                hook(state)
                engine.load()
            watching.step(done, bank.whole_error(error), "fine-tuning")

        try:
            steps(engine, _placed(bank, context), schedule, after, seed=context.seed)
        except Interrupted as stop:
            stop.best = now()
            raise
        return now()


def train(
    data: PosedImages, recipe: DvgoRecipe, context: RadianceContext | None = None, watch: Watch | None = None
) -> DvgoModel:
    """Train a model on all images of a set.

    Parameters
    ----------
    data : PosedImages
        Those to train on. What lies outside its box is not modelled: of an unbounded set only the foreground is.
    recipe : DvgoRecipe
    context : RadianceContext, optional
        Device, threads, seed, progress, and the file to go on from (`fit.checkpoint`): a run that was killed ends with
        the model of one that was not, on the same device with as many threads.
    watch : callable, optional
        See `watch.Moment`.

    Raises
    ------
    Interrupted
        With the model so far as ``best``.
    """
    context = context or RadianceContext()
    with threads.limit(context.threads):
        return _Course(data, recipe, context, watch).run()


class _Course:
    """One training: its stage, the steps done of it, and the state."""

    def __init__(self, data: PosedImages, recipe: DvgoRecipe, context: RadianceContext, watch: Watch | None) -> None:
        self.data, self.recipe, self.context = data, recipe, context
        self.bank = bank_in(data, data.box, Place.of(context.device, context.backend))
        self.checkpoint = Checkpoint(context.checkpoint, self._key() if context.checkpoint else "")
        self.watching = Watching(recipe.steps, self.model, context.progress, watch)
        self.fine, self.done = False, 0
        if self.checkpoint.state is not None:
            self._restore(self.checkpoint.state)
        else:
            self.state = dvgo_scene.coarse_state(data, recipe)
            self.start = _space(self.state)
        self.engine = engine_of(self.state, data.background, context.device, context.backend)

    def _key(self) -> str:
        cameras = [(c.intrinsics, c.pose.tobytes()) for c in self.data.cameras]
        what = self.recipe, self.context.seed, self.data.background, self.bank.colors.tobytes()
        return key_of("dvgo", *what, cameras, self.data.near, self.data.far, self.data.box.tobytes())

    def model(self) -> DvgoModel:
        self.engine.save()
        return self.state.model()

    def run(self) -> DvgoModel:
        recipe = self.recipe
        try:
            if not self.fine:
                bank, seed = _placed(self.bank, self.context), self.context.seed
                steps(self.engine, bank, recipe.coarse, self._after_coarse, first=self.done, seed=seed)
                self._show()
                self._begin_fine()
            if not self.checkpoint.finished:
                self.bank = self.bank.meeting(self.start.meets)
                bank = _placed(self.bank, self.context)
                steps(self.engine, bank, recipe.fine, self._after_fine, first=self.done, seed=self.context.seed + 1)
        except Interrupted as stop:
            self.checkpoint.keep(self._arrays)
            stop.best = self.model()
            raise
        if not self.checkpoint.finished:
            self._change(dvgo_scene.cleared(self._saved(), recipe.fine.threshold))
            self.checkpoint.finish(self._arrays)
        self._show()
        return self.model()

    def _show(self) -> None:
        self.watching.show(self.done + self.recipe.coarse.steps * self.fine)

    def _after_coarse(self, done: int, error: float) -> None:
        self.done = done
        self._tell(done, error, "coarse")

    def _tell(self, done: int, error: float, label: str) -> None:
        self.checkpoint.offer(self._arrays)
        self.watching.step(done, self.bank.whole_error(error), label)

    def _begin_fine(self) -> None:
        draw = np.random.default_rng((self.context.seed, 1))
        state = dvgo_scene.fine_state(self._saved(), self.recipe, draw)
        self.start, self.fine, self.done = _space(state), True, 0
        self._change(state)

    def _after_fine(self, done: int, error: float) -> None:
        recipe, self.done = self.recipe, done
        scales = [round(share * recipe.fine.steps) for share in recipe.scale_at]
        if done in scales:
            left = sum(at > done for at in scales)
            self._change(dvgo_scene.refined(self._saved(), recipe, recipe.resolution**3 / 2**left))
        elif done % recipe.mask_every == 0 and done < recipe.fine.steps:
            self._change(dvgo_scene.cleared(self._saved(), recipe.fine.threshold))
        self._tell(recipe.coarse.steps + done, error, "fine")

    def _saved(self) -> DvgoState:
        self.engine.save()
        return self.state

    def _change(self, state: DvgoState) -> None:
        self.state = state
        self.engine.load(state)

    # .................................................................................................... checkpoints

    def _arrays(self) -> dict[str, np.ndarray]:
        found: dict[str, Any] = self._saved().arrays() | {"fine": np.array(self.fine), "done": np.array(self.done)}
        if self.fine:
            found |= {"start shape": np.array(self.start.mask.shape), "start": np.packbits(self.start.mask)}
        return found

    def _restore(self, stored: Any) -> None:
        try:
            self.fine, self.done = bool(stored["fine"]), int(stored["done"])
            self.state = DvgoState.restored(stored)
            self.start = _space(self.state)
            if self.fine:
                shape = tuple(int(n) for n in stored["start shape"])
                mask = np.unpackbits(stored["start"], count=int(np.prod(shape))).reshape(shape).astype(bool)
                self.start = _space(self.state, mask)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise self.checkpoint.damaged(error) from error


def _placed(bank: RayBank, context: RadianceContext) -> RayBank | DeviceBank:
    place = Place.of(context.device, context.backend)
    if place.host:
        return bank
    from neurcomp_core.radiance.training.device_batches import bank_at

    return bank_at(bank, place)


def _space(state: DvgoState, mask: np.ndarray | None = None) -> dvgo_scene.Space:
    """What is not known to be free now, or by another mask over the same box; later changes do not reach it."""
    assert state.mask is not None
    return dvgo_scene.Space(state.box, (state.mask if mask is None else mask).copy())
