"""The contract of radiance codecs: a trained field in, bytes out, and back from the bytes alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

from neurcomp_core.codec import Context, Encoded, in_codecs, with_preset
from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.shared import SharedModel
from neurcomp_core.radiance.volume import RadianceModel, RadianceVolume
from neurcomp_core.target import Target


@dataclass(frozen=True)
class RadianceContext(Context):
    """What training or compressing a radiance field needs and a file does not.

    Attributes
    ----------
    views : PosedImages, optional
        Images to train, fine-tune and weigh voxels with.
    unseen : PosedImages, optional
        Images to judge by.
    """

    views: PosedImages | None = field(default=None, repr=False, compare=False)
    unseen: PosedImages | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Stage:
    """One step of compression: bytes of each part, and the quality after it.

    Attributes
    ----------
    name : str
    parts : mapping of str to int
        Bytes by part (occupancy, density, indices, ...).
    psnr : float, optional
        Mean over `RadianceContext.unseen`, in dB; None without images.
    """

    name: str
    parts: Mapping[str, int]
    psnr: float | None = None

    @property
    def nbytes(self) -> int:
        return sum(self.parts.values())


@dataclass(frozen=True)
class RadianceEncoded(Encoded):
    """What a radiance codec makes of a field, and the steps that led there."""

    stages: tuple[Stage, ...] = ()


@dataclass(frozen=True)
class RadianceCodec(ABC):
    """Base of all radiance codecs: a frozen dataclass of its own encoding parameters, registered in ``codecs/``."""

    #: Stored in files; shares the numbers of `codec.Codec.id`.
    id: ClassVar[int]
    #: As the user types it.
    name: ClassVar[str]
    #: Kinds of model it takes.
    takes: ClassVar[tuple[type, ...]]
    #: Named parameter sets.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @abstractmethod
    def encode(self, volume: RadianceVolume, target: Target | None, context: RadianceContext) -> RadianceEncoded:
        """Compress a field.

        Parameters
        ----------
        volume : RadianceVolume
            Of a kind in `takes`.
        target : Target or None
            `Bytes` of the stream or a loss of PSNR; None leaves it to the codec's parameters.
        context : RadianceContext

        Raises
        ------
        TargetError
            If the target cannot be met; says what can.
        """

    @classmethod
    @abstractmethod
    def decode(cls, encoded: Encoded, context: Context) -> RadianceModel:
        """The field from the bytes alone; FormatError if the streams are not what this codec writes."""

    @classmethod
    def decode_to_render(cls, encoded: Encoded, context: Context) -> RadianceModel | SharedModel:
        """The same field in the form that takes the least memory to be rendered."""
        return cls.decode(encoded, context)

    @classmethod
    def describe(cls, encoded: Encoded) -> dict[str, Any]:
        """Parameters of a stream for `neurcomp info`."""
        return {"sections": [len(s) for s in encoded.sections]}

    @classmethod
    def parts(cls, encoded: Encoded) -> dict[str, int]:
        """Bytes of each section, by what it holds, in their order."""
        return {f"section {i}": len(s) for i, s in enumerate(encoded.sections, 1)}

    @classmethod
    def from_preset(cls, preset: str = "balanced", **overrides: Any) -> RadianceCodec:
        """A codec with a preset's parameters, some replaced; InputError if the preset or a parameter does not exist."""
        return with_preset(cls, preset, overrides)


@cache
def radiance_registry() -> dict[str, type[RadianceCodec]]:
    """All codecs of radiance fields by name; importing one needs none of its optional dependencies."""
    return {codec.name: codec for codec in in_codecs(RadianceCodec)}


def radiance_codec_by_name(name: str) -> type[RadianceCodec]:
    """The codec a user asks for; InputError, with those there are, if there is none of that name."""
    if name not in radiance_registry():
        known = ", ".join(sorted(radiance_registry()))
        raise InputError(f"there is no codec '{name}' of radiance fields; there are: {known}")
    return radiance_registry()[name]


def radiance_codec_by_id(number: int) -> type[RadianceCodec]:
    """The codec a file names; FormatError if this version knows none of that id."""
    for codec in radiance_registry().values():
        if codec.id == number:
            return codec
    raise FormatError(f"the file names codec {number}, which this version does not know; update neurcomp to open it")


def codec_of(volume: RadianceVolume) -> type[RadianceCodec]:
    """The codec that stores a field's kind of model as it is: the one of the lowest id that takes it."""
    takers = [c for c in radiance_registry().values() if isinstance(volume.model, c.takes)]
    return min(takers, key=lambda c: c.id)
