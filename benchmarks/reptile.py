"""What a meta-learned start brings to hash-grid networks: quality over training time, and bytes saved by differences.

    python benchmarks/reptile.py [--domains flows,volumes,general] [--size 64] [--ratio 50] [--flows 4]
        [--steps 60,125,250,500,1000,2000] [--volume-steps 60,125,250,500,1000] [--batch 4096]
        [--rounds 30] [--inner 200] [--tasks 1] [--data FOLDER] [--train a,b,c] [--unseen d,e]
        [--work FOLDER] [--plot FILE.png] [--markdown FILE]

- `flows`, within a domain: the vorticity of Taylor-Green flows over Reynolds number and time, tested at Reynolds
  numbers and times that the start has not seen.
- `volumes`, across domains: .npy volumes (z, y, x) of `--data`, of which the middle `--size` cubed samples are taken;
  the start has seen those of `--train` and is tested on those of `--unseen`.
- `general`: one start for anything, of fields that are generated (flows, test signals, waves, smooth noise, bodies with
  sharp edges), tested on `--unseen`.

Every figure is of a whole file at the same bytes, trained from random weights, from the start, and as differences to
it; seconds are of the CPU, one thread, coding included. "Seconds to the quality" are those after which a curve has what
the most steps reach from random weights, interpolated in their logarithm between trainings of two lengths. Of the
bytes, that is the size, interpolated likewise, at which differences have that quality, trained as long. Results are
kept in `--work`: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
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
from neurcomp_core.samples import marschner_lobb, taylor_green_series
from neurcomp_core.target import Bytes

SEEN, TIMES = (60.0, 100.0, 160.0, 250.0), (3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
UNSEEN = ((130.0, 4.5), (130.0, 6.5), (200.0, 5.5), (80.0, 7.5))
WAYS = ("random", "start", "differences")
TITLES = {"flows": "Within a domain", "volumes": "Across domains", "general": "One start for anything"}
#: Shares of the bytes that differences are tried at.
SHARES = (0.35, 0.6)


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


def general(folder: Path, unseen: Sequence[str], size: int) -> Domain:
    """Generated fields of several families to learn from, stored volumes to test on."""
    return replace(volumes(folder, (), unseen, size), name=f"general-{size}", seen=lambda: list(families(size)))


def families(size: int) -> Iterator[Field]:
    """Four fields each of flows, test signals, waves, smooth noise and bodies."""
    rng = np.random.default_rng(0)
    for reynolds, time_ in ((60, 4), (100, 8), (160, 3), (250, 6)):
        step = next(taylor_green_series(size, reynolds, [time_]))
        yield (
            step.vorticity_magnitude
            if reynolds % 100
            else replace(step.velocity, values=np.ascontiguousarray(step.velocity.values[..., 0]), name="velocity")
        )
    for fm, alpha in ((2, 0.2), (4, 0.5), (6, 0.25), (3, 1.0)):
        yield marschner_lobb(size, fm, alpha)
    place = np.stack(np.meshgrid(*[np.linspace(0, 1, size)] * 3, indexing="ij"), axis=-1)
    for _ in range(4):
        waves = rng.normal(0, 2 * math.pi, (6, 3))
        values = sum(np.sin(place @ w + p) for w, p in zip(waves, rng.uniform(0, 6.3, 6), strict=True))
        yield Field(np.asarray(values, np.float32), name="waves")
    wave_number = np.sqrt(sum(k**2 for k in np.meshgrid(*[np.fft.fftfreq(size) * size] * 3, indexing="ij")))
    for slope in (1.5, 2.0, 2.5, 3.0):
        spectrum = np.fft.fftn(rng.normal(size=(size,) * 3)) / np.maximum(wave_number, 1) ** slope
        yield Field(np.fft.ifftn(spectrum).real.astype(np.float32), name="noise")
    for count in (2, 5, 9, 14):
        values = np.zeros((size,) * 3)
        for centre, radii, value in zip(
            rng.uniform(0.2, 0.8, (count, 3)), rng.uniform(0.08, 0.35, (count, 3)), rng.uniform(0.2, 1, count),
            strict=True,
        ):  # fmt: skip
            distance = np.sqrt((((place - centre) / radii) ** 2).sum(-1))
            # An edge of about a sample, as of a scanner.
            inside = np.clip((1 - distance) * radii.min() * size, 0, 1)
            values = values * (1 - inside) + value * inside
        yield Field(values.astype(np.float32), name="bodies")


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
    """Bytes at which differences have a quality, interpolated between sizes tried, or the least of these; not a number
    if not even the whole budget does.
    """
    context = Context("cpu", 1, init=init)
    rows = [
        kept(
            f"{domain.name} | {field.name} | {int(share * budget)} | differences {init.reference[:8].hex()} | "
            f"{codec.steps}",
            lambda s=share: file_of(field, int(s * budget), codec, context),
        )
        for share in SHARES
    ] + [whole]
    if whole["psnr"] < psnr:
        return math.nan
    rows.sort(key=lambda row: row["psnr"])
    logs = np.interp(psnr, [r["psnr"] for r in rows], [math.log(r["bytes"]) for r in rows])
    return math.exp(float(logs))


def seconds_to(rows: Sequence[dict[str, float]], psnr: float) -> float:
    """Seconds after which a curve first has a quality, its points joined in log seconds; not a number if it never has.

    A curve that begins above has its first point's.
    """
    before = None
    for row in rows:
        if row["psnr"] >= psnr:
            if before is None:
                return row["seconds"]
            share = (psnr - before["psnr"]) / (row["psnr"] - before["psnr"])
            return before["seconds"] * (row["seconds"] / before["seconds"]) ** share
        before = row
    return math.nan


def report(
    domain: Domain, steps: Sequence[int], arguments: argparse.Namespace, kept: Kept, lines: list[str]
) -> list[dict]:
    """Measure a domain; its curves."""
    codec = HashGrid(batch=arguments.batch)
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
        change = f"{size:.0f} ({-100 * saved[-1]:.0f} %)" if size == size else "not reached"
        lines.append(f"| {field.name} | bytes as differences | {last['bytes']} → {change} |" + " |" * (len(steps) + 1))
    known = [share for share in saved if share == share]
    median = f"{100 * statistics.median(known):.0f} %" if known else "none"
    lines += ["", f"Bytes saved by differences at equal quality, median of {len(known)}: {median}.", ""]
    return found


def plot(found: dict[str, list[dict]], path: Path) -> None:
    """Mean PSNR over mean seconds of each way, a panel of each domain; thin lines are its volumes."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(4.8 * len(found), 4), layout="constrained")
    for ax, (name, curves_) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        for way, colour, marker in zip(WAYS, ("#5A5A5A", "#0072B2", "#D55E00"), "osD", strict=True):
            rows = [by_way[way] for by_way in curves_]
            for one in rows:
                ax.plot(*_line(one), color=colour, linewidth=0.8, alpha=0.35)
            points = zip(*rows, strict=True)
            means = [{k: statistics.mean(r[k] for r in at) for k in ("seconds", "psnr")} for at in points]
            ax.plot(*_line(means), color=colour, marker=marker, label=way)
        ax.set(xlabel="CPU seconds", ylabel="PSNR (dB)", xscale="log", title=TITLES[name])
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.grid(alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(WAYS))
    figure.savefig(path, dpi=130)


def _line(rows: Sequence[dict[str, float]]) -> tuple[list[float], list[float]]:
    return [row["seconds"] for row in rows], [row["psnr"] for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", default="flows", help="some of flows, volumes, general")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--ratio", type=float, default=50.0)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--steps", default="60,125,250,500,1000,2000")
    parser.add_argument("--volume-steps", default="60,125,250,500,1000", help="of volumes and general")
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
    made = {
        "flows": lambda: flows(arguments.size, arguments.flows),
        "volumes": lambda: volumes(
            arguments.data, arguments.train.split(","), arguments.unseen.split(","), arguments.size
        ),
        "general": lambda: general(arguments.data, arguments.unseen.split(","), arguments.size),
    }
    chosen = arguments.domains.split(",")
    if unknown := set(chosen) - set(made):
        parser.error(f"--domains: expected some of {', '.join(made)}, got {', '.join(sorted(unknown))}")
    if set(chosen) - {"flows"} and not arguments.data:
        parser.error("--domains volumes and general need --data FOLDER, --unseen and, for volumes, --train")
    # Libraries loaded and kernels compiled before the clock starts.
    file_of(marschner_lobb(16), 1500, HashGrid(steps=20, batch=256), Context("cpu", 1))
    lines = [describe(), ""]
    found = {}
    for name in chosen:
        steps = [int(n) for n in (arguments.steps if name == "flows" else arguments.volume_steps).split(",")]
        found[name] = report(made[name](), steps, arguments, kept, lines)
    print("\n".join(lines))
    if arguments.markdown:
        atomic_write(arguments.markdown, "\n".join(lines).encode())
    if arguments.plot:
        plot(found, arguments.plot)


if __name__ == "__main__":
    main()
