"""What programs that draw radiance fields share: cameras around a box, PNG files as arrays, and how far two are apart.

PNG files go through VTK, so that drawing needs no package besides ParaView's.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkIOImage import vtkPNGReader, vtkPNGWriter

from neurcomp_core.errors import InputError
from neurcomp_core.progress import Progress
from neurcomp_core.radiance.cameras import Camera
from neurcomp_core.radiance.images import to_float, to_uint8

#: By how much errors are multiplied to be seen: a quarter of the range is white.
ERROR_GAIN = 4.0
_SECONDS = 5.0


@dataclass(frozen=True)
class Eye:
    """A perspective camera as views and `RadianceRender` take it.

    Attributes
    ----------
    position, focal_point, view_up : tuple of float
        World coordinates.
    view_angle : float
        Vertical, in degrees.
    """

    position: tuple[float, ...]
    focal_point: tuple[float, ...]
    view_up: tuple[float, ...] = (0.0, 0.0, 1.0)
    view_angle: float = 30.0

    @classmethod
    def of(cls, camera: Camera, box: np.ndarray) -> Eye:
        """That of a photograph, focused on the middle of a box ``(2, 3)``.

        ParaView knows neither a principal point beside the middle nor a lens's distortion: both are left out.
        """
        place, forward, lens = camera.pose[:3, 3], camera.forward, camera.intrinsics
        reach = max(float((box.mean(0) - place) @ forward), 1e-3)
        angle = math.degrees(2 * math.atan(lens.height / 2 / lens.fy))
        vectors = (place, place + reach * forward, camera.pose[:3, 1])
        return cls(*(tuple(map(float, vector)) for vector in vectors), view_angle=angle)

    @property
    def direction(self) -> list[float]:
        """Along which one looks in the middle of the picture, of any length."""
        return [b - a for a, b in zip(self.position, self.focal_point, strict=True)]


def orbit(bounds: Sequence[float], count: int, distance: float, elevation: float) -> Iterator[Eye]:
    """Places once around the middle of a box, at one height.

    Parameters
    ----------
    bounds : sequence of 6 float
        Low and high x, y, z.
    count : int
    distance : float
        From the middle, in diagonals of the box.
    elevation : float
        Degrees above the middle.
    """
    middle = tuple((bounds[2 * i] + bounds[2 * i + 1]) / 2 for i in range(3))
    reach = distance * math.dist(bounds[::2], bounds[1::2])
    across, up = reach * math.cos(math.radians(elevation)), reach * math.sin(math.radians(elevation))
    for i in range(count):
        turn = 2 * math.pi * i / count - math.pi / 3
        yield Eye((middle[0] + across * math.cos(turn), middle[1] + across * math.sin(turn), middle[2] + up), middle)


def read_png(path: str | os.PathLike[str]) -> np.ndarray:
    """Colours ``(height, width, 3)`` uint8 of a PNG file, upper row first, alpha left out.

    Raises
    ------
    InputError
        If there is no such picture.
    """
    reader = vtkPNGReader()
    reader.SetFileName(os.fspath(path))
    reader.Update()
    image = reader.GetOutput()
    values = image.GetPointData().GetScalars()
    if values is None or values.GetNumberOfComponents() < 3:
        raise InputError(f"cannot read '{path}': expected a PNG file with colours")
    width, height, _ = image.GetDimensions()
    return vtk_to_numpy(values).reshape(height, width, -1)[::-1, :, :3].copy()


def write_png(path: str | os.PathLike[str], picture: np.ndarray) -> None:
    """Write colours ``(height, width, 3)``, uint8 or floats from 0 to 1, as a PNG file.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    height, width, _ = picture.shape
    image = vtkImageData()
    image.SetDimensions(width, height, 1)
    values = numpy_to_vtk(np.ascontiguousarray(to_uint8(picture)[::-1]).reshape(-1, 3), deep=True)
    image.GetPointData().SetScalars(values)
    writer = vtkPNGWriter()
    writer.SetFileName(os.fspath(path))
    writer.SetInputData(image)
    writer.Write()
    if writer.GetErrorCode():
        raise InputError(f"cannot write '{path}'; is its folder there, and the disk not full?")


def error(picture: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Absolute difference of two pictures times `ERROR_GAIN`, as float from 0 to 1."""
    return np.clip(ERROR_GAIN * np.abs(to_float(picture) - to_float(truth)), 0, 1)


def psnr(picture: np.ndarray, truth: np.ndarray) -> float:
    """20 log10(1 / RMSE) of two pictures, colours from 0 to 1, in dB; infinite if they are equal."""
    from neurcomp_core.radiance.rendering import quality

    return quality.psnr(to_float(picture), to_float(truth))


def decibels(value: float) -> str:
    """For a table."""
    return "equal" if math.isinf(value) else f"{value:.2f} dB"


def telling() -> Progress:
    """Progress that prints a line now and then; a long run in a batch job must not look dead."""
    told = time.monotonic()

    def report(fraction: float, text: str) -> None:
        nonlocal told
        if time.monotonic() - told >= _SECONDS:
            told = time.monotonic()
            print(f"{100 * fraction:3.0f} % {text}", flush=True)

    return Progress(report)
