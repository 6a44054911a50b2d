"""Which voxels of a grid are occupied, from coarse to fine.

Occupancy is pooled, two voxels an axis into one, until one is left; what is coded of each finer level are children of
occupied voxels. A child is predicted from the neighbours that are already coded and from the coarser level, which is
known on all sides, by context models that are mixed (`coding.mixing`). Levels share models: surfaces look alike at all
scales.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from neurcomp_core.coding import mixing as mx
from neurcomp_core.radiance.coding.streams import (
    RATE,
    VOXELS,
    check_count,
    check_end,
    count_of,
    finished,
    opened,
    padded,
    room,
)

_INPUTS = 6
_SIZES = (1 << 12, 1 << 13, 1 << 12, 1 << 13, 1 << 12, 1 << 12)
#: Layers of empty voxels around a level.
_PAD = 2


def encode_occupancy(keep: np.ndarray) -> bytes:
    """The stream of a set of voxels.

    Parameters
    ----------
    keep : ndarray ``(z, y, x)`` bool
    """
    models = _models()
    state, out = np.zeros(5, np.int64), np.empty(1 << 12, np.uint8)
    mx.start_encoder(state)
    above = np.ones((5, 5, 5), np.uint8)
    for level in reversed(_pyramid(keep)):
        own = np.pad(level.view(np.uint8), _PAD)
        out = _code(own, above, *models, state, out, True)  # pyright: ignore[reportCallIssue]
        above = own
    return padded(finished(state, out), keep.size, VOXELS)


def decode_occupancy(data: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Inverse of `encode_occupancy`: ``(z, y, x)`` bool.

    Raises
    ------
    FormatError
        If the stream is not one of such a grid, or too short for one so large.
    """
    check_count(data, count_of(shape), VOXELS, "voxels")
    shapes = [shape]
    while max(shapes[-1]) > 1:
        shapes.append(tuple((n + 1) // 2 for n in shapes[-1]))  # pyright: ignore
    models = _models()
    state, source = opened(data)
    above = np.ones((5, 5, 5), np.uint8)
    for size in reversed(shapes):
        own = np.zeros([n + 2 * _PAD for n in size], np.uint8)
        _code(own, above, *models, state, source, False)  # pyright: ignore[reportCallIssue]
        check_end(state, data, "occupied voxels")
        above = own
    return np.ascontiguousarray(above[_PAD:-_PAD, _PAD:-_PAD, _PAD:-_PAD]).view(bool)


def _pyramid(keep: np.ndarray) -> list[np.ndarray]:
    """Levels from fine to coarse, the last of one voxel."""
    levels = [np.ascontiguousarray(keep, bool)]
    while max(levels[-1].shape) > 1:
        level = levels[-1]
        for axis in range(3):
            starts = np.arange(0, level.shape[axis], 2)
            level = np.logical_or.reduceat(level, starts, axis)
        levels.append(level)
    return levels


def _models() -> tuple[np.ndarray, ...]:
    offsets = np.array([0, *_SIZES]).cumsum()
    return *mx.new_models(int(offsets[-1])), mx.new_weights(14, _INPUTS), offsets


@njit(cache=True)
def _code(own, above, probabilities, counts, weights, offsets, state, data, encoding):
    """Code (or decode into) a padded level below a padded one; returns the output buffer, which may have grown."""
    pad = 2
    depth, height, width = own.shape[0] - 2 * pad, own.shape[1] - 2 * pad, own.shape[2] - 2 * pad
    contexts, stretched = np.zeros(6, np.int64), np.zeros(6, np.int64)
    for z in range(pad, depth + pad):
        for y in range(pad, height + pad):
            if encoding:
                data = room(data, state, 8 * width + 64)
            elif state[4] > len(data) + mx.SPARE:
                return data
            for x in range(pad, width + pad):
                # A pad of 2 is one of 1 above.
                k, j, i = (z >> 1) + 1, (y >> 1) + 1, (x >> 1) + 1
                if not above[k, j, i]:
                    continue
                odd = (x & 1) + 2 * (y & 1) + 4 * (z & 1)
                last_x, last_y, last_z = (
                    x & 1 or x == width + pad - 1, y & 1 or y == height + pad - 1, z & 1 or z == depth + pad - 1
                )  # fmt: skip
                if last_x and last_y and last_z and depth * height * width > 1:
                    # The last child of a voxel with none so far is occupied.
                    some = False
                    for c in range(z & ~1, z + 1):
                        for b in range(y & ~1, y + 1):
                            for a in range(x & ~1, x + 1):
                                if (a < x or b < y or c < z) and own[c, b, a]:
                                    some = True
                    if not some:
                        own[z, y, x] = 1
                        continue
                x1, y1, z1 = np.int64(own[z, y, x - 1]), np.int64(own[z, y - 1, x]), np.int64(own[z - 1, y, x])
                near = x1 + 2 * y1 + 4 * z1
                side = (
                    own[z, y - 1, x - 1] + 2 * own[z, y - 1, x + 1] + 4 * own[z - 1, y, x - 1]
                    + 8 * own[z - 1, y, x + 1] + 16 * own[z - 1, y - 1, x] + 32 * own[z - 1, y + 1, x]
                )  # fmt: skip
                corner = (
                    own[z - 1, y - 1, x - 1] + 2 * own[z - 1, y - 1, x + 1] + 4 * own[z - 1, y + 1, x - 1]
                    + 8 * own[z - 1, y + 1, x + 1]
                )  # fmt: skip
                beyond = own[z, y, x - 2] + 2 * own[z, y - 2, x] + 4 * own[z - 2, y, x]
                ahead = above[k, j, i + 1] + 2 * above[k, j + 1, i] + 4 * above[k + 1, j, i]
                across = above[k, j + 1, i + 1] + 2 * above[k + 1, j, i + 1] + 4 * above[k + 1, j + 1, i]
                beside = above[k, j + 1, i - 1] + 2 * above[k + 1, j, i - 1] + 4 * above[k + 1, j - 1, i]
                outer = np.int64(above[k + 1, j + 1, i + 1])
                around = 0
                for c in range(k - 1, k + 2):
                    for b in range(j - 1, j + 2):
                        for a in range(i - 1, i + 2):
                            around += above[c, b, a]
                count = x1 + y1 + z1 + _ones(side) + _ones(corner)
                contexts[0] = offsets[0] + (odd << 9) + (side << 3) + near
                contexts[1] = offsets[1] + (odd << 10) + (outer << 9) + (across << 6) + (ahead << 3) + near
                contexts[2] = offsets[2] + (((side >> 1) & 1) << 11) + ((side >> 4) << 9) + (ahead << 6) + (beyond << 3)
                contexts[2] += near
                contexts[3] = offsets[3] + (corner << 9) + (side << 3) + near
                contexts[4] = offsets[4] + (odd << 9) + (min(around, 31) << 4) + count
                contexts[5] = offsets[5] + (odd << 9) + (beside << 6) + (across << 3) + ahead
                own[z, y, x] = mx.code(
                    state, data, encoding, np.int64(own[z, y, x]), probabilities, counts, contexts, weights[count],
                    stretched, RATE,
                )  # fmt: skip
    return data


@njit(cache=True)
def _ones(bits):
    count = 0
    while bits:
        count += bits & 1
        bits >>= 1
    return count
