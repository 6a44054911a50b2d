"""Compress the time steps of a simulation, and write them out again as a series that opens without NeurComp.

Reads whatever ParaView opens. Each array goes into one .nvc file with all time steps (--together: all arrays into
one), which is then opened again and saved as a .pvd with a .vti or .vtr per step.

    neurcomp pvpython compress_series.py run/flow.pvd -o small --ratio 100
    neurcomp pvpython compress_series.py run/flow_*.vti -o small --psnr 50 --array pressure --every 10
    neurcomp pvpython compress_series.py run/flow.pvd -o small --psnr 50 --key-every 1    # quick jumps in time
"""

from pathlib import Path

from paraview.simple import Delete, ExtractTimeSteps, OpenDataFile, ResampleToImage, SaveData, UpdatePipeline

from neurcomp_core.container import Container
from neurcomp_core.errors import InputError
from neurcomp_core.steps import KEY_EVERY
from neurcomp_filters import scripting
from neurcomp_filters.figures import figures_of


def main():
    arguments = options().parse_args()
    with scripting.loud("compress_series"):
        settings = scripting.properties(arguments)
        source, times = opened(arguments)
        arguments.output.mkdir(parents=True, exist_ok=True)
        rows = []
        for stem, selection in outputs(source, arguments):
            compressed = arguments.output / f"{stem}.nvc"
            series = arguments.output / f"{stem}{'.pvd' if len(times) > 1 else '.vti'}"
            check_new([compressed] if arguments.no_vti else [compressed, series], arguments.force)
            with scripting.checked():
                steps = {"WriteAllTimeSteps": 1, "KeyStepEvery": arguments.key_every}
                SaveData(str(compressed), proxy=source, **steps, **selection, **settings)
            rows += described(compressed)
            if not arguments.no_vti:
                save_again(compressed, series)
        print(scripting.table(["array", "time", "raw bytes", "bytes", "ratio", "PSNR dB", "max error"], rows))


def options():
    found = scripting.parser(__doc__)
    found.add_argument("input", nargs="+", help="a file, or the files of a series")
    found.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where the files go")
    found.add_argument("--array", action="append", metavar="NAME", help="only this array; repeatable")
    found.add_argument("--together", action="store_true", help="all arrays in one file")
    found.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th time step")
    found.add_argument(
        "--key-every", type=int, default=KEY_EVERY, metavar="N",
        help=f"at least every N-th step needs no other to be read; 0: as few as pay (default: {KEY_EVERY})",
    )  # fmt: skip
    found.add_argument("--resample", metavar="X,Y,Z", help="sample what is no regular grid so many times per axis")
    found.add_argument("--no-vti", action="store_true", help="write .nvc files only")
    found.add_argument("-f", "--force", action="store_true", help="replace files that exist")
    scripting.add_target(found)
    scripting.add_run(found)
    return found


def opened(arguments):
    """The input as it is to be compressed, and its times."""
    for name in arguments.input:
        if not Path(name).is_file():
            raise InputError(f"cannot read '{name}': there is no such file")
    with scripting.checked():
        source = OpenDataFile(arguments.input if len(arguments.input) > 1 else arguments.input[0])
        if source is None:
            raise InputError(f"ParaView has no reader for '{arguments.input[0]}'")
        UpdatePipeline(proxy=source)
    times = list(getattr(source, "TimestepValues", None) or [])
    if arguments.every > 1 and times:
        chosen = list(range(0, len(times), arguments.every))
        source = ExtractTimeSteps(Input=source, TimeStepIndices=chosen)
        times = [times[i] for i in chosen]
    if arguments.resample:
        dimensions = [int(n) for n in arguments.resample.split(",")]
        source = ResampleToImage(Input=source, SamplingDimensions=dimensions)
    with scripting.checked():
        UpdatePipeline(proxy=source)
    return source, times


def outputs(source, arguments):
    """Name of each file to write, and the arrays that go into it."""
    arrays = {"PointArrays": numeric(source.PointData), "CellArrays": numeric(source.CellData)}
    present = [name for names in arrays.values() for name in names]
    for name in arguments.array or []:
        if name not in present:
            raise InputError(f"there is no array '{name}'; there are: {', '.join(present) or 'none'}")
    wanted = [name for name in dict.fromkeys(present) if not arguments.array or name in arguments.array]
    if not wanted:
        raise InputError("the input has no numeric array")
    groups = [wanted] if arguments.together else [[name] for name in wanted]
    for group in groups:
        stem = Path(arguments.input[0]).stem if arguments.together else file_name(group[0])
        yield stem, {kind: [name for name in names if name in group] for kind, names in arrays.items()}


def numeric(attributes):
    # vtkGhostType marks samples and is no data of its own; strings have no range.
    return [a.GetName() for a in attributes.values() if a.GetName() != "vtkGhostType" and a.GetDataType() != 13]


def file_name(array):
    return "".join(c if c.isalnum() or c in "-_.+" else "_" for c in array)


def check_new(paths, force):
    for path in paths:
        if path.exists() and not force:
            raise InputError(f"'{path}' exists; give --force to replace it, or another folder")


def described(path):
    file = Container(path)
    return [
        [
            figures.name,
            "" if record.time is None else f"{record.time:g}",
            f"{figures.raw_bytes:,}",
            f"{figures.file_bytes:,}",
            f"{figures.raw_bytes / figures.file_bytes:.4g}",
            f"{figures.psnr:.2f}",
            f"{figures.max_error:.4g}",
        ]
        for figures, record in zip(figures_of(file), file.header.arrays, strict=True)
    ]


def save_again(compressed, series):
    with scripting.checked():
        decoded = OpenDataFile(str(compressed))
        SaveData(str(series), proxy=decoded, **({"WriteTimeSteps": 1} if series.suffix == ".pvd" else {}))
        Delete(decoded)


if __name__ == "__main__":
    main()
