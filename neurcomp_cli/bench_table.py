"""The table of a benchmark: one row per volume, codec, preset and target, in a CSV file that only grows."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from neurcomp_core.errors import InputError

Row = dict[str, str]

#: What makes a row the same measurement as another.
KEY = ("volume", "codec", "preset", "target", "value", "threads", "seed")
#: Columns in order; see docs/bench.md for what each is.
COLUMNS = (
    "volume", "shape", "dtype", "raw_bytes", "codec", "preset", "target", "value", "status", "bytes", "bits_per_voxel",
    "psnr_db", "rmse", "max_error", "range", "ssim", "gradient_error", "spectrum_error_db", "isosurface_mean",
    "isosurface_max", "encode_s", "decode_s", "peak_mib", "baseline_mib", "threads", "seed", "neurcomp", "libraries",
    "machine", "date",
)  # fmt: skip
#: What a row without a result says of size and quality: any reader of curves then learns nothing from it.
NOTHING: Mapping[str, str] = {"bytes": "inf", "psnr_db": "-inf"}
OK = "ok"


def key_of(row: Mapping[str, str]) -> tuple[str, ...]:
    """Which measurement a row is."""
    return tuple(row[name] for name in KEY)


def read(path: Path) -> list[Row]:
    """Rows of a table, the later one where two are the same measurement; none if the file is missing or empty.

    Raises
    ------
    InputError
        If the file is no table of ours.
    """
    if not path.exists() or path.stat().st_size == 0:
        return []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read '{path}': {error}") from error
    # A machine that went down may have left half a line.
    text = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(io.StringIO(text))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError(f"'{path}' is no table of `neurcomp bench`: it has no column {', '.join(missing)}")
    found = {key_of(row): row for row in reader}
    return list(found.values())


def append(path: Path, row: Mapping[str, str]) -> None:
    """Add a row in one write, so that a stop at any moment leaves a table of whole rows."""
    with open(path, "ab+") as file:
        size = file.seek(0, os.SEEK_END)
        if size and not _ends_with_newline(file, size):
            file.seek(0)
            size = file.truncate(file.read().rfind(b"\n") + 1)
        text = _line(COLUMNS) if size == 0 else ""
        text += _line(row.get(name, "") for name in COLUMNS)
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _ends_with_newline(file: io.BufferedRandom, size: int) -> bool:  # pyright: ignore
    file.seek(size - 1)
    return file.read(1) == b"\n"


def _line(cells: Iterable[str]) -> str:
    out = io.StringIO()
    # One line per row, whatever a message holds.
    csv.writer(out, lineterminator="\n").writerow([" ".join(str(cell).split()) for cell in cells])
    return out.getvalue()
