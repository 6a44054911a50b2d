"""The smallest stream that meets a target, or for a size the best one, of the transforms that make sense."""

from __future__ import annotations

import math

from neurcomp_core.codec import Context, Encoded
from neurcomp_core.coding import wire
from neurcomp_core.errors import InputError, TargetError
from neurcomp_core.field import Field
from neurcomp_core.target import Bytes, MaxError, Target
from neurcomp_core.wavelet.lanes import Lanes
from neurcomp_core.wavelet.reaching import reach
from neurcomp_core.wavelet.record import WaveletRecord
from neurcomp_core.wavelet.run import Options, Run
from neurcomp_core.wavelet.way import Way


def encode(options: Options, field: Field, target: Target, context: Context, lanes: Lanes) -> Encoded:
    """Code a field; see `codec.Codec.encode`."""
    run = Run(options, field, target, context, lanes)
    ways = {"auto": [True, False], "wavelet": [True], "none": [False]}[options.transform]
    if run.weights is not None:
        if options.transform == "none":
            raise InputError("wavelet: without a transform all steps are the same; leave transform=none or regions out")
        ways = [True]
    found: list[Encoded] = []
    failure: TargetError | None = None
    for wavelet in ways:
        if found and not _worth_predicting(run, found[0]):
            continue
        try:
            found.append(_attempt(run, wavelet))
        except TargetError as error:
            failure = error
    if not found:
        assert failure is not None
        raise failure
    if isinstance(target, Bytes) and len(found) > 1:
        return min((run.verified(encoded) for encoded in found), key=lambda pair: pair[1].rmse)[0]
    return min(found, key=lambda encoded: encoded.nbytes)


def _attempt(run: Run, wavelet: bool) -> Encoded:
    target = run.target
    if run.integer and wavelet and isinstance(target, MaxError) and target.value < 1:
        raise TargetError("no transform is lossless", None)
    if run.spread == math.inf:
        raise TargetError("values differ by more than the largest float64", None)
    return reach(Way(run, wavelet), target)


def _worth_predicting(run: Run, first: Encoded) -> bool:
    """Whether no transform at all may be smaller: near the noise, which a transform only spreads."""
    bits = 8 * first.nbytes / run.values.size
    if run.integer:
        step = wire.unpack(WaveletRecord, first.params).step
        return step < 8 and bits > 0.2
    return run.predict or (isinstance(run.target, MaxError) and bits > 1.5)
