"""Sizes and rates of NeRF training: the paper's, and what a CPU can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from neurcomp_core.codec import with_preset
from neurcomp_core.errors import InputError


@dataclass(frozen=True)
class NerfRecipe:
    """Sizes and rates; the defaults are those of section 5.3 and of the reference program.

    Attributes
    ----------
    depth, width : int
        Layers of the trunk and outputs of each; the encoded position enters again behind the middle one.
    position_frequencies, direction_frequencies : int
        L of the two encodings.
    steps, batch : int
        Steps of the optimiser, rays of each.
    coarse_samples, fine_samples : int
        Of a ray: strata, and samples drawn in proportion to the coarse weights.
    rate, last_rate : float
        Adam's learning rate falls exponentially from the one to the other.
    warm_up : int
        Steps in which the coarse network is trained alone; the fine one then starts as its copy. 0: both from the
        start, each from random weights.
    refresh : int
        Steps between looks at free space after the warm-up; 0: all of the box is sampled.
    resolution : int
        Cells along the box's longest side that free space is told by.
    whole : float
        Share of the rays of a batch on which nothing counts as free, so that free space stays what it is.
    retrain_rate : float
        Largest learning rate of retraining after pruning.
    """

    depth: int = 8
    width: int = 256
    position_frequencies: int = 10
    direction_frequencies: int = 4
    steps: int = 200_000
    batch: int = 4096
    coarse_samples: int = 64
    fine_samples: int = 128
    rate: float = 5e-4
    last_rate: float = 5e-5
    warm_up: int = 0
    refresh: int = 0
    resolution: int = 64
    whole: float = 1 / 64
    retrain_rate: float = 5e-4

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fast": {
            "depth": 4, "width": 128, "position_frequencies": 8, "steps": 3000, "batch": 512, "coarse_samples": 48,
            "fine_samples": 32, "rate": 2e-3, "last_rate": 1e-4, "warm_up": 300, "refresh": 300, "retrain_rate": 1e-3,
        },
        "balanced": {
            "depth": 6, "width": 192, "steps": 20_000, "batch": 1024, "coarse_samples": 64, "fine_samples": 64,
            "rate": 1e-3, "warm_up": 1000, "refresh": 1000, "retrain_rate": 1e-3,
        },
        "full": {},
    }  # fmt: skip

    def __post_init__(self) -> None:
        positive = "depth", "width", "steps", "batch", "coarse_samples", "resolution"
        for name in positive:
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected at least 1, got {getattr(self, name)}")
        for name in ("position_frequencies", "direction_frequencies", "fine_samples", "warm_up", "refresh"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}: expected at least 0, got {getattr(self, name)}")
        if not 0 < self.last_rate <= self.rate or self.retrain_rate <= 0:
            raise InputError(f"rates: expected 0 < last_rate <= rate, got {self.last_rate} and {self.rate}")
        if not 0 <= self.whole <= 1:
            raise InputError(f"whole: expected a share from 0 to 1, got {self.whole}")

    @classmethod
    def from_preset(cls, name: str = "balanced", **overrides: Any) -> NerfRecipe:
        """A preset, some of it replaced.

        Raises
        ------
        InputError
            If the preset or a parameter does not exist.
        """
        return with_preset(cls, name, overrides, "training of NeRFs")

    def rate_at(self, step: int) -> float:
        return self.rate * (self.last_rate / self.rate) ** (step / self.steps)
