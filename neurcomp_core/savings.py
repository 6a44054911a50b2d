"""How many bytes a codec saves against the best of its peers at equal PSNR.

A codec's curve says how many bytes reach at least a PSNR: log-linear between measured points, never more than what a
better measured point takes, the smallest file's size below the lowest point, and infinite above the highest. A lossless
point is only worth its own bytes: nothing is interpolated towards it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neurcomp_core.errors import InputError

#: Codecs that others are measured against.
PEERS = ("tthresh", "sperr", "sz3", "zfp")
#: PSNR (dB) over which savings are averaged, and the number of places at which curves are compared.
LOW, HIGH, PLACES = 35.0, 65.0, 61
#: Files of at most so many bytes are not looked at for the worst place.
TINY = 4096

#: ``(psnr, bytes)`` of one file; PSNR is infinite for a lossless one.
Point = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Saving:
    """A codec against the pointwise best of its peers on one volume.

    Attributes
    ----------
    psnr : ndarray
        Places (dB), rising.
    relative : ndarray
        Bytes of the codec over bytes of the best peer there, less 1: negative where it saves; NaN where either does not
        get that far.
    best : tuple of str
        The best peer at each place.
    mean, worst : float
        Geometric mean of ``1 + relative`` less 1, and the largest value where the peer's file is larger than `TINY`;
        NaN if there is no place to compare at.
    """

    psnr: np.ndarray
    relative: np.ndarray
    best: tuple[str, ...]
    mean: float
    worst: float


def log_bytes(points: Sequence[Point], psnr: np.ndarray) -> np.ndarray:
    """Natural logarithm of the bytes that reach at least `psnr` (dB); infinite where no point does."""
    finite = sorted((q, size) for q, size in points if np.isfinite(q) and np.isfinite(size))
    lossless = min((size for q, size in points if q == np.inf), default=np.inf)
    result = np.full(len(psnr), np.log(lossless) if np.isfinite(lossless) else np.inf)
    if not finite:
        return result
    x = np.array([q for q, _ in finite])
    y = np.log([size for _, size in finite] + [lossless])
    # A file that is better and smaller makes a worse one pointless.
    y = np.minimum.accumulate(y[::-1])[::-1][:-1]
    inside = psnr <= x[-1]
    result[inside] = np.interp(psnr[inside], x, y)
    return result


def saving(
    curves: Mapping[str, Sequence[Point]],
    codec: str,
    peers: Sequence[str] = PEERS,
    low: float = LOW,
    high: float = HIGH,
    places: int = PLACES,
) -> Saving:
    """Compare one codec's points on a volume with those of its peers.

    Parameters
    ----------
    curves : mapping
        Codec name to its points ``(psnr, bytes)``; peers that are not in it are left out.
    codec : str
    peers : sequence of str
    low, high, places
        `places` values of PSNR, evenly spaced from `low` to `high` dB.

    Raises
    ------
    InputError
        If the codec or all peers are missing.
    """
    rivals = [p for p in peers if p in curves and p != codec]
    if codec not in curves or not rivals:
        raise InputError(
            f"savings of '{codec}': expected points of it and of at least one of {', '.join(peers)}; "
            f"got points of {', '.join(curves) or 'nothing'}"
        )
    psnr = np.linspace(low, high, places)
    theirs = np.stack([log_bytes(curves[p], psnr) for p in rivals])
    best, mine = theirs.min(axis=0), log_bytes(curves[codec], psnr)
    known = np.isfinite(best) & np.isfinite(mine)
    relative = np.full(places, np.nan)
    difference = mine[known] - best[known]
    relative[known] = np.expm1(difference)
    large = relative[known & (best > np.log(TINY))]
    mean = float(np.expm1(difference.mean())) if known.any() else float("nan")
    worst = float(large.max()) if large.size else float("nan")
    return Saving(psnr, relative, tuple(rivals[i] for i in theirs.argmin(axis=0)), mean, worst)


def average(savings: Sequence[Saving]) -> float:
    """Geometric mean over volumes of ``1 + mean``, less 1; NaN if none has a mean."""
    means = [s.mean for s in savings if np.isfinite(s.mean)]
    return float(np.expm1(np.log1p(means).mean())) if means else float("nan")
