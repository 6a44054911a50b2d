"""Compressed networks of the 2021 neurcomp reference: do they decode as stated, and what do they take as .nvc files?

    python benchmarks/neurcomp_files.py --data FOLDER

FOLDER/reference/neurcomp.md has a table with the columns volume, "PSNR of the file" and file, FOLDER/reference the
files, and FOLDER/scalar or FOLDER/data/scalar the volumes as NAME.npy. For every file: PSNR of what it decodes to, and
bytes and PSNR of the .nvc file that `neurcomp import --like` makes of it, decoded from its bytes. PSNR is 20 log10((max
- min) / RMSE). Fails if one is off by more than 0.01 dB.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from machine import describe

from neurcomp_core import metrics, siren_file
from neurcomp_core.field import Field
from neurcomp_core.pipeline import decompress
from neurcomp_core.siren_exchange import import_network

TOLERANCE = 0.01
#: The stated figures have two decimals.
ROUNDING = 0.005


def stated(table: Path) -> list[tuple[str, float, str]]:
    """Volume, PSNR and file of each row of a Markdown table."""
    lines = [[c.strip() for c in line.strip().strip("|").split("|")] for line in table.read_text().splitlines()]
    head = next(cells for cells in lines if "PSNR of the file" in cells)
    places = [head.index(name) for name in ("volume", "PSNR of the file", "file")]
    rows = [[cells[i] for i in places] for cells in lines if len(cells) == len(head) and cells[-1].endswith(".bin")]
    return [(volume, float(psnr), name) for volume, psnr, name in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    folder = next(f for f in (data / "data" / "scalar", data / "scalar") if f.is_dir())
    print(describe())
    worst = 0.0
    for volume, psnr, name in stated(data / "reference" / "neurcomp.md"):
        path = data / "reference" / name
        field = Field(np.load(folder / f"{volume}.npy"), name=volume)
        net, parameters = siren_file.read(path)
        plain = import_network(net, parameters, field, field.limits, exact=True)
        small = import_network(net, parameters, field, field.limits)
        found, after = (metrics.measure(field.values, decompress(made.data)[0].values).psnr for made in (plain, small))
        worst = max(worst, abs(found - psnr) - ROUNDING, abs(after - psnr) - ROUNDING)
        print(
            f"{name}: stated {psnr:.2f} dB, decoded {found:.4f} dB; {path.stat().st_size:,} bytes, "
            f"as .nvc {len(small.data):,} bytes of {after:.4f} dB",
            flush=True,
        )
    print(
        f"largest difference beyond the rounding of the stated figures: {max(worst, 0):.4f} dB, allowed {TOLERANCE} dB"
    )
    sys.exit(worst > TOLERANCE)


if __name__ == "__main__":
    main()
