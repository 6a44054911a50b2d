"""Bytes of radiance fields by part, against a zip archive of the same numbers.

    python benchmarks/radiance_coding.py [FILE.nvc ...] [--size 64] [--data FOLDER] [--views 3] [--downscale 8]

Fields are those of the files given (lossless ones of trained models: `neurcomp radiance train ... --codec-preset
lossless`), or the analytic scene "inward" on a grid of `size` voxels without and with noise on its coefficients. Each
is coded with every preset of its codec. The archive is `numpy.savez_compressed`: of the same rounded integers in their
smallest type, or of the same floats, and of occupancy as bits; the better one of both orders, rows or channels first.
With `--data` the mean PSNR of that many test views is measured before and after.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from machine import describe

from neurcomp_core.codecs.dvgo import Dvgo, visible
from neurcomp_core.codecs.nerf import Nerf
from neurcomp_core.codecs.plenoxels import Plenoxels
from neurcomp_core.radiance import evaluation, files, loaders
from neurcomp_core.radiance.codec import RadianceCodec, RadianceContext, codec_of
from neurcomp_core.radiance.coding import tensors
from neurcomp_core.radiance.coding.quantise import Quantiser
from neurcomp_core.radiance.grids import EMPTY, SparseGrid
from neurcomp_core.radiance.imports.dvgo import DvgoModel
from neurcomp_core.radiance.scenes import scene
from neurcomp_core.radiance.volume import RadianceVolume


def zipped(*arrays: np.ndarray) -> int:
    """Bytes of an archive of them."""
    total = io.BytesIO()
    np.savez_compressed(total, *arrays)
    return len(total.getvalue())


def smallest(symbols: np.ndarray) -> np.ndarray:
    """Integers in the smallest type that holds them."""
    top = int(np.abs(symbols).max(initial=0))
    return symbols.astype(np.int8 if top < 128 else np.int16 if top < 32768 else np.int32)


def archive(values: np.ndarray, bits: float | None, square: bool = False, dead: float = 0.0) -> int:
    """Bytes of a part ``(rows, channels)`` in an archive."""
    stored = values if bits is None else smallest(Quantiser.of_bits(values, bits, square, dead).quantise(values))
    return min(zipped(stored), zipped(np.ascontiguousarray(stored.T)))


def archives(volume: RadianceVolume, codec: RadianceCodec) -> dict[str, int]:
    """Of each part, by the names of the codec's own."""
    model = volume.model
    if isinstance(model, SparseGrid) and isinstance(codec, Plenoxels):
        keep = model.links != EMPTY
        rows = model.links[keep]
        sh = model.sh[rows].transpose(0, 2, 1).reshape(len(rows), -1)
        return {
            "occupancy": zipped(np.packbits(keep)),
            "density": archive(model.density[rows][:, None], codec.density_bits, True),
            "sh": archive(sh, codec.sh_bits, False, codec.dead),
        }
    if isinstance(model, DvgoModel) and isinstance(codec, Dvgo):
        keep = np.ones(model.density.shape, bool) if codec.clear is None else visible(model, codec.clear)
        weights = [t for layer in model.layers for t in layer]
        found = {
            "occupancy": zipped(np.packbits(keep)),
            "density": archive(model.density[keep][:, None], codec.density_bits),
            "features": archive(model.features[keep], codec.feature_bits, False, codec.dead),
        }
        if weights:
            found["network"] = zipped(*rounded(weights, codec.layer_bits))
        return found if model.mask is None else found | {"mask": zipped(np.packbits(model.mask))}
    assert isinstance(codec, Nerf)
    mlps = [m for m in (model.coarse, model.fine) if m is not None]  # pyright: ignore[reportAttributeAccessIssue]
    weights = [t for mlp in mlps for layer in mlp.layers for t in (layer.weight, layer.bias)]
    return {"weights": zipped(*rounded(weights, codec.bits))}


def rounded(weights: list[np.ndarray], bits: float | None) -> list[np.ndarray]:
    """Weights as an archive would hold them."""
    if bits is None:
        return weights
    steps = tensors.steps_of_bits(weights, bits)
    return [smallest(np.rint(w / (s or 1)).astype(np.int32)) for w, s in zip(weights, steps, strict=True)]


def baked(size: int) -> Mapping[str, RadianceVolume]:
    """The analytic scene, and the same with noise of differing strength, as training leaves it."""
    grid, draw = scene("inward").grid(size), np.random.default_rng(0)
    noise = draw.normal(0, 0.1, grid.sh.shape) * draw.gamma(1, 1, (len(grid.sh), 1, 1))
    noisy = replace(grid, sh=(grid.sh + noise).astype(np.float32))
    return {f"baked {size}": RadianceVolume(grid, grid.box), f"baked {size}, noise": RadianceVolume(noisy, noisy.box)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--downscale", type=float, default=8)
    args = parser.parse_args()
    fields = {path.stem: files.load(path) for path in args.files} or baked(args.size)
    images = loaders.load(args.data, downscale=args.downscale).split("test") if args.data else None
    context = RadianceContext(device="cpu", threads=1)
    print("| field | preset | part | bytes | zip | change |\n|---|---|---|--:|--:|--:|")
    for name, volume in fields.items():
        kind = codec_of(volume)
        chosen = evaluation.spread(args.views, len(images)) if images else []
        before = evaluation.mean_psnr(volume, images, chosen) if images else 0.0
        for preset in kind.presets:
            codec = kind.from_preset(preset)
            files.compress(volume, codec, None, context)  # compiles what is not compiled yet
            begun = time.process_time()
            made = files.compress(volume, codec, None, context)
            seconds = time.process_time() - begun
            zips, parts = archives(volume, codec), dict(made.stages[-1].parts)
            for part, size in zips.items():
                print(f"| {name} | {preset} | {part} | {parts[part]:,} | {size:,} | {parts[part] / size - 1:+.1%} |")
            total = sum(zips.values())
            text = f"| {name} | {preset} | **file** | {made.nbytes:,} | {total:,} | {made.nbytes / total - 1:+.1%} |"
            loss = "" if not images else f", {before - evaluation.mean_psnr(made.volume, images, chosen):.3f} dB lost"
            print(
                f"{text} <!-- {made.ratio:.1f} : 1 of {made.raw_bytes:,}{loss}, {seconds:.1f} s to code and decode -->"
            )
    print(f"\n{describe()}, one thread")


if __name__ == "__main__":
    main()
