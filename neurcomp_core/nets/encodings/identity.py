"""No encoding: the coordinates themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from neurcomp_core.nets.encodings.base import Encoding


class Identity(Encoding):
    """Coordinates from -1 to 1 along the longest axis, less along the others."""

    number: ClassVar[int] = 0
    name: ClassVar[str] = "identity"

    @property
    def width(self) -> int:
        """See `Encoding.width`."""
        return self.dims

    def features(self, points: Any, tables: Sequence[Any], xp: Any) -> Any:
        """``2 u - extent`` of each axis; see `Encoding.features`."""
        return xp.stack([2 * points[:, a] - extent for a, extent in enumerate(self.extents)])
