"""Triton kernels of the sine network: values, and the gradients of a squared error, a tile of points per program.

A tile goes through all layers in registers. Coordinates are looked up on the device from flat sample numbers, and what
a layer's sine needs (its phase) is computed anew on the way back from the inputs of the blocks, which are all that the
way there writes: 4 * width bytes per block and point, where plain torch moves ten times that. Each program writes its
own sum of gradients; they are added by one reduction in a fixed order, so that a run repeats to the bit.

Networks come *folded* (`siren_kernels` says how) into one flat array: first ``(inputs, width)``, its bias, inner
matrices ``(matrices, width, width)``, their biases, last ``(outputs, width)``, its bias. Widths are powers of two,
padded with zeros. Sums are float32. Products of matrices are as `PRECISION` says: ``ieee`` (float32), ``tf32x3`` (three
products on tensor cores, 22 bits) or ``tf32`` (11 bits). Sines are siren_kernels.py's polynomials.
"""

# pyright: reportArgumentType=false, reportGeneralTypeIssues=false
from __future__ import annotations

import triton
import triton.language as tl

_PER_PI = tl.constexpr(0.3183098861837907)
# pi in two parts: the first has few enough bits that its products with small integers are exact.
_PI_HIGH, _PI_LOW = tl.constexpr(3.140625), tl.constexpr(9.67653589793e-4)


@triton.jit
def _reduced(x):
    """``(-1)**k`` and ``x - k pi`` for the multiple of pi nearest to x."""
    k = tl.floor(x * _PER_PI + 0.5)
    odd = k - 2 * tl.floor(k * 0.5)
    return 1 - 2 * odd, (x - k * _PI_HIGH) - k * _PI_LOW


@triton.jit
def _sine(x):
    sign, r = _reduced(x)
    s = r * r
    p = ((2.6000548e-6 * s - 1.9806615e-4) * s + 8.3330173e-3) * s - 1.6666657e-1
    return sign * (r + r * s * p)


@triton.jit
def _cosine(x):
    sign, r = _reduced(x)
    s = r * r
    p = (((-2.6051615e-7 * s + 2.4760495e-5) * s - 1.3888378e-3) * s + 4.1666638e-2) * s - 0.5
    return sign * (1 + s * p)


@triton.jit
def _coordinate(source, index, length, rows, columns, inside, AXIS: tl.constexpr, FROM_POINTS: tl.constexpr):
    """A coordinate of points ``(inputs, length)``, or of samples by their flat number: `source` then holds coordinates
    along three axes of `length`, `rows` and `columns` samples, one after the other.
    """
    if FROM_POINTS:
        at = AXIS * length + index
    elif AXIS == 0:
        at = index // (rows * columns)
    elif AXIS == 1:
        at = length + (index // columns) % rows
    else:
        at = length + rows + index % columns
    return tl.load(source + at, mask=inside, other=0.0)


@triton.jit
def _first_phase(
    weights, source, index, length, rows, columns, inside, neuron,
    INPUTS: tl.constexpr, WIDTH: tl.constexpr, FROM_POINTS: tl.constexpr,
):  # fmt: skip
    """Phases of the first layer, ``(tile, width)``."""
    phase = tl.load(weights + INPUTS * WIDTH + neuron)[None, :]
    for i in tl.static_range(INPUTS):
        # Samples of fewer axes than three have the last ones.
        if FROM_POINTS:
            x = _coordinate(source, index, length, rows, columns, inside, i, True)
        else:
            x = _coordinate(source, index, length, rows, columns, inside, 3 - INPUTS + i, False)
        phase += x[:, None] * tl.load(weights + i * WIDTH + neuron)[None, :]
    return phase


@triton.jit
def _layer(x, matrix, bias, neuron, WIDTH: tl.constexpr, PRECISION: tl.constexpr):
    """``x @ matrix.T + bias`` of a tile ``(points, width)``."""
    turned = tl.load(matrix + neuron[:, None] + neuron[None, :] * WIDTH)
    return tl.dot(x, turned, input_precision=PRECISION) + tl.load(bias + neuron)[None, :]


@triton.jit
def _tile(n, TILE: tl.constexpr, WIDTH: tl.constexpr):
    """A program's first point, its points from there on, those that exist, and their places in a ``(points, width)``
    array; 32 bits from the first point on, for fewer registers.
    """
    start = tl.program_id(0).to(tl.int64) * TILE
    local = tl.arange(0, TILE)
    return start, local, start + local < n, local[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]


@triton.jit
def forward_kernel(
    weights, after, source, indices, states, out, first, n, length, rows, columns, matrices, outputs,
    INPUTS: tl.constexpr, WIDTH: tl.constexpr, RESIDUAL: tl.constexpr, FROM_POINTS: tl.constexpr, DRAWN: tl.constexpr,
    SAVE: tl.constexpr, PRECISION: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Values ``(outputs, n)`` into `out` or, with SAVE, inputs of all blocks and of the last layer,
    ``(blocks + 1, n, width)``, into `states`.
    """
    start, local, inside, cells = _tile(n, TILE, WIDTH)
    if DRAWN:
        index = tl.load(indices + start + local, mask=inside, other=0)
    else:
        index = first + start + local
    neuron = tl.arange(0, WIDTH)
    states += start * WIDTH
    inner = weights + INPUTS * WIDTH + WIDTH
    biases = inner + matrices * WIDTH * WIDTH
    x = _sine(_first_phase(weights, source, index, length, rows, columns, inside, neuron, INPUTS, WIDTH, FROM_POINTS))
    blocks = matrices // 2 if RESIDUAL else matrices
    for k in range(blocks):
        if SAVE:
            tl.store(states + k * n * WIDTH + cells, x, mask=inside[:, None])
        if RESIDUAL:
            s = _sine(_layer(x, inner + 2 * k * WIDTH * WIDTH, biases + 2 * k * WIDTH, neuron, WIDTH, PRECISION))
            s = _layer(s, inner + (2 * k + 1) * WIDTH * WIDTH, biases + (2 * k + 1) * WIDTH, neuron, WIDTH, PRECISION)
            x = tl.load(after + k) * (x + _sine(s))
        else:
            x = _sine(_layer(x, inner + k * WIDTH * WIDTH, biases + k * WIDTH, neuron, WIDTH, PRECISION))
    last = biases + matrices * WIDTH
    if SAVE:
        tl.store(states + blocks * n * WIDTH + cells, x, mask=inside[:, None])
    else:
        for c in range(outputs):
            y = tl.sum(x * tl.load(last + c * WIDTH + neuron)[None, :], axis=1) + tl.load(last + outputs * WIDTH + c)
            tl.store(out + c * n + start + local, y, mask=inside)


@triton.jit
def _layer_gradient(g, x, matrix, bias, neuron, WIDTH: tl.constexpr, PRECISION: tl.constexpr):
    """Write a tile's gradients of a layer's matrix and bias; `g` is that of its phases, `x` its input."""
    found = tl.dot(tl.trans(g), x, input_precision=PRECISION)
    tl.store(matrix + neuron[:, None] * WIDTH + neuron[None, :], found)
    tl.store(bias + neuron, tl.sum(g, axis=0))


@triton.jit
def _layer_back(g, matrix, neuron, WIDTH: tl.constexpr, PRECISION: tl.constexpr):
    """Gradient of a layer's input, ``g @ matrix``."""
    return tl.dot(g, tl.load(matrix + neuron[:, None] * WIDTH + neuron[None, :]), input_precision=PRECISION)


@triton.jit
def backward_kernel(
    weights, after, source, indices, states, values, shares, sums, share, n, length, rows, columns, matrices, outputs,
    total,
    INPUTS: tl.constexpr, WIDTH: tl.constexpr, RESIDUAL: tl.constexpr, GIVEN: tl.constexpr, SHARED: tl.constexpr,
    PRECISION: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Gradients of ``sum(share * (network - values)**2)`` with respect to `weights`, and that sum behind them.

    Each program writes a row of `sums` ``(programs, total)``. `values` is ``(n, outputs)``, with GIVEN the gradients of
    the outputs themselves; with SHARED `shares` ``(n, outputs)`` replaces `share`.
    """
    start, local, inside, cells = _tile(n, TILE, WIDTH)
    index = tl.load(indices + start + local, mask=inside, other=0)
    neuron = tl.arange(0, WIDTH)
    states += start * WIDTH
    values += start * outputs
    shares += start * outputs
    row = sums + tl.program_id(0).to(tl.int64) * total
    inner = INPUTS * WIDTH + WIDTH
    biases = inner + matrices * WIDTH * WIDTH
    last = biases + matrices * WIDTH
    blocks = matrices // 2 if RESIDUAL else matrices

    # The last layer and the error.
    x = tl.load(states + blocks * n * WIDTH + cells, mask=inside[:, None], other=0.0)
    g = tl.zeros([TILE, WIDTH], tl.float32)
    loss = tl.zeros([TILE], tl.float32)
    for c in range(outputs):
        w = tl.load(weights + last + c * WIDTH + neuron)[None, :]
        if GIVEN:
            slope = tl.load(values + local * outputs + c, mask=inside, other=0.0)
        else:
            y = tl.sum(x * w, axis=1) + tl.load(weights + last + outputs * WIDTH + c)
            error = y - tl.load(values + local * outputs + c, mask=inside, other=0.0)
            if SHARED:
                weighted = tl.load(shares + local * outputs + c, mask=inside, other=0.0) * error
            else:
                weighted = tl.where(inside, share * error, 0.0)
            loss += weighted * error
            slope = 2 * weighted
        g += slope[:, None] * w
        tl.store(row + last + c * WIDTH + neuron, tl.sum(slope[:, None] * x, axis=0))
        tl.store(row + last + outputs * WIDTH + c, tl.sum(slope, axis=0))
    tl.store(row + last + outputs * WIDTH + outputs, tl.sum(loss, axis=0))

    for step in range(blocks):
        k = blocks - 1 - step
        x = tl.load(states + k * n * WIDTH + cells, mask=inside[:, None], other=0.0)
        if RESIDUAL:
            matrix_1, bias_1 = inner + 2 * k * WIDTH * WIDTH, biases + 2 * k * WIDTH
            matrix_2, bias_2 = matrix_1 + WIDTH * WIDTH, bias_1 + WIDTH
            phase = _layer(x, weights + matrix_1, weights + bias_1, neuron, WIDTH, PRECISION)
            s = _sine(phase)
            turn = _cosine(_layer(s, weights + matrix_2, weights + bias_2, neuron, WIDTH, PRECISION))
            g *= tl.load(after + k)
            turn *= g
            _layer_gradient(turn, s, row + matrix_2, row + bias_2, neuron, WIDTH, PRECISION)
            turn = _layer_back(turn, weights + matrix_2, neuron, WIDTH, PRECISION) * _cosine(phase)
            _layer_gradient(turn, x, row + matrix_1, row + bias_1, neuron, WIDTH, PRECISION)
            g += _layer_back(turn, weights + matrix_1, neuron, WIDTH, PRECISION)
        else:
            matrix, bias = inner + k * WIDTH * WIDTH, biases + k * WIDTH
            turn = g * _cosine(_layer(x, weights + matrix, weights + bias, neuron, WIDTH, PRECISION))
            _layer_gradient(turn, x, row + matrix, row + bias, neuron, WIDTH, PRECISION)
            g = _layer_back(turn, weights + matrix, neuron, WIDTH, PRECISION)

    g *= _cosine(_first_phase(weights, source, index, length, rows, columns, inside, neuron, INPUTS, WIDTH, False))
    tl.store(row + INPUTS * WIDTH + neuron, tl.sum(g, axis=0))
    for i in tl.static_range(INPUTS):
        x = _coordinate(source, index, length, rows, columns, inside, 3 - INPUTS + i, False)
        tl.store(row + i * WIDTH + neuron, tl.sum(g * x[:, None], axis=0))
