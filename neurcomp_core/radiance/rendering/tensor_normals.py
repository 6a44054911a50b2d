"""Normals of voxel fields in torch: the slope of the interpolated density within a sample's cell, as in kernels."""

from __future__ import annotations

import torch

from neurcomp_core.radiance.rendering.frames import GridFrame


def normals(
    density: torch.Tensor, links: torch.Tensor | None, rest: float, frame: GridFrame, at: torch.Tensor
) -> torch.Tensor:
    """Unit vectors ``(n, 3)`` against the density's gradient at positions in voxels ``(n, 3)``; zero where it is flat.

    `density` is a grid ``(z, y, x)``, or, with `links` ``(z, y, x)``, rows ``(rows,)`` of the samples that have one;
    the others have `rest`.
    """
    top = torch.tensor(frame.shape[::-1], device=at.device) - 1
    at = at.clamp(torch.zeros_like(top), top)
    low = torch.minimum(at.long(), (top - 1).clamp(min=0))
    share, total = at - low, torch.zeros_like(at)
    for q in range(8):
        up = torch.tensor([q >> axis & 1 for axis in range(3)], device=at.device)
        x, y, z = torch.minimum(low + up, top).unbind(1)
        if links is None:
            value = density[z, y, x]
        else:
            row = links[z, y, x].long()
            value = torch.where(row >= 0, density[row.clamp(min=0)], rest)
        weights = torch.where(up == 1, share, 1 - share)
        for axis in range(3):
            others = weights[:, [a for a in range(3) if a != axis]].prod(1)
            total[:, axis] += value * others * (2 * up[axis] - 1)
    total *= torch.tensor(frame.scale, dtype=total.dtype, device=total.device)
    return -total / total.norm(dim=1, keepdim=True).clamp(min=1e-20)
