"""Volume files in and out, chosen by extension: `read` gives fields, `write` takes them.

What VTK has a good reader or writer for goes through VTK; the rest is read here. World coordinates are those of the
file: NIfTI's are right-anterior-superior, those of NRRD and MetaImage usually left-posterior-superior.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from neurcomp_core.errors import InputError, require
from neurcomp_core.field import Field
from neurcomp_core.files import atomic_path

__all__ = ["READABLE", "WRITABLE", "read", "takes", "write"]


@dataclass(frozen=True)
class _Format:
    """Where a format is handled: `reader(path, arrays, **options)` and `writer(fields, path)` in one module."""

    module: str
    reader: str = ""
    writer: str = ""
    vtk: bool = True
    options: tuple[str, ...] = ()


_RAW = _Format("raw", "read_raw", vtk=False, options=("dims", "dtype"))
_VTKHDF = _Format("hdf", "read_vtkhdf", "write_vtkhdf")
_HDF5 = _Format("hdf", "read_hdf5", vtk=False, options=("dataset",))
_META = _Format("meta", "read_meta")
_NIFTI = _Format("nifti", "read_nifti")
_NRRD = _Format("nrrd", "read_nrrd", vtk=False)

_FORMATS = {
    ".vti": _Format("xml", "read_vti", "write_vti"),
    ".vtr": _Format("xml", "read_vtr", "write_vtr"),
    ".pvd": _Format("pvd", "read_pvd", "write_pvd"),
    ".vtk": _Format("legacy", "read_vtk"),
    ".vtkhdf": _VTKHDF,
    ".hdf": _VTKHDF,
    ".h5": _HDF5,
    ".hdf5": _HDF5,
    ".nc": _Format("netcdf", "read_netcdf"),
    ".nii": _NIFTI,
    ".nii.gz": _NIFTI,
    ".nrrd": _NRRD,
    ".nhdr": _NRRD,
    ".mha": _META,
    ".mhd": _META,
    ".tthresh": _Format("tthresh", "read_tthresh", vtk=False),
    ".npy": _Format("raw", "read_npy", "write_npy", vtk=False),
    **dict.fromkeys((".raw", ".bin", ".dat", ".float", ".double", ".f32", ".f64", ".d64", ".u8"), _RAW),
}

#: Extensions `read` knows. Any other file is read as raw samples where `dims` says how many there are.
READABLE = tuple(ext for ext, kind in _FORMATS.items() if kind.reader)
#: Extensions `write` knows.
WRITABLE = tuple(ext for ext, kind in _FORMATS.items() if kind.writer)


def read(
    path: str | os.PathLike[str],
    arrays: Sequence[str] | None = None,
    *,
    dims: Sequence[int] | None = None,
    dtype: str | np.dtype | None = None,
    dataset: str | None = None,
    fill_value: float | None = None,
) -> list[Field]:
    """Read the arrays of a volume file.

    Parameters
    ----------
    path : path-like
    arrays : sequence of str, optional
        Names of the arrays to read; all if left out.
    dims : sequence of 2 to 4 int, optional
        For raw files: samples along x, y, z and, for vectors, the number of interleaved components.
    dtype : str or dtype, optional
        For raw files: ``'float32'``, ``'>u2'`` …; little-endian unless it says otherwise.
    dataset : str, optional
        For HDF5 files: path of the dataset, axes ``(z, y, x)`` or ``(z, y, x, c)``.
    fill_value : float, optional
        Samples of this value are masked, besides those that the file itself declares to be no data.

    Returns
    -------
    list of Field
        One per array and time step, in the order of the steps.

    Raises
    ------
    InputError
        If the file is missing, unreadable, empty, damaged or of unknown type, if an array does not exist or an
        option does not apply.
    MissingExtraError
        If an optional package that the format needs is not installed.
    """
    path = Path(path)
    extension = _extension(path)
    kind = _FORMATS.get(extension)
    if kind is None and dims is not None:
        kind = _RAW
    if kind is None or not kind.reader:
        raise InputError(
            f"cannot read '{path}': unknown extension '{extension}'; known are {', '.join(READABLE)} "
            "(for raw samples under any other name give dims and dtype)"
        )
    _check_readable(path)
    given = {"dims": dims, "dtype": dtype, "dataset": dataset}
    for option, value in given.items():
        if value is not None and option not in kind.options:
            raise InputError(f"cannot read '{path}': the option '{option}' does not apply to {extension} files")
    if isinstance(arrays, str):
        arrays = [arrays]
    function = _load(kind, kind.reader, f"reading {extension} files")
    with _told_of(path, "read"):
        fields: list[Field] = function(path, arrays, **{option: given[option] for option in kind.options})
    return fields if fill_value is None else [_masked(field, fill_value) for field in fields]


def write(fields: Sequence[Field], path: str | os.PathLike[str]) -> None:
    """Write fields to one file, wholly or not at all.

    ``.vti`` and ``.vtkhdf``/``.hdf`` take uniform grids (and rectilinear ones whose axes are evenly spaced), ``.vtr``
    takes rectilinear ones, ``.npy`` a single array, and ``.pvd`` several time steps, each in a ``.vti`` or ``.vtr``
    file beside it.

    Raises
    ------
    InputError
        If the extension is unknown, the fields do not fit the format or one grid, or the file cannot be written.
    MissingExtraError
        If an optional package that the format needs is not installed.
    """
    path = Path(path)
    extension = _extension(path)
    kind = _FORMATS.get(extension)
    if kind is None or not kind.writer:
        raise InputError(f"cannot write '{path}': unknown extension '{extension}'; known are {', '.join(WRITABLE)}")
    if not fields:
        raise InputError(f"cannot write '{path}': there is no array to write")
    times = sorted({field.time for field in fields if field.time is not None})
    if len(times) > 1 and extension != ".pvd":
        raise InputError(
            f"cannot write '{path}': the arrays belong to {len(times)} time steps and {extension} holds one; "
            "write a .pvd series"
        )
    function: Callable[[Sequence[Field], Path], None] = _load(kind, kind.writer, f"writing {extension} files")
    if extension == ".pvd":
        with _told_of(path, "write"):
            function(fields, path)
    else:
        with atomic_path(path) as temporary, _told_of(path, "write"):
            function(fields, temporary)


@contextmanager
def _told_of(path: Path, action: str) -> Iterator[None]:
    # Readers and writers say what is wrong; which file it is about is said here, once.
    try:
        yield
    except InputError as error:
        if str(error).startswith("cannot "):
            raise
        raise InputError(f"cannot {action} '{path}': {error}") from error.__cause__
    except OSError as error:
        raise InputError(f"cannot {action} '{path}': {error.strerror or error}") from error


def takes(path: str | os.PathLike[str], option: str) -> bool:
    """Whether `read` takes `option` ('dims', 'dtype' or 'dataset') for a file of this name."""
    kind = _FORMATS.get(_extension(Path(path)), _RAW)
    return option in kind.options


def _extension(path: Path) -> str:
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def _check_readable(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"cannot read '{path}': it is a folder; give a file")
    if not path.exists():
        raise InputError(f"cannot read '{path}': there is no such file")
    if not os.access(path, os.R_OK):
        raise InputError(f"cannot read '{path}': permission denied")
    if path.stat().st_size == 0:
        raise InputError(f"cannot read '{path}': the file is empty (0 bytes)")


def _load(kind: _Format, function: str, purpose: str) -> Callable:
    if kind.vtk:
        require("vtkmodules.vtkCommonDataModel", "vtk", purpose)
    return getattr(importlib.import_module(f"{__name__}.{kind.module}"), function)


def _masked(field: Field, fill_value: float) -> Field:
    from neurcomp_filters.io._masks import merge, where_equal

    return replace(field, mask=merge(field.mask, where_equal(field.values, fill_value)))
