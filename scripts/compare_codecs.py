"""Compress one array with several codecs to the same target: a table, and pictures with one camera and one
transfer function.

Each codec has a row in the picture: original, decoded, error; the errors share one scale. A codec that fails is
named in the table and makes the exit code 1.

    neurcomp pvpython compare_codecs.py flow.vti -o comparison.png --ratio 50
    neurcomp pvpython compare_codecs.py flow.vti -o comparison.png --psnr 45 --codec hashgrid --csv figures.csv
"""

import csv
from pathlib import Path

from paraview.simple import NeuralCompress, UpdatePipeline, VolumeCompare, servermanager

import render_comparison as drawing
from neurcomp_core.errors import InputError, NeurCompError
from neurcomp_filters import scripting
from neurcomp_filters.settings import codec_names

HEADS = ["codec", "bytes", "ratio", "bits/voxel", "PSNR dB", "SSIM", "max error", "s"]


def main():
    arguments = options().parse_args()
    with scripting.loud("compare_codecs"):
        settings = scripting.properties(arguments)
        names = chosen_codecs(arguments.codec)
        if arguments.output.suffix.lower() != ".png":
            raise InputError(f"-o {arguments.output}: expected a name that ends in .png")
        original = drawing.opened(arguments.input)
        association, array = drawing.chosen_array(original, arguments.array)
        table, done, failed = [], {}, []
        for name in names:
            try:
                done[name], row = compressed(original, association, array, {**settings, "Codec": name})
                table.append([name, *row])
            except NeurCompError as error:
                failed.append(f"{name}: {error}")
                table.append([name, "failed", *[""] * (len(HEADS) - 2)])
        print(scripting.table(HEADS, table))
        if arguments.csv:
            with open(arguments.csv, "w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([HEADS, *table])
        if done:
            rows = panels(original, association, array, done, table)
            with scripting.checked():
                drawing.save(drawing.draw(rows, association, arguments.mode, arguments.size), arguments.output)
            print(f"{arguments.output}: {array}")
        if failed:
            raise NeurCompError("; ".join(failed))


def options():
    found = scripting.parser(__doc__)
    found.add_argument("input", type=Path)
    found.add_argument("-o", "--output", type=Path, required=True, metavar="PNG")
    found.add_argument("--array", metavar="NAME", help="array to compress (default: the first one)")
    found.add_argument(
        "--codec", action="append", metavar="NAME", help=f"repeatable (default: all): {', '.join(codec_names())}"
    )
    found.add_argument("--csv", type=Path, help="also write the table to a file")
    drawing.add_drawing(found)
    scripting.add_target(found, default=50)
    scripting.add_run(found, codec=False)
    return found


def chosen_codecs(wanted):
    for name in wanted or []:
        if name not in codec_names():
            raise InputError(f"there is no codec '{name}'; there are: {', '.join(codec_names())}")
    return wanted or codec_names()


def compressed(original, association, array, settings):
    """Reconstruction and its comparison with the original; a row of the table."""
    arrays = {"PointArrays": [], "CellArrays": []}
    arrays["PointArrays" if association == "point" else "CellArrays"] = [array]
    with scripting.checked():
        decoded = NeuralCompress(Input=original, **arrays, **settings)
        UpdatePipeline(proxy=decoded)
    with scripting.checked():
        comparison = VolumeCompare(Original=original, Reconstruction=decoded, **arrays)
        UpdatePipeline(proxy=comparison)
    found = servermanager.Fetch(decoded).GetFieldData()
    size, ratio, bits, seconds = (
        found.GetArray(f"neurcomp_{name}").GetTuple1(0) for name in ("bytes", "ratio", "bits_per_voxel", "seconds")
    )
    quality = drawing.figures(comparison)
    row = [
        f"{int(size):,}",
        f"{ratio:.4g}",
        f"{bits:.4g}",
        f"{quality['PSNR (dB)']:.2f}",
        f"{quality['SSIM']:.4f}",
        f"{quality['Max Error']:.4g}",
        f"{seconds:.1f}",
    ]
    return (decoded, comparison), row


def panels(original, association, array, done, table):
    """A row of panels for each codec that succeeded."""
    low, high = drawing.value_range(original, association, array)
    errors = f"{array}_absolute_error"
    worst = max(drawing.value_range(comparison, association, errors)[1] for _, comparison in done.values())
    said = {row[0]: f"{row[0]}: {row[2]}:1, {row[4]} dB" for row in table}
    return [
        [
            drawing.Panel(original, array, low, high, "original"),
            drawing.Panel(decoded, array, low, high, said[name]),
            drawing.error_panel(comparison, association, array, worst),
        ]
        for name, (decoded, comparison) in done.items()
    ]


if __name__ == "__main__":
    main()
