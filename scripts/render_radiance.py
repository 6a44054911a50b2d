"""Draw a radiance field as a volume in its own colours: a .nvc file, or what `neurcomp radiance export --rgba` wrote.

ParaView's volume rendering knows colours as seen along one direction (that of the export); views with true
view-dependent colours come from `neurcomp radiance render` and the filter Radiance Render.

    neurcomp pvpython render_radiance.py scene.nvc -o scene.png
    neurcomp pvpython render_radiance.py scene.vti -o scene.png --position 3 0 1 --angle 40 --size 800
"""

from pathlib import Path

from paraview.simple import (
    ColorBy,
    CreateRenderView,
    OpenDataFile,
    Render,
    SaveScreenshot,
    SaveState,
    Show,
    UpdatePipeline,
)

from neurcomp_core.errors import InputError
from neurcomp_filters import scripting
from neurcomp_filters.radiance_image import ALPHA_VOXELS, RGBA, opacity_points


def main():
    arguments = options().parse_args()
    with scripting.loud("render_radiance"):
        if arguments.output.suffix.lower() != ".png":
            raise InputError(f"-o {arguments.output}: expected a name that ends in .png")
        with scripting.checked():
            source = opened(arguments.field)
        with scripting.checked():
            view = CreateRenderView(
                ViewSize=[arguments.size] * 2, OrientationAxesVisibility=0, UseColorPaletteForBackground=0
            )
            view.Background = arguments.background
            show(source, view)
            Render(view)  # the first one moves the camera
            aim(view, arguments)
            SaveScreenshot(str(arguments.output), view)
            if arguments.state:
                SaveState(str(arguments.state))
        print(f"{arguments.output}: {arguments.field.name}, {arguments.size} x {arguments.size} pixels")


def options():
    found = scripting.parser(__doc__)
    found.add_argument("field", type=Path)
    found.add_argument("-o", "--output", type=Path, required=True, metavar="PNG")
    found.add_argument("--position", type=float, nargs=3, metavar=("X", "Y", "Z"), help="of the camera")
    found.add_argument("--focus", type=float, nargs=3, metavar=("X", "Y", "Z"), help="by default the middle")
    found.add_argument("--up", type=float, nargs=3, default=(0.0, 0.0, 1.0), metavar=("X", "Y", "Z"))
    found.add_argument("--angle", type=float, default=39.6, metavar="DEGREES", help="field of view")
    found.add_argument("--background", type=float, nargs=3, default=(1.0, 1.0, 1.0), metavar=("R", "G", "B"))
    found.add_argument("--size", type=int, default=400, metavar="PIXELS", help="width and height")
    found.add_argument("--state", type=Path, metavar="PVSM", help="also write a ParaView state")
    return found


def opened(path):
    """A reader of `path` that has read colours and opacities."""
    if not path.is_file():
        raise InputError(f"cannot read '{path}': there is no such file")
    reader = OpenDataFile(str(path))
    if reader is None:
        raise InputError(f"ParaView has no reader for '{path}'")
    UpdatePipeline(proxy=reader)
    if reader.PointData.GetArray(RGBA) is None and hasattr(reader, "PointArrayStatus"):
        reader.PointArrayStatus = [RGBA]
        UpdatePipeline(proxy=reader)
    if reader.PointData.GetArray(RGBA) is None:
        raise InputError(f"'{path}' has no array '{RGBA}'; export it with: neurcomp radiance export --rgba")
    return reader


def show(source, view):
    """As a volume whose bytes are colours, not numbers to be coloured."""
    display = Show(source, view)
    display.SetRepresentationType("Volume")
    ColorBy(display, ("POINTS", RGBA), True)
    display.MapScalars = 0
    # ParaView's mapper of four components takes one as the unit distance whatever is set.
    display.ScalarOpacityUnitDistance = 1.0
    bounds, extent = (source.GetDataInformation().DataInformation.GetBounds(), source.GetDataInformation().GetExtent())
    spacing = [
        (bounds[2 * i + 1] - bounds[2 * i]) / (extent[2 * i + 1] - extent[2 * i])
        for i in range(3)
        if extent[2 * i + 1] > extent[2 * i]
    ]
    display.ScalarOpacityFunction.Points = opacity_points(ALPHA_VOXELS * min(spacing))
    display.SetScalarBarVisibility(view, False)


def aim(view, arguments):
    """From where one was asked to look, else from above a side."""
    view.ResetCamera(False)
    middle = list(view.CameraFocalPoint) if arguments.focus is None else arguments.focus
    position = arguments.position
    if position is None:
        distance = sum((a - b) ** 2 for a, b in zip(view.CameraPosition, middle, strict=True)) ** 0.5
        position = [middle[0] + 0.7 * distance, middle[1] - 0.5 * distance, middle[2] + 0.5 * distance]
    view.CameraPosition, view.CameraFocalPoint, view.CameraViewUp = position, middle, arguments.up
    view.CameraViewAngle = arguments.angle


if __name__ == "__main__":
    main()
