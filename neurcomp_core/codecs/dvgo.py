"""Codec ``dvgo``: dense grids of density and features and a shallow network, rounded and entropy-coded.

Sun, Sun & Chen, Direct Voxel Grid Optimization (CVPR 2022), section 4, has the representation.
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
from neurcomp_core.radiance.codec import RadianceCodec, RadianceContext, RadianceEncoded, Stage
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.reaching import bits_in_range, reach
from neurcomp_core.radiance.volume import RadianceVolume
from neurcomp_core.target import Target

#: Largest axis, and most channels, outputs of a layer, and layers.
_AXIS, _CHANNELS, _LAYERS = 1 << 16, 1 << 10, 64


@dataclass(frozen=True)
class DvgoRecord:
    """A stream's head; a step of 0 stands for float32 values as they are.

    `shape` and `mask` are (z, y, x); `widths` are the layers' outputs; `steps` those of weights and biases, in turn,
    none if they are stored to the bit; `rest` is the density of voxels that are not kept.
    """

    shape: tuple[int, ...]
    box: tuple[float, ...]
    channels: int
    shift: float
    unit: float
    frequencies: int = 0
    direct: bool = True
    widths: tuple[int, ...] = ()
    mask: tuple[int, ...] = ()
    density_step: float = 0.0
    feature_step: float = 0.0
    steps: tuple[float, ...] = ()
    rest: float = 0.0


@dataclass(frozen=True)
class Dvgo(RadianceCodec):
    """Densities, features and weights as multiples of a step, ``2**bits`` of them in the range of nearly all values.

    Attributes
    ----------
    density_bits, feature_bits, layer_bits : float, optional
        None keeps float32 values to the bit.
    clear : float, optional
        Voxels from which, and from whose neighbours, no more than this opacity over a voxel comes are left out: their
        density becomes one value, their features zero. None keeps all.
    dead : float
        Share of a step by which features are rounded towards zero, below 1/2.
    """

    id = 21
    name = "dvgo"
    takes = (DvgoModel,)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "balanced": {"density_bits": 7.0, "feature_bits": 6.0, "layer_bits": 8.0, "clear": 1e-3},
            "small": {"density_bits": 6.0, "feature_bits": 4.0, "layer_bits": 8.0, "clear": 1e-3},
            "lossless": {},
        }
    )

    density_bits: float | None = None
    feature_bits: float | None = None
    layer_bits: float | None = None
    clear: float | None = None
    dead: float = 0.0

    def __post_init__(self) -> None:
        bits_in_range(self.name, self)
        if self.clear is not None and not 0 <= self.clear < 1:
            raise InputError(f"dvgo: clear: expected an opacity of at least 0 and below 1, got {self.clear}")

    def encode(self, volume: RadianceVolume, target: Target | None, context: RadianceContext) -> RadianceEncoded:
        """Round and code; with a target bits are searched from the preset's. See `RadianceCodec.encode`."""
        if not isinstance(volume.model, DvgoModel):
            raise InputError(f"codec dvgo takes DVGO's models, got a {type(volume.model).__name__}")
        return reach(self, volume, target, context)

    def finer(self, bits: float) -> Dvgo:
        """With so many bits more (or fewer) than these, the preset's where there are none."""
        usual = self.presets["balanced"]
        mine = {n: usual[n] if getattr(self, n) is None else getattr(self, n) for n in usual}
        more = {n: min(max(mine[n] + bits, 0.0), 20.0) for n in ("density_bits", "feature_bits")}
        # The network weighs little and colours everything.
        return replace(self, **{**mine, **more, "layer_bits": min(max(mine["layer_bits"] + bits, 6.0), 20.0)})

    def exact(self) -> Dvgo:
        """Without rounding."""
        return Dvgo()

    def pack(self, model: Any, context: Context) -> RadianceEncoded:
        """Encode without a target."""
        from neurcomp_core.radiance.coding import tensors
        from neurcomp_core.radiance.coding.occupancy import encode_occupancy
        from neurcomp_core.radiance.coding.quantise import Quantiser
        from neurcomp_core.radiance.coding.rows import encode_rows
        from neurcomp_core.radiance.coding.streams import VOXELS, padded

        keep = np.ones(model.density.shape, bool) if self.clear is None else visible(model, self.clear)
        density, features = model.density[keep][:, None], model.features[keep]
        q_density = None if self.density_bits is None else Quantiser.of_bits(density, self.density_bits)
        q_features = (
            None if self.feature_bits is None else Quantiser.of_bits(features, self.feature_bits, False, self.dead)
        )
        report = context.progress
        parts = {"occupancy": encode_occupancy(keep)}
        report.update(0.1, "coding densities")
        parts["density"], known = encode_rows(density, keep, q_density)
        report.update(0.3, "coding features")
        coded, _ = encode_rows(features, keep, q_features, known)
        parts["features"] = padded(coded, model.features.size, VOXELS)
        left = model.density[~keep]
        record = DvgoRecord(
            model.density.shape,
            tuple(np.asarray(model.box, np.float64).ravel().tolist()),
            model.features.shape[3],
            model.shift,
            model.unit,
            model.frequencies,
            model.direct,
            tuple(len(w) for w, _ in model.layers),
            () if model.mask is None else model.mask.shape,
            q_density.step if q_density else 0.0,
            q_features.step if q_features else 0.0,
            rest=float(np.float32(left.mean())) if left.size else 0.0,
        )
        if model.layers:
            weights = [np.asarray(t, np.float32) for layer in model.layers for t in layer]
            if self.layer_bits is None:
                parts["network"] = tensors.encode_floats(weights)
            else:
                record = replace(record, steps=tensors.steps_of_bits(weights, self.layer_bits))
                parts["network"] = tensors.encode_steps(weights, record.steps)
        if model.mask is not None:
            parts["mask"] = encode_occupancy(model.mask)
        params = wire.pack(record)
        costs = {name: section_cost([part]) for name, part in parts.items()}
        lossless = (self.density_bits, self.feature_bits, self.layer_bits, self.clear) == (None,) * 4
        stage = Stage("coded without loss" if lossless else "coded", {"parameters": len(params), **costs})
        return RadianceEncoded(params, tuple(parts.values()), stages=(stage,))

    @classmethod
    def decode(cls, encoded: Encoded, context: Context) -> DvgoModel:
        """See `RadianceCodec.decode`."""
        from neurcomp_core.radiance.coding import tensors
        from neurcomp_core.radiance.coding.occupancy import decode_occupancy
        from neurcomp_core.radiance.coding.quantise import quantiser_of
        from neurcomp_core.radiance.coding.rows import decode_rows
        from neurcomp_core.radiance.coding.streams import VOXELS, check_count

        record = wire.unpack(DvgoRecord, encoded.params)
        _check(record, len(encoded.sections))
        sections, report = list(encoded.sections), context.progress
        keep = decode_occupancy(sections[0], record.shape)  # pyright: ignore[reportArgumentType]
        # Where little is kept the dense grid is as large.
        check_count(sections[2], keep.size * record.channels, VOXELS, "features")
        report.update(0.1, "decoding densities")
        density = np.full(record.shape, record.rest, np.float32)
        values, known = decode_rows(sections[1], keep, 1, quantiser_of(record.density_step))
        density[keep] = values[:, 0]
        report.update(0.3, "decoding features")
        features = np.zeros((*record.shape, record.channels), np.float32)
        q_features = quantiser_of(record.feature_step)
        features[keep] = decode_rows(sections[2], keep, record.channels, q_features, known if q_features else None)[0]
        layers, rest = (), sections[3:]
        if record.widths:
            shapes = [shape for layer in _shapes(record) for shape in layer]
            if record.steps:
                flat = tensors.decode_steps(rest.pop(0), shapes, record.steps)
            else:
                flat = tensors.decode_floats(rest.pop(0), shapes)
            layers = tuple(zip(flat[::2], flat[1::2], strict=True))
        mask = decode_occupancy(rest.pop(0), record.mask) if record.mask else None  # pyright: ignore
        box = np.array(record.box).reshape(2, 3)
        try:
            return DvgoModel(
                density, features, box, record.shift, record.unit, layers, record.frequencies, record.direct, mask
            )
        except InputError as error:
            raise FormatError(f"the model that a dvgo stream describes makes no sense: {error}") from None

    @classmethod
    def describe(cls, encoded: Encoded) -> dict[str, Any]:
        """Shape and steps; see `RadianceCodec.describe`."""
        record = wire.unpack(DvgoRecord, encoded.params)
        found: dict[str, Any] = {
            "samples": " x ".join(map(str, record.shape[::-1])),
            "channels": record.channels,
            "density step": record.density_step or "lossless",
            "feature step": record.feature_step or "lossless",
        }
        if record.widths:
            found["layers"] = " x ".join(map(str, record.widths))
        return found

    @classmethod
    def parts(cls, encoded: Encoded) -> dict[str, int]:
        """See `RadianceCodec.parts`."""
        record = wire.unpack(DvgoRecord, encoded.params)
        names = ["occupancy", "density", "features", *["network"] * bool(record.widths), *["mask"] * bool(record.mask)]
        return dict(zip(names, map(len, encoded.sections), strict=False))


def visible(model: DvgoModel, clear: float) -> np.ndarray:
    """Samples ``(z, y, x)`` bool of an opacity over a voxel above `clear`, and their neighbours."""
    edge = float(np.max((model.box[1] - model.box[0]) / (np.array(model.density.shape[::-1]) - 1)))
    depth = np.logaddexp(0, model.density.astype(np.float64) + model.shift) * (edge / model.unit)
    keep = -np.expm1(-depth) > clear
    for axis in range(3):
        ahead, behind = np.roll(keep, 1, axis), np.roll(keep, -1, axis)
        ahead[(slice(None),) * axis + (0,)] = False
        behind[(slice(None),) * axis + (-1,)] = False
        keep = keep | ahead | behind
    return keep


def _shapes(record: DvgoRecord) -> list[tuple[tuple[int, int], tuple[int]]]:
    """Of every layer's weight and bias."""
    width = record.channels - (0 if record.direct else 3) + 3 + 6 * record.frequencies
    found = []
    for outputs in record.widths:
        found.append(((outputs, width), (outputs,)))
        width = outputs
    return found


def _check(record: DvgoRecord, sections: int) -> None:
    """FormatError for what no encoder writes."""
    box = record.box
    ok = (
        len(record.shape) == 3
        and all(1 < n <= _AXIS for n in record.shape)
        and len(box) == 6
        and all(map(math.isfinite, (*box, record.shift, record.unit, record.rest, *record.steps)))
        and all(low < high for low, high in zip(box[:3], box[3:], strict=True))
        and (0 if record.direct else 3) <= record.channels <= _CHANNELS
        and 0 <= record.frequencies <= _CHANNELS
        and len(record.widths) <= _LAYERS
        and all(0 < n <= _CHANNELS for n in record.widths)
        and len(record.mask) in (0, 3)
        and all(0 < n <= _AXIS for n in record.mask)
        and sections == 3 + bool(record.widths) + bool(record.mask)
    )
    if not ok:
        raise FormatError(f"the model that a dvgo stream describes makes no sense: {record}")
