"""Streams that meet a target, found on one decomposition."""

from __future__ import annotations

import numpy as np

from neurcomp_core import metrics
from neurcomp_core.codec import Context
from neurcomp_core.errors import InputError, TargetError
from neurcomp_core.search import search
from neurcomp_core.target import Bytes, MaxError, Psnr, Target
from neurcomp_core.tthresh.stream import Encoder, Stream

_TRIALS = 24
#: Of a budget of bytes this share should be used.
_FULL = 0.98
#: Share of the time that the decomposition takes, roughly.
_DECOMPOSITION = 0.4


def fit(values: np.ndarray, target: Target, context: Context, mask: np.ndarray | None = None) -> Stream:
    """Find the smallest stream of a quality, or the best of a size.

    Parameters
    ----------
    values : ndarray
        Any shape; finite.
    target : Bytes, Psnr or MaxError
        Bytes are those of the stream. Qualities are measured on the decoded samples, in the type of `values`.
    context : Context
    mask : ndarray of bool, optional
        Samples that do not count, shape of `values` or without its last axis.

    Raises
    ------
    TargetError
        If the target cannot be met; says what can.
    Interrupted
        If the run is stopped; `best` is the best `Stream` so far or None.
    """
    if not isinstance(target, Bytes | Psnr | MaxError):
        raise InputError(f"tthresh: expected a target of bytes, PSNR or largest error, got {target}")
    progress, count = context.progress, 0
    encoder = Encoder(values, lambda share: progress.update(_DECOMPOSITION * share, "tthresh: decomposing"))
    valid = metrics.valid_samples(values, mask)
    known = values if valid is None else values[valid]
    spread = float(known.max()) - float(known.min()) or 1.0
    del valid, known

    def attempt(error: float) -> tuple[float, Stream]:
        nonlocal count
        share = _DECOMPOSITION + (1 - _DECOMPOSITION) * count / _TRIALS
        progress.update(share, f"tthresh: trial {count + 1}")
        count += 1
        stream = encoder.stream(error)
        if isinstance(target, Bytes):
            return stream.nbytes, stream
        quality = metrics.measure(values, stream.decoded().values(dtype=values.dtype), mask)
        return quality.rmse if isinstance(target, Psnr) else quality.max_error, stream

    largest = max(abs(float(values.max())), abs(float(values.min())))
    span = spread * 2.0**-60, 2 * max(largest, spread)
    if isinstance(target, Bytes):
        found = search(attempt, target.value, spread / 300, span, rising=False, trials=_TRIALS)
        if found.figure > target.value:
            raise TargetError(f"{target} cannot be reached with tthresh", found.figure)
        if found.figure < _FULL * target.value:
            # One coefficient more can bring a row of every factor with it: finer factors fill what is left.
            coarse = found.result

            def attempt_finer(planes: float) -> tuple[float, Stream]:
                stream = encoder.finer(coarse, planes)
                return stream.nbytes, stream

            more = search(attempt_finer, target.value, 0.5, (2.0**-8, 64.0), trials=_TRIALS)
            if found.figure < more.figure <= target.value:
                found = more
    elif isinstance(target, Psnr):
        # A hair less: the figure is compared again after a logarithm.
        limit = spread / 10 ** (target.value / 20) * (1 - 1e-9)
        found = search(attempt, limit, 0.999 * limit, span, slack=0.004, trials=_TRIALS)
        if found.figure > limit:
            reached = metrics.psnr(spread, found.figure)
            raise TargetError(f"{target} cannot be reached with tthresh; {reached:.2f} dB can", reached)
    else:
        found = search(attempt, target.value, target.value / 6, span, slack=0.02, trials=_TRIALS)
        if found.figure > target.value:
            least = found.figure
            raise TargetError(f"{target} cannot be reached with tthresh; a largest error of {least:g} can", least)
    return found.result
