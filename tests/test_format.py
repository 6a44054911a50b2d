"""A second reader, written from FORMAT.md alone in plain Python, opens the golden files: the definition is complete."""

from __future__ import annotations

import itertools
import math
import struct
import zlib
from collections import defaultdict
from collections.abc import Hashable
from functools import cache
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


def grid_level(
    coder: Decoder,
    level: int,
    sizes: tuple[int, float, int | None, int],
    shape: tuple[int, ...],
    step: float,
    smooth: bool = False,
) -> np.ndarray:
    """FORMAT.md, "Grid": a level's features at all samples, (n, features); without log2_table nothing is hashed."""
    base, growth, log2_table, features = sizes
    axes = [a for a in (2, 1, 0) if shape[a] > 1] or [2]
    dims, size = len(axes), float(base)
    for _ in range(level):
        size *= growth
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    scale = size - 1
    r = math.ceil(scale) + 1
    entries = (r**dims + 7) // 8 * 8 if log2_table is None else min((r**dims + 7) // 8 * 8, 1 << log2_table)
    dense = r**dims <= entries

    def entry(vertex: tuple[int, ...]) -> int:
        x, y, z = (*vertex, 0, 0)[:3]
        if dense:
            index = x + r * (y + r * z)
            return index - entries if index >= entries else index
        return (x ^ y * 2654435761 ^ z * 805459861) % 2**32 % entries

    t = [(np.arange(shape[a]) + 0.5) / max(shape) * scale + 0.5 for a in axes]
    reach = [sorted({math.floor(u) + d for u in places for d in (0, 1)}) for places in t]
    everything = not dense and math.prod(map(len, reach)) > 8 * entries
    marks = None if everything else {entry(p) for p in itertools.product(*reach)}
    strides = [r**a for a in range(dims)] if dense else []
    values = symbols(coder, level, entries, features, marks, strides) * step
    places = [t[i][grid[:, a]] for i, a in enumerate(axes)]
    total = np.zeros((len(grid), features))
    for corner in itertools.product((0, 1), repeat=dims):
        upper = [(p % 1) ** 2 * (3 - 2 * (p % 1)) if smooth else p % 1 for p in places]
        weight = np.prod([u if c else 1 - u for u, c in zip(upper, corner, strict=True)], axis=0)
        vertices = np.stack([np.floor(p).astype(int) + c for p, c in zip(places, corner, strict=True)], 1)
        total += weight[:, None] * values[[entry(tuple(map(int, v))) for v in vertices]]
    return total


def hashgrid(params: bytes, stream: bytes, shape: tuple[int, ...], components: int) -> np.ndarray:
    """FORMAT.md, "Codec 2": values (z, y, x, c) in float64."""
    head = record(params)
    levels, features, base = number(head, 2, 8), number(head, 3, 2), number(head, 4, 4)
    growth, width, hidden = number(head, 5, 1.5), number(head, 6, 32), number(head, 7, 2)
    codes, smooth = raw(head, 11), number(head, 14, 0)
    steps = [number(head, 10, 1.0) / (ROOT[c % 4] * 2 ** (c // 4)) for c in codes]
    coder, encoded = Decoder(stream), []
    for level in range(levels):
        sizes = base, growth, number(head, 1, 0), features
        encoded.append(grid_level(coder, level, sizes, shape, steps[level], bool(smooth)))
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
    assert codes[group:] == bytes(smooth)
    return number(head, 8, 0.0) + number(head, 9, 1.0) * x.T.reshape(*shape, outputs)


Shape = tuple[int, ...]
Split = tuple[Shape, tuple[int, ...]]  # the box that is split, along which axes
Key = tuple[int, int, int]  # component, level, orientation
LOG = [round(4 * math.log2(1 + v / 8)) for v in range(65536)]
USUAL = ((15, 13, 13, 9, 6, 19), (6, 8, 9, 7, 21, 19), (12, 12, 12, 11, 8, 15))
LIFTING = ((0, 0.443506852043971), (1, 0.882911075530934), (0, -0.052980118572961), (1, -1.586134342059924))


class State:
    """FORMAT.md, "Decision"."""

    def __init__(self) -> None:
        self.models: dict[Hashable, list[int]] = {}
        self.sets: dict[Hashable, list[int]] = {}  # six weights and a counter
        self.maps: dict[Hashable, list[int]] = {}

    def copy(self, limit: int = 255) -> State:
        other = State()
        other.models = {k: [q, min(n, limit)] for k, (q, n) in self.models.items()}
        other.sets = {k: list(v) for k, v in self.sets.items()}
        other.maps = {k: list(v) for k, v in self.maps.items()}
        return other

    def plain(self, coder: Decoder, name: Hashable) -> int:
        model = self.models.setdefault(name, [1 << 21, 0])
        b = coder.bit(max(model[0] >> 6, 1))
        self.learn(model, b)
        return b

    @staticmethod
    def learn(model: list[int], b: int) -> None:
        model[0] += (((b << 22) - model[0]) * RATE[model[1]]) >> 16
        model[1] = min(model[1] + 1, 255)

    def model(self, kappa: int, number: int, context: tuple[int, ...], s: int) -> list[int]:
        name = (kappa, number, context, s)
        if name not in self.models:
            size = {6: context[0], 4: 2 * context[0] + 1 if context[0] < 15 else None}.get(number)
            if kappa == 1 or size is None:
                self.models[name] = [1 << 21, 0]
            else:
                x = min(size, 13)
                logit = 107 * x - 1000 if kappa else 87 * x - 461 if x else -1040
                self.models[name] = [64 * SQUASH[logit + 2815], 4]
        return self.models[name]

    def decide(self, coder: Decoder, kappa: int, contexts: tuple, s: int, le: int) -> int:
        (place, _), (size, _) = contexts[4:]
        models = [self.model(kappa, i, context, s) for i, context in enumerate(contexts, 1)]
        first = [1024 * w for w in USUAL[min(kappa, 2)]] + [0]
        names = ("A", kappa, min(le >> 1, 11)), ("B", kappa, place)
        sets = [self.sets.setdefault(name, list(first)) for name in names]
        knots = self.maps.setdefault((kappa, size), [64 * SQUASH[min(176 * j, 5630)] for j in range(33)])
        inputs = [STRETCH[q >> 10] for q, _ in models]
        sums = [min(max(sum(map(int.__mul__, w, inputs)) >> 16, -2815), 2815) for w in sets]
        total = (sum(sums) >> 1) + 2815
        j, v = divmod(total, 176)
        g = (knots[j] * (176 - v) + knots[j + 1] * v) // 176
        b = coder.bit(min(max((SQUASH[total] + (g >> 6)) >> 1, 1), 65535))
        for w, own in zip(sets, sums, strict=True):
            e = ((b << 16) - SQUASH[own + 2815]) * (3 + 624 // (48 + w[6]))
            for i in range(6):
                w[i] += (inputs[i] * e + 2**15) >> 16
            w[6] = min(w[6] + 1, 1023)
        for model in models:
            self.learn(model, b)
        j += v >= 88
        knots[j] += ((b << 22) - knots[j]) >> 6
        return b


class Part:
    """A lane's planes of a subband of one component, with two zeros on all sides."""

    def __init__(self, shape: Shape, extent: Shape) -> None:
        self.shape, self.box = shape, tuple(n + 4 for n in extent)
        self.steps = (self.box[1] * self.box[2], self.box[2], 1)
        self.q, self.miss = [0] * math.prod(self.box), [0] * math.prod(self.box)

    def offset(self, *at: int) -> int:
        return sum(a * s for a, s in zip(at, self.steps, strict=True))

    def around(self, *at: int, shape: Shape) -> np.ndarray:
        """The coefficients at an offset from those of a part of that shape."""
        return self.array[tuple(slice(2 + a, 2 + a + n) for a, n in zip(at, shape, strict=True))]

    @property
    def smoothed(self) -> np.ndarray:
        total = np.minimum(np.abs(self.around(-1, -1, -1, shape=tuple(n + 2 for n in self.shape))), 65535)
        for axis in range(3):
            a, b, c = (total.take(range(i, i + self.shape[axis]), axis) for i in range(3))
            total = a + 2 * b + c
        return total >> 2

    def decode(
        self, coder: Decoder, state: State, place: int, taps: list[tuple[list[int], int, int]],
        above: np.ndarray | None, beside: np.ndarray, relatives: int,
    ) -> None:  # fmt: skip
        """FORMAT.md, "Coefficients"; taps are buffers, offsets in them and weights in 1/4096."""
        q, miss, parent = self.q, self.miss, above is not None
        first = [self.offset(*d) for d in ((0, 0, -1), (0, -1, 0), (-1, 0, 0))]
        second = [self.offset(*d) for d in itertools.product((-1, 0, 1), repeat=3) if d < (0, 0, 0) and d.count(0) == 1]
        third = [2 * o for o in first]
        aboves = np.zeros(self.shape, int).ravel().tolist() if above is None else above.ravel().tolist()
        besides = (beside * (65536 // relatives) >> 16 if relatives else beside).ravel().tolist()
        for at, up, side in zip(itertools.product(*map(range, self.shape)), aboves, besides, strict=True):
            p = self.offset(*at) + self.offset(2, 2, 2)
            w, n, u = (miss[p + o] for o in first)
            close, around = w + n + u, sum([miss[p + o] for o in second])
            beyond = sum([miss[p + o] for o in third])
            quiet = close + around + beyond + up + side == 0
            if quiet and not state.plain(coder, ("quiet", place)):
                continue
            mu = 0 if quiet else sum([buffer[p + o] * weight for buffer, o, weight in taps])
            flip, mu = mu < 0, abs(mu)
            if parent and relatives:
                expected = (54 * close + 11 * around + 5 * beyond + 6 * up + 16 * side) >> 8
            elif parent:
                expected = (56 * close + 11 * around + 8 * beyond + 12 * up) >> 8
            elif relatives:
                expected = (56 * close + 9 * around + 14 * beyond + 14 * side) >> 8
            else:
                expected = (56 * close + 14 * around + 14 * beyond) >> 8
            le, la, lb, lc, ld, ls = (
                LOG[min(v, 65535)] for v in (expected, up, side, (5 * close) >> 4, (3 * around) >> 4, up + side)
            )
            shift = (expected // 96).bit_length()
            center = (mu + 2048) >> 12
            if shift:
                form, size = 21, 30 + min(max(le - 4 * shift - 11, 0), 5) + 6 * min(shift - 1, 2)
            else:
                form, size = 6 * min(center, 3) + (((mu + 2048) % 4096 * 6) >> 12), min(le, 29)
            center -= (1 << shift) >> 1
            contexts = (
                (min(lc >> 1, 7), min(lb >> 1, 7), min(la >> 1, 7)),
                tuple([min((v + 8) >> 4, 3) for v in (w, n, u, side)]),
                (min(lb, 23), min(ld, 11)),
                (min(le >> 1, 15), min(ls >> 1, 15)),
                (place, form),
                (size, form),
            )
            d = 0
            if quiet or state.decide(coder, 0, contexts, 0, le):
                positive = state.decide(coder, 1, contexts, 0, le)
                d = 1
                while d < 16 and state.decide(coder, min(d + 1, 7), contexts, positive, le):
                    d += 1
                if d == 16:
                    count, left = 0, 1
                    while count < 40 and coder.bit(32768):
                        count += 1
                    for _ in range(count):
                        left = 2 * left + coder.bit(32768)
                    d = left + 15
                d = d if positive else -d
            rest = 0
            for i in range(shift):
                bit = coder.bit(32768) if i else state.plain(coder, ("rest", min(shift, 15), min(max(d, -4), 3)))
                rest = 2 * rest + bit
            value = (d << shift) + rest + center
            miss[p] = max(min(abs(4096 * value - mu) >> 8, 65535), int(value != 0))
            q[p] = -value if flip else value
        self.array = np.array(q).reshape(self.box)


class Layout:
    """FORMAT.md, "Subbands": a box and its subbands, each with level, orientation and shape."""

    def __init__(self, shape: Shape, along: list[tuple[int, ...]], finest: int, rest: bool, lanes: int) -> None:
        self.shape, self.finest, self.lanes, self.split = shape, finest, lanes, bool(along)
        boxes = [shape]
        for axes in along:
            boxes.append(low_part(boxes[-1], axes))
        self.bands: list[tuple[int, int, Shape]] = [(len(along), 0, boxes[-1])] if rest else []
        for level in reversed(range(finest, len(along))):
            for o in (1, 2, 4, 3, 5, 6, 7):
                if all(a in along[level] for a in range(3) if o >> a & 1):
                    low = boxes[level + 1]
                    size = tuple(boxes[level][a] - low[a] if o >> a & 1 else low[a] for a in range(3))
                    self.bands.append((level, o, size))
        self.levels = list(dict.fromkeys(level for level, _, _ in self.bands))
        self.extents = {
            k: tuple(max(s[a] for level, _, s in self.bands if level == k) for a in range(3)) for k in self.levels
        }
        few = math.prod(shape) < 2**17 or len(self.levels) < 3 or finest > 0
        self.groups = [self.levels] if few else [self.levels[:-2], self.levels[-2:-1], self.levels[-1:]]

    def cut(self, level: int) -> bool:
        e = self.extents[level]
        return self.lanes > 1 and math.prod(e) >= 2**15 and e[0] >= 4 * self.lanes

    def planes(self, level: int, lane: int) -> tuple[int, int]:
        e = self.extents[level][0]
        return (e * lane // self.lanes, e * (lane + 1) // self.lanes) if self.cut(level) else (0, e)

    def of(self, level: int) -> list[tuple[int, Shape]]:
        return [(o, size) for k, o, size in self.bands if k == level]

    def has(self, level: int, o: int) -> bool:
        return any((k, p) == (level, o) for k, p, _ in self.bands)


def low_part(box: Shape, axes: tuple[int, ...]) -> Shape:
    return tuple((n + 1) // 2 if a in axes else n for a, n in enumerate(box))


def along(axis: int, by: int) -> tuple[int, ...]:
    return tuple(by if a == axis else 0 for a in range(3))


class Coded:
    """FORMAT.md, "Group": the coefficients of a layout."""

    def __init__(self, sections: list[bytes], layout: Layout, components: int, key: Coded | None = None) -> None:
        self.layout, self.components, self.key = layout, components, key
        self.parts: dict[tuple[int, ...], Part] = {}  # by Key and lane
        self.centres: dict[tuple[int, int], list[float]] = {}
        self.filters: dict[tuple[Key, int], list[int]] = {}  # by kind
        runs: list[list[bytes]] = []
        assert len(sections) == len(layout.groups)
        for data, levels in zip(sections, layout.groups, strict=True):
            for c, level in itertools.product(range(components), levels):
                self.centres[c, level] = [0.0] + [(b - 64) / 128 for b in data[3 * c : 3 * c + 3]]
            length, at = varint(data, 3 * components)
            self.read_filters(data[at : at + length], levels)
            at += length
            cuts = [layout.cut(level) for level in levels]
            lengths = []
            for _ in range((not all(cuts)) + layout.lanes * any(cuts) - 1):
                length, at = varint(data, at)
                lengths.append(length)
            ends = np.cumsum([at, *lengths]).tolist() + [len(data)]
            runs.append([data[a:b] for a, b in itertools.pairwise(ends)])
        self.state = State() if key is None else key.state.copy(30)
        smoothed: dict[Key, np.ndarray] = {}
        self.run(0, self.state, smoothed, [
            (run[0], levels)
            for run, all_ in zip(runs, layout.groups, strict=True)
            if (levels := [k for k in all_ if not layout.cut(k)])
        ])  # fmt: skip
        for lane in range(layout.lanes if any(map(layout.cut, layout.levels)) else 0):
            self.run(lane, self.state.copy(), dict(smoothed), [
                (run[lane - layout.lanes], levels)
                for run, all_ in zip(runs, layout.groups, strict=True)
                if (levels := [k for k in all_ if layout.cut(k)])
            ])  # fmt: skip

    def tap_places(self, c: int, level: int, o: int) -> list[tuple[Key, Shape]]:
        """Where the predictor of a subband looks: subband and offset."""
        own = (c, level, o)
        found = [(own, d) for d in itertools.product((-1, 0, 1), repeat=3) if d < (0, 0, 0)]
        found += [(own, along(a, -2)) for a in range(3)]
        for a in range(3):
            if o >> a & 1 and o != 1 << a:
                found += [((c, level, o ^ 1 << a), along(a, by)) for by in (0, -1, 1)]
        if c:
            found += [((c - 1, level, o), d) for d in ((0, 0, 0), (0, 0, -1), (0, 0, 1), (0, -1, 0), (0, 1, 0))]
        return found

    def sum_places(self, c: int, level: int, o: int) -> list[list[tuple[Key, Shape]]]:
        """The sums of an estimator."""
        shapes = [(1, 1, 1), (1, 1, 0), (1, 0, 1), (1, 0, 0), (0, 1, 1), (0, 1, 0), (0, 0, 1)]
        shapes += [(2, 0, 0), (0, 2, 0), (0, 0, 2)]
        found = [[((c, level, o), d) for d in itertools.product(*({n, -n} for n in shape))] for shape in shapes]
        for a in range(3):
            other = o ^ 1 << a
            if o and other and self.layout.has(level, other):
                found.append([((c, level, other), along(a, by)) for by in (0, 1 if o >> a & 1 else -1)])
        return found

    def read_filters(self, data: bytes, levels: list[int]) -> None:
        if not data:
            return
        coder = Decoder(data)
        keys = [
            (c, level, o)
            for c in range(self.components)
            for level in levels
            for o, _ in self.layout.of(level)
        ]  # fmt: skip
        flags = symbols(coder, 0, len(keys), 3, None, []).tolist()
        tables: dict[tuple[int, int], list[Key]] = defaultdict(list)
        for key, row in zip(keys, flags, strict=True):
            if row[0] == 2 and self.key and (key, 0) in self.key.filters:
                self.filters[key, 0] = self.key.filters[key, 0]
            counts = len(self.tap_places(*key)), *[len(self.sum_places(*key))] * 2
            for kind in range(3):
                if row[kind] == 1:
                    tables[kind, counts[kind]].append(key)
        for group, ((kind, count), members) in enumerate(sorted(tables.items()), 1):
            rows = symbols(coder, group, len(members), count, None, []).clip(-(2**15), 2**15).tolist()
            self.filters.update({(key, kind): row for key, row in zip(members, rows, strict=True)})

    def run(self, lane: int, state: State, smoothed: dict[Key, np.ndarray], streams: list) -> None:
        layout = self.layout
        for data, levels in streams:
            coder = Decoder(data)
            for level in levels:
                extent, (low, high) = layout.extents[level], layout.planes(level, lane)
                for r, (o, size) in enumerate(layout.of(level)):
                    for c in range(self.components):
                        shape = (min(high, size[0]) - low, *size[1:])
                        part = self.parts[c, level, o, lane] = Part(shape, (high - low, *extent[1:]))
                        beside = np.zeros(extent, int)
                        family = [(c, level, p) for p, _ in layout.of(level)[:r]] + [(c - 1, level, o)] * (c > 0)
                        for key in family:
                            other = smoothed[key]
                            beside[tuple(map(slice, other.shape))] += other
                        beside = beside[tuple(map(slice, shape))]
                        weights = [w * (32 if layout.split else 4) for w in self.filters.get(((c, level, o), 0), [])]
                        taps = [
                            (self.parts[(*key, lane)].q, part.offset(*d), w)
                            for (key, d), w in zip(self.tap_places(c, level, o), weights, strict=False)
                        ]
                        above = self.above(smoothed.get((c, level + 1, o)) if o else None, level, lane, shape)
                        part.decode(coder, state, 8 * min(level, 9) + o, taps, above, beside, len(family))
                        assert coder.at <= len(data) + 8
                        smoothed[c, level, o] = part.smoothed

    def above(self, parent: np.ndarray | None, level: int, lane: int, shape: Shape) -> np.ndarray | None:
        if parent is None:
            return None
        fine, coarse = (self.layout.extents[k] for k in (level, level + 1))
        h = [int(a > b) for a, b in zip(fine, coarse, strict=True)]
        begins = [self.layout.planes(k, lane)[0] for k in (level, level + 1)]
        shifts = (max(begins[0] - (begins[1] << h[0]), 0), 0, 0)
        return parent[
            np.ix_(*(
                np.minimum((np.arange(n) + s) >> b, m - 1)
                for n, s, b, m in zip(shape, shifts, h, parent.shape, strict=True)
            ))
        ]  # fmt: skip

    def values(self, c: int, level: int, o: int, estimated: bool = True) -> np.ndarray:
        """Coefficients of a subband, in steps."""
        found = []
        for lane in range(self.layout.lanes if self.layout.cut(level) else 1):
            part = self.parts[c, level, o, lane]
            q = part.around(0, 0, 0, shape=part.shape)
            value = q.astype(float)
            if estimated:
                value += np.sign(q) * np.array(self.centres[c, level])[np.minimum(np.abs(q), 3)]
                for kind, places in ((1, q == 0), (2, q != 0)):
                    weights = self.filters.get(((c, level, o), kind), [])
                    for weight, terms in zip(weights, self.sum_places(c, level, o), strict=False):
                        sums = [self.parts[(*key, lane)].around(*d, shape=part.shape) for key, d in terms]
                        value += places * (weight / 128 * sum(sums))
            found.append(value)
        return np.concatenate(found)


def line(x: np.ndarray, axis: int) -> np.ndarray:
    """FORMAT.md, "Values": the line inverse."""
    coded, scale = np.moveaxis(x, axis, 0), x.dtype.type
    n, half = len(coded), (len(coded) + 1) // 2
    out = np.empty_like(coded)
    out[::2], out[1::2] = coded[:half] * scale(1 / 1.149604398860241), coded[half:] * scale(1.149604398860241)
    for parity, factor in LIFTING:
        at = np.arange(parity, n, 2)
        left, right = np.where(at > 0, at - 1, 1), np.where(at < n - 1, at + 1, n - 2)
        out[at] -= scale(factor) * (out[left] + out[right])
    return np.moveaxis(out, 0, axis)


@cache
def norm(high: bool, lows: int) -> float:
    x = np.zeros(24)
    x[18 if high else 6] = 1
    x = line(x, 0)
    for _ in range(lows):
        x = line(np.concatenate([x, 0 * x]), 0)
    return float(np.sqrt(np.sum(x**2)))


def wavelet(params: bytes, sections: list[bytes], shape: Shape, components: int, dtype: np.dtype) -> np.ndarray:
    """FORMAT.md, "Codec 3": values (z, y, x, c)."""
    head, components = record(params), max(components, 1)
    step, depth, edge, lanes = number(head, 1, 0.0), number(head, 3, 16), number(head, 4, 0), number(head, 5, 1)
    work, quantum = np.dtype("f8" if number(head, 6, 0) else "f4"), number(head, 7, 0.0)
    lead, ahead = number(head, 10, 0), 0 if edge else number(head, 11, 0)
    heads: list[Split] = []
    box = shape
    while len(heads) < ahead and box[lead] > 2:
        heads.append((box, (lead,)))
        box = low_part(box, (lead,))
    splits: list[Split] = []
    box = shape
    while len(splits) < depth:
        axes = tuple(a for a in range(3) if box[a] >= 6 and not (ahead and a == lead))
        if not axes:
            break
        splits.append((box, axes))
        box = low_part(box, axes)
    every, held = [axes for _, axes in splits], min(3, len(splits)) if edge else 0
    stack = list(sections)[::-1]
    blocks = number(head, 12, 0)
    weights = np.ones((1, 1, 1))
    if blocks:
        grid = tuple(-(-n // blocks) for n in shape)
        weights = 2.0 ** labels_of(stack.pop(0), (1, *grid))[0]

    def factor(level: int, o: int, corner: list[int], size: Shape) -> np.ndarray:
        """FORMAT.md, "Steps of blocks"."""
        found = weights
        for a in range(3) if blocks else ():
            h = sum(a in axes for axes in every[: level + 1])
            rows = []
            for p in range(corner[a], corner[a] + size[a]):
                c = (p << h) + ((1 << h >> 1) if o >> a & 1 else 0)
                near = [abs(x - c) for x in range(shape[a])]
                shares = [784 * max(0, 2**h - d) + max(0, 2 ** (h + 2) - d) if h else int(d == 0) for d in near]
                rows.append([sum(shares[i : i + blocks]) / sum(shares) for i in range(0, shape[a], blocks)])
            found = np.moveaxis(np.tensordot(np.array(rows), found, (1, a)), 0, a)
        return np.sqrt(found)

    def take(layout: Layout, key: Coded | None = None) -> Coded:
        return Coded([stack.pop() for _ in layout.groups], layout, components, key)

    # Boxes: where each begins, its coefficients, its corrections.
    boxes: list[tuple[Shape, Coded]] = []
    corrections: list[tuple[Shape, Coded]] = []
    if not edge or depth:
        boxes.append(((0, 0, 0), take(Layout(shape, every, held, True, 1 if edge else lanes))))
    counts = [max((n + edge // 2) // edge, 1) for n in shape] if edge else []
    pending = []
    for tile in itertools.product(*map(range, counts)) if edge else ():
        corner = tuple(i * edge for i in tile)
        size = tuple(n - i * edge if i + 1 == c else edge for i, c, n in zip(tile, counts, shape, strict=True))
        layout = Layout(size, every[:held], 0, not depth, 1)
        pending.append((corner, size, layout, [stack.pop() for _ in layout.groups], stack.pop() if quantum else b""))
    if pending:
        corner, _, layout, packed, _ = pending[number(head, 9, 0)]
        key = Coded(packed, layout, components)
        for at, size, layout, packed, amounts in pending:
            boxes.append((at, key if at == corner else Coded(packed, layout, components, key)))
            if quantum:
                corrections.append((at, Coded([amounts], Layout(size, [], 0, True, 1), components)))
    elif quantum:
        corrections.append(((0, 0, 0), take(Layout(shape, [], 0, True, lanes))))
    assert not stack
    y = np.zeros((*shape, components), work)
    added = np.zeros((*shape, components), np.int64)
    for corner, coded in corrections:
        for c in range(components):
            amounts = coded.values(c, 0, 0, False)
            added[(*(slice(a, a + n) for a, n in zip(corner, amounts.shape, strict=True)), c)] = amounts
    for corner, coded in boxes:
        for (level, o, size), c in itertools.product(coded.layout.bands, range(components)):
            energy, place, inner_place = 1.0, [], []
            for a in range(3):
                finer = sum(a in axes for axes in every[:level])
                now = level < len(every) and a in every[level]
                energy *= norm(bool(o >> a & 1), finer) if now else norm(False, finer - 1) if finer else 1.0
                start = corner[a] >> (finer + now)
                inner_place.append(start)
                if o >> a & 1:
                    start += (splits[level][0][a] + 1) // 2
                place.append(slice(start, start + size[a]))
            y[(*place, c)] = coded.values(c, level, o) * (step / energy)
            y[(*place, c)] /= factor(level, o, inner_place, size).astype(work)
    for box, axes in (heads + splits)[::-1]:
        inner = tuple(map(slice, box))
        for a in reversed(axes):
            y[inner] = line(y[inner], a)
    y = np.ldexp(y, number(head, 8, 0))
    mean = number(head, 2, 0.0)
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    if dtype.kind == "f":
        values = np.clip(y + work.type(mean), limits.min, limits.max).astype(dtype)
        return np.where(added, (values + added * quantum).astype(dtype), values)
    assert dtype.itemsize < 8
    values = np.rint(y + work.type(mean)).clip(limits.min, limits.max).astype(np.int64)
    return (values + added * int(quantum)).clip(limits.min, limits.max).astype(dtype)


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


def siren_symbols(coder: Decoder, group: int, shape: tuple[int, ...]) -> np.ndarray:
    """FORMAT.md, "Parameters" of codec 4: one group."""
    rows, columns = shape if len(shape) == 2 else (1, *shape)
    q = np.zeros((rows, columns), np.int64)
    overall = seen = 0
    upright = [0] * columns

    def distance(k: int, mean: int) -> int:
        e = (mean + 4).bit_length() - 1
        return min(max(4 * k - 4 * (e - 2) - ((mean + 4) >> (e - 2)) % 4 + 40, 0), 63)

    for r in range(rows):
        flat = 0
        for c in range(columns):
            across, down = (flat + 4 * overall) // (c + 4), (upright[c] + 4 * overall) // (r + 4)
            cross = (flat + upright[c] + 2 * overall) // (c + r + 2)
            beside = 3 * min(abs(int(q[r, c - 1])) if c else 0, 2) + min(abs(int(q[r - 1, c])) if r else 0, 2)
            size = 0
            while size < 24:
                means = (overall, across, down, cross)
                names: list[Hashable] = [("g", group, size)]
                names += [(i, distance(size, mean)) for i, mean in enumerate(means)]
                names += [("b", beside, size)]
                if not coder.mixed(names, ("length", min(size, 3)), 13107):
                    break
                size += 1
            value = int(size > 0)
            for i in range(size - 1):
                if i < 3:
                    below: list[Hashable] = [("d", distance(size, cross), value), ("l", size, value)]
                    value = 2 * value + coder.mixed(below, ("bit", i), 39321)
                else:
                    value = 2 * value + coder.bit(32768)
            q[r, c] = -value if value and coder.bit(32768) else value
            flat += 16 * value
            upright[c] += 16 * value
            seen += 1
            overall += (16 * value - overall) // min(seen, 64)
    return q.reshape(shape)


def siren(params: bytes, stream: bytes, shape: tuple[int, ...], components: int) -> np.ndarray:
    """FORMAT.md, "Codec 4": values (z, y, x, c) in float64."""
    head = record(params)
    width, layers, omega = number(head, 1, 0), number(head, 2, 4), number(head, 3, 30.0)
    plain, codes = number(head, 4, 0), raw(head, 8)
    axes = [a for a in range(3) if shape[a] > 1] or [2]
    outputs = max(components, 1)
    inner = (layers - 1) * (1 if plain else 2)
    shapes = [(width, len(axes)), *[(width, width)] * inner, (outputs, width)]
    groups = [group for rows, columns in shapes for group in ((rows, columns), (rows,))]
    if codes:
        assert len(codes) == len(groups)
        steps = [number(head, 7, 1.0) / (ROOT[c % 4] * 2 ** (c // 4)) for c in codes]
        coder = Decoder(stream)
        found = [siren_symbols(coder, i, group) * steps[i] for i, group in enumerate(groups)]
    else:
        flat = np.frombuffer(stream, "<f4")
        found = [part.reshape(g) for part, g in zip(np.split(flat, np.cumsum(list(map(math.prod, groups)))), groups)]  # noqa: B905
    matrices = iter(zip(found[::2], found[1::2], strict=True))
    longest = max(max(shape) - 1, 1)
    lines = [(2 * np.arange(n) / max(n - 1, 1) - 1) * (n - 1) / longest for n in shape]
    grid = np.stack(np.meshgrid(*lines, indexing="ij"), -1).reshape(-1, 3)

    def sine(x: np.ndarray) -> np.ndarray:
        w, b = next(matrices)
        return np.sin(omega * (x @ w.T + b))

    x = sine(grid[:, axes])
    for k in range(1, layers):
        if plain:
            x = sine(x)
        else:
            x = (0.5 if k == layers - 1 else 1) * (x + sine(sine((1 if k == 1 else 0.5) * x)))
    w, b = next(matrices)
    return number(head, 5, 0.0) + number(head, 6, 1.0) * (x @ w.T + b).reshape(*shape, outputs)


def factor(coder: Decoder, group: int, counts: list[int], features: int, step: float, at: list[np.ndarray]) -> Any:
    """FORMAT.md, "Encodings": a table over some axes, interpolated at positions along each; (features, n)."""
    table = symbols(coder, group, math.prod(counts), features, None, [1, *counts[:1]][: len(counts)]) * step
    low = [np.minimum(np.floor(p), n - 2).astype(int) for p, n in zip(at, counts, strict=True)]
    total: Any = 0.0
    for corner in itertools.product((0, 1), repeat=len(counts)):
        weight: Any = 1.0
        row: Any = 0
        for a in reversed(range(len(counts))):
            row = row * counts[a] + low[a] + corner[a]
            weight = weight * (at[a] - low[a] if corner[a] else 1 - (at[a] - low[a]))
        total = total + weight[:, None] * table[row]
    return total.T


def harmonics(x: np.ndarray, y: np.ndarray, z: np.ndarray, bands: int) -> list[np.ndarray]:
    """FORMAT.md, "Encodings": spherical harmonics by the definition, with the derivatives of (z² - 1)^l."""
    phi, found = np.arctan2(y, x), []
    for degree in range(bands):
        power = np.polynomial.Polynomial([-1, 0, 1]) ** degree / (2**degree * math.factorial(degree))
        for order in range(-degree, degree + 1):
            m = abs(order)
            legendre = power.deriv(degree + m)(z) * (x * x + y * y) ** (m / 2)
            norm = (2 * degree + 1) * math.factorial(degree - m) / math.factorial(degree + m) * (2 if m else 1)
            found.append(math.sqrt(norm) * legendre * (np.sin(m * phi) if order < 0 else np.cos(m * phi)))
    return found


def network(params: bytes, stream: bytes, shape: tuple[int, ...], components: int) -> np.ndarray:
    """FORMAT.md, "Codec 6": values (z, y, x, c) in float64."""
    head = record(params)
    kind, activation, width, hidden = number(head, 1, 5), number(head, 2, 0), number(head, 3, 16), number(head, 4, 2)
    omega, levels, features, resolution = (number(head, t, d) for t, d in ((5, 20.0), (6, 8), (7, 2), (8, 4)))
    growth, log2_table, codes = number(head, 9, 1.5), number(head, 10, 12), raw(head, 14)
    axes = [a for a in (2, 1, 0) if shape[a] > 1] or [2]
    dims, longest = len(axes), max(shape)
    steps = [number(head, 13, 1.0) / (ROOT[c % 4] * 2 ** (c // 4)) for c in codes]
    length, at = varint(stream, 0)
    coder, group = Decoder(stream[at : at + length]), 0
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    u = [((grid[:, a] + 0.5) / longest).astype(np.float32).astype(float) for a in axes]
    extents = [shape[a] / longest for a in axes]
    waves = lambda v: [f(2**k * math.pi * v) for k in range(levels) for f in (np.sin, np.cos)]  # noqa: E731
    if kind == 0:
        rows = [2 * v - e for v, e in zip(u, extents, strict=True)]
    elif kind == 1:
        rows = [w for v in u for w in waves(v)]
    elif kind == 2:
        rows = [4 * abs(2**k * v / 2 - np.rint(2**k * v / 2)) - 1 for v in u for k in range(levels)]
    elif kind == 3:
        bins = [math.ceil(shape[a] * resolution / longest) for a in axes]
        rows = [np.exp(-((v * resolution - i - 0.5) ** 2) / 2) for v, n in zip(u, bins, strict=True) for i in range(n)]
    elif kind in (4, 5):
        sizes, rows = (resolution, growth, log2_table if kind == 5 else None, features), []
        for level in range(levels):
            rows += list(grid_level(coder, level, sizes, shape, steps[level]).T)
        group = levels
    elif kind in (6, 7, 8):
        counts = [(2 * shape[a] - 1) * (resolution - 1) // (2 * longest) + 2 for a in axes]
        if kind == 6:
            over = list(itertools.combinations(range(dims), min(dims, 2)))
        elif kind == 7:
            over = [(a,) for a in range(dims)]
        else:
            over = [s for a in range(dims) for s in ((a,), tuple(b for b in range(dims) if b != a)) if s]
        found: list[Any] = []
        for chosen in over:
            places = [u[a] * (resolution - 1) for a in chosen]
            found.append(factor(coder, group, [counts[a] for a in chosen], features, steps[group], places))
            group += 1
        if kind == 6:
            rows = list(np.sum(found, axis=0))
        elif kind == 7 or dims == 1:
            rows = list(np.prod(found, axis=0))
        else:
            rows = [r for line, plane in zip(found[::2], found[1::2], strict=True) for r in line * plane]
    else:
        middle = [2 * v - e for v, e in zip(u, extents, strict=True)] + [np.zeros(len(grid))] * (3 - dims)
        distance = np.sqrt(sum(m * m for m in middle))
        x, y, z = (m / np.maximum(distance, 1e-7) for m in middle)
        rows = harmonics(x, y, z, levels) + waves(distance / 2)
    x, coder, outputs = np.stack(rows), Decoder(stream[at + length :]), max(components, 1)
    sizes = [len(rows), *[width] * hidden, outputs]
    for i in range(hidden + 1):
        w = siren_symbols(coder, 2 * i, (sizes[i + 1], sizes[i])) * steps[group]
        b = siren_symbols(coder, 2 * i + 1, (sizes[i + 1],)) * steps[group + 1]
        x, group = w @ x + b[:, None], group + 2
        if i < hidden:
            x = (np.maximum(x, 0), x / 2 + np.sin(x) ** 2, np.sin(omega * x))[activation]
    assert len(codes) == group
    return number(head, 11, 0.0) + number(head, 12, 1.0) * x.T.reshape(*shape, outputs)


def tucker(params: bytes, section: bytes, shape: tuple[int, ...], components: int) -> np.ndarray:
    """FORMAT.md, "Codec 5": values (z, y, x, c) in float64."""
    head, sizes = record(params), (*shape, max(components, 1))
    centre, given = number(head, 2, 0.0), ints(raw(head, 4))
    if not given:
        return np.full(sizes, centre)
    assert len(given) == sum(n > 1 for n in sizes)
    ranks = [given.pop(0) if n > 1 else 1 for n in sizes]
    at, key, over = 0, None, []
    for n, r in zip(sizes, ranks, strict=True):
        if n == 1:
            over.append(np.ones((1, 1)))
            continue
        length, at = varint(section, at)
        key = Coded([section[at : at + length]], Layout((1, r, n), [], 0, True, 1), 1, key)
        at += length
        rows: list[np.ndarray] = []
        for f in key.values(0, 0, 0)[0]:
            g = f.copy()
            for _ in range(2):
                g -= sum(((g @ other) * other for other in rows), np.zeros(n))
            assert np.linalg.norm(g) > 2**-10 * np.linalg.norm(f)
            rows.append(g / np.linalg.norm(g))
        i, j = np.arange(n), np.arange(n)[:, None]
        cosines = np.sqrt(np.where(j, 2, 1) / n) * np.cos(np.pi * (2 * i + 1) * j / (2 * n))
        over.append(np.array(rows) @ cosines)
    core = Coded([section[at:]], Layout(tuple(ranks[:3]), [], 0, True, 1), ranks[3])
    values = np.stack([core.values(c, 0, 0) for c in range(ranks[3])], -1) * number(head, 1, 1.0)
    for axis, basis in enumerate(over):
        values = np.moveaxis(np.tensordot(basis, values, (0, axis)), 0, axis)
    return centre + 2.0 ** number(head, 3, 0) * values


def predicted(
    params: bytes, sections: list[bytes], shape: tuple[int, ...], components: int, dtype: np.dtype, steps: list[Any]
) -> np.ndarray:
    """FORMAT.md, "Codec 9"; `steps` are those before, the latest first."""
    found = record(params)
    weights = ints(raw(found, 1)) or [64]
    assert 1 <= len(weights) <= 2
    own = dtype if dtype.kind == "f" else np.dtype(f"i{2 * dtype.itemsize}")
    rest: Any = 0
    if sections:
        rest = wavelet(raw(found, 2), sections, shape, components, own)
        rest = (rest if own.kind == "f" else np.rint(rest)).astype(own)
    if dtype.kind == "f":
        guess = sum(w / 64 * a.astype("f8") for w, a in zip(weights, steps, strict=False))
        return (guess + rest).astype(dtype)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    guess = (sum(w * a.astype("i8") for w, a in zip(weights, steps, strict=False)) + 32) >> 6
    return np.clip(np.clip(guess, low, high) + rest, low, high).astype(dtype)


def arrays_of(data: bytes) -> list[np.ndarray]:
    assert data[:5] == b"\x8eNVC\x01"
    length, at = varint(data, 5)
    header = record(data[at : at + length])
    at += length
    assert struct.unpack_from("<I", data, at)[0] == zlib.crc32(data[:at])
    at += 4
    out, steps = [], defaultdict(list)
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
        series = (raw(array, 2), *(number(array, tag, 0) for tag in (3, 5, 6)), dtype)
        if number(array, 8, 0) == 9:
            values = predicted(raw(array, 9), sections, shape, components, dtype, steps[series])
        elif number(array, 8, 0) == 1:
            values = np.broadcast_to(np.frombuffer(raw(array, 9), dtype), (*shape, max(components, 1))).copy()
        else:
            if number(array, 8, 0) == 10:
                values = tthresh(sections[0], shape)
            elif number(array, 8, 0) == 5:
                values = tucker(raw(array, 9), sections[0], shape, components)
            elif number(array, 8, 0) == 6:
                values = network(raw(array, 9), sections[0], shape, components)
            elif number(array, 8, 0) == 4:
                values = siren(raw(array, 9), sections[0], shape, components)
            elif number(array, 8, 0) == 3:
                values = wavelet(raw(array, 9), sections, shape, components, dtype)
            else:
                values = hashgrid(raw(array, 9), sections[0], shape, components)
            if dtype.kind in "iu":
                values = np.rint(values).clip(np.iinfo(dtype).min, np.iinfo(dtype).max)
            values = values.astype(dtype)
        steps[series].insert(0, values.copy())
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
#: Goes on in test_radiance_format.py.
RADIANCE = {p.stem for p in GOLDEN.glob("radiance-*.nvc")}


@pytest.mark.parametrize("name", sorted({p.stem for p in GOLDEN.glob("*.nvc")} - FOREIGN - RADIANCE))
def test_the_definition_opens_the_golden_files(name: str) -> None:
    decoded = arrays_of((GOLDEN / f"{name}.nvc").read_bytes())
    with np.load(GOLDEN / f"{name}.npz") as stored:
        expected = [stored[key] for key in sorted(stored)]
    for got, values in zip(decoded, expected, strict=True):
        assert (got.dtype, got.shape) == (values.dtype, values.shape)
        if name.endswith("-lossless") or not name.startswith(
            ("hashgrid", "network", "predicted", "siren", "tthresh", "tucker", "wavelet")
        ):
            assert got.tobytes() == values.tobytes()
        else:
            spread = float(np.nanmax(values)) - float(np.nanmin(values))
            margin = 2.0**-14 * spread if values.dtype.kind == "f" else 1
            np.testing.assert_allclose(got.astype(float), values.astype(float), rtol=0, atol=margin)
