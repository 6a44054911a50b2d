"""Codec ``sz3``: SZ3 through the package ``pysz``.

Zhao et al., "Optimizing Error-Bounded Lossy Compression for Scientific Data by Dynamic Spline Interpolation", ICDE
2021; Liang et al., "SZ3: A Modular Framework for Composing Prediction-Based Error-Bounded Lossy Compressors", IEEE
Trans. Big Data 9(2), 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurcomp_core import peer
from neurcomp_core.codec import Context
from neurcomp_core.errors import FormatError


@dataclass(frozen=True)
class Sz3(peer.Peer):
    """SZ3's default algorithm (interpolation or Lorenzo prediction) under an absolute error bound."""

    id = 12
    name = "sz3"
    # Its predictor is chosen by trials on samples of the data: neighbouring bounds may differ by a decibel or more.
    jumps = (1.04, 0.96, 1.08, 0.92, 1.12, 0.88, 1.16, 0.84, 1.2, 1.24, 1.28, 1.32)

    def shrink(self, plane: np.ndarray, error: float, bound: bool, context: Context) -> bytes:
        """Code within the bound; see `Peer.shrink`."""
        sz = peer.library("pysz", self.name)
        config = sz.szConfig()
        config.errorBoundMode = sz.szErrorBoundMode.ABS
        config.absErrorBound = error
        stream, _ = sz.sz.compress(plane.reshape(peer.proper(plane.shape)), config)
        return stream.tobytes()

    @classmethod
    def expand(cls, stream: bytes, shape: tuple[int, ...], dtype: np.dtype, context: Context) -> np.ndarray:
        """Decode; see `Peer.expand`."""
        sz = peer.library("pysz", cls.name)
        try:
            values, _ = sz.sz.decompress(np.frombuffer(stream, np.uint8), dtype, peer.proper(shape))
        except (ValueError, IndexError, OverflowError, RuntimeError) as error:
            raise FormatError(f"sz3: the stream cannot be decoded ({error})") from error
        return values.reshape(shape)
