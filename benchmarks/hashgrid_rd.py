"""Rate and distortion of the hash-grid codec: PSNR and seconds of real files at given ratios.

    python benchmarks/hashgrid_rd.py VOLUME.npy... [--ratios 50,200,1000] [--preset balanced] [--out build/hashgrid_rd]

Volumes are .npy arrays (z, y, x[, c]); without any, two generated fields are used. Every finished line is kept in
OUT/table.csv, and a line that is there is not measured again: a stopped run goes on where it was. Writes OUT/plot.png.
PSNR is 20 log10((max - min) / RMSE) of the decoded file in the volume's own type; bytes are those of the file.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np
from machine import describe

from neurcomp_core.codec import Context
from neurcomp_core.codecs.hashgrid import HashGrid
from neurcomp_core.field import Field
from neurcomp_core.metrics import bits_per_voxel
from neurcomp_core.picture import rate_distortion
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.samples import marschner_lobb, taylor_green
from neurcomp_core.target import Ratio

COLUMNS: tuple[str, ...] = (
    "volume", "preset", "ratio", "bytes", "share_of_budget", "bits_per_voxel", "psnr_db", "max_error", "encode_s",
    "decode_s", "machine",
)  # fmt: skip


def volumes(paths: list[Path]) -> list[tuple[str, Field]]:
    """Named fields, from files or generated."""
    if paths:
        return [(path.stem, Field(np.load(path), name=path.stem)) for path in paths]
    return [("taylor_green_64", taylor_green(64).vorticity_magnitude), ("marschner_lobb_64", marschner_lobb(64))]


def measure(name: str, field: Field, ratio: float, preset: str) -> dict[str, object]:
    """Compress and decompress once."""
    start = time.perf_counter()
    compressed = compress(field, Ratio(ratio), HashGrid.from_preset(preset), Context())
    middle = time.perf_counter()
    decompress(compressed.data)
    end = time.perf_counter()
    size, quality = len(compressed.data), compressed.reports[0].quality
    values = (
        name, preset, f"{ratio:g}", size, f"{size * ratio / field.nbytes:.4f}",
        f"{bits_per_voxel(size, field.voxels):.4f}", f"{quality.psnr:.2f}", f"{quality.max_error:g}",
        f"{middle - start:.1f}", f"{end - middle:.2f}", describe(),
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("volumes", type=Path, nargs="*")
    parser.add_argument("--ratios", default="50,200,1000")
    parser.add_argument("--preset", default="balanced", choices=list(HashGrid.presets))
    parser.add_argument("--out", type=Path, default=Path("build/hashgrid_rd"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    table = args.out / "table.csv"
    rows: list[dict] = list(csv.DictReader(table.open())) if table.exists() else []
    print(describe())
    fields = volumes(args.volumes)
    for name, field in fields:
        for ratio in map(float, args.ratios.split(",")):
            key = (name, args.preset, f"{ratio:g}")
            row = next((r for r in rows if (r["volume"], r["preset"], r["ratio"]) == key), None)
            if row is None:
                row = measure(name, field, ratio, args.preset)
                rows.append(row)
                with table.open("w", newline="") as file:
                    writer = csv.DictWriter(file, COLUMNS)
                    writer.writeheader()
                    writer.writerows(rows)
            print("  ".join(f"{key} {row[key]}" for key in COLUMNS[:-1]), flush=True)
    names = {name for name, _ in fields}
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["volume"] in names and row["preset"] == args.preset:
            point = (float(row["bits_per_voxel"]), float(row["psnr_db"]))
            curves.setdefault(str(row["volume"]), []).append(point)
    rate_distortion(curves, args.out / "plot.png", f"hashgrid, preset {args.preset}")
    print(f"table: {table}, plot: {args.out / 'plot.png'}")


if __name__ == "__main__":
    main()
