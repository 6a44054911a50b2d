"""Remedies against the artefacts of hash grids at high ratios, each on and off, at equal file bytes.

    python benchmarks/artefacts.py [--data FOLDER] [--volumes a,b] [--ratio 500] [--steps N] [--seeds 0,1,2]
        [--remedies none,gradient,tv+smoothstep] [--threads N] [--cache FOLDER] [--picture FILE.png]

FOLDER holds .npy volumes (z, y, x); without --volumes the project's generated flow is taken. A remedy is a setting of
the codec `hashgrid` (see `REMEDIES`); names joined by + go together. Files of a volume take 97 to 100 % of the same
bytes, all counted. PSNR and SSIM are those of `neurcomp_core.metrics`; the gradient's error is the RMS of the
difference of central differences, over the RMS of the original's (`analysis.gradient_error`). A row is the mean over
seeds; the row "±" is half of what seeds make of a row, averaged over the rows: less than it means nothing. "bytes at
equal PSNR" follow from PSNR and the slope of the row without remedies between the ratio and twice the ratio.

Files are kept in the cache: a stopped run goes on where it was; other steps or threads are other files. The picture
shows, for the first seed, a part of the middle slice, its error, and a surface of equal value lit from the viewer's
side.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe

from neurcomp_core import analysis, metrics
from neurcomp_core.codec import Context
from neurcomp_core.codecs.hashgrid import HashGrid
from neurcomp_core.field import Field
from neurcomp_core.files import atomic_path, atomic_write
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.samples import taylor_green
from neurcomp_core.target import Ratio

FLOW, NONE = "flow", "none"
#: Settings by the remedy's name.
REMEDIES: dict[str, dict[str, Any]] = {
    NONE: {},
    "gradient": {"gradient": 0.5},
    "smoothstep": {"interpolation": "smoothstep"},
    "tv": {"tv": 3e-6},
    "load": {"max_load": 4.0},
}
Row = dict[str, float]


@dataclass(frozen=True)
class Runs:
    """Files of one kind of run, and their figures."""

    folder: Path
    steps: int
    context: Context

    def path(self, field: Field, remedy: str, ratio: float, seed: int) -> Path:
        """Of the file."""
        # Settings are part of the name: another weight is another file.
        settings = "_".join(f"{k}-{v}" for k, v in settings_of(remedy).items()) or NONE
        shape = "x".join(map(str, field.values.shape))
        name = f"{field.name}-{shape}-{ratio:g}-{settings}-{self.steps}-{self.context.threads}-{seed}"
        return self.folder / f"{name}.nvc"

    def row(self, field: Field, remedy: str, ratio: float, seed: int) -> Row:
        """Figures of a file, which is made if it is not there."""
        path = self.path(field, remedy, ratio, seed)
        figures = path.with_suffix(".json")
        if not (path.exists() and figures.exists()):
            codec = HashGrid(steps=self.steps, **settings_of(remedy))
            context = Context(self.context.device, self.context.threads, seed)
            start = time.perf_counter(), time.process_time()
            made = compress(field, Ratio(ratio), codec, context)
            seconds = time.perf_counter() - start[0], time.process_time() - start[1]
            decoded = decompress(made.data, context=context)[0].values
            row = {
                "bytes": len(made.data),
                "psnr": metrics.measure(field.values, decoded, field.mask).psnr,
                "ssim": metrics.ssim(field.values, decoded, field.mask),
                "gradient": analysis.gradient_error(field.values, decoded, field.mask),
                "seconds": seconds[0],
                "cpu": seconds[1],
                "load": os.getloadavg()[0],
            }
            atomic_write(path, made.data)
            atomic_write(figures, json.dumps(row).encode())
        return json.loads(figures.read_text())


def settings_of(remedy: str) -> dict[str, Any]:
    """Of one remedy, or of several joined by +."""
    return {k: v for name in remedy.split("+") for k, v in REMEDIES[name].items()}


def mean(rows: Sequence[Row]) -> Row:
    """Of each figure."""
    return {k: statistics.fmean(r[k] for r in rows) for k in rows[0]}


def spread(groups: Sequence[Sequence[Row]], key: str) -> float:
    """Half of what a figure varies by within a group, averaged over groups."""
    return statistics.fmean((max(r[key] for r in rows) - min(r[key] for r in rows)) / 2 for rows in groups)


def table(field: Field, remedies: Sequence[str], ratio: float, seeds: Sequence[int], runs: Runs) -> None:
    """Measure and print the rows of a volume."""
    none = [runs.row(field, NONE, ratio, s) for s in seeds]
    # dB per octave of bytes.
    coarse = [runs.row(field, NONE, 2 * ratio, s) for s in seeds]
    slope = (mean(none)["psnr"] - mean(coarse)["psnr"]) / math.log2(mean(none)["bytes"] / mean(coarse)["bytes"])
    print(
        f"\n{field.name}: {field.values.shape} {field.values.dtype}, ratio {ratio:g}, "
        f"{slope:.2f} dB per octave of bytes\n"
    )
    print("| remedy | bytes | PSNR (dB) | SSIM | gradient error | bytes at equal PSNR | CPU s | s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    groups = []
    for remedy in remedies:
        groups.append([runs.row(field, remedy, ratio, s) for s in seeds])
        row = mean(groups[-1])
        octaves = (mean(none)["psnr"] - row["psnr"]) / slope + math.log2(row["bytes"] / mean(none)["bytes"])
        print(
            f"| {remedy} | {row['bytes']:,.0f} | {row['psnr']:.2f} | {row['ssim']:.4f} | {row['gradient']:.4f} | "
            f"{100 * (2**octaves - 1):+.1f} % | {row['cpu']:.1f} | {row['seconds']:.1f} |",
            flush=True,
        )
    print(
        f"| ± | | {spread(groups, 'psnr'):.2f} | {spread(groups, 'ssim'):.4f} | {spread(groups, 'gradient'):.4f} | "
        f"{100 * (2 ** (spread(groups, 'psnr') / slope) - 1):.1f} % | | |"
    )


def lit(values: np.ndarray, level: float) -> np.ndarray:
    """A surface of equal value seen along z, lit from the viewer's side and above; NaN where there is none.

    Depth is where the linear interpolant between two samples along z first reaches `level`; the normal is the gradient
    by central differences, interpolated there.
    """
    a = values.astype(np.float64)
    above = a >= level
    enters = ~above[:-1] & above[1:]
    first = enters.argmax(0)
    rows, columns = np.indices(first.shape)
    low, high = a[first, rows, columns], a[first + 1, rows, columns]
    share = (level - low) / np.where(high > low, high - low, 1.0)
    slopes = [np.gradient(a, axis=i) for i in range(3)]
    normal = np.stack([g[first, rows, columns] * (1 - share) + g[first + 1, rows, columns] * share
                       for g in slopes])  # fmt: skip
    normal /= np.maximum(np.linalg.norm(normal, axis=0), 1e-30)
    light = np.array([0.8, 0.45, 0.4])
    light /= np.linalg.norm(light)
    shade = 0.15 + 0.85 * np.clip(np.tensordot(light, normal, 1), 0, 1)
    return np.where(enters.any(0), shade, np.nan)


def picture(fields: Sequence[Field], remedies: Sequence[str], ratio: float, seed: int, runs: Runs, path: Path) -> None:
    """Three rows a volume: part of the middle slice, its error, a surface; the original first, then remedies."""
    from matplotlib.figure import Figure

    shown = ["original", *remedies]
    figure = Figure(figsize=(1.75 * len(shown), 5.6 * len(fields)), layout="constrained")
    axes = figure.subplots(3 * len(fields), len(shown), squeeze=False)
    for f, field in enumerate(fields):
        original = field.values.astype(np.float64)
        decoded = [decompress(runs.path(field, r, ratio, seed))[0].values.astype(np.float64) for r in remedies]
        k, edge = original.shape[0] // 2, min(48, *original.shape[1:])
        top, left = busiest(original[k], edge)
        box = slice(top, top + edge), slice(left, left + edge)
        low, high = np.percentile(original[k][box], [0.5, 99.5])
        worst = float(np.percentile(np.abs(decoded[0][k][box] - original[k][box]), 99))
        level = float(np.percentile(original, 1) + np.percentile(original, 99)) / 2
        for j, (name, values) in enumerate(zip(shown, [original, *decoded], strict=True)):
            panels = (
                (values[k][box], {"vmin": low, "vmax": high, "cmap": "viridis"}),
                (values[k][box] - original[k][box], {"vmin": -worst, "vmax": worst, "cmap": "RdBu_r"}),
                (lit(values, level)[box], {"vmin": 0, "vmax": 1, "cmap": "gray"}),
            )
            for i, (image, style) in enumerate(panels):
                ax = axes[3 * f + i, j]
                ax.set_xticks([])
                ax.set_yticks([])
                ax.set_facecolor("#20303c")
                ax.imshow(image, origin="lower", interpolation="nearest", **style)
            axes[3 * f, j].set_title(name.replace("+", "\n+ "), fontsize=9)
        for i, label in enumerate((f"{field.name}\nslice {k}, part", "error", f"surface at {level:.3g}")):
            axes[3 * f + i, 0].set_ylabel(label, fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=110)


def busiest(image: np.ndarray, edge: int) -> tuple[int, int]:
    """Corner of the square, of some that tile the image by quarters, whose values vary most."""
    corners = [
        (y, x)
        for y in range(0, image.shape[0] - edge + 1, max(edge // 4, 1))
        for x in range(0, image.shape[1] - edge + 1, max(edge // 4, 1))
    ]
    return max(corners, key=lambda c: float(image[c[0] : c[0] + edge, c[1] : c[1] + edge].std()))


def main() -> None:
    """Measure, print, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--volumes", default=FLOW)
    parser.add_argument("--ratio", type=float, default=500.0)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--remedies", default=",".join([*REMEDIES, "smoothstep+tv", "gradient+smoothstep+tv+load"]))
    parser.add_argument("--size", type=int, default=64, help="samples per axis of the generated flow")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=Path("build/artefacts"))
    parser.add_argument("--picture", type=Path, help="PNG, SVG or PDF")
    given = parser.parse_args()
    given.cache.mkdir(parents=True, exist_ok=True)
    runs = Runs(given.cache, given.steps, Context(device="cpu", threads=given.threads))
    remedies, seeds = given.remedies.split(","), [int(s) for s in given.seeds.split(",")]
    unknown = {name for r in remedies for name in r.split("+")} - set(REMEDIES)
    if unknown:
        raise SystemExit(f"remedies: expected names of {', '.join(REMEDIES)}, joined by +, got {', '.join(unknown)}")
    fields = [volume(n, given.data, given.size) for n in given.volumes.split(",")]
    print(
        f"{describe()}; {given.steps} steps, {len(seeds)} seeds, {given.threads} thread(s), "
        f"load {os.getloadavg()[0]:.1f}"
    )
    # Numba compiles on first use, which is no remedy's cost.
    tiny = Field(np.random.default_rng(0).random((8, 8, 8), np.float32))
    compress(tiny, Ratio(2), HashGrid(steps=10, batch=64), runs.context)
    for field in fields:
        table(field, remedies, given.ratio, seeds, runs)
    if given.picture:
        picture(fields, remedies, given.ratio, seeds[0], runs, given.picture)


def volume(name: str, data: Path | None, size: int) -> Field:
    """The generated flow, or a file of `data`."""
    if name == FLOW:
        return taylor_green(size).vorticity_magnitude
    if data is None:
        raise SystemExit(f"volume '{name}' needs --data; without it there is '{FLOW}'")
    return Field(np.load(data / f"{name}.npy"), name=name)


if __name__ == "__main__":
    main()
