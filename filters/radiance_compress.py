"""Radiance Compress: a radiance field in, what a file of it decodes to out, with the figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from vtkmodules.vtkCommonDataModel import vtkDataSet, vtkImageData

from neurcomp_core import threads
from neurcomp_core.errors import InputError
from neurcomp_core.field import Field, UniformGrid
from neurcomp_core.files import atomic_write, checked_path
from neurcomp_core.progress import Progress
from neurcomp_core.radiance.codec import RadianceCodec, RadianceContext, codec_of, radiance_registry
from neurcomp_core.radiance.codec import radiance_codec_by_name as by_name
from neurcomp_core.radiance.export import COLOR, DENSITY
from neurcomp_core.radiance.volume import RadianceVolume
from neurcomp_core.target import Bytes, PsnrLoss, Ratio, Target
from neurcomp_filters import radiance_file
from neurcomp_filters.bridge import geometry_from_vtk, vtk_from_fields
from neurcomp_filters.figures import Figures, add_figures
from neurcomp_filters.radiance_image import rgba
from neurcomp_filters.radiance_input import RadianceInput
from neurcomp_filters.settings import parameters_in
from neurcomp_filters.tables import table

AUTO = "auto"
#: Kinds of target in the order of `SetTargetKind`, as a user reads them; the first leaves it to the preset.
TARGETS: tuple[tuple[type[Target] | None, str], ...] = (
    (None, "Preset's Own"),
    (Ratio, "Compression Ratio"),
    (Bytes, "File Size"),
    (PsnrLoss, "PSNR Loss"),
)
DEFAULTS: dict[type[Target], float] = {Ratio: 50.0, Bytes: 1_000_000, PsnrLoss: 0.2}
# Pictures by which a result is judged.
_SIZE = (200, 200)


def codec_choices() -> list[str]:
    """What a user may ask for: the codec that keeps the kind of model, and all."""
    return [AUTO, *sorted(radiance_registry(), key=lambda name: by_name(name).id)]


def preset_names() -> list[str]:
    """Presets that any codec has, the default first."""
    found = dict.fromkeys(["balanced"])
    for codec in radiance_registry().values():
        found.update(dict.fromkeys(codec.presets))
    return list(found)


class RadianceCompress(RadianceInput):
    """Compress a radiance field and show what comes back.

    The input is that of `RadianceRender`. The first output has density, colour and the colours of a volume mapper,
    decoded from the very bytes of the file, which it carries: `RadianceRender` then renders what was decoded, and
    `NvcWriter` writes the file. Its field data have bytes, ratio, and the PSNR (peak 1, mean over views from a circle)
    of pictures of the decoded field against those of the original. The second output is a table: what each step of the
    codec left of each part, in bytes.

    With the images that the field was trained on, codecs that can fine-tune it on them, and PSNR is that of pictures
    against photographs which are not for training.

    Examples
    --------
    >>> compressor = RadianceCompress()
    >>> compressor.SetInputConnection(reader.GetOutputPort())
    >>> compressor.SetCodec("plenoxels")
    >>> compressor.Update()
    """

    def __init__(self) -> None:
        super().__init__(nOutputPorts=2, outputType="vtkImageData")
        self._kind = 0
        self._values = dict(DEFAULTS)
        self._codec, self._preset, self._parameters = AUTO, "balanced", ""
        self._images, self._downscale = "", 1.0
        self._views = 4
        self._device, self._seed = "auto", 0
        self._file_name = ""

    def FillOutputPortInformation(self, port: int, info: Any) -> int:
        info.Set(vtkImageData.DATA_TYPE_NAME(), ("vtkImageData", "vtkTable")[port])
        return 1

    def SetTargetKind(self, kind: int) -> None:
        """Index into `TARGETS`."""
        self._set(_kind=int(kind))

    def SetRatio(self, value: float) -> None:
        """Bytes of the uncompressed model over the file's."""
        self._set(_values=self._values | {Ratio: float(value)})

    def SetFileSize(self, value: float) -> None:
        self._set(_values=self._values | {Bytes: float(value)})

    def SetCodec(self, name: str) -> None:
        """One of `codec_choices`."""
        self._set(_codec=str(name))

    def SetPreset(self, name: str) -> None:
        self._set(_preset=str(name))

    def SetPSNRLoss(self, value: float) -> None:
        """In dB, of pictures against unseen photographs."""
        self._set(_values=self._values | {PsnrLoss: float(value)})

    def SetCodecParameters(self, text: str) -> None:
        """``name=value`` pairs, separated by blanks or commas."""
        self._set(_parameters=str(text or ""))

    def SetImagesFolder(self, path: str | None) -> None:
        """Posed images that the field was trained on, as `loaders.load` reads them; none if empty."""
        self._set(_images=str(path or ""))

    def SetDownscale(self, factor: float) -> None:
        """Makes the images so many times smaller."""
        self._set(_downscale=float(factor))

    def SetViews(self, count: int) -> None:
        """How many pictures the result is judged by; 0 for none."""
        self._set(_views=int(count))

    def SetDevice(self, name: str) -> None:
        """``auto``, ``cpu`` or ``cuda``."""
        self._set(_device=str(name))

    def SetSeed(self, seed: int) -> None:
        self._set(_seed=int(seed))

    def SetFileName(self, name: str | None) -> None:
        """A ``.nvc`` to write each time the filter runs; none if empty."""
        self._set(_file_name=str(name or ""))

    # ...................................................................................................... pipeline

    def RequestData(self, request: Any, inInfo: Any, outInfo: Any) -> int:
        source = self.GetInputData(inInfo, 0, 0)
        outputs = [self.GetOutputData(outInfo, port) for port in range(2)]
        self._guarded((source.GetMTime(),), outputs, lambda: self._compress(source, *outputs))
        return 1

    # .......................................................................................................... work

    def _compress(self, source: vtkDataSet, image: vtkImageData, steps: Any) -> None:
        from neurcomp_core.radiance import evaluation, export, files

        if self._file_name:
            checked_path(self._file_name)
        parts = self.parts(source)
        if not parts:
            image.Initialize()
            steps.Initialize()
            return
        progress = self._progress(self._time_limit)
        context = RadianceContext(self._device, self.threads(), self._seed, progress.part(0.0, 0.7))
        with threads.limit(self.threads()):
            volume, rotation = self.field(parts, context)
            if not np.allclose(rotation, np.eye(3), atol=1e-9):
                raise InputError("the image's axes are rotated: apply Resample To Image before compressing it")
            context = self._with_images(context, volume)
            made = files.compress(volume, self._chosen(volume), self._target(), context)
            psnr = self._judged(volume, made.volume, progress.part(0.7, 1.0)) if made.psnr is None else made.psnr
            fields = export.fields(evaluation.field_of(made.volume), _resolution(made.volume, source))
        fields = _on(source, [*fields, rgba(*(next(f for f in fields if f.name == n) for n in (DENSITY, COLOR)))])
        image.ShallowCopy(vtk_from_fields(fields))
        radiance_file.note_alpha(image, fields[-1])
        radiance_file.remember(image, made.data, fields)
        count = int(np.prod(fields[0].values.shape))
        add_figures(
            image, [Figures(volume.name, made.codec, count, made.raw_bytes, made.nbytes, psnr, seconds=made.seconds)]
        )
        kinds = list(dict.fromkeys(kind for stage in made.stages for kind in stage.parts))
        columns: dict[str, list] = {"stage": [s.name for s in made.stages], "bytes": [s.nbytes for s in made.stages]}
        for kind in kinds:
            columns[kind] = [s.parts.get(kind, 0) for s in made.stages]
        columns["PSNR (dB)"] = [float("nan") if s.psnr is None else s.psnr for s in made.stages]
        steps.ShallowCopy(table(columns))
        if self._file_name:
            atomic_write(self._file_name, made.data)

    def _chosen(self, volume: RadianceVolume) -> RadianceCodec:
        codec = codec_of(volume) if self._codec == AUTO else by_name(self._codec)
        return codec.from_preset(self._preset, **parameters_in(codec, self._parameters.replace(",", " ").split()))

    def _target(self) -> Target | None:
        if not 0 <= self._kind < len(TARGETS):
            raise InputError(f"target kind: expected 0 to {len(TARGETS) - 1}, got {self._kind}")
        kind = TARGETS[self._kind][0]
        if kind is PsnrLoss and not self._images:
            raise InputError("a loss of PSNR is measured on photographs: give the folder of the field's images")
        return None if kind is None else kind(self._values[kind])

    def _with_images(self, context: RadianceContext, volume: RadianceVolume) -> RadianceContext:
        """Where there are any, and so many unseen ones as there shall be views."""
        from neurcomp_core.radiance import evaluation, loaders

        if not self._images:
            return context
        data = loaders.load(self._images, downscale=self._downscale, background=volume.background)
        data = evaluation.checked(volume, data)
        unseen = evaluation.unseen(data) if self._views and {"test", "val"} & set(data.splits) else None
        return replace(
            context,
            views=data.split("train") if "train" in data.splits else None,
            unseen=unseen.take(evaluation.spread(self._views, len(unseen))) if unseen else None,
        )

    def _judged(self, volume: RadianceVolume, decoded: RadianceVolume, progress: Progress) -> float:
        """Mean PSNR of pictures of the decoded field against those of the original; NaN if none are asked for."""
        from neurcomp_core.radiance import evaluation, viewpoints
        from neurcomp_core.radiance.rendering import quality

        if self._views < 1 or volume.scene == "forward-facing":
            return float("nan")
        views = viewpoints.along(volume, "circle", self._views, _SIZE)
        found = []
        for i in range(self._views):
            part = progress.part(i / self._views, (i + 1) / self._views)
            before, after = (
                evaluation.render_of(evaluation.field_of(v), views, i, part)[0].color for v in (volume, decoded)
            )
            found.append(quality.psnr(after, before))
        return float(np.mean(found))


def _resolution(volume: RadianceVolume, source: vtkDataSet) -> int | None:
    """That of an image that was made of a field with a resolution of its own choice; None for the field's own."""
    longest = max(geometry_from_vtk(source).dimensions)
    links = getattr(volume.model, "links", None)
    return None if links is not None and max(links.shape) == longest else longest


def _on(source: vtkDataSet, fields: list[Field]) -> list[Field]:
    """The fields on the very grid of the input if they have its size: extents need not begin at zero."""
    grid = geometry_from_vtk(source)
    own = fields[0].geometry
    same = isinstance(grid, UniformGrid) and grid.dimensions == own.dimensions
    return [replace(f, geometry=grid) for f in fields] if same and _close(grid, own) else fields


def _close(a: Any, b: Any) -> bool:
    """Whether the first samples of two grids of one size are at one place, and so are their last."""
    places = [[np.array(g.origin) + np.array(g.extent[i::2]) * np.array(g.spacing) for i in (0, 1)] for g in (a, b)]
    return bool(np.allclose(places[0], places[1], atol=1e-6 * max(a.spacing)))
