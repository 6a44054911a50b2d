"""Values of occupied voxels in a stream: quantised, or to the bit."""

from __future__ import annotations

import numpy as np

from neurcomp_core.radiance.coding.attributes import decode_attributes, encode_attributes
from neurcomp_core.radiance.coding.floats import decode_floats, encode_floats
from neurcomp_core.radiance.coding.quantise import Quantiser


def encode_rows(
    values: np.ndarray, keep: np.ndarray, quantiser: Quantiser | None, given: np.ndarray | None = None
) -> tuple[bytes, np.ndarray | None]:
    """The stream of ``(rows, channels)`` float32, and their integers if they are quantised.

    Parameters
    ----------
    values, keep, given : ndarray
        See `attributes.encode_attributes`; `given` counts only where values are quantised.
    quantiser : Quantiser or None
        None stores values to the bit.
    """
    if quantiser is None:
        return encode_floats(values, keep), None
    symbols = quantiser.quantise(values)
    return encode_attributes(symbols, keep, given), symbols


def decode_rows(
    data: bytes, keep: np.ndarray, channels: int, quantiser: Quantiser | None, given: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Inverse of `encode_rows`: ``(rows, channels)`` float32, and integers; FormatError for what it did not write."""
    if quantiser is None:
        return decode_floats(data, keep, channels), None
    symbols = decode_attributes(data, keep, channels, given)
    return quantiser.dequantise(symbols), symbols
