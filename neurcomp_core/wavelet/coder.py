"""Entropy coding of quantised coefficients with online-mixed, predictive context models, in integers throughout.

Each coefficient gets a prediction of its value (a weighted sum of neighbours that are already coded, `prediction`) and
of how far off that may be (a weighted sum of neighbouring misses, of the parent's and of the sibling subbands'
magnitudes). What is coded is the miss, in units that grow with the expected miss: is it zero, its sign, its size in
unary, its low bits. Six adaptive models look at each decision from different sides; two gated neurons mix them in the
logistic domain, their mean goes through an adaptive probability map (Mahoney, "Adaptive weighing of context models for
lossless data compression", 2005), and a range coder takes the result (Martin, "Range encoding", 1979).

No float takes part, so every machine decodes the same coefficients.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from neurcomp_core.coding.mixing import RATES, SQUASH, STRETCH

#: Coefficients wait in a flat buffer with this many zeros on either side of each axis.
PAD = 2
#: Levels told apart by the models, from the finest.
LEVELS = 10
#: Fixed point: predicted values have 12 fractional bits, expected misses 4.
MU_BITS = 12
_KINDS, _INPUTS, _SPAN = 8, 6, 4096
_CLAMP = 2815
_UNARY = 16
_QUIET = _KINDS * _INPUTS * _SPAN
_LOW = _QUIET + LEVELS * 8
_MODELS = _LOW + 32 * 8
_GATES, _SCALES = 12, 48
_SETS_B = _KINDS * _GATES
_SETS = _SETS_B + _KINDS * LEVELS * 8
_TOP = 1 << 24
#: No coefficient is larger.
_MOST = (1 << 31) - 1
#: Weights in 1/65536 that a coder starts with: for zeros, for signs, for sizes.
_USUAL = np.array([[15, 13, 13, 9, 6, 19], [6, 8, 9, 7, 21, 19], [12, 12, 12, 11, 8, 15]], np.int32) << 10
#: Learning rates of a set of weights by how often it has learned.
_STEPS = np.array([3 + 13 * 48 // (48 + n) for n in range(1024)], np.int32)
_LOGS = np.minimum(np.round(4 * np.log2(1 + np.arange(65536) / 8)), 63).astype(np.uint8)
# As small as they go: the processor keeps them close.
_STRETCH, _SQUASH, _RATES = STRETCH.astype(np.int16), SQUASH.astype(np.uint16), RATES.astype(np.int32)


def new_state() -> tuple[np.ndarray, ...]:
    """Models, weights and maps of a coder that has seen nothing but knows what is usual."""
    models = np.full(_MODELS, 1 << 31, np.uint32)
    for kind in range(_KINDS):
        if kind == 1:
            continue
        for c3 in range(_SCALES):
            # A size of at least 1 (further units) is the likelier, the more is expected.
            scale = min(c3, 13)
            logit = (87 * scale - 461 if scale else -1040) if kind == 0 else 107 * scale - 1000
            state = (int(SQUASH[logit + _CLAMP]) << 16) + 4
            h = kind * _INPUTS * _SPAN
            models[h + 5 * _SPAN + c3 * 48 : h + 5 * _SPAN + c3 * 48 + 48] = state
            if c3 < 30 and c3 % 2:
                at = h + 3 * _SPAN + (c3 >> 1) * 32
                models[at : at + 32] = state
    weights = np.empty((_SETS, _INPUTS), np.int32)
    weights[:] = _USUAL[2]
    for kind in range(2):
        weights[kind * _GATES : (kind + 1) * _GATES] = _USUAL[kind]
        weights[_SETS_B + kind * LEVELS * 8 : _SETS_B + (kind + 1) * LEVELS * 8] = _USUAL[kind]
    learned = np.zeros(_SETS, np.int32)
    row = SQUASH[np.minimum(np.arange(33) * 176, 2 * _CLAMP)] << 6
    maps = np.broadcast_to(row.astype(np.int32), (_KINDS * _SCALES, 33)).copy()
    return models, weights, learned, maps


@njit(cache=True, nogil=True)
def _emit(coder, out):
    """Move the top byte of `low` on its way out; bytes beyond the end of `out` are counted only."""
    low = coder[0]
    if low < 0xFF000000 or low > 0xFFFFFFFF:
        carry = low >> 32
        byte = coder[2]
        position = coder[4]
        for _ in range(coder[3]):
            if 0 < position <= len(out):
                out[position - 1] = (byte + carry) & 0xFF
            position += 1
            byte = 0xFF
        coder[4] = position
        coder[3] = 0
        coder[2] = (low >> 24) & 0xFF
    coder[3] = coder[3] + 1
    coder[0] = (low & 0x00FFFFFF) << 8


@njit(cache=True, nogil=True, inline="always")
def _code(encoding, coder, data, p, bit):
    """Code one decision; `p` of 65536 is the probability of a 1."""
    width = coder[1]
    bound = (width >> 16) * p
    if encoding:
        coder[0] += 0 if bit else bound
    else:
        bit = 1 if coder[0] < bound else 0
        coder[0] -= 0 if bit else bound
    width = bound if bit else width - bound
    while width < _TOP:
        width <<= 8
        if encoding:
            _emit(coder, data)
        else:
            position = coder[4]
            byte = data[position] if position < len(data) else 0
            coder[0] = ((coder[0] << 8) | byte) & 0xFFFFFFFF
            coder[4] = position + 1
    coder[1] = width
    return bit


@njit(cache=True, nogil=True, inline="always")
def _stretched(state):
    """A model's probability in the logistic domain."""
    return np.int64(_STRETCH[state >> 20])


@njit(cache=True, nogil=True, inline="always")
def _adapted(state, bit):
    """A model after a decision: 22 bits of probability, 10 of how often it has seen one."""
    count = np.int64(state & 1023)
    probability = np.int64(state >> 10)
    probability += (((bit << 22) - probability) * _RATES[min(count, 255)]) >> 16
    return (probability << 10) | min(count + 1, 255)


@njit(cache=True, nogil=True, inline="always")
def _scale(value):
    """About four steps an octave of a value in sixteenths."""
    return np.int64(_LOGS[np.uintp(min(value, 65535))])


@njit(cache=True, nogil=True)
def code_block(
    encoding, coder, data, models, weights, learned, maps, q, miss, base, shape, strides, near, far, taps, factors,
    parent, above_of, halved, family, relatives, level, orient,
):  # fmt: skip
    """Code one block of a subband, in the order of its samples.

    Parameters
    ----------
    encoding : bool
    coder, data : ndarray
        Range coder (5 int64, as `coding.mixing`) and its bytes.
    models, weights, learned, maps : ndarray
        State (`new_state`), which learns.
    q, miss : ndarray of int32
        Flat buffers of all coefficients, and of how far off each one's prediction was, in sixteenths.
    base, shape, strides : int, tuple of 3 int, tuple of 2 int
        Where the block lies in them; the last axis has stride 1.
    near, far : ndarray of int
        Offsets of the 3 + 6 neighbours before a sample at distance 1 and on diagonals, and of the 3 at distance 2.
    taps, factors : ndarray of int
        Offsets and weights (`MU_BITS` fractional bits) that predict the value.
    parent, family : ndarray ``(z, y, x)`` of int32
        Smoothed magnitudes, in sixteenths, of the same subband one level coarser (may be empty), and of the subbands
        at the same place that are already coded, summed.
    above_of, halved : int, tuple of 3 int
        Block's sample z lies above sample ``((above_of + z) >> halved[0])`` of `parent`; likewise y and x.
    relatives : int
        Number of subbands in `family`.
    level, orient : int
        Levels above the finest; which axes are high-pass.
    """
    place = min(level, LEVELS - 1) * 8 + orient
    share = 0 if relatives == 0 else 65536 // relatives
    has_parent = parent.size > 0
    n_near = len(near)
    for z in range(shape[0]):
        up_z = min((above_of + z) >> halved[0], parent.shape[0] - 1)
        for y in range(shape[1]):
            up_y = min(y >> halved[1], parent.shape[1] - 1)
            p = base + z * strides[0] + y * strides[1] - 1
            for x in range(shape[2]):
                p += 1
                w, n, u = miss[p + near[0]], miss[p + near[1]], miss[p + near[2]]
                around = 0
                for k in range(3, n_near):
                    around += miss[p + near[k]]
                beyond = miss[p + far[0]] + miss[p + far[1]] + miss[p + far[2]]
                above = parent[up_z, up_y, min(x >> halved[2], parent.shape[2] - 1)] if has_parent else 0
                beside = (family[z, y, x] * share) >> 16
                close = w + n + u
                value = q[p]
                if close + around + beyond + above + beside == 0:
                    # Nothing nearby: one model, no mixing.
                    m = _QUIET + place
                    state = models[m]
                    chance = max(state >> 16, 1)
                    bit = _code(encoding, coder, data, np.int64(chance), 1 if value != 0 else 0)
                    models[m] = _adapted(state, bit)
                    if not bit:
                        continue
                    quiet = True
                else:
                    quiet = False
                mu = 0
                # A quiet place was coded as one that is not zero, which only a prediction of zero makes a miss.
                for k in range(0 if quiet else len(taps)):
                    mu += factors[k] * q[p + taps[k]]
                flip = mu < 0
                mu = abs(mu)
                if has_parent:
                    if relatives:
                        expected = (54 * close + 11 * around + 5 * beyond + 6 * above + 16 * beside) >> 8
                    else:
                        expected = (56 * close + 11 * around + 8 * beyond + 12 * above) >> 8
                elif relatives:
                    expected = (56 * close + 9 * around + 14 * beyond + 14 * beside) >> 8
                else:
                    expected = (56 * close + 14 * (beyond + around)) >> 8
                le = _scale(expected)
                shift = 0
                t = expected // 96
                while t > 0:
                    t >>= 1
                    shift += 1
                center = (mu + (1 << (MU_BITS - 1))) >> MU_BITS
                if shift == 0:
                    part = (((mu + (1 << (MU_BITS - 1))) & ((1 << MU_BITS) - 1)) * 6) >> MU_BITS
                    form = min(center, 3) * 6 + part
                    c3 = min(le, 29)
                else:
                    form = 21
                    c3 = 30 + min(max(le - 4 * shift - 11, 0), 5) + 6 * min(shift - 1, 2)
                center -= (1 << shift) >> 1
                lb, la, lc, ld = _scale(beside), _scale(above), _scale((close * 5) >> 4), _scale((around * 3) >> 4)
                c0 = (min(lc >> 1, 7) * 8 + min(lb >> 1, 7)) * 8 + min(la >> 1, 7)
                c1 = ((min((w + 8) >> 4, 3) * 4 + min((n + 8) >> 4, 3)) * 4 + min((u + 8) >> 4, 3)) * 4
                c1 += min((beside + 8) >> 4, 3)
                c2 = min(lb, 23) * 12 + min(ld, 11)
                c4 = min(le >> 1, 15) * 16 + min(_scale(above + beside) >> 1, 15)
                c5 = place * 24 + form
                c6 = c3 * 24 + form
                gate = min(le >> 1, _GATES - 1)
                if flip:
                    value = -value
                miss_units = (value - center) >> shift
                size = abs(miss_units)
                k = 0
                side = 0
                units = 0
                while True:
                    kind = min(k, _KINDS - 1)
                    if k == 0:
                        bit = 1 if size > 0 else 0
                    elif k == 1:
                        bit = 1 if miss_units > 0 else 0
                    else:
                        bit = 1 if size > k - 1 else 0
                    h = kind * _INPUTS * _SPAN
                    i0 = np.uintp(h + c0 * 2 + side)
                    i1 = np.uintp(h + _SPAN + c1 * 2 + side)
                    i2 = np.uintp(h + 2 * _SPAN + c2 * 2 + side)
                    i3 = np.uintp(h + 3 * _SPAN + c4 * 2 + side)
                    i4 = np.uintp(h + 4 * _SPAN + c5 * 2 + side)
                    i5 = np.uintp(h + 5 * _SPAN + c6 * 2 + side)
                    m0, m1, m2, m3, m4, m5 = models[i0], models[i1], models[i2], models[i3], models[i4], models[i5]
                    s0, s1, s2 = _stretched(m0), _stretched(m1), _stretched(m2)
                    s3, s4, s5 = _stretched(m3), _stretched(m4), _stretched(m5)
                    set_a = np.uintp(kind * _GATES + gate)
                    set_b = np.uintp(_SETS_B + kind * (LEVELS * 8) + place)
                    sum_a = (
                        weights[set_a, 0] * s0 + weights[set_a, 1] * s1 + weights[set_a, 2] * s2
                        + weights[set_a, 3] * s3 + weights[set_a, 4] * s4 + weights[set_a, 5] * s5
                    )  # fmt: skip
                    sum_b = (
                        weights[set_b, 0] * s0 + weights[set_b, 1] * s1 + weights[set_b, 2] * s2
                        + weights[set_b, 3] * s3 + weights[set_b, 4] * s4 + weights[set_b, 5] * s5
                    )  # fmt: skip
                    sum_a = max(min(sum_a >> 16, _CLAMP), -_CLAMP)
                    sum_b = max(min(sum_b >> 16, _CLAMP), -_CLAMP)
                    p_a = np.int64(_SQUASH[np.uintp(sum_a + _CLAMP)])
                    p_b = np.int64(_SQUASH[np.uintp(sum_b + _CLAMP)])
                    mean = ((sum_a + sum_b) >> 1) + _CLAMP
                    # The map has a knot every 176 units: 32 * 176 = 2 * 2816.
                    knot = mean // 176
                    rest = mean - knot * 176
                    row = kind * _SCALES + c3
                    mapped = (maps[row, knot] * (176 - rest) + maps[row, knot + 1] * rest) // 176
                    chance = (np.int64(_SQUASH[np.uintp(mean)]) + (mapped >> 6)) >> 1
                    chance = max(min(chance, 65535), 1)
                    if not (quiet and k == 0):
                        bit = _code(encoding, coder, data, chance, bit)
                        error_a = ((bit << 16) - p_a) * np.int64(_STEPS[learned[set_a]])
                        error_b = ((bit << 16) - p_b) * np.int64(_STEPS[learned[set_b]])
                        learned[set_a] = min(learned[set_a] + 1, 1023)
                        learned[set_b] = min(learned[set_b] + 1, 1023)
                        weights[set_a, 0] += (s0 * error_a + (1 << 15)) >> 16
                        weights[set_b, 0] += (s0 * error_b + (1 << 15)) >> 16
                        models[i0] = _adapted(m0, bit)
                        weights[set_a, 1] += (s1 * error_a + (1 << 15)) >> 16
                        weights[set_b, 1] += (s1 * error_b + (1 << 15)) >> 16
                        models[i1] = _adapted(m1, bit)
                        weights[set_a, 2] += (s2 * error_a + (1 << 15)) >> 16
                        weights[set_b, 2] += (s2 * error_b + (1 << 15)) >> 16
                        models[i2] = _adapted(m2, bit)
                        weights[set_a, 3] += (s3 * error_a + (1 << 15)) >> 16
                        weights[set_b, 3] += (s3 * error_b + (1 << 15)) >> 16
                        models[i3] = _adapted(m3, bit)
                        weights[set_a, 4] += (s4 * error_a + (1 << 15)) >> 16
                        weights[set_b, 4] += (s4 * error_b + (1 << 15)) >> 16
                        models[i4] = _adapted(m4, bit)
                        weights[set_a, 5] += (s5 * error_a + (1 << 15)) >> 16
                        weights[set_b, 5] += (s5 * error_b + (1 << 15)) >> 16
                        models[i5] = _adapted(m5, bit)
                        at = knot if rest < 88 else knot + 1
                        maps[row, at] += ((bit << 22) - maps[row, at]) >> 6
                    else:
                        bit = 1
                    if k == 0:
                        if not bit:
                            break
                    elif k == 1:
                        side = bit
                        units = 1
                    else:
                        if not bit:
                            break
                        units = k
                    k += 1
                    if k > _UNARY:
                        break
                if k > _UNARY:
                    # Exp-Golomb of what is left.
                    left = size - units + 1
                    bits = 0
                    while encoding and (left >> (bits + 1)) > 0:
                        bits += 1
                    j = 0
                    while j < 40:
                        bit = _code(encoding, coder, data, 32768, 1 if j < bits else 0)
                        if not bit:
                            break
                        j += 1
                    result = 1
                    for i in range(j - 1, -1, -1):
                        result = (result << 1) | _code(encoding, coder, data, 32768, (left >> i) & 1)
                    units += result - 1
                if k == 0:
                    units = 0
                elif not side:
                    units = -units
                low = (value - center) & ((1 << shift) - 1)
                found = 0
                for i in range(shift - 1, -1, -1):
                    if i == shift - 1:
                        m = _LOW + min(shift, 15) * 16 + min(max(units, -4), 3) + 4
                        state = models[m]
                        bit = _code(encoding, coder, data, np.int64(max(min(state >> 16, 65535), 1)), (low >> i) & 1)
                        count = state & 1023
                        probability = np.int64(state >> 10)
                        probability += (((bit << 22) - probability) * RATES[count]) >> 16
                        models[m] = (probability << 10) | min(count + 1, 255)
                    else:
                        bit = _code(encoding, coder, data, 32768, (low >> i) & 1)
                    found = (found << 1) | bit
                value = (units << shift) + found + center
                off = abs((value << MU_BITS) - mu) >> (MU_BITS - 4)
                # Encoders stay below; what a damaged stream says must not wrap around either.
                value = max(min(-value if flip else value, _MOST), -_MOST)
                q[p] = value
                miss[p] = max(min(off, 65535), 1 if value != 0 else 0)
