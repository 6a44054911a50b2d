"""Reading, writing and shrinking of pictures; a set of them that is read when asked for.

Needs Pillow (extra ``radiance``), imported when a file is touched.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neurcomp_core.errors import InputError, require
from neurcomp_core.files import atomic_path

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
_PURPOSE = "reading and writing pictures"


def _pillow() -> Any:
    return require("PIL.Image", "radiance", _PURPOSE)


def read_size(path: Path) -> tuple[int, int, bool]:
    """Width, height, and whether there is an alpha channel, from the header alone."""
    with _opened(path) as image:
        return image.width, image.height, _has_alpha(image)


def read(path: Path) -> np.ndarray:
    """Picture as ``(height, width, 3 or 4)`` uint8, upper row first, alpha not premultiplied; EXIF is not applied."""
    with _opened(path) as image:
        return np.asarray(image.convert("RGBA" if _has_alpha(image) else "RGB"))


def write_png(path: str | os.PathLike[str], image: np.ndarray) -> None:
    """Write ``(height, width, 3 or 4)``, uint8 or float from 0 to 1, as a PNG file."""
    with atomic_path(path) as temporary:
        _pillow().fromarray(to_uint8(image)).save(temporary, format="PNG")


def to_uint8(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def to_float(image: np.ndarray) -> np.ndarray:
    """float32 from 0 to 1."""
    return image.astype(np.float32) / 255 if image.dtype == np.uint8 else image.astype(np.float32)


def composite(image: np.ndarray, background: Sequence[float]) -> np.ndarray:
    """``(..., 3)`` float32: ``(..., 4)`` over a background colour; ``(..., 3)`` as it is."""
    image = to_float(image)
    if image.shape[-1] == 3:
        return image
    alpha = image[..., 3:]
    return image[..., :3] * alpha + np.asarray(background, np.float32) * (1 - alpha)


def area_resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Mean over the area each new pixel covers, any sizes; float32, alpha not premultiplied.

    Colours are averaged weighted by their alpha, so compositing commutes with resizing.
    """
    image = to_float(image)
    if image.shape[-1] == 4:
        premultiplied = np.concatenate([image[..., :3] * image[..., 3:], image[..., 3:]], -1)
        small = _area(_area(premultiplied, height, 0), width, 1)
        alpha = small[..., 3:]
        small[..., :3] = np.divide(small[..., :3], alpha, out=np.zeros_like(small[..., :3]), where=alpha > 1e-6)
        return small
    return _area(_area(image, height, 0), width, 1)


def _area(image: np.ndarray, size: int, axis: int) -> np.ndarray:
    old = image.shape[axis]
    if size == old:
        return image
    # Differences of the running integral, interpolated at the new pixels' edges.
    image = np.moveaxis(image, axis, 0)
    integral = np.zeros((old + 1, *image.shape[1:]), np.float64)
    np.cumsum(image, axis=0, out=integral[1:])
    edges = np.arange(size + 1) * (old / size)
    cell = np.minimum(edges.astype(np.int64), old - 1)
    share = (edges - cell).reshape(-1, *[1] * (image.ndim - 1))
    at = integral[cell] + share * (integral[cell + 1] - integral[cell])
    return np.moveaxis((np.diff(at, axis=0) * (size / old)).astype(np.float32), 0, axis)


@dataclass(frozen=True, eq=False)
class Images(Sequence[np.ndarray]):
    """Pictures in memory or in files, each read (and shrunk) when it is asked for; nothing is kept.

    Attributes
    ----------
    sources : tuple of Path or ndarray
        An array is ``(height, width, 3 or 4)`` uint8 or float.
    sizes : tuple of (int, int)
        Width and height to give; a source of another size is shrunk with the area filter.
    alpha : tuple of bool
        Whether there is an alpha channel.
    """

    sources: tuple[Path | np.ndarray, ...]
    sizes: tuple[tuple[int, int], ...]
    alpha: tuple[bool, ...]

    @classmethod
    def of_files(cls, paths: Sequence[Path]) -> Images:
        """Pictures in files; only their headers are read."""
        heads = [read_size(path) for path in paths]
        return cls(tuple(paths), tuple((w, h) for w, h, _ in heads), tuple(a for _, _, a in heads))

    @classmethod
    def of_arrays(cls, arrays: Sequence[np.ndarray]) -> Images:
        """Pictures in memory; InputError unless each is ``(height, width, 3 or 4)``, uint8 or float."""
        for i, a in enumerate(arrays):
            if a.ndim != 3 or a.shape[-1] not in (3, 4) or (a.dtype != np.uint8 and a.dtype.kind != "f"):
                raise InputError(
                    f"image {i}: expected (height, width, 3 or 4) of uint8 or float, got {a.shape} {a.dtype}"
                )
        return cls(
            tuple(arrays), tuple((a.shape[1], a.shape[0]) for a in arrays), tuple(a.shape[2] == 4 for a in arrays)
        )

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        source = self.sources[index]
        image = read(source) if isinstance(source, Path) else source
        width, height = self.sizes[index]
        return image if image.shape[:2] == (height, width) else area_resize(image, width, height)

    def take(self, indices: Sequence[int]) -> Images:
        return Images(
            tuple(self.sources[i] for i in indices),
            tuple(self.sizes[i] for i in indices),
            tuple(self.alpha[i] for i in indices),
        )

    def resized(self, sizes: Sequence[tuple[int, int]]) -> Images:
        return replace(self, sizes=tuple(sizes))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A Pillow image whose pixels are still in the file; what goes wrong is one sentence."""
    pillow = _pillow()
    if not path.is_file():
        raise InputError(f"the image '{path}' does not exist; copy it there or remove its frame")
    try:
        with pillow.open(path) as image:
            yield image
    except (OSError, SyntaxError, ValueError, EOFError, pillow.DecompressionBombError) as error:
        raise InputError(f"cannot read the image '{path}': {error}; the file is damaged, write it again") from error


def _has_alpha(image: Any) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
