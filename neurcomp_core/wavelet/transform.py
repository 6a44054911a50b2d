"""A box of values to quantised coefficients and back: everything of the codec that is not entropy coding."""

from __future__ import annotations

import math

import numpy as np

from neurcomp_core.wavelet import estimation, lifting, prediction, quantise, stream
from neurcomp_core.wavelet.importance import ScaleMap
from neurcomp_core.wavelet.lanes import Lanes
from neurcomp_core.wavelet.layout import Layout
from neurcomp_core.wavelet.stream import Box

#: Resolution of predictors' weights, in bits, with and without a transform: predicted samples are larger than details.
WEIGHT_BITS = {False: 7, True: 10}

#: Planes that one piece of work covers.
_PLANES = 16
#: Of blocks with more coefficients than this, an estimate takes one plane of so many.
_FEW, _EVERY = 1 << 13, 4


def weight_bits(layout: Layout) -> int:
    """Resolution of the predictors' weights."""
    return WEIGHT_BITS[not layout.splits]


def analyse(values: np.ndarray, layout: Layout, lanes: Lanes) -> list[np.ndarray]:
    """Coefficients of each component of a box.

    Parameters
    ----------
    values : ndarray ``(z, y, x, c)``
        Floats around zero.
    """
    coefficients = []
    for component in range(values.shape[3]):
        part = np.ascontiguousarray(values[..., component])
        part = part.copy() if part.base is not None or part is values else part
        lifting.forward(part, layout, lanes)
        coefficients.append(part)
    return coefficients


def quantised(
    coefficients: list[np.ndarray], layout: Layout, step: float, weight: float, lanes: Lanes, estimate: bool = False
) -> tuple[Box, float]:
    """Round coefficients to multiples of a step.

    Parameters
    ----------
    step : float
        Of a coefficient that stands for a unit of energy in the values.
    weight : float
        Squared steps that a bit is worth (`quantise.thresholds`).
    estimate : bool
        Whether the error is all that is wanted: it is then taken from a few planes.

    Returns
    -------
    box : Box
        Without predictors.
    error : float
        Sum of squared errors of the values, as estimated from the coefficients.
    """
    table = quantise.thresholds(weight)
    count = len(coefficients)
    box = Box(layout, count, np.zeros(count * layout.size, np.int32))
    jobs = []
    for component, values in enumerate(coefficients):
        for band in layout.bands:
            scaled = step / lifting.norm(layout, band)
            parts = zip(layout.blocks[band.level, band.orient], layout.views(box.buffer(component), band), strict=True)
            for block, view in parts:
                # However many threads there are, the same sums are added up.
                every = _EVERY if estimate and math.prod(block.shape) > _FEW else 1
                for low in range(0, block.shape[0], _PLANES):
                    high = min(low + _PLANES, block.shape[0])
                    part = values[band.box], scaled, block.first + low, block.first + high, every, view[low:high]
                    jobs.append(((stream.group_of(layout, band.level), component), part))

    def work(job: tuple) -> np.ndarray:
        sums = np.zeros((4, 3))
        values, scaled, first, last, every, view = job[1]
        quantise.quantise(values, scaled, table, first, last, every, view, sums)
        return sums * ((last - first) / len(range(first, last, every)))

    total: dict[tuple[int, int], np.ndarray] = {}
    for (place, _), sums in zip(jobs, lanes.each(work, jobs), strict=True):
        total[place] = total.get(place, np.zeros((4, 3))) + sums
    error = 0.0
    for group in range(len(stream.groups(layout))):
        centers = [quantise.centroids(total[group, component]) for component in range(count)]
        error += sum(quantise.distortion(total[group, c], centers[c]) for c in range(count))
        box.centers.append(np.array(centers))
    # Errors in steps are errors in values, whatever the subband: that is what the norms are for.
    return box, error * step * step


def predicted(box: Box, lanes: Lanes, known: Box | None = None) -> Box:
    """`box` with predictors fitted to it, or those of a box that decoders know."""
    layout, bits = box.layout, weight_bits(box.layout)
    keys = [(c, band) for c in range(box.components) for band in layout.bands]

    def work(key: tuple) -> prediction.Predictor:
        component, band = key
        free = known.predictors.get((component, band.level, band.orient)) if known else None
        return prediction.fit(box.q, layout, band, bits, component, free)

    fits = lanes.each(work, keys)
    box.predictors.update({(c, b.level, b.orient): p for (c, b), p in zip(keys, fits, strict=True) if p.weights})
    return box


def estimated(box: Box, coefficients: list[np.ndarray], step: float, lanes: Lanes) -> Box:
    """`box` with estimators fitted to the coefficients it was made of."""
    layout = box.layout
    keys = [(c, band) for c in range(box.components) for band in layout.bands if layout.splits]

    def work(key: tuple) -> estimation.Estimator | None:
        component, band = key
        centers = box.centers[stream.group_of(layout, band.level)][component]
        scaled = step / lifting.norm(layout, band)
        return estimation.fit(box.q, coefficients[component][band.box], layout, band, component, centers, scaled)

    fits = lanes.each(work, keys)
    box.estimators.update({(c, b.level, b.orient): e for (c, b), e in zip(keys, fits, strict=True) if e})
    return box


def synthesise(
    box: Box,
    step: float,
    dtype: type,
    lanes: Lanes,
    level: int = 0,
    preview: bool = True,
    scales: ScaleMap | None = None,
) -> np.ndarray:
    """Values ``(z, y, x, c)`` of a box, or its low-pass part `level` levels above the finest.

    A `preview` has the values' scale, otherwise the low-pass part is as the next finer level takes it.
    """
    layout = box.layout
    shape = layout.splits[level - 1].low if level else layout.shape
    out = np.empty((*shape, box.components), dtype)
    for component in range(box.components):
        work = np.zeros(shape, dtype)
        jobs: list[tuple] = []
        for band in layout.bands:
            if band.level < level:
                continue
            scaled = step / lifting.norm(layout, band)
            centers = box.centers[stream.group_of(layout, band.level)][component]
            estimator = box.estimators.get((component, band.level, band.orient))
            target = work[band.box]
            views = layout.views(box.buffer(component), band)
            for lane, block in enumerate(layout.blocks[band.level, band.orient]):
                part = target[block.first : block.first + block.shape[0]]
                if estimator:
                    jobs.append(
                        (estimation.apply, box.q, layout, band, lane, component, estimator, centers, scaled, part)
                    )
                else:
                    jobs.append((quantise.restore, views[lane], scaled, centers, part))
        lanes.each(lambda job: job[0](*job[1:]), jobs)
        if scales:
            bands = [(work[b.box], b) for b in layout.bands if b.level >= level]
            lanes.each(lambda job: scales.divide(*job), bands)
        lifting.inverse(work, layout, lanes, level)
        if level and preview:
            # A low-pass step multiplies a constant by the root of 2.
            work *= dtype(math.sqrt(0.5) ** sum(len(s.axes) for s in layout.splits[:level]))
        out[..., component] = work
    return out
