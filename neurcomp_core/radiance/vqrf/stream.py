"""A quantised field as bytes: a record of its parameters and streams of its parts, see FORMAT.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from neurcomp_core.coding import wire
from neurcomp_core.coding.matrices import decode_matrices, encode_matrices
from neurcomp_core.errors import FormatError
from neurcomp_core.radiance.coding.attributes import decode_attributes, encode_attributes
from neurcomp_core.radiance.coding.indices import decode_indices, encode_indices
from neurcomp_core.radiance.coding.occupancy import decode_occupancy, encode_occupancy
from neurcomp_core.radiance.coding.streams import VOXELS, check_count, padded
from neurcomp_core.radiance.vqrf import layers
from neurcomp_core.radiance.vqrf.factors import Basis
from neurcomp_core.radiance.vqrf.quantise import Steps, Symbols
from neurcomp_core.radiance.vqrf.rows import Shell

#: Streams in their order; that of layers behind a field is last and only there if the field has them.
PARTS = ("occupancy", "density", "own", "kept", "codes", "indices", "network", "background")
_KINDS = ("sparse", "dvgo")
_MOST_CHANNELS, _MOST_LAYERS, _MOST_SAMPLES = 256, 16, 1 << 31


@dataclass(frozen=True)
class Record:
    """Parameters of a stream; tags in FORMAT.md."""

    kind: int
    shape: tuple[int, ...]
    box: tuple[float, ...]
    channels: int
    steps: tuple[float, ...]
    codes: int = 0
    unit: float = 1.0
    widths: tuple[int, ...] = ()
    network_steps: tuple[float, ...] = ()
    shift: float = 0.0
    voxel: float = 1.0
    rest: float = 0.0
    frequencies: int = 0
    direct: bool = True
    layers: tuple[int, ...] = ()
    layer_step: float = 1.0
    agreement: float | None = None


def encode(symbols: Symbols, known: Mapping[str, bytes] | None = None) -> tuple[bytes, list[bytes]]:
    """Parameters and sections; `known` are streams by name, of the same symbols, that need not be made again."""
    sections = [(known or {}).get(name) or encode_part(symbols, name) for name in PARTS[:-1]]
    shell, far, step = symbols.shell, symbols.shell.background, symbols.layer_step
    if far is not None:
        sections.append(layers.encode(far, step))
    widths = tuple(len(bias) for bias in symbols.network[1::2])
    record = Record(
        _KINDS.index(shell.kind), symbols.occupied.shape, tuple(float(v) for v in shell.box.ravel()),
        len(symbols.basis.mean), (symbols.steps.density, symbols.steps.kept, symbols.steps.codes), len(symbols.codes),
        symbols.basis.unit, widths, symbols.network_steps, shell.shift, shell.unit, shell.rest,
        shell.frequencies, shell.direct, () if far is None else (*far.links.shape, far.data.shape[1]), step,
    )  # fmt: skip
    return wire.pack(record), sections


def stated(params: bytes, agreement: float) -> bytes:
    """Parameters with the PSNR, in dB, of pictures against those of the uncompressed field; infinite is left out."""
    if not math.isfinite(agreement):
        return params
    return wire.pack(replace(wire.unpack(Record, params), agreement=float(np.float32(agreement))))


def encode_part(symbols: Symbols, name: str) -> bytes:
    """One of the streams."""
    return _ENCODERS[name](symbols)


def _voxels(symbols: Symbols, some: np.ndarray) -> np.ndarray:
    chosen = np.zeros_like(symbols.occupied)
    chosen[symbols.occupied] = some
    return chosen


_ENCODERS: dict[str, Callable[[Symbols], bytes]] = {
    "occupancy": lambda s: encode_occupancy(s.occupied),
    "density": lambda s: encode_attributes(s.density[:, None], s.occupied),
    "own": lambda s: _encode_own(s),
    "kept": lambda s: _encode_kept(s),
    "codes": lambda s: encode_attributes(s.codes, np.ones((1, 1, len(s.codes)), bool)) if len(s.codes) else b"",
    "indices": lambda s: encode_indices(s.index, _voxels(s, ~s.own), len(s.codes)) if len(s.codes) else b"",
    "network": lambda s: encode_matrices([s.basis.vectors, s.basis.mean, *s.network]),
}


def _encode_kept(symbols: Symbols) -> bytes:
    coded = encode_attributes(symbols.kept, _voxels(symbols, symbols.own), symbols.density[symbols.own][:, None])
    # A DVGO field is dense again when it is decoded; long enough a stream for one that is as large.
    return padded(coded, _dense(symbols.shell.kind, symbols.occupied.size, len(symbols.basis.mean)), VOXELS)


def _dense(kind: str, samples: int, channels: int) -> int:
    return samples * channels if kind == "dvgo" else 0


def _encode_own(symbols: Symbols) -> bytes:
    """Nothing if there is no codebook: all rows are their own then."""
    if not len(symbols.codes):
        return b""
    return encode_attributes(symbols.own[:, None].astype(np.int64), symbols.occupied, symbols.density[:, None])


def decode(params: bytes, sections: Sequence[bytes]) -> Symbols:
    """Inverse of `encode`.

    Raises
    ------
    FormatError
        If the streams are not what it writes.
    """
    record = wire.unpack(Record, params)
    _check(record, len(sections))
    coded = dict(zip(PARTS, (bytes(s) for s in sections), strict=False))
    shape = record.shape[0], record.shape[1], record.shape[2]
    occupied = decode_occupancy(coded["occupancy"], shape)
    density = decode_attributes(coded["density"], occupied, 1)
    own = np.ones(len(density), bool)
    if record.codes:
        own = _bits(decode_attributes(coded["own"], occupied, 1, density)[:, 0])
    voxels, others = np.zeros(shape, bool), np.zeros(shape, bool)
    voxels[occupied], others[occupied] = own, ~own
    check_count(coded["kept"], _dense(_KINDS[record.kind], occupied.size, record.channels), VOXELS, "features")
    kept = decode_attributes(coded["kept"], voxels, record.channels, density[own])
    codes, index = np.zeros((0, record.channels), np.int64), np.zeros(0, np.int64)
    if record.codes:
        codes = decode_attributes(coded["codes"], np.ones((1, 1, record.codes), bool), record.channels)
        index = decode_indices(coded["indices"], others, record.codes)
    shapes = _network_shapes(record)
    vectors, mean, *network = decode_matrices(
        coded["network"], [(record.channels, record.channels), (record.channels,), *shapes]
    )
    far = layers.decode(coded["background"], record.layers, record.layer_step) if record.layers else None
    box = np.array(record.box).reshape(2, 3)
    kind = _KINDS[record.kind]
    shell = Shell(kind, box, record.shift, record.voxel, record.rest, record.frequencies, record.direct, far)  # pyright: ignore
    return Symbols(
        shell, occupied, density[:, 0].astype(np.int64), Basis(vectors, mean, record.unit), own, kept, codes, index,
        tuple(network), Steps(record.steps[0], record.steps[1], record.steps[2], 0.0), record.network_steps,
        record.layer_step,
    )  # fmt: skip


def _bits(values: np.ndarray) -> np.ndarray:
    if values.size and not 0 <= values.min() <= values.max() <= 1:
        raise FormatError("a voxel's flag is neither 0 nor 1; the file is damaged")
    return values.astype(bool)


def _network_shapes(record: Record) -> list[tuple[int, ...]]:
    """Of weights and biases in turn."""
    width = record.channels - (0 if record.direct else 3) + 3 + 6 * record.frequencies
    shapes: list[tuple[int, ...]] = []
    for out in record.widths:
        shapes += [(out, width), (out,)]
        width = out
    return shapes


def _check(record: Record, sections: int) -> None:
    """FormatError for what `encode` does not write; how much may be allocated is checked by the decoders of parts."""
    numbers = (*record.box, *record.steps, *record.network_steps, record.unit, record.shift, record.voxel, record.rest)
    sparse = record.kind == _KINDS.index("sparse")
    good = (
        0 <= record.kind < len(_KINDS)
        and len(record.shape) == 3
        and min(record.shape) >= (1 if sparse else 2)
        and math.prod(record.shape) <= _MOST_SAMPLES
        and len(record.box) == 6
        and all(low < high for low, high in zip(record.box[:3], record.box[3:], strict=True))
        and 1 <= record.channels <= _MOST_CHANNELS
        and len(record.steps) == 3
        and all(map(math.isfinite, numbers))
        and min(*record.steps, *record.network_steps, record.voxel) > 0
        and 0 <= record.codes <= math.prod(record.shape)
        and len(record.widths) <= _MOST_LAYERS
        and len(record.network_steps) == 2 * len(record.widths)
        and all(1 <= w <= 1 << 16 for w in record.widths)
        and 0 <= record.frequencies <= 64
        and len(record.layers) == (3 if record.layers else 0)
        and all(1 <= n <= 1 << 16 for n in record.layers)
        and sections == len(PARTS) - (0 if record.layers else 1)
    )
    if not good:
        raise FormatError("the parameters of a compressed radiance field are out of range; the file is damaged")
