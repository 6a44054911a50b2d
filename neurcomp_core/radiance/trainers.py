"""What can be trained, by the name a user types; a trainer's libraries load when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_type_hints

from neurcomp_core.errors import InputError
from neurcomp_core.radiance.volume import RadianceModel

_TRAINING = "neurcomp_core.radiance.training"
# name: module in training/, name of its recipe, codec that keeps its models
_KNOWN = {
    "plenoxels": ("plenoxels", "PlenoxelsRecipe", "plenoxels"),
    "dvgo": ("dvgo", "DvgoRecipe", "dvgo"),
    "nerf": ("nerf", "NerfRecipe", "nerf"),
}

#: Names of all trainers.
NAMES = tuple(_KNOWN)


@dataclass(frozen=True)
class Trainer:
    """A way to make a field from images.

    Attributes
    ----------
    name : str
    recipe : type
        Frozen dataclass of rates and sizes with `presets` and ``from_preset(name, **overrides)``.
    train : callable
        ``train(data, recipe, context, watch=None) -> model``.
    codec : str
        Name of the codec that keeps its models whole.
    """

    name: str
    recipe: Any
    train: Callable[..., RadianceModel]
    codec: str

    @property
    def presets(self) -> Mapping[str, Mapping[str, Any]]:
        return self.recipe.presets


def trainer(name: str) -> Trainer:
    """The trainer of this name.

    Raises
    ------
    InputError
        If there is none.
    MissingExtraError
        If a library it needs is not installed.
    """
    if name not in _KNOWN:
        raise InputError(f"model '{name}' is unknown; expected one of {', '.join(NAMES)}")
    module_name, recipe, codec = _KNOWN[name]
    module = importlib.import_module(f"{_TRAINING}.{module_name}")
    return Trainer(name, getattr(module, recipe), module.train, codec)


def parameters(recipe: type) -> dict[str, Any]:
    """Types of a recipe's parameters by name; those of a stage within it, as ``stage_name``."""
    hints, found = get_type_hints(recipe), {}
    for f in fields(recipe):
        if is_dataclass(hints[f.name]):
            inner = get_type_hints(hints[f.name])
            found |= {f"{f.name}_{g.name}": inner[g.name] for g in fields(hints[f.name])}
        else:
            found[f.name] = hints[f.name]
    return found


def rays_until(recipe: Any, step: int) -> int:
    """Rays that have been looked at after so many steps."""
    if hasattr(recipe, "coarse"):
        early = min(step, recipe.coarse.steps)
        return early * recipe.coarse.batch + (step - early) * recipe.fine.batch
    return step * (recipe.rays if hasattr(recipe, "rays") else recipe.batch)
