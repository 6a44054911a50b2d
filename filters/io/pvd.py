"""ParaView's .pvd collections: a small XML file that names one .vti or .vtr file per time step."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

from neurcomp_core.errors import InputError
from neurcomp_core.field import Field, RectilinearGrid
from neurcomp_core.files import atomic_path, atomic_write
from neurcomp_filters.io.xml import read_vti, read_vtr, write_vti, write_vtr

_READERS: dict[str, Callable[[Path, Sequence[str] | None], list[Field]]] = {".vti": read_vti, ".vtr": read_vtr}


def read_pvd(path: Path, arrays: Sequence[str] | None) -> list[Field]:
    """Fields of every time step of a collection, with the collection's times."""
    try:
        entries = ElementTree.parse(path).getroot().findall("./Collection/DataSet")
    except ElementTree.ParseError as error:
        raise InputError(f"it is not a ParaView collection ({error})") from None
    if not entries:
        raise InputError("the collection names no file")
    fields = []
    for entry in entries:
        step = path.parent / entry.get("file", "")
        reader = _READERS.get(step.suffix.lower())
        if reader is None or not step.is_file():
            raise InputError(f"the collection names '{step}', which is not an existing .vti or .vtr file")
        try:
            time = float(entry.get("timestep", "0"))
        except ValueError:
            raise InputError(f"the time step of '{step}' is not a number: '{entry.get('timestep')}'") from None
        fields += [replace(field, time=time) for field in reader(step, arrays)]
    return fields


def write_pvd(fields: Sequence[Field], path: Path) -> None:
    """Write one file per time step, ``name_0000.vti`` and so on, then the collection that names them."""
    times = sorted({0.0 if field.time is None else field.time for field in fields})
    lines = []
    for i, time in enumerate(times):
        step = [field for field in fields if (field.time or 0.0) == time]
        rectilinear = isinstance(step[0].geometry, RectilinearGrid)
        target = path.with_name(f"{path.stem}_{i:04d}{'.vtr' if rectilinear else '.vti'}")
        with atomic_path(target) as temporary:
            (write_vtr if rectilinear else write_vti)(step, temporary)
        name = re.sub(r'[&<>"]', lambda c: f"&#{ord(c[0])};", target.name)
        lines.append(f'    <DataSet timestep="{time!r}" file="{name}"/>\n')
    head = '<?xml version="1.0"?>\n<VTKFile type="Collection" version="0.1">\n  <Collection>\n'
    text = head + "".join(lines) + "  </Collection>\n</VTKFile>\n"
    atomic_write(path, text.encode())
