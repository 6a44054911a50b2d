"""One-blob encoding: a Gaussian about the coordinate, seen by a row of bins.

Müller, McWilliams, Rousselle, Gross, Novák: "Neural Importance Sampling", ACM TOG 38(5), 2019, section 4.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from neurcomp_core.nets.encodings.base import Encoding


class OneBlob(Encoding):
    """``exp(-((u - c_i) k)**2 / 2)`` of the centres ``c_i = (i + 0.5) / k`` of ``k = resolution`` bins.

    Axes shorter than the longest one have only the bins that begin within them.
    """

    number: ClassVar[int] = 3
    name: ClassVar[str] = "oneblob"
    uses: ClassVar[tuple[str, ...]] = ("resolution",)

    @property
    def _bins(self) -> list[int]:
        shape = self.lattice.shape
        return [math.ceil(shape[a] * self.sizes.resolution / max(shape)) for a in self.lattice.axes]

    @property
    def width(self) -> int:
        """See `Encoding.width`."""
        return sum(self._bins)

    def features(self, points: Any, tables: Sequence[Any], xp: Any) -> Any:
        """Axis by axis; see `Encoding.features`."""
        found = []
        for a, bins in enumerate(self._bins):
            scaled = points[:, a] * float(self.sizes.resolution)
            found += [xp.exp(-0.5 * (scaled - (i + 0.5)) ** 2) for i in range(bins)]
        return xp.stack(found)
