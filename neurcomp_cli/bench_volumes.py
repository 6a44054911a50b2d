"""The volumes of a benchmark: arrays of files, and generated samples."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from neurcomp_cli.volumes import Reading, is_compressed, load
from neurcomp_core import samples
from neurcomp_core.errors import InputError
from neurcomp_core.field import Field

#: Generated volumes by name; the argument is the number of samples per axis.
SAMPLES: dict[str, Callable[[int], Field]] = {
    # The Reynolds number that so many samples resolve, see samples.taylor_green_series.
    "taylor-green": lambda size: samples.taylor_green(size, size ** (4 / 3)).vorticity_magnitude,
    "marschner-lobb": samples.marschner_lobb,
}
_SIZE = 64


def listed(sources: Sequence[str], folder: Path | None) -> list[str]:
    """`sources`, and the volume files of `folder` in the order of their names.

    Raises
    ------
    InputError
        If the folder is missing or has none.
    """
    from neurcomp_filters.io import READABLE

    found = list(sources)
    if folder is not None:
        if not folder.is_dir():
            raise InputError(f"--data '{folder}': there is no such folder")
        files = [str(p) for p in sorted(folder.iterdir()) if p.name.lower().endswith(READABLE) and p.is_file()]
        if not files:
            raise InputError(f"--data '{folder}': the folder has no volume files ({', '.join(READABLE)})")
        found += files
    return found


def opened(source: str, arrays: Sequence[str] | None, reading: Reading) -> list[tuple[str, Field]]:
    """Volumes of a file or of a generated sample (``taylor-green:64``), each with its name in the table.

    That is the file's name without its extension; where a file has several arrays, with ``:ARRAY`` and ``@TIME``.

    Raises
    ------
    InputError
        If there is no such file or sample.
    """
    kind, _, size = source.partition(":")
    if kind in SAMPLES and not Path(source).exists():
        if not re.fullmatch(r"\d*", size):
            raise InputError(f"'{source}': expected {kind}:SIZE with the samples per axis, like {kind}:64")
        field = SAMPLES[kind](int(size or _SIZE))
        return [(f"{kind}-{field.values.shape[0]}", field)]
    path = Path(source)
    if not path.exists():
        raise InputError(f"cannot read '{source}': no such file, nor a sample ({', '.join(SAMPLES)}, with :SIZE)")
    if is_compressed(path):
        raise InputError(f"'{source}' is compressed already; a benchmark starts from an original")
    fields = load(path, arrays, reading)
    name = _stem(path)
    if len(fields) == 1:
        return [(name, fields[0])]
    steps = len({f.time for f in fields}) > 1
    return [(f"{name}:{f.name}" + (f"@{f.time:g}" if steps and f.time is not None else ""), f) for f in fields]


def found(name: str, sources: Sequence[str]) -> Field | None:
    """The volume that a table calls `name`, out of `sources` or generated anew; None if it is in neither."""
    kind, _, size = name.rpartition("-")
    if kind in SAMPLES and size.isdecimal():
        return opened(f"{kind}:{size}", None, Reading())[0][1]
    for source in sources:
        if name.startswith(_stem(Path(source))):
            for label, field in opened(source, None, Reading()):
                if label == name:
                    return field
    return None


def _stem(path: Path) -> str:
    return re.sub(r"\.nii$", "", path.stem)
