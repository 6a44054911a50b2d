"""Codec ``tucker``: a higher-order singular value decomposition, coded by the wavelet codec's learned coder.

De Lathauwer, De Moor, Vandewalle, "A Multilinear Singular Value Decomposition", SIAM J. Matrix Anal. Appl. 21(4), 2000;
used for volumes by Ballester-Ripoll, Lindstrom, Pajarola, IEEE TVCG 26(9), 2019. Bases of few columns, fitted to the
whole array, need fewer bytes than a wavelet where its structure repeats, at low rates. Core and bases are quantised by
rate and distortion and go through context mixing; the bases are coded as cosines and the core is computed for what is
left of them.
"""

# The kernels' compiler is imported when something is coded: listing codecs needs none.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from neurcomp_core.codec import Context, Encoded
from neurcomp_core.coding import wire
from neurcomp_core.container import ArraySpec
from neurcomp_core.field import Field, Region
from neurcomp_core.residual import NetworkCodec
from neurcomp_core.target import Target
from neurcomp_core.tucker.record import TuckerRecord

#: Bits per sample below which the wavelet was measured to need more bytes: on the best of the simulations, which cost
#: little to try, and on volumes of integers.
_EVEN_FLOATS, _EVEN_INTEGERS = 0.16, 0.012
#: Samples, and those of an axis, beyond which it is never expected to win: the decomposition takes too long.
LARGEST, LONGEST = 1 << 26, 2048


@dataclass(frozen=True)
class Tucker(NetworkCodec):
    """Bases of the axes and a core, rounded and entropy-coded; not a network, but used and completed like one.

    Attributes
    ----------
    residual : bool
        Whether what it misses is coded as well, so that any target is met.
    """

    id = 5
    name = "tucker"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"balanced": {}}

    record = TuckerRecord
    direct: ClassVar[bool] = True

    def fit(self, field: Field, target: Target, context: Context) -> Encoded:
        """Decompose, then search the step; see `Codec.encode`."""
        from neurcomp_core.tucker.fit import fit
        from neurcomp_core.wavelet.lanes import Lanes

        with Lanes(context.threads) as lanes:
            return fit(field, target, context, lanes)

    def shortened(self, share: float) -> Tucker:
        """Without residual; see `NetworkCodec.shortened`. There is no training to shorten."""
        return replace(self, residual=False)

    @classmethod
    def outputs(cls, encoded: Encoded, spec: ArraySpec, region: Region, step: int, context: Context) -> np.ndarray:
        """Multiply the core by the region's rows of the bases; see `NetworkCodec.outputs`."""
        from neurcomp_core.tucker import coded
        from neurcomp_core.wavelet.lanes import Lanes

        record = wire.unpack(TuckerRecord, encoded.params)
        (section,) = encoded.sections
        ranks = record.columns(spec.shape, len(section))
        if not record.ranks:
            return coded.constant(record, spec, region, step)
        with Lanes(context.threads) as lanes:
            found = coded.unpack(section, spec.shape, ranks, lanes)
            core = coded.values_of(found.core, record.step, lanes)
            return coded.sums(core, coded.bases(found, lanes), record, spec, region, step)

    @classmethod
    def margin(cls, encoded: Encoded) -> float:
        """See `NetworkCodec.margin`."""
        return wire.unpack(TuckerRecord, encoded.params).margin

    @classmethod
    def predicted(cls, nbytes: int, field: Field) -> float:
        """See `NetworkCodec.predicted`; docs/tucker.md has the measurements."""
        if field.values.size > LARGEST or max(field.values.shape) > LONGEST:
            return 2.0 * nbytes
        even = _EVEN_FLOATS if field.values.dtype.kind == "f" else _EVEN_INTEGERS
        return nbytes * (8 * nbytes / field.values.size / even) ** 0.25

    @classmethod
    def describe(cls, encoded: Encoded) -> dict[str, Any]:
        """Ranks and step; see `Codec.describe`."""
        record = wire.unpack(TuckerRecord, encoded.params)
        return {"ranks": " x ".join(map(str, record.ranks)) or "0", "step": record.step} | super().describe(encoded)
