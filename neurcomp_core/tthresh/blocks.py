"""Array blocks: the bit planes of many coefficients, from the highest down.

A coefficient without a 1 so far adds to a list of run lengths, any other one a raw bit. The last plane may stop at a
coefficient, so the size of a block is tunable almost bit by bit (section 4 of the paper).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numba import njit

from neurcomp_core.errors import FormatError
from neurcomp_core.tthresh.bits import Reader, Writer, put, read_runs, write_runs

TOP = 63
#: The lowest plane written; bit 0 of a quantised coefficient holds its sign, far below what a double resolves.
BOTTOM = 1
BLOCK = 256


@dataclass(frozen=True, eq=False)
class Sparse:
    """The coefficients of a block that are not zero.

    Attributes
    ----------
    positions : ndarray of int64
        Ascending, in storage order.
    values : ndarray of float64
    """

    positions: np.ndarray
    values: np.ndarray


# -------------------------------------------------------------------------------------------------------- coefficients


@dataclass(frozen=True, eq=False)
class Coefficients:
    """Quantised coefficients of one block: magnitude ``|c| * scale`` in the upper 63 bits, sign in the lowest.

    Attributes
    ----------
    words : ndarray of uint64
    peaks, sums : ndarray
        Bitwise or of each 256 of them (uint64), and the sum of their squares.
    counts, energies : ndarray
        How many coefficients have their highest 1 in a plane, and the sum of their squares.
    scale : float
        A power of two.
    """

    words: np.ndarray
    peaks: np.ndarray
    sums: np.ndarray
    counts: np.ndarray
    energies: np.ndarray
    scale: float

    @property
    def size(self) -> int:
        return len(self.words)

    def cut(self, error: float) -> tuple[int, int, float]:
        """Where to stop for a sum of squared errors of about `error`.

        Within a plane the sum is exact; which plane it is rests on errors being uniform within a step.

        Returns
        -------
        plane, stop : int
            The plane, and the coefficient in it.
        level : float
            The same as one number: `plane` for all of it, ``plane + 1`` for nothing of it.
        """
        zeros, kept = np.cumsum(self.energies), np.cumsum(self.counts[::-1])[::-1]
        errors = np.append(zeros[:-1] + kept[1:] * 4.0 ** np.arange(1, 64) / 12, zeros[-1])  # after plane 1, 2 ... 64
        plane = min(max(int(np.searchsorted(errors, error, "right")), BOTTOM), TOP)
        after, before = np.log(np.maximum(errors[plane - 1 : plane + 1], 1e-300))
        share = (np.log(max(error, 1e-300)) - after) / (before - after) if before > after else 0.0
        return plane, _stop(self.words, self.peaks, self.sums, plane, error), plane + min(max(share, 0.0), 1.0)

    def dense(self, plane: int) -> bool:
        """Whether `plane` has raw bits alone, as more than 80 % of the one above were raw."""
        return 5 * int(self.counts[plane + 2 :].sum()) > 4 * self.size

    def error(self, plane: int, stop: int) -> float:
        """Sum of squared errors, in units of the quantised magnitudes, of a block that ends there."""
        return _error(self.words, plane, stop)


def quantise(values: np.ndarray) -> Coefficients:
    """Coefficients of a contiguous float64 array, whose memory they take over."""
    flat = values.reshape(-1)
    largest = _largest(flat)
    scale = 2.0 ** (TOP + 1 - int(np.frexp(largest)[1])) if largest > 0 else 1.0
    words = flat.view(np.uint64)
    peaks = np.zeros(-(-len(words) // BLOCK), np.uint64)
    sums = np.zeros(len(peaks))
    counts, energies = np.zeros(64, np.int64), np.zeros(64)
    _quantise(flat, words, scale, peaks, sums, counts, energies)
    return Coefficients(words, peaks, sums, counts, energies, scale)


@njit(cache=True)
def _largest(values):
    largest = 0.0
    for v in values:
        largest = max(largest, abs(v))
    return largest


@njit(cache=True)
def _top(word):
    top = 0
    for step in (32, 16, 8, 4, 2, 1):
        if word >> np.uint64(top + step):
            top += step
    return top


@njit(cache=True)
def _quantise(values, words, scale, peaks, sums, counts, energies):
    for i in range(len(values)):
        value = values[i]
        magnitude = abs(value) * scale
        word = np.uint64(magnitude) & ~np.uint64(1)
        sums[i // BLOCK] += magnitude * magnitude
        if word:
            top = _top(word)
            counts[top] += 1
            energies[top] += magnitude * magnitude
            peaks[i // BLOCK] |= word
        else:
            energies[0] += magnitude * magnitude
        words[i] = word | np.uint64(value < 0)


@njit(cache=True)
def is_known(word, plane):
    """Whether a coefficient has a 1 in `plane` or above; there is none above the highest."""
    return plane <= TOP and word >> np.uint64(plane) != 0


@njit(cache=True)
def _miss(word, plane):
    """Error of a magnitude known down to `plane`, in the middle of its step if it is not 0."""
    word &= ~np.uint64(1)
    if not is_known(word, plane):
        return np.float64(word)
    half = np.int64(1) << (plane - 1)
    return np.float64(np.int64(word & ((np.uint64(1) << np.uint64(plane)) - np.uint64(1))) - half)


@njit(cache=True)
def _error(words, plane, stop):
    total = 0.0
    for i in range(len(words)):
        miss = _miss(words[i], plane if i < stop else plane + 1)
        total += miss * miss
    return total


@njit(cache=True)
def _stop(words, peaks, sums, plane, error):
    total = 0.0
    for block in range(len(peaks)):
        if not is_known(peaks[block], plane + 1):
            total += sums[block]
            continue
        for i in range(block * BLOCK, min((block + 1) * BLOCK, len(words))):
            miss = _miss(words[i], plane + 1)
            total += miss * miss
    for block in range(len(peaks)):
        if total <= error:
            return block * BLOCK
        if not is_known(peaks[block], plane):
            continue
        for i in range(block * BLOCK, min((block + 1) * BLOCK, len(words))):
            if total <= error:
                return i
            coarse, fine = _miss(words[i], plane + 1), _miss(words[i], plane)
            total += fine * fine - coarse * coarse
    return len(words)


# ------------------------------------------------------------------------------------------------------------- writing


class BlockWriter:
    """Writes one block; its whole planes are coded once, however many endings are tried.

    Parameters
    ----------
    coefficients : Coefficients
    scale : float
        What a reader divides magnitudes by.
    """

    def __init__(self, coefficients: Coefficients, scale: float) -> None:
        self._c = coefficients
        self._whole = Writer()
        (bits,) = struct.unpack("<Q", struct.pack("<d", scale))
        self._whole.write(bits, 64)
        self._ends = {TOP + 1: self._whole.at}

    def write(self, plane: int, stop: int) -> Writer:
        """The block that ends before coefficient `stop` of `plane`."""
        for p in range(min(self._ends) - 1, plane, -1):
            self._plane(self._whole, p, self._c.size, False)
            self._ends[p] = self._whole.at
        out = self._whole.fork(self._ends[plane + 1])
        self._plane(out, plane, stop, True)
        out.reserve(self._c.size if plane < 8 else int(self._c.counts[plane:].sum()))
        out.at = _put_signs(out.words, out.at, self._c.words, self._c.peaks, plane, stop)
        return out

    def _plane(self, out: Writer, plane: int, stop: int, done: bool) -> None:
        c, dense = self._c, self._c.dense(plane)
        out.reserve(64 + (c.size if dense else int(c.counts[plane + 1 :].sum())))
        runs = np.zeros(1 if dense else int(c.counts[plane]) + 1, np.int64)
        start = out.at
        raws, count = _put_plane(out.words, start + 64, c.words, c.peaks, plane, stop, dense, runs)
        put(out.words, start, np.uint64(raws), 64)
        out.at = start + 64 + raws
        write_runs(out, runs[:count])
        out.write(dense or c.dense(plane - 1), 1)
        out.write(done, 1)


@njit(cache=True)
def _put_plane(out, at, words, peaks, plane, stop, all_raw, runs):
    shift = np.uint64(plane)
    start, count, run = at, 0, 0
    one = np.uint64(1)
    for block in range(-(-stop // BLOCK)):
        first, last = block * BLOCK, min((block + 1) * BLOCK, stop)
        if not all_raw and not peaks[block] >> shift:
            run += last - first
            continue
        for i in range(first, last):
            bits = words[i] >> shift
            if all_raw or bits > one:
                if bits & one:
                    out[at >> 6] |= one << np.uint64(63 - (at & 63))
                at += 1
            elif bits:
                runs[count] = run
                count += 1
                run = 0
            else:
                run += 1
    # A plane of raw bits alone has a list, too: of one 0.
    runs[count] = run
    return at - start, count + 1


@njit(cache=True)
def _put_signs(out, at, words, peaks, plane, stop):
    for block in range(len(peaks)):
        if not peaks[block] >> np.uint64(plane):
            continue
        for i in range(block * BLOCK, min((block + 1) * BLOCK, len(words))):
            if is_known(words[i], plane if i < stop else plane + 1):
                if not words[i] & np.uint64(1):
                    out[at >> 6] |= np.uint64(1) << np.uint64(63 - (at & 63))
                at += 1
    return at


# ------------------------------------------------------------------------------------------------------------- reading


def read_block(source: Reader, size: int) -> Sparse:
    """Decode a block of `size` coefficients.

    What is held never exceeds a few words for each bit of the stream: a coefficient that is not zero has a sign.

    Raises
    ------
    FormatError
        If the block contradicts itself or its stream ends early.
    """
    (scale,) = struct.unpack("<d", struct.pack("<Q", source.read(64)))
    positions, words = np.empty(0, np.int64), np.empty(0, np.uint64)
    all_raw = done = False
    plane, stop = TOP, size
    while not done:
        if plane < 0:
            raise FormatError("a TTHRESH block has more than 64 bit planes")
        count = source.read(64)
        if count > len(positions):
            raise FormatError(f"a TTHRESH bit plane has {count} raw bits for {len(positions)} coefficients")
        start = source.skip(count)
        runs = read_runs(source, min(size - len(positions) + 1, source.left + 1))
        if all_raw and (len(runs) > 1 or runs.any()):
            raise FormatError("a TTHRESH bit plane has runs where none can be")
        raw_now, done = source.read(1), source.read(1)
        stop, fresh = _stop_of(positions, count, runs, size, np.empty(max(len(runs) - 1, 0), np.int64))
        if stop < 0 or (stop < size and not done):
            raise FormatError("the run lengths and raw bits of a TTHRESH bit plane do not add up to its block")
        _add_bits(source.words, start, count, words, plane)
        positions, words = _merge(positions, words, fresh, np.uint64(1 << plane))
        if raw_now and not all_raw:
            if size > 2 * source.size:
                raise FormatError("a TTHRESH block is said to be dense, but its stream is short")
            positions, words = _merge_all(positions, words, size)
            all_raw = True
        plane -= 1
    plane += 1
    signed = int(np.count_nonzero(words)) if all_raw else len(words)
    if signed and not 0 < scale < np.inf:
        raise FormatError(f"the scale of a TTHRESH block is {scale}")
    values = words.view(np.float64)
    # In place: a value is read before it is written.
    _values(source.words, source.skip(signed), positions, words, values, plane, stop, scale)
    if all_raw:
        kept = values != 0
        positions, values = positions[kept], values[kept]
    if not np.isfinite(values).all():
        raise FormatError("the coefficients of a TTHRESH block are out of range")
    return Sparse(positions, values)


@njit(cache=True)
def _stop_of(positions, raws, runs, size, fresh):
    """Where a plane's bits end, and the coefficients that have their first 1 in it; -1 if they contradict."""
    tracked, k, at = len(positions), 0, 0
    for j in range(len(runs)):
        left = runs[j]
        if left > size:
            return -1, fresh
        while k < tracked and positions[k] - at <= left:
            left -= positions[k] - at
            at = positions[k] + 1
            k += 1
        at += left
        if at > size or (at == size and j < len(runs) - 1):
            return -1, fresh
        if j < len(runs) - 1:
            fresh[j] = at
            at += 1
    while k < tracked and positions[k] == at:
        at += 1
        k += 1
    stop = at
    if raws < tracked:
        stop = min(stop, positions[raws])
    # All known bits lie before the stop, and no coefficient before it lacks one.
    if len(fresh) and fresh[-1] >= stop:
        return -1, fresh
    if raws and positions[raws - 1] >= stop:
        return -1, fresh
    return stop, fresh


@njit(cache=True)
def _add_bits(source, at, count, words, plane):
    for k in range(count):
        bit = source[at >> 6] >> np.uint64(63 - (at & 63)) & np.uint64(1)
        words[k] |= bit << np.uint64(plane)
        at += 1


@njit(cache=True)
def _merge(positions, words, fresh, value):
    size = len(positions) + len(fresh)
    if len(fresh) == 0:
        return positions, words
    new_positions, new_words = np.empty(size, np.int64), np.empty(size, np.uint64)
    i = j = 0
    for k in range(size):
        if j == len(fresh) or (i < len(positions) and positions[i] < fresh[j]):
            new_positions[k] = positions[i]
            new_words[k] = words[i]
            i += 1
        else:
            new_positions[k] = fresh[j]
            new_words[k] = value
            j += 1
    return new_positions, new_words


def _merge_all(positions: np.ndarray, words: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    everything = np.zeros(size, np.uint64)
    everything[positions] = words
    return np.arange(size), everything


@njit(cache=True)
def _values(source, at, positions, words, values, plane, stop, scale):
    for k in range(len(words)):
        word = words[k]
        if word == 0:
            values[k] = 0.0
            continue
        known = plane if positions[k] < stop else plane + 1
        half = np.uint64(1) << np.uint64(known - 1) if known else np.uint64(0)
        value = np.float64(word + half) / scale
        positive = source[at >> 6] >> np.uint64(63 - (at & 63)) & np.uint64(1)
        values[k] = value if positive else -value
        at += 1
