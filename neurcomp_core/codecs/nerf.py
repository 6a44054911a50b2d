"""Codec ``nerf``: the weights of NeRF's networks, rounded, shared or as they are, and entropy-coded.

Mildenhall et al., NeRF (ECCV 2020), has the networks; rounding, sharing and pruning of weights are those of Han, Mao,
Dally: "Deep Compression", ICLR 2016. Pruned weights, zeros, cost what their pattern costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from neurcomp_core.codec import Context, Encoded
from neurcomp_core.coding import wire
from neurcomp_core.container import section_cost
from neurcomp_core.errors import FormatError, InputError
from neurcomp_core.radiance.codec import RadianceCodec, RadianceContext, RadianceEncoded, Stage
from neurcomp_core.radiance.imports.nerf import Dense, NerfMlp, NerfWeights
from neurcomp_core.radiance.reaching import bits_in_range, reach
from neurcomp_core.radiance.volume import RadianceVolume
from neurcomp_core.target import Target

#: Most outputs of a layer, layers of a kind, and frequencies.
_WIDTH, _LAYERS, _FREQUENCIES = 1 << 13, 256, 64
#: Weights that share this many values or fewer are stored as labels, unless they are rounded.
_SHARED = 1 << 10


@dataclass(frozen=True)
class MlpRecord:
    """The shape of one network: outputs of the trunk's layers, which of them (from 0) get the position, too, outputs of
    the feature layer (0: none) and of the view layers.
    """

    trunk: tuple[int, ...]
    positions: int = 10
    skips: tuple[int, ...] = ()
    feature: int = 0
    views: tuple[int, ...] = ()
    directions: int = 4


@dataclass(frozen=True)
class NerfRecord:
    """A stream's head. With `steps`, one per tensor, weights are multiples of them; else, if `shared`, labels of
    codebooks; else as they are.
    """

    networks: tuple[MlpRecord, ...]
    steps: tuple[float, ...] = ()
    shared: bool = False


@dataclass(frozen=True)
class Nerf(RadianceCodec):
    """Weights as multiples of a step, ``2**bits`` of them in a tensor's range.

    Attributes
    ----------
    bits : float, optional
        None keeps weights to the bit; those that share few values, as quantised networks do, become labels.
    bias_bits : float, optional
        Of biases; None is 4 more than `bits`.
    """

    id = 22
    name = "nerf"
    takes = (NerfWeights,)
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({"balanced": {"bits": 9.0}, "lossless": {}})

    bits: float | None = None
    bias_bits: float | None = None

    def __post_init__(self) -> None:
        bits_in_range(self.name, self)

    def encode(self, volume: RadianceVolume, target: Target | None, context: RadianceContext) -> RadianceEncoded:
        """Round and code; with a target bits are searched from the preset's. See `RadianceCodec.encode`."""
        if not isinstance(volume.model, NerfWeights):
            raise InputError(f"codec nerf takes the networks of a NeRF, got a {type(volume.model).__name__}")
        return reach(self, volume, target, context)

    def finer(self, bits: float) -> Nerf:
        """With so many bits more (or fewer) than these, the preset's where there are none."""
        mine = self.presets["balanced"]["bits"] if self.bits is None else self.bits
        biases = None if self.bias_bits is None else min(max(self.bias_bits + bits, 0.0), 20.0)
        return replace(self, bits=min(max(mine + bits, 0.0), 20.0), bias_bits=biases)

    def exact(self) -> Nerf:
        """Without rounding."""
        return Nerf()

    def pack(self, model: Any, context: Context) -> RadianceEncoded:
        """Encode without a target."""
        from neurcomp_core.radiance.coding import tensors

        mlps = [mlp for mlp in (model.coarse, model.fine) if mlp is not None]
        weights = [np.asarray(t, np.float32) for mlp in mlps for d in mlp.layers for t in (d.weight, d.bias)]
        record = NerfRecord(tuple(map(_record_of, mlps)))
        if self.bits is not None:
            biases = min(self.bits + 4, 20.0) if self.bias_bits is None else self.bias_bits
            fine, finest = tensors.steps_of_bits(weights, self.bits), tensors.steps_of_bits(weights, biases)
            record = replace(record, steps=tuple((finest if i % 2 else fine)[i] for i in range(len(weights))))
            section = tensors.encode_steps(weights, record.steps)
        else:
            section, shared = tensors.encode_floats(weights), tensors.encode_books(weights, _SHARED)
            if shared is not None and len(shared) < len(section):
                record, section = replace(record, shared=True), shared
        context.progress.update(1.0, "coding weights")
        params = wire.pack(record)
        stage = Stage(
            "coded" if record.steps else "coded without loss",
            {"parameters": len(params), "weights": section_cost([section])},
        )
        return RadianceEncoded(params, (section,), stages=(stage,))

    @classmethod
    def decode(cls, encoded: Encoded, context: Context) -> NerfWeights:
        """See `RadianceCodec.decode`."""
        from neurcomp_core.radiance.coding import tensors

        record = wire.unpack(NerfRecord, encoded.params)
        _check(record, len(encoded.sections))
        shapes = [shape for mlp in record.networks for w in _shapes(mlp) for shape in (w, w[:1])]
        (section,) = encoded.sections
        if record.steps:
            flat = tensors.decode_steps(section, shapes, record.steps)
        elif record.shared:
            flat = tensors.decode_books(section, shapes)
        else:
            flat = tensors.decode_floats(section, shapes)
        layers = [Dense(w, b) for w, b in zip(flat[::2], flat[1::2], strict=True)]
        try:
            return NerfWeights(*(_mlp_of(mlp, layers) for mlp in record.networks))
        except InputError as error:
            raise FormatError(f"the network that a nerf stream describes makes no sense: {error}") from None

    @classmethod
    def describe(cls, encoded: Encoded) -> dict[str, Any]:
        """Shapes; see `RadianceCodec.describe`."""
        record = wire.unpack(NerfRecord, encoded.params)
        return {
            "networks": ", ".join(" x ".join(map(str, (*m.trunk, *m.views))) for m in record.networks),
            "weights": "rounded" if record.steps else "shared" if record.shared else "lossless",
        }

    @classmethod
    def parts(cls, encoded: Encoded) -> dict[str, int]:
        """See `RadianceCodec.parts`."""
        return {"weights": sum(map(len, encoded.sections))}


def _record_of(mlp: NerfMlp) -> MlpRecord:
    widths = [len(layer.weight) for layer in mlp.trunk]
    skips = [i for i in range(1, len(widths)) if mlp.trunk[i].weight.shape[1] > widths[i - 1]]
    return MlpRecord(
        tuple(widths),
        int(mlp.position_frequencies),
        tuple(skips),
        0 if mlp.feature is None else len(mlp.feature.weight),
        tuple(len(layer.weight) for layer in mlp.views),
        int(mlp.direction_frequencies),
    )


def _shapes(record: MlpRecord) -> list[tuple[int, int]]:
    """Of all weights, in the order of `NerfMlp.layers`."""
    inputs = 3 + 6 * record.positions
    found, width = [], 0
    for i, outputs in enumerate(record.trunk):
        found.append((outputs, inputs if i == 0 else width + inputs * (i in record.skips)))
        width = outputs
    found.append((1, width))
    if record.feature:
        found.append((record.feature, width))
    for i, outputs in enumerate(record.views):
        found.append((outputs, record.feature + 3 + 6 * record.directions if i == 0 else width))
        width = outputs
    return [*found, (3, width)]


def _mlp_of(record: MlpRecord, layers: list[Dense]) -> NerfMlp:
    """A network of the first of `layers`, which are taken off."""

    def take(count: int) -> Sequence[Dense]:
        taken = layers[:count]
        del layers[:count]
        return taken

    trunk, (sigma,), feature = tuple(take(len(record.trunk))), take(1), take(1 if record.feature else 0)
    views, (rgb,) = tuple(take(len(record.views))), take(1)
    return NerfMlp(trunk, sigma, rgb, feature[0] if feature else None, views)


def _check(record: NerfRecord, sections: int) -> None:
    """FormatError for what no encoder writes."""
    for mlp in record.networks:
        widths = (*mlp.trunk, *mlp.views)
        ok = (
            0 < len(mlp.trunk) <= _LAYERS
            and len(mlp.views) <= _LAYERS
            and all(0 < n <= _WIDTH for n in widths)
            and 0 <= mlp.feature <= _WIDTH
            and not (mlp.views and not mlp.feature)
            and 0 <= mlp.positions <= _FREQUENCIES
            and 0 <= mlp.directions <= _FREQUENCIES
            and all(0 < i < len(mlp.trunk) for i in mlp.skips)
        )
        if not ok:
            raise FormatError(f"the network that a nerf stream describes makes no sense: {mlp}")
    if not (1 <= len(record.networks) <= 2 and sections == 1):
        raise FormatError(f"a nerf stream of {len(record.networks)} networks in {sections} sections makes no sense")
