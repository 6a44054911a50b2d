"""Rendered frames as files: numbered PNG pictures, an animated GIF, or an MP4 movie.

MP4 needs imageio and its ffmpeg (extra ``video``), pictures need Pillow (extra ``radiance``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neurcomp_core.errors import InputError, require
from neurcomp_core.files import atomic_path, checked_path
from neurcomp_core.radiance import images

#: Pictures of one view by their kind: the first is the view itself.
Frame = Mapping[str, np.ndarray]

MOVIES = (".mp4", ".gif")


def check(path: Path) -> None:
    """Find out before the work that `path` cannot be written.

    Raises
    ------
    InputError
        If its folder is missing, or it is neither a movie, nor a ``.png``, nor a folder or a name for one.
    MissingExtraError
        If what writes it is not installed.
    """
    kind = path.suffix.lower()
    require("PIL.Image", "radiance", "writing pictures")
    if kind == ".mp4":
        require("imageio.v2", "video", "writing an MP4 movie")
        require("imageio_ffmpeg", "video", "writing an MP4 movie")
    if kind in (*MOVIES, ".png"):
        checked_path(path)
    elif kind and not path.is_dir():
        raise InputError(f"cannot write '{path}': expected a folder, or a name that ends in .png, .mp4 or .gif")
    elif path.exists() and not path.is_dir():
        raise InputError(f"cannot write '{path}': it is a file; give a folder")
    elif not path.parent.is_dir():
        raise InputError(f"cannot write '{path}': the folder '{path.parent}' does not exist")


def write(frames: Iterable[Frame], path: Path, rate: float = 24.0) -> list[Path]:
    """Write frames as they come.

    Parameters
    ----------
    frames : iterable of mapping
        Pictures ``(height, width, 3)`` from 0 to 1, or uint8, of one size. In a movie those of one frame stand side by
        side.
    path : Path
        ``.mp4``, ``.gif``, ``.png`` for a single frame, else a folder that is made.
    rate : float
        Frames per second.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    InputError
        As `check` does, or if there are several frames for one ``.png``.
    """
    check(path)
    kind = path.suffix.lower()
    if kind == ".mp4":
        _write_mp4(map(_abreast, frames), path, rate)
        return [path]
    if kind == ".gif":
        _write_gif(map(_abreast, frames), path, rate)
        return [path]
    if kind == ".png":
        found = list(frames)
        if len(found) != 1:
            raise InputError(f"cannot write '{path}': one .png holds one view, got {len(found)}; give a folder")
        return _write_pictures(found[0], path)
    path.mkdir(exist_ok=True)
    return [p for i, frame in enumerate(frames) for p in _write_pictures(frame, path / f"view_{i:04d}.png")]


def _write_pictures(frame: Frame, path: Path) -> list[Path]:
    written = []
    for i, (kind, picture) in enumerate(frame.items()):
        target = path if i == 0 else path.with_name(f"{path.stem}_{kind}{path.suffix}")
        images.write_png(target, picture)
        written.append(target)
    return written


def side_by_side(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """One picture ``(height, widths, 3)`` uint8 of several of one height."""
    return np.concatenate([images.to_uint8(p) for p in pictures], axis=1)


def _abreast(frame: Frame) -> np.ndarray:
    return side_by_side(list(frame.values()))


def _write_mp4(frames: Iterator[np.ndarray], path: Path, rate: float) -> None:
    imageio: Any = require("imageio.v2", "video", "writing an MP4 movie")
    # One pixel as macro block: sizes stay; yuv420p, which every player takes, needs them even.
    settings = {"fps": rate, "codec": "libx264", "quality": 8, "macro_block_size": 1}
    with atomic_path(path) as temporary, imageio.get_writer(temporary, **settings) as movie:
        for frame in frames:
            height, width = frame.shape[:2]
            movie.append_data(np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"))


def _write_gif(frames: Iterator[np.ndarray], path: Path, rate: float) -> None:
    pillow: Any = require("PIL.Image", "radiance", "writing pictures")
    # Pillow quantises each frame to 256 colours of its own when it is converted.
    stack = [pillow.fromarray(frame).convert("P", palette=pillow.Palette.ADAPTIVE) for frame in frames]
    if not stack:
        raise InputError(f"cannot write '{path}': there are no frames")
    with atomic_path(path) as temporary:
        # GIF counts hundredths of a second, and viewers slow down what is faster than 50 frames per second.
        pause = max(20, 10 * round(100 / rate))
        stack[0].save(temporary, format="GIF", save_all=True, append_images=stack[1:], duration=pause, loop=0)
