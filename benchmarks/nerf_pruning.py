"""Pruning of a NeRF: quality, bytes, pictures, meshes and render time at 30, 50, 70 and 90 %.

    python benchmarks/nerf_pruning.py [--data FOLDER --downscale 8] [--steps 3000] [--cache build/nerf_pruning]
                                      [--out build/nerf_pruning/pictures]

Without `--data`, the analytic scene "inward" is ray-traced: 60 views of 100 x 100 to train on, 10 unseen ones. A
coarse and a fine network (preset "fast", 4 layers of 128, unless given otherwise) are trained on it, pruned by one
threshold over the weight matrices of both, and retrained under the masks (Isik, Neural 3D Scene Compression via Model
Compression, 2021). Networks and finished rows are kept in the cache: a stopped run goes on where it was.

PSNR is the mean over unseen views for a peak of 1, of networks as trained or pruned. Bytes are those of ``.nvc`` files:
"exact" keeps every weight to the bit, "coded" has the preset "balanced" and the PSNR of what is decoded from it. Render
times are of one view of the retrained network, medians of `--runs` turns, finding free space once left out: all weights
(dense), those that are not zero (sparse rows), and the network without neurons that nothing depends on (compacted).
"neurons" rows prune whole neurons; "0 %" says what as much more training does to the network as it is. On one thread
seconds are the process's own. Depth is compared with the dense network's where both see something; surfaces (density 5
per unit length, 96 cells along the longest side) by the mean distance of their vertices, in cells.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe

from neurcomp_core import threads
from neurcomp_core.files import atomic_path
from neurcomp_core.radiance import files, images, loaders, pruning, scene_sets
from neurcomp_core.radiance.codec import RadianceContext, radiance_codec_by_name
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.imports.nerf import Dense, NerfWeights
from neurcomp_core.radiance.rendering import pictures, quality
from neurcomp_core.radiance.rendering.nerf_field import NerfField, sample_grid
from neurcomp_core.radiance.rendering.nerf_networks import with_layers
from neurcomp_core.radiance.rendering.views import View, render_view
from neurcomp_core.radiance.training.nerf import NerfRecipe, fresh, train
from neurcomp_core.radiance.volume import RadianceVolume

RATIOS = (0.3, 0.5, 0.7, 0.9)
NEURONS = (0.5,)
SAMPLES = (64, 64)
LEVEL, CELLS = 5.0, 96


class Bench:
    """One scene, its networks and its rows."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.cache, self.out = Path(options.cache), Path(options.out)
        self.cache.mkdir(parents=True, exist_ok=True)
        self.out.mkdir(parents=True, exist_ok=True)
        data = self._data()
        self.train, self.unseen = data.split("train"), data.split("test")
        chosen = np.linspace(0, len(self.unseen) - 1, min(options.views, len(self.unseen))).round().astype(int)
        self.unseen = self.unseen.take(list(dict.fromkeys(chosen.tolist())))
        over = {"steps": options.steps, "depth": options.depth, "width": options.width, "batch": options.batch}
        self.recipe = NerfRecipe.from_preset(options.preset, **{k: v for k, v in over.items() if v})
        self.context = RadianceContext(device=options.device, threads=options.threads, seed=0)
        what = (self.recipe, options.iterations, options.data, options.downscale, options.views)
        self.key = hashlib.sha256(repr(what).encode()).hexdigest()[:10]
        self.clock: Callable[[], float] = time.process_time if options.threads == 1 else time.perf_counter
        self.dense: dict[str, Any] = {}

    def _data(self) -> PosedImages:
        if self.options.data != "generated":
            return loaders.load(self.options.data, downscale=self.options.downscale)
        folder = self.cache / "inward"
        if not (folder / "transforms_train.json").exists():
            scene_sets.write(scene_sets.scene_set("inward", 100, 60, 10), folder)
        return loaders.load(folder)

    # ......................................................................................................... networks

    def network(self, name: str, make: Callable[[], NerfWeights]) -> NerfWeights:
        """One that was made before, or made now and kept."""
        path = self.cache / f"{self.key} {name}.npz"
        if not path.exists():
            begun = self.clock()
            arrays = [a for mlp in pruning.networks_of(make()) for x in mlp.layers for a in (x.weight, x.bias)]
            self.keep(f"{name} seconds", self.clock() - begun)
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                np.savez(file, *arrays)
        with np.load(path) as stored:
            arrays = [stored[f"arr_{i}"] for i in range(len(stored.files))]
        layers = [Dense(w, b) for w, b in zip(arrays[::2], arrays[1::2], strict=True)]
        layout = fresh(self.recipe, self.train.box, np.random.default_rng(0))
        half = len(layers) // 2
        return NerfWeights(with_layers(layout, layers[:half]), with_layers(layout, layers[half:]))

    def trained(self) -> NerfWeights:
        context = replace(self.context, checkpoint=self.cache / f"{self.key} training.npz")
        begun = time.time()

        def watch(moment: Any) -> None:
            print(f"step {moment.step}: {moment.psnr:.2f} dB, {time.time() - begun:.0f} s", flush=True)

        return self.network("dense", lambda: train(self.train, self.recipe, context, watch))

    def _volume(self, weights: NerfWeights) -> RadianceVolume:
        return RadianceVolume.of(weights, self.train)

    # ............................................................................................................. rows

    @property
    def _table(self) -> Path:
        return self.cache / f"{self.key} rows.json"

    def known(self) -> dict[str, Any]:
        return json.loads(self._table.read_text()) if self._table.exists() else {}

    def keep(self, name: str, value: Any) -> None:
        self._table.write_text(json.dumps(self.known() | {name: value}, indent=1))

    def row(self, name: str, pruned: NerfWeights, retrained: NerfWeights) -> dict[str, Any]:
        """All figures of a network, measured once."""
        if name in self.known():
            return self.known()[name]
        volume = self._volume(retrained)
        exact = files.compress(volume, _codec("lossless"))
        coded = files.compress(volume, _codec("balanced"))
        assert isinstance(coded.volume.model, NerfWeights)
        found: dict[str, Any] = {
            "sparsity": pruning.sparsity(retrained),
            "pruned": None if pruned is retrained else self.psnr(pruned),
            "retrained": self.psnr(retrained),
            "raw": volume.nbytes,
            "exact": exact.nbytes,
            "coded": coded.nbytes,
            "coded psnr": self.psnr(coded.volume.model),
            "compacted": RadianceVolume.of(pruning.compacted(retrained), self.train).nbytes,
        }
        found |= self.render_times(retrained) | self.look(name, retrained)
        self.keep(name, found)
        print(name, json.dumps(found), flush=True)
        return found

    def field(self, weights: NerfWeights, evaluation: Any = "dense") -> NerfField:
        return NerfField(weights, self.train.box, self.train.scene, SAMPLES, evaluation=evaluation)

    def psnr(self, weights: NerfWeights) -> float:
        field = self.field(weights)
        with threads.limit(self.options.threads):
            found = [self.score(render_view(field, self.unseen, v), v) for v in range(len(self.unseen))]
        return float(np.mean(found))

    def score(self, view: View, number: int) -> float:
        return quality.psnr(np.clip(view.color, 0, 1), self.unseen.colors(number))

    def render_times(self, weights: NerfWeights) -> dict[str, float]:
        """Median seconds of one view; the ways take turns."""
        fields = {
            "dense": self.field(weights),
            "sparse": self.field(weights, "sparse"),
            "compact": self.field(pruning.compacted(weights)),
        }
        taken: dict[str, list[float]] = {way: [] for way in fields}
        with threads.limit(self.options.threads):
            for run in range(self.options.runs + 1):
                for way, field in fields.items():
                    _ = field.free
                    begun = self.clock()
                    render_view(field, self.unseen, 0)
                    if run:
                        taken[way].append(self.clock() - begun)
        return {f"{way} s": float(np.median(t)) for way, t in taken.items()}

    def look(self, name: str, weights: NerfWeights) -> dict[str, Any]:
        """Picture, depth map and surface as files, and how far depth and surface are from the dense network's."""
        view = render_view(self.field(weights), self.unseen, 0)
        density, frame = sample_grid(weights, self.train.box, CELLS)
        if not self.dense:
            dense = weights if name == "dense" else self.trained()
            self.dense = {
                "view": view if name == "dense" else render_view(self.field(dense), self.unseen, 0),
                "density": density if name == "dense" else sample_grid(dense, self.train.box, CELLS)[0],
            }
        first: View = self.dense["view"]
        limits = tuple(np.nanpercentile(first.depth[first.opacity > 0.5], (1, 99)).tolist())
        stem = f"{self.options.name} {name}".replace(" ", "_").replace("_%", "")
        images.write_png(self.out / f"{stem}_color.png", pictures.picture(view))
        images.write_png(self.out / f"{stem}_depth.png", pictures.picture(view, "depth", limits))
        triangles, away = _mesh(self.out / f"{stem}.ply", density, frame, self.dense["density"])
        both = (view.opacity > 0.5) & (first.opacity > 0.5)
        return {
            "depth error": float(np.sqrt(np.mean((view.depth[both] - first.depth[both]) ** 2))) if both.any() else None,
            "triangles": triangles,
            "surface": away,
        }

    def run(self) -> None:
        options = self.options
        dense = self.trained()
        rows = {"dense": self.row("dense", dense, dense)}
        for ratio in (0.0, *RATIOS):
            pruned, masks = pruning.prune(dense, ratio)
            name = f"{100 * ratio:.0f} %"
            after = self.network(name, lambda masks=masks: self.retrained(dense, masks))
            rows[name] = self.row(name, pruned, after)
        name = f"{100 * RATIOS[-1]:.0f} % iterative"
        rounds = self.network(
            name,
            lambda: pruning.prune_and_retrain(
                dense, RATIOS[-1], self.train, self.recipe, options.iterations, options.rounds, self.context
            ),
        )
        rows[name] = self.row(name, rounds, rounds)
        for ratio in NEURONS:
            pruned, masks = pruning.prune_neurons(dense, ratio)
            name = f"neurons {100 * ratio:.0f} %"
            after = self.network(name, lambda pruned=pruned, masks=masks: self.retrained(pruned, masks))
            rows[name] = self.row(name, pruned, after)
        self.print(rows)

    def retrained(self, weights: NerfWeights, masks: pruning.Masks) -> NerfWeights:
        return pruning.retrain(weights, masks, self.train, self.recipe, self.options.iterations, self.context)

    def print(self, rows: dict[str, dict[str, Any]]) -> None:
        options, dense = self.options, rows["dense"]
        seconds = {k.removesuffix(" seconds"): v for k, v in self.known().items() if k.endswith(" seconds")}
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
        w, h = self.unseen.images.sizes[0]
        print(
            f"\n{options.name}: {len(self.train)} views of {w} x {h}, {len(self.unseen)} unseen; {self.recipe.depth} x "
            f"{self.recipe.width}, {self.recipe.steps} steps of {self.recipe.batch} rays, retrained for "
            f"{options.iterations}, iterative in {options.rounds} rounds; {describe()}; load {load:.1f}; "
            f"{options.threads} thread(s); seconds by {getattr(self.clock, '__name__', 'clock')}: "
            + ", ".join(f"{k} {v:.0f}" for k, v in seconds.items())
        )
        print(
            "\n| pruned | PSNR pruned | retrained | exact bytes | coded bytes | of dense | coded PSNR | dense s | "
            "sparse s | compacted s | compacted bytes | depth error | triangles | surface |\n"
            "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
        )
        for name, row in rows.items():
            cells = [
                name, _db(row["pruned"]), _db(row["retrained"]), f"{row['exact']:,}", f"{row['coded']:,}",
                f"{row['coded'] / dense['coded']:.0%}", _db(row["coded psnr"]),
                *(f"{row[f'{way} s']:.2f}" for way in ("dense", "sparse", "compact")), f"{row['compacted']:,}",
                "–" if row["depth error"] is None else f"{row['depth error']:.3f}",
                f"{row['triangles']:,}", f"{row['surface']:.2f}",
            ]  # fmt: skip
            print("| " + " | ".join(cells) + " |")
        print(f"\nraw bytes of the dense networks: {dense['raw']:,}", flush=True)


def _db(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _codec(preset: str) -> Any:
    return radiance_codec_by_name("nerf").from_preset(preset)


def _mesh(path: Path, density: np.ndarray, frame: Any, dense: np.ndarray) -> tuple[int, float]:
    """Write the isosurface as PLY in world coordinates; its triangles, and mean distance from the dense one's."""
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    from vtkmodules.vtkIOPLY import vtkPLYWriter

    from neurcomp_filters.isosurface import distance, surface

    found = surface(density, LEVEL)
    if found.GetNumberOfCells():
        points = vtk_to_numpy(found.GetPoints().GetData()) * frame.voxel + frame.box[0]
        found.GetPoints().SetData(numpy_to_vtk(points.astype(np.float32), deep=True))
    writer = vtkPLYWriter()
    writer.SetFileName(str(path))
    writer.SetInputData(found)
    writer.SetFileTypeToBinary()
    writer.Write()
    return found.GetNumberOfCells(), distance(dense, density, LEVEL, 2000).mean


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="generated", help="folder of posed images, or 'generated'")
    parser.add_argument("--name", default="", help="in tables and names of pictures; that of the folder by default")
    parser.add_argument("--downscale", type=float, default=1)
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--depth", type=int, default=0)
    parser.add_argument("--width", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=pruning.ROUNDS)
    parser.add_argument("--views", type=int, default=4, help="unseen views to judge by")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cache", default="build/nerf_pruning")
    parser.add_argument("--out", default="build/nerf_pruning/pictures")
    options = parser.parse_args()
    options.name = options.name or ("inward" if options.data == "generated" else Path(options.data).name)
    Bench(options).run()


if __name__ == "__main__":
    main()
