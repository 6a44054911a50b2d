"""Which transform suits an array: what a part of it takes under each, after a guess which are worth coding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurcomp_core.wavelet import stream, transform
from neurcomp_core.wavelet.lanes import Lanes
from neurcomp_core.wavelet.layout import Layout, Shape

#: Edge of the part that is tried.
PART = 64
#: Levels ahead that are tried, and the gain that they must have.
_AHEAD, _GAIN = (2, 6), 0.01
#: Levels ahead are coded if they look this much cheaper; no transform if it looks this much dearer at most, and used
#: if it then is.
_CHEAPER, _DEARER, _CLOSE = 0.98, 1.1, 1.1


@dataclass(frozen=True)
class Choice:
    """Axis and number of levels that go ahead (see `Layout`), and whether no transform at all may be smaller."""

    lead: int = 0
    ahead: int = 0
    predict: bool = False


def choose(part: np.ndarray, step: float, weight: float, lanes: Lanes) -> Choice:
    """What a part of an array says.

    Parameters
    ----------
    part : ndarray ``(z, y, x, 1)``
        Floats around zero.
    step : float
        About the step that the array will be coded with.
    weight : float
        Squared steps that a bit is worth.
    """
    sizes: Shape = part.shape[:3]  # type: ignore[assignment]
    plain = Layout(sizes, 16, 1)
    none = Layout(sizes, 0, 1)
    ways = [Layout(sizes, 16, 1, lead=axis, ahead=n) for axis in range(3) for n in _AHEAD if sizes[axis] >= 8]

    def price(layout: Layout) -> float:
        return _price(transform.analyse(part, layout, lanes)[0], step)

    def cost(layout: Layout) -> float:
        coefficients = transform.analyse(part, layout, lanes)
        box, error = transform.quantised(coefficients, layout, step, weight, lanes)
        nbytes = sum(map(len, stream.encode(transform.predicted(box, lanes), lanes)))
        return 8 * nbytes + error / (weight * step * step)

    usual = price(plain)
    best = min(ways, key=price, default=plain)
    differences = part[..., 0]
    for axis in range(3):
        differences = np.diff(differences, axis=axis, prepend=0)
    packet = best is not plain and price(best) < _CHEAPER * usual
    predict = _price(differences, step) < _DEARER * usual
    if not packet and not predict:
        return Choice()
    least = cost(plain)
    chosen = Choice()
    if packet and (packed := cost(best)) < (1 - _GAIN) * least:
        least, chosen = packed, Choice(best.lead, best.ahead)
    return Choice(chosen.lead, chosen.ahead, predict and cost(none) < _CLOSE * least)


def rate(part: np.ndarray, step: float, weight: float, lanes: Lanes) -> float:
    """Bits that a sample of a part takes; see `choose`."""
    layout = Layout(part.shape[:3], 16, 1)  # type: ignore[arg-type]
    box, _ = transform.quantised(transform.analyse(part, layout, lanes), layout, step, weight, lanes)
    return 8 * sum(map(len, stream.encode(transform.predicted(box, lanes), lanes))) / part.size


def _price(coefficients: np.ndarray, step: float) -> float:
    """Bits that coefficients take, roughly, to compare transforms."""
    return float(np.log1p(np.abs(coefficients) / step).sum(dtype=np.float64))
