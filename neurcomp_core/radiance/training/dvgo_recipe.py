"""All rates and sizes of a DVGO training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

from neurcomp_core.errors import InputError


@dataclass(frozen=True)
class DvgoSchedule:
    """One stage of a training, or a fine-tuning: what a run of equal steps needs.

    Attributes
    ----------
    steps : int
    batch : int
        Rays per step.
    rate_density, rate_features, rate_network : float
        Adam's rates.
    decay : float
        What the rates have fallen to, exponentially, after all the steps.
    entropy : float
        Weight of the entropy of what is left of a ray's light: rays end in the object or in the background.
    point : float
        Weight of the squared error of each sample's own colour.
    step : float
        Of marching, in voxels.
    threshold : float
        Opacity of a step, and rendering weight, up to which samples are left out.
    tv_density, tv_features : float
        Weights of total variation, per sample of the grid and for an edge of 128 of them.
    tiny : float
        Adam's epsilon. The coarse stage's gradients are of the order of its first opacity.
    """

    steps: int
    batch: int = 8192
    rate_density: float = 0.1
    rate_features: float = 0.1
    rate_network: float = 1e-3
    decay: float = 0.1
    entropy: float = 1e-3
    point: float = 1e-2
    step: float = 0.5
    threshold: float = 1e-4
    tv_density: float = 0.0
    tv_features: float = 0.0
    tiny: float = 1e-8

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise InputError(f"expected at least one step of one ray, got {self.steps} of {self.batch}")
        if not 0 < self.decay <= 1:
            raise InputError(f"decay: expected a factor above 0, at most 1, got {self.decay}")
        for f in fields(self):
            if f.name.startswith(("rate", "tv")) or f.name in ("entropy", "point"):
                value = getattr(self, f.name)
                if not 0 <= value < float("inf"):
                    raise InputError(f"{f.name}: expected a number of at least 0, got {value}")


# Few steps, hence larger ones than the paper's, and fewer samples in the coarse stage.
_CPU_COARSE: dict[str, Any] = {
    "rate_density": 0.3, "entropy": 1e-2, "point": 0.1, "step": 1.0, "threshold": 1e-7, "tiny": 1e-15,
}  # fmt: skip
_CPU_FINE: dict[str, Any] = {"rate_density": 0.2, "rate_features": 0.2, "rate_network": 3e-3, "decay": 0.05}


@dataclass(frozen=True)
class DvgoRecipe:
    """A DVGO training: a coarse stage that finds the object, and a fine one.

    Sun, Sun & Chen (CVPR 2022), sections 4 to 6; rates and weights are those of the authors' program. Resolutions are
    edges of a cube: a grid over any box has about as many samples as that cube.

    Attributes
    ----------
    coarse : DvgoSchedule
    coarse_resolution : int
    coarse_alpha : float
        Opacity of a coarse voxel at the start: low, so that no cloud before a camera hides the object.
    box_threshold : float
        Opacity of a coarse voxel above which it belongs to the object.
    margin : float
        How much larger than the object the fine stage's box is.
    fine : DvgoSchedule
    resolution : int
    alpha : float
        Opacity of a voxel at the start of the fine stage.
    warm : bool
        Whether the fine stage starts with the coarse one's density instead, up to an opacity of 0.2 per voxel. The
        paper starts from fog, which takes thousands of steps to clear.
    scale_at : tuple of float
        Shares of the fine stage after which the number of samples is doubled: it starts with as many times fewer.
    denser : float
        By how much the density's shift falls at each doubling, so that fog clears.
    mask_threshold : float
        Opacity of a coarse voxel below which space is known to be free.
    mask_every : int
        Fine steps between two updates of the known free space.
    channels, width, depth, frequencies : int
        Of features; units of the network's hidden layers, its layers, and frequencies of the direction's encoding.
    """

    coarse: DvgoSchedule = field(
        default_factory=lambda: DvgoSchedule(10_000, decay=10**-0.5, entropy=1e-2, point=0.1, threshold=0.0, tiny=1e-15)
    )
    coarse_resolution: int = 100
    coarse_alpha: float = 1e-6
    box_threshold: float = 1e-3
    margin: float = 1.05
    fine: DvgoSchedule = field(default_factory=lambda: DvgoSchedule(20_000))
    resolution: int = 160
    alpha: float = 1e-2
    warm: bool = False
    scale_at: tuple[float, ...] = (0.05, 0.1, 0.15)
    denser: float = 1.0
    mask_threshold: float = 1e-3
    mask_every: int = 1000
    channels: int = 12
    width: int = 128
    depth: int = 3
    frequencies: int = 4

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fast": {
            "coarse": DvgoSchedule(300, 1024, **_CPU_COARSE), "coarse_resolution": 48, "resolution": 64, "width": 64,
            "fine": DvgoSchedule(1000, 1024, **_CPU_FINE), "warm": True, "denser": 0.0, "mask_every": 100,
        },
        "balanced": {
            "coarse": DvgoSchedule(400, 2048, **_CPU_COARSE), "coarse_resolution": 64, "resolution": 128, "width": 64,
            "fine": DvgoSchedule(5000, 2048, **_CPU_FINE), "warm": True, "denser": 0.0, "mask_every": 250,
        },
        "full": {},
    }  # fmt: skip

    def __post_init__(self) -> None:
        if min(self.coarse_resolution, self.resolution) < 8:
            raise InputError(
                f"resolution: expected at least 8, got {self.coarse_resolution} (coarse) and {self.resolution}"
            )
        for name in ("coarse_alpha", "alpha", "box_threshold", "mask_threshold"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"{name}: expected an opacity between 0 and 1, got {getattr(self, name)}")
        if self.margin < 1:
            raise InputError(f"margin: expected at least 1, got {self.margin}")
        if list(self.scale_at) != sorted(set(self.scale_at)) or not all(0 < s < 1 for s in self.scale_at):
            raise InputError(f"scale_at: expected rising shares between 0 and 1, got {self.scale_at}")
        if min(self.channels, self.width, self.mask_every) < 1 or self.depth < 2 or self.frequencies < 0:
            raise InputError(
                f"expected channels, width and mask_every of at least 1, depth of at least 2 and frequencies of at "
                f"least 0, got {self.channels}, {self.width}, {self.mask_every}, {self.depth} and {self.frequencies}"
            )

    @property
    def steps(self) -> int:
        """Of both stages."""
        return self.coarse.steps + self.fine.steps

    @classmethod
    def from_preset(cls, preset: str = "balanced", **overrides: Any) -> DvgoRecipe:
        """A preset's recipe, some of it replaced; ``fine_steps=500`` or ``coarse_batch=1024`` reach into a stage.

        Raises
        ------
        InputError
            If the preset or a parameter does not exist.
        """
        if preset not in cls.presets:
            raise InputError(f"DVGO has no preset '{preset}'; it has: {', '.join(cls.presets)}")
        base = cls(**cls.presets[preset])
        own, inner = {f.name for f in fields(cls)}, {f.name for f in fields(DvgoSchedule)}
        chosen: dict[str, Any] = {}
        stages: dict[str, dict[str, Any]] = {"coarse": {}, "fine": {}}
        for name, value in overrides.items():
            stage, _, rest = name.partition("_")
            if name in own:
                chosen[name] = value
            elif stage in stages and rest in inner:
                stages[stage][rest] = value
            else:
                inside = [f"{s}_{n}" for s in stages for n in sorted(inner)]
                raise InputError(f"DVGO has no parameter '{name}'; it has: {', '.join(sorted(own) + inside)}")
        for stage, some in stages.items():
            if some:
                chosen[stage] = replace(chosen.get(stage, getattr(base, stage)), **some)
        return replace(base, **chosen)
