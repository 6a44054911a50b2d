"""The stages of a compression, and what each of them takes: float32 rows and bit masks before the last ones.

Li et al., Compressing Volumetric Radiance Fields to 1 MB (CVPR 2023), section 3, with learned entropy coding last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neurcomp_core.container import section_cost
from neurcomp_core.errors import InputError
from neurcomp_core.progress import Progress
from neurcomp_core.radiance.codec import RadianceContext
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.rendering.frames import Rays
from neurcomp_core.radiance.training.batches import RayBank
from neurcomp_core.radiance.volume import RadianceVolume
from neurcomp_core.radiance.vqrf import stream
from neurcomp_core.radiance.vqrf.codebook import Learning, learn
from neurcomp_core.radiance.vqrf.factors import Factors
from neurcomp_core.radiance.vqrf.importance import free_views, importance, views_of
from neurcomp_core.radiance.vqrf.judge import Judge
from neurcomp_core.radiance.vqrf.plan import Plan
from neurcomp_core.radiance.vqrf.pruning import carrying
from neurcomp_core.radiance.vqrf.quantise import Symbols
from neurcomp_core.radiance.vqrf.rows import Rows, Shell, VoxelModel, rows_of

#: Views and pixels each way of what a field without images is weighed by and judged by.
FREE_VIEWS, FREE_SIZE = 48, 64
# Voxels that a code is for on average, at least: a codebook must not outweigh what it saves.
_SHARERS = 8
# Views of a judgement while searching, and rays that steps are measured by.
_VIEWS, _PROBES = 4, 4000
# Batches of so many rays that sensitivity is measured by.
_SAMPLES = 30


@dataclass(frozen=True, eq=False)
class Material:
    """A field and all that its compression looks at.

    Attributes
    ----------
    volume : RadianceVolume
    shell : Shell
    rows : Rows
    importance : ndarray ``(rows,)``
    views : PosedImages or None
        To fine-tune with.
    judge : Judge
        Few views.
    probe : Rays
        To measure steps by.
    samples : tuple of Rays
        Batches to measure sensitivity by.
    seed : int
    """

    volume: RadianceVolume
    shell: Shell
    rows: Rows
    importance: np.ndarray
    views: PosedImages | None
    judge: Judge
    probe: Rays
    samples: tuple[Rays, ...]
    seed: int

    @classmethod
    def of(cls, volume: RadianceVolume, context: RadianceContext, progress: Progress) -> Material:
        """Weigh a field's voxels by the images to train on, or else from all around."""
        model: VoxelModel = volume.model  # pyright: ignore[reportAssignmentType]
        seen_by, judged_by = context.views, context.unseen or context.views
        if seen_by is not None:
            from neurcomp_core.radiance.evaluation import checked

            seen_by = checked(volume, seen_by)
            weights = importance(model, views_of(seen_by), progress)
            bank = RayBank.of(seen_by)
            probe = bank.rays(bank.indices(0, min(_PROBES, len(bank)), context.seed + 1))
            samples = tuple(bank.rays(bank.indices(k, _PROBES, context.seed + 2)) for k in range(_SAMPLES))
        else:
            views = free_views(volume, FREE_VIEWS, FREE_SIZE)
            weights = importance(model, views, progress)
            draw = np.random.default_rng(context.seed)
            probe = _joined([_some(v, _PROBES // FREE_VIEWS, draw) for v in views])
            samples = tuple(views)
        if not weights.any():
            raise InputError(
                "no ray meets anything in this field, so that nothing of it would be left; "
                "check that its images and its box belong together"
            )
        if judged_by is None:
            judge = Judge.of_field(volume, _VIEWS, FREE_SIZE)
        else:
            judge = Judge.of_images(volume, judged_by, _VIEWS)
        return cls(volume, Shell.of(model), rows_of(model), weights, seen_by, judge, probe, samples, context.seed)

    @cached_property
    def floor(self) -> float:
        """Mean squared error of the uncompressed field itself, as far as it is known."""
        if self.judge.photos:
            return 10 ** (-self.judge.psnr(self.volume.model) / 10)
        return 10 ** (-(self.volume.psnr or 32.0) / 10)


def _some(rays: Rays, count: int, draw: np.random.Generator) -> Rays:
    which = draw.choice(len(rays), min(count, len(rays)), replace=False)
    return Rays(*(np.asarray(a)[which] for a in (rays.origins, rays.directions, rays.near, rays.far, rays.views)))


def _joined(parts: list[Rays]) -> Rays:
    names = ("origins", "directions", "near", "far", "views")
    return Rays(*(np.concatenate([np.asarray(getattr(p, n)) for p in parts]) for n in names))


def pruned(material: Material, plan: Plan) -> tuple[Factors, np.ndarray]:
    """What is left after pruning, and its importance ``(rows,)``."""
    keep = carrying(material.importance, plan.prune)
    weights = material.importance[keep]
    return Factors.of(material.shell, material.rows.take(keep), weights), weights


def shared(
    factors: Factors, weights: np.ndarray, plan: Plan, learning: Learning, seed: int, progress: Progress | None = None
) -> Factors:
    """A pruned field whose less important voxels share codes."""
    own = carrying(weights, plan.keep)
    if plan.keep == 1 or not plan.codes or own.all():
        return factors
    codes = min(plan.codes, max(1, int(np.count_nonzero(~own)) // _SHARERS))
    book = learn(factors.kept[~own], weights[~own], codes, learning, seed, progress)
    return factors.shared(own, book, weights, plan.price)


# ------------------------------------------------------------------------------------------------------------- bytes


def bits(mask: np.ndarray) -> int:
    """Bytes of a packed mask."""
    return -(-mask.size // 8)


def uncompressed_parts(material: Material) -> dict[str, int]:
    """As `RadianceVolume.nbytes` counts: occupancy is a bit for each link or each sample of a mask."""
    rows = material.rows
    parts = {"density": 4 * rows.density.size, "features": 4 * rows.features.size, **_network(rows.network)}
    behind = _background(material.shell)
    rest = material.volume.nbytes - sum(parts.values()) - sum(behind.values())
    return {**({"occupancy": rest} if rest else {}), **parts, **behind}


def row_parts(factors: Factors) -> dict[str, int]:
    """float32 numbers and packed bits; indices of as many bits as the codebook needs."""
    parts = {
        "occupancy": bits(factors.occupied),
        "density": 4 * factors.density.size,
        "features": 4 * factors.kept.size,
    }
    if len(factors.codes):
        width = max(1, (len(factors.codes) - 1).bit_length())
        parts |= {
            "own": bits(factors.own),
            "codes": 4 * factors.codes.size,
            "indices": -(-width * len(factors.index) // 8),
        }
    return {**parts, **_network(factors.network), **_background(factors.shell)}


def symbol_parts(symbols: Symbols) -> dict[str, int]:
    """As many bits for every number of a part as its largest one needs; the basis among the network."""
    parts = {
        "occupancy": bits(symbols.occupied),
        "density": _plain(symbols.density),
        "features": _plain(symbols.kept),
    }
    if len(symbols.codes):
        parts |= {"own": bits(symbols.own), "codes": _plain(symbols.codes), "indices": _plain(symbols.index)}
    basis = _plain(symbols.basis.vectors) + _plain(symbols.basis.mean)
    return {**parts, "network": basis + sum(_plain(a) for a in symbols.network), **_background(symbols.shell)}


def coded_parts(params: bytes, sections: list[bytes]) -> dict[str, int]:
    """Of the file but for its header: streams with their lengths and checksums."""
    named = {"kept": "features"}
    found = {named.get(name, name): section_cost([s]) for name, s in zip(stream.PARTS, sections, strict=False) if s}
    empty = sum(section_cost([s]) for s in sections if not s)
    return {"parameters": len(params) + empty, **found}


def _network(arrays: tuple[np.ndarray, ...]) -> Mapping[str, int]:
    return {"network": 4 * sum(a.size for a in arrays)} if arrays else {}


def _background(shell: Shell) -> dict[str, int]:
    """Layers behind a sparse grid, as float32 until they are coded."""
    far = shell.background
    return {} if far is None else {"background": 4 * far.data.size + bits(far.links)}


def _plain(values: np.ndarray) -> int:
    if not values.size:
        return 0
    return -(-int(int(values.max()) - int(values.min())).bit_length() * values.size // 8)
