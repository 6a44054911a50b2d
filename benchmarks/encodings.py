"""Every encoding of the codec ``network`` at equal file bytes, its time to quality, and the hash grid's sizes.

    python benchmarks/encodings.py [--data FOLDER] [--volumes a,b] [--ratios 50,200,1000] [--encodings hash,frequency]
        [--activations relu,snake,sine] [--steps N] [--parts table,time,sweep] [--cache FOLDER] [--picture FILE]

FOLDER holds .npy volumes (z, y, x); without --volumes the project's generated flow is taken, which needs no FOLDER and
is always there as ``flow``. Finished rows are kept in the cache: a stopped run goes on where it was, and rows measured
with other steps or threads are measured anew. Files of a volume and ratio take 97 to 100 % of the same bytes, all
counted: the file's size. PSNR is of what the file decodes to. Seconds are the processor's, which other work does not
stretch; with one thread they are what a clock shows on a quiet machine.

table
    PSNR, bytes, and seconds to encode and decode, of every encoding, activation, volume and ratio.
time
    PSNR of the whole volume, with parameters as they are at that moment, over seconds of training, at the middle ratio
    and with the first activation; the clock stands still while it is measured. From that: seconds to the best that
    frequency and triangle reach, and whether the hash grid is ahead of both.
sweep
    Levels, values per entry and table size of the hash grid around the default, one at a time, at the middle ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe

from neurcomp_core import metrics, threads
from neurcomp_core.codec import Context
from neurcomp_core.codecs.network import Network
from neurcomp_core.field import Field, full_region
from neurcomp_core.files import atomic_write
from neurcomp_core.nets.coordinate import ACTIVATIONS
from neurcomp_core.nets.encodings import ENCODINGS
from neurcomp_core.pipeline import compress, decompress
from neurcomp_core.progress import Progress
from neurcomp_core.samples import taylor_green
from neurcomp_core.target import Ratio

FLOW = "flow"
#: What the paper's finding is about.
RIVALS = ("frequency", "triangle")
SWEEP = {"levels": (2, 4, 6, 8, 12, 16), "features": (1, 2, 4, 8), "log2_table": (8, 10, 12, 14, 16)}
_clock = time.process_time
Row = dict[str, Any]
#: Points of every encoding and activation.
Curves = dict[tuple[str, str], list[tuple[float, float]]]


class Cache:
    """Rows by their key, in a JSON file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Row] = json.loads(path.read_text()) if path.exists() else {}

    def row(self, key: str, measure: Callable[[], Row]) -> Row:
        """The row of a key, measured if it is not there."""
        if key not in self.rows:
            self.rows[key] = measure() | {"load": round(os.getloadavg()[0], 1)}
            atomic_write(self.path, json.dumps(self.rows, indent=1).encode())
        return self.rows[key]


def volume(name: str, data: Path | None, size: int) -> Field:
    """The generated flow, or a file of `data`."""
    if name == FLOW:
        return taylor_green(size).vorticity_magnitude
    if data is None:
        raise SystemExit(f"volume '{name}' needs --data; without it there is '{FLOW}'")
    return Field(np.load(data / f"{name}.npy"), name=name)


def measured(field: Field, ratio: float, codec: Network, context: Context) -> Row:
    """A file's bytes, PSNR and seconds."""
    start = _clock()
    made = compress(field, Ratio(ratio), codec, context)
    middle = _clock()
    (decoded,) = decompress(made.data, context=context)
    seconds = middle - start, _clock() - middle
    quality = metrics.measure(field.values, decoded.values, field.mask)
    return {"bytes": len(made.data), "psnr": quality.psnr, "encode_s": seconds[0], "decode_s": seconds[1]}


def course(field: Field, ratio: float, codec: Network, context: Context) -> Row:
    """PSNR over seconds of training; a point after 10, 14, 20, 28 ... steps."""
    import torch

    from neurcomp_core.fit.network import shape_for
    from neurcomp_core.fit.network_trainer import Trainer

    budget = int(field.nbytes / ratio)
    points: list[tuple[float, float]] = []
    paused, following = 0.0, 10.0

    def report(done: float, text: str) -> None:
        nonlocal paused, following
        if trainer.done < following and trainer.done < codec.steps:
            return
        following *= 2**0.5
        before = _clock()
        parameters = [p.detach().cpu().numpy() for p in trainer.parameters]
        out = trainer.net.evaluate(parameters, full_region(field.values.shape), 1)
        values = np.moveaxis(out.astype(np.float64), 0, -1).reshape(field.values.shape) * trainer.record.scale
        quality = metrics.measure(field.values, (values + trainer.record.centre).astype(np.float32), field.mask)
        points.append((before - start - paused, quality.psnr))
        paused += _clock() - before

    context = Context(context.device, context.threads, context.seed, Progress(report))
    with threads.limit(context.threads):
        start = _clock()
        trainer = Trainer(field, shape_for(field, budget, codec), codec, context, torch.device("cpu"))
        trainer.run(codec.steps, budget, lambda done: done)
    return {"course": points}


def seconds_to(points: list[tuple[float, float]], psnr: float) -> float | None:
    """When a course first reached a PSNR, None if it never did."""
    return next((s for s, reached in points if reached >= psnr), None)


def finding(courses: dict[str, list[tuple[float, float]]]) -> Iterator[tuple[str, float, float | None, float | None]]:
    """For each rival its best PSNR, the seconds it took, and the hash grid's to the same."""
    for rival in RIVALS:
        if rival in courses and "hash" in courses:
            best = max(p for _, p in courses[rival])
            yield rival, best, seconds_to(courses[rival], best), seconds_to(courses["hash"], best)


def plot(shown: dict[str, Curves], x: str, title: str, path: Path) -> None:
    """A panel per volume; an encoding has a colour, an activation a line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    columns = min(len(shown), 2)
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(5.5 * columns, 4 * rows + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    for ax, (name, curves) in zip(axes, shown.items(), strict=False):
        for (encoding, activation), points in curves.items():
            number = list(ENCODINGS).index(encoding)
            dash = ("-", "--", ":")[ACTIVATIONS.index(activation)]
            label = encoding if activation == next(iter(curves))[1] else f"{encoding}, {activation}"
            ax.plot(*zip(*points, strict=True), dash, color=f"C{number}", marker="os^vDPX*ph"[number], label=label)
        ax.set(title=name, xlabel=x, ylabel="PSNR (dB)", xscale="log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:,.3g}" if value < 100 else f"{value:,.0f}")
        )
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--volumes", default="")
    parser.add_argument("--ratios", default="50,200,1000")
    parser.add_argument("--encodings", default=",".join(ENCODINGS))
    parser.add_argument("--activations", default="relu")
    parser.add_argument("--steps", type=int, default=Network().steps)
    parser.add_argument("--batch", type=int, default=Network().batch)
    parser.add_argument("--parts", default="table,time,sweep")
    parser.add_argument("--size", type=int, default=64, help="samples per axis of the generated flow")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=Path("build/encodings"))
    parser.add_argument("--picture", type=Path, help="PNG, SVG or PDF; the time plot gets '-time' in its name")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    cache, context = Cache(args.cache / "rows.json"), Context(device="cpu", threads=args.threads)
    names = [FLOW, *(n for n in args.volumes.split(",") if n)]
    ratios, parts = [float(r) for r in args.ratios.split(",")], args.parts.split(",")
    encodings, activations = args.encodings.split(","), args.activations.split(",")
    middle, common = ratios[len(ratios) // 2], {"steps": args.steps, "batch": args.batch}
    run = f"{args.steps} steps of {args.batch}, {args.threads} thread(s)"
    print(f"{describe()}; load {os.getloadavg()[0]:.1f}; {run}")
    # Numba compiles on first use, which is no encoding's cost.
    tiny = Field(np.random.default_rng(0).random((8, 8, 8), np.float32))
    compress(tiny, Ratio(2), Network(steps=10, batch=64), context)
    quality: dict[str, Curves] = {}
    times: dict[str, Curves] = {}
    wins = []
    for name in names:
        field = volume(name, args.data, args.size)
        head = f"{name} {'x'.join(map(str, field.values.shape))} {run}"
        quality[name] = {}
        if "table" in parts:
            print(f"\n{name}: {field.values.shape} {field.values.dtype}\n")
            print("| encoding | activation | ratio | bytes | PSNR (dB) | encode s | decode s |")
            print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
        for encoding in encodings if "table" in parts else []:
            for activation in activations:
                points = []
                codec = Network(encoding=encoding, activation=activation, **common)
                for ratio in ratios:
                    key = f"table {head} {encoding} {activation} {ratio:g}"
                    row = cache.row(key, lambda c=codec, f=field, r=ratio: measured(f, r, c, context))
                    points.append((row["bytes"], row["psnr"]))
                    print(
                        f"| {encoding} | {activation} | {ratio:g} | {row['bytes']:,} | {row['psnr']:.2f} | "
                        f"{row['encode_s']:.1f} | {row['decode_s']:.2f} |",
                        flush=True,
                    )
                quality[name][encoding, activation] = points
        if "time" in parts:
            courses = {}
            for encoding in encodings:
                codec = Network(encoding=encoding, activation=activations[0], **common)
                key = f"time {head} {encoding} {activations[0]} {middle:g}"
                row = cache.row(key, lambda c=codec, f=field: course(f, middle, c, context))
                courses[encoding] = [(s, p) for s, p in row["course"]]
            print(f"\n{name}, ratio {middle:g}, seconds of training to a PSNR\n")
            for encoding, points in courses.items():
                shown = "  ".join(f"{s:.1f} s {p:.1f} dB" for s, p in points[:: max(len(points) // 5, 1)])
                print(f"  {encoding:10s} {shown}  end {points[-1][0]:.1f} s {points[-1][1]:.2f} dB")
            for rival, best, own, hashed in finding(courses):
                wins.append(hashed is not None and own is not None and hashed < own)
                reached = "never" if hashed is None else f"in {hashed:.1f} s"
                print(f"  {rival} reaches {best:.2f} dB in {own:.1f} s, hash {reached}")
            times[name] = {(encoding, activations[0]): points for encoding, points in courses.items()}
        if "sweep" in parts:
            print(f"\n{name}, hash grid at ratio {middle:g}\n")
            for size, values in SWEEP.items():
                for value in values:
                    codec = Network(encoding="hash", activation=activations[0], **common, **{size: value})
                    key = f"sweep {head} {activations[0]} {middle:g} {size} {value}"
                    row = cache.row(key, lambda c=codec, f=field: measured(f, middle, c, context))
                    print(
                        f"  {size:10s} {value:3d} {row['bytes']:9,d} B {row['psnr']:6.2f} dB {row['encode_s']:6.1f} s",
                        flush=True,
                    )
    if wins:
        verdict = "confirmed" if all(wins) else "refuted" if not any(wins) else "confirmed in part"
        print(
            f"\nHash ahead of frequency and triangle in time to quality: {verdict} ({sum(wins)} of {len(wins)} "
            "comparisons: seconds to the best that the other one reached)."
        )
    if args.picture:
        if "table" in parts:
            plot(quality, "bytes of the file", "Encodings at equal file bytes", args.picture)
        if "time" in parts:
            path = args.picture.with_stem(args.picture.stem + "-time")
            plot(times, "seconds of training", f"Time to quality at ratio {middle:g}", path)


if __name__ == "__main__":
    main()
