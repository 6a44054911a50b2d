"""Radiance Render: a picture of a radiance field, with the colours that it has from where one looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from vtkmodules.vtkCommonDataModel import vtkDataSet, vtkImageData
from vtkmodules.vtkCommonExecutionModel import vtkStreamingDemandDrivenPipeline as Pipeline

from neurcomp_core import threads
from neurcomp_core.codec import Context
from neurcomp_core.errors import InputError
from neurcomp_core.field import Field, UniformGrid
from neurcomp_filters.bridge import vtk_from_fields
from neurcomp_filters.radiance_camera import VtkCamera
from neurcomp_filters.radiance_input import RadianceInput

if TYPE_CHECKING:
    from neurcomp_core.radiance.rendering.views import Renderable, View
    from neurcomp_core.radiance.volume import RadianceVolume

#: Colours of the picture, its first array.
RGB = "rgb"


class RadianceRender(RadianceInput):
    """Render a radiance field by marching rays, on a CUDA device where there is one.

    The input is an image with a density and with spherical harmonics or colours, or what `NvcReader` made of a radiance
    file (see `RadianceInput`). The output is a flat image with ``rgb`` (over the background), ``opacity`` and ``depth``
    (distance from the camera; NaN where nothing is), if asked for ``normal``; its rows run upwards. It stands across
    the line of sight at the focal point and fills what the camera sees there.

    Examples
    --------
    >>> render = RadianceRender()
    >>> render.SetInputConnection(reader.GetOutputPort())
    >>> render.SetCameraPosition(3, -3, 1)
    >>> render.Update()
    >>> picture = render.GetOutputDataObject(0)
    """

    def __init__(self) -> None:
        super().__init__(nOutputPorts=1, outputType="vtkImageData")
        # Checked when the filter runs: ParaView sets numbers one by one.
        self._camera: dict[str, Any] = {}
        self._background = (1.0, 1.0, 1.0)
        self._step = 0.5
        self._normals = False
        self._in_scene = True
        self._device = self._backend = "auto"
        self._sent: tuple[RadianceVolume, tuple[str, str], Renderable] | None = None

    def SetCameraPosition(self, x: float, y: float, z: float) -> None:
        """The same as the focal point: a view of the whole."""
        self._set(_camera=self._camera | {"position": (float(x), float(y), float(z))})

    def SetCameraFocalPoint(self, x: float, y: float, z: float) -> None:
        self._set(_camera=self._camera | {"focal_point": (float(x), float(y), float(z))})

    def SetCameraViewUp(self, x: float, y: float, z: float) -> None:
        self._set(_camera=self._camera | {"view_up": (float(x), float(y), float(z))})

    def SetCameraViewAngle(self, degrees: float) -> None:
        """Vertical."""
        self._set(_camera=self._camera | {"view_angle": float(degrees)})

    def SetCameraParallelScale(self, half_height: float) -> None:
        """Half the height of what a parallel projection shows; 0 for perspective."""
        self._set(_camera=self._camera | {"parallel_scale": float(half_height)})

    def SetImageSize(self, width: int, height: int) -> None:
        self._set(_camera=self._camera | {"width": int(width), "height": int(height)})

    def SetBackground(self, red: float, green: float, blue: float) -> None:
        self._set(_background=(float(red), float(green), float(blue)))

    def SetStep(self, voxels: float) -> None:
        """Length of a step along a ray."""
        self._set(_step=float(voxels))

    def SetNormals(self, wanted: bool) -> None:
        """Whether to add ``normal``, unit vectors against the density's gradient."""
        self._set(_normals=bool(wanted))

    def SetDevice(self, name: str) -> None:
        """``auto``, ``cpu`` or ``cuda``."""
        self._set(_device=str(name))

    def SetBackend(self, name: str) -> None:
        """``auto``, ``triton``, ``torch`` or ``numba``."""
        self._set(_backend=str(name))

    def SetInScene(self, wanted: bool) -> None:
        """Whether the picture stands where the camera sees it, at the focal point; else a pixel is one unit."""
        self._set(_in_scene=bool(wanted))

    # ...................................................................................................... pipeline

    def RequestInformation(self, request: Any, inInfo: Any, outInfo: Any) -> int:
        info = outInfo.GetInformationObject(0)
        width, height = (max(1, self._camera.get(name, getattr(VtkCamera, name))) for name in ("width", "height"))
        info.Set(Pipeline.WHOLE_EXTENT(), (0, width - 1, 0, height - 1, 0, 0), 6)
        return 1

    def RequestData(self, request: Any, inInfo: Any, outInfo: Any) -> int:
        source, output = self.GetInputData(inInfo, 0, 0), self.GetOutputData(outInfo, 0)
        self._guarded((source.GetMTime(),), [output], lambda: self._render(source, output))
        return 1

    # .......................................................................................................... work

    def _renderable(self, volume: RadianceVolume) -> Renderable:
        """What makes the pictures; sent to a device once."""
        from neurcomp_core.radiance.evaluation import rendered_by
        from neurcomp_core.radiance.places import Place

        asked = self._device, self._backend
        if self._sent is None or self._sent[0] is not volume or self._sent[1] != asked:
            self._sent = None
            self._sent = volume, asked, rendered_by(volume, Place.of(*asked))
        return self._sent[2]

    def _render(self, source: vtkDataSet, output: vtkImageData) -> None:
        from neurcomp_core.radiance.rendering.frames import Rays
        from neurcomp_core.radiance.rendering.march import MarchOptions
        from neurcomp_core.radiance.rendering.views import render_rays

        camera = VtkCamera(**self._camera)
        options = MarchOptions(step=self._step)
        parts = self.parts(source)
        if not parts:
            output.Initialize()
            return
        progress = self._progress(self._time_limit)
        with threads.limit(self.threads()):
            volume, rotation = self.field(parts, Context(progress=progress))
            field = self._renderable(volume)
            if volume.scene == "forward-facing":
                self.Warn("this field is in normalised device coordinates, which are not those of its photographs")
            camera = camera.aimed(volume.box, rotation)
            origins, directions = camera.rays()
            # Rays in the coordinates of the image's axes; what they see depends on their direction in the world.
            rays = Rays(origins @ rotation, directions @ rotation, views=directions)
            view = render_rays(field, rays, self._background, options=options, normals=self._normals, progress=progress)
        output.ShallowCopy(_picture(view, camera.grid(self._in_scene), rotation))


def _picture(view: View, grid: UniformGrid, rotation: np.ndarray) -> vtkImageData:
    """The view as point data of a flat image, its lowest row first as VTK has it."""
    from neurcomp_core.radiance.images import to_uint8

    width, height, _ = grid.dimensions
    arrays = {RGB: to_uint8(view.color), "opacity": view.opacity, "depth": view.depth}
    if view.normal is not None:
        arrays["normal"] = (view.normal @ rotation.T).astype(np.float32)
    fields = []
    for name, values in arrays.items():
        rows = values.reshape(1, height, width, *values.shape[1:])
        fields.append(Field(np.ascontiguousarray(rows[:, ::-1]), grid, name))
    made = vtk_from_fields(fields)
    if not isinstance(made, vtkImageData):
        raise InputError("expected a uniform grid")
    made.GetPointData().SetActiveScalars(RGB)
    return made
