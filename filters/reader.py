"""Opening ``.nvc`` and ``.tthresh`` files: many of them as one series, whole or a part, at full or lower resolution."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from vtkmodules.vtkCommonCore import vtkDataArraySelection
from vtkmodules.vtkCommonDataModel import vtkDataObject as DataObject
from vtkmodules.vtkCommonDataModel import vtkImageData, vtkMultiBlockDataSet, vtkRectilinearGrid
from vtkmodules.vtkCommonExecutionModel import vtkAlgorithm
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline

from neurcomp_core.codec import Context
from neurcomp_core.container import Container
from neurcomp_core.errors import InputError
from neurcomp_core.field import Field, Geometry, RectilinearGrid, UniformGrid
from neurcomp_core.pipeline import decode_array
from neurcomp_core.steps import Steps
from neurcomp_core.tthresh.file import open_compressed
from neurcomp_filters.algorithm import Algorithm
from neurcomp_filters.arrays import ArrayChoice
from neurcomp_filters.bridge import vtk_from_fields, vtk_from_geometry
from neurcomp_filters.figures import add_figures, figures_of
from neurcomp_filters.settings import default_threads

_EMPTY = (0, -1, 0, -1, 0, -1)


@dataclass(frozen=True, eq=False)
class _Entry:
    """One array of one file at one time."""

    file: Container
    index: int
    time: float | None
    grid: int
    steps: Steps

    @property
    def name(self) -> str:
        return self.file.header.arrays[self.index].name


@dataclass(frozen=True, eq=False)
class _Contents:
    """All arrays of all files, and the distinct grids they are on."""

    entries: tuple[_Entry, ...]
    grids: tuple[Geometry, ...]
    times: tuple[float, ...]

    def at(self, time: float | None) -> list[_Entry]:
        """Arrays of the step next to `time`, and those that belong to no step."""
        if not self.times:
            return list(self.entries)
        wanted = self.times[0] if time is None else min(self.times, key=lambda t: abs(t - time))
        return [e for e in self.entries if e.time is None or e.time == wanted]


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
        self._contents: _Contents | None = None
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

    def SetThreads(self, count: int) -> None:
        """CPU threads; 0 for all, or one per process of a parallel run."""
        self._set(_threads=int(count))

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

    def _open(self) -> _Contents | None:
        """What the files hold; None, and an error once, if they cannot be read."""
        state = (0 <= self._level < 32, *((name, *_stamp(name)) for name in self._names))
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
        grids: list[Geometry] = []
        entries: list[_Entry] = []
        for number, name in enumerate(self._names):
            file = open_compressed(name)
            if len(file) == 0:
                raise InputError(f"{name} holds no array")
            # The step that was read last stays in memory where others are predicted from it.
            steps = Steps(file)
            for i, record in enumerate(file.header.arrays):
                geometry = file.geometry(i)
                if geometry not in grids:
                    grids.append(geometry)
                time = record.time
                if time is None and len(self._names) > 1:
                    time = float(number)
                entries.append(_Entry(file, i, time, grids.index(geometry), steps))
        times = sorted({e.time for e in entries if e.time is not None})
        self._contents = _Contents(tuple(entries), tuple(grids), tuple(times))
        self._arrays.offer(dict.fromkeys((e.file.association(e.index), e.name) for e in entries))

    def _lattice(self, contents: _Contents, grid: int) -> Geometry:
        """The grid of what is read: all points, or every 2**level-th."""
        geometry = contents.grids[grid]
        if self._level == 0:
            return geometry
        step = 2**self._level
        own = [e for e in contents.entries if e.grid == grid]
        if any(e.file.association(e.index) == "point" for e in own):
            count = tuple(-(-n // step) for n in geometry.dimensions)
        else:
            # Cells alone cover the grid to its end.
            count = tuple(-(-(n - 1) // step) + 1 for n in geometry.dimensions)
        return geometry.sample((0, 0, 0), count, step)  # type: ignore[arg-type]

    def _read(self, contents: _Contents, time: float | None, extent: tuple[int, ...], output: Any) -> None:
        wanted = [e for e in contents.at(time) if self._arrays.wants(e.file.association(e.index), e.name)]
        context = Context(threads=self._threads or default_threads(), progress=self._progress())
        now = next((e.time for e in wanted if e.time is not None), None)
        total = sum(e.file.spec(e.index).nbytes for e in wanted)
        fields: dict[int, list[Field]] = {}
        done = 0
        for entry in wanted:
            context.progress.within(done / total, (done + entry.file.spec(entry.index).nbytes) / total)
            context.progress.update(0.0, f"decoding {entry.name}")
            lattice = self._lattice(contents, entry.grid)
            part = extent if len(contents.grids) == 1 and extent else lattice.extent
            fields.setdefault(entry.grid, []).append(replace(self._decode(entry, lattice, part, context), time=now))
            done += entry.file.spec(entry.index).nbytes
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
        add_figures(output, [figures_of(e.file)[e.index] for e in wanted])
        if now is not None:
            output.GetInformation().Set(DataObject.DATA_TIME_STEP(), now)

    def _decode(self, entry: _Entry, lattice: Geometry, extent: tuple[int, ...], context: Context) -> Field:
        """One array on the points `extent` of `lattice`."""
        step = 2**self._level
        shape = entry.file.spec(entry.index).shape
        cells = entry.file.association(entry.index) == "cell"
        region = tuple(_slices(extent, lattice.extent, shape, step, cells))
        field = decode_array(entry.file, entry.index, region, self._level, context, entry.steps)  # type: ignore[arg-type]
        return replace(field, geometry=_part(lattice, extent))


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
