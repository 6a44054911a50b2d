"""Dependencies point one way, plugin → filters → core, and what is slow or optional loads only when asked for."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
VTK = {"vtk", "vtkmodules"}
ABOVE_CORE = {"neurcomp_filters", "neurcomp_cli", "neurcomp_plugin"}
CORE = {"torch", "numba", "matplotlib", "h5py", "paraview"} | VTK | ABOVE_CORE
FILTERS = {"torch", "paraview", "neurcomp_cli", "neurcomp_plugin"}

# module: what importing it must not load
FORBIDDEN = {
    "neurcomp_core": CORE,
    "neurcomp_core.codec": CORE,
    "neurcomp_core.container": CORE,
    "neurcomp_core.errors": CORE,
    "neurcomp_core.field": CORE,
    "neurcomp_core.metrics": CORE,
    "neurcomp_core.progress": CORE,
    "neurcomp_core.samples": CORE,
    "neurcomp_core.target": CORE,
    "neurcomp_filters": FILTERS,
    "neurcomp_filters.bridge": FILTERS,
    "neurcomp_filters.io": FILTERS,
    "neurcomp_cli.main": {"torch", "paraview"} | VTK,
}


def loaded_by(code: str, folder: Path) -> set[str]:
    """Top-level modules that are loaded after `code` has run in a fresh process."""
    # Away from the repository, so that the installed packages are what is found.
    command = [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize("module", FORBIDDEN)
def test_import_loads_no_layer_above_and_nothing_heavy(module: str, tmp_path: Path) -> None:
    assert not loaded_by(f"import {module}", tmp_path) & FORBIDDEN[module]


def test_registry_needs_no_optional_dependency(tmp_path: Path) -> None:
    loaded = loaded_by("from neurcomp_core.codec import registry; registry()", tmp_path)
    assert not loaded & (CORE - {"numba"})


def test_triton_is_bound_to_its_own_symbols(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    loader = "type(sys.modules['triton._C.libtriton'].__spec__.loader).__name__"
    loaded_by(f"import neurcomp_filters, triton\nassert {loader} == '_BoundToItself', {loader}", tmp_path)


def imports(file: Path) -> set[str]:
    """Top-level names that a file imports anywhere, inside functions too."""
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize(
    ("folder", "never"),
    [
        ("neurcomp_core", VTK | ABOVE_CORE | {"paraview"}),
        ("filters", {"paraview", "neurcomp_cli", "neurcomp_plugin"}),
        ("neurcomp_cli", {"paraview"}),
    ],
)
def test_no_file_imports_a_layer_above(folder: str, never: set[str]) -> None:
    found = {file.name: bad for file in (ROOT / folder).rglob("*.py") if (bad := imports(file) & never)}
    assert not found


def test_every_package_is_in_the_wheel() -> None:
    listed = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    folders = {
        file.parent for name in ("neurcomp_core", "filters", "neurcomp_cli") for file in (ROOT / name).rglob("*.py")
    }
    names = {re.sub("^filters", "neurcomp_filters", ".".join(f.relative_to(ROOT).parts)) for f in folders}
    missing = [name for name in names if f'"{name}"' not in listed]
    assert not missing, "add to [tool.setuptools] packages in pyproject.toml"
