"""Codec ``siren``: a sine network with residual blocks fitted to one field.

Lu, Jiang, Levine, Berger: "Compressive Neural Representations of Volumetric Scalar Fields", CGF 40(3), 2021. The
network is theirs; it is trained with a preconditioned optimiser, under its quantisers and an estimate of its own code
length, and its weights and biases are stored as integers through context-mixing models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from neurcomp_core.codec import Context, Encoded
from neurcomp_core.coding import wire
from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import FormatError, InputError, require
from neurcomp_core.field import Field, Region
from neurcomp_core.nets.siren import Siren as Net
from neurcomp_core.residual import NetworkCodec
from neurcomp_core.target import Target

if TYPE_CHECKING:
    from neurcomp_core.nets.siren_engines import Engine

#: Most parameters a byte of stream may stand for; keeps a small file from asking for a large allocation.
DENSITY = 64
#: Largest number of neurons and layers.
WIDEST, DEEPEST = 1024, 64
#: Least exponent of a margin: two decoders differ by at most a quarter of the range.
_WIDE_MARGIN = 2
#: Points that are asked for at a time.
_AT_A_TIME = 1 << 16


@dataclass(frozen=True)
class SirenRecord:
    """A stream's head: ``value = centre + scale * output``; steps as `nets.model.steps_of` takes them.

    Without `codes` the section holds float32 parameters as they are. `margin` is an exponent: outputs of two decoders
    differ by at most ``2**-margin``. `residual` is what `residual.NetworkCodec` makes of it.
    """

    width: int
    layers: int = 4
    omega: float = 30.0
    plain: bool = False
    centre: float = 0.0
    scale: float = 1.0
    step: float = 1.0
    codes: bytes = b""
    margin: int = 14
    residual: bytes = b""


@dataclass(frozen=True)
class Siren(NetworkCodec):
    """Sine network with residual blocks.

    Attributes
    ----------
    residual : bool
        Whether what the network misses is coded as well, so that any target is met.
    layers : int, optional
        Sine layers of the paper's count, one and a block of two for each further one; chosen for the size if left out.
    width : int, optional
        Neurons per layer; chosen for the size if left out.
    parameter_ratio : float, optional
        Width by the paper's rule: samples per parameter. The paper's network has 8 layers.
    omega : float, optional
        Factor inside the sines; the paper's is 30. It sets the frequencies that a network starts with: with more of
        them it learns a rough field, with fewer it trains faster and ends better.
    bits : float
        Bits per parameter that a network is sized for; fewer make it wider.
    grad_lambda : float
        Weight of the squared error of the gradient beside that of the value (the paper's section 4.2).
    steps : int
        Optimiser steps at full length.
    passes : float, optional
        Steps by the number of samples drawn per sample of the field instead; the paper's are 75.
    batch : int
        Samples per step.
    rate : float, optional
        Learning rate; chosen for the width if left out.
    """

    id = 4
    name = "siren"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "fast": {"steps": 1500},
            "balanced": {},
            "small": {"steps": 24000},
        }
    )

    record = SirenRecord
    weighted: ClassVar[bool] = True

    layers: int | None = None
    width: int | None = None
    parameter_ratio: float | None = None
    omega: float | None = None
    bits: float = 5.0
    grad_lambda: float = 0.0
    steps: int = 6000
    passes: float | None = None
    batch: int = 4096
    rate: float | None = None

    def __post_init__(self) -> None:
        for name, low, high in (("layers", 1, DEEPEST), ("width", 1, WIDEST), ("steps", 10, 10**8),
                                ("batch", 64, 1 << 24), ("bits", 1, 32), ("omega", 1e-3, 1e4),
                                ("parameter_ratio", 1e-3, 1e9), ("passes", 1e-3, 1e6), ("rate", 1e-9, 1),
                                ("grad_lambda", 0, 1e6)):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"siren: {name}: expected {low:g} to {high:g}, got {value}")
        if self.width is not None and self.parameter_ratio is not None:
            raise InputError("siren: width and parameter_ratio both set the number of neurons; give one of them")

    def fit(self, field: Field, target: Target, context: Context) -> Encoded:
        """Fit and pack; see `Codec.encode`."""
        from neurcomp_core.fit import siren

        return siren.fit(field, target, self, context)

    def shortened(self, share: float) -> Siren:
        """With fewer steps; see `NetworkCodec.shortened`."""
        passes = None if self.passes is None else self.passes * share
        return replace(self, steps=max(round(self.steps * share), 10), passes=passes, residual=False)

    @classmethod
    def outputs(cls, encoded: Encoded, spec: ArraySpec, region: Region, step: int, context: Context) -> np.ndarray:
        """Evaluate the network on the lattice; see `NetworkCodec.outputs`. Needs no torch."""
        from neurcomp_core import threads

        record = wire.unpack(SirenRecord, encoded.params)
        with threads.limit(context.threads):
            net, parameters = _opened(record, encoded, spec)
            out = _evaluate(net, parameters, spec.shape[:3], region, step, context)
        return in_units(out, record.centre, record.scale, spec)

    @classmethod
    def predicted(cls, nbytes: int, field: Field) -> float:
        """See `NetworkCodec.predicted`; docs/siren.md has the measurements."""
        return 2.0 * nbytes

    @classmethod
    def describe(cls, encoded: Encoded) -> dict[str, Any]:
        """Network shape; see `Codec.describe`."""
        record = wire.unpack(SirenRecord, encoded.params)
        return {"width": record.width, "layers": record.layers, "omega": record.omega} | super().describe(encoded)


def engine_of(net: Net, context: Context, gradient_term: bool = False) -> Engine | None:
    """What computes a network where and by what `context` says; None for numba, see `nets.siren_engines`.

    Of ``auto`` the device is CUDA where there is one, unless the backend is the CPU's own. Needs no torch to be None.

    Raises
    ------
    InputError
        If there is no such device or backend, or it cannot compute this.
    """
    from neurcomp_core.nets.devices import on_cuda

    own = context.backend == "numba" and context.device == "auto"
    cuda = not own and on_cuda(context.device)
    if not cuda and context.backend in ("auto", "numba"):
        return None
    require("torch", "train", "CUDA, and every backend but numba")
    from neurcomp_core.nets.siren_engines import engine_for

    return engine_for(context.backend, "cuda" if cuda else "cpu", net, gradient_term)


def _opened(record: SirenRecord, encoded: Encoded, spec: ArraySpec) -> tuple[Net, list[np.ndarray]]:
    """The network of a stream, and its parameters; raises FormatError if no encoder writes it."""
    from neurcomp_core.nets import siren_model as model
    from neurcomp_core.nets.model import steps_of

    (section,) = encoded.sections
    check(record, spec, len(section))
    net = network_of(record, spec)
    if record.codes:
        return net, model.unpack(net, section, steps_of(record.step, record.codes))
    return net, model.unpack_floats(net, section)


@dataclass(frozen=True, eq=False)
class SirenPoints:
    """A network that is ready to be asked at points between the samples of its array; see `queries.Query`."""

    net: Net
    parameters: list[np.ndarray]
    spec: ArraySpec
    centre: float
    scale: float
    context: Context

    @classmethod
    def of(cls, encoded: Encoded, spec: ArraySpec, context: Context) -> SirenPoints:
        """Of a stream without residual."""
        record = wire.unpack(SirenRecord, encoded.params)
        return cls(*_opened(record, encoded, spec), spec, record.centre, record.scale, context)

    def at(self, index: np.ndarray, slopes: bool) -> tuple[np.ndarray, np.ndarray]:
        """Values ``(n, c)`` and, if they are asked for, exact slopes ``(n, c, 3)`` per sample (zeros if not).

        Parameters
        ----------
        index : ndarray
            ``(n, 3)`` sample numbers x, y, z, broken ones too.
        slopes : bool
        """
        from neurcomp_core.nets.siren import axis_scales
        from neurcomp_core.nets.siren_model import inputs_of

        shape = self.spec.shape[:3]
        axes = inputs_of(self.net, shape)
        longest = max(max(shape) - 1, 1)
        columns = [2 - axis for axis in axes]
        # Coordinates run from minus to plus an axis' share of the longest one.
        points = 2 * index[:, columns] / longest - axis_scales(shape)[axes]
        slope = np.zeros((len(index), self.net.outputs, 3))
        values = np.empty((len(index), self.net.outputs))
        for first in range(0, len(index), _AT_A_TIME):
            part = slice(first, first + _AT_A_TIME)
            values[part], own = self._asked(points[part], slopes)
            if own is not None:
                slope[part][..., columns] = own * (self.scale * 2 / longest)
        return values * self.scale + self.centre, slope

    def _asked(self, points: np.ndarray, slopes: bool) -> tuple[np.ndarray, np.ndarray | None]:
        from neurcomp_core.nets.siren import forward, values_and_slopes

        engine = engine_of(self.net, self.context)
        if engine is not None:
            return engine.asked(engine.tensor(self.parameters), points.astype(np.float32), slopes)
        exact = [p.astype(np.float64) for p in self.parameters]
        return values_and_slopes(self.net, exact, points, np) if slopes else (forward(self.net, exact, points), None)


def _evaluate(
    net: Net, parameters: Sequence[np.ndarray], shape: Sequence[int], region: Region, step: int, context: Context
) -> np.ndarray:
    """Values on the lattice, where and by what `context` says; see `siren_model.evaluate`."""
    from neurcomp_core.nets import siren_model as model

    engine = engine_of(net, context)
    if engine is None:
        return model.evaluate(net, parameters, shape, region, step, context.threads)
    axes = model.axes_of(shape, region, step)
    out = engine.lattice(
        engine.tensor(parameters), [axes[a] for a in model.inputs_of(net, shape)], context.progress.note
    )
    return out.reshape(net.outputs, *map(len, axes))


def network_of(record: SirenRecord, spec: ArraySpec) -> Net:
    """The network of a stream: its inputs are the axes of more than one sample."""
    inputs = max(sum(n > 1 for n in spec.shape[:3]), 1)
    outputs = spec.shape[3] if len(spec.shape) == 4 else 1
    return Net(record.width, record.layers, inputs, outputs, record.omega, not record.plain)


def in_units(out: np.ndarray, centre: float, scale: float, spec: ArraySpec) -> np.ndarray:
    """Network outputs ``(c, z, y, x)`` in the units of the array, floats ``(z, y, x[, c])``."""
    # float32 holds the result of float32 data; others need the wider sum.
    exact = np.float32 if spec.dtype in (np.float32, np.uint8, np.int8, np.uint16, np.int16) else np.float64
    out = out.astype(exact, copy=False)
    out *= exact(scale)
    out += exact(centre)
    return out[0] if len(spec.shape) == 3 else np.ascontiguousarray(np.moveaxis(out, 0, 3))


def check(record: SirenRecord, spec: ArraySpec, stream: int) -> None:
    """Refuse what no encoder writes.

    Raises
    ------
    FormatError
        If the record makes no sense, or describes more than so short a stream can hold.
    """
    sane = (
        1 <= record.width <= WIDEST
        and 1 <= record.layers <= DEEPEST
        and all(map(math.isfinite, (record.omega, record.centre, record.scale, record.step)))
        and 1e-3 <= record.omega <= 1e4
        and record.step > 0
        and _WIDE_MARGIN <= record.margin <= 14
    )
    if not sane:
        raise FormatError(f"the network a siren stream describes makes no sense: {record}")
    net = network_of(record, spec)
    if record.codes and len(record.codes) != 2 * len(net.shapes):
        raise FormatError(f"siren: {len(record.codes)} quantiser steps for {2 * len(net.shapes)} groups")
    if net.parameters > DENSITY * (stream + 64):
        raise FormatError(
            f"a siren stream of {stream} bytes cannot hold {net.parameters} parameters; the file is damaged"
        )
