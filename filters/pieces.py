"""Extents, pieces and blocks: which part of a data set an execution is about."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkCommand, vtkUnsignedCharArray
from vtkmodules.vtkCommonDataModel import vtkCompositeDataSet, vtkDataObject, vtkDataSet, vtkImageData
from vtkmodules.vtkCommonExecutionModel import vtkAlgorithm
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline
from vtkmodules.vtkParallelCore import vtkMultiProcessController

from neurcomp_core.errors import InputError
from neurcomp_core.field import Field, Geometry, RectilinearGrid, UniformGrid, grid_shape

_TAG = 7433


def process() -> tuple[int, int]:
    """Number of this process, and how many there are; ``(0, 1)`` outside a parallel run."""
    controller = vtkMultiProcessController.GetGlobalController()
    return (0, 1) if controller is None else (controller.GetLocalProcessId(), controller.GetNumberOfProcesses())


def request_all(info: Any) -> None:
    """Ask an input for all of this process's part of a structured grid, without ghosts.

    What is downstream may want a single slice; the volume is compressed as a whole nonetheless. In a parallel run the
    pipeline itself cuts the extent that is asked for here into pieces.
    """
    if info.Has(Pipeline.WHOLE_EXTENT()):
        info.Set(Pipeline.UPDATE_EXTENT(), info.Get(Pipeline.WHOLE_EXTENT()), 6)
        info.Set(Pipeline.UPDATE_NUMBER_OF_GHOST_LEVELS(), 0)


def piece_of(info: Any) -> tuple[int, int]:
    """Piece and number of pieces that an output is asked for."""
    if not info.Has(Pipeline.UPDATE_NUMBER_OF_PIECES()):
        return 0, 1
    return max(info.Get(Pipeline.UPDATE_PIECE_NUMBER()), 0), max(info.Get(Pipeline.UPDATE_NUMBER_OF_PIECES()), 1)


class Blocks:
    """The blocks of a multiblock input, which the pipeline hands to `algorithm` one by one."""

    def __init__(self, algorithm: vtkAlgorithm) -> None:
        self._leaves: dict[int, vtkDataObject] = {}
        own = weakref.ref(self)
        producer = weakref.ref(algorithm)

        # During the execution nothing leads from a block to the whole, but at its start the input still is the whole.
        def started(*_: object) -> None:
            blocks, running = own(), producer()
            if blocks is not None and running is not None:
                blocks._note(_input(running))

        algorithm.AddObserver(vtkCommand.StartEvent, started)

    def __len__(self) -> int:
        return len(self._leaves)

    def _note(self, data: vtkDataObject | None) -> None:
        if isinstance(data, vtkCompositeDataSet):
            self._leaves = leaves(data)
        # The event comes again for each block.
        elif data is None or self.index(data) is None:
            self._leaves = {}

    def index(self, leaf: vtkDataObject) -> int | None:
        """Flat index of a block; None where the input is no multiblock."""
        return next((index for index, item in self._leaves.items() if item is leaf), None)


def _input(algorithm: vtkAlgorithm) -> vtkDataObject | None:
    if algorithm.GetNumberOfInputConnections(0) == 0:
        return None
    connection = algorithm.GetInputConnection(0, 0)
    return connection.GetProducer().GetOutputDataObject(connection.GetIndex())


def leaves(data: vtkCompositeDataSet) -> dict[int, vtkDataObject]:
    """Non-empty leaves by flat index."""
    found = {}
    iterator = data.NewIterator()
    iterator.InitTraversal()
    while not iterator.IsDoneWithTraversal():
        found[iterator.GetCurrentFlatIndex()] = iterator.GetCurrentDataObject()
        iterator.GoToNextItem()
    return found


# ---------------------------------------------------------------------------------------- bringing the pieces together


def gathered(piece: vtkDataSet) -> list[vtkDataSet]:
    """The pieces of all processes on the first one, its own in front; nothing on the others.

    Every process must call it. Pieces travel one after the other, but the first process needs memory for all of them.
    """
    controller: Any = vtkMultiProcessController.GetGlobalController()
    number, count = process()
    if number:
        controller.Send(piece, 0, _TAG)
        return []
    return [piece, *(_like(piece, controller.ReceiveDataObject(other, _TAG)) for other in range(1, count))]


def _like(piece: vtkDataSet, received: vtkDataSet) -> vtkDataSet:
    """With what the message, a legacy VTK file, leaves out or rounds: the same for all pieces."""
    if isinstance(piece, vtkImageData) and isinstance(received, vtkImageData):
        received.SetOrigin(piece.GetOrigin())
        received.SetSpacing(piece.GetSpacing())
        received.SetDirectionMatrix(piece.GetDirectionMatrix())
    key = vtkDataObject.DATA_TIME_STEP()
    if piece.GetInformation().Has(key):
        received.GetInformation().Set(key, piece.GetInformation().Get(key))
    return received


def told_by_the_first(text: str) -> str:
    """What the first process passes here, on all of them; every process must call it."""
    array: Any = vtkUnsignedCharArray()
    if process()[0] == 0:
        array.DeepCopy(numpy_to_vtk(np.frombuffer(f".{text}".encode(), np.uint8)))
    vtkMultiProcessController.GetGlobalController().Broadcast(array, 0)
    return vtk_to_numpy(array).tobytes().decode()[1:]


def assembled(parts: Sequence[Sequence[Field]]) -> list[Field]:
    """The fields of a whole grid from those of its pieces.

    Where pieces share a plane of points, the later one's are taken.

    Raises
    ------
    InputError
        If the pieces differ in their arrays, or leave a part of the grid out.
    """
    first = parts[0]
    for part in parts[1:]:
        if [_kind(f) for f in part] != [_kind(f) for f in first]:
            raise InputError(
                f"the processes have different arrays: {', '.join(f.name for f in first)} and "
                f"{', '.join(f.name for f in part)}; choose arrays that all have"
            )
    return [_assembled([part[i] for part in parts]) for i in range(len(first))]


def _kind(field: Field) -> tuple:
    return field.name, field.association, field.values.dtype, field.components


def _assembled(pieces: Sequence[Field]) -> Field:
    first = pieces[0]
    whole = _union([f.geometry for f in pieces])
    shape = grid_shape(whole, first.association)
    values = np.empty((*shape, *first.values.shape[3:]), first.values.dtype)
    mask, covered = np.zeros(shape, bool), np.zeros(shape, bool)
    for field in pieces:
        part = tuple(
            slice(low, low + n)
            for low, n in zip(
                (field.geometry.extent[2 * i] - whole.extent[2 * i] for i in (2, 1, 0)),
                field.values.shape[:3],
                strict=True,
            )
        )
        values[part], covered[part] = field.values, True
        mask[part] = False if field.mask is None else field.mask
    if not covered.all():
        raise InputError(f"array '{first.name}': the pieces of the processes leave a part of the grid out")
    return replace(first, values=values, geometry=whole, mask=mask if mask.any() else None)


def _union(grids: Sequence[Geometry]) -> Geometry:
    extents = np.array([grid.extent for grid in grids])
    low, high = extents[:, ::2].min(axis=0), extents[:, 1::2].max(axis=0)
    first = grids[0]
    if isinstance(first, UniformGrid):
        return replace(first, extent=tuple(int(v) for pair in zip(low, high, strict=True) for v in pair))
    axes = [np.zeros(n, first.axes[i].dtype) for i, n in enumerate(high - low + 1)]
    for grid in grids:
        assert isinstance(grid, RectilinearGrid)
        for axis, start, own in zip(axes, np.array(grid.start) - low, grid.axes, strict=True):
            axis[start : start + len(own)] = own
    return RectilinearGrid(*axes, start=tuple(int(v) for v in low))
