"""Codec ``wavelet``: a transform, predictive context-mixing entropy coding, and corrections that make a bound hold.

The array goes through the 9/7 wavelet or none, rate-distortion-optimised quantisation and the coder of
`neurcomp_core.wavelet`. Without a transform the coder is a predictive one, which suits noisy integers and codes them
losslessly. A bound on the largest error is kept by coding, with the same coder, what exceeds it. Large arrays are coded
in tiles, of which a box or a coarser level takes what it needs.
"""

# The kernels' compiler is imported when something is coded: listing codecs needs none.

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from neurcomp_core.codec import Codec, Context, Encoded
from neurcomp_core.coding import wire
from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import InputError
from neurcomp_core.field import Field, Region
from neurcomp_core.target import Target

_TRANSFORMS = ("auto", "wavelet", "none")


@dataclass(frozen=True)
class Wavelet(Codec):
    """Wavelet or predictive coding with a learned entropy model; see the module.

    Parameters
    ----------
    transform : str
        ``auto`` (the smaller of those that make sense), ``wavelet`` or ``none`` (predictive).
    weight : float
        Squared steps that a bit is worth when rounding.
    brick : int
        Edge of separately coded tiles in samples, a multiple of 8; 0 lets the size decide, -1 is one box.
    """

    id = 3
    name = "wavelet"
    presets: ClassVar = {"balanced": {}}
    exact_levels: ClassVar[bool] = False
    weighted: ClassVar[bool] = True

    transform: str = "auto"
    weight: float = 0.1
    brick: int = 0

    def __post_init__(self) -> None:
        if self.transform not in _TRANSFORMS:
            raise InputError(f"wavelet: transform: expected one of {', '.join(_TRANSFORMS)}, got '{self.transform}'")
        if self.brick not in (-1, 0) and (self.brick < 16 or self.brick % 8):
            raise InputError(
                f"wavelet: brick: expected a multiple of 8 from 16, 0 (by size) or -1 (one), got {self.brick}"
            )
        if not 0 <= self.weight <= 1:
            raise InputError(f"wavelet: weight: expected 0 to 1, got {self.weight}")

    def encode(self, field: Field, target: Target, context: Context) -> Encoded:
        """See `Codec.encode`."""
        from neurcomp_core.wavelet.encoding import encode
        from neurcomp_core.wavelet.lanes import Lanes
        from neurcomp_core.wavelet.run import Options

        with Lanes(context.threads) as lanes:
            return encode(Options(self.transform, self.weight, self.brick), field, target, context, lanes)

    @classmethod
    def decode(cls, encoded: Encoded, spec: ArraySpec, region: Region, level: int, context: Context) -> np.ndarray:
        """See `Codec.decode`."""
        from neurcomp_core.wavelet.decoding import Decoder
        from neurcomp_core.wavelet.lanes import Lanes
        from neurcomp_core.wavelet.record import WaveletRecord

        record = wire.unpack(WaveletRecord, encoded.params)
        with Lanes(context.threads) as lanes:
            values = Decoder(record, encoded.sections, spec, lanes).region(region, level)
        return values if len(spec.shape) == 4 else values[..., 0]

    @classmethod
    def decode_blocks(cls, encoded: Encoded, spec: ArraySpec, context: Context) -> Iterator[tuple[Region, np.ndarray]]:
        """See `Codec.decode_blocks`."""
        from neurcomp_core.wavelet.decoding import Decoder
        from neurcomp_core.wavelet.lanes import Lanes
        from neurcomp_core.wavelet.record import WaveletRecord

        record = wire.unpack(WaveletRecord, encoded.params)
        with Lanes(context.threads) as lanes:
            for region, values in Decoder(record, encoded.sections, spec, lanes).blocks():
                yield region, values if len(spec.shape) == 4 else values[..., 0]

    @classmethod
    def describe(cls, encoded: Encoded) -> dict[str, Any]:
        """See `Codec.describe`."""
        from neurcomp_core.wavelet.record import WaveletRecord

        record = wire.unpack(WaveletRecord, encoded.params)
        about: dict[str, Any] = {"transform": "CDF 9/7" if record.depth else "none", "step": record.step}
        if record.ahead:
            about["levels ahead"] = f"{record.ahead} along {'zyx'[record.lead]}"
        if record.edge:
            about["tiles"] = record.edge
        if record.quantum:
            about["corrections"] = record.quantum
        return about | {"sections": [len(s) for s in encoded.sections]}
