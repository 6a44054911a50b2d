"""One file of many parts that are compressed one after the other, so that only their streams are in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from neurcomp_core import container
from neurcomp_core.codec import Codec, Context
from neurcomp_core.container import Container, GeometryRecord, Header
from neurcomp_core.errors import Interrupted, TargetError
from neurcomp_core.field import Field
from neurcomp_core.pipeline import Compressed, compress
from neurcomp_core.steps import KEY_EVERY, History
from neurcomp_core.target import Bytes, Target

#: Bytes that lengths in the joined header may take more than in the parts'.
_SLACK = 4
#: Bytes that a part takes at least, about.
_LEAST = 400


class Series:
    """Time steps on their way into one file, compressed as they come; memory holds their streams and a step or two.

    Parameters
    ----------
    target : Target
        A quality of every array, or the size of the whole file, which the steps share evenly.
    count : int
        Steps that will come.
    codec : Codec or str
    key_every : int
        How many steps there are from one key step to the next at most; see `steps.History`.

    Attributes
    ----------
    parts : list of bytes
        Of each step; one that is predicted decodes only within `data`.

    Examples
    --------
    >>> series = Series(Psnr(50), len(steps))
    >>> for fields in steps:
    ...     series.add(fields)
    >>> Path("flow.nvc").write_bytes(series.data)
    """

    def __init__(self, target: Target, count: int, codec: Codec | str = "auto", key_every: int = KEY_EVERY) -> None:
        self.target, self.count, self.codec = target, count, codec
        self.history = History(key_every)
        self.parts: list[bytes] = []

    @property
    def data(self) -> bytes:
        """A file of the steps so far, of which there must be one."""
        return self.parts[0] if len(self.parts) == 1 else join(self.parts)

    def compressed(self, fields: Sequence[Field], context: Context | None = None) -> Compressed:
        """The arrays of the next step, which is not part of the series until it is in `parts`.

        Raises
        ------
        InputError, TargetError, Interrupted
            As `pipeline.compress`.
        """
        target = next_target(self.target, self.parts, fields, self.count - len(self.parts))
        return compress(fields, target, self.codec, context, self.history)

    def add(self, fields: Sequence[Field], context: Context | None = None) -> Compressed:
        """Compress the arrays of the next step; `data` of what this returns is that step's part.

        Raises
        ------
        InputError, TargetError
            As `pipeline.compress`.
        Interrupted
            With a file of the steps that were done, and what was of this one.
        """
        try:
            found = self.compressed(fields, context)
        except Interrupted as stop:
            best = [stop.best] if isinstance(stop.best, bytes) else []
            parts = [*self.parts, *best]
            raise type(stop)(str(stop), join(parts) if parts else None) from stop
        self.parts.append(found.data)
        return found

    def append(self, part: bytes) -> None:
        """Take a step as it was compressed elsewhere; those after it are not predicted from it."""
        self.parts.append(part)
        self.history.forget()


def join(parts: Sequence[bytes]) -> bytes:
    """One file with the arrays of several, in their order and to the bit; equal grids are stored once.

    Raises
    ------
    FormatError
        If a part is damaged.

    Examples
    --------
    >>> steps = [compress(field, Psnr(50)).data for field in fields]
    >>> series = join(steps)
    """
    grids: dict[GeometryRecord, int] = {}
    arrays, sections = [], []
    for part in parts:
        file = Container(part)
        for index, record in enumerate(file.header.arrays):
            grid = grids.setdefault(file.header.geometries[record.geometry], len(grids))
            arrays.append(replace(record, geometry=grid))
            sections += file.sections(index)
    return container.dumps(Header(tuple(grids), tuple(arrays)), sections)


def next_target(target: Target, done: Sequence[bytes], fields: Sequence[Field], left: int) -> Target:
    """What to ask of the next part, so that the joined file meets `target`.

    Parameters
    ----------
    target : Target
        Of the whole. A size is shared evenly by what is left, taking the parts to come to be as large as this one.
    done : sequence of bytes
        Parts so far.
    fields : sequence of Field
        The next part.
    left : int
        Parts still to come, this one included.

    Raises
    ------
    TargetError
        If a size is used up.
    """
    raw = sum(field.nbytes for field in fields)
    before = sum(Container(part).spec(i).nbytes for part in done for i in range(len(Container(part))))
    budget = target.budget(before + left * raw)
    if budget is None or (left == 1 and not done):
        return target
    own = {container.geometry_record(field.geometry) for field in fields}
    known = {grid for part in done for grid in Container(part).header.geometries}
    # Magic, checksum and grids that the joined file has already are no cost.
    free = len(container.dumps(Header(tuple(own), ()), ())) if done and own <= known else 0
    share = (budget - len(join(done)) - _SLACK) // left if done else budget // left
    if share + free <= 0:
        parts = left + len(done)
        raise TargetError(
            f"{target} leaves no byte for {left} of {parts} parts; ask for a ratio of at most {raw / _LEAST:.0f}"
        )
    return Bytes(share + free)
