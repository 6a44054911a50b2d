"""Lower halves of floats whose upper halves are known: mostly noise, byte by byte through adaptive trees."""

from __future__ import annotations

import numpy as np
from numba import njit

from neurcomp_core.coding import mixing as mx
from neurcomp_core.errors import FormatError
from neurcomp_core.radiance.coding.streams import (
    RATE,
    SYMBOLS,
    check_count,
    check_end,
    finished,
    opened,
    padded,
    room,
)


def ordered(values: np.ndarray) -> np.ndarray:
    """int32 of float32 values, ordered as these are; -0 comes right before 0."""
    bits = np.ascontiguousarray(values, np.float32).view(np.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def from_ordered(numbers: np.ndarray) -> np.ndarray:
    """Inverse of `ordered`."""
    bits = np.ascontiguousarray(numbers, np.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(np.float32)


def split_floats(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Upper halves, int32 from -32768 to 32767, and lower halves, uint16, of `ordered` values."""
    numbers = ordered(values)
    return numbers >> 16, (numbers & 0xFFFF).astype(np.uint16)


def join_floats(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Inverse of `split_floats`: float32.

    Raises
    ------
    FormatError
        If an upper half is out of range.
    """
    if high.size and not -(1 << 15) <= high.min() <= high.max() < 1 << 15:
        raise FormatError("a stream of floats is damaged: it holds larger numbers than a float has bits for")
    return from_ordered((high.astype(np.int32) << 16) | low.astype(np.int32))


def encode_low(low: np.ndarray, high: np.ndarray) -> bytes:
    """The stream of lower halves, of any shape, whose upper halves a decoder has."""
    state, out = np.zeros(5, np.int64), np.empty(1 << 12, np.uint8)
    mx.start_encoder(state)
    given = low.astype(np.uint16).ravel(), high.ravel() == 0, *_models()
    out = _code(*given, state, out, True)  # pyright: ignore[reportCallIssue]
    return padded(finished(state, out), low.size, SYMBOLS)


def decode_low(data: bytes, high: np.ndarray) -> np.ndarray:
    """Inverse of `encode_low`: uint16 in the shape of `high`; FormatError if the stream was cut."""
    check_count(data, high.size, SYMBOLS, "lower halves of floats")
    low = np.zeros(high.size, np.uint16)
    state, source = opened(data)
    _code(low, high.ravel() == 0, *_models(), state, source, False)  # pyright: ignore[reportCallIssue]
    check_end(state, data, "lower halves of floats")
    return low.reshape(high.shape)


def _models() -> tuple[np.ndarray, ...]:
    return *mx.new_models(4 * 256), np.full((1, 1), 65536, np.int64)


@njit(cache=True)
def _code(low, zero, probabilities, counts, weights, state, data, encoding):
    """Code (or decode into) `low`; returns the output buffer, which may have grown."""
    context, stretched = np.zeros(1, np.int64), np.zeros(1, np.int64)
    for n in range(len(low)):
        if encoding:
            data = room(data, state, 64)
        elif state[4] > len(data) + mx.SPARE:
            return data
        value, found = np.int64(low[n]), 0
        for half in range(2):
            node = 1
            for i in range(7, -1, -1):
                context[0] = ((2 if zero[n] else 0) + half) * 256 + node
                bit = (value >> (8 - 8 * half + i)) & 1
                node = 2 * node + mx.code(
                    state, data, encoding, bit, probabilities, counts, context, weights[0], stretched, RATE
                )
            found = (found << 8) | (node - 256)
        if not encoding:
            low[n] = found
    return data
