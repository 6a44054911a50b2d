"""The properties that say where quality matters more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from vtkmodules.vtkCommonDataModel import vtkDataSet

from neurcomp_core.errors import InputError
from neurcomp_core.field import Field
from neurcomp_core.region_quality import region_quality
from neurcomp_core.regions import (
    WEIGHT,
    ArrayImportance,
    BandRegion,
    BoxRegion,
    Importance,
)
from neurcomp_core.transfer_function import TransferFunction
from neurcomp_filters.bridge import ASSOCIATIONS, fields_from_vtk
from neurcomp_filters.figures import Figures
from neurcomp_filters.settings import CompressionSettings

#: In the order of `SetRegionMode`, as a user reads them.
MODES = ("Everywhere", "Box", "Value Band", "Array", "Transfer Function")


class RegionSettings(CompressionSettings):
    """Setters as ParaView's properties call them; see the plugin for what each is about."""

    def __init__(self, **ports: Any) -> None:
        super().__init__(**ports)
        self._mode = 0
        self._bounds = (0.0, 1.0, 0.0, 1.0, 0.0, 1.0)
        self._band = (0.0, 1.0)
        self._array = ""
        self._opacity_file = ""
        self._nodes: tuple[float, ...] = ()
        self._weight = WEIGHT

    def SetRegionMode(self, mode: int) -> None:
        """Index into `MODES`."""
        self._set(_mode=int(mode))

    def SetRegionBounds(self, *bounds: float) -> None:
        """``x0, x1, y0, y1, z0, z1`` in world coordinates."""
        self._set(_bounds=tuple(map(float, bounds)))

    def SetRegionBand(self, low: float, high: float) -> None:
        """Least and largest value that matter more."""
        self._set(_band=(float(low), float(high)))

    def SetRegionArray(self, name: str | None) -> None:
        """An array of the input; its largest values matter most."""
        self._set(_array=str(name or ""))

    def SetTransferFunctionFile(self, name: str | None) -> None:
        """A colour map with opacities that ParaView exported; nodes that were added go before it."""
        self._set(_opacity_file=str(name or ""))

    def AddOpacityPoint(self, value: float, opacity: float, midpoint: float, sharpness: float) -> None:
        """Another node of an opacity function."""
        self._set(_nodes=(*self._nodes, float(value), float(opacity), float(midpoint), float(sharpness)))

    def ClearOpacityPoints(self) -> None:
        """Forget all nodes."""
        self._set(_nodes=())

    def SetRegionWeight(self, weight: float) -> None:
        """How many times as large an error counts there."""
        self._set(_weight=float(weight))

    # ...................................................................................................... what is set

    def importance(self, source: vtkDataSet) -> Importance | None:
        """What matters in a data set.

        Raises
        ------
        InputError
            If the setting cannot be, or its array does not exist.
        """
        if not 0 <= self._mode < len(MODES):
            raise InputError(f"region mode: expected 0 to {len(MODES) - 1}, got {self._mode}")
        # A block, or an array of another range, may have nothing of a region.
        makers = (
            lambda: None,
            lambda: BoxRegion(self._bounds, self._weight, world=True, strict=False),
            lambda: BandRegion(*self._band, self._weight, strict=False),
            lambda: self._array_importance(source),
            self._transfer_function,
        )
        return makers[self._mode]()

    def _array_importance(self, source: vtkDataSet) -> Importance:
        found = [f for a in ASSOCIATIONS for f in _named(source, self._array, a)]
        if not found or found[0].components > 1:
            raise InputError(f"region array: expected an array of one component, got '{self._array}'; choose another")
        return ArrayImportance(found[0].values.reshape(found[0].values.shape[:3]), self._weight, self._array)

    def _transfer_function(self) -> Importance:
        if self._nodes:
            return TransferFunction.from_nodes(self._nodes, self._weight)
        if not self._opacity_file:
            raise InputError(
                "transfer function: choose the file of a colour map that was exported with its opacities, or set "
                "OpacityPoints from Python"
            )
        return TransferFunction.from_file(Path(self._opacity_file), self._weight)

    def with_regions(
        self, figures: list[Figures], fields: list[Field], decoded: list[Field], importance: Importance | None
    ) -> list[Figures]:
        """Figures with those inside and outside of the region; a warning if it has no sample of any array."""
        if importance is None:
            return figures
        found = [region_quality(a, b.values, importance) for a, b in zip(fields, decoded, strict=True)]
        if all(q.inside is None for q in found):
            self.Warn("no sample lies where quality should matter more; the result is as without a region")
        return [
            replace(
                f,
                inside=float("nan") if q.inside is None else q.inside.psnr,
                outside=float("nan") if q.outside is None else q.outside.psnr,
            )
            for f, q in zip(figures, found, strict=True)
        ]


def _named(source: vtkDataSet, name: str, association: Any) -> list[Field]:
    data = source.GetPointData() if association == "point" else source.GetCellData()
    return fields_from_vtk(source, [name], association) if name and data.GetArray(name) is not None else []
