"""Training of radiance fields: seconds, voxels, quality on unseen views, and bytes of the compressed file.

    python benchmarks/radiance_training.py --data FOLDER --downscale 8 --models plenoxels dvgo --cache build/training
    python benchmarks/radiance_training.py --models plenoxels --preset fast --vary prune=0 --vary "tv_density=0 tv_sh=0"
    python benchmarks/radiance_training.py --data FOLDER --preset full --device cuda --time-limit 540 --cache build/gpu

Without `--data` the analytic scene of `--scene` is ray-traced: 60 views of 100 x 100 pixels to train on, 10 unseen
ones. Each `--vary` is one more row per model, trained with these numbers of its recipe instead (the first row has none;
a model that lacks one of them has no such row). `--set` changes the recipe of all rows.

A run that is stopped, by `--time-limit` or otherwise, goes on from the folder `--cache`: finished rows are not measured
again, and the training under way goes on from its checkpoint with its seconds (which, after a kill, may be wrong by the
20 s between two checkpoints). Exit code 3 says that the time limit came before the end.

Seconds are those of training alone, kernels loaded before; on one thread the process's own, so that others on the
machine disturb by their caches alone, on more the wall's. PSNR and SSIM are means over all unseen views, PSNR with
peak 1. Stored: the model's own codec, preset "balanced", measured on what its bytes decode to.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe

from neurcomp_cli.options import settings_in
from neurcomp_core.errors import InputError, Interrupted, NeurCompError
from neurcomp_core.files import atomic_write
from neurcomp_core.progress import Progress
from neurcomp_core.radiance import evaluation, files, loaders, scene_sets, trainers
from neurcomp_core.radiance.codec import RadianceContext, codec_of
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.grids import SparseGrid
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.places import Place
from neurcomp_core.radiance.training.watch import Moment
from neurcomp_core.radiance.volume import RadianceModel, RadianceVolume
from neurcomp_core.threads import limit

HEADS = ("model", "changed", "voxels", "rows", "s", "PSNR dB", "SSIM", "model bytes", "stored bytes", "stored dB")
# What the first call of every kernel takes is not training: as many steps are made before the clock starts.
WARM_UP = {
    "plenoxels": {"steps": 4, "size": 16, "levels": 2, "rays": 32},
    "dvgo": {"coarse_steps": 2, "fine_steps": 2, "coarse_batch": 32, "fine_batch": 32, "resolution": 8,
             "coarse_resolution": 8, "width": 8},
    "nerf": {"steps": 2, "batch": 8, "width": 8, "depth": 2, "warm_up": 1},
}  # fmt: skip


class Bench:
    """One set of images, and the rows that are known."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.cache = Path(options.cache)
        self.cache.mkdir(parents=True, exist_ok=True)
        self.progress = Progress(time_limit=options.time_limit)
        data = self._data()
        self.train, self.unseen = data.split("train"), evaluation.unseen(data)
        self.clock: Callable[[], float] = time.process_time if options.threads == 1 else time.perf_counter
        self.table = self.cache / "rows.json"
        self.rows: dict[str, Any] = json.loads(self.table.read_text()) if self.table.exists() else {}

    def _data(self) -> PosedImages:
        options = self.options
        if options.data is not None:
            return loaders.load(options.data, downscale=options.downscale)
        folder = self.cache / options.scene
        done = folder / "done"
        if not done.exists():
            scene_sets.write(scene_sets.scene_set(options.scene, options.size, options.views, 10), folder)
            done.touch()
        return loaders.load(folder, downscale=options.downscale)

    def row(self, model: str, changed: str) -> dict[str, Any] | None:
        """Figures of one training; None if the model has no such number. Raises `Interrupted` at the time limit."""
        options, trainer = self.options, trainers.trainer(model)
        known = trainers.parameters(trainer.recipe)
        wanted = [*options.set, *shlex.split(changed)]
        if any(text.partition("=")[0] not in known for text in shlex.split(changed)):
            return None
        wanted = [text for text in wanted if text.partition("=")[0] in known]
        recipe = trainer.recipe.from_preset(options.preset, **settings_in(known, f"model {model}", wanted))
        what = (model, recipe, options.data, options.scene, options.size, options.views, options.downscale)
        run = options.device, options.threads, options.seed
        run += () if options.backend == "auto" else (options.backend,)
        key = hashlib.sha256(repr((*what, *run)).encode()).hexdigest()[:12]
        if "psnr" in self.rows.get(key, {}):
            return self.rows[key]
        self._warm(trainer)
        volume = RadianceVolume.of(self._trained(trainer, recipe, key), self.train)
        place = Place.of(options.device, options.backend)
        found = [figures for _, figures, _ in evaluation.evaluate(volume, self.unseen, place=place)]
        context = RadianceContext(
            options.device, options.threads, options.seed, views=self.train, unseen=self.unseen, backend=options.backend
        )
        packed = files.compress(volume, codec_of(volume).from_preset("balanced"), None, context)
        self.keep(
            key,
            {
                "model": model,
                "changed": changed,
                "voxels": shape_of(volume),
                "rows": rows_of(volume.model),
                "psnr": float(np.mean([f.psnr for f in found])),
                "ssim": float(np.mean([f.ssim for f in found])),
                "model_bytes": volume.nbytes,
                "stored_bytes": packed.nbytes,
                "stored_psnr": packed.psnr,
            },
        )
        (self.cache / f"{key}.nvc").write_bytes(packed.data)
        (self.cache / f"{key}.ckpt").unlink(missing_ok=True)
        return self.rows[key]

    def _trained(self, trainer: trainers.Trainer, recipe: Any, key: str) -> RadianceModel:
        options = self.options
        before = self.rows.get(key, {}).get("s", 0.0)
        start = self.clock()

        def spent() -> float:
            return before + self.clock() - start

        def watch(moment: Moment) -> None:
            self.keep(key, {"s": spent()})
            psnr = "" if moment.psnr is None else f", {moment.psnr:.2f} dB of the training images"
            print(f"  {trainer.name}: step {moment.step} of {moment.steps}, {spent():.0f} s{psnr}", flush=True)

        checkpoint = self.cache / f"{key}.ckpt"
        context = RadianceContext(
            options.device, options.threads, options.seed, self.progress, checkpoint=checkpoint, backend=options.backend
        )
        try:
            return trainer.train(self.train, recipe, replace(context, views=self.train), watch)
        finally:
            self.keep(key, {"s": spent()})

    def _warm(self, trainer: trainers.Trainer) -> None:
        recipe = trainer.recipe.from_preset("fast", **WARM_UP[trainer.name])
        options = self.options
        context = RadianceContext(options.device, options.threads, views=self.train, backend=options.backend)
        trainer.train(self.train.take([0, 1]), recipe, context)

    def keep(self, key: str, figures: dict[str, Any]) -> None:
        """Add figures to a row, on the disk too."""
        self.rows[key] = {**self.rows.get(key, {}), **figures}
        atomic_write(self.table, json.dumps(self.rows, indent=1).encode())


def shape_of(volume: RadianceVolume) -> str:
    if isinstance(volume.model, SparseGrid):
        shape = volume.model.links.shape
    elif isinstance(volume.model, DvgoModel):
        shape = volume.model.density.shape
    else:
        return "–"
    return " × ".join(map(str, shape[::-1]))


def rows_of(model: RadianceModel) -> int:
    """Voxels that are kept; of DVGO those that are not known to be free, if it is known."""
    if isinstance(model, SparseGrid):
        return len(model.density)
    if isinstance(model, DvgoModel):
        return model.density.size if model.mask is None else int(np.count_nonzero(model.mask))
    return 0


def line(row: dict[str, Any]) -> str:
    """One row of the markdown table."""
    cells = (
        row["model"], row["changed"] or "–", row["voxels"], f"{row['rows']:,}", f"{row['s']:.0f}",
        f"{row['psnr']:.2f}", f"{row['ssim']:.4f}", f"{row['model_bytes']:,}", f"{row['stored_bytes']:,}",
        f"{row['stored_psnr']:.2f}",
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def check_names(options: argparse.Namespace) -> None:
    """A name that no model knows is a slip."""
    known = {name for model in options.models for name in trainers.parameters(trainers.trainer(model).recipe)}
    for text in [*options.set, *(part for changed in options.vary for part in shlex.split(changed))]:
        if text.partition("=")[0] not in known:
            raise InputError(f"'{text}': no model of {', '.join(options.models)} has such a number")


def parsed() -> argparse.Namespace:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--data", help="folder of posed images")
    found.add_argument("--scene", default="inward", choices=("inward", "forward", "unbounded"))
    found.add_argument("--size", type=int, default=100, help="pixels of a ray-traced view")
    found.add_argument("--views", type=int, default=60, help="ray-traced views to train on")
    found.add_argument("--downscale", type=float, default=1)
    found.add_argument("--models", nargs="+", default=["plenoxels", "dvgo"], choices=trainers.NAMES)
    found.add_argument("--preset", default="balanced")
    found.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    found.add_argument("--vary", action="append", default=[], metavar='"KEY=VALUE …"')
    found.add_argument("--device", default="cpu", choices=("auto", "cpu", "cuda"))
    found.add_argument("--backend", default="auto", choices=("auto", "triton", "torch", "numba"))
    found.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--cache", default="build/radiance_training", metavar="FOLDER")
    found.add_argument("--time-limit", type=float, metavar="SECONDS")
    return found.parse_args()


def main() -> int:
    options = parsed()
    bench = Bench(options)
    done, code = [], 0
    try:
        check_names(options)
        with limit(options.threads):
            for model in options.models:
                for changed in ("", *options.vary):
                    row = bench.row(model, changed)
                    if row is not None:
                        done.append(row)
    except Interrupted as stop:
        print(f"stopped ({stop}); the same command goes on", file=sys.stderr)
        code = stop.exit_code
    except NeurCompError as error:
        print(f"radiance_training: {error}", file=sys.stderr)
        return error.exit_code
    lens = bench.train.cameras[0].intrinsics
    print(f"\n| {' | '.join(HEADS)} |\n|{' --- |' * 3}{' ---: |' * (len(HEADS) - 3)}")
    print("\n".join(map(line, done)))
    print(
        f"\n{options.data or options.scene}: {len(bench.train)} views of {lens.width} × {lens.height} to train on, "
        f"{len(bench.unseen)} unseen; preset {options.preset}, {options.device}, {options.threads} threads; load "
        f"{os.getloadavg()[1]:.1f}; {describe()}"
    )
    return code


if __name__ == "__main__":
    sys.exit(main())
