"""Which arrays of a data set a user wants."""

from __future__ import annotations

import weakref
from collections.abc import Iterable

from vtkmodules.vtkCommonCore import vtkCommand, vtkDataArraySelection
from vtkmodules.vtkCommonDataModel import vtkDataObject

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
        reference = weakref.ref(owner)

        def changed(*_: object) -> None:
            algorithm = reference()
            if algorithm is not None and not self._offering:
                algorithm.Modified()

        self._offering = False
        for association in ASSOCIATIONS:
            selection = vtkDataArraySelection()
            selection.AddObserver(vtkCommand.ModifiedEvent, changed)
            self.selections[association] = selection

    def offer(self, names: Iterable[tuple[Association, str]]) -> None:
        """Set what there is to choose from; what is new is wanted, what was chosen stays so."""
        self._offering = True
        try:
            present = set(names)
            for association, selection in self.selections.items():
                for i in reversed(range(selection.GetNumberOfArrays())):
                    if (association, selection.GetArrayName(i)) not in present:
                        selection.RemoveArrayByIndex(i)
            for association, name in names:
                if not self.selections[association].ArrayExists(name):
                    self.selections[association].AddArray(name)
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
            If there is none, or one of them holds strings.
        """
        everything = fields_from_vtk(dataset)
        found = [f for f in everything if self.wants(f.association, f.name)]
        # What was asked for by name and is no field does not exist or holds strings: the bridge says which.
        known = {(f.association, f.name) for f in everything}
        for association, selection in self.selections.items():
            for i in range(selection.GetNumberOfArrays()):
                name = selection.GetArrayName(i)
                if selection.ArrayIsEnabled(name) and (association, name) not in known and name != GHOSTS:
                    fields_from_vtk(dataset, [name], association)
        if not found:
            raise InputError("no array is selected; choose at least one")
        return found
