"""Make the pictures of paraview.md again: the real window, on a virtual screen.

Needs ParaView, xvfb-run, xdotool, Pillow (matplotlib brings it) and, for ParaView's icons, Debian's libqt5svg5.

python docs/make_screenshots.py [NAME ...]
"""

import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from neurcomp_core.radiance.files import compress
from neurcomp_core.radiance.scenes import scene
from neurcomp_core.radiance.volume import RadianceVolume

IMAGES = Path(__file__).parent / "images"
SIZE = (1400, 1150)
SETTINGS = f"""[General]
GeneralSettings.ShowWelcomeDialog=false
[MainWindow]
Size=@Size({SIZE[0]} {SIZE[1]})
Position=@Point(0 0)
"""
PATIENCE = 120.0

START = """
from paraview.simple import *
view = GetActiveViewOrCreate("RenderView")
flow = OpenDataFile("flow.vti")
RenameSource("flow", flow)
def look(data, view):
    display = Show(data, view)
    display.SetRepresentationType("Volume")
    ColorBy(display, ("POINTS", "vorticity_magnitude"))
    display.SetScalarBarVisibility(view, False)
    return display
look(flow, view)
view.ResetActiveCameraToNegativeZ()
GetActiveCamera().Azimuth(30)
GetActiveCamera().Elevation(25)
ResetCamera(view)
"""
COMPRESS = """
Hide(flow, view)
compressed = NeuralCompress(registrationName="compressed", Input=flow, Ratio=50, Preset="fast")
look(compressed, view)
SetActiveSource(compressed)
Render()
"""
SPLIT = """
Show(flow, view)
other = CreateRenderView()
AssignViewToLayout(other, GetLayout(view), GetLayout(view).SplitHorizontal(0, 0.5) + 1)
Hide(compressed, view)
look(compressed, other)
for name in ("CameraPosition", "CameraFocalPoint", "CameraViewUp"):
    setattr(other, name, list(getattr(view, name)))
other.CameraParallelScale = view.CameraParallelScale
AddCameraLink(view, other, "both")
for shown, text in ((view, "original"), (other, "decoded, 50 : 1")):
    label = Text(registrationName=text, Text=text)
    Show(label, shown).WindowLocation = "Lower Center"
SetActiveSource(compressed)
RenderAllViews()
"""
RADIANCE = """
from paraview.simple import *
view = GetActiveViewOrCreate("RenderView")
view.OrientationAxesVisibility = 0
view.UseColorPaletteForBackground, view.Background = 0, [1, 1, 1]
field = OpenDataFile("inward.nvc")
RenameSource("inward.nvc", field)
field.ViewDirection = [-1.6, 2, -1]
field.UpdatePipeline()
field.SMProxy.InvokeCommand("ShowAsVolume")
view.CameraPosition, view.CameraFocalPoint, view.CameraViewUp = [2.1, -2.6, 1.3], [0, 0, -0.1], [0, 0, 1]
other = CreateRenderView()
AssignViewToLayout(other, GetLayout(view), GetLayout(view).SplitVertical(0, 0.5) + 1)
other.OrientationAxesVisibility = 0
other.UseColorPaletteForBackground, other.Background = 0, [1, 1, 1]
SetActiveView(view)
Render(view)
render = RadianceRender(registrationName="render", Input=field, ImageSize=[900, 600])
render.SMProxy.InvokeCommand("CopyCamera")
SetActiveView(other)
render.SMProxy.InvokeCommand("ShowPicture")
for name in ("CameraPosition", "CameraFocalPoint", "CameraViewUp"):
    setattr(other, name, list(getattr(view, name)))
for shown, text in ((view, "volume, colours of one direction"), (other, "Radiance Render")):
    label = Show(Text(registrationName=text, Text=text), shown)
    label.WindowLocation, label.Color = "Upper Center", [0, 0, 0]
SetActiveSource(render)
RenderAllViews()
"""
MENU = '<pqevent object="pqClientMainWindow/menubar/menuFilters" command="activate" arguments="Neural Compression"/>'
CHOOSE = (
    MENU + '<pqevent object="pqClientMainWindow/menubar/menuFilters/Neural Compression" command="activate" '
    'arguments="NeuralCompress"/>'
)
INFORMATION = '<pqevent object="pqClientMainWindow/1QTabBar1" command="set_tab_with_text" arguments="Information"/>'

#: Middle of the Apply button (x, y), and where progress shows (rows, columns).
APPLY = (48, 562)
STATUS = (slice(1125, 1148), slice(480, 912))

#: Name of each picture, the program that leads to it, and what is then done in the window.
PICTURES = {
    "paraview-menu": (START, MENU),
    "paraview-properties": (START + COMPRESS, ""),
    "paraview-progress": (START, CHOOSE),
    "paraview-information": (START + COMPRESS, INFORMATION),
    "paraview-split": (START + COMPRESS + SPLIT, ""),
    "paraview-radiance": (RADIANCE, ""),
}


def make(name: str, folder: Path) -> None:
    """Run ParaView up to one picture, and take it."""
    program, events = PICTURES[name]
    work = folder / name
    home = work / "home" / ".config" / "ParaView"
    home.mkdir(parents=True)
    (home / f"ParaView{version()}.ini").write_text(SETTINGS)
    done = work / "done"
    (work / "start.py").write_text(f"{program}\nopen({str(done)!r}, 'w').close()\n")
    (work / "events.xml").write_text(f'<?xml version="1.0"?>\n<pqevents>\n{events}\n</pqevents>\n')
    for data in ("flow.vti", "inward.nvc"):
        (work / data).symlink_to(folder / data)
    screen = f"-screen 0 {SIZE[0]}x{SIZE[1]}x24 -fbdir {work}"
    command = ["xvfb-run", "-a", "-s", screen, "sh", "-c", 'env > variables; exec "$@"', "sh"]
    command += [sys.executable, "-m", "neurcomp_cli", "paraview"]
    command += [f"--script={work / 'start.py'}", f"--test-script={work / 'events.xml'}"]
    env = os.environ | {"HOME": str(work / "home")}
    with (work / "log").open("w") as log:
        window = subprocess.Popen(command, cwd=work, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + PATIENCE
        while not (done.exists() and "is finished" in (work / "log").read_text()):
            if time.monotonic() > end or window.poll() is not None:
                raise SystemExit(f"{name}: ParaView did not come to the end:\n{(work / 'log').read_text()[-2000:]}")
            time.sleep(0.5)
        time.sleep(3)  # for what is still to be drawn
        if name == "paraview-progress":
            apply_and_wait(work, end)
        picture = window_of(screenshot(work / "Xvfb_screen0"))
        Image.fromarray(picture).quantize(200).save(IMAGES / f"{name}.png", optimize=True)
    finally:
        os.killpg(window.pid, signal.SIGTERM)
        window.wait()


def apply_and_wait(work: Path, end: float) -> None:
    """Press Apply as a user does, and wait until a fifth of the bar in the status line is filled.

    The player of ``--test-script`` can press it too, but ParaView shows no progress of what runs under the player.
    """
    variables = dict(v.split("=", 1) for v in (work / "variables").read_text().splitlines() if "=" in v)
    env = os.environ | {name: variables[name] for name in ("DISPLAY", "XAUTHORITY")}
    subprocess.run(["xdotool", "mousemove", *map(str, APPLY), "click", "1"], env=env, check=True)
    while time.monotonic() < end:
        red, _, blue = np.moveaxis(screenshot(work / "Xvfb_screen0")[STATUS].astype(int), -1, 0)
        if (blue - red > 100).mean() > 0.2:
            return
        time.sleep(0.2)
    raise SystemExit("paraview-progress: the status bar showed no progress")


def version() -> str:
    """Version of ParaView, which is in the name of its settings file."""
    command = [sys.executable, "-m", "neurcomp_cli", "pvpython", "--version"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]


def screenshot(framebuffer: Path) -> np.ndarray:
    """Pixels (y, x, RGB) of the X window dump that Xvfb keeps."""
    data = framebuffer.read_bytes()
    head = struct.unpack(">25I", data[:100])
    size, width, height, line, colours = head[0], head[4], head[5], head[12], head[19]
    pixels = np.frombuffer(data, np.uint8, line * height, size + 12 * colours).reshape(height, line)
    return np.ascontiguousarray(pixels[:, : 4 * width].reshape(height, width, 4)[..., 2::-1])


def window_of(pixels: np.ndarray) -> np.ndarray:
    """Without the empty, black part of the screen."""
    lit = pixels.max(axis=-1) > 0
    height, width = (int(np.flatnonzero(lit.any(axis=axis))[-1]) + 1 for axis in (1, 0))
    return pixels[:height, :width]


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        flow = Path(folder) / "flow.vti"
        sample = ["sample", "taylor-green", "-o", str(flow), "--size", "48", "--time", "6", "--quiet"]
        subprocess.run([sys.executable, "-m", "neurcomp_cli", *sample], check=True)
        grid = scene("inward").grid(96)
        (Path(folder) / "inward.nvc").write_bytes(compress(RadianceVolume(grid, grid.box), "plenoxels").data)
        for name in sys.argv[1:] or PICTURES:
            make(name, Path(folder))
            print(IMAGES / f"{name}.png", (IMAGES / f"{name}.png").stat().st_size, "bytes")


if __name__ == "__main__":
    main()
