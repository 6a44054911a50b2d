"""Lets a benchmark of the GPU run where numba is not installed: the CPU's kernels load, uncompiled and unused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType
from typing import Any


def _same(*functions: Any, **_: Any) -> Any:
    """A decorator, or what a decorator with options makes, that leaves a function as it is."""
    return functions[0] if functions and isinstance(functions[0], Callable) else _same


def stand_in() -> bool:
    """Put an empty numba in the place of a missing one; whether it was missing. Call it before importing kernels."""
    if find_spec("numba") is not None:
        return False
    module: Any = ModuleType("numba")
    module.njit = module.jit = module.vectorize = _same
    module.prange = range
    module.get_num_threads, module.set_num_threads = (lambda: 1), (lambda count: None)
    sys.modules["numba"] = module
    return True
