"""Compressing a trained sine network: codebooks as published, entropy coding, quantisation-aware tuning, pruning.

    python benchmarks/siren_compression.py --data FOLDER [--volumes NAME,...] [--cache build/siren_compression]

FOLDER holds volumes as NAME.npy, (z, y, x). For each, one network of the published layout (8 layers of 32) is trained
and then stored in many ways. Networks and finished rows are kept in the cache: a stopped run goes on where it was.

Bytes are those of the stored network with a header as the published file has it (layers, widths), with every stream,
codebook and step; the grid of the volume, which the published file does not hold, counts for none. PSNR is 20
log10((max - min) / RMSE) of what is decoded from those bytes, in the volume's own type. Quantisation-aware and
retrained rows train on for the same number of steps; "trained on" says what that does to the network without any loss.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from machine import describe

from neurcomp_core import metrics, siren_file
from neurcomp_core.codec import as_dtype
from neurcomp_core.coding.allocation import Choice, allocate
from neurcomp_core.coding.codebook import Codebook, decode_codebooks, encode_codebooks, kmeans
from neurcomp_core.coding.matrices import decode_matrices, encode_matrices
from neurcomp_core.field import full_region
from neurcomp_core.fit.prune import prune_and_retrain, retrain
from neurcomp_core.fit.quantise import Codebooks, Steps
from neurcomp_core.fit.siren_trainer import initial_parameters
from neurcomp_core.nets import siren_model
from neurcomp_core.nets.siren import Siren, axis_coordinates, forward_torch, lattice_points
from neurcomp_core.siren_exchange import tolerances

VOLUMES = "sperr_wmag_91,isabel_sub100_pressure,tooth"
WIDTH, LAYERS = 32, 8
#: Steps, samples a step and largest learning rate of training, of tuning under a quantiser, and after pruning.
TRAINING, TRAINING_BATCH, TRAINING_RATE = 1200, 16384, 8e-4
TUNING, BATCH, TUNING_RATE, PRUNED_RATE = 200, 4096, 1e-4, 3e-4
ROUNDS = 4
#: Loss that rounding may add where a row does not say otherwise, in dB.
SLACK = 0.05
#: Layers and widths, as the published header has them, and bits.
HEADER = 5 + 4 * LAYERS
Row = tuple[str, int, float]


class Case:
    """A volume and what a network makes of it."""

    def __init__(self, path: Path) -> None:
        self.values = np.load(path)
        low, high = float(self.values.min()), float(self.values.max())
        self.centre, self.scale = (low + high) / 2, (high - low) / 2
        self.net = Siren(WIDTH, LAYERS)
        normalised = (self.values.astype(np.float64) - self.centre) / self.scale
        self.targets = torch.from_numpy(normalised.astype(np.float32).reshape(-1, 1))
        self.points = torch.from_numpy(lattice_points(axis_coordinates(self.values.shape)))
        self.generator, self.batch = torch.Generator().manual_seed(0), BATCH
        self.sample = torch.randint(len(self.targets), (BATCH,), generator=self.generator)

    def loss(self, parameters: Sequence[torch.Tensor]) -> torch.Tensor:
        """Mean squared error of a random batch."""
        among = torch.randint(len(self.targets), (self.batch,), generator=self.generator)
        return ((forward_torch(self.net, parameters, self.points[among]) - self.targets[among]) ** 2).mean()

    def psnr(self, parameters: Sequence[np.ndarray]) -> float:
        """Of the whole volume."""
        shape = self.values.shape
        out = siren_model.evaluate(self.net, parameters, shape, full_region(shape), 1, 1)[0]
        decoded = as_dtype(out.astype(np.float64) * self.scale + self.centre, self.values.dtype)
        return metrics.measure(self.values, decoded).psnr

    def outputs(self, parameters: Sequence[np.ndarray]) -> torch.Tensor:
        """Of the network, on samples."""
        with torch.no_grad():
            return forward_torch(self.net, tensors(parameters, False), self.points[self.sample]).double()

    def change(self, outputs: torch.Tensor, others: Sequence[np.ndarray]) -> float:
        """Mean squared change from `outputs` by other parameters."""
        return float(((self.outputs(others) - outputs) ** 2).mean())

    def allowed(self, parameters: Sequence[np.ndarray]) -> float:
        """Mean squared change that costs `SLACK` decibels."""
        own = float(((self.outputs(parameters) - self.targets[self.sample]) ** 2).mean())
        return own * (10 ** (SLACK / 10) - 1)


def tensors(arrays: Sequence[np.ndarray], trained: bool = True) -> list[torch.Tensor]:
    """Copies for torch."""
    return [torch.from_numpy(np.array(a, np.float32)).requires_grad_(trained) for a in arrays]


def arrays(parameters: Sequence[torch.Tensor]) -> list[np.ndarray]:
    return [p.detach().numpy().copy() for p in parameters]


def is_inner(i: int, count: int) -> bool:
    """Whether array i is a matrix that the published file keeps in a codebook."""
    return i % 2 == 0 and 0 < i < count - 2


# ------------------------------------------------------------------------------------------------------- ways to store


def rounded(parameters: Sequence[np.ndarray], steps: Sequence[float]) -> tuple[int, list[np.ndarray]]:
    """Bytes and decoded arrays, each a multiple of its step; a step takes a byte beside a common one of four."""
    symbols = [np.rint(p / s).astype(np.int64) for p, s in zip(parameters, steps, strict=True)]
    stream = encode_matrices(symbols)
    found = decode_matrices(stream, [p.shape for p in parameters])
    return 4 + len(steps) + len(stream), [(q * s).astype(np.float32) for q, s in zip(found, steps, strict=True)]


def even_steps(case: Case, parameters: Sequence[np.ndarray], allowed: float) -> list[float]:
    """Steps in proportion to what outputs tolerate, as coarse as the allowed change."""
    sample = case.points[case.sample].numpy()
    relative = np.array(tolerances(case.net, parameters, sample[:2048], np.random.default_rng(0)))
    outputs = case.outputs(parameters)
    low, high = 1e-7, 1e3
    for _ in range(24):
        middle = float(np.sqrt(low * high))
        changed = [np.rint(p / (s * middle)) * s * middle for p, s in zip(parameters, relative, strict=True)]
        low, high = (middle, high) if case.change(outputs, changed) <= allowed else (low, middle)
    return [float(np.float32(s * low)) for s in relative]


def measured_steps(case: Case, parameters: Sequence[np.ndarray], allowed: float) -> list[float]:
    """Steps by measured rate and distortion of each array: a few around the even ones."""
    even = even_steps(case, parameters, allowed)
    factors = 2.0 ** np.arange(-1, 1.51, 0.5)
    outputs, curves = case.outputs(parameters), []
    for i, (p, s) in enumerate(zip(parameters, even, strict=True)):
        curve = []
        for factor in factors:
            symbols = np.rint(p / (s * factor)).astype(np.int64)
            changed = list(parameters)
            changed[i] = (symbols * s * factor).astype(np.float32)
            curve.append(Choice(len(encode_matrices([symbols])), case.change(outputs, changed)))
        curves.append(curve)
    chosen = allocate(curves, allowed)
    return [float(np.float32(s * factors[k])) for s, k in zip(even, chosen, strict=True)]


def in_codebooks(
    parameters: Sequence[np.ndarray], books: Sequence[Codebook | None], steps: Sequence[float]
) -> tuple[int, list[np.ndarray]]:
    """Bytes and decoded arrays: entropy-coded codebooks where there are some, multiples of steps for the rest."""
    with_book = [i for i, b in enumerate(books) if b is not None]
    without = [i for i, b in enumerate(books) if b is None]
    stream = encode_codebooks([books[i] for i in with_book])  # type: ignore[misc]
    shapes = [parameters[i].shape for i in with_book]
    size, rest = rounded([parameters[i] for i in without], [steps[i] for i in without])
    found = list(parameters)
    for i, book in zip(with_book, decode_codebooks(stream, shapes), strict=True):
        found[i] = book.values
    for i, values in zip(without, rest, strict=True):
        found[i] = values
    return len(stream) + size, found


# -------------------------------------------------------------------------------------------------------------- rows


def rows(case: Case, network: list[np.ndarray]) -> Iterator[tuple[str, Callable[[], tuple[int, float]]]]:
    """Name of every row and what measures it: bytes and PSNR."""
    count = len(network)
    inner = [is_inner(i, count) for i in range(count)]
    allowed = case.allowed(network)
    steps: list[float] = []

    def fine_steps() -> list[float]:
        steps[:] = steps or even_steps(case, network, allowed)
        return steps

    def as_stored(stored: tuple[int, list[np.ndarray]]) -> tuple[int, float]:
        return HEADER + stored[0], case.psnr(stored[1])

    def published(bits: int) -> tuple[int, float]:
        data = siren_file.pack(case.net, network, bits)
        return len(data), case.psnr(siren_file.parse(data)[1])

    def entropy_coded() -> tuple[int, float]:
        books = [kmeans(p, 512) for p, i in zip(network, inner, strict=True) if i]
        stream = encode_codebooks(books)
        decoded = iter(decode_codebooks(stream, [b.labels.shape for b in books]))
        found = [next(decoded).values if i else p for p, i in zip(network, inner, strict=True)]
        rest = sum(4 * p.size for p, i in zip(network, inner, strict=True) if not i)
        return HEADER + len(stream) + rest, case.psnr(found)

    def kmeans_bits(bits: int) -> tuple[int, float]:
        books = [kmeans(p, 1 << bits) if i else None for p, i in zip(network, inner, strict=True)]
        return as_stored(in_codebooks(network, books, fine_steps()))

    def kmeans_tuned(bits: int) -> tuple[int, float]:
        parameters = tensors(network)
        through = Codebooks(parameters, [1 << bits if i else None for i in inner])
        held = [*parameters, *through.centres]
        retrain(held, [None] * len(held), case.loss, TUNING, TUNING_RATE, through)
        return as_stored(in_codebooks(arrays(parameters), through.books(parameters), fine_steps()))

    def kmeans_allocated() -> tuple[int, float]:
        outputs, curves, found = case.outputs(network), [], []
        for i in range(count):
            books = [kmeans(network[i], k) for k in (16, 32, 48, 64, 96, 128, 192, 256)] if inner[i] else []
            curve = []
            for book in books:
                changed = list(network)
                changed[i] = book.values
                curve.append(Choice(len(encode_codebooks([book])), case.change(outputs, changed)))
            curves.append(curve or [Choice(0, 0.0)])
            found.append(books)
        chosen = allocate(curves, allowed)
        books = [b[k] if b else None for b, k in zip(found, chosen, strict=True)]
        return as_stored(in_codebooks(network, books, fine_steps()))

    def coarse(bits: float) -> list[float]:
        """Even steps at which a weight takes about so many bits."""
        low, high = 1.0, 4096.0
        for _ in range(16):
            middle = float(np.sqrt(low * high))
            size, _found = rounded(network, [s * middle for s in fine_steps()])
            low, high = (middle, high) if 8 * size > bits * case.net.parameters else (low, middle)
        return [s * high for s in fine_steps()]

    def steps_tuned(bits: float) -> tuple[int, float]:
        parameters, through = tensors(network), Steps(coarse(bits))
        retrain(parameters, [None] * count, case.loss, TUNING, TUNING_RATE, through)
        return as_stored(rounded(arrays(parameters), [float(s) for s in through.steps]))

    def trained_on() -> tuple[int, float]:
        parameters = tensors(network)
        retrain(parameters, [None] * count, case.loss, TUNING, PRUNED_RATE)
        return HEADER + 4 * case.net.parameters, case.psnr(arrays(parameters))

    def pruned(share: float, tuning: int, rounds: int, bits: float | None = None) -> tuple[int, float]:
        parameters = tensors(network)
        matrices = [i % 2 == 0 for i in range(count)]
        masks = prune_and_retrain(parameters, matrices, share, case.loss, tuning, PRUNED_RATE, rounds)
        result = arrays(parameters)
        if bits is None:
            return as_stored(rounded(result, even_steps(case, result, case.allowed(result))))
        through = Steps(coarse(bits))
        retrain(parameters, masks, case.loss, TUNING, TUNING_RATE, through)
        return as_stored(rounded(arrays(parameters), [float(s) for s in through.steps]))

    yield "float32 weights", lambda: (HEADER + 4 * case.net.parameters, case.psnr(network))
    yield "9-bit k-means as published", lambda: published(9)
    yield "8-bit k-means as published", lambda: published(8)
    yield "9-bit k-means + entropy coding", entropy_coded
    yield "9-bit k-means + entropy coding, first, last, biases in steps", lambda: kmeans_bits(9)
    for bits in (6, 5, 4):
        yield f"{bits}-bit k-means", lambda b=bits: kmeans_bits(b)
    yield "4-bit k-means, quantisation-aware", lambda: kmeans_tuned(4)
    yield "steps by sensitivity", lambda: as_stored(rounded(network, fine_steps()))
    for bits in (5, 4, 3):
        yield f"steps, {bits} bits per weight", lambda b=bits: as_stored(rounded(network, coarse(b)))
    yield "steps, 4 bits per weight, quantisation-aware", lambda: steps_tuned(4)
    yield "steps, 3 bits per weight, quantisation-aware", lambda: steps_tuned(3)
    for share in (0.3, 0.5, 0.7, 0.9):
        yield f"{100 * share:.0f} % pruned, not retrained", lambda s=share: pruned(s, 0, 1)
    for share in (0.3, 0.5, 0.7, 0.9):
        yield f"{100 * share:.0f} % pruned at once, retrained", lambda s=share: pruned(s, TUNING, 1)
    yield "steps by measured R-D", lambda: as_stored(rounded(network, measured_steps(case, network, allowed)))
    yield "k-means, centres per matrix by measured R-D", kmeans_allocated
    for share in (0.7, 0.9):
        yield f"{100 * share:.0f} % pruned in {ROUNDS} rounds, retrained", lambda s=share: pruned(s, TUNING, ROUNDS)
    yield "50 % pruned, retrained, 4-bit steps, quantisation-aware", lambda: pruned(0.5, TUNING, 1, 4)
    yield "float32 weights, trained on", trained_on


def trained(case: Case, path: Path) -> list[np.ndarray]:
    """The network of a volume, from the cache if it is there."""
    if path.exists():
        with np.load(path) as stored:
            return [stored[name] for name in stored.files]
    parameters = tensors(initial_parameters(case.net, np.random.default_rng(0)))
    case.batch = TRAINING_BATCH
    retrain(parameters, [None] * len(parameters), case.loss, TRAINING, TRAINING_RATE)
    case.batch = BATCH
    np.savez(path, *arrays(parameters))
    return arrays(parameters)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--volumes", default=VOLUMES)
    parser.add_argument("--cache", type=Path, default=Path("build/siren_compression"))
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    print(f"{describe()}; 1 thread, load {os.getloadavg()[0]:.1f}")
    for name in args.volumes.split(","):
        case = Case(args.data / f"{name}.npy")
        network = trained(case, args.cache / f"{name}.npz")
        kept = args.cache / f"{name}.json"
        done = json.loads(kept.read_text()) if kept.exists() else {}
        print(f"\n{name}: {LAYERS} layers of {WIDTH}, {case.net.parameters} parameters")
        for row, measure in rows(case, network):
            if row not in done:
                # Every row draws the same batches, whichever were measured before it.
                case.generator.manual_seed(1)
                done[row] = measure()
                kept.write_text(json.dumps(done, indent=1))
            size, psnr = done[row]
            print(
                f"  {row:62s} {size:7,d} B {8 * size / case.net.parameters:6.2f} bits/parameter {psnr:6.2f} dB",
                flush=True,
            )


if __name__ == "__main__":
    main()
