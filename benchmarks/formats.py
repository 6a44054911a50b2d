"""Real files through the command line and back: size, type, geometry and names kept, PSNR as printed.

    python benchmarks/formats.py DIR [--ratio 100] [--preset balanced] [--out build/formats]

DIR holds engine.vti, tooth.nrrd, hydrogen.vti, wmag91.float (91^3), subIsabel.raw (100^3), carotid.vtk, MR_Gd.nii.gz
and uvt.nc, or some of them. Each is compressed, decompressed to VTI (VTR where the grid is rectilinear, PVD for several
time steps), read again and compared: the PSNR that `compress` printed with the one recomputed from the two files.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from machine import describe

from neurcomp_core.field import Field, RectilinearGrid
from neurcomp_core.metrics import measure
from neurcomp_filters import io

RAW = {"wmag91.float": "91,91,91", "subIsabel.raw": "100,100,100"}
FILES = ("engine.vti", "tooth.nrrd", "hydrogen.vti", *RAW, "carotid.vtk", "MR_Gd.nii.gz", "uvt.nc")


def command(*arguments: str) -> dict:
    """Run `neurcomp` and return its JSON."""
    line = [sys.executable, "-m", "neurcomp_cli", *arguments, "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(line)}\n{done.stderr}")
    return json.loads(done.stdout)


def same_grid(a: Field, b: Field) -> bool:
    """Whether extent, origin, spacing and direction (or coordinates) agree exactly."""
    return a.geometry == b.geometry


def suffix(fields: list[Field]) -> str:
    """Volume format that holds these fields."""
    if len({f.time for f in fields}) > 1:
        return ".pvd"
    return ".vtr" if isinstance(fields[0].geometry, RectilinearGrid) else ".vti"


def check(path: Path, ratio: float, preset: str, out: Path) -> None:
    """One file there and back; exits with a sentence if something was not kept."""
    reading = ["--dims", RAW[path.name], "--dtype", "float32"] if path.name in RAW else []
    dims = tuple(map(int, RAW[path.name].split(","))) if path.name in RAW else None
    originals = io.read(path, dims=dims, dtype="float32" if dims else None)
    coded, again = out / f"{path.name}.nvc", out / f"{path.name}{suffix(originals)}"
    start = time.perf_counter()
    told = command("compress", str(path), *reading, "--ratio", f"{ratio:g}", "--preset", preset, "-o", str(coded),
                   "--force")  # fmt: skip
    middle = time.perf_counter()
    command("decompress", str(coded), "-o", str(again), "--force")
    end = time.perf_counter()
    decoded = io.read(again)
    raw = sum(f.nbytes for f in originals)
    share = coded.stat().st_size * ratio / raw
    print(f"{path.name}: {raw} bytes, file {coded.stat().st_size} bytes, {share:.4f} of raw/{ratio:g}, "
          f"compress {middle - start:.1f} s, decompress {end - middle:.1f} s")  # fmt: skip
    if not 0.97 <= share <= 1:
        print(f"  MISS: the file takes {share:.4f} of the budget")
    for original, result, report in zip(originals, decoded, told["files"][0]["arrays"], strict=True):
        kept = {
            "dtype": original.values.dtype == result.values.dtype,
            "name": original.name == result.name,
            "association": original.association == result.association,
            "geometry": same_grid(original, result),
            "time": original.time == result.time,
        }
        quality = measure(original.values, result.values, original.mask)
        same = abs(quality.psnr - report["psnr"]) < 5e-3
        lost = [key for key, value in kept.items() if not value]
        print(
            f"  {original.name} {original.values.dtype} {original.values.shape}: PSNR {report['psnr']:.2f} dB printed, "
            f"{quality.psnr:.2f} dB recomputed{'' if same else ' MISS'}; "
            f"{'kept: ' + ', '.join(kept) if not lost else 'MISS, lost: ' + ', '.join(lost)}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ratio", type=float, default=100)
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--out", type=Path, default=Path("build/formats"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    print(describe())
    for name in FILES:
        if (args.folder / name).exists():
            check(args.folder / name, args.ratio, args.preset, args.out)


if __name__ == "__main__":
    main()
