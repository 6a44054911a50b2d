"""What a region of a tenth of the samples gains, and what the rest pays, at equal bytes.

    python benchmarks/regions.py --data FOLDER [--volumes a,b] [--codecs wavelet] [--ratios 50,200] [--weights 4,8,16]
        [--regions box,band] [--preset balanced] [--threads N] [--csv FILE] [--picture FILE.png]

FOLDER holds .npy volumes (z, y, x). `box` is the middle box whose edges are 46.4 % of the volume's, `band` the tenth of
the values around the 90th percentile. PSNR inside and outside have the whole volume's range as peak. Without importance
(weight 1) and with it, files take 97 to 100 % of the same bytes. The picture is of the first volume, codec, ratio and
region, with the weight 8 if there is one, otherwise the last.
"""

from __future__ import annotations

import argparse
import csv
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from machine import describe

from neurcomp_core.codec import Context, codec_by_name, usable_cpus
from neurcomp_core.field import Field
from neurcomp_core.files import atomic_path
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.region_quality import region_quality
from neurcomp_core.regions import BandRegion, BoxRegion, Importance
from neurcomp_core.target import Ratio

#: Share of the samples.
SHARE = 0.1


@dataclass(frozen=True)
class Row:
    """One file."""

    volume: str
    codec: str
    region: str
    ratio: float
    weight: float
    bytes: int
    psnr: float
    inside: float
    outside: float
    share: float
    seconds: float


def region_of(kind: str, field: Field, weight: float) -> Importance:
    """A region of about a tenth of the samples."""
    if kind == "box":
        bounds: list[float] = []
        for n in field.values.shape[2::-1]:
            edge = max(round(n * SHARE ** (1 / 3)), 1)
            bounds += [(n - edge) // 2, (n - edge) // 2 + edge]
        return BoxRegion(tuple(bounds), weight)
    low, high = np.percentile(field.values, [90 - 50 * SHARE, 90 + 50 * SHARE])
    return BandRegion(float(low), float(high), weight)


def run(
    field: Field, codec: str, preset: str, kind: str, ratio: float, weight: float, threads: int
) -> tuple[Row, np.ndarray]:
    """One file, and what it decodes to."""
    region = region_of(kind, field, weight)
    context = Context(threads=threads, importance=None if weight == 1 else region)
    start = time.perf_counter()
    made = compress(field, Ratio(ratio), codec_by_name(codec).from_preset(preset), context)
    seconds = time.perf_counter() - start
    decoded = decompress(made.data)[0].values
    q = region_quality(field, decoded, region)
    assert q.inside is not None
    assert q.outside is not None
    row = Row(
        field.name, codec, kind, ratio, weight, len(made.data), made.reports[0].quality.psnr, q.inside.psnr,
        q.outside.psnr, q.share, seconds,
    )  # fmt: skip
    return row, decoded


def draw(field: Field, even: np.ndarray, region: np.ndarray, row: Row, path: Path) -> None:
    """Middle slices of original and both reconstructions, their errors, and where the region is."""
    from matplotlib.figure import Figure

    k = field.values.shape[0] // 2
    inside = region_of(row.region, field, row.weight).inside(field)[k]
    original = field.values[k].astype(float)
    slices = [a[k].astype(float) for a in (even, region)]
    figure = Figure(figsize=(9.6, 6.6), layout="constrained")
    axes = figure.subplots(2, 3)
    low, high = original.min(), original.max()
    titles = ("original", "all samples alike", f"region, weight {row.weight:g}")
    for ax, image, title in zip(axes[0], [original, *slices], titles, strict=True):
        shown = ax.imshow(image, vmin=low, vmax=high, cmap="viridis", origin="lower")
        ax.set_title(title, fontsize=10)
    figure.colorbar(shown, ax=axes[0], shrink=0.85)
    errors = [np.abs(s - original) for s in slices]
    most = float(np.percentile(errors[0], 99.5))
    axes[1, 0].imshow(inside, cmap="Greys", origin="lower", vmin=0, vmax=2)
    axes[1, 0].set_title(f"region: {100 * row.share:.0f} % of the samples", fontsize=10)
    for ax, error in zip(axes[1, 1:], errors, strict=True):
        shown = ax.imshow(error, vmin=0, vmax=most, cmap="magma", origin="lower")
        ax.contour(inside, levels=[0.5], colors="white", linewidths=0.8)
        rms = [np.sqrt(np.mean(error[part] ** 2)) if part.any() else 0.0 for part in (inside, ~inside)]
        ax.set_title(f"|error|, RMS here {rms[0]:.3g} in, {rms[1]:.3g} out", fontsize=10)
    figure.colorbar(shown, ax=axes[1], shrink=0.85, extend="max")
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
    figure.suptitle(f"{field.name}, {row.codec}, {row.bytes:,} bytes (ratio {row.ratio:g})", fontsize=11)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=125)


def main() -> None:
    """Measure, print, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--volumes", default="sperr_wmag_91,isabel_sub100_pressure,tooth,neghip")
    parser.add_argument("--codecs", default="wavelet")
    parser.add_argument("--ratios", default="50,200")
    parser.add_argument("--weights", default="4,8,16")
    parser.add_argument("--regions", default="box,band")
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--threads", type=int, default=usable_cpus())
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    weights = [float(w) for w in given.weights.split(",")]
    print(describe())
    print(f"{'volume':24}{'codec':10}{'region':8}{'ratio':>6}{'weight':>7}{'bytes':>9}{'PSNR':>8}{'inside':>8}"
          f"{'outside':>8}{'gain':>7}{'loss':>7}{'s':>7}")  # fmt: skip
    rows: list[Row] = []
    pictured = given.picture is None
    for name in given.volumes.split(","):
        field = Field(np.load(given.data / f"{name}.npy"), name=name)
        for codec in given.codecs.split(","):
            for ratio in map(float, given.ratios.split(",")):
                # Without importance the file is the same for all regions.
                for kind in given.regions.split(","):
                    plain, even = run(field, codec, given.preset, kind, ratio, 1.0, given.threads)
                    for row, decoded in [(plain, even)] + [
                        run(field, codec, given.preset, kind, ratio, w, given.threads) for w in weights
                    ]:
                        rows.append(row)
                        print(f"{name:24}{codec:10}{kind:8}{ratio:6g}{row.weight:7g}{row.bytes:9,}{row.psnr:8.2f}"
                              f"{row.inside:8.2f}{row.outside:8.2f}{row.inside - plain.inside:+7.2f}"
                              f"{row.outside - plain.outside:+7.2f}{row.seconds:7.1f}", flush=True)  # fmt: skip
                        if not pictured and row.weight == (8.0 if 8.0 in weights else weights[-1]):
                            draw(field, even, decoded, row, given.picture)
                            pictured = True
    if given.csv:
        with given.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(Row.__annotations__)
            writer.writerows([getattr(row, name) for name in Row.__annotations__] for row in rows)


if __name__ == "__main__":
    main()
