"""What filters on radiance fields share: the arrays or the file that their input is a field by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from vtkmodules.vtkCommonDataModel import vtkDataSet

from neurcomp_core.codec import Context
from neurcomp_core.radiance.volume import RadianceVolume
from neurcomp_filters import pieces, radiance_file, radiance_image
from neurcomp_filters.algorithm import Algorithm
from neurcomp_filters.bridge import fields_from_vtk
from neurcomp_filters.radiance_image import Names
from neurcomp_filters.settings import default_threads

#: What is taken: the file an image came from if its arrays are as they were read, or the arrays.
FROM = ("File If Unchanged", "Arrays")


class RadianceInput(Algorithm):
    """Base of filters whose input is an image with a density and with spherical harmonics or colours.

    An image that `NvcReader` made of a radiance file stands for that file as long as its arrays are as they were read:
    then the field itself is taken, whatever resolution the arrays have.
    """

    def __init__(self, **ports: Any) -> None:
        super().__init__(nInputPorts=1, inputType="vtkDataSet", **ports)
        self._names = Names()
        self._arrays_only = False
        self._threads = 0
        self._time_limit = 0.0
        self._known: tuple[tuple, RadianceVolume, np.ndarray] | None = None

    def SetFrom(self, kind: int) -> None:
        """Index into `FROM`."""
        self._set(_arrays_only=bool(kind))

    def SetDensityArray(self, name: str | None) -> None:
        self._set(_names=replace(self._names, density=str(name or "")))

    def SetColorArray(self, name: str | None) -> None:
        """Empty or "None" for none."""
        self._set(_names=replace(self._names, color=str(name or "")))

    def SetSphericalHarmonicsArray(self, name: str | None) -> None:
        """Empty or "None" for none; comes before the colour."""
        self._set(_names=replace(self._names, sh=str(name or "")))

    def SetDensityScale(self, factor: float) -> None:
        """What makes the density one per unit length."""
        self._set(_names=replace(self._names, scale=float(factor)))

    def SetThreads(self, count: int) -> None:
        """CPU threads; 0 for all, or one per process of a parallel run."""
        self._set(_threads=int(count))

    def SetTimeLimit(self, seconds: float) -> None:
        """0 for none."""
        self._set(_time_limit=float(seconds))

    # ...................................................................................................... pipeline

    def RequestUpdateExtent(self, request: Any, inInfo: Any, outInfo: Any) -> int:
        pieces.request_all(inInfo[0].GetInformationObject(0))
        return 1

    def threads(self) -> int:
        """How many to use."""
        return self._threads or default_threads()

    def parts(self, source: vtkDataSet) -> list[vtkDataSet]:
        """The whole input, in a parallel run in pieces on the first process; nothing on the others."""
        return [source] if pieces.process()[1] == 1 else pieces.gathered(source)

    def field(self, parts: list[vtkDataSet], context: Context) -> tuple[RadianceVolume, np.ndarray]:
        """The field, and the axes ``(3, 3)`` in the world that its coordinates have; kept until the input changes.

        Raises
        ------
        InputError
            If the input is no radiance field.
        """
        key = (tuple((part, part.GetMTime()) for part in parts), self._names, self._arrays_only)
        if self._known is None or self._known[0] != key:
            self._known = None
            self._known = (key, *self._found(parts, context))
        return self._known[1:]

    def _found(self, parts: list[vtkDataSet], context: Context) -> tuple[RadianceVolume, np.ndarray]:
        content = None
        if len(parts) == 1 and not self._arrays_only:
            content = radiance_file.file_of(parts[0])
        if content is not None:
            from neurcomp_core.radiance import files

            return files.load(content, context), np.eye(3)
        if len(parts) == 1:
            placed = radiance_image.to_grid(parts[0], self._names)
        else:
            fields = [fields_from_vtk(part) for part in parts if part.GetNumberOfPoints()]
            placed = radiance_image.grid_of(pieces.assembled(fields), self._names)
        return RadianceVolume(placed.grid, placed.grid.box), placed.rotation
