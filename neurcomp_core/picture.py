"""Pictures of what a codec did: slices with their errors, and rate-distortion plots.

Needs matplotlib (extra ``plot``), imported when a picture is drawn; pyplot and its global state are never touched.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from neurcomp_core.errors import InputError, require
from neurcomp_core.field import IDENTITY, Field, UniformGrid
from neurcomp_core.files import atomic_path
from neurcomp_core.metrics import Quality, measure, valid_samples

FORMATS = ("png", "svg", "pdf")
_PURPOSE = "drawing a picture"
# 1200 pixels, which a README shows at about two thirds.
_DPI = 125
_WIDTH = 9.6
_SMALL, _LARGE = 8.5, 10.5
_NO_DATA = "0.72"
# Okabe & Ito's colours, told apart by colour-blind readers, without the yellow that vanishes on white.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
# Slices longer than this fill their panel instead of keeping their proportions.
_MAX_ASPECT = 2.8


@dataclass(frozen=True, eq=False)
class _Slice:
    """One slice of both fields as 2-D arrays (vertical, horizontal); NaN where there is nothing to show."""

    label: str
    names: tuple[str, str]
    edges: tuple[np.ndarray, np.ndarray]
    original: np.ndarray
    decoded: np.ndarray
    error: np.ndarray

    @property
    def aspect(self) -> float:
        """Height over width in world units."""
        vertical, horizontal = self.edges
        return float((vertical[-1] - vertical[0]) / (horizontal[-1] - horizontal[0]))


def comparison(
    original: Field, decoded: Field, path: str | os.PathLike[str], title: str | None = None, *, slices: int = 1
) -> None:
    """Draw middle slices: original, decoded and error side by side; PSNR and largest error of the whole field on top.

    Original and decoded share the colour scale of the original's slices. The error is ``decoded - original`` on a
    diverging scale, symmetric about zero and cut at the 99.9th percentile of its size (pointed colour bar ends say
    so). Vectors and tensors show magnitudes, and as error the magnitude of the difference, which sees a wrong
    direction, too. Masked and non-finite samples are grey.

    Parameters
    ----------
    original, decoded : Field
        Of one shape; geometry, name and mask are the original's.
    path : path
        File to write: ``.png``, ``.svg`` or ``.pdf``.
    title : str, optional
        Put before the figures; the name of the field if left out.
    slices : int
        How many of the three orthogonal middle slices, largest first and most varied among equals; flat axes have
        one slice only.

    Raises
    ------
    InputError
        If the shapes differ, nothing is valid, or the suffix of `path` is of no supported format.
    MissingExtraError
        If matplotlib is not installed.
    """
    kind = _format(path)
    if not 1 <= slices <= 3:
        raise InputError(f"slices: expected 1, 2 or 3, got {slices}")
    quality = measure(original.values, decoded.values, original.mask)
    shown = _slices(original, decoded)[:slices]
    vector = original.components > 1
    low, high = _limits([s.original for s in shown])
    worst = _limits([np.abs(s.error) for s in shown])[1]
    cut = max(float(np.nanpercentile(np.abs(s.error), 99.9)) if np.isfinite(s.error).any() else 0.0 for s in shown)
    # Where hardly any sample is wrong the percentile is zero, and the worst error must do.
    bound = cut or worst or 1.0
    scales = {
        "values": _Scale("viridis", low, high if high > low else low + 1.0),
        "error": _Scale("magma" if vector else "RdBu_r", 0.0 if vector else -bound, bound),
    }
    error_name = "|decoded − original|" if vector else "decoded − original"

    panel = 2.55
    heights = [panel * min(max(s.aspect, 1 / _MAX_ASPECT), 1.6) for s in shown]
    figure = _figure(_WIDTH, sum(heights) + 0.45 * len(shown) + 0.85)
    rows = figure.subplots(len(shown), 3, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes, s in zip(rows, shown, strict=True):
        for ax, (heading, values, scale) in zip(
            axes,
            (
                ("Original", s.original, scales["values"]),
                ("Decoded", s.decoded, scales["values"]),
                (f"Error: {error_name}", s.error, scales["error"]),
            ),
            strict=True,
        ):
            _draw(ax, s, values, scale)
            if s is shown[0]:
                ax.set_title(heading, fontsize=_LARGE)
            ax.set_xlabel(s.names[1], fontsize=_SMALL)
        axes[0].set_ylabel(f"{s.names[0]}\n{s.label}" if len(shown) > 1 else s.names[0], fontsize=_SMALL)
        for ax in axes[1:]:
            ax.tick_params(labelleft=False)
        name = f"|{original.name}|" if vector else original.name
        _colour_bar(figure, axes[1], name, "neither", s.aspect > 0.5)
        over = worst > bound
        _colour_bar(figure, axes[2], "", ("max" if vector else "both") if over else "neither", s.aspect > 0.5)
    about = title or f"{original.name}, {' × '.join(map(str, original.values.shape[2::-1]))}"
    note = f" — {shown[0].label}" if len(shown) == 1 and original.voxels > shown[0].original.size else ""
    figure.suptitle(f"{about}{note}\n{_verdict(quality, vector)}", fontsize=_LARGE, parse_math=False)
    _save(figure, path, kind)


def rate_distortion(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    path: str | os.PathLike[str],
    title: str | None = None,
    *,
    rate_label: str = "bits per voxel",
    raw_rate: float | None = None,
) -> None:
    """Plot PSNR over the logarithm of the rate, one line per codec.

    Parameters
    ----------
    curves : mapping
        Name of a codec to its points ``(rate, psnr)``, rate in the unit of `rate_label`, PSNR in dB as
        `metrics.psnr` defines it. Infinite PSNR is drawn as an open triangle on the upper edge.
    path : path
        File to write: ``.png``, ``.svg`` or ``.pdf``.
    title : str, optional
    rate_label : str
        Quantity on the abscissa.
    raw_rate : float, optional
        Rate of the uncompressed data (32 bits per voxel for one float32); adds an axis of compression ratios.

    Raises
    ------
    InputError
        If there is nothing to plot, a rate is not positive and finite, or a PSNR is NaN.
    MissingExtraError
        If matplotlib is not installed.
    """
    kind = _format(path)
    if not any(curves.values()):
        raise InputError("curves: expected at least one point (rate, psnr), got none")
    for name, points in curves.items():
        for rate, value in points:
            if not 0 < rate < math.inf or math.isnan(value) or value == -math.inf:
                raise InputError(f"curve '{name}': expected a positive rate and a PSNR in dB, got ({rate}, {value})")
    if raw_rate is not None and not 0 < raw_rate < math.inf:
        raise InputError(f"raw_rate: expected a positive finite rate, got {raw_rate}")

    figure = _figure(_WIDTH, 5.4)
    ax = figure.subplots()
    ax.set_xscale("log")
    for (name, points), colour, marker in zip(curves.items(), cycle(_COLOURS), cycle(_MARKERS), strict=False):
        finite = sorted(p for p in points if math.isfinite(p[1]))
        lossless = [rate for rate, value in points if value == math.inf]
        x, y = [p[0] for p in finite], [p[1] for p in finite]
        ax.plot(x, y, color=colour, marker=marker, markersize=6, linewidth=1.8, label=name)
        if lossless:
            style: dict[str, Any] = {"color": colour, "marker": "^", "markersize": 9, "markerfacecolor": "white"}
            on_edge = {"transform": ax.get_xaxis_transform(), "clip_on": False, "zorder": 5}
            ax.plot(lossless, [1.0] * len(lossless), linestyle="", label=f"{name}, lossless", **style, **on_edge)
    ax.margins(x=0.06, y=0.08)
    _rate_ticks(ax.xaxis)
    ax.set_xlabel(rate_label, fontsize=_LARGE)
    ax.set_ylabel("PSNR in dB (peak: range of the data)", fontsize=_LARGE)
    ax.tick_params(labelsize=_SMALL + 1)
    ax.grid(True, which="major", color="0.88", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["right"]].set_visible(False)
    if raw_rate is None:
        ax.spines[["top"]].set_visible(False)
    else:
        above = ax.secondary_xaxis("top")
        _rate_ticks(above.xaxis, raw_rate, ax.get_xlim())
        above.set_xlabel("compression ratio", fontsize=_LARGE)
        above.tick_params(labelsize=_SMALL + 1)
    legend = ax.legend(fontsize=_SMALL + 1, frameon=False, loc="best")
    for text in legend.get_texts():
        text.set_parse_math(False)
    if title:
        figure.suptitle(title, fontsize=_LARGE + 1, parse_math=False)
    _save(figure, path, kind)


@dataclass(frozen=True)
class _Scale:
    colours: str
    low: float
    high: float


def _format(path: str | os.PathLike[str]) -> str:
    kind = Path(path).suffix.lower().lstrip(".")
    if kind not in FORMATS:
        raise InputError(f"picture '{path}': expected a name that ends in .{', .'.join(FORMATS)}, got '.{kind}'")
    return kind


def _figure(width: float, height: float) -> Any:
    module = require("matplotlib.figure", "plot", _PURPOSE)
    figure = module.Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
    return figure


def _save(figure: Any, path: str | os.PathLike[str], kind: str) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=_DPI)


def _verdict(quality: Quality, vector: bool) -> str:
    if quality.max_error == 0:
        return "lossless: every valid sample is equal"
    share = ""
    if quality.range > 0:
        share = f" ({100 * quality.max_error / quality.range:.3g} % of the range {quality.range:.4g})"
    of = " of a component" if vector else ""
    return f"PSNR {quality.psnr:.2f} dB, largest error{of} {quality.max_error:.3g}{share}"


def _slices(original: Field, decoded: Field) -> list[_Slice]:
    """The distinct middle slices, largest first, then most varied first."""
    shape = original.values.shape[:3]
    flat = [axis for axis in range(3) if shape[axis] == 1]
    # A 2-D image has one slice; a line is drawn as a strip across its first flat axis.
    found = [_slice(original, decoded, axis) for axis in (flat[:1] or range(3))]

    def rank(s: _Slice) -> tuple[int, float]:
        return s.original.size, float(np.nanstd(s.original)) if np.isfinite(s.original).any() else -1.0

    return sorted(found, key=rank, reverse=True)


def _slice(original: Field, decoded: Field, axis: int) -> _Slice:
    middle = original.values.shape[axis] // 2
    a, b = (f.values.take(middle, axis) for f in (original, decoded))
    mask = None if original.mask is None else original.mask.take(middle, axis)
    known = valid_samples(a, mask)
    known = np.ones(a.shape, bool) if known is None else known
    error = _signed_difference(b, a)
    shown_a, shown_b = a.astype(np.float64), b.astype(np.float64)
    if a.ndim == 3:
        shown_a, shown_b, error = (np.sqrt((v * v).sum(-1)) for v in (shown_a, shown_b, error))
        known = known.all(-1)
    shown_a, shown_b, error = (np.where(known & np.isfinite(v), v, np.nan) for v in (shown_a, shown_b, error))

    names, edges = [], []
    for along in (2, 1, 0):
        if along != axis:
            name, edge = _edges(original, along)
            names.insert(0, name)
            edges.insert(0, edge)
    across, coordinates = _edges(original, axis)
    at = 0.5 * (coordinates[middle] + coordinates[middle + 1])
    # Descending coordinates are drawn ascending.
    for i, edge in enumerate(edges):
        if edge[0] > edge[-1]:
            edges[i] = edge[::-1]
            shown_a, shown_b, error = (np.flip(v, i) for v in (shown_a, shown_b, error))
    label = f"slice {across} = {at:.4g}"
    return _Slice(label, (names[0], names[1]), (edges[0], edges[1]), shown_a, shown_b, error)


def _signed_difference(b: np.ndarray, a: np.ndarray) -> np.ndarray:
    if a.dtype == b.dtype and a.dtype.kind in "iu" and a.dtype.itemsize == 8:
        # Exact where float64 would round both; wraps right for |b - a| < 2^63.
        return (b - a).view(np.int64).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return b.astype(np.float64) - a.astype(np.float64)


def _edges(field: Field, axis: int) -> tuple[str, np.ndarray]:
    """Name of an array axis (0 = z) and the n + 1 borders of its samples."""
    grid, along = field.geometry, 2 - axis
    count = field.values.shape[axis]
    name = "xyz"[along]
    if isinstance(grid, UniformGrid):
        points = grid.origin[along] + grid.spacing[along] * (grid.extent[2 * along] + np.arange(grid.dimensions[along]))
        if grid.direction != IDENTITY:
            name = f"along {'ijk'[along]}"
    else:
        points = np.asarray(grid.axes[along], np.float64)
    steps = np.diff(points)
    if (
        not np.isfinite(points).all()
        or not ((steps > 0).all() or (steps < 0).all())
        or (points[1:] == points[:-1]).any()
    ):
        name, points = f"index {'ijk'[along]}", np.arange(len(points), dtype=np.float64)
    if len(points) == count + 1:
        return name, points
    if count == 1:
        return name, points[0] + np.array([-0.5, 0.5])
    middles = 0.5 * (points[1:] + points[:-1])
    return name, np.concatenate([[2 * points[0] - middles[0]], middles, [2 * points[-1] - middles[-1]]])


def _limits(arrays: Sequence[np.ndarray]) -> tuple[float, float]:
    known = np.concatenate([a[np.isfinite(a)] for a in arrays])
    return (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)


def _draw(ax: Any, s: _Slice, values: np.ndarray, scale: _Scale) -> None:
    colours = require("matplotlib", "plot", _PURPOSE).colormaps[scale.colours].with_extremes(bad=_NO_DATA)
    style = {"cmap": colours, "vmin": scale.low, "vmax": scale.high}
    vertical, horizontal = s.edges
    if all(np.allclose(np.diff(e), (e[-1] - e[0]) / (len(e) - 1), rtol=1e-3) for e in s.edges):
        extent = (horizontal[0], horizontal[-1], vertical[0], vertical[-1])
        # Enlarged samples stay squares; reduced ones are averaged by matplotlib's filter.
        ax.imshow(np.ma.masked_invalid(values), origin="lower", extent=extent, **style)
    else:
        ax.pcolorfast(horizontal, vertical, np.ma.masked_invalid(values), **style)
    ax.set_facecolor(_NO_DATA)
    ax.set_aspect("equal" if 1 / _MAX_ASPECT <= s.aspect <= _MAX_ASPECT else "auto")
    ax.locator_params(axis="x", nbins=5)
    ax.locator_params(axis="y", nbins=5 if s.aspect > 0.5 else 3)
    ax.tick_params(labelsize=_SMALL, length=3)
    if values.shape[0] == 1:
        ax.set_yticks([])
    if values.shape[1] == 1:
        ax.set_xticks([])


def _colour_bar(figure: Any, ax: Any, label: str, extend: str, tall: bool) -> None:
    picture = ax.images[0] if ax.images else ax.collections[0]
    # An inset is as tall as the panel is drawn, whatever its proportions.
    beside = ax.inset_axes((1.03, 0.0, 0.045, 1.0))
    bar = figure.colorbar(picture, cax=beside, extend=extend)
    bar.set_label(label, fontsize=_SMALL, parse_math=False)
    beside.tick_params(labelsize=_SMALL, length=3)
    beside.locator_params(axis="y", nbins=7 if tall else 4)
    bar.formatter.set_powerlimits((-3, 4))
    bar.update_ticks()
    beside.yaxis.get_offset_text().set_fontsize(_SMALL)


def _rate_ticks(axis: Any, raw_rate: float | None = None, limits: tuple[float, float] = (1.0, 1.0)) -> None:
    """Plain numbers 1, 2, 5, 10 … on a logarithmic axis: rates, or the ratios of `raw_rate` to them."""
    ticker = require("matplotlib.ticker", "plot", _PURPOSE)
    if raw_rate is None:
        axis.set_major_locator(ticker.LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=12))
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        low, high = (math.log10(raw_rate / limit) for limit in reversed(limits))
        ratios = [m * 10.0**e for e in range(math.floor(low), math.ceil(high)) for m in (1, 2, 5)]
        inside = [raw_rate / r for r in ratios if low <= math.log10(r) <= high]
        axis.set_major_locator(ticker.FixedLocator(inside))
        axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{raw_rate / value:g}"))
    axis.set_minor_locator(ticker.NullLocator())
