"""Integers on the occupied voxels of a grid: quantised densities, coefficients and features, channel by channel.

A symbol is predicted by a sum whose weights are learned while coding (normalised least mean squares): the mean of the
neighbours that are already coded, how nine of them differ from it, the channel's mean, and how the channels before
differ from their neighbours at the same voxel. What is coded is the miss: its bit length in unary, a sign, the bits
below the leading one. How long it is likely to be follows from the misses of the neighbours and of the channels before;
context models are mixed by `coding.mixing`. Integers throughout.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from neurcomp_core.coding import mixing as mx
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

#: Magnitudes from this on are refused.
LIMIT = 1 << 24
_LENGTHS = 26  # bit lengths of misses, 0 included
_INPUTS = 6
#: Features of a prediction: mean, neighbours, channel's mean, channels before.
_NEIGHBOURS, _BEFORE = 9, 12
FEATURES = 2 + _NEIGHBOURS + _BEFORE
_CAP = (1 << 16) - 1
_MODELLED = 3  # bits below the leading one that are modelled; those below them are even
#: Features and misses are kept within this, in sixteenths.
_WIDEST = 1 << 20


def _quarters_table() -> np.ndarray:
    """Position of a magnitude on a logarithmic scale of four steps an octave."""
    n = np.arange(_CAP + 1) + 4
    length = np.floor(np.log2(n)).astype(np.int64)
    return (4 * (length - 2) + ((n >> (length - 2)) & 3)).astype(np.uint8)


QUARTERS = _quarters_table()


def encode_attributes(symbols: np.ndarray, keep: np.ndarray, given: np.ndarray | None = None) -> bytes:
    """The stream of all channels.

    Parameters
    ----------
    symbols : ndarray ``(rows, channels)``
        Integers, magnitudes below `LIMIT`; rows in order of their voxels' (z, y, x).
    keep : ndarray ``(z, y, x)`` bool
        Voxels that have a row.
    given : ndarray ``(rows, k)``, optional
        Integers that a decoder has, too, and that say something about the channels: density, for instance.

    Examples
    --------
    >>> keep = np.ones((2, 2, 2), bool)
    >>> stream = encode_attributes(np.arange(8)[:, None], keep)
    >>> decode_attributes(stream, keep, 1)[:, 0].tolist()
    [0, 1, 2, 3, 4, 5, 6, 7]
    """
    values, known = _channels(symbols, given)
    assert not values.size or max(-int(values.min()), int(values.max())) < LIMIT, "a quantiser this fine is of no use"
    state, out = np.zeros(5, np.int64), np.empty(1 << 12, np.uint8)
    mx.start_encoder(state)
    out = _run(values, known, keep, state, out, True)
    return padded(finished(state, out), symbols.size, SYMBOLS)


def decode_attributes(data: bytes, keep: np.ndarray, channels: int, given: np.ndarray | None = None) -> np.ndarray:
    """Inverse of `encode_attributes`: ``(rows, channels)`` int32.

    Raises
    ------
    FormatError
        If the stream is not one of so many rows and channels, or too short for them.
    """
    rows = int(np.count_nonzero(keep))
    check_count(data, rows * channels, SYMBOLS, "voxel attributes")
    values, known = _channels(np.zeros((rows, channels), np.int32), given)
    state, source = opened(data)
    _run(values, known, keep, state, source, False)
    check_end(state, data, "voxel attributes")
    return np.ascontiguousarray(values[known:].T)


def _channels(symbols: np.ndarray, given: np.ndarray | None) -> tuple[np.ndarray, int]:
    """``(channels, rows)`` int32 with those given in front, and how many these are."""
    columns = [symbols] if given is None else [given, symbols]
    joined = np.concatenate([c.T for c in columns]).astype(np.int32)
    return np.ascontiguousarray(joined), 0 if given is None else given.shape[1]


def _run(values, known, keep, state, data, encoding):
    links, places, strides = voxel_rows(keep)
    offsets, nearness = causal(strides)
    channels = len(values)
    mantissa = 2 << _MODELLED
    sizes = [
        channels * 4 * _LENGTHS, 64 * _LENGTHS * 5, 64 * _LENGTHS * 5, 32 * 32 * 8, 256 * 8, 64 * 32 * 8,
        64 * mantissa, _LENGTHS * mantissa, channels * 5, 27 * 5, 27 * 5,
    ]  # fmt: skip
    starts = np.array([0, *sizes]).cumsum()
    probabilities, counts = mx.new_models(int(starts[-1]))
    return _code(
        values, known, links, places, offsets, nearness, starts, probabilities, counts, mx.new_weights(128, _INPUTS),
        mx.new_weights(_MODELLED, 2), mx.new_weights(5, 3), state, data, encoding,
    )  # fmt: skip


@njit(cache=True)
def _sign(value):
    return 0 if value == 0 else (1 if value > 0 else 2)


@njit(cache=True)
def predicted(values, missed, apart, c, row, place, links, offsets, nearness, mean, w, x):
    """What channel `c` of a row is expected to be, in sixteenths; fills the features `x`.

    Returns it, the neighbours' mean, the weighted sum of their misses, that of the weights, and how many they are.
    """
    total, weight, misses, found = 0, 0, 0, 0
    for n in range(13):
        other = links[place + offsets[n]]
        if other >= 0:
            total += nearness[n] * values[c, other]
            misses += nearness[n] * min(abs(missed[c, other]), 65535)
            weight += nearness[n]
            found += 1
    middle = 16 * total // weight if weight > 0 else mean
    x[0] = middle
    for n in range(_NEIGHBOURS):
        other = links[place + offsets[n]]
        x[1 + n] = 16 * values[c, other] - middle if other >= 0 else 0
    x[1 + _NEIGHBOURS] = mean - middle
    for n in range(_BEFORE):
        x[2 + _NEIGHBOURS + n] = apart[c - 1 - n, row] if c > n else 0
    guess = 0
    for n in range(FEATURES):
        x[n] = max(min(x[n], _WIDEST), -_WIDEST)
        guess += w[n] * x[n]
    return max(min((guess + 32768) >> 16, 1 << 28), -(1 << 28)), middle, misses, weight, found


@njit(cache=True)
def expected(misses, weight, activity, off):
    """How far off the prediction is likely to be, in sixteenths: by the neighbours, the channels before, and both."""
    scale = off >> 4
    nearby = (misses + 2 * scale) // (weight + 2)
    lively = (activity * scale) >> 10
    return nearby, lively, min((nearby + lively + 1) >> 1, 65535), scale


@njit(cache=True)
def learnt(value, guess, middle, scale, c, row, mean, off, missed, apart, activity, x, w, power):
    """Take a value into account; returns the channel's mean and how far off its predictions are."""
    error = max(min(16 * value - guess, _WIDEST), -_WIDEST)
    missed[c, row] = error
    apart[c, row] = max(min(16 * value - middle, _WIDEST), -_WIDEST)
    far = min(abs(error), 65535)
    pull = max(min(error, 8 * scale + 16), -8 * scale - 16)
    rate = min(32 + (row >> 5), 512)
    for n in range(FEATURES):
        square = x[n] * x[n]
        power[n] += (square - power[n]) >> 5
        w[n] += ((pull * x[n]) << 16) // (rate * (power[n] + (square >> 3) + 16))
        w[n] = max(min(w[n], 1 << 20), -(1 << 20))
    ratio = min((far << 10) // (scale + 1), 1 << 14)
    activity[row] += (ratio - activity[row]) >> 2
    return mean + ((16 * value - mean + 16) >> 5), off + (((far << 4) - off + 32) >> 6)


@njit(cache=True)
def _code(
    values, known, links, places, offsets, nearness, starts, probabilities, counts, weights, mantissa_weights,
    sign_weights, state, data, encoding,
):  # fmt: skip
    """Code (or decode into) channels from `known` on of `values` ``(channels, rows)``; returns the output buffer."""
    channels, rows = values.shape
    # By how much predictions, and the neighbours' means, were missed.
    missed, apart = np.zeros((channels, rows), np.int32), np.zeros((channels, rows), np.int32)
    activity = np.full(rows, 1024, np.int32)
    contexts, stretched = np.zeros(6, np.int64), np.zeros(6, np.int64)
    pair, trio = np.zeros(2, np.int64), np.zeros(3, np.int64)
    x, w, power = np.zeros(FEATURES, np.int64), np.zeros(FEATURES, np.int64), np.zeros(FEATURES, np.int64)
    for c in range(channels):
        w[:] = 0
        w[0] = 65536
        power[:] = 256
        # In 1/16 and 1/256: the channel's mean, and how far off its predictions are.
        mean, off = 0, 4096
        for row in range(rows):
            if encoding:
                data = room(data, state, 256)
            elif state[4] > len(data) + mx.SPARE:
                return data
            place = places[row]
            guess, middle, misses, weight, found = predicted(
                values, missed, apart, c, row, place, links, offsets, nearness, mean, w, x
            )
            center = (guess + 8) >> 4
            part = guess - 16 * center
            flip = part < 0
            part = (abs(part) + 1) >> 1
            nearby, lively, both, scale = expected(misses, weight, activity[row], off)
            value = np.int64(values[c, row])
            if c >= known:
                target = center - value if flip else value - center
                l_near, l_live = np.int64(QUARTERS[min(nearby, 65535)]), np.int64(QUARTERS[min(lively, 65535)])
                l_both = np.int64(QUARTERS[both])
                l_split = np.int64(QUARTERS[min(abs(middle - guess), 65535)])
                beside = 0
                for n in range(3):
                    other = links[place + offsets[n]]
                    beside = 4 * beside + (min((abs(missed[c, other]) + 8) >> 4, 3) if other >= 0 else 0)
                beside = 4 * beside + (min((abs(missed[c - 1, row]) + 8) >> 4, 3) if c > 0 else 0)
                size, wanted = abs(target), 0
                while size >> wanted > 0:
                    wanted += 1
                length = 0
                while length < 25:
                    few = min(length, 7)
                    contexts[0] = starts[0] + (c * 4 + min(found, 3)) * 26 + length
                    contexts[1] = starts[1] + (l_near * 26 + length) * 5 + part
                    contexts[2] = starts[2] + (l_live * 26 + length) * 5 + part
                    contexts[3] = starts[3] + ((l_near >> 1) * 32 + (l_live >> 1)) * 8 + few
                    contexts[4] = starts[4] + beside * 8 + few
                    contexts[5] = starts[5] + (l_both * 32 + (l_split >> 1)) * 8 + few
                    more = mx.code(
                        state, data, encoding, 1 if wanted > length else 0, probabilities, counts, contexts,
                        weights[few * 16 + (l_both >> 2)], stretched, RATE,
                    )  # fmt: skip
                    if more == 0:
                        break
                    length += 1
                size_found = 1 if length > 0 else 0
                if length > 0:
                    same, before = 0, 0
                    for n in range(3):
                        other = links[place + offsets[n]]
                        same = 3 * same + (_sign(-missed[c, other] if flip else missed[c, other]) if other >= 0 else 0)
                        before = 3 * before
                        if c > n:
                            before += _sign(-missed[c - 1 - n, row] if flip else missed[c - 1 - n, row])
                    trio[0] = starts[8] + c * 5 + part
                    trio[1] = starts[9] + same * 5 + part
                    trio[2] = starts[10] + before * 5 + part
                    negative = mx.code(
                        state, data, encoding, 1 if target < 0 else 0, probabilities, counts, trio, sign_weights[part],
                        stretched, RATE,
                    )  # fmt: skip
                    for i in range(length - 1):
                        bit = (size >> (length - 2 - i)) & 1
                        if i < 3:
                            pair[0] = starts[6] + l_both * 16 + size_found
                            pair[1] = starts[7] + length * 16 + size_found
                            bit = mx.code(
                                state, data, encoding, bit, probabilities, counts, pair, mantissa_weights[i], stretched,
                                RATE,
                            )  # fmt: skip
                        elif encoding:
                            mx.encode_bit(state, data, 32768, bit)
                        else:
                            bit = mx.decode_bit(state, data, 32768)
                        size_found = 2 * size_found + bit
                    if negative:
                        size_found = -size_found
                if not encoding:
                    value = center - size_found if flip else center + size_found
                    # Encoders stay below; what a damaged stream says must not wrap around either.
                    value = max(min(value, (1 << 24) - 1), -((1 << 24) - 1))
                    values[c, row] = value
            mean, off = learnt(value, guess, middle, scale, c, row, mean, off, missed, apart, activity, x, w, power)
    return data
