"""Batches of lattice samples, drawn as small cubes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from neurcomp_core.nets.grid import GridLayout, Lattice


class BlockSampler:
    """Uniformly placed cubes of samples with their coordinates and normalised values.

    A cube's samples are neighbours in memory and in every table, and its finite differences give the gradient loss. On
    CUDA all samples live on the device, which draws the cubes without a word from the host.

    Parameters
    ----------
    values : ndarray
        ``(z, y, x[, c])``.
    lattice : Lattice
        Where the samples lie for the network.
    mask : ndarray of bool, optional
        True where a sample takes no part; shape of `values` or ``(z, y, x)``.
    centre, scale : float
        A value v is fitted as ``(v - centre) / scale``.
    edge, size : int
        Samples along a cube's edge (fewer along a shorter axis); samples per batch, rounded to whole cubes.
    generator : torch.Generator
        On the CPU; a device's own generator is seeded with it.
    device : torch.device
    importance : ndarray, optional
        ``(z, y, x)``: an error of a sample is taken this many times; 0 where there is no data.
    """

    #: Whether all samples are on the device.
    resident = True

    def __init__(
        self,
        values: np.ndarray,
        lattice: Lattice,
        mask: np.ndarray | None,
        centre: float,
        scale: float,
        edge: int,
        size: int,
        generator: torch.Generator,
        device: torch.device,
        importance: np.ndarray | None = None,
    ) -> None:
        shape = values.shape[:3]
        self.edge = edge
        self._cube = [min(edge, n) for n in shape]
        self._shape, self._lattice = shape, lattice
        self._device = device
        #: What draws.
        self.generator = generator
        if device.type == "cuda":
            seed = int(torch.randint(0, 1 << 62, (1,), generator=generator))
            self.generator = torch.Generator(device).manual_seed(seed)
        self._blocks = max(1, round(size / int(np.prod(self._cube))))
        self._flat = self._normalised(values, centre, scale).to(device)
        self._weights = None if mask is None else self._weight_rows(mask, values).to(device)
        #: Whether weights are such that the mean of their squares is 1, of all samples though not of each batch.
        self.balanced = importance is not None
        if importance is not None:
            rows = torch.from_numpy(importance.reshape(-1, 1).astype(np.float32)).to(device)
            rows = (rows if self._weights is None else rows * self._weights).expand(self._flat.shape)
            self._weights = rows / rows.double().square().mean().sqrt().float()
        steps = np.stack(np.meshgrid(*map(np.arange, self._cube), indexing="ij"), -1).reshape(-1, 3)
        self._offsets = torch.from_numpy(steps).to(device)

    @property
    def points(self) -> int:
        """Samples per batch."""
        return self._blocks * len(self._offsets)

    @staticmethod
    def _normalised(values: np.ndarray, centre: float, scale: float) -> torch.Tensor:
        flat = values.reshape(-1, values.shape[3] if values.ndim == 4 else 1)
        out = np.empty(flat.shape, np.float32)
        part = 1 << 20
        for first in range(0, len(flat), part):
            out[first : first + part] = (flat[first : first + part].astype(np.float64) - centre) / scale
        return torch.from_numpy(out)

    @staticmethod
    def _weight_rows(mask: np.ndarray, values: np.ndarray) -> torch.Tensor:
        keep = np.broadcast_to(~mask if mask.ndim == values.ndim else ~mask[..., None], values.shape)
        return torch.from_numpy(keep.reshape(-1, values.shape[3] if values.ndim == 4 else 1).astype(np.float32))

    def batch(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Draw a batch.

        Returns
        -------
        points : Tensor
            ``(n, 3)`` float32 network coordinates, unused axes 0.
        targets : Tensor
            ``(c, n)`` normalised values.
        weights : Tensor or None
            ``(c, n)``: 1, or the sample's importance, for data, 0 for masked samples; None if all are 1.
        """
        draw = self._starts if self.generator.device.type == "cpu" else self._device_starts
        starts = [draw(n, c) for n, c in zip(self._shape, self._cube, strict=True)]
        starts = torch.stack(starts, dim=-1).to(self._device)
        index = (starts[:, None, :] + self._offsets).reshape(-1, 3)
        row = (index[:, 0] * self._shape[1] + index[:, 1]) * self._shape[2] + index[:, 2]
        points = torch.zeros(len(row), 3, device=self._device)
        for column, axis in enumerate(self._lattice.axes):
            points[:, column] = self._lattice.coordinates(axis, index[:, axis])
        targets = self._flat[row].t()
        return points, targets, None if self._weights is None else self._weights[row].t()

    def _starts(self, length: int, edge: int) -> torch.Tensor:
        """Corners along one axis of a tiling with random phase: every sample is as likely, those at the ends too."""
        phase = int(torch.randint(0, edge, (1,), generator=self.generator))
        tiles = (length - 1 + phase) // edge + 1
        corner = torch.randint(0, tiles, (self._blocks,), generator=self.generator) * edge - phase
        return corner.clamp(0, length - edge)

    def _device_starts(self, length: int, edge: int) -> torch.Tensor:
        """`_starts` without a number that the host would have to wait for, so that a CUDA graph can hold it."""
        draws = torch.rand(self._blocks + 1, generator=self.generator, device=self._device, dtype=torch.float64)
        phase = (draws[:1] * edge).floor()
        tiles = ((length - 1 + phase) / edge).floor() + 1
        corner = (draws[1:] * tiles).floor() * edge - phase
        return corner.clamp(0, length - edge).long()

    def parts(self, most: int) -> Iterator[slice]:
        """Parts of a batch of about `most` samples, at least a cube."""
        cube = len(self._offsets)
        size = max(most // cube, 1) * cube
        for first in range(0, self.points, size):
            yield slice(first, min(first + size, self.points))

    def cube(self, layout: GridLayout) -> int:
        """What `backends.Backend.encode` may know of batches: 2 where cubes of this edge span less than a cell."""
        # A cell that were exactly a sample wide could be crossed by rounding.
        near = float(layout.scales.max()) < 0.999 * max(self._shape)
        whole = all(c == 2 for n, c in zip(self._shape, self._cube, strict=True) if n > 1)
        return 2 if near and whole else 1

    def signs(self, shape: torch.Size) -> torch.Tensor:
        """Random +1 and -1."""
        drawn = torch.randint(0, 2, shape, generator=self.generator, device=self.generator.device)
        return (drawn * 2.0 - 1.0).to(self._device)

    def differences(self, values: torch.Tensor) -> list[torch.Tensor]:
        """Forward differences of ``(c, n)`` per-sample values along z, y and x within each cube."""
        cubes = values.reshape(len(values), -1, *self._cube)
        return [cubes.diff(dim=axis + 2) for axis, n in enumerate(self._cube) if n > 1]
