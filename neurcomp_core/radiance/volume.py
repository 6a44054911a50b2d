"""A trained radiance field together with what it takes to look at it: what files hold and codecs take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.radiance.dataset import WHITE, PosedImages, Scene
from neurcomp_core.radiance.grids import SparseGrid
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.imports.nerf import NerfWeights

RadianceModel = SparseGrid | DvgoModel | NerfWeights


@dataclass(frozen=True, eq=False)
class RadianceVolume:
    """A radiance field and how it is to be rendered.

    Attributes
    ----------
    model : SparseGrid, DvgoModel or NerfWeights
    box : ndarray ``(2, 3)`` float64
        Low and high corner in x, y, z of what is modelled; that of a grid.
    scene : str
        See `PosedImages.scene`.
    near, far : float
        World distances from a camera between which there is anything; t in normalised device coordinates for a
        forward-facing scene is 0 to 1 whatever these are.
    background : tuple of 3 float
        RGB from 0 to 1 behind it.
    name : str
    psnr : float, optional
        Mean over unseen views, in dB, measured when it was made.
    """

    model: RadianceModel
    box: np.ndarray
    scene: Scene = "bounded"
    near: float = 0.0
    far: float = float("inf")
    background: tuple[float, float, float] = WHITE
    name: str = "radiance"
    psnr: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.near < self.far:
            raise InputError(f"near and far: expected 0 <= near < far, got {self.near} and {self.far}")

    @classmethod
    def of(cls, model: RadianceModel, data: PosedImages, psnr: float | None = None) -> RadianceVolume:
        """A model trained on a set of images."""
        box = data.box if isinstance(model, NerfWeights) else model.box
        return cls(model, box, data.scene, data.near, data.far, data.background, psnr=psnr)

    @property
    def nbytes(self) -> int:
        """Bytes of the uncompressed model, as 32-bit numbers: stored rows and their links' bits of a sparse grid, dense
        grids and network of DVGO, weights of a NeRF.
        """
        return model_nbytes(self.model)


def model_nbytes(model: RadianceModel) -> int:
    """See `RadianceVolume.nbytes`."""
    if isinstance(model, SparseGrid):
        rows = 4 * (model.density.size + model.sh.size) + -(-model.links.size // 8)
        far = model.background
        return rows + (0 if far is None else 4 * far.data.size + -(-far.links.size // 8))
    if isinstance(model, DvgoModel):
        mask = 0 if model.mask is None else -(-model.mask.size // 8)
        return 4 * (model.density.size + model.features.size + sum(w.size + b.size for w, b in model.layers)) + mask
    layers = [layer for mlp in (model.coarse, model.fine) if mlp is not None for layer in mlp.layers]
    return 4 * sum(layer.weight.size + layer.bias.size for layer in layers)
