"""Batches of pixels that are on the device with the rays through them: `batches.RayBank` without the host's part.

Pixels come in the bank's own order. Colours, poses and the directions through each kind of lens are sent once; a step
then sends the numbers of its pixels.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from neurcomp_core.radiance.cameras import camera_directions, pixel_centers
from neurcomp_core.radiance.places import Place
from neurcomp_core.radiance.rendering.device_rays import RayTensors
from neurcomp_core.radiance.training.batches import RayBank

# Rays that are tested at once.
_CHUNK = 1 << 20


class DeviceBatch(NamedTuple):
    """`batches.Batch` on a device; colors ``(n, 3)`` float32."""

    rays: RayTensors
    colors: torch.Tensor


class DeviceBank:
    """The pixels of a bank on a device.

    Parameters
    ----------
    bank : RayBank
        Not of a forward-facing set, whose rays are bent.
    device : torch.device or str
    """

    def __init__(self, bank: RayBank, device: torch.device | str) -> None:
        data, self._bank, self._device = bank.data, bank, torch.device(device)
        cameras = data.cameras
        kinds = list(dict.fromkeys(camera.intrinsics for camera in cameras))
        tables = [camera_directions(k, pixel_centers(k.width, k.height).reshape(-1, 2)) for k in kinds]
        self._local = torch.as_tensor(np.concatenate(tables), device=device)
        begins = np.cumsum([0, *(len(t) for t in tables)])
        self._begin = torch.tensor([begins[kinds.index(c.intrinsics)] for c in cameras], device=device)
        poses = np.stack([camera.pose for camera in cameras])
        self._turns = torch.tensor(poses[:, :3, :3], dtype=torch.float64, device=device)
        self._places = torch.tensor(poses[:, :3, 3], dtype=torch.float64, device=device)
        counts = [camera.intrinsics.width * camera.intrinsics.height for camera in cameras]
        self._starts = torch.tensor(np.cumsum([0, *counts]), device=device)
        self._colors = torch.as_tensor(bank.colors, device=device)
        self._pixels = None if bank.pixels is None else torch.as_tensor(bank.pixels.astype(np.int64), device=device)

    def batch(self, step: int, size: int, seed: int = 0) -> DeviceBatch:
        """See `RayBank.batch`."""
        return self.at(torch.as_tensor(self._bank.indices(step, size, seed), device=self._device))

    def at(self, indices: torch.Tensor) -> DeviceBatch:
        """See `RayBank.at`."""
        numbers = indices if self._pixels is None else self._pixels[indices]
        view = torch.searchsorted(self._starts, numbers, right=True) - 1
        local = self._local[self._begin[view] + numbers - self._starts[view]]
        directions = (self._turns[view] @ local[:, :, None])[:, :, 0]
        data = self._bank.data
        near, far = (torch.full_like(directions[:, 0], float(bound)) for bound in (data.near, data.far))
        colors = self._colors[indices].float()
        if self._colors.dtype == torch.uint8:
            colors /= 255
        return DeviceBatch(RayTensors(self._places[view], directions, near, far, directions), colors)

    def meets_box(self, box: np.ndarray) -> np.ndarray:
        """Whether each pixel's ray is inside a box ``(2, 3)`` between near and far, ``(n,)`` bool."""
        count, faces = len(self._bank), torch.as_tensor(np.asarray(box, np.float64), device=self._device)
        found = []
        for first in range(0, count, _CHUNK):
            rays = self.at(torch.arange(first, min(first + _CHUNK, count), device=self._device)).rays
            low, high = ((face - rays.origins) / rays.directions for face in faces)
            # Along a face 0/0 counts as inside it.
            begin = torch.minimum(low, high).nan_to_num(-torch.inf, torch.inf, -torch.inf).amax(1)
            end = torch.maximum(low, high).nan_to_num(torch.inf, torch.inf, -torch.inf).amin(1)
            found.append((torch.minimum(end, rays.far) > torch.maximum(begin, rays.near)).cpu().numpy())
        return np.concatenate(found)


def bank_at(bank: RayBank, place: Place) -> RayBank | DeviceBank:
    """A bank where steps take their batches: on the device for Triton's, unless its rays are made on the host."""
    if place.backend != "triton" or bank.data.scene == "forward-facing":
        return bank
    return DeviceBank(bank, place.device)
