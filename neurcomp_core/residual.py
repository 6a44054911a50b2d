"""Networks that keep any promise: what a network misses goes through the codec ``wavelet``.

A network is here whatever a decoder evaluates in floats: the codec ``tucker`` has none, but is completed likewise.

The residual is the original minus the network's output on the reference path (CPU), both as floats, for integers too;
the sum is rounded to the array's type at the end. Other decoders' outputs may be off by the network's `margin`: a
largest error is promised less that margin, so that it holds wherever the file is decoded. Integers come back without
loss as long as the margin is below one half, for then the sum stays closer to the right integer than to any other.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from neurcomp_core import metrics
from neurcomp_core.codec import Codec, Context, Encoded, Tried, as_dtype, measured, tried_cost
from neurcomp_core.coding import wire
from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import FormatError, Interrupted, TargetError
from neurcomp_core.field import Field, Region, full_region
from neurcomp_core.progress import Progress
from neurcomp_core.search import search
from neurcomp_core.target import Bytes, MaxError, Psnr, Target

#: Shares of the bytes that networks are tried at.
SHARES = (0.1, 0.3, 0.6)
#: Share of the training that such a try gets.
_QUICK = 0.1
#: Bytes that a record and lengths may grow by where a residual joins a network.
_JOINT = 8
#: Root mean squared error of integers below which lossless ones may be no larger.
_NEARLY_LOSSLESS = 0.45


@dataclass(frozen=True)
class NetworkCodec(Codec):
    """Base of codecs whose decoder evaluates floats, those of a network above all, alone or with a residual.

    A stream is the network's one section and those of the residual; `record` is the class of its parameters, whose
    field ``residual`` holds the residual's own.

    Attributes
    ----------
    residual : bool
        Whether what the network misses is coded as well: any target is then met.
    """

    record: ClassVar[type[Any]]
    #: Whether `fit` reaches a quality as fast as a size.
    direct: ClassVar[bool] = False

    residual: bool = False

    @abstractmethod
    def fit(self, field: Field, target: Target, context: Context) -> Encoded:
        """Fit a network alone; raises as `encode` does."""

    @classmethod
    @abstractmethod
    def outputs(cls, encoded: Encoded, spec: ArraySpec, region: Region, step: int, context: Context) -> np.ndarray:
        """A network's values at every `step`-th sample of `region`, ``(z, y, x[, c])`` floats in the data's units."""

    @classmethod
    def margin(cls, encoded: Encoded) -> float:
        """What `outputs` of two decoders may differ by, in the data's units.

        A `record` with a field ``margin`` says it in halvings of its ``scale``.
        """
        record = wire.unpack(cls.record, encoded.params)
        return 2.0**-record.margin * abs(record.scale)

    @classmethod
    @abstractmethod
    def predicted(cls, nbytes: int, field: Field) -> float:
        """Bytes the codec is expected to need, from measurements, for what the wavelet reaches with `nbytes`."""

    @abstractmethod
    def shortened(self, share: float) -> NetworkCodec:
        """The same with a share of the training, and without residual."""

    def encode(self, field: Field, target: Target, context: Context) -> Encoded:
        """Fit, and code what is missed if that is wanted; see `Codec.encode`."""
        return split(self, field, target, context) if self.residual else self.fit(field, target, context)

    @classmethod
    def decode(cls, encoded: Encoded, spec: ArraySpec, region: Region, level: int, context: Context) -> np.ndarray:
        """Network and residual; see `Codec.decode`."""
        network, rest = parts(cls.record, encoded)
        if rest is not None and context.device == "auto" and context.backend == "auto":
            # The residual is the CPU's work, and what was promised of the sum was measured there.
            context = context.reference
        values = cls.outputs(network, spec, region, 2**level, context)
        if rest is not None:
            values += _residual(rest, values.dtype, spec, region, level, context)
        return as_dtype(values, spec.dtype)

    @classmethod
    def describe(cls, encoded: Encoded) -> dict[str, Any]:
        """Bytes of network and residual; see `Codec.describe`."""
        network, rest = parts(cls.record, encoded)
        about: dict[str, Any] = {}
        if rest is not None:
            about = {"network bytes": network.nbytes, "residual bytes": rest.nbytes}
        return about | super().describe(encoded)


def parts(record: type[Any], encoded: Encoded) -> tuple[Encoded, Encoded | None]:
    """The network's own stream and, if there is one, that of the residual.

    Raises
    ------
    FormatError
        If there is a section too many or too few.
    """
    found = wire.unpack(record, encoded.params)
    if not encoded.sections or (len(encoded.sections) > 1) != bool(found.residual):
        expected = "more than one section" if found.residual else "one section"
        raise FormatError(f"a network's stream should have {expected}, this has {len(encoded.sections)}")
    if not found.residual:
        return encoded, None
    network = Encoded(wire.pack(replace(found, residual=b"")), encoded.sections[:1])
    return network, Encoded(found.residual, encoded.sections[1:])


def joined(record: type[Any], network: Encoded, rest: Encoded) -> Encoded:
    """Inverse of `parts`."""
    found = replace(wire.unpack(record, network.params), residual=rest.params)
    return Encoded(wire.pack(found), (*network.sections, *rest.sections))


def _residual(
    rest: Encoded, dtype: np.dtype, spec: ArraySpec, region: Region, level: int, context: Context
) -> np.ndarray:
    from neurcomp_core.codecs.wavelet import Wavelet

    # All samples, for a coarser level must be samples of the finest one: the bound holds for those.
    values = Wavelet.decode(rest, ArraySpec(spec.shape, dtype), region, 0, context)
    return values[(slice(None, None, 2**level),) * 3]


# ------------------------------------------------------------------------------------------------------------ encoding


def split(codec: NetworkCodec, field: Field, target: Target, context: Context, alone: int | None = None) -> Encoded:
    """Network and residual that together meet `target`, split for the fewest bytes or, of a size, the best result.

    Parameters
    ----------
    codec : NetworkCodec
    field : Field
    target : Target
    context : Context
    alone : int, optional
        Bytes the wavelet takes without a network, if that is known; what `Encoded.tried` then says nothing of.

    Raises
    ------
    TargetError, Interrupted
        As `Codec.encode`.
    """
    return _Split(codec, field, target, context).best(alone)


@dataclass(frozen=True)
class _Whole:
    """A stream that meets its target, or that fills its bytes."""

    encoded: Encoded
    quality: metrics.Quality
    share: float


class _Split:
    """An array on its way into a network and a residual."""

    def __init__(self, codec: NetworkCodec, field: Field, target: Target, context: Context) -> None:
        from neurcomp_core.codecs.wavelet import Wavelet

        self.codec, self.field, self.target, self.context = codec, field, target, context
        self.spec = ArraySpec(field.values.shape, field.values.dtype)
        self.integer = self.spec.dtype.kind in "iu"
        self.wavelet = Wavelet()
        self.reference = context.reference

    def best(self, alone: int | None) -> Encoded:
        """The best split: found with quick networks, then trained in full."""
        tried: tuple[Tried, ...] = ()
        if alone is None:
            alone, tried = self._without_network()
        spend = int(self.target.value) if isinstance(self.target, Bytes) else alone
        found: list[_Whole] = []
        failures: list[TargetError] = []
        stages = iter(self._stages([_QUICK] * len(SHARES) + [1.0]))
        try:
            for share in SHARES:
                found += self._attempt(self.codec.shortened(_QUICK), spend, share, next(stages), tried, failures)
            share = self._smallest(found).share if found else SHARES[-1]
            found += self._attempt(replace(self.codec, residual=False), spend, share, next(stages), tried, failures)
        except Interrupted as stop:
            kept = replace(self._smallest(found).encoded, tried=tried) if found else stop.best
            raise type(stop)(str(stop), kept) from stop
        if not found:
            raise failures[0]
        return replace(self._smallest(found).encoded, tried=tried)

    def _smallest(self, found: Sequence[_Whole]) -> _Whole:
        if isinstance(self.target, Bytes):
            return max(found, key=lambda w: w.quality.psnr)
        return min(found, key=lambda w: w.encoded.nbytes)

    def _stages(self, efforts: Sequence[float]) -> Iterator[Context]:
        """A context for each stage, its progress in proportion to the work."""
        ends = 0.05 + 0.95 * np.cumsum([0.0, *efforts]) / sum(efforts)
        for low, high in pairwise(ends):
            yield replace(self.context, progress=self.context.progress.part(float(low), float(high)))

    def _without_network(self) -> tuple[int, tuple[Tried, ...]]:
        """Bytes that the residual's codec takes without a network, and a word on it for the report."""
        context = replace(self.context, progress=self.context.progress.part(0, 0.05, "without a network"))
        try:
            encoded = self.wavelet.encode(self.field, self.target, context)
        except TargetError:
            return self.field.nbytes // 4, ()
        quality = measured(type(self.wavelet), encoded, self.field, context)
        return encoded.nbytes, (Tried(self.wavelet.id, False, encoded.nbytes, quality.psnr, True),)

    def _attempt(
        self,
        codec: NetworkCodec,
        spend: int,
        share: float,
        context: Context,
        tried: tuple[Tried, ...],
        failures: list[TargetError],
    ) -> list[_Whole]:
        """A network of a share of the bytes with its residual; none if there is no such thing."""
        try:
            network = codec.fit(self.field, Bytes(max(int(share * spend), 64)), context)
            encoded, quality = self._completed(network, tried)
        except TargetError as error:
            failures.append(error)
            return []
        if not self.target.met(quality):
            failures.append(TargetError(f"{self.target} was missed with {quality.psnr:.2f} dB", quality.psnr))
            return []
        return [_Whole(encoded, quality, share)]

    def _completed(self, network: Encoded, tried: tuple[Tried, ...]) -> tuple[Encoded, metrics.Quality]:
        outputs = self.codec.outputs(network, self.spec, full_region(self.spec.shape), 1, self.reference)
        quality = self._quality(outputs.copy())
        if not isinstance(self.target, Bytes) and self._met_anywhere(network, quality):
            return network, quality
        rest = _Rest(self, outputs)
        if isinstance(self.target, Bytes):
            return self._filled(network, rest, int(self.target.value) - tried_cost(tried))
        if isinstance(self.target, MaxError):
            coded = rest.coded(MaxError(self._bound(self.target.value, network, rest)))
        else:
            coded = rest.reach(self.target.value, self._lossless(network, rest))
        return joined(self.codec.record, network, coded[0]), coded[1]

    def _filled(self, network: Encoded, rest: _Rest, size: int) -> tuple[Encoded, metrics.Quality]:
        """The best residual beside which a network fits into `size` bytes."""
        left = size - network.nbytes - _JOINT
        best = None
        for _ in range(2):
            if left < 1:
                break
            stream, quality = rest.coded(Bytes(left))
            whole = joined(self.codec.record, network, stream)
            if whole.nbytes <= size:
                best = whole, quality
            # Lengths that are shorter than was feared are the stream's to use.
            left += size - whole.nbytes
            if abs(size - whole.nbytes) <= 0.01 * size:
                break
        if best is None:
            raise TargetError(f"{self.target} leaves too little beside a network of {network.nbytes} bytes")
        return best

    def _quality(self, values: np.ndarray) -> metrics.Quality:
        return metrics.measure(self.field.values, as_dtype(values, self.spec.dtype), self.field.mask)

    def _met_anywhere(self, network: Encoded, quality: metrics.Quality) -> bool:
        if isinstance(self.target, MaxError):
            return quality.max_error + self.codec.margin(network) + self.integer <= self.target.value
        return self.target.met(quality)

    def _lossless(self, network: Encoded, rest: _Rest) -> float | None:
        """Bound of the residual that makes integers exact; None if there is none."""
        bound = 0.5 - self._slack(network, rest) if self.integer else 0.0
        return bound if bound > 0 else None

    def _bound(self, wanted: float, network: Encoded, rest: _Rest) -> float:
        """What the residual may be off by so that no decoder's sample is off by more than `wanted`."""
        slack = self._slack(network, rest)
        bound = (math.floor(wanted) + 0.5 if self.integer else wanted) - slack
        if bound > 0:
            return bound
        reachable = math.ceil(slack - 0.5) if self.integer else 1.25 * slack
        raise TargetError(
            f"{self.target} is less than what outputs of a network may differ by between machines; with a residual "
            f"{reachable:.4g} is the least, or choose the codec wavelet, which keeps any bound",
            reachable,
        )

    def _slack(self, network: Encoded, rest: _Rest) -> float:
        """The margin, and rounding: of the residual to its type, and of the sum to the array's."""
        return self.codec.margin(network) + 2 * float(np.spacing(rest.largest))


class _Rest:
    """What a network misses."""

    def __init__(self, split: _Split, outputs: np.ndarray) -> None:
        self.split, self.outputs = split, outputs
        field = split.field
        wide = np.longdouble if split.spec.dtype.itemsize == 8 else np.float64
        missed = (field.values.astype(wide) - outputs).astype(outputs.dtype)
        if field.valid is not None:
            missed[~field.valid] = 0
        if missed.min() == missed.max():
            raise TargetError("the network leaves nothing that a residual could improve")
        self.field = replace(field, values=missed, mask=None if field.valid is None else ~field.valid)
        #: Largest value that rounding must not disturb.
        self.largest = outputs.dtype.type(max(abs(v) for v in (*field.limits, *self.field.limits)))

    def coded(self, target: Target) -> tuple[Encoded, metrics.Quality]:
        """The residual's stream, and the quality of the sum."""
        split = self.split
        encoded = split.wavelet.encode(self.field, target, replace(split.context, progress=self._still()))
        decoded = _residual(encoded, self.outputs.dtype, split.spec, full_region(split.spec.shape), 0, split.reference)
        return encoded, split._quality(self.outputs + decoded)

    def _still(self) -> Progress:
        """Stops as asked, but does not move: a residual takes no time beside its network."""
        return Progress(lambda done, text: self.split.context.progress.update(0, "coding the residual"))

    def reach(self, psnr: float, lossless: float | None) -> tuple[Encoded, metrics.Quality]:
        """The residual that lifts the sum to a PSNR; `lossless` is a bound for integers, if there is one."""
        low, high = self.split.field.limits
        rmse = (high - low) * 10 ** (-psnr / 20)
        least, most = self.field.limits

        def trial(error: float) -> tuple[float, tuple[Encoded, metrics.Quality]]:
            found = self.coded(Psnr(max(metrics.psnr(most - least, error), 0.01)))
            return found[1].rmse, found

        # Rounding to integers changes the error a little, to floats next to nothing.
        found = search(trial, rmse, rmse, (rmse / 16, rmse * 2), slack=0.005, trials=6)
        if lossless is not None and rmse < _NEARLY_LOSSLESS:
            exact = self.coded(MaxError(lossless))
            if found.figure > rmse or exact[0].nbytes <= found.result[0].nbytes:
                return exact
        return found.result
