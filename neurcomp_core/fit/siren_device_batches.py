"""Batches of `siren_batches.Batches` on a device: the whole field lies there, and is drawn from there."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from neurcomp_core.fit.siren_batches import ORDERED, Batches
from neurcomp_core.nets.memory import free_bytes
from neurcomp_core.nets.siren import axis_coordinates, axis_scales
from neurcomp_core.nets.siren_flat import Places
from neurcomp_core.nets.siren_model import varying


class DeviceBatches:
    """Indices, values and weights as engines take them; every sample once a pass, as in `Batches`.

    Parameters
    ----------
    batches : Batches
        Of the field, in NumPy.
    device : torch.device
    seed : int
    """

    def __init__(self, batches: Batches, device: torch.device, seed: int) -> None:
        self.device, self.size, self.count, self.shape = device, batches.size, batches.count, batches.shape
        self._inputs = varying(self.shape)
        axes = axis_coordinates(self.shape)
        self.places = Places.of([axes[a] for a in self._inputs], device)
        #: Where the field lies: on the device, if there is room; else batches are copied.
        self.home = device if _fits(batches, device) else torch.device("cpu")
        self._values = torch.from_numpy(batches.values).to(self.home)
        self._valid = (
            None if batches.valid is None else torch.from_numpy(batches.valid.astype(np.float32)).to(self.home)
        )
        squares = batches.squares
        self._squares = None if squares is None else torch.from_numpy(squares)[:, None].to(self.home)
        self._among = None if batches.among is None else torch.from_numpy(batches.among).to(self.home)
        self._generator = torch.Generator(self.home).manual_seed(seed)
        self._order = torch.empty(0, dtype=torch.int64, device=self.home)
        self._at = 0
        self._before = self._generator.get_state()

    @property
    def weighted(self) -> bool:
        """Whether samples have weights of their own."""
        return self._valid is not None or self._squares is not None

    def indices(self) -> torch.Tensor:
        """Flat indices of the next batch, ``(size,)``, where the field lies."""
        if self.count > ORDERED:
            self._before = self._generator.get_state()
            drawn = torch.randint(self.count, (self.size,), generator=self._generator, device=self.home)
        else:
            parts, missing = [], self.size
            while missing:
                if self._at == len(self._order):
                    self._renew()
                parts.append(self._order[self._at : self._at + missing])
                self._at += len(parts[-1])
                missing -= len(parts[-1])
            drawn = parts[0] if len(parts) == 1 else torch.cat(parts)
        return drawn if self._among is None else self._among[drawn]

    def _renew(self) -> None:
        self._before = self._generator.get_state()
        self._order = torch.randperm(self.count, generator=self._generator, device=self.home)
        self._at = 0

    def values(self, index: torch.Tensor) -> torch.Tensor:
        """Normalised values ``(n, c)`` of flat indices, on the device."""
        return self._values[index.to(self.home)].to(self.device, non_blocking=True)

    def shares(self, index: torch.Tensor) -> torch.Tensor:
        """Weights ``(n, c)`` that sum to 1 over samples that are data, on the device."""
        index = index.to(self.home)
        found = torch.ones_like(self._values[index]) if self._valid is None else self._valid[index]
        if self._squares is not None:
            found = found * self._squares[index]
        return (found / found.sum().clamp_min(1.0)).to(self.device, non_blocking=True)

    def slopes(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The field's gradients and their weights, as `Batches.slopes` has them, on the device."""
        index = index.to(self.home)
        found = self._differences(self._values, index)
        weights = torch.ones(found.shape[:2], device=self.home)
        if self._valid is not None:
            holes = torch.where(self._valid > 0, 0.0, torch.nan)
            weights *= self._valid[index] * torch.isfinite(self._differences(holes, index)).all(dim=2)
        weights /= weights.sum().clamp_min(1.0)
        return found.to(self.device), weights.to(self.device)

    def _differences(self, values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """See `siren_gradients.differences`."""
        strides = (self.shape[1] * self.shape[2], self.shape[2], 1)
        scales = axis_scales(self.shape)
        columns = []
        for axis in self._inputs:
            place = index // strides[axis] % self.shape[axis]
            up, down = (place < self.shape[axis] - 1).long(), (place > 0).long()
            spacing = 2 * float(scales[axis]) / max(self.shape[axis] - 1, 1) * (up + down)
            change = values[index + up * strides[axis]] - values[index - down * strides[axis]]
            columns.append(change / spacing[:, None])
        return torch.stack(columns, dim=2)

    def state(self) -> dict[str, np.ndarray]:
        """Where the drawing is, as arrays."""
        drawn = self._before if self.count <= ORDERED else self._generator.get_state()
        return {"rng": drawn.numpy(), "at": np.array(self._at)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Inverse of `state`."""
        self._generator.set_state(torch.from_numpy(np.array(state["rng"], np.uint8)))
        at = int(state["at"])
        if self.count <= ORDERED and at:
            self._renew()
            if at > len(self._order):
                raise ValueError(f"sample {at} of {len(self._order)}")
            self._at = at


def _fits(batches: Batches, device: torch.device) -> bool:
    """Whether there is room on a device for a field, its weights and an order of its samples."""
    free = free_bytes(device)
    if free is None:
        return True
    per_sample = batches.values.shape[1] * (4 if batches.valid is None else 8) + 4 * (batches.squares is not None)
    order = 16 * min(batches.count, ORDERED) + 8 * (0 if batches.among is None else batches.count)
    return len(batches.values) * per_sample + order < free
