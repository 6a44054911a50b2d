"""Radiance fields in ``.nvc`` files as arrays on a grid, and whether such arrays still are what the file holds."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkStringArray
from vtkmodules.vtkCommonDataModel import vtkDataObject

from neurcomp_core.codec import Context
from neurcomp_core.container import Container, RadianceRecord
from neurcomp_core.errors import NeurCompError
from neurcomp_core.field import Association, Field, Region, UniformGrid
from neurcomp_core.radiance.codec import radiance_codec_by_id
from neurcomp_core.radiance.export import COLOR, DENSITY, SH
from neurcomp_core.radiance.volume import RadianceVolume
from neurcomp_filters.bridge import fields_from_vtk
from neurcomp_filters.figures import Figures, attach_file, attached_file
from neurcomp_filters.radiance_image import RGBA, alpha_length, rgba

#: Arrays of a radiance field; harmonics are large, so they are there for those who ask.
ARRAYS = (DENSITY, COLOR, RGBA, SH)
UNASKED = (SH,)
ALPHA_LENGTH = "neurcomp_alpha_length"
_CHECKS, _CHECKED = "neurcomp_checks", "neurcomp_checked"


@dataclass(frozen=True)
class Sampling:
    """How a radiance field becomes arrays.

    Attributes
    ----------
    resolution : int
        Voxels along the longest side; 0 for the field's own.
    direction : tuple of 3 float
        Along which one looks, for the colour; zeros for the mean over all directions.
    """

    resolution: int = 0
    direction: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(eq=False)
class RadianceSource:
    """The radiance field of a file, decoded when it is first asked for something, and its arrays of last time."""

    file: Container
    index: int
    path: str
    sampling: Sampling
    _volume: RadianceVolume | None = None
    _arrays: dict[str, Field] = field(default_factory=dict)

    @property
    def record(self) -> RadianceRecord:
        """What the header says of it."""
        return self.file.header.radiance[self.index]

    @property
    def prefix(self) -> str:
        """What tells its arrays from those of other radiance fields of the file."""
        return f"{self.record.name}_" if len(self.file.header.radiance) > 1 else ""

    def volume(self, context: Context | None = None) -> RadianceVolume:
        """The decoded field."""
        if self._volume is None:
            from neurcomp_core.radiance import files

            self._volume = files.load(self.file, context, self.record.name)
        return self._volume

    def geometry(self) -> UniformGrid:
        """Where the samples are."""
        from neurcomp_core.radiance import evaluation, export

        frame = export.frame_of(evaluation.field_of(self.volume()), self.sampling.resolution or None)
        z, y, x = frame.shape
        origin, spacing = -frame.offset * frame.voxel, frame.voxel
        return UniformGrid((0, x - 1, 0, y - 1, 0, z - 1), tuple(origin.tolist()), tuple(spacing.tolist()))

    def arrays(self, names: Iterable[str], context: Context) -> dict[str, Field]:
        """Arrays by name, at least those of `names`."""
        if not set(names) <= set(self._arrays):
            from neurcomp_core.radiance import evaluation, export

            known = evaluation.field_of(self.volume(context))
            towards = self.sampling.direction if any(self.sampling.direction) else None
            resolution = self.sampling.resolution or None
            made = export.fields(known, resolution, towards, SH in names, context.progress)
            self._arrays = {f.name: f for f in made}
            if RGBA in names:
                self._arrays[RGBA] = rgba(self._arrays[DENSITY], self._arrays[COLOR])
        return self._arrays

    def annotate(self, data: vtkDataObject, fields: Sequence[Field], keep: bool) -> None:
        """Put into the field data what `fields` of `data` do not say: the length that the alpha of `rgba` is for, and,
        to `keep`, the file.
        """
        if RGBA in self._arrays:
            note_alpha(data, self._arrays[RGBA])
        if keep:
            remember(data, Path(self.path).read_bytes(), fields)


@dataclass(frozen=True, eq=False)
class RadianceEntry:
    """One array of a radiance field, for the reader; see `contents.ArrayEntry`."""

    source: RadianceSource
    array: str
    time: float | None
    grid: int
    association: Association = "point"

    @property
    def name(self) -> str:
        return self.source.prefix + self.array

    @property
    def nbytes(self) -> int:
        sizes = {DENSITY: 4, COLOR: 12, RGBA: 4, SH: 108}
        return sizes[self.array] * int(np.prod(self.source.geometry().dimensions))

    @property
    def shape(self) -> tuple[int, ...]:
        x, y, z = self.source.geometry().dimensions
        return (z, y, x)

    def decode(self, region: Region, level: int, context: Context) -> Field:
        """Samples ``region`` of it, every ``2**level``-th; `RadianceSource.arrays` has made it before."""
        made = self.source.arrays([self.array], context)[self.array]
        z, y, x = (slice(r.start, r.stop, 2**level) for r in region)
        values = np.ascontiguousarray(made.values[z, y, x])
        return Field(values, name=self.name)

    def figures(self) -> Figures:
        """Of the field that it belongs to."""
        record = self.source.record
        codec = radiance_codec_by_id(record.codec).name
        psnr = float("nan") if record.psnr is None else record.psnr
        own = sum(record.sections) if self.source.prefix else self.source.file.nbytes
        return Figures(record.name, codec, int(np.prod(self.shape)), record.raw_bytes, own, psnr)


def file_of(data: vtkDataObject) -> bytes | None:
    """The radiance file that `data` carries, if its arrays still are those that were read from it."""
    content = attached_file(data)
    return content if content is not None and unchanged(data) else None


# ------------------------------------------------------------------------------------------- what came from which file


def remember(data: vtkDataObject, content: bytes, fields: Sequence[Field]) -> None:
    """Keep a radiance file with the arrays that were made of it, and what tells whether they still are the same."""
    attach_file(data, content)
    names = vtkStringArray()
    names.SetName(_CHECKED)
    for one in fields:
        names.InsertNextValue(one.name)
    data.GetFieldData().AddArray(names)
    sums = numpy_to_vtk(np.array([_check(one) for one in fields], np.int64), deep=True)
    sums.SetName(_CHECKS)
    data.GetFieldData().AddArray(sums)


def note_alpha(data: vtkDataObject, colors: Field) -> None:
    """Put the length into the field data that the alpha of `rgba` is for."""
    length = numpy_to_vtk(np.array([alpha_length(colors)]), deep=True)
    length.SetName(ALPHA_LENGTH)
    data.GetFieldData().AddArray(length)


def holds_fields(content: bytes) -> bool:
    """Whether an attached file holds radiance fields; false if it is none that can be read."""
    try:
        return bool(Container(content).header.radiance)
    except NeurCompError:
        return False


def unchanged(data: vtkDataObject, names: Iterable[str] = ()) -> bool:
    """Whether the arrays that `remember` knew and that are still there are as they were; false if none is, or if one of
    `names` is another.
    """
    known_names, sums = (data.GetFieldData().GetAbstractArray(name) for name in (_CHECKED, _CHECKS))
    if known_names is None or sums is None or known_names.GetNumberOfValues() != sums.GetNumberOfValues():
        return False
    known = {known_names.GetValue(i): int(s) for i, s in enumerate(vtk_to_numpy(sums))}
    found = [f for f in fields_from_vtk(data) if f.association == "point" and f.name in known]
    if not found or not set(names) <= set(known):
        return False
    return all(f.mask is None and _check(f) == known[f.name] for f in found)


def _check(one: Field) -> int:
    """Checksum of an array and of where its samples are."""
    assert isinstance(one.geometry, UniformGrid)
    grid = one.geometry
    place = np.array([*grid.extent, *grid.origin, *grid.spacing, *grid.direction], np.float64)
    return zlib.crc32(np.ascontiguousarray(one.values).tobytes(), zlib.crc32(place.tobytes()))
