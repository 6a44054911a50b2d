"""Photographs with known cameras to a radiance field: trained, compressed, as VTI, and in pictures side by side.

Writes into a folder compressed.nvc, uncompressed.nvc (the trained field to the bit), field.vti (density and colours of
the compressed one, opens everywhere), compare.pvsm (a ParaView state: both fields as volumes in linked views), and for
some photographs that were not trained on view_000.png, ...: above the photograph, the field before and after
compression, below four times the error of the latter, and ParaView's volume renderings of both from the same place
(also uncompressed_000.png, compressed_000.png, ...).

    neurcomp sample radiance -o photographs
    neurcomp pvpython radiance_from_images.py photographs -o scene --preset fast --psnr-loss 0.3
    neurcomp pvpython radiance_from_images.py mic -o mic --model dvgo --downscale 4 --ratio 100 --checkpoint mic.ckpt
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from paraview.simple import SaveState

import radiance_pictures as drawing
from neurcomp_core import threads
from neurcomp_core.errors import InputError
from neurcomp_core.files import atomic_write
from neurcomp_core.radiance import evaluation, files, loaders, trainers
from neurcomp_core.radiance.codec import RadianceContext, radiance_codec_by_name, radiance_registry
from neurcomp_core.radiance.movies import side_by_side
from neurcomp_core.radiance.volume import RadianceVolume
from neurcomp_core.target import Bytes, PsnrLoss, Ratio
from neurcomp_filters import scripting
from neurcomp_filters.radiance_scripting import Eye, decibels, error, psnr, telling, write_png
from neurcomp_filters.settings import default_threads, parameters_in, values_in

TARGETS = {"bytes": Bytes, "ratio": Ratio, "psnr_loss": PsnrLoss}
NAMES = ["uncompressed.nvc", "compressed.nvc"]


def main():
    arguments = options().parse_args()
    with scripting.loud("radiance_from_images"), threads.limit(arguments.threads or default_threads()):
        # What is wrong with the options comes out before the work.
        trainer, codec, target = chosen(arguments)
        recipe = recipe_of(trainer, arguments)
        photographs = loaders.load(arguments.images, downscale=arguments.downscale, holdout=arguments.holdout)
        train, unseen = photographs.split("train"), evaluation.unseen(photographs)
        arguments.output.mkdir(parents=True, exist_ok=True)
        context = RadianceContext(
            arguments.device, arguments.threads or default_threads(), arguments.seed, telling(),
            checkpoint=arguments.checkpoint, views=train, unseen=unseen,
        )  # fmt: skip
        volume = RadianceVolume.of(trainer.train(train, recipe, context), train)
        print(f"{arguments.images}: {arguments.model} trained on {len(train)} photographs", flush=True)

        context = replace(context, progress=telling(), checkpoint=None)
        made = files.compress(volume, codec, target, context)
        whole = files.compress(volume, radiance_codec_by_name(trainer.codec).from_preset("lossless"))
        for name, found in zip(NAMES, (whole, made), strict=True):
            atomic_write(arguments.output / name, found.data)
        if arguments.checkpoint:
            arguments.checkpoint.unlink(missing_ok=True)  # what it was kept for is done
        rows = [[s.name, f"{s.nbytes:,}", "" if s.psnr is None else decibels(s.psnr)] for s in made.stages]
        print(scripting.table(["stage", "bytes", "PSNR of a few views"], rows))
        print(
            f"{arguments.output / NAMES[1]}: {made.nbytes:,} bytes, ratio {made.ratio:.1f}, {made.psnr:.2f} dB on "
            f"{len(unseen)} unseen views, {made.psnr_before:.2f} dB before compression",
            flush=True,
        )
        # From the files: what is shown is what is in them.
        volumes = [files.load(arguments.output / name) for name in NAMES]
        heads, rows = draw(volumes, unseen, arguments)
        print(scripting.table(heads, rows))


def options():
    found = scripting.parser(__doc__)
    found.add_argument("images", type=Path, help="folder: NeRF-synthetic, nerfstudio, instant-ngp, LLFF or COLMAP")
    found.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where the files go")
    found.add_argument("--downscale", type=float, default=1, metavar="FACTOR", help="make images smaller")
    found.add_argument("--holdout", type=int, default=8, metavar="N", help="test on every N-th if there are no splits")
    group = found.add_argument_group("training")
    group.add_argument("--model", default="plenoxels", choices=("plenoxels", "dvgo"), help="(default: plenoxels)")
    group.add_argument("--preset", default="balanced", help="fast, balanced (the default), or full, for a GPU")
    group.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the recipe; repeatable")
    group.add_argument("--checkpoint", type=Path, metavar="FILE", help="kept while training, to go on from")
    group = found.add_argument_group("compression")
    group.add_argument("--codec", default="vqrf", help=f"(default: vqrf) one of {', '.join(radiance_registry())}")
    group.add_argument("--codec-preset", default="balanced", metavar="NAME")
    group.add_argument("--codec-set", action="append", default=[], metavar="KEY=VALUE", help="repeatable")
    target = group.add_mutually_exclusive_group()
    target.add_argument("--ratio", type=float, help="bytes of the model / of the file")
    target.add_argument("--bytes", type=float, help="of the file")
    target.add_argument("--psnr-loss", type=float, metavar="DB", help="at most so much worse on unseen views")
    group = found.add_argument_group("pictures and run")
    group.add_argument("--views", type=int, default=4, help="unseen views to draw (default: 4)")
    group.add_argument("--resolution", type=int, default=0, help="of the VTI; 0: the field's own, or 128")
    group.add_argument("--sh", action="store_true", help="spherical harmonics in the VTI, too")
    group.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    group.add_argument("--seed", type=int, default=0)
    group.add_argument("--threads", type=int, default=0, help="CPU threads; 0 for all")
    return found


def chosen(arguments):
    """Trainer, codec and target."""
    trainer, codec = trainers.trainer(arguments.model), radiance_codec_by_name(arguments.codec)
    if not set(radiance_codec_by_name(trainer.codec).takes) & set(codec.takes):
        raise InputError(f"--codec: {codec.name} does not take what {trainer.name} trains; vqrf and {trainer.codec} do")
    made = codec.from_preset(arguments.codec_preset, **parameters_in(codec, arguments.codec_set))
    given = [(kind, getattr(arguments, name)) for name, kind in TARGETS.items()]
    targets = [kind(value) for kind, value in given if value is not None]
    return trainer, made, targets[0] if targets else None


def recipe_of(trainer, arguments):
    if arguments.preset not in trainer.presets:
        raise InputError(f"--preset: {trainer.name} has {', '.join(trainer.presets)}, got '{arguments.preset}'")
    known = trainers.parameters(trainer.recipe)
    return trainer.recipe.from_preset(arguments.preset, **values_in(known, arguments.set, "--set"))


def draw(volumes, unseen, arguments):
    """Write the VTI, the pictures and the state; heads and rows of a table of the views' PSNR to the photographs."""
    folder, box, numbers = arguments.output, volumes[0].box, evaluation.spread(arguments.views, len(unseen))
    fields = [drawing.opened(folder / name, arguments.resolution) for name in NAMES]
    drawing.write_vti(fields[1], folder / "field.vti", arguments.sh)
    eyes = [Eye.of(unseen.cameras[i], box) for i in numbers]
    # A forward-facing field is in coordinates of its own, in which the photographs' cameras are none.
    seen = volumes[0].scene != "forward-facing"
    pair = [drawing.Shown.of(f, size_of(unseen, 0), unseen.background) for f in fields] if seen else []
    rows = []
    found = zip(*(evaluation.evaluate(volume, unseen, numbers) for volume in volumes), strict=True)
    for number, (eye, views) in enumerate(zip(eyes, found, strict=True)):
        index = views[0][0]
        truth = unseen.colors(index)
        pictures = [view.color for _, _, view in views]
        drawn = []
        for shown, name in zip(pair, NAMES, strict=False):
            shown.view.ViewSize = size_of(unseen, index)
            drawn.append(shown.volume(eye, folder / f"{Path(name).stem}_{number:03d}.png"))
        above = side_by_side([truth, *pictures])
        below = [side_by_side([error(pictures[1], truth), *drawn])] if drawn else []
        write_png(folder / f"view_{number:03d}.png", np.concatenate([above, *below]))
        rows.append([views[0][1].name, *(decibels(psnr(p, truth)) for p in [*pictures, *drawn])])
    if pair and eyes:
        drawing.linked(pair, NAMES)
        for shown in pair:
            shown.show(eyes[0])
        SaveState(str(folder / "compare.pvsm"))
    return ["unseen view", "uncompressed", "compressed", *["uncompressed volume", "volume"][: len(pair)]], rows


def size_of(images, view):
    lens = images.cameras[view].intrinsics
    return [lens.width, lens.height]


if __name__ == "__main__":
    main()
