"""An array's values as floats around zero and back, and exact differences and corrections in the array's own type."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from neurcomp_core.codec import as_dtype

#: Differences of 64-bit integers up to this are taken as integers.
_EXACT = 1 << 62
#: Values of this size and its inverse are safe in float32 arithmetic.
_SAFE = 2.0**60


@dataclass(frozen=True)
class Scaling:
    """``value = mean + 2**exponent * float``.

    Attributes
    ----------
    dtype : dtype
        Of the array.
    work : type
        Of the floats.
    mean : float
        Of an array of integers an integer.
    exponent : int
        0 unless values are so large or small that the arithmetic would leave the floats' range.
    """

    dtype: np.dtype
    work: type
    mean: float
    exponent: int = 0

    @property
    def _wide(self) -> bool:
        return self.dtype.kind in "iu" and self.dtype.itemsize == 8

    def floats(self, values: np.ndarray, spread: float) -> np.ndarray:
        """Floats of values whose largest difference is `spread`, in an array of their own."""
        if self._wide and spread < _EXACT:
            return (np.ascontiguousarray(values).view(np.int64) - _wrapped(int(self.mean))).astype(self.work)
        out = values.astype(self.work)
        out -= self.work(self.mean)
        return np.ldexp(out, -self.exponent) if self.exponent else out

    def values(self, floats: np.ndarray) -> np.ndarray:
        """Inverse of `floats`, which may be overwritten; integers are rounded and clipped."""
        if self.exponent:
            with np.errstate(over="ignore"):
                floats = np.ldexp(floats, self.exponent)
        if not self._wide:
            with np.errstate(over="ignore"):
                floats += self.work(self.mean)
            if self.dtype.kind == "f":
                limit = np.finfo(self.dtype).max
                np.clip(floats, -limit, limit, out=floats)
            return as_dtype(floats, self.dtype)
        limits, mean = np.iinfo(self.dtype), int(self.mean)
        low, high = (_towards_zero(min(max(e - mean, -_LAST), _LAST)) for e in (limits.min, limits.max))
        rounded = np.clip(np.rint(floats.astype(np.float64)), low, high).astype(np.int64)
        return (rounded + _wrapped(mean)).view(self.dtype)


_LAST = (1 << 63) - 1024


def _wrapped(value: int) -> np.int64:
    return np.int64((value + (1 << 63)) % (1 << 64) - (1 << 63))


def _towards_zero(value: int) -> float:
    near = float(value)
    return near if abs(int(near)) <= abs(value) else math.nextafter(near, 0.0)


def exponent(spread: float) -> int:
    """The exponent of `Scaling` for values that differ by up to `spread`."""
    return 0 if 1 / _SAFE < spread < _SAFE else max(min(math.frexp(spread)[1], 1000), -1000)


def difference(values: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """``values - decoded`` in float64; of 64-bit integers the exact difference, rounded once."""
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        a, b = (np.ascontiguousarray(v).view(np.uint64) for v in (values, decoded))
        above = values >= decoded
        return np.where(above, a - b, b - a).astype(np.float64) * np.where(above, 1.0, -1.0)
    return values.astype(np.float64) - decoded


def corrected(decoded: np.ndarray, amounts: np.ndarray, quantum: float) -> np.ndarray:
    """Decoded values plus `amounts` times `quantum`, clipped to the type's range; in place."""
    at = np.nonzero(amounts)
    if not len(at[0]):
        return decoded
    old, dtype = decoded[at], decoded.dtype
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            decoded[at] = (old.astype(np.float64) + amounts[at] * quantum).astype(dtype)
        return decoded
    added = amounts[at].astype(np.int64) * np.int64(min(quantum, 2.0**62))
    limits = np.iinfo(dtype)
    if dtype.itemsize < 8:
        decoded[at] = np.clip(old.astype(np.int64) + added, limits.min, limits.max)
        return decoded
    new = (old.view(np.int64) + added).view(dtype)
    new[(added > 0) & (new < old)] = limits.max
    new[(added < 0) & (new > old)] = limits.min
    decoded[at] = new
    return decoded
