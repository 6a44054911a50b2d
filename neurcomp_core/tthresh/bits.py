"""Bits in 64-bit words, and the arithmetic coder of a list of run lengths.

Bits fill words from the most significant one down. Every kernel takes the position of a bit and returns the next.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from neurcomp_core.errors import FormatError, InputError

_HALF, _QUARTER, _FULL = 1 << 31, 1 << 30, (1 << 32) - 1
#: More symbols than this leave an interval of the 32-bit coder empty.
MOST_SYMBOLS = 1 << 28
_BUCKETS = 4096
#: Run lengths below this are counted in a table.
_SHORT = 4096


@njit(cache=True)
def get(words, at, count):
    """`count` (0-64) bits as uint64; `words` must reach one word further."""
    if count == 0:
        return np.uint64(0)
    word, offset = at >> 6, at & 63
    value = words[word] << np.uint64(offset)
    if offset + count > 64:
        value |= words[word + 1] >> np.uint64(64 - offset)
    return value >> np.uint64(64 - count)


@njit(cache=True)
def put(words, at, value, count):
    """Set `count` (0-64) bits, which are 0 so far."""
    if count == 0:
        return at
    word, offset = at >> 6, at & 63
    value = np.uint64(value) << np.uint64(64 - count)
    words[word] |= value >> np.uint64(offset)
    if offset + count > 64:
        words[word + 1] |= value << np.uint64(64 - offset)
    return at + count


@njit(cache=True)
def _copy(words, at, other, count):
    for i in range(0, count - 63, 64):
        at = put(words, at, other[i >> 6], 64)
    rest = count & 63
    return put(words, at, other[count >> 6] >> np.uint64(64 - rest), rest) if rest else at


class Reader:
    """Bits of one stream.

    Parameters
    ----------
    data : bytes-like
        From the stream's first byte to the end of the file.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        whole = len(data) // 8
        self.words = np.zeros(whole + 2, np.uint64)  # kernels look a little ahead
        self.words[:whole] = np.frombuffer(data, "<u8", whole)
        self.size = 64 * whole
        self.at = 0

    @property
    def left(self) -> int:
        return self.size - self.at

    def skip(self, count: int) -> int:
        """Position of the next `count` bits, which are then behind."""
        if count > self.left:
            raise FormatError(f"a TTHRESH stream ends early: {count} bits expected, {self.left} are left")
        start, self.at = self.at, self.at + count
        return start

    def read(self, count: int) -> int:
        return int(get(self.words, self.skip(count), count))

    def close(self) -> int:
        """Bytes of the stream, its last word included."""
        return 8 * -(-self.at // 64)


class Writer:
    """A stream that grows; `words` are zero from bit `at` on."""

    def __init__(self, words: np.ndarray | None = None, at: int = 0) -> None:
        self.words = np.zeros(64, np.uint64) if words is None else words
        self.at = at

    def reserve(self, count: int) -> None:
        """Room for `count` more bits."""
        needed = (self.at + count) // 64 + 2
        if needed > len(self.words):
            grown = np.zeros(needed + needed // 4, np.uint64)
            grown[: len(self.words)] = self.words
            self.words = grown

    def write(self, value: int, count: int) -> None:
        self.reserve(count)
        self.at = put(self.words, self.at, np.uint64(value), count)

    def append(self, other: Writer) -> None:
        """Add all bits of another stream."""
        self.reserve(other.at + 64)
        self.at = _copy(self.words, self.at, other.words, other.at)

    def fork(self, at: int) -> Writer:
        """A copy of the first `at` bits."""
        words = self.words[: at // 64 + 2].copy()
        words[at // 64 + 1 :] = 0
        words[at // 64] &= ~np.uint64((1 << (64 - at % 64)) - 1)
        return Writer(words, at)

    def tobytes(self) -> bytes:
        """The stream, closed."""
        return self.words[: -(-self.at // 64)].astype("<u8").tobytes()


# ------------------------------------------------------------------------------------------------------- run lengths


def write_runs(out: Writer, runs: np.ndarray) -> None:
    """Frequencies of the values in `runs` (int64), then their arithmetic code."""
    if len(runs) > MOST_SYMBOLS:
        raise InputError(f"tthresh: {len(runs)} runs in a bit plane, the format's coder takes {MOST_SYMBOLS}")
    keys, counts = _histogram(runs)
    cumulated = np.concatenate([[0], np.cumsum(counts)])
    entropy = float(-(counts * np.log2(counts / max(len(runs), 1))).sum())
    # Its intervals are rounded: a little worse than the entropy.
    out.reserve(int(entropy + len(runs) * (0.01 + len(runs) / _QUARTER * 4)) + 140 * len(keys) + 512)
    out.write(len(keys), 64)
    out.at = _put_model(out.words, out.at, keys, counts)
    out.write(len(runs), 64)
    out.at = _encode(out.words, out.at, runs, keys, cumulated)


def read_runs(source: Reader, most: int) -> np.ndarray:
    """The list, of at most `most` run lengths.

    Raises
    ------
    FormatError
        If the model or the code makes no sense.
    """
    distinct = source.read(64)
    # An entry has at least 14 bits.
    if distinct > min(most, source.left // 14):
        raise FormatError(f"a TTHRESH stream lists {distinct} run lengths in {source.left} bits")
    keys, cumulated = np.empty(distinct, np.int64), np.zeros(distinct + 1, np.int64)
    end = _get_model(source.words, source.at, source.size, keys, cumulated)
    if end < 0:
        raise FormatError("the run lengths of a TTHRESH stream are out of order or their frequencies are not positive")
    source.at = end
    count = source.read(64)
    if count != cumulated[-1] or count > min(most, MOST_SYMBOLS):
        raise FormatError(f"a TTHRESH stream has {count} runs where {cumulated[-1]} and at most {most} fit")
    runs = np.empty(count, np.int64)
    if count == 0:
        source.skip(32)
        return runs
    end = _decode(source.words, source.at, source.size, runs, keys, cumulated)
    if end < 0:
        raise FormatError("the run lengths of a TTHRESH stream reach past its end")
    source.at = end
    return runs


@njit(cache=True)
def _histogram(runs):
    table = np.zeros(_SHORT, np.int64)
    long = 0
    for run in runs:
        if run < _SHORT:
            table[run] += 1
        else:
            long += 1
    rest = np.empty(long, np.int64)
    long = 0
    for run in runs:
        if run >= _SHORT:
            rest[long] = run
            long += 1
    rest.sort()
    size = 0
    for i in range(_SHORT):
        size += table[i] > 0
    for i in range(len(rest)):
        size += i == 0 or rest[i] != rest[i - 1]
    keys, counts = np.empty(size, np.int64), np.zeros(size, np.int64)
    at = 0
    for i in range(_SHORT):
        if table[i]:
            keys[at], counts[at] = i, table[i]
            at += 1
    for i in range(len(rest)):
        if i == 0 or rest[i] != rest[i - 1]:
            keys[at] = rest[i]
            at += 1
        counts[at - 1] += 1
    return keys, counts


@njit(cache=True)
def _length(value):
    bits = 1
    while value >> bits:
        bits += 1
    return bits


@njit(cache=True)
def _put_model(words, at, keys, counts):
    for i in range(len(keys)):
        for value in (keys[i], counts[i]):
            bits = _length(value)
            at = put(words, at, bits, 6)
            at = put(words, at, value, bits)
    return at


@njit(cache=True)
def _get_model(words, at, end, keys, cumulated):
    before = np.int64(-1)
    for i in range(len(keys)):
        key = count = np.int64(0)
        for part in range(2):
            if at + 6 > end:
                return -1
            bits = np.int64(get(words, at, 6))
            at += 6
            if at + bits > end:
                return -1
            value = np.int64(get(words, at, bits))
            at += bits
            if part == 0:
                key = value
            else:
                count = value
        if key <= before or count < 1 or count > MOST_SYMBOLS or cumulated[i] > MOST_SYMBOLS:
            return -1
        before = key
        keys[i] = key
        cumulated[i + 1] = cumulated[i] + count
    return at


@njit(cache=True)
def _index(keys, key):
    low, high = 0, len(keys) - 1
    while low < high:
        middle = (low + high) >> 1
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def _repeat(words, at, bit, count):
    if bit:
        for i in range(at, at + count):
            words[i >> 6] |= np.uint64(1) << np.uint64(63 - (i & 63))
    return at + count


@njit(cache=True)
def _encode(words, at, runs, keys, cumulated):
    indices = np.zeros(_SHORT, np.int32)
    for i in range(len(keys)):
        if keys[i] < _SHORT:
            indices[keys[i]] = i
    total = cumulated[-1]
    low, high, pending = np.int64(0), np.int64(_FULL), 0
    for run in runs:
        i = np.int64(indices[run]) if run < _SHORT else _index(keys, run)
        span = high - low + 1
        high = low + span * cumulated[i + 1] // total - 1
        low += span * cumulated[i] // total
        while True:
            if high < _HALF:
                at = _repeat(words, at + 1, 1, pending)
                pending = 0
            elif low >= _HALF:
                at = _repeat(words, _repeat(words, at, 1, 1), 0, pending)
                pending = 0
                low -= _HALF
                high -= _HALF
            elif low >= _QUARTER and high < _HALF + _QUARTER:
                pending += 1
                low -= _QUARTER
                high -= _QUARTER
            else:
                break
            low = 2 * low
            high = 2 * high + 1
    pending += 1
    if low < _QUARTER:
        at = _repeat(words, at + 1, 1, pending)
    else:
        at = _repeat(words, _repeat(words, at, 1, 1), 0, pending)
    return at + 30


@njit(cache=True)
def _decode(words, at, end, runs, keys, cumulated):
    total = cumulated[-1]
    shift = 0
    while total >> shift > _BUCKETS:
        shift += 1
    first = np.zeros((total >> shift) + 1, np.int32)  # index to start from, by the value's upper bits
    i = 0
    for bucket in range(len(first)):
        while cumulated[i + 1] <= bucket << shift and i + 1 < len(keys):
            i += 1
        first[bucket] = i
    low, high = np.int64(0), np.int64(_FULL)
    code = np.int64(get(words, at, 32))
    at += 32
    for j in range(len(runs)):
        span = high - low + 1
        value = ((code - low + 1) * total - 1) // span
        i = np.int64(first[value >> shift])
        while cumulated[i + 1] <= value:
            i += 1
        runs[j] = keys[i]
        high = low + span * cumulated[i + 1] // total - 1
        low += span * cumulated[i] // total
        while True:
            if high < _HALF:
                pass
            elif low >= _HALF:
                low -= _HALF
                high -= _HALF
                code -= _HALF
            elif low >= _QUARTER and high < _HALF + _QUARTER:
                low -= _QUARTER
                high -= _QUARTER
                code -= _QUARTER
            else:
                break
            low = 2 * low
            high = 2 * high + 1
            bit = np.int64(words[at >> 6] >> np.uint64(63 - (at & 63))) & 1
            code = 2 * code + bit
            at += 1
        if at > end:
            return -1
    return at
