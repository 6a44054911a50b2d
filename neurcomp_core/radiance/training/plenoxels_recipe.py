"""What a Plenoxels training is told: sizes, rates, regularisers, and presets of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

from neurcomp_core.codec import with_preset
from neurcomp_core.errors import InputError


@dataclass(frozen=True)
class PlenoxelsRecipe:
    """How a sparse voxel grid is trained.

    Lengths, and so densities and their rates, are those of a world in which the box's longest side is 2, whatever the
    scene's units.

    Attributes
    ----------
    size : int
        Voxels along the box's longest side, at the end.
    levels : int
        Grids trained one after the other, each with twice the voxels per axis of the one before.
    borders : tuple of float
        Shares of the steps at which the grid is refined; with fewer `levels` the last ones count.
    steps, rays : int
        Batches in all, and rays in each.
    degree : int
        Of the spherical harmonics, 0 to 2.
    density : float
        To begin with, everywhere.
    density_rate, density_rate_end, sh_rate, sh_rate_end : float
        RMSProp's rates, from the first step to the last, exponentially.
    delay, delay_factor : float
        In the first share `delay` of the steps the density's rate grows from `delay_factor` of what it would be.
    decay : float
        Of RMSProp's mean of squares.
    tv_density, tv_sh : float
        Weights of total variation.
    tv_share : float
        Of the voxels that a step looks at for it.
    tv_until : float
        Share of the steps after which there is none.
    sparsity : float
        Weight of the Cauchy loss, per ray.
    unbounded_factor : float
        `tv_density`, `tv_sh` and `sparsity` are multiplied by it for an unbounded scene, whose cameras stand within the
        box: without, fog before each explains its picture alone.
    prune : float
        Voxels whose largest rendering weight over the training rays is below ``prune / size of the level`` are dropped
        whenever the grid is refined and once in the last level; 0 keeps all.
    crop : bool
        Whether the box shrinks to what is left when the grid is refined; not of unbounded scenes, whose background
        spheres it carries.
    step, stop : float
        Of the march, see `MarchOptions`.
    depth : int
        Voxels along the viewing direction of a forward-facing scene, in the last level; 0 for cubic voxels.
    layers, layer_size : int
        Of an unbounded scene's background: spheres, and texels from pole to pole of each.
    tv_background : float
        Weight of its total variation.
    """

    size: int = 128
    levels: int = 3
    borders: tuple[float, ...] = (0.15, 0.4)
    steps: int = 2000
    rays: int = 4096
    degree: int = 2
    density: float = 0.1
    density_rate: float = 3.0
    density_rate_end: float = 0.3
    sh_rate: float = 0.02
    sh_rate_end: float = 0.002
    delay: float = 0.0
    delay_factor: float = 0.01
    decay: float = 0.95
    tv_density: float = 3e-5
    tv_sh: float = 3e-3
    tv_share: float = 0.05
    tv_until: float = 1.0
    sparsity: float = 1e-5
    unbounded_factor: float = 10.0
    prune: float = 0.256
    crop: bool = True
    step: float = 0.5
    stop: float = 1e-3
    depth: int = 0
    layers: int = 16
    layer_size: int = 64
    tv_background: float = 1e-2

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fast": {"size": 64, "levels": 2, "borders": (0.3,), "steps": 1200},
        "balanced": {},
        "full": {
            "size": 512, "levels": 2, "borders": (0.3,), "steps": 128_000, "rays": 5000,
            "density_rate": 30.0, "density_rate_end": 1.1, "sh_rate": 1e-2, "sh_rate_end": 2e-4, "delay": 0.117,
            "tv_density": 1e-5, "tv_sh": 1e-3, "tv_share": 0.01, "tv_until": 0.3, "sparsity": 0.0,
            "unbounded_factor": 5.0, "crop": False, "stop": 1e-4, "layers": 64, "layer_size": 512,
        },
    }  # fmt: skip

    def __post_init__(self) -> None:
        for name, least in (("size", 4), ("levels", 1), ("steps", 1), ("rays", 1), ("layers", 2), ("layer_size", 2)):
            if getattr(self, name) < least:
                raise InputError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if self.sizes[0] < 4:
            raise InputError(f"levels: {self.levels} halvings of {self.size} voxels leave fewer than 4; take fewer")
        if not 0 <= self.degree <= 2:
            raise InputError(f"degree: expected 0, 1 or 2, got {self.degree}")
        inside = (0, *self.borders, 1)
        if len(self.borders) < self.levels - 1 or any(a >= b for a, b in pairwise(inside)):
            raise InputError(f"borders: expected {self.levels - 1} growing shares between 0 and 1, got {self.borders}")
        for name in ("density_rate", "density_rate_end", "sh_rate", "sh_rate_end", "delay_factor"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name}: expected a positive number, got {getattr(self, name)}")
        if not (0 <= self.decay < 1 and 0 < self.tv_share <= 1 and 0 <= self.delay <= 1):
            raise InputError(
                f"decay, tv_share and delay: expected shares, got {self.decay}, {self.tv_share} and {self.delay}"
            )

    @classmethod
    def from_preset(cls, name: str = "balanced", **overrides: Any) -> PlenoxelsRecipe:
        """A preset with some numbers replaced.

        Raises
        ------
        InputError
            If the preset or a number does not exist, or is out of range.
        """
        return with_preset(cls, name, overrides, "plenoxels")

    def of_scene(self, scene: str) -> PlenoxelsRecipe:
        """With the regularisers' weights that a kind of scene gets, see `unbounded_factor`."""
        if scene != "unbounded":
            return self
        times = self.unbounded_factor
        weights = {name: times * getattr(self, name) for name in ("tv_density", "tv_sh", "sparsity")}
        return replace(self, **weights, unbounded_factor=1.0)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Voxels along the longest side, level by level."""
        return tuple(max(1, round(self.size / 2**k)) for k in reversed(range(self.levels)))

    @property
    def starts(self) -> tuple[int, ...]:
        """First step of each level."""
        borders = self.borders[len(self.borders) - self.levels + 1 :]
        return (0, *(round(share * self.steps) for share in borders))

    @property
    def last_pruning(self) -> tuple[int, ...]:
        """The step, halfway through the last level, before which it is pruned; () if it is not."""
        return ((self.starts[-1] + self.steps) // 2,) if self.prune else ()

    def rates(self, step: int) -> tuple[float, float]:
        """RMSProp's rates of density and spherical harmonics at a step."""
        done = step / self.steps
        density = self.density_rate * (self.density_rate_end / self.density_rate) ** done
        sh = self.sh_rate * (self.sh_rate_end / self.sh_rate) ** done
        if done < self.delay:
            density *= self.delay_factor + (1 - self.delay_factor) * math.sin(math.pi / 2 * done / self.delay)
        return density, sh
