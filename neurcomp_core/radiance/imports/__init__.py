"""Trained radiance fields of other programs; `load` tells their files apart. No pickle in them is ever executed."""

from __future__ import annotations

import os
from pathlib import Path

from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.radiance.grids import SparseGrid
from neurcomp_core.radiance.imports import checkpoints, dvgo, nerf, svox2
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.imports.nerf import NerfWeights


def load(path: str | os.PathLike[str]) -> SparseGrid | DvgoModel | NerfWeights:
    """Read a trained model.

    Parameters
    ----------
    path : path
        ``.npz`` of svox2 (Plenoxels); a checkpoint (``.tar``, ``.pt``, ``.pth``) of DirectVoxGO or nerf-pytorch;
        ``.npy`` weights of the original NeRF, with the fine network's file found beside the coarse one's.

    Raises
    ------
    InputError
        If there is no such file, or the model is of a kind that is not supported.
    FormatError
        If the file is damaged or holds anything but arrays of numbers.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"'{path}' does not exist; give a trained model's file")
    if file.suffix == ".npz":
        return svox2.load(file)
    if file.suffix == ".npy":
        return nerf.load_npy(file)
    checkpoint = checkpoints.load(file)
    if "model_state_dict" in checkpoint:
        return dvgo.from_checkpoint(checkpoint, str(path))
    if "network_fn_state_dict" in checkpoint:
        return nerf.from_checkpoint(checkpoint, str(path))
    raise FormatError(
        f"'{path}': expected a checkpoint of DirectVoxGO (model_state_dict) or nerf-pytorch (network_fn_state_dict), "
        f"got the keys {', '.join(map(str, list(checkpoint)[:8])) or 'none'}"
    )
