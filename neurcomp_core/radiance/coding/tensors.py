"""Weights of networks: as quantised integers, as labels of codebooks, or to the bit; zeros cost next to nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from neurcomp_core.coding import codebook, wire
from neurcomp_core.coding.matrices import DENSITY, decode_matrices, encode_matrices
from neurcomp_core.errors import FormatError
from neurcomp_core.radiance.coding.halves import decode_low, encode_low, join_floats, split_floats
from neurcomp_core.radiance.coding.quantise import Quantiser, quantiser_of
from neurcomp_core.radiance.coding.streams import padded

Shapes = Sequence[tuple[int, ...]]


def encode_floats(tensors: Sequence[np.ndarray]) -> bytes:
    """float32 matrices and vectors, to the bit."""
    halves = [split_floats(t) for t in tensors]
    coded = _long_enough(encode_matrices([high for high, _ in halves]), tensors)
    low, high = (np.concatenate([h[i].ravel() for h in halves]) for i in (1, 0))
    return wire.write_varint(len(coded)) + coded + encode_low(low, high)


def decode_floats(data: bytes, shapes: Shapes) -> list[np.ndarray]:
    """Inverse of `encode_floats`; FormatError for what it did not write."""
    length, at = wire.read_varint(memoryview(data), 0)
    highs = decode_matrices(data[at : at + length], shapes)
    high = np.concatenate([h.ravel() for h in highs])
    return _parted(join_floats(high, decode_low(data[at + length :], high)), shapes)


def encode_steps(tensors: Sequence[np.ndarray], steps: Sequence[float]) -> bytes:
    """Multiples of one step per tensor; a tensor of step 0 is all zeros."""
    return _long_enough(encode_matrices([_quantised(t, s) for t, s in zip(tensors, steps, strict=True)]), tensors)


def decode_steps(data: bytes, shapes: Shapes, steps: Sequence[float]) -> list[np.ndarray]:
    """Inverse of `encode_steps`: float32; FormatError for what it did not write."""
    if len(steps) != len(shapes):
        raise FormatError(f"{len(steps)} quantiser steps for {len(shapes)} tensors; the file is damaged")
    quantisers = [quantiser_of(s) or Quantiser(0.0) for s in steps]
    found = decode_matrices(data, shapes)
    return [q.dequantise(symbols) for q, symbols in zip(quantisers, found, strict=True)]


def encode_books(tensors: Sequence[np.ndarray], count: int) -> bytes | None:
    """Tensors that share at most `count` values each, to the bit; None if they do not, or hold a negative zero."""
    books = []
    for tensor in tensors:
        if len(np.unique(tensor)) > count:
            return None
        book = codebook.kmeans(tensor, count)
        if book.values.tobytes() != tensor.tobytes():
            return None
        books.append(book)
    return _long_enough(codebook.encode_codebooks(books), tensors, sum(4 * len(b.centres) + 2 for b in books))


def decode_books(data: bytes, shapes: Shapes) -> list[np.ndarray]:
    """Inverse of `encode_books`; FormatError for what it did not write."""
    return [book.values for book in codebook.decode_codebooks(data, shapes)]


def steps_of_bits(tensors: Sequence[np.ndarray], bits: float) -> tuple[float, ...]:
    """A step per tensor: ``2**bits`` of them between its largest magnitude and the opposite one; 0 where all are 0."""
    tops = [float(np.abs(t).max(initial=0)) for t in tensors]
    return tuple(float(np.float32(2 * top * 2.0**-bits)) for top in tops)


def _long_enough(data: bytes, tensors: Sequence[np.ndarray], head: int = 0) -> bytes:
    """A stream that a decoder takes for so many weights, however few of them are not zero."""
    return padded(data, sum(t.size for t in tensors) + DENSITY * head, DENSITY)


def _quantised(tensor: np.ndarray, step: float) -> np.ndarray:
    return Quantiser(step).quantise(tensor) if step else np.zeros(tensor.shape, np.int32)


def _parted(flat: np.ndarray, shapes: Shapes) -> list[np.ndarray]:
    ends = np.cumsum([math.prod(s) for s in shapes])
    return [part.reshape(s) for part, s in zip(np.split(flat, ends[:-1]), shapes, strict=True)]
