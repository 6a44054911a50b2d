"""Files that are the time steps of one series."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import numpy as np

from neurcomp_core.codec import Codec, Context
from neurcomp_core.errors import InputError, NeurCompError
from neurcomp_core.field import Field
from neurcomp_core.pipeline import ArrayReport, Compressed
from neurcomp_core.series import Series
from neurcomp_core.target import Target


def compress_files(
    inputs: Sequence[Path],
    load: Callable[[Path], list[Field]],
    target: Target,
    codec: Codec,
    key_every: int,
    context: Context,
) -> tuple[Compressed, list[Field]]:
    """One file of the steps that `inputs` hold, each read when its turn comes; files without a time are 0, 1, 2 …

    Returns
    -------
    compressed : Compressed
    fields : list of Field
        Those of the reports, without their values: all are zero and take no memory.

    Raises
    ------
    InputError, TargetError, Interrupted
        With the name of the file; see `series.Series.add`.
    """
    named = _name(inputs)
    series = Series(target, len(inputs), codec, key_every)
    reports: list[ArrayReport] = []
    outlines: list[Field] = []
    of_time: dict[float | None, Path] = {}
    for i, source in enumerate(inputs):
        fields = [f if f.time is not None else replace(f, time=float(i)) for f in load(source)]
        # An array that is named after its file would have another name in each step.
        fields = [replace(f, name=named) if f.name == source.stem else f for f in fields]
        for time in {f.time for f in fields}:
            if of_time.setdefault(time, source) != source:
                raise InputError(
                    f"'{of_time[time]}' and '{source}' are both of the time {time:g}; steps need their own"
                )
        progress = context.progress.part(i / len(inputs), (i + 1) / len(inputs), source.name)
        try:
            done = series.add(fields, replace(context, progress=progress))
        except NeurCompError as error:
            error.args = (f"{source}: {error}", *error.args[1:])
            raise
        reports += done.reports
        outlines += [_outline(field) for field in fields]
    return Compressed(series.data, tuple(reports)), outlines


def _name(inputs: Sequence[Path]) -> str:
    """What the names of the files have in common: ``u`` of ``u_01.npy``, ``u_02.npy`` …"""
    columns = takewhile(lambda letters: len(set(letters)) == 1, zip(*(source.stem for source in inputs), strict=False))
    common = "".join(letters[0] for letters in columns)
    return common.rstrip("0123456789_-. ") or inputs[0].stem


def _outline(field: Field) -> Field:
    return replace(field, values=np.broadcast_to(field.values.dtype.type(0), field.values.shape), mask=None)
