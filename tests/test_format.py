"""A second reader, written from FORMAT.md alone in plain Python, opens the golden files: the definition is complete."""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from collections import defaultdict
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

GOLDEN = Path(__file__).parent / "golden"
DTYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
Raw = tuple[int, Any]  # kind and value of a field


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def zigzag(value: int) -> int:
    return -(value + 1) // 2 if value & 1 else value // 2


def record(data: bytes) -> dict[int, list[Raw]]:
    at, found = 0, defaultdict(list)
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
            found[key >> 3].append((0, zigzag(value)))
            continue
        length = {1: 8, 5: 4}.get(key & 7)
        if length is None:
            length, at = varint(data, at)
        raw = data[at : at + length]
        at += length
        found[key >> 3].append((key & 7, raw))
    return found


def number(found: dict[int, list[Raw]], tag: int, default: float) -> Any:
    if tag not in found:
        return default
    kind, value = found[tag][-1]
    return value if kind == 0 else struct.unpack({1: "<d", 5: "<f"}[kind], value)[0]


def raw(found: dict[int, list[Raw]], tag: int) -> bytes:
    return found[tag][-1][1] if tag in found else b""


def ints(data: bytes) -> list[int]:
    at, out = 0, []
    while at < len(data):
        value, at = varint(data, at)
        out.append(zigzag(value))
    return out


SQUASH = [min(max(round(65536 / (1 + math.exp(-s / 256))), 1), 65535) for s in range(-2815, 2816)]
STRETCH = [round(256 * math.log((2 * i + 1) / (8191 - 2 * i))) for i in range(4096)]
RATE = [655360 // (10 * n + 16) for n in range(256)]
ROOT = (1.0, 1.189207115002721, 1.4142135623730951, 1.681792830507429)


class Decoder:
    """FORMAT.md, "Entropy coder"."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.range, self.code = data, 0, 2**32 - 1, 0
        self.models: dict[Hashable, list[int]] = defaultdict(lambda: [1 << 21, 0])
        self.weights: dict[Hashable, list[int]] = {}
        for _ in range(4):
            self.feed()

    def feed(self) -> None:
        byte = self.data[self.at] if self.at < len(self.data) else 0
        self.at += 1
        self.code = (self.code << 8 | byte) % 2**32

    def bit(self, p: int) -> int:
        bound = (self.range >> 16) * p
        b = int(self.code < bound)
        if b:
            self.range = bound
        else:
            self.code -= bound
            self.range -= bound
        while self.range < 2**24:
            self.range <<= 8
            self.feed()
        return b

    def mixed(self, names: list[Hashable], weight_set: Hashable, first_weight: int) -> int:
        w = self.weights.setdefault(weight_set, [first_weight] * len(names))
        models = [self.models[n] for n in names]
        s = [STRETCH[q >> 10] for q, _ in models]
        p = SQUASH[min(max(sum(a * b for a, b in zip(w, s, strict=True)) >> 16, -2815), 2815) + 2815]
        b = self.bit(p)
        e = (b << 16) - p
        for i, model in enumerate(models):
            w[i] += (6 * s[i] * e + 2**15) >> 16
            model[0] += (((b << 22) - model[0]) * RATE[model[1]]) >> 16
            model[1] = min(model[1] + 1, 255)
        return b


def labels_of(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """FORMAT.md, "Special samples"; `shape` is (c, z, y, x)."""
    coder, last = Decoder(data), 0
    out: dict[tuple[int, ...], int] = {}
    for c, z, y, x in itertools.product(*map(range, shape)):

        def at(dx: int, dy: int, dz: int, dc: int = 0, here: tuple[int, ...] = (c, z, y, x)) -> int:
            c, z, y, x = here
            place = (c + dc, z + dz, y + dy, x + dx)
            return out.get(place, 0) if all(0 <= p < n for p, n in zip(place, shape, strict=True)) else 0

        causal = [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 0, 0, -1)]
        wider = [(-2, 0, 0), (1, -1, 0), (-1, -1, 0), (1, 0, -1), (0, 1, -1), (0, -2, 0)]
        near = sum(1 << i for i, d in enumerate(causal) if at(*d))
        far = sum(1 << i for i, d in enumerate(wider) if at(*d))
        if not coder.mixed([("a", 64 * near + far), ("b", 16 * near + far % 16), ("c", near)], "special", 26214):
            continue
        guess = at(-1, 0, 0) or at(0, -1, 0) or at(0, 0, -1) or last
        if coder.mixed(["guess"], "one", 65536):
            last = guess
        else:
            node = 1
            for _ in range(8):
                node = 2 * node + coder.mixed([("node", node)], "one", 65536)
            last = node - 256
        out[c, z, y, x] = last
    return np.array([out.get(p, 0) for p in itertools.product(*map(range, shape))]).reshape(shape)


def bucket(n: int) -> int:
    b, edge = 0, 3
    while n >= edge and b < 13:
        b += 1
        edge += (edge + 1) >> 1
    return b


def symbols(
    coder: Decoder, group: int, rows: int, features: int, marks: set[int] | None, strides: list[int]
) -> np.ndarray:
    """FORMAT.md, "Stream": one group."""
    v = [[0] * features for _ in range(rows)]
    mean = [64] * features
    spatial = int(bool(strides))
    sigma = lambda n: 0 if n == 0 else 1 if n > 0 else 2  # noqa: E731
    for row in range(rows):
        if marks is not None and row not in marks:
            continue
        for f in range(features):
            x, y, z = ((v[row - s][f] if row >= s else 0) for s in (strides + [rows + 1] * 3)[:3])
            before = abs(v[row][f - 1]) if f else 0
            near = abs(x) + abs(y) + abs(z)
            expected = (2 * mean[f] + 32 * near + 16 * before) >> 2
            if not spatial:
                expected = (3 * mean[f] + 64 * before) >> 2 if f else mean[f]
            beta, size = min(before, 3), 0
            corner = tuple(min(abs(n), 3) for n in (x, y, z))
            while size < 18:
                kappa = min(size, 3)
                names: list[Hashable] = [
                    (1, bucket(expected), size), (2, group, beta, size), (3, corner, kappa),
                    (4, bucket(21 * near + 8 * before), beta, kappa),
                ]  # fmt: skip
                if not coder.mixed(names, (kappa, spatial), 19660):
                    break
                size += 1
            if size == 18:
                n = 0
                while n < 24 and coder.bit(32768):
                    n += 1
                m = 1
                for _ in range(n):
                    m = 2 * m + coder.bit(32768)
                size += m - 1
            v[row][f] = size
            if size:
                signs = (5, sigma(x), sigma(y), sigma(z)), (6, group, sigma(v[row][f - 1]) if f else 0, min(f, 2))
                if coder.mixed(list(signs), "sign", 39321):
                    v[row][f] = -size
            mean[f] += ((size << 6) - mean[f] + 16) >> 5
    return np.array(v, np.int64).reshape(rows, features)


def hashgrid(params: bytes, stream: bytes, shape: tuple[int, ...], components: int) -> np.ndarray:
    """FORMAT.md, "Codec 2": values (z, y, x, c) in float64."""
    head = record(params)
    table = 1 << number(head, 1, 0)
    levels, features, base = number(head, 2, 8), number(head, 3, 2), number(head, 4, 4)
    growth, width, hidden = number(head, 5, 1.5), number(head, 6, 32), number(head, 7, 2)
    axes = [a for a in (2, 1, 0) if shape[a] > 1] or [2]
    dims, codes = len(axes), raw(head, 11)
    steps = [number(head, 10, 1.0) / (ROOT[c % 4] * 2 ** (c // 4)) for c in codes]
    coder, size = Decoder(stream), float(base)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    encoded = []
    for level in range(levels):
        scale = size - 1
        size *= growth
        r = math.ceil(scale) + 1
        entries = min((r**dims + 7) // 8 * 8, table)
        dense = r**dims <= entries

        def entry(vertex: tuple[int, ...], r: int = r, entries: int = entries, dense: bool = dense) -> int:
            x, y, z = (*vertex, 0, 0)[:3]
            if dense:
                index = x + r * (y + r * z)
                return index - entries if index >= entries else index
            return (x ^ y * 2654435761 ^ z * 805459861) % 2**32 % table

        t = [(np.arange(shape[a]) + 0.5) / max(shape) * scale + 0.5 for a in axes]
        reach = [sorted({math.floor(u) + d for u in places for d in (0, 1)}) for places in t]
        everything = not dense and math.prod(map(len, reach)) > 8 * entries
        marks = None if everything else {entry(p) for p in itertools.product(*reach)}
        strides = [r**a for a in range(dims)] if dense else []
        values = symbols(coder, level, entries, features, marks, strides) * steps[level]
        places = [t[i][grid[:, a]] for i, a in enumerate(axes)]
        total = np.zeros((len(grid), features))
        for corner in itertools.product((0, 1), repeat=dims):
            weight = np.prod([p % 1 if c else 1 - p % 1 for p, c in zip(places, corner, strict=True)], axis=0)
            vertices = np.stack([np.floor(p).astype(int) + c for p, c in zip(places, corner, strict=True)], 1)
            total += weight[:, None] * values[[entry(tuple(map(int, v))) for v in vertices]]
        encoded.append(total)
    x, group = np.concatenate(encoded, axis=1).T, levels
    outputs = max(components, 1)
    matrices = [(width, levels * features, 1), (width, width, hidden - 1), (outputs, width, 1)]
    for number_, (rows, columns, count) in enumerate(matrices):
        if not count:
            continue
        weights = symbols(coder, group, rows * columns * count, 1, None, []) * steps[group]
        group += 1
        for matrix in weights.reshape(count, rows, columns):
            x = matrix @ x
            x = x if number_ == 2 else np.maximum(x, 0)
    assert len(codes) == group
    return number(head, 8, 0.0) + number(head, 9, 1.0) * x.T.reshape(*shape, outputs)


class Bits:
    """A TTHRESH bit stream."""

    def __init__(self, data: bytes) -> None:
        words = struct.unpack(f"<{len(data) // 8}Q", data[: len(data) // 8 * 8])
        self.text, self.at = "".join(f"{w:064b}" for w in words), 0

    def take(self, count: int) -> int:
        self.at += count
        return int(self.text[self.at - count : self.at] or "0", 2)

    def runs(self) -> list[int]:
        model = [(self.take(self.take(6)), self.take(self.take(6))) for _ in range(self.take(64))]
        total, low, high, out = self.take(64), 0, 2**32 - 1, []
        assert total == sum(count for _, count in model)
        code = self.take(32)
        for _ in range(total):
            span, before = high - low + 1, 0
            for pair in model:
                key, count = pair
                top = low + span * (before + count) // total - 1
                if code <= top:
                    break
                before += count
            low, high = low + span * before // total, top
            out.append(key)
            while high < 2**31 or low >= 2**31 or (low >= 2**30 and high < 3 * 2**30):
                less = 0 if high < 2**31 else 2**31 if low >= 2**31 else 2**30
                low, high = 2 * (low - less), 2 * (high - less) + 1
                code = 2 * (code - less) + self.take(1)
        return out

    def block(self, size: int) -> np.ndarray:
        scale = struct.unpack("<d", struct.pack("<Q", self.take(64)))[0]
        values, seen = [0] * size, [False] * size
        dense = last = False
        plane, stop = 64, size
        while not last:
            plane -= 1
            raws = [self.take(1) for _ in range(self.take(64))][::-1]
            # Zeros and ones of those without a 1 so far, one after the other.
            news = [bit for run in self.runs() for bit in [0] * run + [1]][:-1][::-1]
            before = list(seen)
            for i in range(size):
                bits = raws if dense or before[i] else news
                if not bits:
                    stop = i
                    break
                bit = bits.pop()
                values[i] |= bit << plane
                seen[i] |= bit == 1
            dense, last = self.take(1) == 1, self.take(1) == 1
        out = np.zeros(size)
        for i in range(size):
            if seen[i]:
                middle = 2.0 ** (plane - 1 if i < stop else plane)
                out[i] = (1 if self.take(1) else -1) * (values[i] + middle) / scale
        return out


def tthresh(section: bytes, shape: tuple[int, ...]) -> np.ndarray:
    n = section[0]
    sizes = struct.unpack_from(f"<{n}I", section, 1)
    bits = Bits(section[2 + 4 * n :])
    values = bits.block(int(np.prod(sizes))).reshape(sizes[::-1])
    at = 2 + 4 * n + -(-bits.at // 64) * 8
    ranks = struct.unpack_from(f"<{n}I", section, at)
    norms = np.split(np.frombuffer(section, "<f8", sum(ranks), at + 4 * n), np.cumsum(ranks)[:-1])
    bits = Bits(section[at + 4 * n + 8 * sum(ranks) :])
    for axis, (size, rank, norm) in enumerate(zip(sizes, ranks, norms, strict=True)):
        factor = bits.block(size * rank).reshape(rank, size) / norm[:, None]
        own = n - 1 - axis
        values = np.moveaxis(np.tensordot(factor.T, values.take(range(rank), own), (1, own)), 0, own)
    return values.reshape(*shape, -1)


def arrays_of(data: bytes) -> list[np.ndarray]:
    assert data[:5] == b"\x8eNVC\x01"
    length, at = varint(data, 5)
    header = record(data[at : at + length])
    at += length
    assert struct.unpack_from("<I", data, at)[0] == zlib.crc32(data[:at])
    at += 4
    out = []
    for _, packed in header[2]:
        array = record(packed)
        sections = []
        for length in ints(raw(array, 1)):
            sections.append(data[at : at + length])
            assert struct.unpack_from("<I", data, at + length)[0] == zlib.crc32(sections[-1])
            at += length + 4
        points = ints(raw(record(header[1][number(array, 6, 0)][1]), 1))
        points = points * 3 if len(points) == 1 else points
        cells = number(array, 3, 0)
        shape = tuple(max(n - 1, 1) if cells else n for n in points[::-1])
        dtype, components = np.dtype(DTYPES[number(array, 4, 8)]), number(array, 5, 0)
        special = sections.pop(0) if number(array, 10, 0) else None
        if number(array, 8, 0) == 1:
            values = np.broadcast_to(np.frombuffer(raw(array, 9), dtype), (*shape, max(components, 1))).copy()
        else:
            if number(array, 8, 0) == 10:
                values = tthresh(sections[0], shape)
            else:
                values = hashgrid(raw(array, 9), sections[0], shape, components)
            if dtype.kind in "iu":
                values = np.rint(values).clip(np.iinfo(dtype).min, np.iinfo(dtype).max)
            values = values.astype(dtype)
        if special is not None:
            head, word = record(special), f"<u{dtype.itemsize}"
            labels = np.moveaxis(labels_of(raw(head, 3), (max(components, 1), *shape)), 0, 3)
            palette = np.frombuffer(raw(head, 1), word)
            words = values.view(word)
            known = (labels > 0) & (labels < 255)
            words[known] = palette[labels[known] - 1]
            if (labels == 255).any():
                words[labels == 255] = np.frombuffer(zlib.decompress(raw(head, 2)), word)
        out.append(values if components else values[..., 0])
    assert at == len(data)
    return out


#: Their streams are other people's, defined by their libraries.
FOREIGN = {"sperr", "sz3", "zfp"}


@pytest.mark.parametrize("name", sorted({p.stem for p in GOLDEN.glob("*.nvc")} - FOREIGN))
def test_the_definition_opens_the_golden_files(name: str) -> None:
    decoded = arrays_of((GOLDEN / f"{name}.nvc").read_bytes())
    with np.load(GOLDEN / f"{name}.npz") as stored:
        expected = [stored[key] for key in sorted(stored)]
    for got, values in zip(decoded, expected, strict=True):
        assert (got.dtype, got.shape) == (values.dtype, values.shape)
        if not name.startswith(("hashgrid", "tthresh")):
            assert got.tobytes() == values.tobytes()
        else:
            spread = float(np.nanmax(values)) - float(np.nanmin(values))
            margin = 2.0**-14 * spread if values.dtype.kind == "f" else 1
            np.testing.assert_allclose(got.astype(float), values.astype(float), rtol=0, atol=margin)
