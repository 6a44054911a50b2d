"""What a volume rendering shows counts more: weights from its opacity."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.field import Field
from neurcomp_core.regions import WEIGHT, Importance, check_weight, scalars


@dataclass(frozen=True)
class TransferFunction(Importance):
    """Weights from a volume rendering's opacity, 1 where it is 0, `weight` where it is largest.

    Attributes
    ----------
    points : tuple of (value, opacity)
        By rising value; between them the opacity is linear, beyond them that of the last one. Of a vector its length
        counts.
    weight : float
    """

    points: tuple[tuple[float, float], ...]
    weight: float = WEIGHT

    def __post_init__(self) -> None:
        check_weight(self.weight)
        flat = np.array(self.points, float).reshape(-1, 2)
        if len(flat) < 2 or not np.isfinite(flat).all() or (np.diff(flat[:, 0]) < 0).any() or flat[:, 1].min() < 0:
            raise InputError("transfer function: expected two points (value, opacity) or more, by rising value")
        if not flat[:, 1].max() > flat[:, 1].min():
            raise InputError("transfer function: the opacity is the same everywhere; it says nothing")

    @classmethod
    def from_nodes(cls, nodes: Sequence[float], weight: float = WEIGHT) -> TransferFunction:
        """From ParaView's opacity nodes: value, opacity, midpoint, sharpness of each, in one list.

        Midpoints are kept; a sharpness below 1 is taken as 0, which is linear, and 1 as the step it is.
        """
        if len(nodes) < 8 or len(nodes) % 4:
            raise InputError(
                "transfer function: expected ParaView's opacity points, four numbers each (value, opacity, midpoint, "
                f"sharpness) and two of them or more; got {len(nodes)} numbers"
            )
        rows = sorted(tuple(float(v) for v in nodes[i : i + 4]) for i in range(0, len(nodes), 4))
        found: list[tuple[float, float]] = []
        for (x, opacity, middle, sharpness), (beyond, later, *_) in pairwise(rows):
            found.append((x, opacity))
            at = x + min(max(middle, 0.0), 1.0) * (beyond - x)
            if sharpness > 0.99:
                found += [(at, opacity), (at, later)]
            elif middle != 0.5:
                found.append((at, (opacity + later) / 2))
        return cls((*found, (rows[-1][0], rows[-1][1])), weight)

    @classmethod
    def from_file(cls, path: Path, weight: float = WEIGHT) -> TransferFunction:
        """From a colour map that ParaView exported with its opacities (.json).

        Raises
        ------
        InputError
            If it cannot be read or has no opacities.
        """
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"transfer function '{path}': {error.strerror or error}") from error
        except ValueError as error:
            raise InputError(f"transfer function '{path}': expected ParaView's .json, which this is not") from error
        maps = found if isinstance(found, list) else [found]
        nodes = maps[0].get("Points") if len(maps) == 1 and isinstance(maps[0], dict) else None
        if not isinstance(nodes, list) or not all(isinstance(v, (int, float)) for v in nodes):
            raise InputError(
                f"transfer function '{path}': expected one colour map with opacities ('Points'), as ParaView's "
                "Color Map Editor exports it when 'Save opacities' is ticked"
            )
        return cls.from_nodes(nodes, weight)

    def over(self, weights: np.ndarray, field: Field) -> np.ndarray:
        """See `Importance.over`."""
        x, opacity = np.array(self.points, float).T
        values = scalars(field)
        share = np.interp(np.where(np.isfinite(values), values, x[0]), x, opacity) / opacity.max()
        weights[:] = 1 + (self.weight - 1) * share
        return weights

    def __str__(self) -> str:
        return "transfer function"
