"""Tables as VTK has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk
from vtkmodules.vtkCommonCore import vtkStringArray
from vtkmodules.vtkCommonDataModel import vtkTable


def table(columns: Mapping[str, Sequence[str] | Sequence[float]]) -> vtkTable:
    """Columns of one length by name, each of texts or of numbers."""
    made = vtkTable()
    for name, values in columns.items():
        if values and isinstance(values[0], str):
            column = vtkStringArray()
            for value in values:
                column.InsertNextValue(str(value))
        else:
            column = numpy_to_vtk(np.array(values, np.float64), deep=True)
        column.SetName(name)
        made.AddColumn(column)
    return made
