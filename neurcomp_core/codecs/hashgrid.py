"""Codec ``hashgrid``: a multi-resolution hash grid and a small perceptron fitted to one field.

"Efficient Neural Representation of Volumetric Data using Coordinate-Based Networks", arXiv 2401.08840, section 3;
encoding of Müller et al., ACM TOG 41(4), 2022. The parameters are trained under their quantisers and an estimate of
their own code length, and stored as integers through context-mixing models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from neurcomp_core.codec import Context, Encoded
from neurcomp_core.coding import wire
from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import FormatError, InputError, require
from neurcomp_core.field import Field, Region
from neurcomp_core.init_file import DIGEST, Init, InitRecord, named, sane_shape
from neurcomp_core.residual import NetworkCodec
from neurcomp_core.target import Target

#: Most parameters a byte of stream may stand for; keeps a small file from asking for a large allocation.
DENSITY = 256
#: What outputs of two decoders may differ by, of `HashGridRecord.scale`; see FORMAT.md.
MARGIN = 2.0**-14
#: One code more than groups: readers that know no differences refuse the stream.
MARK = b"\0"
#: Bits per voxel below which networks were measured to need fewer bytes than the wavelet on volumes of integers.
_EVEN = 0.015


@dataclass(frozen=True)
class HashGridRecord:
    """A stream's head: ``value = centre + scale * output``; steps as `nets.model.steps_of` takes them.

    `residual` is what `residual.NetworkCodec` makes of it; `start` names what the parameters are differences to
    (`init_file.Init.reference`), and then `codes` ends with `MARK`.
    """

    log2_table: int
    levels: int = 8
    features: int = 2
    base: int = 4
    growth: float = 1.5
    width: int = 32
    hidden: int = 2
    centre: float = 0.0
    scale: float = 1.0
    step: float = 1.0
    codes: bytes = b""
    residual: bytes = b""
    start: bytes = b""


@dataclass(frozen=True)
class HashGrid(NetworkCodec):
    """Multi-resolution hash grid with a small ReLU perceptron.

    Attributes
    ----------
    residual : bool
        Whether what the network misses is coded as well, so that any target is met.
    levels, log2_table, width : int, optional
        Resolutions, largest table (log2 of entries) and neurons per layer; chosen for the size if left out.
    features, base, growth, hidden : int or float
        Values per entry, coarsest resolution, factor between resolutions, hidden layers.
    steps : int
        Optimiser steps at full length.
    batch : int
        Samples per step.
    block : int
        Samples are drawn as cubes of this edge.
    rate : float
        Learning rate of Adam.
    l1, gradient : float
        Weights of the absolute error and of the error of finite differences, beside the squared error.
    delta_init : bool
        Whether to store differences to `Context.init`, which decoding then needs as well.
    """

    id = 2
    name = "hashgrid"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "fast": {"steps": 500},
            "balanced": {},
            "small": {"steps": 10000},
        }
    )

    record = HashGridRecord
    weighted: ClassVar[bool] = True

    levels: int | None = None
    log2_table: int | None = None
    width: int | None = None
    features: int = 2
    base: int = 4
    growth: float = 1.5
    hidden: int = 2
    steps: int = 2500
    batch: int = 32768
    block: int = 2
    rate: float = 2e-2
    l1: float = 0.0
    gradient: float = 0.0
    delta_init: bool = False

    def __post_init__(self) -> None:
        for name, low, high in (("levels", 1, 32), ("log2_table", 4, 28), ("width", 1, 256), ("features", 1, 16),
                                ("base", 2, 1 << 16), ("hidden", 1, 8), ("steps", 10, 10**7), ("batch", 64, 1 << 24),
                                ("block", 1, 32)):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"hashgrid: {name}: expected {low} to {high}, got {value}")
        if not 1 < self.growth <= 8:
            raise InputError(f"hashgrid: growth: expected more than 1, at most 8, got {self.growth}")
        if not (self.rate > 0 and self.l1 >= 0 and self.gradient >= 0):
            raise InputError("hashgrid: rate must be positive, l1 and gradient must not be negative")

    def fit(self, field: Field, target: Target, context: Context) -> Encoded:
        """Fit and pack; see `Codec.encode`."""
        require("torch", "train", "fitting a network")
        from neurcomp_core.fit import hashgrid

        return hashgrid.fit(field, target, self, context)

    def shortened(self, share: float) -> HashGrid:
        """With fewer steps; see `NetworkCodec.shortened`."""
        return replace(self, steps=max(round(self.steps * share), 10), residual=False)

    @classmethod
    def outputs(cls, encoded: Encoded, spec: ArraySpec, region: Region, step: int, context: Context) -> np.ndarray:
        """Evaluate the network on the lattice; see `NetworkCodec.outputs`. Needs no torch."""
        record = wire.unpack(HashGridRecord, encoded.params)
        from neurcomp_core import threads
        from neurcomp_core.nets.model import steps_of

        _check(record, spec, len(encoded.sections[0]))
        network = network_of(record, spec)
        codes = record.codes.removesuffix(MARK) if record.start else record.codes
        if len(codes) != len(network.groups) or len(record.codes) != len(codes) + bool(record.start):
            raise FormatError(f"hashgrid: {len(record.codes)} quantiser steps for {len(network.groups)} groups")
        origin = _origin(record, network, context) if record.start else None
        with threads.limit(context.threads):
            parameters = network.unpack(encoded.sections[0], steps_of(record.step, codes))
            if origin is not None:
                parameters = [p + o for p, o in zip(parameters, origin, strict=True)]
            return values_of(network, parameters, record, spec, region, step)

    @classmethod
    def margin(cls, encoded: Encoded) -> float:
        """See `NetworkCodec.margin`."""
        return MARGIN * abs(wire.unpack(HashGridRecord, encoded.params).scale)

    @classmethod
    def predicted(cls, nbytes: int, field: Field) -> float:
        """See `NetworkCodec.predicted`; docs/auto.md has the measurements."""
        if field.values.dtype.kind == "f":
            return 2.0 * nbytes
        # Integers are mostly materials with sharp interfaces, which a network follows with fewer bits at low rates.
        return nbytes * (8 * nbytes / field.voxels / _EVEN) ** 0.25

    @classmethod
    def describe(cls, encoded: Encoded) -> dict[str, Any]:
        """Network shape; see `Codec.describe`."""
        record = wire.unpack(HashGridRecord, encoded.params)
        names = ("levels", "features", "log2_table", "base", "growth", "width", "hidden")
        about = {name: getattr(record, name) for name in names}
        if record.start:
            about["differences to the start"] = named(record.start)
        return about | super().describe(encoded)


def _origin(record: HashGridRecord, network: Any, context: Context) -> list[np.ndarray]:
    """What a stream's parameters are differences to.

    Raises
    ------
    InputError
        If the context does not have it.
    """
    init = context.init
    if init is None or init.reference[:DIGEST] != record.start[:DIGEST]:
        got = "none was given" if init is None else f"got {named(init.reference)}"
        raise InputError(
            f"this array is stored as differences to the start {named(record.start)}, {got}; give that file with "
            "--init FILE.nvi (Python: Context(init=Init.read(FILE)))"
        )
    shape = (record.features, record.base, record.growth, record.width, record.hidden)
    if init.misfit(network.layout.dims, network.outputs, *shape):
        raise FormatError(f"hashgrid: the stream does not fit its start: {record}")
    return init.parameters_for(network.layout)


def start_of(encoded: Encoded, spec: ArraySpec) -> Init | None:
    """The network of a stream as a start of others, where that is better; None if it is of differences."""
    from neurcomp_core.nets.model import steps_of

    record = wire.unpack(HashGridRecord, encoded.params)
    if record.start:
        return None
    network = network_of(record, spec)
    head = InitRecord(
        record.log2_table, record.levels, record.features, record.base, record.growth, record.width, record.hidden,
        network.layout.dims, network.outputs, "the step before",
    )  # fmt: skip
    return Init(head, tuple(network.unpack(encoded.sections[0], steps_of(record.step, record.codes))), tentative=True)


def network_of(record: HashGridRecord, spec: ArraySpec) -> Any:
    """The `nets.model.Network` of a stream."""
    from neurcomp_core.nets.grid import GridLayout, Lattice
    from neurcomp_core.nets.model import Network

    lattice = Lattice(spec.shape[:3])  # type: ignore[arg-type]
    layout = GridLayout(lattice.dims, record.levels, record.features, record.log2_table, record.base, record.growth)
    outputs = spec.shape[3] if len(spec.shape) == 4 else 1
    return Network(layout, record.width, record.hidden, outputs, lattice)


def values_of(
    network: Any, parameters: list[np.ndarray], record: HashGridRecord, spec: ArraySpec, region: Region, step: int
) -> np.ndarray:
    """Network outputs in the units of the array, floats ``(z, y, x[, c])``."""
    out = network.evaluate(parameters, region, step)
    # float32 holds the result of float32 data; others need the wider sum.
    exact = np.float32 if spec.dtype in (np.float32, np.uint8, np.int8, np.uint16, np.int16) else np.float64
    out = out.astype(exact, copy=False)
    out *= exact(record.scale)
    out += exact(record.centre)
    return out[0] if len(spec.shape) == 3 else np.ascontiguousarray(np.moveaxis(out, 0, 3))


def _check(record: HashGridRecord, spec: ArraySpec, stream: int) -> None:
    numbers = record.centre, record.scale, record.step
    if not (sane_shape(record) and all(map(math.isfinite, numbers)) and record.step > 0):
        raise FormatError(f"the network a hashgrid stream describes makes no sense: {record}")
    parameters = network_of(record, spec).parameters
    if parameters > DENSITY * (stream + 64):
        raise FormatError(
            f"a hashgrid stream of {stream} bytes cannot hold {parameters} parameters; the file is damaged"
        )
