"""Batches of pixels of a training set with the rays through them, the same for the same seed and step.

Colours are kept as bytes and rays are made when a batch is asked for: 100 pictures of 800 x 800 take 192 MB, not the
3 GB of their rays. Pixels come in a new random order every epoch. The order is not stored: a Feistel network (Luby &
Rackoff, SIAM J. Comput. 1988) permutes pixel numbers, so any step's batch is found without those before it and a run
that is resumed goes on with the very batches it would have had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.radiance.cameras import Intrinsics, camera_directions, ndc_rays
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.images import to_uint8
from neurcomp_core.radiance.places import Place
from neurcomp_core.radiance.rendering.frames import Rays

_CHUNK = 1 << 17
_ROUNDS = 4


@dataclass(frozen=True, eq=False)
class Batch:
    """Some pixels of a training set.

    Attributes
    ----------
    rays : Rays
        Of a forward-facing set in normalised device coordinates, see `PosedImages.rays`.
    colors : ndarray ``(n, 3)`` float32
        From 0 to 1, over the set's background.
    alpha : ndarray ``(n,)`` float32 or None
        Opacity, if the bank keeps it; over another background b the colour is
        ``colors + (1 - alpha)[:, None] * (b - data.background)``.
    """

    rays: Rays
    colors: np.ndarray
    alpha: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.colors)


@dataclass(frozen=True, eq=False)
class RayBank:
    """The pixels to train on.

    Attributes
    ----------
    data : PosedImages
        Whose cameras the rays come from; its images are not looked at again.
    colors : ndarray ``(n, 3)`` uint8 or float
        Over the set's background; bytes stand for 0 to 1.
    alpha : ndarray ``(n,)`` of the same type, optional
    pixels : ndarray ``(n,)`` of unsigned integers, optional
        Their numbers among all pixels of all views, row by row; None if all are there.
    missed : float
        Of the pixels that were left out, the sum of squared differences from the background, averaged over channels:
        what they add to the error of any field that they do not meet.
    """

    data: PosedImages
    colors: np.ndarray
    alpha: np.ndarray | None = None
    pixels: np.ndarray | None = None
    missed: float = 0.0

    @classmethod
    def of(
        cls, data: PosedImages, dtype: type = np.uint8, *, alpha: bool = False, box: np.ndarray | None = None
    ) -> RayBank:
        """All pixels of a set, read once.

        Parameters
        ----------
        data : PosedImages
        dtype : type
            To keep colours in: uint8 (rounding alone leaves 58.9 dB), or float16, float32.
        alpha : bool
            Whether to keep opacities, too.
        box : ndarray ``(2, 3)``, optional
            Leave out the rays that do not meet it: with a known background and nothing outside the box they have no
            gradient. See `meeting` for how their error is kept.
        """
        total = sum(w * h for w, h in data.images.sizes)
        colors = np.empty((total, 3), dtype)
        opacity = np.empty(total, dtype) if alpha else None
        first = 0
        for view in range(len(data)):
            image = data.colors(view)
            last = first + image.shape[0] * image.shape[1]
            colors[first:last] = _stored(image, dtype).reshape(-1, 3)
            if opacity is not None:
                opacity[first:last] = _stored(data.opacity(view), dtype).reshape(-1)
            first = last
        bank = cls(data, colors, opacity)
        return bank if box is None else bank.meeting(lambda rays: meets_box(rays, box))

    def __len__(self) -> int:
        return len(self.colors)

    @property
    def total(self) -> int:
        """Pixels of the set, those left out included."""
        return int(self._starts[-1])

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum([0, *(w * h for w, h in self.data.images.sizes)])

    @cached_property
    def _cameras(self) -> _Cameras:
        return _Cameras.of(self.data)

    def meeting(self, meets: Callable[[Rays], np.ndarray]) -> RayBank:
        """The pixels whose rays ``meets(rays)`` is true of, ``(n,)`` bool; asked chunk by chunk.

        For a field that the others do not meet: what is seen along them is the background, whatever is learnt.

        Raises
        ------
        InputError
            If none is left.
        """
        return self.keeping(np.concatenate([meets(self.rays(some)) for some in self._chunks()]))

    def keeping(self, kept: np.ndarray) -> RayBank:
        """The pixels that ``kept (n,)`` bool holds of; see `meeting`.

        Raises
        ------
        InputError
            If there is none.
        """
        if not kept.any():
            raise InputError("no ray meets the box; expected the cameras to look at it: check the box and the poses")
        if kept.all():
            return self
        behind = np.asarray(self.data.background, np.float32)
        missed = self.missed
        for some in self._chunks():
            gone = some[~kept[some]]
            missed += float(((_as_float(self.colors[gone]) - behind) ** 2).mean(1).sum(dtype=np.float64))
        numbers = np.flatnonzero(kept)
        pixels = self._numbers(numbers).astype(np.uint32 if self.total < 2**32 else np.int64)
        alpha = None if self.alpha is None else self.alpha[numbers]
        return RayBank(self.data, self.colors[numbers], alpha, pixels, missed)

    def whole_error(self, error: float) -> float:
        """Mean squared error over all pixels of the set, from that over pixels which are in the bank."""
        return (error * len(self) + self.missed) / self.total

    # ........................................................................................................ batches

    def batch(self, step: int, size: int, seed: int = 0) -> Batch:
        """Batch number `step` of `size` pixels; every pixel comes once per epoch, in an order that seed and epoch set.

        Batches cross the borders of epochs.
        """
        return self.at(self.indices(step, size, seed))

    def indices(self, step: int, size: int, seed: int = 0) -> np.ndarray:
        """``(size,)`` int64 numbers, below ``len(self)``, of the pixels of a batch."""
        if step < 0 or size < 1:
            raise InputError(f"batch: expected a step of at least 0 and a size of at least 1, got {step} and {size}")
        epoch, place = np.divmod(step * size + np.arange(size, dtype=np.int64), len(self))
        found = np.empty(size, np.int64)
        for e in range(int(epoch[0]), int(epoch[-1]) + 1):
            here = epoch == e
            found[here] = permuted(place[here], len(self), (seed, e))
        return found

    def at(self, indices: np.ndarray) -> Batch:
        """The pixels of the bank with these numbers ``(n,)``."""
        alpha = None if self.alpha is None else _as_float(self.alpha[indices])
        return Batch(self.rays(indices), _as_float(self.colors[indices]), alpha)

    def rays(self, indices: np.ndarray) -> Rays:
        """The rays through pixels of the bank, as `views.view_rays` has them."""
        cameras, numbers = self._cameras, self._numbers(indices)
        view = np.searchsorted(self._starts, numbers, "right") - 1
        v, u = np.divmod(numbers - self._starts[view], cameras.widths[view])
        pixels = np.stack([u, v], 1) + 0.5
        local = np.empty((len(numbers), 3))
        for group, intrinsics in enumerate(cameras.intrinsics):
            here = cameras.groups[view] == group if len(cameras.intrinsics) > 1 else slice(None)
            if len(pixels[here]):
                local[here] = camera_directions(intrinsics, pixels[here])
        directions = np.einsum("nij,nj->ni", cameras.rotations[view], local)
        origins = cameras.positions[view]
        if self.data.scene != "forward-facing":
            return Rays(origins, directions, self.data.near, self.data.far, directions)
        start, along = np.empty_like(origins), np.empty_like(origins)
        for group, intrinsics in enumerate(cameras.intrinsics):
            here = cameras.groups[view] == group
            start[here], along[here] = ndc_rays(origins[here], directions[here], intrinsics, self.data.ndc_near)
        return Rays(start, along, 0.0, 1.0, directions)

    def chunks(self, size: int = _CHUNK) -> Iterator[Batch]:
        """All pixels in their stored order, `size` at a time."""
        return (self.at(some) for some in self._chunks(size))

    def _chunks(self, size: int = _CHUNK) -> Iterator[np.ndarray]:
        return (np.arange(a, min(a + size, len(self))) for a in range(0, len(self), size))

    def _numbers(self, indices: np.ndarray) -> np.ndarray:
        return indices if self.pixels is None else self.pixels[indices].astype(np.int64)


@dataclass(frozen=True, eq=False)
class _Cameras:
    """Poses and intrinsics of a set's views as arrays; views that share intrinsics are one group."""

    intrinsics: tuple[Intrinsics, ...]
    groups: np.ndarray
    widths: np.ndarray
    rotations: np.ndarray
    positions: np.ndarray

    @classmethod
    def of(cls, data: PosedImages) -> _Cameras:
        numbers: dict[Intrinsics, int] = {}
        groups = [numbers.setdefault(camera.intrinsics, len(numbers)) for camera in data.cameras]
        poses = np.stack([camera.pose for camera in data.cameras])
        widths = np.array([w for w, _ in data.images.sizes])
        return cls(tuple(numbers), np.array(groups), widths, poses[:, :3, :3], poses[:, :3, 3])


def bank_in(data: PosedImages, box: np.ndarray, place: Place) -> RayBank:
    """``RayBank.of(data, box=box)``; which rays meet the box is found on the device of a place that is not the host."""
    if place.host or data.scene == "forward-facing":
        return RayBank.of(data, box=box)
    from neurcomp_core.radiance.training.device_batches import DeviceBank

    bank = RayBank.of(data)
    return bank.keeping(DeviceBank(bank, place.device).meets_box(box))


def meets_box(rays: Rays, box: np.ndarray) -> np.ndarray:
    """``(n,)`` bool: whether a ray is inside a box ``(2, 3)`` somewhere between near and far."""
    with np.errstate(divide="ignore", invalid="ignore"):
        first, last = (box[0] - rays.origins) / rays.directions, (box[1] - rays.origins) / rays.directions
    # Along a face 0/0 counts as inside it.
    begin = np.nan_to_num(np.minimum(first, last), nan=-np.inf, posinf=np.inf, neginf=-np.inf).max(1)
    end = np.nan_to_num(np.maximum(first, last), nan=np.inf, posinf=np.inf, neginf=-np.inf).min(1)
    return np.minimum(end, rays.far) > np.maximum(begin, rays.near)


def permuted(places: np.ndarray, count: int, key: tuple[int, ...]) -> np.ndarray:
    """Where a permutation of ``range(count)``, chosen by non-negative `key`, sends `places` ``(n,)``."""
    half = max(1, -(-(count - 1).bit_length() // 2))
    mask = np.uint64((1 << half) - 1)
    keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)
    x = places.astype(np.uint64)
    outside = np.arange(len(x))
    # The network permutes a power of four; what lands beyond `count` goes round again until it is within.
    while len(outside):
        high, low = x[outside] >> np.uint64(half), x[outside] & mask
        for k in keys:
            high, low = low, high ^ (_mixed(low + k) & mask)
        x[outside] = (high << np.uint64(half)) | low
        outside = outside[x[outside] >= count]
    return x.astype(np.int64)


def _mixed(x: np.ndarray) -> np.ndarray:
    """Every bit of the result depends on every bit of `x`: the finaliser of SplitMix64 (Steele et al., 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _stored(values: np.ndarray, dtype: type) -> np.ndarray:
    return to_uint8(values) if dtype is np.uint8 else values.astype(dtype)


def _as_float(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32) / np.float32(255) if values.dtype == np.uint8 else values.astype(np.float32)
