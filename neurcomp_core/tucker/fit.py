"""The tucker stream that meets a target."""

from __future__ import annotations

import math

import numpy as np

from neurcomp_core import metrics
from neurcomp_core.codec import Context, Encoded, as_dtype
from neurcomp_core.coding import wire
from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import InputError, Interrupted, TargetError
from neurcomp_core.field import Field, full_region
from neurcomp_core.search import search
from neurcomp_core.target import Bytes, MaxError, Psnr, Target
from neurcomp_core.tucker.coded import constant, pack, sums
from neurcomp_core.tucker.record import DENSITY, TuckerRecord, lengths, sums_double
from neurcomp_core.tucker.space import RATIO, Candidate, Space
from neurcomp_core.wavelet.filling import fill
from neurcomp_core.wavelet.lanes import Lanes

#: Longest axis whose singular vectors are looked for.
LONGEST = 1 << 13
#: Share of the error that may stay unused, and of a size.
_SLACK, _FULL = 0.004, 0.006
#: Numbers of less than this power of two are not scaled up any further.
_SMALLEST = 1000
#: Share of the time that the decomposition takes, roughly.
_DECOMPOSITION = 0.3


def fit(field: Field, target: Target, context: Context, lanes: Lanes) -> Encoded:
    """Decompose and search the step; see `codec.Codec.encode`."""
    run = _Run(field, context, lanes)
    try:
        return run.reach(target)
    except Interrupted as stop:
        best = run.packed(stop.best) if isinstance(stop.best, Candidate) else stop.best
        raise type(stop)(str(stop), best) from stop


class _Run:
    """An array on its way to its target."""

    def __init__(self, field: Field, context: Context, lanes: Lanes) -> None:
        self.field, self.progress, self.lanes = field, context.progress, lanes
        self.spec = ArraySpec(field.values.shape, field.values.dtype)
        low, high = (float(v) for v in field.limits)
        self.spread = high - low
        if not math.isfinite(self.spread):
            raise TargetError("tucker: values differ by more than the largest float64; choose the codec wavelet")
        sizes = lengths(self.spec.shape)
        if max(min(n, math.prod(sizes) // n) for n in sizes) > LONGEST:
            raise InputError(
                f"tucker: expected axes of at most {LONGEST} samples, got an array of shape {self.spec.shape}; "
                "choose the codec wavelet"
            )
        centred = self._centred()
        self.progress.update(0.0, "tucker: decomposing")
        self.space = Space(
            centred, lanes, lambda share: self.progress.update(_DECOMPOSITION * share, "tucker: decomposing")
        )
        self.trials = 0

    def _centred(self) -> np.ndarray:
        """Values around zero, none beyond 1, of an array ``(z, y, x, c)`` without gaps."""
        values, valid = self.field.values, self.field.valid
        if valid is not None:
            values = fill(values, valid)
        out = values.astype(np.float64).reshape(lengths(self.spec.shape))
        if valid is not None:
            valid = valid.reshape(out.shape)
            empty = ~valid.any(axis=(0, 1, 2))
            out[..., empty] = np.mean(out[..., ~empty] / 2) * 2
        # Halves of the largest floats add up to no more than them.
        mean = sum(float(np.sum(part / out.size)) for part in metrics.slabs(out))
        short = float(np.float32(mean)) if abs(mean) < float(np.finfo(np.float32).max) else mean
        self.centre = short if abs(short - mean) <= 1e-3 * self.spread else mean
        out -= self.centre
        self.exponent = max(math.frexp(max(float(out.max()), -float(out.min())))[1], -_SMALLEST)
        return np.ldexp(out, -self.exponent, out=out)

    # ------------------------------------------------------------------------------------------------------- streams

    def record(self, candidate: Candidate) -> TuckerRecord:
        ranks = tuple(r for r, n in zip(candidate.core.shape, self.space.sizes, strict=True) if n > 1)
        return TuckerRecord(
            candidate.step, self.centre, self.exponent, ranks if candidate.coded else (), sums_double(self.spec)
        )

    def packed(self, candidate: Candidate) -> Encoded:
        section = pack(candidate.coded, self.lanes) if candidate.coded else b""
        return Encoded(wire.pack(self.record(candidate)), (section,))

    def measured(self, candidate: Candidate) -> metrics.Quality:
        record, whole = self.record(candidate), full_region(self.spec.shape)
        if candidate.coded is None:
            values = constant(record, self.spec, whole, 1)
        else:
            values = sums(candidate.core, candidate.bases, record, self.spec, whole, 1)
        return metrics.measure(self.field.values, as_dtype(values, self.spec.dtype), self.field.mask)

    def finished(self, candidate: Candidate) -> Encoded:
        encoded = self.packed(candidate)
        if self._sparse(candidate, encoded):
            raise TargetError("tucker: the core is too sparse to be stored; choose the codec wavelet")
        return encoded

    def candidate(self, step: float, ratio: float = RATIO, most: tuple[int, ...] = ()) -> Candidate:
        """At a step that a file keeps in four bytes."""
        self.trials += 1
        self.progress.update(1 - (1 - _DECOMPOSITION) * 0.85**self.trials, f"tucker: trial {self.trials}")
        return self.space.candidate(float(np.float32(step)), ratio, most)

    # ------------------------------------------------------------------------------------------------------- targets

    def reach(self, target: Target) -> Encoded:
        if isinstance(target, Bytes):
            return self._size(int(target.value))
        if isinstance(target, Psnr):
            return self._psnr(target.value)
        assert isinstance(target, MaxError)
        return self._bound(target.value)

    @property
    def _span(self) -> tuple[float, float]:
        return max(self.space.least_step, 2.0**-100), 4 * max(self.space.largest, 1.0)

    def _psnr(self, psnr: float) -> Encoded:
        # A hair less: the figure is compared again after a logarithm.
        wanted = self.spread * 10 ** (-psnr / 20) * (1 - 1e-9)
        unit = math.ldexp(1.0, -self.exponent)
        samples = math.prod(self.space.sizes)

        def rmse(error: float) -> float:
            return math.sqrt(error / samples) / unit

        def trial(step: float) -> tuple[float, Candidate]:
            candidate = self.candidate(step)
            return rmse(candidate.error), candidate

        low, high = self._span
        start = min(max(3 * wanted * unit, low), high)
        start = search(lambda s: (rmse(self.space.guess(s)), None), wanted, start, (low, high), slack=0.05).knob
        found = aim = None
        expected = wanted
        for _ in range(6):
            tried = search(trial, expected, start, (low, high), slack=_SLACK, trials=9)
            aim, quality = tried.result, self.measured(tried.result)
            if quality.rmse <= wanted and (found is None or quality.rmse > found[1]):
                found = aim, quality.rmse
            close = quality.rmse >= (1 - 1.3 * _SLACK) * wanted or quality.rmse == 0
            if quality.rmse <= wanted and (close or tried.figure < (1 - 2 * _SLACK) * expected):
                break
            # Estimates know nothing of masks and of rounding to the array's type.
            expected *= min(max((1 - 0.3 * _SLACK) * wanted / quality.rmse, 0.1), 10.0)
            start = aim.step
        if found is None:
            assert aim is not None
            reached = metrics.psnr(self.spread, self.measured(aim).rmse)
            raise TargetError(f"a PSNR of {psnr:g} dB cannot be reached with tucker; {reached:.2f} dB can", reached)
        best = self.finished(found[0])
        if found[1] < (1 - 2 * _SLACK) * wanted:
            best = self._coarser(found[0].step, wanted, best)
        return best

    def _coarser(self, step: float, wanted: float, best: Encoded) -> Encoded:
        """A column less may miss much at once: coarser ones use up the error that is allowed."""

        def trial(ratio: float) -> tuple[float, Candidate]:
            candidate = self.candidate(step, ratio)
            return self.measured(candidate).rmse, candidate

        try:
            found = search(trial, wanted, 2 * RATIO, (RATIO, 64 * RATIO), slack=2 * _SLACK, trials=8)
        except Interrupted as stop:
            raise type(stop)(str(stop), best) from stop
        if found.figure <= wanted:
            other = self.finished(found.result)
            best = min(best, other, key=lambda e: e.nbytes)
        return best

    def _size(self, budget: int) -> Encoded:
        def trial(step: float, most: tuple[int, ...] = ()) -> tuple[float, Candidate]:
            candidate = self.candidate(step, most=most)
            encoded = self.packed(candidate)
            return math.inf if self._sparse(candidate, encoded) else encoded.nbytes, candidate

        low, high = self._span
        start = min(max(0.1 * (self.field.nbytes / budget / 50) ** 0.6, low), high)
        around = (0.9995, 1.0005, 0.998, 1.002, 0.995, 1.005, 0.99, 1.01) if budget < 1 << 16 else ()
        found = search(trial, budget, start, (low, high), rising=False, slack=_FULL, trials=16, around=around)
        candidate = found.result
        if found.figure > budget or candidate.coded is None:
            raise TargetError(
                f"{budget} bytes cannot be reached with tucker; the smallest stream has {found.figure:.0f}",
                found.figure,
            )
        if found.figure < (1 - 2 * _FULL) * budget:
            # A column more may cost much at once: finer ones fill what is left.
            most, step = candidate.core.shape, candidate.step
            more = search(lambda s: trial(s, most), budget, step / 2, (low, step), rising=False, slack=_FULL, trials=14)
            if found.figure < more.figure <= budget:
                candidate = more.result
        return self.packed(candidate)

    def _sparse(self, candidate: Candidate, encoded: Encoded) -> bool:
        """Whether a decoder would take a stream for a damaged one."""
        return candidate.numbers > DENSITY * (len(encoded.sections[0]) + 64)

    def _bound(self, bound: float) -> Encoded:
        integer = self.spec.dtype.kind in "iu"
        margin = TuckerRecord(1.0, self.centre, self.exponent, (), sums_double(self.spec)).margin
        # Other decoders may be off by the margin, integers by what rounding makes of it.
        limit = bound - margin - integer
        if limit <= 0:
            least = math.ceil(margin) + 1 if integer else 1.25 * margin
            raise TargetError(
                f"a largest error of {bound:g} is less than what sums may differ by between machines; with a residual "
                "it can be kept, or choose the codec wavelet",
                least,
            )

        def trial(step: float) -> tuple[float, Candidate]:
            candidate = self.candidate(step)
            return self.measured(candidate).max_error, candidate

        low, high = self._span
        start = min(max(limit * math.ldexp(1.0, -self.exponent), low), high)
        found = search(trial, limit, start, (low, high), slack=0.02, trials=14)
        if found.figure > limit:
            raise TargetError(
                f"a largest error of {bound:g} cannot be reached with tucker; {found.figure + bound - limit:g} can",
                found.figure + bound - limit,
            )
        return self.finished(found.result)
