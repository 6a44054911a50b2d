"""Codec ``zfp``: zfp in its fixed-accuracy mode through the package ``zfpy``.

Lindstrom, "Fixed-Rate Compressed Floating-Point Arrays", IEEE TVCG 20(12), 2014.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from neurcomp_core import peer
from neurcomp_core.codec import Context
from neurcomp_core.errors import FormatError

#: Settings per factor of two of the error.
_STEPS = 256


@dataclass(frozen=True)
class Zfp(peer.Peer):
    """Blocks of 4 samples a side under an absolute tolerance.

    zfp's tolerance moves in powers of two. So that targets are met as closely as by other codecs, values are first
    scaled by a factor in (1/2, 1], which a stream's first byte keeps: ``2 ** (-byte / 256)``.
    """

    id = 13
    name = "zfp"

    def shrink(self, plane: np.ndarray, error: float, bound: bool, context: Context) -> bytes:
        """Code within the tolerance; see `Peer.shrink`."""
        zfpy = peer.library("zfpy", self.name)
        exponent, step = divmod(math.floor(math.log2(error) * _STEPS), _STEPS)
        scaled = plane.reshape(peer.proper(plane.shape)) * plane.dtype.type(_scale(step))
        return bytes([step]) + zfpy.compress_numpy(scaled, tolerance=2.0**exponent)

    @classmethod
    def expand(cls, stream: bytes, shape: tuple[int, ...], dtype: np.dtype, context: Context) -> np.ndarray:
        """Decode; see `Peer.expand`."""
        zfpy = peer.library("zfpy", cls.name)
        axes = peer.proper(shape)
        try:
            head = zfpy.header(np.frombuffer(stream[1:65].ljust(64, b"\0"), np.uint8))
            found = tuple(head[n] for n in ("nw", "nz", "ny", "nx") if head[n])
            if (found, np.dtype(head["type"]), head["mode"]) != (axes, dtype, "tolerance"):
                raise ValueError(f"it describes {head['mode']} of {head['type']} {found}")
            # zfp trusts its input to go on: behind it must be what all blocks may ask for, twice their raw bytes and a
            # few. An undamaged stream is not read so far, so this costs no memory.
            blocks = math.prod(-(-n // 4) for n in axes)
            padded = np.zeros(len(stream) + blocks * (2 * 4 ** len(axes) * dtype.itemsize + 8) + 64, np.uint8)
            padded[: len(stream)] = np.frombuffer(stream, np.uint8)
            values = zfpy.decompress_numpy(padded[1:])
        except (ValueError, TypeError, RuntimeError) as error:
            raise FormatError(f"zfp: the stream is not one of an array of shape {shape} ({error})") from error
        values /= dtype.type(_scale(stream[0]))
        return values.reshape(shape)


def _scale(step: int) -> float:
    return 2.0 ** (-step / _STEPS)
