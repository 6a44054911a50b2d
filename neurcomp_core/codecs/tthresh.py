"""Codec ``tthresh``: the stream of the TTHRESH program, written and read here.

Ballester-Ripoll, Lindstrom, Pajarola, "TTHRESH: Tensor Compression for Multidimensional Visual Data", IEEE TVCG 26(9),
2019.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurcomp_core.codec import Codec, Context, Encoded
from neurcomp_core.coding import wire
from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import FormatError, Interrupted
from neurcomp_core.field import Field, Region
from neurcomp_core.target import Target


@dataclass(frozen=True)
class TthreshRecord:
    """What a file keeps beside the stream: the layer along the slowest axis that is the array, or -1 for all."""

    step: int = -1


@dataclass(frozen=True)
class Tthresh(Codec):
    """Tucker decomposition of the whole array, components as one more axis, coded by bit planes.

    The section is what a ``.tthresh`` file holds. Decoding a region or a coarser level uses the rows of the factors
    that it needs and nothing else.
    """

    id = 10
    name = "tthresh"

    def encode(self, field: Field, target: Target, context: Context) -> Encoded:
        """Decompose, then search the error; see `Codec.encode`."""
        from neurcomp_core.target import Bytes
        from neurcomp_core.tthresh.fit import fit

        if isinstance(target, Bytes):
            around = Encoded(b"", (bytes(int(target.value)),)).nbytes - int(target.value)
            target = Bytes(max(target.value - around, 1))
        try:
            return Encoded(wire.pack(TthreshRecord()), (fit(field.values, target, context, field.mask).tobytes(),))
        except Interrupted as stop:
            best = None if stop.best is None else Encoded(b"", (stop.best.tobytes(),))  # type: ignore[attr-defined]
            raise type(stop)(str(stop), best) from stop

    @classmethod
    def decode(cls, encoded: Encoded, spec: ArraySpec, region: Region, level: int, context: Context) -> np.ndarray:
        """Multiply the core by the region's rows of the factors; see `Codec.decode`."""
        from neurcomp_core.tthresh.stream import read, read_header

        record = wire.unpack(TthreshRecord, encoded.params)
        if len(encoded.sections) != 1:
            raise FormatError(f"a tthresh array has one section, this has {len(encoded.sections)}")
        shape = read_header(encoded.sections[0]).shape
        step = (slice(record.step, record.step + 1),) if record.step >= 0 else ()
        inner = shape[len(step) :]
        missing = max(3 - len(inner), 0)
        if (1,) * missing + inner != spec.shape or (step and record.step >= shape[0]):
            raise FormatError(f"a tthresh stream of shape {shape} cannot be an array of shape {spec.shape}")
        # Of a series, the next step is likely to be asked for.
        stream = _read_again(encoded.sections[0]) if step else read(encoded.sections[0])
        box = tuple(slice(r.start, r.stop, 2**level) for r in region) + (slice(None),) * (len(spec.shape) - 3)
        values = stream.values(step + box[missing:], spec.dtype)
        return values.reshape([len(range(*b.indices(n))) for b, n in zip(box, spec.shape, strict=True)])

    @classmethod
    def describe(cls, encoded: Encoded) -> dict[str, Any]:
        """Tensor and type of the stream; see `Codec.describe`."""
        from neurcomp_core.tthresh.stream import read_header

        header = read_header(encoded.sections[0])
        return {"tensor": " x ".join(map(str, header.shape[::-1])), "type": header.dtype.name} | super().describe(
            encoded
        )


@functools.lru_cache(maxsize=1)
def _read_again(data: bytes) -> Any:
    from neurcomp_core.tthresh.stream import read

    return read(data)
