"""Codec ``network``: any encoding of positions with any perceptron, fitted to one field.

The encodings that "Efficient Neural Representation of Volumetric Data using Coordinate-Based Networks" (arXiv
2401.08840) compares, and factorised grids, all trained, quantised and stored alike, so that their bytes compare. The
parameters are trained under their quantisers and an estimate of their own code length, as those of ``hashgrid``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from neurcomp_core.codec import Context, Encoded
from neurcomp_core.codecs.siren import in_units
from neurcomp_core.coding import wire
from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import FormatError, InputError, require
from neurcomp_core.field import Field, Region
from neurcomp_core.residual import NetworkCodec
from neurcomp_core.target import Target

if TYPE_CHECKING:
    from neurcomp_core.nets.coordinate import CoordinateNetwork

#: Most parameters a byte of stream may stand for; keeps a small file from asking for a large allocation.
DENSITY = 256
#: Most features per position.
WIDEST = 4096
#: Bounds of what a file and a user may ask for.
LIMITS = {
    "width": (1, 1024),
    "hidden": (1, 16),
    "omega": (1e-3, 1e4),
    "levels": (1, 32),
    "features": (1, 256),
    "resolution": (2, 1 << 16),
    "growth": (1.0, 8.0),
    "log2_table": (4, 28),
}
#: Most octaves and bands of encodings without tables.
_BANDS = 24


@dataclass(frozen=True)
class NetworkRecord:
    """A stream's head: ``value = centre + scale * output``; steps as `nets.model.steps_of` takes them.

    `encoding` is its `Encoding.number`, `activation` its place in `coordinate.ACTIVATIONS`; sizes are those of
    `encodings.Sizes`. `margin` is an exponent: outputs of two decoders differ by at most ``2**-margin``. `residual` is
    what `residual.NetworkCodec` makes of it.
    """

    encoding: int = 5
    activation: int = 0
    width: int = 16
    hidden: int = 2
    omega: float = 20.0
    levels: int = 8
    features: int = 2
    resolution: int = 4
    growth: float = 1.5
    log2_table: int = 12
    centre: float = 0.0
    scale: float = 1.0
    step: float = 1.0
    codes: bytes = b""
    margin: int = 14
    residual: bytes = b""


@dataclass(frozen=True)
class Network(NetworkCodec):
    """An encoding and a perceptron of one's choice.

    Attributes
    ----------
    residual : bool
        Whether what the network misses is coded as well, so that any target is met.
    encoding : str
        ``identity``, ``frequency``, ``triangle``, ``oneblob``, ``dense``, ``hash``, ``triplane``, ``cp``, ``vm`` or
        ``spherical``.
    activation : str
        ``relu``, ``snake`` or ``sine``.
    width, hidden : int, optional
        Neurons per hidden layer and hidden layers; chosen for the size if left out.
    levels, features, resolution, log2_table, growth : int or float, optional
        Sizes of the encoding, see `nets.encodings.Sizes`; chosen for the size if left out.
    omega : float
        Factor inside sines.
    bits : float
        Bits per parameter that a network is sized for; fewer make it larger.
    steps : int
        Optimiser steps at full length.
    batch : int
        Samples per step.
    rate, table_rate : float, optional
        Learning rates of Adam of the perceptron (chosen for the activation if left out) and of the encoding's tables.
    """

    id = 6
    name = "network"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "fast": {"steps": 500},
            "balanced": {},
            "small": {"steps": 10000},
        }
    )

    record = NetworkRecord
    weighted: ClassVar[bool] = True
    competes: ClassVar[bool] = False

    encoding: str = "hash"
    activation: str = "relu"
    width: int | None = None
    hidden: int | None = None
    levels: int | None = None
    features: int | None = None
    resolution: int | None = None
    growth: float | None = None
    log2_table: int | None = None
    omega: float = 20.0
    bits: float = 5.0
    steps: int = 2500
    batch: int = 16384
    rate: float | None = None
    table_rate: float = 2e-2

    def __post_init__(self) -> None:
        from neurcomp_core.nets.coordinate import ACTIVATIONS
        from neurcomp_core.nets.encodings import ENCODINGS

        for name, known in (("encoding", ENCODINGS), ("activation", ACTIVATIONS)):
            if getattr(self, name) not in known:
                raise InputError(f"network: {name}: expected one of {', '.join(known)}, got '{getattr(self, name)}'")
        limits = LIMITS | {"bits": (1, 32), "steps": (10, 10**8), "batch": (64, 1 << 24), "rate": (1e-9, 1),
                           "table_rate": (1e-9, 1)}  # fmt: skip
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"network: {name}: expected {low:g} to {high:g}, got {value}")
        if self.growth == 1:
            raise InputError("network: growth: expected more than 1, got 1")
        unused = {"levels", "features", "resolution", "growth", "log2_table"} - set(ENCODINGS[self.encoding].uses)
        for name in sorted(unused):
            if getattr(self, name) is not None:
                uses = ", ".join(ENCODINGS[self.encoding].uses) or "none"
                raise InputError(f"network: {name}: the encoding '{self.encoding}' has no such size; it has: {uses}")

    def fit(self, field: Field, target: Target, context: Context) -> Encoded:
        """Fit and pack; see `Codec.encode`."""
        require("torch", "train", "fitting a network")
        from neurcomp_core.fit import network

        return network.fit(field, target, self, context)

    def shortened(self, share: float) -> Network:
        """With fewer steps; see `NetworkCodec.shortened`."""
        return replace(self, steps=max(round(self.steps * share), 10), residual=False)

    @classmethod
    def outputs(cls, encoded: Encoded, spec: ArraySpec, region: Region, step: int, context: Context) -> np.ndarray:
        """Evaluate the network on the lattice; see `NetworkCodec.outputs`. Needs no torch."""
        from neurcomp_core import threads
        from neurcomp_core.nets.model import steps_of

        record = wire.unpack(NetworkRecord, encoded.params)
        (section,) = encoded.sections
        net = checked(record, spec, len(section))
        with threads.limit(context.threads):
            parameters = net.unpack(section, steps_of(record.step, record.codes))
            out = net.evaluate(parameters, region, step)
        return in_units(out, record.centre, record.scale, spec)

    @classmethod
    def predicted(cls, nbytes: int, field: Field) -> float:
        """See `NetworkCodec.predicted`; as ``hashgrid``, roughly: nothing chooses by it."""
        return 2.0 * nbytes

    @classmethod
    def describe(cls, encoded: Encoded) -> dict[str, Any]:
        """Encoding and network shape; see `Codec.describe`."""
        from neurcomp_core.nets.coordinate import ACTIVATIONS

        record = wire.unpack(NetworkRecord, encoded.params)
        kind = _kind(record)
        names = (*kind.uses, "width", "hidden")
        about = {"encoding": kind.name, "activation": ACTIVATIONS[record.activation]}
        return about | {name: getattr(record, name) for name in names} | super().describe(encoded)


def _kind(record: NetworkRecord) -> Any:
    from neurcomp_core.nets.coordinate import ACTIVATIONS
    from neurcomp_core.nets.encodings import ENCODINGS

    found = [kind for kind in ENCODINGS.values() if kind.number == record.encoding]
    if not found or not 0 <= record.activation < len(ACTIVATIONS):
        raise FormatError(
            f"network: encoding {record.encoding} with activation {record.activation} is not known; update neurcomp to "
            "open the file"
        )
    return found[0]


def network_of(record: NetworkRecord, spec: ArraySpec) -> CoordinateNetwork:
    """The network of a stream; raises FormatError if it names an encoding or activation that is not known."""
    from neurcomp_core.nets.coordinate import ACTIVATIONS, CoordinateNetwork
    from neurcomp_core.nets.encodings import Sizes
    from neurcomp_core.nets.grid import Lattice

    kind = _kind(record)
    sizes = Sizes(record.levels, record.features, record.resolution, record.growth, record.log2_table)
    encoding = kind(Lattice(spec.shape[:3]), sizes)  # type: ignore[arg-type]
    outputs = spec.shape[3] if len(spec.shape) == 4 else 1
    return CoordinateNetwork(
        encoding, ACTIVATIONS[record.activation], record.width, record.hidden, outputs, record.omega
    )


def checked(record: NetworkRecord, spec: ArraySpec, stream: int) -> CoordinateNetwork:
    """The network of a stream of so many bytes, or an error for what no encoder writes.

    Raises
    ------
    FormatError
        If the record makes no sense, or describes more than so short a stream can hold.
    """
    kind = _kind(record)
    sane = (
        all(low <= getattr(record, name) <= high for name, (low, high) in LIMITS.items())
        and record.growth > 1
        and all(map(math.isfinite, (record.centre, record.scale, record.step)))
        and record.step > 0
        and 2 <= record.margin <= 14
        and ("growth" not in kind.uses or record.resolution * record.growth ** (record.levels - 1) < 1 << 20)
        and ("features" in kind.uses or record.levels <= _BANDS)
    )
    if not sane:
        raise FormatError(f"the network that a stream of codec network describes makes no sense: {record}")
    net = network_of(record, spec)
    if net.encoding.width > WIDEST or net.parameters > DENSITY * (stream + 64):
        raise FormatError(
            f"a network's stream of {stream} bytes cannot hold {net.parameters} parameters of {net.encoding.width} "
            "features; the file is damaged"
        )
    if len(record.codes) != len(net.shapes):
        raise FormatError(f"network: {len(record.codes)} quantiser steps for {len(net.shapes)} groups")
    return net
