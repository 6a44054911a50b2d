"""From fields to the bytes of a file and back: masks, budgets, codecs, and the measuring that keeps targets honest."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from neurcomp_core import container, metrics
from neurcomp_core.codec import Codec, Context, Encoded, Tried, codec_by_name, measured, pack_tried
from neurcomp_core.container import ArrayRecord, ArraySpec, Container, Header
from neurcomp_core.errors import FormatError, InputError, Interrupted, TargetError, TimeLimitReached
from neurcomp_core.field import DTYPES, Field, Region, full_region
from neurcomp_core.metrics import Quality
from neurcomp_core.steps import History, SeriesKey, Steps, predictions, series_of
from neurcomp_core.target import BUDGET_FLOOR, Bytes, L2Error, MaxError, Psnr, RelativeError, Rmse, Target

#: Bytes a header may still grow by once a stream's length and measured figures are known.
_SLACK = 4
#: Of a size for several arrays, even the smallest array may take this much.
_LEAST = 160


@dataclass(frozen=True)
class ArrayReport:
    """What became of one array.

    Attributes
    ----------
    name, codec : str
    raw_bytes, file_bytes : int
        Of the values in memory; this array's share of the file, shared header in proportion.
    quality : Quality
        Measured on the decoded bytes, in the array's dtype.
    seconds : float
        Encoding and checking.
    tried : tuple of Tried
        What else was tried, and lost.
    """

    name: str
    codec: str
    raw_bytes: int
    file_bytes: int
    quality: Quality
    seconds: float
    tried: tuple[Tried, ...] = ()


@dataclass(frozen=True)
class Compressed:
    """A complete file in memory, and what was measured of it."""

    data: bytes
    reports: tuple[ArrayReport, ...]


@dataclass(frozen=True)
class _Prepared:
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
        return _size(filled, special) + 4


@dataclass(frozen=True)
class _Coded:
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
        return _size(self.record, self.sections)


def compress(
    fields: Field | Sequence[Field],
    target: Target,
    codec: Codec | str = "auto",
    context: Context | None = None,
    history: History | None = None,
) -> Compressed:
    """Compress fields into the bytes of one ``.nvc`` file.

    Parameters
    ----------
    fields : Field or sequence of Field
        Any number of arrays, grids and time steps.
    target : Target
        Quality targets hold for each array; a size is that of the whole file, shared in proportion to raw bytes.
    codec : Codec or str
        A codec, or the name of one to take with its default parameters; ``auto`` chooses (`auto.Auto`). Constant arrays
        are stored as such.
    context : Context, optional
    history : History, optional
        How time steps are predicted from those before them, and what steps the result will be joined to
        (`series.Series`); by default those of `fields`, in their order, with a key step every `steps.KEY_EVERY`.

    Returns
    -------
    Compressed

    Raises
    ------
    InputError
        If there is nothing to compress or an array cannot be used.
    TargetError
        If the target cannot be met; says what can.
    Interrupted
        If the run was stopped; `best` is a valid file of the arrays that were done and the best network of the one
        that was not, or None if there was neither.

    Examples
    --------
    >>> field = marschner_lobb(64)
    >>> data = compress(field, Ratio(100)).data
    >>> decoded = decompress(data)[0]
    """
    fields = [fields] if isinstance(fields, Field) else list(fields)
    if not fields:
        raise InputError("there is no array to compress")
    context = context or Context()
    chosen = codec_by_name(codec)() if isinstance(codec, str) else codec
    steps = _Series(fields, chosen, history)
    raw = sum(f.nbytes for f in fields)
    total = target.budget(raw)
    shared, grid_index = _geometries(fields)
    overhead = len(container.dumps(Header(shared, ()), ()))
    done: dict[int, _Coded] = {}
    left_bytes, left_raw = (total or 0) - overhead, raw
    # Small arrays first: what they leave of their share, or need beyond it, is the larger ones' to take or give.
    for i in sorted(range(len(fields)), key=lambda i: fields[i].nbytes):
        field, grid = fields[i], grid_index[i]
        context.progress.within(1 - left_raw / raw, 1 - (left_raw - field.nbytes) / raw)
        share = max(int(left_bytes * field.nbytes / left_raw), min(_LEAST, left_bytes)) - _SLACK
        try:
            budget = None if total is None else share
            done[i] = _compress_one(field, grid, chosen, target, budget, context, steps.before(i), steps.goes_on(i))
            steps.add(i, done[i])
            done[i] = replace(done[i], decoded=None)
        except Interrupted as stop:
            best = _finish_interrupted(stop, [done[k] for k in sorted(done)], field, grid, chosen, shared)
            raise type(stop)(f"array '{field.name}': {stop}", best) from stop
        left_bytes -= done[i].nbytes
        left_raw -= field.nbytes
    coded = [done[i] for i in range(len(fields))]
    header = Header(shared, tuple(c.record for c in coded))
    data = container.dumps(header, [s for c in coded for s in c.sections])
    context.progress.within(0, 1)
    reports = tuple(_report(f, c, round(overhead * f.nbytes / raw)) for f, c in zip(fields, coded, strict=True))
    return Compressed(data, reports)


class _Series:
    """Which of the fields are steps of one series, and what came before each."""

    def __init__(self, fields: Sequence[Field], codec: Codec, history: History | None) -> None:
        self.codec, self.fields = codec, fields
        self.history = History() if history is None else history
        self.open = history is not None
        self.keys = [_series_key(field) for field in fields]

    def before(self, i: int) -> tuple[np.ndarray, ...]:
        """Steps that field `i` may be predicted from, the latest first."""
        return self.history.previous(self.keys[i]) if self.history.wants(self.fields[i], self.codec) else ()

    def goes_on(self, i: int) -> bool:
        """Whether there is or may be a step after field `i` that could be predicted from it."""
        return self.history.wants(self.fields[i], self.codec) and (self.open or self.keys[i] in self.keys[i + 1 :])

    def add(self, i: int, coded: _Coded) -> None:
        self.history.add(self.keys[i], coded.codec, coded.decoded)


def _series_key(field: Field) -> SeriesKey:
    return series_of(_described(field, 0), container.geometry_record(field.geometry))


def _report(field: Field, coded: _Coded, shared: int) -> ArrayReport:
    size = coded.nbytes + shared
    return ArrayReport(field.name, coded.codec.name, field.nbytes, size, coded.quality, coded.seconds, coded.tried)


def decompress(
    source: bytes | str | Path | Container,
    arrays: Sequence[str] | None = None,
    region: Region | None = None,
    level: int = 0,
    context: Context | None = None,
) -> list[Field]:
    """Decode fields from a ``.nvc`` file, its bytes, or an open `Container`.

    Parameters
    ----------
    source : bytes, path or Container
    arrays : sequence of str, optional
        Names to decode; all by default.
    region : tuple of slice, optional
        Samples along z, y, x, counted from 0; all by default.
    level : int
        Take every ``2**level``-th sample of the region.
    context : Context, optional

    Returns
    -------
    list of Field
        In file order.

    Raises
    ------
    FormatError
        If the file is damaged or not one of ours.
    InputError
        If an array does not exist, the region lies outside, or the result would not fit into memory.
    """
    file = source if isinstance(source, Container) else Container(source)
    context = context or Context()
    names = [r.name for r in file.header.arrays]
    for name in arrays or ():
        if name not in names:
            raise InputError(f"{file.name} has no array '{name}'; it has: {', '.join(dict.fromkeys(names))}")
    wanted = [i for i, name in enumerate(names) if arrays is None or name in arrays]
    steps = Steps(file)
    return [decode_array(file, i, region, level, context, steps) for i in wanted]


def decode_array(
    file: Container,
    index: int,
    region: Region | None = None,
    level: int = 0,
    context: Context | None = None,
    steps: Steps | None = None,
) -> Field:
    """Decode array `index` of an open file; see `decompress`.

    `steps`, of the same file, remembers the step before for the next call, so that a series plays at a step a call.
    """
    record, spec = file.header.arrays[index], file.spec(index)
    box = _clip(region, spec, record.name)
    if not 0 <= level < 32:
        raise InputError(f"level of detail: expected 0 to 31, got {level}")
    step = 2**level
    shape = tuple(-(-(r.stop - r.start) // step) for r in box) + spec.shape[3:]
    _check_memory(ArraySpec(spec.shape if record.special else shape, spec.dtype), file.name)
    try:
        values = (steps or Steps(file)).values(index, box, level, context or Context())
        mask = _restore(file.section(index, 0), spec, box, step, values) if record.special else None
    except FormatError as error:
        raise FormatError(f"{file.name}: array '{record.name}': {error}") from error
    except MemoryError as error:
        raise InputError(f"{file.name}: array '{record.name}' needs more memory than there is") from error
    grid = file.geometry(index)
    if level or box != full_region(spec.shape):
        cells = file.association(index) == "cell"
        # A flat axis has one layer of points and one of cells.
        points = tuple(n + (cells and d > 1) for n, d in zip(values.shape[2::-1], grid.dimensions, strict=True))
        grid = grid.sample(tuple(r.start for r in box[::-1]), points, step)  # type: ignore[arg-type]
    return Field(values, grid, record.name, file.association(index), record.time, mask)


def decode_blocks(file: Container, index: int, context: Context | None = None) -> Iterator[tuple[Region, np.ndarray]]:
    """Values of array `index` of an open file, box after box, so that they need not fit into memory.

    Yields
    ------
    region : tuple of slice
    values : ndarray

    Raises
    ------
    FormatError
        If the file is damaged.
    """
    from neurcomp_core import masks

    record, spec = file.header.arrays[index], file.spec(index)
    special = masks.read(file.section(index, 0), spec) if record.special else None
    try:
        for region, values in Steps(file).blocks(index, context or Context()):
            if special:
                labels, patterns = (part[region] for part in special)
                masks.restore(values, labels, patterns[labels != 0])
            yield region, values
    except FormatError as error:
        raise FormatError(f"{file.name}: array '{record.name}': {error}") from error


# ------------------------------------------------------------------------------------------------------- one array


def _compress_one(
    field: Field,
    grid: int,
    codec: Codec,
    target: Target,
    budget: int | None,
    context: Context,
    previous: tuple[np.ndarray, ...] = (),
    goes_on: bool = False,
) -> _Coded:
    """The array, predicted from the steps `previous` where that is better; decoded, too, if its series `goes_on`."""
    start = time.perf_counter()
    prepared = _prepare(field, grid, codec)
    if isinstance(target, L2Error):
        target = rmse_of(target, prepared.field)
    try:
        inner = _inner_target(target, prepared, budget)
    except TargetError as error:
        raise _explain(error, prepared, budget) from error
    context = replace(context, previous=previous)
    predicted, both = predictions(prepared.codec, prepared.field, inner, context)
    found: list[_Coded] = []

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


def _attempt(
    prepared: _Prepared, inner: Target, target: Target, budget: int | None, context: Context, keep: bool
) -> _Coded:
    field = prepared.field
    try:
        encoded = prepared.codec.encode(field, inner, context)
    except TargetError as error:
        raise _explain(error, prepared, budget) from error
    coded = _measure(prepared, encoded, context, keep)
    if not target.met(coded.quality):
        raise TargetError(
            f"array '{field.name}': {target} was not met: the decoded file has {coded.quality.psnr:.2f} dB PSNR and a "
            f"largest error of {coded.quality.max_error:g}; ask for less or choose another codec",
            coded.quality.psnr,
        )
    lossless = coded.quality.max_error == 0
    if budget is not None and not lossless and not BUDGET_FLOOR * 0.99 * budget <= coded.nbytes <= budget + _SLACK:
        raise TargetError(f"array '{field.name}': {coded.nbytes} bytes miss the budget of {budget}")
    return coded


def _prepare(field: Field, grid: int, codec: Codec) -> _Prepared:
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
    record = replace(_described(field, grid), special=bool(special))
    return _Prepared(clean, special, Constant() if constant_value(field) is not None else codec, record)


def _described(field: Field, grid: int) -> ArrayRecord:
    return ArrayRecord(
        name=field.name,
        association=("point", "cell").index(field.association),
        dtype=DTYPES.index(field.values.dtype.name),
        components=field.values.shape[3] if field.values.ndim == 4 else 0,
        geometry=grid,
        time=field.time,
    )


def _inner_target(target: Target, prepared: _Prepared, budget: int | None) -> Target:
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


def _explain(error: TargetError, prepared: _Prepared, budget: int | None) -> TargetError:
    """A codec's complaint with the array's name; a smallest size becomes the largest ratio."""
    field = prepared.field
    if budget is None or error.reachable is None:
        return TargetError(f"array '{field.name}': {error}", error.reachable)
    least = int(error.reachable) + prepared.overhead + _SLACK + 64
    return TargetError(
        f"array '{field.name}': {error}; the largest ratio that can be had for it is about {field.nbytes / least:.3g} "
        f"({least} bytes)",
        field.nbytes / least,
    )


def _measure(prepared: _Prepared, encoded: Encoded, context: Context, keep: bool = False) -> _Coded:
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
    return _Coded(record, sections, codec, quality, 0.0, encoded.tried, decoded)


def _finish_interrupted(
    stop: Interrupted, coded: list[_Coded], field: Field, grid: int, codec: Codec, shared: tuple
) -> bytes | None:
    """A whole file of the arrays that are done and the best network of the one that is not."""
    done = list(coded)
    if isinstance(stop.best, Encoded):
        done.append(_measure(_prepare(field, grid, codec), stop.best, Context()))
    header = Header(shared, tuple(c.record for c in done))
    return container.dumps(header, [s for c in done for s in c.sections]) if done else None


def _size(record: ArrayRecord, sections: Sequence[bytes]) -> int:
    """Bytes that one array adds to a file."""
    return len(container.dumps(Header((), (record,)), sections)) - len(container.dumps(Header(), ()))


def _geometries(fields: list[Field]) -> tuple[tuple, list[int]]:
    """Distinct grids in header form, and each field's place among them."""
    distinct: list = []
    index = []
    for field in fields:
        record = container.geometry_record(field.geometry)
        if record not in distinct:
            distinct.append(record)
        index.append(distinct.index(record))
    return tuple(distinct), index


# --------------------------------------------------------------------------------------------------------- reading


def _clip(region: Region | None, spec: ArraySpec, name: str) -> Region:
    whole = full_region(spec.shape)
    if region is None:
        return whole
    box = tuple(slice(*r.indices(n)) for r, n in zip(region, spec.shape[:3], strict=True))
    if any(r.step != 1 or r.stop <= r.start for r in box):
        raise InputError(f"array '{name}': region {region} is empty or outside the shape {spec.shape[:3]} (z, y, x)")
    return box  # type: ignore[return-value]


def _check_memory(spec: ArraySpec, name: str) -> None:
    memory = _machine_memory()
    if spec.nbytes > memory:
        raise InputError(
            f"{name}: the decoded array of shape {spec.shape} needs {spec.nbytes / 2**30:.1f} GiB, this machine "
            f"has {memory / 2**30:.1f} GiB; decode a region or a coarser level"
        )


def _machine_memory() -> float:
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return float("inf")


def _restore(section: bytes, spec: ArraySpec, box: Region, step: int, values: np.ndarray) -> np.ndarray | None:
    from neurcomp_core import masks

    labels, patterns = masks.read(section, spec)
    part = tuple(slice(r.start, r.stop, step) for r in box)
    labels, patterns = labels[part], patterns[part]
    return masks.restore(values, labels, patterns[labels != 0])
