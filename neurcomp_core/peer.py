"""What the codecs around other people's compressors share: casts, components, searches and checks.

Such a compressor codes one array of floats at a time and has one knob, an absolute error. Components of a vector are
coded one by one with the same knob; integers as the floats that hold them, rounded again after decoding.
"""

from __future__ import annotations

import os
import sys
import zlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import ClassVar

import numpy as np

from neurcomp_core import metrics
from neurcomp_core.codec import Codec, Context, Encoded, as_dtype
from neurcomp_core.coding import wire
from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import FormatError, TargetError, require
from neurcomp_core.field import Field, Region
from neurcomp_core.search import search
from neurcomp_core.target import Bytes, MaxError, Psnr, Target

_TRIALS = 16


@dataclass(frozen=True)
class PeerRecord:
    """A stream's head; `check` is the CRC-32 of all sections, since their decoders trust what they read."""

    check: int


@dataclass(frozen=True)
class Peer(Codec):
    """Base of the codecs around a library: one stream of it per component.

    A subclass says how to code one array; this class makes it meet targets.
    """

    #: Settings to try around a found one, where size and quality jump about.
    jumps: ClassVar[tuple[float, ...]] = ()

    @abstractmethod
    def shrink(self, plane: np.ndarray, error: float, bound: bool, context: Context) -> bytes:
        """Stream of one component.

        Parameters
        ----------
        plane : ndarray
            ``(z, y, x)``, contiguous float32 or float64, finite.
        error : float
            The knob, in units of the data: the coarser the larger.
        bound : bool
            Whether `error` should bound every sample's error rather than be of the order of their root mean square.
        context : Context
        """

    @classmethod
    @abstractmethod
    def expand(cls, stream: bytes, shape: tuple[int, ...], dtype: np.dtype, context: Context) -> np.ndarray:
        """One component ``(z, y, x)`` in float32 or float64.

        Raises
        ------
        FormatError
            If the stream is not of this shape and type.
        """

    def encode(self, field: Field, target: Target, context: Context) -> Encoded:
        """Search the knob; see `Codec.encode`."""
        spec = ArraySpec(field.values.shape, field.values.dtype)
        floats = field.values.astype(_float_of(spec.dtype), copy=False).reshape(*spec.shape[:3], -1)
        planes = [np.ascontiguousarray(floats[..., c]) for c in range(floats.shape[3])]
        low, high = field.limits
        spread = high - low
        count = 0

        def attempt(error: float) -> tuple[float, Encoded]:
            nonlocal count
            context.progress.update(count / _TRIALS, f"{self.name}: error {error:.3g}")
            count += 1
            sections = tuple(self.shrink(p, error, isinstance(target, MaxError), context) for p in planes)
            encoded = Encoded(wire.pack(PeerRecord(_crc(sections))), sections)
            if isinstance(target, Bytes):
                return encoded.nbytes, encoded
            decoded = _join([self.expand(s, spec.shape[:3], floats.dtype, context) for s in sections], spec)
            quality = metrics.measure(field.values, decoded, field.mask)
            return quality.rmse if isinstance(target, Psnr) else quality.max_error, encoded

        span = spread * 2.0**-48, 64 * max(abs(low), abs(high), spread)
        if isinstance(target, Bytes):
            closer = tuple(1 + (f - 1) / 4 for f in self.jumps)
            trial = search(
                attempt, target.value, spread / 300, span, rising=False, slack=0.012, trials=_TRIALS, around=closer
            )
            if trial.figure > target.value:
                raise TargetError(f"{target} cannot be reached with {self.name}", trial.figure)
            return trial.result
        if isinstance(target, Psnr):
            # A hair less: the figure is compared again after a logarithm.
            limit = start = spread / 10 ** (target.value / 20) * (1 - 1e-9)
            slack, around = 0.004, self.jumps
        else:
            # Integers are rounded after decoding: half a unit more is the same error, and 0 is one to aim at.
            whole = np.floor(target.value) if spec.dtype.kind in "iu" else None
            limit, start = (target.value, target.value) if whole is None else (max(whole, 0.5), whole + 0.499)
            slack, around = 0.02, ()
        trial = search(
            attempt, limit, start, span, slack=slack, trials=_TRIALS, around=around, cost=lambda e: e.nbytes
        )  # fmt: skip
        if isinstance(target, Psnr) and trial.figure > limit:
            reached = metrics.psnr(spread, trial.figure)
            raise TargetError(f"{target} cannot be reached with {self.name}; {reached:.2f} dB can", reached)
        if trial.figure > limit:
            least = f"a largest error of {trial.figure:g}"
            raise TargetError(f"{target} cannot be reached with {self.name}; {least} can", trial.figure)
        return trial.result

    @classmethod
    def decode(cls, encoded: Encoded, spec: ArraySpec, region: Region, level: int, context: Context) -> np.ndarray:
        """Decode everything and take the part; see `Codec.decode`."""
        components = spec.shape[3] if len(spec.shape) == 4 else 1
        if len(encoded.sections) != components:
            raise FormatError(f"{cls.name}: {len(encoded.sections)} sections for {components} components")
        if wire.unpack(PeerRecord, encoded.params).check != _crc(encoded.sections):
            raise FormatError(f"{cls.name}: the stream is damaged (its checksum does not match)")
        kind = _float_of(spec.dtype)
        planes = [cls.expand(s, spec.shape[:3], kind, context) for s in encoded.sections]
        box = tuple(slice(r.start, r.stop, 2**level) for r in region)
        return _join([p[box] for p in planes], spec)


#: Flag for `dlopen` that makes a library prefer its own symbols; ParaView brings another zfp, which zfpy would call.
DEEP = getattr(os, "RTLD_DEEPBIND", 0)


def library(module: str, codec: str) -> ModuleType:
    """The module that a codec needs, or MissingExtraError."""
    if module in sys.modules or not DEEP:
        return require(module, "peers", f"the codec {codec}")
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | DEEP)
    try:
        return require(module, "peers", f"the codec {codec}")
    finally:
        sys.setdlopenflags(flags)


def proper(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without axes of one sample, but never without axes."""
    return tuple(n for n in shape if n > 1) or (1,)


def _float_of(dtype: np.dtype) -> np.dtype:
    """The smaller float type that holds the values; of 64-bit integers, the larger."""
    return np.dtype(np.float32 if np.can_cast(dtype, np.float32) else np.float64)


def _join(planes: list[np.ndarray], spec: ArraySpec) -> np.ndarray:
    values = planes[0].copy() if len(spec.shape) == 3 else np.stack(planes, axis=3)
    return as_dtype(values, spec.dtype)


def _crc(sections: Sequence[bytes]) -> int:
    check = 0
    for section in sections:
        check = zlib.crc32(section, check)
    return check
