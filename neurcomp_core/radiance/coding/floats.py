"""float32 values on occupied voxels, to the bit.

Values are rounded to multiples of a power of two, which `attributes` predicts and codes; then each float is found among
those that round alike, bit by bit, unless it is that of a neighbour.
"""

from __future__ import annotations

import struct

import numpy as np
from numba import njit

from neurcomp_core.coding import mixing as mx
from neurcomp_core.coding import wire
from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.radiance.coding.attributes import LIMIT, decode_attributes, encode_attributes
from neurcomp_core.radiance.coding.halves import from_ordered, ordered
from neurcomp_core.radiance.coding.streams import (
    RATE,
    SYMBOLS,
    causal,
    check_count,
    check_end,
    finished,
    opened,
    padded,
    room,
    voxel_rows,
)

#: Multiples that the range of nearly all values has, as a power of two.
_FINE = 10
_TAILS = 0.001
_ORIGIN = 1 << 31
#: Exponents of the power of two: between those of the smallest and of the largest float.
_LEAST, _MOST = -149, 127


def encode_floats(values: np.ndarray, keep: np.ndarray) -> bytes:
    """The stream of ``(rows, channels)`` float32 on the voxels of `keep` ``(z, y, x)``.

    Raises
    ------
    InputError
        If a value is not finite.
    """
    values = np.ascontiguousarray(values, np.float32)
    exponent = _exponent(values)
    rounded = np.floor(np.ldexp(values.astype(np.float64), -exponent) + 0.5).astype(np.int64)
    coded = encode_attributes(rounded, keep)
    numbers = (ordered(values).astype(np.int64) + _ORIGIN).T
    low, high = _ends(rounded.T, exponent)
    state, out = np.zeros(5, np.int64), np.empty(1 << 12, np.uint8)
    mx.start_encoder(state)
    given = numbers.ravel(), low.ravel(), high.ravel(), (rounded.T == 0).ravel(), _neighbours(keep), *_models()
    out = _code(*given, state, out, True)  # pyright: ignore[reportCallIssue]
    rest = padded(finished(state, out), values.size, SYMBOLS)
    return struct.pack("<h", exponent) + wire.write_varint(len(coded)) + coded + rest


def decode_floats(data: bytes, keep: np.ndarray, channels: int) -> np.ndarray:
    """Inverse of `encode_floats`: ``(rows, channels)`` float32.

    Raises
    ------
    FormatError
        If the stream is not one of so many rows and channels.
    """
    if len(data) < 3:
        raise FormatError("the stream of floats is damaged: it has no head")
    (exponent,) = struct.unpack_from("<h", data)
    if not _LEAST <= exponent <= _MOST:
        raise FormatError(f"the stream of floats is damaged: its exponent is {exponent}")
    length, at = wire.read_varint(memoryview(data), 2)
    rest = data[at + length :]
    rounded = decode_attributes(data[at : at + length], keep, channels)
    check_count(rest, rounded.size, SYMBOLS, "floats")
    low, high = _ends(rounded.T.astype(np.int64), exponent)
    numbers = np.zeros(rounded.size, np.int64)
    state, source = opened(rest)
    given = numbers, low.ravel(), high.ravel(), (rounded.T == 0).ravel(), _neighbours(keep), *_models()
    _code(*given, state, source, False)  # pyright: ignore[reportCallIssue]
    check_end(state, rest, "floats")
    return np.ascontiguousarray(from_ordered((numbers - _ORIGIN).astype(np.int32)).reshape(channels, len(rounded)).T)


def _exponent(values: np.ndarray) -> int:
    """Of the power of two."""
    if not np.isfinite(values).all():
        raise InputError("a radiance field has values that are NaN or infinite; expected finite numbers")
    top = float(np.abs(values).max(initial=0))
    if top == 0:
        return 0
    low, high = np.quantile(values.astype(np.float64), [_TAILS, 1 - _TAILS])
    fine = int(np.frexp(high - low)[1]) - 1 - _FINE if high > low else _LEAST
    coarse = int(np.frexp(top)[1]) - (LIMIT.bit_length() - 2)
    return min(max(fine, coarse, _LEAST), _MOST)


def _ends(rounded: np.ndarray, exponent: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last ordered number, as `_code` takes them, of the floats that round to each multiple."""

    def first(multiple: np.ndarray) -> np.ndarray:
        # All exact: float64 holds half multiples and floats alike.
        edge = np.ldexp((2 * multiple - 1).astype(np.float64), exponent - 1)
        with np.errstate(over="ignore"):
            nearest = edge.astype(np.float32)
        number = ordered(nearest).astype(np.int64)
        return number + (nearest.astype(np.float64) < edge) + _ORIGIN

    return first(rounded), first(rounded + 1) - 1


def _neighbours(keep: np.ndarray) -> np.ndarray:
    """Rows ``(rows, 3)`` of the neighbours before each voxel along x, y, z; -1 where there is none."""
    links, places, strides = voxel_rows(keep)
    return links[places[:, None] + causal(strides)[0][:3]]


def _models() -> tuple[np.ndarray, ...]:
    return *mx.new_models(3 * (64 * 16 + 4096 + 64)), np.full((1, 1), 65536, np.int64)


@njit(cache=True)
def _code(numbers, low, high, zero, neighbours, probabilities, counts, weights, state, data, encoding):
    """Code (or decode into) `numbers`, each between `low` and `high`; returns the buffer, which may have grown."""
    rows = len(neighbours)
    context, stretched = np.zeros(1, np.int64), np.zeros(1, np.int64)
    for n in range(len(numbers)):
        if encoding:
            data = room(data, state, 128)
        elif state[4] > len(data) + mx.SPARE:
            return data
        number, found, like = numbers[n], np.int64(0), np.int64(-1)
        for k in range(3):
            other = neighbours[n % rows, k]
            if other >= 0 and like < 0:
                value = numbers[n - n % rows + other]
                if low[n] <= value <= high[n]:
                    like = value
        for i in range(31, -1, -1):
            middle = found + (1 << i)
            first, last = max(low[n], found), min(high[n], middle + (1 << i) - 1)
            if last < middle:
                continue
            if first >= middle:
                found = middle
                continue
            # Of floats with few digits the last bits are all 0, of negative ones all 1.
            place = 32 * (found >> 31) + i
            if not zero[n]:
                context[0] = 16 * place + ((last - middle + 1) << 4) // (last - first + 1)
            elif i >= 20:
                # Where nothing is known of sign and exponent they have a tree.
                context[0] = 1024 + ((1 << (31 - i)) | (found >> (i + 1)))
            else:
                context[0] = 1024 + 4096 + place
            side = 0
            if like >= 0 and (like >> (i + 1)) == (found >> (i + 1)):
                side = 1 + ((like >> i) & 1)
            context[0] = 3 * context[0] + side
            if mx.code(
                state, data, encoding, (number >> i) & 1, probabilities, counts, context, weights[0], stretched, RATE
            ):
                found = middle
        if not encoding:
            numbers[n] = found
    return data
