"""Coding of a network's quantised parameters: grid levels with their spatial neighbours, dense matrices without.

A symbol is coded as unary magnitude (escape to Exp-Golomb) and a sign. The models of a magnitude decision see: the
magnitude expected from neighbours and the group's running mean; the group and the entry's previous feature; the three
causal neighbours of a densely indexed level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from neurcomp_core.coding import mixing as mx
from neurcomp_core.errors import FormatError

_UNARY = 18  # longest unary magnitude
_BUCKETS = 14
_RATE = 6
_INPUTS = 4
#: Magnitudes beyond this are refused; a quantiser step that needs them is too fine for float32 features anyway.
LIMIT = 1 << 20


@dataclass(frozen=True)
class Group:
    """Consecutive rows of the parameters that share a model.

    Attributes
    ----------
    rows, features : int
    strides : tuple of 3 int
        Distance in rows of the neighbours along x, y and z; 0 where the group has none.
    reachable : ndarray or None
        ``(rows,)`` bool; other rows are zero and not coded.
    """

    rows: int
    features: int
    strides: tuple[int, int, int] = (0, 0, 0)
    reachable: np.ndarray | None = None


def encode_groups(values: Sequence[np.ndarray], groups: Sequence[Group]) -> bytes:
    """One stream for all groups.

    Parameters
    ----------
    values : sequence of ndarray
        ``(rows, features)`` integers per group, magnitudes below `LIMIT`.
    groups : sequence of Group
    """
    coder = _Coder(len(groups))
    state, out = np.zeros(5, np.int64), np.empty(1 << 12, np.uint8)
    mx.start_encoder(state)
    for number, (group, array) in enumerate(zip(groups, values, strict=True)):
        known = array.astype(np.int64)
        if group.reachable is not None:
            # A decoder finds nothing there; neighbours must not be coded by what it will not know.
            known[~group.reachable] = 0
        out = _code_group(known, *_plan(group), number, *coder.state, state, out, True)
    if len(out) < state[4] + state[3] + 16:
        out = np.append(out, np.empty(state[3] + 64, np.uint8))
    return out[: mx.finish_encoder(state, out)].tobytes()


def decode_groups(data: bytes, groups: Sequence[Group]) -> list[np.ndarray]:
    """Inverse of `encode_groups`; of its first groups, if there are fewer.

    Raises
    ------
    FormatError
        If the stream is not one of such groups.
    """
    coder = _Coder(len(groups))
    state, source = np.zeros(5, np.int64), np.frombuffer(data, np.uint8).copy()
    mx.start_decoder(state, source)
    arrays = []
    for number, group in enumerate(groups):
        array = np.zeros((group.rows, group.features), np.int64)
        _code_group(array, *_plan(group), number, *coder.state, state, source, False)
        # A stream ends within the coder's look-ahead; one read far past its end was cut or is not ours.
        if state[4] > len(data) + mx.SPARE or (array.size and max(-array.min(), array.max()) >= LIMIT):
            raise FormatError("the stream of network parameters is damaged: it does not decode to what the header says")
        arrays.append(array)
    return arrays


def _plan(group: Group) -> tuple[tuple[int, int, int], np.ndarray]:
    return group.strides, group.reachable if group.reachable is not None else np.ones(group.rows, bool)


class _Coder:
    """Models that all groups of one stream share."""

    def __init__(self, groups: int) -> None:
        self.offsets = np.array([0, _BUCKETS * _UNARY, groups * 4 * _UNARY, 64 * 4, _BUCKETS * 4 * 4]).cumsum()
        signs = int(self.offsets[-1])
        probabilities, counts = mx.new_models(signs + 27 + groups * 9)
        self.state = (
            probabilities,
            counts,
            mx.new_weights(8, _INPUTS),
            mx.new_weights(1, 2),
            self.offsets,
        )


@njit(cache=True)
def _bucket(expected):
    """Logarithmic bucket of a magnitude in 1/64."""
    bucket = 0
    edge = 3
    while expected >= edge and bucket < _BUCKETS - 1:
        bucket += 1
        edge += (edge + 1) >> 1
    return bucket


@njit(cache=True)
def _sign(value):
    return 0 if value == 0 else (1 if value > 0 else 2)


@njit(cache=True)
def _code_group(
    values, strides, reachable, group, probabilities, counts, weights, sign_weights, offsets, state, data,
    encoding,
):  # fmt: skip
    """Code (or decode into) `values`; returns the output buffer, which may have grown."""
    rows, features = values.shape
    sx, sy, sz = strides
    spatial = 1 if sx > 0 else 0
    contexts = np.zeros(_INPUTS, np.int64)
    stretched = np.zeros(_INPUTS, np.int64)
    sign_contexts = np.zeros(2, np.int64)
    means = np.full(features, 64, np.int64)
    for row in range(rows):
        if not reachable[row]:
            continue
        if encoding and len(data) < state[4] + state[3] + 256 * features:
            grown = np.empty(2 * len(data) + 512 * features, np.uint8)
            grown[: len(data)] = data
            data = grown
        if not encoding and state[4] > len(data) + mx.SPARE:
            return data
        for f in range(features):
            x = values[row - sx, f] if row >= sx > 0 else 0
            y = values[row - sy, f] if row >= sy > 0 else 0
            z = values[row - sz, f] if row >= sz > 0 else 0
            before = abs(values[row, f - 1]) if f > 0 else 0
            near = abs(x) + abs(y) + abs(z)
            if spatial:
                expected = (means[f] * 2 + near * 32 + before * 16) >> 2
            else:
                expected = (means[f] * 3 + before * 64) >> 2 if f > 0 else means[f]
            bucket = _bucket(expected)
            corner = min(abs(x), 3) * 16 + min(abs(y), 3) * 4 + min(abs(z), 3)
            target = abs(values[row, f])
            magnitude = 0
            while magnitude < _UNARY:
                k = magnitude
                contexts[0] = offsets[0] + bucket * _UNARY + k
                contexts[1] = offsets[1] + (group * 4 + min(before, 3)) * _UNARY + k
                contexts[2] = offsets[2] + corner * 4 + min(k, 3)
                contexts[3] = offsets[3] + (_bucket(near * 21 + before * 8) * 4 + min(before, 3)) * 4 + min(k, 3)
                gate = min(k, 3) * 2 + spatial
                more = mx.code(
                    state, data, encoding, 1 if target > k else 0, probabilities, counts, contexts, weights[gate],
                    stretched, _RATE,
                )  # fmt: skip
                if more == 0:
                    break
                magnitude += 1
            if magnitude == _UNARY:
                magnitude += _escape(target - _UNARY, state, data, encoding)
            if magnitude > 0:
                sign_contexts[0] = offsets[4] + _sign(x) * 9 + _sign(y) * 3 + _sign(z)
                sign_contexts[1] = (
                    offsets[4] + 27 + group * 9 + (_sign(values[row, f - 1]) if f > 0 else 0) * 3 + min(f, 2)
                )
                negative = mx.code(
                    state, data, encoding, 1 if values[row, f] < 0 else 0, probabilities, counts, sign_contexts,
                    sign_weights[0], stretched, _RATE,
                )  # fmt: skip
                if not encoding:
                    values[row, f] = -magnitude if negative else magnitude
            means[f] += ((magnitude << 6) - means[f] + 16) >> 5
    return data


@njit(cache=True)
def _escape(value, state, data, encoding):
    """Exp-Golomb code of a non-negative value with even odds."""
    half = 32768
    length = 0
    if encoding:
        while (value + 1) >> (length + 1) > 0:
            length += 1
        for _ in range(length):
            mx.encode_bit(state, data, half, 1)
        mx.encode_bit(state, data, half, 0)
        for i in range(length - 1, -1, -1):
            mx.encode_bit(state, data, half, ((value + 1) >> i) & 1)
        return value
    while length < 24 and mx.decode_bit(state, data, half):
        length += 1
    total = 1
    for _ in range(length):
        total = total * 2 + mx.decode_bit(state, data, half)
    return total - 1
