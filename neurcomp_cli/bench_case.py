"""One measurement in a process of its own: ``python -m neurcomp_cli.bench_case`` takes a case and prints a result.

Peak memory is then that of this one compression and decompression, and no measurement profits from what another left.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from neurcomp_core import metrics
from neurcomp_core.codec import Codec, Context, codec_by_name
from neurcomp_core.errors import MissingExtraError, NeurCompError
from neurcomp_core.field import Field, RectilinearGrid, UniformGrid
from neurcomp_core.files import atomic_write
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.progress import Progress
from neurcomp_core.target import KINDS, Ratio, Target

#: Figures that a case can take besides size, PSNR and errors.
MEASURES = ("ssim", "gradient", "spectrum", "isosurface")
#: Samples per axis, and seconds at most, of the run that compiles and loads everything before the clock starts.
_WARM, _WARM_SECONDS = 20, 4.0
# Loaded without a part in the figures; numba reads its settings with pyyaml.
_NO_MATTER = {"neurcomp", "setuptools", "pyyaml"}
# Every library that computes in threads reads one of these as it is loaded.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Case:
    """What to measure.

    Attributes
    ----------
    field : str
        File that `save` wrote.
    codec, preset : str
    target : str
        A key of `target.KINDS`.
    value : float
    device : str
    threads, seed : int
    time_limit : float, optional
        Seconds for the compression.
    measures : tuple of str
        Of `MEASURES`.
    isovalues : tuple of float
        In the units of the data.
    keep : str
        Where to write the compressed file; nowhere if empty.
    backend : str
        Of `nets.backends.NAMES`.
    """

    field: str
    codec: str
    preset: str
    target: str
    value: float
    device: str = "cpu"
    threads: int = 1
    seed: int = 0
    time_limit: float | None = None
    measures: tuple[str, ...] = ()
    isovalues: tuple[float, ...] = ()
    keep: str = ""
    backend: str = "auto"

    @property
    def wanted(self) -> Target:
        """The target as the library takes it."""
        return KINDS[self.target](self.value)


def run(case: Case) -> dict[str, Any]:
    """Measure `case` in a fresh process.

    Returns
    -------
    dict
        ``error`` if it failed, and ``missing`` beside it if an extra is not installed; otherwise the figures of
        `measured`.
    """
    env = os.environ | dict.fromkeys(_THREADS, str(case.threads))
    command = [sys.executable, "-m", "neurcomp_cli.bench_case"]
    done = subprocess.run(command, input=json.dumps(asdict(case)), env=env, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        ended = f"ended by signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        return {"error": f"the process failed ({ended}): {last}"}
    return json.loads(lines[-1])


def _context(case: Case, time_limit: float | None = None) -> Context:
    return Context(case.device, case.threads, case.seed, Progress(time_limit=time_limit), backend=case.backend)


def measured(case: Case) -> dict[str, Any]:
    """Figures of a case, measured in this process."""
    field = load(case.field)
    codec = codec_by_name(case.codec).from_preset(case.preset)
    warm(field, codec, case)
    baseline = memory("VmRSS")
    context = _context(case, case.time_limit)
    start = time.perf_counter()
    compressed = compress(field, case.wanted, codec, context)
    middle = time.perf_counter()
    (decoded,) = decompress(compressed.data, context=_context(case))
    end = time.perf_counter()
    # The kernel counts pages in batches: what it says is the most may be a little less than what it says is now.
    peak = max(memory("VmHWM"), baseline)
    if case.keep:
        atomic_write(case.keep, compressed.data)
    quality = metrics.measure(field.values, decoded.values, field.mask)
    size = len(compressed.data)
    return {
        "bytes": size,
        "bits_per_voxel": metrics.bits_per_voxel(size, field.voxels),
        "psnr_db": quality.psnr,
        "rmse": quality.rmse,
        "max_error": quality.max_error,
        "range": quality.range,
        "encode_s": middle - start,
        "decode_s": end - middle,
        "peak_mib": peak,
        "baseline_mib": baseline,
        # Before the analysis loads libraries of its own.
        "libraries": libraries(),
        **analysed(field, decoded, case),
    }


def warm(field: Field, codec: Codec, case: Case) -> None:
    """Load libraries and compiled kernels with a run on few samples of the volume."""
    step = tuple(slice(None, None, -(-n // _WARM)) for n in field.values.shape[:3])
    small = Field(np.ascontiguousarray(field.values[step]), name=field.name)
    # Any size serves to go through the search for one.
    target = Ratio(4) if case.wanted.budget(1) is not None else case.wanted
    context = _context(case, _WARM_SECONDS)
    try:
        decompress(compress(small, target, codec, context).data)
    except MissingExtraError:
        raise
    except NeurCompError:
        pass  # A volume this small may be out of reach for the target; the real run says so of itself.


def analysed(field: Field, decoded: Field, case: Case) -> dict[str, float]:
    """Figures of `case.measures`."""
    from neurcomp_core import analysis

    a, b, mask = field.values, decoded.values, field.mask
    found: dict[str, float] = {}
    if "ssim" in case.measures:
        found["ssim"] = metrics.ssim(a, b, mask)
    if "gradient" in case.measures:
        spacing = field.geometry.spacing[::-1] if isinstance(field.geometry, UniformGrid) else (1.0, 1.0, 1.0)
        found["gradient_error"] = analysis.gradient_error(a, b, mask, spacing)
    if "spectrum" in case.measures:
        found["spectrum_error_db"] = analysis.spectrum_error(a, b, mask)
    if "isosurface" in case.measures and field.components == 1 and min(a.shape) > 1:
        from neurcomp_filters import isosurface

        distances = [isosurface.distance(a, b, value) for value in case.isovalues]
        found["isosurface_mean"] = float(np.mean([d.mean for d in distances]))
        found["isosurface_max"] = max(d.hausdorff for d in distances)
    return found


def memory(name: str) -> float:
    """``VmRSS`` (memory now) or ``VmHWM`` (most so far) of this process in MiB; NaN where the system does not say.

    The kernel's maxrss would not do: it begins with that of the process which started this one.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:")), float("nan"))


def libraries() -> str:
    """Name and version of the packages this process has loaded, without those that others of them brought along."""
    owners = metadata.packages_distributions()
    modules = {name.split(".")[0] for name in sys.modules} | _mapped()
    loaded = {_plain(owner) for name in modules for owner in owners.get(name, ())} - _NO_MATTER
    brought = {_plain(text) for name in loaded for text in metadata.requires(name) or () if "extra ==" not in text}
    chosen = (loaded - brought) | (loaded & {"numpy", "numba"})
    return "; ".join(f"{name} {metadata.version(name)}" for name in sorted(chosen))


def _mapped() -> set[str]:
    """Packages that a library was loaded from, be they imported or not."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return set()
    return set(re.findall(r"/(?:site|dist)-packages/([^/\s]+)/", maps))


def _plain(requirement: str) -> str:
    """Name of a distribution as indexes compare it."""
    found = re.match(r"[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


# ------------------------------------------------------------------------------------------------- fields as files


def save(field: Field, path: Path) -> None:
    """Write a field for `load`, values as they lie in memory."""
    grid = field.geometry
    parts: dict[str, Any] = {"values": field.values}
    if field.mask is not None:
        parts["mask"] = field.mask
    if isinstance(grid, RectilinearGrid):
        parts |= {"x": grid.x, "y": grid.y, "z": grid.z}
        about: dict[str, Any] = {"start": grid.start}
    else:
        about = asdict(grid)
    about |= {"name": field.name, "association": field.association, "time": field.time}
    np.savez(path, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **parts)


def load(path: str | Path) -> Field:
    """A field that `save` wrote."""
    with np.load(path, allow_pickle=False) as parts:
        about = json.loads(parts["about"].tobytes())
        name, association, when = (about.pop(key) for key in ("name", "association", "time"))
        about = {key: tuple(value) for key, value in about.items()}
        if "x" in parts:
            grid: Any = RectilinearGrid(parts["x"], parts["y"], parts["z"], **about)
        else:
            grid = UniformGrid(**about)
        mask = parts.get("mask")
        return Field(parts["values"], grid, name, association, when, mask)


def main(text: str) -> None:
    """Measure the case that `text` holds as JSON and print the result as the last line."""
    known: dict[str, Any] = json.loads(text)
    known |= {name: tuple(known[name]) for name in ("measures", "isovalues")}
    case = Case(**known)
    try:
        result = measured(case)
    except MissingExtraError as error:
        result = {"error": str(error), "missing": True}
    except (NeurCompError, MemoryError) as error:
        result = {"error": str(error) or "not enough memory"}
    print(f"\n{json.dumps(result)}", flush=True)


if __name__ == "__main__":
    main(sys.stdin.read())
