"""Speed of decoding hash-grid networks: lattices, points and slopes, by each backend, with and without the way back.

    python benchmarks/gpu_decode.py [--edges 256 512] [--runs 7] [--sweep] [--json FILE]
    TRITON_INTERPRET=1 python benchmarks/gpu_decode.py --device cpu --toy

16 levels x 2 features, tables of 2^19, perceptron 64 x 2, random parameters: speed does not depend on them. All run in
one process, plain torch beside Triton, the CPU's kernels beside both (on a part, as they are slow). Times are
medians over `--runs`, on a GPU by events where nothing comes back, else by the clock with the device synchronised.
Rates of plain torch are those of the same sizes in the same run. A first round compiles and warms up and checks that
Triton's values agree with the CPU's within the margin of FORMAT.md. Needs torch and numba, and Triton with a CUDA GPU;
one H200 takes some minutes. `--sweep` tries Triton's tiles and precisions.

Wanted on an H200: a billion voxels per second, five times plain torch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe

from neurcomp_core import threads
from neurcomp_core.codec import usable_cpus
from neurcomp_core.codecs.hashgrid import MARGIN
from neurcomp_core.field import Region, full_region
from neurcomp_core.nets import torch_decode
from neurcomp_core.nets.copying import Copier
from neurcomp_core.nets.grid import GridLayout, Lattice
from neurcomp_core.nets.model import Network
from neurcomp_core.nets.numba_decode import NumbaDecoder
from neurcomp_core.nets.torch_decode import TorchDecoder

WANTED = {"lattice": 1e9}
#: Voxels along an edge, and points, that the CPU's kernels are given at most.
ON_CPU = 96, 1 << 18


class Waiting(Copier):
    """Copies one part after the other, none beside the computation."""

    def put(self, *arguments: Any) -> None:
        super().put(*arguments)
        self.finish()


class Bench:
    """One network on one device."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.device = args, torch.device(args.device)
        self.rows: list[dict[str, Any]] = []
        self.layout = GridLayout(3, args.levels, 2, args.log2_table, args.base, args.growth)
        self.rng = np.random.default_rng(0)
        self.parameters: list[np.ndarray] = []

    def network(self, edge: int) -> Network:
        network = Network(self.layout, self.args.width, 2, 1, Lattice((edge, edge, edge)))
        if not self.parameters:
            draw = (self.rng.standard_normal(s).astype(np.float32) for s in network.shapes)
            self.parameters = [p / np.float32(p.shape[-1]) ** 0.5 for p in draw]
        return network

    def decoders(self, edge: int) -> dict[str, TorchDecoder]:
        from neurcomp_core.nets.triton_decode import TritonDecoder

        network = self.network(edge)
        kinds = {"triton": TritonDecoder, "torch": TorchDecoder}
        return {name: kind(network, self.parameters, self.args.device) for name, kind in kinds.items()}

    def seconds(self, work: Callable[[], object], events: bool = False) -> float:
        """Median time of some work, the first of which is not counted."""
        cuda = self.device.type == "cuda"
        work()
        found = []
        for _ in range(self.args.runs):
            if cuda:
                torch.cuda.synchronize()
            if cuda and events:
                first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                first.record()
                work()
                last.record()
                torch.cuda.synchronize()
                found.append(first.elapsed_time(last) / 1000)
            else:
                start = time.perf_counter()
                work()
                if cuda:
                    torch.cuda.synchronize()
                found.append(time.perf_counter() - start)
        return statistics.median(found)

    def add(self, what: str, backend: str, count: int, work: Callable[[], object], events: bool = False) -> None:
        """Time `work` on `count` samples and print a line."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = self.seconds(work, events)
        peak = torch.cuda.max_memory_allocated() / 2**20 if self.device.type == "cuda" else 0.0
        rate = count / seconds
        others = [r["rate"] for r in self.rows if r["what"] == what and r["backend"] == "torch"]
        ratio = f"{rate / others[0]:6.1f} x torch" if others and backend != "torch" else ""
        wanted = WANTED.get(what.split(",")[0]) if "device" in what and backend == "triton" else None
        goal = f"   wanted {wanted / 1e6:,.0f}" if wanted else ""
        self.rows.append(
            {"what": what, "backend": backend, "count": count, "seconds": seconds, "rate": rate, "peak MiB": peak}
        )
        print(f"{what:44} {backend:8} {seconds * 1e3:10.2f} ms {rate / 1e6:10.2f} M/s {peak:8.0f} MiB {ratio}{goal}",
              flush=True)  # fmt: skip

    # ........................................................................................................ measures

    def lattices(self, edge: int) -> None:
        decoders = self.decoders(edge)
        region, count = full_region((edge, edge, edge)), edge**3
        for name in ("torch", "triton"):
            decoder = decoders[name]
            self.add(f"lattice, {edge}^3, stays on the device", name, count,
                     lambda d=decoder: parts_of(d, region), events=True)  # fmt: skip
            locked = decoder.empty((edge, edge, edge, 1), np.dtype(np.float32))
            pageable = np.zeros((edge, edge, edge, 1), np.float32)
            for label, out in (("page-locked", locked), ("any", pageable)):
                self.add(f"lattice, {edge}^3, back into {label} memory", name, count,
                         lambda d=decoder, o=out: d.lattice(region, out=o))  # fmt: skip
            plain, torch_decode.Copier = torch_decode.Copier, Waiting
            self.add(f"lattice, {edge}^3, back without overlap", name, count,
                     lambda d=decoder, o=locked: d.lattice(region, out=o))  # fmt: skip
            torch_decode.Copier = plain
            half = tuple(slice(edge // 4, edge // 4 + max(edge // 2, 1)) for _ in range(3))
            self.add(f"lattice, middle of {edge}^3, back", name, max(edge // 2, 1) ** 3,
                     lambda d=decoder, h=half: d.lattice(h))  # type: ignore[arg-type] # fmt: skip
            self.add(f"lattice, every 4th of {edge}^3, back", name, (-(-edge // 4)) ** 3,
                     lambda d=decoder: d.lattice(region, 4))  # fmt: skip

    def cpu(self, edge: int) -> None:
        edge = min(edge, ON_CPU[0])
        decoder = NumbaDecoder(self.network(edge), self.parameters)
        region = full_region((edge, edge, edge))
        points = self.rng.random((min(self.args.points, ON_CPU[1]), 3))
        self.add(f"lattice, {edge}^3", "numba", edge**3, lambda: decoder.lattice(region))
        self.add("points, values", "numba", len(points), lambda: decoder.values(points))
        self.add("points, values and slopes", "numba", len(points), lambda: decoder.gradients(points))

    def points(self, edge: int) -> None:
        decoders = self.decoders(edge)
        points = self.rng.random((self.args.points, 3))
        # In parts of a size, so that plain torch's memory is bounded.
        there = [torch.from_numpy(p).to(self.device) for p in np.array_split(points, max(len(points) >> 20, 1))]
        for slopes, label in ((False, "values"), (True, "values and slopes")):
            for name in ("torch", "triton"):
                decoder = decoders[name]
                self.add(f"points, {label}, stay on the device", name, len(points),
                         lambda d=decoder, s=slopes: [d._point_part(p, s) for p in there], events=True)  # fmt: skip
                ask = decoder.gradients if slopes else decoder.values
                self.add(f"points, {label}, there and back", name, len(points), lambda f=ask: f(points))

    def sweep(self, edge: int) -> None:
        region = full_region((edge, edge, edge))
        for precision in ("tf32x3", "ieee"):
            for tile in (1024, 2048, 4096, 8192):
                decoder: Any = self.decoders(edge)["triton"]
                decoder.precision, decoder.tile = precision, tile
                try:
                    self.add(f"lattice, {edge}^3, {precision}, tile {tile}", "triton", edge**3,
                             lambda d=decoder: parts_of(d, region), events=True)  # fmt: skip
                except Exception as error:
                    print(f"lattice, {edge}^3, {precision}, tile {tile}: {type(error).__name__}: {error}")

    def check(self, edge: int) -> None:
        """Values of all against the CPU's, on a part of the lattice and at points."""
        n = min(edge, 32)
        region = tuple(slice((edge - n) // 2, (edge - n) // 2 + n) for _ in range(3))
        points = self.rng.random((min(512, self.args.points), 3))
        reference = NumbaDecoder(self.network(edge), self.parameters)
        wanted: np.ndarray = reference.lattice(region)  # type: ignore[arg-type]
        values, slopes = reference.gradients(points)
        spread = float(np.ptp(wanted))
        for name, decoder in self.decoders(edge).items():
            off = np.abs(decoder.lattice(region) - wanted).max() / spread  # type: ignore[arg-type]
            found, slope = decoder.gradients(points)
            at = np.abs(found - values).max() / spread
            tilt = float(np.median(np.abs(slope - slopes)) / np.abs(slopes).max())
            print(f"{name}: off the CPU's by {off:.2e} of the range on the lattice, {at:.2e} at points (allowed "
                  f"{MARGIN:.2e}); slopes by {tilt:.2e} (median)", flush=True)  # fmt: skip
            if not max(off, at) <= MARGIN:
                raise SystemExit(f"{name} leaves the margin of FORMAT.md")


def parts_of(decoder: TorchDecoder, region: Region) -> None:
    """All parts of a lattice, which are dropped on the device."""
    counts = [r.stop - r.start for r in region[::-1]]
    cells = decoder._cells(region, 1)
    count = int(np.prod(counts))
    with torch.no_grad():
        for first in range(0, count, decoder.parts.size):
            decoder._lattice_part(cells, counts, first, min(decoder.parts.size, count - first), (1.0, 0.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--edges", type=int, nargs="+", default=[256, 512], help="samples along the lattices' edges")
    parser.add_argument("--points", type=int, default=1 << 24)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--levels", type=int, default=16)
    parser.add_argument("--log2-table", type=int, default=19)
    parser.add_argument("--base", type=int, default=16)
    parser.add_argument("--growth", type=float, default=1.3195)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--threads", type=int, default=usable_cpus())
    parser.add_argument("--sweep", action="store_true", help="try Triton's tiles and precisions as well")
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--toy", action="store_true", help="sizes that only show that it runs")
    args = parser.parse_args()
    if args.toy:
        args.edges, args.points, args.runs = [6], 40, 1
        args.levels, args.log2_table, args.base, args.width = 3, 8, 3, 16
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device; try the toy sizes of the docstring with --device cpu")
    card = (
        torch.cuda.get_device_name()
        if args.device == "cuda"
        else "no GPU: Triton's interpreter, its times mean nothing"
    )
    print(f"{describe()}, {args.threads} threads, {card}", flush=True)
    bench = Bench(args)
    with threads.limit(args.threads):
        bench.check(args.edges[0])
        for edge in args.edges:
            bench.lattices(edge)
        bench.points(args.edges[0])
        bench.cpu(args.edges[0])
        if args.sweep:
            bench.sweep(args.edges[0])
    if args.json:
        args.json.write_text(json.dumps({"machine": describe(), "card": card, "rows": bench.rows}, indent=1))


if __name__ == "__main__":
    main()
