"""Volume renderings of originals, reconstructions and errors in one picture, drawn off screen by plain VTK."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import vtkmodules.vtkRenderingFreeType
import vtkmodules.vtkRenderingOpenGL2
import vtkmodules.vtkRenderingVolumeOpenGL2  # noqa: F401 - importing these is what makes the render window able to draw
from vtkmodules.vtkCommonDataModel import vtkImageData, vtkPiecewiseFunction
from vtkmodules.vtkIOImage import vtkPNGWriter
from vtkmodules.vtkRenderingCore import (
    vtkCamera,
    vtkColorTransferFunction,
    vtkRenderer,
    vtkRenderWindow,
    vtkTextActor,
    vtkVolume,
    vtkVolumeProperty,
    vtkWindowToImageFilter,
)
from vtkmodules.vtkRenderingVolumeOpenGL2 import vtkSmartVolumeMapper

from neurcomp_core.errors import NeurCompError
from neurcomp_core.field import Field, UniformGrid
from neurcomp_core.files import atomic_path
from neurcomp_filters.bridge import vtk_from_fields

# From dark to light, so that high values stand out on the dark ground: Matplotlib's viridis and inferno, coarsely.
_VALUES = ((0.27, 0.0, 0.33), (0.23, 0.32, 0.55), (0.13, 0.57, 0.55), (0.37, 0.79, 0.38), (0.99, 0.91, 0.14))
_ERRORS = ((0.1, 0.05, 0.3), (0.47, 0.11, 0.43), (0.8, 0.27, 0.27), (0.98, 0.6, 0.04), (0.99, 1.0, 0.65))
_GROUND = (0.1, 0.1, 0.12)
_OPAQUE = 0.7


@dataclass(frozen=True, eq=False)
class Panel:
    """One rendering.

    Attributes
    ----------
    values : ndarray
        ``(z, y, x)``.
    low, high : float
        Ends of the colours; opacity rises from nothing at `low`.
    title : str
        Below the rendering.
    is_error : bool
        Whether to take the colours of errors.
    """

    values: np.ndarray
    low: float
    high: float
    title: str
    is_error: bool = False


def render(
    rows: Sequence[Sequence[Panel | None]],
    path: str | os.PathLike[str],
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    size: int = 300,
) -> None:
    """Draw rows of panels, all with one camera, into a PNG file.

    Parameters
    ----------
    rows : sequence of sequence of Panel or None
        Rows of equal length; None leaves a place empty.
    path : path
    spacing : sequence of 3 float
        Distance of samples along x, y, z.
    size : int
        Width and height of a panel in pixels.

    Raises
    ------
    NeurCompError
        If VTK cannot draw here.
    """
    window = vtkRenderWindow()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(0)
    count, across = len(rows), max(map(len, rows))
    window.SetSize(size * across, size * count)
    camera: vtkCamera | None = None
    for r, row in enumerate(rows):
        for c, panel in enumerate(row):
            renderer = vtkRenderer()
            renderer.SetBackground(*_GROUND)
            renderer.SetViewport(c / across, (count - 1 - r) / count, (c + 1) / across, (count - r) / count)
            window.AddRenderer(renderer)
            if panel is None:
                continue
            renderer.AddVolume(_volume(panel, spacing))
            renderer.AddViewProp(_title(panel.title, size))
            if camera is None:
                camera = _aimed(renderer)
            renderer.SetActiveCamera(camera)
            renderer.ResetCameraClippingRange()
    window.Render()
    picture = vtkWindowToImageFilter()
    picture.SetInput(window)
    picture.ReadFrontBufferOff()
    picture.Update()
    if picture.GetOutput().GetNumberOfPoints() == 0:
        raise NeurCompError("VTK drew nothing: there is neither a display nor off-screen OpenGL (EGL, OSMesa)")
    with atomic_path(path) as temporary:
        writer = vtkPNGWriter()
        writer.SetInputConnection(picture.GetOutputPort())
        writer.SetFileName(str(temporary))
        writer.Write()


def _volume(panel: Panel, spacing: Sequence[float]) -> vtkVolume:
    mapper = vtkSmartVolumeMapper()
    mapper.SetInputData(_image(panel.values, spacing))
    colours = vtkColorTransferFunction()
    table = _ERRORS if panel.is_error else _VALUES
    high = panel.high if panel.high > panel.low else panel.low + 1.0
    for i, colour in enumerate(table):
        colours.AddRGBPoint(panel.low + (high - panel.low) * i / (len(table) - 1), *colour)
    opacity = vtkPiecewiseFunction()
    opacity.AddPoint(panel.low, 0.0)
    opacity.AddPoint(high, _OPAQUE)
    look = vtkVolumeProperty()
    look.SetColor(colours)
    look.SetScalarOpacity(opacity)
    look.SetInterpolationTypeToLinear()
    # As many steps to opacity whatever the size of the volume.
    extent = np.array(panel.values.shape[::-1]) * np.array(spacing)
    look.SetScalarOpacityUnitDistance(float(np.linalg.norm(extent)) / 40)
    volume = vtkVolume()
    volume.SetMapper(mapper)
    volume.SetProperty(look)
    return volume


def _image(values: np.ndarray, spacing: Sequence[float]) -> vtkImageData:
    z, y, x = values.shape
    grid = UniformGrid((0, x - 1, 0, y - 1, 0, z - 1), spacing=tuple(map(float, spacing)))
    image = vtk_from_fields([Field(np.nan_to_num(values.astype(np.float32)), grid)])
    assert isinstance(image, vtkImageData)
    return image


def _title(text: str, size: int) -> vtkTextActor:
    actor = vtkTextActor()
    actor.SetInput(text)
    actor.SetPosition(size / 2, size * 0.025)
    look = actor.GetTextProperty()
    look.SetJustificationToCentered()
    look.SetFontSize(max(10, size // 21))
    look.SetColor(0.95, 0.95, 0.95)
    return actor


def _aimed(renderer: vtkRenderer) -> vtkCamera:
    camera = renderer.GetActiveCamera()
    camera.SetPosition(0.0, -1.0, 0.0)
    camera.SetViewUp(0.0, 0.0, 1.0)
    renderer.ResetCamera()
    camera.Azimuth(30)
    camera.Elevation(25)
    renderer.ResetCamera()
    camera.Zoom(1.08)
    return camera
