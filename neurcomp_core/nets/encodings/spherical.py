"""Spherical harmonics about the middle of a volume, for what lies around a centre: stars, orbitals, planets.

Real spherical harmonics, orthonormal up to a factor of sqrt(4 pi), as networks get directions in Müller et al. 2022,
section 5.4, and the distance from the centre by the frequency encoding. It makes sense for three axes; in fewer it is
what is left: circular harmonics, or the side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from neurcomp_core.nets.encodings.base import Encoding
from neurcomp_core.nets.encodings.frequency import waves

#: Distances below this have no direction; no sample but the very middle is as close.
_NEAR = 1e-7


class Spherical(Encoding):
    """`levels` bands of harmonics of the direction, and as many octaves of half the distance."""

    number: ClassVar[int] = 9
    name: ClassVar[str] = "spherical"
    uses: ClassVar[tuple[str, ...]] = ("levels",)

    @property
    def width(self) -> int:
        """See `Encoding.width`."""
        return self.sizes.levels**2 + 2 * self.sizes.levels

    def features(self, points: Any, tables: Sequence[Any], xp: Any) -> Any:
        """Harmonics by degree, then order; see `Encoding.features`."""
        middle = [2 * points[:, a] - extent for a, extent in enumerate(self.extents)]
        middle += [0 * middle[0]] * (3 - len(middle))
        x, y, z = middle
        distance = xp.sqrt(x * x + y * y + z * z)
        inverse = 1 / xp.clip(distance, _NEAR, None)
        found = harmonics(x * inverse, y * inverse, z * inverse, self.sizes.levels)
        return xp.stack([*found, *waves(distance / 2, self.sizes.levels, xp)])


def harmonics(x: Any, y: Any, z: Any, bands: int) -> list[Any]:
    """Real spherical harmonics of degrees below `bands` at unit vectors, orders -l to l of each degree l.

    By the recursion of Legendre functions in z, and the real and imaginary part of ``(x + i y)**m``; scaled so that the
    mean square over the sphere is 1.
    """
    found: dict[tuple[int, int], Any] = {}
    cosine, sine = 1 + 0 * x, 0 * x
    start = cosine
    for m in range(bands):
        # legendre / sin(theta)**m, of degrees m, m + 1, ...
        before, legendre = 0 * z, start
        for degree in range(m, bands):
            ratio = math.factorial(degree - m) / math.factorial(degree + m)
            factor = math.sqrt((2 * degree + 1) * ratio * (2 if m else 1))
            found[degree, m] = factor * legendre * cosine
            if m:
                found[degree, -m] = factor * legendre * sine
            following = ((2 * degree + 1) * z * legendre - (degree + m) * before) / (degree + 1 - m)
            before, legendre = legendre, following
        cosine, sine = x * cosine - y * sine, x * sine + y * cosine
        start = (2 * m + 1) * start
    return [found[degree, order] for degree in range(bands) for order in range(-degree, degree + 1)]
