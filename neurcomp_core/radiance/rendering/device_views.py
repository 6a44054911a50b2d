"""Pictures of fields that are torch tensors, on their device: sampling, evaluation and compositing stay there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from neurcomp_core.progress import Progress
from neurcomp_core.radiance.grids import SparseGrid
from neurcomp_core.radiance.rendering import compositing, sampling
from neurcomp_core.radiance.rendering.device_samples import sample_rays_on
from neurcomp_core.radiance.rendering.frames import GridFrame, Rays
from neurcomp_core.radiance.rendering.march import Integrals, MarchOptions
from neurcomp_core.radiance.rendering.occupancy import Occupancy
from neurcomp_core.radiance.rendering.samples import batches, sample_counts
from neurcomp_core.radiance.rendering.spheres import Backdrop
from neurcomp_core.radiance.rendering.views import MEMORY, Background, View, assembled

# Look-ups and temporary arrays of sampling, evaluation and compositing.
_PER_SAMPLE = 1024


class TensorField(Protocol):
    """`fields.PointField` of tensors, all on one device and of one type."""

    @property
    def voxel(self) -> np.ndarray:
        """Edges ``(3,)`` of the voxel that steps refer to."""
        ...

    @property
    def occupancy(self) -> Occupancy:
        """Free space; its frame has the box."""
        ...

    @property
    def like(self) -> torch.Tensor:
        """A tensor of the field's type on its device."""
        ...

    def density(self, points: torch.Tensor) -> torch.Tensor:
        """``(n,)``, not negative, per unit length, at points ``(n, 3)``."""
        ...

    def colors(self, points: torch.Tensor, views: torch.Tensor) -> torch.Tensor:
        """``(n, 3)`` at points seen along unit directions ``(n, 3)``."""
        ...


@dataclass(frozen=True, eq=False)
class GridTensors:
    """A sparse grid as tensors; degree 0 to 2.

    links ``(z, y, x)`` int32, density ``(rows,)``, sh ``(rows, 3, functions)``. Background spheres stay on the CPU.
    """

    links: torch.Tensor
    density_rows: torch.Tensor
    sh: torch.Tensor
    frame: GridFrame
    occupancy: Occupancy
    backdrop: Backdrop | None = None

    @classmethod
    def of(cls, grid: SparseGrid, device: torch.device | str, dtype: torch.dtype = torch.float32) -> GridTensors:
        density, sh = (torch.tensor(a, dtype=dtype, device=device) for a in (grid.density, grid.sh))
        backdrop = None if grid.background is None else Backdrop.of(grid)
        links = torch.tensor(grid.links, device=device)
        return cls(links, density, sh, GridFrame.of(grid), Occupancy.of(grid), backdrop)

    @property
    def voxel(self) -> np.ndarray:
        return self.frame.voxel

    @property
    def like(self) -> torch.Tensor:
        return self.density_rows

    def density(self, points: torch.Tensor) -> torch.Tensor:
        return torch.relu(sampling.sample_sparse(self.links, self.density_rows[:, None], points, self.frame)[:, 0])

    def colors(self, points: torch.Tensor, views: torch.Tensor) -> torch.Tensor:
        functions = self.sh.shape[2]
        mixed = sampling.sample_sparse(self.links, self.sh.flatten(1), points, self.frame)
        basis = sampling.basis_of(views, round(functions**0.5) - 1)
        every = torch.arange(len(points), device=points.device)
        return sampling.shade(mixed.reshape(len(points), 3, functions), basis, every)


def render_rays_on(
    field: TensorField,
    rays: Rays,
    background: Background = (1.0, 1.0, 1.0),
    *,
    options: MarchOptions | None = None,
    memory: int = MEMORY,
    progress: Progress | None = None,
) -> View:
    """`views.render_rays` of a field of tensors, without normals and without gradients.

    `memory` is bytes of temporary arrays on the field's device; what the field itself takes to be evaluated, a
    network's activations, comes on top.
    """
    options, occupancy, like = options or MarchOptions(), field.occupancy, field.like

    @torch.no_grad()
    def integrate(part: Rays) -> Integrals:
        packed, points = sample_rays_on(part, field.voxel, occupancy, options, None, like.dtype, like.device)
        sigma = field.density(points)
        weights = compositing.composite(sigma, sigma.new_zeros(len(sigma), 0), packed, options.stop).weights
        lit = torch.nonzero(weights > 0)[:, 0]
        views = torch.tensor(part.views, dtype=like.dtype, device=like.device)
        rgb = sigma.new_zeros(len(sigma), 3)
        if len(lit):
            rgb[lit] = field.colors(points[lit], views[packed.index[lit]]).to(rgb.dtype)
        out = compositing.composite(sigma, rgb, packed, options.stop)
        color, opacity, depth = (a.double().cpu().numpy() for a in (out.color, out.opacity, out.depth))
        return Integrals(color, opacity, depth, np.zeros(0), np.zeros((0, 3)), np.zeros(0, np.int64))

    # Steps in free space are dropped only after they were made.
    counts = sample_counts(rays, field.voxel, Occupancy.full(occupancy.frame), options)
    cuts = batches(counts + 1, memory // _PER_SAMPLE)
    backdrop = field.backdrop if isinstance(field, GridTensors) else None
    return assembled(rays, cuts, integrate, background, False, progress or Progress(), backdrop)
