"""Indices of codebook entries on occupied voxels: vector-quantised attributes.

An index is that of one of the three neighbours already coded, or is written bit by bit, highest first, given the bits
so far and the neighbours' indices; where entries that are alike have numbers that are alike, these tell about it.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from neurcomp_core.coding import mixing as mx
from neurcomp_core.errors import FormatError
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

#: Most entries of a codebook.
MOST = 1 << 16
#: Bits of a hash of a neighbour's index and the bits so far.
_HASHED = 18


def encode_indices(indices: np.ndarray, keep: np.ndarray, entries: int) -> bytes:
    """The stream of an index per voxel.

    Parameters
    ----------
    indices : ndarray ``(rows,)``
        Integers below `entries`; rows in order of their voxels' (z, y, x).
    keep : ndarray ``(z, y, x)`` bool
        Voxels that have a row.
    entries : int
        Of the codebook, at most `MOST`.
    """
    assert 1 <= entries <= MOST
    assert not indices.size or 0 <= indices.min() <= indices.max() < entries
    state, out = np.zeros(5, np.int64), np.empty(1 << 12, np.uint8)
    mx.start_encoder(state)
    given = *_geometry(keep), *_models(entries), _bits(entries)
    out = _code(indices.astype(np.int32), *given, state, out, True)  # pyright: ignore[reportCallIssue]
    return padded(finished(state, out), len(indices), SYMBOLS)


def decode_indices(data: bytes, keep: np.ndarray, entries: int) -> np.ndarray:
    """Inverse of `encode_indices`: ``(rows,)`` int32.

    Raises
    ------
    FormatError
        If the stream is not one of so many rows, or names an entry that there is not.
    """
    rows = int(np.count_nonzero(keep))
    check_count(data, rows, SYMBOLS, "indices")
    if not 1 <= entries <= MOST:
        raise FormatError(f"a codebook has {entries} entries; expected 1 to {MOST}")
    indices = np.zeros(rows, np.int32)
    state, source = opened(data)
    given = *_geometry(keep), *_models(entries), _bits(entries)
    _code(indices, *given, state, source, False)  # pyright: ignore[reportCallIssue]
    check_end(state, data, "indices")
    if rows and indices.max() >= entries:
        raise FormatError("the stream of indices is damaged: one names an entry that there is not")
    return indices


def _bits(entries: int) -> int:
    return (entries - 1).bit_length()


def _geometry(keep: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    links, places, strides = voxel_rows(keep)
    return links, places, causal(strides)[0][:3].copy()


def _models(entries: int) -> tuple[np.ndarray, ...]:
    nodes = 1 << _bits(entries)
    starts = np.array([0, 3 * 64, 3 * 64 * 27, nodes, 16 * 64, *[1 << _HASHED] * 3]).cumsum()
    return *mx.new_models(int(starts[-1])), mx.new_weights(3, 2), mx.new_weights(16, 5), starts


@njit(cache=True)
def _code(
    indices, links, places, offsets, probabilities, counts, weights, bit_weights, starts, bits, state, data, encoding
):
    """Code (or decode into) `indices`; returns the output buffer, which may have grown."""
    contexts, stretched = np.zeros(5, np.int64), np.zeros(5, np.int64)
    pair, near = np.zeros(2, np.int64), np.zeros(3, np.int64)
    # How each row was coded: 0 like a neighbour, 1 anew.
    anew = np.zeros(len(indices), np.uint8)
    for row in range(len(indices)):
        if encoding:
            data = room(data, state, 128)
        elif state[4] > len(data) + mx.SPARE:
            return data
        pattern, lately = 0, 0
        for n in range(3):
            other = links[places[row] + offsets[n]]
            near[n] = indices[other] if other >= 0 else -1
            pattern += (1 << n) if other >= 0 else 0
            lately = 3 * lately + (1 + anew[other] if other >= 0 else 0)
        pattern += 8 * (near[0] == near[1]) + 16 * (near[0] == near[2]) + 32 * (near[1] == near[2])
        index, found = np.int64(indices[row]), False
        for n in range(3):
            if near[n] < 0 or (n > 0 and near[n] == near[0]) or (n > 1 and near[n] == near[1]):
                continue
            pair[0] = starts[0] + n * 64 + pattern
            pair[1] = starts[1] + (n * 64 + pattern) * 27 + lately
            if mx.code(
                state, data, encoding, 1 if index == near[n] else 0, probabilities, counts, pair, weights[n], stretched,
                RATE,
            ):  # fmt: skip
                index, found = near[n], True
                break
        if not found:
            anew[row] = 1
            node = 1
            for i in range(bits - 1, -1, -1):
                depth = bits - 1 - i
                contexts[0] = starts[2] + node
                agreed = 0
                for n in range(3):
                    # 0: no neighbour, 1: its index departed before, 2 and 3: its next bit.
                    if near[n] < 0:
                        side = 0
                    elif ((near[n] >> (i + 1)) | (1 << depth)) != node:
                        side = 1
                    else:
                        side = 2 + ((near[n] >> i) & 1)
                    agreed = 4 * agreed + side
                    # Of multiplicative hashes the highest bits are the best.
                    mixed = ((near[n] + 1) * 65536 + node) * 2654435761 & 0xFFFFFFFF
                    contexts[2 + n] = starts[4 + n] + (mixed >> (32 - _HASHED))
                contexts[1] = starts[3] + depth * 64 + agreed
                node = 2 * node + mx.code(
                    state, data, encoding, (index >> i) & 1, probabilities, counts, contexts, bit_weights[depth],
                    stretched, RATE,
                )  # fmt: skip
            index = node - (1 << bits)
        if not encoding:
            indices[row] = index
    return data
