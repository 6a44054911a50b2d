"""Codec ``vqrf``: voxel radiance fields pruned, vector-quantised, fine-tuned, rounded and entropy-coded.

Li, Shen, Wang, Shen & Tan, Compressing Volumetric Radiance Fields to 1 MB (CVPR 2023), whose last stage is a zip
archive; here it is this project's learned coders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from neurcomp_core import threads
from neurcomp_core.codec import Context, Encoded
from neurcomp_core.coding import wire
from neurcomp_core.errors import InputError
from neurcomp_core.radiance.codec import RadianceCodec, RadianceContext, RadianceEncoded
from neurcomp_core.radiance.grids import SparseGrid
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.shared import SharedModel
from neurcomp_core.radiance.volume import RadianceVolume
from neurcomp_core.target import Target


@dataclass(frozen=True)
class Vqrf(RadianceCodec):
    """Voxels that are hardly seen go, and most of the others share their features with voxels alike.

    Images in the context (`RadianceContext.views`) weigh the voxels and fine-tune what is left of the field. Without
    them voxels are weighed from all around, nothing is fine-tuned, and the loss is stated as PSNR of pictures against
    those of the uncompressed field, in the stages and in the file.

    Attributes
    ----------
    prune : float
        Voxels stay that together carry this share of all importance.
    keep : float
        Of these, those that together carry this share keep features of their own; 1 keeps all.
    codes : int
        Most that the others share, eight voxels to a code at least; 0 for none, if `keep` is 1.
    price : float
        Of indices: how much more error a voxel may have for a neighbour's code instead of the nearest; 0 for none.
    rounds : int
        Of learning the codebook.
    tune, refine : int
        Steps of fine-tuning before quantisation, and with it.
    rays : int
        Of each step.
    rate : float
        Share of an array's root mean square that a step changes its numbers by, at first.
    loss : float
        dB that quantisation may cost, where no target says more.
    thrift : float
        Numbers become the integers that are worth their bits: a bit counts as this times the error that the last one of
        quantisation saves. 0 looks at the error alone.
    """

    id = 23
    name = "vqrf"
    takes = (SparseGrid, DvgoModel)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "fast": {"tune": 150, "refine": 0, "rays": 2048, "codes": 1024, "rounds": 50},
            "balanced": {},
            "small": {"keep": 0.6, "price": 1.2, "refine": 500, "loss": 0.25, "thrift": 0.5},
        }
    )

    prune: float = 0.9999
    keep: float = 0.4
    codes: int = 4096
    price: float = 1.0
    rounds: int = 100
    tune: int = 500
    refine: int = 200
    rays: int = 4096
    rate: float = 0.01
    loss: float = 0.05
    thrift: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("rounds", 1), ("tune", 0), ("refine", 0), ("rays", 1)):
            if getattr(self, name) < least:
                raise InputError(f"vqrf: {name}: expected at least {least}, got {getattr(self, name)}")
        if not (0 < self.rate < 1 and 0 < self.loss < 100 and 0 <= self.thrift < 100):
            raise InputError(
                f"vqrf: expected a rate between 0 and 1, a loss above 0 and thrift from 0 on, each below 100, got "
                f"{self.rate}, {self.loss} and {self.thrift}"
            )
        self._plan()

    def _plan(self) -> Any:
        from neurcomp_core.radiance.vqrf.plan import Plan

        return Plan(self.prune, self.keep, self.codes, self.price)

    def encode(self, volume: RadianceVolume, target: Target | None, context: RadianceContext) -> RadianceEncoded:
        """See `RadianceCodec.encode`; `Bytes` are used to 97 to 100 %, a loss of PSNR is measured on all images."""
        from neurcomp_core.radiance.vqrf.codebook import Learning
        from neurcomp_core.radiance.vqrf.compress import Settings, compress
        from neurcomp_core.radiance.vqrf.finetune import Tuning

        tuning = Tuning(self.tune, self.rays, self.rate)
        refining = Tuning(self.refine, self.rays, 0.5 * self.rate, decay=0.99)
        settings = Settings(self._plan(), Learning(rounds=self.rounds), tuning, refining, self.loss, self.thrift)
        with threads.limit(context.threads):
            return compress(volume, settings, target, context)

    @classmethod
    def decode(cls, encoded: Encoded, context: Context) -> SparseGrid | DvgoModel:
        """See `RadianceCodec.decode`."""
        from neurcomp_core.radiance.vqrf import stream

        return stream.decode(encoded.params, encoded.sections).checked_model()

    @classmethod
    def decode_to_render(cls, encoded: Encoded, context: Context) -> SharedModel:
        """See `RadianceCodec.decode_to_render`: rows that share features, as they are stored."""
        from neurcomp_core.radiance.vqrf import stream
        from neurcomp_core.radiance.vqrf.unexpanded import shared_model

        return shared_model(stream.decode(encoded.params, encoded.sections))

    @classmethod
    def describe(cls, encoded: Encoded) -> dict[str, Any]:
        """Shape, codes and steps; see `RadianceCodec.describe`."""
        from neurcomp_core.radiance.vqrf.stream import Record

        record = wire.unpack(Record, encoded.params)
        found: dict[str, Any] = {
            "voxels": " x ".join(map(str, record.shape[::-1])),
            "channels": record.channels,
            "codes": record.codes,
            "steps (density, features, codes)": ", ".join(f"{s:.3g}" for s in record.steps),
        }
        if record.agreement is not None:
            found["PSNR against the uncompressed"] = f"{record.agreement:.2f} dB"
        return found

    @classmethod
    def parts(cls, encoded: Encoded) -> dict[str, int]:
        """See `RadianceCodec.parts`."""
        from neurcomp_core.radiance.vqrf.stream import PARTS

        return dict(zip(PARTS, map(len, encoded.sections), strict=False))
