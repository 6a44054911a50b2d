"""Posed images: what radiance fields are trained from and judged by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.radiance.cameras import Camera, ndc_rays, rays
from neurcomp_core.radiance.images import Images, composite, to_float

Scene = Literal["bounded", "forward-facing", "unbounded"]
Split = Literal["train", "val", "test"]

WHITE, BLACK = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class PosedImages:
    """A set of pictures with their cameras.

    Attributes
    ----------
    images : Images
        ``(height, width, 3 or 4)`` each, see `neurcomp_core.radiance.images.Images`; read when asked for.
    cameras : tuple of Camera
        One per image.
    splits : tuple of str
        "train", "val" or "test" per image.
    near, far : float
        World distances between which the scene lies, along every ray.
    box : ndarray ``(2, 3)``
        Low and high corner of the volume to model in x, y, z; of a forward-facing set in normalised device
        coordinates (see `rays`), else in world coordinates. Of an unbounded set it holds the foreground.
    scene : str
        "bounded": nothing outside `box`; "forward-facing": rays are in normalised device coordinates; "unbounded":
        the background reaches to infinity.
    background : tuple of 3 float
        RGB from 0 to 1 behind transparent pixels.

    Raises
    ------
    InputError
        If there are no images, numbers or sizes disagree, or a bound is out of order.
    """

    images: Images
    cameras: tuple[Camera, ...]
    splits: tuple[str, ...]
    near: float
    far: float
    box: np.ndarray
    scene: Scene = "bounded"
    background: tuple[float, float, float] = WHITE

    def __post_init__(self) -> None:
        counts = len(self.images), len(self.cameras), len(self.splits)
        if not counts[0]:
            raise InputError("there are no images; a set needs at least one frame")
        if len(set(counts)) > 1:
            raise InputError("images, cameras and splits: expected as many of each, got {}, {} and {}".format(*counts))
        for camera, size in zip(self.cameras, self.images.sizes, strict=True):
            expected = camera.intrinsics.width, camera.intrinsics.height
            if size != expected:
                raise InputError(
                    f"'{camera.name}': the image has {size[0]} x {size[1]} pixels, its camera "
                    f"{expected[0]} x {expected[1]}; correct the camera or use the images it was made for"
                )
        if not (0 <= self.near < self.far and math.isfinite(self.near)):
            raise InputError(f"near and far: expected 0 <= near < far, got {self.near} and {self.far}")
        box = np.asarray(self.box, np.float64)
        if box.shape != (2, 3) or not np.isfinite(box).all() or not (box[0] < box[1]).all():
            raise InputError(f"box: expected a low and a higher corner (2, 3), got {box.tolist()}")
        object.__setattr__(self, "box", box)

    def __len__(self) -> int:
        return len(self.cameras)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(camera.name for camera in self.cameras)

    @property
    def has_alpha(self) -> bool:
        """Whether any image tells object from background."""
        return any(self.images.alpha)

    def split(self, name: Split) -> PosedImages:
        """The images of one split; InputError if there are none."""
        chosen = [i for i, s in enumerate(self.splits) if s == name]
        if not chosen:
            raise InputError(f"the set has no {name} images, only {', '.join(sorted(set(self.splits)))}")
        return self.take(chosen)

    def take(self, indices: Sequence[int]) -> PosedImages:
        """Some of the images, in the order given."""
        cameras = tuple(self.cameras[i] for i in indices)
        return replace(
            self, images=self.images.take(indices), cameras=cameras, splits=tuple(self.splits[i] for i in indices)
        )

    def downscaled(self, factor: float) -> PosedImages:
        """All images `factor` times smaller each way (rounded), by the area filter; rays stay where they were."""
        if not 1 <= factor < math.inf:
            raise InputError(f"downscale: expected a factor of at least 1, got {factor}")
        if factor == 1:
            return self
        sizes = [(max(1, round(w / factor)), max(1, round(h / factor))) for w, h in self.images.sizes]
        cameras = tuple(
            replace(c, intrinsics=c.intrinsics.resized(*size)) for c, size in zip(self.cameras, sizes, strict=True)
        )
        return replace(self, images=self.images.resized(sizes), cameras=cameras)

    def over(self, background: Sequence[float]) -> PosedImages:
        """The same set over another background colour."""
        r, g, b = background
        return replace(self, background=(r, g, b))

    def colors(self, view: int) -> np.ndarray:
        """Image ``(height, width, 3)`` float32 from 0 to 1, over the background."""
        return composite(self.images[view], self.background)

    def opacity(self, view: int) -> np.ndarray:
        """Alpha ``(height, width)`` float32; 1 where the image has none."""
        image = self.images[view]
        return to_float(image[..., 3]) if image.shape[-1] == 4 else np.ones(image.shape[:2], np.float32)

    def rays(
        self, view: int, pixels: np.ndarray | None = None, dtype: type = np.float32
    ) -> tuple[np.ndarray, np.ndarray, float, float]:
        """Rays to march for one view.

        Parameters
        ----------
        view : int
        pixels : ndarray ``(..., 2)``, optional
            Coordinates (u, v), see `neurcomp_core.radiance.cameras`; all pixels' centres if left out.
        dtype : type
            float32 or float64.

        Returns
        -------
        origins, directions : ndarray ``(..., 3)``
            ``origins + t directions``: world rays of unit length; of a forward-facing set rays in normalised device
            coordinates, not of unit length (see `neurcomp_core.radiance.cameras.ndc_rays`).
        near, far : float
            Bounds of t; 0 and 1 for a forward-facing set.
        """
        camera = self.cameras[view]
        if self.scene != "forward-facing":
            return *rays(camera, pixels, dtype), self.near, self.far
        origins, directions = ndc_rays(*rays(camera, pixels, np.float64), camera.intrinsics, self.ndc_near)
        return origins.astype(dtype), directions.astype(dtype), 0.0, 1.0

    @property
    def ndc_near(self) -> float:
        """Near plane of normalised device coordinates: loaders of forward-facing sets scale the world to make it 1."""
        return 1.0

    def viewing_directions(self, view: int, pixels: np.ndarray | None = None, dtype: type = np.float32) -> np.ndarray:
        """Unit directions ``(..., 3)`` in the world, which colour depends on, also where `rays` are warped."""
        return rays(self.cameras[view], pixels, dtype)[1]
