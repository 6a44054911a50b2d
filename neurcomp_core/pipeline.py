"""Fields to the bytes of one file: what each array may take, the steps of series, and what is reported of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from neurcomp_core import container
from neurcomp_core.array_coding import SLACK, Coded, compress_one, described, measure, prepare
from neurcomp_core.codec import Codec, Context, Encoded, Tried, codec_by_name
from neurcomp_core.codecs.hashgrid import HashGrid, start_of
from neurcomp_core.container import ArraySpec, Header
from neurcomp_core.decoding import decode_array, decode_blocks, decompress
from neurcomp_core.errors import InputError, Interrupted
from neurcomp_core.field import Field
from neurcomp_core.metrics import Quality
from neurcomp_core.residual import parts
from neurcomp_core.steps import History, SeriesKey, series_of
from neurcomp_core.target import Target

__all__ = ["ArrayReport", "Compressed", "compress", "decode_array", "decode_blocks", "decompress"]

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
    done: dict[int, Coded] = {}
    left_bytes, left_raw = (total or 0) - overhead, raw
    # Small arrays first: what they leave of their share, or need beyond it, is the larger ones' to take or give.
    for i in sorted(range(len(fields)), key=lambda i: fields[i].nbytes):
        field, grid = fields[i], grid_index[i]
        context.progress.within(1 - left_raw / raw, 1 - (left_raw - field.nbytes) / raw)
        share = max(int(left_bytes * field.nbytes / left_raw), min(_LEAST, left_bytes)) - SLACK
        try:
            budget = None if total is None else share
            own = steps.started(i, context)
            done[i] = compress_one(field, grid, chosen, target, budget, own, steps.before(i), steps.goes_on(i))
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

    def started(self, i: int, context: Context) -> Context:
        """The context of field `i`, whose networks may start where those of the step before ended."""
        return replace(context, init=context.init or self.history.starts.get(self.keys[i]))

    def goes_on(self, i: int) -> bool:
        """Whether there is or may be a step after field `i` that could be predicted from it."""
        return self.history.wants(self.fields[i], self.codec) and self._more(i)

    def _more(self, i: int) -> bool:
        return self.open or self.keys[i] in self.keys[i + 1 :]

    def add(self, i: int, coded: Coded) -> None:
        self.history.add(self.keys[i], coded.codec, coded.decoded)
        self.history.starts.pop(self.keys[i], None)
        if coded.codec is HashGrid and self.fields[i].time is not None and self._more(i):
            encoded, _ = parts(HashGrid.record, Encoded(coded.record.params, coded.sections[coded.record.special :]))
            start = start_of(encoded, ArraySpec(self.fields[i].values.shape, self.fields[i].values.dtype))
            if start is not None:
                self.history.starts[self.keys[i]] = start


def _series_key(field: Field) -> SeriesKey:
    return series_of(described(field, 0), container.geometry_record(field.geometry))


def _report(field: Field, coded: Coded, shared: int) -> ArrayReport:
    size = coded.nbytes + shared
    return ArrayReport(field.name, coded.codec.name, field.nbytes, size, coded.quality, coded.seconds, coded.tried)


def _finish_interrupted(
    stop: Interrupted, coded: list[Coded], field: Field, grid: int, codec: Codec, shared: tuple
) -> bytes | None:
    """A whole file of the arrays that are done and the best network of the one that is not."""
    done = list(coded)
    if isinstance(stop.best, Encoded):
        done.append(measure(prepare(field, grid, codec), stop.best, Context()))
    header = Header(shared, tuple(c.record for c in done))
    return container.dumps(header, [s for c in done for s in c.sections]) if done else None


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
