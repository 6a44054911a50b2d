"""Bits that just reach a target, of codecs that have nothing else to turn."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any, Protocol

from neurcomp_core.codec import Context
from neurcomp_core.errors import InputError, TargetError
from neurcomp_core.radiance.codec import RadianceContext, RadianceEncoded
from neurcomp_core.radiance.places import Place
from neurcomp_core.radiance.volume import RadianceModel, RadianceVolume
from neurcomp_core.search import search
from neurcomp_core.target import BUDGET_FLOOR, Bytes, PsnrLoss, Target

#: Bits that a search may take off and add.
_FEWER, _MORE = -6.0, 12.0
#: Most trials, and most pictures that one is judged by before the last.
_TRIALS, _VIEWS = 10, 4


class Rounding(Protocol):
    """A codec that rounds."""

    name: Any

    def finer(self, bits: float) -> Rounding:
        """With so many bits more."""
        ...

    def exact(self) -> Rounding:
        """Without rounding."""
        ...

    def pack(self, model: Any, context: Context) -> RadianceEncoded:
        """Encode with its own bits."""
        ...

    def decode(self, encoded: RadianceEncoded, context: Context) -> RadianceModel:
        """Inverse of `pack`."""
        ...


def reach(codec: Rounding, volume: RadianceVolume, target: Target | None, context: RadianceContext) -> RadianceEncoded:
    """Encode so that a target is met.

    Raises
    ------
    InputError
        If the target is of a kind that is not for radiance fields, or there are no images to judge by.
    TargetError
        If it cannot be met.
    """
    if target is None:
        return codec.pack(volume.model, context)
    if isinstance(target, Bytes):
        return _within_bytes(codec, volume, target, context)
    if isinstance(target, PsnrLoss):
        return _within_loss(codec, volume, target, context)
    raise InputError(f"a radiance field is compressed to a ratio, bytes or psnr-loss, not to {target.label}")


def _within_bytes(codec: Rounding, volume: RadianceVolume, target: Bytes, context: RadianceContext) -> RadianceEncoded:
    done = 0

    def attempt(scale: float) -> tuple[float, RadianceEncoded]:
        nonlocal done
        context.progress.update(min(done / _TRIALS, 0.99), "searching the steps")
        done += 1
        encoded = codec.finer(math.log2(scale)).pack(volume.model, _quiet(context))
        return float(encoded.nbytes), encoded

    span = 2.0**_FEWER, 2.0**_MORE
    best = search(attempt, target.value, 1.0, span, slack=0.02, trials=_TRIALS)
    if best.figure > target.value:
        raise TargetError(
            f"{codec.name}: {target} cannot be reached by rounding; {best.figure:.0f} bytes can", best.figure
        )
    if best.figure < BUDGET_FLOOR * target.value:
        exact = codec.exact().pack(volume.model, _quiet(context))
        if exact.nbytes <= target.value:
            return exact
    return best.result


def _within_loss(
    codec: Rounding, volume: RadianceVolume, target: PsnrLoss, context: RadianceContext
) -> RadianceEncoded:
    images = context.unseen or context.views
    if images is None:
        raise InputError(f"{target}: the loss of PSNR is measured on images; give a data set")
    from neurcomp_core.radiance.evaluation import mean_psnr, spread

    few, every = spread(_VIEWS, len(images)), list(range(len(images)))
    place = Place.of(context.device, context.backend)
    before = {len(c): mean_psnr(volume, images, c, place=place) for c in (few, every)}
    done = 0

    def loss(encoded: RadianceEncoded, views: list[int]) -> float:
        model = codec.decode(encoded, _quiet(context))
        return before[len(views)] - mean_psnr(replace(volume, model=model), images, views, place=place)

    def attempt(scale: float) -> tuple[float, RadianceEncoded]:
        nonlocal done
        context.progress.update(min(done / (_TRIALS + 2), 0.99), "searching the steps")
        done += 1
        encoded = codec.finer(-math.log2(scale)).pack(volume.model, _quiet(context))
        return max(loss(encoded, few), 1e-6), encoded

    limit, best = target.value, None
    for _ in range(4):
        best = search(attempt, limit, 1.0, (2.0**-_MORE, 2.0**-_FEWER), slack=0.15, trials=_TRIALS)
        lost = loss(best.result, every) if len(few) < len(every) else best.figure
        if lost <= target.value:
            return best.result
        limit *= 0.9 * target.value / lost
    assert best is not None
    raise TargetError(f"{codec.name}: {target} dB cannot be reached by rounding; {best.figure:.3f} dB can", best.figure)


def _quiet(context: RadianceContext) -> RadianceContext:
    """Without reports of its own, but still to be stopped."""
    return replace(context, progress=context.progress.part(0.0, 0.0))


def bits_in_range(name: str, codec: Any) -> None:
    """InputError if one of a codec's bits is out of range."""
    for item in fields(codec):
        value: Any = getattr(codec, item.name)
        if item.name.endswith("bits") and value is not None and not 0 <= value <= 20:
            raise InputError(f"{name}: {item.name}: expected 0 to 20, or none for lossless, got {value}")
        if item.name == "dead" and not (value is not None and 0 <= value < 0.5):
            raise InputError(f"{name}: dead: expected at least 0 and below 0.5, got {value}")
