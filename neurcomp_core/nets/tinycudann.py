"""Networks of tiny-cuda-nn: configurations and parameters in its order, both ways. Needs neither torch nor the package.

Its conventions are those of `nets.grid`, so a conversion only reorders: one flat vector holds the matrices of the
perceptron, row by row, with inputs and outputs padded to multiples of 16, and then the levels of the grid, entry by
entry (its ``NetworkWithInputEncoding``; documentation and issues 6, 96 and 111 of NVlabs/tiny-cuda-nn). Padded inputs
are 0, padded outputs are ignored: what stands in their weights changes nothing, and is 0 here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from neurcomp_core.errors import InputError
from neurcomp_core.nets.grid import GridLayout

#: Multiples that inputs, neurons and outputs come in.
ALIGNMENT = 16
#: Widths that the fully fused perceptron is compiled for; others go through CUTLASS.
_FUSED = (16, 32, 64, 128)
#: What the grid is compiled for.
_DIMS, _FEATURES = (2, 3, 4), (1, 2, 4, 8)
#: Float32 steps that ``per_level_scale`` may be moved by, so that no resolution hangs on the last bit of a power.
_NUDGES = 64
#: Relative error of single-precision exponentials on a GPU that is reckoned with.
_ROUNDING = 4 * 2.0**-23


def padded(count: int) -> int:
    """`count` rounded up to a multiple of `ALIGNMENT`."""
    return -(-count // ALIGNMENT) * ALIGNMENT


def encoding_config(layout: GridLayout) -> dict[str, Any]:
    """The configuration that makes tiny-cuda-nn build the grid of a layout.

    Raises
    ------
    InputError
        If it has no such grid.
    """
    if layout.dims not in _DIMS or layout.features not in _FEATURES:
        raise InputError(
            f"backend tinycudann: it has no grids of {layout.dims} axes and {layout.features} features; it has 2 to 4 "
            "axes and 1, 2, 4 or 8 features: use --backend triton or torch"
        )
    return {
        "otype": "HashGrid",
        "n_levels": layout.levels,
        "n_features_per_level": layout.features,
        "log2_hashmap_size": layout.log2_table,
        "base_resolution": layout.base,
        "per_level_scale": per_level_scale(layout),
        "interpolation": "Smoothstep" if layout.smooth else "Linear",
    }


def network_config(width: int, hidden: int) -> dict[str, Any]:
    """The configuration of a ReLU perceptron; neurons are padded with such that are always at rest."""
    return {
        "otype": "FullyFusedMLP" if padded(width) in _FUSED else "CutlassMLP",
        "activation": "ReLU",
        "output_activation": "None",
        "n_neurons": padded(width),
        "n_hidden_layers": hidden,
    }


def per_level_scale(layout: GridLayout) -> float:
    """The growth that tiny-cuda-nn is to be given, so that it comes to the same resolutions.

    It computes ``exp2f(level * log2f(growth)) * base - 1`` in single precision and rounds up, which a whole number in
    exact arithmetic does not survive (4 * 1.5**2 - 1 = 8, or 8.0000005 and so 9). The growth is moved by as few
    float32 steps as put every level clear of that.

    Raises
    ------
    InputError
        If none does.
    """
    low = high = np.float32(layout.growth)
    for _ in range(_NUDGES):
        for growth in (low, high):
            if _same_resolutions(layout, float(growth)):
                return float(growth)
        low, high = np.nextafter(low, np.float32(1)), np.nextafter(high, np.float32(9))
    raise InputError(
        f"backend tinycudann: in its single precision, levels that grow by {layout.growth} come out at other "
        "resolutions; use --backend triton or torch"
    )


def _same_resolutions(layout: GridLayout, growth: float) -> bool:
    exponent = float(np.log2(np.float32(growth)))
    for level, wanted in enumerate(layout.resolutions):
        power = float(np.float32(level) * np.float32(exponent))
        # Whole exponents are exact.
        slack = 0.0 if power == int(power) else _ROUNDING
        size = layout.base * 2.0**power
        if any(math.ceil(size * (1 + s) - 1) + 1 != wanted for s in (-slack, 0.0, slack)):
            return False
    return True


def shapes(layout: GridLayout, width: int, hidden: int, outputs: int) -> list[tuple[int, int]]:
    """Of the matrices and the grid, in tiny-cuda-nn's order."""
    rows, columns = padded(width), padded(layout.width)
    inner = [(rows, rows)] * (hidden - 1)
    return [(rows, columns), *inner, (padded(outputs), rows), (layout.entries, layout.features)]


def flat_of(parameters: Sequence[np.ndarray], layout: GridLayout) -> np.ndarray:
    """Parameters in tiny-cuda-nn's order.

    Parameters
    ----------
    parameters : sequence of ndarray
        Table, first, inner and last weights, as `nets.model.Network.shapes` has them.
    layout : GridLayout

    Returns
    -------
    ndarray
        One axis, float32: what ``module.params`` of a ``NetworkWithInputEncoding`` holds.
    """
    table, first, inner, last = parameters
    found = []
    for matrix, shape in zip(
        (first, *inner, last), shapes(layout, len(first), len(inner) + 1, len(last)), strict=False
    ):
        whole = np.zeros(shape, np.float32)
        whole[: matrix.shape[0], : matrix.shape[1]] = matrix
        found.append(whole.reshape(-1))
    return np.concatenate([*found, np.asarray(table, np.float32).reshape(-1)])


def parameters_of(flat: np.ndarray, layout: GridLayout, width: int, hidden: int, outputs: int) -> list[np.ndarray]:
    """Inverse of `flat_of`.

    Raises
    ------
    InputError
        If there are too many or too few parameters.
    """
    wanted = shapes(layout, width, hidden, outputs)
    sizes = [math.prod(s) for s in wanted]
    if flat.shape != (sum(sizes),):
        raise InputError(
            f"tiny-cuda-nn: expected {sum(sizes):,} parameters of this network, got {flat.size:,}; other sizes, or a "
            "version that orders them otherwise"
        )
    ends = np.cumsum(sizes)
    *matrices, table = (
        np.array(flat[end - size : end], np.float32).reshape(shape)
        for end, size, shape in zip(ends, sizes, wanted, strict=True)
    )
    inner = np.zeros((hidden - 1, width, width), np.float32)
    for k in range(hidden - 1):
        inner[k] = matrices[1 + k][:width, :width]
    return [table, matrices[0][:width, : layout.width], inner, matrices[-1][:outputs, :width]]
