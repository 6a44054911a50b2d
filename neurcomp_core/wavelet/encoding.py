"""Reaching a target: the search of the step, the choice of a transform, and corrections that make a bound hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from neurcomp_core import metrics, search
from neurcomp_core.codec import Context, Encoded
from neurcomp_core.coding import wire
from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import TargetError
from neurcomp_core.field import Field, Region
from neurcomp_core.target import Bytes, MaxError, Psnr, Target
from neurcomp_core.wavelet import stream, transform
from neurcomp_core.wavelet.choice import PART, Choice, choose
from neurcomp_core.wavelet.decoding import Cache, coded_corrections
from neurcomp_core.wavelet.filling import fill
from neurcomp_core.wavelet.lanes import Lanes
from neurcomp_core.wavelet.layout import Layout
from neurcomp_core.wavelet.record import WaveletRecord
from neurcomp_core.wavelet.scaling import corrected, difference, exponent
from neurcomp_core.wavelet.stream import Box
from neurcomp_core.wavelet.tiles import Pyramid, Synthesis

#: Arrays up to this many samples are one box by default.
WHOLE = 1 << 25
#: Edges of tiles of arrays that are long along 1, 2 and 3 axes, and when an axis is.
_EDGES, _LONG = {0: 1 << 20, 1: 1 << 20, 2: 1024, 3: 96}, 32
#: A lane for so many samples, at most `_LANES`.
_LANE_SAMPLES, _LANES = 1 << 19, 4
#: No quantised coefficient may be larger.
_LARGEST = 2.0**31 + 1
#: The dB that a transform is chosen for if the target says none.
_QUALITY = 50.0
#: Values that differ by more are taken as differences to the middle of their range.
_FAR = 2.0**28
#: Tiles that estimates look at, about.
_FEW = 16
#: Samples of which errors are taken at a time.
_PLANES = 1 << 21
#: Stands for the root where tiles have numbers.
_ROOT = -1


@dataclass(frozen=True)
class Options:
    """How to encode; see `codecs.wavelet.Wavelet`."""

    transform: str = "auto"
    weight: float = 0.1
    brick: int = 0


@dataclass(frozen=True)
class Attempt:
    """One way of coding the array, coded."""

    encoded: Encoded
    psnr: float


class Run:
    """One array on its way to its target."""

    def __init__(self, options: Options, field: Field, target: Target, context: Context, lanes: Lanes) -> None:
        self.options, self.target, self.context, self.lanes = options, target, context, lanes
        self.dtype = field.values.dtype
        self.values = field.values if field.values.ndim == 4 else field.values[..., None]
        valid = field.valid
        self.valid = None if valid is None else valid.reshape(self.values.shape)
        if self.valid is not None:
            self.values = fill(self.values, self.valid)
        low, high = (v.item() for v in metrics.limits(self.values, self.valid))
        # Of integers Python's own, which are exact.
        self.spread = float(high - low)
        self.integer = self.dtype.kind in "iu"
        middle = low / 2 + high / 2
        if self.spread < _FAR:
            # The middle keeps numbers smallest where they are large, the mean where the middle is an odd one out.
            data = self.values if self.valid is None else self.values[self.valid]
            middle = sum(float(np.sum(part, dtype=np.float64)) for part in metrics.slabs(data)) / data.size
        self.mean = float(np.rint(middle)) if self.integer else float(np.float32(middle))
        if not math.isfinite(self.mean):
            self.mean = middle
        #: Samples that count.
        self.count = self.values.size if valid is None else int(np.count_nonzero(valid))
        self.spec = ArraySpec(self.values.shape, self.dtype)
        #: Whether a part of the array says that no transform may be smaller.
        self.predict = False

    @property
    def edge(self) -> int:
        """Edge of tiles."""
        shape = self.values.shape[:3]
        if max(shape) < Layout.least:
            return 0  # there is nothing to split
        if self.options.brick:
            return max(self.options.brick, 0)
        return _EDGES[sum(n >= _LONG for n in shape)] if math.prod(shape) > WHOLE else 0

    @property
    def samples(self) -> int:
        """Of the grid."""
        return math.prod(self.values.shape[:3])

    def best(self) -> Encoded:
        """The smallest file, or for a size the best one, of the transforms that make sense."""
        ways = {"auto": [True, False], "wavelet": [True], "none": [False]}[self.options.transform]
        found: list[Attempt] = []
        failure: TargetError | None = None
        for wavelet in ways:
            if found and not self._worth_predicting(found[0]):
                continue
            try:
                found.append(self._reach(wavelet))
            except TargetError as error:
                failure = error
        if not found:
            assert failure is not None
            raise failure
        if isinstance(self.target, Bytes):
            return max(found, key=lambda a: a.psnr).encoded
        return min(found, key=lambda a: a.encoded.nbytes).encoded

    def _worth_predicting(self, first: Attempt) -> bool:
        """Whether no transform at all may be smaller: near the noise, which a transform only spreads."""
        bits = 8 * first.encoded.nbytes / self.values.size
        if self.integer:
            step = wire.unpack(WaveletRecord, first.encoded.params).step
            return step < 8 and bits > 0.2
        return self.predict or (isinstance(self.target, MaxError) and bits > 1.5)

    def _reach(self, wavelet: bool) -> Attempt:
        target = self.target
        if self.integer and wavelet and isinstance(target, MaxError) and target.value < 1:
            raise TargetError("no transform is lossless", None)
        if self.spread == math.inf:
            raise TargetError("values differ by more than the largest float64", None)
        way = Way(self, wavelet)
        if isinstance(target, Bytes):
            return way.reach_bytes(int(target.value))
        if isinstance(target, Psnr):
            return way.reach_psnr(target.value)
        assert isinstance(target, MaxError)
        return way.reach_bound(target.value)


class Way:
    """An array under one transform, or none."""

    def __init__(self, run: Run, wavelet: bool) -> None:
        self.run, self.wavelet = run, wavelet
        samples = run.samples if not run.edge else 0
        self.record = WaveletRecord(
            step=1.0,
            mean=run.mean,
            depth=16 if wavelet else 0,
            edge=run.edge,
            lanes=int(min(max(samples // _LANE_SAMPLES, 1), _LANES)),
            double=self._double() or exponent(run.spread) != 0,
            exponent=exponent(run.spread),
        )
        self.scaling = self.record.scaling(run.dtype)
        #: Of the floats that the transform takes.
        self.unit = 2.0**-self.record.exponent
        if wavelet and not run.edge:
            choice = self._choice()
            run.predict = choice.predict
            self.record = replace(self.record, lead=choice.lead, ahead=choice.ahead)
        self.tiling = self.record.tiling(run.spec)
        self.pyramid = Pyramid(self._floats, run.values.shape[3], self.tiling, run.lanes)
        self.parts = ([_ROOT] if self.tiling.root else []) + list(range(len(self.tiling.regions)))
        # Coefficients are hardly larger than the low-pass filters' gain makes of the values.
        self.largest = self._largest()
        self._last: tuple[float, float, Box] | None = None

    def _choice(self) -> Choice:
        shape = self.run.values.shape[:3]
        box = tuple(slice((n - min(n, PART)) // 2, (n + min(n, PART)) // 2) for n in shape)
        quality = self.run.target.value if isinstance(self.run.target, Psnr) else _QUALITY
        step = 3.3 * self.run.spread * self.unit * 10 ** (-quality / 20)
        return choose(self._floats(box)[..., :1], step, max(self.run.options.weight, 0.05), self.run.lanes)  # type: ignore[arg-type]

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
            return spread / 2 + 1 if self.run.spread >= _FAR else spread
        root = self.pyramid.root()
        return max(spread, *(float(np.abs(part).max()) for part in root))

    # ----------------------------------------------------------------------------------------------------- one step

    def _coefficients(self, number: int) -> list[np.ndarray]:
        return self.pyramid.root() if number == _ROOT else self.pyramid.tile(self.tiling.regions[number])

    def _quantised(self, number: int, step: float, weight: float) -> tuple[Box, float, list[np.ndarray]]:
        """A part at a step, the estimated sum of its squared errors, and its coefficients."""
        self.run.context.progress.check()
        inner = self.run.lanes if number == _ROOT else Lanes(1)
        values = self._coefficients(number)
        layout = self.tiling.root if number == _ROOT else self.tiling.layout(self.tiling.regions[number])
        assert layout is not None
        box, error = transform.quantised(values, layout, step, weight, inner)
        return box, error, values

    def _fitted(self, number: int, step: float, weight: float) -> Box:
        """A part at a step, with its estimators."""
        if number == _ROOT and self._last and self._last[:2] == (step, weight):
            return self._last[2]
        inner = self.run.lanes if number == _ROOT else Lanes(1)
        box, _, values = self._quantised(number, step, weight)
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
        if self.largest / step > _LARGEST:
            return 0.0
        weight = self.weight(step)
        few = self._few()
        total = sum(self._each(lambda i: self._quantised(i, step, weight)[1], few))
        if self.tiling.edge:
            regions = (self.tiling.regions[i] for i in few)
            total *= self.run.samples / sum(math.prod(r.stop - r.start for r in region) for region in regions)
        if self.tiling.root:
            total += self._quantised(_ROOT, step, weight)[1]
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
        synthesis = Synthesis(self.tiling, root, cache, step, self.record.dtype, self.run.lanes)
        for region in self.tiling.blocks():
            yield region, self.scaling.values(synthesis.values(region))

    def _error(self, region: Region, decoded: np.ndarray) -> np.ndarray:
        error = difference(metrics.box_of(self.run.values, region), decoded)
        if self.run.valid is not None:
            error[~self.run.valid[region]] = 0
        return error

    def figures(self, step: float, weight: float) -> tuple[float, float]:
        """Root mean square and largest error at a step."""
        total, worst = 0.0, 0.0
        for region, decoded in self.blocks(step, weight):
            for part, values in _planes(region, decoded):
                error = self._error(part, values)
                worst = max(worst, float(np.abs(error).max()))
                # Squares of huge and tiny errors leave the range of floats.
                error *= self.unit
                total += float(np.vdot(error, error))
        return math.sqrt(total / self.run.count) / self.unit, worst

    def psnr(self, rms: float) -> float:
        return metrics.psnr(self.run.spread, rms)

    def coded(self, step: float, weight: float, rms: float, corrections: list[bytes] | None = None,
              quantum: float = 0.0) -> Attempt:  # fmt: skip
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
        return Attempt(Encoded(wire.pack(record), tuple(sections)), self.psnr(rms))

    def _key(self, step: float, weight: float) -> int:
        """A tile that others can learn much from, of a few."""
        few = self._few()
        counts = self.run.lanes.each(lambda i: np.count_nonzero(self._quantised(i, step, weight)[0].q), few)
        return few[int(np.argsort(counts, kind="stable")[len(few) * 7 // 8])]

    # ------------------------------------------------------------------------------------------------------ targets

    def reach_psnr(self, psnr: float) -> Attempt:
        run = self.run
        rms = run.spread * 10 ** (-psnr / 20)
        if not self.wavelet and run.integer and rms < 0.45:
            return self.coded(self.unit, 0.0, 0.0)
        span = self.largest / _LARGEST, 4 * self.largest

        def estimated(step: float) -> tuple[float, None]:
            return self.estimate(short(step)), None

        def measured(step: float) -> tuple[float, float]:
            run.context.progress.update(0.3, "searching the step")
            step = short(step)
            return self.figures(step, self.weight(step))[0], step

        start = search.search(estimated, rms, 3 * rms * self.unit, span, slack=0.02, trials=5).knob
        found = search.search(measured, rms, start, span, slack=0.003, trials=10)
        if found.figure > rms:
            raise TargetError(f"{run.target} cannot be reached, {self.psnr(found.figure):.2f} dB can",
                              self.psnr(found.figure))  # fmt: skip
        run.context.progress.update(0.6, f"coding, {self.psnr(found.figure):.2f} dB")
        return self.coded(found.result, self.weight(found.result), found.figure)

    def reach_bytes(self, budget: int) -> Attempt:
        run = self.run
        tries = 0

        def trial(step: float) -> tuple[float, tuple[Attempt, float]]:
            nonlocal tries
            tries += 1
            step = short(step)
            attempt = self.coded(step, self.weight(step), 1.0)
            run.context.progress.update(1 - 0.8**tries, f"{attempt.encoded.nbytes} bytes")
            return attempt.encoded.nbytes, (attempt, step)

        spread = run.spread * self.unit
        start = spread * 0.02 * (run.values.nbytes / budget / 50) ** 0.6
        floor = self.largest / _LARGEST
        # Steps below these change nothing.
        least = (0.05 if self.wavelet else 1.0) * self.unit if run.integer else spread * 1e-15
        span = max(floor, least), 4 * self.largest
        start = min(max(start, span[0]), span[1])
        around = (0.9995, 1.0005, 0.998, 1.002, 0.995, 1.005) if budget < 1 << 16 else ()
        found = search.search(trial, budget, start, span, rising=False, slack=0.006, trials=16, around=around)
        if found.figure > budget:
            raise TargetError(
                f"{run.target} cannot be reached; the smallest stream has {found.figure:.0f} bytes", found.figure
            )
        attempt, step = found.result
        return replace(attempt, psnr=self.psnr(self.figures(step, self.weight(step))[0]))

    def reach_bound(self, bound: float) -> Attempt:
        run = self.run
        if run.integer:
            bound = math.floor(bound)
        if not self.wavelet:
            return self._bounded_samples(bound)
        done: dict[float, Attempt] = {}

        def nbytes(log: float) -> int:
            if log not in done:
                run.context.progress.update(1 - 0.8 ** len(done), "coding")
                done[log] = self._bounded(short(bound * self.unit * 2**log), bound, run.options.weight)
            return done[log].encoded.nbytes

        _least(nbytes, 0.6, 0.5)
        return min(done.values(), key=lambda a: a.encoded.nbytes)

    def _bounded_samples(self, bound: float) -> Attempt:
        """Without a transform a sample is off by half a step at most."""
        if self.run.integer:
            # Corrections supply the last bits of integers that are too long for one number.
            step = max((2.0 * bound + 1) * self.unit, self.largest / _LARGEST * (1 + 2.0**-20))
        else:
            step = short(2.0 * bound * self.unit * (1 - 2.0**-10))
        return self._bounded(step, bound, 0.0)

    def _bounded(self, step: float, bound: float, weight: float) -> Attempt:
        """Coefficients at a step, and corrections of the samples that are then off by more than the bound."""
        run = self.run
        if self.largest / step > _LARGEST:
            raise TargetError(f"{run.target} is below what the arithmetic resolves", None)
        for quantum in [2 * bound + 1] if run.integer else [2 * bound * (1 - 2.0**-10), bound]:
            corrections, rms, worst = self._corrections(step, weight, bound, quantum)
            if worst <= bound:
                return self.coded(step, weight, rms, corrections, quantum if corrections else 0.0)
        raise TargetError(f"{run.target} is below what the data's type resolves; {worst:g} is reached", worst)

    def _corrections(
        self, step: float, weight: float, bound: float, quantum: float
    ) -> tuple[list[bytes] | None, float, float]:
        """Corrections of each tile, or of the one box, None if there are none; the errors that they leave."""
        run = self.run
        regions = self.tiling.regions
        whole: Region = tuple(slice(0, n) for n in run.values.shape[:3])  # type: ignore[assignment]
        found: list[bytes] = []
        some, total, worst = False, 0.0, 0.0
        record = replace(self.record, step=step)
        for region, decoded in self.blocks(step, weight):
            error = self._error(region, decoded)
            with np.errstate(over="ignore"):
                scaled = np.rint(error / quantum)
            if np.abs(scaled).max(initial=0) > _LARGEST:
                raise TargetError(f"{run.target} is below what the arithmetic resolves", None)
            amounts = np.where(np.abs(error) > bound, scaled, 0).astype(np.int32)
            if amounts.any():
                some = True
                error = self._error(region, corrected(decoded, amounts, quantum))
            worst = max(worst, float(np.abs(error).max()))
            error *= self.unit
            total += float(np.vdot(error, error))
            inner = Lanes(1) if regions else run.lanes
            parts = [
                amounts[tuple(slice(t.start - r.start, t.stop - r.start) for t, r in zip(tile, region, strict=True))]
                for tile in (regions[len(found) :] if regions else [whole])
                if all(r.start <= t.start and t.stop <= r.stop for t, r in zip(tile, region, strict=True))
            ]
            found += run.lanes.each(lambda part, i=inner: coded_corrections(part, record, i), parts)
        return found if some else None, math.sqrt(total / run.count) / self.unit, worst


def _planes(region: Region, values: np.ndarray) -> Iterator[tuple[Region, np.ndarray]]:
    """A block in slabs of a few planes."""
    count = max(_PLANES // max(values[0].size, 1), 1)
    for z in range(0, len(values), count):
        part = values[z : z + count]
        first = region[0].start + z
        yield (slice(first, first + len(part)), *region[1:]), part


def _least(figure: Callable[[float], float], at: float, step: float) -> None:
    """Look for the least of a convex function: walk downhill, then to the vertex of the last three places' parabola."""
    if figure(at + step) > figure(at):
        step = -step
    else:
        at += step
    while figure(at + step) < figure(at) and abs(at) < 4:
        at += step
    left, middle, right = figure(at - step), figure(at), figure(at + step)
    curve = left - 2 * middle + right
    if curve > 0:
        shift = 0.5 * (left - right) / curve
        if abs(shift) > 0.15:
            figure(at + shift * step)


def short(step: float) -> float:
    """A step that a file keeps in four bytes."""
    return float(np.float32(step))
