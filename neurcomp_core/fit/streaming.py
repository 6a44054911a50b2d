"""Batches from volumes that do not fit onto the device: some bricks of them are there at a time, and take turns."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch

from neurcomp_core.fit.sampling import BlockSampler
from neurcomp_core.nets.grid import Lattice
from neurcomp_core.nets.memory import free_bytes

#: Bricks that are on the device at a time: more mix better, fewer are copied in larger parts.
_SLOTS = 16
#: Bricks that are exchanged per batch at least, and how often all of them are to be there in a training.
_RATE, _ROUNDS = 0.25, 4
#: Shares of the free memory up to which all samples live on the device, and that bricks take where they do not.
_WHOLE, _BRICKS = 0.5, 0.25


class BrickSampler(BlockSampler):
    """`BlockSampler` of a rotating set of bricks.

    All bricks are gone through in a random order, and then in another one; the oldest on the device makes room for the
    next. A cube belongs to the brick that its tile of `BlockSampler` would end in, and bricks come with the samples
    below them that cubes may begin in; a brick is drawn from as often as it has tiles, and each is there as long as any
    other. So over a round a sample is as likely as `BlockSampler` draws it, though not in each batch. What is there
    depends on the number of batches and the seed alone.

    Parameters
    ----------
    values, lattice, mask, centre, scale, edge, size, generator, device, importance
        See `BlockSampler`; `values` may be mapped from a file.
    resident : int
        Bytes on the device for samples and their weights.
    steps : int
        Batches in which every brick is to be there several times.
    """

    resident = False

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
        resident: int = 1 << 30,
        steps: int = 2500,
    ) -> None:
        shape = values.shape[:3]
        self.edge = edge
        self._cube = [min(edge, n) for n in shape]
        self._shape, self._lattice = shape, lattice
        self.generator, self._device = generator, device
        self._seed = int(torch.randint(0, 1 << 62, (1,), generator=generator))
        self._blocks = max(1, round(size / int(np.prod(self._cube))))
        offsets = np.stack(np.meshgrid(*map(np.arange, self._cube), indexing="ij"), -1).reshape(-1, 3)
        self._offsets = torch.from_numpy(offsets).to(device)
        self._values, self._mask, self._importance = values, mask, importance
        self._centre, self._scale = centre, scale
        self.balanced = importance is not None
        self._unit = _root_mean_square(importance, mask, values) if importance is not None else 1.0
        weighted = mask is not None or importance is not None
        sample = 4 * (values.shape[3] if values.ndim == 4 else 1) * (1 + weighted)
        boxes = _bricks(shape, max(resident // (_SLOTS * sample), 1), self._cube)
        self._boxes = boxes
        self._slots = min(_SLOTS, len(boxes))
        most = max(math.prod(s.stop - s.start for s in self._extended(box)) for box in boxes)
        #: Bricks exchanged per batch.
        self._rate = min(max(_RATE, _ROUNDS * len(boxes) / steps), self._slots)
        width = values.shape[3] if values.ndim == 4 else 1
        self._flat = torch.zeros(self._slots * most, width, device=device)
        self._weights = torch.zeros_like(self._flat) if weighted else None
        self._most = most
        #: Of each slot: its brick's place in the order; first sample and shape of what is there, samples before the
        #: brick itself, length of this, and whether it is the last one along an axis.
        self._held = [-1] * self._slots
        self._corners, self._lengths, self._heads, self._own, self._ends = torch.ones(5, self._slots, 3).long()
        #: Batches so far; may be set to go on elsewhere.
        self.drawn = 0

    @property
    def bricks(self) -> int:
        """Number of bricks."""
        return len(self._boxes)

    def batch(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Draw a batch; see `BlockSampler.batch`."""
        self._exchange()
        self.drawn += 1
        # Per axis, a tiling of the volume with random phase, as `BlockSampler._starts` has it.
        edges = torch.tensor(self._cube)
        phase = torch.stack([torch.randint(0, e, (), generator=self.generator) for e in self._cube])
        tiles = (self._own - 1 + phase * self._ends) // edges + 1
        slot = torch.multinomial(tiles.prod(dim=1).double(), self._blocks, replacement=True, generator=self.generator)
        corners, lengths = self._corners[slot], self._lengths[slot]
        draws = torch.rand(self._blocks, 3, generator=self.generator, dtype=torch.float64)
        starts = self._heads[slot] + (draws * tiles[slot]).long() * edges - phase
        starts = torch.minimum(starts.clamp(min=0), lengths - edges)
        slot, corners, lengths, starts = (t.to(self._device) for t in (slot, corners, lengths, starts))
        within = starts[:, None, :] + self._offsets
        row = (within[..., 0] * lengths[:, None, 1] + within[..., 1]) * lengths[:, None, 2] + within[..., 2]
        row = (row + slot[:, None] * self._most).reshape(-1)
        index = (within + corners[:, None, :]).reshape(-1, 3)
        points = torch.zeros(len(row), 3, device=self._device)
        for column, axis in enumerate(self._lattice.axes):
            points[:, column] = self._lattice.coordinates(axis, index[:, axis])
        return points, self._flat[row].t(), None if self._weights is None else self._weights[row].t()

    def _exchange(self) -> None:
        """Bring in the bricks of the turn that the next batch is of."""
        turn = int(self.drawn * self._rate) if self.bricks > self._slots else 0
        for place in range(turn, turn + self._slots):
            slot = place % self._slots
            if self._held[slot] != place:
                self._held[slot] = place
                self._load(slot, self._brick(place))

    def _brick(self, place: int) -> int:
        """The brick at a place of the endless order."""
        round_, at = divmod(place, self.bricks)
        order = torch.Generator().manual_seed((self._seed + round_) % (1 << 62))
        return int(torch.randperm(self.bricks, generator=order)[at])

    def _load(self, slot: int, brick: int) -> None:
        box = self._extended(self._boxes[brick])
        values = self._values[box]
        rows = self._normalised(values, self._centre, self._scale)
        first = slot * self._most
        self._flat[first : first + len(rows)].copy_(self._sent(rows), non_blocking=True)
        if self._weights is not None:
            weights = torch.ones_like(rows) if self._mask is None else self._weight_rows(self._mask[box], values)
            if self._importance is not None:
                own = np.ascontiguousarray(self._importance[box]).reshape(-1, 1).astype(np.float32)
                weights = weights * torch.from_numpy(own) / self._unit
            self._weights[first : first + len(rows)].copy_(self._sent(weights), non_blocking=True)
        self._corners[slot] = torch.tensor([s.start for s in box])
        self._lengths[slot] = torch.tensor([s.stop - s.start for s in box])
        own = self._boxes[brick]
        self._heads[slot] = torch.tensor([o.start - s.start for o, s in zip(own, box, strict=True)])
        self._own[slot] = torch.tensor([s.stop - s.start for s in own])
        self._ends[slot] = torch.tensor([int(s.stop == n) for s, n in zip(own, self._shape, strict=True)])

    def _extended(self, box: tuple[slice, slice, slice]) -> tuple[slice, slice, slice]:
        """A brick with the samples below it that its cubes may begin in."""
        ends = zip(box, self._cube, strict=True)
        return tuple(slice(max(s.start - c + 1, 0), s.stop) for s, c in ends)  # type: ignore[return-value]

    def _sent(self, rows: torch.Tensor) -> torch.Tensor:
        """In memory that a GPU copies from while the host goes on."""
        return rows.pin_memory() if self._device.type == "cuda" else rows


def sampler_for(
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
    resident: int | None = None,
    steps: int = 2500,
) -> BlockSampler:
    """A `BlockSampler` where all samples fit onto the device, else a `BrickSampler`.

    Parameters
    ----------
    values, lattice, mask, centre, scale, edge, size, generator, device, importance
        See `BlockSampler`.
    resident : int, optional
        Bytes that samples may take there; by default a share of what is free on a GPU, and any number on the CPU.
    steps : int
        See `BrickSampler`.
    """
    needed = 4 * values.size * (1 + (mask is not None or importance is not None))
    free = free_bytes(device)
    if resident is None and free is not None:
        resident = needed if needed <= _WHOLE * free else int(_BRICKS * free)
    if resident is None or needed <= resident:
        return BlockSampler(values, lattice, mask, centre, scale, edge, size, generator, device, importance)
    return BrickSampler(
        values, lattice, mask, centre, scale, edge, size, generator, device, importance, resident, steps
    )


def _bricks(shape: tuple[int, ...], most: int, cube: list[int]) -> list[tuple[slice, slice, slice]]:
    """Boxes of nearly equal size that tile a volume, of about `most` samples; they begin at multiples of `cube`."""
    parts = [1, 1, 1]
    while math.prod(-(-n // p) for n, p in zip(shape, parts, strict=True)) > most:
        room = [n // p if n // (p + 1) >= 2 * c else 0 for n, p, c in zip(shape, parts, cube, strict=True)]
        axis = int(np.argmax(room))
        if not room[axis]:
            break
        parts[axis] += 1
    edges = [[round(n * i / p / c) * c for i in range(p)] + [n] for n, p, c in zip(shape, parts, cube, strict=True)]
    return [
        tuple(slice(a, b) for a, b in ends)  # type: ignore[misc]
        for ends in itertools.product(*(list(itertools.pairwise(e)) for e in edges))
    ]


def _root_mean_square(importance: np.ndarray, mask: np.ndarray | None, values: np.ndarray) -> float:
    """Of the weights of all samples, plane by plane."""
    total = 0.0
    for z in range(len(values)):
        own = importance[z].astype(np.float64)
        if values.ndim == 4:
            own = np.repeat(own[..., None], values.shape[3], axis=-1)
        if mask is not None:
            data = ~mask[z]
            own = own * (data[..., None] if data.ndim < own.ndim else data)
        total += float((own * own).sum())
    return math.sqrt(total / values.size)
