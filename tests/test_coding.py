"""The integer coders: exact inverses, near the entropy, the same bytes everywhere, and safe with any bytes."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurcomp_core import masks
from neurcomp_core.coding import mixing as mx
from neurcomp_core.coding.weights import LIMIT, Group, decode_groups, encode_groups
from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import FormatError
from neurcomp_core.field import Field

# ------------------------------------------------------------------------------------------------------------- tables


def test_tables_are_far_from_rounding_boundaries() -> None:
    # So that a libm that errs in the last place still gives the same integers.
    squash = [65536 / (1 + math.exp(-x / 256)) for x in range(-2815, 2816)]
    stretch = [256 * math.log((2 * i + 1) / (8192 - 2 * i - 1)) for i in range(4096)]
    for table, exact in ((mx.SQUASH, squash), (mx.STRETCH, stretch)):
        assert min(abs(v % 1 - 0.5) for v in exact) > 1e-6
        assert np.abs(table - np.array(exact)).max() <= 0.5
    assert (mx.SQUASH.min(), mx.SQUASH.max()) == (1, 65535)
    assert mx.SQUASH[2815] == 32768
    np.testing.assert_array_equal(mx.STRETCH, -mx.STRETCH[::-1])


# -------------------------------------------------------------------------------------------------------- range coder


def encode_bits(bits: list[int], probabilities: list[int]) -> bytes:
    state, out = np.zeros(5, np.int64), np.empty(3 * len(bits) + 16, np.uint8)
    mx.start_encoder(state)
    for bit, p in zip(bits, probabilities, strict=True):
        mx.encode_bit(state, out, p, bit)
    return out[: mx.finish_encoder(state, out)].tobytes()


def decode_bits(data: bytes, probabilities: list[int]) -> tuple[list[int], int]:
    state, source = np.zeros(5, np.int64), np.frombuffer(data, np.uint8)
    mx.start_decoder(state, source)
    return [int(mx.decode_bit(state, source, p)) for p in probabilities], int(state[4])


decisions = st.lists(st.tuples(st.integers(0, 1), st.one_of(st.integers(1, 65535), st.sampled_from([1, 32768, 65535]))))


@settings(deadline=None)
@given(decisions, st.integers(1, 40))
def test_bits_return(pairs: list[tuple[int, int]], repeats: int) -> None:
    bits, probabilities = [b for b, _ in pairs] * repeats, [p for _, p in pairs] * repeats
    data = encode_bits(bits, probabilities)
    decoded, read = decode_bits(data, probabilities)
    assert decoded == bits
    assert read <= len(data) + mx.SPARE
    ideal = sum(-math.log2((p if b else 65536 - p) / 65536) for b, p in zip(bits, probabilities, strict=True)) / 8
    assert len(data) <= ideal * 1.02 + 5


@pytest.mark.parametrize("bit", [0, 1])
@pytest.mark.parametrize("probability", [1, 100, 65435, 65535])
def test_long_runs_carry_and_end_within_the_look_ahead(bit: int, probability: int) -> None:
    # Ones leave the low end of the range at zero: a stream of nothing but zero bytes.
    bits, probabilities = [bit] * 3000, [probability] * 3000
    data = encode_bits(bits, probabilities)
    decoded, read = decode_bits(data, probabilities)
    assert decoded == bits
    assert read <= len(data) + mx.SPARE


def test_words_are_pinned() -> None:
    bits = [1, 0, 0, 1, 1, 1, 0, 1, 0, 0, 0, 0, 1, 0, 1, 1]
    odds = [32768, 1000, 60000, 60000, 5, 65535, 65535, 20000] * 2
    assert encode_bits(bits, odds).hex() == "75597ef21d1f028121"


# ------------------------------------------------------------------------------------------------------ parameter coder

symbols = st.one_of(st.integers(-3, 3), st.integers(-40, 40), st.integers(1 - LIMIT, LIMIT - 1))


@st.composite
def grouped(draw: st.DrawFn) -> tuple[list[np.ndarray], list[Group]]:
    values, groups = [], []
    for _ in range(draw(st.integers(1, 4))):
        features = draw(st.integers(1, 4))
        rows = draw(st.integers(0, 30))
        flat = draw(st.lists(symbols, min_size=rows * features, max_size=rows * features))
        strides = draw(st.sampled_from([(0, 0, 0), (1, 0, 0), (1, 3, 0), (1, 3, 9)]))
        array = np.array(flat, np.int64).reshape(rows, features)
        reachable = None
        if draw(st.booleans()):
            reachable = np.array(draw(st.lists(st.booleans(), min_size=rows, max_size=rows)), bool)
            array[~reachable] = 0
        values.append(array)
        groups.append(Group(rows, features, strides, reachable))
    return values, groups


@settings(deadline=None, max_examples=150)
@given(grouped())
def test_groups_return(pair: tuple[list[np.ndarray], list[Group]]) -> None:
    values, groups = pair
    data = encode_groups(values, groups)
    for got, given_ in zip(decode_groups(data, groups), values, strict=True):
        np.testing.assert_array_equal(got, given_)


def laplace(rows: int, features: int, scale: float, seed: int = 3) -> np.ndarray:
    return np.rint(np.random.default_rng(seed).laplace(0, scale, (rows, features))).astype(np.int64)


@pytest.mark.parametrize(("scale", "excess"), [(0.2, 1.04), (1.0, 1.03), (6.0, 1.04)])
def test_unrelated_values_cost_their_entropy(scale: float, excess: float) -> None:
    values = laplace(20000, 2, scale)
    _, counts = np.unique(values, return_counts=True)
    shares = counts / values.size
    entropy = -(shares * np.log2(shares)).sum() * values.size / 8
    assert len(encode_groups([values], [Group(20000, 2)])) < excess * entropy


def test_neighbours_help() -> None:
    r = 24
    z, y, x = np.mgrid[:r, :r, :r]
    values = np.rint(4 * np.sin(x / 5) * np.cos(y / 6) * np.sin(z / 4)).astype(np.int64).reshape(-1, 1)
    alone = len(encode_groups([values], [Group(r**3, 1)]))
    together = len(encode_groups([values], [Group(r**3, 1, (1, r, r * r))]))
    assert together < 0.6 * alone


def test_unreachable_rows_come_back_as_zeros_whatever_they_held() -> None:
    rng = np.random.default_rng(4)
    values = rng.integers(-9, 10, (64, 2))
    marks = rng.random(64) < 0.7
    group = Group(64, 2, (1, 4, 16), marks)
    (decoded,) = decode_groups(encode_groups([values], [group]), [group])
    np.testing.assert_array_equal(decoded, np.where(marks[:, None], values, 0))


def test_unreachable_rows_cost_nothing() -> None:
    values = laplace(400, 2, 2.0)
    marks = np.zeros(40000, bool)
    marks[::100] = True
    spread = np.zeros((40000, 2), np.int64)
    spread[marks] = values
    assert encode_groups([spread], [Group(40000, 2, reachable=marks)]) == encode_groups([values], [Group(400, 2)])


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=200), st.integers(0, 3000))
def test_any_bytes_give_integers_or_our_error(data: bytes, rows: int) -> None:
    groups = [Group(rows, 2, (1, 7, 49)), Group(50, 1)]
    try:
        arrays = decode_groups(data, groups)
    except FormatError:
        return
    assert [a.shape for a in arrays] == [(rows, 2), (50, 1)]
    assert all(np.abs(a).max(initial=0) < LIMIT for a in arrays)


def test_cut_streams_are_noticed() -> None:
    groups = [Group(500, 2)]
    data = encode_groups([laplace(500, 2, 3.0)], groups)
    for length in range(0, len(data) - mx.SPARE - 4, 7):
        with pytest.raises(FormatError, match="parameters is damaged"):
            decode_groups(data[:length], groups)


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=120), st.sampled_from([(5, 6, 7), (1, 1, 90), (4, 5, 6, 2)]))
def test_any_bytes_give_a_mask_or_our_error(data: bytes, shape: tuple[int, ...]) -> None:
    for section in (data, masks.wire.pack(masks._Record(b"\1\2\3\4", b"", data))):
        try:
            labels, patterns = masks.read(section, ArraySpec(shape, np.dtype(np.float32)))
        except FormatError:
            continue
        assert labels.shape == patterns.shape == shape


# ------------------------------------------------------------------------------------------------- the same everywhere


def small_streams() -> dict[str, str]:
    """Streams of fixed small inputs, and whether they decode to them, as text."""
    grid = np.arange(64).reshape(64, 1) % 7 - 3
    values = [np.hstack([grid, -grid // 2]), laplace(24, 1, 30.0), np.array([[LIMIT - 1], [0], [-25]])]
    reachable = np.ones(64, bool)
    reachable[40:50] = False
    values[0][~reachable] = 0
    groups = [Group(64, 2, (1, 4, 16), reachable), Group(24, 1), Group(3, 1)]
    stream = encode_groups(values, groups)
    back = all(np.array_equal(a, b) for a, b in zip(decode_groups(stream, groups), values, strict=True))
    holes = np.ones((4, 5, 6, 2), np.float32)
    holes[1:3, 2:, 1:4] = np.nan
    holes[0, :, 5, 1] = -999
    _, section = masks.split(Field(holes, mask=holes == -999))
    labels, _ = masks.read(section, ArraySpec(holes.shape, holes.dtype))
    return {
        "weights": stream.hex(),
        "mask": section.hex(),
        "right": str(back and np.array_equal(labels != 0, holes != 1)),
    }


def test_streams_are_pinned() -> None:
    # These bytes are the format: they change with its version only.
    assert small_streams() == {
        "weights": "14738a4142697db348307b931388b5e17469f7be7c53356c3d8e1b754f122c9273beb04d3e0a1f71ab9de5ada634852e"
        "2ed29ed912602953b0",
        "mask": "0a080000c07f00c079c41a0db6f21a9b6a1a7e0894a56029e5",
        "right": "True",
    }


def test_compiled_and_interpreted_code_agree() -> None:
    done = subprocess.run(
        [sys.executable, __file__], capture_output=True, text=True, env={**os.environ, "NUMBA_DISABLE_JIT": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == small_streams()


if __name__ == "__main__":
    print(json.dumps(small_streams()))
