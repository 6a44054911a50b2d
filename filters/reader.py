"""Opening ``.nvc`` and ``.tthresh`` files: many of them as one series, whole or a part, at full or lower resolution.

Radiance fields open as image data with density and colours.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from vtkmodules.vtkCommonCore import vtkDataArraySelection
from vtkmodules.vtkCommonDataModel import vtkDataObject as DataObject
from vtkmodules.vtkCommonDataModel import vtkImageData, vtkMultiBlockDataSet, vtkRectilinearGrid
from vtkmodules.vtkCommonExecutionModel import vtkAlgorithm
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline

from neurcomp_core.codec import Context
from neurcomp_core.errors import InputError
from neurcomp_core.field import Association, Field, Geometry, RectilinearGrid, UniformGrid
from neurcomp_filters.algorithm import Algorithm
from neurcomp_filters.arrays import ArrayChoice
from neurcomp_filters.bridge import vtk_from_fields, vtk_from_geometry
from neurcomp_filters.contents import Contents, Entry, contents_of
from neurcomp_filters.figures import add_figures
from neurcomp_filters.pieces import process
from neurcomp_filters.radiance_file import UNASKED, RadianceEntry, RadianceSource, Sampling
from neurcomp_filters.settings import default_threads

_EMPTY = (0, -1, 0, -1, 0, -1)


class NvcReader(Algorithm):
    """Read ``.nvc`` and ``.tthresh`` files.

    The output is an image or a rectilinear grid; a multiblock with one block per grid where a file holds several.
    Of a structured output only the requested extent is decoded, so a slice or one process's piece of a large volume
    costs its share. Times are those in the files; several files without any are steps 0, 1, 2 … Of a file whose steps
    are predicted the last one read is kept, so playing forward decodes one step at a time; any other step begins at
    the key step before it.

    Examples
    --------
    >>> reader = NvcReader()
    >>> reader.SetFileName("flow.nvc")
    >>> reader.SetLevelOfDetail(1)
    >>> reader.Update()
    >>> image = reader.GetOutputDataObject(0)
    """

    def __init__(self) -> None:
        super().__init__(nInputPorts=0, nOutputPorts=1, outputType="vtkDataObject")
        self._names: tuple[str, ...] = ()
        self._level = 0
        self._threads = 0
        self._arrays = ArrayChoice(self)
        self._sampling = Sampling()
        self._contents: Contents | None = None
        self._opened: tuple[Any, ...] = ()

    def SetFileName(self, name: str | None) -> None:
        """The one file to read."""
        self._set(_names=(str(name),) if name else ())

    def AddFileName(self, name: str) -> None:
        """One more file of a series."""
        self._set(_names=(*self._names, str(name)))

    def ClearFileNames(self) -> None:
        self._set(_names=())

    def GetFileName(self) -> str:
        """The first file."""
        return self._names[0] if self._names else ""

    def GetPointDataArraySelection(self) -> vtkDataArraySelection:
        return self._arrays.selections["point"]

    def GetCellDataArraySelection(self) -> vtkDataArraySelection:
        return self._arrays.selections["cell"]

    def SetLevelOfDetail(self, level: int) -> None:
        """Take every ``2**level``-th sample."""
        self._set(_level=int(level))

    def SetResolution(self, voxels: int) -> None:
        """Voxels along the longest side that a radiance field is sampled on; 0 for its own."""
        self._set(_sampling=replace(self._sampling, resolution=int(voxels)))

    def SetViewDirection(self, x: float, y: float, z: float) -> None:
        """Along which one looks at a radiance field, for its colour; zeros for the mean over all directions."""
        self._set(_sampling=replace(self._sampling, direction=(float(x), float(y), float(z))))

    def SetThreads(self, count: int) -> None:
        """CPU threads; 0 for all, or one per process of a parallel run."""
        self._set(_threads=int(count))

    def GetHoldsRadiance(self) -> int:
        """Whether there is a radiance field among what the files hold."""
        contents = self._open()
        return int(contents is not None and contents.holds_radiance)

    def GetTimestepValues(self) -> list[float] | None:
        """Times of the series, if it is one."""
        self._open()
        return list(self._contents.times) if self._contents and self._contents.times else None

    # ...................................................................................................... pipeline

    def FillOutputPortInformation(self, port: int, info: Any) -> int:
        info.Set(DataObject.DATA_TYPE_NAME(), "vtkDataObject")
        return 1

    def RequestDataObject(self, request: Any, inInfo: Any, outInfo: Any) -> int:
        contents = self._open()
        grids = () if contents is None else contents.grids
        kind: type = vtkImageData
        if len(grids) > 1:
            kind = vtkMultiBlockDataSet
        elif any(isinstance(grid, RectilinearGrid) for grid in grids):
            kind = vtkRectilinearGrid
        info = outInfo.GetInformationObject(0)
        if not isinstance(info.Get(DataObject.DATA_OBJECT()), kind):
            info.Set(DataObject.DATA_OBJECT(), kind())
        return 1

    def RequestInformation(self, request: Any, inInfo: Any, outInfo: Any) -> int:
        info = outInfo.GetInformationObject(0)
        contents = self._open()
        grid = self._lattice(contents, 0) if contents is not None and len(contents.grids) == 1 else None
        if contents is None or grid is not None:
            info.Set(Pipeline.WHOLE_EXTENT(), _EMPTY if grid is None else grid.extent, 6)
            info.Set(vtkAlgorithm.CAN_PRODUCE_SUB_EXTENT(), 1)
        if isinstance(grid, UniformGrid):
            info.Set(DataObject.ORIGIN(), grid.origin, 3)
            info.Set(DataObject.SPACING(), grid.spacing, 3)
            info.Set(DataObject.DIRECTION(), grid.direction, 9)
        times = contents.times if contents is not None else ()
        if times:
            info.Set(Pipeline.TIME_STEPS(), times, len(times))
            info.Set(Pipeline.TIME_RANGE(), (times[0], times[-1]), 2)
        else:
            info.Remove(Pipeline.TIME_STEPS())
            info.Remove(Pipeline.TIME_RANGE())
        return 1

    def RequestData(self, request: Any, inInfo: Any, outInfo: Any) -> int:
        info = outInfo.GetInformationObject(0)
        output = self.GetOutputData(outInfo, 0)
        contents = self._open()
        if contents is None:
            output.Initialize()
            return 1
        time = info.Get(Pipeline.UPDATE_TIME_STEP()) if info.Has(Pipeline.UPDATE_TIME_STEP()) else None
        extent = tuple(info.Get(Pipeline.UPDATE_EXTENT())) if info.Has(Pipeline.UPDATE_EXTENT()) else ()
        # Blocks do not split: the first process has them all.
        first = not info.Has(Pipeline.UPDATE_PIECE_NUMBER()) or info.Get(Pipeline.UPDATE_PIECE_NUMBER()) <= 0
        if isinstance(output, vtkMultiBlockDataSet) and not first:
            output.Initialize()
            return 1
        self._guarded((self._opened, time, extent), [output], lambda: self._read(contents, time, extent, output))
        return 1

    # .......................................................................................................... work

    def _open(self) -> Contents | None:
        """What the files hold; None, and an error once, if they cannot be read."""
        state = (0 <= self._level < 32, self._sampling, *((name, *_stamp(name)) for name in self._names))
        if self._opened == state and (self._contents is not None or self._error):
            return self._contents
        self._opened, self._contents, self._error = state, None, ""
        self._tried(self._open_files)
        return self._contents

    def _open_files(self) -> None:
        if not self._names:
            raise InputError("no file name is set")
        if not 0 <= self._level < 32:
            raise InputError(f"level of detail: expected 0 to 31, got {self._level}")
        self._contents = contents_of(self._names, self._sampling)
        every: dict[tuple[Association, str], bool] = {}
        for entry in self._contents.entries:
            every[entry.association, entry.name] = isinstance(entry, RadianceEntry) and entry.array in UNASKED
        self._arrays.offer(every, [key for key, unasked in every.items() if unasked])

    def _lattice(self, contents: Contents, grid: int) -> Geometry:
        """The grid of what is read: all points, or every 2**level-th."""
        geometry = contents.grids[grid]
        if self._level == 0:
            return geometry
        step = 2**self._level
        own = [e for e in contents.entries if e.grid == grid]
        if any(e.association == "point" for e in own):
            count = tuple(-(-n // step) for n in geometry.dimensions)
        else:
            # Cells alone cover the grid to its end.
            count = tuple(-(-(n - 1) // step) + 1 for n in geometry.dimensions)
        return geometry.sample((0, 0, 0), count, step)  # type: ignore[arg-type]

    def _read(self, contents: Contents, time: float | None, extent: tuple[int, ...], output: Any) -> None:
        wanted = [e for e in contents.at(time) if self._arrays.wants(e.association, e.name)]
        context = Context(threads=self._threads or default_threads(), progress=self._progress())
        now = next((e.time for e in wanted if e.time is not None), None)
        radiance = [e for e in wanted if isinstance(e, RadianceEntry)]
        for first in _one_each(radiance):
            context.progress.within(0.0, 1.0)
            first.source.arrays([e.array for e in radiance if e.source is first.source], context)
        total = sum(e.nbytes for e in wanted)
        fields: dict[int, list[Field]] = {}
        done = 0
        for entry in wanted:
            context.progress.within(done / total, (done + entry.nbytes) / total)
            context.progress.update(0.0, f"decoding {entry.name}")
            lattice = self._lattice(contents, entry.grid)
            part = extent if len(contents.grids) == 1 and extent else lattice.extent
            fields.setdefault(entry.grid, []).append(replace(self._decode(entry, lattice, part, context), time=now))
            done += entry.nbytes
        if isinstance(output, vtkMultiBlockDataSet):
            output.SetNumberOfBlocks(len(contents.grids))
            for grid in range(len(contents.grids)):
                if grid in fields:
                    output.SetBlock(grid, vtk_from_fields(fields[grid]))
        elif fields:
            output.ShallowCopy(vtk_from_fields(fields[0]))
        else:
            # No array is selected: the grid alone.
            geometry = _part(self._lattice(contents, 0), extent)
            output.ShallowCopy(vtk_from_geometry(geometry))
        alone = [e for e in wanted if not isinstance(e, RadianceEntry)]
        add_figures(output, [e.figures() for e in (*alone, *_one_each(radiance))])
        for entry in _one_each(radiance):
            block = output.GetBlock(entry.grid) if isinstance(output, vtkMultiBlockDataSet) else output
            # Files of pieces cannot be joined, and beside other things a radiance field is not the whole file.
            whole = len(_one_each(radiance)) == 1 and not alone and process()[1] == 1
            entry.source.annotate(block, fields[entry.grid], whole)
        if now is not None:
            output.GetInformation().Set(DataObject.DATA_TIME_STEP(), now)

    def _decode(self, entry: Entry, lattice: Geometry, extent: tuple[int, ...], context: Context) -> Field:
        """One array on the points `extent` of `lattice`."""
        step = 2**self._level
        region = tuple(_slices(extent, lattice.extent, entry.shape, step, entry.association == "cell"))
        field = entry.decode(region, self._level, context)  # type: ignore[arg-type]
        return replace(field, geometry=_part(lattice, extent))


def _one_each(entries: Iterable[RadianceEntry]) -> list[RadianceEntry]:
    """The first array of each radiance field."""
    found: dict[RadianceSource, RadianceEntry] = {}
    for entry in entries:
        found.setdefault(entry.source, entry)
    return list(found.values())


def _slices(
    extent: tuple[int, ...], whole: tuple[int, ...], shape: tuple[int, ...], step: int, cells: bool
) -> Iterator[slice]:
    """Samples along z, y, x of the file's array that make the points (or cells between points) of `extent`."""
    for axis, size in zip((2, 1, 0), shape, strict=False):
        first, last = (extent[2 * axis + i] - whole[2 * axis] for i in range(2))
        if cells:
            # A single layer of points has one layer of cells, in a volume the one that begins there.
            last = max(last - 1, first)
            if last * step >= size:
                first = last = (size - 1) // step
        yield slice(first * step, min(last * step + 1, size))


def _part(lattice: Geometry, extent: tuple[int, ...]) -> Geometry:
    if not extent:
        return lattice
    start = tuple(extent[2 * i] - lattice.extent[2 * i] for i in range(3))
    count = tuple(extent[2 * i + 1] - extent[2 * i] + 1 for i in range(3))
    return lattice.sample(start, count, 1)  # type: ignore[arg-type]


def _stamp(name: str) -> tuple[int, int]:
    """What changes when a file is replaced."""
    try:
        found = os.stat(name)
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)
