"""Sines and cosines of growing frequency.

Mildenhall, Srinivasan, Tancik, Barron, Ramamoorthi, Ng: "NeRF: Representing Scenes as Neural Radiance Fields for View
Synthesis", ECCV 2020, section 5.1, equation 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from neurcomp_core.nets.encodings.base import Encoding


def turns(coordinate: Any, octave: int, xp: Any) -> Any:
    """``2**octave * coordinate`` less the multiple of 2 that leaves it in [-1, 1]; exact in any float type."""
    scaled = coordinate * float(1 << octave)
    return scaled - 2 * xp.round(scaled / 2)


def waves(coordinate: Any, octaves: int, xp: Any) -> list[Any]:
    """``sin(2**k pi u)`` and ``cos(2**k pi u)`` for k below `octaves`, in turn."""
    found = []
    for octave in range(octaves):
        angle = math.pi * turns(coordinate, octave, xp)
        found += [xp.sin(angle), xp.cos(angle)]
    return found


class Frequency(Encoding):
    """`waves` of each axis, `levels` octaves.

    Coordinates are in [0, 1] here, where the paper has [-1, 1]: the lowest wave is then half a period long, and
    opposite faces of a volume differ.
    """

    number: ClassVar[int] = 1
    name: ClassVar[str] = "frequency"
    uses: ClassVar[tuple[str, ...]] = ("levels",)

    @property
    def width(self) -> int:
        """See `Encoding.width`."""
        return 2 * self.dims * self.sizes.levels

    def features(self, points: Any, tables: Sequence[Any], xp: Any) -> Any:
        """Axis by axis; see `Encoding.features`."""
        return xp.stack([w for a in range(self.dims) for w in waves(points[:, a], self.sizes.levels, xp)])
