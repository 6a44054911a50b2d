"""Draw an original, its reconstruction and the error side by side, with one camera and one transfer function.

Writes a picture, and with --state a ParaView state of the three views to go on with (File > Load State, after starting
with: neurcomp paraview). The reconstruction is a .nvc file or any other file ParaView opens.

    neurcomp pvpython render_comparison.py flow.vti flow.nvc -o comparison.png
    neurcomp pvpython render_comparison.py flow.vti flow.nvc -o comparison.png --mode slice --state comparison.pvsm
"""

from dataclasses import dataclass
from pathlib import Path

from paraview.simple import (
    AssignViewToLayout,
    ColorBy,
    CreateLayout,
    CreateRenderView,
    GetColorTransferFunction,
    GetOpacityTransferFunction,
    HideScalarBarIfNotNeeded,
    OpenDataFile,
    Render,
    SaveScreenshot,
    SaveState,
    Show,
    Slice,
    Text,
    UpdatePipeline,
    VolumeCompare,
    servermanager,
)

from neurcomp_core.errors import InputError
from neurcomp_filters import scripting

# ParaView's presets: one for values, one for errors from nothing to the largest.
COLORS, ERROR_COLORS = "Cool to Warm (Extended)", "Black-Body Radiation"
# VTK's way to say point or cell data.
ASSOCIATIONS = {"point": "POINTS", "cell": "CELLS"}


@dataclass
class Panel:
    """One view: a data set, the array that colours it, and the range of its transfer function."""

    source: object
    array: str
    low: float
    high: float
    title: str
    is_error: bool = False


def main():
    arguments = options().parse_args()
    with scripting.loud("render_comparison"):
        if arguments.output.suffix.lower() != ".png":
            raise InputError(f"-o {arguments.output}: expected a name that ends in .png")
        original, decoded = (opened(path) for path in (arguments.original, arguments.reconstruction))
        association, array = chosen_array(original, arguments.array)
        other = array if has(decoded, association, array) else chosen_array(decoded, None)[1]
        with scripting.checked():
            errors_of = VolumeCompare(Original=original, Reconstruction=decoded)
            UpdatePipeline(proxy=errors_of)
        low, high = value_range(original, association, array)
        psnr = figures(errors_of)["PSNR (dB)"]
        row = [
            Panel(original, array, low, high, "original"),
            Panel(decoded, other, low, high, f"{arguments.reconstruction.name}, {psnr:.1f} dB"),
            error_panel(errors_of, association, array),
        ]
        with scripting.checked():
            save(draw([row], association, arguments.mode, arguments.size), arguments.output, arguments.state)
        print(f"{arguments.output}: {array}, PSNR {psnr:.2f} dB, errors up to {row[2].high:.4g}")


def options():
    found = scripting.parser(__doc__)
    found.add_argument("original", type=Path)
    found.add_argument("reconstruction", type=Path)
    found.add_argument("-o", "--output", type=Path, required=True, metavar="PNG")
    found.add_argument("--array", metavar="NAME", help="array to draw (default: the first one)")
    add_drawing(found)
    found.add_argument("--state", type=Path, metavar="PVSM", help="also write a ParaView state")
    return found


def add_drawing(parser):
    """Options of `draw`."""
    parser.add_argument("--mode", choices=("volume", "slice"), default="volume", help="what to draw")
    parser.add_argument("--size", type=int, default=400, metavar="PIXELS", help="width and height of one view")


def opened(path):
    """A reader of `path` that has read."""
    if not path.is_file():
        raise InputError(f"cannot read '{path}': there is no such file")
    with scripting.checked():
        reader = OpenDataFile(str(path))
        if reader is None:
            raise InputError(f"ParaView has no reader for '{path}'")
        UpdatePipeline(proxy=reader)
    if reader.GetDataInformation().GetDataClassName() not in ("vtkImageData", "vtkRectilinearGrid"):
        raise InputError(f"'{path}' is neither an image nor a rectilinear grid")
    return reader


def attributes(source, association):
    return source.PointData if association == "point" else source.CellData


def has(source, association, array):
    return attributes(source, association).GetArray(array) is not None


def chosen_array(source, wanted):
    """Association and name of the array that is asked for, else of the first one."""
    present = [
        (association, array.GetName())
        for association in ASSOCIATIONS
        for array in attributes(source, association).values()
        if array.GetName() != "vtkGhostType"
    ]
    for association, name in present:
        if wanted in (None, name):
            return association, name
    listing = ", ".join(name for _, name in present) or "none"
    raise InputError(f"there is no array '{wanted}'; there are: {listing}")


def value_range(source, association, array):
    """Smallest and largest value; of vectors, of their magnitude."""
    information = attributes(source, association)[array]
    return information.GetRange(-1 if information.GetNumberOfComponents() > 1 else 0)


def figures(comparison):
    """First row of the table of `VolumeCompare`: column name to number."""
    table = servermanager.Fetch(comparison, idx=1)
    columns = [table.GetColumn(i) for i in range(table.GetNumberOfColumns())]
    return {c.GetName(): c.GetTuple1(0) for c in columns if c.IsA("vtkDataArray")}


def error_panel(comparison, association, array, high=None):
    """The absolute error, from 0 to `high` or the largest there is."""
    name = f"{array}_absolute_error"
    high = high or value_range(comparison, association, name)[1] or 1.0
    return Panel(comparison, name, 0.0, high, f"error, 0 to {high:.3g}", True)


def draw(rows, association, mode, size):
    """A layout with one view per panel, all with one camera."""
    layout = CreateLayout("Comparison")
    layout.SetSize(size * len(rows[0]), size * len(rows))
    views = []
    for cell, panel in zip(cells(layout, len(rows), len(rows[0])), [p for row in rows for p in row], strict=True):
        view = CreateRenderView(ViewSize=[size, size], OrientationAxesVisibility=0, UseColorPaletteForBackground=0)
        view.Background = [0.1, 0.1, 0.12]
        view.CameraParallelProjection = int(mode == "slice")
        AssignViewToLayout(view, layout, cell)
        show(panel, view, association, mode)
        views.append(view)
    aim(views[0], mode)
    for view in views:
        for name in ("CameraPosition", "CameraFocalPoint", "CameraViewUp"):
            setattr(view, name, list(getattr(views[0], name)))
        view.CameraParallelScale, view.CameraViewAngle = views[0].CameraParallelScale, views[0].CameraViewAngle
        Render(view)
    return layout


def save(layout, picture, state=None):
    """Write what is drawn."""
    SaveScreenshot(str(picture), layout)
    if state:
        SaveState(str(state))


def cells(layout, rows, columns):
    """Split a layout into `rows` times `columns` equal cells, and say where they are."""
    found, rest = [], 0
    for row in range(rows):
        if row < rows - 1:
            left = layout.SplitVertical(rest, 1 / (rows - row))
            current, rest = left, left + 1
        else:
            current = rest
        for column in range(columns):
            if column < columns - 1:
                left = layout.SplitHorizontal(current, 1 / (columns - column))
                found.append(left)
                current = left + 1
            else:
                found.append(current)
    return found


def aim(view, mode):
    """From the front for slices, else from above a corner."""
    view.ResetActiveCameraToNegativeZ()
    if mode == "volume":
        view.GetActiveCamera().Azimuth(30)
        view.GetActiveCamera().Elevation(25)
    view.ResetCamera(False)
    view.GetActiveCamera().Zoom(1.2)
    view.UpdatePropertyInformation()


def show(panel, view, association, mode):
    """Add a panel's data set and its title to a view."""
    source = panel.source
    if mode == "slice":
        bounds = source.GetDataInformation().GetBounds()
        middle = [(bounds[2 * i] + bounds[2 * i + 1]) / 2 for i in range(3)]
        source = Slice(Input=source)
        source.SliceType.Origin = middle
        source.SliceType.Normal = [0, 0, 1]
    display = Show(source, view)
    display.SetRepresentationType("Volume" if mode == "volume" else "Surface")
    # An array's transfer function is shared by all views; a reconstruction under another name needs the same one.
    colors = GetColorTransferFunction(panel.array, display, separate=False)
    opacity = GetOpacityTransferFunction(panel.array, display, separate=False)
    ColorBy(display, (ASSOCIATIONS[association], panel.array))
    colors.ApplyPreset(ERROR_COLORS if panel.is_error else COLORS, True)
    high = panel.high if panel.high > panel.low else panel.low + 1
    colors.RescaleTransferFunction(panel.low, high)
    opacity.RescaleTransferFunction(panel.low, high)
    display.SetScalarBarVisibility(view, False)
    HideScalarBarIfNotNeeded(colors, view)
    title = Show(Text(Text=panel.title), view)
    title.WindowLocation, title.FontSize = "Lower Center", 14


if __name__ == "__main__":
    main()
