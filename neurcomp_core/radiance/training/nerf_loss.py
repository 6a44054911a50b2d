"""What a NeRF is trained by: the squared errors of coarse and fine colours of a batch of rays.

Mildenhall et al., NeRF (ECCV 2020), eq. 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from neurcomp_core.fit.checkpoint import State
from neurcomp_core.nets.devices import device_of
from neurcomp_core.radiance.codec import RadianceContext
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.rendering.compositing import Composite, PackedSamples, composite
from neurcomp_core.radiance.rendering.frames import Rays
from neurcomp_core.radiance.rendering.nerf_sampling import (
    Kept,
    Space,
    free_space,
    keep,
    lattice_frame,
    refined,
    stratified,
)
from neurcomp_core.radiance.rendering.nerf_torch import TorchNetwork
from neurcomp_core.radiance.rendering.occupancy import Occupancy
from neurcomp_core.radiance.training.batches import RayBank
from neurcomp_core.radiance.training.nerf_recipe import NerfRecipe


@dataclass
class RayLoss:
    """Batches of a set of images, and the loss of networks on them.

    Attributes
    ----------
    bank : RayBank
    recipe : NerfRecipe
    space : Space
    device : torch.device
    seed : int
        Of batches and of the places of samples.
    free : Occupancy, optional
        Space that is not sampled; see `look`.
    """

    bank: RayBank
    recipe: NerfRecipe
    space: Space
    device: torch.device
    seed: int
    free: Occupancy | None = None

    @classmethod
    def of(cls, data: PosedImages, recipe: NerfRecipe, context: RadianceContext) -> RayLoss:
        space = Space.of(data.box, data.scene)
        return cls(RayBank.of(data, box=space.box), recipe, space, device_of(context.device), context.seed)

    @property
    def identity(self) -> str:
        """What tells sets of images apart in checkpoints."""
        data = self.bank.data
        poses = np.stack([camera.pose for camera in data.cameras])
        return f"{poses.tobytes().hex()} {self.bank.colors.sum(dtype=np.float64)} {len(self.bank)} {data.box}"

    def __call__(self, networks: Sequence[TorchNetwork], step: int) -> tuple[torch.Tensor, float]:
        """Loss of the coarse, or of both networks on batch number `step`, and the last one's mean squared error over
        all pixels of the set.
        """
        draw = np.random.default_rng((self.seed, 1, step))
        batch = self.bank.batch(step, self.recipe.batch, self.seed)
        truth = torch.from_numpy(batch.colors).to(self.device)
        whole = draw.random(len(batch)) < self.recipe.whole
        strata = stratified(batch.rays, self.space, self.recipe.coarse_samples, draw)
        loss, error = truth.new_zeros(()), 0.0
        for i, network in enumerate(networks):
            kept = keep(strata, batch.rays, self.free, whole)
            found = shaded(network, batch.rays, kept)
            behind = truth.new_tensor(self.bank.data.background)
            squares = (found.over(behind) - truth).square().mean()
            loss, error = loss + squares, float(squares.detach())
            if i + 1 < len(networks):
                weights = kept.spread(found.weights.detach().cpu().numpy(), strata)
                strata = refined(strata, weights, self.recipe.fine_samples, draw)
        return loss, self.bank.whole_error(error)

    def look(self, coarse: TorchNetwork, known: Occupancy | None = None) -> None:
        """Find free space anew; what `known` counts as occupied stays so."""
        if self.space.box is None:
            return
        found = free_space(lambda points: coarse.density(points)[0], self.space.box, self.recipe.resolution)
        if known is not None:
            found = Occupancy(np.minimum(found.distance, known.distance), found.frame, found.block)
        self.free = found

    # .................................................................................................... checkpoints

    def state(self) -> dict[str, np.ndarray]:
        return {} if self.free is None else {"free": self.free.distance}

    def restore(self, stored: State) -> None:
        if "free" in stored:
            frame = lattice_frame(self.bank.data.box, self.recipe.resolution)
            if stored["free"].shape != frame.shape or stored["free"].dtype != np.uint8:
                raise ValueError(f"free space: expected {frame.shape}, got {stored['free'].shape}")
            self.free = Occupancy(stored["free"], frame, block=1)


def shaded(network: TorchNetwork, rays: Rays, kept: Kept) -> Composite:
    """What a network shows along rays, with gradients.

    Colours are evaluated only where there is density: elsewhere neither they nor, behind its ReLU, the density have a
    gradient.
    """
    like = network.tensors[0]
    packed = PackedSamples.of(kept.samples, like.dtype, like.device)
    points = torch.as_tensor(kept.samples.points(rays), dtype=like.dtype, device=like.device)
    views = torch.as_tensor(rays.views, dtype=like.dtype, device=like.device)
    sigma, features = network.evaluate(points)
    lit = torch.nonzero(sigma.detach() > 0)[:, 0]
    colors = network.shade(features[lit], views[packed.index[lit]])
    rgb = sigma.new_zeros(len(sigma), 3).index_copy(0, lit, colors)
    return composite(sigma, rgb, packed)
