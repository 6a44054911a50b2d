"""Marches through sparse grids by Triton kernels: what `march.March` is on the CPU, with tensors in and out."""
# What a kernel is called with is known to Triton, not to a checker.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from neurcomp_core.radiance import spherical_harmonics
from neurcomp_core.radiance.rendering import triton_plenoxels as kernels
from neurcomp_core.radiance.rendering.device_rays import RayTensors
from neurcomp_core.radiance.rendering.march import March
from neurcomp_core.radiance.rendering.sampling import basis_of
from neurcomp_core.radiance.rendering.triton_rays import Space, lanes


class Table(NamedTuple):
    """Values of a grid's rows on a device.

    density ``(rows,)`` and sh ``(rows, width)`` float32, the coefficients of red, green and blue one after the other
    and zeros up to the next power of two; slots ``(rows,)`` int32 is the row of `sh` that each row of `density` has,
    where that is not its own.
    """

    density: torch.Tensor
    sh: torch.Tensor
    functions: int
    slots: torch.Tensor | None = None

    @classmethod
    def of(
        cls, density: np.ndarray, sh: np.ndarray, device: torch.device | str, slots: np.ndarray | None = None
    ) -> Table:
        """From arrays, `sh` ``(rows, 3, functions)``."""
        functions = sh.shape[2]
        flat = torch.zeros(len(sh), width_of(functions), device=device)
        flat[:, : 3 * functions] = torch.as_tensor(np.ascontiguousarray(sh, np.float32).reshape(len(sh), -1)).to(device)
        # A copy also on the CPU: a training changes it.
        values = torch.tensor(np.asarray(density, np.float32), device=device)
        places = None if slots is None else torch.as_tensor(np.ascontiguousarray(slots, np.int32)).to(device)
        return cls(values, flat, functions, places)

    def coefficients(self) -> torch.Tensor:
        """Those of `sh` without the padding, ``(rows, 3, functions)``."""
        return self.sh[:, : 3 * self.functions].reshape(-1, 3, self.functions)


def width_of(functions: int) -> int:
    """Numbers of a padded row."""
    return 1 << (3 * functions - 1).bit_length()


class Found(NamedTuple):
    """`march.Integrals` as float32 tensors; what was not asked for is empty."""

    color: torch.Tensor
    opacity: torch.Tensor
    depth: torch.Tensor
    penalty: torch.Tensor
    normal: torch.Tensor
    stops: torch.Tensor


@dataclass(frozen=True, eq=False)
class DeviceMarch:
    """A sparse grid's geometry on a device; the values of its rows are given to each call.

    links ``(z, y, x)`` int32; stop as `MarchOptions` has it.
    """

    links: torch.Tensor
    space: Space
    stop: float

    @classmethod
    def of(cls, march: March, device: torch.device | str) -> DeviceMarch:
        """That of a march."""
        assert march.occupancy is not None
        space = Space.of(march.frame, march.options.step, march.occupancy, device)
        return cls(torch.as_tensor(march.links).to(device), space, march.options.stop)

    def forward(
        self,
        table: Table,
        rays: RayTensors,
        fractions: torch.Tensor | None = None,
        *,
        penalty: bool = False,
        normals: bool = False,
    ) -> Found:
        """See `March.forward`; `fractions` are float32."""
        n, device = rays.count, rays.device
        empty = torch.zeros(0, device=device)
        out = Found(
            torch.zeros(n, 3, device=device), torch.zeros(n, device=device), torch.zeros(n, device=device),
            torch.zeros(n, device=device) if penalty else empty,
            torch.zeros(n, 3, device=device) if normals else empty.reshape(0, 3),
            torch.zeros(n, dtype=torch.int32, device=device),
        )  # fmt: skip
        if not n or not len(table.density):
            return out
        size, space = lanes(device), self.space
        shared = table.slots is not None
        kernels.forward[(-(-n // size),)](
            *rays[:4], out.depth if fractions is None else fractions, _basis(rays, table.functions), space.numbers,
            space.extents, space.distance, self.links, table.density, table.sh,
            table.slots if shared else self.links, *out, n, self.stop,
            BLOCK=space.block, FUNCTIONS=table.functions, WIDTH=table.sh.shape[1], SHARED=shared,
            JITTER=fractions is not None, PENALTY=penalty, NORMALS=normals, LANES=size, num_warps=1,
        )  # fmt: skip
        return out

    def backward(
        self,
        table: Table,
        rays: RayTensors,
        found: Found,
        into: tuple[torch.Tensor, torch.Tensor],
        fractions: torch.Tensor | None = None,
        *,
        color: torch.Tensor,
        opacity: torch.Tensor | None = None,
        depth: torch.Tensor | None = None,
        penalty: float = 0.0,
    ) -> None:
        """Add the gradient of a loss to `into`, shaped as density and sh of the table; see `March.backward`.

        A table with shared rows has no gradient here.
        """
        n, device = rays.count, rays.device
        if not n or not len(table.density):
            return
        size, space = lanes(device), self.space
        none = torch.zeros(n, device=device)
        upstream = (g if g is not None else none for g in (opacity, depth))
        kernels.backward[(-(-n // size),)](
            *rays[:4], none if fractions is None else fractions, _basis(rays, table.functions), space.numbers,
            space.extents, space.distance, self.links, table.density, table.sh, found.color, found.opacity,
            found.depth, found.stops, color.contiguous(), *upstream, *into, n, penalty,
            BLOCK=space.block, FUNCTIONS=table.functions, WIDTH=table.sh.shape[1], JITTER=fractions is not None,
            LANES=size, num_warps=1,
        )  # fmt: skip

    def importance(
        self, density: torch.Tensor, rays: RayTensors, most: torch.Tensor, total: torch.Tensor | None = None
    ) -> None:
        """`March.importance`, into float32 tensors ``(rows,)``; the sum only if there is room for it."""
        n, size, space = rays.count, lanes(rays.device), self.space
        if n and len(density):
            kernels.importance[(-(-n // size),)](
                *rays[:4], space.numbers, space.extents, space.distance, self.links, density, most,
                most if total is None else total, n, self.stop,
                BLOCK=space.block, TOTAL=total is not None, LANES=size, num_warps=1,
            )  # fmt: skip


def _basis(rays: RayTensors, functions: int) -> torch.Tensor:
    """Spherical harmonics ``(rays, functions)`` float32 of the viewing directions."""
    degree = spherical_harmonics.degree_of(functions)
    if degree <= 2:
        return basis_of(rays.views, degree).float().contiguous()
    values = spherical_harmonics.basis(rays.views.cpu().numpy(), degree)
    return torch.as_tensor(values, dtype=torch.float32).to(rays.device)
