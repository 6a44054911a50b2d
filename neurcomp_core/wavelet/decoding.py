"""From a stream to values: all of them, a box, a coarser level, or box after box."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import FormatError
from neurcomp_core.field import Region
from neurcomp_core.wavelet import stream, transform
from neurcomp_core.wavelet.importance import read
from neurcomp_core.wavelet.lanes import Lanes
from neurcomp_core.wavelet.layout import Layout
from neurcomp_core.wavelet.record import Index, WaveletRecord, corrections_layout
from neurcomp_core.wavelet.scaling import corrected
from neurcomp_core.wavelet.stream import Box
from neurcomp_core.wavelet.tiles import Synthesis, inside

#: Quantised coefficients are kept in as few bytes as they need where there are more than this many.
_NARROW = 1 << 25


class Cache:
    """Boxes of tiles by number, made side by side when they are asked for and forgotten once passed.

    Parameters
    ----------
    make : callable
        From a tile's number and the finest level that is needed of it to its box.
    again : bool
        Whether tiles will be asked for again, at levels that are finer.
    samples : int
        Of the array.
    """

    def __init__(self, make: Callable[[int, int], Box], lanes: Lanes, again: bool, samples: int) -> None:
        self._make, self._lanes, self._again, self._narrow = make, lanes, again, samples > _NARROW
        self._kept: dict[int, Box] = {}

    def __call__(self, wanted: dict[int, int]) -> dict[int, Box]:
        # Boxes are visited z slowest, so what lies before all that is wanted is not wanted again.
        first = min(wanted, default=0)
        self._kept = {i: box for i, box in self._kept.items() if i >= first}
        missing = [(i, 0 if self._again else level) for i, level in wanted.items() if i not in self._kept]
        boxes = self._lanes.each(lambda item: self._fresh(*item), missing)
        self._kept.update({i: box for (i, _), box in zip(missing, boxes, strict=True)})
        return {i: self._kept[i] for i in wanted}

    def _fresh(self, number: int, level: int) -> Box:
        box = self._make(number, level)
        box.learned = ()
        if self._narrow:
            largest = max(int(box.q.max()), -int(box.q.min()))
            box.q = box.q.astype(np.int8 if largest < 1 << 7 else np.int16 if largest < 1 << 15 else np.int32)
        return box


class Decoder:
    """An open stream.

    Raises
    ------
    FormatError
        Here or later, if it is not what the encoder writes.
    """

    def __init__(self, record: WaveletRecord, sections: Sequence[bytes], spec: ArraySpec, lanes: Lanes) -> None:
        self.record, self.sections, self.spec, self.lanes = record, sections, spec, lanes
        self.tiling = record.tiling(spec)
        self.count = len(sections) - bool(record.blocks)
        self.scales = read(sections[self.count], record.blocks, self.tiling.whole) if record.blocks else None
        self.components = spec.shape[3] if len(spec.shape) == 4 else 1
        index = Index(record, self.tiling)
        self.tiles = index.tiles(len(sections))
        self._root_sections = index.root
        self._key: Box | None = None
        if self.tiles and record.key >= len(self.tiles):
            raise FormatError(f"wavelet: tile {record.key} is the key of {len(self.tiles)} tiles")

    def blocks(self) -> Iterator[tuple[Region, np.ndarray]]:
        """All values ``(z, y, x, c)``, box after box."""
        synthesis = self._synthesis(0, True)
        for region in self.tiling.blocks():
            yield region, self._finished(synthesis, region)

    def region(self, region: Region, level: int) -> np.ndarray:
        """Every ``2**level``-th sample of a region, or what a low-pass filter leaves there."""
        step = 2**level
        if level and self._aligned(region, level):
            values = self._synthesis(level, False).values(region, level)
            return self.record.scaling(self.spec.dtype).values(values)
        if step == 1 or not self.tiling.edge:
            found = self._finished(self._synthesis(0, False), region)
            return found[tuple(slice(None, None, step) for _ in region)]
        # Single samples of the finest level lie in all tiles: one after the other.
        out = np.empty((*(-(-(r.stop - r.start) // step) for r in region), self.components), self.spec.dtype)
        synthesis = self._synthesis(0, True)
        for tile in self.tiling.blocks():
            first = tuple(
                slice(r.start + max(-(-(b.start - r.start) // step), 0) * step, min(r.stop, b.stop))
                for r, b in zip(region, tile, strict=True)
            )
            if all(f.start < f.stop for f in first):
                part = self._finished(synthesis, first)[tuple(slice(None, None, step) for _ in first)]  # type: ignore[arg-type]
                at = [(f.start - r.start) // step for f, r in zip(first, region, strict=True)]
                out[tuple(slice(a, a + n) for a, n in zip(at, part.shape, strict=False))] = part
        return out

    def _synthesis(self, level: int, again: bool) -> Synthesis:
        root, layout = None, self.tiling.root
        if layout is not None:
            wanted = len(self._root_sections) - 1
            if level and not self.tiling.edge:
                wanted = stream.group_of(layout, level)
            sections = [self.sections[i] for i in self._root_sections[: wanted + 1]]
            root = stream.decode(sections, layout, self.components, transform.weight_bits(layout), wanted, self.lanes)
        cache = Cache(self._tile, self.lanes, again, int(np.prod(self.spec.shape)))
        if self.tiles and not (self.tiling.depth and level >= self.tiling.levels):
            self._load_key()
        return Synthesis(self.tiling, root, cache, self.record.step, self.record.dtype, self.lanes, self.scales)

    def _load_key(self) -> None:
        """The key tile, of which nothing but what it teaches is kept."""
        if self._key is None:
            self._key = self._decoded(self.record.key, 0, None)
            self._key.q = np.zeros(0, np.int32)

    def _tile(self, number: int, level: int) -> Box:
        return self._decoded(number, level, None if number == self.record.key else self._key)

    def _decoded(self, number: int, level: int, key: Box | None) -> Box:
        layout = self.tiling.layout(self.tiling.regions[number])
        wanted = stream.group_of(layout, level)
        sections = [self.sections[i] for i in self.tiles[number][: wanted + 1]]
        bits = transform.weight_bits(layout)
        return stream.decode(sections, layout, self.components, bits, wanted, Lanes(1), key)

    def _finished(self, synthesis: Synthesis, region: Region) -> np.ndarray:
        """Values with corrections."""
        values = self.record.scaling(self.spec.dtype).values(synthesis.values(region))
        if not self.record.quantum:
            return values
        whole: Region = tuple(slice(0, n) for n in self.spec.shape[:3])  # type: ignore[assignment]
        places = self.tiling.regions or [whole]

        def work(number: int) -> None:
            meet = inside(places[number], region)
            if meet:
                last = self.tiles[number][-1] if self.tiles else self.count - 1
                shape = tuple(r.stop - r.start for r in places[number])
                lanes = Lanes(1) if self.tiles else self.lanes
                amounts = corrections_of(self.sections[last], self.record, shape, self.components, lanes)
                corrected(values[meet[1]], amounts[meet[0]], self.record.quantum)

        if self.tiles:
            self.lanes.each(work, range(len(places)))
        else:
            work(0)
        return values

    def _aligned(self, region: Region, level: int) -> bool:
        """Whether the low-pass array has samples where the region wants them."""
        shifts = self.tiling.shifts(level)
        return level <= len(self.tiling.whole.splits) and all(
            n == 1 or (s == level and r.start % 2**level == 0)
            for n, r, s in zip(self.tiling.shape, region, shifts, strict=True)
        )


def corrections_of(
    section: bytes, record: WaveletRecord, shape: tuple[int, ...], components: int, lanes: Lanes
) -> np.ndarray:
    """Amounts ``(z, y, x, c)`` of the corrections of a box."""
    layout = corrections_layout(record, shape)
    box = stream.decode([section], layout, components, transform.weight_bits(layout), 0, lanes)
    out = np.empty((*shape, components), np.int32)
    for c in range(components):
        _copy(layout, box, c, out[..., c], True)
    return out


def coded_corrections(amounts: np.ndarray, record: WaveletRecord, lanes: Lanes) -> bytes:
    """Inverse of `corrections_of`."""
    layout = corrections_layout(record, amounts.shape)
    box = Box(layout, amounts.shape[3], np.zeros(amounts.shape[3] * layout.size, np.int32))
    box.centers = [np.zeros((box.components, 4))]
    for c in range(box.components):
        _copy(layout, box, c, amounts[..., c], False)
    return stream.encode(box, lanes)[0]


def _copy(layout: Layout, box: Box, component: int, values: np.ndarray, out: bool) -> None:
    (band,) = layout.bands
    views = layout.views(box.buffer(component), band)
    for block, view in zip(layout.blocks[band.level, band.orient], views, strict=True):
        part = values[block.first : block.first + block.shape[0]]
        if out:
            part[...] = view
        else:
            view[...] = part
