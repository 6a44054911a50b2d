"""Coding of the quantised matrices of a network: dense or sparse, a few bits per weight or many.

A symbol is coded as the bit length of its magnitude, in unary, then the bits below the leading one, then a sign. What a
bit length is likely to be follows from the running mean magnitudes of the symbol's row, its column and its matrix: the
models see how far a decision lies from each in quarters of an octave, not where, so that what is learned in one matrix
serves all. Zeros beside a symbol and above it are a model of their own, which is what sparse matrices need. Decisions
are mixed and coded by `coding.mixing`, in integers throughout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numba import njit

from neurcomp_core.coding import mixing as mx
from neurcomp_core.errors import FormatError

#: Magnitudes from this on are refused.
LIMIT = 1 << 24
_LENGTHS = 25  # bit lengths of magnitudes, 0 included
_SPAN = 64  # quarters of an octave that a decision may lie from a mean, both ways together
_MODELLED = 3  # bits below the leading one that are modelled; those below them are even
_RATE = 6
_INPUTS = 6
#: Weights of one stream, for each of its bytes: a bound on what a damaged file may ask for.
DENSITY = 1024


def encode_matrices(matrices: Sequence[np.ndarray]) -> bytes:
    """One stream of all matrices.

    Parameters
    ----------
    matrices : sequence of ndarray
        Integers, ``(rows, columns)`` or ``(rows,)``, magnitudes below `LIMIT`.

    Examples
    --------
    >>> stream = encode_matrices([np.array([[1, 0], [-2, 0]])])
    >>> decode_matrices(stream, [(2, 2)])[0].tolist()
    [[1, 0], [-2, 0]]
    """
    models = _Models(len(matrices))
    state, out = np.zeros(5, np.int64), np.empty(1 << 12, np.uint8)
    mx.start_encoder(state)
    for number, matrix in enumerate(matrices):
        symbols = _two_axes(matrix.shape, matrix.astype(np.int64))
        assert not symbols.size or np.abs(symbols).max() < LIMIT, "a quantiser this fine is of no use"
        out = _code(symbols, number, *models.state, state, out, True)
    if len(out) < state[4] + state[3] + 16:
        out = np.append(out, np.empty(state[3] + 64, np.uint8))
    return out[: mx.finish_encoder(state, out)].tobytes()


def decode_matrices(data: bytes, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    """Inverse of `encode_matrices`: int64 arrays of `shapes`.

    Raises
    ------
    FormatError
        If the stream is not one of such matrices.
    """
    count = sum(math.prod(s) for s in shapes)
    if count > DENSITY * (len(data) + 64):
        raise FormatError(f"a stream of {len(data)} bytes cannot hold {count} weights; the file is damaged")
    models = _Models(len(shapes))
    state, source = np.zeros(5, np.int64), np.frombuffer(data, np.uint8).copy()
    mx.start_decoder(state, source)
    found = []
    for number, shape in enumerate(shapes):
        symbols = np.zeros(shape, np.int64)
        _code(_two_axes(shape, symbols), number, *models.state, state, source, False)
        # A stream ends within the coder's look-ahead; one read far past its end was cut or is not ours.
        if state[4] > len(data) + mx.SPARE:
            raise FormatError("the stream of a network's weights is damaged: it ends before the weights do")
        found.append(symbols)
    return found


def _two_axes(shape: tuple[int, ...], symbols: np.ndarray) -> np.ndarray:
    return symbols.reshape(shape if len(shape) == 2 else (1, -1))


class _Models:
    """What all matrices of one stream share."""

    def __init__(self, matrices: int) -> None:
        lengths = [matrices * _LENGTHS, *[_SPAN] * 4, 9 * _LENGTHS]
        mantissa = 1 << (_MODELLED + 1)
        sizes = [*lengths, _SPAN * mantissa, _LENGTHS * mantissa]
        self.offsets = np.array([0, *sizes]).cumsum()
        probabilities, counts = mx.new_models(int(self.offsets[-1]))
        self.state = probabilities, counts, mx.new_weights(4, _INPUTS), mx.new_weights(_MODELLED, 2), self.offsets


@njit(cache=True)
def _quarters(mean):
    """Position of a mean, in 1/16, on a logarithmic scale of four steps an octave."""
    length = 0
    while (mean + 4) >> (length + 1) > 0:
        length += 1
    # At least 4, hence two bits below the leading one.
    return 4 * (length - 2) + (((mean + 4) >> (length - 2)) & 3)


@njit(cache=True)
def _distance(length, mean):
    """Where the decision `length` lies from a mean in 1/16, 0 to `_SPAN` - 1."""
    return min(max(4 * length - _quarters(mean) + _SPAN // 2 + 8, 0), _SPAN - 1)


@njit(cache=True)
def _code(
    symbols, matrix, probabilities, counts, weights, mantissa_weights, offsets, state, data, encoding
):  # fmt: skip
    """Code (or decode into) `symbols` ``(rows, columns)``; returns the output buffer, which may have grown."""
    rows, columns = symbols.shape
    contexts, stretched = np.zeros(_INPUTS, np.int64), np.zeros(_INPUTS, np.int64)
    below = np.zeros(2, np.int64)
    overall, seen = 0, 0
    upright = np.zeros(columns, np.int64)
    for r in range(rows):
        if encoding and len(data) < state[4] + state[3] + 64 * columns + 64:
            grown = np.empty(2 * len(data) + 128 * columns + 128, np.uint8)
            grown[: len(data)] = data
            data = grown
        if not encoding and state[4] > len(data) + mx.SPARE:
            return data
        # Means in 1/16; those of few symbols lean on the matrix's.
        flat = 0
        for c in range(columns):
            across = (flat + 4 * overall) // (c + 4)
            down = (upright[c] + 4 * overall) // (r + 4)
            cross = (flat + upright[c] + 2 * overall) // (c + r + 2)
            left = min(abs(symbols[r, c - 1]), 2) if c > 0 else 0
            up = min(abs(symbols[r - 1, c]), 2) if r > 0 else 0
            value = symbols[r, c]
            target, wanted = abs(value), 0
            while target >> wanted > 0:
                wanted += 1
            length = 0
            while length < _LENGTHS - 1:
                contexts[0] = offsets[0] + matrix * _LENGTHS + length
                contexts[1] = offsets[1] + _distance(length, overall)
                contexts[2] = offsets[2] + _distance(length, across)
                contexts[3] = offsets[3] + _distance(length, down)
                contexts[4] = offsets[4] + _distance(length, cross)
                contexts[5] = offsets[5] + (left * 3 + up) * _LENGTHS + length
                more = mx.code(
                    state, data, encoding, 1 if wanted > length else 0, probabilities, counts, contexts,
                    weights[min(length, 3)], stretched, _RATE,
                )  # fmt: skip
                if more == 0:
                    break
                length += 1
            magnitude = 1 if length > 0 else 0
            for i in range(length - 1):
                bit = (target >> (length - 2 - i)) & 1
                if i < _MODELLED:
                    node = magnitude
                    below[0] = offsets[6] + _distance(length, cross) * (2 << _MODELLED) + node
                    below[1] = offsets[7] + length * (2 << _MODELLED) + node
                    bit = mx.code(
                        state, data, encoding, bit, probabilities, counts, below, mantissa_weights[i], stretched, _RATE
                    )
                elif encoding:
                    mx.encode_bit(state, data, 32768, bit)
                else:
                    bit = mx.decode_bit(state, data, 32768)
                magnitude = 2 * magnitude + bit
            if magnitude > 0:
                if encoding:
                    mx.encode_bit(state, data, 32768, 1 if value < 0 else 0)
                else:
                    symbols[r, c] = -magnitude if mx.decode_bit(state, data, 32768) else magnitude
            mean = magnitude << 4
            flat += mean
            upright[c] += mean
            seen += 1
            overall += (mean - overall) // min(seen, 64)
    return data
