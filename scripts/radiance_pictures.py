"""Pictures of a radiance field from around it: ParaView's volume rendering, and Radiance Render beside it.

Reads a .nvc file (neurcomp radiance train makes one of photographs) and writes volume_000.png, render_000.png, ...
into a folder; with --vti the field's arrays as VTI, which opens everywhere. Volume renderings have the colours of one
viewing direction, that of the middle of the picture; Radiance Render has those of each ray.

With --compare there are two fields, such as one before and one after Radiance Compress: compare_000.png, ... show the
first, the other and four times their difference, by Radiance Render; views_000.png, ... both as volumes in linked
views. --state keeps these views, for File > Load State (after starting with: neurcomp paraview).

    neurcomp pvpython radiance_pictures.py field.nvc -o pictures --views 8
    neurcomp pvpython radiance_pictures.py field.nvc -o pictures --vti field.vti --sh --resolution 128
    neurcomp pvpython radiance_pictures.py field.nvc -o pictures --compare small.nvc --state compare.pvsm
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from paraview.simple import (
    AddCameraLink,
    AssignViewToLayout,
    CreateLayout,
    CreateRenderView,
    OpenDataFile,
    RadianceRender,
    RenameSource,
    Render,
    SaveData,
    SaveScreenshot,
    SaveState,
    SetActiveView,
    Show,
    Text,
    UpdatePipeline,
)

from neurcomp_core.errors import InputError
from neurcomp_filters import scripting
from neurcomp_filters.radiance_scripting import decibels, error, orbit, psnr, read_png, write_png


@dataclass
class Shown:
    """A field, the view that it is a volume in, and the filter that gives it its true colours."""

    field: Any
    view: Any
    render: Any

    @classmethod
    def of(cls, field, size, background):
        """In a view of its own, of `size` = width, height in pixels."""
        view = CreateRenderView(ViewSize=list(size), OrientationAxesVisibility=0, UseColorPaletteForBackground=0)
        view.Background = list(background)
        return cls(field, view, RadianceRender(Input=field, ImageSize=list(size), Background=list(background)))

    def show(self, eye):
        """As a volume, with the colours that it has in the middle of the picture."""
        self.field.ViewDirection = eye.direction
        UpdatePipeline(proxy=self.field)
        SetActiveView(self.view)
        self.field.SMProxy.InvokeCommand("ShowAsVolume")
        # Showing something first resets the camera.
        aim(self.view, eye)
        Render(self.view)

    def volume(self, eye, path):
        """ParaView's volume rendering, as a file and as an array."""
        self.show(eye)
        SaveScreenshot(str(path), self.view)
        return read_png(path)

    def rendered(self, eye, path):
        """Radiance Render's picture, as a file and as an array."""
        aim(self.render, eye)
        SaveData(str(path), proxy=self.render)
        return read_png(path)


def main():
    arguments = options().parse_args()
    with scripting.loud("radiance_pictures"):
        if arguments.state and (not arguments.compare or arguments.mode == "render"):
            raise InputError("--state keeps the two views of --compare; scripts/render_radiance.py keeps that of one")
        paths = [path for path in (arguments.file, arguments.compare) if path]
        fields = [opened(path, arguments.resolution) for path in paths]
        arguments.output.mkdir(parents=True, exist_ok=True)
        if arguments.vti:
            write_vti(fields[0], arguments.vti, arguments.sh)
        shown = [Shown.of(field, [arguments.size] * 2, arguments.background) for field in fields]
        bounds = fields[0].GetDataInformation().GetBounds()
        eyes = list(orbit(bounds, arguments.views, arguments.distance, arguments.elevation))
        if arguments.compare:
            names = [path.name for path in paths]
            heads, rows = compare(shown, names, eyes, arguments.output, arguments.mode, arguments.state)
        else:
            heads, rows = draw(shown[0], eyes, arguments.output, arguments.mode)
        for path, field in zip(paths, fields, strict=True):
            print(described(path, field))
        print(scripting.table(heads, rows))


def options():
    found = scripting.parser(__doc__)
    found.add_argument("file", type=Path, help="a .nvc file with a radiance field")
    found.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where pictures go")
    found.add_argument("--views", type=int, default=8, help="how many, once around (default: 8)")
    found.add_argument("--elevation", type=float, default=25.0, metavar="DEGREES", help="of the camera (default: 25)")
    found.add_argument("--distance", type=float, default=1.6, help="in diagonals of the box (default: 1.6)")
    found.add_argument("--size", type=int, default=400, metavar="PIXELS", help="width and height (default: 400)")
    found.add_argument("--background", type=float, nargs=3, default=(1, 1, 1), metavar=("R", "G", "B"), help="0 to 1")
    found.add_argument("--mode", choices=("both", "volume", "render"), default="both", help="which pictures")
    found.add_argument("--resolution", type=int, default=0, help="voxels along the longest side; 0: the field's own")
    found.add_argument("--vti", type=Path, help="also write density and colours as VTI")
    found.add_argument("--sh", action="store_true", help="with --vti, spherical harmonics, too")
    found.add_argument("--compare", type=Path, metavar="OTHER", help="a .nvc file to compare with")
    found.add_argument("--state", type=Path, metavar="PVSM", help="with --compare, a ParaView state of the two views")
    return found


def opened(path, resolution=0):
    """A reader of a radiance field that has read."""
    if not path.is_file():
        raise InputError(f"cannot read '{path}': there is no such file")
    with scripting.checked():
        # Absolute, for states that are loaded from elsewhere.
        reader = OpenDataFile(str(path.absolute()))
        if reader is None or reader.GetProperty("HoldsRadiance") is None:
            raise InputError(f"'{path}' is no .nvc file")
        RenameSource(path.name, reader)
        reader.Resolution = resolution
        UpdatePipeline(proxy=reader)
    if not reader.SMProxy.GetProperty("HoldsRadiance").GetElement(0):
        raise InputError(f"'{path}' holds no radiance field; scripts/render_comparison.py draws other volumes")
    return reader


def described(path, field):
    """A line about a file."""
    bytes_of, ratio = (field.FieldData[f"neurcomp_{name}"].GetRange()[0] for name in ("bytes", "ratio"))
    return f"{path}: {bytes_of:.0f} bytes, ratio {ratio:.1f}"


def write_vti(field, path, harmonics):
    """Density and colours, and the spherical harmonics if they are asked for, as VTI."""
    usual = ["density", "color", "rgba"]
    field.PointArrays = usual + ["sh"] * harmonics
    SaveData(str(path), proxy=field, PointDataArrays=usual + ["sh"] * harmonics)
    field.PointArrays = usual


def aim(camera, eye):
    """Give a view or a Radiance Render a camera."""
    camera.CameraPosition, camera.CameraFocalPoint = list(eye.position), list(eye.focal_point)
    camera.CameraViewUp, camera.CameraViewAngle = list(eye.view_up), eye.view_angle


def draw(shown, eyes, folder, mode):
    """Write the pictures of one field; heads and rows of a table."""
    rows, both = [], mode == "both"
    for number, eye in enumerate(eyes):
        drawn = [
            take(eye, folder / f"{kind}_{number:03d}.png")
            for kind, take in (("volume", shown.volume), ("render", shown.rendered))
            if mode in (kind, "both")
        ]
        rows.append([str(number), place(eye), *([decibels(psnr(*drawn))] if both else [])])
    return ["view", "from", *["PSNR of the volume"] * both], rows


def compare(pair, names, eyes, folder, mode="both", state=None):
    """Write pictures of two fields; heads and rows of a table of the other's PSNR against the first."""
    rows, layout = [], linked(pair, names) if mode != "render" else None
    for number, eye in enumerate(eyes):
        rows.append([str(number), place(eye)])
        if mode != "volume":
            first, other = (
                shown.rendered(eye, folder / f"{kind}_{number:03d}.png")
                for shown, kind in zip(pair, ("render", "other"), strict=True)
            )
            strip = [first, other, np.rint(255 * error(other, first)).astype(np.uint8)]
            write_png(folder / f"compare_{number:03d}.png", np.concatenate(strip, axis=1))
            rows[-1].append(decibels(psnr(other, first)))
        if layout is not None:
            for shown in pair:
                shown.show(eye)
            SaveScreenshot(str(folder / f"views_{number:03d}.png"), layout)
            if state and number == 0:
                SaveState(str(state))
    return ["view", "from", *[f"PSNR of {names[1]}"] * (mode != "volume")], rows


def linked(pair, names):
    """A layout with both views, their cameras linked and their names below."""
    layout = CreateLayout("Comparison")
    width, height = pair[0].view.ViewSize
    layout.SetSize(2 * width, height)
    left = layout.SplitHorizontal(0, 0.5)
    for shown, cell, name in zip(pair, (left, left + 1), names, strict=True):
        AssignViewToLayout(shown.view, layout, cell)
        title = Show(Text(Text=name), shown.view)
        title.WindowLocation, title.FontSize, title.Color = "Lower Center", 14, [0.5, 0.5, 0.5]
    AddCameraLink(pair[0].view, pair[1].view, "Comparison")
    return layout


def place(eye):
    """For a table."""
    return " ".join(f"{v:.2f}" for v in eye.position)


if __name__ == "__main__":
    main()
