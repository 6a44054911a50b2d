"""The table of `neurcomp radiance evaluate`, on the terminal and in files."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurcomp_core.files import atomic_write
from neurcomp_core.radiance.evaluation import ViewFigures

NOTE = (
    "PSNR = -10 log10(mean squared error), colours from 0 to 1; SSIM: windows of 11 pixels (Wang et al. 2004); "
    "mean: of the views' figures."
)
_STYLE = (
    "body{font-family:sans-serif;margin:2em}table{border-collapse:collapse}"
    "td,th{padding:.2em .8em;text-align:right}td:first-child,th:first-child{text-align:left}"
    "tr:last-child td{border-top:1px solid;font-weight:bold}"
)


@dataclass(frozen=True)
class Table:
    """Figures of views as words.

    Attributes
    ----------
    heads : tuple of str
    cells : list of tuple of str
        One row per view, and the means.
    means : dict
        By name; LPIPS is None where it was not taken.
    """

    heads: tuple[str, ...]
    cells: list[tuple[str, ...]]
    means: dict[str, float | None]

    @classmethod
    def of(cls, rows: Sequence[ViewFigures]) -> Table:
        """The table of some views, of which there is at least one."""
        with_lpips = all(row.lpips is not None for row in rows)
        means: dict[str, float | None] = {
            name: float(np.mean([getattr(row, name) for row in rows])) for name in ("psnr", "ssim", "seconds")
        }
        means["lpips"] = float(np.mean([row.lpips for row in rows if row.lpips is not None])) if with_lpips else None
        mean = ViewFigures("mean", *(means[n] for n in ("psnr", "ssim", "lpips", "seconds")))  # pyright: ignore
        heads = ("view", "PSNR dB", "SSIM", *(("LPIPS",) if with_lpips else ()), "seconds")
        return cls(heads, [_cells(row) for row in (*rows, mean)], means)

    def write_csv(self, path: Path) -> None:
        """Write rows and means with commas between."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.heads)
        writer.writerows(self.cells)
        atomic_write(path, text.getvalue().encode())

    def write_html(self, path: Path, title: str) -> None:
        """Write a page that needs nothing else."""
        rows = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in self.cells]
        heads = "".join(f"<th>{html.escape(head)}</th>" for head in self.heads)
        body = "\n".join(f"<tr>{row}</tr>" for row in rows)
        page = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
            f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1>\n<table>\n<tr>{heads}</tr>\n{body}\n</table>\n"
            f"<p>{html.escape(NOTE)}</p></html>\n"
        )
        atomic_write(path, page.encode())


def _cells(row: ViewFigures) -> tuple[str, ...]:
    middle = () if row.lpips is None else (f"{row.lpips:.4f}",)
    return (row.name, f"{row.psnr:.2f}", f"{row.ssim:.4f}", *middle, f"{row.seconds:.2f}")
