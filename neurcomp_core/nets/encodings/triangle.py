"""Triangle waves of growing frequency, cheaper than sines.

Müller, Rousselle, Novák, Keller: "Real-time Neural Radiance Caching for Path Tracing", ACM TOG 40(4), 2021, section 4
(the encoding of position): one triangle wave per octave, without the cosines' counterpart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from neurcomp_core.nets.encodings.base import Encoding
from neurcomp_core.nets.encodings.frequency import turns


class Triangle(Encoding):
    """Waves of period ``2 / 2**k`` for k below `levels`, -1 at 0; the lowest is the coordinate itself."""

    number: ClassVar[int] = 2
    name: ClassVar[str] = "triangle"
    uses: ClassVar[tuple[str, ...]] = ("levels",)

    @property
    def width(self) -> int:
        """See `Encoding.width`."""
        return self.dims * self.sizes.levels

    def features(self, points: Any, tables: Sequence[Any], xp: Any) -> Any:
        """Axis by axis; see `Encoding.features`."""
        octaves = range(self.sizes.levels)
        return xp.stack([2 * xp.abs(turns(points[:, a], k, xp)) - 1 for a in range(self.dims) for k in octaves])
