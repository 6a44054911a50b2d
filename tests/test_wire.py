"""Records survive the way to bytes and back, and nothing but a FormatError comes out of damaged ones."""

from __future__ import annotations

import math
import random
import struct
from dataclasses import dataclass, fields
from typing import Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurcomp_core.coding.wire import pack, read_varint, unpack, write_varint
from neurcomp_core.errors import FormatError


@dataclass(frozen=True)
class Inner:
    count: int
    weight: float = 1.0


@dataclass(frozen=True)
class Everything:
    flag: bool = False
    number: int = 0
    real: float = 0.0
    text: str = ""
    raw: bytes = b""
    ints: tuple[int, ...] = ()
    reals: tuple[float, ...] = (0.0, 0.0, 0.0)
    inner: Inner = Inner(3)
    many: tuple[Inner, ...] = ()
    maybe: int | None = None
    perhaps: Optional[str] = None  # noqa: UP045  (the old spelling must work, too)
    reals_or_none: tuple[float, ...] | None = None
    inner_or_none: Inner | None = None


@dataclass(frozen=True)
class Required:
    number: int
    items: tuple[Inner, ...]
    numbers: tuple[int, ...]


integers = st.integers(-(2**64) + 1, 2**64 - 1)
floats = st.floats(allow_nan=False)
texts = st.text(st.characters(exclude_categories=["Cs"]))
inners = st.builds(Inner, integers, floats)
records = st.builds(
    Everything,
    st.booleans(),
    integers,
    floats,
    texts,
    st.binary(),
    st.lists(integers).map(tuple),
    st.lists(floats).map(tuple),
    inners,
    st.lists(inners, max_size=4).map(tuple),
    st.none() | integers,
    st.none() | texts,
    st.none() | st.lists(floats).map(tuple),
    st.none() | inners,
)

SAMPLE = Everything(
    True, -70000, 1 / 3, "Wärme", b"\0\xff" * 5, (1, -2, 300), (0.1, 2.0), Inner(9, 0.5), (Inner(1), Inner(2, 7.0)),
    5, "x" * 40, (1.5,), Inner(0),
)  # fmt: skip


@given(records)
def test_round_trip(record):
    again = unpack(Everything, pack(record))
    assert again == record
    # repr tells 0.0 from -0.0 and True from 1.
    assert repr(again) == repr(record)


@given(st.lists(inners, max_size=3).map(tuple), st.lists(integers).map(tuple))
def test_round_trip_of_required_fields(items, numbers):
    record = Required(0, items, numbers)
    assert unpack(Required, pack(record)) == record


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1e300, 3.4028235677973366e38])
def test_extraordinary_floats(value):
    record = unpack(Everything, pack(Everything(real=value, reals=(value, 1.0))))
    assert struct.pack("<d", record.real) == struct.pack("<d", value)
    assert struct.pack("<d", record.reals[0]) == struct.pack("<d", value)


def test_defaults_take_no_bytes():
    assert pack(Everything()) == b""
    assert unpack(Everything, b"") == Everything()
    assert pack(Everything(inner=Inner(3, 1.0), reals=(0.0, 0.0, 0.0))) == b""


def test_a_negative_zero_is_not_its_default():
    record = unpack(Everything, pack(Everything(real=-0.0, reals=(0.0, -0.0, 0.0), inner=Inner(3, -0.0))))
    assert math.copysign(1, record.real) == -1
    assert math.copysign(1, record.reals[1]) == -1
    assert unpack(Inner, pack(Inner(3, -0.0))).weight == 0


def test_exact_bytes():
    # Key = tag << 3 | kind, integers zigzag, floats 4 bytes where that is exact.
    assert pack(Everything(flag=True)) == bytes([1 << 3, 2])
    assert pack(Everything(number=-1)) == bytes([2 << 3, 1])
    assert pack(Everything(number=150)) == bytes([2 << 3, 0xAC, 0x02])
    assert pack(Everything(real=0.5)) == bytes([3 << 3 | 5]) + struct.pack("<f", 0.5)
    assert pack(Everything(real=0.1)) == bytes([3 << 3 | 1]) + struct.pack("<d", 0.1)
    assert pack(Everything(text="né")) == bytes([4 << 3 | 2, 3]) + "né".encode()
    assert pack(Everything(ints=(0, -1, 1))) == bytes([6 << 3 | 2, 3, 0, 1, 2])
    # A run of floats is as short as it can be: integers over a power of ten, float32, float64.
    assert pack(Everything(reals=(1.0, -2.0))) == bytes([7 << 3 | 2, 3, 0, 2, 3])
    assert pack(Everything(reals=(1.0, 0.1))) == bytes([7 << 3 | 2, 3, 1, 20, 2])
    third = struct.unpack("<f", struct.pack("<f", 1 / 3))[0]
    assert pack(Everything(reals=(1.0, third))) == bytes([7 << 3 | 2, 9]) + b"f" + struct.pack("<2f", 1, third)
    assert pack(Everything(reals=(-0.0, 1.0))) == bytes([7 << 3 | 2, 9]) + b"f" + struct.pack("<2f", -0.0, 1)
    assert pack(Everything(reals=(1.0, 1 / 3))) == bytes([7 << 3 | 2, 17]) + b"d" + struct.pack("<2d", 1, 1 / 3)
    assert pack(Everything(many=(Inner(1), Inner(2)))) == bytes([9 << 3 | 2, 2, 8, 2, 9 << 3 | 2, 2, 8, 4])


def test_an_old_reader_skips_new_fields_and_a_new_reader_fills_in_defaults():
    @dataclass(frozen=True)
    class Old:
        flag: bool = False
        number: int = 0

    assert unpack(Old, pack(SAMPLE)) == Old(True, -70000)
    assert unpack(Everything, pack(Old(True, 7))) == Everything(flag=True, number=7)


@given(st.integers(0, 2**70 - 1))
def test_varint(value):
    data = write_varint(value)
    assert len(data) == max(1, -(-value.bit_length() // 7))
    assert read_varint(memoryview(b"\xff" + data + b"\x01"), 1) == (value, 1 + len(data))


def test_numbers_too_long_are_refused_on_both_sides():
    with pytest.raises(OverflowError, match="70 bits"):
        pack(Everything(number=2**70))
    with pytest.raises(FormatError, match="longer than 64 bits"):
        unpack(Everything, bytes([2 << 3]) + b"\xff" * 10 + b"\x01")


def test_missing_required_field_is_named():
    with pytest.raises(FormatError, match="'number'"):
        unpack(Required, b"")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bytes([2 << 3 | 2, 0]), "'number'.*wrong kind"),
        (bytes([3 << 3, 0]), "'real'.*wrong kind"),
        (bytes([4 << 3, 0]), "'text'.*wrong kind"),
        (bytes([9 << 3, 0]), "'many'.*wrong kind"),
        (bytes([2 << 3 | 3, 0]), "unknown kind 3"),
        (bytes([4 << 3 | 2, 5, 65]), "ends inside a field"),
        (bytes([4 << 3 | 2, 1, 0xFF]), "not UTF-8"),
        (bytes([7 << 3 | 2, 0]), "wrong length"),
        (bytes([7 << 3 | 2, 4]) + b"fab!", "wrong length"),
        (bytes([2 << 3, 0x80]), "ends inside a number"),
        # A length of 2^63 must fail before anything is allocated.
        (bytes([4 << 3 | 2]) + b"\xff" * 9 + b"\x01", "ends inside a field"),
    ],
)
def test_damage_is_described(data, message):
    with pytest.raises(FormatError, match=message):
        unpack(Everything, data)


def test_every_truncation_is_a_format_error_or_a_shorter_record():
    data = pack(SAMPLE)
    for end in range(len(data)):
        try:
            record = unpack(Everything, data[:end])
        except FormatError:
            continue
        assert record != SAMPLE


def test_mutations_give_a_record_or_a_format_error():
    random_ = random.Random(5)
    data = pack(SAMPLE)
    refused = 0
    for _ in range(4000):
        damaged = bytearray(data)
        for _ in range(random_.randint(1, 4)):
            at = random_.randrange(len(damaged))
            action = random_.randrange(4)
            if action == 0:
                damaged[at] ^= 1 << random_.randrange(8)
            elif action == 1:
                damaged[at] = random_.choice((0, 0x7F, 0x80, 0xFF))
            elif action == 2:
                damaged[at:at] = random_.randbytes(random_.randint(1, 3))
            else:
                del damaged[at : at + random_.randint(1, 3)]
        refused += not _survives(bytes(damaged))
    assert refused > 400


@given(st.binary(max_size=60))
@settings(max_examples=300)
def test_random_bytes_give_a_record_or_a_format_error(data):
    _survives(data)


def _survives(data: bytes) -> bool:
    try:
        record = unpack(Everything, data)
    except FormatError:
        return False
    kinds = (bool, int, float, str, bytes, tuple, tuple, Inner, tuple)
    for field, kind in zip(fields(record), kinds, strict=False):
        assert type(getattr(record, field.name)) is kind
    return True


def test_unsupported_types_are_refused():
    @dataclass(frozen=True)
    class Wrong:
        table: list = None  # type: ignore[assignment]

    with pytest.raises(TypeError, match="no wire form"):
        pack(Wrong(table=[1]))
    with pytest.raises(TypeError, match="dataclass"):
        pack(3)
    with pytest.raises(TypeError, match="number is None"):
        pack(Everything(number=None))  # type: ignore[arg-type]
