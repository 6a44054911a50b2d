"""The quantiser's step of a trained network: the finest that fits a size, the coarsest that meets a target."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

from neurcomp_core.codec import Encoded
from neurcomp_core.errors import TargetError
from neurcomp_core.fit.sizes import Candidate
from neurcomp_core.target import Target

#: A network's stream at a step; the coarser, the smaller.
Stream = Callable[[float], Encoded]


def towards(step: float, aim: float, factor: float, entropy: Callable[[float], float]) -> float:
    """The step at which a stream comes to `aim` bytes, at most 16 times finer or coarser than `step`.

    Parameters
    ----------
    step, aim : float
    factor : float
        Bytes of the coder over those of `entropy`.
    entropy : callable
        See `entropy_bytes`; of a step.
    """
    fine, coarse = step / 16, step * 16
    for _ in range(12):
        middle = math.sqrt(fine * coarse)
        if factor * entropy(middle) > aim:
            fine = middle
        else:
            coarse = middle
    return math.sqrt(fine * coarse)


def entropy_bytes(groups: Iterable[np.ndarray], steps: np.ndarray) -> float:
    """Zeroth-order entropy of groups of parameters, each rounded to its step; far faster than coding them."""
    bits = 64.0
    for values, step in zip(groups, steps, strict=True):
        symbols = np.clip(np.rint(values.reshape(-1) * np.float32(1 / step)), -2048, 2047).astype(np.int32)
        counts = np.bincount(symbols + 2048)
        counts = counts[counts > 0]
        bits += float((counts * np.log2(counts.sum() / counts)).sum())
    return bits / 8


def fitted(stream: Stream, step: float, budget: int, kind: str, least: float = 0.985) -> Encoded:
    """The stream of the finest step that fits `budget` bytes; that of `step` if it takes the share `least` of them.

    Raises
    ------
    TargetError
        If even the coarsest does not fit; `kind` names the network, with its article.
    """
    fit = stream(step)
    if least * budget <= fit.nbytes <= budget:
        return fit
    coarse = fine = step
    while fit.nbytes > budget:
        coarse *= 2
        fit = stream(coarse)
        if coarse > step * 2**40:
            raise TargetError(f"{budget} bytes are less than {kind} needs ({fit.nbytes} bytes)", fit.nbytes)
    best = fit
    while stream(fine).nbytes <= budget and fine > step * 2**-16:
        fine /= 2
    for _ in range(30):
        if best.nbytes >= 0.995 * budget:
            break
        middle = math.sqrt(coarse * fine)
        fit = stream(middle)
        if fit.nbytes <= budget:
            coarse, best = middle, max(best, fit, key=lambda e: e.nbytes)
        else:
            fine = middle
    return best


def coarsest(
    stream: Stream, candidate: Callable[[Encoded, float], Candidate | None], target: Target, met: Candidate
) -> Candidate:
    """The smallest stream that still meets `target`, which `met` does.

    `candidate` measures the stream of a step, or refuses it.
    """
    fine, coarse = met.step, met.step * 4
    best = met
    for _ in range(8):
        middle = math.sqrt(fine * coarse)
        found = candidate(stream(middle), middle)
        if found and target.met(found.quality):
            fine, best = middle, min(best, found, key=lambda c: c.encoded.nbytes)
        else:
            coarse = middle
    return best


def margin_of(exact: np.ndarray, seen: np.ndarray) -> int:
    """Exponent of what float32 leaves open: ``2**-margin`` is 16 times what outputs were seen to differ by."""
    worst = max(float(np.abs(exact - seen).max()), 2.0**-30)
    return min(max(math.floor(-math.log2(16 * worst)), 2), 14) if math.isfinite(worst) else 2


def short(value: float, tolerance: float) -> float:
    """`value` as a float32 where that is close enough; it takes four bytes less."""
    rounded = float(np.float32(value))
    return rounded if abs(rounded - value) <= tolerance and math.isfinite(rounded) else value
