"""Codec ``hashgrid``: a multi-resolution hash grid and a small perceptron fitted to one field.

"Efficient Neural Representation of Volumetric Data using Coordinate-Based Networks", arXiv 2401.08840, section 3;
encoding of Müller et al., ACM TOG 41(4), 2022. The parameters are trained under their quantisers and an estimate of
their own code length, and stored as integers through context-mixing models.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from neurcomp_core.codec import Context, Encoded, as_dtype
from neurcomp_core.coding import wire
from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import FormatError, InputError, require
from neurcomp_core.field import Field, Region, full_region
from neurcomp_core.init_file import DIGEST, Init, InitRecord, named, sane_shape
from neurcomp_core.nets.backends import PRECISIONS
from neurcomp_core.residual import NetworkCodec
from neurcomp_core.target import Target

if TYPE_CHECKING:
    from neurcomp_core.nets.decoder import Decoder

#: Values that are decoded at a time where an array need not be in memory whole.
_AT_A_TIME = 1 << 26
#: Most parameters of a network that is kept for the next call.
_KEPT = 1 << 24
#: Most parameters a byte of stream may stand for; keeps a small file from asking for a large allocation.
DENSITY = 256
#: What outputs of two decoders may differ by, of `HashGridRecord.scale`; see FORMAT.md.
MARGIN = 2.0**-14
#: A code more than groups: readers that know no differences, or no smooth interpolation, refuse the stream.
MARK = b"\0"
#: By `HashGridRecord.smooth`.
INTERPOLATIONS = ("linear", "smoothstep")
#: Bits per voxel below which networks were measured to need fewer bytes than the wavelet on volumes of integers.
_EVEN = 0.015


@dataclass(frozen=True)
class HashGridRecord:
    """A stream's head: ``value = centre + scale * output``; steps as `nets.model.steps_of` takes them.

    `residual` is what `residual.NetworkCodec` makes of it; `start` names what the parameters are differences to
    (`init_file.Init.reference`); `smooth` is that of `nets.grid.GridLayout`. `codes` ends with `marks`.
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
    smooth: bool = False

    @property
    def marks(self) -> bytes:
        """A `MARK` for each field in use that older readers would skip."""
        return MARK * (bool(self.start) + self.smooth)


@dataclass(frozen=True)
class HashGrid(NetworkCodec):
    """Multi-resolution hash grid with a small ReLU perceptron.

    Attributes
    ----------
    residual : bool
        Whether what the network misses is coded as well, so that any target is met.
    levels, log2_table, width : int, optional
        Resolutions, largest table (log2 of entries) and neurons per layer; chosen for the size if left out.
    max_load : float, optional
        Most vertices per table entry: the finest resolution is no finer.
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
    tv : float
        Weight of the grids' total variation, see `fit.smoothness`.
    interpolation : str
        ``linear``, or ``smoothstep``: values without kinks at the faces of the grid's cells.
    precision : str
        What training multiplies in with the backend ``triton``: ``float32``, ``tf32`` or ``float16``, sums and
        parameters being float32 always; ``auto`` is float16 on CUDA.
    resident : float, optional
        MiB of samples that are on the device at a time; of larger arrays parts take turns there. By default what fits.
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
    max_load: float | None = None
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
    tv: float = 0.0
    interpolation: str = "linear"
    precision: str = "auto"
    delta_init: bool = False
    resident: float | None = None

    def __post_init__(self) -> None:
        for name, low, high in (("levels", 1, 32), ("log2_table", 4, 28), ("width", 1, 256), ("features", 1, 16),
                                ("base", 2, 1 << 16), ("hidden", 1, 8), ("steps", 10, 10**7), ("batch", 64, 1 << 24),
                                ("block", 1, 32)):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"hashgrid: {name}: expected {low} to {high}, got {value}")
        if not 1 < self.growth <= 8:
            raise InputError(f"hashgrid: growth: expected more than 1, at most 8, got {self.growth}")
        if not (self.rate > 0 and self.l1 >= 0 and self.gradient >= 0 and self.tv >= 0):
            raise InputError("hashgrid: rate must be positive, l1, gradient and tv must not be negative")
        if self.max_load is not None and not 0.1 <= self.max_load <= 1e6:
            raise InputError(f"hashgrid: max_load: expected 0.1 to 1,000,000, got {self.max_load:g}")
        if self.interpolation not in INTERPOLATIONS:
            known = ", ".join(INTERPOLATIONS)
            raise InputError(f"hashgrid: interpolation: expected one of {known}, got '{self.interpolation}'")
        if self.resident is not None and not self.resident > 0:
            raise InputError(f"hashgrid: resident: expected more than 0 MiB, got {self.resident:g}")
        if self.precision not in ("auto", *PRECISIONS):
            known = ", ".join(("auto", *PRECISIONS))
            raise InputError(f"hashgrid: precision: expected one of {known}, got '{self.precision}'")

    @property
    def smooth(self) -> bool:
        """See `nets.grid.GridLayout`."""
        return bool(INTERPOLATIONS.index(self.interpolation))

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
        """Evaluate the network on the lattice; see `NetworkCodec.outputs`. Needs no torch on the CPU."""
        return opened(encoded, spec, context).values(region, step, context)

    @classmethod
    def decode_into(
        cls, encoded: Encoded, spec: ArraySpec, region: Region, level: int, context: Context, out: np.ndarray
    ) -> None:
        """The decoder writes there itself, unless there is more to do with its values; see `Codec.decode_into`."""
        if spec.dtype.kind == "f" and len(encoded.sections) == 1:
            opened(encoded, spec, context).values(region, 2**level, context, out)
        else:
            super().decode_into(encoded, spec, region, level, context, out)

    @classmethod
    def decode_blocks(cls, encoded: Encoded, spec: ArraySpec, context: Context) -> Iterator[tuple[Region, np.ndarray]]:
        """A network's array comes layer after layer, one with a residual at once; see `Codec.decode_blocks`."""
        layers = max(_AT_A_TIME // math.prod(spec.shape[1:]), 1)
        if len(encoded.sections) != 1 or layers >= spec.shape[0]:
            yield from super().decode_blocks(encoded, spec, context)
            return
        network, whole = opened(encoded, spec, context), full_region(spec.shape)
        for first in range(0, spec.shape[0], layers):
            region = (slice(first, min(first + layers, spec.shape[0])), *whole[1:])
            yield region, as_dtype(network.values(region, 1, context), spec.dtype)

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
        if record.smooth:
            about["interpolation"] = INTERPOLATIONS[record.smooth]
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
    shape = (record.features, record.base, record.growth, record.width, record.hidden, record.smooth)
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
        network.layout.dims, network.outputs, "the step before", record.smooth,
    )  # fmt: skip
    steps = steps_of(record.step, codes_of(record))
    return Init(head, tuple(network.unpack(encoded.sections[0], steps)), tentative=True)


def codes_of(record: HashGridRecord) -> bytes:
    """Codes of the groups alone, without `HashGridRecord.marks`."""
    return record.codes[: len(record.codes) - len(record.marks)]


def network_of(record: HashGridRecord, spec: ArraySpec) -> Any:
    """The `nets.model.Network` of a stream."""
    from neurcomp_core.nets.grid import GridLayout, Lattice
    from neurcomp_core.nets.model import Network

    lattice = Lattice(spec.shape[:3])  # type: ignore[arg-type]
    layout = GridLayout(
        lattice.dims, record.levels, record.features, record.log2_table, record.base, record.growth, record.smooth
    )
    outputs = spec.shape[3] if len(spec.shape) == 4 else 1
    return Network(layout, record.width, record.hidden, outputs, lattice)


@dataclass(frozen=True, eq=False)
class Opened:
    """A network that is ready to be asked for its array's values: ``centre + scale * output``."""

    decoder: Decoder
    spec: ArraySpec
    centre: float
    scale: float

    def values(self, region: Region, step: int, context: Context, out: np.ndarray | None = None) -> np.ndarray:
        """Every `step`-th sample of a region, floats ``(z, y, x[, c])``: in `out` (contiguous), or in a new array."""
        from neurcomp_core import threads

        shape = (*(len(range(r.start, r.stop, step)) for r in region), self.decoder.network.outputs)
        # float32 holds the result of float32 data; others need the wider sum.
        narrow = self.spec.dtype in (np.float32, np.uint8, np.int8, np.uint16, np.int16)
        if out is None:
            out = self.decoder.empty(shape[: len(self.spec.shape)], np.dtype(np.float32 if narrow else np.float64))
        self.decoder.note = context.progress.note
        try:
            with threads.limit(context.threads):
                self.decoder.lattice(region, step, out.reshape(shape), self.scale, self.centre)
        finally:
            # It is kept, what it would tell is not.
            self.decoder.note = None
        return out


def opened(encoded: Encoded, spec: ArraySpec, context: Context) -> Opened:
    """The network of a stream, without its residual, where and by what `context` says.

    Of ``auto`` the device is CUDA where there is one, unless the backend is the CPU's own. The last one is kept for the
    next call: reading its parameters takes longer than what a slice of it does.

    Raises
    ------
    FormatError
        If the stream is not what this codec writes.
    InputError
        If there is no such device or backend, or the start is missing that it is stored as differences to.
    """
    from neurcomp_core import threads
    from neurcomp_core.nets import backends
    from neurcomp_core.nets.devices import on_cuda

    global _last
    record = wire.unpack(HashGridRecord, encoded.params)
    _check(record, spec, len(encoded.sections[0]))
    own = context.backend == "numba" and context.device == "auto"
    backend = backends.chosen(context.backend, "cuda" if not own and on_cuda(context.device) else "cpu")
    reference = context.init.reference if record.start and context.init else b""
    stream = hashlib.sha256(encoded.sections[0]).digest()
    state = stream, encoded.params, reference, spec, backend.name, backend.device
    if _last is not None and _last[0] == state:
        return _last[1]
    network = network_of(record, spec)
    with threads.limit(context.threads):
        decoder = backend.decoder(network, _parameters(record, network, encoded, context))
    found = Opened(decoder, spec, record.centre, record.scale)
    if network.parameters <= _KEPT:
        _last = state, found
    return found


#: What was opened last, and of what.
_last: tuple[tuple[Any, ...], Opened] | None = None


def _parameters(record: HashGridRecord, network: Any, encoded: Encoded, context: Context) -> list[np.ndarray]:
    """Of a network, in float32."""
    from neurcomp_core.nets.model import steps_of

    codes = codes_of(record)
    if len(codes) != len(network.groups) or record.codes != codes + record.marks:
        raise FormatError(f"hashgrid: {len(record.codes)} quantiser steps for {len(network.groups)} groups")
    origin = _origin(record, network, context) if record.start else None
    parameters = network.unpack(encoded.sections[0], steps_of(record.step, codes))
    return parameters if origin is None else [p + o for p, o in zip(parameters, origin, strict=True)]


def _check(record: HashGridRecord, spec: ArraySpec, stream: int) -> None:
    numbers = record.centre, record.scale, record.step
    if not (sane_shape(record) and all(map(math.isfinite, numbers)) and record.step > 0):
        raise FormatError(f"the network a hashgrid stream describes makes no sense: {record}")
    parameters = network_of(record, spec).parameters
    if parameters > DENSITY * (stream + 64):
        raise FormatError(
            f"a hashgrid stream of {stream} bytes cannot hold {parameters} parameters; the file is damaged"
        )
