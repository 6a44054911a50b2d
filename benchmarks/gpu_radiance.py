"""Radiance fields on a GPU: frames per second at 800 x 800 and rays per second of training, Triton beside plain torch.

    python benchmarks/gpu_radiance.py                               # generated fields of 256^3 voxels, four minutes
    python benchmarks/gpu_radiance.py --field mic.nvc --data mic    # a file's field, its codebook too, and its PSNR
    TRITON_INTERPRET=1 python benchmarks/gpu_radiance.py --toy --device cpu     # that it runs, not how fast

Needs torch and triton; numba only with `--field` or `--data`. Without `--field` the fields are the shells of seven
balls on a grid: sparse voxels with spherical harmonics of degree 2 (Plenoxels), dense density and 12 features with a
network of 3 x 128 (DVGO), and both with a codebook of 4096 rows for three quarters of their voxels (VQRF), rendered as
they are stored. With `--field` they are that of the file, which codec `vqrf` leaves as it is stored and plain torch
expands.

A frame is rays made, marched and composited over white, 800 x 800 on the device; "to the host" adds the copy of its
colours. Training is one step on a batch whose rays are on the device already: look-ups, march, gradients, optimiser,
total variation where the paper's recipe has it. Variants take turns; each figure is the median of `--runs` after two
runs that compile and warm up, by wall clock between synchronisations.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import no_numba
import numpy as np
import torch
from machine import describe

no_numba.stand_in()

from neurcomp_core.errors import NeurCompError  # noqa: E402
from neurcomp_core.radiance import evaluation, files, loaders, paths  # noqa: E402
from neurcomp_core.radiance.cameras import Camera, Intrinsics  # noqa: E402
from neurcomp_core.radiance.grids import SparseGrid  # noqa: E402
from neurcomp_core.radiance.imports.dvgo import DvgoModel  # noqa: E402
from neurcomp_core.radiance.places import Place  # noqa: E402
from neurcomp_core.radiance.rendering.frames import GridFrame, Rays  # noqa: E402
from neurcomp_core.radiance.rendering.occupancy import dilated  # noqa: E402
from neurcomp_core.radiance.shared import SharedDvgo, SharedGrid  # noqa: E402
from neurcomp_core.radiance.training.batches import Batch  # noqa: E402
from neurcomp_core.radiance.training.dvgo_recipe import DvgoSchedule  # noqa: E402
from neurcomp_core.radiance.training.dvgo_state import DvgoState  # noqa: E402
from neurcomp_core.radiance.training.plenoxels_recipe import PlenoxelsRecipe  # noqa: E402
from neurcomp_core.radiance.volume import RadianceVolume, model_nbytes  # noqa: E402
from neurcomp_core.radiance.vqrf.rows import links_of  # noqa: E402

#: Frames per second that the project wants of a compressed field at 800 x 800.
WANTED = 30
CHANNELS, WIDTH, CODES, UNSHARED = 12, 128, 4096, 0.25


@dataclass(frozen=True)
class Case:
    """A field and its name in the tables."""

    name: str
    model: Any

    @property
    def nbytes(self) -> int:
        """Of its arrays on the device."""
        model = self.model
        if isinstance(model, SharedGrid | SharedDvgo):
            return model.nbytes
        return model_nbytes(model) + (model.links.nbytes if isinstance(model, SparseGrid) else 0)


def balls(size: int, seed: int = 0) -> SparseGrid:
    """Shells of seven balls within [-1, 1]^3, four voxels thick, as training leaves of a scene what can be seen."""
    draw = np.random.default_rng(seed)
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    density = np.zeros((size, size, size), np.float32)
    for k in range(7):
        turn, reach = k * np.pi / 3, 0.55 if k < 6 else 0.0
        center, radius = (reach * np.cos(turn), reach * np.sin(turn), draw.uniform(-0.4, 0.4)), draw.uniform(0.2, 0.35)
        squares = [(axis - c) ** 2 for c in center]
        apart = np.sqrt(squares[2][:, None, None] + squares[1][:, None] + squares[0]) - radius
        density = np.maximum(density, 0.6 * size * np.clip(1 - np.abs(apart) * size / 4, 0, None))
    keep = density > 0
    rows = int(np.count_nonzero(keep))
    sh = (0.3 * draw.standard_normal((rows, 3, 9))).astype(np.float32)
    return SparseGrid(links_of(keep), density[keep], sh, np.array([[-1.0] * 3, [1.0] * 3]))


def dvgo_of(grid: SparseGrid, seed: int = 0) -> DvgoModel:
    """Dense grids with the opacity of a sparse one, and features and a network at random: they cost the same."""
    draw = np.random.default_rng(seed)
    sigma = np.where(grid.links < 0, 0, np.append(grid.density, 0)[grid.links])
    occupied = sigma > 0.05
    frame = GridFrame(sigma.shape, grid.box, centered=False)
    unit = float(np.cbrt(np.prod(frame.voxel)))
    thick = np.clip(sigma * unit, 1e-5, None)
    density = (thick + np.log(-np.expm1(-thick)) + 4).astype(np.float32)
    features = draw.standard_normal((*sigma.shape, CHANNELS), np.float32)
    sizes = [CHANNELS + 27, WIDTH, WIDTH, 3]
    layers = tuple(
        ((draw.standard_normal((b, a)) / np.sqrt(a)).astype(np.float32), np.zeros(b, np.float32))
        for a, b in itertools.pairwise(sizes)
    )
    return DvgoModel(density, features, grid.box, -4.0, unit, layers, 4, True, dilated(occupied))


def slots_of(rows: int, seed: int = 0) -> tuple[np.ndarray, int]:
    """Which row of the table each voxel has, a quarter of them rows of their own; and the table's length."""
    draw = np.random.default_rng(seed)
    codes = min(CODES, max(1, rows // 8))
    own = draw.random(rows) < UNSHARED
    slots = draw.integers(0, codes, rows)
    slots[own] = codes + np.arange(np.count_nonzero(own))
    return slots.astype(np.int32), codes + np.count_nonzero(own)


def generated(size: int) -> list[Case]:
    """Fields that need no training."""
    grid = balls(size)
    dense = dvgo_of(grid)
    slots, count = slots_of(len(grid.density))
    draw = np.random.default_rng(1)
    table = grid.sh[draw.integers(0, len(grid.sh), count)]
    assert dense.mask is not None
    links = links_of(dense.mask)
    rows, others = slots_of(int(links.max()) + 1)
    shared = SharedDvgo(
        links, dense.density[dense.mask], rows, draw.standard_normal((others, CHANNELS), np.float32), -10.0, dense.box,
        dense.shift, dense.unit, dense.layers, dense.frequencies, True, dense.mask,
    )  # fmt: skip
    return [
        Case("Plenoxels", grid),
        Case("DVGO", dense),
        Case("VQRF of Plenoxels, as stored", SharedGrid(grid.links, grid.density, slots, table, grid.box)),
        Case("VQRF of DVGO, as stored", shared),
    ]


class Bench:
    """Everything that is measured, on one device."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.device = options, torch.device(options.device)
        self.data = None if options.data is None else loaders.load(options.data, downscale=options.downscale)
        self.volume = None
        if options.field is None:
            self.cases = generated(options.size)
        else:
            self.volume = files.load(options.field)
            stored = files.load(options.field, to_render=True)
            self.cases = [Case(f"{Path(options.field).stem}, expanded", self.volume.model)]
            if isinstance(stored.model, SharedGrid | SharedDvgo):
                self.cases.append(Case(f"{Path(options.field).stem}, as stored", stored.model))

    def seconds(self, works: dict[str, Callable[[], object]]) -> dict[str, float]:
        """Median of each; they take turns."""
        found: dict[str, list[float]] = {name: [] for name in works}
        warm_up = 0 if self.options.toy else 2
        for run in range(self.options.runs + warm_up):
            for name, work in works.items():
                self.wait()
                start = time.perf_counter()
                work()
                self.wait()
                if run >= warm_up:
                    found[name].append(time.perf_counter() - start)
        return {name: float(np.median(times)) for name, times in found.items()}

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    # ..................................................................................................... rendering

    def cameras(self, box: np.ndarray) -> Iterator[Camera]:
        """Views from all around, one after the other for ever."""
        if self.data is not None:
            seen = evaluation.unseen(self.data)
            while True:
                yield from seen.cameras
        lens = Intrinsics.from_angle(0.69, self.options.pixels, self.options.pixels)
        reach = 2.0 * float((box[1] - box[0]).max())
        while True:
            yield from (Camera(lens, pose) for pose in paths.circle(box.mean(0), reach, 40))

    def frames(self, case: Case) -> str:
        """Row of the table of frames."""
        from neurcomp_core.radiance.rendering.device_fields import device_field
        from neurcomp_core.radiance.rendering.device_rays import RayTensors

        cameras, white = self.cameras(case.model.box), (1.0, 1.0, 1.0)
        volume = self.volume
        near, far = (0.0, float("inf")) if volume is None else (volume.near, volume.far)
        works: dict[str, Callable[[], object]] = {}
        for backend in ("triton", "torch"):
            field = device_field(case.model, Place(self.options.device, backend, True))

            def frame(field: Any = field) -> Any:
                return field.frame(RayTensors.of_camera(next(cameras), near, far, self.device), white)

            works[backend] = frame
            if backend == "triton":
                works["to the host"] = lambda frame=frame: frame().color.cpu()
        taken = self.seconds(works)
        fps, copied, plain = (1 / taken[name] for name in ("triton", "to the host", "torch"))
        cells = (case.name, f"{case.nbytes / 2**20:,.1f}", f"{fps:,.1f}", f"{copied:,.1f}", f"{plain:,.2f}")
        return f"| {' | '.join(cells)} | {fps / plain:,.1f} x | {WANTED} |"

    def psnr(self, case: Case) -> str | None:
        """PSNR on the unseen views by Triton, and by the CPU's kernels."""
        if self.data is None or self.volume is None:
            return None
        seen = evaluation.unseen(self.data)
        some = evaluation.spread(self.options.views, len(seen))
        volume = RadianceVolume(case.model, self.volume.box, self.volume.scene, self.volume.near, self.volume.far)
        places = Place(self.options.device, "triton", True), None
        found = [evaluation.mean_psnr(volume, seen, some, place=place) for place in places]
        return f"{case.name}: {found[0]:.3f} dB by Triton, {found[1]:.3f} dB by the CPU, {len(some)} unseen views"

    # ....................................................................................................... training

    def rays(self, box: np.ndarray, count: int) -> tuple[Rays, np.ndarray]:
        """Random rays towards the box with random colours; drawn anew they cost the same."""
        draw = np.random.default_rng(0)
        origins = draw.standard_normal((count, 3))
        origins *= 2 * (box[1] - box[0]).max() / np.linalg.norm(origins, axis=1, keepdims=True)
        aims = draw.uniform(0.6 * box[0], 0.6 * box[1], (count, 3))
        directions = aims - origins
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        return Rays(origins + box.mean(0), directions), draw.random((count, 3)).astype(np.float32)

    def steps(self, case: Case) -> str | None:
        """Row of the table of training; of fields that are trained as they are."""
        if isinstance(case.model, SparseGrid):
            works, count = self.plenoxels(case.model)
        elif isinstance(case.model, DvgoModel):
            works, count = self.dvgo(case.model)
        else:
            return None
        taken = self.seconds(works)
        fast, plain = (count / taken[name] for name in ("triton", "torch"))
        cells = (case.name, f"{count:,}", f"{1e3 * taken['triton']:.2f}", f"{fast:,.0f}", f"{plain:,.0f}")
        return f"| {' | '.join(cells)} | {fast / plain:,.1f} x |"

    def plenoxels(self, grid: SparseGrid) -> tuple[dict[str, Callable[[], object]], int]:
        """Steps of the paper's recipe."""
        from neurcomp_core.radiance.rendering.device_rays import RayTensors
        from neurcomp_core.radiance.training.plenoxels_torch import TorchSteps
        from neurcomp_core.radiance.training.plenoxels_triton import TritonSteps

        recipe = PlenoxelsRecipe.from_preset("full")
        count = self.options.rays or recipe.rays
        rays, colors = self.rays(grid.box, count)
        fractions, white = np.random.default_rng(1).random(count), np.ones(3)
        sent = RayTensors.of(rays, self.device), torch.as_tensor(colors, device=self.device)
        fast: Any
        fast, plain = (steps(grid, recipe, device=self.device) for steps in (TritonSteps, TorchSteps))
        works: dict[str, Callable[[], object]] = {
            "triton": lambda: fast.step(*sent, white, fractions, 0, 0),
            "torch": lambda: plain.step(rays, colors, white, fractions, 0, 0),
        }
        return works, count

    def dvgo(self, model: DvgoModel) -> tuple[dict[str, Callable[[], object]], int]:
        """Steps of the paper's fine stage."""
        from neurcomp_core.radiance.rendering.device_rays import RayTensors
        from neurcomp_core.radiance.training.device_batches import DeviceBatch
        from neurcomp_core.radiance.training.dvgo_torch import TorchEngine
        from neurcomp_core.radiance.training.dvgo_triton import TritonEngine

        schedule = DvgoSchedule(20_000)
        count = self.options.rays or schedule.batch
        rays, colors = self.rays(model.box, count)
        sent = DeviceBatch(RayTensors.of(rays, self.device), torch.as_tensor(colors, device=self.device))
        fast: Any
        fast, plain = (
            engine(DvgoState.of(model), (1.0, 1.0, 1.0), self.device) for engine in (TritonEngine, TorchEngine)
        )
        works: dict[str, Callable[[], object]] = {
            "triton": lambda: fast.step(sent, schedule, 0),
            "torch": lambda: plain.step(Batch(rays, colors), schedule, 0),
        }
        return works, count


def parsed() -> argparse.Namespace:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--field", metavar="FILE.nvc")
    found.add_argument("--data", help="folder of posed images, whose unseen views are rendered")
    found.add_argument("--downscale", type=float, default=1)
    found.add_argument("--views", type=int, default=5, help="unseen views that PSNR is measured on")
    found.add_argument("--size", type=int, default=256, help="voxels along the longest side of generated fields")
    found.add_argument("--pixels", type=int, default=800)
    found.add_argument("--rays", type=int, default=0, help="of a training step; by default the papers'")
    found.add_argument("--runs", type=int, default=9)
    found.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    found.add_argument("--toy", action="store_true", help="of a size that Triton's interpreter can do")
    options = found.parse_args()
    if options.toy:
        options.size, options.pixels, options.rays, options.runs = 8, 4, 8, 1
    return options


def card(device: str) -> str:
    """What it was measured on."""
    return torch.cuda.get_device_name() if device == "cuda" else "Triton's interpreter on the CPU: no figure of speed"


def main() -> int:
    options = parsed()
    if options.device == "cpu":
        os.environ.setdefault("TRITON_INTERPRET", "1")
    try:
        bench = Bench(options)
        heads = "field", "MiB", "frames/s", "with copy to the host", "plain torch, frames/s", "gain", "wanted"
        print(f"{options.pixels} x {options.pixels} pictures\n\n| {' | '.join(heads)} |\n| --- |{' ---: |' * 6}")
        for case in bench.cases:
            print(bench.frames(case), flush=True)
        for case in bench.cases:
            measured = bench.psnr(case)
            if measured is not None:
                print(f"\n{measured}", flush=True)
        heads = "model", "rays a step", "ms a step", "rays/s", "plain torch, rays/s", "gain"
        print(f"\nTraining\n\n| {' | '.join(heads)} |\n| --- |{' ---: |' * 5}")
        for case in bench.cases:
            row = bench.steps(case)
            if row is not None:
                print(row, flush=True)
    except NeurCompError as error:
        print(f"gpu_radiance: {error}", file=sys.stderr)
        return error.exit_code
    print(f"\n{card(options.device)}; medians of {options.runs}; {describe()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
