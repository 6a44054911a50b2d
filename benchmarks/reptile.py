"""What a meta-learned start brings to hash-grid networks: quality over training time, and bytes saved by differences.

    python benchmarks/reptile.py [--size 64] [--ratio 50] [--steps 60,125,250,500,1000,2500] [--rounds 30] [--inner 200]
        [--tasks 1] [--flows 4] [--data FOLDER] [--train a,b,c] [--unseen d,e] [--work FOLDER] [--plot FILE.png]
        [--markdown FILE]

Within a domain: the vorticity of Taylor-Green flows over Reynolds number and time, tested at Reynolds numbers and
times that the start has not seen. Across domains (`--data`): .npy volumes (z, y, x), of which the middle `--size` cubed
samples are taken, the unseen ones being those of `--unseen`.

Every figure is of a whole file at the same bytes, trained from random weights, from the start, and as differences to
it; seconds are of the CPU, one thread, coding included. "Seconds to the quality" are the fewest of any number of steps
tried that reach what the most steps reach from random weights. Of the bytes, that is the size, interpolated in its
logarithm, at which differences have that quality, trained as long. Results are kept in `--work`: a run that was stopped
goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from machine import describe

from neurcomp_core.codec import Context
from neurcomp_core.codecs.hashgrid import HashGrid
from neurcomp_core.field import Field
from neurcomp_core.files import atomic_write
from neurcomp_core.fit.reptile import Plan, meta_train
from neurcomp_core.init_file import Init
from neurcomp_core.pipeline import compress
from neurcomp_core.samples import taylor_green_series
from neurcomp_core.target import Bytes

SEEN, TIMES = (60.0, 100.0, 160.0, 250.0), (3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
UNSEEN = ((130.0, 4.5), (130.0, 6.5), (200.0, 5.5), (80.0, 7.5))
WAYS = ("random", "start", "differences")
#: Shares of the bytes that differences are tried at.
SHARES = (0.2, 0.35, 0.6)


@dataclass(frozen=True)
class Domain:
    """Fields to learn from, and others to test on."""

    name: str
    seen: Callable[[], list[Field]]
    unseen: list[Field]


def flows(size: int, count: int) -> Domain:
    """Taylor-Green vorticity; `count` unseen ones."""

    def vorticity(reynolds: float, times: Sequence[float]) -> list[Field]:
        steps = taylor_green_series(size, reynolds, times)
        return [
            replace(s.vorticity_magnitude, name=f"Re {reynolds:g}, t {s.vorticity_magnitude.time:g}") for s in steps
        ]

    unseen = [vorticity(reynolds, [t])[0] for reynolds, t in UNSEEN[:count]]
    return Domain(f"flow-{size}", lambda: [f for r in SEEN for f in vorticity(r, TIMES)], unseen)


def volumes(folder: Path, seen: Sequence[str], unseen: Sequence[str], size: int) -> Domain:
    """The middle of stored volumes."""

    def middle(name: str) -> Field:
        values = np.load(folder / f"{name}.npy", mmap_mode="r")
        box = tuple(slice((n - min(n, size)) // 2, (n + min(n, size)) // 2) for n in values.shape[:3])
        return Field(np.ascontiguousarray(values[box]), name=name)

    return Domain(f"volumes-{size}", lambda: [middle(n) for n in seen], [middle(n) for n in unseen])


class Kept:
    """Figures that were measured before, in a file of lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.found = {row["key"]: row for row in map(json.loads, lines)}

    def __call__(self, key: str, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        if key not in self.found:
            self.found[key] = {"key": key} | measure()
            text = "\n".join(map(json.dumps, self.found.values())) + "\n"
            atomic_write(self.path, text.encode())
            print(self.found[key], flush=True)
        return self.found[key]


def start_of(domain: Domain, budget: int, codec: HashGrid, plan: Plan, context: Context, kept: Kept) -> Init:
    """The domain's start, learned or found."""
    name = f"{domain.name}-{budget}-{plan.rounds}-{plan.inner}-{plan.tasks}"
    path = kept.path.with_name(f"{name}.nvi")

    def learn() -> dict[str, float]:
        begun = time.process_time()
        fields = domain.seen()
        init = meta_train(fields, budget, codec, plan, context, domain.name)
        init.write(path)
        return {"seconds": time.process_time() - begun, "bytes": len(init.data), "fields": len(fields)}

    if not path.exists():
        kept.found.pop(name, None)
    kept(name, learn)
    return Init.read(path)


def file_of(field: Field, budget: int, codec: HashGrid, context: Context) -> dict[str, float]:
    """Quality, bytes and seconds of one file."""
    begun = time.process_time()
    made = compress(field, Bytes(budget), codec, context)
    return {
        "psnr": made.reports[0].quality.psnr,
        "bytes": len(made.data),
        "seconds": time.process_time() - begun,
    }


def curves(
    domain: Domain, field: Field, budget: int, codec: HashGrid, steps: Sequence[int], init: Init, kept: Kept
) -> dict[str, list[dict[str, float]]]:
    """Files of rising steps, by way of training."""
    found: dict[str, list[dict[str, float]]] = {}
    for way in WAYS:
        context = Context("cpu", 1, init=None if way == "random" else init)
        found[way] = []
        for count in steps:
            chosen = replace(codec, steps=count, delta_init=way == "differences")
            mark = "" if way == "random" else f" {init.reference[:8].hex()}"
            key = f"{domain.name} | {field.name} | {budget} | {way}{mark} | {count}"
            found[way].append(kept(key, lambda c=chosen, x=context: file_of(field, budget, c, x)))
    return found


def bytes_at(
    domain: Domain, field: Field, budget: int, psnr: float, codec: HashGrid, init: Init, kept: Kept, whole: dict
) -> float:
    """Bytes at which differences have a quality, interpolated between sizes tried; of those the least or the most."""
    context = Context("cpu", 1, init=init)
    rows = [
        kept(
            f"{domain.name} | {field.name} | {int(share * budget)} | differences {init.reference[:8].hex()} | "
            f"{codec.steps}",
            lambda s=share: file_of(field, int(s * budget), codec, context),
        )
        for share in SHARES
    ] + [whole]
    rows.sort(key=lambda row: row["psnr"])
    logs = np.interp(psnr, [r["psnr"] for r in rows], [math.log(r["bytes"]) for r in rows])
    return math.exp(float(logs))


def seconds_to(rows: Sequence[dict[str, float]], psnr: float) -> float:
    """Least seconds of those that reach a quality; not a number if none does."""
    return min((row["seconds"] for row in rows if row["psnr"] >= psnr), default=math.nan)


def report(domain: Domain, arguments: argparse.Namespace, kept: Kept, lines: list[str]) -> list[dict]:
    """Measure a domain; its curves."""
    codec = HashGrid(batch=arguments.batch)
    steps = [int(n) for n in arguments.steps.split(",")]
    budget = int(domain.unseen[0].nbytes / arguments.ratio)
    plan = Plan(arguments.rounds, arguments.inner, arguments.outer_rate, arguments.tasks)
    init = start_of(domain, budget, codec, plan, Context("cpu", 1), kept)
    lines += [
        f"### {domain.name}: ratio {arguments.ratio:g}, {budget} bytes; start of {len(init.data)} bytes",
        "",
        "| volume | way | " + " | ".join(f"{n} steps" for n in steps) + " | seconds to the quality | faster |",
        "| --- | --- |" + " --: |" * (len(steps) + 2),
    ]
    found, saved = [], []
    for field in domain.unseen:
        by_way = curves(domain, field, budget, codec, steps, init, kept)
        last = by_way["random"][-1]
        found.append(by_way)
        for way, rows in by_way.items():
            seconds = seconds_to(rows, last["psnr"])
            shown = " | ".join(f"{row['psnr']:.2f}" for row in rows)
            faster = f"{seconds:.1f} | {last['seconds'] / seconds:.1f}×" if seconds == seconds else "not reached | –"
            lines.append(f"| {field.name} | {way} | {shown} | {faster} |")
        longest = replace(codec, steps=steps[-1], delta_init=True)
        size = bytes_at(domain, field, budget, last["psnr"], longest, init, kept, by_way["differences"][-1])
        saved.append(1 - size / last["bytes"])
        lines.append(f"| | bytes as differences | {last['bytes']} → {size:.0f} ({-100 * saved[-1]:.0f} %) |")
    lines += ["", f"Bytes saved by differences, median: {100 * statistics.median(saved):.0f} %.", ""]
    return found


def plot(found: list[dict], path: Path) -> None:
    """Mean PSNR over mean seconds of each way."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    ax = figure.subplots()
    for way in WAYS:
        points = list(zip(*(by_way[way] for by_way in found), strict=True))
        x = [statistics.mean(row["seconds"] for row in at) for at in points]
        y = [statistics.mean(row["psnr"] for row in at) for at in points]
        ax.plot(x, y, marker="o", label=way)
    ax.set(xlabel="CPU seconds", ylabel="PSNR in dB", xscale="log")
    ax.grid(alpha=0.3)
    ax.legend()
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--ratio", type=float, default=50.0)
    parser.add_argument("--batch", type=int, default=HashGrid.batch)
    parser.add_argument("--steps", default="60,125,250,500,1000,2500")
    parser.add_argument("--rounds", type=int, default=Plan.rounds)
    parser.add_argument("--inner", type=int, default=Plan.inner)
    parser.add_argument("--outer-rate", type=float, default=Plan.outer_rate)
    parser.add_argument("--tasks", type=int, default=Plan.tasks)
    parser.add_argument("--flows", type=int, default=len(UNSEEN), help="unseen flows to test on")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--train", default="")
    parser.add_argument("--unseen", default="")
    parser.add_argument("--work", type=Path, default=Path("reptile-work"))
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    kept = Kept(arguments.work / "measured.jsonl")
    domain = flows(arguments.size, arguments.flows)
    if arguments.data:
        names = arguments.train.split(","), arguments.unseen.split(",")
        domain = volumes(arguments.data, *names, arguments.size)
    lines = [describe(), ""]
    found = report(domain, arguments, kept, lines)
    print("\n".join(lines))
    if arguments.markdown:
        atomic_write(arguments.markdown, "\n".join(lines).encode())
    if arguments.plot:
        plot(found, arguments.plot)


if __name__ == "__main__":
    main()
