"""What the coders of this package share: streams that bound what may be decoded from them, and voxels by their row."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from neurcomp_core.coding import mixing as mx
from neurcomp_core.errors import FormatError

#: Learning rate of mixing weights (FORMAT.md, "Entropy coder").
RATE = 6
#: Symbols of a stream for each of its bytes and the 64 that are free; encoders fill up with zeros.
VOXELS, SYMBOLS = 1 << 17, 1 << 14
_FREE = 64


def padded(data: bytes, count: int, density: int) -> bytes:
    """A stream long enough for `count` symbols; a decoder takes zeros behind its end for granted."""
    return data.ljust(-(-count // density) - _FREE, b"\0")


def check_count(data: bytes, count: int, density: int, what: str) -> None:
    """FormatError if so many symbols are more than such a stream may hold; to be asked before they are allocated."""
    if count > density * (len(data) + _FREE):
        raise FormatError(f"a stream of {len(data)} bytes cannot hold {count} {what}; the file is damaged")


def finished(state: np.ndarray, out: np.ndarray) -> bytes:
    """The bytes of an encoder that is done."""
    if len(out) < state[4] + state[3] + 16:
        out = np.append(out, np.empty(state[3] + 64, np.uint8))
    return out[: mx.finish_encoder(state, out)].tobytes()


def opened(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """State and source of a decoder."""
    state, source = np.zeros(5, np.int64), np.frombuffer(data, np.uint8).copy()
    mx.start_decoder(state, source)
    return state, source


def check_end(state: np.ndarray, data: bytes, what: str) -> None:
    """FormatError if a decoder has read far past the end, as it does in a stream that was cut or is not ours."""
    if state[4] > len(data) + mx.SPARE:
        raise FormatError(f"the stream of {what} is damaged: it ends before they do")


@njit(cache=True)
def room(data, state, needed):
    """The buffer of an encoder, grown where fewer than `needed` bytes are free."""
    if len(data) >= state[4] + state[3] + needed:
        return data
    grown = np.empty(2 * len(data) + 2 * needed, np.uint8)
    grown[: len(data)] = data
    return grown


def voxel_rows(keep: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[int, int, int]]:
    """Rows of voxels for the kernels.

    Parameters
    ----------
    keep : ndarray ``(z, y, x)`` bool

    Returns
    -------
    links : ndarray int32
        Row per voxel, -1 where there is none, in order of (z, y, x); flat, with a layer of -1 around.
    places : ndarray ``(rows,)`` int64
        Where each row's voxel lies in it.
    strides : tuple of 3 int
        Of z, y, x.
    """
    z, y, x = (n + 2 for n in keep.shape)
    links = np.full((z, y, x), -1, np.int32)
    inner = links[1:-1, 1:-1, 1:-1]
    inner[keep] = np.arange(np.count_nonzero(keep), dtype=np.int32)
    links = links.ravel()
    return links, np.flatnonzero(links >= 0), (y * x, x, 1)


def causal(strides: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Offsets ``(13,)`` of the neighbours before a voxel, x, y, z first; and their weights: 4, 2, 1 by distance."""
    steps = [(0, 0, -1), (0, -1, 0), (-1, 0, 0)]
    steps += [(0, -1, -1), (0, -1, 1), (-1, 0, -1), (-1, 0, 1), (-1, -1, 0), (-1, 1, 0)]
    steps += [(-1, -1, -1), (-1, -1, 1), (-1, 1, -1), (-1, 1, 1)]
    offsets = [sum(a * b for a, b in zip(step, strides, strict=True)) for step in steps]
    weights = [8 >> sum(map(abs, step)) for step in steps]
    return np.array(offsets, np.int64), np.array(weights, np.int64)


def count_of(shape: tuple[int, ...]) -> int:
    """Samples of a shape, exactly."""
    return math.prod(shape)
