"""Which arrays of a data set a user wants."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator

from vtkmodules.vtkCommonCore import vtkCommand, vtkDataArraySelection
from vtkmodules.vtkCommonDataModel import vtkDataObject, vtkDataSet

from neurcomp_core.errors import InputError
from neurcomp_core.field import Association, Field
from neurcomp_filters.algorithm import Algorithm
from neurcomp_filters.bridge import ASSOCIATIONS, GHOSTS, fields_from_vtk


class ArrayChoice:
    """One `vtkDataArraySelection` for point and one for cell arrays, as ParaView's panels fill them.

    Once any array is enabled, in either, only enabled ones are wanted; before that, all that are not disabled. A change
    counts as one of `owner`.
    """

    def __init__(self, owner: Algorithm) -> None:
        self.selections: dict[Association, vtkDataArraySelection] = {}
        # Weak, or the two would keep each other alive.
        self._owner = reference = weakref.ref(owner)

        def changed(*_: object) -> None:
            algorithm = reference()
            if algorithm is not None and not self._offering:
                algorithm.Modified()

        self._offering = False
        for association in ASSOCIATIONS:
            selection = vtkDataArraySelection()
            selection.AddObserver(vtkCommand.ModifiedEvent, changed)
            self.selections[association] = selection

    def offer(self, names: Iterable[tuple[Association, str]], unasked: Iterable[tuple[Association, str]] = ()) -> None:
        """Set what there is to choose from; what is new is wanted unless it is `unasked`, what was chosen stays so."""
        self._offering = True
        try:
            present = set(names)
            for association, selection in self.selections.items():
                for i in reversed(range(selection.GetNumberOfArrays())):
                    if (association, selection.GetArrayName(i)) not in present:
                        selection.RemoveArrayByIndex(i)
            for association, name in names:
                if not self.selections[association].ArrayExists(name):
                    self.selections[association].AddArray(name, (association, name) not in unasked)
        finally:
            self._offering = False

    def wants(self, association: Association, name: str) -> bool:
        """Whether an array is to be used."""
        selection = self.selections[association]
        if selection.ArrayExists(name):
            return bool(selection.ArrayIsEnabled(name))
        return not any(s.GetNumberOfArraysEnabled() for s in self.selections.values())

    def fields(self, dataset: vtkDataObject) -> list[Field]:
        """Wanted arrays of an image or a rectilinear grid.

        Raises
        ------
        InputError
            If there is none, or one that was asked for does not exist.
        """
        everything = fields_from_vtk(dataset)
        found = [f for f in everything if self.wants(f.association, f.name)]
        known = {(f.association, f.name) for f in everything}
        for association, name in self._enabled():
            if (association, name) in known or name == GHOSTS:
                continue
            # ParaView's panel ticks string arrays like all others, so beside numbers they are no error.
            if found and _is_text(dataset, association, name):
                self._warn(f"array '{name}' holds strings, not numbers; it is left out")
            else:
                fields_from_vtk(dataset, [name], association)
        if not found:
            raise InputError("no array is selected; choose at least one")
        return found

    def _enabled(self) -> Iterator[tuple[Association, str]]:
        for association, selection in self.selections.items():
            for i in range(selection.GetNumberOfArrays()):
                if selection.ArrayIsEnabled(selection.GetArrayName(i)):
                    yield association, selection.GetArrayName(i)

    def _warn(self, message: str) -> None:
        owner = self._owner()
        if owner is not None:
            owner.Warn(message)


def _is_text(dataset: vtkDataObject, association: Association, name: str) -> bool:
    assert isinstance(dataset, vtkDataSet)
    data = dataset.GetPointData() if association == "point" else dataset.GetCellData()
    array = data.GetAbstractArray(name)
    return array is not None and not array.IsA("vtkDataArray")
