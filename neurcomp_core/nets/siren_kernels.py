"""CPU kernels of the sine network in numba: values, and the gradients of a squared error.

A network comes *folded*: every weight times its omega and every matrix of a residual block times the w1 of its input,
so that a layer is ``sin(A x + c)``; and padded with zeros to `PAD` neurons, inputs and outputs, which leaves values and
gradients of the rest as they are, for the sine of nothing is nothing. Arrays are feature-major, ``(channels, points)``,
and go through all layers in blocks whose activations stay in the cache.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

#: Widths, inputs and outputs are multiples of this.
PAD = 4
#: Points per block.
BLOCK = 128

_NIL, _ONE, _HALF = np.float32(0), np.float32(1), np.float32(0.5)
_PER_PI = np.float32(0.3183098861837907)
# pi in two parts: the first has few enough bits that its products with small integers are exact.
_PI_HIGH, _PI_LOW = np.float32(3.140625), np.float32(9.67653589793e-4)

# Training may reassociate sums; decoding must not, so that results differ between machines by rounding alone.
_TRAIN = {"contract", "nsz", "reassoc"}
_EXACT = {"contract", "nsz"}


@njit(cache=True, inline="always")
def _reduced(x):
    """The multiple k of pi nearest to x: its sign ``(-1)**k``, and ``x - k pi``."""
    turns = np.int32(x * _PER_PI + (_HALF if x >= _NIL else -_HALF))
    k = np.float32(turns)
    return np.float32(1 - 2 * (turns & 1)), (x - k * _PI_HIGH) - k * _PI_LOW


@njit(cache=True, inline="always")
def _sine(sign, r):
    """Sine in ``[-pi/2, pi/2]`` by its minimax polynomial; off by less than 1e-7."""
    s = r * r
    p = np.float32(2.6000548e-6)
    p = p * s + np.float32(-1.9806615e-4)
    p = p * s + np.float32(8.3330173e-3)
    p = p * s + np.float32(-1.6666657e-1)
    return sign * (r + r * s * p)


@njit(cache=True, inline="always")
def _cosine(sign, r):
    s = r * r
    p = np.float32(-2.6051615e-7)
    p = p * s + np.float32(2.4760495e-5)
    p = p * s + np.float32(-1.3888378e-3)
    p = p * s + np.float32(4.1666638e-2)
    p = p * s + np.float32(-0.5)
    return sign * (_ONE + s * p)


@njit(cache=True, forceinline=True, fastmath=_EXACT)
def _layer(weight, bias, x, y, a, b):
    """``y = weight @ x + bias`` on one block; two outputs at a time in the lines `a`, `b` read every input once."""
    outputs, inputs = weight.shape
    for o in range(0, outputs, 2):
        for p in range(BLOCK):
            a[p] = bias[o]
            b[p] = bias[o + 1]
        for i in range(0, inputs, 4):
            a0, a1, a2, a3 = weight[o, i], weight[o, i + 1], weight[o, i + 2], weight[o, i + 3]
            b0, b1, b2, b3 = weight[o + 1, i], weight[o + 1, i + 1], weight[o + 1, i + 2], weight[o + 1, i + 3]
            for p in range(BLOCK):
                x0, x1, x2, x3 = x[i, p], x[i + 1, p], x[i + 2, p], x[i + 3, p]
                a[p] = a[p] + a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3
                b[p] = b[p] + b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3
        for p in range(BLOCK):
            y[o, p] = a[p]
            y[o + 1, p] = b[p]


@njit(cache=True, forceinline=True, fastmath=_TRAIN)
def _layer_back(weight, d, upstream, add, a, b):
    """``upstream = weight.T @ d`` (or plus it) on one block."""
    outputs, inputs = weight.shape
    for i in range(0, inputs, 2):
        for p in range(BLOCK):
            a[p] = upstream[i, p] if add else _NIL
            b[p] = upstream[i + 1, p] if add else _NIL
        for o in range(0, outputs, 4):
            a0, a1, a2, a3 = weight[o, i], weight[o + 1, i], weight[o + 2, i], weight[o + 3, i]
            b0, b1, b2, b3 = weight[o, i + 1], weight[o + 1, i + 1], weight[o + 2, i + 1], weight[o + 3, i + 1]
            for p in range(BLOCK):
                x0, x1, x2, x3 = d[o, p], d[o + 1, p], d[o + 2, p], d[o + 3, p]
                a[p] = a[p] + a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3
                b[p] = b[p] + b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3
        for p in range(BLOCK):
            upstream[i, p] = a[p]
            upstream[i + 1, p] = b[p]


@njit(cache=True, forceinline=True, fastmath=_TRAIN)
def _layer_gradient(d, x, gradient, bias):
    """``gradient += d @ x.T`` and ``bias += d.sum()`` on one block."""
    outputs, inputs = gradient.shape
    for o in range(0, outputs, 2):
        da, db = d[o], d[o + 1]
        ta, tb = _NIL, _NIL
        for p in range(BLOCK):
            ta += da[p]
            tb += db[p]
        bias[o] += ta
        bias[o + 1] += tb
        for i in range(0, inputs, 4):
            x0, x1, x2, x3 = x[i], x[i + 1], x[i + 2], x[i + 3]
            s0, s1, s2, s3, t0, t1, t2, t3 = _NIL, _NIL, _NIL, _NIL, _NIL, _NIL, _NIL, _NIL
            for p in range(BLOCK):
                v, w = da[p], db[p]
                s0 += v * x0[p]
                s1 += v * x1[p]
                s2 += v * x2[p]
                s3 += v * x3[p]
                t0 += w * x0[p]
                t1 += w * x1[p]
                t2 += w * x2[p]
                t3 += w * x3[p]
            gradient[o, i] += s0
            gradient[o, i + 1] += s1
            gradient[o, i + 2] += s2
            gradient[o, i + 3] += s3
            gradient[o + 1, i] += t0
            gradient[o + 1, i + 1] += t1
            gradient[o + 1, i + 2] += t2
            gradient[o + 1, i + 3] += t3


@njit(cache=True, forceinline=True, fastmath=_EXACT)
def _sines(x):
    """``sin`` in place."""
    for i in range(x.shape[0]):
        row = x[i]
        for p in range(BLOCK):
            sign, r = _reduced(row[p])
            row[p] = _sine(sign, r)


@njit(cache=True, forceinline=True, fastmath=_TRAIN)
def _sines_and_cosines(x, slope):
    """``sin`` in place, ``cos`` into `slope`."""
    for i in range(x.shape[0]):
        row, other = x[i], slope[i]
        for p in range(BLOCK):
            sign, r = _reduced(row[p])
            row[p] = _sine(sign, r)
            other[p] = _cosine(sign, r)


@njit(cache=True, forceinline=True)
def _load(source, first, count, block):
    for i in range(block.shape[0]):
        for p in range(count):
            block[i, p] = source[i, first + p]
        for p in range(count, BLOCK):
            block[i, p] = _NIL


@njit(cache=True, parallel=True, fastmath=_EXACT)
def values(x, w_in, c_in, w_hidden, c_hidden, after, residual, w_out, c_out, y, threads):
    """Network at `x` ``(inputs, n)`` into `y` ``(outputs, n)``; `after` holds the w2 of each block."""
    n, width = x.shape[1], len(w_in)
    blocks = (n + BLOCK - 1) // BLOCK
    share = (blocks + threads - 1) // threads
    for t in prange(threads):
        bx = np.empty((x.shape[0], BLOCK), np.float32)
        la, lb = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
        by = np.empty((len(w_out), BLOCK), np.float32)
        h, s, u = (
            np.empty((width, BLOCK), np.float32),
            np.empty((width, BLOCK), np.float32),
            np.empty((width, BLOCK), np.float32),
        )
        for b in range(t * share, min(blocks, (t + 1) * share)):
            first = b * BLOCK
            count = min(BLOCK, n - first)
            _load(x, first, count, bx)
            _layer(w_in, c_in, bx, h, la, lb)
            _sines(h)
            for k in range(len(after)):
                if residual:
                    _layer(w_hidden[2 * k], c_hidden[2 * k], h, s, la, lb)
                    _sines(s)
                    _layer(w_hidden[2 * k + 1], c_hidden[2 * k + 1], s, u, la, lb)
                    _sines(u)
                    for i in range(width):
                        for p in range(BLOCK):
                            h[i, p] = after[k] * (h[i, p] + u[i, p])
                else:
                    _layer(w_hidden[k], c_hidden[k], h, s, la, lb)
                    _sines(s)
                    h, s = s, h
            _layer(w_out, c_out, h, by, la, lb)
            for i in range(y.shape[0]):
                for p in range(count):
                    y[i, first + p] = by[i, p]


@njit(cache=True, parallel=True, fastmath=_TRAIN)
def gradients(
    x, target, weight, w_in, c_in, w_hidden, c_hidden, after, residual, w_out, c_out, g_in, d_in, g_hidden, d_hidden,
    g_out, d_out, losses,
):  # fmt: skip
    """Gradients of ``sum(weight * (network(x) - target)**2)`` with respect to folded weights and biases.

    ``g_*`` and ``d_*`` hold one zeroed sum per thread in front of the shapes of weights and biases, `losses`
    ``(threads,)`` the losses; `target` and `weight` are ``(outputs, n)``.
    """
    n, width, inner = x.shape[1], len(w_in), len(w_hidden)
    threads = len(losses)
    blocks = (n + BLOCK - 1) // BLOCK
    share = (blocks + threads - 1) // threads
    for t in prange(threads):
        bx = np.empty((x.shape[0], BLOCK), np.float32)
        la, lb = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
        by = np.empty((len(w_out), BLOCK), np.float32)
        bt, bw = np.empty((len(w_out), BLOCK), np.float32), np.empty((len(w_out), BLOCK), np.float32)
        # Outputs and slopes of all sine layers, and inputs of all blocks.
        sines = np.empty((inner + 1, width, BLOCK), np.float32)
        slopes = np.empty((inner + 1, width, BLOCK), np.float32)
        states = np.empty((len(after) + 1, width, BLOCK), np.float32)
        da, db = np.empty((width, BLOCK), np.float32), np.empty((width, BLOCK), np.float32)
        loss = 0.0
        for b in range(t * share, min(blocks, (t + 1) * share)):
            first = b * BLOCK
            count = min(BLOCK, n - first)
            _load(x, first, count, bx)
            _load(target, first, count, bt)
            _load(weight, first, count, bw)
            _layer(w_in, c_in, bx, states[0], la, lb)
            _sines_and_cosines(states[0], slopes[0])
            for k in range(len(after)):
                if residual:
                    _layer(w_hidden[2 * k], c_hidden[2 * k], states[k], sines[2 * k + 1], la, lb)
                    _sines_and_cosines(sines[2 * k + 1], slopes[2 * k + 1])
                    _layer(w_hidden[2 * k + 1], c_hidden[2 * k + 1], sines[2 * k + 1], sines[2 * k + 2], la, lb)
                    _sines_and_cosines(sines[2 * k + 2], slopes[2 * k + 2])
                    for i in range(width):
                        for p in range(BLOCK):
                            states[k + 1, i, p] = after[k] * (states[k, i, p] + sines[2 * k + 2, i, p])
                else:
                    _layer(w_hidden[k], c_hidden[k], states[k], states[k + 1], la, lb)
                    _sines_and_cosines(states[k + 1], slopes[k + 1])
            _layer(w_out, c_out, states[len(after)], by, la, lb)
            for i in range(len(w_out)):
                for p in range(BLOCK):
                    error = by[i, p] - bt[i, p]
                    by[i, p] = np.float32(2) * bw[i, p] * error
                    loss += bw[i, p] * error * error
            _layer_gradient(by, states[len(after)], g_out[t], d_out[t])
            _layer_back(w_out, by, da, False, la, lb)
            for k in range(len(after) - 1, -1, -1):
                if residual:
                    for i in range(width):
                        for p in range(BLOCK):
                            da[i, p] *= after[k]
                            db[i, p] = da[i, p] * slopes[2 * k + 2, i, p]
                    _layer_gradient(db, sines[2 * k + 1], g_hidden[t, 2 * k + 1], d_hidden[t, 2 * k + 1])
                    _layer_back(w_hidden[2 * k + 1], db, sines[2 * k + 2], False, la, lb)
                    for i in range(width):
                        for p in range(BLOCK):
                            db[i, p] = sines[2 * k + 2, i, p] * slopes[2 * k + 1, i, p]
                    _layer_gradient(db, states[k], g_hidden[t, 2 * k], d_hidden[t, 2 * k])
                    _layer_back(w_hidden[2 * k], db, da, True, la, lb)
                else:
                    for i in range(width):
                        for p in range(BLOCK):
                            db[i, p] = da[i, p] * slopes[k + 1, i, p]
                    _layer_gradient(db, states[k], g_hidden[t, k], d_hidden[t, k])
                    _layer_back(w_hidden[k], db, da, False, la, lb)
            for i in range(width):
                for p in range(BLOCK):
                    da[i, p] *= slopes[0, i, p]
            _layer_gradient(da, bx, g_in[t], d_in[t])
        losses[t] = loss
