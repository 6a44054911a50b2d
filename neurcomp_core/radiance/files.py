"""Radiance fields in ``.nvc`` files: volumes to bytes, and back from the bytes alone."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from neurcomp_core import container
from neurcomp_core.codec import Context, Encoded
from neurcomp_core.container import SCENES, Container, Header, RadianceRecord
from neurcomp_core.errors import FormatError, InputError, TargetError
from neurcomp_core.metrics import ratio
from neurcomp_core.radiance.codec import (
    RadianceCodec,
    RadianceContext,
    RadianceEncoded,
    Stage,
    radiance_codec_by_id,
    radiance_codec_by_name,
)
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.places import Place
from neurcomp_core.radiance.shared import SharedModel
from neurcomp_core.radiance.volume import RadianceModel, RadianceVolume
from neurcomp_core.target import Bytes, PsnrLoss, Target

Source = str | Path | bytes | bytearray | memoryview | Container

# What a stream's lengths may take more in the header than it was reckoned with.
_SPARE = 16
_TRIES = 3


@dataclass(frozen=True, eq=False)
class Compressed:
    """A compressed radiance field.

    Attributes
    ----------
    data : bytes
        The file.
    volume : RadianceVolume
        What it decodes to.
    codec : str
    raw_bytes : int
        Of the uncompressed field, see `RadianceVolume.nbytes`.
    stages : tuple of Stage
        What became of it step by step; the bytes of the last one are those of the file but for its header.
    psnr_before, psnr : float, optional
        Mean over `RadianceContext.unseen`, in dB, of the field as given and as decoded; None without images.
    lossless : bool
        Whether every number of the model came back to the bit (rows of a sparse grid in another order).
    seconds : float
    """

    data: bytes
    volume: RadianceVolume
    codec: str
    raw_bytes: int
    stages: tuple[Stage, ...]
    psnr_before: float | None
    psnr: float | None
    lossless: bool
    seconds: float

    @property
    def nbytes(self) -> int:
        """Size of the file."""
        return len(self.data)

    @property
    def ratio(self) -> float:
        """Raw bytes over the file's."""
        return ratio(self.raw_bytes, len(self.data))

    @property
    def psnr_loss(self) -> float | None:
        """In dB, negative where the decoded field is the better one."""
        return None if self.psnr is None or self.psnr_before is None else self.psnr_before - self.psnr


def compress(
    volume: RadianceVolume,
    codec: RadianceCodec | str,
    target: Target | None = None,
    context: Context | None = None,
) -> Compressed:
    """Compress a radiance field into the bytes of a ``.nvc`` file, and decode and measure them.

    Parameters
    ----------
    volume : RadianceVolume
    codec : RadianceCodec or str
        A name stands for the codec's preset "balanced".
    target : Ratio, Bytes or PsnrLoss, optional
        A ratio is that of `RadianceVolume.nbytes`. None leaves it to the codec's parameters.
    context : RadianceContext, optional
        With images in `unseen`, PSNR is measured on them before and after.

    Raises
    ------
    InputError
        If the codec does not take such a model, or the target is not one of these.
    TargetError
        If it cannot be met; says what can.

    Examples
    --------
    >>> from neurcomp_core.radiance.scenes import scene
    >>> grid = scene("inward").grid(16)
    >>> made = compress(RadianceVolume(grid, grid.box), "plenoxels")
    >>> load(made.data).model.links.shape == grid.links.shape
    True
    """
    begun = time.perf_counter()
    context = context if isinstance(context, RadianceContext) else _with_images(context or Context())
    codec = radiance_codec_by_name(codec).from_preset() if isinstance(codec, str) else codec
    if not isinstance(volume.model, codec.takes):
        kinds = " or ".join(kind.__name__ for kind in codec.takes)
        raise InputError(f"codec {codec.name} takes a {kinds}, got a {type(volume.model).__name__}")
    budget = None if target is None else target.budget(volume.nbytes)
    before = None if context.unseen is None else _psnr(volume, context.unseen, context)
    encoded, data = _encoded(volume, codec, target, budget, context)
    decoded = load(data, context)
    after = None if context.unseen is None else _psnr(decoded, context.unseen, context)
    if isinstance(target, PsnrLoss) and before is not None and after is not None and before - after > target.value:
        raise TargetError(f"{codec.name}: {target} dB is missed: {before - after:.3f} dB are lost", before - after)
    lossless = same_model(volume.model, decoded.model)
    # What a field was measured at before says nothing about one that differs.
    stated = after if after is not None else volume.psnr if lossless else None
    data = _file(volume, codec, encoded, stated)
    return Compressed(
        data,
        replace(decoded, psnr=stated),
        codec.name,
        volume.nbytes,
        encoded.stages,
        before,
        after,
        lossless,
        time.perf_counter() - begun,
    )


def load(
    source: Source, context: Context | None = None, name: str | None = None, *, to_render: bool = False
) -> RadianceVolume:
    """A radiance field of a file.

    Parameters
    ----------
    source : path, bytes or Container
    context : Context, optional
        Threads, progress, a request to stop.
    name : str, optional
        Which; the first by default.
    to_render : bool
        Whether pictures are all that is wanted: a field of codec ``vqrf`` then is not expanded, and its volume's model
        is a `shared.SharedGrid` or a `shared.SharedDvgo`.

    Raises
    ------
    FormatError
        If the file is damaged.
    InputError
        If it cannot be read, or has no such field.
    """
    file = source if isinstance(source, Container) else Container(source)
    records = file.header.radiance
    if not records:
        raise InputError(f"{file.name} holds no radiance field; `neurcomp info` says what it holds")
    found = [i for i, r in enumerate(records) if name in (None, r.name)]
    if not found:
        names = ", ".join(f"'{r.name}'" for r in records)
        raise InputError(f"{file.name} has no radiance field '{name}'; it has: {names}")
    record, codec = records[found[0]], radiance_codec_by_id(records[found[0]].codec)
    encoded = Encoded(record.params, file.radiance_sections(found[0]))
    try:
        # Values that a damaged stream decodes to may be too large for a float.
        with np.errstate(over="ignore", invalid="ignore"):
            decode = codec.decode_to_render if to_render else codec.decode
            model = decode(encoded, context or Context())
        return _volume(record, model)
    except FormatError as error:
        where = f"{file.name}: "
        raise FormatError(str(error) if str(error).startswith(where) else where + str(error)) from error


def holds_radiance(source: Source) -> bool:
    """Whether a file holds radiance fields; FormatError or InputError if it is none or cannot be read."""
    file = source if isinstance(source, Container) else Container(source)
    return bool(file.header.radiance)


def same_model(a: RadianceModel, b: RadianceModel) -> bool:
    """Whether two models agree to the bit, rows of sparse grids taken in the order of their voxels."""
    return _numbers(a) == _numbers(b)


def _encoded(
    volume: RadianceVolume, codec: RadianceCodec, target: Target | None, budget: int | None, context: RadianceContext
) -> tuple[RadianceEncoded, bytes]:
    """Stream and file, which keeps to the budget."""
    if budget is None:
        encoded = codec.encode(volume, target, context)
        return encoded, _file(volume, codec, encoded, 1.0)
    frame = len(_file(volume, codec, RadianceEncoded(b"", ()), 1.0)) + _SPARE
    room = max(budget - frame, 1)
    for _ in range(_TRIES):
        try:
            encoded = codec.encode(volume, Bytes(room), context)
        except TargetError as error:
            least = None if error.reachable is None else error.reachable + frame
            figures = "" if least is None else f"; {least:.0f} bytes can, a ratio of {volume.nbytes / least:.2f}"
            raise TargetError(f"{target} cannot be reached with codec {codec.name}{figures}", least) from error
        data = _file(volume, codec, encoded, 1.0)
        if len(data) <= budget:
            return encoded, data
        room -= len(data) - budget
    raise TargetError(f"{target} cannot be kept by codec {codec.name}: its file has {len(data)} bytes", len(data))


def _file(volume: RadianceVolume, codec: RadianceCodec, encoded: Encoded, psnr: float | None) -> bytes:
    box = () if hasattr(volume.model, "box") else tuple(np.asarray(volume.box, np.float64).ravel().tolist())
    record = RadianceRecord(
        tuple(len(s) for s in encoded.sections),
        volume.name,
        codec.id,
        encoded.params,
        SCENES.index(volume.scene),
        float(volume.near),
        float(volume.far),
        tuple(map(float, volume.background[: 1 if len(set(volume.background)) == 1 else 3])),
        box,
        None if psnr is None else float(np.float32(psnr)),
        volume.nbytes,
    )
    return container.dumps(Header(radiance=(record,)), encoded.sections)


def _volume(record: RadianceRecord, model: RadianceModel | SharedModel) -> RadianceVolume:
    box = np.array(record.box).reshape(2, 3) if record.box else getattr(model, "box", None)
    if box is None:
        raise FormatError(f"radiance field '{record.name}' has no box; the file is damaged")
    r, g, b = record.background * 3 if len(record.background) == 1 else record.background
    given: Any = model  # a shared one is for rendering alone
    return RadianceVolume(
        given, box, SCENES[record.scene], record.near, record.far, (r, g, b), record.name, record.psnr
    )  # fmt: skip


def _psnr(volume: RadianceVolume, images: PosedImages, context: Context) -> float:
    from neurcomp_core.radiance.evaluation import mean_psnr

    return mean_psnr(volume, images, place=Place.of(context.device, context.backend))


def _with_images(context: Context) -> RadianceContext:
    return RadianceContext(
        context.device,
        context.threads,
        context.seed,
        context.progress,
        checkpoint=context.checkpoint,
        backend=context.backend,
    )


def _numbers(model: RadianceModel) -> list[bytes]:
    from neurcomp_core.radiance.grids import EMPTY, SparseGrid
    from neurcomp_core.radiance.imports.dvgo import DvgoModel

    def grid(links: np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
        keep = links != EMPTY
        return [np.array(keep.shape), keep, *(v[links[keep]].astype(np.float32) for v in values)]

    if isinstance(model, SparseGrid):
        far = model.background
        arrays = grid(model.links, model.density, model.sh) + [model.box]
        arrays += [] if far is None else grid(far.links, far.data)
    elif isinstance(model, DvgoModel):
        head = np.array([model.shift, model.unit, model.frequencies, model.direct], np.float64)
        arrays = [np.array(model.features.shape), model.density, model.features, model.box, head]
        arrays += [t for layer in model.layers for t in layer]
        arrays += [] if model.mask is None else [np.array(model.mask.shape), model.mask]
    else:
        mlps = [mlp for mlp in (model.coarse, model.fine) if mlp is not None]
        arrays = [t for mlp in mlps for layer in mlp.layers for t in (layer.weight, layer.bias)]
    return [np.ascontiguousarray(a).tobytes() for a in arrays]
