"""Steps of a series in a file: which to predict when writing, and what to decode first when reading.

The *step before* an array is the last one before it in the file that has its name, association, type, components and
grid. A *key step* needs no other; every other needs the steps from the last key step on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from neurcomp_core import metrics
from neurcomp_core.auto import Auto
from neurcomp_core.codec import Codec, Context, Encoded, codec_by_id, measured
from neurcomp_core.codecs.wavelet import Wavelet
from neurcomp_core.container import ArrayRecord, Container, GeometryRecord
from neurcomp_core.errors import FormatError, InputError, TargetError
from neurcomp_core.field import Field, Region, full_region
from neurcomp_core.init_file import Init
from neurcomp_core.target import Bytes, MaxError, Psnr, Target
from neurcomp_core.temporal import TAPS, Predicted, predictable, steps_needed
from neurcomp_core.weighting import central, weighting

#: A key step at least every so many, if nothing else is said.
KEY_EVERY = 8
#: No more predicted steps follow one another.
LONGEST = 255
#: Bytes of a step above which none is predicted, for some steps have to be in memory then.
_MOST = 1 << 30
#: A prediction that is expected to take at most this share of a step's bits is not compared with the step alone.
_CLEAR = 0.5
#: Samples up to which both ways of coding a step are tried in full, and those of the part that else decides: a share of
#: the step, within limits.
_SMALL, _PART, _PARTS = 1 << 14, 8, (1 << 14, 1 << 16)
#: Shares of the part's bytes between which the whole is tried both ways.
_DOUBT = 0.85, 1.15

#: Arrays that are steps of one series agree in this: name, association, type, components, grid.
SeriesKey = tuple[str, int, int, int, int | GeometryRecord]


def series_of(record: ArrayRecord, grid: int | GeometryRecord) -> SeriesKey:
    """What tells a series from others of the same file."""
    return record.name, record.association, record.dtype, record.components, grid


# ------------------------------------------------------------------------------------------------------------- writing


@dataclass
class _Past:
    """What a decoder has of a series, the latest first, and how many steps ago its last key step was."""

    steps: tuple[np.ndarray, ...] = ()
    since: int = 0


@dataclass
class History:
    """Steps that are in a file already, as decoders see them; one or two of each series are in memory.

    Parameters
    ----------
    key_every : int
        Every so many steps at least one is a key step; 1 makes all key steps, 0 only those that a prediction does not
        make smaller, or `LONGEST` steps after the last one.

    Raises
    ------
    InputError
        If `key_every` is negative.
    """

    key_every: int = KEY_EVERY
    _past: dict[SeriesKey, _Past] = field(default_factory=dict)
    #: Where the networks of the next steps may start.
    starts: dict[SeriesKey, Init] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.key_every < 0:
            raise InputError(
                f"key steps: expected one every 1, 2, … steps or 0 for as few as pay, got {self.key_every}"
            )

    @property
    def longest(self) -> int:
        """Most predicted steps in a row."""
        return min(self.key_every - 1, LONGEST) if self.key_every else LONGEST

    def wants(self, field: Field, codec: Codec) -> bool:
        """Whether a step after this one could be predicted from it."""
        fits = field.nbytes <= _MOST and predictable(field.values.dtype)
        return self.longest > 0 and field.time is not None and fits and _wavelet(codec) is not None

    def previous(self, series: SeriesKey) -> tuple[np.ndarray, ...]:
        """Steps that the next one may be predicted from, the latest first; none if it must be a key step."""
        past = self._past.get(series, _Past())
        return past.steps if past.since < self.longest else ()

    def add(self, series: SeriesKey, codec: type[Codec], decoded: np.ndarray | None) -> None:
        """Take note of a step, as `codec` decodes it; `None` if it is the last of its series."""
        if decoded is None or codec not in (Wavelet, Predicted):
            self._past.pop(series, None)
        elif codec is Predicted:
            past = self._past[series]
            self._past[series] = _Past((decoded, *past.steps[: TAPS - 1]), past.since + 1)
        else:
            self._past[series] = _Past((decoded,))

    def forget(self) -> None:
        """Take note of steps that are in the file but were not made here: the next ones are key steps."""
        self._past.clear()
        self.starts.clear()


def _wavelet(codec: Codec) -> Wavelet | None:
    """What would code a difference; None where a codec was asked for that has no part in this."""
    if isinstance(codec, Auto):
        return codec.codec(Wavelet)  # type: ignore[return-value]
    return codec if isinstance(codec, Wavelet) else None


def predictions(codec: Codec, field: Field, target: Target, context: Context) -> tuple[Predicted | None, bool]:
    """How to predict a step whose steps before are in `context`, and whether `codec` alone should be tried as well.

    Unless an estimate is clear, or the step small, a part of it is coded both ways; where that leaves a doubt, all of
    it should be.

    Returns
    -------
    predicted : Predicted or None
        None where a prediction is not possible, or not worth its bytes.
    both : bool
    """
    wavelet = _wavelet(codec)
    if wavelet is None or not context.previous:
        return None, True
    found = weighting(field, context.previous[:TAPS], target)
    if not any(found.weights):
        return None, True
    predicted = Predicted(wavelet, found.weights)
    if found.share < _CLEAR:
        return predicted, False
    share = _share(wavelet, predicted, field, target, context) if field.values.size > _SMALL else None
    if share is None:
        return predicted, True
    low, high = _DOUBT
    return (predicted if share < high else None), share > low


def _share(wavelet: Wavelet, predicted: Predicted, field: Field, target: Target, context: Context) -> float | None:
    """Bytes of a part of the step when predicted, divided by those when not; None if the part says nothing."""
    least, most = _PARTS
    box = central(field.values.shape, min(max(field.values.size // _PART, least), most))
    part = Field(field.values[box], name=field.name, mask=None if field.mask is None else field.mask[box])
    valid = part.valid
    if valid is not None and not valid.any():
        return None
    low, high = part.limits
    if low == high:
        return None
    previous = tuple(s[box] for s in context.previous)
    quiet = replace(context, progress=context.progress.part(0, 0), previous=previous, importance=None)
    try:
        if isinstance(target, Bytes):
            share = part.values.size / field.values.size
            alone = wavelet.encode(part, Bytes(max(int(target.value * share), 64)), quiet)
            rmse = measured(type(wavelet), alone, part, quiet).rmse
            goal: Target = Psnr(max(metrics.psnr(high - low, max(rmse, (high - low) * 1e-9)), 0.01))
        else:
            goal = target
            if isinstance(target, Psnr):
                whole = field.limits
                rmse = (whole[1] - whole[0]) * 10 ** (-target.value / 20)
                goal = Psnr(max(metrics.psnr(high - low, rmse), 0.01))
            assert isinstance(target, Psnr | MaxError)
            alone = wavelet.encode(part, goal, quiet)
        return predicted.encode(part, goal, quiet).nbytes / alone.nbytes
    except TargetError:
        return None


# ------------------------------------------------------------------------------------------------------------- reading


class Steps:
    """Values of an open file's arrays, in any order; the last step of each series is kept for the next one.

    Playing a series forward decodes one step at a time; going anywhere else decodes from the key step before it.

    Parameters
    ----------
    file : Container
    """

    def __init__(self, file: Container) -> None:
        self.file = file
        self._kept: dict[SeriesKey, _Kept] = {}
        self._before: list[int | None] = []
        last: dict[SeriesKey, int] = {}
        for i, record in enumerate(file.header.arrays):
            self._before.append(last.get(self._series(i)))
            last[series_of(record, record.geometry)] = i
        #: Arrays that another one needs.
        self._needed = {b for i, b in enumerate(self._before) if b is not None and self._is_predicted(i)}

    def chain(self, index: int) -> list[int]:
        """Arrays to decode for array `index`, in their order, itself the last; the first is a key step.

        Raises
        ------
        FormatError
            If there is none to begin with.
        """
        found = [index]
        while self._is_predicted(found[-1]):
            needed = steps_needed(self.file.header.arrays[found[-1]].params)
            before = self._before[found[-1]]
            if before is None or not (self._is_predicted(before) or (needed == 1 and self._is_key(before))):
                raise FormatError(f"predicted: {needed} steps before array {found[-1] + 1} are missing")
            found.append(before)
            if len(found) > LONGEST + 1:
                raise FormatError(f"predicted: more than {LONGEST} steps without a key step")
        return found[::-1]

    def values(
        self, index: int, region: Region, level: int, context: Context, out: np.ndarray | None = None
    ) -> np.ndarray:
        """What the codec of array `index` gives of a region at a level, in `out` if there is one; the caller may
        overwrite it.
        """
        chain, series = self.chain(index), self._series(index)
        if out is not None:
            if len(chain) > 1 or index in self._needed:
                out[...] = self.values(index, region, level, context)
            else:
                codec = codec_by_id(self.file.header.arrays[index].codec)
                codec.decode_into(self._encoded(index), self.file.spec(index), region, level, context, out)
            return out
        kept = self._kept.get(series)
        steps: tuple[np.ndarray, ...] = ()
        if kept is not None and kept.index in chain and (kept.region, kept.level) == (region, level):
            steps, chain = kept.steps, chain[chain.index(kept.index) + 1 :]
        steps = self._along(chain, steps, region, level, context)
        if index not in self._needed:
            return steps[0] if chain else steps[0].copy()
        self._kept[series] = _Kept(index, region, level, steps)
        return steps[0].copy()

    def blocks(self, index: int, context: Context) -> Iterator[tuple[Region, np.ndarray]]:
        """All values of array `index`, box after box."""
        chain = self.chain(index)
        record, spec = self.file.header.arrays[index], self.file.spec(index)
        own = replace(context, previous=self._along(chain[:-1], (), full_region(spec.shape), 0, context))
        yield from codec_by_id(record.codec).decode_blocks(self._encoded(index), spec, own)

    def _along(
        self, chain: Sequence[int], steps: tuple[np.ndarray, ...], region: Region, level: int, context: Context
    ) -> tuple[np.ndarray, ...]:
        """The last steps of a chain, the latest first; `steps` are those before it."""
        for i in chain:
            context.progress.check()
            codec, spec = codec_by_id(self.file.header.arrays[i].codec), self.file.spec(i)
            values = codec.decode(self._encoded(i), spec, region, level, replace(context, previous=steps))
            assert values.dtype == spec.dtype, "a codec returns the array's dtype"
            steps = (values, *(steps[: TAPS - 1] if self._is_predicted(i) else ()))
        return steps

    def _encoded(self, index: int) -> Encoded:
        record, sections = self.file.header.arrays[index], self.file.lazy_sections(index)
        return Encoded(record.params, sections[1:] if record.special else sections)

    def _series(self, index: int) -> SeriesKey:
        record = self.file.header.arrays[index]
        return series_of(record, record.geometry)

    def _is_predicted(self, index: int) -> bool:
        return self.file.header.arrays[index].codec == Predicted.id

    def _is_key(self, index: int) -> bool:
        return self.file.header.arrays[index].codec == Wavelet.id


@dataclass(frozen=True)
class _Kept:
    """The latest step of a series that was decoded, with the one before it if its successor may need that."""

    index: int
    region: Region
    level: int
    steps: tuple[np.ndarray, ...]
