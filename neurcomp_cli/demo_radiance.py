"""``python -m neurcomp_cli.demo_radiance OUTDIR``: from photographs to a voxel grid in ParaView.

Ray-traces photographs of an analytic scene, trains a Plenoxels field of 64³ voxels from them, compresses it, exports it
as VTI and draws that in ParaView. Figures are those of the files: each is read again and its views are compared with
photographs that the training has not seen. Needs neither data nor a GPU nor a display; fails if the field is poor.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from neurcomp_cli import installation, report
from neurcomp_cli.console import reporting, working
from neurcomp_cli.radiance_evaluate import comparison
from neurcomp_cli.radiance_watching import Watcher
from neurcomp_core.codec import usable_cpus
from neurcomp_core.errors import NeurCompError
from neurcomp_core.files import atomic_write
from neurcomp_core.radiance import evaluation, export, files, scene_sets, trainers, viewpoints
from neurcomp_core.radiance.codec import RadianceContext
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.images import write_png
from neurcomp_core.radiance.rendering.views import render_view
from neurcomp_core.radiance.volume import RadianceVolume
from neurcomp_core.threads import limit

PIXELS, VIEWS, TEST_VIEWS, DECIBELS = 100, 60, 10, 30.0
VOXELS = 64
#: What the recipe has besides.
SETTINGS: dict[str, Any] = {}
#: Pixels of the picture, and degrees above the middle that it is taken from.
_PICTURE, _HEIGHT = 400, 25.0
_SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "render_radiance.py"
_PATIENCE = 300


@dataclass(frozen=True)
class _Paths:
    """What the demo writes."""

    photographs: Path
    packed: Path
    volume: Path
    worst: Path
    drawn: Path
    rendered: Path

    @classmethod
    def within(cls, folder: Path) -> _Paths:
        names = ("photographs", "scene.nvc", "scene.vti", "worst-view.png", "paraview.png", "rendered.png")
        return cls(*(folder / name for name in names))


def demo(
    folder: Annotated[Path, typer.Argument(metavar="OUTDIR", help="Where results go; made if missing.")],
) -> None:
    """Photograph, train, compress, export and draw a small scene; everything is written to OUTDIR."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = _Paths.within(folder)
    clock = [time.perf_counter()]

    def spent() -> str:
        clock.append(time.perf_counter())
        return f"{clock[-1] - clock[-2]:.0f} s"

    with working("ray tracing photographs") as progress:
        data = scene_sets.write(scene_sets.scene_set("inward", PIXELS, VIEWS, TEST_VIEWS), paths.photographs, progress)
    train, test = data.split("train"), data.split("test")
    report.line(f"{paths.photographs}: {len(train)} photographs to train on, {len(test)} unseen ones, {spent()}")
    volume = _trained(train, test)
    training = spent()
    report.line(f"trained a Plenoxels field of {_voxels(volume)} in {training}")
    with working("compressing and exporting"), limit(usable_cpus()):
        result = files.compress(volume, "plenoxels", None, RadianceContext("cpu", views=train, unseen=test))
        atomic_write(paths.packed, result.data)
        camera = viewpoints.along(volume, "circle", 1, (_PICTURE, _PICTURE), elevation=np.radians(_HEIGHT))
        _export(files.load(paths.packed), paths.volume, -camera.cameras[0].pose[:3, 2])
        packed = files.load(paths.packed)
        found, worst = _measured(packed, test)
        again = _measured(_from_vti(paths.volume, packed), test)[0]
        write_png(paths.worst, worst)
        rendered = render_view(evaluation.field_of(packed), camera, 0)
        write_png(paths.rendered, rendered.color)
    size = paths.packed.stat().st_size
    rows = (
        ("voxels", _voxels(volume)),
        ("training", training),
        ("trained field", f"{report.whole(volume.nbytes)} bytes"),
        ("compressed file", f"{report.whole(size)} bytes, ratio {report.number(volume.nbytes / size)}"),
        ("PSNR of the trained field", f"{result.psnr_before:.2f} dB"),
        ("PSNR of the compressed file", f"{np.mean([f.psnr for f in found]):.2f} dB"),
        ("SSIM of the compressed file", f"{np.mean([f.ssim for f in found]):.4f}"),
        ("PSNR of the VTI, whose densities are cut at 0", f"{np.mean([f.psnr for f in again]):.2f} dB"),
    )
    report.table(("", f"mean of {len(test)} unseen views"), rows, left=2)
    report.note("PSNR = -10 log10(mean squared error), colours from 0 to 1.")
    report.line(f"{paths.packed}: what `neurcomp radiance render` draws and ParaView opens")
    report.line(f"{paths.volume}: density, colour and spherical harmonics for any program")
    report.line(f"{paths.worst}: the worst unseen view: photograph, rendered, four times the error")
    report.line(f"{paths.rendered}: the compressed field, rendered here")
    report.line(_drawn_in_paraview(paths, camera))
    reached = min(np.mean([f.psnr for f in figures]) for figures in (found, again))
    if reached < DECIBELS:
        raise NeurCompError(f"the demo failed: {reached:.2f} dB on unseen views, expected at least {DECIBELS:g} dB")


def _trained(train: PosedImages, test: PosedImages) -> RadianceVolume:
    trainer = trainers.trainer("plenoxels")
    recipe = trainer.recipe.from_preset("fast", size=VOXELS, **SETTINGS)
    watcher = Watcher(recipe, test, None, train)
    with working(f"training {VOXELS}³ voxels") as progress, limit(usable_cpus()):
        context = RadianceContext("cpu", progress=watcher.telling(progress), views=train, unseen=test)
        return RadianceVolume.of(trainer.train(train, recipe, context, watcher), train)


def _voxels(volume: RadianceVolume) -> str:
    assert isinstance(volume.model, export.SparseGrid)
    return f"{report.shape_text(volume.model.links.shape)}, {report.whole(len(volume.model.density))} kept"


def _export(volume: RadianceVolume, path: Path, towards: np.ndarray) -> None:
    from neurcomp_filters import io
    from neurcomp_filters.radiance_image import rgba

    found = export.fields(evaluation.field_of(volume), direction=towards.tolist(), sh=True)
    io.write([*found, rgba(found[0], found[1])], path)


def _from_vti(path: Path, like: RadianceVolume) -> RadianceVolume:
    """The VTI as any program could have written it."""
    from neurcomp_filters import io
    from neurcomp_filters.radiance_image import grid_of

    grid = grid_of(io.read(path)).grid
    return RadianceVolume(grid, grid.box, like.scene, like.near, like.far, like.background)


def _measured(volume: RadianceVolume, test: PosedImages) -> tuple[list[evaluation.ViewFigures], np.ndarray]:
    """Figures of all views, and a picture of the worst one."""
    found = list(evaluation.evaluate(volume, test))
    index, _, view = min(found, key=lambda one: one[1].psnr)
    return [figures for _, figures, _ in found], comparison(test, index, view.color)


def _drawn_in_paraview(paths: _Paths, camera: PosedImages) -> str:
    """Draw the VTI in ParaView; what to say of it."""
    try:
        installation.program("pvpython", os.environ)
    except NeurCompError:
        return f"ParaView is not installed: there is no {paths.drawn.name}, only the picture rendered here"
    lens, pose = camera.cameras[0].intrinsics, camera.cameras[0].pose
    focus = pose[:3, 3] - np.linalg.norm(pose[:3, 3] - camera.box.mean(0)) * pose[:3, 2]
    vertical = np.degrees(2 * np.arctan(lens.height / 2 / lens.fy))
    vectors = (("--position", pose[:3, 3]), ("--focus", focus), ("--up", pose[:3, 1]))
    given = [text for name, vector in vectors for text in (name, *(f"{v:.6g}" for v in vector))]
    program = [sys.executable, "-m", "neurcomp_cli", "pvpython", str(_SCRIPT), str(paths.volume)]
    settings = ["-o", str(paths.drawn), "--angle", f"{vertical:.6g}", "--size", str(_PICTURE)]
    paths.drawn.unlink(missing_ok=True)
    try:
        done = subprocess.run(
            [*program, *settings, *given], capture_output=True, text=True, timeout=_PATIENCE, stdin=subprocess.DEVNULL
        )
        reason = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
    except subprocess.TimeoutExpired:
        reason = f"no answer within {_PATIENCE} s"
    if not paths.drawn.exists():
        return f"ParaView could not draw the VTI ({reason}): there is only the picture rendered here"
    return f"{paths.drawn}: the VTI as ParaView draws it, from the same place"


if __name__ == "__main__":
    typer.run(reporting(demo))
