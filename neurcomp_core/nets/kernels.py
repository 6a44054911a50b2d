"""CPU kernels of the hash-grid network in numba.

Arrays are feature-major, ``(channels, points)``, so that inner loops run over contiguous points. A grid with fewer than
three axes is a three-axis one whose missing positions are 0: `half` carries the 0.5 of the position formula per axis.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from neurcomp_core.nets.grid import PRIME_Y, PRIME_Z

_P1, _P2 = np.uint32(PRIME_Y), np.uint32(PRIME_Z)
_ONE, _NIL = np.float32(1), np.float32(0)
_TWO, _THREE = np.float32(2), np.float32(3)
_U0, _U1 = np.uint32(0), np.uint32(1)

#: Points per multi-layer-perceptron block: activations of a 64-wide layer stay in the first-level cache.
BLOCK = 128
#: Points per encoding chunk.
_CHUNK = 512

# Training may reassociate sums; decoding must not, so that results differ between machines by rounding alone.
_TRAIN = {"contract", "nsz", "reassoc"}
_EXACT = {"contract", "nsz"}

# Helpers are always inlined. A call would leave each its own symbol, of which every module that was optimised holds a
# version with its own rounding; which of them runs would depend on whether the kernels came from numba's cache.


@njit(cache=True, inline="always")
def _corner(x, y, z, resolution, size, dense):
    if dense:
        index = x + resolution * (y + resolution * z)
        return index - size if index >= size else index
    return (x ^ (y * _P1) ^ (z * _P2)) & (size - _U1)


@njit(cache=True, inline="always")
def _smoothstep(w):
    return w * w * (_THREE - _TWO * w)


@njit(cache=True, parallel=True, fastmath=_TRAIN)
def encode(points, table, scales, resolutions, sizes, firsts, dense, half, smooth, out):
    """Interpolate `table` ``(entries, features)`` at `points` ``(n, 3)`` into `out` ``(levels * features, n)``."""
    n, features = points.shape[0], table.shape[1]
    # Missing axes have no upper vertices: a dense level has no room for them.
    up_y, up_z = np.uint32(half[1] > _NIL), np.uint32(half[2] > _NIL)
    for chunk in prange((n + _CHUNK - 1) // _CHUNK):
        first, last = chunk * _CHUNK, min(n, (chunk + 1) * _CHUNK)
        for level in range(len(scales)):
            scale, r, size, o, flat = scales[level], resolutions[level], sizes[level], firsts[level], dense[level]
            for i in range(first, last):
                px, py, pz = (
                    points[i, 0] * scale + half[0],
                    points[i, 1] * scale + half[1],
                    points[i, 2] * scale + half[2],
                )
                x, y, z = np.uint32(px), np.uint32(py), np.uint32(pz)
                u, v, w = px - np.float32(x), py - np.float32(y), pz - np.float32(z)
                if smooth:
                    u, v, w = _smoothstep(u), _smoothstep(v), _smoothstep(w)
                x1, y1, z1 = x + _U1, y + up_y, z + up_z
                a = (_ONE - v) * (_ONE - w)
                b = v * (_ONE - w)
                c = (_ONE - v) * w
                d = v * w
                j0 = o + _corner(x, y, z, r, size, flat)
                j1 = o + _corner(x1, y, z, r, size, flat)
                j2 = o + _corner(x, y1, z, r, size, flat)
                j3 = o + _corner(x1, y1, z, r, size, flat)
                j4 = o + _corner(x, y, z1, r, size, flat)
                j5 = o + _corner(x1, y, z1, r, size, flat)
                j6 = o + _corner(x, y1, z1, r, size, flat)
                j7 = o + _corner(x1, y1, z1, r, size, flat)
                for f in range(features):
                    low = a * table[j0, f] + b * table[j2, f] + c * table[j4, f] + d * table[j6, f]
                    high = a * table[j1, f] + b * table[j3, f] + c * table[j5, f] + d * table[j7, f]
                    out[level * features + f, i] = low + u * (high - low)


@njit(cache=True, parallel=True, fastmath=_TRAIN)
def encode_backward(points, upstream, scales, resolutions, sizes, firsts, dense, half, smooth, gradient):
    """Scatter `upstream` ``(levels * features, n)`` into `gradient` ``(entries, features)``, which starts at zero.

    One thread owns a level, so sums have one order whatever the number of threads. Cell and corners are written out as
    in `encode`: a function for both measured 30 % slower.
    """
    n, features = points.shape[0], gradient.shape[1]
    up_y, up_z = np.uint32(half[1] > _NIL), np.uint32(half[2] > _NIL)
    for level in prange(len(scales)):
        scale, r, size, o, flat = scales[level], resolutions[level], sizes[level], firsts[level], dense[level]
        for i in range(n):
            px, py, pz = points[i, 0] * scale + half[0], points[i, 1] * scale + half[1], points[i, 2] * scale + half[2]
            x, y, z = np.uint32(px), np.uint32(py), np.uint32(pz)
            u, v, w = px - np.float32(x), py - np.float32(y), pz - np.float32(z)
            if smooth:
                u, v, w = _smoothstep(u), _smoothstep(v), _smoothstep(w)
            x1, y1, z1 = x + _U1, y + up_y, z + up_z
            a = (_ONE - v) * (_ONE - w)
            b = v * (_ONE - w)
            c = (_ONE - v) * w
            d = v * w
            j0 = o + _corner(x, y, z, r, size, flat)
            j1 = o + _corner(x1, y, z, r, size, flat)
            j2 = o + _corner(x, y1, z, r, size, flat)
            j3 = o + _corner(x1, y1, z, r, size, flat)
            j4 = o + _corner(x, y, z1, r, size, flat)
            j5 = o + _corner(x1, y, z1, r, size, flat)
            j6 = o + _corner(x, y1, z1, r, size, flat)
            j7 = o + _corner(x1, y1, z1, r, size, flat)
            for f in range(features):
                g = upstream[level * features + f, i]
                high = u * g
                low = g - high
                gradient[j0, f] += a * low
                gradient[j1, f] += a * high
                gradient[j2, f] += b * low
                gradient[j3, f] += b * high
                gradient[j4, f] += c * low
                gradient[j5, f] += c * high
                gradient[j6, f] += d * low
                gradient[j7, f] += d * high


@njit(cache=True, forceinline=True, fastmath=_EXACT)
def _layer(weight, x, y, relu):
    """``y = weight @ x`` on one block; four inputs at a time keep the sum in registers."""
    outputs, inputs = weight.shape
    quads = inputs // 4 * 4
    for o in range(outputs):
        row = y[o]
        for p in range(BLOCK):
            row[p] = _NIL
        for i in range(0, quads, 4):
            w0, w1, w2, w3 = weight[o, i], weight[o, i + 1], weight[o, i + 2], weight[o, i + 3]
            for p in range(BLOCK):
                row[p] += w0 * x[i, p] + w1 * x[i + 1, p] + w2 * x[i + 2, p] + w3 * x[i + 3, p]
        for i in range(quads, inputs):
            w0 = weight[o, i]
            for p in range(BLOCK):
                row[p] += w0 * x[i, p]
        if relu:
            for p in range(BLOCK):
                row[p] = max(row[p], _NIL)


@njit(cache=True, forceinline=True, fastmath=_TRAIN)
def _layer_gradient(d, x, gradient):
    """``gradient += d @ x.T`` on one block."""
    outputs, inputs = gradient.shape
    quads = inputs // 4 * 4
    for o in range(outputs):
        for i in range(0, quads, 4):
            s0, s1, s2, s3 = _NIL, _NIL, _NIL, _NIL
            for p in range(BLOCK):
                v = d[o, p]
                s0 += v * x[i, p]
                s1 += v * x[i + 1, p]
                s2 += v * x[i + 2, p]
                s3 += v * x[i + 3, p]
            gradient[o, i] += s0
            gradient[o, i + 1] += s1
            gradient[o, i + 2] += s2
            gradient[o, i + 3] += s3
        for i in range(quads, inputs):
            s0 = _NIL
            for p in range(BLOCK):
                s0 += d[o, p] * x[i, p]
            gradient[o, i] += s0


@njit(cache=True, forceinline=True)
def _load(source, first, count, block):
    for i in range(source.shape[0]):
        for p in range(count):
            block[i, p] = source[i, first + p]
        for p in range(count, BLOCK):
            block[i, p] = _NIL


@njit(cache=True, forceinline=True, fastmath=_EXACT)
def _forward_block(x, w_in, w_hidden, w_out, hidden, y):
    layers = w_hidden.shape[0]
    _layer(w_in, x, hidden[0], True)
    for k in range(layers):
        _layer(w_hidden[k], hidden[k], hidden[k + 1], True)
    _layer(w_out, hidden[layers], y, False)


@njit(cache=True, parallel=True, fastmath=_EXACT)
def mlp(x, w_in, w_hidden, w_out, y, threads):
    """ReLU perceptron without biases: `x` ``(inputs, n)`` to `y` ``(outputs, n)``."""
    n = x.shape[1]
    blocks = (n + BLOCK - 1) // BLOCK
    share = (blocks + threads - 1) // threads
    for t in prange(threads):
        bx = np.empty((x.shape[0], BLOCK), np.float32)
        by = np.empty((y.shape[0], BLOCK), np.float32)
        hidden = np.empty((w_hidden.shape[0] + 1, w_in.shape[0], BLOCK), np.float32)
        for b in range(t * share, min(blocks, (t + 1) * share)):
            first = b * BLOCK
            count = min(BLOCK, n - first)
            _load(x, first, count, bx)
            _forward_block(bx, w_in, w_hidden, w_out, hidden, by)
            for i in range(y.shape[0]):
                for p in range(count):
                    y[i, first + p] = by[i, p]


@njit(cache=True, parallel=True, fastmath=_TRAIN)
def mlp_backward(x, upstream, w_in, w_hidden, w_out, t_in, t_hidden, t_out, dx, g_in, g_hidden, g_out):
    """Gradients of `mlp` with respect to its input and weights; activations are computed again, block by block.

    ``t_*`` are the transposed weights, ``g_*`` hold one zeroed gradient per thread in front of the weights' shapes.
    """
    n, threads, width, layers = x.shape[1], g_in.shape[0], w_in.shape[0], w_hidden.shape[0]
    blocks = (n + BLOCK - 1) // BLOCK
    share = (blocks + threads - 1) // threads
    for t in prange(threads):
        bx = np.empty((x.shape[0], BLOCK), np.float32)
        by = np.empty((upstream.shape[0], BLOCK), np.float32)
        hidden = np.empty((layers + 1, width, BLOCK), np.float32)
        delta = np.empty((2, width, BLOCK), np.float32)
        for b in range(t * share, min(blocks, (t + 1) * share)):
            first = b * BLOCK
            count = min(BLOCK, n - first)
            _load(x, first, count, bx)
            _forward_block(bx, w_in, w_hidden, w_out, hidden, by)
            _load(upstream, first, count, by)
            _layer_gradient(by, hidden[layers], g_out[t])
            now = 0
            _layer(t_out, by, delta[now], False)
            for k in range(layers, -1, -1):
                for i in range(width):
                    for p in range(BLOCK):
                        delta[now, i, p] = delta[now, i, p] if hidden[k, i, p] > _NIL else _NIL
                if k > 0:
                    _layer_gradient(delta[now], hidden[k - 1], g_hidden[t, k - 1])
                    _layer(t_hidden[k - 1], delta[now], delta[1 - now], False)
                    now = 1 - now
            _layer_gradient(delta[now], bx, g_in[t])
            _layer(t_in, delta[now], bx, False)
            for i in range(dx.shape[0]):
                for p in range(count):
                    dx[i, first + p] = bx[i, p]


@njit(cache=True, forceinline=True, fastmath=_EXACT)
def _lattice_plane(table, resolution, size, first, dense, z, weight, x0, y0, last, plane):
    """Vertices ``[y0, y0 + ny) x [x0, x0 + nx)`` of layers z and z + 1, blended: `plane` ``(ny, features, nx)``.

    Rows beyond `last` repeat it.
    """
    for j in range(plane.shape[0]):
        y = np.uint32(y0 + min(j, last))
        for i in range(plane.shape[2]):
            x = np.uint32(x0 + i)
            low = first + _corner(x, y, z, resolution, size, dense)
            if weight == _NIL:
                for f in range(plane.shape[1]):
                    plane[j, f, i] = table[low, f]
            else:
                high = first + _corner(x, y, z + _U1, resolution, size, dense)
                for f in range(plane.shape[1]):
                    plane[j, f, i] = table[low, f] + weight * (table[high, f] - table[low, f])


@njit(cache=True, parallel=True, fastmath=_EXACT)
def decode_lattice(
    table, resolutions, sizes, firsts, dense, lx, wx, ly, wy, lz, wz, w_in, w_hidden, w_out, rows, out
):  # fmt: skip
    """Network values on a lattice: `out` ``(components, z, y, x)``.

    A lattice point shares its cell with its row, plane and slab, so interpolation is separable: per level two layers of
    vertices are blended into a plane once a slab, two of its rows into a row once a line, and a point costs one lerp.
    ``l*``, ``w*`` are `GridLayout.axis_cells`; `rows` lines go through the perceptron together.
    """
    levels, features = len(resolutions), table.shape[1]
    depth, height, width = out.shape[1:]
    vx = np.empty(levels, np.int64)
    vy = np.empty(levels, np.int64)
    total = 0
    widest = 0
    starts = np.empty(levels, np.int64)
    for level in range(levels):
        vx[level] = lx[level, width - 1] - lx[level, 0] + 2
        vy[level] = ly[level, height - 1] - ly[level, 0] + 2
        starts[level] = total
        total += vx[level] * vy[level] * features
        widest = max(widest, vx[level])
    for k in prange(depth):
        planes = np.empty(total, np.float32)
        line = np.empty(widest, np.float32)
        encoded = np.empty((levels * features, rows * width), np.float32)
        bx = np.empty((levels * features, BLOCK), np.float32)
        by = np.empty((out.shape[0], BLOCK), np.float32)
        hidden = np.empty((w_hidden.shape[0] + 1, w_in.shape[0], BLOCK), np.float32)
        for level in range(levels):
            plane = planes[starts[level] : starts[level] + vx[level] * vy[level] * features]
            # An upper row of weight zero may lie outside the level; a missing axis has nothing else.
            last = vy[level] - 1 - (wy[level, height - 1] == _NIL)
            _lattice_plane(
                table, resolutions[level], sizes[level], firsts[level], dense[level], np.uint32(lz[level, k]),
                wz[level, k], lx[level, 0], ly[level, 0], last, plane.reshape(vy[level], features, vx[level]),
            )  # fmt: skip
        for top in range(0, height, rows):
            lines = min(rows, height - top)
            for level in range(levels):
                plane = planes[starts[level] : starts[level] + vx[level] * vy[level] * features].reshape(
                    vy[level], features, vx[level]
                )
                for j in range(lines):
                    y = ly[level, top + j] - ly[level, 0]
                    v = wy[level, top + j]
                    for f in range(features):
                        low, high = plane[y, f], plane[y + 1, f]
                        for i in range(vx[level]):
                            line[i] = low[i] + v * (high[i] - low[i])
                        row = encoded[level * features + f]
                        for i in range(width):
                            x = lx[level, i] - lx[level, 0]
                            row[j * width + i] = line[x] + wx[level, i] * (line[x + 1] - line[x])
            for first in range(0, lines * width, BLOCK):
                count = min(BLOCK, lines * width - first)
                _load(encoded, first, count, bx)
                _forward_block(bx, w_in, w_hidden, w_out, hidden, by)
                for c in range(out.shape[0]):
                    for p in range(count):
                        at = first + p
                        out[c, k, top + at // width, at % width] = by[c, p]


@njit(cache=True)
def mark_reachable(lower_x, lower_y, lower_z, resolution, size, dense, marks):
    """Set `marks` ``(size,)`` where a vertex of the given cells' lower corners and their upper neighbours lies."""
    for z in lower_z:
        for y in lower_y:
            for x in lower_x:
                marks[_corner(np.uint32(x), np.uint32(y), np.uint32(z), resolution, size, dense)] = True
