"""Looking on while a field is trained: rays per second on the progress line, and pictures of an unseen view."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from neurcomp_core.errors import NeurCompError
from neurcomp_core.progress import Progress
from neurcomp_core.radiance import evaluation, movies, trainers
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.images import write_png
from neurcomp_core.radiance.places import HOST, Place
from neurcomp_core.radiance.rendering.views import render_view
from neurcomp_core.radiance.training.watch import Moment
from neurcomp_core.radiance.volume import RadianceVolume

#: Pixels of a preview's longer side, and seconds between two.
_SIDE, _EVERY = 200, 5.0


class Watcher:
    """What a trainer calls.

    Parameters
    ----------
    recipe
        Of the training: how many rays a step takes.
    judges : PosedImages or None
        The middle one is what previews show; without any, a training image.
    preview : Path, optional
        Folder for pictures: ``step_000100.png``, rendered beside the photograph, and ``latest.png``.
    train : PosedImages
    place : Place
        Where pictures are made.
    """

    def __init__(
        self, recipe: Any, judges: PosedImages | None, preview: Path | None, train: PosedImages, place: Place = HOST
    ) -> None:
        self._place = place
        self._recipe, self._preview, self._train = recipe, preview, train
        shown = judges or train
        self._view = _small(shown.take([len(shown) // 2]))
        self._last: tuple[int, float] | None = None
        self._rate = ""
        self._drawn = -_EVERY
        if preview is not None:
            preview.mkdir(parents=True, exist_ok=True)

    def telling(self, progress: Progress) -> Progress:
        """The trainer's progress, whose line says how fast it goes."""
        return Progress(lambda done, text: progress.update(done, text + self._rate))

    def __call__(self, moment: Moment) -> None:
        rays = trainers.rays_until(self._recipe, moment.step)
        if self._last is not None and moment.seconds > self._last[1]:
            self._rate = f", {(rays - self._last[0]) / (moment.seconds - self._last[1]):,.0f} rays/s"
        self._last = rays, moment.seconds
        now = time.monotonic()
        if self._preview is not None and (now - self._drawn >= _EVERY or moment.step == moment.steps):
            self._draw(moment, self._preview)
            self._drawn = time.monotonic()
            # Drawing is not training.
            self._last = None

    def _draw(self, moment: Moment, folder: Path) -> None:
        volume = RadianceVolume.of(moment.model(), self._train)
        try:
            got = render_view(evaluation.rendered_by(volume, self._place), self._view, 0)
        except NeurCompError:
            return  # a model too young to be drawn is no reason to end its training
        pair = movies.side_by_side([self._view.colors(0), np.clip(got.color, 0, 1)])
        write_png(folder / f"step_{moment.step:06d}.png", pair)
        write_png(folder / "latest.png", pair)


def _small(view: PosedImages) -> PosedImages:
    lens = view.cameras[0].intrinsics
    return view.downscaled(max(1.0, max(lens.width, lens.height) / _SIDE))
