"""A DVGO model in training: its grids and network as arrays, with Adam's moments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.rendering import dvgo_kernels
from neurcomp_core.radiance.rendering.occupancy import dilated
from neurcomp_core.radiance.rendering.ranges import over_ranges

_FIXED = ("box", "shift", "unit", "frequencies", "direct")


@dataclass(eq=False)
class DvgoState:
    """What a training changes. Arrays are changed in place and may be set anew between steps.

    Moments and features are zero outside what rays can meet and are made so that memory nobody writes to is not taken.

    Attributes
    ----------
    density : ndarray ``(z, y, x)`` float32 or float64
    features : ndarray ``(z, y, x, channels)`` of the same type
    layers : list of [weight ``(out, in)``, bias ``(out,)``]
    box, shift, unit, frequencies, direct, mask
        See `DvgoModel`.
    pace : ndarray ``(z, y, x)`` of the same type or None
        Factor to the density's rate, per sample of the grid.
    trainable : ndarray ``(z, y, x)`` bool or None
        Samples that stay as they are, in both grids, are False.
    updates : int
        Adam's steps since its moments were zero.
    moments : dict of str to pair of ndarray
        By `parameters`' names: running means of gradients and of their squares.
    """

    density: np.ndarray
    features: np.ndarray
    layers: list[list[np.ndarray]]
    box: np.ndarray
    shift: float
    unit: float
    frequencies: int = 0
    direct: bool = True
    mask: np.ndarray | None = None
    pace: np.ndarray | None = None
    trainable: np.ndarray | None = None
    updates: int = 0
    moments: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.moments:
            self.forget()

    @classmethod
    def of(cls, model: DvgoModel, trainable: np.ndarray | None = None) -> DvgoState:
        """A copy of a model, to be trained further; see `trainable`."""
        return cls(
            model.density.copy(), model.features.copy(), [[w.copy(), b.copy()] for w, b in model.layers], model.box,
            model.shift, model.unit, model.frequencies, model.direct, model.mask, None, trainable,
        )  # fmt: skip

    def model(self) -> DvgoModel:
        """A copy that further training does not change."""
        return DvgoModel(
            self.density.astype(np.float32),
            self.features.astype(np.float32),
            self.box,
            self.shift,
            self.unit,
            tuple((w.astype(np.float32), b.astype(np.float32)) for w, b in self.layers),
            self.frequencies,
            self.direct,
            None if self.mask is None else self.mask.copy(),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Samples along z, y, x."""
        z, y, x = self.density.shape
        return z, y, x

    @property
    def edge(self) -> float:
        """Of a voxel, in units of `unit`."""
        voxel = (self.box[1] - self.box[0]) / (np.array(self.density.shape[::-1]) - 1)
        return float(np.cbrt(np.prod(voxel))) / self.unit

    def opacity(self) -> np.ndarray:
        """Of a voxel with each sample's density, ``(z, y, x)``."""
        return -np.expm1(-np.logaddexp(0, self.density + self.density.dtype.type(self.shift)) * self.edge)

    def raw(self, opacity: float) -> float:
        """Density before activation of a sample whose voxel has this opacity."""
        return float(np.log(np.expm1(-np.log1p(-opacity) / self.edge))) - self.shift

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        """By name: "density", "features", "weight 0", "bias 0", ..."""
        found = {"density": self.density, "features": self.features}
        for i, (weight, bias) in enumerate(self.layers):
            found |= {f"weight {i}": weight, f"bias {i}": bias}
        return found

    def forget(self) -> None:
        """Start Adam anew."""
        self.updates = 0
        self.moments = {
            name: (np.zeros(p.shape, p.dtype), np.zeros(p.shape, p.dtype)) for name, p in self.parameters.items()
        }

    @property
    def reach(self) -> np.ndarray:
        """Samples ``(z, y, x)`` bool that a point in space not known to be free may be interpolated from.

        For a mask of the grid's own resolution, as training has it; a coarser one leaves everything within reach.
        """
        if self.mask is None or self.mask.shape != self.density.shape:
            return np.ones(self.density.shape, bool)
        return dilated(self.mask)

    # ..................................................................................................... checkpoints

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it, for a checkpoint; of features and moments what is within reach."""
        reach = self.reach
        found = {name: np.asarray(getattr(self, name)) for name in _FIXED}
        found |= {"updates": np.array(self.updates), "layers": np.array(len(self.layers)), "density": self.density}
        found["channels"] = np.array(self.features.shape[3])
        for name in ("mask", "pace", "trainable"):
            if (array := getattr(self, name)) is not None:
                found[name] = array
        grids = {"features": self.features}
        for name, pair in self.moments.items():
            for kind, array in zip(("mean", "square"), pair, strict=True):
                (grids if array.ndim > 2 else found)[f"{kind} {name}"] = array
        found |= {name: array[reach] for name, array in grids.items()}
        for name, p in self.parameters.items():
            if p.ndim <= 2:
                found[name] = p
        return found

    @classmethod
    def restored(cls, arrays: Mapping[str, np.ndarray]) -> DvgoState:
        """Inverse of `arrays`; KeyError or ValueError if something is missing or does not fit."""
        density, channels = arrays["density"].copy(), int(arrays["channels"])
        layers = [[arrays[f"{kind} {i}"].copy() for kind in ("weight", "bias")] for i in range(int(arrays["layers"]))]
        mask, pace, trainable = (arrays.get(name) for name in ("mask", "pace", "trainable"))
        state = cls(
            density, np.zeros((*density.shape, channels), density.dtype), layers, arrays["box"],
            float(arrays["shift"]), float(arrays["unit"]), int(arrays["frequencies"]), bool(arrays["direct"]),
            mask, pace, trainable,
        )  # fmt: skip
        state.updates, reach = int(arrays["updates"]), state.reach
        state.features[reach] = arrays["features"]
        for name, pair in state.moments.items():
            for kind, array in zip(("mean", "square"), pair, strict=True):
                if array.ndim > 2:
                    array[reach] = arrays[f"{kind} {name}"]
                else:
                    array[...] = arrays[f"{kind} {name}"]
        return state


def resampled(grid: np.ndarray, shape: tuple[int, int, int], where: np.ndarray | None = None) -> np.ndarray:
    """A grid ``(z, y, x, channels)`` interpolated on one of another shape over the same box; zero but `where`."""
    out = np.zeros((*shape, grid.shape[3]), grid.dtype)
    index = np.flatnonzero(np.ones(shape, bool) if where is None else where)
    scale = (np.array(grid.shape[2::-1]) - 1) / (np.array(shape[::-1]) - 1)
    at = np.stack(np.unravel_index(index, shape)[::-1], 1) * scale
    values = np.empty((len(index), grid.shape[3]), grid.dtype)
    over_ranges(len(index), lambda _, a, b: dvgo_kernels.gather(a, b, at, grid, values))
    out.reshape(-1, grid.shape[3])[index] = values
    return out
