"""Stages of VQRF on trained fields: bytes by part and PSNR on unseen views, and the coders beside zip.

    python benchmarks/vqrf_stages.py --data FOLDER --downscale 8 --train plenoxels dvgo --cache build/vqrf
    python benchmarks/vqrf_stages.py --data FOLDER --files scene.nvc --presets balanced small --cache build/vqrf
    python benchmarks/vqrf_stages.py --train plenoxels --train-preset fast --train-set size=32 --presets fast

Without `--data` the analytic scene "inward" is ray-traced: 60 views of 100 x 100 pixels to train on, 10 unseen ones.
Fields are taken from `--files`, or trained (`--train`, `--train-preset`, `--train-set`) and kept without loss in the
folder `--cache`. `--set` changes the codec's parameters, `--target` asks for a ratio, bytes or psnr-loss.

What is stopped, by `--time-limit` (exit code 3) or otherwise, goes on from the folder: a training from its checkpoint;
compressions that are done are not made again, one under way begins anew. Trainings, fine-tuning and measuring run on
`--device`, the rest, and the coders, on `--threads` of the CPU. Ratios are those of the uncompressed field's float32
numbers (DVGO: dense grids and network; a sparse grid: its
rows) over the file's bytes. PSNR has a peak of 1. Of the unseen views every sixth is for the codec to decide by, and
what the PSNR of stages is of; that of files is the mean over the others, by which nothing has been decided.
"npz + zip" are the very integers that are coded, each in the smallest type that holds it, masks as packed bits, by
numpy.savez_compressed and then in a zip archive (deflate, level 9), as the authors' program stores them.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe

from neurcomp_cli.options import settings_in
from neurcomp_core.codecs.vqrf import Vqrf
from neurcomp_core.container import Container
from neurcomp_core.errors import NeurCompError
from neurcomp_core.files import atomic_write
from neurcomp_core.progress import Progress
from neurcomp_core.radiance import evaluation, files, loaders, scene_sets, trainers
from neurcomp_core.radiance.codec import RadianceContext, codec_of
from neurcomp_core.radiance.dataset import PosedImages
from neurcomp_core.radiance.places import Place
from neurcomp_core.radiance.volume import RadianceVolume
from neurcomp_core.radiance.vqrf import stream
from neurcomp_core.radiance.vqrf.quantise import Symbols
from neurcomp_core.target import Bytes, PsnrLoss, Ratio, Target

TARGETS: dict[str, type[Target]] = {"ratio": Ratio, "bytes": Bytes, "psnr-loss": PsnrLoss}
PARTS = ("occupancy", "density", "own", "features", "codes", "indices", "network", "background", "parameters")


class Bench:
    """One set of images, and what is known of it."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.cache, self.start = options, Path(options.cache), time.monotonic()
        self.place = Place.of(options.device, options.backend)
        self.cache.mkdir(parents=True, exist_ok=True)
        data = self._data()
        self.train, unseen = data.split("train"), evaluation.unseen(data)
        deciding = set(evaluation.spread(max(len(unseen) // 6, 1), len(unseen)))
        self.deciding = unseen.take(sorted(deciding))
        self.unseen = unseen.take([i for i in range(len(unseen)) if i not in deciding])
        self.table = self.cache / "vqrf.json"
        self.known: dict[str, Any] = json.loads(self.table.read_text()) if self.table.exists() else {}

    def _data(self) -> PosedImages:
        options = self.options
        if options.data is not None:
            return loaders.load(options.data, downscale=options.downscale)
        folder = self.cache / "inward"
        if not (folder / "done").exists():
            scene_sets.write(scene_sets.scene_set("inward", 100, 60, 10), folder)
            (folder / "done").touch()
        return loaders.load(folder, downscale=options.downscale)

    def context(self, checkpoint: Path | None = None) -> RadianceContext:
        options = self.options
        return RadianceContext(
            options.device, options.threads, options.seed, self._fresh(), views=self.train,
            unseen=self.deciding, checkpoint=checkpoint, backend=options.backend,
        )  # fmt: skip

    def _fresh(self) -> Progress:
        """From 0 to 1 again, within what is left of the time limit."""
        limit = self.options.time_limit
        left = None if limit is None else max(limit - (time.monotonic() - self.start), 0.0)
        return Progress(self._report, left)

    def _report(self, fraction: float, text: str) -> None:
        if self.options.verbose:
            print(f"  {fraction:6.1%} {text}", flush=True)

    def field(self, name: str) -> bytes:
        """A trained field without loss; from the folder if it is there."""
        options, trainer = self.options, trainers.trainer(name)
        known = trainers.parameters(trainer.recipe)
        wanted = [text for text in options.train_set if text.partition("=")[0] in known]
        recipe = trainer.recipe.from_preset(options.train_preset, **settings_in(known, f"model {name}", wanted))
        path = self.cache / f"{name}-{_key(recipe, options.data, options.downscale, options.seed)}.nvc"
        if not path.exists():
            print(f"training {name}", flush=True)
            checkpoint = path.with_suffix(".ckpt")
            volume = RadianceVolume.of(trainer.train(self.train, recipe, self.context(checkpoint)), self.train)
            atomic_write(path, files.compress(volume, codec_of(volume).from_preset("lossless"), None).data)
            checkpoint.unlink(missing_ok=True)
        return path.read_bytes()

    def row(self, data: bytes, preset: str, target: Target | None) -> dict[str, Any]:
        """What became of one field."""
        options = self.options
        codec = Vqrf.from_preset(preset, **settings_in(trainers.parameters(Vqrf), "codec vqrf", options.set))
        what = options.data, options.downscale, options.seed, options.threads, len(self.unseen)
        key = _key(hashlib.sha256(data).hexdigest(), codec, target, *what)
        if key not in self.known:
            volume = files.load(data)
            made = files.compress(volume, codec, target, self.context())
            atomic_write(self.cache / f"vqrf-{key}.nvc", made.data)
            file = Container(made.data)
            symbols = stream.decode(file.header.radiance[0].params, file.radiance_sections(0))
            self.known[key] = {
                "stages": [[s.name, dict(s.parts), s.psnr] for s in made.stages],
                "raw": made.raw_bytes,
                "file": made.nbytes,
                "before": evaluation.mean_psnr(volume, self.unseen, place=self.place),
                "after": evaluation.mean_psnr(made.volume, self.unseen, place=self.place),
                "seconds": made.seconds,
                "zip": zipped(symbols),
            }
            atomic_write(self.table, json.dumps(self.known, indent=1).encode())
        return self.known[key]


def zipped(symbols: Symbols) -> int:
    """Bytes of the integers of a compressed field as numpy and zip store them."""
    masks = {"occupied": symbols.occupied, "own": symbols.own} if len(symbols.codes) else {"occupied": symbols.occupied}
    numbers = {"density": symbols.density, "kept": symbols.kept, "codes": symbols.codes, "index": symbols.index}
    numbers |= {"vectors": symbols.basis.vectors, "mean": symbols.basis.mean}
    numbers |= {f"network {i}": a for i, a in enumerate(symbols.network)}
    inner, outer = io.BytesIO(), io.BytesIO()
    arrays: dict[str, Any] = {name: np.packbits(mask) for name, mask in masks.items()}
    arrays |= {name: _smallest(a) for name, a in numbers.items()}
    np.savez_compressed(inner, **arrays)
    with zipfile.ZipFile(outer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("field.npz", inner.getvalue())
    return len(outer.getvalue())


def _smallest(values: np.ndarray) -> np.ndarray:
    if not values.size:
        return values.astype(np.int8)
    low, high = int(values.min()), int(values.max())
    kinds = (np.uint8, np.int8, np.uint16, np.int16, np.int32)
    return values.astype(next(k for k in kinds if np.iinfo(k).min <= low and high <= np.iinfo(k).max))


def _key(*what: Any) -> str:
    return hashlib.sha256(repr(what).encode()).hexdigest()[:12]


def table(title: str, row: dict[str, Any]) -> str:
    """Markdown of one field's stages."""
    names = [p for p in PARTS if any(p in parts for _, parts, _ in row["stages"])]
    lines = [
        f"**{title}**",
        "",
        f"| stage | {' | '.join(names)} | bytes | ratio | PSNR dB |",
        f"| --- |{' ---: |' * (len(names) + 3)}",
    ]
    for name, parts, psnr in row["stages"]:
        total = sum(parts.values())
        cells = [f"{parts[n]:,}" if n in parts else "–" for n in names]
        lines.append(f"| {name} | {' | '.join(cells)} | {total:,} | {row['raw'] / total:.1f} | {psnr:.2f} |")
    lines += [
        "",
        f"File {row['file']:,} bytes, {row['raw'] / row['file']:.1f} times smaller; on other unseen views "
        f"{row['before']:.2f} dB before, {row['after']:.2f} dB after, {row['before'] - row['after']:+.2f} dB lost. "
        f"The same integers as npz + zip: {row['zip']:,} bytes; the file has {1 - row['file'] / row['zip']:.0%} less. "
        f"{row['seconds']:.0f} s.",
        "",
    ]
    return "\n".join(lines)


def target_of(text: str | None) -> Target | None:
    if text is None:
        return None
    name, _, value = text.partition(":")
    if name not in TARGETS:
        raise SystemExit(f"--target: expected one of {', '.join(TARGETS)} and a number, like ratio:100; got '{text}'")
    return TARGETS[name](float(value))


def parsed() -> argparse.Namespace:
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--data", help="folder of posed images")
    found.add_argument("--downscale", type=float, default=1)
    found.add_argument("--files", nargs="*", default=[], help="radiance fields of the same scene")
    found.add_argument("--train", nargs="*", default=[], choices=("plenoxels", "dvgo"))
    found.add_argument("--train-preset", default="balanced")
    found.add_argument("--train-set", action="append", default=[], metavar="KEY=VALUE")
    found.add_argument("--presets", nargs="+", default=["balanced"], choices=tuple(Vqrf.presets))
    found.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="parameters of the codec")
    found.add_argument("--target", metavar="KIND:VALUE")
    found.add_argument("--cache", default="build/vqrf")
    found.add_argument("--device", default="cpu", choices=("auto", "cpu", "cuda"))
    found.add_argument("--backend", default="auto", choices=("auto", "triton", "torch", "numba"))
    found.add_argument("--time-limit", type=float, metavar="SECONDS", help="then exit with 3; the same command goes on")
    found.add_argument("--threads", type=int, default=1)
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--verbose", action="store_true", help="print progress")
    return found.parse_args()


def main() -> None:
    options = parsed()
    bench, target = Bench(options), target_of(options.target)
    fields = [(Path(f).stem, Path(f).read_bytes()) for f in options.files]
    fields += [(name, bench.field(name)) for name in options.train]
    for name, data in fields:
        for preset in options.presets:
            print(table(f"{name}, preset {preset}", bench.row(data, preset, target)), flush=True)
    load = os.getloadavg()[0]
    print(f"{describe()}; {options.threads} threads, load {load:.1f}")


if __name__ == "__main__":
    try:
        main()
    except NeurCompError as error:
        print(f"vqrf_stages: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
