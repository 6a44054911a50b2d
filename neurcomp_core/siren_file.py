"""Sine networks in files of the 2021 reference: its compressed networks, and its PyTorch checkpoints.

The reference is the program published with Lu, Jiang, Levine, Berger: "Compressive Neural Representations of Volumetric
Scalar Fields", CGF 40(3), 2021. Its compressed file has neither signature nor version and knows neither the volume's
shape nor its range; little-endian throughout:

============  =====================================================================================================
header        u8 number of sine layers, u8 inputs, u8 outputs, u8 residual (0, 1), u32 width of each layer, u8 bits
first layer   weights f32, row by row, then biases f32
each inner    ``2**bits`` centres f32, the labels, biases f32; a residual block holds two such matrices
matrix
last layer    weights f32, biases f32
============  =====================================================================================================

Labels have `bits` bits each, the highest first, without gaps; what is left for the last byte stands there as a small
number, in its lowest bits. Where `bits` is not a multiple of 8, a u32 repeats the last label, which the reference needs
for that reason. (Under 8 bits its own reader may read one or more labels before the last one wrongly, too, unless the
width is a multiple of 4.) Every sine layer has the factor 30, whatever its training was told.
"""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from neurcomp_core.coding.codebook import Codebook, kmeans
from neurcomp_core.errors import FormatError, InputError, require
from neurcomp_core.nets.siren import Siren

#: The factor inside the reference's sines.
OMEGA = 30.0
#: Bits of a label that its files may have.
BITS = range(1, 17)
#: Names that checkpoints have.
CHECKPOINTS = (".pth", ".pt")

_DAMAGED = "it is damaged, or not a compressed network of neurcomp's 2021 reference, which has no signature"
# What torch.save writes: a zip archive, or before 1.6 a pickle that begins with this number.
_TORCH = (b"PK\x03\x04", b"\x80\x02\x8a\x0a")

Parameters = list[np.ndarray]


def read(path: str | Path) -> tuple[Siren, Parameters]:
    """The network of a compressed file or of a checkpoint, whichever it is.

    Returns
    -------
    net : Siren
    parameters : list of ndarray
        W, b, W, b, ..., float32, in the order of ``net.shapes``.

    Raises
    ------
    FormatError
        If it is neither.
    InputError
        If it cannot be read.
    MissingExtraError
        If it is a checkpoint and torch is not installed.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror}") from error
    try:
        return parse_checkpoint(data) if data.startswith(_TORCH) else parse(data)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error


# ---------------------------------------------------------------------------------------------------- compressed file


def parse(data: bytes) -> tuple[Siren, Parameters]:
    """The network of a compressed file's bytes; see `read`."""
    net, bits = _header(data)
    source = _Source(data, 5 + 4 * net.layers)
    parameters = []
    for number, (rows, columns) in enumerate(net.shapes):
        inner = 0 < number < len(net.shapes) - 1
        weights = _inner_matrix(source, rows * columns, bits) if inner else source.floats(rows * columns)
        parameters += [weights.reshape(rows, columns), source.floats(rows)]
    _check_finite(parameters)
    return net, parameters


def pack(net: Siren, parameters: Sequence[np.ndarray], bits: int = 9) -> bytes:
    """A compressed file as the reference writes it; its codebooks are `coding.codebook.kmeans`'s.

    Parameters
    ----------
    net : Siren
    parameters : sequence of ndarray
        Float32; see `read`.
    bits : int
        Of a label. A matrix of fewer weights than ``2**bits`` keeps them exactly.

    Raises
    ------
    InputError
        If the layout has no room for the network or for so many bits.
    """
    if bits not in BITS:
        raise InputError(f"bits: expected {BITS.start} to {BITS.stop - 1}, got {bits}")
    if max(net.layers, net.inputs, net.outputs) > 255:
        raise InputError(
            "the reference's layout has room for at most 255 layers, inputs and outputs; "
            f"this network has {net.layers}, {net.inputs} and {net.outputs}"
        )
    out = [struct.pack("<4B", net.layers, net.inputs, net.outputs, net.residual)]
    out += [struct.pack(f"<{net.layers}I", *[net.width] * net.layers), bytes([bits])]
    scaled = in_reference_units(net, parameters)
    for number in range(len(net.shapes)):
        weights, biases = scaled[2 * number : 2 * number + 2]
        inner = 0 < number < len(net.shapes) - 1
        out += _packed_matrix(kmeans(weights, 1 << bits), bits) if inner else [_f32(weights)]
        out.append(_f32(biases))
    return b"".join(out)


def in_reference_units(net: Siren, parameters: Sequence[np.ndarray]) -> Parameters:
    """The same network with the reference's factor inside its sines; the last layer has none."""
    ratio = net.omega / OMEGA
    factors = [ratio] * (len(parameters) - 2) + [1.0, 1.0]
    return [(p * f).astype(np.float32) for p, f in zip(parameters, factors, strict=True)]


def _header(data: bytes) -> tuple[Siren, int]:
    """Shape and bits, all lengths checked: the file holds just what they ask for."""
    if len(data) < 5 or len(data) < 5 + 4 * data[0]:
        raise FormatError(f"{len(data)} bytes are too few for a header; {_DAMAGED}")
    layers, inputs, outputs, residual = data[:4]
    widths = struct.unpack_from(f"<{layers}I", data, 4)
    bits = data[4 + 4 * layers]
    if not layers or not inputs or not outputs or residual > 1 or bits not in BITS or len(set(widths)) != 1:
        raise FormatError(
            f"the header makes no sense ({layers} layers, {inputs} inputs, {outputs} outputs, residual {residual}, "
            f"{bits} bits, widths {widths[:8]}); {_DAMAGED}"
        )
    net = Siren(widths[0], layers, inputs, outputs, OMEGA, bool(residual))
    # The number of matrices follows from a byte, so nothing has been allocated yet.
    first, *hidden, last = (rows * columns for rows, columns in net.shapes)
    needed = 5 + 4 * layers + 4 * (first + last + sum(rows for rows, _ in net.shapes))
    needed += sum((4 << bits) + (n * bits + 7) // 8 + (4 if bits % 8 else 0) for n in hidden)
    if not widths[0] or needed != len(data):
        raise FormatError(f"its header asks for {needed} bytes, it has {len(data)}; {_DAMAGED}")
    return net, bits


class _Source:
    """Bytes that are read from front to end; `_header` has checked that there are enough."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def bytes(self, count: int) -> np.ndarray:
        self.at += count
        return np.frombuffer(self.data, np.uint8, count, self.at - count)

    def floats(self, count: int) -> np.ndarray:
        self.at += 4 * count
        return np.frombuffer(self.data, "<f4", count, self.at - 4 * count).astype(np.float32)


def _inner_matrix(source: _Source, count: int, bits: int) -> np.ndarray:
    centres = source.floats(1 << bits)
    packed = source.bytes((count * bits + 7) // 8).copy()
    left_over = count * bits % 8
    if left_over:
        if packed[-1] >> left_over:
            raise FormatError(f"the last byte of a matrix has more than its {left_over} bits; {_DAMAGED}")
        packed[-1] <<= 8 - left_over
    digits = np.unpackbits(packed, count=count * bits).reshape(count, bits)
    labels = np.zeros(count, np.int32)
    for column in digits.T:
        labels = 2 * labels + column
    if bits % 8 and int.from_bytes(source.bytes(4).tobytes(), "little") != labels[-1]:
        raise FormatError(f"the last label of a matrix is not the one that is repeated behind it; {_DAMAGED}")
    return centres[labels]


def _packed_matrix(book: Codebook, bits: int) -> Iterator[bytes]:
    centres = np.full(1 << bits, book.centres[-1])
    centres[: len(book.centres)] = book.centres
    yield _f32(centres)
    labels = book.labels.ravel()
    digits = np.empty((labels.size, bits), np.uint8)
    for place in range(bits):
        digits[:, place] = (labels >> (bits - 1 - place)) & 1
    packed = np.packbits(digits)
    if labels.size * bits % 8:
        packed[-1] >>= 8 - labels.size * bits % 8
    yield packed.tobytes()
    if bits % 8:
        yield struct.pack("<I", labels[-1])


def _f32(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values, "<f4").tobytes()


def _check_finite(parameters: Parameters) -> None:
    if not all(np.isfinite(p).all() for p in parameters):
        raise FormatError(f"a weight is not a finite number; {_DAMAGED}")


# --------------------------------------------------------------------------------------------------------- checkpoint


def parse_checkpoint(data: bytes) -> tuple[Siren, Parameters]:
    """The network of a checkpoint's bytes, the ``state_dict`` of the reference's network; see `read`."""
    torch = require("torch", "train", "reading a PyTorch checkpoint")
    try:
        # Without weights_only, a file could run code.
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged pickle or archive leads to
        why = str(error).partition("\n")[0]
        raise FormatError(f"it is no checkpoint of weights alone that torch can read ({why[:200]})") from error
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise FormatError("the checkpoint is no state_dict of tensors; save network.state_dict()")
    # A view can claim to be larger than what it is stored as.
    if sum(v.numel() * v.element_size() for v in state.values()) > len(data):
        raise FormatError("the checkpoint's tensors claim more values than it stores; it is damaged")
    return _network_of({str(name).removeprefix("module."): value for name, value in state.items()})


def pack_checkpoint(net: Siren, parameters: Sequence[np.ndarray]) -> bytes:
    """A checkpoint that the reference loads: the ``state_dict`` of its network."""
    torch = require("torch", "train", "writing a PyTorch checkpoint")
    names = [name + kind for name in _names(net) for kind in (".weight", ".bias")]
    tensors = [torch.from_numpy(p.copy()) for p in in_reference_units(net, parameters)]
    out = io.BytesIO()
    torch.save(dict(zip(names, tensors, strict=True)), out)
    return out.getvalue()


def _names(net: Siren) -> list[str]:
    """Names of the reference's modules, in the order of ``net.shapes``."""
    inner = range(1, net.layers)
    blocks = [f"{k}.linear_{i}" for k in inner for i in (1, 2)] if net.residual else [f"{k}.linear" for k in inner]
    return [f"net_layers.{name}" for name in ("0.linear", *blocks, str(net.layers))]


def _network_of(state: dict) -> tuple[Siren, Parameters]:
    numbers = [int(found[1]) for name in state if (found := re.match(r"net_layers\.(\d{1,3})\.", name))]
    layers = max(numbers, default=0)
    first, last = state.get("net_layers.0.linear.weight"), state.get(f"net_layers.{layers}.weight")
    if first is None or last is None or first.ndim != 2 or last.ndim != 2 or not layers:
        listing = ", ".join(sorted(state)[:4]) or "none"
        raise FormatError(
            "the checkpoint is not one of the reference's network: expected net_layers.0.linear.weight, ..., "
            f"net_layers.N.weight; it has {listing}{', ...' if len(state) > 4 else ''}"
        )
    residual = layers == 1 or "net_layers.1.linear_1.weight" in state
    net = Siren(int(first.shape[0]), layers, int(first.shape[1]), int(last.shape[0]), OMEGA, residual)
    expected = {f"{name}.weight": shape for name, shape in zip(_names(net), net.shapes, strict=True)}
    expected |= {f"{name}.bias": shape[:1] for name, shape in zip(_names(net), net.shapes, strict=True)}
    for name in sorted(state.keys() | expected.keys()):
        wanted, found = expected.get(name), tuple(state[name].shape) if name in state else None
        if wanted != found or not math.prod(wanted or ()):
            raise FormatError(
                f"the checkpoint's {name} is {found or 'missing'}, expected {wanted or 'none'} in a network of "
                f"{layers} layers of {net.width}"
            )
    order = [name + kind for name in _names(net) for kind in (".weight", ".bias")]
    parameters = [np.array(state[name].float().numpy(), np.float32) for name in order]
    _check_finite(parameters)
    return net, parameters
