"""The step that takes an array to its target."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from neurcomp_core import metrics, search
from neurcomp_core.codec import Encoded
from neurcomp_core.errors import TargetError
from neurcomp_core.target import Bytes, MaxError, Psnr, Target
from neurcomp_core.wavelet.way import LARGEST, Way

#: Share of the error that is allowed which may stay unused.
_SLACK = 0.004
#: And of one that is estimated.
_FINE = 0.0015
#: An error within this share of what is wanted is the last before the array is coded.
_CLOSE = 0.1
#: Integers with a smaller error are rounded to where estimates are not.
_ROUNDED = 2.0
#: Integers with a smaller root mean squared error are cheaper without loss.
_NEARLY_LOSSLESS = 0.45


def reach(way: Way, target: Target) -> Encoded:
    """The stream that meets a target.

    Raises
    ------
    TargetError
        If there is none; says what can be reached.
    """
    if isinstance(target, Bytes):
        return _reach_bytes(way, int(target.value))
    if isinstance(target, Psnr):
        return _reach_psnr(way, target.value)
    assert isinstance(target, MaxError)
    return _reach_bound(way, target.value)


def _reach_psnr(way: Way, psnr: float) -> Encoded:
    run = way.run
    wanted = run.spread * 10 ** (-psnr / 20)
    if not way.wavelet and run.integer and wanted < _NEARLY_LOSSLESS:
        return way.coded(way.unit, 0.0)
    span = way.largest / LARGEST, 4 * way.largest
    step, off = min(max(3 * wanted * way.unit, span[0]), span[1]), math.inf
    # Rounding to integers bends what estimates, of floats, know nothing of.
    least = -1.0 if run.integer and wanted < _ROUNDED else _CLOSE

    def trial(expected: float) -> tuple[float, tuple[float, Encoded | None]]:
        """Error where `expected` is estimated; estimates are cheap and, at one array, all wrong by much the same."""
        nonlocal step, off
        run.context.progress.update(0.5 if off < least else 0.2, "searching the step")
        guess = search.search(lambda s: (way.estimate(short(s)), None), expected, step, span, slack=_FINE, trials=10)
        step, encoded = short(guess.knob), None
        if off < least:
            encoded, quality = run.verified(way.coded(step, way.weight(step)))
            error = quality.rmse
        else:
            error = way.measure(step, way.weight(step))
        off = abs(math.log(max(error, 1e-300) / wanted))
        return error, (step, encoded)

    found = search.search(trial, wanted, wanted, (wanted / 64, wanted * 64), slack=_SLACK, trials=12)
    if found.figure > wanted:
        reached = metrics.psnr(run.spread, found.figure)
        raise TargetError(f"{run.target} cannot be reached, {reached:.2f} dB can", reached)
    step, encoded = found.result
    return encoded or way.coded(step, way.weight(step))


def _reach_bytes(way: Way, budget: int) -> Encoded:
    run = way.run
    tries = 0

    def trial(step: float) -> tuple[float, Encoded]:
        nonlocal tries
        tries += 1
        step = short(step)
        encoded = way.coded(step, way.weight(step))
        run.context.progress.update(1 - 0.8**tries, f"{encoded.nbytes} bytes")
        return encoded.nbytes, encoded

    spread = run.spread * way.unit
    start = spread * 0.02 * (run.values.nbytes / budget / 50) ** 0.6
    # Steps below these change nothing.
    least = (0.05 if way.wavelet else 1.0) * way.unit if run.integer else spread * 1e-15
    span = max(way.largest / LARGEST, least), 4 * way.largest
    start = min(max(start, span[0]), span[1])
    around = (0.9995, 1.0005, 0.998, 1.002, 0.995, 1.005) if budget < 1 << 16 else ()
    found = search.search(trial, budget, start, span, rising=False, slack=0.006, trials=16, around=around)
    if found.figure > budget:
        raise TargetError(
            f"{run.target} cannot be reached; the smallest stream has {found.figure:.0f} bytes", found.figure
        )
    return found.result


def _reach_bound(way: Way, bound: float) -> Encoded:
    run = way.run
    if run.integer:
        bound = math.floor(bound)
    if not way.wavelet:
        return _bound_samples(way, bound)
    done: dict[float, Encoded] = {}

    def nbytes(log: float) -> int:
        if log not in done:
            run.context.progress.update(1 - 0.8 ** len(done), "coding")
            done[log] = way.bounded(short(bound * way.unit * 2**log), bound, run.options.weight)
        return done[log].nbytes

    _least(nbytes, 0.6, 0.5)
    return min(done.values(), key=lambda e: e.nbytes)


def _bound_samples(way: Way, bound: float) -> Encoded:
    """Without a transform a sample is off by half a step at most."""
    if way.run.integer:
        # Corrections supply the last bits of integers that are too long for one number.
        step = max((2.0 * bound + 1) * way.unit, way.largest / LARGEST * (1 + 2.0**-20))
    else:
        step = short(2.0 * bound * way.unit * (1 - 2.0**-10))
    return way.bounded(step, bound, 0.0)


def _least(figure: Callable[[float], float], at: float, step: float) -> None:
    """Look for the least of a convex function: walk downhill, then to the vertex of the last three places' parabola."""
    if figure(at + step) > figure(at):
        step = -step
    else:
        at += step
    while figure(at + step) < figure(at) and abs(at) < 4:
        at += step
    left, middle, right = figure(at - step), figure(at), figure(at + step)
    curve = left - 2 * middle + right
    if curve > 0:
        shift = 0.5 * (left - right) / curve
        if abs(shift) > 0.15:
            figure(at + shift * step)


def short(step: float) -> float:
    """A step that a file keeps in four bytes."""
    return float(np.float32(step))
