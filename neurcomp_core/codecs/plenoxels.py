"""Codec ``plenoxels``: sparse voxels of density and spherical harmonics, rounded and entropy-coded by learned models.

Fridovich-Keil, Yu et al., Plenoxels (CVPR 2022), section 3.1, has the representation; svox2 stores it as 16-bit floats
in a zip archive.
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
from neurcomp_core.container import section_cost
from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.radiance import spherical_harmonics
from neurcomp_core.radiance.codec import RadianceCodec, RadianceContext, RadianceEncoded, Stage
from neurcomp_core.radiance.grids import EMPTY, SparseGrid, SphereLayers
from neurcomp_core.radiance.reaching import bits_in_range, reach
from neurcomp_core.radiance.volume import RadianceVolume
from neurcomp_core.target import Target

#: Largest axis, number of spheres, and rows of background.
_AXIS, _LAYERS = 1 << 16, 1 << 12


@dataclass(frozen=True)
class PlenoxelsRecord:
    """A stream's head; a step of 0 stands for float32 values as they are.

    `shape` is (z, y, x); `sphere` (height, width, layers) of the background's map; `far_step` is that of its values.
    """

    shape: tuple[int, ...]
    box: tuple[float, ...]
    functions: int = 9
    density_step: float = 0.0
    sh_step: float = 0.0
    sphere: tuple[int, ...] = ()
    far_step: float = 0.0


@dataclass(frozen=True)
class Plenoxels(RadianceCodec):
    """Densities and coefficients as multiples of a step, each ``2**bits`` of them in the range of nearly all values.

    Rows come back in the order of their voxels' (z, y, x); rows that no voxel links to are dropped.

    Attributes
    ----------
    density_bits, sh_bits, background_bits : float, optional
        Of signed square roots of densities, of coefficients, of the background's values; None keeps float32 values to
        the bit.
    dead : float
        Share of a step by which coefficients are rounded towards zero, below 1/2.
    """

    id = 20
    name = "plenoxels"
    takes = (SparseGrid,)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "balanced": {"density_bits": 7.0, "sh_bits": 5.0, "background_bits": 7.0},
            "small": {"density_bits": 6.0, "sh_bits": 4.0, "background_bits": 6.0},
            "lossless": {},
        }
    )

    density_bits: float | None = None
    sh_bits: float | None = None
    background_bits: float | None = None
    dead: float = 0.0

    def __post_init__(self) -> None:
        bits_in_range(self.name, self)

    def encode(self, volume: RadianceVolume, target: Target | None, context: RadianceContext) -> RadianceEncoded:
        """Round and code; with a target bits are searched from the preset's. See `RadianceCodec.encode`."""
        model = volume.model
        if not isinstance(model, SparseGrid):
            raise InputError(f"codec plenoxels takes sparse grids, got a {type(model).__name__}")
        return reach(self, volume, target, context)

    def finer(self, bits: float) -> Plenoxels:
        """With so many bits more (or fewer) than these, the preset's where there are none."""
        usual = self.presets["balanced"]
        mine = {n: (usual[n] if getattr(self, n) is None else getattr(self, n)) + bits for n in usual}
        return replace(self, **{n: min(max(b, 0.0), 20.0) for n, b in mine.items()})

    def exact(self) -> Plenoxels:
        """Without rounding."""
        return Plenoxels()

    def pack(self, model: Any, context: Context) -> RadianceEncoded:
        """Encode without a target."""
        from neurcomp_core.radiance.coding.occupancy import encode_occupancy
        from neurcomp_core.radiance.coding.quantise import Quantiser
        from neurcomp_core.radiance.coding.rows import encode_rows

        keep = model.links != EMPTY
        rows = model.links[keep]
        density, sh = model.density[rows][:, None], _flat(model.sh[rows])
        q_density = None if self.density_bits is None else Quantiser.of_bits(density, self.density_bits, True)
        q_sh = None if self.sh_bits is None else Quantiser.of_bits(sh, self.sh_bits, False, self.dead)
        report = context.progress
        parts = {"occupancy": encode_occupancy(keep)}
        report.update(0.1, "coding densities")
        parts["density"], known = encode_rows(density, keep, q_density)
        report.update(0.2, "coding coefficients")
        parts["sh"], _ = encode_rows(sh, keep, q_sh, known)
        record = PlenoxelsRecord(
            model.links.shape,
            tuple(model.box.ravel().tolist()),
            model.sh.shape[2],
            q_density.step if q_density else 0.0,
            q_sh.step if q_sh else 0.0,
        )
        if model.background is not None:
            report.update(0.9, "coding the background")
            far = model.background
            mapped = (far.links != EMPTY)[None]
            values = far.data[far.links[mapped[0]]].reshape(int(mapped.sum()), 4 * far.data.shape[1])
            q_far = None if self.background_bits is None else Quantiser.of_bits(values, self.background_bits)
            parts["background occupancy"] = encode_occupancy(mapped)
            parts["background"], _ = encode_rows(values, mapped, q_far)
            step = q_far.step if q_far else 0.0
            record = replace(record, sphere=(*far.links.shape, far.data.shape[1]), far_step=step)
        params = wire.pack(record)
        sections = tuple(parts.values())
        costs = {name: section_cost([part]) for name, part in parts.items()}
        stage = Stage("coded" if q_sh or q_density else "coded without loss", {"parameters": len(params), **costs})
        return RadianceEncoded(params, sections, stages=(stage,))

    @classmethod
    def decode(cls, encoded: Encoded, context: Context) -> SparseGrid:
        """See `RadianceCodec.decode`."""
        from neurcomp_core.radiance.coding.occupancy import decode_occupancy
        from neurcomp_core.radiance.coding.quantise import quantiser_of
        from neurcomp_core.radiance.coding.rows import decode_rows

        record = wire.unpack(PlenoxelsRecord, encoded.params)
        _check(record, len(encoded.sections))
        sections, report = encoded.sections, context.progress
        keep = decode_occupancy(sections[0], record.shape)  # pyright: ignore[reportArgumentType]
        report.update(0.1, "decoding densities")
        density, known = decode_rows(sections[1], keep, 1, quantiser_of(record.density_step, True))
        report.update(0.2, "decoding coefficients")
        q_sh = quantiser_of(record.sh_step)
        sh, _ = decode_rows(sections[2], keep, 3 * record.functions, q_sh, known if q_sh else None)
        far = None
        if record.sphere:
            height, width, layers = record.sphere
            mapped = decode_occupancy(sections[3], (1, height, width))
            values, _ = decode_rows(sections[4], mapped, 4 * layers, quantiser_of(record.far_step))
            far = SphereLayers(_links(mapped)[0], values.reshape(len(values), layers, 4))
        sh = np.ascontiguousarray(sh.reshape(len(sh), record.functions, 3).transpose(0, 2, 1))
        return SparseGrid(_links(keep), density[:, 0].copy(), sh, np.array(record.box).reshape(2, 3), far)

    @classmethod
    def describe(cls, encoded: Encoded) -> dict[str, Any]:
        """Shape and steps; see `RadianceCodec.describe`."""
        record = wire.unpack(PlenoxelsRecord, encoded.params)
        found: dict[str, Any] = {
            "voxels": " x ".join(map(str, record.shape[::-1])),
            "functions": record.functions,
            "density step": record.density_step or "lossless",
            "sh step": record.sh_step or "lossless",
        }
        if record.sphere:
            found["background"] = " x ".join(map(str, record.sphere))
        return found

    @classmethod
    def parts(cls, encoded: Encoded) -> dict[str, int]:
        """See `RadianceCodec.parts`."""
        names = ("occupancy", "density", "sh", "background occupancy", "background")
        return dict(zip(names, map(len, encoded.sections), strict=False))


def _flat(sh: np.ndarray) -> np.ndarray:
    """``(rows, 3, functions)`` as channels ``(rows, 3 functions)``, the colours of each function side by side."""
    return sh.transpose(0, 2, 1).reshape(len(sh), sh.shape[1] * sh.shape[2])


def _links(keep: np.ndarray) -> np.ndarray:
    links = np.full(keep.shape, EMPTY, np.int32)
    links[keep] = np.arange(np.count_nonzero(keep), dtype=np.int32)
    return links


def _check(record: PlenoxelsRecord, sections: int) -> None:
    """FormatError for what no encoder writes."""
    box, sphere = record.box, record.sphere
    ok = (
        len(record.shape) == 3
        and all(0 < n <= _AXIS for n in record.shape)
        and len(box) == 6
        and all(map(math.isfinite, box))
        and all(low < high for low, high in zip(box[:3], box[3:], strict=True))
        and len(sphere) in (0, 3)
        and all(0 < n <= _AXIS for n in sphere[:2])
        and all(0 <= n <= _LAYERS for n in sphere[2:])
        and sections == (5 if sphere else 3)
    )
    if not ok:
        raise FormatError(f"the sparse grid that a plenoxels stream describes makes no sense: {record}")
    try:
        spherical_harmonics.degree_of(record.functions)
    except InputError as error:
        raise FormatError(f"a plenoxels stream: {error}") from None
