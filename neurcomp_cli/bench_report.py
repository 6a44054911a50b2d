"""What a benchmark's table says, as tables and plots: `neurcomp bench report`."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurcomp_cli import bench_pictures, bench_table
from neurcomp_cli.bench_document import Block, Heading, Paragraph, Picture, Table
from neurcomp_cli.bench_table import Row
from neurcomp_core import analysis, metrics, plots, savings
from neurcomp_core.errors import InputError
from neurcomp_core.field import Field
from neurcomp_core.pipeline import decompress
from neurcomp_core.plots import Curve, Panel, Speed
from neurcomp_core.savings import Saving

_NOTE = (
    "Bytes are those of the whole file. PSNR = 20 log10((max - min) / RMSE) over valid samples of the original, in its "
    "own type. SSIM: windows of 7 samples per axis. Seconds count from libraries loaded and kernels compiled; encoding "
    "includes the decoding that checks the target. Peak memory is that of the whole process of one compression and "
    "decompression."
)
#: Compression ratio that pictures are drawn near, where equally many codecs have files of several sizes.
_RATIO = 100.0
#: Codecs in a picture.
_MOST = 6


@dataclass(frozen=True, order=True)
class _Line:
    """One codec and preset."""

    codec: str
    preset: str


@dataclass(frozen=True, eq=False)
class _Results:
    """Rows with a result by volume and by codec and preset."""

    rows: Sequence[Row]
    names: Mapping[_Line, str]

    @property
    def volumes(self) -> list[str]:
        return list(dict.fromkeys(row["volume"] for row in self.rows))

    @property
    def lines(self) -> list[_Line]:
        return list(self.names)

    def of(self, line: _Line, volume: str | None = None) -> list[Row]:
        """Rows of a codec and preset, on one volume or on all."""
        return [r for r in self.rows if _line(r) == line and volume in (None, r["volume"])]


def build(
    rows: Sequence[Row], folder: Path, original: Callable[[str], Field | None], kept: Callable[[Row], Path | None],
    told: Callable[[float, str], None] = lambda fraction, text: None,
) -> list[Block]:  # fmt: skip
    """Draw plots and pictures into `folder` and put the document together.

    Parameters
    ----------
    rows : sequence of dict
        Of a table, see `bench_table`.
    folder : Path
    original : callable
        The volume of a name, or None where it is not at hand.
    kept : callable
        The compressed file of a row, or None.
    told : callable, optional
        Called with a fraction and a text as work goes on.

    Raises
    ------
    InputError
        If no row has a result.
    """
    good = [row for row in rows if row["status"] == bench_table.OK]
    if not good:
        raise InputError("the table has no measurement that succeeded; there is nothing to report")
    results = _Results(good, _names(good))
    blocks: list[Block] = [Heading(1, "Benchmark of volume codecs"), *_about(rows, good), Paragraph(_NOTE)]
    told(0.0, "savings and speed")
    blocks += _rates(results, folder)
    blocks += _savings(results, folder)
    blocks += _speed(results, folder)
    for i, volume in enumerate(results.volumes):
        told(i / len(results.volumes), volume)
        blocks += _volume(results, volume, folder, original, kept)
    return blocks + _failures(rows)


def _about(rows: Sequence[Row], good: Sequence[Row]) -> list[Block]:
    libraries = sorted({part for row in good for part in row["libraries"].split("; ") if part})
    facts = (
        ("Measurements", f"{len(good)} of {len(rows)} succeeded"),
        ("Date", " to ".join(sorted({min(r["date"] for r in good), max(r["date"] for r in good)}))),
        ("Machine", "; ".join(sorted({row["machine"] for row in good}))),
        ("Threads", ", ".join(sorted({row["threads"] for row in good}))),
        ("Versions", "; ".join([*(f"neurcomp {v}" for v in sorted({r["neurcomp"] for r in good})), *libraries])),
    )
    return [Table(("", ""), facts, left=2)]


# --------------------------------------------------------------------------------------------------- all volumes


def _rates(results: _Results, folder: Path) -> list[Block]:
    """PSNR over compression ratio, a panel of each volume; nothing of one volume, which has its own plot."""
    if len(results.volumes) < 2:
        return []
    shown = [
        Panel(
            [
                Curve(line.codec, [(_ratio(r), _number(r["psnr_db"])) for r in results.of(line, volume)],
                      line.preset, name)
                for line, name in results.names.items()
            ],
            "compression ratio", "PSNR (dB)", volume, log_x=True,
        )
        for volume in results.volumes
    ]  # fmt: skip
    plots.panels(shown, folder / "rates.png")
    return [Heading(2, "Rate and distortion"), Picture("rates.png", "PSNR over compression ratio of each volume")]


def _savings(results: _Results, folder: Path) -> list[Block]:
    title: list[Block] = [Heading(2, "Bytes against the best peer at equal PSNR")]
    subjects = [line for line in results.lines if line.codec not in savings.PEERS]
    found: dict[_Line, dict[str, Saving]] = {}
    for line in subjects:
        for volume in results.volumes:
            curves = {p: _curve(results, volume, p) for p in savings.PEERS}
            curves = {p: points for p, points in curves.items() if points}
            mine = [_point(r) for r in results.of(line, volume)]
            if curves and mine:
                saved = savings.saving({**curves, line.codec: mine}, line.codec)
                if not math.isnan(saved.mean):
                    found.setdefault(line, {})[volume] = saved
    if not found:
        peers = ", ".join(savings.PEERS)
        return [*title, Paragraph(f"Not to be had: that takes a codec and one of its peers ({peers}) on one volume, "
                                  f"both with points between {savings.LOW:g} and {savings.HIGH:g} dB.")]  # fmt: skip
    curves = []
    for line, by_volume in found.items():
        name = results.names[line]
        for saved in by_volume.values():
            points = list(zip(saved.psnr, 100 * saved.relative, strict=True))
            curves.append(Curve(line.codec, points, line.preset, "", thin=True))
        curves.append(Curve(line.codec, _mean_saving(list(by_volume.values())), line.preset, name))
    file = "savings.png"
    y = "bytes against the best peer (%)"
    title_of = "Below 0 a codec's files are smaller. Thick: mean of the volumes; thin: each volume"
    plots.panels([Panel(curves, "PSNR (dB)", y, zero=True)], folder / file, title_of)
    heads = ["volume", *(results.names[line] for line in found), "best peer"]
    table = []
    for volume in results.volumes:
        by_line = [found[line].get(volume) for line in found]
        if any(by_line):
            known = next(s for s in by_line if s)
            best = [name for name, there in zip(known.best, known.relative, strict=True) if not math.isnan(there)]
            table.append([volume, *(_percent(s.mean) if s else "" for s in by_line), _often(best)])
    table.append(["mean", *(_percent(savings.average(list(s.values()))) for s in found.values()), ""])
    text = (
        f"Mean over {savings.LOW:g} to {savings.HIGH:g} dB of a codec's bytes over those of whichever of "
        f"{', '.join(savings.PEERS)} is smallest there, less 1; negative is smaller. Where either does not reach a "
        "PSNR there is nothing to compare."
    )
    return [*title, Paragraph(text), Table(heads, table), Picture(file, "Bytes against the best peer over PSNR")]


def _curve(results: _Results, volume: str, codec: str) -> list[savings.Point]:
    return [_point(r) for line in results.lines if line.codec == codec for r in results.of(line, volume)]


def _mean_saving(found: Sequence[Saving]) -> list[tuple[float, float]]:
    """Geometric mean over the volumes at each PSNR that all of them have, so that the line has no steps."""
    logs = np.log1p([s.relative for s in found])
    known = ~np.isnan(logs).any(axis=0)
    return list(zip(found[0].psnr[known], 100 * np.expm1(logs[:, known].mean(axis=0)), strict=True))


def _speed(results: _Results, folder: Path) -> list[Block]:
    shown, table = [], []
    for line, name in results.names.items():
        rows = results.of(line)
        encode, decode = (
            [float(r["raw_bytes"]) / 1e6 / max(float(r[column]), 1e-4) for r in rows if r[column]]
            for column in ("encode_s", "decode_s")
        )
        shown.append(Speed(line.codec, name, encode, decode))
        peaks = [float(r["peak_mib"]) for r in rows if r["peak_mib"]]
        table.append([name, *(f"{statistics.median(v):.3g}" if v else "" for v in (encode, decode)),
                      f"{max(peaks):.0f}" if peaks else ""])  # fmt: skip
    plots.speeds(shown, folder / "speed.png")
    heads = ("codec", "encode MB/s", "decode MB/s", "largest peak MiB")
    return [Heading(2, "Speed"), Paragraph("Medians over all volumes and targets; MB are raw data."),
            Table(heads, table), Picture("speed.png", "Encoding and decoding speed")]  # fmt: skip


def _failures(rows: Sequence[Row]) -> list[Block]:
    failed = [row for row in rows if row["status"] != bench_table.OK]
    if not failed:
        return []
    cells = [(r["volume"], r["codec"], r["preset"], f"{r['target']} {r['value']}", r["status"]) for r in failed]
    return [Heading(2, "What failed"), Table(("volume", "codec", "preset", "target", "why"), cells, left=5)]


# ---------------------------------------------------------------------------------------------------- one volume


def _volume(
    results: _Results, volume: str, folder: Path, original: Callable[[str], Field | None],
    kept: Callable[[Row], Path | None],
) -> list[Block]:  # fmt: skip
    rows = [row for row in results.rows if row["volume"] == volume]
    stem = re.sub(r"[^\w.@-]", "_", volume)
    first = rows[0]
    blocks: list[Block] = [
        Heading(2, volume),
        Paragraph(f"{first['shape'].replace('x', ' × ')} {first['dtype']}, {int(first['raw_bytes']):,} bytes"),
    ]

    def curves(column: str) -> list[Curve]:
        return [
            Curve(line.codec, [(float(r["bits_per_voxel"]), _number(r[column])) for r in results.of(line, volume)],
                  line.preset, name)
            for line, name in results.names.items()
        ]  # fmt: skip

    rate = "bits per voxel"
    plots.panels([Panel(curves("psnr_db"), rate, "PSNR (dB)", log_x=True)], folder / f"{stem}-rate.png")
    blocks.append(Picture(f"{stem}-rate.png", f"PSNR over bits per voxel, {volume}"))
    seen = [
        Panel(curves(column), rate, y, title, log_x=True, log_y=True)
        for column, y, title in (
            ("gradient_error", "relative RMS error", "Gradients"),
            ("isosurface_mean", "mean distance (samples)", "Isosurfaces"),
            ("spectrum_error_db", "mean |difference| (dB)", "Power spectrum"),
        )
        if any(row[column] for row in rows)
    ]
    if any(math.isfinite(y) and y > 0 for panel in seen for curve in panel.curves for _, y in curve.points):
        plots.panels(seen, folder / f"{stem}-analysis.png")
        blocks.append(Picture(f"{stem}-analysis.png", f"Errors of gradients, isosurfaces and spectrum, {volume}"))
    blocks += _pictures(_equal(results, volume, kept), volume, stem, folder, original)
    cells = [
        (r["codec"], r["preset"], f"{r['target']} {r['value']}", f"{int(r['bytes']):,}",
         f"{_ratio(r):.4g}", f"{float(r['bits_per_voxel']):.4g}",
         _decibels(r["psnr_db"]), _short(r["max_error"]), _short(r["ssim"]), _short(r["gradient_error"]),
         _short(r["isosurface_mean"]), _short(r["spectrum_error_db"]), _short(r["encode_s"], 3),
         _short(r["decode_s"], 3), _short(r["peak_mib"]))
        for r in sorted(rows, key=lambda r: (_line(r), int(r["bytes"])))
    ]  # fmt: skip
    heads = ("codec", "preset", "target", "bytes", "ratio", "bits/voxel", "PSNR dB", "max error", "SSIM", "gradient",
             "isosurface", "spectrum dB", "encode s", "decode s", "peak MiB")  # fmt: skip
    return [*blocks, Table(heads, cells, left=3)]


def _equal(results: _Results, volume: str, kept: Callable[[Row], Path | None]) -> list[tuple[Row, Path]]:
    """A row of each codec whose file is at hand, all of about one size."""
    choices: dict[str, list[tuple[Row, Path]]] = {}
    for line in sorted(results.lines, key=lambda line: line.preset != "balanced"):
        found = [(row, path) for row in results.of(line, volume) if (path := kept(row)) is not None]
        if found:
            choices.setdefault(line.codec, found)
    if not choices:
        return []

    def distance(row: Row, size: float) -> float:
        return abs(math.log(float(row["bytes"]) / size))

    def spread(size: float) -> float:
        wanted = float(next(iter(choices.values()))[0][0]["raw_bytes"]) / _RATIO
        apart = max(min(distance(row, size) for row, _ in found) for found in choices.values())
        # A file of 97 % of a budget is as good as one of 100 %.
        return max(apart, 0.05) + 0.02 * abs(math.log(size / wanted))

    size = min((float(row["bytes"]) for found in choices.values() for row, _ in found), key=spread)
    chosen = [min(found, key=lambda item: distance(item[0], size)) for found in choices.values()]
    return chosen[:_MOST]


def _pictures(
    chosen: Sequence[tuple[Row, Path]], volume: str, stem: str, folder: Path, original: Callable[[str], Field | None]
) -> list[Block]:
    field = original(volume) if chosen else None
    if field is None:
        return []
    shown, spectra = [], [Curve("original", _spectrum(field), label="original")]
    for row, path in chosen:
        (decoded,) = decompress(path)
        title = f"{row['codec']}, {_ratio(row):.3g}:1, {_decibels(row['psnr_db'])} dB"
        shown.append(bench_pictures.Shown(title, decoded))
        spectra.append(Curve(row["codec"], _spectrum(decoded), row["preset"]))
    kind = bench_pictures.draw(field, shown, folder / f"{stem}-picture.png")
    x, y = "frequency (cycles per sample)", "mean power of a mode"
    plots.panels([Panel(spectra, x, y, log_x=True, log_y=True)], folder / f"{stem}-spectra.png")
    what = "Renderings" if kind == "rendering" else "Middle slices"
    sizes = [int(row["bytes"]) for row, _ in chosen]
    between = f"{min(sizes):,} to {max(sizes):,} bytes" if min(sizes) < max(sizes) else f"{sizes[0]:,} bytes"
    return [
        Paragraph(f"{what} and power spectra of files of about one size, {between}. All have one camera and one "
                  "transfer function; errors have one scale of their own."),
        Picture(f"{stem}-picture.png", f"Original, reconstructions and errors, {volume}"),
        Picture(f"{stem}-spectra.png", f"Radially averaged power spectra, {volume}"),
    ]  # fmt: skip


def _spectrum(field: Field) -> list[tuple[float, float]]:
    found = analysis.power_spectrum(field.values, field.mask)
    return list(zip(found.frequency.tolist(), found.power.tolist(), strict=True))


# ------------------------------------------------------------------------------------------------------- figures


def _line(row: Row) -> _Line:
    return _Line(row["codec"], row["preset"])


def _names(rows: Sequence[Row]) -> dict[_Line, str]:
    """What to call each codec and preset, `balanced` going without saying; ours first, then the peers."""
    lines = sorted({_line(row) for row in rows}, key=lambda line: (line.codec in savings.PEERS, line))
    many = {line.codec for line in lines if sum(other.codec == line.codec for other in lines) > 1}
    many |= {line.codec for line in lines if line.preset != "balanced"}
    return {line: f"{line.codec} {line.preset}" if line.codec in many else line.codec for line in lines}


def _point(row: Row) -> savings.Point:
    return float(row["psnr_db"]), float(row["bytes"])


def _ratio(row: Row) -> float:
    return metrics.ratio(int(row["raw_bytes"]), int(row["bytes"]))


def _number(text: str) -> float:
    return float(text) if text else float("nan")


def _short(text: str, digits: int = 4) -> str:
    return f"{float(text):.{digits}g}" if text else ""


def _decibels(text: str) -> str:
    return "lossless" if text == "inf" else f"{float(text):.2f}"


def _percent(share: float) -> str:
    return f"{100 * share:+.1f} %"


def _often(names: Sequence[str]) -> str:
    """Names with the share of their occurrences, most frequent first."""
    counts = sorted(((names.count(name), name) for name in set(names)), reverse=True)
    return ", ".join(f"{name} {100 * count / len(names):.0f} %" for count, name in counts)
