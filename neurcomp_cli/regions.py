"""Regions where errors matter more, as commands take them, and the report of the errors inside and outside of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from neurcomp_cli import report
from neurcomp_cli.volumes import Reading, load
from neurcomp_core import regions
from neurcomp_core.errors import InputError
from neurcomp_core.field import Field
from neurcomp_core.metrics import Quality
from neurcomp_core.region_quality import RegionQuality
from neurcomp_core.regions import ArrayImportance, BandRegion, BoxRegion, Importance
from neurcomp_core.transfer_function import TransferFunction

_PANEL = "Where quality matters"

Region = Annotated[
    list[str] | None,
    typer.Option(
        "--region",
        metavar="KIND:NUMBERS[:WEIGHT]",
        help="box:x0,x1,y0,y1,z0,z1 in samples (ends not included), world:x0,x1,… in coordinates, or band:low,high of "
        "values; repeatable, the last one counts where several meet.",
        rich_help_panel=_PANEL,
    ),
]
Array = Annotated[
    str | None,
    typer.Option(
        "--importance",
        metavar="ARRAY",
        help="Array of INPUT whose least value stands for 1 and whose largest for the weight; itself left out unless "
        "--array names it.",
        rich_help_panel=_PANEL,
    ),
]
Opacity = Annotated[
    Path | None,
    typer.Option(
        "--transfer-function",
        metavar="FILE.json",
        help="Colour map with opacities, exported by ParaView: what it shows counts more.",
        rich_help_panel=_PANEL,
    ),
]
Weight = Annotated[
    float,
    typer.Option(
        "--region-weight",
        metavar="W",
        help="An error there counts as one W times as large elsewhere, unless a region has its own weight.",
        rich_help_panel=_PANEL,
    ),
]


@dataclass(frozen=True)
class Wanted:
    """What a user said of regions.

    Attributes
    ----------
    parts : tuple of Importance
        Those that any file can be given.
    array : str, optional
        Name of an array of weights in the file.
    weight : float
        Of that array's largest value.
    """

    parts: tuple[Importance, ...] = ()
    array: str | None = None
    weight: float = regions.WEIGHT

    def __bool__(self) -> bool:
        return bool(self.parts) or self.array is not None

    def load(self, path: Path, arrays: Sequence[str] | None, reading: Reading) -> tuple[list[Field], Importance | None]:
        """The fields of a file that are wanted, and what matters in them.

        Raises
        ------
        InputError
            If the file has not exactly one array of weights of that name, or nothing else.
        """
        if self.array is None:
            return load(path, arrays, reading), self.importance
        known = load(path, None if arrays is None else list(dict.fromkeys([*arrays, self.array])), reading)
        found = [f for f in known if f.name == self.array]
        if len(found) != 1 or found[0].components > 1:
            names = ", ".join(f"'{name}'" for name in dict.fromkeys(f.name for f in known))
            raise InputError(
                f"--importance: expected one array '{self.array}' of one component in '{path}', found {len(found)}; "
                f"it has: {names}"
            )
        fields = [f for f in known if f.name != self.array or (arrays and self.array in arrays)]
        if not fields:
            raise InputError(f"--importance: '{path}' has nothing but the array '{self.array}' to compress")
        values = found[0].values.reshape(found[0].values.shape[:3])
        weights = ArrayImportance(values, self.weight, self.array)
        return fields, regions.Regions((weights, *self.parts)) if self.parts else weights

    @property
    def importance(self) -> Importance | None:
        """What matters in any file."""
        if self.array is not None:
            raise InputError("--importance: steps in several files have no array in common; give --region instead")
        return regions.Regions(self.parts) if len(self.parts) > 1 else self.parts[0] if self.parts else None


def wanted(
    texts: list[str] | None, array: str | None = None, opacity: Path | None = None, weight: float = regions.WEIGHT
) -> Wanted:
    """Regions as texts say them.

    Raises
    ------
    InputError
        If one is none.
    """
    parts: list[Importance] = [] if opacity is None else [TransferFunction.from_file(opacity, weight)]
    return Wanted((*parts, *(parsed(text, weight) for text in texts or ())), array, weight)


def parsed(text: str, weight: float = regions.WEIGHT) -> Importance:
    """A region from ``box:…``, ``world:…`` or ``band:…``, with a weight of its own behind another colon or not."""
    kind, *rest = text.split(":")
    count = {"box": 6, "world": 6, "band": 2}.get(kind.strip().lower())
    try:
        numbers = [float(n) for n in rest[0].split(",")] if rest else []
        own = float(rest[1]) if len(rest) > 1 else weight
    except ValueError:
        count = None
        numbers, own = [], weight
    if count is None or len(numbers) != count or len(rest) > 2:
        raise InputError(
            "--region: expected box:x0,x1,y0,y1,z0,z1 or world:x0,x1,y0,y1,z0,z1 or band:low,high, each with :WEIGHT "
            f"behind it or not, got '{text}'"
        )
    if count == 2:
        return BandRegion(numbers[0], numbers[1], own)
    return BoxRegion(tuple(numbers), own, kind.strip().lower() == "world")


Rows = Sequence[tuple[Field, Sequence[RegionQuality]]]


def show(rows: Rows) -> None:
    """A table of the errors inside and outside of each region of each array."""

    def cells(quality: Quality | None) -> tuple[str, str, str]:
        if quality is None:
            return "", "", ""
        return report.decibels(quality.psnr), report.number(quality.rmse), report.number(quality.max_error)

    lines = [
        (report.label(f), q.name, f"{100 * q.share:.1f}", *cells(q.inside), *cells(q.outside))
        for f, found in rows
        for q in found
    ]
    heads = ("array", "region", "% of samples", "PSNR in", "RMSE in", "max in", "PSNR out", "RMSE out", "max out")
    report.table(heads, lines)


def as_json(found: Sequence[RegionQuality]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [
        {
            "region": q.name,
            "share": q.share,
            "inside": None if q.inside is None else report.quality_json(q.inside),
            "outside": None if q.outside is None else report.quality_json(q.outside),
        }
        for q in found
    ]
