"""Whatever bytes come in: an error of ours or the right data; no other exception, no crash, no large allocation.

The mutants run in a process of their own whose address space may hardly grow.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurcomp_core import container, decoding, pipeline
from neurcomp_core.axes import AxisRecord
from neurcomp_core.codec import Codec
from neurcomp_core.codecs.dvgo import DvgoRecord
from neurcomp_core.codecs.hashgrid import HashGrid, HashGridRecord
from neurcomp_core.codecs.nerf import MlpRecord, NerfRecord
from neurcomp_core.codecs.plenoxels import PlenoxelsRecord
from neurcomp_core.codecs.siren import Siren, SirenRecord
from neurcomp_core.codecs.tucker import Tucker
from neurcomp_core.codecs.wavelet import Wavelet
from neurcomp_core.coding import wire
from neurcomp_core.container import ArrayRecord, Container, GeometryRecord, Header, RadianceRecord
from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.field import Field, RectilinearGrid
from neurcomp_core.radiance import files
from neurcomp_core.radiance.volume import RadianceVolume
from neurcomp_core.temporal import PredictedRecord
from neurcomp_core.tucker.record import TuckerRecord
from neurcomp_core.wavelet.record import WaveletRecord

MUTANTS = 1500  # of each of the two kinds
#: Largest array the process takes for decodable, and what its address space may grow by.
LARGEST, GROWTH = 4 << 20, 192 << 20
NUMBERS = (0, 1, -1, 2, 3, 7, 64, 255, 256, 1000, 65535, 1 << 20, 1 << 24, (1 << 31) - 1, 1 << 31, 1 << 40, 1 << 63)
RECORDS = (
    HashGridRecord, SirenRecord, TuckerRecord, WaveletRecord, PredictedRecord, PlenoxelsRecord, DvgoRecord, NerfRecord
)  # fmt: skip
FLOATS = (0.0, -1.0, 1.0, 1.0000001, 8.0, 1e-30, 1e30, 1e300, float("inf"), float("nan"))


def corpus() -> dict[str, bytes]:
    """Small files that together use every part of the format."""
    from neurcomp_core.codec import Context
    from neurcomp_core.target import Bytes, MaxError, Psnr

    quick, context = HashGrid(steps=20, batch=256), Context(device="cpu", threads=2)
    z, y, x = np.mgrid[:7, :9, :10]
    wave = (np.sin(x / 3) * np.cos(y / 4) + z / 12).astype(np.float32)
    holes = wave.copy()
    holes[2:4, 3:] = np.nan
    holes[0, 0, :3] = np.inf
    payloads = np.full((9, 10, 11), 4.0)
    payloads[3:7] = np.random.default_rng(1).standard_normal((4, 10, 11))
    covered = np.zeros(payloads.shape, bool)
    covered[3:7] = True
    grid = RectilinearGrid(np.geomspace(1, 2, 10), np.arange(9) * 0.1, np.linspace(0, 1, 7, dtype=np.float32))
    vectors = np.stack([wave, wave[::-1]], axis=3)

    def file(made: Field | list[Field], target: Any, codec: Codec = quick) -> bytes:
        return pipeline.compress(made, target, codec, context).data

    return {
        "constant": file(Field(np.full((3, 4, 5), 7, np.int16), name="c"), Psnr(20)),
        "hashgrid": file(Field(wave), Bytes(600)),
        "siren": file(Field(wave), Bytes(600), Siren(steps=30, batch=256)),
        "tucker": file(Field(vectors), Psnr(40), Tucker()),
        "masked": file(Field(holes, name="holes"), Bytes(700)),
        "palette": file(Field(payloads, mask=covered), Psnr(20)),
        "rectilinear": file(Field(wave[:, ::-1], grid, time=2.0), Bytes(800)),
        "several": file([Field(wave, name="a"), Field(vectors, name="b"), Field(np.ones((7, 9, 10)))], Bytes(1800)),
        "line": file(Field(wave.reshape(1, 1, -1)), Bytes(500)),
        "wavelet": file(Field(wave), Psnr(40), Wavelet()),
        "tiles": file(Field(np.tile(vectors, (4, 4, 4, 1))), MaxError(0.3), Wavelet(brick=16)),
        "lossless": file(Field(np.rint(99 * wave).astype(np.int16)), MaxError(0.5), Wavelet()),
        "predicted": file(
            [Field(a + np.float32(i / 50), name="p", time=float(i)) for i in range(3) for a in (wave * (1 + i / 9),)],
            MaxError(0.01),
            Wavelet(),
        ),
        "steps": file(
            [Field(np.rint(40 * wave * (1 + i / 5) + 90).astype(np.uint8), time=float(i)) for i in range(4)],
            Psnr(40),
            Wavelet(),
        ),
        "corrected": file(Field(holes), MaxError(0.01), Wavelet("wavelet", brick=16)),
        **radiance(),
    }


def radiance() -> dict[str, bytes]:
    """The same of radiance fields."""
    import test_radiance_codecs as made

    return {
        f"{case}-{preset}": files.compress(made.volume(made.models()[case]), made.quick(case.split("-")[0])
                                           if preset == "balanced" else made.exact(case.split("-")[0])).data
        for case in ("plenoxels-background", "dvgo", "nerf", "nerf-pruned", "vqrf")
        for preset in ("balanced", "lossless")
        if (case, preset) != ("vqrf", "lossless")
    }  # fmt: skip


# -------------------------------------------------------------------------------------------------------- mutations


def damage(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Bit flips, truncation, insertions, removals, zeroed blocks, or a splice with `other`."""
    out = bytearray(data)
    at, length = rng.randrange(len(out) + 1), rng.choice((1, 2, 4, 16, 100))
    kind = rng.randrange(6)
    if kind == 0:
        for _ in range(rng.choice((1, 1, 2, 8, 64))):
            bit = rng.randrange(8 * max(len(out), 1))
            out[bit // 8 : bit // 8 + 1] = bytes(b ^ 1 << bit % 8 for b in out[bit // 8 : bit // 8 + 1])
    elif kind == 1:
        del out[at:]
    elif kind == 2:
        out[at:at] = rng.randbytes(length)
    elif kind == 3:
        del out[at : at + length]
    elif kind == 4:
        out[at : at + length] = bytes(len(out[at : at + length]))
    else:
        out[at:] = other[rng.choice((at, rng.randrange(len(other) + 1))) :]
    return bytes(out)


def changed(record: Any, rng: random.Random) -> Any:
    """A record with one of its values, or of its records' values, replaced by an unlikely one."""
    name = rng.choice([f.name for f in fields(record)])
    value = getattr(record, name)
    if isinstance(value, tuple) and value and is_dataclass(value[0]):
        items = list(value)
        i = rng.randrange(len(items))
        if rng.random() < 0.1:
            items[i : i + 1] = rng.choice(([], items[i : i + 1] * 2))
        else:
            items[i] = changed(items[i], rng)
        return replace(record, **{name: tuple(items)})
    return replace(record, **{name: unlikely(value, name, rng)})


def unlikely(value: Any, name: str, rng: random.Random) -> Any:
    if isinstance(value, bytes):
        if name in ("params", "residual") and rng.random() < 0.8:
            kind = rng.choice(RECORDS)
            try:
                return wire.pack(changed(wire.unpack(kind, value), rng))
            except FormatError:
                pass
        return damage(value, b"\0\1\2\3", rng) if value else rng.randbytes(3)
    if name in ("axes", "arrays", "geometries", "radiance", "networks"):
        item = {
            "axes": AxisRecord(line=(0.0, 1.0)), "arrays": ArrayRecord(), "geometries": GeometryRecord((2,)),
            "radiance": RadianceRecord(), "networks": MlpRecord((4,)),
        }[name]  # fmt: skip
        return (item,) * rng.choice((1, 3))
    if isinstance(value, tuple):
        kind = FLOATS if any(isinstance(v, float) for v in value) or name in ("line", "direction") else NUMBERS
        items = list(value) or [rng.choice(kind)]
        items[rng.randrange(len(items))] = rng.choice(kind)
        return tuple(items * rng.choice((1, 1, 1, 1, 2, 3)))
    if isinstance(value, str):
        return rng.choice(("", "a" * 300, "\0", "é/..%s{}"))
    if isinstance(value, float) or value is None:
        return rng.choice(FLOATS)
    return bool(rng.randrange(2)) if isinstance(value, bool) else rng.choice(NUMBERS)


def sealed(header: Header, streams: list[bytes], rng: random.Random, other: bytes) -> bytes:
    """A file with good checksums around a damaged inside."""
    kind = rng.randrange(4)
    if kind == 0 and streams:
        i = rng.randrange(len(streams))
        streams[i] = damage(streams[i], other, rng)
        at = 0
        owners: list[Any] = []
        for record in (*header.arrays, *header.radiance):
            lengths = tuple(len(s) for s in streams[at : at + len(record.sections)])
            at += len(lengths)
            owners.append(replace(record, sections=lengths))
        arrays, fields_of = owners[: len(header.arrays)], owners[len(header.arrays) :]
        return container.dumps(replace(header, arrays=tuple(arrays), radiance=tuple(fields_of)), streams)
    if kind == 1:
        packed = damage(wire.pack(header), other, rng)
        version = container.RADIANCE_VERSION if header.radiance else container.VERSION
        head = container.MAGIC + bytes([version]) + wire.write_varint(len(packed)) + packed
        return head + container._crc(head) + b"".join(s + container._crc(s) for s in streams)
    for _ in range(rng.choice((1, 1, 2, 4))):
        header = changed(header, rng)
    return container.dumps(header, streams)


def mutants(files: dict[str, bytes], seed: int) -> Iterator[tuple[bytes, list[str]]]:
    """Files, each with the names of those whose data it may hold (any data, if checksums were made anew)."""
    rng = random.Random(seed)
    names = sorted(files)
    for i in range(MUTANTS):
        name, other = names[i % len(names)], rng.choice(names)
        yield damage(files[name], files[other], rng), [name, other]
        file = Container(files[name])
        streams = [s for index in range(len(file)) for s in file.sections(index)]
        streams += [s for index in range(len(file.header.radiance)) for s in file.radiance_sections(index)]
        yield sealed(file.header, streams, rng, files[other]), []


# ---------------------------------------------------------------------------------------------------------- the run


Held = list[Field | RadianceVolume]


def same(a: Held, b: Held) -> bool:
    return len(a) == len(b) and all(map(alike, a, b))


def alike(x: Field | RadianceVolume, y: Field | RadianceVolume) -> bool:
    if isinstance(x, RadianceVolume):
        return isinstance(y, RadianceVolume) and x.name == y.name and files.same_model(x.model, y.model)
    return (
        isinstance(y, Field) and x.name == y.name and x.geometry == y.geometry and x.time == y.time
        and x.values.dtype == y.values.dtype and x.values.tobytes() == y.values.tobytes()
    )  # fmt: skip


def held(data: bytes) -> Held:
    """All that is in a file."""
    file = Container(data)
    arrays = pipeline.decompress(data) if len(file) or not file.header.radiance else []
    return [*arrays, *(files.load(file, name=record.name) for record in file.header.radiance)]


def attack(folder: Path, seed: int) -> None:
    """Decode all mutants; prints what became of them, exits with a traceback at the first that gets through."""
    import resource

    given = {p.stem: p.read_bytes() for p in folder.iterdir()}
    right = {name: held(data) for name, data in given.items()}  # also loads what will be needed
    decoding._machine_memory = lambda: LARGEST
    with open("/proc/self/statm") as statm:
        used = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + GROWTH, resource.RLIM_INFINITY))
    counts = {"refused": 0, "decoded": 0}
    for number, (data, sources) in enumerate(mutants(given, seed)):
        (folder / "mutant").write_bytes(data)
        try:
            decoded = held(data)
        except (FormatError, InputError) as error:
            if "more memory than there is" in str(error):
                raise SystemExit(f"mutant {number} asked for too much: {error}") from error
            counts["refused"] += 1
            continue
        assert not sources or any(same(decoded, right[s]) for s in sources), f"mutant {number} decodes to other data"
        counts["decoded"] += 1
    print(counts["refused"], counts["decoded"])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux to limit a process's address space")
def test_mutated_files_give_our_errors_or_the_right_data(tmp_path: Path) -> None:
    for name, data in corpus().items():
        (tmp_path / name).write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, str(tmp_path), "1"], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr[-3000:]}\nthe file is {tmp_path / 'mutant'}"
    refused, decoded = map(int, done.stdout.split())
    assert refused + decoded == 2 * MUTANTS
    # Mutations behind the checksums must reach the decoders, not only their guards.
    assert decoded > MUTANTS // 10


if __name__ == "__main__":
    attack(Path(sys.argv[1]), int(sys.argv[2]))
