"""Quantised coefficients of one box to bytes and back.

The bytes of a box come in groups of levels, coarse first, so that a coarser reconstruction needs only the first ones. A
group holds the reconstruction points and predictors of its subbands and a run of range-coded bytes for each lane. Lanes
share what the models learned from the small, coarse subbands, then go on apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from neurcomp_core.coding import mixing
from neurcomp_core.coding import weights as weights_coder
from neurcomp_core.coding.weights import Group
from neurcomp_core.coding.wire import read_varint, write_varint
from neurcomp_core.errors import FormatError
from neurcomp_core.wavelet import estimation, prediction
from neurcomp_core.wavelet.coder import PAD, code_block, new_state
from neurcomp_core.wavelet.estimation import Estimator
from neurcomp_core.wavelet.lanes import Lanes
from neurcomp_core.wavelet.layout import Band, Layout
from neurcomp_core.wavelet.prediction import Predictor
from neurcomp_core.wavelet.quantise import smooth

#: Boxes smaller than this are one group.
_GROUP_LEAST = 1 << 17
#: No filter's weight is larger.
_LARGEST = 1 << 15

#: Flag of a predictor that is the key box's.
_AS_KEY = 2
#: Observations that a model of another box counts for at most.
_CONFIDENCE = 30

Key = tuple[int, int, int]  # component, level, orient


@dataclass
class Box:
    """Quantised coefficients of a box, and what its decoder must be told of them.

    Attributes
    ----------
    layout : Layout
    components : int
    q : ndarray of int32
        `components` flat buffers one after another.
    centers : list of ndarray
        For each group, ``(components, 4)``; see `quantise.centroids`.
    predictors, estimators : dict
        By component, level and orient.
    learned : tuple of ndarray
        What the coder's models knew in the end; boxes that begin with it (`encode`) need fewer bytes.
    """

    layout: Layout
    components: int
    q: np.ndarray
    centers: list[np.ndarray] = field(default_factory=list)
    predictors: dict[Key, Predictor] = field(default_factory=dict)
    estimators: dict[Key, Estimator] = field(default_factory=dict)
    learned: tuple[np.ndarray, ...] = ()

    def buffer(self, component: int) -> np.ndarray:
        return self.q[component * self.layout.size : (component + 1) * self.layout.size]


def groups(layout: Layout) -> list[list[int]]:
    """Levels of each group, coarse first."""
    levels = list(dict.fromkeys(band.level for band in layout.bands))
    if np.prod(layout.shape) < _GROUP_LEAST or layout.first or len(levels) < 3:
        return [levels]
    return [levels[:-2], levels[-2:-1], levels[-1:]]


def group_of(layout: Layout, level: int) -> int:
    return next(i for i, levels in enumerate(groups(layout)) if level in levels)


@dataclass
class _Lane:
    """One coder and what it has seen; `smoothed` holds magnitudes of coded subbands of the current and last level."""

    index: int
    state: tuple[np.ndarray, ...]
    smoothed: dict[Key, np.ndarray] = field(default_factory=dict)
    outputs: dict[int, bytes] = field(default_factory=dict)


class _Overflow(Exception):
    """The output did not fit."""


def _bands(layout: Layout, level: int) -> list[Band]:
    return [b for b in layout.bands if b.level == level]


def _code_levels(box: Box, miss: np.ndarray, lane: _Lane, levels: list[int], coder, data: np.ndarray, encoding: bool):
    layout = box.layout
    models, weights, learned, maps = lane.state
    for level in levels:
        family = {}
        for band in _bands(layout, level):
            for component in range(box.components):
                key = (component, level, band.orient)
                block = layout.blocks[level, band.orient][lane.index]
                start = component * layout.size
                relatives = family.setdefault(component, [np.zeros(block.padded, np.int32), 0])
                beside, count = relatives
                if component:
                    # The component before counts as one more relative.
                    beside = beside.copy()
                    before = lane.smoothed[component - 1, level, band.orient]
                    beside[tuple(map(slice, before.shape))] += before
                    count = count + 1
                parent, above, halved = _parent(layout, lane, component, band)
                factors = box.predictors.get(key, Predictor()).factors
                found = prediction.taps(layout, band, lane.index, layout.size if component else 0)
                near, far = prediction.offsets(block.strides)
                code_block(
                    encoding, coder, data, models, weights, learned, maps,
                    box.q, miss, start + block.base, block.shape, block.strides,
                    near, far, found[: len(factors)], factors, parent, above, halved, beside, count,
                    level, band.orient,
                )  # fmt: skip
                if coder[4] > len(data) + (0 if encoding else mixing.SPARE):
                    raise _Overflow
                padded = box.q[start + block.start : start + block.start + int(np.prod(block.padded))]
                padded = padded.reshape(block.padded)
                inner = padded[tuple(slice(PAD - 1, PAD + n + 1) for n in block.shape)]
                result = np.zeros(block.shape, np.int32)
                smooth(inner, 0, block.shape[0], result, False)
                lane.smoothed[key] = result
                relatives[0][tuple(map(slice, result.shape))] += result
                relatives[1] += 1
        for key in [k for k in lane.smoothed if k[1] > level]:
            del lane.smoothed[key]


def _parent(layout: Layout, lane: _Lane, component: int, band: Band) -> tuple[np.ndarray, int, tuple[int, int, int]]:
    parent = lane.smoothed.get((component, band.level + 1, band.orient)) if band.orient else None
    if parent is None or parent.size == 0:
        return np.zeros((0, 0, 0), np.int32), 0, (0, 0, 0)
    fine, coarse = layout.extents[band.level], layout.extents[band.level + 1]
    halved = tuple(int(f > c) for f, c in zip(fine, coarse, strict=True))
    first = layout.blocks[band.level, band.orient][lane.index].first
    above = layout.blocks[band.level + 1, band.orient]
    # Rows above the lane's own part of the parent are those of its edge.
    begins = above[lane.index].first if len(above) > 1 else 0
    return parent, max(first - (begins << halved[0]), 0), halved  # type: ignore[return-value]


def _run(
    box: Box, miss: np.ndarray, lane: _Lane, parts: list[tuple[int, list[int]]], streams: dict[int, bytes] | None
) -> None:
    """Code a lane's levels, by group; `streams` to decode."""
    for group, levels in parts:
        coder = np.zeros(5, np.int64)
        if streams is None:
            size = sum(b.size for level in levels for b in _bands(box.layout, level)) * box.components
            capacity = 4096 + 4 * size
            while True:
                data = np.empty(capacity, np.uint8)
                mixing.start_encoder(coder)
                saved = tuple(s.copy() for s in lane.state), dict(lane.smoothed)
                try:
                    _code_levels(box, miss, lane, levels, coder, data, True)
                    break
                except _Overflow:
                    capacity *= 8
                    lane.state, lane.smoothed = saved
            length = mixing.finish_encoder(coder, data)
            lane.outputs[group] = data[:length].tobytes()
        else:
            data = np.frombuffer(streams[group], np.uint8).copy()  # writable, as the compiled coder takes it
            mixing.start_decoder(coder, data)
            try:
                _code_levels(box, miss, lane, levels, coder, data, False)
            except _Overflow:
                raise FormatError("wavelet: a stream ends before its coefficients do") from None


def _parts(layout: Layout, cut: bool, wanted: int) -> list[tuple[int, list[int]]]:
    """Groups up to `wanted` with those of their levels that are cut into lanes, or are not."""
    found = []
    for i, levels in enumerate(groups(layout)[: wanted + 1]):
        chosen = [level for level in levels if (layout.cuts(level) > 1) == cut]
        if chosen:
            found.append((i, chosen))
    return found


def _start(key: Box | None) -> tuple[np.ndarray, ...]:
    """State of a coder's models; one that begins with what others learned adapts quickly again."""
    if key is None:
        return new_state()
    models, *others = (s.copy() for s in key.learned)
    count = models & np.uint32(1023)
    return models - count + np.minimum(count, np.uint32(_CONFIDENCE)), *others


def _code(box: Box, lanes: Lanes, wanted: int, streams: list[list[bytes]] | None, key: Box | None) -> list[list[bytes]]:
    """All lanes' streams by group: first that of the uncut levels, if the group has any, then each lane's."""
    layout = box.layout
    shared, cut = _parts(layout, False, wanted), _parts(layout, True, wanted)
    miss = np.zeros(len(box.q), np.int32)
    first = _Lane(0, _start(key))
    _run(box, miss, first, shared, None if streams is None else {g: streams[g][0] for g, _ in shared})
    result = [[] for _ in range(wanted + 1)]
    for group, _ in shared:
        result[group].append(first.outputs.get(group, b""))
    if cut:
        lanes_ = [_Lane(i, tuple(s.copy() for s in first.state), dict(first.smoothed)) for i in range(layout.lanes)]
        both = {g for g, _ in shared}

        def work(lane: _Lane) -> None:
            mine = None
            if streams is not None:
                mine = {g: streams[g][lane.index + (g in both)] for g, _ in cut}
            _run(box, miss, lane, cut, mine)

        lanes.each(work, lanes_)
        for group, _ in cut:
            result[group] += [lane.outputs.get(group, b"") for lane in lanes_]
    box.learned = first.state
    return result


def _filters(box: Box, levels: list[int]) -> list[tuple[Key, int, int]]:
    """Each subband's key, and how many weights its predictor and each row of its estimator have if there are any."""
    layout = box.layout
    return [
        (
            (component, level, band.orient),
            len(prediction.taps(layout, band, 0, layout.size if component else 0)),
            estimation.features(layout, band),
        )
        for component in range(box.components)
        for level in levels
        for band in _bands(layout, level)
    ]


def _tables(flags: np.ndarray, filters: list[tuple[Key, int, int]]) -> dict[tuple[int, int], list[Key]]:
    """Subbands that have a filter, by kind (0 predictor, 1 and 2 rows of the estimator) and number of weights."""
    found: dict[tuple[int, int], list[Key]] = {}
    for row, (key, taps, features) in zip(flags, filters, strict=True):
        for kind in range(3):
            if row[kind] == 1:
                found.setdefault((kind, features if kind else taps), []).append(key)
    return dict(sorted(found.items()))


def _encode_filters(box: Box, levels: list[int], known: Box | None) -> bytes:
    filters = _filters(box, levels)
    flags = np.zeros((len(filters), 3), np.int64)
    rows: dict[tuple[int, Key], np.ndarray] = {}
    for row, (key, _, _) in zip(flags, filters, strict=True):
        if key in box.predictors and known and box.predictors[key] == known.predictors.get(key):
            row[0] = _AS_KEY
        elif key in box.predictors:
            row[0], rows[0, key] = 1, np.array(box.predictors[key].weights)
        if key in box.estimators:
            for kind, weights in enumerate(box.estimators[key].weights):
                row[kind + 1], rows[kind + 1, key] = int(weights.any()), weights
    if not flags.any():
        return b""
    arrays = [flags] + [
        np.stack([rows[kind, key] for key in keys]) for (kind, _), keys in _tables(flags, filters).items()
    ]
    return weights_coder.encode_groups(arrays, [Group(*array.shape) for array in arrays])


def _decode_filters(box: Box, levels: list[int], data: bytes, bits: int, known: Box | None) -> None:
    if not data:
        return
    filters = _filters(box, levels)
    first = Group(len(filters), 3)
    (flags,) = weights_coder.decode_groups(data, [first])
    for row, (key, _, _) in zip(flags, filters, strict=True):
        if row[0] == _AS_KEY and known and key in known.predictors:
            box.predictors[key] = known.predictors[key]
    tables = _tables(flags, filters)
    groups_ = [first] + [Group(len(keys), count) for (_, count), keys in tables.items()]
    _, *arrays = weights_coder.decode_groups(data, groups_)
    for ((kind, count), keys), array in zip(tables.items(), arrays, strict=True):
        for key, row in zip(keys, np.clip(array, -_LARGEST, _LARGEST), strict=True):
            if kind == 0:
                box.predictors[key] = Predictor(tuple(int(w) for w in row), bits)
            else:
                box.estimators.setdefault(key, Estimator(np.zeros((2, count), np.int64))).weights[kind - 1] = row


def encode(box: Box, lanes: Lanes, key: Box | None = None) -> list[bytes]:
    """Bytes of each group of levels of `box`; `key` is a box that decoders will have decoded before."""
    layout = box.layout
    streams = _code(box, lanes, len(groups(layout)) - 1, None, key)
    sections = []
    for i, (levels, runs) in enumerate(zip(groups(layout), streams, strict=True)):
        head = bytearray()
        for center in box.centers[i]:
            head += bytes(round(float(c) * 128) + 64 for c in center[1:])
        filters = _encode_filters(box, levels, key)
        head += write_varint(len(filters)) + filters
        for run in runs[:-1]:
            head += write_varint(len(run))
        sections.append(bytes(head) + b"".join(runs))
    return sections


def decode(
    sections: Sequence[bytes], layout: Layout, components: int, bits: int, wanted: int, lanes: Lanes,
    key: Box | None = None,
) -> Box:  # fmt: skip
    """Inverse of `encode` for the groups up to `wanted`; `bits` of the predictors' weights.

    Raises
    ------
    FormatError
        If the bytes are not what `encode` writes.
    """
    box = Box(layout, components, np.zeros(components * layout.size, np.int32))
    streams = []
    for i, levels in enumerate(groups(layout)[: wanted + 1]):
        data = memoryview(sections[i])
        at = 3 * components
        if len(data) < at:
            raise FormatError("wavelet: a section is cut short")
        points = (np.frombuffer(data[:at], np.uint8).reshape(components, 3).astype(float) - 64) / 128
        box.centers.append(np.hstack([np.zeros((components, 1)), points]))
        length, at = read_varint(data, at)
        _decode_filters(box, levels, bytes(data[at : at + length]), bits, key)
        at += length
        cuts = [layout.cuts(level) > 1 for level in levels]
        runs = (not all(cuts)) + (layout.lanes if any(cuts) else 0)
        lengths = []
        for _ in range(runs - 1):
            length, at = read_varint(data, at)
            lengths.append(length)
        lengths.append(len(data) - at - sum(lengths))
        if lengths[-1] < 0:
            raise FormatError("wavelet: a section's lanes are longer than the section")
        parts = []
        for length in lengths:
            parts.append(bytes(data[at : at + length]))
            at += length
        streams.append(parts)
    _code(box, lanes, wanted, streams, key)
    return box
