"""Large arrays in tiles: one transform of the whole array, its finest levels coded tile by tile.

Each tile holds the coefficients of the finest levels that lie above its samples; what remains, the low-pass part of the
whole array with its own levels, is the root. As the transform runs across tiles, they cost few bytes; a box of samples
needs the root, the tiles it meets, and of their neighbours those within the filters' reach.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np

from neurcomp_core.field import Region
from neurcomp_core.wavelet import estimation, lifting, quantise, stream, transform
from neurcomp_core.wavelet.importance import ScaleMap
from neurcomp_core.wavelet.lanes import Lanes
from neurcomp_core.wavelet.layout import Band, Layout, Shape
from neurcomp_core.wavelet.stream import Box

#: Levels that tiles hold.
LEVELS = 3
#: A lifted sample depends on those closer than this.
_REACH = 4
#: Samples that are decoded at a time where the result is not kept.
_BLOCK = 1 << 22

Window = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Tiling:
    """Root and tiles of an array.

    Attributes
    ----------
    shape : tuple of int
        z, y, x.
    depth : int
        Levels at most; 0 for no transform and no root.
    edge : int
        Of tiles, in samples, a multiple of 8; 0 for no tiles.
    lanes, lead, ahead : int
        See `Layout`; the latter two of one box only.
    """

    shape: Shape
    depth: int
    edge: int
    lanes: int
    lead: int = 0
    ahead: int = 0

    @cached_property
    def whole(self) -> Layout:
        return Layout(self.shape, self.depth, self.lanes, lead=self.lead, ahead=0 if self.edge else self.ahead)

    @cached_property
    def levels(self) -> int:
        """Levels that tiles hold."""
        return min(LEVELS, len(self.whole.splits)) if self.edge else 0

    @cached_property
    def root(self) -> Layout | None:
        if self.edge and not self.depth:
            return None
        return replace(self.whole, first=self.levels, lanes=1) if self.edge else self.whole

    @cached_property
    def grid(self) -> tuple[int, ...]:
        """Tiles along each axis; the last takes what is left."""
        if not self.edge:
            return (0, 0, 0)
        return tuple(max((n + self.edge // 2) // self.edge, 1) for n in self.shape)

    @cached_property
    def regions(self) -> list[Region]:
        """Samples of each tile, z slowest."""
        ends = [
            [slice(i * self.edge, (i + 1) * self.edge if i + 1 < c else n) for i in range(c)]
            for n, c in zip(self.shape, self.grid, strict=True)
        ]
        return list(product(*ends)) if self.edge else []  # type: ignore[arg-type]

    def layout(self, region: Region) -> Layout:
        """Layout of a tile."""
        shape = tuple(r.stop - r.start for r in region)
        if not self.depth:
            return Layout(shape, 0, 1)  # type: ignore[arg-type]
        return Layout(shape, self.levels, 1, along=tuple(s.axes for s in self.whole.splits[: self.levels]))  # type: ignore[arg-type]

    def shifts(self, level: int) -> tuple[int, ...]:
        """How often each axis is halved below `level`."""
        return tuple(sum(i in s.axes for s in self.whole.splits[:level]) for i in range(3))

    def place(self, region: Region, band: Band) -> tuple[slice, ...]:
        """A tile's part of a subband within the whole array's."""
        shifts = self.shifts(band.level + 1)
        starts = [r.start >> s for r, s in zip(region, shifts, strict=True)]
        return tuple(slice(a, a + n) for a, n in zip(starts, band.shape, strict=True))

    def windows(self, region: Region, level: int) -> dict[int, Window]:
        """For `level` and each coarser one up to the root's, the part of its low-pass array that a region needs."""
        shifts = self.shifts(level)
        window = tuple((r.start >> s, -(-r.stop >> s)) for r, s in zip(region, shifts, strict=True))
        found = {level: window}
        for k in range(level, self.levels):
            split = self.whole.splits[k]
            window = tuple(
                (max(a - _REACH, 0) // 2, (min(b + _REACH, n) + 1) // 2) if i in split.axes else (a, b)
                for i, ((a, b), n) in enumerate(zip(window, split.shape, strict=True))
            )
            found[k + 1] = window
        return found

    def needed(self, windows: dict[int, Window]) -> dict[int, int]:
        """Tiles that `windows` meet, by number, with the finest level that is needed of each."""
        found: dict[int, int] = {}
        for level in sorted(k for k in windows if k + 1 in windows):
            spans = []
            for (a, b), s, c in zip(windows[level + 1], self.shifts(level + 1), self.grid, strict=True):
                spans.append(range(min((a << s) // self.edge, c - 1), min(((b << s) - 1) // self.edge, c - 1) + 1))
            for z, y, x in product(*spans):
                found.setdefault((z * self.grid[1] + y) * self.grid[2] + x, level)
        return found

    def blocks(self) -> Iterator[Region]:
        """Boxes that cover the array, one after the other, each a run of whole tiles; all of it if there are none."""
        if not self.edge:
            yield tuple(slice(0, n) for n in self.shape)  # type: ignore[misc]
            return
        layers, rows, columns = self.grid
        tile = math.prod(min(self.edge, n) for n in self.shape)
        run = min(max(_BLOCK // tile, 1), columns)
        for z, y in product(range(layers), range(rows)):
            first = (z * rows + y) * columns
            for x in range(0, columns, run):
                low, high = self.regions[first + x], self.regions[first + min(x + run, columns) - 1]
                yield tuple(slice(a.start, b.stop) for a, b in zip(low, high, strict=True))  # type: ignore[misc]


def inside(region: Region, box: Region) -> tuple[Region, Region] | None:
    """Where two boxes meet, counted from the corner of each; None if they do not."""
    meet = [(max(r.start, b.start), min(r.stop, b.stop)) for r, b in zip(region, box, strict=True)]
    if any(a >= b for a, b in meet):
        return None
    mine = tuple(slice(a - r.start, b - r.start) for (a, b), r in zip(meet, region, strict=True))
    other = tuple(slice(a - r.start, b - r.start) for (a, b), r in zip(meet, box, strict=True))
    return mine, other  # type: ignore[return-value]


# ------------------------------------------------------------------------------------------------------------ analysis


class Pyramid:
    """Coefficients of an array, those of the finest level made when they are asked for.

    Parameters
    ----------
    samples : callable
        From a box to floats ``(z, y, x, c)`` around zero, in an array of their own.
    """

    def __init__(self, samples: Callable[[Region], np.ndarray], components: int, tiling: Tiling, lanes: Lanes) -> None:
        self.samples, self.tiling = samples, tiling
        whole = tiling.whole
        self._low: list[np.ndarray] = []
        if not tiling.edge:
            self._low = transform.analyse(samples(tuple(slice(0, n) for n in tiling.shape)), whole, lanes)  # type: ignore[arg-type]
        elif tiling.levels:
            low = whole.splits[0].low
            first = self._window(tiling.regions[0], Lanes(1))[0]
            self._low = [np.empty(low, first.dtype) for _ in range(components)]

            def work(region: Region) -> None:
                shifts = tiling.shifts(1)
                place = tuple(slice(r.start >> s, -(-r.stop >> s)) for r, s in zip(region, shifts, strict=True))
                for part, out in zip(self._window(region, Lanes(1)), self._low, strict=True):
                    out[place] = part[tuple(slice(0, p.stop - p.start) for p in place)]

            lanes.each(work, tiling.regions)
            for out in self._low:
                lifting.forward(out, Layout(low, tiling.depth - 1, 1), lanes)

    def root(self) -> list[np.ndarray]:
        """Of each component an array that the root's subbands are boxes of."""
        return self._low

    def tile(self, region: Region) -> list[np.ndarray]:
        """Of each component an array that the subbands of a tile's layout are boxes of."""
        tiling = self.tiling
        if not tiling.levels:
            values = self.samples(region)
            return [np.ascontiguousarray(values[..., c]) for c in range(values.shape[3])]
        layout = tiling.layout(region)
        found = self._window(region, Lanes(1))
        for part, low in zip(found, self._low, strict=True):
            for band in layout.bands:
                if band.level:
                    split = tiling.whole.splits[band.level]
                    place = tiling.place(region, band)
                    part[band.box] = low[
                        tuple(
                            slice(p.start + split.low[i], p.stop + split.low[i]) if band.orient >> i & 1 else p
                            for i, p in enumerate(place)
                        )
                    ]
        return found

    def _window(self, region: Region, lanes: Lanes) -> list[np.ndarray]:
        """A tile, one level transformed, its low-pass part not further."""
        split = self.tiling.whole.splits[0]
        reach = tuple(
            slice(max(r.start - _REACH, 0), min(r.stop + _REACH, n)) if i in split.axes else r
            for i, (r, n) in enumerate(zip(region, split.shape, strict=True))
        )
        samples = self.samples(reach)  # type: ignore[arg-type]
        found = []
        for component in range(samples.shape[3]):
            part = np.ascontiguousarray(samples[..., component])
            for axis in split.axes:
                lifting.along(part, axis, False, lanes)
            out = part
            for axis in split.axes:
                r, w = region[axis], reach[axis]
                half = (w.stop - w.start + 1) // 2
                first, count = (r.start - w.start) // 2, r.stop - r.start
                low = np.arange(first, first + (count + 1) // 2)
                out = np.take(out, np.concatenate([low, half + low[: count // 2]]), axis)
            found.append(np.ascontiguousarray(out))
        return found


# ----------------------------------------------------------------------------------------------------------- synthesis


class Synthesis:
    """Values of boxes of an array from its quantised coefficients.

    Parameters
    ----------
    tile : callable
        From tile numbers, each with the finest level that is needed of it, to their boxes.
    scales : ScaleMap, optional
        What coefficients were multiplied by.
    """

    def __init__(
        self, tiling: Tiling, root: Box | None, tile: Callable[[dict[int, int]], dict[int, Box]], step: float,
        dtype: type, lanes: Lanes, scales: ScaleMap | None = None,
    ) -> None:  # fmt: skip
        self.tiling, self.tile, self.step, self.dtype, self.lanes = tiling, tile, step, dtype, lanes
        self.scales = scales
        self.box = root
        self._root: np.ndarray | None = None

    def values(self, region: Region, level: int = 0) -> np.ndarray:
        """Floats ``(z, y, x, c)`` of a region, whose corner must be a multiple of ``2**level``."""
        tiling = self.tiling
        if self.box is not None and (not tiling.edge or level >= tiling.levels):
            whole = transform.synthesise(self.box, self.step, self.dtype, self.lanes, level, True, self.scales)
            return whole[tuple(slice(*w) for w in tiling.windows(region, level)[level])]
        if not tiling.depth:
            return self._plain(region)
        windows = tiling.windows(region, level)
        if self._root is None:
            assert self.box is not None
            self._root = transform.synthesise(
                self.box, self.step, self.dtype, self.lanes, tiling.levels, False, self.scales
            )
        boxes = self.tile(tiling.needed(windows))
        components = self._root.shape[3]
        out = []
        for c in range(components):
            low = self._root[..., c][tuple(slice(*w) for w in windows[tiling.levels])]
            for k in range(tiling.levels - 1, level - 1, -1):
                low = self._finer(low, windows[k], windows[k + 1], k, c, boxes)
            out.append(low)
        values = np.stack(out, axis=3)
        if level:
            values *= self.dtype(math.sqrt(0.5) ** sum(tiling.shifts(level)))
        return values

    def _finer(
        self, low: np.ndarray, window: Window, coarse: Window, level: int, component: int, boxes: dict[int, Box]
    ) -> np.ndarray:
        """The low-pass array of one level less, in `window`, from the one in `coarse` and the details."""
        tiling = self.tiling
        split = tiling.whole.splits[level]
        # The details of the samples that lie over `coarse`.
        ends = [(2 * a, min(2 * b, n)) if i in split.axes else (a, b) for i, ((a, b), n) in
                enumerate(zip(coarse, split.shape, strict=True))]  # fmt: skip
        work = np.empty([b - a for a, b in ends], self.dtype)
        half = [b - a for a, b in coarse]
        work[tuple(slice(0, n) for n in half)] = low
        jobs = []
        for number, box in boxes.items():
            layout, region = box.layout, tiling.regions[number]
            for band in layout.bands:
                if band.level != level:
                    continue
                place = tiling.place(region, band)
                want = tuple(
                    slice(a, min(b, n - (n + 1) // 2) if band.orient >> i & 1 else b)
                    for i, ((a, b), n) in enumerate(zip(coarse, split.shape, strict=True))
                )
                meet = inside(place, want)  # type: ignore[arg-type]
                if meet:
                    mine, target = meet
                    target = tuple(
                        slice(t.start + half[i], t.stop + half[i]) if band.orient >> i & 1 else t
                        for i, t in enumerate(target)
                    )
                    jobs.append((place, (box, component, band, self.step, mine, work[target])))

        def restored(job: tuple) -> None:
            place, what = job
            _restore(*what)
            if self.scales:
                _, _, band, _, mine, out = what
                at = [slice(p.start + m.start, p.start + m.stop) for p, m in zip(place, mine, strict=True)]
                self.scales.divide(out, band, at)

        self.lanes.each(restored, jobs)
        for axis in reversed(split.axes):
            lifting.along(work, axis, True, self.lanes)
        return work[tuple(slice(a - e[0], b - e[0]) for (a, b), e in zip(window, ends, strict=True))]

    def _plain(self, region: Region) -> np.ndarray:
        """Samples that were quantised as they are."""
        tiling = self.tiling
        numbers = {i: 0 for i, r in enumerate(tiling.regions) if inside(r, region)}
        boxes = self.tile(numbers)
        components = next(iter(boxes.values())).components
        out = np.empty((*(r.stop - r.start for r in region), components), self.dtype)
        for number, box in boxes.items():
            meet = inside(tiling.regions[number], region)
            assert meet
            for c in range(components):
                _restore(box, c, box.layout.bands[0], self.step, meet[0], out[(*meet[1], c)])
        return out


def _restore(box: Box, component: int, band: Band, step: float, part: Sequence[slice], out: np.ndarray) -> None:
    """Coefficients of a part of a subband of a tile."""
    layout = box.layout
    scaled = step / lifting.norm(layout, band)
    centers = box.centers[stream.group_of(layout, band.level)][component]
    estimator = box.estimators.get((component, band.level, band.orient))
    if estimator:
        corner = tuple(p.start for p in part)
        estimation.apply(box.q, layout, band, 0, component, estimator, centers, scaled, out, corner)
    else:
        (view,) = layout.views(box.buffer(component), band)
        quantise.restore(view[tuple(part)], scaled, centers, out)
