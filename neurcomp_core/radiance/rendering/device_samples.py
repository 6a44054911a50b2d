"""Samples along rays in plain torch, on the device where the rays are: `samples.sample_rays` for CUDA.

Every step is tested for free space; that costs a look-up per step where the CPU's kernel leaps.
"""

from __future__ import annotations

import numpy as np
import torch

from neurcomp_core.radiance.rendering.compositing import PackedSamples
from neurcomp_core.radiance.rendering.frames import Rays
from neurcomp_core.radiance.rendering.march import MarchOptions
from neurcomp_core.radiance.rendering.occupancy import Occupancy


def sample_tensors(
    origins: torch.Tensor,
    directions: torch.Tensor,
    voxel: np.ndarray,
    occupancy: Occupancy,
    options: MarchOptions | None = None,
    near: torch.Tensor | float = 0.0,
    far: torch.Tensor | float = float("inf"),
    fractions: torch.Tensor | float = 0.5,
) -> tuple[PackedSamples, torch.Tensor]:
    """Samples and their points ``(n, 3)``, without gradient.

    Parameters
    ----------
    origins, directions : Tensor ``(rays, 3)``
        Of one type, on one device; so are the results.
    voxel, occupancy, options
        See `samples.sample_rays`.
    near, far, fractions : Tensor ``(rays,)`` or float
    """
    frame, step = occupancy.frame, (options or MarchOptions()).step
    like = {"dtype": origins.dtype, "device": origins.device}
    with torch.no_grad():
        box = torch.as_tensor(frame.box, **like)
        # A ray parallel to a face divides by zero: infinities of either sign outside the slab; 0/0 on it counts inside.
        low, high = (box[0] - origins) / directions, (box[1] - origins) / directions
        begin = torch.minimum(low, high).nan_to_num(-torch.inf, torch.inf, -torch.inf).amax(1)
        end = torch.maximum(low, high).nan_to_num(torch.inf, torch.inf, -torch.inf).amin(1)
        begin, end = begin.clamp(min=torch.as_tensor(near, **like)), end.clamp(max=torch.as_tensor(far, **like))
        dt = step / (directions / torch.as_tensor(voxel, **like)).norm(dim=1)
        counts = torch.where(end > begin, torch.ceil((end - begin) / dt), 0).long()
        index = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
        order = torch.arange(len(index), device=counts.device) - (counts.cumsum(0) - counts)[index]
        start = begin[index] + order * dt[index]
        sizes = torch.minimum(dt[index], end[index] - start)
        times = start + torch.as_tensor(fractions, **like).expand(len(counts))[index] * sizes
        points = origins[index] + times[:, None] * directions[index]
        top = torch.tensor(frame.shape[::-1], device=counts.device) - 1
        at = points * torch.as_tensor(frame.scale, **like) + torch.as_tensor(frame.offset, **like)
        x, y, z = (at.clamp(torch.zeros(3, **like), top.to(at.dtype)).long() // occupancy.block).unbind(1)
        kept = torch.as_tensor(occupancy.distance == 0, device=counts.device)[z, y, x]
        index, times, points = index[kept], times[kept], points[kept]
        sizes = sizes[kept] * directions.norm(dim=1)[index]
        starts = torch.zeros(len(counts) + 1, dtype=torch.long, device=counts.device)
        starts[1:] = torch.bincount(index, minlength=len(counts)).cumsum(0)
    return PackedSamples(starts, index, times, sizes), points


def sample_rays_on(
    rays: Rays,
    voxel: np.ndarray,
    occupancy: Occupancy,
    options: MarchOptions | None = None,
    fractions: np.ndarray | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> tuple[PackedSamples, torch.Tensor]:
    """`sample_tensors` of rays that are arrays."""
    arrays = rays.origins, rays.directions, rays.near, rays.far
    origins, directions, near, far = (torch.tensor(a, dtype=dtype, device=device) for a in arrays)
    within = 0.5 if fractions is None else torch.tensor(fractions, dtype=dtype, device=device)
    return sample_tensors(origins, directions, voxel, occupancy, options, near, far, within)
