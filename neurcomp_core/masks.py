"""Samples that are not data - NaN, infinities, fill values, blanked and ghost points - carried to the bit.

Each sample gets a label: 0 for data, otherwise the place of its bit pattern in a palette. The labels are coded with
context models; a palette holds up to 254 patterns, any further ones are stored as they are.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numba import njit

from neurcomp_core.coding import mixing as mx
from neurcomp_core.coding import wire
from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import FormatError
from neurcomp_core.field import Field

_RAW = 255
_RATE = 6


@dataclass(frozen=True)
class _Record:
    """Head of the section.

    Attributes
    ----------
    palette : bytes
        Bit patterns, one after the other, in the array's dtype, little-endian.
    raw : bytes
        Bit patterns of label 255 in array order, deflated.
    labels : bytes
        The coded label volume.
    """

    palette: bytes = b""
    raw: bytes = b""
    labels: bytes = b""


def split(field: Field) -> tuple[np.ndarray, bytes]:
    """Values with every non-data sample replaced by the datum next to their mean, and the section that undoes it.

    Returns
    -------
    values : ndarray
        Those of the field itself if all samples are data.
    section : bytes
        Empty if all samples are data.
    """
    valid = field.valid
    if valid is None:
        return field.values, b""
    words = np.ascontiguousarray(field.values).view(f"u{field.values.dtype.itemsize}")
    special = words[~valid]
    patterns, counts = np.unique(special, return_counts=True)
    palette = np.sort(patterns[np.argsort(-counts, kind="stable")[: _RAW - 1]])
    place = np.searchsorted(palette, special)
    known = (place < len(palette)) & (palette[np.minimum(place, len(palette) - 1)] == special)
    labels = np.zeros(words.shape, np.uint8)
    labels[~valid] = np.where(known, place + 1, _RAW)
    raw = special[~known]
    little = palette.dtype.newbyteorder("<")
    section = wire.pack(
        _Record(
            palette.astype(little).tobytes(),
            zlib.compress(raw.astype(little).tobytes(), 9) if raw.size else b"",
            encode_labels(labels),
        )
    )
    data = field.values[valid]
    # The sample next to the mean: unlike the mean itself, it exists in every type.
    with np.errstate(over="ignore"):
        middle = data[np.abs(data - data.mean(dtype=np.float64)).argmin()]
    return np.where(valid, field.values, middle), section


def restore(values: np.ndarray, labels: np.ndarray, patterns: np.ndarray) -> np.ndarray | None:
    """Put special samples back into `values`, in place.

    Parameters
    ----------
    values, labels : ndarray
        Of one shape; `labels` from `read`.
    patterns : ndarray
        Bit pattern of each non-zero label, in array order.

    Returns
    -------
    ndarray or None
        The field's mask: bool, true for special samples that are finite numbers; None if there are none.
    """
    values.view(patterns.dtype)[labels != 0] = patterns
    mask = labels != 0
    if values.dtype.kind == "f":
        mask &= np.isfinite(values)
    return mask if mask.any() else None


def read(section: bytes, spec: ArraySpec) -> tuple[np.ndarray, np.ndarray]:
    """Labels ``(z, y, x[, c])`` of the whole array, and the bit pattern of each sample (0 where it is data).

    Raises
    ------
    FormatError
        If the section does not describe such an array.
    """
    record = wire.unpack(_Record, section)
    word = np.dtype(f"<u{spec.dtype.itemsize}")
    if len(record.palette) % word.itemsize or len(record.palette) // word.itemsize >= _RAW:
        raise FormatError("the palette of special samples is damaged")
    palette = np.frombuffer(record.palette, word)
    labels = decode_labels(record.labels, spec.shape)
    if ((labels > len(palette)) & ((labels != _RAW) | (not record.raw))).any():
        raise FormatError("the positions of special samples are damaged: a label has no value")
    raw = _inflate(record.raw, int(np.count_nonzero(labels == _RAW)) * word.itemsize) if record.raw else b""
    table = np.concatenate([[word.type(0)], palette, np.zeros(256 - 1 - len(palette), word)]).astype(word)
    patterns = table[labels]
    patterns[labels == _RAW] = np.frombuffer(raw, word)
    return labels, patterns


def _inflate(data: bytes, size: int) -> bytes:
    inflate = zlib.decompressobj()
    try:
        out = inflate.decompress(data, size + 1)
    except zlib.error as error:
        raise FormatError(f"the special samples are damaged ({error})") from error
    if len(out) != size:
        raise FormatError("the special samples are damaged: their number does not fit their positions")
    return out


def _planes(labels: np.ndarray) -> np.ndarray:
    """``(c, z, y, x)``: a component is its own volume."""
    return np.ascontiguousarray(labels[None] if labels.ndim == 3 else np.moveaxis(labels, 3, 0))


def encode_labels(labels: np.ndarray) -> bytes:
    """Stream of uint8 labels ``(z, y, x[, c])``, of which most are 0 or like their neighbours."""
    labels = _planes(labels)
    out = np.empty(64 + labels.size // 2, np.uint8)
    state = np.zeros(5, np.int64)
    mx.start_encoder(state)
    out = _code_labels(labels, state, out, True)
    return out[: mx.finish_encoder(state, out)].tobytes()


def decode_labels(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Inverse of `encode_labels`.

    Raises
    ------
    FormatError
        If the stream is cut short.
    """
    labels = np.zeros((shape[3] if len(shape) == 4 else 1, *shape[:3]), np.uint8)
    source = np.frombuffer(data, np.uint8).copy()
    state = np.zeros(5, np.int64)
    mx.start_decoder(state, source)
    _code_labels(labels, state, source, False)
    # The decoder looks a few bytes ahead; one that read far past the end was given a cut stream.
    if state[4] > len(data) + mx.SPARE:
        raise FormatError("the positions of special samples are damaged")
    return labels[0] if len(shape) == 3 else np.ascontiguousarray(np.moveaxis(labels, 0, 3))


@njit(cache=True)
def _code_labels(labels, state, data, encoding):
    """Code (or decode into) ``(c, z, y, x)`` labels; returns the output buffer, which may have grown."""
    # Models: special or not by 10, 8 and 4 neighbours; same colour as a neighbour; the tree of a new colour.
    same, tree = 4096 + 256 + 16, 4096 + 256 + 16 + 1
    probabilities = np.full(tree + 256, 1 << 21, np.int64)
    counts = np.zeros(len(probabilities), np.int64)
    weights = np.full(3, 26214, np.int64)
    colour_weight = np.full(1, 65536, np.int64)
    contexts = np.zeros(3, np.int64)
    colour = np.zeros(1, np.int64)
    stretched = np.zeros(3, np.int64)
    volumes, depth, height, width = labels.shape
    last = 0
    for v in range(volumes):
        for k in range(depth):
            for j in range(height):
                if encoding and len(data) < state[4] + state[3] + 32 * width + 64:
                    grown = np.empty(2 * len(data) + 64 * width + 128, np.uint8)
                    grown[: len(data)] = data
                    data = grown
                if not encoding and state[4] > len(data) + mx.SPARE:
                    return data
                for i in range(width):
                    label = np.int64(labels[v, k, j, i])
                    x1 = labels[v, k, j, i - 1] if i > 0 else 0
                    y1 = labels[v, k, j - 1, i] if j > 0 else 0
                    z1 = labels[v, k - 1, j, i] if k > 0 else 0
                    v1 = labels[v - 1, k, j, i] if v > 0 else 0
                    x2 = labels[v, k, j, i - 2] if i > 1 else 0
                    yr = labels[v, k, j - 1, i + 1] if j > 0 and i + 1 < width else 0
                    yl = labels[v, k, j - 1, i - 1] if j > 0 and i > 0 else 0
                    zr = labels[v, k - 1, j, i + 1] if k > 0 and i + 1 < width else 0
                    zd = labels[v, k - 1, j + 1, i] if k > 0 and j + 1 < height else 0
                    y2 = labels[v, k, j - 2, i] if j > 1 else 0
                    near = (x1 > 0) * 1 + (y1 > 0) * 2 + (z1 > 0) * 4 + (v1 > 0) * 8
                    far = (x2 > 0) * 1 + (yr > 0) * 2 + (yl > 0) * 4 + (zr > 0) * 8 + (zd > 0) * 16 + (y2 > 0) * 32
                    contexts[0] = near * 64 + far
                    contexts[1] = 4096 + near * 16 + (far & 15)
                    contexts[2] = 4096 + 256 + near
                    special = mx.code(
                        state, data, encoding, 1 if label > 0 else 0, probabilities, counts, contexts, weights,
                        stretched, _RATE,
                    )  # fmt: skip
                    if special == 0:
                        continue
                    guess = x1 if x1 > 0 else (y1 if y1 > 0 else (z1 if z1 > 0 else last))
                    colour[0] = same
                    known = mx.code(
                        state, data, encoding, 1 if label == guess else 0, probabilities, counts, colour, colour_weight,
                        stretched, _RATE,
                    )  # fmt: skip
                    last = guess
                    if known == 0:
                        node = 1
                        for level in range(7, -1, -1):
                            colour[0] = tree + node
                            node = node * 2 + mx.code(
                                state, data, encoding, (label >> level) & 1, probabilities, counts, colour,
                                colour_weight, stretched, _RATE,
                            )  # fmt: skip
                        last = node - 256
                    if not encoding:
                        labels[v, k, j, i] = last
    return data
