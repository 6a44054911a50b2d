"""An array under one transform: what error a step leaves, and the stream of a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from neurcomp_core import metrics
from neurcomp_core.codec import Encoded
from neurcomp_core.coding import wire
from neurcomp_core.errors import TargetError
from neurcomp_core.field import Region
from neurcomp_core.target import Bytes, MaxError, Psnr
from neurcomp_core.wavelet import importance, stream, transform
from neurcomp_core.wavelet.choice import PART, choose, rate
from neurcomp_core.wavelet.decoding import Cache, coded_corrections
from neurcomp_core.wavelet.importance import ScaleMap
from neurcomp_core.wavelet.lanes import Lanes
from neurcomp_core.wavelet.layout import Band, Layout
from neurcomp_core.wavelet.record import WaveletRecord
from neurcomp_core.wavelet.run import FAR, Run
from neurcomp_core.wavelet.scaling import corrected, difference, exponent
from neurcomp_core.wavelet.stream import Box
from neurcomp_core.wavelet.tiles import Pyramid, Synthesis

#: A lane for so many samples, at most `_LANES`.
_LANE_SAMPLES, _LANES = 1 << 19, 4
#: No coefficient may have more steps; a few more must be left for rounding.
LARGEST = 2.0**31 - 256
#: The dB that a transform is chosen for if the target says none.
_QUALITY = 50.0
#: Tiles that estimates look at, about.
_FEW = 16
#: Samples of which errors are taken at a time.
_PLANES = 1 << 21
#: Stands for the root where tiles have numbers.
_ROOT = -1


class Way:
    """An array under one transform, or none."""

    def __init__(self, run: Run, wavelet: bool) -> None:
        self.run, self.wavelet = run, wavelet
        self.record = WaveletRecord(
            step=1.0,
            mean=run.mean,
            depth=16 if wavelet else 0,
            double=self._double() or exponent(run.spread) != 0,
            exponent=exponent(run.spread),
        )
        self.scaling = self.record.scaling(run.dtype)
        #: Of the floats that the transform takes.
        self.unit = 2.0**-self.record.exponent
        edge = run.edge(self._bits)
        lanes = 1 if edge else int(min(max(run.samples // _LANE_SAMPLES, 1), _LANES))
        self.record = replace(self.record, edge=edge, lanes=lanes)
        if wavelet and not edge and run.weights is None:
            choice = choose(*self._part())
            run.predict = choice.predict
            self.record = replace(self.record, lead=choice.lead, ahead=choice.ahead)
        self.tiling = self.record.tiling(run.spec)
        self.pyramid = Pyramid(self._floats, run.values.shape[3], self.tiling, run.lanes)
        self.parts = ([_ROOT] if self.tiling.root else []) + list(range(len(self.tiling.regions)))
        self.scales, self._map = self._scales()
        self._scaled: list[np.ndarray] | None = None
        # Coefficients are hardly larger than the low-pass filters' gain makes of the values.
        self.largest = self._largest()
        self._last: tuple[float, float, Box] | None = None

    def _scales(self) -> tuple[ScaleMap | None, tuple[bytes, ...]]:
        """Which steps are finer, and the section that says so."""
        run = self.run
        if run.weights is None or not self.tiling.whole.splits:
            return None, ()
        found = importance.build(run.weights, self.tiling.whole, self._bits() * run.samples / 8)
        if found is None:
            return None, ()
        self.record = replace(self.record, blocks=found[0].edge)
        return found[0], (found[1],)

    def _part(self) -> tuple[np.ndarray, float, float, Lanes]:
        """A part of the array, a step that it may be coded with, what a bit is worth, and threads; see `choose`."""
        run, target = self.run, self.run.target
        box = tuple(slice((n - min(n, PART)) // 2, (n + min(n, PART)) // 2) for n in run.values.shape[:3])
        quality = target.value if isinstance(target, Psnr) else _QUALITY
        error = (
            target.value / 2 if isinstance(target, MaxError) and target.value else run.spread * 10 ** (-quality / 20)
        )
        step = max(3.3 * error * self.unit, run.spread * self.unit / LARGEST)
        return self._floats(box)[..., :1], step, max(run.options.weight, 0.05), run.lanes  # type: ignore[arg-type]

    def _bits(self) -> float:
        """Bits that a sample may take."""
        if isinstance(self.run.target, Bytes):
            return 8 * self.run.target.value / self.run.samples
        return rate(*self._part())

    def _floats(self, region: Region) -> np.ndarray:
        return self.scaling.floats(metrics.box_of(self.run.values, region), self.run.spread)

    def _double(self) -> bool:
        run = self.run
        if run.dtype.itemsize > 4 or (run.integer and run.dtype.itemsize == 4):
            return True
        if run.integer:
            return False
        target = run.target
        if isinstance(target, Psnr):
            return target.value > 105
        return isinstance(target, MaxError) and target.value < run.spread * 1e-6

    def _largest(self) -> float:
        spread = self.run.spread * self.unit
        if not self.wavelet:
            return spread / 2 + 1 if self.run.spread >= FAR else spread
        root = self.pyramid.root()
        most = max(spread, *(float(np.abs(part).max()) for part in root))
        return most * (self.scales.largest if self.scales else 1.0)

    # ----------------------------------------------------------------------------------------------------- one step

    def _coefficients(self, number: int) -> list[np.ndarray]:
        if number != _ROOT:
            region = self.tiling.regions[number]
            tile = self.pyramid.tile(region)
            return self._weighted(tile, number, lambda band: self.tiling.place(region, band))
        if self._scaled is None:
            root = self.pyramid.root()
            # Tiles take theirs from the root's.
            root = [part.copy() for part in root] if self.scales and self.tiling.edge else root
            self._scaled = self._weighted(root, number, lambda band: None)
        return self._scaled

    def _weighted(
        self, parts: list[np.ndarray], number: int, place: Callable[[Band], tuple[slice, ...] | None]
    ) -> list[np.ndarray]:
        """Coefficients as they are rounded, in place."""
        if self.scales:
            for part in parts:
                for band in self._layout(number).bands:
                    self.scales.multiply(part[band.box], band, place(band))
        return parts

    def _layout(self, number: int) -> Layout:
        layout = self.tiling.root if number == _ROOT else self.tiling.layout(self.tiling.regions[number])
        assert layout is not None
        return layout

    def _inner(self, number: int) -> Lanes:
        """Threads for a part: tiles are worked on side by side."""
        self.run.context.progress.check()
        return self.run.lanes if number == _ROOT else Lanes(1)

    def _error(self, number: int, step: float, weight: float) -> float:
        """The estimated sum of squared errors of a part at a step."""
        layout, inner = self._layout(number), self._inner(number)
        return transform.quantised(self._coefficients(number), layout, step, weight, inner, estimate=True)[1]

    def _fitted(self, number: int, step: float, weight: float) -> Box:
        """A part at a step, with its estimators."""
        if number == _ROOT and self._last and self._last[:2] == (step, weight):
            return self._last[2]
        layout, inner, values = self._layout(number), self._inner(number), self._coefficients(number)
        box, _ = transform.quantised(values, layout, step, weight, inner)
        if self.wavelet:
            box = transform.estimated(box, values, step, inner)
        elif weight == 0:
            # Plain rounding keeps every sample within half a step.
            box.centers = [np.zeros_like(c) for c in box.centers]
        if number == _ROOT:
            self._last = step, weight, box
        return box

    def _each(self, work: Callable, numbers: list[int]) -> list:
        """`work` of each part: the root with all threads, tiles side by side."""
        roots = [work(i) for i in numbers if i == _ROOT]
        return roots + self.run.lanes.each(work, [i for i in numbers if i != _ROOT])

    def estimate(self, step: float) -> float:
        """Root mean square error that a step is expected to leave, in the array's units."""
        if self.largest / step > LARGEST:
            return 0.0
        weight = self.weight(step)
        few = self._few()
        total = sum(self._each(lambda i: self._error(i, step, weight), few))
        if self.tiling.edge:
            regions = (self.tiling.regions[i] for i in few)
            total *= self.run.samples / sum(math.prod(r.stop - r.start for r in region) for region in regions)
        if self.tiling.root:
            total += self._error(_ROOT, step, weight)
        return math.sqrt(total / self.run.count) / self.unit

    def _few(self) -> list[int]:
        """Tiles to judge all by."""
        count = len(self.tiling.regions)
        return list(range(0, count, max(count // _FEW, 1)))

    def weight(self, step: float) -> float:
        lossless = not self.wavelet and self.run.integer and step <= self.unit
        return 0.0 if lossless else self.run.options.weight

    def blocks(self, step: float, weight: float):
        """What a decoder makes of the array at a step, box after box."""
        root = self._fitted(_ROOT, step, weight) if self.tiling.root else None
        cache = Cache(lambda i, _: self._fitted(i, step, weight), self.run.lanes, True, self.run.values.size)
        synthesis = Synthesis(self.tiling, root, cache, step, self.record.dtype, self.run.lanes, self.scales)
        for region in self.tiling.blocks():
            yield region, self.scaling.values(synthesis.values(region))

    def _missed(self, region: Region, decoded: np.ndarray) -> np.ndarray:
        error = difference(metrics.box_of(self.run.values, region), decoded)
        if self.run.valid is not None:
            error[~self.run.valid[region]] = 0
        return error

    def measure(self, step: float, weight: float) -> float:
        """Root mean square error at a step."""
        total = 0.0
        for region, decoded in self.blocks(step, weight):
            for part, values in _planes(region, decoded):
                error = self._missed(part, values)
                # Squares of huge and tiny errors leave the range of floats.
                error *= self.unit
                total += float(np.vdot(error, error))
        return math.sqrt(total / self.run.count) / self.unit

    def coded(
        self, step: float, weight: float, corrections: list[bytes] | None = None, quantum: float = 0.0
    ) -> Encoded:
        """The stream of a step; `corrections` of each tile, or of the one box."""
        regions = self.tiling.regions
        key = self._key(step, weight) if len(regions) > 1 else 0
        record = replace(self.record, step=step, quantum=quantum, key=key)
        first: Box | None = None

        def work(number: int) -> list[bytes]:
            inner = self.run.lanes if number == _ROOT else Lanes(1)
            known = first if number not in (_ROOT, key) else None
            box = transform.predicted(self._fitted(number, step, weight), inner, known)
            return stream.encode(box, inner, known)

        done: dict[int, list[bytes]] = {}
        if len(regions) > 1:
            first = transform.predicted(self._fitted(key, step, weight), Lanes(1))
            done[key] = stream.encode(first, Lanes(1))
        rest = [i for i in self.parts if i not in done]
        done.update(zip(rest, self._each(work, rest), strict=True))
        sections: list[bytes] = []
        for number in self.parts:
            sections += done[number]
            if corrections and (number != _ROOT or not regions):
                sections.append(corrections[max(number, 0)])
        return Encoded(wire.pack(record), (*sections, *self._map))

    def _key(self, step: float, weight: float) -> int:
        """A tile that others can learn much from, of a few."""
        few = self._few()

        def some(number: int) -> int:
            box, _ = transform.quantised(self._coefficients(number), self._layout(number), step, weight, Lanes(1))
            return int(np.count_nonzero(box.q))

        counts = self.run.lanes.each(some, few)
        return few[int(np.argsort(counts, kind="stable")[len(few) * 7 // 8])]

    def bounded(self, step: float, bound: float, weight: float) -> Encoded:
        """The stream of a step, with corrections of the samples that are then off by more than the bound."""
        run = self.run
        if self.largest / step > LARGEST:
            raise TargetError(f"{run.target} is below what the arithmetic resolves", None)
        worst = 0.0
        for quantum in [2 * bound + 1] if run.integer else [2 * bound * (1 - 2.0**-10), bound]:
            corrections, worst = self._corrections(step, weight, bound, quantum)
            if worst <= bound:
                return self.coded(step, weight, corrections, quantum if corrections else 0.0)
        raise TargetError(f"{run.target} is below what the data's type resolves; {worst:g} is reached", worst)

    def _corrections(
        self, step: float, weight: float, bound: float, quantum: float
    ) -> tuple[list[bytes] | None, float]:
        """Corrections of each tile, or of the one box, None if there are none; the largest error that they leave."""
        run = self.run
        regions = self.tiling.regions
        whole: Region = tuple(slice(0, n) for n in run.values.shape[:3])  # type: ignore[assignment]
        found: list[bytes] = []
        some, worst = False, 0.0
        record = replace(self.record, step=step)
        for region, decoded in self.blocks(step, weight):
            error = self._missed(region, decoded)
            with np.errstate(over="ignore"):
                scaled = np.rint(error / quantum)
            if np.abs(scaled).max(initial=0) > LARGEST:
                raise TargetError(f"{run.target} is below what the arithmetic resolves", None)
            amounts = np.where(np.abs(error) > bound, scaled, 0).astype(np.int32)
            if amounts.any():
                some = True
                error = self._missed(region, corrected(decoded, amounts, quantum))
            worst = max(worst, float(np.abs(error).max()))
            inner = Lanes(1) if regions else run.lanes
            parts = [
                amounts[tuple(slice(t.start - r.start, t.stop - r.start) for t, r in zip(tile, region, strict=True))]
                for tile in (regions[len(found) :] if regions else [whole])
                if all(r.start <= t.start and t.stop <= r.stop for t, r in zip(tile, region, strict=True))
            ]
            found += run.lanes.each(lambda part, i=inner: coded_corrections(part, record, i), parts)
        return found if some else None, worst


def _planes(region: Region, values: np.ndarray) -> Iterator[tuple[Region, np.ndarray]]:
    """A block in slabs of a few planes."""
    count = max(_PLANES // max(values[0].size, 1), 1)
    for z in range(0, len(values), count):
        part = values[z : z + count]
        first = region[0].start + z
        yield (slice(first, first + len(part)), *region[1:]), part
