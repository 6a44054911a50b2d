"""Codebooks, the stream of matrices, and bit allocation: best on what can be enumerated, exact, and safe to decode."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from test_format import Decoder, siren_symbols

from neurcomp_core.coding.allocation import Choice, allocate
from neurcomp_core.coding.codebook import assign, decode_codebooks, encode_codebooks, kmeans
from neurcomp_core.coding.matrices import LIMIT, decode_matrices, encode_matrices
from neurcomp_core.coding.weights import Group, encode_groups
from neurcomp_core.errors import FormatError

# ------------------------------------------------------------------------------------------------------------- k-means


def least_error(values: np.ndarray, weight: np.ndarray, count: int) -> float:
    """Of all ways to cut the sorted values into `count` runs."""
    order = np.argsort(values)
    values, weight = values[order], weight[order]
    best = np.inf
    for cuts in itertools.combinations(range(1, len(values)), count - 1):
        ends = [0, *cuts, len(values)]
        total = 0.0
        for a, b in itertools.pairwise(ends):
            mean = np.average(values[a:b], weights=weight[a:b])
            total += float((weight[a:b] * (values[a:b] - mean) ** 2).sum())
        best = min(best, total)
    return best


@pytest.mark.parametrize(("n", "count"), [(7, 1), (8, 2), (9, 3), (11, 4), (9, 8)])
def test_kmeans_finds_the_best_of_all_partitions(n: int, count: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(5):
        values, weight = rng.standard_normal(n) + 3, rng.uniform(0.1, 2, n)
        for w, importance in ((np.ones(n), None), (weight, weight)):
            book = kmeans(values, count, importance)
            error = float((w * (values - book.values.astype(np.float64)) ** 2).sum())
            assert error == pytest.approx(least_error(values, w, count), rel=1e-6, abs=1e-12)


def test_kmeans_keeps_the_shape_and_assigns_the_nearest_centre() -> None:
    values = np.random.default_rng(0).standard_normal((20, 30)).astype(np.float32)
    book = kmeans(values, 32)
    assert book.labels.shape == values.shape
    assert len(book.centres) == 32
    assert (np.diff(book.centres) > 0).all()
    nearest = np.abs(values[..., None] - book.centres).argmin(axis=-1)
    np.testing.assert_array_equal(book.labels, nearest)
    np.testing.assert_array_equal(assign(values, book.centres), nearest)


def test_few_distinct_values_are_kept_exactly() -> None:
    values = np.array([[0.25, -1.5], [0.25, 7.0]], np.float32)
    book = kmeans(values, 512)
    np.testing.assert_array_equal(book.values, values)
    assert book.centres.tolist() == [-1.5, 0.25, 7.0]


def test_many_values_are_gathered_without_much_loss() -> None:
    values = np.random.default_rng(2).standard_normal(40_000)
    book = kmeans(values, 16)
    # The optimal quantiser of 16 levels for a normal density: Max, "Quantizing for minimum distortion", 1960.
    assert np.mean(np.square(values - book.values)) == pytest.approx(0.009497, rel=0.03)


def test_importance_moves_centres_to_what_matters() -> None:
    values = np.array([0.0, 1.0, 10.0, 11.0])
    book = kmeans(values, 3, np.array([1.0, 1.0, 1e6, 1e6]))
    np.testing.assert_array_equal(book.values, np.array([0.5, 0.5, 10, 11], np.float32))


# -------------------------------------------------------------------------------------------------------------- stream


def random_matrices(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    sparse = np.where(rng.random((40, 40)) < 0.9, 0, np.rint(8 * rng.standard_normal((40, 40))))
    extremes = np.array([[LIMIT - 1, 1 - LIMIT, 0], [1, -1, 2]])
    return [
        np.rint(3 * rng.standard_normal((16, 3))).astype(np.int64),
        np.rint(1000 * rng.standard_normal((16, 16))).astype(np.int64),
        sparse.astype(np.int64),
        np.zeros((5, 7), np.int64),
        rng.integers(-3, 4, 16),
        extremes,
        np.empty((0, 4), np.int64),
    ]


def test_matrices_round_trip() -> None:
    matrices = random_matrices(1)
    stream = encode_matrices(matrices)
    assert stream == encode_matrices(matrices)
    for wanted, found in zip(matrices, decode_matrices(stream, [m.shape for m in matrices]), strict=True):
        np.testing.assert_array_equal(found, wanted)


def entropy_bytes(symbols: np.ndarray) -> float:
    counts = np.unique(symbols, return_counts=True)[1]
    return float((counts * np.log2(counts.sum() / counts)).sum()) / 8


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_matrices_come_close_to_their_entropy(bits: int) -> None:
    rng = np.random.default_rng(bits)
    matrices = [np.rint(rng.standard_normal((48, 48)) * 2**bits / 4).astype(np.int64) for _ in range(6)]
    entropy = sum(entropy_bytes(m) for m in matrices)
    assert entropy * 0.99 < len(encode_matrices(matrices)) < entropy * 1.03 + 30


def test_many_bits_per_weight_cost_less_than_in_the_stream_of_grid_levels() -> None:
    matrices = [np.rint(500 * np.random.default_rng(0).standard_normal((32, 32))).astype(np.int64) for _ in range(4)]
    groups = encode_groups([m.reshape(-1, 1) for m in matrices], [Group(m.size, 1) for m in matrices])
    assert len(encode_matrices(matrices)) < 0.8 * len(groups)


def test_rows_and_columns_of_their_own_size_are_worth_less() -> None:
    rng = np.random.default_rng(3)
    scale = np.geomspace(0.3, 60, 40)
    plain = rng.standard_normal((40, 40))
    # The same symbols in another order: only what surrounds them tells their size.
    for matrix in (plain * scale[:, None], plain * scale):
        symbols = np.rint(matrix).astype(np.int64)
        shuffled = rng.permutation(symbols.ravel()).reshape(symbols.shape)
        assert len(encode_matrices([symbols])) < 0.9 * len(encode_matrices([shuffled]))


def test_zeros_cost_little() -> None:
    rng = np.random.default_rng(4)
    matrix = np.zeros((64, 64), np.int64)
    assert len(encode_matrices([matrix])) < 16
    where = rng.random(matrix.shape) < 0.1
    matrix[where] = rng.integers(1, 9, int(where.sum()))
    share = where.mean()
    significance = -(share * np.log2(share) + (1 - share) * np.log2(1 - share)) * matrix.size / 8
    # A value of eight and a sign of each that is there.
    assert len(encode_matrices([matrix])) < 1.05 * (significance + int(where.sum()) * 4 / 8) + 30


def test_the_stream_is_pinned() -> None:
    """Changed bytes are a new format version."""
    matrices = [np.array([[1, 0, -3], [40, -500, 7]]), np.array([0, 0, 1, 0]), np.array([[-70000]])]
    assert encode_matrices(matrices).hex() == "73ba6aaed87629b0f0ccd5"


def test_the_definition_reads_the_stream() -> None:
    matrices = random_matrices(11)[:6]
    coder = Decoder(encode_matrices(matrices))
    for number, matrix in enumerate(matrices):
        np.testing.assert_array_equal(siren_symbols(coder, number, matrix.shape), matrix)


def test_codebooks_round_trip() -> None:
    rng = np.random.default_rng(5)
    books = [kmeans(rng.standard_normal(s), k) for s, k in (((16, 16), 20), ((16,), 3), ((4, 9), 512))]
    stream = encode_codebooks(books)
    for wanted, found in zip(books, decode_codebooks(stream, [b.labels.shape for b in books]), strict=True):
        np.testing.assert_array_equal(found.centres, wanted.centres)
        np.testing.assert_array_equal(found.labels, wanted.labels)
        np.testing.assert_array_equal(found.values, wanted.values)


def test_labels_take_their_entropy_not_their_width() -> None:
    values = np.random.default_rng(6).standard_normal((64, 64)) ** 3
    book = kmeans(np.round(values, 3), 64)
    labels = len(encode_codebooks([book])) - 4 * len(book.centres)
    assert labels < 1.03 * entropy_bytes(book.labels) + 40
    assert labels < 0.9 * 64 * 64 * 6 / 8


@pytest.mark.parametrize("shapes", [[(16, 16), (16,)], [(4, 4)]])
def test_damaged_streams_are_refused_or_decode_to_what_fits(shapes: list[tuple[int, ...]]) -> None:
    rng = random.Random(7)
    numbers = np.random.default_rng(7)
    books = [kmeans(numbers.standard_normal(s), 12) for s in shapes]
    stream = encode_codebooks(books)
    refused = 0
    for number in range(400):
        bad = bytearray(stream)
        if number % 3 == 0:
            del bad[rng.randrange(len(bad)) :]
        else:
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        try:
            for shape, book in zip(shapes, decode_codebooks(bytes(bad), shapes), strict=True):
                assert book.values.shape == shape
                assert np.isfinite(book.values).all()
        except FormatError:
            refused += 1
    assert refused > 100


def test_what_a_stream_cannot_hold_is_refused_before_it_is_allocated() -> None:
    with pytest.raises(FormatError, match="cannot hold 1000000000000 weights"):
        decode_matrices(b"\1\2\3", [(1_000_000, 1_000_000)])
    with pytest.raises(FormatError, match="ends before the weights do"):
        decode_matrices(encode_matrices([np.arange(900).reshape(30, 30)])[:200], [(30, 30)])
    with pytest.raises(FormatError, match="do not fit into"):
        decode_codebooks(b"\xff\xff\xff\xff\x0f" + b"\0" * 20, [(2, 2)])


# ---------------------------------------------------------------------------------------------------------- allocation


def test_allocation_is_the_best_of_all_where_curves_are_convex() -> None:
    rng = np.random.default_rng(8)
    bits = np.arange(2, 8)
    curves = [[Choice(float(b), float(s) * 4.0**-b) for b in bits] for s in rng.uniform(0.1, 50, 5)]
    for limit in (0.05, 0.4, 2.0):
        chosen = allocate(curves, limit)
        assert sum(c[i].error for c, i in zip(curves, chosen, strict=True)) <= limit
        size = sum(c[i].nbytes for c, i in zip(curves, chosen, strict=True))
        best = min(
            sum(c.nbytes for c in combination)
            for combination in itertools.product(*curves)
            if sum(c.error for c in combination) <= limit
        )
        # Prices reach the corners of the hull alone; between two of them lies one step of one array.
        assert size <= best + 1


def test_an_error_that_cannot_be_had_gives_the_least_one() -> None:
    curves = [[Choice(1, 9.0), Choice(2, 3.0)], [Choice(1, 5.0), Choice(7, 5.0)]]
    assert allocate(curves, 1.0) == [1, 0]
