"""One array to its place in a file: what its codec is given, what it is measured at, what it takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from neurcomp_core import container, metrics
from neurcomp_core.codec import Codec, Context, Encoded, Tried, measured, pack_tried, registry
from neurcomp_core.container import ArrayRecord, Header
from neurcomp_core.errors import InputError, TargetError, TimeLimitReached
from neurcomp_core.field import DTYPES, Field
from neurcomp_core.metrics import Quality
from neurcomp_core.regions import ArrayImportance, weights_of
from neurcomp_core.steps import predictions
from neurcomp_core.target import BUDGET_FLOOR, Bytes, L2Error, MaxError, Psnr, RelativeError, Rmse, Target

#: Bytes a header may still grow by once a stream's length and measured figures are known.
SLACK = 4


@dataclass(frozen=True)
class Prepared:
    """One array as its codec takes it.

    Attributes
    ----------
    field : Field
        Without special samples, which its mask then marks.
    special : bytes
        The section that brings them back; empty if there are none.
    codec : Codec
    record : ArrayRecord
        What the header says of the array before it is coded.
    """

    field: Field
    special: bytes
    codec: Codec
    record: ArrayRecord

    @property
    def overhead(self) -> int:
        """Bytes around the codec's stream and parameters: the array's record, its figures, its special samples."""
        special = (self.special,) if self.special else ()
        filled = replace(self.record, codec=1, sections=tuple(map(len, special)), psnr=60.5, max_error=0.5)
        # The empty params and the run of section lengths have a key and a length of their own.
        return size_of(filled, special) + 4


@dataclass(frozen=True)
class Coded:
    """One array ready for the file."""

    record: ArrayRecord
    sections: tuple[bytes, ...]
    codec: type[Codec]
    quality: Quality
    seconds: float
    tried: tuple[Tried, ...]
    decoded: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """Bytes this array adds to the file."""
        return size_of(self.record, self.sections)


def compress_one(
    field: Field,
    grid: int,
    codec: Codec,
    target: Target,
    budget: int | None,
    context: Context,
    previous: tuple[np.ndarray, ...] = (),
    goes_on: bool = False,
) -> Coded:
    """The array, predicted from the steps `previous` where that is better; decoded, too, if its series `goes_on`."""
    start = time.perf_counter()
    prepared = prepare(field, grid, codec)
    if isinstance(target, L2Error):
        target = rmse_of(target, prepared.field)
    try:
        inner = _inner_target(target, prepared, budget)
    except TargetError as error:
        raise _explain(error, prepared, budget) from error
    context = replace(context, previous=previous, importance=_importance(prepared, inner, context))
    predicted, both = predictions(prepared.codec, prepared.field, inner, context)
    found: list[Coded] = []

    def attempt(way: Codec, low: float, high: float) -> None:
        stage = context if high - low == 1 else replace(context, progress=context.progress.part(low, high))
        found.append(_attempt(replace(prepared, codec=way), inner, target, budget, stage, goes_on))

    if predicted:
        try:
            attempt(predicted, 0, 0.5 if both else 1)
        except TargetError:
            both = True
    if not predicted or both:
        try:
            attempt(prepared.codec, 0.5 if predicted else 0, 1)
        except (TargetError, TimeLimitReached):
            # What is found meets the target.
            if not found:
                raise
    better = (lambda c: -c.quality.psnr) if budget is not None else (lambda c: c.nbytes)
    return replace(min(found, key=better), seconds=time.perf_counter() - start)


def _importance(prepared: Prepared, target: Target, context: Context) -> ArrayImportance | None:
    """Weights of this array: what is coded may be a prediction's difference, which has other values.

    Raises
    ------
    InputError
        If the codec has no use for them, or the target none.
    """
    codec, field = prepared.codec, prepared.field
    weights = weights_of(field, context.importance) if codec.name != "constant" else None
    if weights is None:
        return None
    if not codec.weighted:
        able = ", ".join(sorted(known.name for known in registry().values() if known.weighted))
        raise InputError(f"codec {codec.name} cannot make some samples better than others; choose one of auto, {able}")
    if isinstance(target, MaxError) and target.value < 1 and field.values.dtype.kind in "iu":
        raise InputError(f"array '{field.name}': a lossless file has no errors to move; leave the regions out")
    return ArrayImportance(weights)


def _attempt(
    prepared: Prepared, inner: Target, target: Target, budget: int | None, context: Context, keep: bool
) -> Coded:
    field = prepared.field
    try:
        encoded = prepared.codec.encode(field, inner, context)
    except TargetError as error:
        raise _explain(error, prepared, budget) from error
    coded = measure(prepared, encoded, context, keep)
    if not target.met(coded.quality):
        raise TargetError(
            f"array '{field.name}': {target} was not met: the decoded file has {coded.quality.psnr:.2f} dB PSNR and a "
            f"largest error of {coded.quality.max_error:g}; ask for less or choose another codec",
            coded.quality.psnr,
        )
    lossless = coded.quality.max_error == 0
    if budget is not None and not lossless and not BUDGET_FLOOR * 0.99 * budget <= coded.nbytes <= budget + SLACK:
        raise TargetError(f"array '{field.name}': {coded.nbytes} bytes miss the budget of {budget}")
    return coded


def prepare(field: Field, grid: int, codec: Codec) -> Prepared:
    from neurcomp_core.codecs.constant import Constant, constant_value

    valid = field.valid
    if valid is not None and not valid.any():
        raise InputError(f"array '{field.name}' has no finite, unmasked sample; there is nothing to compress")
    special = b""
    clean = field
    if valid is not None:
        from neurcomp_core import masks

        values, special = masks.split(field)
        clean = replace(field, values=values, mask=~valid)
    record = replace(described(field, grid), special=bool(special))
    return Prepared(clean, special, Constant() if constant_value(field) is not None else codec, record)


def described(field: Field, grid: int) -> ArrayRecord:
    return ArrayRecord(
        name=field.name,
        association=("point", "cell").index(field.association),
        dtype=DTYPES.index(field.values.dtype.name),
        components=field.values.shape[3] if field.values.ndim == 4 else 0,
        geometry=grid,
        time=field.time,
    )


def _inner_target(target: Target, prepared: Prepared, budget: int | None) -> Target:
    """The target as a codec takes it: bytes of the stream alone, or an error in the data's units."""
    if budget is not None:
        overhead = prepared.overhead
        if budget <= overhead:
            raise TargetError(
                f"{max(budget, 0)} bytes are less than its description alone takes "
                f"({overhead} bytes); ask for a ratio of at most {prepared.field.nbytes / (overhead + 200):.3g}"
            )
        return Bytes(budget - overhead)
    return in_codec_terms(target, prepared.field)


def in_codec_terms(target: Target, field: Field) -> Target:
    """A quality target as codecs take it: `Psnr`, or `MaxError` in the data's units."""
    if isinstance(target, L2Error):
        target = rmse_of(target, field)
    if isinstance(target, RelativeError):
        low, high = field.limits
        return MaxError(target.value * (high - low)) if high > low else MaxError(target.value)
    if isinstance(target, MaxError) and target.value == 0:
        if field.values.dtype.kind not in "iu":
            raise TargetError(
                f"{target}: only integers can be lossless, these are {field.values.dtype}; ask for a bound"
            )
        # What rounds to the right integer.
        return MaxError(0.5)
    if isinstance(target, Rmse):
        low, high = field.limits
        # A hair more, as both are measured; an error beyond the range has no positive PSNR.
        return Psnr(max(metrics.psnr(high - low, target.value * (1 - 1e-12)), 0.01))
    return target


def rmse_of(target: L2Error, field: Field) -> Rmse:
    """The same target in the data's units; of an array of zeros, whose error must be 0, an unreachable one."""
    size = metrics.root_mean_square(field.values, field.mask)
    return Rmse(max(target.value * size, 5e-324))


def _explain(error: TargetError, prepared: Prepared, budget: int | None) -> TargetError:
    """A codec's complaint with the array's name; a smallest size becomes the largest ratio."""
    field = prepared.field
    if budget is None or error.reachable is None:
        return TargetError(f"array '{field.name}': {error}", error.reachable)
    least = int(error.reachable) + prepared.overhead + SLACK + 64
    return TargetError(
        f"array '{field.name}': {error}; the largest ratio that can be had for it is about {field.nbytes / least:.3g} "
        f"({least} bytes)",
        field.nbytes / least,
    )


def measure(prepared: Prepared, encoded: Encoded, context: Context, keep: bool = False) -> Coded:
    field, codec = prepared.field, encoded.codec or type(prepared.codec)
    decoded = np.empty_like(field.values) if keep else None
    quality = measured(codec, encoded, field, context, decoded)
    sections = ((prepared.special,) if prepared.special else ()) + tuple(encoded.sections)
    record = replace(
        prepared.record,
        codec=codec.id,
        params=encoded.params,
        sections=tuple(map(len, sections)),
        psnr=float(np.float32(quality.psnr)),
        max_error=float(np.float32(quality.max_error)),
        tried=pack_tried(encoded.tried),
    )
    return Coded(record, sections, codec, quality, 0.0, encoded.tried, decoded)


def size_of(record: ArrayRecord, sections: Sequence[bytes]) -> int:
    """Bytes that one array adds to a file."""
    return len(container.dumps(Header((), (record,)), sections)) - len(container.dumps(Header(), ()))
