"""From the bytes of a file back to fields: arrays, regions of them, and box after box."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from neurcomp_core.codec import Context
from neurcomp_core.container import ArraySpec, Container
from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.field import Field, Region, full_region
from neurcomp_core.steps import Steps


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
        If an array does not exist, the region lies outside, or the result would not fit into memory; or if the file
        holds radiance fields alone.
    """
    file = source if isinstance(source, Container) else Container(source)
    context = context or Context()
    names = [r.name for r in file.header.arrays]
    if not names and file.header.radiance:
        raise InputError(f"{file.name} holds a radiance field and no arrays; open it with `neurcomp radiance`")
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
    out: np.ndarray | None = None,
) -> Field:
    """Decode array `index` of an open file; see `decompress`.

    `steps`, of the same file, remembers the step before for the next call, so that a series plays at a step a call.
    `out` is memory of the caller's that the values are decoded into, a VTK array's say: C-contiguous, of the shape
    ``(z, y, x[, c])`` and the dtype of the result, whose values it becomes.
    """
    record, spec = file.header.arrays[index], file.spec(index)
    box = _clip(region, spec, record.name)
    if not 0 <= level < 32:
        raise InputError(f"level of detail: expected 0 to 31, got {level}")
    step = 2**level
    shape = tuple(-(-(r.stop - r.start) // step) for r in box) + spec.shape[3:]
    if out is not None and (
        out.shape != shape or out.dtype != spec.dtype or not (out.flags.c_contiguous and out.flags.writeable)
    ):
        raise InputError(
            f"array '{record.name}': out: expected a writable C-contiguous array of {spec.dtype}, shape {shape}, "
            f"got {out.dtype}, shape {out.shape}"
        )
    _check_memory(ArraySpec(spec.shape if record.special else shape, spec.dtype), file.name)
    try:
        values = (steps or Steps(file)).values(index, box, level, context or Context(), out)
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
