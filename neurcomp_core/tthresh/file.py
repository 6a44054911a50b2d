"""``.tthresh`` files: opened as if they were `.nvc` files, and made from fields.

A file is a tensor without a grid, names or times. Its axes are, slowest first:

=====  ================================================================================================
2      y, x
3      z, y, x
4      z, y, x, component if the last has at most 9 (as many as a 3x3 tensor), otherwise step, z, y, x
5      step, z, y, x, component
=====  ================================================================================================
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from neurcomp_core import metrics
from neurcomp_core.array_coding import in_codec_terms
from neurcomp_core.codec import Context
from neurcomp_core.codecs.tthresh import Tthresh, TthreshRecord
from neurcomp_core.coding import wire
from neurcomp_core.container import ArrayRecord, Container, GeometryRecord, Header
from neurcomp_core.errors import FormatError, InputError, Interrupted, TargetError
from neurcomp_core.field import DTYPES, Field
from neurcomp_core.pipeline import ArrayReport, Compressed
from neurcomp_core.target import BUDGET_FLOOR, Bytes, Target

SUFFIX = ".tthresh"
_MOST_COMPONENTS = 9


class TthreshFile(Container):
    """An open ``.tthresh`` file; every array, one per step, is a part of its one stream.

    Parameters
    ----------
    source : bytes-like or path
    name : str, optional
        Of the arrays; the file's own by default.

    Raises
    ------
    FormatError
        If it is not one, or its tensor has more axes than a field.
    InputError
        If the path cannot be read.
    """

    def __init__(self, source: bytes | bytearray | memoryview | str | Path, name: str = "") -> None:
        from neurcomp_core.tthresh.stream import read_header

        self.name = str(source) if isinstance(source, str | Path) else "the data"
        self._data = _bytes(source)
        self._view = memoryview(self._data)
        try:
            header = read_header(self._data)
            steps, shape = _axes(header.shape)
        except FormatError as error:
            raise FormatError(f"{self.name}: {error}") from error
        record = ArrayRecord(
            sections=(len(self._data),),
            name=name or (Path(source).stem if isinstance(source, str | Path) else "values"),
            dtype=DTYPES.index(header.dtype.name),
            components=shape[3] if len(shape) == 4 else 0,
            codec=Tthresh.id,
        )
        grid = GeometryRecord(shape[2::-1])
        self.header = Header((grid,), (record,))
        if steps:
            self.header = Header((grid,), tuple(_step(record, i) for i in range(steps)))
        self._check_grid(grid)

    def section(self, index: int, section: int) -> bytes:
        """The whole stream, whichever the array."""
        return self._data


def open_compressed(path: str | Path) -> Container:
    """An open ``.nvc`` or ``.tthresh`` file, by its extension; see `Container` and `TthreshFile`."""
    return (TthreshFile if Path(path).suffix.lower() == SUFFIX else Container)(path)


def compress_file(field: Field, target: Target, context: Context | None = None) -> Compressed:
    """The bytes of a ``.tthresh`` file of one array; grid, name and time are lost.

    Raises
    ------
    InputError
        If the array has samples that are not data, which a tensor cannot.
    TargetError
        If the target cannot be met; says what can.
    """
    from neurcomp_core.tthresh.fit import fit

    if field.valid is not None:
        raise InputError(
            f"array '{field.name}' has NaN or masked samples; a {SUFFIX} file cannot hold them, a .nvc can"
        )
    begun, context = time.perf_counter(), context or Context()
    budget = target.budget(field.nbytes)
    inner = in_codec_terms(target, field) if budget is None else Bytes(max(budget, 1))
    try:
        data = fit(field.values, inner, context).tobytes()
    except Interrupted as stop:
        best = None if stop.best is None else stop.best.tobytes()  # type: ignore[attr-defined]
        raise type(stop)(str(stop), best) from stop
    quality = metrics.measure(field.values, _decoded(data, field))
    full = budget is None or quality.max_error == 0 or len(data) >= BUDGET_FLOOR * 0.99 * budget
    if not full or not inner.met(quality):
        raise TargetError(
            f"array '{field.name}': {target} was missed: {len(data)} bytes have {quality.psnr:.2f} dB PSNR and a "
            f"largest error of {quality.max_error:g}",
            quality.psnr,
        )
    seconds = time.perf_counter() - begun
    return Compressed(data, (ArrayReport(field.name, Tthresh.name, field.nbytes, len(data), quality, seconds),))


def _decoded(data: bytes, field: Field) -> np.ndarray:
    from neurcomp_core.tthresh.stream import read

    return read(data).values(dtype=field.values.dtype)


def _axes(shape: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """Number of steps, 0 for none, and the shape ``(z, y, x[, c])`` of one."""
    if len(shape) <= 3:
        return 0, (1,) * (3 - len(shape)) + shape
    if len(shape) == 4:
        return (0, shape) if shape[3] <= _MOST_COMPONENTS else (shape[0], shape[1:])
    if len(shape) == 5 and shape[4] < 1 << 16:
        return shape[0], shape[1:]
    raise FormatError(
        f"a tensor of shape {shape} is no series of vector fields; read it with neurcomp_core.tthresh.stream.read"
    )


def _step(record: ArrayRecord, step: int) -> ArrayRecord:
    return replace(record, time=float(step), params=wire.pack(TthreshRecord(step)))


def _bytes(source: bytes | bytearray | memoryview | str | Path) -> bytes:
    if not isinstance(source, str | Path):
        return bytes(source)
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {source}: {error.strerror}") from error
