"""Pictures of volumes in a report: the original, and each codec's reconstruction and error at about one size.

VTK draws in a process of its own (``python -m neurcomp_cli.bench_pictures IN.npz OUT.png``), as a machine without
OpenGL may end the process that tries; middle slices take its place then.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurcomp_core import plots
from neurcomp_core.field import Field, UniformGrid

_PATIENCE = 300.0
# Opacity begins at this percentile of the original, colours end at that one.
_FROM, _TO = 55.0, 99.8


@dataclass(frozen=True, eq=False)
class Shown:
    """A codec's reconstruction and what to write below it."""

    title: str
    decoded: Field


def draw(original: Field, shown: Sequence[Shown], path: Path) -> str:
    """Draw `shown` beside `original`; errors have one scale.

    Returns
    -------
    str
        What the picture is: ``rendering`` or ``slice``.
    """
    spacing = original.geometry.spacing if isinstance(original.geometry, UniformGrid) else (1.0, 1.0, 1.0)
    a = _scalar(original.values)
    others = [_scalar(s.decoded.values) for s in shown]
    errors = [_scalar(s.decoded.values - original.values.astype(np.float64), size=True) for s in shown]
    known = a[np.isfinite(a)]
    worst = max(float(np.nanpercentile(e, 99.9)) for e in errors) or max(float(np.nanmax(e)) for e in errors) or 1.0
    titles = ["original", *(s.title for s in shown), *(f"error, 0 to {worst:.3g}" for _ in shown)]
    if min(a.shape) > 1:
        low, high = (float(v) for v in np.percentile(known, (_FROM, _TO)))
        limits = (low if low < high else float(known.min()), high if low < high else float(known.max()), worst)
        if _rendered([a, *others, *errors], titles, spacing, limits, path):
            return "rendering"
    middle = min(range(3), key=lambda axis: a.shape[axis])
    cut = [v.take(v.shape[middle] // 2, middle) for v in (a, *others, *errors)]
    plots.images(
        [[cut[0], *cut[1 : len(shown) + 1]], [None, *cut[len(shown) + 1 :]]],
        [["original", *(s.title for s in shown)], ["", *(f"error, 0 to {worst:.3g}" for _ in shown)]],
        [(float(known.min()), float(np.percentile(known, _TO))), (0.0, worst)],
        path,
    )
    return "slice"


def _scalar(values: np.ndarray, size: bool = False) -> np.ndarray:
    """Values as float32, vectors by their magnitude; scalars by theirs, too, if `size` is what matters."""
    if values.ndim == 4:
        values = np.sqrt((values.astype(np.float64) ** 2).sum(axis=-1))
    return (np.abs(values) if size else values).astype(np.float32)


def _rendered(
    arrays: Sequence[np.ndarray], titles: Sequence[str], spacing: Sequence[float], limits: Sequence[float], path: Path
) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "panels.npz"
        about = np.frombuffer(json.dumps([list(titles), list(spacing), list(limits)]).encode(), np.uint8)
        np.savez(file, *arrays, about=about)
        command = [sys.executable, "-m", "neurcomp_cli.bench_pictures", str(file), str(path)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0 and path.exists()


def main(source: str, target: str) -> None:
    """Render the panels that `_rendered` left in a file."""
    from neurcomp_filters.render import Panel, render

    with np.load(source, allow_pickle=False) as parts:
        titles, spacing, (low, high, worst) = json.loads(parts["about"].tobytes())
        arrays = [parts[f"arr_{i}"] for i in range(len(titles))]
    half = len(titles) // 2
    values = [Panel(a, low, high, t) for a, t in zip(arrays[: half + 1], titles, strict=False)]
    errors = [
        Panel(a, 0.0, worst, t, is_error=True) for a, t in zip(arrays[half + 1 :], titles[half + 1 :], strict=True)
    ]
    render([values, [None, *errors]], target, spacing)


if __name__ == "__main__":
    main(*sys.argv[1:])
