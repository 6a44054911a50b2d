"""Keeps Triton's LLVM apart from the one that draws.

Where there is no graphics card, VTK draws with Mesa, whose LLVM offers its symbols to all libraries that are loaded
later. Triton, which torch loads when an optimiser is made, has another version of LLVM inside; bound to Mesa's symbols
it ends the process. So its library is loaded with ``RTLD_DEEPBIND``: it looks for symbols in itself first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder
from types import ModuleType

_LIBRARY = "triton._C.libtriton"


class _BoundToItself(ExtensionFileLoader):
    """Loads an extension module whose own symbols come first."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        before = sys.getdlopenflags()
        sys.setdlopenflags(before | os.RTLD_DEEPBIND)
        try:
            return super().create_module(spec)
        finally:
            sys.setdlopenflags(before)


class _Finder(MetaPathFinder):
    """Finds Triton's library, and nothing else, where Python finds it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _LIBRARY:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and type(spec.loader) is ExtensionFileLoader:
            spec.loader = _BoundToItself(spec.loader.name, spec.loader.path)
        return spec


def keep_apart() -> None:
    """Load Triton's library, whenever that is, with its own symbols first; once per process."""
    if hasattr(os, "RTLD_DEEPBIND") and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
