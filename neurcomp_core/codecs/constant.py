"""Codec for an array whose valid samples all have one value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurcomp_core.codec import Codec, Context, Encoded
from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.field import Field, Region
from neurcomp_core.metrics import slabs
from neurcomp_core.target import Target


@dataclass(frozen=True)
class Constant(Codec):
    """One value per component, kept to the bit; the pipeline takes it for every constant array."""

    id = 1
    name = "constant"

    def encode(self, field: Field, target: Target, context: Context) -> Encoded:
        """Store the array's one value; see `Codec.encode`."""
        value = constant_value(field)
        if value is None:
            raise InputError(f"array '{field.name}' is not constant; choose another codec")
        return Encoded(value.astype(value.dtype.newbyteorder("<")).tobytes(), ())

    @classmethod
    def decode(cls, encoded: Encoded, spec: ArraySpec, region: Region, level: int, context: Context) -> np.ndarray:
        """Fill the box with the value; see `Codec.decode`."""
        components = spec.shape[3:]
        if len(encoded.params) != spec.dtype.itemsize * int(np.prod(components, initial=1)) or encoded.sections:
            raise FormatError("a constant array should store one value per component and nothing else")
        value = np.frombuffer(encoded.params, spec.dtype.newbyteorder("<")).astype(spec.dtype)
        shape = tuple(-(-(r.stop - r.start) // 2**level) for r in region)
        return np.broadcast_to(value.reshape(components), shape + components).copy()


def constant_value(field: Field) -> np.ndarray | None:
    """The one value ``(c,)`` that all valid samples have, or None."""
    flat = field.values.reshape(-1, field.components)
    valid = field.valid
    if valid is None:
        # Piece by piece: of a large array most often the first one decides.
        return flat[0] if all((part == flat[0]).all() for part in slabs(flat)) else None
    # A component without any valid sample fits every value.
    rows = np.broadcast_to(valid.reshape(field.voxels, -1), flat.shape)
    first = flat[rows.argmax(axis=0), np.arange(field.components)]
    return first if ((flat == first) | ~rows).all() else None
