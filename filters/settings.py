"""The properties of everything that compresses: target, codec and how to run it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, get_args, get_origin, get_type_hints

from neurcomp_core.auto import Auto
from neurcomp_core.codec import Codec, Context, codec_by_name, registry, usable_cpus
from neurcomp_core.errors import InputError
from neurcomp_core.progress import Progress
from neurcomp_core.residual import NetworkCodec
from neurcomp_core.target import Bytes, MaxError, Psnr, Ratio, RelativeError, Target
from neurcomp_filters.algorithm import Algorithm
from neurcomp_filters.pieces import process

#: Kinds of target in the order of `SetTargetKind`, as a user reads them.
TARGETS: tuple[tuple[type[Target], str], ...] = (
    (Ratio, "Compression Ratio"),
    (Psnr, "PSNR"),
    (MaxError, "Maximum Error"),
    (RelativeError, "Relative Error"),
    (Bytes, "File Size"),
)
DEFAULTS: dict[type[Target], float] = {Ratio: 50.0, Psnr: 40.0, MaxError: 1.0, RelativeError: 0.01, Bytes: 100_000}


def codec_names() -> list[str]:
    """Codecs a user may compare, the best first."""
    # Constant arrays get theirs unasked.
    names = sorted(name for name in registry() if name != "constant")
    return sorted(names, key=lambda name: name != "wavelet")


def codec_choices() -> list[str]:
    """What a user may ask for, the default first: ``auto`` and all codecs."""
    return [Auto.name, *codec_names()]


def preset_names() -> list[str]:
    """Presets that any codec has, the default first."""
    found = dict.fromkeys(["balanced", "fast", "small"])
    for codec in registry().values():
        found.update(dict.fromkeys(codec.presets))
    return list(found)


class CompressionSettings(Algorithm):
    """Setters as ParaView's properties call them; see the plugin for what each is about."""

    def __init__(self, **ports: Any) -> None:
        super().__init__(**ports)
        self._kind = 0
        self._values = dict(DEFAULTS)
        self._codec = Auto.name
        self._preset = "balanced"
        self._residual = False
        self._parameters = ""
        self._device = self._backend = "auto"
        self._threads = 0
        self._seed = 0
        self._time_limit = 0.0
        self._keep_best = False

    def SetTarget(self, target: Target) -> None:
        """Kind and value at once."""
        self.SetTargetKind([kind for kind, _ in TARGETS].index(type(target)))
        self._set_value(type(target), target.value)

    def SetTargetKind(self, kind: int) -> None:
        """Index into `TARGETS`."""
        self._set(_kind=int(kind))

    def SetRatio(self, value: float) -> None:
        self._set_value(Ratio, value)

    def SetPSNR(self, value: float) -> None:
        self._set_value(Psnr, value)

    def SetMaximumError(self, value: float) -> None:
        self._set_value(MaxError, value)

    def SetRelativeError(self, value: float) -> None:
        self._set_value(RelativeError, value)

    def SetFileSize(self, value: float) -> None:
        self._set_value(Bytes, value)

    def _set_value(self, kind: type[Target], value: float) -> None:
        if self._values[kind] != value:
            self._values[kind] = float(value)
            self.Modified()

    def SetCodec(self, name: str) -> None:
        self._set(_codec=str(name))

    def SetPreset(self, name: str) -> None:
        self._set(_preset=str(name))

    def SetResidual(self, wanted: bool) -> None:
        """Whether what a network misses is coded as well; other codecs take no notice."""
        self._set(_residual=bool(wanted))

    def SetCodecParameters(self, text: str) -> None:
        """``name=value`` pairs, separated by blanks or commas."""
        self._set(_parameters=str(text or ""))

    def SetDevice(self, name: str) -> None:
        """``auto``, ``cpu`` or ``cuda``."""
        self._set(_device=str(name))

    def SetBackend(self, name: str) -> None:
        """One of `nets.backends.NAMES`."""
        self._set(_backend=str(name))

    def SetThreads(self, count: int) -> None:
        """CPU threads; 0 for all, or one per process of a parallel run."""
        self._set(_threads=int(count))

    def SetSeed(self, seed: int) -> None:
        self._set(_seed=int(seed))

    def SetTimeLimit(self, seconds: float) -> None:
        """0 for none."""
        self._set(_time_limit=float(seconds))

    def SetKeepBest(self, keep: bool) -> None:
        """Whether a run that was stopped before its target was met writes the best so far."""
        self._set(_keep_best=bool(keep))

    # ...................................................................................................... what is set

    def target(self) -> Target:
        """The target that is set.

        Raises
        ------
        InputError
            If its value or kind cannot be.
        """
        if not 0 <= self._kind < len(TARGETS):
            raise InputError(f"target kind: expected 0 to {len(TARGETS) - 1}, got {self._kind}")
        kind = TARGETS[self._kind][0]
        return kind(self._values[kind])

    def codec(self) -> Codec:
        """The codec that is set.

        Raises
        ------
        InputError
            If the name, the preset or a parameter does not exist.
        """
        chosen = codec_by_name(self._codec)
        residual = {"residual": True} if self._residual and issubclass(chosen, NetworkCodec) else {}
        return chosen.from_preset(self._preset, **{**residual, **_parsed(chosen, self._parameters)})

    def context(self, progress: Progress) -> Context:
        """How to run."""
        return Context(self._device, self._threads or default_threads(), self._seed, progress, backend=self._backend)


def default_threads() -> int:
    """All CPUs for one process; one for each of several, which share them."""
    return usable_cpus() if process()[1] == 1 else 1


def _parsed(codec: type[Codec], text: str) -> dict[str, Any]:
    return parameters_in(codec, text.replace(",", " ").split())


def parameters_in(codec: type, parts: Iterable[str]) -> dict[str, Any]:
    """Parameters of a codec, a dataclass, from texts ``name=value``.

    Raises
    ------
    InputError
        If there is no such parameter, or it cannot have the value.
    """
    hints = get_type_hints(codec)
    return values_in({f.name: hints[f.name] for f in fields(codec)}, parts, "codec parameters")


def values_in(known: Mapping[str, Any], parts: Iterable[str], label: str) -> dict[str, Any]:
    """`parameters_in` for anything with parameters, whose types `known` has by name; errors begin with `label`."""
    found: dict[str, Any] = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals or name not in known:
            wanted = ", ".join(known)
            raise InputError(f"{label}: '{part}' is not of the form name=value with one of the names {wanted}")
        found[name] = _value(name, value, known[name], label)
    return found


def _value(name: str, text: str, hint: Any, label: str) -> Any:
    if get_origin(hint) is tuple:
        return tuple(_value(name, part, get_args(hint)[0], label) for part in text.split(",") if part)
    types = get_args(hint) or (hint,)
    if type(None) in types and text.lower() in ("none", "auto"):
        return None
    if bool in types and text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float, str):
        if kind in types:
            try:
                return kind(text)
            except ValueError:
                continue
    raise InputError(f"{label}: '{text}' is not a value that {name} can have")
