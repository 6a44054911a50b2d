"""Vector quantisation of voxel features, important voxels counting more.

Li et al., Compressing Volumetric Radiance Fields to 1 MB (CVPR 2023), section 3.3: moving averages as van den Oord et
al. (Neural Discrete Representation Learning, NeurIPS 2017, appendix A.1), and codes that are hardly used start anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from neurcomp_core.progress import Progress


@dataclass(frozen=True)
class Learning:
    """How a codebook is learnt.

    Attributes
    ----------
    rounds, batch : int
        Batches of rows, drawn without preference.
    decay : float
        Of the moving averages, per round.
    replaced : int
        Codes that start anew at rows of the batch after each round but the last tenth of them.
    """

    rounds: int = 100
    batch: int = 10_000
    decay: float = 0.8
    replaced: int = 10


def learn(
    rows: np.ndarray,
    importance: np.ndarray,
    count: int,
    learning: Learning | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> np.ndarray:
    """Codes that stand for rows with little error.

    Parameters
    ----------
    rows : ndarray ``(n, channels)`` float32
    importance : ndarray ``(n,)``
        Weight of each row's squared error, not negative.
    count : int
        Most codes; no more than rows.
    learning : Learning, optional
    seed : int

    Returns
    -------
    ndarray ``(codes, channels)`` float32
        Each the nearest code of a row at least.
    """
    learning, draw = learning or Learning(), np.random.default_rng(seed)
    rows = np.ascontiguousarray(rows, np.float32)
    weight = np.maximum(importance, importance.max(initial=0) * 1e-9) + np.finfo(np.float64).tiny
    count = min(count, len(rows))
    if not count:
        return rows[:0]
    codes = rows[draw.choice(len(rows), count, replace=False, p=weight / weight.sum())]
    mass, sums = np.zeros(count), np.zeros((count, rows.shape[1]))
    calm = learning.rounds - learning.rounds // 10
    for step in range(learning.rounds):
        if progress is not None:
            progress.update(step / learning.rounds, f"codebook, round {step + 1} of {learning.rounds}")
        whole = learning.batch >= len(rows)
        some = slice(None) if whole else draw.choice(len(rows), learning.batch, replace=False)
        batch, importance_of = rows[some], weight[some]
        codes, mass, sums = averaged(batch, importance_of, codes, mass, sums, learning.decay if step else 0.0)
        if step < calm - 1 and learning.replaced:
            idle = np.argsort(mass, kind="stable")[: min(learning.replaced, count)]
            anew = draw.choice(len(batch), len(idle), p=importance_of / importance_of.sum())
            codes[idle] = batch[anew]
            # A new code weighs as much as a typical one, so that the next batch neither fixes nor drops it.
            mass[idle] = np.median(mass)
            sums[idle] = mass[idle, None] * codes[idle]
    used = np.unique(nearest(rows, codes)[0])
    return codes[used]


def averaged(
    batch: np.ndarray,
    importance: np.ndarray,
    codes: np.ndarray,
    mass: np.ndarray,
    sums: np.ndarray,
    decay: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One round: `decay` of the averages so far and the rest from a batch. Without decay it is a step of k-means.

    Parameters
    ----------
    batch : ndarray ``(n, channels)``
    importance : ndarray ``(n,)``
    codes, sums : ndarray ``(codes, channels)``
    mass : ndarray ``(codes,)``
        Moving averages of importance, and of importance times row, that each code has met.

    Returns
    -------
    codes, mass, sums
        New arrays; a code that has met nothing stays where it is.
    """
    index, _ = nearest(batch, codes)
    mass = decay * mass + (1 - decay) * np.bincount(index, importance, len(codes))
    sums = decay * sums + (1 - decay) * summed(importance[:, None] * batch, index, len(codes))
    met = mass > 0
    codes = codes.copy()
    codes[met] = sums[met] / mass[met, None]
    return codes, mass, sums


def nearest(rows: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest code of each row.

    Returns
    -------
    index : ndarray ``(n,)`` int64
        Of equally near ones the first.
    distance : ndarray ``(n,)`` float32
        Squared.
    """
    rows = np.ascontiguousarray(rows, np.float32)
    index, distance = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.float32)
    if len(rows) and len(codes):
        _nearest(rows, np.ascontiguousarray(codes.T, np.float32), index, distance)
    return index, distance


@njit(cache=True, nogil=True, fastmath=True)
def _nearest(rows, columns, index, distance):
    """`columns`: the codes, channel by channel, so that the inner loop runs along the codes."""
    channels, count = columns.shape
    apart = np.empty(count, np.float32)
    for r in range(len(rows)):
        apart[:] = 0
        for c in range(channels):
            value, column = rows[r, c], columns[c]
            for k in range(count):
                apart[k] += (value - column[k]) * (value - column[k])
        best = 0
        for k in range(1, count):
            if apart[k] < apart[best]:
                best = k
        index[r], distance[r] = best, apart[best]


def agreeing(
    rows: np.ndarray, importance: np.ndarray, codes: np.ndarray, before: np.ndarray, price: float
) -> np.ndarray:
    """A near code for each row, rather a neighbour's than one that would have to be named.

    Entropy-constrained vector quantisation (Chou, Lookabaugh & Gray, IEEE Trans. ASSP 37(1), 1989) with the simplest
    of rates: to repeat a neighbour's code takes a bit, another one as many as the codebook needs.

    Parameters
    ----------
    rows : ndarray ``(n, channels)``
    importance : ndarray ``(n,)``
    codes : ndarray ``(codes, channels)``
    before : ndarray ``(n, 3)`` integers
        Neighbours before each row, -1 where there is none.
    price : float
        Of all bits that the nearest codes take together, in units of their error weighted by importance.

    Returns
    -------
    ndarray ``(n,)`` int64
    """
    index, distance = nearest(rows, codes)
    weight = np.ascontiguousarray(importance, np.float64)
    width = max(1.0, math.log2(max(len(codes), 2)))
    bit = price * float(weight @ distance) / (width * max(len(rows), 1))
    if bit > 0:
        given = np.ascontiguousarray(rows, np.float32), np.ascontiguousarray(codes, np.float32)
        _agree(*given, weight, np.ascontiguousarray(before, np.int64), bit, width, distance, index)
    return index


@njit(cache=True, nogil=True)
def _agree(rows, codes, weight, before, bit, width, distance, index):
    for r in range(len(rows)):
        best, cost = index[r], weight[r] * distance[r] + bit * width
        for n in range(before.shape[1]):
            if before[r, n] < 0:
                continue
            code, apart = index[before[r, n]], 0.0
            for c in range(rows.shape[1]):
                apart += (rows[r, c] - codes[code, c]) ** 2
            if weight[r] * apart + bit < cost:
                best, cost = code, weight[r] * apart + bit
        index[r] = best


def summed(values: np.ndarray, index: np.ndarray, count: int) -> np.ndarray:
    """Sums of rows ``(n, channels)`` by their index ``(n,)``: ``(count, channels)`` float64.

    The gradient of a codebook is this of the gradients of the rows that its codes stand for.
    """
    out = np.zeros((count, values.shape[1]))
    _summed(np.ascontiguousarray(values, np.float64), np.ascontiguousarray(index, np.int64), out)
    return out


@njit(cache=True, nogil=True)
def _summed(values, index, out):
    for r in range(len(values)):
        for c in range(values.shape[1]):
            out[index[r], c] += values[r, c]


def ordered(codes: np.ndarray) -> np.ndarray:
    """An order ``(codes,)`` in which neighbours are alike, so that an index says something about the next voxel's.

    Codes are split again and again at the median of the channel in which they are spread the most.
    """
    order = np.arange(len(codes))
    stack = [(0, len(codes))]
    while stack:
        first, last = stack.pop()
        if last - first < 2:
            continue
        part = codes[order[first:last]]
        along = part[:, int(np.argmax(part.var(0)))]
        order[first:last] = order[first:last][np.argsort(along, kind="stable")]
        middle = (first + last) // 2
        stack += [(first, middle), (middle, last)]
    return order
