"""The codec ``auto``: the wavelet at once, networks where they may win, and the smallest that meets the target.

A network is any `residual.NetworkCodec`: ``tucker`` has none, but is tried like those, without any training. The codec
has no id and no streams of its own: a file holds what was chosen, under the chosen codec's id.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from neurcomp_core import metrics
from neurcomp_core.codec import Codec, Context, Encoded, Tried, measured, registry, tried_cost
from neurcomp_core.container import ArraySpec
from neurcomp_core.errors import Cancelled, InputError, Interrupted, MissingExtraError, TargetError
from neurcomp_core.field import Field, Region
from neurcomp_core.residual import NetworkCodec, split
from neurcomp_core.target import Bytes, MaxError, Psnr, Target

NETWORKS = ("never", "likely", "always")
#: Share of a run's progress that the wavelet takes where networks follow.
_FIRST = 0.05
#: Sizes at which a network is tried for a quality, and decibels that an octave of them is worth.
_ROUNDS, _OCTAVE = 4, 4.0


@dataclass(frozen=True)
class Auto(Codec):
    """The smallest that meets the target, of the wavelet and, where they may win, neural codecs.

    Attributes
    ----------
    preset : str
        Of the codecs that are tried, where they have it.
    networks : str
        ``never``; ``likely``, those whose predicted size wins; or ``always``, all of them, without and with residual.
    steps : int, optional
        Training steps of the networks; their preset's by default.
    """

    name = "auto"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "fast": {"preset": "fast", "networks": "never"},
            "balanced": {},
            "small": {"preset": "small", "networks": "always"},
        }
    )

    weighted: ClassVar[bool] = True

    preset: str = "balanced"
    networks: str = "likely"
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.networks not in NETWORKS:
            raise InputError(f"auto: networks: expected one of {', '.join(NETWORKS)}, got '{self.networks}'")

    def encode(self, field: Field, target: Target, context: Context) -> Encoded:
        """What was chosen, and over what; see `Codec.encode`."""
        return _Choice(self, field, target, context).best()

    @classmethod
    def decode(cls, encoded: Encoded, spec: ArraySpec, region: Region, level: int, context: Context) -> np.ndarray:
        """What `encode` gave is its codec's to decode; files name that one."""
        assert encoded.codec is not None, "auto has no streams of its own"
        return encoded.codec.decode(encoded, spec, region, level, context)

    def codec(self, kind: type[Codec], **settings: Any) -> Codec:
        """A codec of a kind as it is tried here."""
        preset = self.preset if self.preset in kind.presets else "balanced"
        if self.steps is not None and "steps" in {f.name for f in fields(kind)}:
            settings["steps"] = self.steps
        return kind.from_preset(preset, **settings)


@dataclass(frozen=True)
class _Outcome:
    """A stream, and what it is worth."""

    encoded: Encoded
    tried: Tried
    quality: metrics.Quality


class _Choice:
    """The ways of one array."""

    def __init__(self, auto: Auto, field: Field, target: Target, context: Context) -> None:
        self.auto, self.field, self.target, self.context = auto, field, target, context
        self.found: list[_Outcome] = []
        self.failed: list[Tried] = []
        self.failure: TargetError | None = None

    def best(self) -> Encoded:
        from neurcomp_core.codecs.wavelet import Wavelet

        wavelet = self.auto.codec(Wavelet)
        ahead = self._candidates(None)
        end = _FIRST if ahead else 1.0 if self.auto.networks == "never" else 0.5
        stage = self._stage(0, end, wavelet)
        if ahead:
            self._try(wavelet, self._within(ahead), stage)
            networks = ahead
        else:
            encoded = self._encoded(wavelet, self.target, stage)
            networks = self._candidates(encoded.nbytes)
            if not networks:
                # Nothing to compare it with, so nothing to measure, which takes its time with large arrays.
                return encoded
            self.found.append(self._measured(wavelet, encoded))
        try:
            for i, network in enumerate(networks):
                low, high = (end + (1 - end) * k / len(networks) for k in (i, i + 1))
                self._try(network, self._within(networks), self._stage(low, high, network))
        except Interrupted as stop:
            if not self.found:
                raise
            if isinstance(stop, Cancelled):
                raise Cancelled(str(stop), self._chosen()) from stop
            # What is found meets the target: a time limit ends the search for something smaller, not the run.
            self.failed.append(_failed(network, "stopped by the time limit"))
        if not self.found:
            assert self.failure is not None
            raise self.failure
        return self._chosen()

    def _candidates(self, nbytes: int | None) -> list[NetworkCodec]:
        """Networks to try: before the wavelet's size is known those that will be tried whatever it is."""
        if self.context.importance is not None:
            # Sizes and qualities that are known of networks are those of errors that all count the same.
            return []
        kinds = [kind for kind in registry().values() if issubclass(kind, NetworkCodec) and kind.competes]
        # Those that take no training first: a time limit may end the others.
        kinds.sort(key=lambda kind: not kind.direct)
        if self.auto.networks == "always":
            both = (False, True)
            return [self.auto.codec(kind, residual=residual) for kind in kinds for residual in both]  # type: ignore[misc]
        size = int(self.target.value) if isinstance(self.target, Bytes) else nbytes
        # Predictions are of the mean error; the largest is what networks are worst at.
        if self.auto.networks == "never" or size is None or isinstance(self.target, MaxError):
            return []
        return [self.auto.codec(kind) for kind in kinds if kind.predicted(size, self.field) < size]  # type: ignore[misc]

    def _within(self, networks: list[NetworkCodec]) -> Target:
        """The target; of a size what is left once the file says what was tried."""
        if not isinstance(self.target, Bytes) or not networks:
            return self.target
        size = int(self.target.value)
        # As many words as there are networks: one of them or the wavelet will be what was chosen.
        words = tried_cost([Tried(network.id, True, size, 99.99, True) for network in networks])
        return Bytes(max(size - words, 1))

    def _stage(self, low: float, high: float, codec: Codec) -> Context:
        return replace(self.context, progress=self.context.progress.part(low, high, _label(codec)))

    def _try(self, codec: Codec, target: Target, context: Context) -> None:
        least = min((o.encoded.nbytes for o in self.found), default=None)
        try:
            network = codec if isinstance(codec, NetworkCodec) else None
            if least is None or isinstance(target, Bytes) or (network and (network.residual or network.direct)):
                self.found.append(self._measured(codec, self._encoded(codec, target, context, least)))
            else:
                self._shrink(codec, least, context)
        except TargetError as error:
            self.failure = self.failure or error
            self.failed.append(_failed(codec, "cannot meet the target"))
        except MissingExtraError as error:
            self.failed.append(_failed(codec, str(error)))

    def _encoded(self, codec: Codec, target: Target, context: Context, alone: int | None = None) -> Encoded:
        """A codec's stream under its own name; `alone` is for a residual, see `residual.split`."""
        try:
            if isinstance(codec, NetworkCodec) and codec.residual:
                encoded = split(codec, self.field, target, context, alone)
            else:
                encoded = codec.encode(self.field, target, context)
        except Interrupted as stop:
            best = replace(stop.best, codec=type(codec), tried=()) if isinstance(stop.best, Encoded) else None
            raise type(stop)(str(stop), best) from stop
        return replace(encoded, codec=type(codec), tried=())

    def _shrink(self, codec: Codec, size: int, context: Context) -> None:
        """A network at the size of what meets the target; if it meets it, too, at smaller ones."""
        least, missed = size, 0
        for k in range(_ROUNDS):
            stage = context.progress.part(k / _ROUNDS, (k + 1) / _ROUNDS)
            outcome = self._measured(codec, self._encoded(codec, Bytes(size), replace(context, progress=stage)))
            if outcome.tried.met:
                self.found.append(outcome)
                least = outcome.encoded.nbytes
                size = int(least / 2 ** max(self._excess(outcome.quality) / _OCTAVE, 0.05))
            elif k:
                missed = size
            else:
                self.failed.append(outcome.tried)
                return
            if missed:
                size = int(math.sqrt(missed * least))
                if size > 0.97 * least:
                    return

    def _excess(self, quality: metrics.Quality) -> float:
        """Decibels by which a quality target is exceeded."""
        if isinstance(self.target, Psnr):
            return min(quality.psnr - self.target.value, 4 * _OCTAVE)
        return min(metrics.psnr(self.target.value, quality.max_error), 4 * _OCTAVE)

    def _measured(self, codec: Codec, encoded: Encoded) -> _Outcome:
        quality = measured(type(codec), encoded, self.field, self.context)
        residual = isinstance(codec, NetworkCodec) and codec.residual
        word = Tried(codec.id, residual, encoded.nbytes, quality.psnr, self.target.met(quality))
        return _Outcome(encoded, word, quality)

    def _chosen(self) -> Encoded:
        best = min(self.found, key=self._rank)
        lost = {}
        for outcome in sorted(self.found, key=self._rank):
            lost.setdefault((outcome.tried.codec, outcome.tried.residual), outcome.tried)
        failed = [t for t in self.failed if (t.codec, t.residual) not in lost]
        lost.pop((best.tried.codec, best.tried.residual))
        return replace(best.encoded, tried=(*lost.values(), *failed))

    def _rank(self, outcome: _Outcome) -> tuple[bool, float]:
        figure = -outcome.tried.psnr if isinstance(self.target, Bytes) else outcome.encoded.nbytes
        return not outcome.tried.met, figure


def _label(codec: Codec) -> str:
    return f"{codec.name} with residual" if isinstance(codec, NetworkCodec) and codec.residual else codec.name


def _failed(codec: Codec, why: str) -> Tried:
    return Tried(codec.id, isinstance(codec, NetworkCodec) and codec.residual, why=why)
