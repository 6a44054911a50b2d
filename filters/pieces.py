"""Extents, pieces and blocks: which part of a data set an execution is about."""

from __future__ import annotations

import weakref
from typing import Any

from vtkmodules.vtkCommonCore import vtkCommand
from vtkmodules.vtkCommonDataModel import vtkCompositeDataSet, vtkDataObject
from vtkmodules.vtkCommonExecutionModel import vtkAlgorithm
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline
from vtkmodules.vtkParallelCore import vtkMultiProcessController


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
