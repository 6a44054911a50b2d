"""Compact binary records: a frozen dataclass to bytes and back.

Each field is a varint key ``(tag << 3) | kind``, tag = position in the dataclass + 1, then its value; a field that
equals its default takes no bytes. Kinds are protobuf's: 0 varint, 1 float64, 2 length and bytes, 5 float32. Integers
are zigzag varints; a float is a float32 when that is exact; a tuple of numbers is one packed run,
floats in it float32, float64 or short decimals, whichever is shortest and exact. Fields are only ever
appended, so an old reader skips a newer field and a newer reader fills in its default.
"""

from __future__ import annotations

import dataclasses
import functools
import struct
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

from neurcomp_core.errors import FormatError

T = TypeVar("T")
VARINT, FLOAT64, BYTES, FLOAT32 = 0, 1, 2, 5
# A quotient of integers below 2**53 and a power of ten up to 10**22 is rounded once, hence alike everywhere.
_PLACES, _EXACT = 16, 1 << 53


def write_varint(value: int) -> bytes:
    """Unsigned little-endian base 128, of at most 70 bits (64 and the sign of a zigzag)."""
    if value >> 70:
        raise OverflowError(f"{value} does not fit a varint of at most 70 bits")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: memoryview, at: int) -> tuple[int, int]:
    """Value and the offset behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise FormatError("a record ends inside a number; the file is truncated or damaged")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise FormatError("a number in a record is longer than 64 bits; the file is damaged")


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def _unzigzag(value: int) -> int:
    return value >> 1 if not value & 1 else -((value + 1) >> 1)


def _is_float32(value: float) -> bool:
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0] == value
    except OverflowError:
        return False


@functools.cache
def _schema(cls: type) -> list[tuple[str, Any, Any]]:
    hints = typing.get_type_hints(cls)
    return [(f.name, _strip_optional(hints[f.name]), f.default) for f in dataclasses.fields(cls)]


def _strip_optional(hint: Any) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return next(a for a in typing.get_args(hint) if a is not type(None))
    return hint


def pack(record: Any) -> bytes:
    """Bytes of a dataclass instance whose fields are bool, int, float, str, bytes, records, or tuples of these."""
    out = bytearray()
    for tag, (name, hint, default) in enumerate(_schema(type(record)), 1):
        value = getattr(record, name)
        if value is None:
            if default is not None:
                raise TypeError(f"{type(record).__name__}.{name} is None, which only a default of None can carry")
            continue
        items = _items(value, hint)
        # The bytes are compared, too: -0.0 equals a default of 0.0.
        if value == default and items == _items(default, hint):
            continue
        for kind, data in items:
            out += write_varint(tag << 3 | kind) + data
    return bytes(out)


def _is_records(hint: Any) -> bool:
    return typing.get_origin(hint) is tuple and dataclasses.is_dataclass(typing.get_args(hint)[0])


def _items(value: Any, hint: Any) -> list[tuple[int, bytes]]:
    if _is_records(hint):
        return [(BYTES, _block(pack(item))) for item in value]
    return [_pack_value(value, hint)]


def _block(data: bytes) -> bytes:
    return write_varint(len(data)) + data


def _pack_value(value: Any, hint: Any) -> tuple[int, bytes]:
    if dataclasses.is_dataclass(hint):
        return BYTES, _block(pack(value))
    if hint in (int, bool):
        return VARINT, write_varint(_zigzag(int(value)))
    if hint is float:
        return (FLOAT32, struct.pack("<f", value)) if _is_float32(value) else (FLOAT64, struct.pack("<d", value))
    if hint is str:
        return BYTES, _block(value.encode())
    if hint is bytes:
        return BYTES, _block(value)
    if hint == tuple[int, ...]:
        return BYTES, _block(b"".join(write_varint(_zigzag(int(v))) for v in value))
    if hint == tuple[float, ...]:
        width = "f" if all(_is_float32(v) for v in value) else "d"
        plain = width.encode() + struct.pack(f"<{len(value)}{width}", *value)
        return BYTES, _block(min(plain, _decimals(value) or plain, key=len))
    raise TypeError(f"no wire form for {hint}")


def _decimals(values: tuple[float, ...]) -> bytes | None:
    """A run of short decimals, ``integer / 10**places``: the places, then the integers; None if one is none."""
    for places in range(_PLACES):
        wholes = [round(v * 10**places) if abs(v) < _EXACT / 10**places else 0 for v in values]
        # The bytes are compared, since 0 equals -0.0.
        if struct.pack(f"<{len(values)}d", *(w / 10**places for w in wholes)) == struct.pack(
            f"<{len(values)}d", *values
        ):
            return bytes([places]) + b"".join(write_varint(_zigzag(w)) for w in wholes)
    return None


def unpack(cls: type[T], data: bytes | memoryview) -> T:
    """Inverse of `pack`.

    Raises
    ------
    FormatError
        If the bytes are not a record of this class. Values are checked for type, not for meaning.
    """
    view = memoryview(data)
    schema = _schema(cls)
    found: dict[str, Any] = {}
    at = 0
    while at < len(view):
        key, at = read_varint(view, at)
        tag, kind = key >> 3, key & 7
        raw, at = _read_raw(view, at, kind)
        if not 1 <= tag <= len(schema):
            continue
        name, hint, _ = schema[tag - 1]
        if _is_records(hint):
            _expect(kind, (BYTES,), name)
            found.setdefault(name, []).append(unpack(typing.get_args(hint)[0], raw))
        else:
            found[name] = _unpack_value(raw, kind, hint, name)
    for name, hint, default in schema:
        if _is_records(hint) and (name in found or default is dataclasses.MISSING):
            # No item leaves no bytes.
            found[name] = tuple(found.get(name, ()))
    missing = [n for n, _, default in schema if n not in found and default is dataclasses.MISSING]
    if missing:
        raise FormatError(f"a record lacks its field '{missing[0]}'; the file is damaged")
    return cls(**found)


def _read_raw(view: memoryview, at: int, kind: int) -> tuple[Any, int]:
    if kind == VARINT:
        return read_varint(view, at)
    if kind == BYTES:
        length, at = read_varint(view, at)
    else:
        length = {FLOAT64: 8, FLOAT32: 4}.get(kind, -1)
    if length < 0:
        raise FormatError(f"a record holds a field of unknown kind {kind}; the file is damaged")
    if at + length > len(view):
        raise FormatError("a record ends inside a field; the file is truncated or damaged")
    return view[at : at + length], at + length


def _expect(kind: int, kinds: tuple[int, ...], name: str) -> None:
    if kind not in kinds:
        raise FormatError(f"the field '{name}' of a record has the wrong kind ({kind}); the file is damaged")


def _unpack_value(raw: Any, kind: int, hint: Any, name: str) -> Any:
    if hint is int or hint is bool:
        _expect(kind, (VARINT,), name)
        return hint(_unzigzag(raw))
    if hint is float:
        _expect(kind, (FLOAT32, FLOAT64), name)
        return struct.unpack("<f" if kind == FLOAT32 else "<d", raw)[0]
    _expect(kind, (BYTES,), name)
    if dataclasses.is_dataclass(hint):
        return unpack(typing.cast(type, hint), raw)
    return _FROM_BYTES[hint](raw)


def _text(raw: memoryview) -> str:
    try:
        return bytes(raw).decode()
    except UnicodeDecodeError as error:
        raise FormatError("a name in the header is not UTF-8; the file is damaged") from error


def _ints(raw: memoryview) -> tuple[int, ...]:
    values, at = [], 0
    while at < len(raw):
        value, at = read_varint(raw, at)
        values.append(_unzigzag(value))
    return tuple(values)


def _floats(raw: memoryview) -> tuple[float, ...]:
    if len(raw) and raw[0] < _PLACES:
        wholes = _ints(raw[1:])
        if any(abs(w) >= _EXACT for w in wholes):
            raise FormatError("a decimal number in the header has too many digits; the file is damaged")
        return tuple(w / 10 ** raw[0] for w in wholes)
    width = {ord("f"): 4, ord("d"): 8}.get(raw[0] if len(raw) else -1)
    if width is None or (len(raw) - 1) % width:
        raise FormatError("a run of numbers in the header has a wrong length; the file is damaged")
    return struct.unpack(f"<{(len(raw) - 1) // width}{chr(raw[0])}", raw[1:])


_FROM_BYTES: dict[Any, Callable[[memoryview], Any]] = {
    str: _text,
    bytes: bytes,
    tuple[int, ...]: _ints,
    tuple[float, ...]: _floats,
}
