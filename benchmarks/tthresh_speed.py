"""Speed and memory of TTHRESH here, in the reference's WebAssembly build and, if NEURCOMP_TTHRESH names it, natively.

    python benchmarks/tthresh_speed.py [--data FOLDER] [--runs 3] [--psnr 30 42]

Encoding is one decomposition and one stream of about the reference's error at its own target (20 log10 of range over
twice the RMSE), from values in memory (native: a file in memory) to bytes; decoding gives all samples in their type.
Every run is a process of its own on the same cores, variants in turn; seconds are those of the work, of the native
program those of the whole process; CPU seconds are those of all threads, and do not rise when others use the machine.
Peak memory is the resident set. The last lines are `compress` to the same quality as it is defined here, which
searches, decodes and measures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import describe
from tthresh_agreement import wasm_encoder

from neurcomp_core.field import Field
from neurcomp_core.pipeline import compress
from neurcomp_core.samples import marschner_lobb
from neurcomp_core.target import Psnr
from neurcomp_core.tthresh.stream import Encoder, read

NATIVE = os.environ.get("NEURCOMP_TTHRESH")


def volume(data: Path | None) -> np.ndarray:
    """Bonsai, or a generated volume of its size and type."""
    if data is not None:
        return np.load(data / "bonsai.npy")
    values = marschner_lobb(256).values
    noise = np.random.default_rng(0).standard_normal(values.shape, np.float32)
    return np.clip(200 * values + 2 * noise, 0, 255).astype(np.uint8)


def work(name: str, folder: Path, psnr: float) -> None:
    """One variant in this process; prints seconds, CPU seconds and peak memory in MiB."""
    values = np.load(folder / "volume.npy")
    # Compiled kernels are cached on disk and loaded here, before the clock runs.
    read(Encoder(np.arange(60.0).reshape(3, 4, 5) % 7).stream(0.1).tobytes()).values()
    error = float(np.ptp(values)) / 2 / 10 ** (psnr / 20)
    encode = wasm_encoder() if name == "wasm-encode" else None
    start, before = time.perf_counter(), time.process_time()
    if name == "ours-encode":
        (folder / "ours.tthresh").write_bytes(Encoder(values).stream(error).tobytes())
    elif name == "ours-decode":
        read((folder / "ours.tthresh").read_bytes()).values()
    elif name == "ours-compress":
        compress(Field(values), Psnr(psnr + 6.02), "tthresh")
    elif encode is not None:
        encode(values, psnr=psnr)
    seconds, cpu = time.perf_counter() - start, time.process_time() - before
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(json.dumps((seconds, cpu, int(status["VmHWM"].split()[0]) / 1024)))


def native(name: str, folder: Path, psnr: float, shape: tuple[int, ...]) -> tuple[float, float, float]:
    """Seconds, CPU seconds and peak MiB of the native program."""
    given = ["-i", str(folder / "volume.raw"), "-t", "uchar", "-s", *map(str, shape[::-1]), "-p", str(psnr)]
    command = [str(NATIVE), *(given if name == "native-encode" else ["-o", str(folder / "out")])]
    command += ["-c", str(folder / "native.tthresh")]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {status}")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with bonsai.npy; a generated volume otherwise")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--psnr", type=float, nargs="+", default=[30.0, 42.0], help="in the reference's definition")
    parser.add_argument("--no-wasm", action="store_true", help="leave out the slowest")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        work(args.child[0], Path(args.child[1]), float(args.child[2]))
        return
    print(describe())
    values = volume(args.data)
    names = [
        "ours-encode",
        "ours-decode",
        *([] if args.no_wasm else ["wasm-encode"]),
        *(["native-encode", "native-decode"] if NATIVE else []),
    ]
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as temporary:
        folder = Path(temporary)
        np.save(folder / "volume.npy", values)
        values.tofile(folder / "volume.raw")
        for psnr in args.psnr:
            found: dict[str, list[tuple[float, ...]]] = {name: [] for name in [*names, "ours-compress"]}
            for _ in range(args.runs):
                for name in found:
                    if name.startswith("native"):
                        found[name].append(native(name, folder, psnr, values.shape))
                        continue
                    command = [sys.executable, __file__, "--child", name, str(folder), str(psnr)]
                    done = subprocess.run(command, check=True, capture_output=True, text=True)
                    found[name].append(tuple(json.loads(done.stdout.splitlines()[-1])))
            print(f"psnr {psnr:g} (the reference's), {values.shape} {values.dtype}, {args.runs} runs:")
            for name, pairs in found.items():
                kind = name.split("-")[1]
                own = found[f"ours-{kind}"]
                ratios = [np.median([p[i] / o[i] for p, o in zip(pairs, own, strict=True)]) for i in range(2)]
                seconds, cpu, memory = np.median(pairs, axis=0)
                ratio = "" if name.startswith("ours") else f"   {ratios[0]:.2f} x (CPU {ratios[1]:.2f} x) ours"
                print(f"  {name:14s} {seconds:7.2f} s   CPU {cpu:7.2f} s   peak {memory:6.0f} MiB{ratio}")


if __name__ == "__main__":
    main()
