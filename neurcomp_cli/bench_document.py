"""A document of headings, texts, tables and pictures, as Markdown and as HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1b1b1b; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; margin-top: 2em; }
img { max-width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13.5px; }
th, td { padding: 0.25em 0.8em; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { border-bottom: 2px solid #888; }
.left { text-align: left; }
code { background: #f2f2f2; padding: 0 0.25em; }
"""


@dataclass(frozen=True)
class Heading:
    """A title; level 1 is the document's own."""

    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    """A text; words between backquotes are code."""

    text: str


@dataclass(frozen=True)
class Table:
    """Cells as texts; the first `left` columns hold words, the others figures."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1


@dataclass(frozen=True)
class Picture:
    """A file beside the document, and what is on it."""

    file: str
    about: str


Block = Heading | Paragraph | Table | Picture


def markdown(blocks: Sequence[Block]) -> str:
    """The document as GitHub's Markdown."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def html(blocks: Sequence[Block]) -> str:
    """The document as one HTML page; pictures stay files beside it."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    body = "\n".join(_html(block) for block in blocks)
    parts = ("<!DOCTYPE html>", '<html lang="en">', f"<head>{head}<style>{_STYLE}</style></head>", "<body>", body)
    return "\n".join([*parts, "</body>", "</html>", ""])


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, Paragraph):
        return block.text
    if isinstance(block, Picture):
        return f"![{block.about}]({block.file})"
    rules = ["---" if i < block.left else "--:" for i in range(len(block.heads))]
    rows = [block.heads, rules, *block.rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{escape(block.text)}</h{block.level}>"
    if isinstance(block, Paragraph):
        text = re.sub("`([^`]*)`", r"<code>\1</code>", escape(block.text))
        return f"<p>{text}</p>"
    if isinstance(block, Picture):
        return f'<p><img src="{escape(block.file)}" alt="{escape(block.about)}" loading="lazy"></p>'
    rows = [_html_row("th", block.heads, block.left), *(_html_row("td", row, block.left) for row in block.rows)]
    return '<div class="wide"><table>\n' + "\n".join(rows) + "\n</table></div>"


def _html_row(tag: str, cells: Sequence[str], left: int) -> str:
    starts = [f'<{tag} class="left">' if i < left else f"<{tag}>" for i in range(len(cells))]
    return (
        "<tr>" + "".join(f"{start}{escape(cell)}</{tag}>" for start, cell in zip(starts, cells, strict=True)) + "</tr>"
    )
