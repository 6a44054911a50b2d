"""Pictures of a NeRF as it was trained: coarse samples, then fine ones where the coarse network found something.

Mildenhall et al., NeRF (ECCV 2020), section 5.2. NumPy and compiled kernels; with ``device="cuda"`` the networks are
evaluated there, by torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.radiance.dataset import Scene
from neurcomp_core.radiance.imports.nerf import NerfMlp, NerfWeights
from neurcomp_core.radiance.rendering.frames import GridFrame, Rays
from neurcomp_core.radiance.rendering.march import Integrals, MarchOptions
from neurcomp_core.radiance.rendering.nerf_networks import DenseNetwork, Network, SparseNetwork
from neurcomp_core.radiance.rendering.nerf_sampling import (
    Kept,
    Space,
    free_space,
    keep,
    lattice_frame,
    on_lattice,
    refined,
    stratified,
)
from neurcomp_core.radiance.rendering.occupancy import Occupancy
from neurcomp_core.radiance.rendering.ranges import over_ranges
from neurcomp_core.radiance.volume import RadianceVolume

#: Coarse and fine samples of a ray (section 5.3).
SAMPLES = (64, 128)
#: Cells along the box's longest side that free space is told by.
RESOLUTION = 64
# Voxels along the longest side: what steps of a plain march, and normals, refer to.
_VOXELS = 256

Evaluation = Literal["dense", "sparse"]


@dataclass(frozen=True, eq=False)
class NerfField:
    """A NeRF in its box, also a `fields.PointField` (of the fine network).

    Attributes
    ----------
    weights : NerfWeights
        Without a fine network the coarse one takes all samples.
    box : ndarray ``(2, 3)``
        Nothing is outside, except of an unbounded scene.
    scene : str
        See `PosedImages.scene`.
    samples : pair of int
        Coarse samples of a ray, and how many are drawn where these found something. 0: coarse ones alone.
    resolution : int
        Cells along the box's longest side; those that the coarse network says are empty are not sampled (see
        `nerf_sampling.free_space`). 0: everything is.
    evaluation : str
        "dense", or "sparse" by the weights that are not zero; both give the same up to rounding.
    device : str
        "cpu" needs no torch; "cuda" evaluates dense layers there.
    """

    weights: NerfWeights
    box: np.ndarray
    scene: Scene = "bounded"
    samples: tuple[int, int] = SAMPLES
    resolution: int = RESOLUTION
    evaluation: Evaluation = "dense"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.samples[0] < 1 or self.samples[1] < 0:
            raise InputError(f"samples: expected at least 1 coarse one and 0 fine ones, got {self.samples}")
        object.__setattr__(self, "box", np.asarray(self.box, np.float64))

    @classmethod
    def of(
        cls,
        volume: RadianceVolume,
        *,
        samples: tuple[int, int] = SAMPLES,
        evaluation: Evaluation = "dense",
        device: str = "cpu",
    ) -> NerfField:
        """Of a volume that holds a NeRF; InputError if it holds something else."""
        if not isinstance(volume.model, NerfWeights):
            raise InputError(f"expected a volume with a NeRF, got a {type(volume.model).__name__}")
        return cls(volume.model, volume.box, volume.scene, samples, RESOLUTION, evaluation, device)

    @cached_property
    def networks(self) -> tuple[Network, Network]:
        """Coarse and fine."""
        coarse = self._network(self.weights.coarse)
        return coarse, coarse if self.weights.fine is None else self._network(self.weights.fine)

    def _network(self, mlp: NerfMlp) -> Network:
        if self.device != "cpu":
            from neurcomp_core.radiance.rendering.nerf_torch import TorchNetwork

            return TorchNetwork.of(mlp, self.device)
        return SparseNetwork(mlp) if self.evaluation == "sparse" else DenseNetwork(mlp)

    # ......................................................................................................... a field

    @property
    def voxel(self) -> np.ndarray:
        return lattice_frame(self.box, _VOXELS).voxel

    @cached_property
    def free(self) -> Occupancy | None:
        """Free space by the coarse network; None if everything is sampled."""
        if not self.resolution or self.scene == "unbounded":
            return None
        return free_space(lambda points: self.networks[0].density(points)[0], self.box, self.resolution)

    @property
    def occupancy(self) -> Occupancy:
        return self.free or Occupancy.full(GridFrame((1, 1, 1), self.box))

    def density(self, points: np.ndarray) -> np.ndarray:
        """The fine network's; zero outside the box and in free space."""
        out = np.zeros(len(points))
        found = np.flatnonzero(self._within(points))
        out[found] = self.networks[1].density(points[found])[0]
        return out

    def colors(self, points: np.ndarray, directions: np.ndarray) -> np.ndarray:
        network = self.networks[1]
        return network.colors(network.density(points)[1], np.arange(len(points)), directions)

    def _within(self, points: np.ndarray) -> np.ndarray:
        inside = ((points >= self.box[0]) & (points <= self.box[1])).all(1)
        if self.free is None:
            return inside
        frame = self.free.frame
        at = np.clip(points * frame.scale + frame.offset, 0, np.array(frame.shape[::-1]) - 1)
        x, y, z = (at.astype(np.int64) // self.free.block).T
        return inside & (self.free.distance[z, y, x] == 0)

    # ......................................................................................................... its rays

    @property
    def ray_nbytes(self) -> int:
        """About how many bytes a ray takes while it is integrated."""
        return 96 * (2 * self.samples[0] + self.samples[1])

    def integrate(self, rays: Rays, options: MarchOptions, normals: bool = False) -> Integrals:
        """What rays meet; of `options` only where a ray stops counts."""
        coarse, fine = self.networks
        space = Space.of(self.box, self.scene)
        strata = stratified(rays, space, self.samples[0])
        if self.samples[1]:
            kept = keep(strata, rays, self.free)
            sigma = coarse.density(kept.samples.points(rays))[0]
            weights = _composite(kept, sigma, np.zeros((len(sigma), 0)), options.stop, len(rays))[3]
            strata = refined(strata, kept.spread(weights, strata), self.samples[1])
        kept = keep(strata, rays, self.free)
        return self._shaded(fine, rays, kept, options.stop, normals)

    def _shaded(self, network: Network, rays: Rays, kept: Kept, stop: float, normals: bool) -> Integrals:
        points, index, n = kept.samples.points(rays), kept.samples.index, len(rays)
        sigma, features = network.density(points)
        weights = _composite(kept, sigma, np.zeros((len(sigma), 0)), stop, n)[3]
        lit = np.flatnonzero(weights > 0)
        rgb = np.zeros((len(sigma), 6 if normals else 3))
        assert rays.views is not None
        rgb[lit, :3] = network.colors(features, lit, rays.views[index[lit]])
        if normals:
            rgb[lit, 3:] = self._normals(points[lit])
        mixed, opacity, depth, _ = _composite(kept, sigma, rgb, stop, n)
        return Integrals(mixed[:, :3], opacity, depth, np.zeros(0), mixed[:, 3:], np.diff(kept.samples.starts))

    def _normals(self, points: np.ndarray) -> np.ndarray:
        """Unit vectors against the density's gradient, by central differences over a voxel."""
        slope, voxel = np.empty_like(points), self.voxel
        for axis in range(3):
            ahead = np.zeros(3)
            ahead[axis] = voxel[axis] / 2
            slope[:, axis] = (self.density(points - ahead) - self.density(points + ahead)) / voxel[axis]
        length = np.linalg.norm(slope, axis=1, keepdims=True)
        return np.divide(slope, length, out=np.zeros_like(slope), where=length > 0)


def sample_grid(
    weights: NerfWeights, box: np.ndarray, resolution: int = 128, device: str = "cpu"
) -> tuple[np.ndarray, GridFrame]:
    """Density on a grid, for meshes and volume rendering.

    Parameters
    ----------
    weights : NerfWeights
    box : ndarray ``(2, 3)``
    resolution : int
        Cells along the longest side.
    device : str
        See `NerfField`.

    Returns
    -------
    density : ndarray ``(z, y, x)`` float32
        Per unit length.
    frame : GridFrame
        Where the samples are; the first and last lie on the box's faces.
    """
    field, frame = NerfField(weights, box, device=device), lattice_frame(np.asarray(box, np.float64), resolution)
    return on_lattice(field.density, frame), frame


def _composite(
    kept: Kept, sigma: np.ndarray, rgb: np.ndarray, stop: float, rays: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    from neurcomp_core.radiance.rendering import composite_kernels

    samples = kept.samples
    out = np.zeros((rays, rgb.shape[1])), np.zeros(rays), np.zeros(rays), np.zeros(len(samples))
    given = samples.starts, sigma.astype(np.float64), rgb, samples.times, samples.sizes, float(stop)
    over_ranges(rays, lambda _, a, b: composite_kernels.forward(a, b, *given, *out))
    return out
