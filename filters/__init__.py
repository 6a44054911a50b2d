"""NeurComp for VTK: the bridge between VTK data sets and fields, file input and output, and the filters.

Built on ``vtkmodules`` alone, so it runs in ParaView and with the ``vtk`` package; never on ``paraview``.
"""

from neurcomp_filters.symbols import keep_apart

keep_apart()
