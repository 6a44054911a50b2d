"""Codec ``predicted``: a step of a series as what the decoded steps before it do not say of it.

The prediction is a weighted sum of the one or two steps before, without motion; what it misses goes through the codec
``wavelet``. The steps before are those a decoder has (closed-loop prediction: Jain, "Image data compression: a review",
Proc. IEEE 69(3), 1981, section III), so errors do not add up, and whatever holds for the difference holds for the step.

It is no codec to ask for by name, for an array alone has no step before: `steps.History` offers it where there is one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from neurcomp_core import metrics
from neurcomp_core.codec import Codec, Context, Encoded
from neurcomp_core.codecs.wavelet import Wavelet
from neurcomp_core.coding import wire
from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import FormatError, InputError, Interrupted, TargetError
from neurcomp_core.field import Field, Region, full_region
from neurcomp_core.target import Bytes, MaxError, Psnr, Target
from neurcomp_core.weighting import UNIT, weighting

#: Most steps that a prediction takes, and the largest of its weights.
TAPS, LARGEST = 2, 16 * UNIT
#: Types whose differences have a type of their own.
_DIFFERENCES = {1: np.int16, 2: np.int32, 4: np.int64}
#: Samples that are worked on at a time.
_SLAB = 1 << 20


@dataclass(frozen=True)
class PredictedRecord:
    """Parameters of a stream.

    Attributes
    ----------
    weights : tuple of int
        Of the steps before, the latest first, in 1/64.
    residual : bytes
        Parameters of the stream of what the prediction misses; none if there is no such stream.
    """

    weights: tuple[int, ...] = (UNIT,)
    residual: bytes = b""


@dataclass(frozen=True)
class Predicted(Codec):
    """A weighted sum of the steps before, which are the context's, and what it misses.

    Parameters
    ----------
    wavelet : Wavelet
        What codes the difference.
    weights : tuple of int, optional
        Of the steps before, the latest first, in 1/64; the best by default.
    """

    id = 9
    name = "predicted"
    exact_levels: ClassVar[bool] = False

    wavelet: Wavelet = field(default_factory=Wavelet)
    weights: tuple[int, ...] | None = None

    def encode(self, field: Field, target: Target, context: Context) -> Encoded:
        """See `Codec.encode`; `context.previous` holds the steps before, whole."""
        if not context.previous:
            raise InputError(f"array '{field.name}': there is no step before that it could be predicted from")
        weights = self.weights or weighting(field, context.previous[:TAPS], target).weights
        missed, worst = _missed(field, weights, context.previous)
        valid = field.valid
        kept = missed if valid is None else missed[valid]
        record = PredictedRecord(weights)
        inner = self._inner(target, field, kept, worst, len(wire.pack(record)))
        if inner is None:
            return Encoded(wire.pack(record), ())
        low, high = metrics.limits(kept)
        if low == high:
            raise TargetError("the step differs from its prediction by a constant")
        rest = replace(field, values=missed, mask=None if valid is None else ~valid)
        try:
            encoded = self.wavelet.encode(rest, inner, context)
        except Interrupted as stop:
            raise type(stop)(str(stop)) from stop
        return Encoded(wire.pack(replace(record, residual=encoded.params)), encoded.sections)

    def _inner(self, target: Target, field: Field, missed: np.ndarray, worst: float, overhead: int) -> Target | None:
        """What to ask of the difference; None if the prediction alone will do."""
        if isinstance(target, Bytes):
            # The residual's parameters have a key and a length of their own.
            return Bytes(max(int(target.value) - overhead - 2, 1)) if worst else None
        if isinstance(target, MaxError):
            bound = target.value - _rounding(field, missed)
            if bound <= 0:
                raise TargetError(f"{target} is below what a difference of two steps resolves")
            return MaxError(bound) if worst > bound else None
        assert isinstance(target, Psnr)
        low, high = field.limits
        rmse = (high - low) * 10 ** (-target.value / 20) * (1 - 1e-6)
        if metrics.root_mean_square(missed) <= rmse:
            return None
        least, most = (float(v) for v in metrics.limits(missed))
        return Psnr(max(metrics.psnr(most - least, rmse), 0.01))

    @classmethod
    def decode(cls, encoded: Encoded, spec: ArraySpec, region: Region, level: int, context: Context) -> np.ndarray:
        """See `Codec.decode`; `context.previous` holds the same region and level of the steps before."""
        record = _record(encoded, spec, context)
        rest = None
        if record.residual:
            own = ArraySpec(spec.shape, difference_type(spec.dtype))
            rest = Wavelet.decode(Encoded(record.residual, encoded.sections), own, region, level, context)
        return _restored(rest, record.weights, context.previous, spec.dtype)

    @classmethod
    def decode_blocks(cls, encoded: Encoded, spec: ArraySpec, context: Context) -> Iterator[tuple[Region, np.ndarray]]:
        """See `Codec.decode_blocks`; `context.previous` holds the steps before, whole."""
        record = _record(encoded, spec, context)
        if not record.residual:
            yield full_region(spec.shape), _restored(None, record.weights, context.previous, spec.dtype)
            return
        own = ArraySpec(spec.shape, difference_type(spec.dtype))
        for region, rest in Wavelet.decode_blocks(Encoded(record.residual, encoded.sections), own, context):
            parts = tuple(values[region] for values in context.previous)
            yield region, _restored(rest, record.weights, parts, spec.dtype)

    @classmethod
    def describe(cls, encoded: Encoded) -> dict[str, Any]:
        """See `Codec.describe`."""
        record = wire.unpack(PredictedRecord, encoded.params)
        about: dict[str, Any] = {"weights of the steps before": ", ".join(f"{w / UNIT:g}" for w in record.weights)}
        if record.residual:
            about |= Wavelet.describe(Encoded(record.residual, encoded.sections))
        return about | {"sections": [len(s) for s in encoded.sections]}


def steps_needed(params: bytes) -> int:
    """How many steps before are needed to decode a stream of these parameters.

    Raises
    ------
    FormatError
        If they are none of `Predicted`.
    """
    record = wire.unpack(PredictedRecord, params)
    if not 1 <= len(record.weights) <= TAPS or any(abs(w) > LARGEST for w in record.weights):
        raise FormatError(f"predicted: expected 1 or 2 weights up to {LARGEST}, got {record.weights[:9]}")
    return len(record.weights)


def predictable(dtype: np.dtype) -> bool:
    """Whether differences of values of a type have a type; those of 64-bit integers have none."""
    return dtype.kind == "f" or dtype.itemsize in _DIFFERENCES


def difference_type(dtype: np.dtype) -> np.dtype:
    """Type of what a prediction of values of a type misses.

    Raises
    ------
    FormatError
        If there is none.
    """
    if not predictable(dtype):
        raise FormatError(f"predicted: arrays of {dtype} have no differences")
    return dtype if dtype.kind == "f" else np.dtype(_DIFFERENCES[dtype.itemsize])


def _record(encoded: Encoded, spec: ArraySpec, context: Context) -> PredictedRecord:
    needed = steps_needed(encoded.params)
    record = wire.unpack(PredictedRecord, encoded.params)
    if len(context.previous) < needed:
        raise FormatError(f"predicted: expected {needed} steps before this one, got {len(context.previous)}")
    if bool(record.residual) != bool(len(encoded.sections)):
        raise FormatError(f"predicted: {len(encoded.sections)} sections do not fit the parameters")
    difference_type(spec.dtype)
    return record


def _slabs(count: int, size: int) -> Iterator[slice]:
    """Parts of `count` planes that have `size` samples together."""
    step = max(_SLAB * count // max(size, 1), 1)
    for first in range(0, count, step):
        yield slice(first, min(first + step, count))


def prediction(weights: Sequence[int], steps: Sequence[np.ndarray], dtype: np.dtype) -> np.ndarray:
    """The weighted sum of arrays of one type: of integers int64, rounded and clipped; of floats float64."""
    if dtype.kind == "f":
        total = np.zeros(steps[0].shape)
        for weight, values in zip(weights, steps, strict=False):
            # Of float32 the products are exact: a fused multiplication and addition gives the same.
            total += values.astype(np.float64) * (weight / UNIT)
        return total
    limits = np.iinfo(dtype)
    whole = sum(values.astype(np.int64) * weight for weight, values in zip(weights, steps, strict=False))
    return np.clip((whole + UNIT // 2) // UNIT, limits.min, limits.max)


def _missed(field: Field, weights: tuple[int, ...], steps: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    """What the prediction misses, 0 where samples are no data; and the largest magnitude."""
    values, valid = field.values, field.valid
    out = np.empty(values.shape, difference_type(values.dtype))
    worst = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for part in _slabs(len(values), values.size):
            guess = prediction(weights, [s[part] for s in steps], values.dtype)
            rest = values[part].astype(guess.dtype) - guess
            if valid is not None:
                rest[~valid[part]] = 0
            out[part] = rest
            worst = max(worst, float(np.abs(out[part]).max()))
    if not math.isfinite(worst):
        raise TargetError("steps differ by more than their type holds")
    return out, worst


def _restored(
    rest: np.ndarray | None, weights: tuple[int, ...], steps: Sequence[np.ndarray], dtype: np.dtype
) -> np.ndarray:
    """Inverse of `_missed`."""
    out = np.empty(steps[0].shape, dtype)
    limits = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    with np.errstate(over="ignore"):
        for part in _slabs(len(out), out.size):
            total = prediction(weights, [s[part] for s in steps], dtype)
            if rest is not None:
                total += rest[part]
            out[part] = np.clip(total, limits.min, limits.max)
    return out


def _rounding(field: Field, missed: np.ndarray) -> float:
    """What rounding of the difference and of the sum to the array's type may add to an error."""
    if field.values.dtype.kind in "iu":
        return 0.0
    largest = max(abs(float(v)) for v in (*field.limits, *metrics.limits(missed)))
    return 2 * float(np.spacing(field.values.dtype.type(largest)))
