"""An array on its way to its target: its values as floats around zero may take them, and what is asked of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from neurcomp_core import metrics
from neurcomp_core.codec import Context, Encoded, measured
from neurcomp_core.container import ArraySpec
from neurcomp_core.field import Field
from neurcomp_core.regions import weights_of
from neurcomp_core.target import Target
from neurcomp_core.wavelet.filling import fill
from neurcomp_core.wavelet.lanes import Lanes
from neurcomp_core.wavelet.layout import Layout

#: Arrays up to this many samples are one box by default.
WHOLE = 1 << 25
#: Edges of tiles of arrays that are long along 1, 2 and 3 axes, and when an axis is.
_EDGES, _LONG = {0: (1 << 20,), 1: (1 << 20,), 2: (1024,), 3: tuple(range(80, 200, 8))}, 32
#: Bytes that a tile should have at least, for its own sections and filters not to matter.
_TILE = 1 << 13
#: Values that differ by more are taken as differences to the middle of their range.
FAR = 2.0**28


@dataclass(frozen=True)
class Options:
    """How to encode; see `codecs.wavelet.Wavelet`."""

    transform: str = "auto"
    weight: float = 0.1
    brick: int = 0


class Run:
    """One array on its way to its target."""

    def __init__(self, options: Options, field: Field, target: Target, context: Context, lanes: Lanes) -> None:
        self.options, self.field, self.target, self.context, self.lanes = options, field, target, context, lanes
        self.dtype = field.values.dtype
        self.values = field.values if field.values.ndim == 4 else field.values[..., None]
        valid = field.valid
        self.valid = None if valid is None else valid.reshape(self.values.shape)
        if self.valid is not None:
            self.values = fill(self.values, self.valid)
        low, high = (v.item() for v in metrics.limits(self.values, self.valid))
        # Of integers Python's own, which are exact.
        self.spread = float(high - low)
        self.integer = self.dtype.kind in "iu"
        middle = low / 2 + high / 2
        if self.spread < FAR:
            # The middle keeps numbers smallest where they are large, the mean where the middle is an odd one out.
            data = self.values if self.valid is None else self.values[self.valid]
            middle = sum(float(np.sum(part, dtype=np.float64)) for part in metrics.slabs(data)) / data.size
        with np.errstate(over="ignore"):
            self.mean = float(np.rint(middle)) if self.integer else float(np.float32(middle))
        if not math.isfinite(self.mean):
            self.mean = middle
        #: Samples that count.
        self.count = self.values.size if valid is None else int(np.count_nonzero(valid))
        self.spec = ArraySpec(self.values.shape, self.dtype)
        #: How much errors count, of each sample; None if all alike.
        self.weights = weights_of(field, context.importance)
        #: Whether a part of the array says that no transform may be smaller.
        self.predict = False

    def edge(self, bits: Callable[[], float]) -> int:
        """Edge of tiles, where a sample takes so many `bits`; 0 for none."""
        shape = self.values.shape[:3]
        if max(shape) < Layout.least:
            return 0  # there is nothing to split
        if self.options.brick:
            return max(self.options.brick, 0)
        if math.prod(shape) <= WHOLE:
            return 0
        edges = _EDGES[sum(n >= _LONG for n in shape)]
        if len(edges) > 1:
            least = (8 * _TILE / max(bits(), 1e-3)) ** (1 / 3)
            edges = [edge for edge in edges if edge >= least][:4] or edges[-1:]

        def longest(edge: int) -> int:
            """The last tile of an axis takes what is left."""
            return max(edge, *(n - (max((n + edge // 2) // edge, 1) - 1) * edge for n in shape))

        return min(edges, key=longest)

    @property
    def samples(self) -> int:
        """Of the grid."""
        return math.prod(self.values.shape[:3])

    def verified(self, encoded: Encoded) -> tuple[Encoded, metrics.Quality]:
        """A stream with its quality, of what it decodes to."""
        from neurcomp_core.codecs.wavelet import Wavelet

        quality = encoded.quality or measured(Wavelet, encoded, self.field, self.context)
        return replace(encoded, quality=quality), quality
