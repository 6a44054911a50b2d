"""What files hold for a reader: arrays of fields, and those that radiance fields are shown as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neurcomp_core.codec import Context
from neurcomp_core.container import Container
from neurcomp_core.errors import InputError
from neurcomp_core.field import Association, Field, Geometry, Region
from neurcomp_core.pipeline import decode_array
from neurcomp_core.steps import Steps
from neurcomp_core.tthresh.file import open_compressed
from neurcomp_filters.figures import Figures, figures_of
from neurcomp_filters.radiance_file import ARRAYS, RadianceEntry, RadianceSource, Sampling


@dataclass(frozen=True, eq=False)
class ArrayEntry:
    """One array of one file at one time."""

    file: Container
    index: int
    time: float | None
    grid: int
    steps: Steps

    @property
    def name(self) -> str:
        return self.file.header.arrays[self.index].name

    @property
    def association(self) -> Association:
        return self.file.association(self.index)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.file.spec(self.index).shape

    @property
    def nbytes(self) -> int:
        """Of the values in memory."""
        return self.file.spec(self.index).nbytes

    def decode(self, region: Region, level: int, context: Context) -> Field:
        """Samples ``region`` of it, every ``2**level``-th."""
        return decode_array(self.file, self.index, region, level, context, self.steps)

    def figures(self) -> Figures:
        """What the file says of it."""
        return figures_of(self.file)[self.index]


Entry = ArrayEntry | RadianceEntry


@dataclass(frozen=True, eq=False)
class Contents:
    """All arrays of all files, and the distinct grids they are on."""

    entries: tuple[Entry, ...]
    grids: tuple[Geometry, ...]
    times: tuple[float, ...]

    def at(self, time: float | None) -> list[Entry]:
        """Arrays of the step next to `time`, and those that belong to no step."""
        if not self.times:
            return list(self.entries)
        wanted = self.times[0] if time is None else min(self.times, key=lambda t: abs(t - time))
        return [e for e in self.entries if e.time is None or e.time == wanted]

    @property
    def holds_radiance(self) -> bool:
        return any(isinstance(e, RadianceEntry) for e in self.entries)


def contents_of(names: Sequence[str], sampling: Sampling) -> Contents:
    """What files hold, each a time step of its own where they do not say their times.

    Raises
    ------
    InputError
        If a file cannot be read or holds nothing.
    FormatError
        If it is damaged.
    """
    grids: list[Geometry] = []
    entries: list[Entry] = []

    def on(geometry: Geometry) -> int:
        if geometry not in grids:
            grids.append(geometry)
        return grids.index(geometry)

    for number, name in enumerate(names):
        file = open_compressed(name)
        if len(file) == 0 and not file.header.radiance:
            raise InputError(f"{name} holds no array")
        own = float(number) if len(names) > 1 else None
        # The step that was read last stays in memory where others are predicted from it.
        steps = Steps(file)
        for i, record in enumerate(file.header.arrays):
            time = own if record.time is None else record.time
            entries.append(ArrayEntry(file, i, time, on(file.geometry(i)), steps))
        for i in range(len(file.header.radiance)):
            source = RadianceSource(file, i, name, sampling)
            grid = on(source.geometry())
            entries += [RadianceEntry(source, array, own, grid) for array in ARRAYS]
    times = sorted({e.time for e in entries if e.time is not None})
    return Contents(tuple(entries), tuple(grids), tuple(times))
