"""Bytes at a guaranteed largest error, against the smaller of SPERR and SZ3, from a table of ``neurcomp bench``.

The table of docs/bench/max-error.csv was made, and any other can be, with the first of these commands:

    neurcomp bench run VOLUME … --codec wavelet --codec sperr --codec sz3 --measure none -o results.csv
        --targets "relative-error:0.01,0.003,0.001,0.0001,0.00001"    (of integers "max-error:0.5,1,2,5,10")
    python benchmarks/max_error.py results.csv
"""

from __future__ import annotations

import argparse
import csv
import math
from collections import defaultdict
from pathlib import Path

PEERS = ("sperr", "sz3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    options = parser.parse_args()
    points: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    with options.table.open() as table:
        for row in csv.DictReader(table):
            nbytes = float(row["bytes"]) if row["status"] == "ok" else math.inf
            points[row["volume"], row["target"], row["value"]][row["codec"]] = nbytes
    volumes: dict[str, list[float]] = defaultdict(list)
    print(f"{'volume':>30} {'bound':>22} {'wavelet':>9} {'SPERR':>9} {'SZ3':>9}")
    for (volume, kind, value), found in points.items():
        share = found["wavelet"] / min(found.get(peer, math.inf) for peer in PEERS)
        volumes[volume].append(math.log(share))
        peers = " ".join(f"{found.get(peer, math.inf):>9.0f}" for peer in PEERS)
        print(f"{volume:>30} {kind:>14} {value:>7} {found['wavelet']:>9.0f} {peers} {share - 1:>+8.1%}")
    means = {volume: sum(logs) / len(logs) for volume, logs in volumes.items()}
    for volume, mean in means.items():
        print(f"{volume:>30} {math.expm1(mean):>+8.1%}")
    print(f"{'all':>30} {math.expm1(sum(means.values()) / len(means)):>+8.1%}")


if __name__ == "__main__":
    main()
