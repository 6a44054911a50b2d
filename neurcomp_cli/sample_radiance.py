"""``neurcomp sample radiance``: posed images of an analytic radiance field."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import numpy as np

from neurcomp_cli import report
from neurcomp_cli.console import working
from neurcomp_cli.volumes import check_writable
from neurcomp_core.errors import InputError
from neurcomp_core.field import Field
from neurcomp_core.radiance import spherical_harmonics
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.scene_sets import SceneSet, scene_set, write

#: Voxels along the longest side of the true grid.
_TRUTH_SIZE = 128


class Scene(str, Enum):
    """What can be photographed."""

    inward = "inward"
    forward = "forward"
    unbounded = "unbounded"


def run(
    out: Path,
    kind: str,
    size: int,
    views: int,
    test_views: int,
    seed: int,
    truth: Path | None,
    force: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write the set into the folder `out`, and the true grid to `truth` if it is given."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not force)):
        raise InputError(f"'{out}' exists and is not an empty folder; choose another or give --force")
    if truth is not None:
        check_writable(truth, force)
    data = scene_set(kind, size, views, test_views, seed)
    with working("ray tracing", quiet=quiet) as progress:
        images = write(data, out, progress)
    if truth is not None:
        from neurcomp_filters import io

        io.write(truth_fields(data, images), truth)
    counts = {name: images.splits.count(name) for name in ("train", "test")}
    if as_json:
        box = [[float(v) for v in corner] for corner in images.box]
        figures = {"scene": images.scene, "near": images.near, "far": images.far, "box": box}
        report.print_json({"output": str(out), **counts, "pixels": [size, size], **figures})
    elif not quiet:
        report.line(
            f"{out}: {counts['train']} images to train and {counts['test']} to test on, {size} x {size}, {images.scene}"
        )


def truth_fields(data: SceneSet, images: PosedImages) -> list[Field]:
    """Density ``(z, y, x)`` and colour ``(z, y, x, 3)``, as seen along the +y axis.

    In the scene's own box; of an unbounded one in the box of its foreground.
    """
    grid = data.scene.grid(_TRUTH_SIZE, images.box if images.scene == "unbounded" else None)
    density, sh = grid.dense()
    basis = spherical_harmonics.basis(np.array([0.0, 1.0, 0.0]), grid.degree)
    colors = np.where((density > 0)[..., None], np.clip(0.5 + sh @ basis, 0, 1), 0).astype(np.float32)
    return [Field(density, grid.geometry, "density"), Field(colors, grid.geometry, "color")]
