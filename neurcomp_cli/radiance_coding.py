"""How `neurcomp radiance train` and `import` write a field: options of the codec, the file, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from neurcomp_cli import options, report
from neurcomp_core.errors import InputError
from neurcomp_core.files import atomic_write
from neurcomp_core.radiance.codec import RadianceCodec, RadianceContext, codec_of, radiance_codec_by_name
from neurcomp_core.radiance.volume import RadianceVolume
from neurcomp_core.target import Bytes, PsnrLoss, Ratio, Target

_PANEL = "Codec"

CodecName = Annotated[
    str | None,
    typer.Option(
        "--codec", metavar="NAME", help="By default that of the model; vqrf is smaller.", rich_help_panel=_PANEL
    ),
]
CodecPreset = Annotated[
    str | None, typer.Option("--codec-preset", metavar="NAME", help="Preset of the codec.", rich_help_panel=_PANEL)
]
CodecSettings = Annotated[
    list[str] | None,
    typer.Option("--codec-set", metavar="KEY=VALUE", help="Codec parameter; repeatable.", rich_help_panel=_PANEL),
]
Size = Annotated[
    int | None, typer.Option("--bytes", metavar="N", help="Target: bytes of the file.", rich_help_panel=_PANEL)
]
RatioOption = Annotated[
    float | None,
    typer.Option(
        "--ratio", metavar="RATIO", help="Target: bytes of the model / bytes of the file.", rich_help_panel=_PANEL
    ),
]
LossOption = Annotated[
    float | None,
    typer.Option(
        "--psnr-loss", metavar="DB", help="Target: at most so much worse on unseen views.", rich_help_panel=_PANEL
    ),
]


@dataclass(frozen=True)
class Coding:
    """What to write a field with; without a codec's name, the model's own."""

    codec: str | None
    preset: str | None
    settings: tuple[str, ...]
    target: Target | None

    @classmethod
    def of(
        cls,
        codec: str | None,
        preset: str | None,
        settings: list[str] | None,
        size: int | None,
        ratio: float | None,
        psnr_loss: float | None,
    ) -> Coding:
        """From a command's options.

        Raises
        ------
        InputError
            If there are several targets, no such codec, or it has no such preset or parameter.
        """
        given = [
            (name, kind, value)
            for name, kind, value in (
                ("--bytes", Bytes, size), ("--ratio", Ratio, ratio), ("--psnr-loss", PsnrLoss, psnr_loss)
            )
            if value is not None
        ]  # fmt: skip
        if len(given) > 1:
            raise InputError(f"give at most one target, got {' and '.join(name for name, _, _ in given)}")
        target = None if not given else given[0][1](given[0][2])
        made = cls(codec, preset, tuple(settings or ()), target)
        if codec is not None:
            made._made(radiance_codec_by_name(codec))
        elif preset is not None or settings:
            raise InputError("--codec-preset and --codec-set need --codec NAME")
        return made

    def write(self, volume: RadianceVolume, out: Path, context: RadianceContext) -> dict[str, Any]:
        """Compress a field into a file; what became of it, for `show` and for programs."""
        from neurcomp_core.radiance import files

        codec = self._made(codec_of(volume) if self.codec is None else radiance_codec_by_name(self.codec))
        found = files.compress(replace(volume, name=out.stem), codec, self.target, context)
        atomic_write(out, found.data)
        stages = [{"name": s.name, "bytes": s.nbytes, "parts": dict(s.parts), "psnr": s.psnr} for s in found.stages]
        return {
            "output": str(out),
            "codec": found.codec,
            "model_bytes": found.raw_bytes,
            "file_bytes": found.nbytes,
            "ratio": found.ratio,
            "psnr": found.psnr,
            "psnr_before": found.psnr_before,
            "unseen_views": 0 if context.unseen is None else len(context.unseen),
            "lossless": found.lossless,
            "stages": stages,
        }

    def _made(self, codec: type[RadianceCodec]) -> RadianceCodec:
        hints = get_type_hints(codec)
        known = {f.name: hints[f.name] for f in fields(codec)}
        given = options.settings_in(known, f"codec {codec.name}", self.settings, "--codec-set")
        return codec.from_preset(self.preset or "balanced", **given)


def show(record: Mapping[str, Any]) -> None:
    """Tell people what `Coding.write` did."""
    stages = record["stages"]
    if len(stages) > 1:
        rows = [(s["name"], report.whole(s["bytes"]), _decibels(s["psnr"])) for s in stages]
        report.table(("stage", "bytes", "PSNR dB"), rows, left=1)
    if record["psnr_before"] is not None:
        change = "lossless" if record["lossless"] else f"{record['psnr_before']:.2f} dB before compression"
        views = record["unseen_views"]
        report.line(f"PSNR {record['psnr']:.2f} dB, mean of {views} unseen view{'s' if views > 1 else ''} ({change})")
    report.line(
        f"{record['output']}: {report.whole(record['file_bytes'])} bytes of {report.whole(record['model_bytes'])}, "
        f"ratio {report.number(record['ratio'])}, codec {record['codec']}"
    )


def _decibels(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
