"""Adaptive binary arithmetic coding with online-mixed context models, in integer arithmetic throughout.

A decision is coded with a probability that several adaptive models give together: each model's probability goes through
``stretch(p) = ln(p / (1 - p))``, a small gated neuron sums them, ``squash`` brings the sum back, and after the decision
the weights move along the gradient of its code length (Mahoney, "Adaptive weighing of context models for lossless data
compression", 2005; the range coder after Martin, "Range encoding", 1979). Nothing here rounds a float while coding, so
every machine decodes the same bytes.

The functions run compiled; state lives in arrays so that they also run as plain Python.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

#: Fixed point: probabilities have 16 bits outside a model and 22 inside, stretched ones 8 fractional bits.
_CLAMP = 2815
_TOP = 1 << 24
_RATE_LIMIT = 255
#: A decoder that has read more than this many bytes past the end of its stream was given a cut one.
SPARE = 8


def _squash_table() -> np.ndarray:
    # The tests check that no entry lies near a rounding boundary, so any libm gives these integers.
    table = [round(65536 / (1 + math.exp(-x / 256))) for x in range(-_CLAMP, _CLAMP + 1)]
    return np.clip(np.array(table, np.int64), 1, 65535)


def _stretch_table() -> np.ndarray:
    odds = [(2 * i + 1) / (8192 - 2 * i - 1) for i in range(4096)]
    return np.array([round(256 * math.log(o)) for o in odds], np.int64)


#: Tables that the wavelet's coder shares.
SQUASH = _squash_table()
STRETCH = _stretch_table()
RATES = np.array([655360 // (10 * n + 16) for n in range(_RATE_LIMIT + 1)], np.int64)  # 65536 / (n + 1.6)


# -------------------------------------------------------------------------------------------------------- range coder
# state: 0 low, 1 range, 2 cached byte, 3 pending bytes, 4 position  (decoder: 0 code, 1 range, 4 position)


@njit(cache=True)
def start_encoder(state):
    """Reset a ``(5,)`` int64 state for encoding."""
    state[0] = 0
    state[1] = 0xFFFFFFFF
    state[2] = 0
    state[3] = 1
    state[4] = 0


@njit(cache=True)
def _shift(state, out):
    low = state[0]
    if low < 0xFF000000 or low > 0xFFFFFFFF:
        carry = low >> 32
        byte = state[2]
        position = state[4]
        for _ in range(state[3]):
            # The first byte is always 0 and is not stored.
            if position > 0:
                out[position - 1] = (byte + carry) & 0xFF
            position += 1
            byte = 0xFF
        state[4] = position
        state[3] = 0
        state[2] = (low >> 24) & 0xFF
    state[3] = state[3] + 1
    state[0] = (low & 0x00FFFFFF) << 8


@njit(cache=True)
def encode_bit(state, out, probability, bit):
    """Append one decision; `probability` of a 1, of 65536."""
    bound = (state[1] >> 16) * probability
    if bit:
        state[1] = bound
    else:
        state[0] = state[0] + bound
        state[1] = state[1] - bound
    while state[1] < _TOP:
        state[1] = (state[1] << 8) & 0xFFFFFFFF
        _shift(state, out)


@njit(cache=True)
def finish_encoder(state, out):
    """Flush; returns the length. Up to `SPARE` trailing zeros are left out; the decoder reads zeros past the end."""
    # Any value in [low, low + range) decodes alike: take the one with most trailing zeros.
    value = (state[0] + state[1] - 1) & ~0x00FFFFFF
    if value >= state[0]:
        state[0] = value
    for _ in range(5):
        _shift(state, out)
    length = state[4] - 1
    # The decoder reads as many bytes as there are here, which tells a cut stream from a whole one.
    least = max(length - SPARE, 0)
    while length > least and out[length - 1] == 0:
        length -= 1
    return length


@njit(cache=True)
def start_decoder(state, data):
    """Reset a ``(5,)`` int64 state to the beginning of `data`."""
    state[0] = 0
    state[1] = 0xFFFFFFFF
    state[4] = 0
    for _ in range(4):
        _feed(state, data)


@njit(cache=True)
def _feed(state, data):
    position = state[4]
    byte = data[position] if position < len(data) else 0
    state[0] = ((state[0] << 8) | byte) & 0xFFFFFFFF
    state[4] = position + 1


@njit(cache=True)
def decode_bit(state, data, probability):
    """Inverse of `encode_bit`; past the end of `data` it reads zeros."""
    bound = (state[1] >> 16) * probability
    if state[0] < bound:
        state[1] = bound
        bit = 1
    else:
        state[0] = state[0] - bound
        state[1] = state[1] - bound
        bit = 0
    while state[1] < _TOP:
        state[1] = (state[1] << 8) & 0xFFFFFFFF
        _feed(state, data)
    return bit


# ------------------------------------------------------------------------------------------------------------ models


def new_models(contexts: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (22 bits, one half) and counts of `contexts` adaptive binary models."""
    return np.full(contexts, 1 << 21, np.int64), np.zeros(contexts, np.int64)


def new_weights(sets: int, inputs: int) -> np.ndarray:
    """Mixing weights ``(sets, inputs)`` in 1/65536."""
    return np.full((sets, inputs), int(65536 * 1.2 / inputs), np.int64)


@njit(cache=True)
def code(state, data, encoding, bit, probabilities, counts, contexts, weights, stretched, rate):
    """Code one decision with the models at `contexts`, learn from it, and return it.

    Parameters
    ----------
    state, data : ndarray
        Of the range coder; `data` is written when `encoding`, read otherwise.
    encoding : bool
    bit : int
        The decision when encoding.
    probabilities, counts : ndarray
        Models (`new_models`).
    contexts : ndarray
        Index of the model each input uses.
    weights, stretched : ndarray
        One weight per input (`new_weights`), and scratch of that length.
    rate : int
        Learning rate of the weights.
    """
    total = 0
    for i in range(len(contexts)):
        s = STRETCH[probabilities[contexts[i]] >> 10]
        stretched[i] = s
        total += weights[i] * s
    total = max(min(total >> 16, _CLAMP), -_CLAMP)
    mixed = SQUASH[total + _CLAMP]
    if encoding:
        encode_bit(state, data, mixed, bit)
    else:
        bit = decode_bit(state, data, mixed)
    error = (bit << 16) - mixed
    for i in range(len(contexts)):
        weights[i] += (stretched[i] * error * rate + (1 << 15)) >> 16
        c = contexts[i]
        n = counts[c]
        probabilities[c] += (((bit << 22) - probabilities[c]) * RATES[n]) >> 16
        if n < _RATE_LIMIT:
            counts[c] = n + 1
    return bit
