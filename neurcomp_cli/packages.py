"""Which packages of this environment ParaView's Python must take from here even where it has others of that name."""

from __future__ import annotations

import re
from importlib import metadata

#: What NeurComp loads and ParaView does not, each of which needs its own dependencies in the versions it came with.
ROOTS = ("torch", "numba", "h5py")
#: ParaView is built against its own; setuptools is in every Python.
_PARAVIEWS = {"numpy", "vtk", "mpi4py", "matplotlib", "setuptools"}


def import_names() -> list[str]:
    """Top-level modules of `ROOTS` and of all that they require, as installed.

    Debian's sympy, for one, is older than what torch needs.
    """
    names: set[str] = set()
    seen: set[str] = set()
    waiting = list(ROOTS)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen or name in _PARAVIEWS:
            continue
        seen.add(name)
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        names |= _modules(found)
        waiting += [_name(text) for text in found.requires or () if "extra ==" not in text]
    return sorted(names)


def _name(requirement: str) -> str:
    found = re.match(r"[\w.-]+", requirement)
    return found[0] if found else ""


def _modules(found: metadata.Distribution) -> set[str]:
    first = {file.parts[0] for file in found.files or ()}
    names = {re.sub(r"(\.[\w-]+)?\.(py|so|pyd)$", "", part) for part in first}
    return {name for name in names if name.isidentifier() and name != "__pycache__"}
