"""Plots that compare codecs: curves in panels under one legend, and speeds.

A codec has the same colour and marker everywhere, a preset the same line. Needs matplotlib (extra ``plot``).
"""

from __future__ import annotations

import math
import os
import statistics
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurcomp_core import picture
from neurcomp_core.errors import InputError, require

# Okabe & Ito's colours, told apart by colour-blind readers; markers tell them apart in print, too.
_STYLES = {
    "wavelet": ("#D55E00", "o"),
    "hashgrid": ("#0072B2", "s"),
    "tthresh": ("#009E73", "D"),
    "sperr": ("#CC79A7", "^"),
    "sz3": ("#56B4E9", "v"),
    "zfp": ("#E69F00", "P"),
    "siren": ("#661100", "*"),
    "network": ("#5A5A5A", "p"),
    "tucker": ("#8C613C", "h"),
    "auto": ("#7F3C8D", "X"),
    "original": ("#000000", ""),
}
_OTHERS = (("#999933", "<"), ("#3969AC", ">"), ("#A5AA99", "d"))
_DASHES = {"balanced": "-", "fast": "--", "small": ":"}
_SMALL, _LARGE = 8.5, 10.5


@dataclass(frozen=True)
class Curve:
    """Points of one codec and preset.

    Attributes
    ----------
    codec, preset : str
        Choose colour, marker and line.
    points : sequence of (x, y)
        Points that are not finite (or, on a logarithmic axis, not positive) are left out.
    label : str, optional
        In the legend; curves of one label share an entry. The codec if left out, nothing if empty.
    thin : bool
        A faint line without markers, behind the others.
    """

    codec: str
    points: Sequence[tuple[float, float]]
    preset: str = "balanced"
    label: str | None = None
    thin: bool = False


@dataclass(frozen=True)
class Panel:
    """Axes with curves; `zero` draws a line at y = 0."""

    curves: Sequence[Curve]
    x: str
    y: str
    title: str = ""
    log_x: bool = False
    log_y: bool = False
    zero: bool = False


@dataclass(frozen=True)
class Speed:
    """Speeds of one codec and preset in MB/s, one per measurement."""

    codec: str
    label: str
    encode: Sequence[float]
    decode: Sequence[float]


def style(codec: str) -> tuple[str, str]:
    """Colour and marker of a codec, the same in every plot."""
    return _STYLES.get(codec) or _OTHERS[zlib.crc32(codec.encode()) % len(_OTHERS)]


def panels(shown: Sequence[Panel], path: str | os.PathLike[str], title: str = "", across: int = 3) -> None:
    """Draw panels side by side, at most `across` in a row, with one legend below them.

    Raises
    ------
    InputError
        If no panel has a point to draw, or `path` is of no picture format.
    MissingExtraError
        If matplotlib is not installed.
    """
    kind = picture._format(path)
    drawn = [[_points(c, p) for c in p.curves] for p in shown]
    if not any(points for curves in drawn for points in curves):
        raise InputError(f"plot '{path}': there is no point to draw")
    width = 9.6 if len(shown) < 3 else 11.4
    columns = min(len(shown), across)
    rows = -(-len(shown) // columns)
    figure = picture._figure(width, 5.2 if len(shown) == 1 else 0.6 + 3.6 * rows)
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in places[len(shown) :]:
        ax.set_axis_off()
    entries: dict[str, Any] = {}
    for ax, panel, curves in zip(places[: len(shown)], shown, drawn, strict=True):
        _axes(ax, panel, any(curves))
        most = max((len(points) for points in curves), default=0)
        for curve, points in zip(panel.curves, curves, strict=True):
            if points:
                line = _line(ax, curve, points, most > 40)
                name = curve.codec if curve.label is None else curve.label
                if name:
                    entries.setdefault(name, line)
    # As many columns as fit the width.
    ncols = max(1, min(len(entries), int(width * 12 / (10 + max(map(len, entries), default=0)))))
    legend = figure.legend(
        list(entries.values()), list(entries), loc="outside lower center", ncols=ncols, frameon=False,
        fontsize=_SMALL + 1, handlelength=3.2,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
    if title:
        figure.suptitle(title, fontsize=_LARGE + 1, parse_math=False)
    picture._save(figure, path, kind)


def speeds(measured: Sequence[Speed], path: str | os.PathLike[str], title: str = "") -> None:
    """Draw encoding and decoding speed on a logarithmic axis: the median as a marker, a line from least to largest.

    Raises
    ------
    InputError
        If there is nothing to draw, or `path` is of no picture format.
    MissingExtraError
        If matplotlib is not installed.
    """
    kind = picture._format(path)
    rows = [m for m in measured if any(v > 0 for v in (*m.encode, *m.decode))]
    if not rows:
        raise InputError(f"plot '{path}': there is no speed to draw")
    figure = picture._figure(9.6, 1.3 + 0.42 * len(rows))
    ax = figure.subplots()
    ax.set_xscale("log")
    seen: dict[str, Any] = {}
    for i, row in enumerate(rows):
        colour = style(row.codec)[0]
        for offset, name, values, face in (
            (0.14, "encode", row.encode, colour),
            (-0.14, "decode", row.decode, "white"),
        ):
            known = sorted(v for v in values if 0 < v < math.inf)
            if not known:
                continue
            y = len(rows) - 1 - i + offset
            ax.plot([known[0], known[-1]], [y, y], color=colour, linewidth=2, alpha=0.5, solid_capstyle="round")
            marker = {"marker": "o", "markersize": 8, "markerfacecolor": face, "markeredgecolor": colour}
            (dot,) = ax.plot([statistics.median(known)], [y], linestyle="", markeredgewidth=1.8, **marker)
            seen.setdefault(name, dot)
    ax.set_yticks(range(len(rows)), [row.label for row in reversed(rows)], fontsize=_LARGE)
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.tick_params(axis="y", length=0)
    _number_ticks(ax.xaxis, ax.get_xlim())
    ax.set_xlabel("MB of raw data per second (marker: median; line: slowest to fastest)", fontsize=_LARGE)
    _frame(ax)
    figure.legend(
        list(seen.values()), list(seen), loc="outside lower center", ncols=2, frameon=False, fontsize=_SMALL + 1
    )
    if title:
        figure.suptitle(title, fontsize=_LARGE + 1, parse_math=False)
    picture._save(figure, path, kind)


def _points(curve: Curve, panel: Panel) -> list[tuple[float, float]]:
    return sorted(
        (x, y)
        for x, y in curve.points
        if math.isfinite(x) and math.isfinite(y) and (x > 0 or not panel.log_x) and (y > 0 or not panel.log_y)
    )


def _axes(ax: Any, panel: Panel, filled: bool) -> None:
    ax.set_xscale("log" if panel.log_x else "linear")
    ax.set_yscale("log" if panel.log_y else "linear")
    ax.set_xlabel(panel.x, fontsize=_LARGE - 1)
    ax.set_ylabel(panel.y, fontsize=_LARGE - 1)
    if panel.title:
        ax.set_title(panel.title, fontsize=_LARGE)
    if panel.zero:
        ax.axhline(0.0, color="0.35", linewidth=1.2, zorder=1)
    if not filled:
        ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", color="0.45", fontsize=_LARGE)
    _frame(ax)


def _frame(ax: Any) -> None:
    ax.tick_params(labelsize=_SMALL)
    ax.grid(True, which="major", color="0.88", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["right", "top"]].set_visible(False)


def _line(ax: Any, curve: Curve, points: Sequence[tuple[float, float]], dense: bool) -> Any:
    colour, marker = style(curve.codec)
    x, y = zip(*points, strict=True)
    dash = _DASHES.get(curve.preset, "-.")
    if curve.thin:
        (line,) = ax.plot(x, y, color=colour, linewidth=0.8, alpha=0.35, linestyle=dash, zorder=2)
    else:
        shown = "" if dense else marker
        (line,) = ax.plot(
            x, y, color=colour, linewidth=1.7, linestyle=dash, marker=shown, markersize=5.5, zorder=3
        )  # fmt: skip
    if ax.get_xscale() == "log":
        _number_ticks(ax.xaxis, ax.get_xlim())
    if ax.get_yscale() == "log":
        _number_ticks(ax.yaxis, ax.get_ylim())
    return line


def _number_ticks(axis: Any, limits: Sequence[float]) -> None:
    """Plain numbers on a logarithmic axis: 1, 2, 5, 10 … where there is room, else powers of ten."""
    ticker = require("matplotlib.ticker", "plot", "drawing a plot")
    decades = math.log10(limits[1] / limits[0])
    subs = (1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)
    axis.set_major_locator(ticker.LogLocator(base=10, subs=subs, numticks=12))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(ticker.NullLocator())
    axis.set_minor_formatter(ticker.NullFormatter())


def images(
    rows: Sequence[Sequence[np.ndarray | None]],
    titles: Sequence[Sequence[str]],
    limits: Sequence[tuple[float, float]],
    path: str | os.PathLike[str],
) -> None:
    """Draw rows of slices ``(vertical, horizontal)``; the first holds values, those below errors.

    Raises
    ------
    InputError
        If `path` is of no picture format.
    MissingExtraError
        If matplotlib is not installed.
    """
    kind = picture._format(path)
    across = max(map(len, rows))
    first = next(a for a in rows[0] if a is not None)
    aspect = min(max(first.shape[0] / first.shape[1], 0.35), 1.6)
    width = max(7.2, 2.4 * across)
    figure = picture._figure(width, len(rows) * (width / across * aspect + 0.3))
    grid = figure.subplots(len(rows), across, squeeze=False)
    for i, (axes, row) in enumerate(zip(grid, rows, strict=True)):
        for j, ax in enumerate(axes):
            ax.set_axis_off()
            values = row[j] if j < len(row) else None
            if values is not None:
                low, high = limits[i]
                scale = {"vmin": low, "vmax": high if high > low else low + 1.0}
                ax.imshow(values, origin="lower", cmap="inferno" if i else "viridis", aspect="auto", **scale)
                ax.set_box_aspect(aspect)
                ax.set_title(titles[i][j], fontsize=_SMALL, parse_math=False)
    picture._save(figure, path, kind)
