"""Finding the setting of a codec's knob that just keeps a target."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from neurcomp_core.errors import Interrupted

T = TypeVar("T")

# Settings closer than this, as a ratio less 1, are alike.
_ALIKE = 1e-4
_PLACES = 1 << 18


@dataclass(frozen=True)
class Trial(Generic[T]):
    """What one setting gave.

    Attributes
    ----------
    knob : float
    figure : float
        What the target limits: bytes, RMSE, largest error.
    result : T
    """

    knob: float
    figure: float
    result: T


def search(
    attempt: Callable[[float], tuple[float, T]],
    limit: float,
    start: float,
    span: tuple[float, float],
    *,
    rising: bool = True,
    slack: float = 0.01,
    trials: int = 24,
    cost: Callable[[T], float] | None = None,
    around: Sequence[float] = (),
) -> Trial[T]:
    """Take a figure as close below its limit as a knob allows.

    Interpolates between the logarithms of knob and figure once the limit is bracketed, and halves the bracket where
    that does not converge. A figure that jumps about leaves that at a jump: `around` are further settings to try there.

    Parameters
    ----------
    attempt : callable
        From a setting to its figure (not negative; infinite or NaN is above any limit) and result.
    limit : float
        Positive; what the figure may be at most.
    start : float
        First setting; the closer, the fewer trials.
    span : tuple of float
        Smallest and largest setting, positive.
    rising : bool
        Whether the figure grows with the knob.
    slack : float
        Share of the limit that may be left unused.
    trials : int
        Most settings to try before those of `around`.
    cost : callable, optional
        Of the results within the limit, take the one for which this is least instead of the one closest to the limit.
    around : sequence of float
        Settings as multiples of the best one; all are tried if there is a cost, otherwise until one uses the limit.

    Returns
    -------
    Trial
        The best within the limit or, if none is, the one with the smallest figure.

    Raises
    ------
    Interrupted
        When `attempt` does; ``best`` is then the best result so far.
    """
    sign = 1.0 if rising else -1.0
    best: Trial[T] | None = None

    # Positions are logarithms of settings, turned so that the figure grows with them.
    floor, ceiling = sorted(sign * math.log(s) for s in span)

    def place(at: float) -> float:
        """A position in range; rounded, for a figure's last bits may depend on threads, and what is found must not."""
        return min(max(round(at * _PLACES) / _PLACES, floor), ceiling)

    def gap(at: float) -> float:
        nonlocal best
        knob = math.exp(sign * at)
        try:
            trial = Trial(knob, *attempt(knob))
        except Interrupted as stop:
            raise type(stop)(str(stop), best.result if best else None) from stop
        if best is None or _better(trial, best, limit, cost):
            best = trial
        return _gap(trial.figure, limit)

    aim, enough = math.log1p(-slack / 2), math.log1p(-slack)
    at = min(max(sign * math.log(start), floor), ceiling)
    inside: tuple[float, float] | None = None
    outside: tuple[float, float] | None = None
    before: tuple[float, float] | None = None
    for i in range(trials):
        here = gap(at)
        stretch = 1.0 + i
        if before and (here - before[1]) * (at - before[0]) > 0:
            stretch = min(max((at - before[0]) / (here - before[1]), 0.5), stretch)
        before = at, here
        if here <= 0:
            inside = at, here
            if here >= enough or at >= ceiling:
                break
        else:
            outside = at, here
            if at <= floor:
                break
        if inside and outside:
            width = outside[0] - inside[0]
            if width < _ALIKE:
                break
            share = 0.5 if i % 3 == 2 else (aim - inside[1]) / (outside[1] - inside[1])
            at = place(inside[0] + width * min(max(share, 0.05), 0.95))
        else:
            at = place(at + (aim - here) * stretch)
    assert best is not None, "at least one trial"
    centre = sign * math.log(best.knob)
    for factor in around:
        if cost is None and enough <= _gap(best.figure, limit) <= 0:
            break
        gap(place(centre + sign * math.log(factor)))
    return best


def _gap(figure: float, limit: float) -> float:
    """Logarithm of figure over limit; bounded, because a figure of 0 or infinity does not say how far to go."""
    return 8.0 if math.isnan(figure) else math.log(min(max(figure / limit, math.exp(-8)), math.exp(8)))


def _better(new: Trial[T], old: Trial[T], limit: float, cost: Callable[[T], float] | None) -> bool:
    if new.figure <= limit and old.figure <= limit:
        return cost(new.result) < cost(old.result) if cost else new.figure > old.figure
    return new.figure < old.figure or (math.isnan(old.figure) and not math.isnan(new.figure))
