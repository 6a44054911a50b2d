"""NeRF-synthetic sets as Blender scripts write them: ``transforms_{train,val,test}.json``, RGBA pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from neurcomp_core.radiance.cameras import Camera
from neurcomp_core.radiance.dataset import PosedImages, Split
from neurcomp_core.radiance.images import Images
from neurcomp_core.radiance.loaders import transforms
from neurcomp_core.radiance.loaders.common import assemble

_SPLITS: tuple[Split, ...] = ("train", "val", "test")


def load(folder: Path, background: Sequence[float], skip_missing: bool) -> PosedImages:
    """The splits that are there, in one set; see `neurcomp_core.radiance.loaders.load`."""
    sources, sizes, alpha = [], [], []
    cameras: list[Camera] = []
    names: list[Split] = []
    for split in _SPLITS:
        path = folder / f"transforms_{split}.json"
        if not path.is_file():
            continue
        table, frames = transforms.read(path)
        images, views = transforms.views(path, table, transforms.present(path, frames, skip_missing))
        sources += images.sources
        sizes += images.sizes
        alpha += images.alpha
        cameras += views
        names.extend(split for _ in views)
    return assemble(Images(tuple(sources), tuple(sizes), tuple(alpha)), cameras, names, background)
