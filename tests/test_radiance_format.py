"""The second reader of test_format.py goes on to radiance fields: written from FORMAT.md alone, in plain Python."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_format import Decoder, ints, number, raw, record, siren_symbols, varint

GOLDEN = Path(__file__).parent / "golden"
CAUSAL = [
    (-1, 0, 0), (0, -1, 0), (0, 0, -1), (-1, -1, 0), (1, -1, 0), (-1, 0, -1), (1, 0, -1), (0, -1, -1), (0, 1, -1),
    (-1, -1, -1), (1, -1, -1), (-1, 1, -1), (1, 1, -1),
]  # fmt: skip
Values = dict[str, np.ndarray]


def first_weight(models: int) -> int:
    return 65536 if models == 1 else int(78643.2 // models)


def decide(coder: Decoder, names: list[Hashable], weights: Hashable) -> int:
    return coder.mixed(list(enumerate(names)), (weights, len(names)), first_weight(len(names)))


def opened(data: bytes, count: int, d: int) -> Decoder:
    assert len(data) >= count / 2**d - 64
    return Decoder(data)


def done(coder: Decoder, data: bytes) -> None:
    assert coder.at <= len(data) + 8


def occupancy(data: bytes, shape: list[int]) -> np.ndarray:
    """FORMAT.md, "Occupancy stream"."""
    coder = opened(data, int(np.prod(shape)), 17)
    sizes = [tuple(shape)]
    while max(sizes[-1]) > 1:
        sizes.append(tuple((n + 1) // 2 for n in sizes[-1]))
    parents: set[tuple[int, ...]] = set(itertools.product(range(-2, 3), repeat=3))
    own: set[tuple[int, ...]] = set()
    for level, size in enumerate(reversed(sizes)):
        own = set()
        for z, y, x in itertools.product(*map(range, size)):
            if (z // 2, y // 2, x // 2) not in parents:
                continue
            ends = all(p % 2 == 1 or p == n - 1 for p, n in zip((z, y, x), size, strict=True))
            mates = itertools.product(*(range(p - p % 2, p - p % 2 + 2) for p in (z, y, x)))
            if level and ends and not any(m in own for m in mates):
                own.add((z, y, x))
                continue

            def o(*offsets: tuple[int, int, int], here: tuple = (x, y, z), among: set = own) -> int:
                return sum(
                    1 << i
                    for i, d in enumerate(offsets)
                    if tuple(p + q for p, q in zip(here, d, strict=True))[::-1] in among
                )

            def up(*offsets: tuple[int, int, int], here: tuple = (x // 2, y // 2, z // 2), among: set = parents) -> int:
                return o(*offsets, here=here, among=among)

            odd = x % 2 + 2 * (y % 2) + 4 * (z % 2)
            near = o((-1, 0, 0), (0, -1, 0), (0, 0, -1))
            side = o(*CAUSAL[3:9])
            corner = o(*CAUSAL[9:])
            beyond = o((-2, 0, 0), (0, -2, 0), (0, 0, -2))
            ahead, outer = up((1, 0, 0), (0, 1, 0), (0, 0, 1)), up((1, 1, 1))
            across = up((1, 1, 0), (1, 0, 1), (0, 1, 1))
            beside = up((-1, 1, 0), (-1, 0, 1), (0, -1, 1))
            count = sum(n.bit_count() for n in (near, side, corner))
            around = up(*((a, b, c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1))).bit_count()
            names: list[Hashable] = [
                (odd, side, near), (odd, outer, across, ahead, near),
                (side >> 1 & 1, side >> 4 & 3, ahead, beyond, near), (corner, side, near), (odd, around, count),
                (odd, beside, across, ahead),
            ]  # fmt: skip
            if decide(coder, names, count):
                own.add((z, y, x))
        parents = own
    done(coder, data)
    keep = np.zeros(shape, bool)
    for place in own:
        keep[place] = True
    return keep


def clip(value: int, most: int) -> int:
    return max(-most, min(value, most))


def quarters(value: int) -> int:
    m = min(value, 65535) + 4
    e = m.bit_length() - 1
    return 4 * (e - 2) + (m >> (e - 2)) % 4


def sign(value: int) -> int:
    return 0 if value == 0 else 1 if value > 0 else 2


def attributes(data: bytes, keep: np.ndarray, channels: int, given: np.ndarray | None = None) -> np.ndarray:
    """FORMAT.md, "Attribute stream": (channels, rows)."""
    places = [tuple(int(i) for i in p) for p in np.argwhere(keep)]
    rows = {place: row for row, place in enumerate(places)}
    around = [
        [rows.get((z + dz, y + dy, x + dx)) for dx, dy, dz in CAUSAL] for z, y, x in places
    ]  # fmt: skip
    nearness = [8 >> sum(map(abs, d)) for d in CAUSAL]
    coder = opened(data, len(places) * channels, 14)
    known = [] if given is None else given.tolist()
    q: list[list[int]] = []
    miss: list[list[int]] = []
    apart: list[list[int]] = []
    activity = [1024] * len(places)
    for c in range(len(known) + channels):
        w, power, mean, off = [65536] + [0] * 22, [256] * 23, 0, 4096
        q.append([0] * len(places))
        miss.append([0] * len(places))
        apart.append([0] * len(places))
        for row in range(len(places)):
            present = [(n, g) for n, g in zip(around[row], nearness, strict=True) if n is not None]
            total = sum(g for _, g in present)
            middle = 16 * sum(g * q[c][n] for n, g in present) // total if total else mean
            misses = sum(g * min(abs(miss[c][n]), 65535) for n, g in present)
            x = [middle] + [0 if n is None else 16 * q[c][n] - middle for n in around[row][:9]] + [mean - middle]
            x += [apart[c - k][row] if c >= k else 0 for k in range(1, 13)]
            x = [clip(v, 2**20) for v in x]
            guess = clip((sum(a * b for a, b in zip(w, x, strict=True)) + 2**15) >> 16, 2**28)
            centre = (guess + 8) >> 4
            r = guess - 16 * centre
            part, scale = (abs(r) + 1) >> 1, off >> 4
            nearby, lively = (misses + 2 * scale) // (total + 2), (activity[row] * scale) >> 10
            both = min((nearby + lively + 1) >> 1, 65535)
            if c < len(known):
                q[c][row] = known[c][row]
            else:
                three = [0 if n is None else miss[c][n] for n in around[row][:3]]
                before = [miss[c - k][row] if c >= k else 0 for k in (1, 2, 3)]
                beside = tuple(min((abs(m) + 8) >> 4, 3) for m in (*three, before[0]))
                size = 0
                while size < 25:
                    j = min(size, 7)
                    names: list[Hashable] = [
                        (c, min(len(present), 3), size), (quarters(nearby), size, part), (quarters(lively), size, part),
                        (quarters(nearby) >> 1, quarters(lively) >> 1, j), (beside, j),
                        (quarters(both), quarters(abs(middle - guess)) >> 1, j),
                    ]  # fmt: skip
                    if not decide(coder, [("length", n) for n in names], (j, quarters(both) >> 2)):
                        break
                    size += 1
                t = int(size > 0)
                if size:
                    turn = -1 if r < 0 else 1
                    names = [
                        (c, part), (*(sign(turn * m) for m in three), part), (*(sign(turn * m) for m in before), part)
                    ]  # fmt: skip
                    negative = decide(coder, [("sign", n) for n in names], part)
                    for i in range(size - 1):
                        if i < 3:
                            t = 2 * t + decide(coder, [("bit", quarters(both), t), ("bit", size, t)], i)
                        else:
                            t = 2 * t + coder.bit(32768)
                    t = -t if negative else t
                q[c][row] = clip(centre - t if r < 0 else centre + t, 2**24 - 1)
            value = 16 * q[c][row]
            miss[c][row], apart[c][row] = clip(value - guess, 2**20), clip(value - middle, 2**20)
            far = min(abs(miss[c][row]), 65535)
            pull, rate = clip(miss[c][row], 8 * scale + 16), min(32 + (row >> 5), 512)
            for i, v in enumerate(x):
                power[i] += (v * v - power[i]) >> 5
                w[i] = clip(w[i] + (pull * v * 2**16) // (rate * (power[i] + (v * v >> 3) + 16)), 2**20)
            mean += (value - mean + 16) >> 5
            activity[row] += (min(1024 * far // (scale + 1), 2**14) - activity[row]) >> 2
            off += (16 * far - off + 32) >> 6
    done(coder, data)
    return np.array(q[len(known) :], np.int64).reshape(channels, len(places))


def indices(data: bytes, keep: np.ndarray, entries: int) -> np.ndarray:
    """FORMAT.md, "Index stream"."""
    places = [tuple(int(i) for i in p) for p in np.argwhere(keep)]
    coder, bits = opened(data, len(places), 14), (entries - 1).bit_length()
    found: dict[tuple[int, ...], tuple[int, int]] = {}
    for z, y, x in places:
        beside = [found.get((z + dz, y + dy, x + dx), (-1, 0)) for dx, dy, dz in CAUSAL[:3]]
        near, lately = [n for n, _ in beside], tuple(how for _, how in beside)
        pattern = sum(2**j for j in range(3) if near[j] >= 0)
        pattern += 8 * (near[0] == near[1]) + 16 * (near[0] == near[2]) + 32 * (near[1] == near[2])
        for j in range(3):
            if near[j] < 0 or near[j] in near[:j]:
                continue
            if decide(coder, [("same", j, pattern), ("same", j, pattern, lately)], j):
                found[z, y, x] = near[j], 1
                break
        else:
            node = 1
            for i in reversed(range(bits)):
                sides = []
                for n in near:
                    agrees = n >= 0 and (n >> (i + 1)) | 1 << (bits - 1 - i) == node
                    sides.append(0 if n < 0 else 2 + (n >> i & 1) if agrees else 1)
                names: list[Hashable] = [node, (bits - 1 - i, *sides)]
                names += [(((n + 1) * 65536 + node) * 2654435761 % 2**32) >> 14 for n in near]
                node = 2 * node + decide(coder, names, bits - 1 - i)
            found[z, y, x] = node - 2**bits, 2
    done(coder, data)
    return np.array([found[p][0] for p in places])


def order_of(value: float) -> int:
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    return 2**31 + bits if bits < 2**31 else 2**31 - 1 - (bits - 2**31)


def float_of(u: int) -> np.float32:
    bits = u - 2**31 if u >= 2**31 else 2**31 + (2**31 - 1 - u)
    return np.array([bits], np.uint32).view(np.float32)[0]


def floats(data: bytes, keep: np.ndarray, channels: int) -> np.ndarray:
    """FORMAT.md, "Float stream": (channels, rows)."""
    (e,) = struct.unpack_from("<h", data)
    length, at = varint(data, 2)
    q = attributes(data[at : at + length], keep, channels)
    rest = data[at + length :]
    coder = opened(rest, q.size, 14)

    def first(multiple: int) -> int:
        """The first number whose float is not below (multiple - 1/2) 2^e, by bisection."""
        edge, low, high = (2 * multiple - 1) * 2.0 ** (e - 1), order_of(-np.inf), order_of(np.inf)
        while low < high:
            half = (low + high) // 2
            if float(float_of(half)) >= edge:
                high = half
            else:
                low = half + 1
        return low

    out, written = np.empty(q.size, np.float32), [0] * q.size
    places = {tuple(int(i) for i in p): row for row, p in enumerate(np.argwhere(keep))}
    beside = [[places.get((z + dz, y + dy, x + dx)) for dx, dy, dz in CAUSAL[:3]] for z, y, x in places]
    for place, value in enumerate(q.ravel().tolist()):
        low, high, u = first(value), first(value + 1) - 1, 0
        row = place % len(places)
        near = [written[place - row + n] for n in beside[row] if n is not None]
        like = next((n for n in near if low <= n <= high), None)
        for i in reversed(range(32)):
            m = u + 2**i
            a, b = max(low, u), min(high, m + 2**i - 1)
            if b < m:
                continue
            if a >= m:
                u = m
                continue
            side = 0
            if like is not None and like >> (i + 1) == u >> (i + 1):
                side = 1 + (like >> i & 1)
            name: Hashable = ("not", u >> 31, i, 16 * (b - m + 1) // (b - a + 1))
            if value == 0:
                name = ("tree", u >> (i + 1), i) if i >= 20 else ("low", u >> 31, i)
            u += decide(coder, [(name, side)], 0) << i
        written[place] = u
        out[place] = float_of(u)
    done(coder, rest)
    return out.reshape(q.shape)


def rows(
    data: bytes, keep: np.ndarray, channels: int, step: float, square: bool = False, given: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """FORMAT.md, "Rows": values (rows, channels), and q."""
    if not step:
        return floats(data, keep, channels).T, None
    q = attributes(data, keep, channels, given)
    u = q * step
    return (u * np.abs(u) if square else u).astype(np.float32).T, q


def tensors(data: bytes, shapes: list[tuple[int, ...]], steps: list[float], shared: bool) -> list[np.ndarray]:
    """FORMAT.md, "Tensors"."""
    count = sum(int(np.prod(s)) for s in shapes)

    def stream(part: bytes) -> list[np.ndarray]:
        assert len(part) >= count / 1024 - 64
        coder = Decoder(part)
        found = [siren_symbols(coder, i, shape) for i, shape in enumerate(shapes)]
        done(coder, part)
        return found

    if steps:
        return [(q * s).astype(np.float32) for q, s in zip(stream(data), steps, strict=True)]
    if shared:
        at, counts = 0, []
        for _ in shapes:
            n, at = varint(data, at)
            counts.append(n)
        books = [np.frombuffer(data, "<f4", n, at + 4 * sum(counts[:i])) for i, n in enumerate(counts)]
        found = stream(data[at + 4 * sum(counts) :])
        return [b[q + int(np.abs(b).argmin())] for b, q in zip(books, found, strict=True)]
    length, at = varint(data, 0)
    high = stream(data[at : at + length])
    rest = data[at + length :]
    coder, out = opened(rest, count, 14), []
    for q in high:
        values = []
        for n in q.ravel().tolist():
            low = 0
            for half in range(2):
                node = 1
                for _ in range(8):
                    node = 2 * node + decide(coder, [(n == 0, half, node)], 0)
                low = 256 * low + node - 256
            values.append(float_of(((n + 32768) << 16) + low))
        out.append(np.array(values, np.float32).reshape(q.shape))
    done(coder, rest)
    return out


def run_of(found: dict[int, list[Any]], tag: int) -> list[float]:
    data = raw(found, tag)
    if not data:
        return []
    if data[0] < 16:
        return [n / 10 ** data[0] for n in ints(data[1:])]
    return np.frombuffer(data[1:], {"f": "<f4", "d": "<f8"}[chr(data[0])]).astype(float).tolist()


def plenoxels(head: dict[int, list[Any]], sections: list[bytes]) -> Values:
    functions = number(head, 3, 9)
    keep = occupancy(sections[0], ints(raw(head, 1)))
    density, q = rows(sections[1], keep, 1, number(head, 4, 0.0), True)
    given = q if number(head, 5, 0.0) else None
    sh = rows(sections[2], keep, 3 * functions, number(head, 5, 0.0), given=given)[0]
    found = {"keep": keep, "density": density[:, 0], "sh": sh.reshape(-1, functions, 3).transpose(0, 2, 1)}
    if sphere := ints(raw(head, 6)):
        found["far"] = occupancy(sections[3], [1, *sphere[:2]])
        found["far data"] = rows(sections[4], found["far"], 4 * sphere[2], number(head, 7, 0.0))[0]
    return found | {"box": np.array(run_of(head, 2))}


def dvgo(head: dict[int, list[Any]], sections: list[bytes]) -> Values:
    shape, channels = ints(raw(head, 1)), number(head, 3, 0)
    keep = occupancy(sections[0], shape)
    assert len(sections[2]) >= keep.size * channels / 2**17 - 64
    density, features = np.full(shape, number(head, 13, 0.0), np.float32), np.zeros((*shape, channels), np.float32)
    values, q = rows(sections[1], keep, 1, number(head, 10, 0.0))
    density[keep] = values[:, 0]
    given = q if number(head, 11, 0.0) else None
    features[keep] = rows(sections[2], keep, channels, number(head, 11, 0.0), given=given)[0]
    found = {"density": density, "features": features, "box": np.array(run_of(head, 2))}
    width = channels - (0 if number(head, 7, 1) else 3) + 3 + 6 * number(head, 6, 0)
    shapes: list[tuple[int, ...]] = []
    for outputs in ints(raw(head, 8)):
        shapes += [(outputs, width), (outputs,)]
        width = outputs
    rest = sections[3:]
    for i, tensor in enumerate(tensors(rest.pop(0), shapes, run_of(head, 12), False) if shapes else []):
        found[f"tensor {i}"] = tensor
    if mask := ints(raw(head, 9)):
        found["mask"] = occupancy(rest.pop(0), mask)
    return found


def vqrf(head: dict[int, list[Any]], sections: list[bytes]) -> Values:
    shape, channels, steps = ints(raw(head, 2)), number(head, 4, 0), run_of(head, 5)
    sparse, codes = not number(head, 1, 0), number(head, 6, 0)
    keep = occupancy(sections[0], shape)
    density, q = rows(sections[1], keep, 1, steps[0], sparse)
    mine, others = keep.copy(), np.zeros_like(keep)
    if codes:
        own = attributes(sections[2], keep, 1, q)[0]
        assert set(own.tolist()) <= {0, 1}
        mine[keep], others[keep] = own == 1, own == 0
    assert sparse or len(sections[3]) >= keep.size * channels / 2**17 - 64
    assert q is not None
    kept = attributes(sections[3], mine, channels, q[:, mine[keep]]).T
    width = channels - (0 if number(head, 14, 1) else 3) + 3 + 6 * number(head, 13, 0)
    shapes: list[tuple[int, ...]] = [(channels, channels), (channels,)]
    for outputs in ints(raw(head, 8)):
        shapes += [(outputs, width), (outputs,)]
        width = outputs
    vectors, mean, *network = tensors(sections[6], shapes, [1.0, 1.0, *run_of(head, 9)], False)
    features = np.zeros((*shape, channels), np.float32)

    def mixed(k: np.ndarray, step: float) -> np.ndarray:
        exact = k.astype(np.int64) @ vectors.astype(np.int64)
        return (exact * (step / 128) + mean.astype(np.int64) * number(head, 7, 1.0)).astype(np.float32)

    features[mine] = mixed(kept, steps[1])
    if codes:
        book = attributes(sections[4], np.ones((1, 1, codes), bool), channels).T
        features[others] = mixed(book, steps[2])[indices(sections[5], others, codes)]
    found = {"box": np.array(run_of(head, 3)).reshape(2, 3)}
    if sparse:
        sh = features[keep].reshape(-1, 3, channels // 3)
        found |= {"keep": keep, "density": density[:, 0], "sh": sh}
        if layers := ints(raw(head, 15)):
            length, at = varint(sections[7], 0)
            found["far"] = occupancy(sections[7][at : at + length], [1, *layers[:2]])
            values = rows(sections[7][at + length :], found["far"], 4 * layers[2], number(head, 16, 1.0))[0]
            found["far data"] = values.reshape(-1, layers[2], 4)
        return found
    dense = np.full(shape, number(head, 12, 0.0), np.float32)
    dense[keep] = density[:, 0]
    found |= {f"tensor {i}": tensor for i, tensor in enumerate(network)} | {"density": dense, "features": features}
    if not keep.all():
        near = np.pad(keep, 1)
        z, y, x = shape
        found["mask"] = np.logical_or.reduce(
            [near[c : c + z, b : b + y, a : a + x] for c in range(3) for b in range(3) for a in range(3)]
        )
    return found


def nerf(head: dict[int, list[Any]], sections: list[bytes]) -> Values:
    shapes: list[tuple[int, ...]] = []

    def layer(outputs: int, inputs: int) -> int:
        shapes.extend([(outputs, inputs), (outputs,)])
        return outputs

    for _, packed in head[1]:
        mlp = record(packed)
        trunk, skips, views = (ints(raw(mlp, tag)) for tag in (1, 3, 5))
        position, feature = 3 + 6 * number(mlp, 2, 10), number(mlp, 4, 0)
        width = 0
        for i, outputs in enumerate(trunk):
            width = layer(outputs, position if i == 0 else width + position * (i in skips))
        layer(1, width)
        if feature:
            layer(feature, width)
        for i, outputs in enumerate(views):
            width = layer(outputs, feature + 3 + 6 * number(mlp, 6, 4) if i == 0 else width)
        layer(3, width)
    found = tensors(sections[0], shapes, run_of(head, 2), bool(number(head, 3, 0)))
    return {f"tensor {i}": tensor for i, tensor in enumerate(found)}


def fields_of(data: bytes) -> list[tuple[dict[int, list[Any]], Values]]:
    """Header and values of every radiance field of a file without arrays."""
    assert data[:5] == b"\x8eNVC\x02"
    length, at = varint(data, 5)
    header = record(data[at : at + length])
    at += length
    assert struct.unpack_from("<I", data, at)[0] == zlib.crc32(data[:at])
    at += 4
    out = []
    for _, packed in header[3]:
        field = record(packed)
        sections = []
        for length in ints(raw(field, 1)):
            sections.append(data[at : at + length])
            assert struct.unpack_from("<I", data, at + length)[0] == zlib.crc32(sections[-1])
            at += length + 4
        codec = {20: plenoxels, 21: dvgo, 22: nerf, 23: vqrf}[number(field, 3, 0)]
        out.append((field, codec(record(raw(field, 4)), sections)))
    assert at == len(data)
    return out


@pytest.mark.parametrize("name", sorted(p.stem for p in GOLDEN.glob("radiance-*.nvc")))
def test_the_definition_opens_the_golden_files(name: str) -> None:
    ((_, values),) = fields_of((GOLDEN / f"{name}.nvc").read_bytes())
    with np.load(GOLDEN / f"{name}.npz") as stored:
        assert set(stored) == set(values)
        for key in stored:
            assert values[key].tobytes() == stored[key].tobytes(), key


@pytest.mark.parametrize("entries", [1, 2, 37])
def test_the_definition_opens_streams_of_indices(entries: int) -> None:
    from neurcomp_core.radiance.coding.indices import encode_indices

    draw = np.random.default_rng(1)
    keep = draw.random((5, 6, 7)) < 0.6
    written = np.minimum(draw.geometric(0.1, np.count_nonzero(keep)) - 1, entries - 1)
    np.testing.assert_array_equal(indices(encode_indices(written, keep, entries), keep, entries), written)
