"""The codec contract and the registry: one file in ``codecs/`` is one codec."""

from __future__ import annotations

import importlib
import inspect
import math
import os
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from neurcomp_core.coding import wire
from neurcomp_core.container import ArrayRecord, ArraySpec, section_cost
from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.field import Field, Region, full_region
from neurcomp_core.metrics import Measuring, Quality, box_of
from neurcomp_core.nets.backends import checked_name
from neurcomp_core.progress import Progress
from neurcomp_core.regions import Importance
from neurcomp_core.target import Target

if TYPE_CHECKING:
    from neurcomp_core.init_file import Init

T = TypeVar("T")


def usable_cpus() -> int:
    """CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Tried:
    """A way of coding an array that was tried, and lost to the one in the file.

    Attributes
    ----------
    codec : int
        Its id.
    residual : bool
        Whether what a network missed was coded as well.
    nbytes : int
        Of its stream; 0 if there is none.
    psnr : float
        In dB; infinite if lossless, 0 if there is no stream.
    met : bool
        Whether it met the target: one that missed it with as many bytes as another met it with need not go on.
    why : str
        What kept it from a stream; not stored.
    """

    codec: int
    residual: bool = False
    nbytes: int = 0
    psnr: float = 0.0
    met: bool = False
    why: str = ""

    def __str__(self) -> str:
        name = codec_by_id(self.codec).name + (" with residual" if self.residual else "")
        if not self.nbytes:
            return f"{name}: {self.why or 'no result'}"
        missed = "" if self.met else ", which misses the target"
        quality = "lossless" if self.psnr == math.inf else f"{self.psnr:.2f} dB"
        return f"{name}: {self.nbytes:,} bytes, {quality}{missed}"


#: How a lossless PSNR is stored, in hundredths.
_LOSSLESS = 100_000


def pack_tried(tried: Sequence[Tried]) -> tuple[int, ...]:
    """Four integers each, as `container.ArrayRecord` stores them."""
    found: list[int] = []
    for t in tried:
        found += t.codec, t.residual + 2 * t.met, t.nbytes, round(100 * min(max(t.psnr, 0), _LOSSLESS / 100))
    return tuple(found)


def unpack_tried(numbers: Sequence[int]) -> list[Tried]:
    """Inverse of `pack_tried`; codecs that this version does not know are left out."""
    known = {codec.id for codec in registry().values()}
    found = []
    for codec, flags, nbytes, psnr in zip(*(numbers[i::4] for i in range(4)), strict=False):
        if codec in known:
            figure = math.inf if psnr >= _LOSSLESS else psnr / 100
            found.append(Tried(codec, bool(flags & 1), max(nbytes, 0), figure, bool(flags & 2)))
    return found


@dataclass(frozen=True)
class Encoded:
    """What a codec makes of one array.

    Attributes
    ----------
    params : bytes
        The codec's own record (`coding.wire`), stored in the header.
    sections : sequence of bytes
        Streams, each stored with its checksum; of a file they are read when they are asked for.
    codec : type of Codec, optional
        Whose stream it is, if not that of the codec that was asked.
    tried : tuple of Tried
        What it was chosen over.
    quality : Quality, optional
        `measured` of it, if its encoder has done so.
    """

    params: bytes
    sections: Sequence[bytes]
    codec: type[Codec] | None = None
    tried: tuple[Tried, ...] = ()
    quality: Quality | None = None

    @property
    def nbytes(self) -> int:
        """Bytes this takes in a file."""
        return len(self.params) + section_cost(self.sections) + tried_cost(self.tried)


def tried_cost(tried: Sequence[Tried]) -> int:
    """Bytes that a file takes to say what was tried."""
    return len(wire.pack(ArrayRecord(tried=pack_tried(tried))))


@dataclass(frozen=True)
class Context:
    """What a run needs and a file does not.

    Attributes
    ----------
    device : str
        ``auto`` (CUDA where present), ``cpu`` or ``cuda``.
    threads : int
        CPU threads; all that this process may use by default.
    seed : int
        Same seed, same threads, same device: same bytes.
    progress : Progress
        Where to report, and what to ask whether to go on.
    previous : tuple of ndarray
        Time steps before this one, the latest first, as their codecs decode them: to encode, whole ones that it may be
        predicted from; to decode, what is decoded of it.
    checkpoint : Path, optional
        File that trainings are kept in while they run, and gone on with from; see `fit.checkpoint`.
    importance : Importance, optional
        Where errors matter more, to codecs that are `weighted`.
    init : Init, optional
        Where trainings of `hashgrid` start; to decode, what streams of differences need, which name it.
    backend : str
        What computes networks, one of `nets.backends.NAMES`; ``auto`` is the fastest that is there.
    """

    device: str = "auto"
    threads: int = field(default_factory=usable_cpus)
    seed: int = 0
    progress: Progress = field(default_factory=Progress)
    previous: tuple[np.ndarray, ...] = field(default=(), repr=False, compare=False)
    checkpoint: Path | None = None
    importance: Importance | None = None
    init: Init | None = field(default=None, repr=False, compare=False)
    backend: str = "auto"

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise InputError(f"threads: expected at least 1, got {self.threads}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise InputError(f"device: expected auto, cpu or cuda, got '{self.device}'")
        checked_name(self.backend)

    @property
    def reference(self) -> Context:
        """The same run on the CPU's own backend, which files are measured with wherever they are made."""
        return replace(self, device="cpu", backend="auto")


@dataclass(frozen=True)
class Codec(ABC):
    """Base of all scalar-field codecs: a frozen dataclass of its own encoding parameters.

    The pipeline hands `encode` a field with at least two different valid values; samples under the field's mask hold
    any finite value and need not come back. It measures what `decode` returns, so a codec may trust but need not
    prove its own estimate.
    """

    #: Stored in files; never reused. 1-63 are this project's.
    id: ClassVar[int]
    #: As the user types it.
    name: ClassVar[str]
    #: Named parameter sets, best known first choice under 'balanced'.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    #: Whether a coarser level is samples of the finest one, not a smoothed preview of it.
    exact_levels: ClassVar[bool] = True
    #: Whether `auto.Auto` and ``neurcomp bench`` take it unasked.
    competes: ClassVar[bool] = True
    #: Whether it heeds `Context.importance`; it is not given any otherwise.
    weighted: ClassVar[bool] = False

    @abstractmethod
    def encode(self, field: Field, target: Target, context: Context) -> Encoded:
        """Compress one array.

        Parameters
        ----------
        field : Field
        target : Target
            `Bytes` (of ``Encoded.nbytes``), `Psnr` or `MaxError`.
        context : Context

        Raises
        ------
        TargetError
            If the target cannot be met; says what can.
        Interrupted
            With the best `Encoded` so far.
        """

    @classmethod
    @abstractmethod
    def decode(cls, encoded: Encoded, spec: ArraySpec, region: Region, level: int, context: Context) -> np.ndarray:
        """Reconstruct every ``2**level``-th sample of `region` from the bytes alone.

        Parameters
        ----------
        encoded : Encoded
        spec : ArraySpec
            Shape ``(z, y, x[, c])`` and dtype of the whole array.
        region : tuple of slice
            Non-empty box in z, y, x, within the shape, steps of 1.
        level : int
            0 for every sample. Above it, a codec without `exact_levels` may return what a low-pass filter leaves there.

        Returns
        -------
        ndarray
            In the dtype of `spec`; integers are rounded and clipped.

        Raises
        ------
        FormatError
            If the streams are not what this codec writes.
        """

    @classmethod
    def decode_into(
        cls, encoded: Encoded, spec: ArraySpec, region: Region, level: int, context: Context, out: np.ndarray
    ) -> None:
        """Put what `decode` returns into `out`; a codec that can write there directly overrides it.

        Parameters
        ----------
        encoded, spec, region, level, context
            As `decode` takes them.
        out : ndarray
            C-contiguous, of the shape and dtype that `decode` would return.
        """
        out[...] = cls.decode(encoded, spec, region, level, context)

    @classmethod
    def decode_blocks(cls, encoded: Encoded, spec: ArraySpec, context: Context) -> Iterator[tuple[Region, np.ndarray]]:
        """What `decode` returns of the whole array at level 0, box after box; a codec of large arrays overrides it.

        Yields
        ------
        region : tuple of slice
        values : ndarray
        """
        whole = full_region(spec.shape)
        yield whole, cls.decode(encoded, spec, whole, 0, context)

    @classmethod
    def describe(cls, encoded: Encoded) -> dict[str, Any]:
        """Parameters of a stream for `neurcomp info`."""
        return {"sections": [len(s) for s in encoded.sections]}

    @classmethod
    def from_preset(cls, preset: str = "balanced", **overrides: Any) -> Codec:
        """A codec with a preset's parameters, some replaced.

        Raises
        ------
        InputError
            If the preset or a parameter does not exist.
        """
        return with_preset(cls, preset, overrides)


def with_preset(cls: type[T], preset: str, overrides: Mapping[str, Any], label: str = "") -> T:
    """An instance of a codec or a training recipe, of its `presets`; `label` names it where it has no `name`."""
    kind: Any = cls
    label = label or f"codec {kind.name}"
    if preset not in (kind.presets or {"balanced": {}}):
        raise InputError(f"{label} has no preset '{preset}'; it has: {', '.join(kind.presets)}")
    known = {f.name for f in fields(kind)}
    for name in overrides:
        if name not in known:
            raise InputError(f"{label} has no parameter '{name}'; it has: {', '.join(sorted(known))}")
    return cls(**{**kind.presets.get(preset, {}), **overrides})


def as_dtype(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Reconstructed values in the array's type: integers are rounded half to even and clipped.

    `values` may be overwritten.
    """
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        np.rint(values, out=values)
        # The largest 64-bit integers are no floats: clip to the largest float below them.
        high = np.nextafter(values.dtype.type(limits.max), values.dtype.type(0)) if dtype.itemsize == 8 else limits.max
        np.clip(values, limits.min, high, out=values)
    return values.astype(dtype, copy=False)


def measured(
    codec: type[Codec], encoded: Encoded, field: Field, context: Context, keep: np.ndarray | None = None
) -> Quality:
    """Quality of what a stream decodes to on the CPU, box after box; all of it is put into `keep`."""
    if encoded.quality is not None and keep is None:
        return encoded.quality
    spec = ArraySpec(field.values.shape, field.values.dtype)
    measuring = Measuring()
    # The reference path is the CPU's: a file's figures must not depend on where it was made.
    for region, decoded in codec.decode_blocks(encoded, spec, context.reference):
        assert decoded.dtype == spec.dtype, "a codec returns the array's dtype"
        measuring.add(box_of(field.values, region), decoded, None if field.mask is None else field.mask[region])
        if keep is not None:
            keep[region] = decoded
    return measuring.quality


@cache
def registry() -> dict[str, type[Codec]]:
    """All codecs of arrays by name; importing one needs none of its optional dependencies."""
    return {codec.name: codec for codec in in_codecs(Codec)}


def in_codecs(base: type[T]) -> list[type[T]]:
    """Concrete classes of a kind that the files in ``codecs/`` define."""
    package = importlib.import_module("neurcomp_core.codecs")
    found: dict[type[T], None] = {}
    for module in pkgutil.iter_modules(package.__path__):
        for item in vars(importlib.import_module(f"neurcomp_core.codecs.{module.name}")).values():
            if isinstance(item, type) and issubclass(item, base) and not inspect.isabstract(item):
                found[item] = None
    return list(found)


def codec_by_name(name: str) -> type[Codec]:
    """The codec a user asks for; ``auto`` is the one that chooses among those of the registry.

    Raises
    ------
    InputError
        If there is none of that name; lists those there are.
    """
    from neurcomp_core.auto import Auto

    if name == Auto.name:
        return Auto
    if name not in registry():
        raise InputError(f"there is no codec '{name}'; there are: {', '.join([Auto.name, *sorted(registry())])}")
    return registry()[name]


def codec_by_id(number: int) -> type[Codec]:
    """The codec a file names.

    Raises
    ------
    FormatError
        If this version knows none of that id.
    """
    from neurcomp_core.temporal import Predicted

    for codec in (*registry().values(), Predicted):
        if codec.id == number:
            return codec
    raise FormatError(f"the file names codec {number}, which this version does not know; update neurcomp to open it")
