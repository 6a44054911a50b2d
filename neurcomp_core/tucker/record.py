"""What a file says of a tucker stream."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import FormatError

#: Most numbers a byte of stream may stand for; keeps a small file from asking for a large allocation.
DENSITY = 1 << 14
#: What sums of two decoders may differ by, of the scale; see FORMAT.md.
_SUMS = 2.0**-30


@dataclass(frozen=True)
class TuckerRecord:
    """A stream's head: ``value = centre + 2**exponent * (core times bases)``.

    Attributes
    ----------
    step : float
        Quantisation step of the core.
    centre : float
    exponent : int
        No value of the array differs from the centre by more than ``2**exponent``.
    ranks : tuple of int
        Columns of the bases of z, y, x and the components, without axes of one sample; none where all values are
        the centre.
    double : bool
        Whether sums are rounded to float64, otherwise to float32.
    residual : bytes
        What `residual.NetworkCodec` makes of it.
    """

    step: float = 1.0
    centre: float = 0.0
    exponent: int = 0
    ranks: tuple[int, ...] = ()
    double: bool = False
    residual: bytes = b""

    @property
    def dtype(self) -> type:
        """Of the sums."""
        return np.float64 if self.double else np.float32

    @property
    def margin(self) -> float:
        """What two decoders may differ by, in the data's units."""
        largest = math.ldexp(1.0, min(self.exponent, 1023))
        return largest * _SUMS + float(np.finfo(self.dtype).eps) * (abs(self.centre) + 2 * largest)

    def columns(self, shape: tuple[int, ...], stream: int) -> tuple[int, ...]:
        """Ranks of all axes of an array ``(z, y, x[, c])``, always four.

        Raises
        ------
        FormatError
            If they make no sense, or describe more than a stream of so many bytes can hold.
        """
        sizes = lengths(shape)
        sane = 0 < self.step < math.inf and math.isfinite(self.centre) and abs(self.exponent) < 1 << 11
        if not sane or (self.ranks and len(self.ranks) != sum(n > 1 for n in sizes)):
            raise FormatError(f"a tucker stream of such parameters makes no sense: {self}; the file is damaged")
        given = iter(self.ranks)
        found = tuple(next(given, 0) if n > 1 else 1 for n in sizes)
        if self.ranks and not all(1 <= rank <= n for rank, n in zip(found, sizes, strict=True)):
            raise FormatError(f"tucker: ranks {self.ranks} do not fit an array of shape {shape}; the file is damaged")
        held = math.prod(found) + sum(rank * n for rank, n in zip(found, sizes, strict=True) if n > 1)
        if held > DENSITY * (stream + 64):
            raise FormatError(f"a tucker stream of {stream} bytes cannot hold {held} numbers; the file is damaged")
        return found


def lengths(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of the four axes."""
    return shape if len(shape) == 4 else (*shape, 1)


def sums_double(spec: ArraySpec) -> bool:
    """Whether float32 cannot hold the sums of an array's type."""
    return spec.dtype not in (np.float32, np.uint8, np.int8, np.uint16, np.int16)
