"""Direct Voxel Grid Optimization: checkpoints ``coarse_last.tar`` and ``fine_last.tar`` of its authors' program.

Sun, Sun & Chen, Direct Voxel Grid Optimization (CVPR 2022), sections 3 and 4.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.radiance.imports.checkpoints import array

# Keys that only the unbounded and the multi-plane (forward-facing) variants have.
_VARIANTS = {"contracted_norm": "unbounded (contracted)", "mpi_depth": "forward-facing (multi-plane)"}


@dataclass(frozen=True, eq=False)
class DvgoModel:
    """A bounded DVGO scene: density grid, colour or feature grid, and a shallow network for view dependence.

    Grids are node-aligned: the first and the last sample of an axis lie on the faces of `box`, trilinear in between,
    zero outside.

    Attributes
    ----------
    density : ndarray ``(z, y, x)`` float32
        Before activation: per unit of world length it is ``softplus(density + shift) / unit`` (post-activation: first
        interpolate, then activate).
    features : ndarray ``(z, y, x, channels)`` float32
        Without `layers` colour before the sigmoid, 3 channels. With `layers` and `direct` the network's input; without
        `direct` the first 3 channels are added to the network's output and the others are its input.
    box : ndarray ``(2, 3)`` float64
        Low and high corner in x, y, z.
    shift : float
        Of the density's activation.
    unit : float
        World length for which densities were scaled: the edge of a voxel at the resolution ``num_voxels_base``.
    layers : tuple of (weight ``(out, in)``, bias ``(out,)``)
        ReLU in between; inputs are features, direction d, sin(2^k d), cos(2^k d).
    frequencies : int
        How many k there are.
    direct : bool
    mask : ndarray ``(z, y, x)`` bool, optional
        Points whose nearest sample is False are known free space; its own resolution, over the same box.
    """

    density: np.ndarray
    features: np.ndarray
    box: np.ndarray
    shift: float
    unit: float
    layers: tuple[tuple[np.ndarray, np.ndarray], ...] = ()
    frequencies: int = 0
    direct: bool = True
    mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.density.ndim != 3 or min(self.density.shape) < 2:
            raise InputError(f"density: expected (z, y, x) of at least 2 each, got {self.density.shape}")
        if self.features.ndim != 4 or self.features.shape[:3] != self.density.shape:
            raise InputError(f"features: expected {self.density.shape} and channels, got {self.features.shape}")
        if not (np.isfinite(self.box).all() and (self.box[0] < self.box[1]).all() and self.unit > 0):
            raise InputError(f"box {self.box.tolist()}, unit {self.unit}: expected a low and a higher corner, unit > 0")
        width = self.features.shape[3] - (0 if self.direct else 3) + 3 + 6 * self.frequencies
        for i, (weight, bias) in enumerate(self.layers):
            if weight.ndim != 2 or weight.shape[1] != width or bias.shape != weight.shape[:1]:
                raise InputError(f"layer {i} of the network: expected {width} inputs, got {weight.shape}, {bias.shape}")
            width = len(weight)
        if (width if self.layers else self.features.shape[3]) != 3:
            raise InputError("the model gives no red, green and blue")

    def sample(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Activated density ``(n,)`` per world length, and features ``(n, channels)``, at ``(n, 3)``; float64."""
        return self.sigma(points), self._interpolated(points, self.features)

    def sigma(self, points: np.ndarray) -> np.ndarray:
        """Activated density ``(n,)`` float64 per world length at points ``(n, 3)``; zero in known free space."""
        raw = self._interpolated(points, self.density[..., None])[:, 0]
        return self._occupied(points) * np.logaddexp(0, raw + self.shift) / self.unit

    def _interpolated(self, points: np.ndarray, grid: np.ndarray) -> np.ndarray:
        """Trilinear values ``(n, channels)`` float64 of a grid ``(z, y, x, channels)``; zero outside the box."""
        top = np.array(grid.shape[2::-1]) - 1
        at = np.clip((points - self.box[0]) / (self.box[1] - self.box[0]) * top, 0, top)
        low = np.minimum(at.astype(np.int64), top - 1)
        share = at - low
        out = np.zeros((len(points), grid.shape[3]))
        for corner in np.ndindex(2, 2, 2):
            x, y, z = (low + corner).T
            out += np.prod(np.where(corner, share, 1 - share), axis=1)[:, None] * grid[z, y, x]
        return self._inside(points)[:, None] * out

    def _inside(self, points: np.ndarray) -> np.ndarray:
        return ((points >= self.box[0]) & (points <= self.box[1])).all(1)

    def _occupied(self, points: np.ndarray) -> np.ndarray:
        """Whether points are inside and the nearest sample of the mask does not say that they are in free space."""
        inside = self._inside(points)
        if self.mask is None or min(self.mask.shape) < 2:
            return inside
        top = np.array(self.mask.shape[::-1]) - 1
        at = (points - self.box[0]) / (self.box[1] - self.box[0]) * top
        x, y, z = np.clip(at + 0.5, 0, top).astype(np.int64).T
        return inside & self.mask[z, y, x]

    def colors(self, points: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """RGB ``(n, 3)`` float64 at points seen along unit directions ``(n, 3)``."""
        features = self._interpolated(points, self.features)
        if not self.layers:
            return _sigmoid(features)
        waves = (directions[:, :, None] * 2.0 ** np.arange(self.frequencies)).reshape(len(points), -1)
        given = features if self.direct else features[:, 3:]
        x = np.concatenate([given, directions, np.sin(waves), np.cos(waves)], 1)
        for i, (weight, bias) in enumerate(self.layers):
            x = x @ weight.T + bias
            if i < len(self.layers) - 1:
                x = np.maximum(x, 0)
        return _sigmoid(x if self.direct else x + features[:, :3])


def from_checkpoint(checkpoint: Mapping[str, Any], where: str) -> DvgoModel:
    """The model in a checkpoint that `checkpoints.load` has read.

    Raises
    ------
    InputError
        If it is a variant that is not supported.
    FormatError
        If the layout is not DVGO's.
    """
    state, settings = checkpoint.get("model_state_dict"), checkpoint.get("model_kwargs")
    if not isinstance(state, Mapping) or not isinstance(settings, Mapping):
        raise FormatError(f"'{where}': expected model_state_dict and model_kwargs, as DVGO saves them")
    for key, name in _VARIANTS.items():
        if key in settings:
            raise InputError(f"'{where}' is DVGO's {name} model; only its bounded one is supported")
    kinds = {settings.get("density_type", "DenseGrid"), settings.get("k0_type", "DenseGrid")}
    if kinds != {"DenseGrid"} or settings.get("rgbnet_full_implicit"):
        raise InputError(f"'{where}': only DVGO with dense grids of density and colour is supported, not TensoRF's")
    # Files of 2021 call the grids 'density' and 'k0'.
    density = array(state, "density.grid" if "density.grid" in state else "density", where)
    features = array(state, "k0.grid" if "k0.grid" in state else "k0", where)
    if density.ndim != 5 or density.shape[:2] != (1, 1) or features.ndim != 5 or len(features) != 1:
        raise FormatError(f"'{where}': density {density.shape}, k0 {features.shape}; expected (1, channels, x, y, z)")
    low, high = (array(state if key in state else settings, key, where) for key in ("xyz_min", "xyz_max"))
    if low.shape != (3,) or high.shape != (3,):
        raise FormatError(f"'{where}': xyz_min and xyz_max must be three numbers each")
    box = np.stack([low, high]).astype(np.float64)
    mask = array(state, "mask_cache.mask", where) if "mask_cache.mask" in state else None
    if mask is not None and mask.ndim != 3:
        raise FormatError(f"'{where}': mask_cache.mask {mask.shape}; expected (x, y, z)")
    try:
        return DvgoModel(
            np.ascontiguousarray(density[0, 0].transpose(2, 1, 0), np.float32),
            np.ascontiguousarray(features[0].transpose(3, 2, 1, 0), np.float32),
            box,
            _shift(state, settings, where),
            _unit(box, settings, where),
            _layers(state, where),
            len(array(state, "viewfreq", where)) if "viewfreq" in state else 0,
            bool(settings.get("rgbnet_direct", False)),
            None if mask is None else np.ascontiguousarray(mask.transpose(2, 1, 0), bool),
        )
    except InputError as error:
        raise FormatError(f"'{where}': {error}") from None


def _shift(state: Mapping[str, Any], settings: Mapping[str, Any], where: str) -> float:
    if "act_shift" in state:
        return float(array(state, "act_shift", where).reshape(-1)[0])
    alpha = _number(settings, "alpha_init", where)
    if not 0 < alpha < 1:
        raise FormatError(f"'{where}': alpha_init is {alpha}; expected a number between 0 and 1")
    return math.log(1 / (1 - alpha) - 1)


def _unit(box: np.ndarray, settings: Mapping[str, Any], where: str) -> float:
    count = _number(settings, "num_voxels_base", where)
    if not count > 0:
        raise FormatError(f"'{where}': num_voxels_base is {count}; expected a positive number")
    return float(np.cbrt(np.prod(box[1] - box[0]) / count))


def _layers(state: Mapping[str, Any], where: str) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    names = [match[1] for key in state if (match := re.fullmatch(r"(rgbnet\.[\d.]+)\.weight", str(key)))]
    names.sort(key=lambda name: [int(n) for n in name.split(".")[1:]])
    return tuple((array(state, f"{name}.weight", where), array(state, f"{name}.bias", where)) for name in names)


def _number(table: Mapping[str, Any], key: str, where: str) -> float:
    try:
        return float(table[key])
    except (KeyError, TypeError, ValueError):
        raise FormatError(f"'{where}': '{key}' is missing or no number in model_kwargs") from None


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
