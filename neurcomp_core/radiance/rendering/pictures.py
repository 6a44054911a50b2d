"""Views as pictures to look at: depth and normals in colours."""

from __future__ import annotations

from typing import Literal

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.radiance.rendering.views import View

Kind = Literal["color", "opacity", "depth", "normal"]


def picture(view: View, kind: Kind = "color", limits: tuple[float, float] | None = None) -> np.ndarray:
    """One of a view's images as colours.

    Parameters
    ----------
    view : View
    kind : str
        "color"; "opacity", white where opaque; "depth", light where near and black where nothing is; "normal", each
        component from -1..1 to 0..1, black where there is none.
    limits : pair of float, optional
        Depths shown brightest and darkest; the 1st and 99th percentile if left out. Give them to compare views.

    Returns
    -------
    ndarray ``(height, width, 3)`` float32
        From 0 to 1.

    Raises
    ------
    InputError
        If the view has no normals, or the kind is unknown.
    """
    if kind == "color":
        return np.clip(view.color, 0, 1)
    if kind == "opacity":
        return _gray(view.opacity)
    if kind == "depth":
        seen = np.isfinite(view.depth)
        if not seen.any():
            return _gray(np.zeros_like(view.depth))
        near, far = np.percentile(view.depth[seen], (1, 99)) if limits is None else limits
        # What is seen keeps off black, which means nothing.
        shade = 1 - 0.85 * np.clip((view.depth - near) / max(far - near, 1e-12), 0, 1)
        return _gray(np.where(seen, shade, 0))
    if kind == "normal":
        if view.normal is None:
            raise InputError("the view was rendered without normals; render it with normals=True")
        there = (view.normal != 0).any(-1, keepdims=True)
        return np.where(there, 0.5 + 0.5 * view.normal, 0).astype(np.float32)
    raise InputError(f"picture '{kind}' is unknown; expected color, opacity, depth or normal")


def _gray(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=-1).astype(np.float32)
