"""What Triton makes of the kernels of radiance fields for a GPU, without one: registers, stack, shared memory.

    python benchmarks/gpu_radiance_kernels.py [--target 90] [--only march shade]

Needs triton alone, and minutes. A stack other than 0 is registers that overflow into memory.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)

import no_numba

no_numba.stand_in()

import triton  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from neurcomp_core.radiance.rendering import triton_dvgo, triton_plenoxels  # noqa: E402
from neurcomp_core.radiance.training import triton_kernels  # noqa: E402

# Types of arguments by name; all others point to float32.
TYPES = {
    **dict.fromkeys(("origins", "directions", "near", "far", "numbers"), "*fp64"),
    **dict.fromkeys(("extents", "links", "slots", "stops", "index", "number", "ahead"), "*i32"),
    **dict.fromkeys(("starts", "counts"), "*i64"),
    **dict.fromkeys(("distance", "mask"), "*u8"),
    **dict.fromkeys(("rays", "count"), "i32"),
    **dict.fromkeys(("stop", "threshold", "shift", "unit", "rest", "g_penalty", "rate", "decay", "decay_mean"), "fp32"),
    **dict.fromkeys(("decay_square", "tiny", "entropy", "point"), "fp32"),
}
GRID = {"BLOCK": 4, "FUNCTIONS": 9, "WIDTH": 32, "LANES": 32}
DVGO = {"BLOCK": 4, "MASKED": True, "JITTER": False, "LIT": True, "LANES": 32}
FEATURES = {"CHANNELS": 12, "WIDTH": 16}
NETWORK = {"INPUTS": 16, "WAVES": 32, "WIDTH": 128, "PART": 32, "PRECISION": "tf32x3", "LANES": 64}
ROWS = {"first": "i32", "last": "i32", "weight": "fp32"}

#: Name, kernel, constants, warps, types that differ.
CASES: list[tuple[str, Any, dict[str, Any], int, dict[str, str]]] = [
    (
        "forward",
        triton_plenoxels.forward,
        {**GRID, "SHARED": s, "JITTER": not s, "PENALTY": False, "NORMALS": False},
        1,
        {},
    )
    for s in (False, True)
]
CASES += [
    ("backward", triton_plenoxels.backward, {**GRID, "JITTER": True}, 1, {}),
    ("importance", triton_plenoxels.importance, {"BLOCK": 4, "TOTAL": False, "LANES": 32}, 1, {}),
]
CASES += [
    ("march", triton_dvgo.march, {**DVGO, "SPARSE": s, "FILL": f}, 1, {}) for s in (False, True) for f in (False, True)
]
CASES += [
    ("shade", triton_dvgo.shade, {**NETWORK, "CHANNELS": 12, "DIRECT": True, "HIDDEN": True, "SPARSE": s}, 4, {})
    for s in (False, True)
]
CASES += [
    ("gather", triton_dvgo.gather, {**FEATURES, "SPARSE": False, "LANES": 128}, 4, {}),
    ("scatter", triton_dvgo.scatter, {**FEATURES, "LANES": 128}, 4, {}),
    ("mix", triton_dvgo.mix, {"LANES": 32}, 1, {}),
    ("losses", triton_kernels.losses, {"LANES": 32}, 1, {}),
    ("adam", triton_kernels.adam, {"CHANNELS": 12, "PACED": True, "LANES": 1024}, 4, {}),
    ("rmsprop", triton_kernels.rmsprop, {"LANES": 1024}, 4, {}),
    ("row_variation", triton_kernels.row_variation, {"EDGES": False, "CHANNELS": 27, "WIDTH": 32, "ROWS": 32}, 4, ROWS),
    ("grid_variation", triton_kernels.grid_variation, {**FEATURES, "SAMPLES": 64}, 4, {"weight": "fp32"}),
]


def compiled(kernel: Any, constants: Mapping[str, Any], warps: int, types: Mapping[str, str], target: int) -> Any:
    """A kernel for a target, as it is called."""
    names = [p.name for p in kernel.params]
    known = {**TYPES, **types}
    signature = {n: "constexpr" if n in constants else known.get(n, "*fp32") for n in names}
    places = {(i,): constants[n] for i, n in enumerate(names) if n in constants}
    # torch's allocations begin at multiples of 16 bytes.
    aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if signature[n].startswith("*")}
    source = ASTSource(kernel, signature, places, aligned)
    return triton.compile(source, target=GPUTarget("cuda", target, 32), options={"num_warps": warps})


def resources(cubin: bytes) -> tuple[str, str]:
    """Registers of a thread and bytes of its stack."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        said = subprocess.run([tool, "--dump-resource-usage", path], capture_output=True, text=True, check=False).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", said)
    return (found[1], found[2]) if found else ("?", "?")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=int, default=90, help="compute capability times ten")
    parser.add_argument("--only", nargs="*", default=[], metavar="KERNEL")
    options = parser.parse_args()
    print("| kernel | constants | registers | stack, bytes | shared, bytes | seconds |\n| --- | --- |" + " ---: |" * 4)
    for name, kernel, constants, warps, types in CASES:
        if options.only and name not in options.only:
            continue
        start = time.perf_counter()
        made = compiled(kernel, constants, warps, types, options.target)
        taken = time.perf_counter() - start
        registers, stack = resources(made.asm["cubin"])
        text = ", ".join(f"{k} {v}" for k, v in constants.items())
        print(f"| {name} | {text} | {registers} | {stack} | {made.metadata.shared} | {taken:.1f} |", flush=True)
    print(f"\nTriton {triton.__version__}, sm_{options.target}")


if __name__ == "__main__":
    main()
