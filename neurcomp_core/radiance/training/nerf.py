"""Training of NeRFs: a coarse and a fine network on encoded positions, from posed images.

Mildenhall et al., NeRF: Representing Scenes as Neural Radiance Fields for View Synthesis (ECCV 2020), sections 5.1 to
5.3. Rays are sampled within the scene's box only. Two more differences serve CPUs, and preset ``full`` is without them:
the coarse network is trained alone at first and the fine one starts as its copy; and from then on samples in space that
the coarse network says is free are left out, except on a few rays of every batch.
"""

from __future__ import annotations

import numpy as np

from neurcomp_core import threads
from neurcomp_core.errors import Interrupted, require
from neurcomp_core.fit.checkpoint import Checkpoint, State, key_of
from neurcomp_core.radiance.codec import RadianceContext
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.imports.nerf import Dense, NerfMlp, NerfWeights
from neurcomp_core.radiance.training.nerf_recipe import NerfRecipe
from neurcomp_core.radiance.training.watch import Watch, Watching


def fresh(recipe: NerfRecipe, box: np.ndarray, draw: np.random.Generator) -> NerfMlp:
    """A network of random weights (Glorot & Bengio, 2010, eq. 16, as in the reference program) and zero biases.

    Except that of the density: a ray through the box meets an optical depth of about 1 at first. Where it starts at
    zero, its ReLU may be dead everywhere.
    """

    def dense(inputs: int, outputs: int, scale: float = 1.0, bias: float = 0.0) -> Dense:
        limit = scale * np.sqrt(6 / (inputs + outputs))
        weight = draw.uniform(-limit, limit, (outputs, inputs)).astype(np.float32)
        return Dense(weight, np.full(outputs, bias, np.float32))

    position, direction = 3 + 6 * recipe.position_frequencies, 3 + 6 * recipe.direction_frequencies
    width, half = recipe.width, max(1, recipe.width // 2)
    again = recipe.depth // 2 + 1 if recipe.depth > 2 else recipe.depth  # the layer that gets the position, too
    inputs = [position if k == 0 else width + (position if k == again else 0) for k in range(recipe.depth)]
    # The bound of the uniform weights that a layer's outputs, themselves about 1, spread the density by.
    length = float(np.linalg.norm(box[1] - box[0]))
    return NerfMlp(
        tuple(dense(n, width) for n in inputs),
        dense(width, 1, 0.1, 2.0 / length),
        dense(half, 3),
        dense(width, width),
        (dense(width + direction, half),),
    )


def train(
    data: PosedImages, recipe: NerfRecipe, context: RadianceContext | None = None, watch: Watch | None = None
) -> NerfWeights:
    """Train a NeRF on all images of a set.

    Parameters
    ----------
    data : PosedImages
        Those to train on.
    recipe : NerfRecipe
    context : RadianceContext, optional
        Device, threads, seed, progress, and the file to go on from (`fit.checkpoint`): a run that was killed ends with
        the weights of one that was not, on the same device with as many threads.
    watch : callable, optional
        See `watch.Moment`.

    Raises
    ------
    Interrupted
        With the weights so far as ``best``.
    MissingExtraError
        If there is no torch.
    """
    require("torch", "train", "training a NeRF")
    context = context or RadianceContext()
    with threads.limit(context.threads):
        return _Course(data, recipe, context).run(watch)


class _Course:
    """One training."""

    def __init__(self, data: PosedImages, recipe: NerfRecipe, context: RadianceContext) -> None:
        import torch

        from neurcomp_core.radiance.rendering.nerf_torch import TorchNetwork
        from neurcomp_core.radiance.training.nerf_loss import RayLoss

        self.recipe, self.context, self.done = recipe, context, 0
        self.loss = RayLoss.of(data, recipe, context)
        draw = np.random.default_rng((context.seed, 0))
        networks = [fresh(recipe, data.box, draw) for _ in range(2 if recipe.fine_samples else 1)]
        self.networks = [TorchNetwork.of(mlp, self.loss.device, train=True) for mlp in networks]
        self.parameters = [p for network in self.networks for p in network.tensors]
        self.optimiser = torch.optim.Adam(self.parameters, recipe.rate, eps=1e-7)
        self.checkpoint = Checkpoint(context.checkpoint, key_of("nerf", recipe, context.seed, self.loss.identity))
        if self.checkpoint.state is not None:
            self._restore(self.checkpoint.state)

    def weights(self) -> NerfWeights:
        """A copy of the networks; in the warm-up the fine one is the coarse one's copy."""
        mlps = [network.mlp() for network in self.networks]
        return NerfWeights(mlps[0], None if len(mlps) < 2 else mlps[0 if self.done < self.recipe.warm_up else 1])

    def run(self, watch: Watch | None) -> NerfWeights:
        recipe = self.recipe
        watching = Watching(recipe.steps, self.weights, self.context.progress, watch)
        try:
            while self.done < recipe.steps and not self.checkpoint.finished:
                error = self._step()
                self.checkpoint.offer(self._state)
                watching.step(self.done, error, "coarse network" if self.done <= recipe.warm_up else "")
                if self.done == recipe.warm_up:
                    watching.show(self.done)
        except Interrupted as stop:
            self.checkpoint.keep(self._state)
            stop.best = self.weights()
            raise
        watching.show(recipe.steps)
        if not self.checkpoint.finished:
            self.checkpoint.finish(self._state)
        return self.weights()

    def _step(self) -> float:
        recipe, i = self.recipe, self.done
        alone = i < recipe.warm_up
        networks = self.networks[:1] if alone else self.networks
        if recipe.refresh and not alone and (i - recipe.warm_up) % recipe.refresh == 0:
            self.loss.look(self.networks[0])
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.rate_at(i)
        self.optimiser.zero_grad()
        loss, error = self.loss(networks, i)
        loss.backward()
        self.optimiser.step()
        self.done += 1
        if self.done == recipe.warm_up and len(self.networks) > 1:
            self._copy_coarse()
        return error

    def _copy_coarse(self) -> None:
        """The fine network, and what Adam knows of it, start as the coarse one."""
        import torch

        with torch.no_grad():
            for mine, theirs in zip(self.networks[1].tensors, self.networks[0].tensors, strict=True):
                mine.copy_(theirs)
                known = self.optimiser.state[theirs]
                self.optimiser.state[mine] = {name: value.clone() for name, value in known.items()}

    # .................................................................................................... checkpoints

    def _state(self) -> dict[str, np.ndarray]:
        found = {"done": np.array(self.done)} | self.loss.state()
        for i, p in enumerate(self.parameters):
            found[f"p{i}"] = p.detach().cpu().numpy().copy()
            for name, value in self.optimiser.state[p].items():
                found[f"adam{i}.{name}"] = value.detach().cpu().numpy().copy()
        return found

    def _restore(self, stored: State) -> None:
        import torch

        try:
            self.done = int(stored["done"])
            self.loss.restore(stored)
            with torch.no_grad():
                for i, p in enumerate(self.parameters):
                    p.copy_(torch.from_numpy(stored[f"p{i}"].reshape(p.shape)))
                    head = f"adam{i}."
                    state = {n[len(head) :]: torch.tensor(a) for n, a in stored.items() if n.startswith(head)}
                    # Adam counts its steps on the CPU.
                    moved = {n: t if n == "step" else t.to(p.device) for n, t in state.items()}
                    if moved:
                        self.optimiser.state[p] = moved
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise self.checkpoint.damaged(error) from error
