"""The higher-order singular value decomposition, and parts of what it stands for.

A tensor is a core multiplied along each axis by an orthogonal factor whose columns belong to ever smaller slices of the
core (De Lathauwer et al., SIAM J. Matrix Anal. Appl. 21(4), 2000; section 3 of the TTHRESH paper).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

#: Values that a step works on at once.
_CHUNK = 1 << 20


def hosvd(
    tensor: np.ndarray, report: Callable[[float], None] = lambda share: None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Core and factors of a float64 array of any shape.

    Parameters
    ----------
    tensor : ndarray of float64
        Contiguous; overwritten by the core, of the same shape.
    report : callable, optional
        Called with the share that is done.

    Returns
    -------
    core : ndarray
    factors : list of ndarray
        One per axis, ``(n, min(n, values / n))``: the columns beyond meet only zeros of the core.
    """
    factors = []
    # The last axis first, as the reference does it.
    for axis in reversed(range(tensor.ndim)):
        report(len(factors) / tensor.ndim)
        n = tensor.shape[axis]
        if n * n > tensor.size:
            factor = _thin(tensor, axis)
        else:
            factor = np.linalg.eigh(_gram(tensor, axis))[1][:, ::-1]
            _project(tensor, axis, np.ascontiguousarray(factor))
        factors.append(factor)
    return tensor, factors[::-1]


def _grouped(tensor: np.ndarray, axis: int) -> np.ndarray:
    """View ``(before, n, after)`` of a contiguous array."""
    n = tensor.shape[axis]
    after = int(np.prod(tensor.shape[axis + 1 :]))
    return tensor.reshape(-1, n, after)


def _pieces(grouped: np.ndarray) -> Iterator[np.ndarray]:
    """Parts ``(some, n, some)`` that together are the whole."""
    before, n, after = grouped.shape
    rows = max(_CHUNK // (n * after), 1)
    columns = max(_CHUNK // n, 1)
    for i in range(0, before, rows):
        for j in range(0, after, columns):
            yield grouped[i : i + rows, :, j : j + columns]


def _gram(tensor: np.ndarray, axis: int) -> np.ndarray:
    """``M M^T`` of the unfolding along `axis`."""
    n = tensor.shape[axis]
    total = np.zeros((n, n))
    for piece in _pieces(_grouped(tensor, axis)):
        if piece.shape[2] == 1:
            rows = piece[:, :, 0]
            total += rows.T @ rows
        else:
            columns = np.moveaxis(piece, 1, 0).reshape(n, -1)
            total += columns @ columns.T
    return total


def _project(tensor: np.ndarray, axis: int, factor: np.ndarray) -> None:
    """Multiply by ``factor^T`` along `axis`, in place."""
    for piece in _pieces(_grouped(tensor, axis)):
        if piece.shape[2] == 1:
            piece[:, :, 0] = piece[:, :, 0] @ factor
        else:
            piece[...] = np.matmul(factor.T, piece)


def _thin(tensor: np.ndarray, axis: int) -> np.ndarray:
    """Factor of an axis longer than all others together, whose square would not fit; projects in place."""
    moved = np.moveaxis(tensor, axis, 0)
    shape = moved.shape
    q, r = np.linalg.qr(moved.reshape(shape[0], -1))
    left, values, right = np.linalg.svd(r)
    core = np.zeros(shape)
    core.reshape(shape[0], -1)[: len(values)] = values[:, None] * right
    moved[...] = core
    return q @ left


def reconstruct(core: np.ndarray, rows: Sequence[np.ndarray]) -> Iterator[tuple[slice, np.ndarray]]:
    """Multiply a core along each axis by the chosen rows of its factor, some columns at a time.

    Parameters
    ----------
    core : ndarray of float64
        Cut to its ranks ``(r1, r2, ...)``.
    rows : sequence of ndarray
        One ``(m, r)`` per axis: rows of the factor, or weighted sums of them.

    Yields
    ------
    part : slice
        Columns of the result as a matrix ``(m1, m2 m3 ...)``.
    values : ndarray of float64
        ``(m1, part)``.
    """
    # What shrinks comes first, what grows most last: fewer products, and less memory.
    for axis in sorted(range(1, core.ndim), key=lambda a: rows[a].shape[0] / max(rows[a].shape[1], 1)):
        core = multiply(core, rows[axis], axis)
    flat = core.reshape(core.shape[0], -1)
    step = max(_CHUNK // max(rows[0].shape), 1)
    for start in range(0, flat.shape[1], step):
        part = slice(start, min(start + step, flat.shape[1]))
        yield part, rows[0] @ flat[:, part]


def multiply(tensor: np.ndarray, matrix: np.ndarray, axis: int) -> np.ndarray:
    """Replace the values along `axis` by their products with the rows of `matrix`."""
    grouped = _grouped(np.ascontiguousarray(tensor), axis)
    shape = (*tensor.shape[:axis], matrix.shape[0], *tensor.shape[axis + 1 :])
    if grouped.shape[2] == 1:
        return (grouped[:, :, 0] @ matrix.T).reshape(shape)
    return np.matmul(matrix, grouped).reshape(shape)


# ---------------------------------------------------------------------------------------------------------- decimation


def box(size: int, factor: int) -> np.ndarray:
    """Weights ``(ceil(size / factor), size)`` of the mean of each `factor` neighbours; the last may have fewer."""
    weights = np.zeros((-(-size // factor), size))
    for i, row in enumerate(weights):
        row[i * factor : (i + 1) * factor] = 1
    return weights / weights.sum(axis=1, keepdims=True)


def lanczos(size: int, factor: int) -> np.ndarray:
    """Weights ``(ceil(size / factor), size)`` of a Lanczos filter of two lobes around every `factor`-th sample.

    ``sinc(t) sinc(t / 2)`` for ``|t| < 2``, t in steps of `factor`; samples beyond the ends are left out and the
    weights of each row normalised.
    """
    t = (np.arange(size) - factor * np.arange(-(-size // factor))[:, None]) / factor
    weights = np.where(np.abs(t) < 2, np.sinc(t) * np.sinc(t / 2), 0.0)
    return weights / weights.sum(axis=1, keepdims=True)
